# SPDX-License-Identifier: Apache-2.0
"""Networks are built by name; what is not on offer is refused with the name of what is."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from torch import nn

from sstfill.errors import OptionError
from sstfill.nn import registry
from sstfill.nn.compact import Compact
from sstfill.nn.generator import Generator
from sstfill.nn.recurrent import RecurrentGenerator


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("paper", {"base": 2, "channels": 2}, Generator),
        ("static", {"base": 2}, Generator),
        ("recurrent", {"base": 1}, RecurrentGenerator),
        ("compact", {"inputs": 3, "base": 4}, Compact),
    ],
)
def test_every_network_is_built_with_its_options(
    name: str, options: dict[str, int], kind: type
) -> None:
    network = registry.build(name, options)
    assert type(network) is kind and network.training
    assert registry.size(network) != registry.size(
        registry.build(name, options | {"base": options["base"] + 1})
    )


def test_all_are_covered_above_and_static_sees_one_frame() -> None:
    assert set(registry.NETWORKS) == {"compact", "paper", "static", "recurrent"}
    kernels = {
        name: {
            m.kernel_size[0]
            for m in registry.build(name, {"base": 1}).modules()
            if isinstance(m, nn.Conv3d)
        }
        for name in ("static", "paper")
    }
    assert kernels == {"static": {1}, "paper": {1, 3}}


def test_size_counts_parameters_and_not_buffers() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    assert registry.size(network) == 3 * 2 + 2 + 2 + 2


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "compcat",
            {},
            r"^no network 'compcat'; did you mean 'compact'\? Choose from compact, paper, static,",
        ),
        (
            "paper",
            {"bsae": 4},
            r"no option of network paper 'bsae'; did you mean 'base'\? Choose from channels, base",
        ),
        (
            "static",
            {"time_kernel": 3},
            "no option of network static 'time_kernel'; Choose from channels, base, fill",
        ),
        ("compact", {"base": 8}, "network compact lacks the option 'inputs'; it takes inputs"),
        ("paper", {"base": 0}, "base=0 must be a whole number"),
        ("paper", {"base": "4"}, "base='4' must be a whole number"),
    ],
)
def test_what_is_not_on_offer(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message) as raised:
        registry.build(name, options)
    assert "\n" not in str(raised.value)


def test_without_torch_the_error_tells_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, Generator.__module__)
    with pytest.raises(OptionError, match=r"^networks need PyTorch; pip install torch safe.*s$"):
        registry.build("paper", {})
