# SPDX-License-Identifier: Apache-2.0
"""The accessor: signatures that follow the methods, and the same results as the door."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import pickle
import re
from pathlib import Path

import make_stub
import numpy as np
import pytest
import xarray as xr
from light import OPTIONS, light

import sstfill
from sstfill.accessor import DataArrayGapfill, DatasetGapfill
from sstfill.describe import describe
from sstfill.docstrings import parameters
from sstfill.errors import unknown
from sstfill.modes import dineof_modes
from sstfill.synthetic import ocean
from sstfill.training.options import TrainOptions

ACCESSORS = {DatasetGapfill: {"variables", "together", "members"}, DataArrayGapfill: set()}
DOOR = {
    "sea": None,
    "lakes": None,
    "score": True,
    "seed": 0,
    "transform": "auto",
    "variables": None,
    "together": False,
    "members": 0,
}


def taken_from_the_door(name: str, accessor: type) -> set[str]:
    """Names of the parameters of `fill` that a method of an accessor takes."""
    of_all = {"sea", "lakes", "score", "seed", "transform"}
    if sstfill.METHODS[name].multivariate:
        return of_all | ACCESSORS[accessor]
    return of_all | ACCESSORS[accessor] - {"together"}  # it could only be refused


@functools.cache
def series() -> xr.Dataset:
    return ocean(shape=(12, 16, 18), step="1D", seed=1).drop_vars("truth")


@pytest.fixture(scope="module")
def sea_and_clouds() -> xr.Dataset:
    return series()


@functools.cache
def through_the_door(name: str) -> xr.Dataset:
    """The series as `fill` fills it, once for all tests."""
    return sstfill.fill(series(), light(name), score=False)


def _keywords(function: object) -> dict[str, object]:
    found = list(inspect.signature(function).parameters.values())[1:]
    assert {p.kind for p in found if p.name != "model"} <= {inspect.Parameter.KEYWORD_ONLY}
    return {p.name: p.default for p in found}


@pytest.mark.parametrize("accessor", ACCESSORS)
@pytest.mark.parametrize("name", sorted(sstfill.METHODS))
def test_method_takes_the_options_of_its_class_and_of_the_door(name: str, accessor: type) -> None:
    options = {f.name: f.default for f in dataclasses.fields(sstfill.METHODS[name])}
    door = {k: v for k, v in DOOR.items() if k in taken_from_the_door(name, accessor)}
    assert _keywords(getattr(accessor, name)) == door | options


@pytest.mark.parametrize("accessor", ACCESSORS)
@pytest.mark.parametrize("name", sorted(sstfill.METHODS))
def test_method_passes_on_every_option(
    name: str, accessor: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each option set to a value of its own must arrive in the method; `seed` in the method and at
    the door.
    """
    other = {
        "modes": 3,
        "max_modes": 7,
        "alpha": 0.5,
        "filter_iterations": 9,
        "cross_validation": "random",
        "tolerance": 0.5,
        "max_iterations": 11,
        "normalise": True,
        "min_pixel_coverage": 0.25,
        "min_image_coverage": 0.125,
        "error_length": 33.0,
        "solver": "reference",
        "outliers": True,
        "return_modes": True,
        "seed": 17,
        "sample": 5000,
        "harmonics": 1,
        "limit": 4.5,
        "space": False,
        "methods": ("interpolate", "dineof"),
        "blend": False,
        "budget": 60.0,
        "fraction": 0.3,
        "length_scale": 40.0,
        "time_scale": 2.5,
        "noise": 0.03,
        "covariance": "gauss",
        "background": "mean",
        "flow": (0.1, 0.2),
        "neighbours": 21,
        "device": "cuda",
        "patch": 3,
        "levels": 2,
        "iterations": 4,
        "sweeps": 1,
        "remove_mean": False,
        "sharp": True,
        "model": Path(__file__).parent,
        "samples": 16,
        "adapt": False,
    }
    fields = {f.name: f.default for f in dataclasses.fields(sstfill.METHODS[name])}
    given = {k: other[k] for k in fields}
    assert all(given[k] != fields[k] for k in fields)
    door = dict.fromkeys(taken_from_the_door(name, accessor), object())
    door |= {"score": False, "seed": 17}
    seen: dict[str, object] = {}
    monkeypatch.setattr(
        "sstfill.accessor.fill",
        lambda data, method, **how: seen.update(how, data=data, method=method),
    )
    monkeypatch.setattr(accessor, "_result", lambda self, filled: filled)
    data = object()
    getattr(accessor(data), name)(**(given | door))
    assert seen == door | {"data": data, "method": sstfill.METHODS[name](**given)}


