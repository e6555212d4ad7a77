# SPDX-License-Identifier: Apache-2.0
"""Training of the inpainting networks on a cloudy archive, without ground truth.

Nothing is imported here: `import sstfill.training` is free, and torch loads with the module that is asked for.

- `options`: a recipe's [train] table; free of torch
- `sample`: what a training sequence is, what gives them, how they are batched
- `completion`: one call for every generator
- `objectives`: what is minimised, composed of terms
- `loop`: `fit`, to be read from top to bottom; `job`: how it begins; `score`: what it is judged by; `fitted`: what it
  leaves
- `average`: the weights that are scored and kept, a moving average
- `processes`: the device, and several processes under torchrun
- `state`: all that training changes, saved so that it can go on exactly
- `log`: a row for each epoch, in CSV and in words
"""
