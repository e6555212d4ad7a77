# SPDX-License-Identifier: Apache-2.0
"""What a recipe would do, told before it is done."""

from __future__ import annotations

from dataclasses import dataclass, field

QUICK = 15.0
"""Seconds that a catalogue has for its answer, unless said otherwise."""


@dataclass(frozen=True, kw_only=True)
class DownloadPlan:
    """What would be fetched, and to where; its text is a table.

    Attributes
    ----------
    source
        Dataset and version, or where the data lie.
    what
        Variables.
    box
        Place and period in words.
    sizes
        Length of each dimension; empty where nobody knows before the service is asked.
    nbytes
        Size of the values, uncompressed; compressed on the disk they take a third to three quarters
        of it.
    windows
        Number of windows, each of which is fetched, checked and written before the next.
    target
        Format and chunks.
    login
        Where a login was found; None where none is needed, empty where none was found. Never the
        login itself.
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
        else:
            rows["login"] = (
                f"found in {self.login}" if self.login else "not found; run: copernicusmarine login"
            )
        lines = [f"{name:<10} {text}" for name, text in rows.items() if text]
        return "\n".join([*lines, *(f"note       {text}" for text in self.remarks)])

    def _repr_html_(self) -> str:
        import html

        return f"<pre>{html.escape(str(self))}</pre>"
