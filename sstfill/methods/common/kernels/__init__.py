# SPDX-License-Identifier: Apache-2.0
"""Compiled numerics that methods share: Numba takes long to import, so import them where they run."""
