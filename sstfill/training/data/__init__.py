# SPDX-License-Identifier: Apache-2.0
"""Training sequences: from archives and from synthetic oceans."""
