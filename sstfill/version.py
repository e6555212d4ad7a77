# SPDX-License-Identifier: Apache-2.0
"""The version, read from the installed package's metadata."""

from importlib.metadata import version

__version__ = version("sstfill")
