# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from waves import Waves, compact, paper, sample_of, small

from sstfill.errors import InputError, OptionError
from sstfill.nn.losses import laplace_nll, masked_l1
from sstfill.training.data.sample import Batches, Sample, usable
from sstfill.training.forward import CompletedBatch, complete
from sstfill.training.objectives.adversary import Adversary, known_at_sea, seen_again
from sstfill.training.objectives.compose import compose

SIDE = 34


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def batch(count: int = 2, size: int = SIDE) -> Sample:
    return next(
        iter(
            Batches(
                Waves(size=size, samples=count).epoch(0, np.random.default_rng(0)),
                count,
                needs_withheld=True,
            )
        )
    )


def options(**given: object):
    return small(size=SIDE, **given)


def completion(sample: Sample) -> CompletedBatch:
    found = complete(paper(), sample)
    assert torch.equal(found.values[sample.observed], sample.values[sample.observed])
    return found


@pytest.mark.parametrize(
    ("objective", "terms"),
    [
        ("withheld", {"withheld": 1.0}),
        ("adversarial", {"adversarial": 1.0}),
        ("withheld+adversarial", {"withheld": 1.0, "adversarial": 0.25}),
        ("paired", {"l1": 1.0, "adversarial": 0.25}),
        ("unpaired", {"adversarial": 1.0}),
    ],
)
def test_an_objective_is_the_weighted_sum_of_its_terms(
    objective: str, terms: dict[str, float]
) -> None:
    sample = batch()
    composed = compose(objective, options(objective=objective, adversarial_weight=0.25))
    total, losses = composed(completion(sample), sample)
    assert {term.name: weight for weight, term in composed.terms} == terms
    assert losses.keys() == terms.keys()
    assert (composed.adversary is None) == ("adversarial" not in terms)
    assert total.item() == pytest.approx(
        sum(terms[name] * loss.item() for name, loss in losses.items()), abs=1e-6
    )


def test_an_unknown_objective_is_named() -> None:
    with pytest.raises(OptionError, match="did you mean 'withheld'"):
        compose("witheld", options())


def test_the_withheld_term_is_the_likelihood_where_a_scale_is_stated() -> None:
    sample = batch()
    term = compose("withheld", options())
    stated, plain = complete(compact(), sample), completion(sample)
    assert stated.log_scale is not None
    likelihood = laplace_nll(stated.values, stated.log_scale, sample.values, sample.withheld)
    fraction = masked_l1(
        stated.values, sample.values, sample.withheld
    )  # of the first guess's error
    fraction = fraction / masked_l1(sample.guess, sample.values, sample.withheld)
    torch.testing.assert_close(term(stated, sample)[0], likelihood + fraction, rtol=1e-3, atol=0)
    torch.testing.assert_close(fraction, torch.tensor(1.0))  # a new network answers the first guess
    assert term(plain, sample)[0] == masked_l1(plain.values, sample.values, sample.withheld)


def test_a_new_compact_network_answers_the_first_guess_and_its_error() -> None:
    sample = batch()
    found = complete(compact(), sample)
    gap = ~sample.observed
    assert torch.equal(found.values[gap], sample.guess[gap])
    assert found.log_scale is not None
    torch.testing.assert_close(found.log_scale.exp(), sample.error)


def test_what_the_discriminators_compare() -> None:
    sample, adversary = batch(), Adversary(base=1, fill=7.0)
    fake = torch.full_like(sample.values, 0.5)
    known = sample.observed | sample.withheld
    real, _ = adversary.views(sample.values, known_at_sea(sample))
    again, _ = adversary.views(fake, seen_again(sample))
    assert torch.equal(real[known], sample.values[known])
    assert (real[~known] == 7).all()
    assert (again[sample.second_mask] == 0.5).all()
    assert (again[~sample.second_mask] == 7).all()


def test_land_tells_real_from_fake_by_nothing() -> None:
    sample = batch()
    careless = sample._replace(
        second_mask=torch.ones_like(sample.second_mask), observed=~sample.withheld
    )
    adversary = Adversary(base=1)
    real, _ = adversary.views(careless.values, known_at_sea(careless))
    again, _ = adversary.views(torch.zeros_like(sample.values), seen_again(careless))
    for shown in (real, again):
        assert (shown[~sample.sea] == 1).all()


def test_with_the_truth_at_hand_true_and_completed_sequences_are_compared() -> None:
    sample = batch()
    sea, truth = sample.sea, torch.rand_like(sample.values)
    supervised = sample._replace(
        values=truth * sea, withheld=sea & ~sample.observed, second_mask=torch.ones_like(sea)
    )
    adversary, fake = Adversary(base=1), torch.rand_like(truth)
    real, _ = adversary.views(supervised.values, known_at_sea(supervised))
    again, _ = adversary.views(fake, seen_again(supervised))
    assert torch.equal(real[sea], truth[sea])
    assert torch.equal(again[sea], fake[sea])


def test_discriminators_that_are_told_the_mask_see_no_occluded_value() -> None:
    sample = batch()
    seen = seen_again(sample)
    low, high = torch.where(seen, 0.3, -1.0), torch.where(seen, 0.3, 1.0)
    low[:, :, 1] += 0.2 * seen[:, :, 1]
    high[:, :, 1] += 0.2 * seen[:, :, 1]
    told = Adversary(base=1, masks=True)
    for one, other in zip(told.views(low, seen), told.views(high, seen), strict=True):
        assert torch.equal(one, other)
    frames, changes = told.views(low, seen)
    assert torch.equal(frames[:, 1:], seen.float())
    both = seen[:, :, 1:] & seen[:, :, :-1]
    assert torch.equal(changes[:, 1:], both.float())
    assert torch.allclose(changes[:, :1, :1][both[:, :, :1]], torch.tensor(0.2))
    assert (changes[:, :1][~both] == 0).all()
    scores = told.scores(low, seen)
    assert [tuple(score.shape) for score in scores] == [(2, 3), (2,)]


