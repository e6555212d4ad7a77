# SPDX-License-Identifier: Apache-2.0
"""What Numba compiles for several methods: numbers by keys, Cholesky factors, regressions."""
