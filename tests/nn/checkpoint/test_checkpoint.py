# SPDX-License-Identifier: Apache-2.0
"""A checkpoint comes back as it was saved, is whole at every moment, and is refused in one line
where it is not.
"""

from __future__ import annotations

import copy
import errno
import functools
import json
import os
import pickle
import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sstfill.config import plain
from sstfill.errors import InputError, OptionError, ReadError, WriteError
from sstfill.nn.checkpoint import folder as checkpoint_folder
from sstfill.nn.checkpoint.checkpoint import Checkpoint
from sstfill.nn.checkpoint.html import summary
from sstfill.nn.registry import NETWORKS, build

OPTIONS: dict[str, dict[str, Any]] = {
    "compact": {"inputs": 3, "base": 16},
    "paper": {"base": 2},
    "static": {"base": 2},
    "recurrent": {"base": 1},
}
HISTORY = [
    {"epoch": 0, "train": 1.5, "withheld_mae": None},
    {"epoch": 1, "train": 0.7, "withheld_mae": 0.42},
    {"epoch": 2, "train": 0.5, "withheld_mae": 0.44},
]


def described(name: str = "static", **more: Any) -> dict[str, Any]:
    return {"network": {"name": name, "options": OPTIONS[name]}, "units": "kelvin"} | more


@functools.cache
def small_weights(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return build("static", OPTIONS["static"]).state_dict()


def made(seed: int = 0, **more: Any) -> Checkpoint:
    """A small checkpoint; another seed, other weights."""
    return Checkpoint(described(**more), small_weights(seed))


def answer(network: nn.Module, name: str) -> tuple[Tensor, ...]:
    torch.manual_seed(5)
    values = torch.randn(2, OPTIONS[name].get("inputs", 1), 3, 8, 8)
    with torch.no_grad():
        found = network(values) if name == "compact" else network(values, values > 0)
    return found if isinstance(found, tuple) else (found,)


def trained(name: str) -> nn.Module:
    """A network that has taken two steps, so that no weight or buffer is as it began."""
    torch.manual_seed(1)
    network = build(name, OPTIONS[name])
    steps = torch.optim.SGD(network.parameters(), 0.1)
    for _ in range(2):
        values = torch.randn(2, OPTIONS[name].get("inputs", 1), 3, 8, 8)
        found = network(values) if name == "compact" else [network(values, values > 0)]
        sum((part - 1).square().mean() for part in found).backward()
        steps.step()
    return network


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- round trips


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_answers_the_same_bits_after_loading(tmp_path: Path, name: str) -> None:
    network = trained(name)
    fresh = build(name, OPTIONS[name]).state_dict()
    state = network.state_dict()
    assert any(
        not torch.equal(state[n], fresh[n]) for n in state if n in dict(network.named_buffers())
    ) or not list(network.buffers())
    before = answer(network.eval(), name)
    saved = Checkpoint(described(name), state)
    saved.save(tmp_path / "model")
    loaded = Checkpoint.load(tmp_path / "model")
    assert loaded == saved and hash(loaded) == hash(saved) and loaded.config == saved.config
    again = loaded.network()
    assert not any(module.training for module in again.modules())
    assert all(torch.equal(a, b) for a, b in zip(before, answer(again, name), strict=True))
    assert {n: t.dtype for n, t in again.state_dict().items()} == {
        n: t.dtype for n, t in state.items()
    }


def test_two_files_and_no_pickle(tmp_path: Path) -> None:
    saved = made()
    saved.save(tmp_path / "model")
    assert sorted(os.listdir(tmp_path)) == ["model"]  # noqa: PTH208
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "config.json",
        "weights.safetensors",
    ]
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["format"] == 1 and config["weights_sha256"].startswith(saved.fingerprint)
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads((tmp_path / "model" / "weights.safetensors").read_bytes())


