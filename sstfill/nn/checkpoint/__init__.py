# SPDX-License-Identifier: Apache-2.0
"""Trained networks on disk: weights and configuration in one folder, never a pickle."""
