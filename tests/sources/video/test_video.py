# SPDX-License-Identifier: Apache-2.0
"""Clips of each kind come into the store as they are on disk, whole or not at all."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill.cli.importing import add_import_video, run_import_video
from sstfill.errors import InputError, OptionError, ReadError, WriteError
from sstfill.sources.video import video
from sstfill.sources.video.files import upright
from sstfill.sources.video.frames import Framing, _weights
from sstfill.sources.video.video import import_video

av = pytest.importorskip("av", reason="PyAV is not installed")


def noise(frames: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(
        0, 256, (frames, *(shape or (12, 16, 3))), dtype=np.uint8
    )


def encode(path: Path, frames: np.ndarray, codec: str = "ffv1", pixels: str = "bgr0") -> None:
    """Write a video without loss (FFV1)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        for values in frames:
            container.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(values, format="rgb24").reformat(format=pixels)
                )
            )
        container.mux(stream.encode(None))


def picture(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = av.CodecContext.create("png", "w")
    codec.height, codec.width, codec.pix_fmt, codec.framerate = *values.shape[:2], "rgb24", 25
    packets = codec.encode(av.VideoFrame.from_ndarray(values, format="rgb24")) + codec.encode(None)
    path.write_bytes(b"".join(map(bytes, packets)))


def deep_picture(path: Path, values: np.ndarray) -> None:
    """A PNG of 16 bits to a pixel, grey or in colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "gray16" if values.ndim == 2 else "rgb48"
    codec = av.CodecContext.create("png", "w")
    codec.height, codec.width, codec.pix_fmt, codec.framerate = *values.shape[:2], f"{kind}be", 25
    frame = av.VideoFrame.from_ndarray(values, format=f"{kind}le").reformat(format=f"{kind}be")
    path.write_bytes(b"".join(map(bytes, codec.encode(frame) + codec.encode(None))))


def moved(frames: np.ndarray) -> np.ndarray:
    return np.moveaxis(frames, -1, 0)  # (time, y, x, channel) -> (channel, time, y, x)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Five clips, two of them in folders, one too short."""
    folder = tmp_path / "clips"
    for number, frames in enumerate((8, 8, 9)):
        encode(folder / "walking" / f"p{number + 8}.mkv", noise(frames, seed=number))
    for number in range(11):
        picture(folder / "frames" / f"f{number}.png", noise(11, seed=3)[number])
    encode(folder / "short.mkv", noise(3, seed=4))
    (folder / "readme.txt").write_text("not a clip")
    return folder


def test_every_kind_of_clip_comes_in_bit_for_bit(clips: Path, tmp_path: Path) -> None:
    np.save(clips / "z.npy", noise(8, seed=5))
    with import_video(clips, tmp_path / "o.zarr", size=None, frames=8) as ds:
        assert ds["clip"].values.tolist() == [
            "frames",
            *(f"walking/p{k}.mkv" for k in (8, 9, 10)),
            "z.npy",
        ]
        assert ds["video"].dims == ("clip", "channel", "time", "y", "x")
        assert ds["video"].dtype == np.uint8
        assert ds["channel"].values.tolist() == ["red", "green", "blue"]
        for name, frames, seed in (("frames", 11, 3), ("walking/p9.mkv", 8, 1), ("z.npy", 8, 5)):
            assert np.array_equal(
                ds["video"].sel(clip=name).values, moved(noise(frames, seed=seed)[:8])
            )


@pytest.mark.parametrize("shape", [(4, 12, 16), (4, 12, 16, 3)], ids=["grey", "colours"])
def test_pictures_of_16_bits_keep_their_brightness(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(0, 65536, shape, dtype=np.uint16)
    values.flat[:2] = 0, 65535
    for number, frame in enumerate(values):
        deep_picture(tmp_path / "clip" / f"{number}.png", frame)
    wanted = moved(values if values.ndim == 4 else np.repeat(values[..., None], 3, axis=3)) / 257
    with import_video(
        tmp_path / "clip", tmp_path / "f.zarr", size=None, frames=4, dtype="float32"
    ) as ds:
        np.testing.assert_allclose(ds["video"].values[0], wanted, rtol=1e-6)
        assert ds["video"].values.min() == 0 and ds["video"].values.max() == 255
    with import_video(tmp_path / "clip", tmp_path / "b.zarr", size=None, frames=4) as ds:
        assert np.array_equal(ds["video"].values[0], np.rint(wanted).astype(np.uint8))


def test_a_dark_picture_of_16_bits_is_not_black(tmp_path: Path) -> None:
    """All in the low 8 bits, as a camera of 12 bits may leave it: told apart in float32."""
    ramp = np.arange(12 * 16, dtype=np.uint16).reshape(12, 16)
    deep_picture(tmp_path / "clip" / "0.png", ramp)
    with import_video(
        tmp_path / "clip", tmp_path / "f.zarr", size=None, frames=1, dtype="float32", gray=True
    ) as ds:
        np.testing.assert_allclose(ds["video"].values[0, 0, 0], ramp / 257, rtol=1e-5, atol=1e-6)


def test_clips_too_short_are_left_out_and_counted(
    clips: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING),
        import_video(clips, tmp_path / "o.zarr", frames=9, size=8) as ds,
    ):
        assert ds["clip"].values.tolist() == ["frames", "walking/p10.mkv"]
        assert '"clips_left_out": 3' in ds.attrs["sstfill_import"]
    assert "short.mkv is left out: it has 3 frames, 9 are needed" in caplog.text
    with pytest.raises(InputError, match=r"none of 5 clips .* has 100 frames"):
        import_video(clips, tmp_path / "none.zarr", frames=100)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clips", "o.zarr"]


def test_stride_and_several_sequences_of_a_clip(tmp_path: Path) -> None:
    values = noise(15)
    np.save(tmp_path / "a.npy", values)
    with import_video(
        tmp_path / "a.npy", tmp_path / "o.zarr", size=None, frames=3, stride=2, per_clip=None
    ) as ds:
        assert ds["clip"].values.tolist() == ["a.npy@0", "a.npy@6"]
        assert ds["first_frame"].values.tolist() == [0, 6]
        assert np.array_equal(ds["video"].values, [moved(values[0:5:2]), moved(values[6:11:2])])


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("shard", [1.0, 1e3, 16e6])
def test_many_clips_are_written_in_batches(tmp_path: Path, zarr_format: int, shard: float) -> None:
    values = noise(7 * 4, 6, 6, 1).reshape(7, 4, 6, 6, 1)
    values[2] = 0  # a black clip is data, not a gap
    np.save(tmp_path / "a.npy", values)
    with import_video(
        tmp_path / "a.npy",
        tmp_path / "o.zarr",
        size=None,
        frames=4,
        gray=True,
        zarr_format=zarr_format,
        shard_bytes=shard,
    ) as ds:
        assert np.array_equal(ds["video"].values, values.transpose(0, 4, 1, 2, 3))
        assert ds["video"].dtype == np.uint8
        assert ds["video"].chunksizes["clip"] == (1,) * 7


def test_memory_holds_a_batch_not_the_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "a.npy", noise(40, 6, 6, 1).reshape(10, 4, 6, 6, 1))
    most, own = [0], video._video
    monkeypatch.setattr(video, "_video", lambda v, c: (most.append(len(v)), own(v, c))[1])
    how = {"size": None, "frames": 4, "gray": True, "shard_bytes": 4 * 6 * 6 * 3.0}
    import_video(tmp_path / "a.npy", tmp_path / "o.zarr", **how).close()
    assert max(most) == 3
    assert sum(most) == 10


