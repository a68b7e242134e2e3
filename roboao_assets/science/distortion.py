"""The geometry of an instrument: from detector pixels to offsets on the sky, and back.

One form everywhere, that of SIP [1]_: with ``d`` the offset (x, y) from a reference pixel,
``(east, north) = M (d + P(d))``; M linear, P of the second (and third) order. The solution that
was published for Robo-AO has this form too. What belongs to one exposure, its pointing and the
refraction of the air, is in neither.

References
----------
.. [1] Shupe et al. 2005, ASPC 347, 491 (2005ASPC..347..491S)
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from astropy.wcs import WCS, Sip
from numpy.typing import NDArray

from roboao_assets.science.errors import FitFailedError

_TUKEY = 4.685
_ROUNDS = 30
# The inverse needs more orders than the distortion has to be right to a milliarcsecond.
_INVERSE_ORDER = 6
_GRID = 25


@dataclass(frozen=True, kw_only=True)
class Distortion:
    """The geometry of a detector.

    Attributes
    ----------
    reference_x, reference_y : float
        0-based px of which d is counted.
    matrix : ndarray of float64, shape (2, 2)
        M, arcsec a px; rows are (east, north), columns (x, y).
    a, b : ndarray of float64, shape (order + 1, order + 1)
        Coefficients of P along x and y (px): ``a[p, q] dx**p dy**q``; zero below second order.
    shape : tuple of int
        (y, x) of the detector.
    matrix_error, a_error, b_error : ndarray of float64 or None
        Standard errors (bootstrap).
    rms_mas : float
        Of the stars that made it, an axis; NaN if not known.
    stars : int
        How many they were.
    source : str
        Where it is from.
    """

    reference_x: float
    reference_y: float
    matrix: NDArray[np.float64]
    a: NDArray[np.float64]
    b: NDArray[np.float64]
    shape: tuple[int, int]
    matrix_error: NDArray[np.float64] | None = None
    a_error: NDArray[np.float64] | None = None
    b_error: NDArray[np.float64] | None = None
    rms_mas: float = float("nan")
    stars: int = 0
    source: str = ""

    @property
    def order(self) -> int:
        """Order of P."""
        return self.a.shape[0] - 1

    @property
    def plate_scale_arcsec(self) -> float:
        """Root of the area of a pixel at the reference."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix))))

    @property
    def y_axis_pa_deg(self) -> float:
        """Position angle of the +y axis at the reference, east of north."""
        return float(np.degrees(np.arctan2(self.matrix[0, 1], self.matrix[1, 1])) % 360.0)

    def offsets(self, x: NDArray, y: NDArray) -> NDArray[np.float64]:
        """Return offsets on the sky (arcsec, (n, 2): east, north) of pixels from the reference."""
        dx, dy = np.asarray(x) - self.reference_x, np.asarray(y) - self.reference_y
        powers = _powers(dx, dy, self.order)
        terms = _terms(self.order)
        a = sum(self.a[p, q] * column for (p, q), column in zip(terms, powers.T, strict=True))
        b = sum(self.b[p, q] * column for (p, q), column in zip(terms, powers.T, strict=True))
        return np.stack([dx + a, dy + b], axis=-1) @ self.matrix.T

    def drizzled(self, factor: float) -> "Distortion":
        """Return it for pixels `factor` times as fine (2 for a stack drizzled by 2)."""
        p, q = np.indices(self.a.shape)
        scale = float(factor) ** (1 - p - q)
        scaled: dict[str, Any] = {
            "reference_x": (self.reference_x + 0.5) * factor - 0.5,
            "reference_y": (self.reference_y + 0.5) * factor - 0.5,
            "matrix": self.matrix / factor,
            "a": self.a * scale,
            "b": self.b * scale,
            "shape": (round(self.shape[0] * factor), round(self.shape[1] * factor)),
        }
        if self.matrix_error is not None:
            scaled["matrix_error"] = self.matrix_error / factor
            scaled["a_error"], scaled["b_error"] = self.a_error * scale, self.b_error * scale
        return replace(self, **scaled)

    def cut(self, shape: tuple[int, int]) -> "Distortion":
        """Return it for the central `shape` (y, x) of the detector, as a quarter frame has it."""
        top, left = ((full - part) / 2 for full, part in zip(self.shape, shape, strict=True))
        return replace(
            self,
            reference_x=self.reference_x - left,
            reference_y=self.reference_y - top,
            shape=(shape[0], shape[1]),
        )

    def turned(self, matrix: NDArray[np.float64]) -> "Distortion":
        """Return it with `matrix` (2, 2) acting on the sky: rotation, scale, refraction."""
        return replace(self, matrix=np.asarray(matrix) @ self.matrix)


