# SPDX-License-Identifier: Apache-2.0
"""A training sequence, the sources of sequences, and their batches."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol, runtime_checkable

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
    second_mask
        An independent mask, True = seen: a completed sequence is occluded by it for the
        discriminators.
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
    second_mask: Tensor
    sea: Tensor
    channels: Tensor
    guess: Tensor
    error: Tensor

    def to(self, device: torch.device) -> Sample:
        """Copy to a device."""
        # Copies that do not wait for each other.
        return Sample._make(tensor.to(device, non_blocking=True) for tensor in self)


class SampleSource(Protocol):
    """A source of sequences.

    Equal arguments give equal sequences, so that training can resume.
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


@runtime_checkable
class PreparedSource(Protocol):
    """A source that has work to do before training begins."""

    def prepare(self, rank: int = 0, processes: int = 1) -> None:
        """Do this process's part of the work: item `rank` and every `processes`-th after it."""
        ...


# Not `torch.utils.data.DataLoader`: its workers are processes, to which a lazy archive would have
# to be sent, and it cannot begin in the middle of an epoch, as a resumed training does.
class Batches:
    """The usable sequences of a stream in batches; the last may be smaller.

    Parameters
    ----------
    stream
        Sequences c t y x. Those that cannot be used are left out: nothing observed (land only,
        clouds only), a value that is not finite, or, with `needs_withheld`, nothing withheld.
    size
        Sequences in a batch.
    needs_withheld
        Whether a sequence can be used only with something withheld.
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
        needs_withheld: bool,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.skipped = 0
        self._stream = stream
        self._size = size
        self._needs_withheld = needs_withheld
        self._own: Iterable[Sample]
        if isinstance(stream, Sequence):
            # a sequence of sequences makes only those that are asked for
            self._own = (stream[k] for k in range(rank, len(stream), processes))
        else:
            # A generator has to make the others' sequences, too: they share its random numbers.
            self._own = islice(stream, rank, None, processes)

    def __iter__(self) -> Iterator[Sample]:
        """Yield batches b c t y x."""
        usable_ones = self._usable()
        while batch := list(islice(usable_ones, self._size)):
            yield _stack(batch)

    def close(self) -> None:
        """Close the stream if it is a generator, which may read ahead in a thread."""
        if isinstance(self._stream, Generator):
            self._stream.close()

    def _usable(self) -> Iterator[Sample]:
        for sample in self._own:
            _check(sample)
            if usable(sample, needs_withheld=self._needs_withheld):
                yield sample
            else:
                self.skipped += 1


def usable(sample: Sample, *, needs_withheld: bool) -> bool:
    """Whether a sequence can be trained on.

    Something is observed, everything is finite and, if `needs_withheld`, something is withheld.
    """
    known = sample.observed | sample.withheld
    # Elsewhere values are 0 by convention and not looked at.
    for part in (sample.values[known], sample.channels, sample.guess, sample.error):
        if not bool(part.isfinite().all()):
            return False
    if needs_withheld and not bool(sample.withheld.any()):
        return False
    return bool(sample.observed.any())


def _check(sample: Sample) -> None:
    """Raise `InputError` unless all shapes fit and no withheld pixel is observed."""
    for mask in (sample.observed, sample.withheld, sample.second_mask, sample.sea):
        check_observed(sample.values, mask)
    values = tuple(sample.values.shape)
    for part in (sample.guess, sample.error):
        if part.shape != sample.values.shape:
            raise InputError(f"a first guess of shape {tuple(part.shape)} for values {values}")
    if sample.channels.shape[1:] != sample.values.shape[1:]:
        raise InputError(f"channels of shape {tuple(sample.channels.shape)} for values {values}")
    if both := int((sample.observed & sample.withheld).sum()):
        raise InputError(f"{both} withheld pixels are also observed; hide them from the network")


def _stack(samples: list[Sample]) -> Sample:
    """Make a batch b c t y x of sequences c t y x."""
    shapes = {(*sample.values.shape, len(sample.channels)) for sample in samples}
    if len(shapes) > 1:
        raise InputError(
            f"sequences of one batch differ in shape: {sorted(shapes)}; "
            "cut them alike, or give batch=1"
        )
    parts = [torch.stack(tensors) for tensors in zip(*samples, strict=True)]
    return Sample._make(parts)
