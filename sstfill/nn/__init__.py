# SPDX-License-Identifier: Apache-2.0
"""The networks of the inpainting GAN: torch only, no xarray.

A sequence is the pair (values, observed), ``b c t y x``.

Nothing is imported here: `import sstfill.nn` is free, and torch loads with the module that is asked
for.

- `device`: the device that torch runs on
- `shapes`: checks of the tensors that a network takes
- `masking`: occlude a sequence (eq. 1), put its observed pixels back (eq. 6)
- `layers`: what the networks are built of
- `generator`: the paper's, and its static variant (`time_kernel=1`)
- `recurrent`: the variant that sees the past only
- `discriminator`: of frames, and of sequences
- `sizes`: of the compact network, for those who feed it; loads no torch
- `losses`: hinge, and pixel losses over withheld clouds

The paper is Yin, Pajot, de Bezenac and Gallinari, "Unsupervised spatiotemporal data inpainting"
(2019).
"""
