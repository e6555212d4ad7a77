# SPDX-License-Identifier: Apache-2.0
"""Withheld-cloud validation: hide observations, estimate them, compare, blend, calibrate."""
