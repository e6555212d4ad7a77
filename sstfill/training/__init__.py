# SPDX-License-Identifier: Apache-2.0
"""Training of the inpainting networks on a cloudy archive, without ground truth.

Nothing is imported here: `import sstfill.training` is free, and torch loads with the module that is
asked for.

- `train`: the door, from an archive to a `Gan`; `archive`: what of a Dataset is trained on; `windows`: pieces of it;
  `slabs`, `cloud_slabs`: read many at a time, where it is larger than memory; `archive_source`:
  sequences from these
- `ocean_training`: the other door, how the checkpoint that ships was made; `oceans`, `ocean_source`: on what
- `bank`: sequences with their first guesses, on disk; `described`: what a checkpoint tells of its training
- `recipe`: a TOML file of all that; `options`: its [train] table; both free of torch
- `sample`: what a training sequence is, what gives them, how they are batched; `prefetch`: made ahead, in a thread
- `completion`: one call for every generator
- `objectives`: what is minimised, composed of terms
- `loop`: `fit`, to be read from top to bottom; `job`: how it begins; `score`: what it is judged by; `fitted`: what it
  leaves
- `average`: the weights that are scored and kept, a moving average
- `processes`: the device, and several processes under torchrun
- `state`: all that training changes, saved so that it can go on exactly
- `log`: a row for each epoch, in CSV and in words
"""
