# SPDX-License-Identifier: Apache-2.0
"""Look at what a stranger gave before anything of it is allocated, decoded or run."""
