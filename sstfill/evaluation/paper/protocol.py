# SPDX-License-Identifier: Apache-2.0
"""The paper's protocol: occlude true sequences, fill them by each method, and score the fills."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
import time
import zlib
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import OptionError, SstfillError
from sstfill.evaluation.paper.datasets import DatasetChoice
from sstfill.evaluation.paper.plan import CLOUD, Case, ProtocolPlan, cases
from sstfill.evaluation.paper.published import MIDDLE
from sstfill.evaluation.paper.realism import Looks, Viewers, distances, looks
from sstfill.evaluation.paper.sequences import TruthSource
from sstfill.fill import fill
from sstfill.methods import Method
from sstfill.progress import track
from sstfill.validation import metrics

WHOLE, STATIC = "sequence", "static"
CHOOSER = "auto"  # tries the others, which are compared here one by one
SCORES = ("mae", "rmse", "bias", "n", "filled_fraction", "seconds")


class FillErrors(NamedTuple):
    """Errors of one fill over the occluded pixels.

    Pixels left unfilled count as the mean of what was seen.
    """

    mae: float = math.nan
    rmse: float = math.nan
    bias: float = math.nan
    n: float = 0
    filled_fraction: float = math.nan
    seconds: float = math.nan
    reason: str = ""


class Sequence(NamedTuple):
    """A true sequence, what is seen of it, and its sea mask."""

    truth: xr.Dataset
    seen: xr.Dataset
    sea: xr.DataArray
    observed: NDArray[np.bool_]

    @property
    def hidden(self) -> NDArray[np.bool_]:
        """Occluded pixels, ``(time, y, x)``."""
        return ~self.observed & self.sea.values


class SequenceFacts(NamedTuple):
    """Facts of a sequence: occluded fraction, standard deviation of the truth, fingerprint."""

    occluded: float = math.nan
    truth_std: float = math.nan
    fingerprint: str = ""


class ProtocolResult(NamedTuple):
    """Scores of all fills, and some sequences to look at.

    `results` has dims ``(row, sequence)``: a row is a data set, an operator, an occluded fraction
    (``fraction``), a method and a variant. `samples` have dims ``(picture, time, y, x, channel)``:
    truth, occluded, and each method.
    """

    results: xr.Dataset
    samples: list[xr.DataArray]


def run(
    plan: ProtocolPlan,
    datasets: DatasetChoice,
    networks: Mapping[str, Mapping[str, Method]] | None = None,
) -> ProtocolResult:
    """Run the protocol.

    Parameters
    ----------
    plan
        How much, and how.
    datasets
        On what; see `sstfill.evaluation.paper.datasets.find`.
    networks
        Further methods by name, for the name of the data set that they were trained for; they fill
        no other.

    Returns
    -------
    ProtocolResult
        A method that fails has a ``reason`` in its row and NaN for scores; it stops nothing.

    Raises
    ------
    OptionError
        No case is left by `plan.operators`.
    """
    todo = list(cases(plan, datasets))
    if not todo:
        raise OptionError(
            f"operators={plan.operators!r} leave nothing to run on these data; leave the option out"
        )
    methods = plan.chosen
    look = partial(_looks, viewers=plan.viewers)
    networks = networks or {}
    shown = _to_show(todo)
    samples: list[xr.DataArray] = []
    scores: dict[tuple[int, str, str], list[FillErrors]] = {}
    appearances: dict[tuple[int, str, str], list[tuple[Looks, Looks]]] = {}
    facts: dict[int, list[SequenceFacts]] = {}
    # Of the data set at hand, by the number of the sequence; the same under every operator.
    truths: dict[int, xr.Dataset | str] = {}
    looks_of_truths: dict[int, Looks] = {}
    jobs = list(itertools.product(range(len(todo)), range(plan.sequences)))
    for number, k in track(jobs, "paper protocol", len(jobs)):
        case = todo[number]
        if k == 0 and number > 0 and case.source is not todo[number - 1].source:
            truths.clear()
            looks_of_truths.clear()
        if k not in truths:
            truths[k] = _truth(case.source, plan, k)
        # Drawn once for all methods, which so fill the very same pixels.
        sequence = _draw(case, truths[k], plan, k)
        # A sequence that could not be drawn has facts, too, so that columns stay in step.
        facts.setdefault(number, []).append(_facts(sequence))
        true_looks = None
        if isinstance(sequence, Sequence):
            if k not in looks_of_truths:
                looks_of_truths[k] = look(sequence.truth, sequence)
            true_looks = looks_of_truths[k]
        pictures: dict[str, xr.Dataset] = {}
        own = networks.get(case.source.name, {})
        chosen = methods | dict(own)
        for name, method in chosen.items():
            variants = [WHOLE]
            # Frame by frame where the paper's Table 4 has it, for methods that need no other image.
            able = getattr(method, "min_times", 1) <= 1 and method.name != CHOOSER
            able &= name not in own
            if case.operator == CLOUD and case.fraction == MIDDLE and able:
                variants.append(STATIC)
            for variant in variants:
                score, filled = _fill_and_score(sequence, method, variant)
                scores.setdefault((number, name, variant), []).append(score)
                if filled is not None and variant == WHOLE:
                    pictures[name] = filled
                pairs = appearances.setdefault((number, name, variant), [])
                if filled is not None and isinstance(sequence, Sequence) and true_looks:
                    pairs.append((true_looks, look(filled, sequence)))
        if k == 0 and number in shown and isinstance(sequence, Sequence):
            samples.append(_sample(case, sequence, pictures))
    rows = []
    for (number, name, variant), of_sequences in scores.items():
        row = _row(todo[number], name, variant, of_sequences, facts[number])
        pairs = appearances[number, name, variant]
        frames, pieces = distances([truth for truth, _ in pairs], [own for _, own in pairs])
        rows.append(row.assign(frechet_frames=frames, frechet_sequences=pieces))
    results = xr.concat(rows, "row", coords="different", compat="equals", join="exact")
    return ProtocolResult(results.assign_attrs(_attrs(plan, todo, facts)), samples)


def _to_show(todo: list[Case]) -> set[int]:
    """Choose the cases to draw a sample of: the first of each clip, and of each other kind of data.

    Clips are shown under raindrops, other data under clouds at 39.5 %.
    """
    first: dict[tuple[str, ...], int] = {}
    for number, case in enumerate(todo):
        if case.source.kind == "clip":
            if case.operator == "raindrops":
                first.setdefault((case.source.kind, case.source.name), number)
        elif case.fraction == MIDDLE:
            first.setdefault((case.source.kind,), number)
    return set(first.values())


def _looks(fields: xr.Dataset, sequence: Sequence, viewers: Viewers) -> Looks:
    """Compute the features of a true or filled sequence, black to white over the truth's range."""
    values = fields[list(sequence.truth)].to_array().values  # c t y x
    # Land is the same in truth and fill, and must not tell them apart.
    values = np.where(sequence.sea.values, values, np.nan)
    truth = sequence.truth.to_array()
    least, greatest = float(truth.min()), float(truth.max())
    if greatest <= least:  # a field of one value
        greatest = least + 1.0
    return looks(values, (least, greatest), viewers)


