# SPDX-License-Identifier: Apache-2.0
"""How files and datasets are read: the rules, and the tables of names and units behind them."""
