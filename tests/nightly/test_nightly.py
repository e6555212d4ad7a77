# SPDX-License-Identifier: Apache-2.0
"""The nightly job: what each kind of night returns, reports and keeps, while an archive grows."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import re
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from html import unescape
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from small_archives import moved, put
from tags import Tags

from sstfill.archive import verify
from sstfill.archive.job import open_job
from sstfill.archive.source import ArchiveSource
from sstfill.cli import main
from sstfill.errors import OptionError, ReadError, WriteError
from sstfill.nightly import EXIT, Night, load_nightly, run_night
from sstfill.nightly.alerts import alerts
from sstfill.nightly.history import FLOOR, added, read, same_state, usual, write
from sstfill.nightly.journal import held_by_another, locked
from sstfill.nightly.night import RecentReport
from sstfill.nightly.page import page
from sstfill.nightly.recent import recent_score
from sstfill.nightly.recipe import Alert
from sstfill.report.pictures import Picture
from sstfill.synthetic import ocean

DAYS, FIRST = 30, np.datetime64("2024-01-01")
TOML = """title = "the <test> ocean"
[nightly]
archive = "in.zarr"
filled = "out.zarr"
report = "report"
[fill]
method = "climatology"
"""


@pytest.fixture(scope="module")
def series() -> xr.Dataset:
    ds = ocean(shape=(DAYS, 20, 24), step="1D", seed=1)[["sst"]]
    return ds.assign_coords(
        time=(FIRST + np.arange(DAYS).astype("timedelta64[D]")).astype("M8[ns]")
    ).drop_encoding()


class Place:
    """A folder with an archive of some days, and its recipe."""

    def __init__(self, folder: Path, series: xr.Dataset) -> None:
        self.folder, self.series = folder, series
        self.toml = folder / "n.toml"
        self.report = folder / "report"
        self.toml.write_text(TOML)

    def bring(self, days: int, **changed: float) -> None:
        """Let the archive hold so many days; `changed` day d<number> gets a value everywhere (NaN:
        nothing there).
        """
        ds = self.series.isel(time=slice(0, days)).copy(deep=True)
        for name, value in changed.items():
            ds["sst"][int(name[1:])] = ds["sst"][int(name[1:])] + value
        put(ds, self.folder / "in.zarr")

    def night(self, day: int = DAYS, **how) -> Night:
        """A night at noon after day number `day`."""
        now = datetime(2024, 1, 1, 12, tzinfo=UTC) + timedelta(days=day)
        return run_night(load_nightly(self.toml), now=now, **how)

    @property
    def lines(self) -> list[dict]:
        return [
            json.loads(text) for text in (self.report / "history.jsonl").read_text().splitlines()
        ]

    @property
    def latest(self) -> dict:
        return json.loads((self.report / "latest.json").read_text())

    @property
    def page(self) -> str:
        return (self.report / "index.html").read_text()


@pytest.fixture
def drawn() -> None:
    """For tests that want the map and the chart in the report."""


def without_pictures(patch: pytest.MonkeyPatch) -> None:
    """Draw no pictures, which take most of the time of a small night."""
    for name in ("map_of_newest", "score_chart"):
        patch.setattr(f"sstfill.nightly.report.{name}", lambda *_: Picture())


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "drawn" not in request.fixturenames:
        without_pictures(monkeypatch)


@pytest.fixture
def place(tmp_path: Path, series: xr.Dataset) -> Place:
    return Place(tmp_path, series)


@pytest.fixture(scope="module")
def first_night(tmp_path_factory: pytest.TempPathFactory, series: xr.Dataset) -> tuple[Path, Night]:
    """A folder where a night has filled 20 days, to be copied, and what that night returned."""
    place = Place(tmp_path_factory.mktemp("first"), series)
    place.bring(20)
    with pytest.MonkeyPatch.context() as patch:
        without_pictures(patch)
        return place.folder, place.night(20)


@pytest.fixture
def begun(place: Place, first_night: tuple[Path, Night]) -> Place:
    """A place where a first night has filled 20 days."""
    folder, _ = first_night
    moved(folder, place.folder)
    shutil.copytree(folder / "report", place.report)
    return place


def test_links_in_the_archive_are_followed_where_the_recipe_says_so(place):
    place.bring(20)
    (place.folder / "in.zarr" / "sst").rename(place.folder / "moved")
    (place.folder / "in.zarr" / "sst").symlink_to(place.folder / "moved")
    refused = place.night(20)
    assert refused.status == "failed" and "allow links" in refused.failure
    place.toml.write_text(TOML.replace("[fill]", "[fill]\nallow_links = true"))
    assert place.night(20).status == "fine"


def test_nights_draw_members_where_the_recipe_says_so(place):
    wanted = TOML.replace('"climatology"', '"bayes_eof"\nmembers = 2')
    place.toml.write_text(wanted)
    for days in (20, 21):
        place.bring(days)
        assert place.night(days).status == "fine"
        assert not verify(place.folder / "out.zarr", place.folder / "in.zarr").wrong
    with xr.open_zarr(place.folder / "out.zarr") as out:
        assert dict(out.sst_members.sizes) == {"member": 2, "time": 21, "lat": 20, "lon": 24}
    place.toml.write_text(wanted.replace("members = 2", "members = 3"))
    assert "was filled with 2 members, not 3" in place.night(21).failure
    place.toml.write_text(wanted.replace("members = 2", "members = -3"))
    with pytest.raises(OptionError, match="members=-3"):
        load_nightly(place.toml)


def test_nights_grow_an_archive_and_the_report_tells(begun, first_night):
    place, first = begun, first_night[1]
    assert (first.status, first.exit, first.attention) == ("fine", 0, ())
    assert (first.outcome.new, first.newest) == (20, "2024-01-20")
    place.bring(21, d18=0.5)
    second = place.night(21)
    assert (second.status, second.outcome.new, second.outcome.revised) == ("fine", 1, 1)
    assert not verify(place.folder / "out.zarr", place.folder / "in.zarr").wrong
    assert [one["newest"] for one in place.lines] == ["2024-01-20", "2024-01-21"]
    told = place.latest
    assert (told["status"], told["exit"], told["state"]) == ("fine", 0, second.state)
    assert told["found"]["sst"]["score"]["rmse"] == pytest.approx(second.found["sst"].score["rmse"])
    assert told["provenance"]["models"] == {"sst": second.found["sst"].model}
    assert sum(told["found"]["sst"]["fractions"].values()) == pytest.approx(1)
    assert told["found"]["sst"]["filled_fraction"] == 1
    page = place.page
    for words in (
        "the &lt;test&gt; ocean",
        "Fine",
        "2024-01-21",
        "<b>1</b> new days",
        "<b>1</b> revised days",
        f"RMSE <b>{second.found['sst'].score['rmse']:.3g}</b> °C",
        "Last 2 nights",
        second.found["sst"].model,
        "method = &#34;climatology&#34;",
    ):
        assert words in page, words


def test_the_page_stands_alone(begun, drawn):
    place = begun
    place.night(20)
    tags = Tags()
    tags.feed(place.page)
    assert not tags.open and {"img", "table"} <= tags.names
    assert "script" not in tags.names and "link" not in tags.names
    assert [link[:22] for link in tags.links] == ["data:image/png;base64,"] * 2  # map, chart
    assert not re.search(r"url\(|@import|https?://", place.page)
    assert len(place.page) < 1_000_000


def test_a_second_run_the_same_night_finds_nothing_to_do(begun, first_night, monkeypatch):
    place, first = begun, first_night[1]
    monkeypatch.setattr(
        "sstfill.nightly.recent.recent_score", lambda *_: pytest.fail("scored again")
    )
    again = place.night(20)
    assert (again.exit, again.outcome.made, again.state) == (0, 0, first.state)
    assert again.found == first.found
    (line,) = place.lines
    assert (line["times"], line["days"]["new"]) == (2, 20)
    assert "Nothing is new or revised since" in place.page and "<b>20</b> new days" in place.page


def test_the_score_is_that_of_the_state_alone(begun):
    place = begun
    source = ArchiveSource(path=str(place.folder / "in.zarr"))
    one, other = (recent_score(place.folder / "out.zarr", source, seed) for seed in (0, 0))
    assert one == other and one["sst"]["n"] > 100
    assert recent_score(place.folder / "out.zarr", source, 1) != one


def test_what_calls_for_attention(begun):
    place = begun
    place.bring(21, d20=np.nan)
    night = place.night(25)
    assert (night.status, night.exit) == ("attention", 1)
    assert any("newest image is of 2024-01-21, 5.5 days ago" in text for text in night.attention)
    assert any("sst: nothing observed on 2024-01-21" in text for text in night.attention)
    assert all(text in place.page for text in night.attention)
    assert place.latest["attention"] == list(night.attention)


def test_a_score_that_leaves_its_history_is_told_and_told_again_the_same_night(begun):
    place = begun
    (line,) = place.lines
    write(place.report / "history.jsonl", [line | {"state": f"earlier {i}"} for i in range(8)])
    place.bring(21)
    assert place.night(21).status == "fine"
    rng = np.random.default_rng(0)
    place.bring(22, **{f"d{day}": rng.normal(0, 3, (20, 24)) for day in range(8, 22)})
    night = place.night(22)
    assert night.exit == 1
    assert re.search(
        r"RMSE \S+ °C .* leaves its history: the median of 9 nights", night.attention[0]
    )
    again = place.night(22)
    assert (again.outcome.made, again.attention) == (0, night.attention)
    assert [one["status"] for one in place.lines[8:]] == ["fine", "attention"]
    assert "#b3261e" in place.page and "limit" in place.page


def test_a_failed_night_says_so_and_leaves_the_output(begun):
    place = begun
    before = (place.folder / "out.zarr" / "zarr.json").read_bytes()
    place.bring(19)
    night = place.night(20)
    assert (night.status, night.exit) == ("failed", 2)
    assert "failed at the fill: 1 of the 20 images" in night.failure
    assert (place.folder / "out.zarr" / "zarr.json").read_bytes() == before
    assert "Failed" in place.page and "as it was before this night" in place.page
    assert "Traceback" in (place.report / "nightly.log").read_text()
    place.night(20)
    assert [(one["status"], one["times"]) for one in place.lines] == [("fine", 1), ("failed", 2)]
    place.bring(20)
    assert place.night(20).exit == 0
    assert [one["status"] for one in place.lines] == ["fine", "failed", "fine"]


def test_another_method_needs_refit(begun, first_night):
    place, first = begun, first_night[1]
    place.toml.write_text(TOML.replace("climatology", "interpolate"))
    night = place.night(20)
    assert night.exit == 2 and "--refit fills all again" in night.failure
    night = place.night(20, refit=True)
    assert (night.exit, night.outcome.made) == (0, first.outcome.made)
    assert night.found["sst"].model != first.found["sst"].model
    assert not verify(place.folder / "out.zarr", place.folder / "in.zarr").wrong


def test_no_archive_at_all_is_a_failure(place):
    night = place.night(20)
    assert night.exit == 2 and "there is no output yet" in night.whole
    assert "in.zarr" in night.failure and place.latest["exit"] == 2


def test_an_error_nobody_thought_of_is_a_failure_after_which_the_output_is_whole(
    place, monkeypatch
):
    place.bring(20)

    def broken(*_):
        raise ZeroDivisionError("of 1 by 0")

    monkeypatch.setattr("sstfill.nightly.recent.recent_score", broken)
    night = place.night(20)
    assert night.exit == 2 and night.failure == "failed at the score: ZeroDivisionError: of 1 by 0"
    assert "what failed came after" in night.whole and not verify(place.folder / "out.zarr").wrong
    monkeypatch.undo()
    assert place.night(20).exit == 0


def test_a_report_that_cannot_be_written_is_a_failure(begun, monkeypatch):
    place = begun
    (place.report / "index.html").unlink()
    monkeypatch.setattr("sstfill.nightly.report.map_of_newest", lambda *_: 1 / 0)
    night = place.night(20)
    assert night.exit == 2 and "failed at the report" in night.failure
    assert not (place.report / "index.html").exists()


def test_a_map_that_cannot_be_drawn_costs_no_night(begun, drawn, monkeypatch):
    place = begun
    monkeypatch.setattr("sstfill.plot.maps", lambda *_, **__: 1 / 0)
    assert place.night(20).exit == 0
    assert "no map: division by zero" in place.page and place.page.count("<img") == 1


def hold(job: Callable[[Path], AbstractContextManager[object]], path: Path, held: Event) -> None:
    """Be at it for a minute, in a process of its own."""
    with job(path):
        held.set()
        time.sleep(60)


@pytest.mark.parametrize(("job", "at"), [(locked, "report"), (open_job, "out.zarr")])
def test_another_job_at_it_is_no_failure(begun, capsys, quick_workers, job, at):
    place = begun
    (place.report / "index.html").unlink()
    context = multiprocessing.get_context("forkserver")
    held = context.Event()
    other = context.Process(target=hold, args=(job, place.folder / at, held))
    other.start()
    assert held.wait(60)
    assert main(["nightly", str(place.toml), "--quiet"]) == 75
    assert not (place.report / "index.html").exists()
    other.kill()
    other.join()
    assert (
        f"busy: {'another night is under way' if at == 'report' else place.folder / 'out.zarr'}"
        in capsys.readouterr().err
    )
    assert place.night(20).exit == 0  # what was killed holds nothing


def test_a_chart_that_cannot_be_drawn_costs_no_night(begun, drawn, monkeypatch):
    place = begun
    monkeypatch.setattr("sstfill.nightly.report.map_of_newest", lambda *_: Picture())
    monkeypatch.setattr("sstfill.nightly.pictures._chart", lambda *_: 1 / 0)
    assert place.night(20).exit == 0
    assert "no chart: division by zero" in place.page and "<img" not in place.page


def test_a_bad_line_of_the_history_is_told_once_a_night(begun, caplog):
    place = begun
    with (place.report / "history.jsonl").open("a") as file:
        file.write("torn\n")
    caplog.clear()
    night = place.night(20)
    told = [text for text in caplog.messages if "cannot be read and is left out" in text]
    assert len(told) == 1 and told[0].startswith("line 2 of")
    assert [text for text in night.warnings if "left out" in text] == [f"warning: {told[0]}"]
    assert told[0] in unescape(place.page)


def test_a_history_that_cannot_be_read_is_left_as_it_is(begun):
    place = begun
    history = place.report / "history.jsonl"
    history.unlink()
    history.mkdir()
    (history / "mine").touch()
    night = place.night(20)
    assert night.exit == 2 and "failed at the start" in night.failure
    assert [file.name for file in history.iterdir()] == ["mine"]


def test_a_lock_is_told_from_other_errors(tmp_path):
    with (
        locked(tmp_path / "report"),
        pytest.raises(WriteError) as caught,
        locked(tmp_path / "report"),
    ):
        pass
    assert held_by_another(caught.value)
    assert not held_by_another(WriteError("no space")) and not held_by_another(None)


class TestCommand:
    def test_fine_attention_and_failed(self, place, capsys, monkeypatch):
        place.bring(20)
        place.toml.write_text(TOML + "[alert]\nmax_age_days = 1e6\n")
        assert main(["nightly", str(place.toml), "--quiet"]) == 0
        assert capsys.readouterr() == ("", "")
        place.toml.write_text(TOML)
        assert main(["nightly", str(place.toml), "--quiet"]) == 1
        told = capsys.readouterr()
        assert told.out == "" and told.err.startswith(
            "sstfill: attention: the newest image is of 2024-01-20"
        )
        assert told.err.count("\n") == 1
        place.bring(19)
        assert main(["nightly", str(place.toml), "--quiet"]) == 2
        told = capsys.readouterr()
        assert (
            told.err.startswith("sstfill: error: failed at the fill: ")
            and told.err.count("\n") == 1
        )

    def test_not_quiet_it_tells_what_it_did(self, place, capsys):
        place.bring(20)
        assert main(["nightly", str(place.toml), "--memory", "4GB"]) == 1
        out, err = capsys.readouterr()
        assert "days: 20 new" in out and out.endswith(
            f"attention; the report: {place.report / 'index.html'}\n"
        )
        assert err.count("attention: ") == 1

    def test_a_wrong_recipe_is_one_line(self, place, capsys):
        place.toml.write_text(TOML.replace("climatology", "climatologie"))
        assert main(["nightly", str(place.toml)]) == 2
        assert "did you mean 'climatology'" in capsys.readouterr().err
        assert not place.report.exists()

    def test_help_tells_the_exit_status(self, capsys):
        with pytest.raises(SystemExit):
            main(["nightly", "--help"])
        text = " ".join(capsys.readouterr().out.split())
        assert (
            "0 all is well; 1 done, but look at the report; 2 failed" in text
            and "75 another" in text
        )


class TestRecipe:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (("[fill]", "[full]"), "did you mean 'fill'"),
            (('archive = "in.zarr"', 'archiv = "in.zarr"'), "has no archive"),
            (('report = "report"', 'report = "report"\nreports = 1'), "did you mean 'report'"),
            (
                ('method = "climatology"', 'method = "dineof"\nmoods = 3'),
                "did you mean 'modes'.*variables",
            ),
            (('method = "climatology"', 'method = "dineof"\nmodes = -3'), "modes=-3"),
            (('"out.zarr"', '"out.nc"'), "no Zarr store"),
            (('"out.zarr"', '"in.zarr"'), "not three places"),
            (('"report"', '"nowhere/report"'), "mkdir -p"),
            (("[fill]", "[alert]\nrmse_sigma = 0\n[fill]"), "rmse_sigma=0"),
            (("[fill]", "[alert]\nrmse = 2\n[fill]"), "rmse_sigma"),
            (("[fill]", "[alert]\nmin_nights = 70\n[fill]"), "min_nights=70 is more"),
            (("[fill]", '[download]\nrecipe = "clouds/pycles_unisst"\n[fill]'), "does not grow"),
            (
                ("[fill]", '[download]\nrecipe = "copernicus/nightly"\n[fill]'),
                "copernicus/nightly_l3s",
            ),
            (("[fill]", "[download]\n[fill]"), "has no recipe"),
            (("[fill]", "download = 3\n[fill]"), "did you mean|download"),
        ],
    )
    def test_what_does_not_fit_is_refused_with_what_does(self, place, change, message):
        place.toml.write_text(TOML.replace(*change))
        with pytest.raises(OptionError, match=message) as caught:
            load_nightly(place.toml)
        assert "\n" not in str(caught.value)

    def test_no_file_and_no_toml(self, tmp_path):
        with pytest.raises(ReadError, match="nightly/med_l3s"):
            load_nightly(tmp_path / "none.toml")
        (tmp_path / "bad.toml").write_text("[nightly")
        with pytest.raises(ReadError, match="not valid TOML"):
            load_nightly(tmp_path / "bad.toml")

    def test_paths_begin_at_the_recipe_or_where_it_is_told(self, place, tmp_path, monkeypatch):
        assert load_nightly(place.toml).archive == tmp_path / "in.zarr"
        (tmp_path / "else").mkdir()
        assert load_nightly(place.toml, tmp_path / "else").filled == tmp_path / "else" / "out.zarr"
        monkeypatch.chdir(tmp_path / "else")
        for name in ("nightly/med_l3s", "recipes/nightly/med_l3s.toml"):
            assert load_nightly(name).archive == tmp_path / "else" / "med.zarr"

    def test_the_one_that_ships(self):
        found = load_nightly("nightly/med_l3s")
        assert found.download is not None and found.download.name == "copernicus/nightly_l3s"
        assert (found.method.name, found.fill.quality_level) == ("gan", 4)
        assert found.alert == Alert()

    def test_options_of_the_method_and_its_seed(self, place):
        place.toml.write_text(TOML.replace('"climatology"', '"dineof"\nmodes = 3\nseed = 5'))
        method = load_nightly(place.toml).method
        assert (method.modes, method.seed) == (3, 5)


def a_line(state: str, rmse: float | None, model: str = "m", status: str = "fine") -> dict:
    score = {} if rmse is None else {"rmse": rmse}
    return {
        "status": status,
        "started": "2024-01-01T00:00:00Z",
        "state": state,
        "failure": "",
        "found": {"sst": {"model": model, "score": score}},
    }


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.1, 2.0), min_size=7, max_size=80), st.floats(1.0, 10.0))
def test_what_is_usual_is_robust(errors, sigma):
    alert = Alert(rmse_sigma=sigma)
    found = usual([a_line(str(i), e) for i, e in enumerate(errors)], "now", "sst", "m", alert)
    assert found is not None
    last = np.array(errors[-60:])
    assert found.nights == len(last) and found.median == pytest.approx(np.median(last))
    assert found.limit >= found.median * (1 + sigma * 1.4826 * FLOOR) * (1 - 1e-12)
    one_bad = usual(
        [a_line(str(i), e) for i, e in enumerate([*errors[-59:], 1e6])], "now", "sst", "m", alert
    )
    assert one_bad is not None and one_bad.median <= max(errors)


def test_what_does_not_count_for_what_is_usual():
    lines = [a_line(str(i), 1.0) for i in range(7)]
    assert usual(lines[:6], "now", "sst", "m", Alert()) is None
    assert usual(lines, "6", "sst", "m", Alert()) is None, "tonight itself does not count"
    assert usual([*lines[:6], lines[5]], "now", "sst", "m", Alert()) is None, "a state counts once"
    assert usual([*lines[:6], a_line("x", 1.0, "other")], "now", "sst", "m", Alert()) is None, (
        "nor another method"
    )
    assert usual([*lines[:6], a_line("x", None)], "now", "sst", "m", Alert()) is None, (
        "nor a night without a score"
    )
    assert usual(lines, "now", "sst", "m", Alert()) is not None


def test_a_history_with_a_torn_line_is_read_and_written_whole(tmp_path, caplog):
    path = tmp_path / "history.jsonl"
    assert read(path) == []
    write(path, [a_line("a", 1.0), a_line("b", None)])
    path.write_text(path.read_text() + '{"status": "fi\n[1]\n')
    assert [one["state"] for one in read(path)] == ["a", "b"]
    assert "line 3, line 4 of" in caplog.text and "kept in history.unreadable.jsonl" in caplog.text
    assert same_state(read(path), "a") == a_line("a", 1.0) and same_state(read(path), "c") is None


@settings(max_examples=40, deadline=None)
@given(
    bad=st.one_of(
        st.binary(min_size=1, max_size=60).filter(lambda text: text.strip()),
        st.sampled_from(
            [b"\xff", b"[" * 50_000, b"9" * 5000, b'{"status": "fine"}', b"null", b"NaN"]
        ),
    )
)
def test_a_bad_line_stops_no_night_and_is_kept_aside(tmp_path_factory, bad):
    path = tmp_path_factory.mktemp("history") / "history.jsonl"
    write(path, [a_line("a", 1.0), a_line("b", 2.0)])
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + bad + b"\n" + second)
    lines = read(path)
    assert [one["state"] for one in lines] == ["a", "b"]
    write(path, lines)
    assert path.read_bytes() == first + second
    kept = path.with_name("history.unreadable.jsonl").read_bytes()
    assert kept.splitlines() == [text for text in bad.splitlines() if text.strip()]
    write(path, lines)
    assert path.with_name("history.unreadable.jsonl").read_bytes() == kept


@pytest.mark.parametrize(
    "change",
    [
        {"found": {"sst": {"model": "m", "score": {"rmse": "1"}}}},
        {"seconds": {"fill": None}},
        {"status": "odd"},
        {"found": {"sst": {"model": "m", "score": {"rmse": 1e31}}}},
        {"days": {"made": "x"}},
        {"started": 3},
    ],
)
def test_a_line_with_a_value_that_no_night_wrote_is_a_bad_line(tmp_path, change):
    path = tmp_path / "history.jsonl"
    path.write_text(json.dumps(a_line("a", 1.0) | change) + "\n")
    assert read(path) == []


def test_a_line_of_before_has_the_names_of_today(tmp_path):
    path = tmp_path / "history.jsonl"
    line = a_line("a", 1.0)
    line["found"]["sst"]["filled_share"] = 0.5
    path.write_text(json.dumps(line) + "\n")
    (found,) = read(path)
    assert found["found"]["sst"] == {"model": "m", "score": {"rmse": 1.0}, "filled_fraction": 0.5}
    line["found"]["sst"]["filled_share"] = "half"
    path.write_text(json.dumps(line) + "\n")
    assert read(path) == []


def test_the_page_of_bare_lines_and_of_markup(tmp_path):
    recipe = load_nightly("nightly/med_l3s", tmp_path)
    odd = "<script>alert(1)</script>"
    lines = [
        a_line("a", 1.0),
        a_line(odd, 2.0, model=odd) | {"failure": odd, "attention": [odd], "newest": odd},
    ]
    night = Night(
        status="attention",
        started=odd,
        state="b",
        attention=(odd,),
        failure=odd,
        whole=odd,
        warnings=(odd,),
    )
    text = page(recipe, night, lines, [], {"archive": odd, odd: {"a": odd}})
    assert odd not in text and "&lt;script&gt;" in text


def test_a_line_takes_the_place_of_one_that_says_the_same():
    night = Night(status="fine", started="2024-01-02T00:00:00Z", state="a")
    lines = added([], night)
    assert len(added(lines, night)) == 1 and added(lines, night)[0]["times"] == 2
    assert len(added(lines, dataclasses.replace(night, state="b"))) == 2
    assert len(added(lines, dataclasses.replace(night, failure="no"))) == 2


def test_limits_of_age_fraction_and_clock():
    found = {
        "sst": RecentReport(
            model="m",
            score={},
            fractions={"observed": 0.5, "filled": 0.2, "not_filled": 0.3},
            newest={},
            error=None,
            newest_error=None,
            empty=(),
        )
    }
    now = datetime(2024, 1, 4, tzinfo=UTC)
    day = (now.timestamp() - 3 * 86_400) / 86_400

    def said(newest: tuple[str, float | None], **options: float) -> list[str]:
        return list(alerts(found, [], "s", newest, "", Alert(**options), now))

    assert [text[:34] for text in said(("", None))] == ["sst: 40.0% of the gaps at sea in t"]
    assert said(("2024-01-01", day), min_filled_fraction=0.4) == []
    assert "3.0 days ago" in said(("2024-01-01", day - 0.01), min_filled_fraction=0.4)[0]
    assert "look at the clock" in said(("2024-02-01", day + 6), min_filled_fraction=0.4)[0]
    assert found["sst"].filled_fraction == pytest.approx(0.4)
    assert sorted(EXIT.values()) == [0, 1, 2, 75]
