# SPDX-License-Identifier: Apache-2.0
"""Lets ``python -m sstfill`` do what the command ``sstfill`` does."""

from sstfill.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
