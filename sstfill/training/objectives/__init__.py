# SPDX-License-Identifier: Apache-2.0
"""The loss of the generator: weighted terms over a completed batch.

Data consistency (equation 6 of Yin, Pajot, de Bezenac and Gallinari 2019, "the paper") needs no
term: a completed sequence holds what was observed, bit by bit.

- `compose`: an objective by name
- `terms`: losses at withheld pixels; `draw_score`: the same of a network that draws
- `adversary`: the discriminators, and the generator's loss against them
"""
