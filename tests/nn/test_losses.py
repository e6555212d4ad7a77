# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill.errors import InputError
from sstfill.nn.losses import (
    LOG_SCALE,
    discriminator_hinge,
    gaussian_nll,
    generator_hinge,
    laplace_nll,
    masked_l1,
)

SHAPE = (2, 1, 3, 4, 5)


def sample() -> dict[str, torch.Tensor]:
    """Answers, targets (NaN where not withheld) and what is withheld."""
    withheld = torch.rand(SHAPE) < 0.4
    return {
        "estimate": torch.randn(SHAPE),
        "target": torch.where(withheld, torch.randn(SHAPE), float("nan")),
        "withheld": withheld,
    }


def test_l1_is_the_mean_over_withheld_pixels() -> None:
    s = sample()
    w = s["withheld"]
    torch.testing.assert_close(masked_l1(**s), (s["estimate"][w] - s["target"][w]).abs().mean())


@pytest.mark.parametrize(
    ("loss", "name", "law"),
    [
        (laplace_nll, "log_scale", torch.distributions.Laplace),
        (gaussian_nll, "log_sigma", torch.distributions.Normal),
    ],
)
def test_likelihoods_are_those_of_torch(loss: Any, name: str, law: Any) -> None:
    s, log_scale = sample(), torch.randn(SHAPE)
    w = s["withheld"]
    expected = -law(s["estimate"][w], log_scale[w].exp()).log_prob(s["target"][w]).mean()
    torch.testing.assert_close(loss(**s, **{name: log_scale}), expected)


@pytest.mark.parametrize(
    ("loss", "name"), [(laplace_nll, "log_scale"), (gaussian_nll, "log_sigma")]
)
def test_log_scale_is_clamped(loss: Any, name: str) -> None:
    s = sample()
    for bound, beyond in zip(LOG_SCALE, (-200.0, 200.0), strict=True):
        outside = torch.full(SHAPE, beyond, requires_grad=True)
        clamped = loss(**s, **{name: outside})
        torch.testing.assert_close(clamped, loss(**s, **{name: torch.full(SHAPE, bound)}))
        clamped.backward()
        assert outside.grad is not None
        assert not bool(outside.grad.any())


@pytest.mark.parametrize("name", [None, "log_scale", "log_sigma"])
def test_gradients_are_finite_and_only_where_withheld(name: str | None) -> None:
    s = sample()
    s["estimate"].requires_grad_()
    log_scale = torch.randn(SHAPE).where(s["withheld"], torch.tensor(float("inf"))).requires_grad_()
    loss = {None: masked_l1, "log_scale": laplace_nll, "log_sigma": gaussian_nll}[name]
    loss(**s, **({name: log_scale} if name else {})).backward()
    for tensor in (s["estimate"], log_scale) if name else (s["estimate"],):
        assert tensor.grad is not None
        assert bool(tensor.grad.isfinite().all())
        assert torch.equal(tensor.grad != 0, s["withheld"])


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0.05, 20), seed=st.integers(0, 99))
def test_the_true_scale_is_the_most_likely(scale: float, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    error = scale * torch.randn(4000, generator=rng, dtype=torch.float64)
    zero, all_of_it = torch.zeros_like(error), torch.ones_like(error, dtype=torch.bool)
    for loss, best in (
        (gaussian_nll, error.square().mean().sqrt()),
        (laplace_nll, error.abs().mean()),
    ):
        at, below, above = (
            loss(zero, zero + math.log(best * f), error, all_of_it) for f in (1, 0.8, 1.25)
        )
        assert at < min(below, above)


def test_hinges() -> None:
    sure_real, sure_fake = torch.full((2, 3), 1.5), torch.full((2, 3), -1.5)
    assert float(discriminator_hinge(sure_real, sure_fake)) == 0.0
    assert float(discriminator_hinge(torch.zeros(4), torch.zeros(4))) == 2.0
    assert float(discriminator_hinge(sure_fake, sure_real)) == 5.0
    assert float(generator_hinge(sure_fake)) == 1.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"withheld": torch.zeros(SHAPE, dtype=torch.bool)}, "no pixel is withheld"),
        ({"withheld": torch.ones(SHAPE)}, r"torch\.float32"),
        ({"withheld": torch.ones(SHAPE, dtype=torch.bool)}, "no finite target"),
        ({"estimate": torch.zeros(1)}, "differ in shape"),
    ],
)
def test_input_is_checked(change: dict[str, torch.Tensor], message: str) -> None:
    for loss, scale in ((masked_l1, {}), (laplace_nll, {"log_scale": torch.zeros(SHAPE)})):
        with pytest.raises(InputError, match=message):
            loss(**{**sample(), **change}, **scale)
    with pytest.raises(InputError, match="log sigma"):
        gaussian_nll(**sample(), log_sigma=torch.zeros(1))
