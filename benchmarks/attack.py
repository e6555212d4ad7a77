# SPDX-License-Identifier: Apache-2.0
"""What comes of damaged and hostile inputs, models, recipes and jobs, of signals, full disks and
odd worlds.

Run: OMP_NUM_THREADS=1 python benchmarks/attack.py --label after [--seed N] [--scale 0.1] [--only
CLASS]

Everything lies in one temporary folder, and nothing leaves this machine.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

import attack_configs
import attack_disks
import attack_inputs
import attack_numbers
import attack_outputs
import attack_signals
import attack_worlds
from attack_yard import ENDINGS, EXTRAS, LIMIT, LIMIT_WHOLE, Case, Verdict, aside, attack, warm
from report import ROOT, heading, publish, table

CLASSES: dict[str, tuple[str, Callable[[Path, random.Random], Iterable[Case]]]] = {
    "inputs": ("damaged and hostile inputs", attack_inputs.cases),
    "configs": ("altered models, recipes, jobs, histories", attack_configs.cases),
    "outputs": ("outputs that must not be replaced", attack_outputs.cases),
    "numbers": ("odd numbers", attack_numbers.cases),
    "worlds": ("odd worlds and words", attack_worlds.cases),
    "disks": ("full disks", attack_disks.cases),
    "signals": ("signals", attack_signals.cases),
}
TITLE = "Attacks: what comes of damaged, altered and hostile files, signals and full disks"
GOAL = (
    "The goal is 0 in each column right of *done*. *One line*: refused, or ended by a "
    "signal, with the exit status that says so and one line of an error. *Done*: exit "
    "status 0, observed values as they were. *Traceback*: also a crash, or exit status "
    "70. *Hang*: over {limit:.0f} s, of a process of its own over {whole:.0f} s. "
    "*Silent*: done without a word where one was due. *Noisy*: lines that are not "
    "sstfill's own, doubled lines, terminal escapes. *False*: says that an output is "
    "unchanged which is not. *Memory*: over 2 GiB. *Lost*: something changed that was "
    "the user's. *Leaked*: a file that nobody gave is in the output. *Code run*: a "
    "payload ran. *Litter*: something new is left beside the output. *Orphan*: a process "
    "that goes on."
)
PAGE = ROOT / "docs" / "benchmarks" / "attack.md"
SHOWN = 60
"""Failures that the page lists at most."""


def chosen(cases: Iterable[Case], scale: float, rng: random.Random) -> list[Case]:
    """A fraction of the cases, in their order."""
    found = list(cases)
    count = max(1, round(scale * len(found)))
    return [found[k] for k in sorted(rng.sample(range(len(found)), count))]


def run(name: str, home: Path, seed: int, scale: float) -> tuple[int, list[Verdict], float]:
    """All attacks of one class; how many cases they were, and how long they took."""
    rng = random.Random(f"{seed} {name}")
    began = time.perf_counter()
    cases = chosen(CLASSES[name][1](home / "bases", rng), scale, rng)
    verdicts = []
    for k, case in enumerate(cases):
        for verdict in attack(case, home / f"case{k}", random.Random(f"{seed} {name} {k}")):
            verdicts.append(verdict)
            if verdict.bad:
                print(told(verdict), flush=True)
    return len(cases), verdicts, time.perf_counter() - began


def told(verdict: Verdict) -> str:
    """One line about a failure."""
    what = ", ".join([verdict.ending, *verdict.extras])
    return f"{what}: {verdict.case}: {verdict.words}: {verdict.text}"


def counted(verdicts: list[Verdict]) -> list[int]:
    """How often each ending and each extra was met."""
    endings = Counter(verdict.ending for verdict in verdicts)
    extras = Counter(extra for verdict in verdicts for extra in verdict.extras)
    return [*(endings[name] for name in ENDINGS), *(extras[name] for name in EXTRAS)]


def section(asked: argparse.Namespace, rows: list[list[object]], every: list[Verdict]) -> str:
    """What the page says of one run."""
    totals = [sum(row[k] for row in rows) for k in range(1, len(rows[0]))]  # type: ignore[misc]
    bad = [verdict for verdict in every if verdict.bad]
    peak = max(verdict.peak for verdict in every)
    measured = heading(
        "",
        seed=asked.seed,
        fraction_of_the_cases=f"{asked.scale:g}",
        libraries=", ".join(
            f"{name} {version(name)}" for name in ("netCDF4", "zarr", "numcodecs", "dask")
        ),
        data="series of 12 x 10 x 14 in NetCDF 3 and 4, Zarr v2 and v3, and what was made of them",
        peak_of_memory=f"{peak / 1e9:.2f} GB of a command, with the libraries",
        full_disks=attack_disks.means(),
    ).removeprefix("# \n\n")
    head = ["class", "cases", "commands", *ENDINGS, *EXTRAS, "minutes"]
    kinds = Counter(
        (cause(verdict), ", ".join([verdict.ending, *verdict.extras])) for verdict in bad
    )
    listed = [[count, what, why] for (why, what), count in kinds.most_common(SHOWN)]
    text = f"## {asked.label}\n\n{measured}{table(head, [*rows, ['all', *totals]])}"
    if listed:
        text += f"\n{len(bad)} commands failed, in {len(kinds)} kinds; the most frequent:\n\n"
        text += table(["commands", "what", "last words"], listed)
    return text


def cause(verdict: Verdict) -> str:
    """The last words of a command without what differs from case to case."""
    words = re.sub(r"0x[0-9a-f]+|\d+", "N", verdict.text).replace("|", "/")
    return "`" + words[:110].replace("`", "'") + "`"


def other_sections(label: str) -> dict[str, str]:
    """The sections of the page that other labels wrote."""
    if not PAGE.exists():
        return {}
    parts = re.split(r"^## (\w+)\n", PAGE.read_text(), flags=re.MULTILINE)
    return {
        name: f"## {name}\n{text}"
        for name, text in zip(parts[1::2], parts[2::2], strict=True)
        if name != label
    }


def page(label: str, text: str) -> str:
    """The page with one section written anew."""
    sections = other_sections(label) | {label: text}
    body = "\n".join(sections[name] for name in ("before", "after") if name in sections)
    return f"# {TITLE}\n\n{GOAL.format(limit=LIMIT, whole=LIMIT_WHOLE)}\n\n{body}"


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(description="attack sstfill, and count what comes of it")
    parser.add_argument(
        "--label", choices=["before", "after"], help="write docs/benchmarks/attack.md, this section"
    )
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the cases to run")
    parser.add_argument(
        "--only", choices=CLASSES, action="append", help="run this class; may be repeated"
    )
    return parser.parse_args()


def main() -> int:
    """Run the attacks, print the counts, and write the page where a label is given."""
    asked = arguments()
    rows: list[list[object]] = []
    every: list[Verdict] = []
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        home = Path(folder) / "yard"
        home.mkdir()
        warm()
        aside(lambda: attack_inputs.make_bases(home / "bases"), home)
        for name in asked.only or CLASSES:
            count, verdicts, seconds = run(name, home, asked.seed, asked.scale)
            every += verdicts
            rows.append(
                [CLASSES[name][0], count, len(verdicts), *counted(verdicts), round(seconds / 60, 1)]
            )
            print(
                table(["class", "cases", "commands", *ENDINGS, *EXTRAS, "minutes"], rows[-1:]),
                flush=True,
            )
            if asked.label is not None:
                PAGE.write_text(
                    page(asked.label, section(asked, rows, every))
                )  # a run that is cut short has a page, too
    text = section(asked, rows, every)
    if asked.label is None:
        print(text)
    else:
        publish("attack", page(asked.label, text))
    return 1 if any(verdict.bad for verdict in every) else 0


if __name__ == "__main__":
    sys.exit(main())
