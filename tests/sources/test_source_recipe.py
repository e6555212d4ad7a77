# SPDX-License-Identifier: Apache-2.0
"""Every preset is valid; a recipe with a mistake says what is valid."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest

from sstfill.errors import OptionError, ReadError
from sstfill.io.presets import presets
from sstfill.sources.copernicus.coverage import Coverage, CoverageAxis
from sstfill.sources.copernicus.planning import plan
from sstfill.sources.copernicus.request import CopernicusRequest, Target
from sstfill.sources.dates import moment
from sstfill.sources.recipe import load_recipe

NEEDED = {
    *(
        f"copernicus/{n}"
        for n in ("natl_hourly", "satl_hourly", "natl_daily", "satl_daily", "global_l3s")
    ),
    *(f"copernicus/{n}" for n in ("atlantic_l3s", "mediterranean_l3s", "nightly_l3s", "ostia_l4")),
    *("clouds/pycles_unisst", "video/kth", "video/bair", "video/faceforensics"),
}
DAY, HOUR = 86_400_000.0, 3_600_000.0


SURFACE = CopernicusRequest(
    dataset_id="x", minimum_latitude=20, maximum_latitude=21, minimum_depth=0.5, maximum_depth=0.5
)


def globe(step: float, first: str, last: str, dataset: str = "x") -> Coverage:
    """The model's grid of 1/12 degree: nodes at -180 and at -80."""
    times = [
        float(datetime.fromisoformat(t).replace(tzinfo=UTC).timestamp() * 1e3)
        for t in (first, last)
    ]
    axes = {
        "time": CoverageAxis(
            first=times[0], last=times[1], step=step, chunk={"arco-geo-series": 1}
        ),
        "latitude": CoverageAxis(first=-80, last=90, step=1 / 12, chunk={"arco-geo-series": 681}),
        "longitude": CoverageAxis(
            first=-180, last=180 - 1 / 12, step=1 / 12, chunk={"arco-geo-series": 720}
        ),
        "depth": CoverageAxis(first=0.5, last=5.0, values=(0.5, 2.0, 5.0)),
    }
    return Coverage(
        dataset_id=dataset,
        version="202406",
        versions=("202406",),
        variables={"thetao": "t"},
        axes=axes,
    )


def test_what_ships():
    assert set(presets()) == NEEDED


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_every_preset_is_valid_and_says_what_it_is(name):
    recipe = load_recipe(name)
    assert recipe.name == name and 20 < len(recipe.title) < 120
    assert recipe == load_recipe(presets()[name]) == load_recipe(f"recipes/{name}.toml")
    if not isinstance(recipe.source, CopernicusRequest):
        told = str(recipe.plan())
        assert "Zarr v3" in told and "login      not needed" in told


@pytest.mark.parametrize(
    ("name", "step", "shape"),
    [
        ("natl_hourly", HOUR, (8760, 64, 64)),
        ("satl_hourly", HOUR, (1440, 64, 64)),
        ("natl_daily", DAY, (365, 64, 64)),
        ("satl_daily", DAY, (60, 64, 64)),
    ],
)
def test_the_papers_boxes_have_the_papers_sizes(name, step, shape):
    recipe = load_recipe(f"copernicus/{name}")
    told = plan(
        recipe.source, recipe.target, lambda request: globe(step, "2010-01-01", "2025-01-01")
    )
    assert tuple(told.sizes.values()) == shape
    assert told.nbytes == 4 * shape[0] * 64 * 64 and told.remarks == () and told.windows >= 1
    assert "latitude 64, longitude 64" in str(told) and "version 202406" in str(told)


def test_a_plan_without_a_catalogue_tells_what_it_can(monkeypatch, tmp_path):
    for name in ("COPERNICUSMARINE_SERVICE_USERNAME", "COPERNICUSMARINE_SERVICE_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COPERNICUSMARINE_CREDENTIALS_DIRECTORY", str(tmp_path))

    def down(request: CopernicusRequest) -> Coverage:
        assert request.timeout <= 15
        raise ReadError("Copernicus Marine did not answer for 30 s")

    recipe = load_recipe("copernicus/natl_daily")
    text = str(plan(recipe.source, recipe.target, down))
    assert "login      not found; run: copernicusmarine login" in text
    assert "the recipe expects latitude 64, longitude 64" in text
    assert (
        "shape not known" in text and "2018-01-01 to 2018-12-31" in text and "24 x 64 x 64" in text
    )
    monkeypatch.setenv("COPERNICUSMARINE_SERVICE_USERNAME", "ada")
    monkeypatch.setenv("COPERNICUSMARINE_SERVICE_PASSWORD", "secret")
    text = str(plan(recipe.source, recipe.target, down))
    assert "found in the environment" in text and "ada" not in text and "secret" not in text


