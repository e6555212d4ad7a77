# SPDX-License-Identifier: Apache-2.0
"""The laws of the measurement operators, each asserted for every one of them by name."""

from __future__ import annotations

import dataclasses
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill.errors import InputError, OptionError, ReadError
from sstfill.occlusion import (
    OPERATORS,
    Cloud,
    Raindrops,
    RemovePixel,
    SyntheticClouds,
    VerticalMovingBar,
    apply,
    cloud_fraction,
    lwp_series,
    operator_class,
    recover,
    threshold_for,
)

NAMES = sorted(OPERATORS)
SHAPE = (12, 32, 48)
SHAPES = st.tuples(st.integers(1, 15), st.integers(1, 40), st.integers(1, 60))
TIME_DEPENDENT = [name for name in NAMES if name != "remove-pixel"]
PAPER = {
    55: 0.799,
    60: 0.696,
    65: 0.559,
    70: 0.395,
    75: 0.245,
    80: 0.134,
}  # Table 2a: g m-2 and occluded fraction


def drifting_lwp(frames: int = 400, ny: int = 24, nx: int = 40) -> xr.DataArray:
    """A smooth periodic LWP between 20 and 120 g m-2 that drifts slowly, above 70 in half of its
    pixels.
    """
    t, y, x = np.meshgrid(np.arange(frames), np.arange(ny), np.arange(nx), indexing="ij")
    wave = np.sin(2 * np.pi * (y / ny + t / 300)) * np.cos(2 * np.pi * (2 * x / nx - t / 500))
    return xr.DataArray(70 + 50 * wave, dims=("time", "y", "x"), attrs={"units": "g m-2"})


LWP = drifting_lwp()
NEEDED: dict[str, dict[str, Any]] = {
    "cloud": {"lwp": LWP},
    "observed-clouds": {"observed": LWP <= 70},
    "synthetic-clouds": {"wind": (0.0, 0.0)},
}


def make(name: str, **options: Any) -> Any:
    return operator_class(name)(**NEEDED.get(name, {}) | options)


