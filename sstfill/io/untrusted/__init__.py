# SPDX-License-Identifier: Apache-2.0
"""Check what somebody else may have made before anything of it is allocated, decoded or run."""