def _rng(*parts: int | str) -> np.random.Generator:
    # A checksum, since Python's own hash of a text differs from one run to the next.
    seeds = [part if isinstance(part, int) else zlib.crc32(part.encode()) for part in parts]
    return np.random.default_rng(seeds)


def _truth(source: TruthSource, plan: ProtocolPlan, k: int) -> xr.Dataset | str:
    """Draw the true sequence `k` of a data set; return the reason if there is none."""
    frames = plan.clip_frames if source.kind == "clip" else plan.frames
    try:
        return source.draw(frames, plan.size, _rng(plan.seed, k, source.name))
    except SstfillError as error:
        return str(error)


def _draw(case: Case, truth: xr.Dataset | str, plan: ProtocolPlan, k: int) -> Sequence | str:
    """Occlude the true sequence `k` of a case; return the reason if that cannot be."""
    if isinstance(truth, str):
        return truth
    try:
        first = next(iter(truth.data_vars.values()))
        rng = _rng(plan.seed, k, case.drawn_by)
        observed = case.masks.draw(first.shape, rng)  # type: ignore[arg-type]
    except SstfillError as error:
        return str(error)
    sea = first.notnull().any("time").drop_vars("time", errors="ignore")
    sequence = Sequence(truth, truth.where(first.copy(data=observed)), sea, observed)
    if not sequence.hidden.any() or not (observed & sea.values).any():
        return "the mask hides nothing, or all; draw another with a different seed"
    return sequence


def _facts(sequence: Sequence | str) -> SequenceFacts:
    if isinstance(sequence, str):
        return SequenceFacts()
    values = sequence.truth.to_array().values
    # Truth and mask: equal fingerprints are the same sequences under the same clouds.
    content = values.tobytes() + np.packbits(sequence.observed).tobytes()
    pixels = sequence.sea.values.sum() * len(sequence.observed)
    return SequenceFacts(
        occluded=float(sequence.hidden.sum() / pixels),
        truth_std=float(np.nanstd(values)),
        fingerprint=hashlib.sha256(content).hexdigest(),
    )


def _fill_and_score(
    sequence: Sequence | str, method: Method, variant: str
) -> tuple[FillErrors, xr.Dataset | None]:
    if isinstance(sequence, str):
        return FillErrors(reason=sequence), None
    start = time.perf_counter()
    try:
        if variant == WHOLE:
            filled = _fill(sequence, method)
        else:
            filled = _fill_frame_by_frame(sequence, method)
    except Exception as error:  # whatever a method fails with is its result; the others go on
        return FillErrors(reason=f"{type(error).__name__}: {' '.join(str(error).split())}"), None
    seconds = time.perf_counter() - start
    unfilled = np.isnan(_hidden_values(filled, sequence)).mean(1)
    # Of what was seen, which a method has too; of the truth it would be unfairly good.
    whole = filled.fillna(sequence.seen.mean())
    estimate = _hidden_values(whole, sequence).ravel()
    truth = _hidden_values(sequence.truth, sequence).ravel()
    score = FillErrors(
        mae=metrics.mae(estimate, truth),
        rmse=metrics.rmse(estimate, truth),
        bias=metrics.bias(estimate, truth),
        n=truth.size,
        filled_fraction=float(1 - np.mean(unfilled)),
        seconds=seconds,
    )
    return score, whole