def draw(operator: Any, seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return operator.draw(shape, np.random.default_rng(seed))


@cache
def drawn(name: str, seed: int) -> np.ndarray:
    """What an operator with its own options draws, for the laws of many draws."""
    return draw(make(name), seed)


def lag_correlation(observed: np.ndarray) -> float:
    """Correlation of successive frames about each frame's own mean; frames all seen or all hidden
    are left out.
    """
    anomaly = observed - observed.mean((1, 2), keepdims=True)
    power = (anomaly**2).sum((1, 2))
    product = (anomaly[1:] * anomaly[:-1]).sum((1, 2))
    pairs = (power[1:] > 0) & (power[:-1] > 0)
    return float((product[pairs] / np.sqrt(power[1:] * power[:-1])[pairs]).mean())


@pytest.mark.parametrize("name", NAMES)
class TestEveryOperator:
    def test_draws_a_mask_of_the_shape_asked_for(self, name: str) -> None:
        observed = draw(make(name))
        assert observed.dtype == bool and observed.shape == SHAPE
        assert observed.any() and not observed.all()

    def test_same_seed_same_mask_other_seed_other_mask(self, name: str) -> None:
        operator = make(name)
        assert np.array_equal(draw(operator, 1), draw(operator, 1))
        assert not np.array_equal(draw(operator, 1), draw(operator, 2))

    def test_two_draws_of_one_generator_differ(self, name: str) -> None:
        operator, rng = make(name), np.random.default_rng(0)
        assert not np.array_equal(operator.draw(SHAPE, rng), operator.draw(SHAPE, rng))

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_apply_keeps_what_is_seen_and_sets_the_rest(self, name: str, dtype: type) -> None:
        operator = make(name)
        observed = draw(operator)
        values = np.random.default_rng(3).normal(size=(2, *SHAPE)).astype(dtype)
        values[:, 0, :, 0] = -0.0
        before = values.copy()
        result = apply(values, observed, operator.fill_value)
        assert result.dtype == dtype and np.array_equal(values, before)
        assert result[:, observed].tobytes() == values[:, observed].tobytes()
        assert (result[:, ~observed] == operator.fill_value).all()
        assert np.array_equal(apply(result, observed, operator.fill_value), result)

    def test_apply_is_equation_1(self, name: str) -> None:
        operator = make(name)
        m, x, c = draw(operator), np.random.default_rng(4).normal(size=SHAPE), operator.fill_value
        assert np.array_equal(apply(x, m, c), x * m + c * (1 - m))

    def test_one_frame_and_one_pixel(self, name: str) -> None:
        operator = make(name)
        for shape in [(1, 1, 1), (1, 16, 16), (5, 1, 1), (5, 1, 9), (5, 9, 1)]:
            assert draw(operator, shape=shape).shape == shape

    @pytest.mark.parametrize("shape", [(0, 4, 4), (4, 4), (4, 4, -1), (4, 4, 2.5)])
    def test_a_bad_shape_raises(self, name: str, shape: Any) -> None:
        with pytest.raises(OptionError, match="whole numbers of frames"):
            draw(make(name), shape=shape)

    def test_is_frozen_keyword_only_and_hashable(self, name: str) -> None:
        operator = make(name)
        assert {operator: 1}[operator] == 1
        assert all(f.kw_only or f.name in ("observed", "sea") for f in dataclasses.fields(operator))
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(operator, dataclasses.fields(operator)[0].name, 0)

    def test_successive_frames_are_correlated_but_for_removed_pixels(self, name: str) -> None:
        lag = np.mean([lag_correlation(drawn(name, seed)) for seed in range(20)])
        assert lag > 0.4 if name in TIME_DEPENDENT else abs(lag) < 0.03

    def test_every_frame_is_occluded_alike(self, name: str) -> None:
        fraction = np.mean([~drawn(name, seed) for seed in range(100)], axis=(0, 2, 3))
        assert fraction == pytest.approx(fraction.mean(), rel=0.2)

    @settings(max_examples=10, deadline=None)
    @given(shape=SHAPES, channels=st.integers(1, 3), seed=st.integers(0, 99), missing=st.booleans())
    def test_the_mask_is_recovered_at_any_size_length_and_channel_count(
        self, name: str, shape: tuple[int, int, int], channels: int, seed: int, missing: bool
    ) -> None:
        operator = make(name)
        observed = draw(operator, seed, shape)
        assert observed.shape == shape and np.array_equal(observed, draw(operator, seed, shape))
        values = np.random.default_rng(seed).uniform(0.1, 0.9, (2, channels, *shape)).astype("f4")
        fill = np.nan if missing else operator.fill_value
        result = recover(apply(values, observed, fill), fill)
        assert result.dtype == bool and np.array_equal(
            result, np.broadcast_to(observed, values.shape)
        )

    def test_near_frames_are_more_alike_than_distant_ones_but_for_removed_pixels(
        self, name: str
    ) -> None:
        draws = np.array([drawn(name, seed) for seed in range(40)])
        near, far = ((draws[:, lag:] == draws[:, :-lag]).mean() for lag in (1, 8))
        assert near > far + 0.02 if name in TIME_DEPENDENT else near == pytest.approx(far, abs=0.01)

    def test_fill_value_is_the_papers(self, name: str) -> None:
        assert operator_class(name).fill_value == (0 if name == "remove-pixel" else 1)


@pytest.mark.parametrize(
    ("operator", "least", "most"),
    [
        (RemovePixel(fraction=0.3), 0.29, 0.31),
        (RemovePixel(fraction=0), 0, 0),
        (Raindrops(), 0.18, 0.21),
        (VerticalMovingBar(), 0.18, 0.22),
        (VerticalMovingBar(min_width=0.4, max_width=0.4), 0.38, 0.42),
        (Cloud(lwp=LWP), 0.45, 0.5),
        (Cloud(lwp=LWP, threshold=121), 0, 0),
        (SyntheticClouds(fraction=0.3, wind=(0, 0)), 0.2999, 0.3001),
    ],
    ids=repr,
)
def test_occluded_fraction(operator: Any, least: float, most: float) -> None:
    fractions = [1 - draw(operator, seed, (24, 48, 48)).mean() for seed in range(50)]
    assert least <= np.mean(fractions) <= most


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("remove-pixel", {"fraction": 1.0}),
        ("remove-pixel", {"fraction": -0.1}),
        ("remove-pixel", {"fraction": "half"}),
        ("raindrops", {"count": 0}),
        ("raindrops", {"count": 2.5}),
        ("raindrops", {"width": 0}),
        ("raindrops", {"min_length": 0.6, "max_length": 0.5}),
        ("raindrops", {"max_speed": 1.5}),
        ("vertical-moving-bar", {"min_width": 0.0}),
        ("vertical-moving-bar", {"min_speed": float("nan")}),
        ("cloud", {"threshold": -1}),
        ("cloud", {"threshold": float("inf")}),
        ("cloud", {"stride": 0}),
        ("cloud", {"start_after": -1}),
        ("cloud", {"units": "cm"}),
        ("observed-clouds", {"stride": 400}),
        ("observed-clouds", {"min_fraction": -0.1}),
        ("observed-clouds", {"max_fraction": 1.1}),
        ("observed-clouds", {"min_fraction": 0.6, "max_fraction": 0.5}),
        ("synthetic-clouds", {"fraction": 1.0}),
        ("synthetic-clouds", {"grid_km": 0}),
        ("synthetic-clouds", {"variation": -1}),
    ],
)
def test_a_bad_option_raises_with_its_name_and_value(name: str, options: dict[str, Any]) -> None:
    option, value = next(iter(options.items()))
    with pytest.raises(OptionError, match=f"{option}={value!r}"):
        make(name, **options)


