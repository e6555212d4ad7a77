# SPDX-License-Identifier: Apache-2.0
"""Surface quasi-geostrophic turbulence on a doubly periodic domain, pseudo-spectral.

The law is ``d theta / dt + J(psi, theta + G y) = forcing - damping`` with ``psi_hat = theta_hat /
|k|``: temperature at the surface moves itself about. Held et al. (1995),
doi:10.1017/S0022112095000012, equations 2 to 4; Lapeyre and Klein (2006), doi:10.1175/JPO2840.1,
for its likeness to the ocean's mesoscale. The time step is fourth-order Runge-Kutta with the linear
terms integrated exactly; products are dealiased by the 2/3 rule.

Here the anomaly has a root-mean-square of 1, and so has the current (``|k| psi_hat`` is
``theta_hat``): the unit of length is a cell, that of time what the current takes to cross one.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
import scipy.ndimage

from sstfill.synthetic import spectrum

CFL = 0.8  # of a stability limit of about 1.3 with the 2/3 rule
VISCOUS_ORDER = 8  # power of k in the small-scale damping
VISCOSITY = 0.3  # damping of the smallest scale kept, in units of its own strain rate
DRAG = 0.1  # damping of scales far above the eddies, in units of the eddies' turnover rate


class Turbulence:
    """The constants of a flow, and its law; the state ``theta_hat`` is passed in and returned.

    Parameters
    ----------
    shape
        Periodic domain, cells; the state is then (ny, nx // 2 + 1), complex64.
    wavelength
        Of the eddies that are kept fed, cells.
    gradient
        Of the background temperature northward, root-mean-square anomalies per cell.
    hand
        1 where warm eddies turn clockwise, as in the north; -1 where they turn the other way.
    """

    def __init__(
        self, *, shape: tuple[int, int], wavelength: float, gradient: float, hand: float
    ) -> None:
        self.shape = shape
        ky, kx = spectrum.wavenumbers(shape, 1.0)
        k = np.hypot(ky, kx)
        k_eddy, k_last = 2 * np.pi / wavelength, 2 / 3 * np.pi
        self.turnover = 1 / k_eddy
        # the mean has no wavelength, and no part in the flow
        k_safe = np.where(k > 0, k, k_eddy)
        psi = hand / k_safe
        self.kept = ((k <= k_last) & (k > 0)).astype("float32")
        # theta_hat times these: u, v, d theta / dx, d theta / dy
        self.factors = np.stack(
            [-1j * ky * psi, 1j * kx * psi, 1j * kx + 0 * ky, 1j * ky + 0 * kx]
        ).astype("complex64")
        strain = (k_last / k_eddy) ** (2 / 3) / self.turnover
        viscous = VISCOSITY * strain * np.minimum(k / k_last, 1) ** VISCOUS_ORDER
        drag = DRAG / self.turnover * np.minimum(1, (k_eddy / 2 / k_safe) ** 4)
        self.linear = -viscous - drag - 1j * kx * psi * gradient
        self.weight = spectrum.multiplicity(shape) / float(shape[0] * shape[1]) ** 2
        self.fed = ((k > 0.7 * k_eddy) & (k < 1.4 * k_eddy)).astype("float32")
        self.start_envelope = np.exp(-((np.log(k_safe / k_eddy) / 0.4) ** 2)) * self.kept

    def start(self, rng: np.random.Generator, *, turnovers: float) -> np.ndarray:
        """Return a random state of the eddies' scale, spun up for so many turnovers."""
        theta = (spectrum.noise(rng, self.shape) * self.start_envelope).astype("complex64")
        theta /= np.float32(np.sqrt(self._variance(theta)))
        return self.advance(theta, turnovers * self.turnover)

    def temperature(self, theta: np.ndarray, carried: np.ndarray | None = None) -> np.ndarray:
        """Return the temperature anomaly, (ny, nx), float32, root-mean-square 1.

        All of it lies `carried` (rows, columns) further on, in cells of any fraction.
        """
        if carried is not None and carried.any():
            shifted = scipy.ndimage.fourier_shift(theta, carried, n=self.shape[1])
            theta = shifted.astype(theta.dtype)
        return scipy.fft.irfft2(theta, s=self.shape, workers=1)

    def advance(self, theta: np.ndarray, time: float) -> np.ndarray:
        """Return the state `time` later; the inner step follows the fastest current, looked up once
        a turnover.
        """
        left = time
        while left > 0:
            stretch = min(left, self.turnover)
            # rounding would leave a rest of 1e-17, and one step more
            left = left - stretch if left - stretch > 1e-9 * time else 0.0
            u, v = scipy.fft.irfft2(self.factors[:2] * theta, s=self.shape, workers=1)
            longest_step = CFL / float((np.abs(u) + np.abs(v)).max())
            steps = max(1, int(np.ceil(stretch / longest_step)))
            half = np.exp(self.linear * (stretch / steps / 2)).astype("complex64")
            for _ in range(steps):
                theta = self._step(theta, np.float32(stretch / steps), half)
                # the eddies' band is fed, so that the whole keeps its variance against the damping
                lacking = 1 - self._variance(theta)
                band = max(self._variance(theta * self.fed), 1e-3)
                factor = np.sqrt(np.clip(1 + lacking / band, 0.8, 1.2))
                theta = theta * (1 + np.float32(factor - 1) * self.fed)
        return theta

    def _step(self, theta: np.ndarray, dt: np.float32, half: np.ndarray) -> np.ndarray:
        """Runge-Kutta of order 4 on ``exp(-linear t) theta``; `half` is ``exp(linear dt / 2)``."""
        midway = half * theta
        a = self._advection(theta)
        b = self._advection(midway + dt / 2 * half * a)
        c = self._advection(midway + dt / 2 * b)
        d = self._advection(half * (midway + dt * c))
        return half * (midway + dt / 6 * (half * a + 2 * (b + c))) + dt / 6 * d

    def _advection(self, theta: np.ndarray) -> np.ndarray:
        u, v, theta_x, theta_y = scipy.fft.irfft2(
            self.factors * theta, s=self.shape, workers=1, overwrite_x=True
        )
        # in place: the fields of a step are the largest arrays here
        u *= theta_x
        v *= theta_y
        u += v
        return -self.kept * scipy.fft.rfft2(u, workers=1, overwrite_x=True)

    def _variance(self, theta: np.ndarray) -> float:
        return float((self.weight * (theta.real**2 + theta.imag**2)).sum())
