# SPDX-License-Identifier: Apache-2.0
"""The catalogue of the stand-in: client configuration, id mapping and STAC documents."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from standin.store import Repeated, decoded, encoded

BUCKET = "mdl-arco-standin"
AXES = {"time": "t", "latitude": "y", "longitude": "x", "elevation": "z"}
SERVICES = ("mds", "mds/serverlessNative", "mds/serverlessArco", "mds/serverlessArco/meta")


@dataclass(frozen=True)
class Published:
    """One version of one dataset, in the two layouts that the service offers.

    `time_chunked` holds few dates of the whole map in a chunk, `geo_chunked` long series of small
    tiles: chunk lengths by dimension. `updating_from` is the date from which on the data are under
    revision. With `periodic` every chunk of a variable is its first one, so that a
    store of any size fits in memory (`standin.store.repeated`).
    """

    dataset: str
    data: xr.Dataset
    version: str = "202406"
    product: str = "GLOBAL_ANALYSISFORECAST_PHY_001_024"
    doi: str = "10.48670/moi-00016"
    time_chunked: Mapping[str, int] = field(
        default_factory=lambda: {"time": 2, "elevation": 1, "latitude": 512, "longitude": 512}
    )
    geo_chunked: Mapping[str, int] = field(
        default_factory=lambda: {"time": 1024, "elevation": 1, "latitude": 3, "longitude": 4}
    )
    updating_from: str | None = None
    periodic: bool = False

    @property
    def item(self) -> str:
        """The id of its STAC item."""
        return f"{self.dataset}_{self.version}"

    @property
    def layouts(self) -> dict[str, Mapping[str, int]]:
        """Chunk lengths by the name of the layout."""
        return {"timeChunked": self.time_chunked, "geoChunked": self.geo_chunked}

    def folder(self, layout: str) -> str:
        """Where its store lies, as a path on the data host."""
        return f"/{BUCKET}/arco/{self.product}/{self.item}/{layout}.zarr"

    @cached_property
    def stores(self) -> Mapping[str, Mapping[str, bytes]]:
        """Its files by key, for each layout; made once, however often it is published."""
        make = Repeated if self.periodic else encoded
        return {layout: make(self.data, chunks) for layout, chunks in self.layouts.items()}

    def expected(self) -> xr.Dataset:
        """What an undisturbed reader finds; the elevation is not yet a depth."""
        return self._read.copy(deep=True)

    @cached_property
    def _read(self) -> xr.Dataset:
        return decoded(encoded(self.data, self.time_chunked))


class Catalogue:
    """What is published at the moment. `stac` and `data` are the addresses of the two hosts,
    without a port.

    It may change while it is being read: `publish` and `withdraw` are safe to call from a request
    (`faults.Do`).
    """

    def __init__(self, published: tuple[Published, ...], stac: str, data: str) -> None:
        self.stac, self.data = stac, data
        self._lock = threading.Lock()
        self._stores: dict[str, Mapping[str, bytes]] = {}  # by folder
        self._published: dict[str, Published] = {}  # by item
        for each in published:
            self.publish(each)

    def publish(self, new: Published) -> None:
        """Offer this version too; the same version of the same dataset is replaced in place."""
        stores = {new.folder(layout): files for layout, files in new.stores.items()}
        with self._lock:
            self._published[new.item] = new
            self._stores |= stores

    def withdraw(self, item: str) -> None:
        """Offer `item` (dataset_version) no longer: its chunks are gone, as after the retirement of
        a version.
        """
        with self._lock:
            old = self._published.pop(item)
            for layout in old.layouts:
                del self._stores[old.folder(layout)]

    def get(self, path: str) -> bytes | None:
        """The file at this path, None where there is none."""
        folder, zarr, key = path.partition(".zarr/")
        if not zarr:
            return self._document(path)
        with self._lock:
            store = self._stores.get(f"{folder}.zarr", {})
        return store.get(key)

    def _document(self, path: str) -> bytes | None:
        """Made when asked for, so that it lists what is published now."""
        match path.removeprefix("/metadata/").split("/"):
            case ["", _, "clientsConfigV1.json"] | ["", "clients-config-v1"]:
                document = self._config()
            case ["idMapping.json"]:
                document = {p.dataset: p.product for p in self._offered()}
            case ["catalog.stac.json"]:
                document = self._root()
            case [product, "product.stac.json"] if product in self._products():
                document = self._product(product)
            case [product, item, "dataset.stac.json"] if item in self._published:
                document = self._item(self._published[item])
            case _:
                return None
        return json.dumps(document).encode()

    def _products(self) -> list[str]:
        return sorted({p.product for p in self._offered()})

    def _offered(self) -> list[Published]:
        with self._lock:
            return list(self._published.values())

    def _config(self) -> dict[str, Any]:
        root = f"{self.stac}/metadata"
        where = {
            "stac": f"{root}/catalog.stac.json",
            "stacRoot": root,
            "idMapping": f"{root}/idMapping.json",
        }
        return {"clientVersions": dict.fromkeys(SERVICES, ">=1.2.2"), "catalogues": [where]}

    def _root(self) -> dict[str, Any]:
        links = [{"rel": "child", "href": f"{p}/product.stac.json"} for p in self._products()]
        return {
            "type": "Catalog",
            "id": "standin",
            "stac_version": "1.0.0",
            "description": "stand-in",
            "links": links,
        }

    def _product(self, name: str) -> dict[str, Any]:
        mine = [p for p in self._offered() if p.product == name]
        extent = {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [[None, None]]},
        }
        return {
            "type": "Collection",
            "id": name,
            "stac_version": "1.0.0",
            "title": name,
            "description": "served by the stand-in",
            "license": "proprietary",
            "extent": extent,
            "sci:doi": mine[0].doi,
            "links": [{"rel": "item", "href": f"{p.item}/dataset.stac.json"} for p in mine],
        }

    def _item(self, published: Published) -> dict[str, Any]:
        ds = published.data
        variables = {
            str(name): {
                "id": str(name),
                "type": "data",
                "dimensions": list(v.dims),
                "standardName": v.attrs.get("standard_name"),
                "unit": v.attrs.get("units"),
            }
            for name, v in ds.data_vars.items()
        }
        first, last = (f"{ds.time.values[i].astype('M8[s]')}Z" for i in (0, -1))
        properties = {
            "title": published.dataset,
            "datetime": None,
            "start_datetime": first,
            "end_datetime": last,
            "cube:dimensions": {d: _dimension(str(d)) for d in ds.dims},
            "cube:variables": variables,
        }
        if published.updating_from:
            properties["admp_updating_start_date"] = published.updating_from
        lat, lon = ds.latitude.values, ds.longitude.values
        return {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": published.item,
            "geometry": None,
            "bbox": [float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max())],
            "properties": properties,
            "links": [],
            "assets": {layout: self._asset(published, layout) for layout in published.layouts},
        }

    def _asset(self, published: Published, layout: str) -> dict[str, Any]:
        ds, chunks = published.data, published.layouts[layout]
        lengths = {str(d): min(chunks[str(d)], n) for d, n in ds.sizes.items()}
        views = {
            d: {
                "chunkLen": {str(name): n for name, v in ds.data_vars.items() if d in v.dims},
                "len": ds.sizes[d],
                "units": "ms" if d == "time" else ds[d].attrs.get("units"),
                "coords": _coordinates(ds[d].values),
            }
            for d, n in lengths.items()
        }
        return {
            "href": self.data + published.folder(layout),
            "type": "application/vnd+zarr",
            "viewDims": views,
        }


def _dimension(name: str) -> dict[str, str]:
    return {"type": "temporal"} if name == "time" else {"type": "spatial", "axis": AXES[name]}


def _coordinates(values: np.ndarray) -> dict[str, Any]:
    """Evenly spaced as minimum, maximum and step, otherwise one by one; times in ms since 1970."""
    numbers = (
        values.astype("M8[ms]").astype("i8") if values.dtype.kind == "M" else values.astype("f8")
    )
    steps = np.diff(numbers)
    if not steps.size or not np.allclose(steps, steps[0], rtol=1e-3):
        return {"type": "explicit", "values": numbers.tolist()}
    low, high = numbers[0].item(), numbers[-1].item()
    return {
        "type": "minMaxStep",
        "min": low,
        "max": high,
        "step": (high - low) / steps.size,
        "len": numbers.size,
    }