def linear_distortion(
    *,
    shape: tuple[int, int],
    plate_scale_arcsec: float,
    east_is_left: bool = True,
    y_axis_pa_deg: float = 0.0,
    source: str = "instrument profile",
) -> Distortion:
    """Return the geometry of a detector of which only scale and orientation are known."""
    y_axis = np.radians(y_axis_pa_deg)
    x_axis = y_axis + (-np.pi / 2 if east_is_left else np.pi / 2)
    # +x is a quarter turn from +y; where east is left it points to the west.
    axes = np.array([[np.sin(x_axis), np.sin(y_axis)], [np.cos(x_axis), np.cos(y_axis)]])
    return Distortion(
        reference_x=(shape[1] - 1) / 2,
        reference_y=(shape[0] - 1) / 2,
        matrix=plate_scale_arcsec * axes,
        a=np.zeros((3, 3)),
        b=np.zeros((3, 3)),
        shape=(shape[0], shape[1]),
        source=source,
    )


def published_distortion(
    values: Mapping[str, float], *, shape: tuple[int, int] = (1024, 1024), source: str = ""
) -> Distortion:
    """Return a solution given as Robo-AO published it.

    Parameters
    ----------
    values : mapping of str to float
        ``x_tan, y_tan`` (px from the frame's middle, naxis / 2), ``M_11 .. M_22`` (deg/px),
        ``a_02 .. b_20`` (1/px); ``a_02`` goes with the square of the offset along y.
    shape : tuple of int
        (y, x) of the detector.
    source : str

    Raises
    ------
    FitFailedError
        If a value is missing or is no number, or the matrix is singular.
    """
    try:
        matrix = 3600 * np.array(
            [[values["M_11"], values["M_12"]], [values["M_21"], values["M_22"]]], dtype=np.float64
        )
        a, b = np.zeros((3, 3)), np.zeros((3, 3))
        for p, q in ((0, 2), (1, 1), (2, 0)):
            a[p, q], b[p, q] = values[f"a_{p}{q}"], values[f"b_{p}{q}"]
        x, y = float(values["x_tan"]), float(values["y_tan"])
    except (KeyError, TypeError, ValueError) as error:
        raise FitFailedError(f"the published solution lacks a usable {error}") from None
    if not np.isfinite([*matrix.flat, *a.flat, *b.flat, x, y]).all() or not np.linalg.det(matrix):
        raise FitFailedError("the published solution has a matrix that cannot be inverted")
    # naxis / 2 counts pixel edges: the middle of an even frame lies between two pixels.
    return Distortion(
        reference_x=shape[1] / 2 - 0.5 + x,
        reference_y=shape[0] / 2 - 0.5 + y,
        matrix=matrix,
        a=a,
        b=b,
        shape=shape,
        source=source,
    )


@dataclass(frozen=True, kw_only=True)
class DistortionFit:
    """A fit of a field's stars.

    Attributes
    ----------
    distortion : Distortion
    offset_arcsec : ndarray of float64, shape (2,)
        (east, north) of the reference pixel.
    residual_mas : ndarray of float64, shape (n, 2)
        Catalogue less fit (east, north).
    used : ndarray of bool, shape (n,)
        False: an outlier, which has no weight.
    """

    distortion: Distortion
    offset_arcsec: NDArray[np.float64]
    residual_mas: NDArray[np.float64]
    used: NDArray[np.bool_]