@pytest.mark.parametrize(
    ("axes", "shape", "letters"),
    [
        (None, (4, 6, 8), "tyx"),
        (None, (4, 6, 8, 3), "tyxc"),
        (None, (4, 3, 6, 8), "tcyx"),
        (None, (2, 4, 6, 8), "ntyx"),
        (None, (2, 4, 6, 8, 3), "ntyxc"),
        (None, (2, 4, 3, 6, 8), "ntcyx"),
        ("tnyx", (4, 2, 6, 8), "tnyx"),
    ],
)
def test_axes_of_arrays(
    tmp_path: Path, axes: str | None, shape: tuple[int, ...], letters: str
) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.savez(tmp_path / "a.npz", frames=values, label=np.arange(3))
    with import_video(
        tmp_path, tmp_path / "o.zarr", size=None, frames=4, dtype="float32", axes=axes
    ) as ds:
        expected = xr.DataArray(values, dims=list(letters))
        expected = expected if "n" in letters else expected.expand_dims("n")
        expected = expected if "c" in letters else expected.expand_dims(c=3)
        assert ds["video"].dtype == np.float32
        assert np.array_equal(
            ds["video"].values, expected.transpose("n", "c", "t", "y", "x").values
        )


def test_matlab_arrays(tmp_path: Path) -> None:
    values = noise(5, 6, 8, 3)
    scipy.io.savemat(tmp_path / "m.mat", {"clip": values.transpose(1, 2, 3, 0), "fps": 25.0})
    with import_video(tmp_path, tmp_path / "o.zarr", size=None, frames=5) as ds:
        assert np.array_equal(ds["video"].values[0], moved(values))
    (tmp_path / "m.mat").write_bytes(
        b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n" + bytes(99)
    )
    with pytest.raises(
        ReadError, match=r"m\.mat: it is a MATLAB 7\.3 \(HDF5\) file; save it .*-v7"
    ):
        import_video(tmp_path, tmp_path / "p.zarr")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.mkv", b"not a video", "cannot decode"),
        ("f/1.png", b"\x89PNG\r\n\x1a\n", "cannot decode"),
        ("a.npy", b"\x93NUMPY\x01", "cannot read"),
        ("a.npz", b"PK\x03\x04", "cannot read"),
        ("a.mat", b"MATLAB 5.0", "cannot read"),
    ],
)
def test_damage_is_named_and_nothing_is_written(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    folder = tmp_path / "clips"
    np.save(_made(folder) / "0.npy", noise(4))  # a good clip comes before it
    _made((folder / name).parent)
    (folder / name).write_bytes(content)
    out = tmp_path / "o.zarr"
    with pytest.raises(ReadError, match=rf"{reason} .*{re.escape(name)}"):
        import_video(folder, out, frames=4, size=8)
    assert [p.name for p in tmp_path.iterdir()] == ["clips"]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_what_is_there_is_kept_and_never_replaced(tmp_path: Path, zarr_format: int) -> None:
    folder, out = _made(tmp_path / "clips"), tmp_path / "o.zarr"
    np.save(folder / "0.npy", noise(4))

    def bring(**how: object) -> None:
        import_video(
            folder, out, **({"frames": 4, "size": 4, "zarr_format": zarr_format} | how)
        ).close()  # type: ignore[arg-type]

    bring()
    before = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in out.rglob("*")}
    bring()
    for how, reason in (
        ({"size": 8}, "size: 4 there, 8 here"),
        ({"zarr_format": 5 - zarr_format}, "zarr_format"),
    ):
        with pytest.raises(
            WriteError,
            match=rf"o\.zarr was made by another import \({reason}.*; choose another name, or",
        ):
            bring(**how)
    np.save(folder / "1.npy", noise(4, seed=1))
    with pytest.raises(WriteError, match="files: 1 there, 2 here"):
        bring()
    assert {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in out.rglob("*")} == before


