# SPDX-License-Identifier: Apache-2.0
"""Names in files that former versions of sstfill wrote, and what they are called now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STATE = "pinned.json"
"""Former name of ``fitted.json``."""
OPTIONS = {"oi": {"length": "length_scale", "first_guess": "background"}}
"""By method: former name of an option, and its name now."""


def options_now(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the options of a method as they are called now.

    >>> options_now("oi", {"length": 50.0, "noise": 0.1})
    {'length_scale': 50.0, 'noise': 0.1}
    """
    names = OPTIONS.get(method, {})
    return {names.get(name, name): value for name, value in options.items()}


def state_now(state: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the keys of a ``pinned.json`` as they are called in a ``fitted.json``."""
    now = dict(state)
    now["method"] = now.pop("kind", None)
    if isinstance(now.get("options"), dict):
        now["options"] = options_now(str(now["method"]), now["options"])
    if isinstance(now.get("fitted"), dict):  # of optimal interpolation
        fitted = now["fitted"] = dict(now["fitted"])
        fitted["background"] = fitted.pop("kind", None)
        if isinstance(fitted.get("covariance"), dict):
            covariance = fitted["covariance"] = dict(fitted["covariance"])
            covariance["components"] = covariance.pop("parts", None)
    return now
