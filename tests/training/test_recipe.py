# SPDX-License-Identifier: Apache-2.0
"""Training recipes: those that sstfill has, and one clear line for each mistake in another."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from sstfill.errors import OptionError, ReadError, SstfillError
from sstfill.training.data.oceans import Oceans
from sstfill.training.ocean_training import NEEDED
from sstfill.training.options import PAPER, TrainOptions
from sstfill.training.recipe import ArchiveOptions, load

RECIPES = Path(__file__).parents[2] / "recipes" / "train"


def written(folder: Path, text: str) -> Path:
    (folder / "own.toml").write_text(text, "utf-8")
    return folder / "own.toml"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_says_what_is_done(path: Path) -> None:
    """Each key arrives as it is written, the rest is the default; those for oceans suit oceans."""
    recipe, tables = load(path), tomllib.loads(path.read_text("utf-8"))
    for name, table in tables.items():
        chosen = recipe.train if name == "train" else recipe.on
        assert chosen == type(chosen)(**table)
    assert isinstance(recipe.on, Oceans) is ("oceans" in tables)
    if isinstance(recipe.on, Oceans):
        assert all(getattr(recipe.train, name) in allowed for name, allowed in NEEDED.items())


def test_the_recipes_there_are() -> None:
    assert {path.stem for path in RECIPES.glob("*.toml")} >= {"oceans", "paper", "sst_clouds"}


def test_the_paper_s_recipe_is_the_paper_s() -> None:
    train = load(RECIPES / "paper.toml").train
    assert (train.network, train.objective, train.base, train.discriminator_base) == (
        "paper",
        "adversarial",
        32,
        32,
    )
    assert (train.frames, train.size, train.batch, train.samples * train.epochs) == (
        24,
        64,
        1,
        30_000,
    )
    assert train.recipe == PAPER


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    recipe = load(written(tmp_path, ""))
    assert (recipe.train, recipe.on) == (TrainOptions(), ArchiveOptions())
    assert load(str(written(tmp_path, "[oceans]\n"))).on == Oceans()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[archive]\n[oceans]\n", ["own.toml has both [archive] and [oceans]; keep one"]),
        (
            "[train]\nepoch = 3\n",
            ["no option of TrainOptions 'epoch'; did you mean 'epochs'?", "learning_rate"],
        ),
        (
            "[archive]\ncloud = 'own'\n",
            ["'cloud'; did you mean 'clouds'?", "variable, clouds, truth, start, clips"],
        ),
        (
            "[oceans]\nnumber = 3\n",
            ["no option of Oceans 'number'", "Choose from training, validation, paper, first"],
        ),
        (
            "[trian]\n",
            [
                "no table of a training recipe 'trian'",
                "'train'? Choose from train, archive, oceans",
            ],
        ),
        ("epochs = 3\n", ["no table of a training recipe 'epochs'"]),
        ("train = 3\n", ["train=3 in own.toml is not a table; write [train]"]),
        ("[train]\nepochs = 'many'\n", ["epochs='many'", "it takes int"]),
        ("[train]\nepochs = 0\n", ["epochs=0 must be a whole number, 1 or more"]),
        (
            "[train]\nnetwork = 'big'\n",
            ["network='big'", "'compact', 'paper', 'static' or 'recurrent'"],
        ),
        ("[archive]\ntransform = 'perhaps'\n", ["transform='perhaps'"]),
        ("[oceans]\nfirst = 1\n", ["first=1 must be a whole number, 41 or more"]),
    ],
)
def test_mistakes(text: str, words: list[str], tmp_path: Path) -> None:
    with pytest.raises(OptionError) as raised:
        load(written(tmp_path, text))
    assert "\n" not in str(raised.value)
    for part in words:
        assert part in str(raised.value)


@pytest.mark.parametrize("content", [b"[train\n", b"\xff\xfe", None])
def test_files_that_are_no_recipe(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ReadError, match=r"own\.toml") as raised:
        load(path)
    assert isinstance(raised.value, SstfillError) and "\n" not in str(raised.value)