def test_it_holds_copies_and_leaves_random_numbers_alone() -> None:
    network = build("static", OPTIONS["static"])
    before = torch.get_rng_state()
    checkpoint = Checkpoint(described(), network.state_dict())
    first = answer(checkpoint.network(), "static")
    torch.set_rng_state(before)
    with torch.no_grad():
        for one in (network, checkpoint.network()):
            for parameter in one.parameters():
                parameter.add_(1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(answer(checkpoint.network(), "static")[0], first[0])


def test_equality_goes_by_content() -> None:
    assert made(0) == made(0) and len({made(0), made(0), made(1)}) == 2
    assert made(0) != made(1) and made(0).fingerprint != made(1).fingerprint
    assert (
        made(0) != made(0, scaling={"kind": "anomaly", "mean": 1.0, "std": 2.0})
        and made(0) != "checkpoint"
    )
    assert (
        pickle.loads(pickle.dumps(made(0))) == copy.deepcopy(made(0)) == made(0)
    )  # as Dask sends it to workers


def test_it_prints_in_one_line() -> None:
    assert re.fullmatch(
        r"Checkpoint\(static, 20\.1 k parameters, sha256 [0-9a-f]{8}\)", str(made())
    )
    assert repr(made()) == str(made()) == plain(made()) == plain({"model": made()})["model"]


@given(
    st.dictionaries(
        st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    )
)
@settings(max_examples=10, deadline=None)
def test_any_configuration_comes_back(
    tmp_path_factory: pytest.TempPathFactory, notes: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("any") / "model"
    saved = made(data=notes)
    saved.save(folder)
    assert Checkpoint.load(folder).config["data"] == plain(notes)


def test_what_is_no_checkpoint_cannot_be_made() -> None:
    weights = build("static", OPTIONS["static"]).state_dict()
    with pytest.raises(OptionError, match="no network 'sttaic'; did you mean 'static'"):
        Checkpoint({"network": {"name": "sttaic", "options": {}}}, weights)
    with pytest.raises(
        OptionError, match=r"network=None does not describe a network; give \{'name'"
    ):
        Checkpoint({}, weights)
    with pytest.raises(
        InputError, match=r"are not of this network static .*should be of shape"
    ) as raised:
        Checkpoint({"network": {"name": "static", "options": {"base": 3}}}, weights)
    assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match=r"\(1 differ\): more should be of shape none, not \(2,\)"):
        Checkpoint(described(), weights | {"more": torch.zeros(2)})


# --- writing


def test_other_files_stay_when_it_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "log.csv").write_text("epoch")
    for seed in (0, 1, 1):
        made(seed).save(folder)
        assert Checkpoint.load(folder) == made(seed)
        assert sorted(p.name for p in folder.iterdir()) == [
            "config.json",
            "log.csv",
            "weights.safetensors",
        ]


@pytest.mark.parametrize("first", [True, False], ids=["new", "replaced"])
def test_a_kill_at_any_moment_leaves_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    folder, old, new, third = tmp_path / "run" / "model", made(0), made(1), made(2)
    folder.parent.mkdir()
    if not first:
        old.save(folder)
    moments: list[Path] = []

    def watched(real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            moments.append(tmp_path / f"moment{len(moments)}")
            shutil.copytree(folder.parent, moments[-1])
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for owner, name in [
            (os, "replace"),
            (os, "fsync"),
            (Path, "unlink"),
            (Path, "write_bytes"),
        ]:
            patch.setattr(owner, name, watched(getattr(owner, name)))
        new.save(folder)
    found = [Checkpoint.load(m / "model") if (m / "model").exists() else None for m in moments]
    assert len(found) >= 5 and set(found) <= ({None, new} if first else {old, new})
    assert first or (found[0] == old and found[-1] == new)
    for moment in moments:  # and the next save mends what a kill left
        third.save(moment / "model")
        assert Checkpoint.load(moment / "model").config == third.config
        assert not list((moment / "model").glob(".weights*"))


@pytest.mark.parametrize("failing", ["os.replace", "os.fsync", "pathlib.Path.write_bytes"])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_failing_disk_leaves_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, at: int
) -> None:
    folder, old, new = tmp_path / "model", made(0), made(1)
    old.save(folder)
    before, calls = tree(folder), []
    real = {"os.replace": os.replace, "os.fsync": os.fsync}.get(failing, Path.write_bytes)

    def full(*args: Any) -> Any:
        calls.append(args)
        if len(calls) > at:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(failing, full)
        try:
            new.save(folder)
        except WriteError as error:
            assert re.search(r"^cannot write .*model.*No space left on device.*MB free", str(error))
            assert (
                "\n" not in str(error) and tree(folder) == before and Checkpoint.load(folder) == old
            )
        else:
            assert (failing, at) in {
                ("os.replace", 1),
                ("os.replace", 2),
                ("pathlib.Path.write_bytes", 2),
            }
            assert Checkpoint.load(folder) == new
    new.save(folder)
    assert Checkpoint.load(folder) == new and sorted(tree(folder)) == [
        "config.json",
        "weights.safetensors",
    ]


