"""Reference-star differential imaging: the PSF as a combination of other stars' components.

The PSF of the science star is modelled as a combination of the principal components
of reference frames (Soummer, Pueyo & Larkin 2012, doi:10.1088/2041-8205/755/2/L28;
Amara & Quanz 2012, doi:10.1111/j.1365-2966.2012.21918.x). As the components come from
other stars only, the subtraction is linear in the science frame: what it does to a
companion is known exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roboao_assets.science.errors import NoReferencesError

# Weaker directions than this part of the strongest are rounding noise.
_INDEPENDENT = 1e-6


@dataclass(frozen=True, kw_only=True)
class PrincipalComponents:
    """Orthonormal components of reference frames, over the whole frame or annulus by annulus.

    Attributes
    ----------
    vectors : ndarray, float64, shape (m, y * x)
        Orthonormal rows. Of an annulus they are zero outside of it, so that those of all
        annuli together are orthonormal too.
    rank : ndarray, int64, shape (m,)
        Which component each is, 0 the strongest: of the frame, or of its annulus.
    annulus_px : float
        Width of the annuli; 0: the components are of the whole frame.
    """

    vectors: NDArray[np.float64]
    rank: NDArray[np.int64]
    annulus_px: float = 0.0

    @property
    def number(self) -> int:
        """Components of the frame, or the most of any annulus."""
        return int(self.rank.max()) + 1

    def strongest(self, number: int) -> "PrincipalComponents":
        """The `number` strongest components."""
        kept = self.rank < number
        return PrincipalComponents(
            vectors=self.vectors[kept], rank=self.rank[kept], annulus_px=self.annulus_px
        )

    def subtract(self, frames: NDArray[np.floating]) -> NDArray[np.float64]:
        """Take off each frame the part of it that the components span.

        Parameters
        ----------
        frames : ndarray, shape (y, x) or (n, y, x)

        Returns
        -------
        ndarray, float64, shape of `frames`
        """
        flat = np.asarray(frames, dtype=np.float64).reshape(-1, self.vectors.shape[1])
        return (flat - (flat @ self.vectors.T) @ self.vectors).reshape(frames.shape)


@dataclass(frozen=True, kw_only=True)
class ReferenceSubtraction:
    """A frame with the reference stars' principal components subtracted.

    Attributes
    ----------
    residual : ndarray, float32, shape (2 h + 1, 2 h + 1)
    components : PrincipalComponents
        What was subtracted.
    note : str
        Why these are fewer than were asked for; empty if they are not.
    """

    residual: NDArray[np.float32]
    components: PrincipalComponents
    note: str = ""


def principal_modes(frames: NDArray[np.floating], most: int) -> NDArray[np.float32]:
    """The strongest principal directions of a star's short stacks, each as long as it is strong.

    The frames are scaled to unit norm, and all together weigh as much as one frame: of several
    stars, the modes of all are frames to take principal components of.

    Parameters
    ----------
    frames : ndarray, shape (n, y, x)
        Prepared alike, finite.
    most : int
        Modes wanted, >= 1.

    Returns
    -------
    ndarray, float32, shape (<= most, y, x)
        Strongest first.
    """
    rows = unit_rows(frames) / np.sqrt(len(frames))
    strengths, vectors = _decompose(rows, most)
    modes = strengths[:, None] * vectors
    return modes.reshape(-1, *frames.shape[1:]).astype(np.float32)


def unit_rows(frames: NDArray[np.floating]) -> NDArray[np.float64]:
    """Flatten frames and scale each to unit norm; those without signal are left out.

    Without the scaling the brightest star would be the first component.

    Parameters
    ----------
    frames : ndarray, shape (n, y, x)

    Returns
    -------
    ndarray, float64, shape (<= n, y * x)
    """
    flat = np.asarray(frames, dtype=np.float64).reshape(len(frames), -1)
    if not np.isfinite(flat).all():
        raise ValueError("reference frames must be finite; prepare them with prepare_psf")
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    lit = norms[:, 0] > 0
    return flat[lit] / norms[lit]


def reference_rows(
    frames: NDArray[np.floating], modes: Sequence[NDArray[np.floating]] | None = None
) -> NDArray[np.float64]:
    """What the components are taken of: each reference's modes where it has any, else its frame.

    Parameters
    ----------
    frames : ndarray, shape (n, y, x)
        Prepared references.
    modes : sequence of n ndarrays, shape (k_i, y, x), optional
        `principal_modes` of each; k_i may be 0.

    Returns
    -------
    ndarray, float64, shape (m, y * x)

    Raises
    ------
    NoReferencesError
        There are no references, or none with any signal.
    """
    if len(frames) == 0:
        raise NoReferencesError(
            "there is no reference frame to subtract: the PSF library gave none"
        )
    rows = [
        np.asarray(of_star, np.float64).reshape(len(of_star), -1)
        if len(of_star)
        else unit_rows(frame[None])
        for frame, of_star in zip(frames, modes or [()] * len(frames), strict=True)
    ]
    stacked = np.concatenate(rows)
    if not stacked.any():
        raise NoReferencesError(
            f"none of the {len(frames)} reference frames holds any signal: there is no PSF "
            f"to subtract"
        )
    return stacked


def principal_components(
    rows: NDArray[np.float64],
    components: int,
    shape: tuple[int, int],
    *,
    annulus_px: float = 0.0,
) -> PrincipalComponents:
    """Orthonormal principal components of reference frames.

    Nothing is subtracted from the frames: prepared frames have no background, and the star
    itself is what the first component must hold.

    Parameters
    ----------
    rows : ndarray, float64, shape (n, y * x)
        `reference_rows`.
    components : int
        >= 1; at most as many as there are independent directions are returned.
    shape : tuple of int
        (y, x) of the frames; the star is at its central pixel.
    annulus_px : float
        Width of the annuli, each with components of its own; the last goes to the corners.
        0: components of the whole frame.
    """
    if components < 1:
        raise ValueError(f"at least one component must be subtracted, not {components}")
    if not annulus_px:
        _, vectors = _decompose(rows, components)
        return PrincipalComponents(vectors=vectors, rank=np.arange(len(vectors)))
    found, ranks = [], []
    for inside in _annuli(shape, annulus_px):
        _, within = _decompose(rows[:, inside], components)
        vectors = np.zeros((len(within), rows.shape[1]))
        vectors[:, inside] = within
        found.append(vectors)
        ranks.append(np.arange(len(vectors)))
    return PrincipalComponents(
        vectors=np.concatenate(found), rank=np.concatenate(ranks), annulus_px=annulus_px
    )


def _annuli(shape: tuple[int, int], width_px: float) -> list[NDArray[np.int64]]:
    """Flat pixel numbers of each annulus; the last, which goes to the corners, is a whole one."""
    from_middle = [np.arange(side) - side // 2 for side in shape]
    radius = np.hypot(*np.meshgrid(*from_middle, indexing="ij"))
    last = max(int(min(shape) / 2 / width_px) - 1, 0)
    number = np.minimum(radius.ravel() // width_px, last)
    return [np.flatnonzero(number == i) for i in range(last + 1)]


def _decompose(
    rows: NDArray[np.float64], most: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The strongest singular values and right singular vectors of independent directions."""
    # Far fewer rows than pixels: the small product of the rows has the same directions, and is
    # decomposed forty times as fast. It squares the strengths, so the weakest directions lose
    # their right angles: the last step gives these back.
    squares, mixing = np.linalg.eigh(rows @ rows.T)
    squares, mixing = squares[: -most - 1 : -1], mixing[:, : -most - 1 : -1]
    independent = squares > squares[0] * _INDEPENDENT**2 if squares[0] > 0 else squares > 0
    strengths = np.sqrt(squares[independent])
    vectors = (mixing[:, independent] / strengths).T @ rows
    return strengths, np.linalg.qr(vectors.T)[0].T


