# SPDX-License-Identifier: Apache-2.0
"""The device that torch runs on, chosen in one place."""

from __future__ import annotations

import sys

import pytest

from sstfill.errors import OptionError
from sstfill.nn.device import pick_device


def test_a_device_that_is_not_there_is_told():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert pick_device("auto") == "cpu"
    with pytest.raises(OptionError, match="torch sees no GPU"):
        pick_device("cuda")


def test_without_torch_there_is_the_processor(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert pick_device("cpu") == pick_device("auto") == "cpu"
    with pytest.raises(OptionError, match="needs torch"):
        pick_device("cuda")


def test_each_process_of_torchrun_has_a_gpu_of_its_own(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert pick_device("auto") == pick_device("cuda") == "cuda:3"
    assert pick_device("cpu") == "cpu"