@pytest.mark.parametrize("accessor", ACCESSORS)
def test_fill_follows_the_door(accessor: type) -> None:
    door = {
        p.name: p.default for p in list(inspect.signature(sstfill.fill).parameters.values())[1:]
    }
    mine = {
        p.name: p.default for p in list(inspect.signature(accessor.fill).parameters.values())[1:]
    }
    for name in ACCESSORS[DatasetGapfill] - ACCESSORS[accessor]:
        del door[name]
    assert mine == door


@pytest.mark.parametrize("accessor", ACCESSORS)
def test_modes_take_the_options_of_dineof(accessor: type) -> None:
    options = {f.name: f.default for f in dataclasses.fields(sstfill.Dineof)}
    wanted = {k: v for k, v in options.items() if k not in ("outliers", "return_modes")}
    door = {k: v for k, v in DOOR.items() if k in {"sea"} | ACCESSORS[accessor] - {"members"}}
    assert _keywords(accessor.dineof_modes) == wanted | door | {"transform": "none"}


@pytest.mark.parametrize("accessor", ACCESSORS)
def test_the_model_of_gan_may_be_positional(
    accessor: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods: list[object] = []
    monkeypatch.setattr("sstfill.accessor.fill", lambda data, method, **how: methods.append(method))
    monkeypatch.setattr(accessor, "_result", lambda self, filled: filled)
    accessor(object()).gan(Path(__file__).parent, score=False)
    accessor(object()).gan(sstfill.Gan(model=Path(__file__).parent), score=False)
    assert methods == [sstfill.Gan(model=Path(__file__).parent)] * 2


def _trainings() -> tuple[dict[str, object], dict[str, object]]:
    """Defaults of `TrainOptions`, and of `sstfill.train` but for its data, options and memory."""
    options = {f.name: f.default for f in dataclasses.fields(TrainOptions)}
    found = list(inspect.signature(sstfill.train).parameters.values())[2:]
    return options, {p.name: p.default for p in found if p.name != "limits"}


@pytest.mark.parametrize("accessor", ACCESSORS)
def test_train_takes_the_options_of_training(accessor: type) -> None:
    options, function = _trainings()
    mine = _keywords(accessor.train)
    assert set(function) - set(mine) == ({"variable"} if accessor is DataArrayGapfill else set())
    assert set(mine) <= set(options) | set(function)
    assert {"network", "objective", "epochs", "samples", "frames", "size", "device", "seed"} <= set(
        mine
    )
    assert mine == {name: (options | function)[name] for name in mine}


@pytest.mark.parametrize("accessor", ACCESSORS)
def test_train_passes_on_every_option(accessor: type, monkeypatch: pytest.MonkeyPatch) -> None:
    how = {
        "objective": "adversarial",
        "network": "paper",
        "epochs": 3,
        "samples": 7,
        "frames": 5,
        "size": 40,
        "batch": 2,
        "base": 3,
        "drawing": 6,
        "learning_rate": 0.5,
        "patience": 9,
        "precision": "bfloat16",
        "device": "cuda",
        "seed": 17,
        "adversarial_weight": 0.5,
        "discriminator_base": 5,
        "discriminator_steps": 3,
        "discriminator_gain": 1.5,
        "discriminator_rate": 0.25,
        "discriminator_masks": True,
        "occluded_value": 0.5,
        "level": "sequence",
        "augment": True,
        "differences": False,
        "beta1": 0.25,
        "beta2": 0.75,
        "weight_decay": 0.125,
        "schedule": "cosine",
        "decay": 0.5,
        "clip": 3.0,
        "ema": 0.5,
        "save_minutes": 3.0,
    }
    options, function = _trainings()
    mine = _keywords(accessor.train)
    assert set(how) == set(mine) & set(options)
    assert all(how[name] != options[name] for name in how)
    given = {name: object() for name in set(mine) & set(function)}
    seen: dict[str, object] = {}
    monkeypatch.setattr(
        "sstfill.accessor.train",
        lambda data, options, **rest: seen.update(rest, all=(data, options)),
    )
    data = object()
    accessor(data).train(**(given | how))
    assert seen == given | {"all": (data, TrainOptions(**how))}


@pytest.mark.parametrize("accessor", ACCESSORS)
def test_an_unknown_option_is_refused_by_name(accessor: type) -> None:
    message = re.escape(f"{accessor.__name__}.dineof() got an unexpected keyword argument 'mode'")
    with pytest.raises(TypeError, match=message):
        accessor(object()).dineof(mode=3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'together'"):
        accessor(object()).interpolate(together=True)


@pytest.mark.parametrize("accessor", ACCESSORS)
def test_a_method_of_another_package(accessor: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a method of the accessor from its registration on, with its own options and texts."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Constant:
        """Fill with one value.

        Parameters
        ----------
        value
            What to fill with.
        """

        name = "constant"
        multivariate = False
        min_times = 1
        value: float = 0.0

        def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
            return xr.Dataset({"mean": xr.full_like(obs, self.value)})

    monkeypatch.setitem(sstfill.METHODS, "constant", Constant)
    data = series() if accessor is DatasetGapfill else series()["sst"]
    filled = data.gapfill.constant(value=12.5, score=False, sea=series().sea)
    values = filled.sst if accessor is DatasetGapfill else filled
    gaps = series().sst.isnull() & (series().sea == 1)
    assert set(values.values[gaps.values]) == {12.5}
    method = data.gapfill.constant
    assert "constant" in dir(data.gapfill)
    assert next(iter(inspect.signature(method).parameters)) == "value"
    assert parameters(method)["value"] == "What to fill with."


def test_the_stub_is_up_to_date() -> None:
    assert make_stub.STUB.read_text("utf-8") == make_stub.text(), (
        "run: python tests/support/make_stub.py"
    )


def test_score_and_plot_follow_their_functions() -> None:
    for mine, theirs in (
        (DatasetGapfill.score, sstfill.score),
        (DatasetGapfill.plot, sstfill.plot.picture),
    ):
        expected = list(inspect.signature(theirs).parameters.values())[1:]
        taken = list(inspect.signature(mine).parameters.values())[1:]
        assert [(p.name, p.default, p.kind) for p in taken] == [
            (p.name, p.default, p.kind) for p in expected
        ]
    assert set(inspect.signature(DataArrayGapfill.score).parameters) == (
        set(inspect.signature(DatasetGapfill.score).parameters) - {"variable"}
    )


@pytest.mark.parametrize("accessor", ACCESSORS)
def test_docstrings_explain_every_parameter(accessor: type) -> None:
    for name, function in inspect.getmembers(accessor, inspect.isfunction):
        if name.startswith("_"):
            continue
        said = parameters(function)
        assert set(said) == set(inspect.signature(function).parameters) - {"self"}, name
        assert all(said.values()), name


@pytest.mark.parametrize("name", sorted(sstfill.METHODS))
def test_dataset_in_dataset_out(name: str, sea_and_clouds: xr.Dataset) -> None:
    filled = getattr(sea_and_clouds.gapfill, name)(score=False, **OPTIONS.get(name, {}))
    expected = through_the_door(name)
    xr.testing.assert_identical(filled.drop_attrs(), expected.drop_attrs())
    assert filled.sst.attrs == expected.sst.attrs
    assert {"sst", "sst_error", "sst_source"} <= set(filled.data_vars)


@pytest.mark.parametrize("name", sorted(sstfill.METHODS))
def test_array_in_array_out(name: str, sea_and_clouds: xr.Dataset) -> None:
    da = sea_and_clouds["sst"]
    how = OPTIONS.get(name, {})
    filled = getattr(da.gapfill, name)(score=False, sea=sea_and_clouds.sea, **how)
    expected = through_the_door(name)["sst"]
    assert isinstance(filled, xr.DataArray)
    np.testing.assert_array_equal(filled.values, expected.values)
    assert filled.name == "sst"
    assert filled.dims == da.dims
    assert filled.attrs["units"] == da.attrs["units"]
    assert filled.attrs["sstfill_method"] == expected.attrs["sstfill_method"]
    assert (
        filled.attrs["ancillary_variables"] == da.attrs["ancillary_variables"]
    )  # no link to what is not there


def test_nameless_array(sea_and_clouds: xr.Dataset) -> None:
    filled = (
        sea_and_clouds["sst"].rename(None).drop_attrs().gapfill.fill("interpolate", score=False)
    )
    assert filled.name is None
    assert "ancillary_variables" not in filled.attrs
    assert filled.notnull().sum() > sea_and_clouds["sst"].notnull().sum()


def test_the_object_is_left_alone(sea_and_clouds: xr.Dataset) -> None:
    before = sea_and_clouds.copy(deep=True)
    sea_and_clouds.gapfill.climatology(score=False)
    sea_and_clouds["sst"].gapfill.climatology(score=False)
    xr.testing.assert_identical(sea_and_clouds, before)
    assert list(vars(sea_and_clouds.gapfill)) == ["_data"]


def test_seed_serves_method_and_withheld_clouds(sea_and_clouds: xr.Dataset) -> None:
    filled = sea_and_clouds.gapfill.dineof(modes=2, seed=5)
    assert '"seed": 5' in filled.sst.attrs["sstfill_method"]
    assert '"seed": 5' in filled.sst.attrs["sstfill_score"]


def test_score(sea_and_clouds: xr.Dataset) -> None:
    names = ["climatology", "interpolate"]
    card = sea_and_clouds.gapfill.score(names, seed=3)
    again = sea_and_clouds["sst"].gapfill.score(names, seed=3, sea=sea_and_clouds.sea)
    assert isinstance(card, sstfill.Scorecard)
    assert list(card.data.method) == names
    np.testing.assert_array_equal(card.data.rmse, again.data.rmse)


def test_plot(sea_and_clouds: xr.Dataset) -> None:
    pytest.importorskip("cartopy")
    figure = sea_and_clouds.gapfill.interpolate(score=False).gapfill.plot(
        time=2, layers=["observed", "filled"]
    )
    assert len(figure.axes) >= 2


def test_modes_only(sea_and_clouds: xr.Dataset) -> None:
    found = sea_and_clouds.gapfill.dineof_modes(modes=3)
    assert set(found.data_vars) == {
        f"sst_{part}"
        for part in ("spatial_mode", "temporal_mode", "singular_value", "explained_variance")
    }
    assert found.sizes["mode"] == 3
    norms = (found.sst_temporal_mode**2).sum("time")
    np.testing.assert_allclose(norms, 1, rtol=1e-4)
    xr.testing.assert_equal(
        found, sea_and_clouds["sst"].gapfill.dineof_modes(modes=3, sea=sea_and_clouds.sea)
    )


def test_modes_of_two_variables_keep_their_own_number(sea_and_clouds: xr.Dataset) -> None:
    """A first variable with fewer modes must not cut those of the second short."""
    noise = np.random.default_rng(0).normal(size=sea_and_clouds.sst.shape)
    poor = sea_and_clouds.sst.copy(data=noise.astype("f4")).where(sea_and_clouds.sst.notnull())
    ds = xr.Dataset({"poor": poor, "sst": sea_and_clouds.sst})
    roughly = sstfill.Dineof(tolerance=0.01)
    alone = dineof_modes(ds, roughly, variables="sst").sizes["mode"]
    few = dineof_modes(ds, roughly, variables="poor").sizes["mode"]
    assert few < alone
    for order in (["poor", "sst"], ["sst", "poor"]):
        both = dineof_modes(ds, roughly, variables=order)
        assert int(both.sst_singular_value.notnull().sum()) == alone
        assert int(both.poor_singular_value.notnull().sum()) == few


def _both(ds: xr.Dataset) -> list[DatasetGapfill | DataArrayGapfill]:
    return [ds.gapfill, ds["sst"].gapfill]


class TestShown:
    def test_says_what_info_says(self, sea_and_clouds: xr.Dataset) -> None:
        for accessor in _both(sea_and_clouds):
            assert "ready to fill" in repr(accessor)
            assert repr(accessor) == str(accessor) == str(accessor.info())

    def test_in_a_notebook(self, sea_and_clouds: xr.Dataset) -> None:
        ds = sea_and_clouds[["sst"]].copy()
        ds["sst"] = ds.sst.assign_attrs(long_name="<b>sea & sky</b>")
        for accessor in _both(ds):
            shown = accessor._repr_html_()
            assert shown.startswith("<pre>sst: ") and shown.endswith("</pre>")
            assert "&lt;b&gt;sea &amp; sky&lt;/b&gt;" in shown

    @pytest.mark.parametrize("accessor", ACCESSORS)
    def test_never_raises(self, accessor: type, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(data: object) -> None:
            raise OSError("the file is gone")

        monkeypatch.setattr("sstfill.accessor.describe", broken)
        assert repr(accessor(object())) == accessor.__name__
        assert accessor(object())._repr_html_() == f"<pre>{accessor.__name__}</pre>"
        assert repr(accessor.__new__(accessor)) == accessor.__name__


class TestUnknownMethod:
    def test_names_the_methods_there_are(self, sea_and_clouds: xr.Dataset) -> None:
        message = str(unknown("method", "kriging", sorted(sstfill.METHODS)))
        for accessor in _both(sea_and_clouds):
            for kind in (AttributeError, sstfill.OptionError):
                with pytest.raises(kind) as raised:
                    _ = accessor.kriging
                assert str(raised.value) == message

    def test_names_the_nearest(self, sea_and_clouds: xr.Dataset) -> None:
        with pytest.raises(AttributeError, match="did you mean 'dineof'"):
            _ = sea_and_clouds.gapfill.dinof

    def test_is_missing_to_hasattr_and_getattr(self, sea_and_clouds: xr.Dataset) -> None:
        for accessor in _both(sea_and_clouds):
            assert hasattr(accessor, "dineof") and not hasattr(accessor, "kriging")
            assert getattr(accessor, "kriging", None) is None

    def test_private_names_are_plainly_missing(self, sea_and_clouds: xr.Dataset) -> None:
        for accessor in _both(sea_and_clouds):
            for name in ("_ipython_display_", "__array__", "__deepcopy__"):
                with pytest.raises(AttributeError) as raised:
                    getattr(accessor, name)
                assert not isinstance(raised.value, sstfill.OptionError)

    def test_copies_and_pickles(self, sea_and_clouds: xr.Dataset) -> None:
        for accessor in _both(sea_and_clouds):
            for other in (
                copy.copy(accessor),
                copy.deepcopy(accessor),
                pickle.loads(pickle.dumps(accessor)),
            ):
                assert type(other) is type(accessor)
                xr.testing.assert_identical(other._data, accessor._data)


class TestInfo:
    def test_ready(self, sea_and_clouds: xr.Dataset) -> None:
        found = sea_and_clouds.gapfill.info()
        (field,) = found.fields
        assert (field.name, field.trouble) == ("sst", "")
        assert field.facts["time"] == "2018-01-01 to 2018-01-12, 12 images, one each 1 d"
        assert "cells of 5 x 5 km" in field.facts["grid"]
        assert field.facts["sea"].endswith("from variable 'sea'")
        sea = sea_and_clouds.sea == 1
        fraction = 100 * float(sea_and_clouds.sst.isnull().where(sea).mean())
        assert field.facts["gaps"].startswith(f"{fraction:.1f} % of the sea, ")
        assert found.passed_over == {}  # the sea mask is used
        assert "ready to fill" in str(found) == repr(found)

    def test_trouble_is_what_fill_raises(self, sea_and_clouds: xr.Dataset) -> None:
        times = sea_and_clouds.time.values
        cases = {
            "no gaps": sea_and_clouds.fillna({"sst": 1.0}),
            "all land": sea_and_clouds.assign(sea=sea_and_clouds.sea * 0),
            "nothing seen": sea_and_clouds.assign(sst=sea_and_clouds.sst * np.nan),
            "infinite": sea_and_clouds.assign(
                sst=sea_and_clouds.sst.where(sea_and_clouds.sst < 18, np.inf)
            ),
            "backwards": sea_and_clouds.assign_coords(time=times[::-1]),
            "twice": sea_and_clouds.assign_coords(time=np.repeat(times[::2], 2)),
        }
        for name, ds in cases.items():
            with pytest.raises(sstfill.InputError) as raised:
                sstfill.fill(ds, "interpolate", score=False)
            assert describe(ds).fields[0].trouble == str(raised.value), name

    def test_no_field(self, sea_and_clouds: xr.Dataset) -> None:
        found = describe(sea_and_clouds.isel(time=0, drop=True))
        assert found.fields == ()
        assert "no time dimension" in found.passed_over["sst"]
        assert "NO FIELD TO FILL" in str(found)

    def test_variable_by_name(self, sea_and_clouds: xr.Dataset) -> None:
        assert "no variable 'chl'" in describe(sea_and_clouds, variables="chl").trouble
        assert "int8 values" in describe(sea_and_clouds, variables="sea").fields[0].trouble

    def test_quality_variables(self, sea_and_clouds: xr.Dataset) -> None:
        zeros = xr.zeros_like(sea_and_clouds.sst, dtype="int8").drop_attrs()
        found = describe(sea_and_clouds.assign(quality_level=zeros, l2p_flags=zeros))
        assert found.quality["quality_level"] == "levels 0 to 5"
        assert "ice" in found.quality["l2p_flags"]

    def test_lazy_data_give_the_same_words(self, sea_and_clouds: xr.Dataset) -> None:
        assert str(describe(sea_and_clouds.chunk(time=5))) == str(describe(sea_and_clouds))

    def test_without_dates_or_positions(self, sea_and_clouds: xr.Dataset) -> None:
        bare = sea_and_clouds["sst"].drop_vars(["time", "lat", "lon"]).drop_attrs()
        facts = bare.gapfill.info(sea=sea_and_clouds.sea.drop_vars(["lat", "lon"])).fields[0].facts
        assert "no dates" in facts["time"]
        assert "without latitude" in facts["grid"]
        assert facts["sea"].endswith("as given")

    def test_uneven_steps(self, sea_and_clouds: xr.Dataset) -> None:
        found = describe(sea_and_clouds.isel(time=[0, 1, 2, 3, 9]))
        assert "1 d to 6 d apart, mostly 1 d" in found.fields[0].facts["time"]
