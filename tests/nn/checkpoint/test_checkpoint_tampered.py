# SPDX-License-Identifier: Apache-2.0
"""An altered checkpoint loads, and can then be shown and used, or it is refused in one line of
sstfill's own.
"""

from __future__ import annotations

import json
import os
import resource
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sstfill.errors import InputError, OptionError, ReadError, SstfillError
from sstfill.methods.gan.domain_check import domain_shift
from sstfill.methods.gan.method import SHIPPED, Gan, check_usable
from sstfill.methods.gan.paper import scaling_of
from sstfill.nn.checkpoint import folder as checkpoint_folder
from sstfill.nn.checkpoint.checkpoint import Checkpoint, _outline, _shapes
from sstfill.nn.checkpoint.schema import check_config
from sstfill.nn.registry import build, size

TOLD = {
    "units": "kelvin",
    "variable": "sst",
    "patch": [4, 8, 8],
    "spread": 1.0,
    "step_days": 1.0,
    "cell_km": 5.0,
    "scaling": {"kind": "standardise", "mean": 15.0, "std": 1.0},
    "objective": "adversarial",
    "occlusion": "own",
    "traits": [[-1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]],
    "scores": {"withheld_mae": 0.5},
    "data": {"shape": [8, 8, 8]},
    "trained": {"steps": 3, "history": [{"epoch": 1, "train": 0.5, "withheld_mae": 0.5}]},
}
OPTIONS = {"base": 1}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "model"
    torch.manual_seed(0)
    Checkpoint(
        TOLD | {"network": {"name": "static", "options": OPTIONS}},
        build("static", OPTIONS).state_dict(),
    ).save(folder)
    return folder