def test_a_full_disk_on_the_first_save_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(WriteError, match="No space left on device"):
        patch.setattr(Path, "write_bytes", full)
        made().save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_where_none_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for name in ("other", "weights"):
        (tmp_path / name).mkdir()
    (tmp_path / "other" / "config.json").write_text('{"architectures": ["Bert"]}')
    (tmp_path / "weights" / "weights.safetensors").write_text("x")
    before = tree(tmp_path)
    for name, message in [
        ("none/model", "does not exist; create it"),
        ("file", "it is a file; a checkpoint is a folder"),
        ("file/model", "is a file"),
        ("other", "over what is there .*config.json is not of sstfill"),
        ("weights", r"over what is there .*holds no config\.json"),
    ]:
        with pytest.raises(WriteError, match=message) as raised:
            made().save(tmp_path / name)
        assert "\n" not in str(raised.value)
    assert tree(tmp_path) == before


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "model", target_is_directory=True)
    for seed in (0, 1):
        made(seed).save(tmp_path / "link")
        assert (tmp_path / "link").is_symlink() and Checkpoint.load(tmp_path / "model") == made(
            seed
        )


# --- reading what is not as it should be


def _edit(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(
        json.dumps({k: v for k, v in config.items() if v is not ...})
    )


def _flip(folder: Path) -> None:
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-5] ^= 1
    (folder / "weights.safetensors").write_bytes(content)


def _cut(folder: Path) -> None:
    content = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(content[: len(content) // 2])


def _swap(folder: Path, content: bytes) -> None:
    (folder / "weights.safetensors").write_bytes(content)
    _edit(folder, weights_sha256=checkpoint_folder.digest(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "no checkpoint .*model; check the path"),
        (
            lambda f: (f / "weights.safetensors").unlink(),
            "holds no weights.safetensors; copy the checkpoint again",
        ),
        (
            lambda f: (f / "config.json").unlink(),
            "is not a checkpoint of sstfill: it holds no config.json",
        ),
        (_flip, "weights.safetensors is truncated or damaged, its SHA-256"),
        (_cut, "weights.safetensors is truncated or damaged"),
        (
            lambda f: (f / "weights.safetensors").write_bytes(b""),
            "weights.safetensors is truncated or damaged",
        ),
        (
            lambda f: (f / "config.json").write_bytes(b'{"format": 1, "uni'),
            "config.json: it is not valid JSON",
        ),
        (
            lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"),
            "config.json: it is not UTF-8 text",
        ),
        (
            lambda f: (f / "config.json").write_bytes(b"[" * 100_000),
            "config.json: it is nested deeper",
        ),
        (lambda f: (f / "config.json").write_text("[1]"), "config.json: it holds"),
        (
            lambda f: (f / "config.json").write_text('{"format": "pt"}'),
            "config.json is not of sstfill",
        ),
        (
            lambda f: _edit(f, format=2, sstfill_version="9.9"),
            "has format 2, written by sstfill 9.9; this is .*update",
        ),
        (lambda f: _edit(f, weights_sha256=...), "lacks weights_sha256 or the network's name"),
        (lambda f: _edit(f, network=None), "lacks weights_sha256 or the network's name"),
        (
            lambda f: _edit(f, network={"name": "transformer", "options": {}}),
            "cannot load .*no network 'transformer'",
        ),
        (
            lambda f: _edit(f, network={"name": "static", "options": {"width": 3}}),
            "no option of network .* 'width'",
        ),
        (
            lambda f: _edit(f, network={"name": "static", "options": {"base": "x"}}),
            "base='x' must be a whole number",
        ),
        (
            lambda f: _edit(f, network={"name": "static", "options": {"base": 3}}),
            "are not of this network static",
        ),
        (lambda f: _swap(f, b"not safe at all"), "weights.safetensors is not a safetensors file"),
        (
            lambda f: _swap(f, safetensors.torch.save({"a": torch.ones(1)})),
            "weights are not of this network static",
        ),
    ],
)
def test_damaged_and_foreign_folders_are_refused_in_one_line(
    tmp_path: Path, damage: Any, message: str
) -> None:
    folder = tmp_path / "model"
    made().save(folder)
    damage(folder)
    with pytest.raises(ReadError, match=message) as raised:
        Checkpoint.load(folder)
    assert "\n" not in str(raised.value) and str(tmp_path) in str(raised.value)


class Trap:
    """Says so when it is unpickled."""

    def __reduce__(self) -> Any:
        return exec, ("import builtins; builtins.sprung = True",)


@pytest.mark.parametrize("name", ["model.pt", "model.ckpt", "model.pkl", "model.bin", "notes.txt"])
def test_pickles_are_never_loaded(tmp_path: Path, name: str) -> None:
    import builtins

    torch.save({"trap": Trap()}, tmp_path / name)
    with pytest.raises(
        ReadError, match=r"is not a checkpoint of sstfill.*pickles .*are never loaded"
    ):
        Checkpoint.load(tmp_path / name)
    (tmp_path / "folder").mkdir()
    shutil.copy(tmp_path / name, tmp_path / "folder")
    with pytest.raises(ReadError, match=r"holds no config\.json"):
        Checkpoint.load(tmp_path / "folder")
    made().save(tmp_path / "model")
    _swap(tmp_path / "model", (tmp_path / name).read_bytes())
    with pytest.raises(ReadError, match="is not a safetensors file"):
        Checkpoint.load(tmp_path / "model")
    assert not hasattr(builtins, "sprung")


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors"])
def test_a_file_of_a_checkpoint_points_to_its_folder(tmp_path: Path, name: str) -> None:
    made().save(tmp_path / "model")
    with pytest.raises(ReadError, match=r"is a file of a checkpoint; give its folder .*model$"):
        Checkpoint.load(tmp_path / "model" / name)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    made().save(tmp_path / "model")
    monkeypatch.setattr(os, "open", refused)  # root, whom chmod does not stop, may run this
    with pytest.raises(ReadError, match="Permission denied"):
        Checkpoint.load(tmp_path / "model")


@pytest.fixture(scope="module")
def saved() -> Checkpoint:
    return made()


@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_any_changed_byte_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, saved: Checkpoint, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("bytes") / "model"
    saved.save(folder)
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / "weights.safetensors").write_bytes(content)
    with pytest.raises(ReadError, match="truncated or damaged"):
        Checkpoint.load(folder)


