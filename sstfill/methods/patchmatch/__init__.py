# SPDX-License-Identifier: Apache-2.0
"""Patch matching after Newson et al. (2014)."""
