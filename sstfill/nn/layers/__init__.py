# SPDX-License-Identifier: Apache-2.0
"""The layers that the networks are built of.

- `spectral`: initialisation and spectral normalisation of a convolution
- `resnet`, `attention`: the two parts of the paper's generator
- `blocks`: those of the compact network
"""
