# SPDX-License-Identifier: Apache-2.0
"""Output of PyCLES large-eddy simulations, as liquid water path."""
