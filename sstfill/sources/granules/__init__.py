# SPDX-License-Identifier: Apache-2.0
"""Folders of daily level-3 granules."""
