# SPDX-License-Identifier: Apache-2.0
"""Video clips, encoded by PyAV; a test is skipped where it is not installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


def encode(path: Path, frames: np.ndarray) -> None:
    """Write frames ``(time, y, x, 3)`` of bytes as a clip."""
    av = pytest.importorskip("av", reason="PyAV is not installed")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for values in frames:
            picture = av.VideoFrame.from_ndarray(values, format="rgb24")
            container.mux(stream.encode(picture.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
