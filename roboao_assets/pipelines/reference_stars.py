"""A stack prepared for reference-star subtraction, and the library's stars that it is done with."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roboao_assets.pipelines.context import NothingToMakeError, ObservationContext
from roboao_assets.pipelines.stacks import BRIGHT_STAR, StackKind
from roboao_assets.science.errors import NoReferencesError, OutsideOfDataError, ScienceError
from roboao_assets.science.high_contrast import (
    PreparedPsf,
    PrincipalComponents,
    annulus_that_matters,
    choose_references,
    prepare_psf,
    prepare_short_stacks,
    principal_modes,
    tune_subtraction,
)
from roboao_assets.science.reference_tuning import COMPONENT_NUMBERS, REFERENCE_NUMBERS
from roboao_assets.storage.fits_products import read_image
from roboao_assets.storage.psf_library import PsfEntry, PsfLibrary
from roboao_assets.storage.settings import HighContrastSettings


@dataclass(frozen=True, kw_only=True)
class ChosenSubtraction:
    """A prepared star, its references, and the components that are subtracted.

    Attributes
    ----------
    star : PreparedPsf
    names : list of str
        Observations of the references, best correlated first.
    correlations : list of float
        Their Pearson correlations with the star in the annulus.
    checksums : list of str
        Of their frames.
    annulus_px : tuple of float
        Radii between which frames were compared, and companions injected.
    components : PrincipalComponents
    gain_mag : float
        What the choice wins over one component of the best reference.
    """

    star: PreparedPsf
    names: list[str]
    correlations: list[float]
    checksums: list[str]
    annulus_px: tuple[float, float]
    components: PrincipalComponents
    gain_mag: float


def library_candidate(ctx: ObservationContext) -> PsfEntry:
    """The observation's bright star as an entry for the library, without its quality.

    Raises
    ------
    NothingToMakeError
        If the observation has no stack.
    ScienceError
        If the star cannot be prepared.
    """
    options = ctx.ws.settings.high_contrast
    star = prepared_star(ctx, BRIGHT_STAR)
    modes = np.empty((0, *star.frame.shape), np.float32)
    path = ctx.ws.paths.short_stacks(ctx.night, ctx.id)
    if options.reference_modes and path.exists():
        short, _ = read_image(path)
        # Short stacks of an exposure of few frames have gaps. Such a star has no modes, and
        # is as good a reference as it was without them.
        with suppress(ScienceError):
            modes = principal_modes(
                prepare_short_stacks(short, star, **_filter_options(options)),
                options.reference_modes,
            )
    return PsfEntry(
        obs_name=ctx.id,
        obj_name=ctx.exposure.name.object_name,
        filter_name=ctx.exposure.name.filter_name,
        telescope=ctx.profile.telescope,
        strehl_percent=float(ctx.product("bright_star.strehl").get("ratio_percent", np.nan)),
        frame=star.frame,
        modes=modes,
        preparation=star.preparation,
    )


def prepared_star(ctx: ObservationContext, kind: StackKind) -> PreparedPsf:
    """The star of a stack, cut out, filtered and centred; once a task.

    Raises
    ------
    NothingToMakeError
        If there is no such stack, or its star is too near to the edge.
    ScienceError
        If the star cannot be centred.
    """
    name = f"{kind.pipeline}: prepared star"
    if name not in ctx.memory:
        options = ctx.ws.settings.high_contrast
        x, y = kind.require(ctx)["lock_position"]
        image, _ = ctx.image(kind.path(ctx))
        try:
            ctx.memory[name] = prepare_psf(
                image,
                x,
                y,
                ctx.profile.strehl_box_half_px,
                max_recentre_px=options.max_recentre_px,
                **_filter_options(options),
            )
        except OutsideOfDataError as error:
            # Where the telescope pointed is no failure of a product.
            raise NothingToMakeError(str(error)) from error
    return ctx.memory[name]


def choose_subtraction(ctx: ObservationContext, kind: StackKind) -> ChosenSubtraction:
    """Choose the references and components for a stack's star; once a task.

    Raises
    ------
    NothingToMakeError
        If there is no such stack, or no reference for it.
    ScienceError
        If the star cannot be prepared.
    """
    name = f"{kind.pipeline}: subtraction"
    if name not in ctx.memory:
        ctx.memory[name] = _choose(ctx, prepared_star(ctx, kind))
    return ctx.memory[name]


def _choose(ctx: ObservationContext, star: PreparedPsf) -> ChosenSubtraction:
    options = ctx.ws.settings.high_contrast
    library = PsfLibrary(ctx.ws.paths.psf_library)
    entries = library.entries(with_modes=False)
    if not entries:
        raise NothingToMakeError(
            f"the PSF library {ctx.ws.paths.psf_library} is empty: add the PSFs of single stars "
            f"with `roboao psf-library add`"
        )
    annulus_px = annulus_that_matters(star.fwhm_px, star.frame.shape[0] // 2)
    try:
        indices, correlations = choose_references(
            star.frame,
            np.array([e.frame for e in entries]),
            [e.obj_name for e in entries],
            [e.filter_name for e in entries],
            [e.telescope for e in entries],
            object_name=ctx.exposure.name.object_name,
            filter_name=ctx.exposure.name.filter_name,
            telescope=ctx.profile.telescope,
            number=max(_numbers(options.references, REFERENCE_NUMBERS)),
            annulus_px=annulus_px,
            library_preparations=[e.preparation for e in entries],
            preparation=star.preparation,
        )
        chosen = [entries[i] for i in indices]
        tuned = tune_subtraction(
            star.frame,
            np.array([e.frame for e in chosen]),
            _read_modes(library, chosen, options),
            fwhm_px=star.fwhm_px,
            annulus_px=annulus_px,
            reference_numbers=_numbers(options.references, REFERENCE_NUMBERS),
            component_numbers=_numbers(options.components, COMPONENT_NUMBERS),
            pca_annulus_px=options.annulus_fwhm * star.fwhm_px,
        )
    except NoReferencesError as error:
        raise NothingToMakeError(str(error)) from error
    used = chosen[: tuned.references]
    return ChosenSubtraction(
        star=star,
        names=[e.obs_name for e in used],
        correlations=[float(c) for c in correlations[: tuned.references]],
        checksums=[e.sha256 for e in used],
        annulus_px=annulus_px,
        components=tuned.components,
        gain_mag=tuned.gain_mag,
    )


def _read_modes(
    library: PsfLibrary, chosen: Sequence[PsfEntry], options: HighContrastSettings
) -> list[NDArray[np.float32]]:
    if not options.reference_modes:
        return [np.empty((0, *entry.frame.shape), np.float32) for entry in chosen]
    # Of a large library only these are read whole.
    names = {entry.obs_name for entry in chosen}
    modes = {e.obs_name: e.modes for e in library.entries(obs_names=names)}
    return [modes[entry.obs_name][: options.reference_modes] for entry in chosen]


def _numbers(setting: str | int, tried: Sequence[int]) -> Sequence[int]:
    return tried if isinstance(setting, str) else (setting,)


def _filter_options(options: HighContrastSettings) -> dict[str, Any]:
    return options.model_dump(include={"highpass", "highpass_coefficient", "highpass_planes"})