def test_stores_of_something_else_are_never_replaced(tmp_path: Path) -> None:
    folder = _made(tmp_path / "clips")
    np.save(folder / "0.npy", noise(4))
    with import_video(folder, tmp_path / "o.zarr", frames=4, size=4) as ds:
        line = {"history": ds.attrs["history"] + "\n2026-01-01T00:00:00Z sstfill: fill"}
        ds.load().drop_encoding().assign_attrs(line).to_zarr(
            tmp_path / "filled.zarr", consolidated=False
        )
    xr.Dataset({"a": 1}).to_zarr(tmp_path / "foreign.zarr", consolidated=False)
    xr.Dataset({"a": 1}, attrs={"sstfill_request": "{}"}).to_zarr(
        tmp_path / "fetched.zarr", consolidated=False
    )
    (tmp_path / "begun.zarr.ledger").write_text("{}")
    for name, reason in (
        ("filled", "something else"),
        ("foreign", "something else"),
        ("fetched", "something else"),
        ("begun", r"begun\.zarr\.ledger is beside it"),
    ):
        with pytest.raises(
            WriteError, match=rf"cannot write .*{name}\.zarr: .*{reason}.*; choose another name, or"
        ):
            import_video(folder, tmp_path / f"{name}.zarr", frames=4, size=4)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ReadError, match="it holds Python objects"):
        import_video(tmp_path, tmp_path / "o.zarr")


