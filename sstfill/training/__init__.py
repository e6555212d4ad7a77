# SPDX-License-Identifier: Apache-2.0
"""Training of the inpainting networks on a cloudy archive, without ground truth.

Nothing is imported here: `import sstfill.training` is free, and torch loads with the module that is
asked for.

- `train`: from an archive to a `Gan`; `ocean_training`: the same from synthetic oceans, as the
  shipped checkpoint was trained
- `paper`: the networks of the paper's tables. `variants`: on an ocean, by several objectives;
  `each_dataset`: on each data set of the benchmark
- `recipe`: a TOML file of all that; `options`: its [train] table; both free of torch
- `data`: the training sequences. `training_field`: the field of a Dataset; `windows`: pieces of it;
  `chunk_buffer`, `cloud_buffer`: a shuffle buffer for archives larger than memory;
  `archive_source`, `ocean_source`: sequences from these; `oceans`: synthetic oceans; `cache`:
  sequences with their first guesses, on disk; `sample`: a sequence, and batches; `prefetch`
- `forward`: one call for every generator; `objectives`: the loss, composed of terms, and the
  discriminators
- `loop`: `fit`; `job`: how it begins; `score`: the error on withheld pixels; `trained_network`: the
  result, and its description in a checkpoint
- `ema`: the weights that are scored and kept, a moving average
- `distributed`: several processes under torchrun
- `state`: all that training changes, saved so that it can go on exactly
- `log`: a row for each epoch, in CSV and in words
"""