def fit_distortion(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    sky: NDArray[np.float64],
    *,
    shape: tuple[int, int],
    order: int = 2,
    bootstrap: int = 200,
    seed: int = 1,
    source: str = "",
) -> DistortionFit:
    """Fit the geometry of a detector to stars with known places.

    Parameters
    ----------
    x, y : ndarray of float64, shape (n,)
        0-based px.
    sky : ndarray of float64, shape (n, 2)
        (east, north) in the tangent plane, arcsec.
    shape : tuple of int
        (y, x) of the detector; the reference is its middle.
    order : int
        1 (linear), 2 or 3.
    bootstrap : int
        Resamplings of the stars for the errors; 0: none.

    Raises
    ------
    FitFailedError
        If the stars are too few for the order, or lie on a line.

    Notes
    -----
    Linear in all of its parameters: the polynomial of the sky is fitted, with Tukey's biweight on
    the distances (a star of a wrong match has no weight at all), and the linear part divided out.
    """
    x, y, sky = (np.asarray(v, dtype=np.float64) for v in (x, y, sky))
    half = max(shape) / 2
    dx, dy = x - (shape[1] - 1) / 2, y - (shape[0] - 1) / 2
    design = np.concatenate(
        [
            np.stack([np.ones_like(dx), dx / half, dy / half], axis=1),
            _powers(dx / half, dy / half, order),
        ],
        axis=1,
    )
    need = design.shape[1] + 2
    if len(x) < need:
        raise FitFailedError(
            f"{len(x)} stars are matched; a distortion of order {order} needs {need}"
        )
    solution, weights = _fit_robustly(design, sky)
    used = weights > 0
    if used.sum() < need or np.linalg.matrix_rank(design[used], tol=1e-6) < design.shape[1]:
        raise FitFailedError(
            f"{int(used.sum())} of {len(x)} stars agree, which do not fix a distortion of order "
            f"{order}: too few, or all on a line"
        )
    residual = 1000 * (sky - design @ solution)
    matrix, a, b = _divide(solution, half, order)
    freedom = max(1 - design.shape[1] / used.sum(), 1 / used.sum())
    rms = float(np.sqrt((residual[used] ** 2).mean() / freedom))
    errors = _bootstrap(design[used], sky[used], half, order, bootstrap, seed)
    distortion = Distortion(
        reference_x=(shape[1] - 1) / 2,
        reference_y=(shape[0] - 1) / 2,
        matrix=matrix,
        a=a,
        b=b,
        shape=(shape[0], shape[1]),
        matrix_error=errors[0],
        a_error=errors[1],
        b_error=errors[2],
        rms_mas=rms,
        stars=int(used.sum()),
        source=source,
    )
    return DistortionFit(
        distortion=distortion, offset_arcsec=solution[0], residual_mas=residual, used=used
    )


def sip_wcs(distortion: Distortion, ra_deg: float, dec_deg: float) -> WCS:
    """Return the WCS (ICRS) of an exposure whose reference pixel looks at a point of the sky.

    TAN-SIP with A, B and their inverse AP, BP; plain TAN where nothing is distorted.
    """
    wcs = WCS(naxis=2)
    wcs.wcs.crval = [ra_deg, dec_deg]
    wcs.wcs.crpix = [distortion.reference_x + 1, distortion.reference_y + 1]
    wcs.wcs.cd = distortion.matrix / 3600
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.radesys = "ICRS"
    wcs.pixel_shape = (distortion.shape[1], distortion.shape[0])
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    if distortion.a.any() or distortion.b.any():
        wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
        ap, bp = _inverse(distortion)
        wcs.sip = Sip(distortion.a, distortion.b, ap, bp, wcs.wcs.crpix)
    wcs.wcs.set()
    return wcs


