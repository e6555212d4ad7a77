# SPDX-License-Identifier: Apache-2.0
"""sstfill fills the gaps that clouds leave in satellite archives, and says how wrong each filled pixel may be."""
