# SPDX-License-Identifier: Apache-2.0
"""The page of a report: one HTML file with all that it shows in it; no network, no scripts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, NamedTuple

from sstfill.nightly.history import Usual
from sstfill.nightly.night import Night, VariableReport
from sstfill.nightly.recipe import NightlyRecipe
from sstfill.nightly.style import STYLE

TABLE = 30
"""Nights in the table."""
HEADLINE = {"fine": "Fine", "attention": "Needs attention", "failed": "Failed"}
START = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
)


class Panel(NamedTuple):
    """What there is to see of one variable: a map as a data URI with a note on it, and the chart of
    its score.
    """

    name: str
    picture: str
    note: str
    chart: str
    usual: Usual | None


def page(
    recipe: NightlyRecipe,
    night: Night,
    lines: Sequence[dict[str, Any]],
    panels: Iterable[Panel],
    origin: dict[str, Any],
) -> str:
    """Write the page; `lines` is the history with tonight's line at its end."""
    title = f"<title>{escape(HEADLINE[night.status])}: {escape(recipe.title)}</title>"
    body = [
        *_head(recipe, night),
        *_days(night, _made(night, lines)),
        *(part for panel in panels for part in _variable(panel, night.found[panel.name])),
        *_nights(lines),
        *_said(night),
        *_origin(recipe, origin),
    ]
    return "\n".join(
        [f"{START}{title}<style>{STYLE}</style></head><body>", *body, "</body></html>\n"]
    )


def _head(recipe: NightlyRecipe, night: Night) -> list[str]:
    when = night.started.replace("T", " ").replace("Z", " UTC")
    newest = f" Newest image: {escape(night.newest)}." if night.newest else ""
    parts = [
        f"<header><h1>{escape(recipe.title)}</h1>",
        f'<p class="status {night.status}"><strong>{HEADLINE[night.status]}</strong> {escape(when)}</p>',
        f"<p>{escape(_capital(night.whole))}.{newest}</p></header>",
    ]
    if night.failure:
        parts.append(
            f'<section class="failed"><h2>What failed</h2><p>{escape(_capital(night.failure))}</p><p>Nothing '
            "is lost: mend it if it does not mend itself, and run the same command again. nightly.log has the "
            "traceback.</p></section>"
        )
    if night.attention:
        items = "".join(f"<li>{escape(text)}</li>" for text in night.attention)
        parts.append(
            f'<section class="attention"><h2>What to look at</h2><ul>{items}</ul></section>'
        )
    return parts


def _days(night: Night, line: dict[str, Any]) -> list[str]:
    if night.outcome is None:
        return []
    days = line["days"]
    facts = {
        "new days": days["new"],
        "revised days": days["revised"],
        "days influenced by these": days["influenced"],
        f"of {days['units']:,} units filled": days["made"],
        "seconds": f"{sum(line['seconds'].values()):.0f}",
        "GB of memory at most": f"{night.outcome.memory / 1e9:.2f}",
    }
    tiles = "".join(f"<div><b>{value}</b> {escape(name)}</div>" for name, value in facts.items())
    since = line["started"].replace("T", " ").replace("Z", " UTC")
    idle = (
        ""
        if night.outcome.made
        else f"<p>Nothing is new or revised since; that was at {escape(since)}.</p>"
    )
    steps = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in night.seconds.items())
    return [
        f'<section><h2>What was filled</h2><div class="tiles">{tiles}</div>{idle}'
        f'<p class="small">This run: {escape(steps)}</p></section>'
    ]


