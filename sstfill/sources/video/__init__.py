# SPDX-License-Identifier: Apache-2.0
"""Video clips, folders of pictures and arrays."""
