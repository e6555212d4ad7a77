# SPDX-License-Identifier: Apache-2.0
"""ObservedClouds: what a draw shows is an archive's own images, moved; it reads no more of them
than it needs.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill import io
from sstfill.errors import InputError, OptionError
from sstfill.occlusion import ObservedClouds

STILL = {"shift": False, "flip": False, "min_fraction": 0.0, "max_fraction": 1.0}
ANY = {"min_fraction": 0.0, "max_fraction": 1.0}


def archive(
    images: int = 30, ny: int = 12, nx: int = 17, fraction: float = 0.5, seed: int = 0
) -> np.ndarray:
    """Unlike images, each pixel of each clear or not by chance."""
    return np.random.default_rng(seed).random((images, ny, nx)) >= fraction


def draw(operator: ObservedClouds, shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return operator.draw(shape, np.random.default_rng(seed))


def mirrored(image: np.ndarray, tiles: int = 1) -> np.ndarray:
    """An image surrounded by mirror images of itself."""
    return np.pad(
        image,
        [(0, 0)] * (image.ndim - 2) + [(tiles * n, tiles * n) for n in image.shape[-2:]],
        "symmetric",
    )


def places(mask: np.ndarray, seen: np.ndarray) -> list[tuple[int, int, int]]:
    """Dates and corners in the mirrored archive at which a mask is found."""
    wide = mirrored(seen)
    found = []
    for t in range(len(wide) - len(mask) + 1):
        windows = np.lib.stride_tricks.sliding_window_view(wide[t : t + len(mask)], mask.shape)[0]
        found += [(t, int(y), int(x)) for y, x in np.argwhere((windows == mask).all((2, 3, 4)))]
    return found


class TestDraw:
    @settings(max_examples=25, deadline=None)
    @given(
        frames=st.integers(1, 70),
        plane=st.tuples(st.integers(1, 40), st.integers(1, 40)),
        stride=st.integers(1, 5),
        seed=st.integers(0, 999),
        flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    )
    def test_any_length_and_size(
        self, frames: int, plane: tuple[int, int], stride: int, seed: int, flags: tuple[bool, ...]
    ) -> None:
        options: dict[str, Any] = dict(zip(("shift", "flip", "consecutive"), flags, strict=True))
        operator = ObservedClouds(archive(9, 5, 6), stride=stride, **options)
        mask = draw(operator, (frames, *plane), seed)
        assert mask.shape == (frames, *plane) and mask.dtype == bool
        assert np.array_equal(mask, draw(operator, (frames, *plane), seed))

    @settings(max_examples=15, deadline=None)
    @given(seed=st.integers(0, 9999))
    def test_a_crop_is_a_window_of_consecutive_images(self, seed: int) -> None:
        seen = archive(8)
        assert places(draw(ObservedClouds(seen, flip=False, **ANY), (3, 9, 8), seed), seen)
        flips = [
            draw(ObservedClouds(seen, **ANY), (3, 9, 8), seed)[:, ::a, ::b]
            for a in (1, -1)
            for b in (1, -1)
        ]
        assert any(places(mask, seen) for mask in flips)

    def test_still_windows_are_the_archive_itself(self) -> None:
        seen = archive()
        operator = ObservedClouds(seen, stride=3, **STILL)
        starts = set()
        for seed in range(100):
            mask = draw(operator, (5, 12, 17), seed)
            starts |= {t for t in range(18) if np.array_equal(mask, seen[t : t + 13 : 3])}
        assert starts == set(range(18))

    def test_beyond_the_edges_it_is_mirrored(self) -> None:
        seen = archive(4, 5, 7)
        mask = draw(ObservedClouds(seen, **STILL), (4, 20, 21))
        assert np.array_equal(
            mask,
            np.concatenate([seen, seen[:, ::-1]] * 2, 1)[
                ..., [*range(7), *range(6, -1, -1), *range(7)]
            ],
        )
        moved = draw(ObservedClouds(seen, flip=False, **ANY), (4, 25, 14))
        assert np.array_equal(moved[:, 10:], moved[:, :-10])  # it wraps around after twice the edge

    @pytest.mark.parametrize("pixel", [(0, 0), (3, 4), (7, 7)])
    def test_windows_are_centred_everywhere_alike(self, pixel: tuple[int, int]) -> None:
        seen = np.ones((3, 8, 8), bool)
        seen[:, *pixel] = False
        operator, rng = ObservedClouds(seen, **ANY), np.random.default_rng(0)
        # a pixel that came half as often, or half again, would be 0.008 away
        assert np.mean([operator.draw((1, 1, 1), rng) for _ in range(2000)]) == pytest.approx(
            63 / 64, abs=0.006
        )

    def test_a_short_archive_is_played_back_and_forth(self) -> None:
        clock = np.arange(4)[:, None, None] == np.arange(4)[None, None, :]
        mask = draw(ObservedClouds(clock, **STILL), (20, 1, 4), 3)
        dates = mask[:, 0].argmax(1)
        assert (np.abs(np.diff(dates)) == 1).all() and set(dates) == {0, 1, 2, 3}
        assert all(a != c or b in (0, 3) for (a, b), (_, c) in pairwise(pairwise(dates)))

    def test_one_image_will_do(self) -> None:
        mask = draw(ObservedClouds(archive(1)), (5, 6, 6))
        assert (mask == mask[0]).all()

    def test_consecutive_frames_resemble_each_other_and_single_ones_do_not(self) -> None:
        drifting = np.stack(
            [np.roll(archive(1, 24, 24)[0].repeat(4, 0).repeat(4, 1), t, 1) for t in range(60)]
        )
        alike = {
            consecutive: np.mean(
                [
                    _agreement(
                        draw(ObservedClouds(drifting, consecutive=consecutive), (10, 32, 32), s), 1
                    )
                    for s in range(10)
                ]
            )
            for consecutive in (True, False)
        }
        assert alike[True] > 0.8 and alike[False] == pytest.approx(0.5, abs=0.06)

    def test_single_images_are_of_different_dates(self) -> None:
        seen = archive()
        mask = draw(ObservedClouds(seen, consecutive=False, **STILL), (30, 12, 17))
        dates = [int(np.argmax((seen == image).all((1, 2)))) for image in mask]
        assert sorted(dates) == list(range(30)) and dates != sorted(dates)


def _agreement(mask: np.ndarray, lag: int) -> float:
    return float((mask[lag:] == mask[:-lag]).mean())


class TestFraction:
    def test_is_within_its_bounds(self) -> None:
        fractions = np.linspace(0, 1, 60)
        seen = np.random.default_rng(0).random((60, 20, 20)) >= fractions[:, None, None]
        operator = ObservedClouds(seen, min_fraction=0.3, max_fraction=0.5)
        found = [1 - draw(operator, (4, 12, 12), seed).mean() for seed in range(50)]
        assert 0.3 <= min(found) < 0.35 and 0.45 < max(found) <= 0.5

    def test_where_no_window_has_it_single_images_do(self) -> None:
        seen = np.ones((40, 10, 10), bool)
        seen[::20, :, :4] = False  # a window of ten images has a twentieth of it at most
        operator = ObservedClouds(seen, min_fraction=0.3, max_fraction=0.5, shift=False)
        mask = draw(operator, (10, 10, 10))
        assert 1 - mask.mean((1, 2)) == pytest.approx(0.4)

    def test_where_nothing_has_it_the_nearest_is_shown(self) -> None:
        seen = np.ones((40, 10, 10), bool)
        seen[:, :2] = False
        mask = draw(ObservedClouds(seen, min_fraction=0.5, shift=False), (3, 10, 10))
        assert 1 - mask.mean() == pytest.approx(0.2)
        assert draw(ObservedClouds(seen), (1, 1, 1)).shape == (1, 1, 1)

    @pytest.mark.parametrize(("seen", "met"), [(True, "a cloud"), (False, "anything but clouds")])
    def test_an_archive_without_clouds_or_without_anything_else_raises(
        self, seen: bool, met: str
    ) -> None:
        with pytest.raises(
            InputError, match=f"no image of 5 has {met} at sea; give a cloudy archive"
        ):
            draw(ObservedClouds(np.full((5, 4, 4), seen)), (3, 4, 4))


class TestSea:
    def test_land_is_as_the_nearest_sea_pixel_of_the_same_image(self) -> None:
        sea = np.ones((6, 9), bool)
        sea[:, 4:7] = False
        seen = archive(8, 6, 9) & sea
        mask = draw(ObservedClouds(seen, sea, **STILL), (8, 6, 9))
        assert np.array_equal(mask[:, sea], seen[:, sea])
        assert np.array_equal(mask[..., 4], seen[..., 3]) and np.array_equal(
            mask[..., 6], seen[..., 7]
        )

    def test_what_land_holds_does_not_matter(self) -> None:
        sea = archive(1, 12, 17)[0]
        masks = [
            draw(ObservedClouds(np.where(sea, archive(), land), sea), (5, 20, 9))
            for land in (True, False)
        ]
        assert np.array_equal(*masks)

    def test_it_is_matched_by_the_names_of_its_dims(self) -> None:
        seen = xr.DataArray(archive(), dims=("time", "lat", "lon"))
        sea = seen[3].drop_vars("time", errors="ignore")
        expected = draw(ObservedClouds(seen.values, sea.values), (5, 9, 9))
        assert np.array_equal(
            draw(ObservedClouds(seen.transpose("lon", "time", "lat"), sea.T), (5, 9, 9)), expected
        )

    def test_a_bad_one_raises(self) -> None:
        for sea in (
            np.ones((3, 3), bool),
            np.ones((12, 17)),
            xr.DataArray(np.ones((17, 12), bool), dims=("a", "b")),
        ):
            with pytest.raises(InputError, match="give bool on the archive's grid"):
                ObservedClouds(archive(), sea)
        with pytest.raises(InputError, match="sea is False everywhere"):
            ObservedClouds(archive(), np.zeros((12, 17), bool))


class TestArchive:
    @pytest.mark.parametrize(
        "observed", [archive()[0], archive()[:0], xr.DataArray(archive(), dims=("t", "y", "x")), 3]
    )
    def test_what_is_no_series_raises(self, observed: Any) -> None:
        with pytest.raises(InputError, match=r"give a filled array \(time, y, x\)"):
            ObservedClouds(observed)

    def test_values_for_a_mask_raise(self) -> None:
        with pytest.raises(
            InputError, match=r"holds float64; give True where observed, such as obs.notnull\(\)"
        ):
            ObservedClouds(archive().astype(float))

    def test_a_lazy_one_is_read_only_where_needed(self) -> None:
        seen, read = archive(40, 30, 30), set()

        def block(block_info: Any = None) -> np.ndarray:
            where = block_info[None]["array-location"]
            read.add(tuple(start for start, _ in where))
            return seen[tuple(slice(*span) for span in where)]

        blocks = da.map_blocks(block, chunks=((10,) * 4, (10,) * 3, (10,) * 3), dtype=bool)
        lazy = xr.DataArray(blocks, dims=("time", "y", "x"))
        sea = np.ones((30, 30), bool)
        with dask.config.set(scheduler="synchronous"):
            operator = ObservedClouds(lazy, sea)
            parts = operator.split(2)
            assert not read
            mask = draw(operator, (5, 6, 6), 4)
            assert 1 <= len(read) <= 8 < 36
            assert np.array_equal(mask, draw(ObservedClouds(seen, sea), (5, 6, 6), 4))
            assert parts[1].observed.chunks is not None

    def test_a_store_need_not_be_loaded(self, tmp_path: Path) -> None:
        seen = xr.DataArray(archive(), dims=("time", "y", "x"), name="sst")
        seen.where(seen).astype("f4").to_netcdf(tmp_path / "sst.nc")
        with io.open(tmp_path / "sst.nc", chunks={}) as ds:
            operator = ObservedClouds(ds["sst"].notnull())
            assert np.array_equal(
                draw(operator, (4, 30, 5)), draw(ObservedClouds(seen), (4, 30, 5))
            )


class TestSplit:
    @settings(max_examples=25, deadline=None)
    @given(
        images=st.integers(24, 200),
        parts=st.one_of(
            st.integers(1, 4), st.sampled_from([(0.5, 0.5), (0.6, 0.2, 0.2), [0.25, 0.75]])
        ),
        gap=st.integers(0, 2),
    )
    def test_blocks_are_disjoint_in_order_and_a_gap_apart(
        self, images: int, parts: Any, gap: int
    ) -> None:
        dated = xr.DataArray(
            np.ones((images, 1, 1), bool),
            dims=("time", "y", "x"),
            coords={"time": np.arange(images)},
        )
        dates = [part.observed.time.values for part in ObservedClouds(dated).split(parts, gap=gap)]
        fractions = np.full(parts, 1 / parts) if isinstance(parts, int) else np.array(parts)
        assert dates[0][0] == 0 and dates[-1][-1] == images - 1
        assert all(b[0] - a[-1] == gap + 1 for a, b in pairwise(dates))
        assert all((np.diff(block) == 1).all() for block in dates)
        room = images - gap * (len(fractions) - 1)
        assert [len(block) for block in dates] == pytest.approx(fractions * room, abs=1)

    def test_options_and_sea_are_kept(self) -> None:
        sea = archive(1)[0]
        operator = ObservedClouds(
            archive(), sea, stride=2, flip=False, min_fraction=0.1, consecutive=False
        )
        for part in operator.split((0.5, 0.3, 0.2), gap=1):
            assert (part.stride, part.shift, part.flip, part.min_fraction, part.consecutive) == (
                2,
                True,
                False,
                0.1,
                False,
            )
            assert np.array_equal(part.sea, sea)

    def test_bad_arguments_raise(self) -> None:
        operator = ObservedClouds(archive(30), stride=3)
        for parts in (0, (0.5, 0.6), (1.5, -0.5), ()):
            with pytest.raises(OptionError, match="parts="):
                operator.split(parts)
        with pytest.raises(OptionError, match="gap=-1"):
            operator.split(2, gap=-1)
        with pytest.raises(
            OptionError, match=r"30 images in parts 3 with gap=20 leave a block of 0"
        ):
            operator.split(3, gap=20)
        with pytest.raises(OptionError, match=r"leave a block of 3, where stride=3 needs 4"):
            operator.split((0.9, 0.1), gap=0)


def test_real_clouds_keep_their_fraction(shared_data: Path) -> None:
    with io.open(shared_data / "real" / "alboran_l3s_2022.nc", variables="sst") as ds:
        seen = ds["sst"].load().notnull()
    sea = seen.any("time")
    operator = ObservedClouds(seen, sea)
    fractions = [1 - draw(operator, (24, 32, 32), seed).mean() for seed in range(40)]
    assert np.mean(fractions) == pytest.approx(1 - seen.values[:, sea.values].mean(), abs=0.05)