def test_a_plan_refuses_what_the_download_would_be_refused_for():
    def planned(step: float = DAY, expect: dict[str, int] | None = None, **changes: object) -> str:
        request = dataclasses.replace(SURFACE, **changes)
        return str(
            plan(
                request,
                Target(expect=expect or {}),
                lambda r: globe(step, "2020-01-01", "2020-02-01"),
            )
        )

    assert "the recipe expects 9 values of latitude, the box holds 13" in planned(
        expect={"latitude": 9}
    )
    for changes, message in (
        ({"start_datetime": "2021-01-01"}, r"has times from 2020-01-01T00:00:00.000 to 2020-02-01"),
        (
            {"start_datetime": "2020-01-02T06:00", "end_datetime": "2020-01-02T18:00"},
            r"nothing of x .* \(no time\); widen",
        ),
        (
            {"minimum_latitude": 20.01, "maximum_latitude": 20.02},
            r"nothing of x lies in .* \(no latitude\)",
        ),
        ({"minimum_latitude": -85}, r"x has latitude from -80 to 90, not latitude -85 to 21"),
        (
            {"minimum_depth": 900, "maximum_depth": 900},
            r"x has depth from 0.5 to 5, not latitude .*depth 900 to 900",
        ),
        ({"minimum_depth": None, "maximum_depth": None}, r"covers 3 levels of depth; give one"),
    ):
        with pytest.raises(OptionError, match=message) as caught:
            planned(**changes)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


def test_a_plan_knows_a_regional_axis_from_one_around_the_globe():
    regional = {"longitude": CoverageAxis(first=-6.0, last=36.0, step=0.25)}

    def planned(low: float, high: float, axes: dict[str, CoverageAxis]) -> int:
        whole = globe(DAY, "2020-01-01", "2020-02-01")
        coverage = dataclasses.replace(whole, axes={**whole.axes, **axes})
        request = dataclasses.replace(SURFACE, minimum_longitude=low, maximum_longitude=high)
        return plan(request, Target(), lambda r: coverage).sizes["longitude"]

    assert planned(170, -170, {}) == planned(170, 190, {}) == 241
    assert planned(-6, 36, regional) == 169
    for low, high in ((-10, 0), (0, 40), (350, 360)):  # 350 is -10
        with pytest.raises(OptionError, match="has longitude from -6 to 36"):
            planned(low, high, regional)


