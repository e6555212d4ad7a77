# SPDX-License-Identifier: Apache-2.0
"""The paper's protocol: true sequences, occluded by each operator, filled by each method, scored
where occluded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
import zlib
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import OptionError, SstfillError
from sstfill.evaluation.paper.datasets import Materials
from sstfill.evaluation.paper.plan import CLOUD, MIDDLE, Case, ProtocolPlan, cases
from sstfill.fill import fill
from sstfill.methods import Method
from sstfill.progress import track
from sstfill.validation import metrics

WHOLE, STATIC = "sequence", "static"
CHOOSER = "auto"  # tries the others; of a single image it can try none
SCORES = ("mae", "rmse", "bias", "n", "filled_share", "seconds")


class Score(NamedTuple):
    """Errors of one fill over the occluded pixels; what was left unfilled counts as the mean of
    what was seen.
    """

    mae: float = math.nan
    rmse: float = math.nan
    bias: float = math.nan
    n: float = 0
    filled_share: float = math.nan
    seconds: float = math.nan
    reason: str = ""


class Sequence(NamedTuple):
    """A true sequence, what is seen of it, and where it is sea."""

    truth: xr.Dataset
    seen: xr.Dataset
    sea: xr.DataArray
    observed: NDArray[np.bool_]

    @property
    def hidden(self) -> NDArray[np.bool_]:
        """Occluded pixels, ``(time, y, x)``."""
        return ~self.observed & self.sea.values


class ProtocolResult(NamedTuple):
    """Scores of all fills, and some sequences to look at.

    `results` has dims ``(row, sequence)``: a row is a data set, an operator, a share, a method and
    a variant. `samples` have dims ``(picture, time, y, x, channel)``: truth, occluded, and each
    method.
    """

    results: xr.Dataset
    samples: list[xr.DataArray]


def run(plan: ProtocolPlan, materials: Materials) -> ProtocolResult:
    """Run the protocol.

    Parameters
    ----------
    plan
        How much, and how.
    materials
        On what; see `sstfill.evaluation.paper.datasets.find`.

    Returns
    -------
    Outcome
        A method that fails has a ``reason`` in its row and NaN for scores; it stops nothing.

    Raises
    ------
    OptionError
        No case is left by `plan.operators`.
    """
    todo = list(cases(plan, materials))
    if not todo:
        raise OptionError(
            f"operators={plan.operators!r} leave nothing to run on these data; leave the option out"
        )
    methods, samples, shown = plan.chosen, [], _to_show(todo)
    jobs = [(number, k) for number in range(len(todo)) for k in range(plan.sequences)]
    scores: dict[tuple[int, str, str], list[Score]] = {}
    facts: dict[int, list[tuple[float, float, str]]] = {}
    pictures: dict[str, xr.Dataset]
    for number, k in track(jobs, "paper protocol", len(jobs)):
        case, pictures = todo[number], {}
        drawn = _drawn(case, plan, k)
        facts.setdefault(number, []).append(_facts(drawn))
        for name, method in methods.items():
            for variant in _variants(case, method):
                score, filled = _judged(drawn, method, variant)
                scores.setdefault((number, name, variant), []).append(score)
                pictures |= {name: filled} if filled is not None and variant == WHOLE else {}
        if k == 0 and number in shown and isinstance(drawn, Sequence):
            samples.append(_sample(case, drawn, pictures))
    rows = [
        _row(todo[n], name, variant, found, facts[n])
        for (n, name, variant), found in scores.items()
    ]
    results = xr.concat(rows, "row", coords="different", compat="equals", join="exact")
    return ProtocolResult(results.assign_attrs(_attrs(plan, todo, facts)), samples)


def _to_show(todo: list[Case]) -> set[int]:
    """The cases to draw a sample of: the first of each kind of data, under clouds at 39.5 % or
    raindrops.
    """
    first: dict[str, int] = {}
    for number, case in enumerate(todo):
        fitting = (
            case.operator == "raindrops" if case.source.kind == "clip" else case.share == MIDDLE
        )
        if fitting:
            first.setdefault(
                f"{case.source.kind} {case.source.name if case.source.kind == 'clip' else ''}",
                number,
            )
    return set(first.values())


def _rng(*words: int | str) -> np.random.Generator:
    return np.random.default_rng(
        [w if isinstance(w, int) else zlib.crc32(w.encode()) for w in words]
    )


def _drawn(case: Case, plan: ProtocolPlan, k: int) -> Sequence | str:
    """Sequence `k` of a case, or the reason why there is none."""
    frames = plan.clip_frames if case.source.kind == "clip" else plan.frames
    try:
        truth = case.source.draw(frames, plan.size, _rng(plan.seed, k, case.source.name))
        first = next(iter(truth.data_vars.values()))
        observed = case.masks.draw(first.shape, _rng(plan.seed, k, case.drawn_by))  # type: ignore[arg-type]
    except SstfillError as error:
        return str(error)
    sea = first.notnull().any("time").drop_vars("time", errors="ignore")
    drawn = Sequence(truth, truth.where(first.copy(data=observed)), sea, observed)
    if not drawn.hidden.any() or not (observed & sea.values).any():
        return "the mask hides nothing, or all; draw another with a different seed"
    return drawn


def _facts(drawn: Sequence | str) -> tuple[float, float, str]:
    """Occluded share, standard deviation of the truth, and fingerprint of truth and mask."""
    if isinstance(drawn, str):
        return math.nan, math.nan, ""
    values = drawn.truth.to_array().values
    told = hashlib.sha256(values.tobytes() + np.packbits(drawn.observed).tobytes()).hexdigest()
    return (
        float(drawn.hidden.sum() / (drawn.sea.values.sum() * len(drawn.observed))),
        float(np.nanstd(values)),
        told,
    )


def _variants(case: Case, method: Method) -> tuple[str, ...]:
    """Also frame by frame where the paper's Table 4 has it, by methods that need no other images."""
    able = getattr(method, "min_times", 1) <= 1 and method.name != CHOOSER
    alone = case.operator == CLOUD and case.share == MIDDLE and able
    return (WHOLE, STATIC) if alone else (WHOLE,)


