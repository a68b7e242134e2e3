"""Which detected star is which star of the catalogue, with no more known than bounds.

Every pair of detected stars that has the length of a pair of the catalogue proposes one rotation,
scale and shift (for each parity); whoever is right brings the other stars on their places too.
Pairs need no third star to be in both lists, as triangles of neighbours do [1]_ [2]_, and the
bounds on scale, rotation and pointing throw most away before anything is compared. As in
astrometry.net [3]_ a proposal must be better than chance: the agreements that the density of the
catalogue would give by accident, times the proposals that were tried.

References
----------
.. [1] Groth 1986, AJ 91, 1244 (doi:10.1086/114099)
.. [2] Beroiz, Cabral & Sanchez 2020, A&C 32, 100384 (doi:10.1016/j.ascom.2020.100384)
.. [3] Lang et al. 2010, AJ 139, 1782 (doi:10.1088/0004-6256/139/5/1782)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import binom

from roboao_assets.science.errors import ScienceError

# Proposals of one pair that are looked at together: memory, no more.
_BATCH = 20_000
# Of a batch, those looked at to the end.
_LEADERS = 200
# Accidents expected below which the search ends at once, and above which there is no match.
_CERTAIN = 1e-9
_MAX_ACCIDENTS = 1e-3


class NoMatchError(ScienceError):
    """The stars of a field could not be told from those of the catalogue."""


@dataclass(frozen=True, kw_only=True)
class MatchBounds:
    """How wrong the prediction may be.

    Attributes
    ----------
    max_shift_arcsec : float
        Of the pointing.
    max_rotation_deg : float
        180: any.
    max_scale_error : float
        Relative.
    allow_flip : bool
        Also mirror images.
    tolerance_arcsec : float
        Stars agree within this once rotated, scaled and shifted: what distortion leaves.
    min_stars : int
        Fewer agreements are no match.
    bright_stars : int
        Pairs are made of as many of the brightest detected stars.
    """

    max_shift_arcsec: float = 120.0
    max_rotation_deg: float = 3.0
    max_scale_error: float = 0.03
    allow_flip: bool = False
    tolerance_arcsec: float = 0.5
    min_stars: int = 4
    bright_stars: int = 14


@dataclass(frozen=True, kw_only=True)
class StarMatch:
    """Detected stars identified with stars of the catalogue.

    Attributes
    ----------
    detected, catalogue : ndarray of int, shape (n,)
        Indices of the same stars.
    rotation_deg : float
        From the prediction to the catalogue, from east towards north.
    scale : float
        Catalogue over prediction.
    flipped : bool
        The prediction is a mirror image (of east and west).
    shift_arcsec : ndarray of float64, shape (2,)
        Where the prediction's origin is, (east, north).
    accidents : float
        Matches as good that chance would have given.
    """

    detected: NDArray[np.int64]
    catalogue: NDArray[np.int64]
    rotation_deg: float
    scale: float
    flipped: bool
    shift_arcsec: NDArray[np.float64]
    accidents: float

    def apply(self, predicted: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where predicted offsets, shape (n, 2), are in the catalogue's plane."""
        z = _complex(predicted, self.flipped)
        turn = self.scale * np.exp(1j * np.radians(self.rotation_deg))
        moved = turn * z + complex(*self.shift_arcsec)
        return np.stack([moved.real, moved.imag], axis=-1)