@pytest.mark.parametrize(
    ("low", "high", "count"), [(170, -170, 241), (170, 190, 241), (-180, 180, 4320), (-10, 10, 241)]
)
def test_the_dateline(low, high, count):
    request = CopernicusRequest(dataset_id="x", minimum_longitude=low, maximum_longitude=high)
    assert globe(DAY, "2020-01-01", "2020-02-01").sizes(request)["longitude"] == count


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"\[source\] of .* has no kind; choose from copernicus, pycles, video"),
        ("[source]\nkind = 'ftp'", "no kind of source in .* 'ftp'"),
        (
            "[sauce]\nkind = 'pycles'",
            "no table of .* 'sauce'; did you mean 'source'.*title, source, target",
        ),
        (
            "[source]\nkind = 'copernicus'\ndataset = 'x'",
            "did you mean 'dataset_id'.*dataset_id, dataset_version",
        ),
        ("[source]\nkind = 'copernicus'", "dataset_id=.*field required"),
        (
            "[source]\nkind = 'copernicus'\ndataset_id = 'x'\nminimum_latitude = 'south'",
            "minimum_latitude='south'",
        ),
        (
            "[source]\nkind = 'copernicus'\ndataset_id = 'x'\nminimum_latitude = 91",
            r"minimum_latitude=91(.0)?; give degrees",
        ),
        (
            "[source]\nkind = 'copernicus'\ndataset_id = 'x'\n"
            "minimum_latitude = 9\nmaximum_latitude = 8",
            "swap them",
        ),
        (
            "[source]\nkind = 'copernicus'\ndataset_id = 'x'\nstart_datetime = 'yesterday'",
            "'yesterday' is not a time",
        ),
        (
            "[source]\nkind = 'copernicus'\ndataset_id = 'x'\n"
            "start_datetime = '-1d'\nend_datetime = '-9d'",
            "swap them",
        ),
        (
            "[source]\nkind = 'copernicus'\ndataset_id = 'x'\nservice = 'ftp'",
            "choose from arco-geo-series",
        ),
        ("[source]\nkind = 'copernicus'\ndataset_id = 'x'\ntimeout = 0", "timeout=0"),
        (
            "[source]\nkind = 'copernicus'\ndataset_id = 'x'\n[target]\nchunk = {time = 1}",
            "did you mean 'chunks'",
        ),
        (
            "[source]\nkind = 'copernicus'\ndataset_id = 'x'\n[target]\nchunks = {time = 0}",
            "chunks.time=0",
        ),
        (
            "[source]\nkind = 'copernicus'\ndataset_id = 'x'\n[target]\nzarr_format = 4",
            "zarr_format=4; choose from 2, 3",
        ),
        (
            "[source]\nkind = 'copernicus'\ndataset_id = 'x'\n[target]\nwindow_bytes = 0",
            "window_bytes=0 must be a whole number, 1 or more",
        ),
        ("[source]\nkind = 'pycles'\ndoi = '10.1/x'", "only 10.6084/m9.figshare.9929798 is known"),
        (
            "[source]\nkind = ['pycles']",
            r"kind=\['pycles'\] in .* is not text; choose from copernicus, pycles, video",
        ),
        (
            "[source]\nkind = 'pycles'\n[target]\nchunks = {time = 9}",
            r"chunks in .* is for kind = .copernicus.; leave it",
        ),
        (
            "[source]\nkind = 'pycles'\n[target]\nwindow_bytes = 9",
            r"window_bytes in .* is for kind = .copernicus.; leave it",
        ),
        ("[source]\nkind = 'video'\npath = 'x'\nsize = 0", "size=0"),
        (
            "[source]\nkind = 'video'\npath = 'x'\ncrop = 'middle'",
            "crop='middle'; choose from none, center",
        ),
        ("[source]\nkind = 'video'\npath = 'x'\nsplit = [1, 2, 3]", "add up to 1"),
        ("source = 3", r"source=3 in .* is not a table; write \[source\]"),
        ("title = 3\n[source]\nkind = 'pycles'", "title=3"),
    ],
)
def test_a_mistake_is_told_in_one_line(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(OptionError, match=message) as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_none_and_a_name_that_is_unknown(tmp_path):
    (tmp_path / "mine.toml").write_text("[source")
    with pytest.raises(ReadError, match="is not valid TOML"):
        load_recipe(tmp_path / "mine.toml")
    with pytest.raises(ReadError, match="no such file"):
        load_recipe(tmp_path / "other.toml")
    with pytest.raises(OptionError, match="did you mean 'copernicus/natl_hourly'"):
        load_recipe("copernicus/natl_hourlie")


def test_relative_times_count_from_midnight_and_from_the_hour():
    now = datetime(2024, 3, 1, 17, 45, tzinfo=UTC)
    assert moment("-0d", now) == datetime(2024, 3, 1)
    assert moment("-2w", now) == datetime(2024, 2, 16)
    assert moment("-6h", now) == datetime(2024, 3, 1, 11)
    assert moment("2024-01-01T06:00+02:00", now) == datetime(2024, 1, 1, 4)
    resolved = CopernicusRequest(
        dataset_id="x", start_datetime="-30d", end_datetime="-1d"
    ).resolved(now)
    assert (resolved.start_datetime, resolved.end_datetime) == (
        "2024-01-31T00:00:00",
        "2024-02-29T00:00:00",
    )
    assert (
        resolved.clip_end
        and not CopernicusRequest(dataset_id="x", end_datetime="2024-01-01").resolved(now).clip_end
    )


def test_dates_of_toml_are_times(tmp_path):
    (tmp_path / "mine.toml").write_text(
        "[source]\nkind='copernicus'\ndataset_id='x'\nstart_datetime=2023-01-01T06:00:00"
    )
    assert load_recipe(tmp_path / "mine.toml").source.start_datetime == "2023-01-01T06:00:00"