def test_an_unknown_operator_lists_the_choices() -> None:
    with pytest.raises(
        OptionError,
        match=r"did you mean 'raindrops'\? Choose from cloud, raindrops, remove-pixel, vert",
    ):
        operator_class("raindrop")


def test_apply_keeps_the_kind_of_array_and_drops_nan_under_the_mask() -> None:
    observed = draw(RemovePixel())
    values = np.where(observed, 2.5, np.nan)
    expected = np.where(observed, 2.5, 0.0)
    field = xr.DataArray(values, dims=("time", "y", "x"), name="sst")
    assert np.array_equal(apply(values, observed, 0.0), expected)
    xr.testing.assert_identical(apply(field, observed, 0.0), field.copy(data=expected))
    assert apply(field.chunk(time=3), observed, 0.0).chunks is not None


def test_recover_keeps_the_kind_of_array_and_lazy_ones_lazy() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    observed = draw(RemovePixel())
    values = np.random.default_rng(1).normal(size=SHAPE).astype("f4")
    field = xr.DataArray(values, dims=("time", "y", "x"))
    for fill in (0.1, np.float64(0.1), np.nan):  # 0.1 is another number in single precision
        tensor = recover(apply(torch.tensor(values), torch.tensor(observed), float(fill)), fill)
        assert tensor.dtype == torch.bool and np.array_equal(tensor.numpy(), observed)
        array = recover(apply(field.chunk(time=3), observed, np.float32(fill)), fill)
        assert array.chunks is not None and np.array_equal(array, observed)
        assert np.array_equal(recover(apply(values, observed, float(fill)), fill), observed)


def test_an_observed_value_equal_to_the_fill_passes_for_occluded() -> None:
    assert recover(np.array([1.0, -0.0, 0.0]), 0.0).tolist() == [True, False, False]
    assert recover(np.array([np.inf, np.nan]), np.nan).tolist() == [True, False]


