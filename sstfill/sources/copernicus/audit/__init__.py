# SPDX-License-Identifier: Apache-2.0
"""Tell chunks that the service lost from chunks that are empty."""
