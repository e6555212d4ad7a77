# SPDX-License-Identifier: Apache-2.0
"""How an output appears: what may be replaced, locked, put in place whole, and waited for."""