def test_apply_is_differentiable_in_torch() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    observed = torch.tensor(draw(RemovePixel()))
    values = torch.ones((2, 1, *SHAPE), requires_grad=True)
    result = apply(values, observed, 0.0)
    result.sum().backward()
    assert torch.equal(result.detach(), observed.float().expand(2, 1, *SHAPE))
    assert torch.equal(values.grad, observed.float().expand(2, 1, *SHAPE))


def test_one_raindrop_falls_at_its_speed_and_returns_to_the_top() -> None:
    n = 40
    drop = Raindrops(
        count=1, width=0.2, min_length=0.25, max_length=0.25, min_speed=0.05, max_speed=0.05
    )
    for seed in range(5):
        occluded = ~draw(drop, seed, (50, n, n))
        rows, columns = occluded.any(2), occluded.any((0, 1))
        assert columns.sum() <= 0.2 * n and np.array_equal(
            occluded, occluded.any(2)[..., None] & columns
        )
        assert np.array_equal(
            rows[1:-1, :-2], rows[2:, 2:]
        )  # 0.05 of 40 pixels: two rows down a frame, none up
        assert np.array_equal(rows[25:], rows[:25])  # (1 + length) / speed = 25 frames
        assert rows.any(0).all() and rows.sum(1).max() == 0.25 * n and rows.sum(1).min() <= 2


def test_raindrops_occlude_every_pixel_alike() -> None:
    fraction = np.mean([~draw(Raindrops(), seed, (6, 32, 32)) for seed in range(400)], axis=(0, 1))
    assert fraction.mean(0) == pytest.approx(fraction.mean(), rel=0.25)
    assert fraction.mean(1) == pytest.approx(fraction.mean(), rel=0.1)


def test_the_bar_goes_round_at_constant_speed_either_way() -> None:
    bar = VerticalMovingBar(min_width=0.25, max_width=0.25, min_speed=0.1, max_speed=0.1)
    ways = set()
    for seed in range(20):
        columns = ~draw(bar, seed, (11, 3, 40))
        assert (columns == columns[:, :1]).all() and (columns.sum(2) == 10).all()
        shifts = {
            s
            for s in (4, -4)
            if all(np.array_equal(np.roll(a, s, 1), b) for a, b in pairwise(columns))
        }
        assert len(shifts) == 1
        ways |= shifts
    assert ways == {4, -4}


