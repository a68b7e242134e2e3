"""Reference-star differential imaging: other stars' PSFs, chosen and subtracted.

The PSF of the science star is modelled as a combination of the principal components
of reference frames (Soummer, Pueyo & Larkin 2012, doi:10.1088/2041-8205/755/2/L28;
Amara & Quanz 2012, doi:10.1111/j.1365-2966.2012.21918.x). As the components come from
other stars only, the subtraction is linear in the science frame: what it does to a
companion is known exactly.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roboao_assets.science.errors import NoReferencesError


@dataclass(frozen=True, kw_only=True)
class ReferenceSubtraction:
    """A frame with the reference stars' principal components subtracted.

    Attributes
    ----------
    residual : ndarray, float32, shape (2 h + 1, 2 h + 1)
    basis : ndarray, float64, shape (components, (2 h + 1)**2)
        Orthonormal principal components, flattened.
    components : int
        How many were subtracted.
    note : str
        Why these are fewer than were asked for; empty if they are not.
    """

    residual: NDArray[np.float32]
    basis: NDArray[np.float64]
    components: int
    note: str = ""


def choose_references(
    frame: NDArray[np.floating],
    library_frames: NDArray[np.floating],
    library_object_names: Sequence[str],
    library_filters: Sequence[str],
    library_telescopes: Sequence[str],
    *,
    object_name: str,
    filter_name: str,
    telescope: str,
    number: int,
    library_preparations: Sequence[str] | None = None,
    preparation: str = "",
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Choose the library PSFs of other objects that look most like the frame.

    A PSF scales with wavelength over diameter, so frames of the same filter and telescope
    are taken where there are any; else those of the same telescope; else of the same filter;
    else any. Among these the highest Pearson correlations win (ties: the earlier in the
    library).

    Parameters
    ----------
    frame : ndarray, shape (y, x)
        Prepared science frame (`prepare_psf`).
    library_frames : ndarray, shape (n, y, x)
        Frames prepared in the same way.
    library_object_names, library_filters, library_telescopes : sequence of str, length n
    object_name, filter_name, telescope : str
        Of the science frame. Frames of the same object are never taken; case, spaces,
        hyphens and underscores make no difference to a name.
    number : int
        References wanted, >= 1; fewer are returned if there are fewer.
    library_preparations : sequence of str, length n, optional
        `PreparedPsf.preparation` of the library frames; empty where it is not known.
    preparation : str, optional
        That of the science frame. Frames prepared in another way are never taken.

    Returns
    -------
    indices : ndarray, int64, shape (<= number,)
        Numbers of the library frames, best correlated first.
    correlations : ndarray, float64, shape (<= number,)
        Their Pearson correlations with the science frame, over all of its pixels.

    Raises
    ------
    NoReferencesError
        With the reason in words: the library is empty, has other frame sizes or another
        preparation, or holds only the object itself.
    """
    if number < 1:
        raise ValueError(f"at least one reference must be asked for, not {number}")
    names = list(library_object_names)
    _check_library(frame, library_frames, names, library_filters, library_telescopes)
    own = _bare_name(object_name)
    others = np.array([i for i, name in enumerate(names) if _bare_name(name) != own], dtype=int)
    if others.size == 0:
        raise NoReferencesError(
            f"the PSF library has no reference for {object_name}: its {len(names)} "
            f"{'frame is' if len(names) == 1 else 'frames are all'} of that object itself; add "
            f"PSFs of other single stars"
        )
    if library_preparations is not None and preparation:
        others = _keep_prepared_alike(others, library_preparations, preparation)
    same_filter = np.array([library_filters[i] == filter_name for i in others])
    same_telescope = np.array([library_telescopes[i] == telescope for i in others])
    everything = np.ones(others.size, dtype=bool)
    tiers = (same_filter & same_telescope, same_telescope, same_filter, everything)
    candidates = others[next(tier for tier in tiers if tier.any())]
    correlations = _correlate(frame, library_frames[candidates])
    order = np.argsort(-correlations, kind="stable")[:number]
    return candidates[order].astype(np.int64), correlations[order]


