# SPDX-License-Identifier: Apache-2.0
"""The page about a filled series: what was filled, what was decided, and how good it is."""