def _judged(drawn: Sequence | str, method: Method, variant: str) -> tuple[Score, xr.Dataset | None]:
    if isinstance(drawn, str):
        return Score(reason=drawn), None
    start = time.perf_counter()
    try:
        filled = _filled(drawn, method) if variant == WHOLE else _frame_by_frame(drawn, method)
    except Exception as error:  # whatever a method dies of is its result; the others go on
        return Score(reason=f"{type(error).__name__}: {' '.join(str(error).split())}"), None
    seconds = time.perf_counter() - start
    whole, share = _whole(drawn, filled)
    estimate, truth = (
        np.concatenate([d[c].values[drawn.hidden] for c in drawn.truth])
        for d in (whole, drawn.truth)
    )
    mae, rmse, bias = (
        kernel(estimate, truth) for kernel in (metrics.mae, metrics.rmse, metrics.bias)
    )
    return Score(mae, rmse, bias, truth.size, share, seconds), whole


def _filled(drawn: Sequence, method: Method) -> xr.Dataset:
    """Fill the channels together where the method can, else one by one."""
    channels = [str(c) for c in drawn.truth]
    together = len(channels) > 1 and bool(method.multivariate)
    return fill(
        drawn.seen, method, variables=channels, together=together, sea=drawn.sea, score=False
    )[channels]


def _frame_by_frame(drawn: Sequence, method: Method) -> xr.Dataset:
    """Fill each frame as if there were no other; one without any observation stays as it is."""
    wet = drawn.sea.values
    frames = []
    for t, observed in enumerate(drawn.observed):
        frame = drawn.seen.isel(time=[t])
        partly = (observed & wet).any() and (~observed & wet).any()
        frames.append(_filled(drawn._replace(seen=frame), method) if partly else frame)
    return xr.concat(frames, "time", join="exact")


def _whole(drawn: Sequence, filled: xr.Dataset) -> tuple[xr.Dataset, float]:
    """Put the mean of what was seen where a method left a gap; and the share of the occluded that
    it filled.
    """
    missing = [np.isnan(filled[c].values[drawn.hidden]).mean() for c in drawn.truth]
    return filled.fillna(drawn.seen.mean()), float(1 - np.mean(missing))


def _sample(case: Case, drawn: Sequence, pictures: dict[str, xr.Dataset]) -> xr.DataArray:
    stack = {"truth": drawn.truth, "occluded": drawn.seen} | pictures
    values = np.stack([np.stack([d[c].values for c in drawn.truth], -1) for d in stack.values()])
    values[:, :, ~drawn.sea.values] = np.nan
    if "lat" in drawn.truth.coords and drawn.truth["lat"][0] < drawn.truth["lat"][-1]:
        values = values[:, :, ::-1]  # north on top
    share = float(drawn.hidden.mean() / drawn.sea.values.mean())
    return xr.DataArray(
        values,
        {"picture": list(stack)},
        ("picture", "time", "y", "x", "channel"),
        attrs={
            "data": case.source.name,
            "operator": case.operator,
            "units": case.source.units,
            "occluded": share,
        },
    )


def _row(
    case: Case, name: str, variant: str, found: list[Score], facts: list[tuple[float, float, str]]
) -> xr.Dataset:
    """One row: scores of each sequence, and pooled over the pixels of all that worked."""
    row = xr.Dataset({key: ("sequence", [float(getattr(s, key)) for s in found]) for key in SCORES})
    row["occluded"] = "sequence", [f[0] for f in facts]
    row["truth_std"] = "sequence", [f[1] for f in facts]
    row["fingerprint"] = "sequence", np.array([f[2] for f in facts], dtype="U64")
    row["pooled_mae"], row["pooled_bias"] = (
        _pooled(row["mae"], row["n"]),
        _pooled(row["bias"], row["n"]),
    )
    row["pooled_rmse"] = math.sqrt(_pooled(row["rmse"] ** 2, row["n"]))
    said = {
        "data": case.source.name,
        "kind": case.source.kind,
        "units": case.source.units,
        "operator": case.operator,
        "masks": case.origin,
        "share": case.share,
        "method": name,
        "variant": variant,
        "reason": next((s.reason for s in found if s.reason), ""),
    }
    return row.assign(said)


def _pooled(values: xr.DataArray, n: xr.DataArray) -> float:
    """Mean over the pixels of all sequences that worked; NaN if none did."""
    return float((values * n).sum() / n.sum()) if n.any() else math.nan


def _attrs(
    plan: ProtocolPlan, todo: list[Case], facts: dict[int, list[tuple[float, float, str]]]
) -> dict[str, Any]:
    """The plan, and one fingerprint for all sequences of a data set under all their masks."""
    prints: dict[str, str] = {}
    for source in dict.fromkeys(case.source.name for case in todo):
        parts = [
            f[2] for n, case in enumerate(todo) if case.source.name == source for f in facts[n]
        ]
        prints[source] = hashlib.sha256("".join(parts).encode()).hexdigest()[:16]
    return dataclasses.asdict(plan) | {"fingerprints": prints}
