# SPDX-License-Identifier: Apache-2.0
"""Where data come from: each source brings what it knows into a Zarr store that `sstfill.io.open`
reads.
"""
