"""Where the star stands in each frame, to a fraction of a pixel, and how sharp it is.

Frames are measured in a box round the guide star, in Fourier space. The
correlation with the diffraction-limited PSF peaks at the star's brightest speckle:
its height gives the quality of the frame. The correlation with the mean of all
frames says which of two stars it is, and where a faint one stands.

Lucky imaging stacks frames on their brightest speckle (Law, Mackay & Baldwin 2006,
doi:10.1051/0004-6361:20053695). That is the sharper choice only while the speckle
stands out of the photon noise: below `PEAK_SNR` frames stay where the correlation
with the mean of the others puts them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roboao_assets.science.box_noise import BoxNoise, border_levels_and_scatters, variance_per_adu
from roboao_assets.science.box_transforms import (
    backward,
    correlate_with_rest,
    evaluate,
    fine_peaks,
    forward,
    gaussian_transfer,
    recentred_sum,
    transfer_psf,
)
from roboao_assets.science.cosmic_rays import SpikeFinder
from roboao_assets.science.frame_blocks import map_blocks

# The brightest speckle is looked for this far (px) from where the mean correlates best.
_SPECKLE_REACH_PX = 2
# Median signal-to-noise of the filtered peak from which frames are put on it.
PEAK_SNR = 20.0
# Blur (px) under which a faint star is found in a frame: the faint-star pipeline's.
_FAINT_SIGMA_PX = 5.0
# Blur (px) that a diffraction core does not survive and a resolved object does.
_ABOUT_SIGMA_PX = 2.5
# Standard deviation of the Gaussian in which the flux near the star is summed, over the side of
# the box: a seeing disc. In the whole box an error of its level would swamp a faint star's light.
_NEAR_SIGMA_OVER_SIDE = 20 / 128


@dataclass(frozen=True, kw_only=True)
class FrameMeasures:
    """What is known of each of n frames; arrays of length n.

    Attributes
    ----------
    x, y : ndarray of float64
        Position of the star in the box (px).
    quality : ndarray of float32
        Peak of the correlation with the diffraction-limited PSF over the flux near the star,
        1 for a star at the diffraction limit: larger is sharper.
    flux : ndarray of float32
        Star's flux in the box above the box's border (ADU).
    peak_snr : float
        Median signal-to-noise of that peak.
    core_contrast : float
        Median of that peak over the light about it, blurred by 2.5 px: about 1 for a smooth object,
        above it where a diffraction core stands out.
    stars : ndarray of float32, shape (n, side, side)
        The boxes without cosmic rays, the level of the border taken off.
    scatter : ndarray of float32
        Standard deviation of the border (ADU).
    brightest : ndarray of float32
        Brightest pixel of the box without cosmic rays, the level included (ADU).
    hits : ndarray of int64
        Pixels that cosmic rays had hit.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    quality: NDArray[np.float32]
    flux: NDArray[np.float32]
    peak_snr: float
    core_contrast: float
    stars: NDArray[np.float32]
    scatter: NDArray[np.float32]
    brightest: NDArray[np.float32]
    hits: NDArray[np.int64]


def measure_frames(
    boxes: NDArray[np.float32],
    transfer: NDArray[np.float32],
    *,
    search_half_px: float,
    search_centre: tuple[float, float] | None = None,
    rounds: int = 2,
    threads: int = 1,
) -> FrameMeasures:
    """Measure position, quality and flux of the star in each box, cosmic rays removed.

    Parameters
    ----------
    boxes : ndarray of float32, shape (n, side, side)
        Calibrated cut-outs round the guide star, the same for all frames.
    transfer : ndarray of float32, shape (side, side // 2 + 1)
        Transfer function of the telescope, see `box_transforms.telescope_transfer`.
    search_half_px : float
        The star is looked for this far from `search_centre`.
    search_centre : tuple of float, optional
        (x, y) in the box (px); by default its middle.
    rounds : int
        How often positions are measured again against the better mean.
    threads : int
        Threads that share the frames.

    Returns
    -------
    FrameMeasures
    """
    run = _Measurement(boxes, transfer, search_half_px, search_centre)

    def each(work):
        return map_blocks(work, len(boxes), threads=threads)

    if len(boxes) == 0:
        return run.result()
    each(run.look)
    run.decide_brightness()
    if not run.bright:
        each(run.find_blurred)
    # Two frames have no others to agree with.
    for _ in range(rounds if len(boxes) > 2 else 0):
        template = np.sum(each(run.recentred_sum), axis=0)
        origin = np.zeros(1)
        # The mean's own peak says where in the star "the position" is.
        peak_y, peak_x, _ = fine_peaks((template * transfer)[None], origin, origin)
        each(lambda part: run.correlate_with_others(part, template, peak_y, peak_x))  # noqa: B023
    each(run.settle)
    return run.result()