def match_stars(
    predicted: NDArray[np.float64], catalogue: NDArray[np.float64], bounds: MatchBounds
) -> StarMatch:
    """Identify detected stars.

    Parameters
    ----------
    predicted : ndarray of float64, shape (n, 2)
        Where the detected stars should be in the tangent plane (east, north, arcsec), the
        brightest first. The origin is what rotation and scale leave where it is.
    catalogue : ndarray of float64, shape (m, 2)
        Stars of the catalogue in that plane; better all within the shift and the field's size.
    bounds : MatchBounds

    Raises
    ------
    NoMatchError
        If there are too few stars, or no match is better than chance; the message has the numbers.
    """
    if min(len(predicted), len(catalogue)) < bounds.min_stars:
        raise NoMatchError(
            f"{len(predicted)} stars were detected and the catalogue has {len(catalogue)} near "
            f"the field: a match needs {bounds.min_stars} of each"
        )
    tree = cKDTree(catalogue)
    chance = _chance(catalogue, tree, np.ptp(predicted, axis=0).max(), bounds.tolerance_arcsec)
    best: _Proposal | None = None
    tried = 0
    for turns, shifts, flipped in _proposals(predicted, catalogue, bounds):
        tried += len(turns)
        top = _best_of(predicted, tree, turns, shifts, flipped, bounds.tolerance_arcsec)
        if best is None or top.hits > best.hits:
            best = top
        if _accidents(best.hits, len(predicted), chance, tried) < _CERTAIN:
            break
    if best is None:
        raise NoMatchError(
            f"no two of the {len(predicted)} detected stars lie as two of the {len(catalogue)} of "
            f"the catalogue do within {bounds.max_rotation_deg:g} degrees and "
            f"{bounds.max_scale_error:.0%} of scale, {bounds.max_shift_arcsec:g} arcsec from where "
            "they should: the pointing, the scale or the catalogue is another"
        )
    accidents = _accidents(best.hits, len(predicted), chance, tried)
    match = _refine(predicted, catalogue, tree, best, bounds.tolerance_arcsec, accidents)
    if len(match.detected) < bounds.min_stars or accidents > _MAX_ACCIDENTS:
        raise NoMatchError(
            f"{len(match.detected)} of {len(predicted)} detected stars agree with the catalogue's "
            f"{len(catalogue)} at best; {bounds.min_stars} are needed, and chance would have given "
            f"{accidents:.2g} such matches ({_MAX_ACCIDENTS:g} allowed): narrow the bounds on "
            "pointing, rotation and scale, or observe a denser field"
        )
    return match


