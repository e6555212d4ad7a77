# SPDX-License-Identifier: Apache-2.0
"""Climatology and interpolation, the simplest methods, and the background of others."""
