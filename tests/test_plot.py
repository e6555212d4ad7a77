# SPDX-License-Identifier: Apache-2.0
"""Pictures: the right axes, true colours, no network, clear errors, whole files."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import cartopy
import matplotlib
import numpy as np
import pytest
import xarray as xr
from cartopy.io import Downloader
from cartopy.mpl.feature_artist import FeatureArtist
from matplotlib.animation import FFMpegWriter
from matplotlib.artist import Artist
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from sstfill import plot
from sstfill.errors import InputError, OptionError, WriteError
from sstfill.evaluation import Scorecard
from sstfill.plot import scores
from sstfill.plot.canvas import canvas, natural_earth
from sstfill.plot.view import date, half_filled, step_of, view

STEPS, ROWS, COLUMNS = 5, 8, 10
TIME = xr.date_range("2017-03-09", periods=STEPS)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a picture reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(Downloader, "_urlopen", refuse)
    monkeypatch.setattr(Downloader, "acquire_resource", refuse)


def made(*, land: bool = True, error: bool = True, units: str = "kelvin") -> xr.Dataset:
    """What fill() returns for a small series: step k has k/4 of its columns filled."""
    rng = np.random.default_rng(0)
    source = np.zeros((STEPS, ROWS, COLUMNS), "int8")
    for step in range(STEPS):
        source[step, :, : round(COLUMNS * step / 4)] = 1
    source[:, 0, 9], source[2, 7, 9] = 2, 3
    if land:
        source[:, :3, :3] = 4
    field = np.where(np.isin(source, (2, 4)), np.nan, 290 + rng.normal(size=source.shape))
    dims = ("time", "lat", "lon")
    attrs = {"units": units, "standard_name": "sea_surface_temperature"}
    ds = xr.Dataset(
        {"sst": (dims, field, attrs), "sst_source": (dims, source)},
        coords={"time": TIME, "lat": 35 + np.arange(ROWS) / 4, "lon": -5 + np.arange(COLUMNS) / 4},
    )
    if error:
        ds["sst_error"] = (dims, np.where(source == 1, 0.3, np.nan), {"units": "kelvin"})
    return ds


def curvilinear(ds: xr.Dataset) -> xr.Dataset:
    """The same cells on a grid turned by 30 degrees across the date line."""
    y, x = np.mgrid[:ROWS, :COLUMNS] * 0.5
    lon, lat = 178 + 0.87 * x - 0.5 * y, -20 + 0.5 * x + 0.87 * y
    turned = ds.drop_vars(["lat", "lon"]).rename(lat="y", lon="x")
    return turned.assign_coords(lat=(("y", "x"), lat), lon=(("y", "x"), (lon + 180) % 360 - 180))


def titles(figure: Figure) -> list[str]:
    return [ax.get_title() for ax in figure.axes if ax.get_title()]


def drawn(figure: Figure, number: int = 0) -> np.ma.MaskedArray:
    return figure.axes[number].collections[0].get_array()


def paint(figure: Figure) -> None:
    figure.draw_without_rendering()


def test_maps_have_a_panel_for_each_layer_on_a_map() -> None:
    figure = plot.maps(made(), time="2017-03-11")
    paint(figure)
    assert figure.get_suptitle() == "Sea surface temperature, 2017-03-11"
    assert [title.split(",")[0] for title in titles(figure)] == [
        "observed",
        "filled",
        "error of the fill",
        "source of each pixel",
    ]
    panels = [ax for ax in figure.axes if hasattr(ax, "projection")]
    assert len(panels) == 4 and all(
        isinstance(ax.projection, cartopy.crs.PlateCarree) for ax in panels
    )
    labels = [ax.get_xlabel() for ax in figure.axes if ax not in panels]
    assert sorted(labels) == ["Sea surface temperature (K)", "error, 1 σ (K)"]


@pytest.mark.parametrize("kind", ["maps", "panels", "animation"])
def test_a_dollar_in_the_words_of_a_file_is_no_formula(kind: str) -> None:
    words = r"price in US$\foo_$"
    ds = made(units=words)
    ds["sst"].attrs = {"units": words, "long_name": words}
    ds["sst"].attrs["sstfill_method"] = json.dumps({"name": words})
    made_of = plot.picture(ds, kind=kind)
    figure = made_of if isinstance(made_of, Figure) else made_of.figure
    paint(figure)
    assert any(words in ax.get_xlabel() for ax in figure.axes)


def test_a_dollar_in_the_words_of_a_scorecard_is_no_formula() -> None:
    words = r"price in US$\foo_$"
    figure = plot.scorecard(made_card().assign_attrs(variable=words, units=words))
    paint(figure)
    assert words in figure.get_suptitle()


def test_observed_shows_only_the_observed_and_shares_the_scale() -> None:
    ds = made(land=False)
    figure = plot.maps(ds, time=2, layers=("filled", "observed", "source"))
    now = ds.isel(time=2)
    filled, observed = (ax.collections[0] for ax in figure.axes[:2])
    assert filled.get_clim() == observed.get_clim()
    np.testing.assert_array_equal(
        np.ma.getmaskarray(observed.get_array()), (now.sst_source != 0).values
    )
    np.testing.assert_array_equal(filled.get_array().filled(np.nan), now.sst.values)
    legend = [text.get_text() for text in figure.axes[2].get_legend().get_texts()]
    assert legend == ["observed 48%", "filled 50%", "not filled 1%", "withheld 1%"]


def test_robust_scale_leaves_out_the_extremes() -> None:
    ds = made(land=False)
    ds["sst"][2, 4, 4] = 999.0
    robust, full = (
        plot.maps(ds, time=2, layers=("filled",), robust=robust).axes[0].collections[0].get_clim()
        for robust in (True, False)
    )
    assert robust[1] < 300 and full[1] == 999.0


def test_default_date_is_the_half_filled_one() -> None:
    ds = made(land=False)
    assert half_filled(ds.sst_source) == 2
    assert "2017-03-11" in plot.maps(ds, layers=("filled", "source")).get_suptitle()


def test_lazy_input_is_drawn() -> None:
    assert "2017-03-11" in plot.maps(made(land=False).chunk(time=1)).get_suptitle()


def test_error_is_left_out_where_there_is_none() -> None:
    assert len(titles(plot.maps(made(error=False)))) == 3
    with pytest.raises(
        OptionError, match=r"no error is stated .* choose layers from observed, filled"
    ):
        plot.maps(made(error=False), layers=("error",))


def test_celsius_and_other_units() -> None:
    assert view(made(units="degree_Celsius")).units == "°C"
    assert view(made(units="mg m-3")).units == "mg m-3"


@pytest.mark.parametrize(
    ("said", "title"),
    [
        ('{"name": "dineof", "options": {}}', "filled by dineof"),
        ("by hand", "filled"),
        ("3", "filled"),
    ],
)
def test_title_names_the_method(said: str, title: str) -> None:
    ds = made()
    ds["sst"].attrs["sstfill_method"] = said
    assert titles(plot.maps(ds, time=2, layers=("filled",))) == [title]


def test_curvilinear_across_the_date_line() -> None:
    ds = curvilinear(made())
    where = canvas(view(ds).field)
    assert where.centre == 180 and where.x.shape == (ROWS + 1, COLUMNS + 1)
    assert np.ptp(where.x) < 10
    figure = plot.maps(ds, time=2)
    paint(figure)
    assert len(titles(figure)) == 4


def test_curvilinear_with_empty_positions() -> None:
    ds = curvilinear(made())
    ds["lat"][0, 0], ds["lon"][0, 0] = np.nan, np.nan
    paint(plot.maps(ds, time=2, layers=("filled",)))


@pytest.mark.parametrize("number", [0.0, -1.0, -999.0, 9.969209968386869e36])
def test_cells_of_the_sea_are_not_drawn_out_to_placeholders_on_land(number: float) -> None:
    ds = curvilinear(made())
    whole = canvas(view(ds).field)
    ds["lat"][:2, :3], ds["lon"][:2, :3] = number, number
    where = canvas(view(ds).field)
    assert whole.y.min() - 1 < where.y.min() and where.y.max() < whole.y.max() + 1
    assert np.ptp(where.x) < np.ptp(whole.x) + 1
    paint(plot.maps(ds, time=2, layers=("filled",)))


def test_corners_are_half_a_cell_from_the_centres() -> None:
    where = canvas(view(made()).field)
    np.testing.assert_allclose(where.x[0], -5.125 + np.arange(COLUMNS + 1) / 4)
    np.testing.assert_allclose(where.y[:, 0], 34.875 + np.arange(ROWS + 1) / 4)


def test_without_positions_the_axes_are_plain() -> None:
    ds = made().drop_vars(["lat", "lon"]).rename(lat="y", lon="x")
    figure = plot.maps(ds, time=2)
    paint(figure)
    assert not any(hasattr(ax, "projection") for ax in figure.axes)


def test_coast_runs_between_sea_and_land() -> None:
    drawn = plot.maps(made(), time=2, layers=("filled",)).axes[0].collections
    coasts = [part for part in drawn if isinstance(part, LineCollection)]
    lines = coasts[0].get_segments()
    assert len(lines) == 6  # a corner of 3 x 3 cells
    assert {point[0] for line in lines for point in line} <= {-5.125, -4.875, -4.625, -4.375}


def test_global_grid_is_drawn_in_one_piece() -> None:
    lon = np.arange(0.5, 360, 10)
    ds = made(land=False).isel(lon=[0] * lon.size).assign_coords(lon=lon)
    assert canvas(view(ds).field).centre != 0
    paint(plot.maps(ds, time=2, layers=("filled",)))


def test_draws_into_given_axes() -> None:
    figure = Figure()
    axes = figure.subplots(1, 3)
    assert (
        plot.maps(made(error=False), time=1, layers=("filled", "error", "source"), ax=axes)
        is figure
    )
    assert axes[0].get_title() == "2017-03-10: filled" and not axes[1].get_visible()
    with pytest.raises(OptionError, match="3 axes for 2 layers"):
        plot.maps(made(), layers=("filled", "source"), ax=axes)


def test_one_axes_takes_the_filled_field() -> None:
    ax = Figure().subplots()
    figure = plot.maps(made(), time=2, ax=ax)
    paint(figure)
    assert ax.get_title() == "2017-03-11: filled" and len(figure.axes) == 2  # with a colour bar


DRAWN = {
    "maps": lambda **where: plot.maps(made(), time=2, **where),
    "panels": lambda **where: plot.panels(made(), n=2, **where),
    "members": lambda **where: plot.members(with_members(), time=2, n=2, **where),
    "scorecard": lambda **where: plot.scorecard(made_card(), **where),
    "training": lambda **where: plot.training(Trained(), **where),
}
"""Each function of the package that draws, and how it is called."""


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_draws_into_a_figure_or_a_part_of_one(draw: Callable[..., Figure]) -> None:
    figure = Figure(figsize=(14, 6))
    assert draw(fig=figure) is figure
    paint(figure)
    whole = Figure(figsize=(24, 6))
    left, right = whole.subfigures(1, 2)
    assert draw(fig=left) is whole and not right.axes
    assert len(left.axes) == len(figure.axes) == len(draw().axes)
    paint(whole)


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_one_place_to_draw(draw: Callable[..., Figure]) -> None:
    figure = Figure()
    with pytest.raises(OptionError, match="both ax and fig are given; leave one of them out"):
        draw(ax=figure.subplots(), fig=figure)
    with pytest.raises(OptionError, match=r"9 axes for .* give one for each"):
        draw(ax=Figure().subplots(3, 3))


def test_a_figure_without_room_for_the_maps() -> None:
    with pytest.raises(OptionError, match="of 2 x 2 inches has no room for 1 x 4 maps; make it"):
        plot.maps(made(), fig=Figure(figsize=(2, 2)))


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_a_notebook_is_given_a_picture(draw: Callable[..., Figure]) -> None:
    assert draw()._repr_png_().startswith(b"\x89PNG")


class Trained:
    """What `train` returns, as far as a picture looks at it."""

    def __init__(self, **trained: object) -> None:
        history = [{"epoch": 1, "train": 0.5, "withheld_mae": 0.4}, {"epoch": 2, "train": 0.3}]
        self.checkpoint = self
        self.config = {"trained": {"history": history, **trained}}


def test_the_curves_of_a_training() -> None:
    figure = plot.training(Trained())
    paint(figure)
    assert titles_left(figure) == ["training loss: least 0.3", "withheld MAE: least 0.4"]
    with pytest.raises(InputError, match="keeps no history"):
        plot.training(Trained(history=[]))
    with pytest.raises(InputError, match="Dataset is not a trained network; pass what train"):
        plot.training(made())


def test_a_film_has_a_frame_for_each_date(tmp_path: Path) -> None:
    film = plot.animation(made(land=False), layers=("observed", "filled", "error"), fps=8)
    assert film.frames == STEPS
    film.show(1)
    assert film.figure.get_suptitle() == "Sea surface temperature, 2017-03-10"
    now = view(made(land=False)).at(1)
    for number, expected in enumerate((now.field.where(now.source == 0), now.field, now.error)):
        np.testing.assert_array_equal(drawn(film.figure, number).filled(np.nan), expected)
    path = plot.save(film, tmp_path / "film.gif")
    with Image.open(path) as image:
        assert (image.n_frames, image.info["duration"], image.info["loop"]) == (STEPS, 120, 0)
        first = np.asarray(image.convert("RGB"))
        image.seek(1)
        assert (first != np.asarray(image.convert("RGB"))).any()
    short = plot.animation(made(land=False), times=[0, 1], layers=("filled",))
    assert short.save(path) == path and list(tmp_path.iterdir()) == [path]  # it is known as ours
    assert short._repr_html_().startswith('<img src="data:image/gif;base64,')


def test_all_dates_of_a_film_share_a_scale() -> None:
    ds = made(land=False)
    ds["sst"][4] += 100
    film = plot.animation(ds, times=[0, "2017-03-13"])
    assert film.frames == 2
    scales = {box.collections[0].get_clim() for box in film.figure.axes[:2]}
    assert len(scales) == 1 and max(scales)[1] > 380


def test_a_film_is_written_over_nothing_else(tmp_path: Path) -> None:
    film = plot.animation(made(), times=[0, 1])
    other = tmp_path / "mine.gif"
    other.write_bytes(b"GIF89a, not drawn here")
    with pytest.raises(WriteError, match="was not made by sstfill"):
        film.save(other)
    with pytest.raises(OptionError, match=r"'film.png'; end its name in .gif or .mp4"):
        film.save(tmp_path / "film.png")


def test_mp4_needs_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = plot.animation(made(), times=[0, 1])
    if FFMpegWriter.isAvailable():
        assert b"ftyp" in film.save(tmp_path / "film.mp4").read_bytes()[:16]
        film.save(tmp_path / "film.mp4")
    monkeypatch.setitem(matplotlib.rcParams, "animation.ffmpeg_path", "no-such-program")
    with pytest.raises(OptionError, match=r"ffmpeg, which is not installed; .* end the name in"):
        film.save(tmp_path / "other.mp4")
    monkeypatch.setitem(matplotlib.rcParams, "animation.ffmpeg_path", "false")
    with pytest.raises(WriteError, match=r"end the name in \.gif"):
        film.save(tmp_path / "other.mp4")
    assert not (tmp_path / "other.mp4").exists()


@pytest.mark.parametrize("fps", [0, -1, np.nan])
def test_a_film_without_speed(fps: float) -> None:
    with pytest.raises(OptionError, match="fps="):
        plot.animation(made(), fps=fps)


def test_kinds_of_pictures() -> None:
    filled = made()
    assert "2017-03-11" in filled.gapfill.plot().get_suptitle()
    assert titles(filled.gapfill.plot(kind="panels", n=2)) == ["2017-03-09", "2017-03-13"]
    assert filled.gapfill.plot(kind="animation", times=[0, 1]).frames == 2
    with pytest.raises(OptionError, match="no kind 'film'; Choose from maps"):
        filled.gapfill.plot(kind="film")


@pytest.mark.parametrize(
    ("kind", "option", "takers"),
    [
        ("maps", {"n": 3}, "'panels'"),
        ("panels", {"time": 0}, "'maps'"),
        ("animation", {"ax": Figure().subplots()}, "'maps' or 'panels'"),
        ("maps", {"fps": 2}, "'animation'"),
    ],
)
def test_an_option_of_another_kind_is_refused(
    kind: str, option: dict[str, object], takers: str
) -> None:
    (name,) = option
    with pytest.raises(OptionError, match=f"kind='{kind}' has no {name}; .* choose kind {takers}"):
        made().gapfill.plot(kind=kind, **option)


@pytest.mark.parametrize(
    ("time", "step"), [("2017-03-11", 2), ("2017-03-11T14:00", 3), (-1, 4), (np.int64(1), 1)]
)
def test_time_by_label_or_index(time: str | int, step: int) -> None:
    assert step_of(view(made()).field, time) == step


@pytest.mark.parametrize(
    ("time", "message"),
    [
        ("2019-01-01", "choose an index from 0 to 4, or a date from 2017-03-09 to 2017-03-13"),
        (5, "no time step 5; choose an index from 0 to 4"),
        (-6, "no time step -6"),
        ("soon", "'soon' is not a date; write it as '2017-03-11'"),
        ("NaT", "is not a date"),
    ],
)
def test_time_out_of_range(time: str | int, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        plot.maps(made(), time=time)


def test_date_label_without_dates() -> None:
    ds = made().drop_vars("time")
    assert "step 2" in plot.maps(ds, time=2).get_suptitle()
    with pytest.raises(OptionError, match="the data have none; choose an index"):
        plot.maps(ds, time="2017-03-11")


def test_other_calendars() -> None:
    times = xr.date_range("2001-02-28", periods=STEPS, calendar="360_day", use_cftime=True)
    field = view(made().assign_coords(time=times)).field
    assert step_of(field, "2001-03-01") == 3 and date(field, 1) == "2001-02-29"


def test_unknown_layer_and_variable() -> None:
    with pytest.raises(OptionError, match="no layer 'fild'; did you mean 'filled'"):
        plot.maps(made(), layers=("fild",))
    with pytest.raises(OptionError, match="no filled variable 'ssst'; did you mean 'sst'"):
        plot.maps(made(), variable="ssst")
    with pytest.raises(OptionError, match="layers is empty"):
        plot.maps(made(), layers=())


def test_several_variables_need_a_name() -> None:
    ds = made().assign(chl=made().sst, chl_source=made().sst_source)
    with pytest.raises(OptionError, match="choose one with variable='sst'"):
        plot.maps(ds)
    assert plot.maps(ds, variable="chl", time=2).axes


def test_unfilled_data_are_refused() -> None:
    with pytest.raises(InputError, match="pass the dataset that fill\\(\\) returned"):
        plot.maps(made()[["sst"]])


def test_panels_put_observed_above_filled() -> None:
    figure = plot.panels(made(), n=3)
    paint(figure)
    assert titles(figure) == ["2017-03-09", "2017-03-11", "2017-03-13"]
    assert len(figure.axes) == 2 * 3 + 1
    assert np.ma.getmaskarray(drawn(figure, 1)).sum() > np.ma.getmaskarray(drawn(figure, 4)).sum()
    assert len(titles(plot.panels(made(), times=["2017-03-10", -1]))) == 2
    assert len(titles(plot.panels(made(), n=50))) == STEPS


def test_panels_without_a_date() -> None:
    with pytest.raises(OptionError, match="n is 0; choose at least 1"):
        plot.panels(made(), n=0)
    with pytest.raises(OptionError, match="times is empty"):
        plot.panels(made(), times=[])


def test_a_step_without_values_is_drawn() -> None:
    ds = made(land=False)
    ds["sst"][2], ds["sst_source"][2], ds["sst_error"][2] = np.nan, 2, np.nan
    paint(plot.maps(ds, time=2))


def features(figure: Figure) -> list[Artist]:
    return [
        part for ax in figure.axes for part in ax.get_children() if isinstance(part, FeatureArtist)
    ]


def write_coast(folder: Path) -> Path:
    shapefile = pytest.importorskip("shapefile")
    path = folder / "shapefiles" / "natural_earth" / "physical" / "ne_50m_coastline"
    path.parent.mkdir(parents=True)
    with shapefile.Writer(str(path)) as writer:
        writer.field("name", "C")
        writer.line([[[-5, 35], [-4, 36], [-3, 36.5]]])
        writer.record("coast")
    return path.with_suffix(".shp")


def test_natural_earth_only_where_its_files_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cartopy.config, "data_dir", tmp_path)
    monkeypatch.setitem(cartopy.config, "pre_existing_data_dir", tmp_path / "none")
    assert natural_earth() is None
    assert not features(plot.maps(made(land=False), time=2))
    path = write_coast(tmp_path)
    assert natural_earth() == path
    figure = plot.maps(made(land=False), time=2)
    paint(figure)
    assert len(features(figure)) == 4


def test_a_broken_coast_line_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(cartopy.config, "data_dir", tmp_path)
    path = write_coast(tmp_path)
    for part in (path, path.with_suffix(".shx"), path.with_suffix(".dbf")):
        part.write_bytes(b"not a shapefile")
    paint(plot.maps(made(land=False), time=2))
    assert "drawn without it" in caplog.text


def made_card(coverage: bool = True) -> xr.Dataset:
    methods = ["climatology", "interpolate", "dineof"]
    by = {"cloud": ["0-50 %", "50-100 %"], "distance": [5.0, 20.0, 80.0], "lag": ["1", "2", ">2"]}
    card = xr.Dataset(
        {"rmse": ("method", [0.7, 0.4, 0.5]), "mae": ("method", [0.5, 0.3, 0.4])},
        coords={
            "method": methods,
            "level": [0.5, 0.9],
            **{f"{split}_bin": bins for split, bins in by.items()},
        },
        attrs={"variable": "sst", "units": "K", "fraction": 0.1, "seed": 0},
    )
    for split, bins in by.items():
        card[f"rmse_by_{split}"] = (("method", f"{split}_bin"), np.full((3, len(bins)), 0.5))
    found = [[np.nan, np.nan], [0.4, 0.8], [0.5, 0.9]] if coverage else np.full((3, 2), np.nan)
    return card.assign(coverage=(("method", "level"), found))


def test_scorecard_keeps_the_colour_of_a_method() -> None:
    figure = plot.scorecard(made_card())
    paint(figure)
    assert titles_left(figure) == [
        "all withheld pixels",
        "by cloud",
        "by distance",
        "by lag",
        "stated errors",
    ]
    colours = [
        {line.get_label(): line.get_color() for line in ax.get_lines()} for ax in figure.axes[1:]
    ]
    assert colours[0] == colours[1] == colours[2]
    assert colours[3]["dineof"] == colours[0]["dineof"] and "climatology" not in colours[3]
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == [
        "climatology",
        "dineof",
        "interpolate",
    ]


def test_units_of_bins_are_said_once() -> None:
    card = made_card()
    card["cloud_bin"].attrs["long_name"] = "cloud"
    ax = plot.scorecard(card).axes[1]
    assert ax.get_xlabel() == "cloud (%)" and [t.get_text() for t in ax.get_xticklabels()] == [
        "0-50",
        "50-100",
    ]


def titles_left(figure: Figure) -> list[str]:
    return [ax.get_title(loc="left") for ax in figure.axes]


def test_scorecard_takes_the_object_and_an_axes() -> None:
    class Card:
        data = made_card(coverage=False)

    figure = plot.scorecard(Card())
    assert "no method states an error" in [text.get_text() for text in figure.axes[4].texts]
    own = Figure()
    assert plot.scorecard(Card(), own.subplots()) is own and len(own.axes) == 1


def test_scorecard_refuses_something_else() -> None:
    with pytest.raises(InputError, match="Dataset is not a scorecard; pass what score"):
        plot.scorecard(made())


def test_save_writes_whole_pictures(tmp_path: Path) -> None:
    figure = plot.maps(made(), time=2, layers=("filled",))
    assert plot.save(figure, tmp_path / "map.png").read_bytes().endswith(b"IEND\xaeB`\x82")
    assert (plot.save(figure, str(tmp_path / "map.PDF"))).read_bytes().startswith(b"%PDF")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.PDF", "map.png"]


def test_save_leaves_an_earlier_picture_when_drawing_fails(tmp_path: Path) -> None:
    target = tmp_path / "map.png"
    target.write_text("earlier")
    figure = plot.maps(made(), time=2, layers=("filled",))
    figure.axes[0].add_artist(Unpaintable())
    with pytest.raises(RuntimeError, match="cannot be painted"):
        plot.save(figure, target)
    assert target.read_text() == "earlier" and list(tmp_path.iterdir()) == [target]


class Unpaintable(Artist):
    def draw(self, renderer: object) -> None:
        raise RuntimeError("cannot be painted")


@pytest.mark.parametrize("name", ["map.xyz", "map"])
def test_save_refuses_an_unknown_suffix(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        OptionError, match=rf"cannot write a picture as '{name}'; end its name in .*\.png"
    ):
        plot.save(plot.scorecard(made_card()), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_real_series(shared_data: Path, tmp_path: Path) -> None:
    with xr.open_dataset(shared_data / "real" / "alboran_l3s_2022.nc") as ds:
        obs, sea = ds["sst"].load(), ds["mask"].astype(bool).load()
    filled = obs.fillna(obs.mean("time")).where(sea)
    source = xr.where(sea, xr.where(obs.notnull(), 0, 1), 4).astype("int8").transpose(*obs.dims)
    done = xr.Dataset({"sst": filled.assign_attrs(obs.attrs), "sst_source": source})
    assert plot.save(plot.maps(done), tmp_path / "maps.png").stat().st_size > 10_000
    assert len(titles(plot.panels(done, n=3))) == 3


def with_members() -> xr.Dataset:
    filled = made()
    draws = [filled["sst"] + shift for shift in (0.0, 0.5, 1.0)]
    return filled.assign(sst_members=xr.concat(draws, "member"))


def test_members_are_drawn_between_the_field_and_its_error(tmp_path: Path) -> None:
    filled, held = made(), with_members()
    figure = plot.members(held, time=2, n=2)
    assert titles(figure)[:4] == ["filled", "member 0", "member 1", "error of the fill"]
    assert titles(plot.members(held.drop_vars("sst_error"), n=9))[:4] == [
        "filled",
        "member 0",
        "member 1",
        "member 2",
    ]
    assert plot.save(held.gapfill.plot_members(), tmp_path / "draws.png").stat().st_size > 10_000
    with pytest.raises(InputError, match="no 'sst_members' among"):
        plot.members(filled)
    with pytest.raises(OptionError, match="n is 0"):
        plot.members(held, n=0)


def test_a_scorecard_draws_itself() -> None:
    card = Scorecard(made_card())
    assert titles_left(card.plot()) == titles_left(plot.scorecard(card))
    own = Figure()
    assert card.plot(own.subplots()) is own and len(own.axes) == 1


def test_the_text_of_an_empty_panel_leaves_the_layout_as_it_is() -> None:
    figure = scores.new_figure(11.0, 2.8, "constrained")
    for ax in figure.subplots(1, 4):
        scores._empty(ax, "no spectrum: the truth, or every estimate, has gaps")
    figure.draw_without_rendering()  # a layout that collapses is a warning, which is an error here