class TestCloud:
    def test_masks_are_the_thresholded_series_up_to_a_roll(self) -> None:
        lwp = np.random.default_rng(5).uniform(0, 140, (60, 6, 5))
        observed = draw(Cloud(lwp=lwp, units="g m-2", stride=7, start_after=20), shape=(6, 6, 5))
        windows = [lwp[start : start + 36 : 7] <= 70 for start in range(20, 25)]
        rolls = [np.roll(w, (y, x), (1, 2)) for w in windows for y in range(6) for x in range(5)]
        assert sum(np.array_equal(roll, observed) for roll in rolls) == 1

    def test_every_allowed_start_and_no_other_is_drawn(self) -> None:
        clock = np.broadcast_to(np.arange(12.0)[:, None, None], (12, 2, 2))
        starts = {
            threshold: [
                draw(
                    Cloud(lwp=clock, units="g m-2", start_after=3, stride=2, threshold=threshold),
                    s,
                    (4, 1, 1),
                )[0, 0, 0]
                for s in range(40)
            ]
            for threshold in (2, 3, 4, 5)
        }
        assert not any(starts[2]) and any(starts[3]) and not all(starts[4]) and all(starts[5])

    def test_a_larger_shape_repeats_the_domain_and_a_smaller_one_crops_it(self) -> None:
        large = draw(Cloud(lwp=LWP), shape=(3, 60, 100))
        assert np.array_equal(large[:, 24:], large[:, :-24]) and np.array_equal(
            large[..., 40:], large[..., :-40]
        )
        small = draw(Cloud(lwp=LWP), shape=(3, 10, 15))
        assert np.array_equal(small, large[:, :10, :15])

    def test_augment_flips_either_axis(self) -> None:
        ramp = np.broadcast_to(np.arange(4.0)[:, None] * 10 + np.arange(4.0), (20, 4, 4))
        options = {"lwp": ramp, "units": "g m-2", "start_after": 0, "stride": 1, "threshold": 5.0}
        corner = np.array([[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], bool)
        plain = {draw(Cloud(**options), seed, (1, 4, 4)).tobytes() for seed in range(60)}
        assert plain == {np.roll(corner, k, 0).tobytes() for k in range(4)}
        asymmetric = np.array([[0, 1, 9, 9], [1, 9, 9, 9], [9, 9, 1, 9], [9, 9, 9, 9]], float)
        options |= {"lwp": np.broadcast_to(asymmetric, (20, 4, 4))}
        assert len({draw(Cloud(**options), seed, (1, 4, 4)).tobytes() for seed in range(400)}) == 16
        assert (
            len(
                {
                    draw(Cloud(**options, augment=True), seed, (1, 4, 4)).tobytes()
                    for seed in range(900)
                }
            )
            == 64
        )

    def test_units_are_honoured(self) -> None:
        kilograms = (LWP / 1000).assign_attrs(units="kg m**-2")
        expected = draw(Cloud(lwp=LWP))
        assert np.array_equal(draw(Cloud(lwp=kilograms)), expected)
        assert np.array_equal(draw(Cloud(lwp=kilograms.values, units="kg/m2")), expected)
        assert np.array_equal(draw(Cloud(lwp=LWP.transpose("x", "y", "time").chunk())), expected)

    def test_unknown_units_raise(self) -> None:
        with pytest.raises(OptionError, match="units=None; give units='g m-2'"):
            Cloud(lwp=LWP.values)
        with pytest.raises(OptionError, match="units='K'"):
            Cloud(lwp=LWP.assign_attrs(units="K"))

    @pytest.mark.parametrize(
        "lwp",
        [LWP[0], LWP.values[0], LWP.rename(time="t"), LWP[:0], LWP.to_dataset(name="LWP"), 3.0],
    )
    def test_what_is_no_series_raises(self, lwp: Any) -> None:
        with pytest.raises(InputError, match=r"give a filled array \(time, y, x\)"):
            Cloud(lwp=lwp, units="g m-2")

    def test_a_short_series_tells_how_many_frames_are_there_and_needed(self) -> None:
        operator = Cloud(lwp=LWP[:231])
        assert draw(operator, shape=(14, 4, 4)).shape == (14, 4, 4)
        with pytest.raises(
            InputError,
            match=r"231 frames, 131 after start_after=100; 15 masks at stride=10 need 141",
        ):
            draw(operator, shape=(15, 4, 4))

    def test_gaps_in_the_series_raise(self) -> None:
        with pytest.raises(InputError, match="not finite"):
            draw(Cloud(lwp=LWP.where(LWP > 30)))


class TestLwpSeries:
    @pytest.mark.parametrize("suffix", ["nc", "zarr", "npy"])
    def test_a_file_or_store_draws_what_the_array_does_and_reads_no_more_than_needed(
        self, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / f"clouds.{suffix}"
        kilograms = (LWP / 1000).assign_attrs(units="kg m-2").rename("LWP")
        other = xr.Dataset(
            {"LWP": kilograms, "wind": kilograms.rename(None) * 2, "mean": LWP.mean(("y", "x"))}
        )
        if suffix == "npy":
            np.save(path, kilograms.values)
        elif suffix == "nc":
            other.to_netcdf(path)
        else:
            other.chunk(time=10).to_zarr(path, consolidated=False)
        series = lwp_series(path)
        read: list[int] = []
        whole = xr.DataArray.to_numpy
        monkeypatch.setattr(xr.DataArray, "to_numpy", lambda da: read.append(da.size) or whole(da))
        found = draw(Cloud(lwp=series))
        assert read == [SHAPE[0] * LWP[0].size]
        assert (
            isinstance(series.variable._data, np.memmap)
            if suffix == "npy"
            else not series.variable._in_memory
        )
        assert np.array_equal(found, draw(Cloud(lwp=LWP)))

    def test_one_series_of_another_name_will_do_but_two_will_not(self, tmp_path: Path) -> None:
        deck = LWP[:5].rename("deck")
        deck.to_netcdf(tmp_path / "one.nc")
        assert lwp_series(tmp_path / "one.nc").name == "deck"
        xr.Dataset({"deck": deck, "other": deck.rename(None)}).to_netcdf(tmp_path / "two.nc")
        with pytest.raises(
            InputError, match=r"two.nc holds deck \('time', 'y', 'x'\), other .* rename"
        ):
            lwp_series(tmp_path / "two.nc")

    def test_what_cannot_be_read_raises(self, tmp_path: Path) -> None:
        for name in ("absent.nc", "absent.zarr", "absent.npy"):
            with pytest.raises(ReadError, match=name):
                lwp_series(tmp_path / name)
        (tmp_path / "empty.npy").touch()
        np.save(tmp_path / "pickled.npy", np.array([{}]), allow_pickle=True)
        for name in ("empty.npy", "pickled.npy"):
            with pytest.raises(ReadError, match=name):
                lwp_series(tmp_path / name)
        np.save(tmp_path / "flat.npy", np.ones(3))
        with pytest.raises(InputError, match="give LWP in floating point"):
            lwp_series(tmp_path / "flat.npy")


class TestSyntheticClouds:
    def test_a_range_is_drawn_from(self) -> None:
        # the larger domain that clouds of ten days need in a wind is of no matter here
        operator = SyntheticClouds(
            fraction=(0.2, 0.6), persistence=("6h", "10D"), scale_km=(50, 400), wind=(0.0, 0.0)
        )
        fractions = [1 - draw(operator, seed, (4, 16, 16)).mean() for seed in range(60)]
        assert (
            0.2 <= min(fractions) < 0.25
            and 0.55 < max(fractions) <= 0.6
            and np.mean(fractions) == pytest.approx(0.4, abs=0.05)
        )

    def test_persistent_clouds_stay_and_small_ones_are_small(self) -> None:
        still = [
            lag_correlation(draw(make("synthetic-clouds", persistence=p), 1)) for p in ("3h", "20D")
        ]
        assert still[0] < 0.2 and still[1] > 0.8
        edges = [
            np.mean(
                [
                    np.diff(draw(make("synthetic-clouds", scale_km=s), k), axis=2).mean()
                    for k in range(5)
                ]
            )
            for s in (30.0, 500.0)
        ]
        assert edges[0] > 1.5 * edges[1]

    def test_augment_reverses_the_wind(self) -> None:
        ways = set()
        for seed in range(20):
            m = draw(
                SyntheticClouds(wind=(2.0, 0.0), step="10min", persistence="5D", augment=True), seed
            ).astype(int)
            ways.add(
                (m[1:, :, 1:] == m[:-1, :, :-1]).mean() > (m[1:, :, :-1] == m[:-1, :, 1:]).mean()
            )
        assert ways == {True, False}

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("fraction", (0.6, 0.2)),
            ("fraction", (0.1, 0.2, 0.3)),
            ("scale_km", (9, 3)),
            ("persistence", ("2D", "6h")),
        ],
    )
    def test_a_bad_range_raises(self, option: str, value: Any) -> None:
        with pytest.raises(OptionError, match=option):
            SyntheticClouds(**{option: value})

    def test_bad_times_raise(self) -> None:
        for options in ({"step": "soon"}, {"persistence": "0h"}, {"wind": (1.0,)}, {"scale_km": 0}):
            with pytest.raises(OptionError, match=next(iter(options))):
                SyntheticClouds(**options)


