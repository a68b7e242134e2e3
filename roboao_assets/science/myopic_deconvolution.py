"""Deconvolution with a PSF that is not quite known: object and PSF are found together.

The most probable pair under Gaussian noise, an object of smooth parts with edges, and a PSF round
the one measured, as MISTRAL (Mugnier, Fusco & Conan 2004, doi:10.1364/JOSAA.21.001841) and AIDA
(Hom et al. 2007, doi:10.1364/JOSAA.24.001580) do it: object and PSF are improved in turn.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from roboao_assets.science.deconvolution import (
    CHI2_TOLERANCE,
    BlurredField,
    Deconvolution,
    richardson_lucy,
)

# Iterations of Richardson and Lucy that make the first guess.
_FIRST_GUESS = 10
# The prior's weight follows the residual by at most this factor a round.
_MOST_CHANGE = 3.0
# A residual that a wrong PSF leaves is not to be driven down by noise in the object.
_LEAST_WEIGHT = 1.0
# Relative freedom of the PSF's flux, and of what its transfer function has beyond the cut-off.
_FLUX_FREEDOM = 1e-4
_NOISE_FREEDOM = 1e-3


def deconvolve_myopic(
    field: BlurredField,
    *,
    psf_spread: float = 0.3,
    most_rounds: int = 12,
    object_steps: int = 25,
    psf_steps: int = 8,
    least_change: float = 0.01,
) -> Deconvolution:
    """Restore an object, and the PSF that it was seen with.

    The criterion is half the sum of the squared residuals in sigma, plus `weight` times the sum
    of g - ln(1 + g), with g the slope of the object over its mean slope (small slopes cost their
    square, edges only their height), plus half the sum of the squared deviations of the transfer
    function from the measured one over their variance. The weight follows from the residual, which
    is to be the noise.

    Parameters
    ----------
    field : BlurredField
        Its PSF is that measured; it is replaced by that found.
    psf_spread : float
        Standard deviation of the transfer function as a part of itself; 0: it is known.
    most_rounds : int
        Improvements of the object and then of the PSF.
    object_steps, psf_steps : int
        L-BFGS-B steps in a round.
    least_change : float
        It ends when a round changes the object, and chi2, by less than this part.
    """
    with threadpool_limits(limits=1):
        return _improve_in_turn(
            field, psf_spread, most_rounds, object_steps, psf_steps, least_change
        )


def _improve_in_turn(
    field: BlurredField,
    psf_spread: float,
    most_rounds: int,
    object_steps: int,
    psf_steps: int,
    least_change: float,
) -> Deconvolution:
    measured, measured_transfer = field.psf, field.transfer
    scene, weight, chi2 = _first_guess(field), 1.0, np.inf
    for number in range(1, most_rounds + 1):
        before, last_chi2 = scene, chi2
        scene = _improve_object(field, scene, weight, object_steps)
        if psf_spread > 0:
            _improve_psf(field, scene, measured, measured_transfer, psf_spread, psf_steps)
        chi2 = field.chi2(field.blur(scene))
        change = float(np.linalg.norm(scene - before) / np.linalg.norm(scene))
        steady = change < least_change and abs(chi2 - last_chi2) < least_change * chi2
        if steady or (abs(chi2 - 1) < CHI2_TOLERANCE - 1 and change < 3 * least_change):
            reason = f"object and PSF are steady after {number} rounds"
            if chi2 > CHI2_TOLERANCE:
                reason += f", at {chi2:.2f} times the variance of the noise"
            return field.result(scene, iterations=number, stopped=True, reason=reason)
        weight *= float(np.clip(1.0 / chi2, 1.0 / _MOST_CHANGE, _MOST_CHANGE))
        weight = max(weight, _LEAST_WEIGHT)
    reason = (
        f"no convergence: object and PSF still change by {change:.1%} after {most_rounds} rounds, "
        f"at {chi2:.2f} times the variance of the noise"
    )
    return field.result(scene, iterations=most_rounds, stopped=False, reason=reason)


def _first_guess(field: BlurredField) -> NDArray[np.float64]:
    guess = np.zeros(field.shape)
    made = richardson_lucy(field, most_iterations=_FIRST_GUESS, smoothing=0.0)
    guess[field.field] = made.image
    return guess


def _improve_object(
    field: BlurredField, scene: NDArray[np.float64], weight: float, steps: int
) -> NDArray[np.float64]:
    # In units of the brightest pixel: the first step of L-BFGS is then of the right size.
    unit = float(scene.max())
    inverse_variance = field.known / field.noise.variance(field.blur(scene))
    slope = _mean_slope(field, scene)

    def criterion(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        trial = np.zeros(field.shape)
        trial[field.support] = flat * unit
        deviation = field.blur(trial) - field.data
        weighted = inverse_variance * deviation
        cost, gradient = _edge_prior(trial, slope)
        gradient = field.blur_back(weighted) + weight * gradient
        cost = 0.5 * float(np.vdot(weighted, deviation)) + weight * cost
        return cost, gradient[field.support] * unit

    improved = np.zeros(field.shape)
    improved[field.support] = _minimise(criterion, scene[field.support] / unit, steps) * unit
    return improved


def _mean_slope(field: BlurredField, scene: NDArray[np.float64]) -> float:
    down, right = np.diff(scene, axis=0)[:, :-1], np.diff(scene, axis=1)[:-1]
    slopes = np.hypot(down, right)[field.footprint[:-1, :-1]]
    return max(float(np.mean(slopes)), 1e-9 * float(scene.max()))


def _edge_prior(scene: NDArray[np.float64], slope: float) -> tuple[float, NDArray[np.float64]]:
    """Sum of g - ln(1 + g), and its gradient."""
    down = np.diff(scene, axis=0, append=scene[-1:]) / slope
    right = np.diff(scene, axis=1, append=scene[:, -1:]) / slope
    size = np.hypot(down, right)
    # d/dg of the cost is g / (1 + g); along the slope's direction that is slope / (1 + g).
    down, right = down / (1.0 + size), right / (1.0 + size)
    gradient = -np.diff(down, axis=0, prepend=0.0) - np.diff(right, axis=1, prepend=0.0)
    return float(np.sum(size - np.log1p(size))), gradient / slope


def _improve_psf(
    field: BlurredField,
    scene: NDArray[np.float64],
    measured: NDArray[np.float64],
    measured_transfer: NDArray[np.complex128],
    spread: float,
    steps: int,
) -> None:
    unit = float(measured.max())
    spectrum = field.transform(scene)
    inverse_variance = field.known / field.noise.variance(field.blur(scene))
    variance = (spread * np.abs(measured_transfer)) ** 2 + (spread * _NOISE_FREEDOM) ** 2
    variance[0, 0] = _FLUX_FREEDOM**2
    # A real transform stores half of the frequencies.
    twice = np.full(variance.shape, 2.0)
    twice[:, 0] = 1.0
    if field.shape[1] % 2 == 0:
        twice[:, -1] = 1.0
    pixels = float(np.prod(field.shape))

    def criterion(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        transfer = field.transform(field.embed(flat.reshape(measured.shape) * unit))
        deviation = field.restore(spectrum * transfer) - field.data
        weighted = inverse_variance * deviation
        off = transfer - measured_transfer
        cost = 0.5 * float(np.sum(twice * np.abs(off) ** 2 / variance))
        gradient = field.restore(np.conj(spectrum) * field.transform(weighted))
        gradient += field.restore(off / variance) * pixels
        cost += 0.5 * float(np.vdot(weighted, deviation))
        return cost, field.extract(gradient).ravel() * unit

    field.set_psf(_minimise(criterion, field.psf / unit, steps) * unit)


def _minimise(criterion, first: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """Lower a criterion by so many steps; nothing becomes negative."""
    found = minimize(
        criterion,
        first.ravel(),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, None)] * first.size,
        options={"maxiter": steps, "maxcor": 8},
    )
    return np.maximum(found.x, 0.0).reshape(first.shape)
