# SPDX-License-Identifier: Apache-2.0
"""Spectra of fields of known spectrum, and gradients of planes."""

from __future__ import annotations

import numpy as np
import pytest

from sstfill.validation.patch_means import Places
from sstfill.validation.texture import gradients, spectrum


def test_white_noise_has_one_power_at_all_wavelengths():
    found = spectrum(np.random.default_rng(0).normal(size=(30, 64, 96)))
    assert found.wavelength[0] == 64 and found.wavelength[-1] == 2
    inner = found.power[1:-1]  # the line taken off lacks at the longest
    np.testing.assert_allclose(10 * np.log10(inner / inner.mean()), 0, atol=0.3)


def test_power_law_is_found_and_no_trend_leaks_into_short_waves():
    rng = np.random.default_rng(1)
    ky, kx = np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256), indexing="ij")
    k = np.hypot(ky, kx)
    k[0, 0] = np.inf
    # an amplitude of k^-2 in the plane is a power of k^-3 along a line
    noise = np.fft.fft2(rng.normal(size=(8, 256, 256)))
    fields = np.fft.ifft2(noise / k**2).real[:, :128, :128]
    steep = fields + 1e4 * np.arange(128)
    for values in (fields, steep):
        wavelength, power = spectrum(values)
        middle = (wavelength > 4) & (wavelength < 32)
        slope = np.polyfit(np.log(wavelength[middle]), np.log(power[middle]), 1)[0]
        assert slope == pytest.approx(3, abs=0.25)


def test_half_the_amplitude_is_six_decibels_less():
    values = np.random.default_rng(0).normal(size=(4, 20, 20))
    ratio = spectrum(values / 2).power / spectrum(values).power
    np.testing.assert_allclose(10 * np.log10(ratio), -6.02, atol=0.01)


def test_gradient_of_a_plane_wherever_neighbours_are_given():
    row, column = np.indices((6, 7))
    plane = 3.0 * row + 4.0 * column
    hidden = np.random.default_rng(0).random((3, 6, 7)) < 0.7
    places = Places(*np.nonzero(hidden))
    expected = (hidden[:, :-1, :-1] & hidden[:, 1:, :-1] & hidden[:, :-1, 1:]).sum()
    values = np.broadcast_to(plane, hidden.shape)[hidden]
    found = gradients(np.stack([values, 2 * values]), places)
    assert found.shape == (2, expected)
    np.testing.assert_allclose(found, np.broadcast_to([[5.0], [10.0]], found.shape))


def test_no_neighbours_no_gradient():
    assert gradients(np.zeros(1), Places(*np.zeros((3, 1), int))).size == 0
    assert gradients(np.zeros(0), Places(*np.zeros((3, 0), int))).size == 0