@pytest.mark.parametrize(
    ("make", "options", "reason"),
    [
        (
            lambda f: np.save(f / "a.npy", np.zeros((4, 6, 6))),
            {},
            "holds float64 values, whose range is not known",
        ),
        (
            lambda f: np.save(f / "a.npy", np.full((4, 6, 6), 300)),
            {},
            "holds 300 to 300, beyond 0 to 255",
        ),
        (lambda f: np.save(f / "a.npy", np.zeros((4, 6))), {}, r"has shape \(4, 6\)"),
        (
            lambda f: np.save(f / "a.npy", np.full((4, 6, 6), np.nan)),
            {"dtype": "float32"},
            "has missing values",
        ),
        (
            lambda f: np.save(f / "a.npy", noise(4, 6, 6)),
            {"crop": (0, 0, 7, 6)},
            r"is 6x6, which crop=\(0, 0, 7, 6\)",
        ),
        (
            lambda f: [np.save(f / f"{n}.npy", noise(4, n, 6)) for n in (6, 8)],
            {"size": None},
            "8.npy is 8x6, 6.npy",
        ),
        (
            lambda f: [picture(f / "p" / f"{n}.png", noise(1, n, 6, 3)[0]) for n in (6, 8)],
            {},
            "8.png is 8x6, 6.png",
        ),
        (lambda f: (f / "data.tfrecords").write_bytes(b""), {}, r"it holds only \.tfrecords"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, make: Callable[[Path], object], options: dict[str, object], reason: str
) -> None:
    make(_made(tmp_path / "clips"))
    with pytest.raises(InputError, match=reason):
        import_video(
            tmp_path / "clips", tmp_path / "o.zarr", **({"frames": 2, "size": 4} | options)
        )  # type: ignore[arg-type]
    assert not (tmp_path / "o.zarr").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"size": 0}, "size=0"),
        ({"frames": 0}, "frames=0"),
        ({"stride": 0}, "stride=0"),
        ({"per_clip": 0}, "per_clip=0"),
        ({"crop": "middle"}, "crop='middle'"),
        ({"crop": (1, 2, 3)}, "four whole numbers"),
        ({"dtype": "int8"}, "dtype="),
        ({"split": (0.9, 0.2, 0.1)}, "add up to"),
        ({"zarr_format": 4}, "zarr_format=4"),
        ({"axes": "txx"}, "axes="),
    ],
)
def test_options_out_of_range(tmp_path: Path, options: dict[str, object], reason: str) -> None:
    np.save(tmp_path / "a.npy", noise(4, 6, 6))
    with pytest.raises(OptionError, match=reason):
        import_video(tmp_path, tmp_path / "o.zarr", **({"frames": 2} | options))  # type: ignore[arg-type]


