# SPDX-License-Identifier: Apache-2.0
"""Filling by a trained network."""
