# SPDX-License-Identifier: Apache-2.0
"""Options from text and back: what fits is taken, what does not is refused with the name of what
does.
"""

from __future__ import annotations

import datetime
import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill import config
from sstfill.errors import OptionError
from sstfill.methods import METHODS, Dineof, Interpolate


@dataclass(frozen=True, kw_only=True)
class Inner:
    harmonics: int = 2


@dataclass(frozen=True, kw_only=True)
class Options:
    """One of each kind."""

    modes: int | Literal["auto"] = "auto"
    limit: float | None = None
    space: bool = True
    solver: Literal["fast", "exact"] = "fast"
    name: str = ""
    lags: tuple[float, ...] = ()
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.name == "ugly":
            raise OptionError("name='ugly' is ugly; choose a nicer one")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"modes": "auto"}, {"modes": "auto"}),
        ({"modes": "5"}, {"modes": 5}),
        ({"modes": np.int64(5)}, {"modes": 5}),
        ({"limit": "2.5"}, {"limit": 2.5}),
        ({"limit": "1e-3"}, {"limit": 1e-3}),
        ({"limit": None}, {"limit": None}),
        ({"limit": 3}, {"limit": 3.0}),
        ({"space": "false"}, {"space": False}),
        ({"space": "no"}, {"space": False}),
        ({"space": "1"}, {"space": True}),
        ({"space": False}, {"space": False}),
        ({"solver": "exact"}, {"solver": "exact"}),
        ({"lags": ["1", 2]}, {"lags": (1.0, 2.0)}),
        ({"inner": {"harmonics": "3"}}, {"inner": Inner(harmonics=3)}),
        ({"inner": Inner(harmonics=4)}, {"inner": Inner(harmonics=4)}),
        (MappingProxyType({"modes": 5}), {"modes": 5}),
    ],
)
def test_what_fits(given, expected):
    assert config.build(Options, given) == Options(**expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"mods": 1},
            r"no option of Options 'mods'; did you mean 'modes'\? Choose from modes, limit, space",
        ),
        ({"MODES": 1}, "no option of Options 'MODES'"),
        ({1: 1}, "no option of Options 1; Choose from"),
        ({"options": {"modes": 3}}, "no option of Options 'options'"),
        ({"modes": "many"}, r"modes='many': .*it takes int \| Literal\['auto'\]"),
        ({"modes": 5.5}, "modes=5.5: "),
        ({"modes": None}, "modes=None: "),
        ({"modes": True}, r"modes=True is a truth value; it takes int \| Literal\['auto'\]"),
        ({"limit": False}, r"limit=False is a truth value; it takes float \| None"),
        ({"limit": "5 days"}, r"limit='5 days': .*it takes float \| None"),
        ({"limit": {"days": 5}}, "limit={'days': 5}: "),
        ({"space": "maybe"}, r"space='maybe': .*it takes bool"),
        ({"space": 2}, "space=2: "),
        ({"solver": "quick"}, r"solver='quick': .*'fast'.*'exact'"),
        ({"modes": np.eye(40)}, "modes=array"),
        ({"name": "ugly"}, "^name='ugly' is ugly; choose a nicer one$"),
        ({"inner": {"harmonics": "x"}}, "inner='x': .*it takes Inner"),
    ],
)
def test_what_does_not_fit(given, message):
    with pytest.raises(OptionError, match=message) as raised:
        config.build(Options, given)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300
    assert "pydantic" not in str(raised.value)


def test_options_from_toml():
    text = """
    [dineof]
    modes = 5
    alpha = "auto"
    tolerance = 1e-2
    outliers = true
    [interpolate]
    limit = 3
    """
    read = tomllib.loads(text)
    assert {n: config.build(METHODS[n], o) for n, o in read.items()} == {
        "dineof": Dineof(modes=5, tolerance=1e-2, outliers=True),
        "interpolate": Interpolate(limit=3.0),
    }


@pytest.mark.parametrize("name", METHODS)
def test_every_method_survives_text_and_json(name):
    method = METHODS[name]()
    said = json.loads(json.dumps(config.options(method), allow_nan=False))
    assert config.build(METHODS[name], said) == method
    words = {
        k: str(v) for k, v in said.items() if v is not None and not isinstance(v, list)
    }  # lists have no one spelling
    assert config.build(METHODS[name], words) == method


def test_plain():
    value = {
        "nan": np.float32("nan"),
        "inf": (np.inf, -np.inf),
        "array": np.array([[1, 2]], "i2"),
        "zero": np.array(1.5),
        "bool": np.bool_(True),
        "text": np.str_("a"),
        "none": None,
        3: "key",
        "method": Interpolate(limit=2.0),
        "date": np.datetime64("2020-01-02"),
        "path": Path("a"),
        "set": {1},
        "day": datetime.date(2020, 1, 2),
        "deep": {"a": [np.nan, {"b": np.array([np.inf, 1.0])}]},
    }
    assert json.loads(json.dumps(config.plain(value), allow_nan=False)) == {
        "nan": None,
        "inf": [None, None],
        "array": [[1, 2]],
        "zero": 1.5,
        "bool": True,
        "text": "a",
        "none": None,
        "3": "key",
        "method": {"method": "interpolate", "limit": 2.0, "space": True},
        "date": "2020-01-02",
        "path": "a",
        "set": "{1}",
        "day": "2020-01-02",
        "deep": {"a": [None, {"b": [None, 1.0]}]},
    }


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.dates()
    | st.complex_numbers()
)


@given(
    st.recursive(
        scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner)
    )
)
@settings(max_examples=25, deadline=None)
def test_plain_is_always_strict_json_and_stays_so(value):
    once = config.plain(value)
    assert json.loads(json.dumps(once, allow_nan=False)) == once == config.plain(once)


@given(
    st.dictionaries(st.sampled_from(["modes", "limit", "space", "solver", "name", "lags"]), scalars)
)
@settings(max_examples=25, deadline=None)
def test_any_value_is_taken_or_refused_in_one_line(options):
    try:
        built = config.build(Options, options)
    except OptionError as refused:
        assert len(str(refused).splitlines()) == 1
    else:
        assert isinstance(built, Options)
