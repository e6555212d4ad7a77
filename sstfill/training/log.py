# SPDX-License-Identifier: Apache-2.0
"""The log of a training: a row for each epoch, in CSV and in words."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sstfill.io.output.atomic import atomic_path

Row = Mapping[str, Any]
"""The figures of an epoch: ``epoch`` (from 1), ``steps`` (all so far), ``withheld_mae``,
``withheld_bias``, ``withheld_nll`` (scaled units; the last None without a stated scale), of a
network that draws ``withheld_crps`` and ``withheld_draws`` (the last lacking in earlier versions),
``learning_rate``, ``seconds`` of training, ``waiting`` (fraction of them in which the device waited
for data; earlier versions lack it), ``skipped`` (sequences that cannot be used), ``left_out``
(batches without a finite gradient), and the mean of each loss under its name."""

CERTAIN = 0.1
"""Loss of the discriminators, 2 for each that guesses, below which the generator learns nothing."""


def write(path: Path, history: Sequence[Row]) -> None:
    """Write the rows of all epochs as CSV, whole or not at all.

    Raises
    ------
    WriteError
        If the file cannot be written; an earlier one is left as it was.
    """
    # rows of an earlier version may lack a column that later ones have
    names = list(dict.fromkeys(itertools.chain.from_iterable(history)))
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, names)
        table.writeheader()
        table.writerows(history)


def sentence(row: Row, losses: Iterable[str]) -> str:
    """Describe an epoch in one line.

    >>> row = {"epoch": 3, "withheld_mae": 0.123456, "withheld": 0.5, "skipped": 0}
    >>> sentence(row | {"seconds": 61.2, "waiting": 0.031}, ["withheld"])
    'epoch 3: withheld MAE 0.1235; loss withheld 0.5; 61 s, waiting for data 3 %'
    """
    parts = ", ".join(f"{name} {row[name]:.4g}" for name in losses if row.get(name) is not None)
    skipped = ""
    if row["skipped"]:
        skipped = f"; {row['skipped']} sequences could not be used"
    waiting = ""
    if "waiting" in row:
        waiting = f", waiting for data {100 * row['waiting']:.0f} %"
    return (
        f"epoch {row['epoch']}: withheld MAE {row['withheld_mae']:.4g}; loss {parts}; "
        f"{row['seconds']:.0f} s{waiting}{skipped}"
    )


def concern(history: Sequence[Row]) -> str:
    """Say, in the first epoch of which it holds, that the discriminators have won; else nothing.

    >>> rows = [{"epoch": 1, "discriminator": 2.1}, {"epoch": 2, "discriminator": 0.05}]
    >>> concern(rows)[:71]
    'the discriminators tell filled from measured sequences without fail (lo'
    >>> concern(rows[:1]), concern([*rows, rows[1] | {"epoch": 3}])
    ('', '')
    """
    # Once is enough: the same warning in each epoch would hide all else.
    won = [row for row in history if row.get("discriminator", math.inf) < CERTAIN]
    if len(won) != 1 or won[0] is not history[-1]:
        return ""
    return (
        "the discriminators tell filled from measured sequences without fail (loss "
        f"{won[0]['discriminator']:.2g} in epoch {won[0]['epoch']}), so that the network learns "
        "nothing from them; give an archive that is larger than a sequence, a lower "
        "discriminator_rate, or a pixel term beside (objective='withheld+adversarial')"
    )


def heading(history: Sequence[Row], epochs: int) -> str:
    """Title of the progress bar of the next epoch, with the scores so far.

    >>> heading([{"epoch": 1, "withheld_mae": 0.2}, {"epoch": 2, "withheld_mae": 0.3}], 20)
    'epoch 3/20, withheld MAE 0.3 (best 0.2)'
    """
    title = f"epoch {len(history) + 1}/{epochs}"
    if not history:
        return title
    scores = [row["withheld_mae"] for row in history]
    return f"{title}, withheld MAE {scores[-1]:.4g} (best {min(scores):.4g})"
