# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from sstfill.errors import InputError
from sstfill.nn.masking import keep_observed, occlude
from sstfill.occlusion import apply


def test_occluding_is_equation_1() -> None:
    values, observed = torch.randn(2, 1, 3, 4, 4), torch.rand(2, 1, 3, 4, 4) < 0.5
    assert torch.equal(occlude(values, observed, 1.0), values * observed + 1.0 * ~observed)
    assert torch.equal(occlude(values, observed, 1.0), apply(values, observed, 1.0))


def test_gradients_pass_where_each_is_kept() -> None:
    values, estimate = (
        torch.tensor([0.5, float("nan")], requires_grad=True),
        torch.ones(2, requires_grad=True),
    )
    keep_observed(values, torch.tensor([True, False]), estimate).square().sum().backward()
    assert values.grad is not None
    assert estimate.grad is not None
    assert values.grad.tolist() == [1.0, 0.0]
    assert estimate.grad.tolist() == [0.0, 2.0]


def test_masks_are_checked() -> None:
    with pytest.raises(InputError, match=r"give torch\.bool of shape \(2,\)"):
        occlude(torch.zeros(2), torch.ones(3, dtype=torch.bool), 1.0)


CODE = """
import importlib, sys
import sstfill.nn
assert 'torch' not in sys.modules
for name in ('generator', 'recurrent', 'discriminator', 'losses'):
    importlib.import_module(f'sstfill.nn.{name}')
rooms = {name.split('.')[1] for name in sys.modules if name.startswith('sstfill.')}
print(sorted(rooms - {'nn', 'checks', 'errors', 'printable'}))
"""


def test_the_package_loads_no_torch_and_its_modules_no_other_room() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