def test_targets_that_are_refused(tmp_path: Path) -> None:
    np.save(_made(tmp_path / "clips") / "a.npy", noise(4, 6, 6))
    with pytest.raises(ReadError, match="no such file or folder"):
        import_video(tmp_path / "nowhere", tmp_path / "o.zarr")
    with pytest.raises(OptionError, match=r"end its name with \.zarr"):
        import_video(tmp_path / "clips", tmp_path / "o.nc")
    with pytest.raises(WriteError, match="does not exist"):
        import_video(tmp_path / "clips", tmp_path / "no" / "o.zarr")
    (_made(tmp_path / "o.zarr") / "photo.raw").write_text("precious")
    with pytest.raises(WriteError, match="something else than a Zarr store"):
        import_video(tmp_path / "clips", tmp_path / "o.zarr", frames=2)


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 60),
    seed=st.integers(0, 3),
    fractions=st.sampled_from(
        [(0.9, 0.05, 0.05), (1.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.05, 0.9, 0.05), (0.34, 0.33, 0.33)]
    ),
)
def test_splits_have_their_fractions_and_a_clip_is_never_in_two(
    count: int, seed: int, fractions: tuple[float, ...]
) -> None:
    kept = [(f"c{n}", start) for n in range(count) for start in (0, 4)]
    parts = video._labels(kept, None, fractions, seed)["split"].values.reshape(count, 2)
    assert (parts[:, 0] == parts[:, 1]).all()
    sizes = np.bincount(parts[:, 0], minlength=3)
    assert sizes.sum() == count
    assert np.abs(sizes - np.array(fractions) * count).max() <= 2
    if count >= 3:
        assert ((sizes > 0) == (np.array(fractions) > 0)).all()
    assert np.array_equal(
        parts, video._labels(kept, None, fractions, seed)["split"].values.reshape(count, 2)
    )


def test_splits_differ_with_the_seed() -> None:
    kept = [(f"c{n}", 0) for n in range(60)]
    drawn = [
        video._labels(kept, 1, (0.5, 0.25, 0.25), seed)["split"].values.tolist()
        for seed in range(2)
    ]
    assert drawn[0] != drawn[1]


@settings(max_examples=25, deadline=None)
@given(given_=st.integers(1, 40), wanted=st.integers(1, 40))
def test_resizing_keeps_the_mean_and_skips_no_pixel(given_: int, wanted: int) -> None:
    weights = _weights(given_, wanted)
    assert np.allclose(weights.sum(1), 1, atol=1e-5)
    assert (weights.sum(0) > 0).all() or wanted > given_
    assert np.allclose(weights, weights[::-1, ::-1], atol=1e-5)
    if given_ == wanted:
        assert np.array_equal(weights, np.eye(wanted))


def test_crop_and_gray() -> None:
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, 2:6] = (255, 0, 0)
    assert (Framing(size=None, crop="center", gray=True)(image, "a") == 76).all()  # 0.299 x 255
    assert Framing(size=None, crop=(1, 2, 2, 3))(image, "a").shape == (3, 2, 3)
    assert np.array_equal(upright(np.arange(6).reshape(2, 3), 90), [[2, 5], [1, 4], [0, 3]])


def test_a_real_clip(shared_data: Path, tmp_path: Path) -> None:
    with import_video(shared_data / "clips", tmp_path / "b.zarr", gray=True) as ds:
        assert dict(ds["video"].sizes) == {"clip": 1, "channel": 1, "time": 35, "y": 64, "x": 64}
        values = ds["video"].values[0, 0].astype(float)
    assert ds["clip"].values.tolist() == ["bigbuckbunny.mp4"]
    assert values.std() > 20  # a picture
    assert (
        np.abs(np.diff(values, axis=0)).mean() < np.abs(np.diff(values, axis=1)).mean()
    )  # that moves slowly


def test_the_command(clips: Path, tmp_path: Path) -> None:
    import argparse

    parser = argparse.ArgumentParser()
    add_import_video(parser)
    words = [
        str(clips),
        "--out",
        str(tmp_path / "k.zarr"),
        "--size",
        "8",
        "--frames",
        "8",
        "--gray",
        "--crop",
    ]
    said = list(run_import_video(parser.parse_args([*words, "center"])))
    assert said[0] == "video 4 clip x 1 channel x 8 time x 8 y x 8 x; 2 train, 1 validation, 1 test"
    assert said[1].startswith("1 clips have fewer than 8 frames")
    for wrong in (
        ["1,2,3"],
        ["a,b,c,d"],
        ["none", "--split", "half"],
        ["none", "--per-clip", "some"],
    ):
        with pytest.raises(OptionError, match="give"):
            list(run_import_video(parser.parse_args([*words, *wrong])))
