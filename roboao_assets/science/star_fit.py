"""Fits of a star's image: an elliptical Gaussian or Moffat in two dimensions, and radial profiles.

The ellipse is carried as ``Q = (p1 dx + p2 dy)^2 + (p3 dy)^2``, which is positive definite for
any p, so that the fit needs no bounds on axes or angles and has no seam at a position angle. Q is
1 at half maximum: the Gaussian is ``exp(-ln 2 Q)``, the Moffat ``(1 + (2^(1/beta) - 1) Q)^-beta``
[1]_. The background under the star is always a free parameter: a Moffat's wings and a background
level fixed beforehand would otherwise be traded against each other.

References
----------
.. [1] Moffat 1969, A&A 3, 455 (1969A&A.....3..455M)
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from roboao_assets.science.errors import FitFailedError

StarModel = Literal["gaussian", "moffat"]

_LN2 = np.log(2.0)
# A Moffat of beta 1 has infinite flux; above 50 it is a Gaussian to every purpose. The fit's
# parameter t gives 1/beta between these by a logistic curve; -0.9 starts
# at beta = 3.4.
_MIN_BETA, _MAX_BETA = 1.05, 50.0
_START_SHAPE = -0.9


@dataclass(frozen=True, kw_only=True)
class StarFit:
    """An elliptical star fitted to an image.

    Attributes
    ----------
    x, y : float
        Centre, 0-based px of the image fitted.
    amplitude, background : float
        In the image's units; the star's peak stands `amplitude` above `background`.
    fwhm_x_px, fwhm_y_px : float
        Full width at half maximum of the cuts through the centre along x and y.
    fwhm_major_px, fwhm_minor_px : float
        Full widths along the principal axes of the ellipse.
    theta_deg : float
        Direction of the major axis, from +x towards +y, -90..90.
    beta : float
        Exponent of the Moffat; infinite for a Gaussian.
    residual_rms : float
        Standard deviation of image minus model over the pixels used.
    n_pixels : int
        Pixels used.
    model : {'gaussian', 'moffat'}
    """

    x: float
    y: float
    amplitude: float
    background: float
    fwhm_x_px: float
    fwhm_y_px: float
    fwhm_major_px: float
    fwhm_minor_px: float
    theta_deg: float
    beta: float
    residual_rms: float
    n_pixels: int
    model: StarModel

    @property
    def fwhm_px(self) -> float:
        """Geometric mean of the FWHM along the principal axes."""
        return float(np.sqrt(self.fwhm_major_px * self.fwhm_minor_px))

    def evaluate(self, shape: tuple[int, int], x0: int = 0, y0: int = 0) -> NDArray[np.float64]:
        """Return the model on the pixels (y0.., x0..) of an image.

        Parameters
        ----------
        shape : (int, int)
            Rows and columns wanted.
        x0, y0 : int
            First column and row.

        Returns
        -------
        ndarray of float64, shape `shape`, (y, x)
        """
        dy = np.arange(y0, y0 + shape[0], dtype=np.float64)[:, None] - self.y
        dx = np.arange(x0, x0 + shape[1], dtype=np.float64)[None, :] - self.x
        angle = np.radians(self.theta_deg)
        major = (dx * np.cos(angle) + dy * np.sin(angle)) / (self.fwhm_major_px / 2)
        minor = (dy * np.cos(angle) - dx * np.sin(angle)) / (self.fwhm_minor_px / 2)
        q = major**2 + minor**2
        if self.model == "gaussian":
            return self.background + self.amplitude * np.exp(-_LN2 * q)
        k = np.expm1(_LN2 / self.beta)
        return self.background + self.amplitude * (1 + k * q) ** -self.beta


@dataclass(frozen=True, kw_only=True)
class RadialMoffat:
    """A circular Moffat profile without background.

    Attributes
    ----------
    amplitude : float
    fwhm_px : float
    beta : float
    """

    amplitude: float
    fwhm_px: float
    beta: float


def fit_star(
    image: NDArray[np.floating],
    x: float,
    y: float,
    *,
    fwhm_px: float,
    model: StarModel = "gaussian",
    radius_px: float | None = None,
    mask: NDArray[np.bool_] | None = None,
    reject_sigma: float | None = None,
) -> StarFit:
    """Fit an elliptical Gaussian or Moffat and a constant background to a star.

    Parameters
    ----------
    image : ndarray of float, shape (y, x)
        Non-finite pixels are left out.
    x, y : float
        First guess of the centre, 0-based px.
    fwhm_px : float
        First guess of the width.
    model : {'gaussian', 'moffat'}
    radius_px : float, optional
        Pixels within this distance of (x, y) are fitted; by default the whole image.
    mask : ndarray of bool, shape (y, x), optional
        True where a pixel is not to be used.
    reject_sigma : float, optional
        Fit again without the pixels that are off by more than this many robust standard
        deviations (cosmic rays, neighbours).

    Returns
    -------
    StarFit

    Raises
    ------
    FitFailedError
        If too few pixels are usable, or the fit ends without a star (no positive amplitude, the
        centre outside the pixels fitted, a width that is not finite).
    """
    if model not in ("gaussian", "moffat"):
        raise ValueError(f"model must be 'gaussian' or 'moffat', not {model!r}")
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    use = np.isfinite(image)
    if mask is not None:
        use &= ~mask
    if radius_px is not None:
        use &= np.hypot(columns - x, rows - y) <= radius_px
    xs, ys = columns[use].astype(np.float64), rows[use].astype(np.float64)
    values = image[use].astype(np.float64)
    start = _first_guess(xs, ys, values, x, y, fwhm_px, model)
    solution, residual = _solve(xs, ys, values, start, model)
    if reject_sigma is not None:
        limit = reject_sigma * 1.4826 * np.median(np.abs(residual - np.median(residual)))
        good = np.abs(residual) <= limit
        if limit > 0 and not good.all() and good.sum() > values.size // 2:
            xs, ys, values = xs[good], ys[good], values[good]
            solution, residual = _solve(xs, ys, values, solution, model)
    fit = _describe(solution, residual, model)
    _check_fit(fit, xs, ys)
    return fit


def fit_radial_moffat(
    radius_px: NDArray[np.floating],
    values: NDArray[np.floating],
    *,
    fwhm_px: float,
    max_fwhm_px: float,
) -> RadialMoffat:
    """Fit a circular Moffat without background to a radial profile.

    Residuals count linearly beyond a tenth of the peak (soft L1), so that a companion or a bad
    pixel does not drive the width.

    Parameters
    ----------
    radius_px, values : ndarray of float, shape (n,)
        Distances from the star, and the image there less its background.
    fwhm_px : float
        First guess.
    max_fwhm_px : float
        Upper bound of the width: a flat profile ends there.

    Returns
    -------
    RadialMoffat

    Raises
    ------
    FitFailedError
        If there are fewer than 4 finite points, or none above the background.
    """
    finite = np.isfinite(values)
    r = np.asarray(radius_px, dtype=np.float64)[finite]
    v = np.asarray(values, dtype=np.float64)[finite]
    scale = float(v.max()) if v.size else 0.0
    if v.size < 4 or not scale > 0:
        raise FitFailedError(
            f"the radial profile has {v.size} usable points with a maximum of {scale:.4g}; "
            "a Moffat needs at least 4 and some light above the background"
        )
    v = v / scale

    def model(p: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        q = (2 * r / p[1]) ** 2
        k = np.expm1(_LN2 / p[2])
        base = 1 + k * q
        return q, k, base, base ** -p[2]

    def residual(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return p[0] * model(p)[3] - v

    def jacobian(p: NDArray[np.float64]) -> NDArray[np.float64]:
        q, k, base, shape = model(p)
        d_beta = -np.log(base) + q * (1 + k) * _LN2 / p[2] / base
        return np.stack(
            [shape, p[0] * shape / base * 2 * p[2] * k * q / p[1], p[0] * shape * d_beta], axis=1
        )

    lower = np.array([0.0, 0.2, _MIN_BETA])
    upper = np.array([20.0, max_fwhm_px, 20.0])
    start = np.clip([1.0, fwhm_px, 2.5], lower * 1.01 + 1e-6, upper * 0.99)
    result = least_squares(
        residual,
        start,
        jacobian,
        bounds=(lower, upper),
        loss="soft_l1",
        f_scale=0.1,
        x_scale=np.array([1.0, max(fwhm_px, 1.0), 1.0]),
        max_nfev=100,
        ftol=1e-7,
        xtol=1e-6,
    )
    amplitude, fwhm, beta = result.x
    return RadialMoffat(amplitude=float(amplitude * scale), fwhm_px=float(fwhm), beta=float(beta))


def radial_medians(
    image: NDArray[np.floating], x: float, y: float, max_radius_px: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the median of rings one pixel wide about a point.

    Parameters
    ----------
    image : ndarray of float, shape (y, x)
        Non-finite pixels are left out.
    x, y : float
        The centre.
    max_radius_px : float
        Outer edge.

    Returns
    -------
    radius_px, median : ndarray of float64, shape (n,)
        Mean radius and median of each ring that has a pixel.
    """
    y0, y1 = max(0, int(y - max_radius_px)), min(image.shape[0], int(y + max_radius_px) + 2)
    x0, x1 = max(0, int(x - max_radius_px)), min(image.shape[1], int(x + max_radius_px) + 2)
    dy = np.arange(y0, y1)[:, None] - y
    dx = np.arange(x0, x1)[None, :] - x
    radius = np.hypot(dy, dx)
    part = image[y0:y1, x0:x1]
    use = (radius <= max_radius_px) & np.isfinite(part)
    r, v = radius[use], part[use].astype(np.float64)
    ring = r.astype(np.int64)
    order = np.lexsort((v, ring))
    counts = np.bincount(ring)
    ends = np.cumsum(counts)
    sums = np.bincount(ring, weights=r)
    full = counts > 0
    first = (ends - counts)[full]
    n = counts[full]
    v = v[order]
    median = (v[first + (n - 1) // 2] + v[first + n // 2]) / 2
    return sums[full] / n, median


def _first_guess(  # noqa: PLR0917
    xs: NDArray[np.float64],
    ys: NDArray[np.float64],
    values: NDArray[np.float64],
    x: float,
    y: float,
    fwhm_px: float,
    model: StarModel,
) -> NDArray[np.float64]:
    if values.size < 12:
        raise FitFailedError(
            f"only {values.size} usable pixels around ({x:.1f}, {y:.1f}); "
            "a star fit needs at least 12"
        )
    near = np.hypot(xs - x, ys - y) <= max(1.0, 0.3 * fwhm_px)
    top = float(np.median(values[near])) if near.any() else float(values.max())
    background = float(np.percentile(values, 20))
    if top <= background:
        top = float(values.max())
    start = [x, y, top - background, background, 2 / fwhm_px, 0.0, 2 / fwhm_px]
    return np.array(start + ([_START_SHAPE] if model == "moffat" else []))


def _solve(
    xs: NDArray[np.float64],
    ys: NDArray[np.float64],
    values: NDArray[np.float64],
    start: NDArray[np.float64],
    model: StarModel,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Levenberg-Marquardt on values scaled to order 1; returns the solution and residuals."""
    scale = float(np.abs(values).max()) or 1.0
    units = np.ones_like(start)
    units[2:4] = scale
    scaled = values / scale
    evaluate = _gaussian if model == "gaussian" else _moffat

    def residual(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return evaluate(p, xs, ys)[0] - scaled

    def jacobian(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return evaluate(p, xs, ys)[1]

    with np.errstate(over="ignore", invalid="ignore"):
        result = least_squares(
            residual,
            start / units,
            jacobian,
            method="lm",
            x_scale="jac",
            max_nfev=200,
            ftol=1e-9,
            xtol=1e-9,
        )
    return result.x * units, -result.fun * scale


def _quadratic(
    p: NDArray[np.float64], xs: NDArray[np.float64], ys: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Q of every pixel, and its derivatives by x, y, p1, p2, p3 (n, 5)."""
    dx, dy = xs - p[0], ys - p[1]
    u, v = p[4] * dx + p[5] * dy, p[6] * dy
    q = u * u + v * v
    slopes = np.stack(
        [-2 * u * p[4], -2 * u * p[5] - 2 * v * p[6], 2 * u * dx, 2 * u * dy, 2 * v * dy], axis=1
    )
    return q, slopes


def _gaussian(
    p: NDArray[np.float64], xs: NDArray[np.float64], ys: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    q, slopes = _quadratic(p, xs, ys)
    shape = np.exp(-_LN2 * q)
    jacobian = np.empty((xs.size, 7))
    jacobian[:, [0, 1, 4, 5, 6]] = slopes * (-_LN2 * p[2] * shape)[:, None]
    jacobian[:, 2] = shape
    jacobian[:, 3] = 1.0
    return p[2] * shape + p[3], jacobian


def _moffat(
    p: NDArray[np.float64], xs: NDArray[np.float64], ys: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    q, slopes = _quadratic(p, xs, ys)
    beta, slope = _beta(p[7])
    k = np.expm1(_LN2 / beta)
    base = 1 + k * q
    shape = base**-beta
    jacobian = np.empty((xs.size, 8))
    jacobian[:, [0, 1, 4, 5, 6]] = slopes * (-p[2] * beta * k * shape / base)[:, None]
    jacobian[:, 2] = shape
    jacobian[:, 3] = 1.0
    d_beta = shape * (-np.log(base) + q * (1 + k) * _LN2 / beta / base)
    jacobian[:, 7] = p[2] * d_beta * slope
    return p[2] * shape + p[3], jacobian


def _beta(t: float) -> tuple[float, float]:
    """Exponent of the Moffat for the fit's parameter, and its derivative."""
    logistic = 0.5 * (1 + np.tanh(t / 2))
    span = 1 / _MIN_BETA - 1 / _MAX_BETA
    beta = 1 / (1 / _MAX_BETA + span * logistic)
    return float(beta), float(-(beta**2) * span * logistic * (1 - logistic))


def _describe(
    solution: NDArray[np.float64], residual: NDArray[np.float64], model: StarModel
) -> StarFit:
    x, y, amplitude, background, p1, p2, p3 = (float(v) for v in solution[:7])
    a, b, c = p1 * p1, p1 * p2, p2 * p2 + p3 * p3
    middle, reach = (a + c) / 2, np.hypot((a - c) / 2, b)
    # The long axis has the small eigenvalue; the product of both is exact where their
    # difference would cancel.
    large = middle + reach
    small = (p1 * p3) ** 2 / large if large > 0 else 0.0
    with np.errstate(divide="ignore"):
        widths = 2 / np.sqrt(np.array([a, c, small, large]))
    theta = 0.5 * np.degrees(np.arctan2(2 * b, a - c)) + 90.0
    theta = (theta + 90.0) % 180.0 - 90.0
    beta = _beta(float(solution[7]))[0] if model == "moffat" else np.inf
    return StarFit(
        x=x,
        y=y,
        amplitude=amplitude,
        background=background,
        fwhm_x_px=float(widths[0]),
        fwhm_y_px=float(widths[1]),
        fwhm_major_px=float(widths[2]),
        fwhm_minor_px=float(widths[3]),
        theta_deg=float(theta),
        beta=float(beta),
        residual_rms=float(residual.std()),
        n_pixels=int(residual.size),
        model=model,
    )


def _check_fit(fit: StarFit, xs: NDArray[np.float64], ys: NDArray[np.float64]) -> None:
    finite = np.isfinite([fit.x, fit.y, fit.amplitude, fit.fwhm_major_px, fit.fwhm_minor_px]).all()
    inside = xs.min() <= fit.x <= xs.max() and ys.min() <= fit.y <= ys.max()
    if not (finite and inside and fit.amplitude > 0):
        raise FitFailedError(
            f"the {fit.model} fit to {fit.n_pixels} pixels (x {xs.min():.0f}..{xs.max():.0f}, "
            f"y {ys.min():.0f}..{ys.max():.0f}) ended without a star: centre "
            f"({fit.x:.1f}, {fit.y:.1f}), amplitude {fit.amplitude:.4g}, FWHM "
            f"{fit.fwhm_major_px:.3g} x {fit.fwhm_minor_px:.3g} px"
        )