# --- in Jupyter


def parsed(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(html)


def test_the_summary_tells_scores_and_draws_curves() -> None:
    trained = {"steps": 900, "seconds": 61.5, "device": "cpu", "history": HISTORY}
    shown = made(
        trained=trained, data={"fingerprint": "ab12"}, scores={"dineof": {"mae": 0.61234}}
    )._repr_html_()
    root = parsed(shown)
    cells = {row[0].text: row[1].text for row in root.iter("tr")}
    assert cells["withheld MAE"] == "0.42 in scaled units, best, in epoch 1"
    assert cells["trained on"] == "fingerprint ab12" and cells["scores"] == "dineof mae 0.6123"
    assert cells["training"] == "steps 900, seconds 61.5, device cpu"
    curves = list(root.iter("svg"))
    assert [c[0].text for c in curves] == [
        "training loss: 1.5 to 0.5, least 0.5",
        "withheld MAE: 0.42 to 0.44, least 0.42",
    ]
    points = [
        [tuple(map(float, p.split(","))) for p in c[1].attrib["points"].split()] for c in curves
    ]
    assert [len(p) for p in points] == [3, 2]
    heights = [y for _, y in points[0]]
    assert heights == sorted(heights) and points[0] == sorted(
        points[0]
    )  # a falling loss goes down the page


def test_nothing_in_it_is_markup() -> None:
    evil = "<script>alert('x')</script>&\"<"
    bad = {
        "variable": evil,
        "units": evil,
        "data": {evil: [evil]},
        "scores": {evil: evil},
        "objective": [evil],
    }
    shown = summary(
        evil,
        bad | {"trained": {"device": evil, "history": [{"epoch": evil, "train": evil}, *HISTORY]}},
    )
    parsed(shown)
    assert "<script" not in shown and shown.count("&lt;script&gt;") >= 7


odd = (
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.text(st.characters(codec="ascii", categories=["L"]))
)
entries = odd | st.dictionaries(st.sampled_from(["epoch", "train", "withheld_mae"]), odd)


@given(
    odd
    | st.dictionaries(st.sampled_from(["history", "steps"]), odd | st.lists(entries, max_size=4))
)
@settings(max_examples=25, deadline=None)
@example(
    {
        "history": [
            {"train": 1e308, "epoch": 10**400},
            {"train": -1e308},
            {"train": 1.0, "epoch": 1e308},
        ]
    }
)
def test_whatever_the_history_holds_it_is_shown(trained: Any) -> None:
    shown = summary("Checkpoint", {"trained": trained})
    parsed(shown)
    assert not re.search(r"\b(nan|inf)\b", " ".join(re.findall(r'points="([^"]*)"', shown)))
