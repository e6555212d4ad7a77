# SPDX-License-Identifier: Apache-2.0
"""The paper's own numbers: Tables 1 to 4 of Yin, Pajot, de Bezenac and Gallinari (2019).

They were measured on the paper's data, not on ours: `PublishedScore.data` names it. A number is
None where the paper has none ("unable to finish") or where our copy of it is not legible.
"""

from __future__ import annotations

from typing import NamedTuple

SST = "hourly model SST (GLOBAL_ANALYSIS_FORECAST)"
GAN, DINEOF, NEWSON = "GAN", "DINEOF (Alvera-Azcárate 2011)", "patches (Newson et al. 2014)"
COUNTERPARTS = {"gan": GAN, "dineof": DINEOF, "patchmatch": NEWSON}
"""Our methods, and the paper's of the same kind."""


class PublishedScore(NamedTuple):
    """A line of a table: scores over occluded pixels, their mean and standard deviation."""

    table: str
    data: str
    operator: str
    method: str
    mae: float | None
    mae_std: float | None
    fid: float | None = None
    fvd: float | None = None
    lwp: float | None = None
    """Threshold of the liquid water path, g m-2."""
    occluded: float | None = None
    """Occluded fraction of the pixels."""

    @property
    def units(self) -> str:
        """Of the MAE; the paper gives none for videos."""
        if self.data == SST:
            return "°C"
        return "of the video's range, not stated"


Scores = tuple[float | None, float | None, float | None, float | None]  # MAE, its std, FID, FVD


def _table_1() -> list[PublishedScore]:
    none: Scores = (None, None, None, None)
    rain, pixel, bar = "raindrops", "remove-pixel", "vertical-moving-bar"
    rows: dict[tuple[str, str], dict[str, Scores]] = {
        ("FaceForensics++", GAN): {
            rain: (0.0834, 0.0187, 43.72, 1574.89),
            pixel: (0.0894, 0.0137, 93.28, 1460.02),
            bar: (0.1304, 0.0972, 19.12, 493.57),
        },
        ("FaceForensics++", DINEOF): {
            rain: (0.1208, 0.0272, 75.93, 3424.11),
            pixel: (0.0752, 0.0161, 110.15, 3091.67),
            bar: (0.3286, 0.0815, 56.58, 5775.25),
        },
        ("FaceForensics++", NEWSON): {rain: none, pixel: none, bar: (0.0494, 0.0501, 9.04, 316.55)},
        ("KTH", GAN): {
            rain: (0.0380, 0.0062, 56.56, 2522.81),
            pixel: (0.0429, 0.0037, 56.16, 2639.24),
            bar: (0.0711, 0.0505, 39.05, 588.94),
        },
        ("KTH", DINEOF): {
            rain: (0.0522, 0.0073, 71.69, 6400.44),
            pixel: (0.0403, 0.0040, 82.45, 6660.02),
            bar: (0.0959, 0.0402, 34.90, 3408.19),
        },
        ("KTH", NEWSON): {rain: none, pixel: none, bar: (0.0268, 0.0403, 11.88, 354.01)},
        # the FIDs of the raindrops are not legible in our copy
        ("BAIR", GAN): {
            rain: (0.0821, 0.0153, None, 1194.19),
            pixel: (0.0997, 0.0087, 53.80, 2073.90),
            bar: (0.1619, 0.0590, 11.55, 496.38),
        },
        ("BAIR", DINEOF): {
            rain: (0.2345, 0.0274, None, 4456.08),
            pixel: (0.1424, 0.0103, 140.20, 4014.17),
            bar: (0.5579, 0.0766, 67.06, 7361.77),
        },
        ("BAIR", NEWSON): {rain: none, pixel: none, bar: (0.1082, 0.0873, 10.31, 340.97)},
    }
    table = []
    for (data, method), by_operator in rows.items():
        for operator, scores in by_operator.items():
            table.append(PublishedScore("1", data, operator, method, *scores))
    return table


def _cloud(
    table: str,
    method: str,
    mae: float | None = None,
    std: float | None = None,
    fid: float | None = None,
    fvd: float | None = None,
) -> PublishedScore:
    return PublishedScore(table, SST, "cloud", method, mae, std, fid, fvd, lwp=70, occluded=0.395)


TABLES: tuple[PublishedScore, ...] = (
    *_table_1(),
    PublishedScore("2a", SST, "cloud", GAN, 0.1273, 0.0443, 32.49, 134.40, 55, 0.799),
    PublishedScore("2a", SST, "cloud", GAN, 0.1047, 0.0396, 22.95, 79.13, 60, 0.696),
    PublishedScore("2a", SST, "cloud", GAN, 0.0988, 0.0378, 17.75, 75.07, 65, 0.559),
    PublishedScore("2a", SST, "cloud", GAN, 0.0739, 0.0324, 8.01, 40.76, 70, 0.395),
    PublishedScore("2a", SST, "cloud", GAN, 0.0698, 0.0305, 5.58, 30.07, 75, 0.245),
    PublishedScore("2a", SST, "cloud", GAN, 0.0497, 0.0237, 1.77, 9.89, 80, 0.134),
    PublishedScore(
        "2a", SST, "cloud, all thresholds", GAN, 0.0874, 0.0347, 14.76, 61.55, None, 0.471
    ),
    _cloud("2b", GAN, 0.0739, 0.0324, 8.01, 40.76),
    _cloud("2b", DINEOF, 0.1214, 0.0248, 27.99, 323.61),
    _cloud("2b", NEWSON),
    PublishedScore(
        "3", "FaceForensics++", "raindrops", "GAN, unsupervised", 0.0834, 0.0187, 43.72, 1574.89
    ),
    PublishedScore(
        "3",
        "FaceForensics++",
        "raindrops",
        "GAN, supervised, unpaired",
        0.0547,
        0.0105,
        20.86,
        575.08,
    ),
    PublishedScore(
        "3",
        "FaceForensics++",
        "raindrops",
        "GAN, supervised, paired",
        0.0555,
        0.0108,
        22.17,
        720.75,
    ),
    _cloud("4", GAN, 0.0739, 0.0324, 8.01, 40.76),
    _cloud("4", "GAN, recurrent", 0.0960, 0.0431, 13.29, 67.37),
    _cloud("4", "GAN, static", 0.1036, 0.0047, 35.91, 279.78),
)


def rows(table: str, *, data: str | None = None) -> list[PublishedScore]:
    """Lines of a table, in the paper's order.

    >>> [row.mae for row in rows("2b")]
    [0.0739, 0.1214, None]
    """
    return [row for row in TABLES if row.table == table and data in (None, row.data)]


def occluded_by_threshold() -> dict[float, float]:
    """Occluded fraction by threshold (g m-2) on the paper's own series (Table 2a).

    >>> occluded_by_threshold()[70]
    0.395
    """
    return {
        row.lwp: row.occluded
        for row in rows("2a")
        if row.lwp is not None and row.occluded is not None
    }


OCCLUDED = tuple(occluded_by_threshold().values())
"""Occluded fractions at the paper's six thresholds of the liquid water path (Table 2a)."""
MIDDLE = occluded_by_threshold()[70]
"""Occluded fraction at the threshold of 70 g m-2, which Tables 2b and 4 are for."""
