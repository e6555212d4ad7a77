# SPDX-License-Identifier: Apache-2.0
"""What a recipe would do, described before it is done."""

from __future__ import annotations

from dataclasses import dataclass, field

QUICK = 15.0
"""Seconds that a catalogue has for its answer, by default."""


@dataclass(frozen=True, kw_only=True)
class DownloadPlan:
    """What would be downloaded, and to where; its `str` is a table.

    Attributes
    ----------
    source
        Dataset and version, or where the data lie.
    what
        Variables.
    box
        Place and period in words.
    sizes
        Length of each dimension; empty if it is not known before the service is asked.
    nbytes
        Size of the values, uncompressed; compressed they take a third to three quarters of it.
    windows
        Number of windows, each of which is downloaded, checked and written before the next.
    target
        Format and chunks.
    login
        Where a login was found; None if none is needed, empty if none was found. Never the login
        itself.
    remarks
        What else there is to know, or to do first.
    """

    source: str
    what: str
    box: str
    target: str
    sizes: dict[str, int] = field(default_factory=dict)
    nbytes: int | None = None
    windows: int | None = None
    login: str | None = None
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        rows = {"source": self.source, "variables": self.what, "box": self.box}
        if self.sizes:
            rows["shape"] = ", ".join(f"{d} {n:,}" for d, n in self.sizes.items())
        if self.nbytes is not None:
            rows["size"] = f"{self.nbytes / 1e6:,.1f} MB uncompressed"
        if self.windows is not None:
            rows["windows"] = f"{self.windows:,}"
        rows["target"] = self.target
        if self.login is None:
            rows["login"] = "not needed"
        elif self.login:
            rows["login"] = f"found in {self.login}"
        else:
            rows["login"] = "not found; run: copernicusmarine login"
        lines = [f"{name:<10} {text}" for name, text in rows.items() if text]
        lines += [f"{'note':<10} {text}" for text in self.remarks]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        import html

        return f"<pre>{html.escape(str(self))}</pre>"