def subtract_reference_pca(
    frame: NDArray[np.floating],
    references: NDArray[np.floating],
    components: int,
    *,
    modes: Sequence[NDArray[np.floating]] | None = None,
    annulus_px: float = 0.0,
) -> ReferenceSubtraction:
    """Subtract the projection of the frame on the references' principal components.

    Parameters
    ----------
    frame : ndarray, shape (y, x)
        Prepared science frame.
    references : ndarray, shape (n, y, x)
        Prepared frames of other stars.
    components : int
        Principal components wanted. Fewer references (or fewer independent ones) give as
        many as there are; the result's `note` says so.
    modes : sequence of n ndarrays, shape (k_i, y, x), optional
        The references' `principal_modes`, used in place of their frames where there are any.
    annulus_px : float
        Width of annuli that have components of their own; 0: the whole frame at once.

    Raises
    ------
    NoReferencesError
        There are no references, or none with any signal.
    """
    references = np.asarray(references)
    if len(references) and references.shape[1:] != frame.shape:
        raise ValueError(f"references of {references.shape[1:]} px for a frame of {frame.shape} px")
    rows = reference_rows(references, modes)
    found = principal_components(rows, components, frame.shape, annulus_px=annulus_px)
    note = ""
    if found.number < components:
        note = (
            f"{found.number} of {components} principal components: the {len(references)} "
            f"reference frames have no more independent directions"
        )
    return ReferenceSubtraction(
        residual=found.subtract(frame).astype(np.float32), components=found, note=note
    )