def pair_nearest(
    predicted: NDArray[np.float64], catalogue: NDArray[np.float64], tolerance_arcsec: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices (detected, catalogue) of stars that are each other's nearest."""
    distance, there = cKDTree(catalogue).query(predicted)
    _, back = cKDTree(predicted).query(catalogue)
    mutual = (distance <= tolerance_arcsec) & (back[there] == np.arange(len(predicted)))
    return np.flatnonzero(mutual), there[mutual]


@dataclass(frozen=True, kw_only=True)
class _Proposal:
    turn: complex
    shift: complex
    flipped: bool
    hits: int


def _complex(points: NDArray[np.float64], flipped: bool = False) -> NDArray[np.complex128]:
    return (-points[:, 0] if flipped else points[:, 0]) + 1j * points[:, 1]


def _proposals(
    predicted: NDArray[np.float64], catalogue: NDArray[np.float64], bounds: MatchBounds
) -> Iterator[tuple[NDArray[np.complex128], NDArray[np.complex128], bool]]:
    """Turns (rotation and scale), shifts and parity of proposals, a pair of stars at a time."""
    sky = _complex(catalogue)
    bright = min(bounds.bright_stars, len(predicted))
    size = np.ptp(predicted, axis=0).max() * (1 + bounds.max_scale_error) * np.sqrt(2)
    pairs = cKDTree(catalogue).query_pairs(size, output_type="ndarray")
    both = np.concatenate([pairs, pairs[:, ::-1]])
    offsets = sky[both[:, 1]] - sky[both[:, 0]]
    order = np.argsort(np.abs(offsets), kind="stable")
    both, offsets = both[order], offsets[order]
    lengths = np.abs(offsets)
    # A short pair tells neither rotation nor scale.
    shortest = max(6 * bounds.tolerance_arcsec, 0.1 * size)
    for i, j in sorted(combinations(range(bright), 2), key=sum):
        for flipped in (False, True)[: 1 + bounds.allow_flip]:
            z = _complex(predicted, flipped)
            pair = z[j] - z[i]
            length = abs(pair)
            if length < shortest:
                continue
            slack = bounds.max_scale_error * length + 2 * bounds.tolerance_arcsec
            low, high = np.searchsorted(lengths, [length - slack, length + slack])
            turns = offsets[low:high] / pair
            shifts = sky[both[low:high, 0]] - turns * z[i]
            good = np.abs(shifts) <= bounds.max_shift_arcsec
            if bounds.max_rotation_deg < 180:
                allowed = np.radians(bounds.max_rotation_deg)
                allowed += 2 * bounds.tolerance_arcsec / length
                good &= np.abs(np.angle(turns)) <= allowed
            turns, shifts = turns[good], shifts[good]
            for start in range(0, len(turns), _BATCH):
                part = slice(start, start + _BATCH)
                yield turns[part], shifts[part], flipped


def _best_of(
    predicted: NDArray[np.float64],
    tree: cKDTree,
    turns: NDArray[np.complex128],
    shifts: NDArray[np.complex128],
    flipped: bool,
    tolerance_arcsec: float,
) -> _Proposal:
    """The proposal that brings most stars on a star; those that begin badly are given up."""
    z = _complex(predicted, flipped)
    alive = np.arange(len(turns))
    hits = np.zeros(len(turns), dtype=np.int64)
    # The first stars are the brightest, and the likeliest to be in the catalogue.
    for seen, star in enumerate(z, 1):
        moved = turns[alive] * star + shifts[alive]
        distance, _ = tree.query(
            np.stack([moved.real, moved.imag], axis=1), distance_upper_bound=tolerance_arcsec
        )
        hits[alive] += np.isfinite(distance)
        if seen % 4 == 0 and len(alive) > _LEADERS:
            alive = alive[np.argsort(-hits[alive], kind="stable")[: _LEADERS * 64 // seen**2]]
    if len(turns) == 0:
        return _Proposal(turn=1, shift=0, flipped=flipped, hits=0)
    top = int(alive[np.argmax(hits[alive])])
    return _Proposal(
        turn=complex(turns[top]), shift=complex(shifts[top]), flipped=flipped, hits=int(hits[top])
    )


def _refine(
    predicted: NDArray[np.float64],
    catalogue: NDArray[np.float64],
    tree: cKDTree,
    best: _Proposal,
    tolerance_arcsec: float,
    accidents: float,
) -> StarMatch:
    """Rotation, scale and shift of all the stars that agree instead of two."""
    z, sky = _complex(predicted, best.flipped), _complex(catalogue)
    turn, shift = best.turn, best.shift
    detected = there = np.empty(0, dtype=np.int64)
    for _ in range(4):
        moved = turn * z + shift
        detected, there = pair_nearest(
            np.stack([moved.real, moved.imag], axis=1), catalogue, tolerance_arcsec
        )
        if len(detected) < 2:
            break
        design = np.stack([z[detected], np.ones(len(detected))], axis=1)
        (turn, shift), *_ = np.linalg.lstsq(design, sky[there], rcond=None)
    return StarMatch(
        detected=detected,
        catalogue=there,
        rotation_deg=float(np.degrees(np.angle(turn))),
        scale=float(abs(turn)),
        flipped=best.flipped,
        shift_arcsec=np.array([shift.real, shift.imag]),
        accidents=accidents,
    )


def _chance(
    catalogue: NDArray[np.float64], tree: cKDTree, size_arcsec: float, tolerance_arcsec: float
) -> float:
    """Probability that a place in the field has a star of the catalogue by accident.

    With the density that stars have round them: a catalogue with a cluster in it is not sparse.
    """
    radius = max(size_arcsec / 2, 3 * tolerance_arcsec)
    around = tree.query_ball_point(catalogue, radius, return_length=True)
    density = float(np.mean(around)) / (np.pi * radius**2)
    return float(-np.expm1(-density * np.pi * tolerance_arcsec**2))


def _accidents(hits: int, stars: int, chance: float, tried: int) -> float:
    """Matches of this quality that `tried` proposals give by accident."""
    if hits <= 2:
        return float(tried)
    # Two stars made the proposal.
    return float(tried * binom.sf(hits - 3, stars - 2, chance))