def _check_library(
    frame: NDArray[np.floating],
    library_frames: NDArray[np.floating],
    names: list[str],
    filters: Sequence[str],
    telescopes: Sequence[str],
) -> None:
    if not names:
        raise NoReferencesError(
            "the PSF library is empty: there is no reference star to subtract; look through the "
            "PSF candidates and add some"
        )
    if not len(names) == len(library_frames) == len(filters) == len(telescopes):
        raise ValueError(
            f"{len(library_frames)} library frames, {len(names)} object names, {len(filters)} "
            f"filters and {len(telescopes)} telescopes do not belong together"
        )
    if library_frames.shape[1:] != frame.shape:
        raise NoReferencesError(
            f"the PSF library's frames have {library_frames.shape[2]} x {library_frames.shape[1]} "
            f"px and the observation's box has {frame.shape[1]} x {frame.shape[0]} px: they are "
            f"of an instrument profile with another box; this archive needs a library of its own"
        )


def _keep_prepared_alike(
    others: NDArray[np.int64], preparations: Sequence[str], preparation: str
) -> NDArray[np.int64]:
    alike = np.array([i for i in others if preparations[i] in ("", preparation)], dtype=int)
    if alike.size == 0:
        found = sorted({preparations[i] for i in others})
        raise NoReferencesError(
            f"the PSF library's frames were prepared in another way ({'; '.join(found)}) than the "
            f"observation ({preparation}): rebuild the library's candidates with the present "
            f"settings"
        )
    return alike


def _bare_name(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()


def _correlate(
    frame: NDArray[np.floating], references: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Pearson correlation of the frame with each reference; -1 for a flat reference."""
    science = np.asarray(frame, dtype=np.float64).ravel()
    science = science - science.mean()
    flat = np.asarray(references, dtype=np.float64).reshape(len(references), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(flat, axis=1) * np.linalg.norm(science)
    good = norms > 0
    return np.where(good, flat @ science / np.where(good, norms, 1.0), -1.0)


def principal_components(references: NDArray[np.floating], components: int) -> NDArray[np.float64]:
    """Orthonormal principal components of the references, most important first.

    Each reference is first scaled to unit norm, else the brightest star would be the first
    component. Nothing is subtracted from them: prepared frames have no background, and the
    star itself is what the first component must hold.

    Parameters
    ----------
    references : ndarray, shape (n, y, x)
        Finite.
    components : int
        >= 1; at most as many as the references have independent directions are returned.

    Returns
    -------
    ndarray, float64, shape (<= components, y * x)
    """
    if components < 1:
        raise ValueError(f"at least one component must be subtracted, not {components}")
    flat = np.asarray(references, dtype=np.float64).reshape(len(references), -1)
    if not np.isfinite(flat).all():
        raise ValueError("reference frames must be finite; prepare them with prepare_psf")
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    flat = flat[norms[:, 0] > 0] / norms[norms[:, 0] > 0]
    if flat.shape[0] == 0:
        raise NoReferencesError(
            f"none of the {len(references)} reference frames holds any signal: there is no PSF "
            f"to subtract"
        )
    _, strengths, rows = np.linalg.svd(flat, full_matrices=False)
    # Two copies of one frame span one direction; the second is rounding noise.
    independent = int((strengths > strengths[0] * 1e-7).sum())
    return rows[: min(components, independent)]


def subtract_components(
    frames: NDArray[np.floating], basis: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Take the part of each frame that `basis` spans off it.

    Parameters
    ----------
    frames : ndarray, shape (y, x) or (n, y, x)
    basis : ndarray, shape (k, y * x)
        Orthonormal rows.

    Returns
    -------
    ndarray, float64, shape of `frames`
    """
    flat = np.asarray(frames, dtype=np.float64).reshape(-1, basis.shape[1])
    return (flat - (flat @ basis.T) @ basis).reshape(frames.shape)


def subtract_reference_pca(
    frame: NDArray[np.floating], references: NDArray[np.floating], components: int
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

    Raises
    ------
    NoReferencesError
        There are no references, or none with any signal.
    """
    references = np.asarray(references)
    if references.ndim != 3 or len(references) == 0:
        raise NoReferencesError(
            "there is no reference frame to subtract: the PSF library gave none"
        )
    if references.shape[1:] != frame.shape:
        raise ValueError(f"references of {references.shape[1:]} px for a frame of {frame.shape} px")
    basis = principal_components(references, components)
    note = ""
    if len(basis) < components:
        note = (
            f"{len(basis)} of {components} principal components: the {len(references)} "
            f"reference frames have no more independent directions"
        )
    return ReferenceSubtraction(
        residual=subtract_components(frame, basis).astype(np.float32),
        basis=basis,
        components=len(basis),
        note=note,
    )
