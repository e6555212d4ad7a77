# SPDX-License-Identifier: Apache-2.0
"""Compiled numerics that methods share; import them where they run: Numba takes long to load."""