def _made(night: Night, lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The night in which the output became what it is."""
    same = (
        one
        for one in lines
        if one["state"] == night.state and _has_days(one) and one["days"]["made"]
    )
    return next(same, lines[-1])


def _has_days(line: dict[str, Any]) -> bool:
    return {"new", "revised", "influenced", "units", "made"} <= line.get(
        "days", {}
    ).keys() and "seconds" in line


def _variable(panel: Panel, found: VariableReport) -> list[str]:
    parts = [f"<section><h2>{escape(panel.name)}</h2>"]
    if panel.picture:
        alt = escape(f"{panel.name}, newest image: observed, filled, error, source")
        parts.append(
            f'<figure><img src="{panel.picture}" alt="{alt}"><figcaption>{escape(panel.note)}</figcaption></figure>'
        )
    elif panel.note:
        parts.append(f'<p class="small">{escape(panel.note)}</p>')
    return [*parts, *_score(panel, found), *_fractions(found), "</section>"]


def _score(panel: Panel, found: VariableReport) -> list[str]:
    score, units = found.score, escape(found.units)
    if score.get("rmse") is None:
        return ["<p>No score tonight: no clouds could be put over the recent images.</p>"]
    text = f"RMSE <b>{score['rmse']:.3g}</b> {units}"
    if score.get("bias") is not None:
        text += f", bias {score['bias']:+.2g}"
    if score.get("n") is not None:
        text += f" at {score['n']:,} pixels"
    text += " of the recent images hidden under clouds of other dates"
    if (held := (score.get("coverage") or {}).get("0.95")) is not None:
        text += f"; {held:.0%} of them inside the 95 % interval, once rescaled"
    if (scale := score.get("sigma_scale")) is not None:
        text += f"; the error stated there should have been {scale:.2f} times as large"
    past = panel.usual
    usual = (
        f"Usual: {past.median:.3g}, attention above {past.limit:.3g}, from {past.nights} nights."
        if past
        else "Too few nights with this method yet to say what is usual."
    )
    below = f"RMSE ({units}) on withheld clouds, night by night; grey: by another fitted method"
    return [
        f"<p>{text}. {usual}</p>",
        f"<figure>{panel.chart}<figcaption>{below}</figcaption></figure>",
    ]


def _fractions(found: VariableReport) -> list[str]:
    head = "<th></th><th>observed</th><th>filled</th><th>not filled</th><th>median error of what was filled</th>"
    rows = ""
    both = (
        ("newest image", found.newest, found.newest_error),
        ("recent images", found.fractions, found.error),
    )
    for what, shares, error in both:
        cells = "".join(f"<td>{share:.1%}</td>" for share in shares.values())
        sure = "unknown" if error is None else f"{error:.3g} {escape(found.units)}"
        rows += f"<tr><th>{what}</th>{cells}<td>{sure}</td></tr>"
    said = f"Shares of the sea. Of the gaps in the recent images {found.filled_fraction:.1%} were filled."
    return [
        f'<div class="wide"><table><tr>{head}</tr>{rows}</table></div>',
        f'<p class="small">{said} Fitted method: {escape(found.model)}.</p>',
    ]


def _nights(lines: Sequence[dict[str, Any]]) -> list[str]:
    last = list(reversed(lines[-TABLE:]))
    names = list(dict.fromkeys(name for one in last for name in one["found"]))
    titles = ["night", "status", "newest", "new", "revised", "influenced"]
    titles += [title for name in names for title in (f"RMSE {name}", "gaps filled")] + ["seconds"]
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    rows = "".join(_night(one, names) for one in last)
    table = f'<div class="wide"><table><tr>{head}</tr>{rows}</table></div>'
    return [f"<section><h2>Last {len(last)} nights</h2>{table}</section>"]


def _night(one: dict[str, Any], names: Sequence[str]) -> str:
    days = one.get("days", {})
    cells = [
        one["started"][:16].replace("T", " "),
        one["status"],
        one.get("newest", ""),
        *(str(days.get(k, "")) for k in ("new", "revised", "influenced")),
    ]
    for name in names:
        found = one["found"].get(name)
        error = found["score"].get("rmse") if found else None
        cells += ["" if error is None else f"{error:.3g}", _percent(found)]
    cells.append(f"{sum(one.get('seconds', {}).values()):.0f}")
    why = "; ".join(filter(None, [one.get("failure", ""), *one.get("attention", [])]))
    said = f' title="{escape(why)}"' if why else ""
    return (
        f'<tr class="{escape(one["status"])}"{said}>'
        + "".join(f"<td>{escape(c)}</td>" for c in cells)
        + "</tr>"
    )


def _percent(found: dict[str, Any] | None) -> str:
    share = None if found is None else found.get("filled_fraction")
    return "" if share is None else f"{share:.1%}"


def _said(night: Night) -> list[str]:
    if not night.said:
        return []
    return [
        f"<section><h2>Said on the way</h2><pre>{escape(chr(10).join(night.said))}</pre></section>"
    ]


def _origin(recipe: NightlyRecipe, origin: dict[str, Any]) -> list[str]:
    told = {key: _words(value) for key, value in origin.items() if value not in (None, "", {})}
    rows = "".join(
        f"<tr><th>{escape(key)}</th><td>{escape(words)}</td></tr>" for key, words in told.items()
    )
    return [
        f'<section><h2>Provenance</h2><div class="wide"><table class="left">{rows}</table></div>'
        f"<details><summary>the recipe</summary><pre>{escape(recipe.text)}</pre></details></section>"
    ]


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return str(value)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