class _Measurement:
    """The frames of one call of `measure_frames`; its methods work on a block of them each."""

    def __init__(
        self,
        boxes: NDArray[np.float32],
        transfer: NDArray[np.float32],
        search_half_px: float,
        search_centre: tuple[float, float] | None,
    ) -> None:
        number, side, _ = boxes.shape
        self._boxes, self._transfer, self._side = boxes, transfer, side
        half = int(min(search_half_px, side // 2 - 2))
        # Where the star may be: rows and columns, at least a speckle's reach off the border.
        middle = search_centre or (side // 2, side // 2)
        margin = _SPECKLE_REACH_PX if side > 2 * _SPECKLE_REACH_PX + 1 else 0
        self._search = tuple(
            slice(max(margin, round(p) - half), min(side - margin, round(p) + half + 1))
            for p in (middle[1], middle[0])
        )
        self._noise = BoxNoise(transfer)
        self._spikes = SpikeFinder(boxes, transfer, variance_per_adu(boxes, transfer))
        self._blur = gaussian_transfer(side, _FAINT_SIGMA_PX)
        self._about_blur = gaussian_transfer(side, _ABOUT_SIGMA_PX)
        self.bright = False
        self._stars = np.empty(boxes.shape, np.float32)
        self._spectra = np.empty((number, *transfer.shape), np.complex64)
        # Of the filtered images only where a peak may be is kept.
        self._kept = tuple(slice(rows.start - margin, rows.stop + margin) for rows in self._search)
        self._windows = np.empty((number, *(k.stop - k.start for k in self._kept)), np.float32)
        self._x, self._y, self._snr, self._weight, self._photons = np.zeros((5, number))
        self._about, self._near_flux = np.zeros((2, number))
        sigma_px = _NEAR_SIGMA_OVER_SIDE * side
        # Scaled so that the Gaussian is 1 at the star.
        self._near = gaussian_transfer(side, sigma_px) * np.float32(2 * np.pi * sigma_px**2)
        self._flux, self._peak, self._scatter, self._brightest = np.zeros((4, number), np.float32)
        self._hits = np.zeros(number, np.int64)

    def look(self, part: slice) -> None:
        """Clean and transform the frames; find where their filtered images peak."""
        level, self._scatter[part] = border_levels_and_scatters(self._boxes[part])
        cleaned, self._hits[part] = self._spikes.remove(
            self._boxes[part], level, self._scatter[part]
        )
        self._brightest[part] = cleaned.max(axis=(1, 2))
        stars = np.subtract(cleaned, level[:, None, None], out=self._stars[part])
        self._flux[part] = stars.sum(axis=(1, 2), dtype=np.float64)
        spectra = self._spectra[part] = forward(stars)
        self._photons[part] = self._noise.photon_noise(
            spectra, self._flux[part], self._scatter[part]
        )
        smooth = spectra * self._transfer
        filtered = backward(smooth, self._side)
        self._windows[part] = filtered[:, *self._kept]
        self._measure_peak(part, smooth, *_whole_pixel_peaks(filtered, self._search))

    def decide_brightness(self) -> None:
        """Put frames on their brightest speckle if it stands out of the noise."""
        self.bright = float(np.median(self._snr)) >= PEAK_SNR
        self._weight = np.clip(self._peak, 0, None) if self.bright else np.ones(len(self._peak))
        self._weight = self._weight / max(float(self._weight.sum()), 1e-12)

    def find_blurred(self, part: slice) -> None:
        """Begin with where the light is as a whole: single speckles drown in the noise."""
        blurred = backward(self._spectra[part] * (self._transfer * self._blur), self._side)
        self._y[part], self._x[part] = _whole_pixel_peaks(blurred, self._search)

    def recentred_sum(self, part: slice) -> NDArray[np.complex64]:
        """Weighted sum of the spectra, each shifted so that its star is at the origin."""
        return recentred_sum(self._spectra[part], self._weight[part], self._y[part], self._x[part])

    def correlate_with_others(
        self,
        part: slice,
        template: NDArray[np.complex64],
        peak_y: NDArray[np.float64],
        peak_x: NDArray[np.float64],
    ) -> None:
        """Go to where each frame correlates best with the mean of all others."""
        correlation = correlate_with_rest(
            self._spectra[part],
            template,
            self._weight[part],
            self._y[part],
            self._x[part],
            self._transfer,
        )
        y, x, _ = fine_peaks(correlation, self._y[part], self._x[part])
        self._y[part], self._x[part] = y + peak_y, x + peak_x

    def settle(self, part: slice) -> None:
        """Measure the peak at the final position, and the light about it."""
        smooth = self._spectra[part] * self._transfer
        if self.bright:
            self._measure_peak(part, smooth, *self._nearby_peaks(part))
        else:
            # At the position found from all of the light: the highest noise is no peak.
            self._peak[part] = evaluate(smooth, self._y[part], self._x[part])
            self._measure_snr(part)
        about = smooth * self._about_blur
        self._about[part] = evaluate(about, self._y[part], self._x[part])
        near = self._spectra[part] * self._near
        self._near_flux[part] = evaluate(near, self._y[part], self._x[part])

    def result(self) -> FrameMeasures:
        """Return what was found."""
        origin = np.zeros(1)
        whole = (self._transfer * self._near)[None].astype(np.complex64)
        perfect = np.sum(transfer_psf(self._transfer) ** 2) / evaluate(whole, origin, origin)[0]
        quality = self._peak / np.maximum(self._near_flux, 1e-6) / perfect
        return FrameMeasures(
            x=self._x,
            y=self._y,
            quality=quality.astype(np.float32),
            flux=self._flux,
            peak_snr=float(np.median(self._snr)) if len(self._snr) else 0.0,
            core_contrast=self._core_contrast(),
            stars=self._stars,
            scatter=self._scatter,
            brightest=self._brightest,
            hits=self._hits,
        )

    def _core_contrast(self) -> float:
        with_light = self._about > 0
        ratio = self._peak[with_light] / self._about[with_light]
        return float(np.median(ratio)) if len(ratio) else 0.0

    def _measure_peak(
        self,
        part: slice,
        smooth: NDArray[np.complex64],
        y: NDArray[np.float64],
        x: NDArray[np.float64],
    ) -> None:
        """Find the peak of the filtered images near (y, x), and its signal-to-noise."""
        self._y[part], self._x[part], self._peak[part] = fine_peaks(smooth, y, x)
        self._measure_snr(part)

    def _measure_snr(self, part: slice) -> None:
        noise = self._noise.peak_noise(
            self._spectra[part],
            self._scatter[part],
            self._photons[part],
            self._y[part],
            self._x[part],
        )
        self._snr[part] = self._peak[part] / noise

    def _nearby_peaks(self, part: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Brightest pixel of each filtered image within `_SPECKLE_REACH_PX` of the star."""
        images = self._windows[part]
        number = len(images)
        across = np.arange(-_SPECKLE_REACH_PX, _SPECKLE_REACH_PX + 1)
        rows, columns = (
            np.clip(
                np.rint(p[part]).astype(int)[:, None] - kept.start + across,
                0,
                kept.stop - kept.start - 1,
            )
            for p, kept in zip((self._y, self._x), self._kept, strict=True)
        )
        every = np.arange(number)
        near = images[every[:, None, None], rows[:, :, None], columns[:, None, :]]
        at_y, at_x = np.unravel_index(near.reshape(number, -1).argmax(axis=1), near.shape[1:])
        return (
            rows[every, at_y].astype(float) + self._kept[0].start,
            columns[every, at_x].astype(float) + self._kept[1].start,
        )


def _whole_pixel_peaks(
    images: NDArray[np.float32], search: tuple[slice, slice]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Brightest pixel (y, x) of each image within the rows and columns of `search`."""
    window = images[:, *search]
    best = window.reshape(len(images), -1).argmax(axis=1)
    y, x = np.unravel_index(best, window.shape[1:])
    return (y + search[0].start).astype(float), (x + search[1].start).astype(float)