def described(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The least configuration of a checkpoint."""
    return {"format": 1, "sstfill_version": "0", "network": {"name": name, "options": options}}


def put(folder: Path, config: bytes, weights: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_bytes(config)
    (folder / "weights.safetensors").write_bytes(weights)
    return folder


def used(folder: Path) -> None:
    """Load, show and prepare to fill; one line of sstfill's own is the only thing that may be
    raised.
    """
    try:
        checkpoint = Checkpoint.load(folder)
        method = Gan(model=folder)
        assert "<script" not in checkpoint._repr_html_()
        assert str(checkpoint).isprintable() and hash(checkpoint) == hash(method.checkpoint)
        config = check_usable(checkpoint).config
        scaling_of(config)
        frames, height, width = config["patch"]
        assert min(frames, height, width) >= 1
        field = xr.DataArray(np.zeros((3, 4, 4)), dims=("time", "y", "x"), attrs={"units": "m"})
        assert domain_shift(checkpoint, field, (-0.5, -0.5, -0.5)).isprintable()
    except SstfillError as error:
        assert "\n" not in str(error)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=8),
    st.floats(),
    st.integers(),
    st.sampled_from(
        [
            10**400,
            -1,
            0,
            4096,
            10**12,
            1e308,
            -1e308,
            "<script>",
            "\x1b[31m",
            "nan",
            "\ud800",
            [],
            {},
        ]
    ),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
)


@st.composite
def tampered(draw: st.DrawFn, config: dict[str, Any]) -> dict[str, Any]:
    """A configuration some of whose values, at any depth, are replaced, removed or joined by
    others.
    """
    config = json.loads(json.dumps(config))
    for _ in range(draw(st.integers(1, 3))):
        place: Any = config
        while True:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            key = draw(
                st.sampled_from([*keys, "added"] if isinstance(place, dict) else list(keys) or [0])
            )
            inner = place.get(key) if isinstance(place, dict) else (place[key] if place else None)
            if isinstance(inner, dict | list) and inner and draw(st.booleans()):
                place = inner
                continue
            break
        if isinstance(place, dict) and key in place and draw(st.integers(0, 3)) == 0:
            del place[key]
        elif isinstance(place, dict) or place:
            place[key] = draw(ANYTHING)
    return config


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_an_altered_configuration(
    tmp_path_factory: pytest.TempPathFactory, whole: Path, data: st.DataObject
) -> None:
    config = data.draw(tampered(json.loads((whole / "config.json").read_bytes())))
    try:
        text = json.dumps(config).encode()
    except ValueError:  # a number that Python cannot write either
        return
    used(
        put(
            tmp_path_factory.mktemp("config") / "model",
            text,
            (whole / "weights.safetensors").read_bytes(),
        )
    )


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_altered_bytes_whose_digest_is_right(
    tmp_path_factory: pytest.TempPathFactory, whole: Path, data: st.DataObject
) -> None:
    """Header and numbers of the weights are altered by somebody who tells the new digest."""
    weights = bytearray((whole / "weights.safetensors").read_bytes())
    length = struct.unpack("<Q", weights[:8])[0]
    for _ in range(data.draw(st.integers(1, 4))):
        weights[data.draw(st.integers(0, 8 + length + 100))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        weights = weights[: data.draw(st.integers(0, len(weights)))]
    config = json.loads((whole / "config.json").read_bytes())
    config["weights_sha256"] = checkpoint_folder.digest(bytes(weights))
    used(
        put(tmp_path_factory.mktemp("bytes") / "model", json.dumps(config).encode(), bytes(weights))
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"format": 1' + b"[" * 100_000, "not valid JSON|nested deeper"),
        (b'{"a": ' + b'{"a":' * 500 + b"1" + b"}" * 501, "nested deeper than 40 levels"),
        (b'{"format": ' + b"1" * 5000 + b"}", "a number of 5000 digits"),
        (b'{"spread": NaN}', "NaN or Infinity"),
        (b'{"spread": 1e999}', "1e999, which is not finite"),
        (b'{"a": "\xff"}', "not UTF-8 text"),
        (b" " * (17 * 2**20), "larger than"),
    ],
)
def test_what_no_configuration_may_hold(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ReadError, match=message) as raised:
        Checkpoint.load(put(tmp_path / "model", content, b""))
    assert "\n" not in str(raised.value) and "copy the checkpoint again" in str(raised.value)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_with_their_number_and_name(
    whole: Path, tmp_path: Path, bad: float
):
    config = json.loads((whole / "config.json").read_bytes())
    weights = safetensors.torch.load((whole / "weights.safetensors").read_bytes())
    name = sorted(n for n, t in weights.items() if t.is_floating_point() and t.numel() > 3)[0]
    weights[name].view(-1)[:3] = bad
    content = safetensors.torch.save(weights)
    config["weights_sha256"] = checkpoint_folder.digest(content)
    with pytest.raises(
        ReadError, match=f"3 weights are NaN or infinite, 3 of them in {name}; .* train again"
    ):
        Checkpoint.load(put(tmp_path / "model", json.dumps(config).encode(), content))


@pytest.mark.parametrize(
    ("name", "options"), [("compact", {"inputs": 13, "base": 4096}), ("paper", {"base": 4096})]
)
def test_a_huge_network_is_compared_with_its_weights_before_memory_is_taken(
    whole: Path, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    config = json.loads((whole / "config.json").read_bytes()) | {
        "network": {"name": name, "options": options}
    }
    folder = put(
        tmp_path / "m", json.dumps(config).encode(), (whole / "weights.safetensors").read_bytes()
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ReadError, match=f"are not of this network {name}"):
        Checkpoint.load(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_a_file_larger_than_its_network_is_not_read(whole: Path, tmp_path: Path) -> None:
    folder = put(tmp_path / "m", (whole / "config.json").read_bytes(), b"")
    with (folder / "weights.safetensors").open("r+b") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(ReadError, match=r"has 1,099,511,627,776 bytes, its network at most"):
        Checkpoint.load(folder)


def test_a_fifo_is_refused_at_once(whole: Path, tmp_path: Path) -> None:
    folder = put(tmp_path / "m", b"", (whole / "weights.safetensors").read_bytes())
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    with pytest.raises(ReadError, match="not a regular file"):
        Checkpoint.load(folder)


def test_a_name_with_a_nul() -> None:
    with pytest.raises(ReadError, match=r"no checkpoint|NUL|null"):
        Checkpoint.load("a\0b")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("compact", {"inputs": 3, "base": 16}),
        ("paper", {"base": 2}),
        ("static", {"base": 2}),
        ("recurrent", {"base": 2, "channels": 2}),
    ],
)
def test_the_outline_of_a_network_has_its_shapes(name: str, options: dict[str, Any]) -> None:
    network = build(name, options)
    outline = _outline(described(name, options))
    assert outline.shapes == _shapes(network.state_dict())
    assert outline.size == size(network)


def test_options_that_differ_in_type_alone_have_outlines_of_their_own() -> None:
    """What was outlined is not outlined again; 1 and True are equal, and one is no width."""
    assert _outline(described("static", {"base": 1})).size == 5095
    with pytest.raises(OptionError, match="base=True must be a whole number"):
        _outline(described("static", {"base": True}))


def test_the_one_that_ships_fits_the_schema() -> None:
    check_config(json.loads((SHIPPED / "config.json").read_bytes()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"note": 1}, "note is not a key of it; notes of your own go under data"),
        ({"patch": [4, 0, 8]}, "patch.1=0"),
        ({"scaling": {"kind": "log", "mean": 0.0, "std": 0.0}}, "scaling.std=0.0"),
        ({"traits": [[1.0, 0.0]] * 3}, "the least value stands first"),
        ({"step_days": -1.0}, "step_days=-1.0"),
    ],
)
def test_what_cannot_be_made(change: dict[str, Any], message: str) -> None:
    config = TOLD | {"network": {"name": "static", "options": OPTIONS}} | change
    with pytest.raises(InputError, match=message):
        Checkpoint(config, build("static", OPTIONS).state_dict())
