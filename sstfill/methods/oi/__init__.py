# SPDX-License-Identifier: Apache-2.0
"""Optimal interpolation in space and time."""
