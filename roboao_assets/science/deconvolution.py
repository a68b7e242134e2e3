"""Deconvolution of resolved objects: what blurring, noise and the edge of the field are.

The field is padded by the reach of the PSF, and what lies there is restored but compared with
nothing (Bertero & Boccacci 2005, doi:10.1051/0004-6361:20052717): light that the edge of the
field cuts off makes no ripples. Pixels without data are treated the same. Of the two methods
`richardson_lucy` takes the PSF as it is; `myopic_deconvolution` doubts it.
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from roboao_assets.science.errors import ScienceError

# Where the object is: this many sigma of the sky high, and this part of its peak. Its halo, which
# is most of the pixels, would pass for a good residual whatever the disc looked like.
_FOOTPRINT_SIGMA = 3.0
_FOOTPRINT_DEPTH = 0.1
# The object lies where the image, correlated with the PSF, stands this many sigma high. Elsewhere
# noise, of which only the positive half may be restored, would pass for light.
_SUPPORT_SIGMA = 3.0
# Largest change of the flux that passes for its conservation.
FLUX_TOLERANCE = 0.02
# A residual this much above the noise is no longer called consistent with it.
CHI2_TOLERANCE = 1.1
# Floor of the denominator of the TV term: it is a brake, and never turns an iteration round.
_LEAST_BRAKE = 0.5


@dataclass(frozen=True, kw_only=True)
class ImageNoise:
    """Variance of a pixel: `sky_variance` + `variance_per_adu` times its signal.

    Attributes
    ----------
    sky_variance : float
        ADU²; of the detector and the sky.
    variance_per_adu : float
        ADU; photon noise, the inverse of an effective gain.
    """

    sky_variance: float
    variance_per_adu: float

    def variance(self, signal: NDArray[np.floating]) -> NDArray[np.float64]:
        """Variance (ADU²) where the noise-free signal above the background is `signal`."""
        return self.sky_variance + self.variance_per_adu * np.maximum(signal, 0.0)


@dataclass(frozen=True, kw_only=True)
class Deconvolution:
    """A restored object.

    Attributes
    ----------
    image : ndarray of float32, shape (y, x)
        Never negative; same pixels and flux as the image it was made from.
    psf : ndarray of float32, shape (2 k + 1, 2 k + 1)
        The PSF it was restored with, unit sum: the one given, or (myopic) the one found.
    residual : ndarray of float32, shape (y, x)
        Image less background less the restored object blurred, in sigma of the noise; NaN
        where the image has no data.
    iterations : int
    converged : bool
        A rule stopped it, and the flux is kept; see `reason`.
    chi2 : float
        Mean square of the residual where the object is: 1 for noise alone.
    flux_ratio : float
        Flux of the object blurred again over that of the image less background, in the field.
    object_flux_ratio : float
        Flux of the restored object over the same: above 1 by the light that the PSF throws out
        of the field.
    reason : str
        Why it ended, in words.
    """

    image: NDArray[np.float32]
    psf: NDArray[np.float32]
    residual: NDArray[np.float32]
    iterations: int
    converged: bool
    chi2: float
    flux_ratio: float
    object_flux_ratio: float
    reason: str


class BlurredField:
    """An image less its background, and what an object looks like in it.

    Objects are arrays of `shape`, larger than the field by the reach of the PSF on each side.
    """

    def __init__(
        self,
        image: NDArray[np.floating],
        psf: NDArray[np.floating],
        noise: ImageNoise,
        *,
        background: float = 0.0,
        threads: int = 1,
    ) -> None:
        _check(image, psf, noise)
        self.noise, self._threads = noise, threads
        self._reach = psf.shape[0] // 2
        rows, columns = image.shape
        self.shape = tuple(
            scipy.fft.next_fast_len(n + 2 * self._reach, real=True) for n in (rows, columns)
        )
        self.field = (
            slice(self._reach, self._reach + rows),
            slice(self._reach, self._reach + columns),
        )
        self.known = np.zeros(self.shape)
        self.known[self.field] = np.isfinite(image)
        self.data = np.zeros(self.shape)
        self.data[self.field] = np.where(np.isfinite(image), image - background, 0.0)
        self.flux = float(self.data.sum())
        if self.flux <= 0:
            raise ScienceError(
                f"the image holds {self.flux:.3g} ADU above its background of {background:.3g} "
                f"ADU: there is nothing to deconvolve"
            )
        self.set_psf(psf)
        # What light of each pixel of the object falls on pixels that are known.
        self.seen = np.maximum(self.blur_back(self.known), 0.0)
        smooth = self.blur(np.maximum(self.data, 0.0))
        matched_sigma = float(np.sqrt(noise.sky_variance * np.sum(self.psf**2)))
        self.support = self.blur_back(self.data) > _SUPPORT_SIGMA * matched_sigma
        if not self.support.any():
            self.support = self.seen > 0
        height = max(_FOOTPRINT_SIGMA * noise.sky_variance**0.5, _FOOTPRINT_DEPTH * smooth.max())
        self.footprint = (self.known > 0) & (smooth > height)
        if not self.footprint.any():
            self.footprint = self.known > 0

    def set_psf(self, psf: NDArray[np.floating]) -> None:
        """Blur with another PSF of the same shape; it is given unit sum."""
        self.psf = np.asarray(psf, np.float64) / float(np.sum(psf, dtype=np.float64))
        self.transfer = self.transform(self.embed(self.psf))

    def embed(self, psf: NDArray[np.floating]) -> NDArray[np.float64]:
        """Put the middle of a PSF at the origin of an array of `shape`."""
        padded = np.zeros(self.shape)
        side = psf.shape[0]
        padded[:side, :side] = psf
        return np.roll(padded, (-(side // 2), -(side // 2)), axis=(0, 1))

    def extract(self, padded: NDArray[np.float64]) -> NDArray[np.float64]:
        """Reverse `embed`."""
        side = 2 * self._reach + 1
        return np.roll(padded, (self._reach, self._reach), axis=(0, 1))[:side, :side]

    def transform(self, array: NDArray[np.floating]) -> NDArray[np.complex128]:
        """Real transform of an array of `shape`."""
        return scipy.fft.rfft2(array, workers=self._threads)

    def restore(self, spectrum: NDArray[np.complex128]) -> NDArray[np.float64]:
        """Reverse `transform`."""
        return scipy.fft.irfft2(spectrum, s=self.shape, workers=self._threads)

    def blur(self, scene: NDArray[np.floating]) -> NDArray[np.float64]:
        """Image of an object."""
        return self.restore(self.transform(scene) * self.transfer)

    def blur_back(self, image: NDArray[np.floating]) -> NDArray[np.float64]:
        """Correlate with the PSF: the adjoint of `blur`."""
        return self.restore(self.transform(image) * np.conj(self.transfer))

    def start(self) -> NDArray[np.float64]:
        """First guess: the image, correlated with the PSF, with all of its flux."""
        guess = self.support * np.maximum(self.blur_back(np.maximum(self.data, 0.0)), 0.0)
        return guess * (self.flux / guess.sum())

    def chi2(self, blurred: NDArray[np.float64]) -> float:
        """Mean square, in sigma, of image less model where the object is."""
        at = self.footprint
        deviation = self.data[at] - blurred[at]
        return float(np.mean(deviation**2 / self.noise.variance(blurred[at])))

    def result(
        self, scene: NDArray[np.float64], *, iterations: int, stopped: bool, reason: str
    ) -> Deconvolution:
        """Measure a restored object."""
        blurred = self.blur(scene)
        sigma = np.sqrt(self.noise.variance(blurred))
        residual = np.where(self.known > 0, (self.data - blurred) / sigma, np.nan)
        flux_ratio = float((blurred * self.known).sum() / self.flux)
        if abs(flux_ratio - 1) > FLUX_TOLERANCE:
            stopped = False
            reason += f"; the flux is not kept: {flux_ratio:.3f} of the image's"
        return Deconvolution(
            image=scene[self.field].astype(np.float32),
            psf=self.psf.astype(np.float32),
            residual=residual[self.field].astype(np.float32),
            iterations=iterations,
            converged=stopped,
            chi2=self.chi2(blurred),
            flux_ratio=flux_ratio,
            object_flux_ratio=float(scene[self.field].sum() / self.flux),
            reason=reason,
        )


def _check(image: NDArray, psf: NDArray, noise: ImageNoise) -> None:
    side = psf.shape[0]
    if psf.shape != (side, side) or side % 2 == 0:
        raise ScienceError(
            f"the PSF has shape {psf.shape}: a square of odd side with its star in the middle "
            f"is needed"
        )
    if side > min(image.shape):
        raise ScienceError(
            f"the PSF is {side} px wide and the image {image.shape[1]} x {image.shape[0]} px: cut "
            f"a smaller PSF, or more of the image"
        )
    if not np.isfinite(psf).all() or psf.min() < 0 or psf.sum() <= 0:
        raise ScienceError("the PSF must be finite and not negative, with some light in it")
    if not np.isfinite(image).any():
        raise ScienceError("no pixel of the image to be deconvolved is finite")
    if noise.sky_variance <= 0 or noise.variance_per_adu < 0:
        raise ScienceError(
            f"a noise of {noise.sky_variance:.3g} ADU2 + {noise.variance_per_adu:.3g} ADU times "
            f"the signal cannot be: the first must be above 0 and the second not below"
        )


def richardson_lucy(
    field: BlurredField,
    *,
    most_iterations: int = 500,
    smoothing: float = 0.002,
    accelerate: bool = True,
    least_fall: float = 1e-3,
    target_chi2: float = 1.02,
    start: NDArray[np.floating] | None = None,
) -> Deconvolution:
    """Restore an object by Richardson and Lucy's iteration, until the residual is noise.

    Photon noise with a Gaussian one beside it is, with the latter's variance added to image and
    model, nearly Poisson again [3]_. Total variation holds back the noise [4]_; steps are
    extrapolated [5]_. It ends when the residual is no larger than the noise, or no longer falls.

    Parameters
    ----------
    field : BlurredField
    most_iterations : int
    smoothing : float
        Weight of the total variation (0: none).
    accelerate : bool
    least_fall : float
        It ends when ten iterations lower chi2 by less than this part of it.
    target_chi2 : float
        Mean square residual, in sigma, that ends it: the noise itself is known no better. 0: never.
    start : ndarray of float, shape `field.shape`, optional
        First guess, positive; where it is 0 the object stays 0.

    References
    ----------
    .. [1] Richardson 1972, J. Opt. Soc. Am. 62, 55, doi:10.1364/JOSA.62.000055
    .. [2] Lucy 1974, AJ 79, 745, doi:10.1086/111605
    .. [3] Snyder, Hammoud & White 1993, J. Opt. Soc. Am. A 10, 1014, doi:10.1364/JOSAA.10.001014
    .. [4] Dey et al. 2006, Microsc. Res. Tech. 69, 260, doi:10.1002/jemt.20294
    .. [5] Biggs & Andrews 1997, Appl. Opt. 36, 1766, doi:10.1364/AO.36.001766
    """
    scene = field.start() if start is None else np.asarray(start, np.float64)
    # Sums over arrays of this size gain nothing by threads of their own.
    with threadpool_limits(limits=1):
        return _richardson_lucy(
            field, scene, most_iterations, smoothing, accelerate, least_fall, target_chi2
        )


def _richardson_lucy(
    field: BlurredField,
    scene: NDArray[np.float64],
    most_iterations: int,
    smoothing: float,
    accelerate: bool,
    least_fall: float,
    target_chi2: float,
) -> Deconvolution:
    previous, last_step, step = scene, None, None
    falls = [field.chi2(field.blur(scene))]
    for iteration in range(1, most_iterations + 1):
        ahead = scene
        if accelerate and last_step is not None:
            gain = float(np.vdot(step, last_step) / max(np.vdot(last_step, last_step), 1e-300))
            ahead = np.maximum(scene + np.clip(gain, 0.0, 0.99) * (scene - previous), 0.0)
        previous, scene = scene, _iterate(field, ahead, smoothing)
        last_step, step = step, scene - ahead
        falls.append(field.chi2(field.blur(scene)))
        if falls[-1] <= target_chi2:
            reason = f"the residual is the noise after {iteration} iterations"
            return field.result(scene, iterations=iteration, stopped=True, reason=reason)
        if iteration >= 10 and falls[-11] - falls[-1] < least_fall * falls[-1]:
            reason = f"the residual falls no further after {iteration} iterations"
            if falls[-1] > CHI2_TOLERANCE:
                reason += (
                    f", at {falls[-1]:.2f} times the variance of the noise: the PSF is not quite "
                    f"that of the image"
                )
            return field.result(scene, iterations=iteration, stopped=True, reason=reason)
    reason = (
        f"no convergence: the residual still falls after {most_iterations} iterations, at "
        f"{falls[-1]:.2f} times the variance of the noise"
    )
    return field.result(scene, iterations=most_iterations, stopped=False, reason=reason)


def _iterate(
    field: BlurredField, scene: NDArray[np.float64], smoothing: float
) -> NDArray[np.float64]:
    per_adu = max(field.noise.variance_per_adu, 1e-6 * np.sqrt(field.noise.sky_variance))
    shift = field.noise.sky_variance / per_adu
    tiny = 1e-12 * field.data.max()
    model = np.maximum(field.blur(scene), 0.0) + shift
    ratio = field.known * np.maximum(field.data + shift, 0.0) / np.maximum(model, tiny)
    seen = np.maximum(field.seen, 1e-3)
    scene = scene * np.maximum(field.blur_back(ratio), 0.0) / seen
    # Where next to nothing of the light falls on a known pixel nothing is known of the object.
    scene[field.seen < 1e-3] = 0.0
    if smoothing:
        scene /= np.maximum(1.0 - smoothing * _curvature(scene), _LEAST_BRAKE)
    return scene


def _curvature(scene: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divergence of the unit gradient: what lowers the total variation."""
    down = np.diff(scene, axis=0, append=scene[-1:])
    right = np.diff(scene, axis=1, append=scene[:, -1:])
    # A slope much less than the mean one is none: flat sky has no direction.
    norm = np.sqrt(down**2 + right**2 + (1e-3 * scene.max()) ** 2)
    down, right = down / norm, right / norm
    return np.diff(down, axis=0, prepend=0.0) + np.diff(right, axis=1, prepend=0.0)
