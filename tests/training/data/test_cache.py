# SPDX-License-Identifier: Apache-2.0
"""Sequences with their first guesses: what is in them, turned about, and kept whole on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from training_archives import archive

from sstfill.errors import ReadError, WriteError
from sstfill.fields import grid
from sstfill.methods.gan.network_inputs import CHANNELS, SIGNED
from sstfill.training.data import cache

OBSERVED, SEA = CHANNELS.index("observed"), CHANNELS.index("sea")


@pytest.fixture(scope="module")
def arrays() -> dict[str, NDArray]:
    """A sequence with its first guesses, half of what is observed hidden; one value is not known at
    all.
    """
    ds = archive((6, 12, 12))
    obs, sea = grid.standardise(ds.sst), ds.sea
    hidden = np.random.default_rng(0).random(obs.shape) < 0.5
    return cache.compute_inputs(obs.where(~hidden), obs.values, sea, 0)


def test_what_a_sequence_holds(arrays: dict[str, NDArray]) -> None:
    ds = archive((6, 12, 12))
    sample = cache.to_sample(arrays)
    known, sea = ds.sst.notnull().values, ds.sea.values
    assert all(
        len(part) == 1 and part.shape[1:] == (6, 12, 12)
        for part in (*sample[:5], sample.guess, sample.error)
    )
    assert sample.channels.shape == (len(CHANNELS), 6, 12, 12)
    assert np.array_equal((sample.observed | sample.withheld)[0], known)
    assert not (sample.observed & sample.withheld).any()
    assert 0.4 < float(sample.withheld.sum() / known.sum()) < 0.6
    assert np.array_equal(sample.sea[0], np.broadcast_to(sea, known.shape))
    assert np.array_equal(sample.channels[OBSERVED] > 0, sample.observed[0])
    assert np.array_equal(sample.channels[SEA] > 0, sample.sea[0])
    assert all(
        bool(part.isfinite().all())
        for part in (sample.values, sample.channels, sample.guess, sample.error)
    )
    assert not sample.values[~(sample.observed | sample.withheld)].any()
    assert (sample.error[0][:, sea] > 0).all()


def test_the_guess_is_good_and_in_the_scale_of_the_values(arrays: dict[str, NDArray]) -> None:
    sample = cache.to_sample(arrays)
    out = sample.withheld
    misfit, spread = (sample.guess - sample.values)[out], sample.values[out]
    assert misfit.square().mean() < 0.2 * (spread - spread.mean()).square().mean()
    assert 0.2 < float(misfit.abs().mean() / sample.error[out].mean()) < 3


def test_a_series_in_other_units_is_the_same_to_the_network(arrays: dict[str, NDArray]) -> None:
    ds = archive((6, 12, 12))
    obs = grid.standardise(ds.sst) * 1.8 + 32
    hidden = np.random.default_rng(0).random(obs.shape) < 0.5
    other = cache.compute_inputs(obs.where(~hidden), obs.values, ds.sea, 0)
    np.testing.assert_allclose(other["values"], arrays["values"], atol=5e-3)
    # other units are rounded otherwise, and so short a series hardly tells its scales
    for name in ("guess", "error"):
        assert np.sqrt(np.mean(np.square(other[name] - arrays[name]))) < 0.02, name


class TestTurned:
    def test_every_way_comes_and_each_is_the_sequence(self, arrays: dict[str, NDArray]) -> None:
        """Undo what was done to the sea's corner and the values' sign: the rest must follow."""
        ways = set()
        marked = arrays | {"sea": np.add.outer(np.arange(12) * 100.0, np.arange(12))}
        for seed in range(60):
            found = cache.augment(marked, np.random.default_rng(seed))
            rows, columns = np.divmod(found["sea"].astype(int), 100)  # where each pixel was
            sign = 1 if np.array_equal(found["guess"], marked["guess"][:, rows, columns]) else -1
            ways.add((int(rows[0, 0]), int(columns[0, 0]), int(rows[0, 1]), sign))
            for name in ("values", "guess"):
                np.testing.assert_array_equal(found[name], sign * marked[name][:, rows, columns])
            np.testing.assert_array_equal(found["error"], marked["error"][:, rows, columns])
            for k, name in enumerate(CHANNELS):
                own = sign if name in SIGNED else 1
                np.testing.assert_array_equal(
                    found["channels"][k], own * marked["channels"][k][:, rows, columns]
                )
            np.testing.assert_array_equal(found["traits"], marked["traits"])
        assert len(ways) == 16

    def test_the_same_seed_turns_alike(self, arrays: dict[str, NDArray]) -> None:
        first, again = (
            cache.to_sample(cache.augment(arrays, np.random.default_rng(5))) for _ in range(2)
        )
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


class TestFiles:
    def test_what_is_read_is_what_was_written(
        self, arrays: dict[str, NDArray], tmp_path: Path
    ) -> None:
        cache.write(tmp_path / "new" / "3.npz", arrays)
        found = cache.read(tmp_path / "new" / "3.npz")
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype
        assert [file.name for file in (tmp_path / "new").iterdir()] == ["3.npz"]

    def test_a_full_disk(
        self, arrays: dict[str, NDArray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache.write(tmp_path / "3.npz", arrays)

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "savez", full)
        with pytest.raises(WriteError, match=r"cannot write .*3\.npz: No space left on device"):
            cache.write(tmp_path / "3.npz", {})
        assert cache.read(tmp_path / "3.npz").keys() == arrays.keys()

    def test_a_folder_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "clips").write_text("mine")
        with pytest.raises(WriteError, match="cannot write"):
            cache.write(tmp_path / "clips" / "3.npz", {})

    @pytest.mark.parametrize("keep", [0, 0.5])
    def test_a_damaged_file(self, keep: float, arrays: dict[str, NDArray], tmp_path: Path) -> None:
        cache.write(tmp_path / "3.npz", arrays)
        content = (tmp_path / "3.npz").read_bytes()
        (tmp_path / "3.npz").write_bytes(content[: int(keep * len(content))])
        with pytest.raises(
            ReadError, match=r"3\.npz is damaged \(.*\); remove it, and it is made again"
        ):
            cache.read(tmp_path / "3.npz")
