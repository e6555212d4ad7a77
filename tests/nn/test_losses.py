# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill.errors import InputError
from sstfill.nn.losses import (
    LOG_SCALE,
    discriminator_hinge,
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


def test_the_likelihood_is_that_of_torch() -> None:
    s, log_scale = sample(), torch.randn(SHAPE)
    w = s["withheld"]
    law = torch.distributions.Laplace(s["estimate"][w], log_scale[w].exp())
    expected = -law.log_prob(s["target"][w]).mean()
    torch.testing.assert_close(laplace_nll(**s, log_scale=log_scale), expected)


def test_log_scale_is_clamped() -> None:
    s = sample()
    for bound, beyond in zip(LOG_SCALE, (-200.0, 200.0), strict=True):
        outside = torch.full(SHAPE, beyond, requires_grad=True)
        clamped = laplace_nll(**s, log_scale=outside)
        at_bound = laplace_nll(**s, log_scale=torch.full(SHAPE, bound))
        torch.testing.assert_close(clamped, at_bound)
        clamped.backward()
        assert outside.grad is not None
        assert not bool(outside.grad.any())


@pytest.mark.parametrize("name", [None, "log_scale"])
def test_gradients_are_finite_and_only_where_withheld(name: str | None) -> None:
    s = sample()
    s["estimate"].requires_grad_()
    log_scale = torch.randn(SHAPE).where(s["withheld"], torch.tensor(float("inf"))).requires_grad_()
    loss = laplace_nll if name else masked_l1
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
    best = error.abs().mean()
    at, below, above = (
        laplace_nll(zero, zero + math.log(best * f), error, all_of_it) for f in (1, 0.8, 1.25)
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
    with pytest.raises(InputError, match="log scale"):
        laplace_nll(**sample(), log_scale=torch.zeros(1))
