# SPDX-License-Identifier: Apache-2.0
"""The evaluation protocol of Yin, Pajot, de Bezenac and Gallinari (2019), and its tables."""