class TestFraction:
    @settings(max_examples=25, deadline=None)
    @given(fraction=st.floats(0, 0.99), seed=st.integers(0, 99))
    def test_threshold_for_inverts_cloud_fraction(self, fraction: float, seed: int) -> None:
        lwp = np.random.default_rng(seed).gamma(2, 30, (110, 4, 5))
        threshold = threshold_for(lwp, fraction, units="g m-2")
        assert cloud_fraction(lwp, threshold, units="g m-2") == pytest.approx(
            fraction, abs=1.01 / 200
        )

    def test_no_threshold_covers_a_clear_sky(self) -> None:
        lwp = np.where(np.arange(200) % 10 == 0, 50.0, 0.0).reshape(2, 10, 10)
        assert threshold_for(lwp, 0.1, start_after=0, units="g m-2") == 0
        with pytest.raises(InputError, match=r"fraction=0.2, but only 0.100 of the LWP is above 0"):
            threshold_for(lwp, 0.2, start_after=0, units="g m-2")

    def test_bad_arguments_raise(self) -> None:
        with pytest.raises(OptionError, match="threshold=-1"):
            cloud_fraction(LWP, -1)
        with pytest.raises(OptionError, match="fraction=1"):
            threshold_for(LWP, 1)
        with pytest.raises(InputError, match="400 frames, none after start_after=400"):
            cloud_fraction(LWP, 70, start_after=400)


