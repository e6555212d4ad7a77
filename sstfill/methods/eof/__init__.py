# SPDX-License-Identifier: Apache-2.0
"""Methods that describe a series by a few EOFs: DINEOF and Bayesian EOFs."""
