# SPDX-License-Identifier: Apache-2.0
"""Names in files that former versions of sstfill wrote, and what they are called now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STATE = "pinned.json"
"""Former name of ``fitted.json``."""
OPTIONS = {
    "auto": {"share": "fraction"},
    "oi": {"length": "length_scale", "first_guess": "background"},
}
"""By method: former name of an option, and its name now."""
GONE = {"gan": ("samples",)}
"""By method: former options that nothing is left of."""
SUMMARY = {"share": "fraction", "filled_share": "filled_fraction"}
"""Former name of an entry of a score on withheld clouds, and its name now."""


def options_now(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the options of a method as they are called now, and leave out those that are gone.

    >>> options_now("oi", {"length": 50.0, "noise": 0.1})
    {'length_scale': 50.0, 'noise': 0.1}
    """
    names = OPTIONS.get(method, {})
    gone = GONE.get(method, ())
    return {names.get(name, name): value for name, value in options.items() if name not in gone}


def summary_now(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the entries of a score on withheld clouds as they are called now.

    >>> summary_now({"share": 0.1, "n": 50, "filled_share": 1.0})
    {'fraction': 0.1, 'n': 50, 'filled_fraction': 1.0}
    """
    return {SUMMARY.get(name, name): value for name, value in summary.items()}


def state_now(state: Mapping[str, Any], *, pinned: bool) -> dict[str, Any]:
    """Rename the keys of a ``fitted.json`` as they are called now; `pinned`: of a ``pinned.json``.

    >>> state_now({"method": "auto", "options": {"share": 0.2}}, pinned=False)
    {'method': 'auto', 'options': {'fraction': 0.2}}
    """
    now = dict(state)
    if pinned:
        # None where it is missing: the schema names the key then.
        now["method"] = now.pop("kind", None)
    if isinstance(now.get("options"), dict):
        now["options"] = options_now(str(now.get("method")), now["options"])
    if not pinned:
        return now
    if isinstance(now.get("fitted"), dict):  # of optimal interpolation
        fitted = now["fitted"] = dict(now["fitted"])
        fitted["background"] = fitted.pop("kind", None)
        if isinstance(fitted.get("covariance"), dict):
            covariance = fitted["covariance"] = dict(fitted["covariance"])
            covariance["components"] = covariance.pop("parts", None)
    return now