class TestSimulatedClouds:
    """On the LWP of PyCLES runs; the fractions are those of facts/pycles.md, after the first hour
    (120 frames).
    """

    @pytest.fixture
    def stratocumulus(self, shared_data: Path) -> xr.DataArray:
        return xr.load_dataset(shared_data / "clouds" / "lwp_dycoms.nc").LWP

    def test_fractions_of_the_papers_thresholds(self, stratocumulus: xr.DataArray) -> None:
        fractions = [
            cloud_fraction(stratocumulus, threshold, start_after=120) for threshold in PAPER
        ]
        assert fractions == pytest.approx([0.205, 0.142, 0.095, 0.061, 0.037, 0.021], abs=0.001)

    def test_thresholds_of_the_papers_fractions(self, stratocumulus: xr.DataArray) -> None:
        thresholds = [
            threshold_for(stratocumulus, fraction, start_after=120) for fraction in PAPER.values()
        ]
        assert thresholds == pytest.approx([19.8, 27.0, 34.6, 43.4, 52.3, 60.7], abs=0.1)

    def test_draws_have_the_fraction_and_move_slowly(self, stratocumulus: xr.DataArray) -> None:
        operator = Cloud(lwp=stratocumulus, threshold=threshold_for(stratocumulus, 0.395))
        draws = [draw(operator, seed, (24, 64, 64)) for seed in range(10)]
        assert 1 - np.mean(draws) == pytest.approx(0.395, abs=0.02)
        assert np.mean([lag_correlation(observed) for observed in draws]) > 0.4

    def test_shallow_cumulus_covers_little(self, shared_data: Path) -> None:
        lwp = xr.load_dataset(shared_data / "clouds" / "lwp_bomex.nc").LWP
        assert 0.02 < cloud_fraction(lwp, 70) < 0.04
        with pytest.raises(InputError, match="ask for a smaller fraction"):
            threshold_for(lwp, PAPER[80])
        with pytest.raises(
            InputError,
            match="240 frames, 140 after start_after=100; 24 masks at stride=10 need 231",
        ):
            draw(Cloud(lwp=lwp), shape=(24, 64, 64))
        assert draw(Cloud(lwp=lwp, stride=5), shape=(24, 64, 64)).mean() == pytest.approx(
            0.97, abs=0.02
        )
