# SPDX-License-Identifier: Apache-2.0
"""Numerics that several methods share."""
