"""Which stars of the PSF library stand for the science star: the most alike where it matters.

Close to the star a companion is lost in speckles; far out there is only noise, which no
reference can match, and the core is bright whatever the speckles are. So frames are compared
in an annulus round the core.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from roboao_assets.science.errors import NoReferencesError

# Outer radius (FWHM) of the annulus in which frames are compared and references tried.
_OUTER_FWHM = 8.0


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
    annulus_px: tuple[float, float] | None = None,
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
    annulus_px : tuple of float, optional
        Radii between which frames are compared (`annulus_that_matters`); by default all of
        the frame counts.
    library_preparations : sequence of str, length n, optional
        `PreparedPsf.preparation` of the library frames; empty where it is not known.
    preparation : str, optional
        That of the science frame. Frames prepared in another way are never taken.

    Returns
    -------
    indices : ndarray, int64, shape (<= number,)
        Numbers of the library frames, best correlated first.
    correlations : ndarray, float64, shape (<= number,)
        Their Pearson correlations with the science frame in the annulus.

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
    own = bare_name(object_name)
    others = np.array([i for i, name in enumerate(names) if bare_name(name) != own], dtype=int)
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
    correlations = correlate_frames(frame, library_frames[candidates], annulus_px)
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


def bare_name(name: str) -> str:
    """Name of an object without what makes no difference: case, spaces, hyphens, underscores."""
    return re.sub(r"[\s_-]+", "", name).casefold()


def annulus_that_matters(fwhm_px: float, half_px: int) -> tuple[float, float]:
    """Radii (px) between which speckles, not photons, limit what can be seen.

    From one FWHM, inside of which nothing is told from the core, to eight or the edge of the
    frame.

    Parameters
    ----------
    fwhm_px : float
        Size of a resolution element.
    half_px : int
        Half-width of the frame.
    """
    return fwhm_px, min(_OUTER_FWHM * fwhm_px, half_px - fwhm_px / 2)


def correlate_frames(
    frame: NDArray[np.floating],
    references: NDArray[np.floating],
    annulus_px: tuple[float, float] | None = None,
) -> NDArray[np.float64]:
    """Pearson correlation of the frame with each reference; -1 for a flat reference.

    Parameters
    ----------
    frame : ndarray, shape (y, x)
    references : ndarray, shape (n, y, x)
    annulus_px : tuple of float, optional
        Inner and outer radius of the pixels compared; by default all are.

    Returns
    -------
    ndarray, float64, shape (n,)
    """
    inside = np.ones(frame.shape, dtype=bool)
    if annulus_px is not None:
        from_middle = [np.arange(side) - side // 2 for side in frame.shape]
        radius = np.hypot(*np.meshgrid(*from_middle, indexing="ij"))
        inside = (radius >= annulus_px[0]) & (radius <= annulus_px[1])
    science = np.asarray(frame, dtype=np.float64)[inside]
    science = science - science.mean()
    flat = np.asarray(references, dtype=np.float64)[:, inside]
    flat = flat - flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(flat, axis=1) * np.linalg.norm(science)
    good = norms > 0
    return np.where(good, flat @ science / np.where(good, norms, 1.0), -1.0)