def test_a_generator_gains_nothing_by_values_that_a_told_mask_hides() -> None:
    sample, fake = batch(), torch.zeros(2, 1, 3, SIDE, SIDE, requires_grad=True)
    Adversary(base=1, masks=True).generator_loss(fake, sample).backward()
    assert fake.grad is not None
    assert (fake.grad[~seen_again(sample)] == 0).all()
    assert (fake.grad[seen_again(sample)] != 0).any()


def test_each_side_learns_from_its_own_loss_only() -> None:
    sample, adversary = batch(), Adversary(base=1)
    fake = completion(sample).values.detach().requires_grad_()
    adversary(fake, sample).backward()
    assert fake.grad is None
    assert all(p.grad is not None and p.grad.isfinite().all() for p in adversary.parameters())
    adversary.zero_grad()
    adversary.generator_loss(fake, sample).backward()
    assert fake.grad is not None
    seen = sample.second_mask & sample.sea
    assert (fake.grad[~seen] == 0).all()
    assert (fake.grad[seen] != 0).any()
    assert all(p.grad is None and p.requires_grad for p in adversary.parameters())


def test_the_discriminators_learn_to_tell_waves_from_noise() -> None:
    sample, adversary = batch(), Adversary(base=2)
    fake = torch.rand_like(sample.values)
    optimiser = torch.optim.Adam(adversary.parameters(), 1e-3, (0.0, 0.999))
    losses = []
    for _ in range(15):
        optimiser.zero_grad()
        loss = adversary(fake, sample)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_the_static_network_faces_no_discriminator_of_sequences() -> None:
    with_sequences = compose("adversarial", options(objective="adversarial")).adversary
    static = compose("adversarial", options(objective="adversarial", network="static")).adversary
    assert with_sequences is not None
    assert static is not None
    assert [type(judge).__name__ for judge in with_sequences.discriminators] == [
        "FrameDiscriminator",
        "SequenceDiscriminator",
    ]
    assert [type(judge).__name__ for judge in static.discriminators] == ["FrameDiscriminator"]


def test_sequences_may_be_judged_by_their_plain_frames() -> None:
    adversary = compose(
        "adversarial", options(objective="adversarial", differences=False)
    ).adversary
    assert adversary is not None
    assert not adversary.discriminators[1].differences


# Samples
# ------------------------------------------------------------------------------------------


def one(**masks: object) -> Sample:
    shape = (2, 4, 4)
    usual = {
        "observed": np.ones(shape),
        "withheld": np.zeros(shape),
        "again": np.ones(shape),
        "sea": np.ones(shape),
    }
    return sample_of(np.full(shape, 0.5), **(usual | masks))


@pytest.mark.parametrize("hidden", [True, False])
def test_sequences_of_no_use_are_left_out_and_counted(hidden: bool) -> None:
    seen = np.indices((2, 4, 4)).sum(0) % 2 == 0
    good, nothing_hidden = one(observed=seen, withheld=~seen), one()
    cloudy = one(observed=np.zeros_like(seen), withheld=seen)
    nan = good._replace(values=torch.full_like(good.values, float("nan")))
    nan_guess = good._replace(guess=torch.full_like(good.values, float("nan")))
    stream = [good, cloudy, nan, nothing_hidden, nan_guess, good, good]
    batches = Batches(stream, 2, needs_withheld=hidden)
    sizes = [len(sample.values) for sample in batches]
    assert (sizes, batches.skipped) == (([2, 1], 4) if hidden else ([2, 2], 3))
    assert [usable(sample, needs_withheld=hidden) for sample in stream[:2]] == [True, False]


def test_a_leak_and_wrong_shapes_are_refused() -> None:
    leaky = one(withheld=np.ones((2, 4, 4)))
    with pytest.raises(InputError, match="32 withheld pixels are also observed"):
        list(Batches([leaky], 1, needs_withheld=False))
    good = one()
    with pytest.raises(InputError, match="mask"):
        list(Batches([good._replace(sea=good.sea.float())], 1, needs_withheld=False))
    with pytest.raises(InputError, match="channels of shape"):
        list(Batches([good._replace(channels=good.channels[:, :1])], 1, needs_withheld=False))
    short = Sample(*(part[:, :1] for part in good))
    with pytest.raises(InputError, match="differ in shape"):
        list(Batches([good, short], 2, needs_withheld=False))


class Counted(list):
    """Sequences that remember which of them were asked for."""

    def __getitem__(self, k):
        self.asked = [*getattr(self, "asked", []), k]
        return super().__getitem__(k)


def test_processes_share_sequences_without_overlap() -> None:
    stream = [
        dataclasses.replace(Waves(), size=8).sample(np.random.default_rng(k)) for k in range(5)
    ]
    fractions = [
        list(Batches(iter(stream), 1, needs_withheld=True, rank=rank, processes=2))
        for rank in (0, 1)
    ]
    assert [len(fraction) for fraction in fractions] == [3, 2]
    assert all(
        torch.equal(batch.values[0], stream[2 * k + 1].values)
        for k, batch in enumerate(fractions[1])
    )
    counted = Counted(stream)
    list(Batches(counted, 1, needs_withheld=True, rank=1, processes=2))
    assert counted.asked == [1, 3]


def test_batches_close_what_they_are_made_of() -> None:
    stream = Waves().epoch(0, np.random.default_rng(0))
    batches = Batches(stream, 2, needs_withheld=True)
    next(iter(batches))
    batches.close()
    assert next(stream, None) is None
    Batches([one()], 1, needs_withheld=False).close()