def _hidden_values(fields: xr.Dataset, sequence: Sequence) -> NDArray[np.floating]:
    """Return the values of a true or filled sequence at its occluded pixels, ``(channel, n)``."""
    return fields[list(sequence.truth)].to_array().values[:, sequence.hidden]


def _fill(sequence: Sequence, method: Method) -> xr.Dataset:
    """Fill the channels together where the method can, else one by one."""
    channels = list(map(str, sequence.truth))
    together = len(channels) > 1 and bool(method.multivariate)
    filled = fill(
        sequence.seen, method, variables=channels, together=together, sea=sequence.sea, score=False
    )
    return filled[channels]


def _fill_frame_by_frame(sequence: Sequence, method: Method) -> xr.Dataset:
    """Fill each frame as if there were no other; one without any observation stays as it is."""
    sea = sequence.sea.values
    frames = []
    for t, observed in enumerate(sequence.observed):
        frame = sequence.seen.isel(time=[t])
        # A frame wholly under cloud tells nothing, and one without gaps needs nothing.
        if (observed & sea).any() and (~observed & sea).any():
            frame = _fill(sequence._replace(seen=frame), method)
        frames.append(frame)
    return xr.concat(frames, "time", join="exact")


def _sample(case: Case, sequence: Sequence, pictures: dict[str, xr.Dataset]) -> xr.DataArray:
    stack = {"truth": sequence.truth, "occluded": sequence.seen} | pictures
    frames = []
    for picture in stack.values():
        frames.append(np.stack([picture[c].values for c in sequence.truth], -1))
    values = np.stack(frames)
    values[:, :, ~sequence.sea.values] = np.nan
    if "lat" in sequence.truth.coords:
        lat = sequence.truth["lat"].values
        # Of the rows, for on a curvilinear grid latitude is a field.
        if lat[0].mean() < lat[-1].mean():
            values = values[:, :, ::-1]  # north on top
    occluded = float(sequence.hidden.mean() / sequence.sea.values.mean())
    return xr.DataArray(
        values,
        {"picture": list(stack)},
        ("picture", "time", "y", "x", "channel"),
        attrs={
            "data": case.source.name,
            "operator": case.operator,
            "units": case.source.units,
            "occluded": occluded,
        },
    )


def _row(
    case: Case, name: str, variant: str, scores: list[FillErrors], facts: list[SequenceFacts]
) -> xr.Dataset:
    """Make one row: scores of each sequence, and pooled over the pixels of all that worked."""
    row = xr.Dataset()
    for key in SCORES:
        row[key] = "sequence", [float(getattr(score, key)) for score in scores]
    occluded, spread, prints = zip(*facts, strict=True)
    row["occluded"] = "sequence", list(occluded)
    row["truth_std"] = "sequence", list(spread)
    row["fingerprint"] = "sequence", np.array(prints, dtype="U64")
    row["pooled_mae"] = _pooled(row["mae"], row["n"])
    row["pooled_bias"] = _pooled(row["bias"], row["n"])
    # Squares are pooled: a mean of roots would be less than the root over all pixels.
    row["pooled_rmse"] = math.sqrt(_pooled(row["rmse"] ** 2, row["n"]))
    reasons = [score.reason for score in scores if score.reason]
    return row.assign(
        data=case.source.name,
        kind=case.source.kind,
        units=case.source.units,
        operator=case.operator,
        masks=case.origin,
        fraction=case.fraction,
        method=name,
        variant=variant,
        reason=reasons[0] if reasons else "",
    )


def _pooled(values: xr.DataArray, n: xr.DataArray) -> float:
    """Mean over the pixels of all sequences that worked; NaN if none did."""
    if not n.any():
        return math.nan
    return float((values * n).sum() / n.sum())


def _attrs(
    plan: ProtocolPlan, todo: list[Case], facts: dict[int, list[SequenceFacts]]
) -> dict[str, Any]:
    """The plan, one fingerprint for all sequences of a data set under all their masks, features."""
    joined: dict[str, str] = {}
    for number, case in enumerate(todo):
        prints = "".join(fact.fingerprint for fact in facts[number])
        joined[case.source.name] = joined.get(case.source.name, "") + prints
    fingerprints = {}
    for name, prints in joined.items():
        fingerprints[name] = hashlib.sha256(prints.encode()).hexdigest()[:16]
    seen_by = {"fingerprints": fingerprints, "features": plan.viewers.names}
    return dataclasses.asdict(plan) | seen_by
