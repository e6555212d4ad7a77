# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from sstfill.errors import OptionError
from sstfill.evaluation.paper import datasets, plan, protocol, tables, variants
from sstfill.evaluation.paper.variants import VARIANTS, VariantTraining
from sstfill.training import loop


def test_variants_stand_in_the_tables_and_are_trained_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {name: VARIANTS[name] for name in ("gan-static", "gan-paired")}
    monkeypatch.setattr(variants, "VARIANTS", chosen)
    monkeypatch.setattr(variants, "IMAGES", 60)
    training = VariantTraining(steps=1, base=1, folder=str(tmp_path))
    wanted = plan.ProtocolPlan(
        sequences=2,
        frames=3,
        size=34,
        fractions=(0.395,),
        methods=("interpolate",),
        operators=("cloud",),
        training=training,
    )
    results = protocol.run(wanted, datasets.find()).results
    assert set(results.method.values) == {"interpolate", *chosen}
    assert not any(results.reason.values)
    assert bool((results.frechet_frames > 0).all())
    text = tables.to_markdown(results)
    assert "| static | adversarial |" in text and "| paper | paired |" in text

    def untrained(*_: object) -> int:
        raise AssertionError("trained again")

    monkeypatch.setattr(loop, "learn", untrained)
    again = protocol.run(wanted, datasets.find()).results
    assert again.drop_vars("seconds").identical(results.drop_vars("seconds"))


def test_options_out_of_range_are_refused() -> None:
    for options in ({"steps": 0}, {"steps": 1, "base": 0}):
        with pytest.raises(OptionError, match="must be"):
            VariantTraining(**options)