def _terms(order: int) -> list[tuple[int, int]]:
    """Powers (of x, of y) from the second order on."""
    return [(n - q, q) for n in range(2, order + 1) for q in range(n + 1)]


def _powers(dx: NDArray, dy: NDArray, order: int) -> NDArray[np.float64]:
    columns = [dx**p * dy**q for p, q in _terms(order)]
    return np.stack(columns, axis=-1) if columns else np.empty((*np.shape(dx), 0))


def _fit_robustly(
    design: NDArray[np.float64], sky: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    weights = np.ones(len(sky))
    solution = np.zeros((design.shape[1], 2))
    # The scale is free at first (an outlier makes it large) and then settles.
    for _ in range(_ROUNDS):
        root = np.sqrt(weights)[:, None]
        solution, *_ = np.linalg.lstsq(design * root, sky * root, rcond=None)
        distance = np.linalg.norm(sky - design @ solution, axis=1)
        # The median of a Rayleigh distribution is 1.177 times its sigma; the fit has taken its
        # part of the scatter.
        kept = max((weights > 0).sum() - design.shape[1], 1) / max((weights > 0).sum(), 1)
        sigma = max(float(np.median(distance)) / 1.177 / np.sqrt(kept), 1e-6)
        new = np.clip(1 - (distance / (_TUKEY * sigma)) ** 2, 0, None) ** 2
        if np.abs(new - weights).max() < 1e-4:
            break
        weights = new
    return solution, weights


def _divide(
    solution: NDArray[np.float64], half: float, order: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """M, a and b (in px) of the polynomial of the sky in units of the half frame."""
    matrix = solution[1:3].T / half
    size = max(order, 2) + 1
    a, b = np.zeros((size, size)), np.zeros((size, size))
    inverse = np.linalg.inv(matrix)
    for (p, q), row in zip(_terms(order), solution[3:], strict=True):
        a[p, q], b[p, q] = inverse @ row / half ** (p + q)
    return matrix, a, b


def _bootstrap(
    design: NDArray[np.float64],
    sky: NDArray[np.float64],
    half: float,
    order: int,
    number: int,
    seed: int,
) -> tuple[NDArray[np.float64] | None, ...]:
    if not number:
        return None, None, None
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(20 * number):
        rows = rng.integers(0, len(design), len(design))
        # Stars drawn so often that the others do not fix the fit say nothing.
        if len(np.unique(rows)) < design.shape[1] + 1:
            continue
        solution, *_ = np.linalg.lstsq(design[rows], sky[rows], rcond=None)
        drawn.append(_divide(solution, half, order))
        if len(drawn) == number:
            break
    if len(drawn) < 2:
        return None, None, None
    return tuple(np.std([d[i] for d in drawn], axis=0, ddof=1) for i in range(3))


def _inverse(distortion: Distortion) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """AP and BP by least squares over the detector: what undoes d + P(d)."""
    height, width = distortion.shape
    axis_x = np.linspace(-0.5, width - 0.5, _GRID) - distortion.reference_x
    axis_y = np.linspace(-0.5, height - 0.5, _GRID) - distortion.reference_y
    dx, dy = (v.ravel() for v in np.meshgrid(axis_x, axis_y))
    straight = replace(distortion, matrix=np.eye(2))
    u, v = straight.offsets(dx + distortion.reference_x, dy + distortion.reference_y).T
    half = max(width, height) / 2
    terms = [(n - q, q) for n in range(1, _INVERSE_ORDER + 1) for q in range(n + 1)]
    design = np.stack([(u / half) ** p * (v / half) ** q for p, q in terms], axis=-1)
    found, *_ = np.linalg.lstsq(design, np.stack([dx - u, dy - v], axis=-1), rcond=None)
    ap, bp = (np.zeros((_INVERSE_ORDER + 1, _INVERSE_ORDER + 1)) for _ in range(2))
    for (p, q), (first, second) in zip(terms, found, strict=True):
        ap[p, q], bp[p, q] = first / half ** (p + q), second / half ** (p + q)
    return ap, bp
