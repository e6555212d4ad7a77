# SPDX-License-Identifier: Apache-2.0
"""``sstfill train``: from an archive, or from a recipe of synthetic oceans, to a checkpoint."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator
from typing import Any, get_args

from sstfill import config, training
from sstfill.cli.options import PREFIX, add_field, flag, takes
from sstfill.cli.source import add_input, sea, series
from sstfill.docstrings import parameters
from sstfill.errors import OptionError
from sstfill.fields import transform
from sstfill.io.output import place
from sstfill.methods import Gan
from sstfill.training.data.oceans import Oceans
from sstfill.training.ocean_training import train_on_oceans
from sstfill.training.options import TrainOptions
from sstfill.training.recipe import ArchiveOptions, TrainRecipe, load
from sstfill.training.train import train

HOW, WHAT = PREFIX + "train:", PREFIX + "archive:"


def add_train(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``sstfill train``, generated from the recipe's tables."""
    add_input(parser, unless="where the recipe trains on synthetic oceans")
    parser.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="folder of the checkpoint, its log (log.csv) and the state to resume from",
    )
    parser.add_argument(
        "--recipe",
        metavar="TOML",
        help="what to train on and how; the options below take precedence",
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue the training in --out, if there is one"
    )
    of_train = parameters(train)
    for title, cls, prefix in (("archive", ArchiveOptions, WHAT), ("training", TrainOptions, HOW)):
        group, own = parser.add_argument_group(title), parameters(cls)
        for field in dataclasses.fields(cls):
            # the table's own words, else those of the argument of `train` that it becomes
            words = own.get(field.name) or of_train.get(field.name, "")
            plain = words.replace("`", "").removesuffix(".")
            text = f"{plain} (default: {str(field.default).lower()})".strip()
            # A type that has a name is a choice.
            name = str(field.type).removesuffix(" | None")
            kind = getattr(training.options, name, None) or getattr(transform, name, None)
            choices = get_args(kind)
            short = "|".join(choices) or takes(field)
            add_field(group, field, short, prefix + field.name, text)


def run_train(args: argparse.Namespace) -> Iterator[str]:
    """Train, and report the scores."""
    started = time.perf_counter()
    model = _trained(args, _recipe(args))
    checkpoint = model.checkpoint
    trained, scores = checkpoint.config["trained"], checkpoint.config["scores"]
    yield f"{checkpoint}: {trained['stopped']}; best epoch {trained['best_epoch']}"
    error, bias = scores["withheld_mae"], scores["withheld_bias"]
    yield f"withheld MAE {error:.4g} (scaled units), bias {bias:.2g}"
    yield f"written to {args.out} in {time.perf_counter() - started:.1f} s"


def _trained(args: argparse.Namespace, recipe: TrainRecipe) -> Gan:
    if isinstance(recipe.on, Oceans):
        if args.inputs:
            raise OptionError(
                f"{args.recipe} trains on synthetic oceans; leave out {args.inputs[0]}, or [oceans]"
            )
        return train_on_oceans(recipe.train, recipe.on, args.out, resume=args.resume)
    if not args.inputs:
        raise OptionError(
            "there is nothing to train on; give an archive (NetCDF, Zarr), "
            "or a recipe with an [oceans] table"
        )
    for given in args.inputs:
        place.check_apart(args.out, given, around=True)
    with series(args) as ds:
        return train(
            ds, recipe.train, sea=sea(args.sea), out=args.out, resume=args.resume, **vars(recipe.on)
        )


def _recipe(args: argparse.Namespace) -> TrainRecipe:
    """The recipe, with the options given in place of its own."""
    recipe = load(args.recipe) if args.recipe else TrainRecipe(TrainOptions(), ArchiveOptions())
    how = config.build(TrainOptions, vars(recipe.train) | _given(args, HOW, TrainOptions))
    what = _given(args, WHAT, ArchiveOptions)
    if isinstance(recipe.on, Oceans):
        if what:
            raise OptionError(
                f"{flag(next(iter(what)))} is for an archive, and {args.recipe} trains on "
                "synthetic oceans; leave it out"
            )
        return TrainRecipe(how, recipe.on)
    return TrainRecipe(how, config.build(ArchiveOptions, vars(recipe.on) | what))


def _given(args: argparse.Namespace, prefix: str, cls: type) -> dict[str, Any]:
    kinds = {f.name: str(f.type) for f in dataclasses.fields(cls)}
    given = {k.removeprefix(prefix): v for k, v in vars(args).items() if k.startswith(prefix)}
    for name, value in given.items():
        if str(value).lower() == "none" and "None" in kinds[name]:
            given[name] = None
    return given
