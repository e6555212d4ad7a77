# SPDX-License-Identifier: Apache-2.0
"""Windows of an archive: blocks of time apart, never all land or cloud; nothing else is read."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from training_archives import Watched, archive

from sstfill.errors import InputError
from sstfill.training.data.windows import (
    GAP,
    LEAST_SEA,
    LEAST_SEEN,
    VALIDATED,
    TrainingWindows,
    longest_sequence,
    split_in_time,
    withhold,
)

quick = settings(max_examples=25, deadline=None)


def of(
    ds: xr.Dataset, times: slice = slice(0, 12), shape: tuple[int, int, int] = (4, 8, 8)
) -> TrainingWindows:
    return TrainingWindows(ds.sst, ds.sea, times, shape, ds.get("truth"))


class TestBlocks:
    @quick
    @given(st.integers(1, 400), st.integers(1, 70))
    def test_they_share_no_date_and_lie_apart(self, images: int, frames: int) -> None:
        try:
            training, validation = split_in_time(images, frames)
        except InputError as error:
            assert frames > longest_sequence(images) or images < 3
            if remedy := re.search(r"give frames=(\d+) or less", str(error)):
                split_in_time(images, int(remedy[1]))
            assert "\n" not in str(error)
            return
        assert (training.start, validation.stop) == (0, images)
        assert training.stop - training.start >= frames
        assert validation.stop - validation.start >= max(frames, images // VALIDATED)
        assert 1 <= validation.start - training.stop <= GAP

    @quick
    @given(st.integers(3, 2000))
    def test_the_longest_sequence_is_allowed(self, images: int) -> None:
        training, validation = split_in_time(images, longest_sequence(images))
        assert min(training.stop, validation.stop - validation.start) >= longest_sequence(images)

    def test_the_gap_is_five_images_in_a_long_archive_and_one_at_least(self) -> None:
        apart = [
            split_in_time(n, 2).validation.start - split_in_time(n, 2).training.stop
            for n in (6, 30, 60, 100, 1000)
        ]
        assert apart == [1, 1, 3, 5, 5]

    @pytest.mark.parametrize(
        ("images", "frames", "words"),
        [
            (
                10,
                5,
                "10 images are too few to train and validate on sequences of 5; "
                "give frames=3 or less, or a longer",
            ),
            (
                2,
                1,
                "2 images are too few to train and validate on sequences of 1; "
                "give a longer archive",
            ),
        ],
    )
    def test_a_series_shorter_than_two_sequences(
        self, images: int, frames: int, words: str
    ) -> None:
        with pytest.raises(InputError, match=words):
            split_in_time(images, frames)


class TestDraw:
    def test_a_window_is_a_piece_of_its_block_of_time(self) -> None:
        ds = archive()
        own = of(ds, slice(5, 13))
        dates = ds.time.values
        seen = set()
        for k in range(40):
            window = own.draw(np.random.default_rng(k))
            assert window.obs.shape == (4, 8, 8)
            assert dates[5] <= window.obs.time.values[0] and window.obs.time.values[-1] <= dates[12]
            xr.testing.assert_identical(
                window.obs, ds.sst.sel({d: window.obs[d] for d in ds.sst.dims})
            )
            assert window.truth is not None
            xr.testing.assert_identical(
                window.truth, ds.truth.sel({d: window.obs[d] for d in ds.sst.dims})
            )
            assert not window.obs.notnull().any("time").where(~window.sea, False).any()
            seen.add(
                (window.obs.time.values[0], window.obs.lat.values[0], window.obs.lon.values[0])
            )
        assert len(seen) > 30
        assert {date for date, *_ in seen} == set(dates[5:10])

    def test_the_same_seed_draws_the_same_window(self) -> None:
        own = of(archive())
        first, again = (own.draw(np.random.default_rng(3)) for _ in range(2))
        xr.testing.assert_identical(first.obs, again.obs)
        assert not first.obs.equals(own.draw(np.random.default_rng(4)).obs)

    def test_a_window_may_be_the_whole_block(self) -> None:
        ds = archive()
        assert of(ds, slice(0, 12), (12, 20, 22)).draw(np.random.default_rng(0)).obs.shape == (
            12,
            20,
            22,
        )

    def test_values_on_land_are_not_seen(self) -> None:
        ds = archive()
        ds["sst"] = ds.sst.fillna(99.0)
        window = of(ds, shape=(4, 20, 22)).draw(np.random.default_rng(0))
        assert window.obs.where(~window.sea).isnull().all()
        assert window.obs.where(window.sea, 0).notnull().all()

    def test_land_and_clouds_are_avoided(self) -> None:
        """Three quarters of the archive are land, and of the dates most are under clouds
        altogether.
        """
        ds = archive((40, 20, 22))
        ds["sea"] = ds.sea & (ds.lat > ds.lat[14])
        ds["sst"] = ds.sst.where(ds.sea & ((ds.time < ds.time[4]) | (ds.time > ds.time[30])))
        own, blind = of(ds, slice(0, 40), (3, 5, 5)), 0
        for k in range(50):
            window = own.draw(np.random.default_rng(k))
            wet = window.sea.values
            assert wet.mean() >= LEAST_SEA
            assert np.isfinite(window.obs.values[:, wet]).mean() >= LEAST_SEEN
            first = np.random.default_rng(k)  # what would be taken without a look
            at = [int(first.integers(n)) for n in (38, 16, 18)]
            piece = ds.sst[at[0] : at[0] + 3, at[1] : at[1] + 5, at[2] : at[2] + 5]
            blind += not bool(piece.notnull().any())
        assert blind > 25

    @pytest.mark.parametrize("change", [{"sea": False}, {"sst": np.nan}], ids=["land", "clouds"])
    def test_nothing_but_land_or_clouds(self, change: dict[str, float]) -> None:
        ds = archive()
        ds = ds.assign({name: xr.full_like(ds[name], value) for name, value in change.items()})
        with pytest.raises(
            InputError,
            match=r"no window of \(4, 8, 8\) pixels with 10% sea, 2% of it observed, in 5",
        ):
            replace(of(ds), tries=5).draw(np.random.default_rng(0))

    def test_only_windows_are_read(self) -> None:
        ds = archive((40, 30, 30))
        watched = Watched(ds, {"time": 5, "lat": 10, "lon": 10})
        own = TrainingWindows(
            watched.lazy("sst"), ds.sea, slice(10, 40), (4, 8, 8), watched.lazy("truth")
        )
        for k in range(10):
            watched.read.clear()
            window = own.draw(np.random.default_rng(k))
            assert isinstance(window.obs.data, np.ndarray)
            assert (
                2 <= len(watched.read) <= 2 * 2**3 < 2 * 72
            )  # of obs and truth, at most two blocks along each dim
            assert min(start for start, *_ in watched.read) >= 10
        assert own.obs.chunks is not None

    def test_land_is_passed_over_unread(self) -> None:
        ds = archive()
        watched = Watched(ds, {"time": 5, "lat": 10, "lon": 10})
        with pytest.raises(InputError, match="no window"):
            TrainingWindows(
                watched.lazy("sst"), ds.sea & False, slice(0, 12), (4, 8, 8), tries=5
            ).draw(np.random.default_rng(0))
        assert not watched.read


class TestWithheld:
    @quick
    @given(st.integers(0, 999), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
    def test_a_fraction_of_what_is_observed_where_clouds_hide_it(
        self, seed: int, seen: float, clear: float, most: float
    ) -> None:
        rng = np.random.default_rng(seed)
        observed, clouds = rng.random((3, 5, 6)) < seen, rng.random((3, 5, 6)) < clear
        hidden = withhold(observed, clouds, most)
        assert not (hidden & ~observed).any() and not (hidden & clouds).any()
        assert hidden.sum() == min((observed & ~clouds).sum(), int(most * observed.sum()))
        assert observed.sum() == 0 or most == 1 or (observed & ~hidden).any()
