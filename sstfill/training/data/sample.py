# SPDX-License-Identifier: Apache-2.0
"""What a training sequence is, what gives them, and how they become batches."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from sstfill.errors import InputError
from sstfill.nn.shapes import check_observed


class Sample(NamedTuple):
    """One sequence, c t y x, or a batch of them, b c t y x.

    Attributes
    ----------
    values
        The scaled field, floating; true where `observed` or `withheld`, 0 elsewhere.
    observed
        True where the network sees the field; boolean, as all masks here, and of the shape of
        `values`.
    withheld
        True where the field is known but hidden from the network; disjoint from `observed`, may be
        all False. With the truth at hand (the supervised variants of the paper): every sea pixel
        not observed.
    again
        An independent mask, True = seen, by which a completed sequence is occluded once more.
    sea
        True at sea. Land is neither seen nor counted.
    channels
        What the compact network sees, k t y x; k = 0 for the paper's networks.
    guess, error
        First guess and the unit of its correction, scaled, of the shape of `values`; 0 for the
        paper's networks.
    """

    values: Tensor
    observed: Tensor
    withheld: Tensor
    again: Tensor
    sea: Tensor
    channels: Tensor
    guess: Tensor
    error: Tensor

    def to(self, device: torch.device) -> Sample:
        """Copy to a device."""
        return Sample(*(tensor.to(device, non_blocking=True) for tensor in self))


class SampleSource(Protocol):
    """What gives sequences, the same ones each time it is asked with the same arguments: so
    training can resume.
    """

    def epoch(self, number: int, rng: np.random.Generator) -> Iterable[Sample]:
        """Give the training sequences of an epoch; all chance comes from `rng`.

        Of a `collections.abc.Sequence` only those members are asked for that are used: with several
        processes, or after a restart, not all of them are.
        """
        ...

    def validation(self) -> Iterable[Sample]:
        """Give the sequences to validate on, with pixels withheld."""
        ...


class Batches:
    """The usable sequences of a stream in batches; the last may be smaller.

    Parameters
    ----------
    stream
        Sequences c t y x. Those of no use are left out: nothing observed (land only, clouds only),
        a value that is not finite, or, with `hidden`, nothing withheld.
    size
        Sequences in a batch.
    hidden
        Whether a sequence is of use only with something withheld.
    rank, processes
        Which of the sequences are this process's: number `rank` and every `processes`-th after it.

    Attributes
    ----------
    skipped
        Sequences left out so far.
    """

    def __init__(
        self,
        stream: Iterable[Sample],
        size: int,
        *,
        hidden: bool,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.skipped = 0
        self._stream = stream
        self._own, self._size, self._hidden = _share(stream, rank, processes), size, hidden

    def __iter__(self) -> Iterator[Sample]:
        """Yield batches b c t y x."""
        useful = self._useful()
        while batch := list(islice(useful, self._size)):
            yield _stack(batch)

    def close(self) -> None:
        """Close the stream, if that can be: what makes it may read ahead in a thread."""
        if isinstance(self._stream, Generator):
            self._stream.close()

    def _useful(self) -> Iterator[Sample]:
        for sample in self._own:
            _check(sample)
            if usable(sample, hidden=self._hidden):
                yield sample
            else:
                self.skipped += 1


def usable(sample: Sample, *, hidden: bool) -> bool:
    """Whether a sequence can be trained on: something observed, all finite and, if `hidden`,
    something withheld.
    """
    known = sample.observed | sample.withheld
    finite = bool(sample.values[known].isfinite().all()) and all(
        bool(part.isfinite().all()) for part in (sample.channels, sample.guess, sample.error)
    )
    return finite and bool(sample.observed.any()) and (not hidden or bool(sample.withheld.any()))


def _share(stream: Iterable[Sample], rank: int, processes: int) -> Iterable[Sample]:
    if isinstance(stream, Sequence):
        return (stream[k] for k in range(rank, len(stream), processes))
    return islice(stream, rank, None, processes)


def _check(sample: Sample) -> None:
    """Raise `InputError` unless masks and first guess fit the values, and nothing withheld is seen."""
    for mask in (sample.observed, sample.withheld, sample.again, sample.sea):
        check_observed(sample.values, mask)
    for part in (sample.guess, sample.error):
        if part.shape != sample.values.shape:
            raise InputError(
                f"a first guess of shape {tuple(part.shape)} for values {tuple(sample.values.shape)}"
            )
    if sample.channels.shape[1:] != sample.values.shape[1:]:
        raise InputError(
            f"channels of shape {tuple(sample.channels.shape)} for values {tuple(sample.values.shape)}"
        )
    if both := int((sample.observed & sample.withheld).sum()):
        raise InputError(f"{both} withheld pixels are also observed; hide them from the network")


def _stack(samples: list[Sample]) -> Sample:
    """Make a batch b c t y x of sequences c t y x."""
    shapes = {(*sample.values.shape, len(sample.channels)) for sample in samples}
    if len(shapes) > 1:
        raise InputError(
            f"sequences of one batch differ in shape: {sorted(shapes)}; cut them alike, or give batch=1"
        )
    return Sample(*(torch.stack(parts) for parts in zip(*samples, strict=True)))
