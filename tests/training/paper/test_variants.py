# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from sstfill.errors import OptionError
from sstfill.evaluation.paper import datasets, plan, protocol, tables
from sstfill.training import loop
from sstfill.training.paper import variants
from sstfill.training.paper.variants import VARIANTS, VariantTraining, trained


def test_variants_stand_in_the_tables_and_are_trained_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "ROOM", 6)
    chosen = {name: VARIANTS[name] for name in ("gan-static", "gan-paired")}
    training = VariantTraining(steps=1, base=1, occluded_value=0.0, folder=str(tmp_path))
    sizes = {"frames": 3, "size": 34}
    few = {"images": 36, "variants": chosen}
    networks = dict(trained(training, **sizes, **few, seed=0, device="cpu"))
    wanted = plan.ProtocolPlan(
        sequences=2,
        fractions=(0.395,),
        methods=("interpolate",),
        operators=("cloud",),
        training=str(training),
        **sizes,
    )
    results = protocol.run(wanted, datasets.find(), {"synthetic ocean": networks}).results
    options = [network.checkpoint.config["network"]["options"] for network in networks.values()]
    assert [own["fill"] for own in options] == [0.0, 0.0]
    assert set(results.method.values) == {"interpolate", *chosen}
    assert not any(results.reason.values)
    assert bool((results.frechet_frames > 0).all())
    text = tables.to_markdown(results)
    assert "| gan-static | " in text and "| gan-paired | " in text
    assert "1 steps of one sequence, C_base 1, occluded value 0" in text

    def untrained(*_: object) -> int:
        raise AssertionError("trained again")

    monkeypatch.setattr(loop, "learn", untrained)
    again = dict(trained(training, **sizes, **few, seed=0, device="cpu"))
    repeated = protocol.run(wanted, datasets.find(), {"synthetic ocean": again}).results
    assert repeated.drop_vars("seconds").identical(results.drop_vars("seconds"))


def test_options_out_of_range_are_refused() -> None:
    for options in ({"steps": 0}, {"steps": 1, "base": 0}, {"steps": 1, "occluded_value": 2}):
        with pytest.raises(OptionError, match="must be"):
            VariantTraining(**options)
