"""What one pipeline made of an observation, and what the contrast of a night is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dashboards.values import integer_of, number_of, pair_of, text_of
from roboao_assets.storage.catalogue import product

# Pipeline -> what it is called on a page.
PIPELINES = {
    "bright_star": "bright-star",
    "faint_star": "faint-star",
    "extended_object": "extended-object",
}


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A contrast curve: separation (arcsec) and contrast (mag), of one length."""

    separation_arcsec: tuple[float, ...]
    contrast_mag: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class MedianCurve:
    """Median and quartiles of a night's contrast curves in one filter, of one length.

    `total` is how many curves there are.
    """

    total: int
    separation_arcsec: tuple[float, ...]
    lower_mag: tuple[float, ...]
    median_mag: tuple[float, ...]
    upper_mag: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A companion candidate; None where the catalogue does not say."""

    separation_arcsec: float | None
    pa_deg: float | None
    contrast_mag: float | None
    snr: float | None
    false_alarm_probability: float | None


@dataclass(frozen=True, kw_only=True)
class PipelineResult:
    """What one pipeline made of an observation; None where the catalogue does not say.

    Attributes
    ----------
    pipeline : str
        A key of `PIPELINES`.
    frames, frames_used : int or None
        Frames read and frames in the stack.
    searched : bool
        True if the star was subtracted and candidates were looked for.
    references : tuple of (observation, correlation)
        Library PSFs that were subtracted.
    snr_threshold, false_alarms_expected : float or None
        Least signal-to-noise ratio of a candidate, and how many the noise of the whole map
        gives on average.
    diameter_arcsec : float or None
        Of a resolved object.
    deconvolution : str
        How a resolved object was deconvolved, or why it was not; empty of stars.
    deconvolved_with : str
        Observation of the star that was the PSF.
    """

    pipeline: str
    frames: int | None
    frames_used: int | None
    strehl_percent: float | None
    strehl_error_percent: float | None
    strehl_flag: str
    fwhm_arcsec: float | None
    core_arcsec: float | None
    halo_arcsec: float | None
    lock_xy: tuple[float, float] | None
    curve: Curve | None
    searched: bool
    candidates: tuple[Candidate, ...]
    references: tuple[tuple[str, float | None], ...]
    components: int | None
    snr_threshold: float | None
    false_alarms_expected: float | None
    diameter_arcsec: float | None
    deconvolution: str
    deconvolved_with: str = ""


def read_result(document: Mapping[str, Any], pipeline: str) -> PipelineResult:
    """Read a pipeline's part of an observation's document."""
    stack = product(document, pipeline)
    strehl = product(document, f"{pipeline}.strehl")
    pca = product(document, f"{pipeline}.pca")
    candidates = pca.get("candidates")
    pairs = pca.get("library_psf_id_corr")
    return PipelineResult(
        pipeline=pipeline,
        frames=integer_of(stack.get("frames")),
        frames_used=integer_of(stack.get("frames_used")),
        strehl_percent=number_of(strehl.get("ratio_percent")),
        strehl_error_percent=number_of(strehl.get("ratio_error_percent")),
        strehl_flag=text_of(strehl.get("flag")),
        fwhm_arcsec=number_of(strehl.get("fwhm_arcsec")),
        core_arcsec=number_of(strehl.get("core_arcsec")),
        halo_arcsec=number_of(strehl.get("halo_arcsec")),
        lock_xy=pair_of(strehl.get("lock_position") or stack.get("lock_position")),
        curve=_curve(pca.get("contrast_curve")),
        searched=isinstance(candidates, list),
        candidates=tuple(
            Candidate(
                separation_arcsec=number_of(item.get("separation_arcsec")),
                pa_deg=number_of(item.get("pa_deg")),
                contrast_mag=number_of(item.get("contrast_mag")),
                snr=number_of(item.get("snr")),
                false_alarm_probability=number_of(item.get("false_alarm_probability")),
            )
            for item in (candidates if isinstance(candidates, list) else [])
            if isinstance(item, Mapping)
        ),
        references=tuple(
            (text_of(pair[0]), number_of(pair[1]))
            for pair in (pairs if isinstance(pairs, list) else [])
            if isinstance(pair, list) and len(pair) == 2
        ),
        components=integer_of(pca.get("components")),
        snr_threshold=number_of(pca.get("snr_threshold")),
        false_alarms_expected=number_of(pca.get("false_alarms_expected")),
        diameter_arcsec=number_of(stack.get("diameter_arcsec")),
        deconvolution=_deconvolution(stack) if pipeline == "extended_object" else "",
        deconvolved_with=text_of(stack.get("psf_observation"))
        if stack.get("deconvolved") is True
        else "",
    )


def read_contrast_medians(section: Mapping[str, Any]) -> dict[str, MedianCurve]:
    """Read the quartiles by filter; those of one curve are no median to compare with."""
    medians = {}
    entries = section.get("quartiles")
    for entry in entries if isinstance(entries, list) else []:
        total = integer_of(entry.get("total")) if isinstance(entry, Mapping) else None
        if total is None or total < 2:
            continue
        names = ("separation_arcsec", "lower_mag", "median_mag", "upper_mag")
        columns = [entry.get(name) for name in names]
        if not all(isinstance(column, list) for column in columns):
            continue
        rows = [tuple(map(number_of, row)) for row in zip(*columns, strict=False)]
        whole = [row for row in rows if None not in row]
        if whole:
            values = dict(zip(names, zip(*whole, strict=True), strict=True))
            medians[text_of(entry.get("filter"))] = MedianCurve(total=total, **values)
    return medians


def _deconvolution(stack: Mapping[str, Any]) -> str:
    if stack.get("deconvolved") is not True:
        return text_of(stack.get("reason"))
    method = text_of(stack.get("method")).replace("_", "-")
    iterations = integer_of(stack.get("iterations"))
    return f"{method}, {iterations} iterations"


def _curve(value: Any) -> Curve | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    if not all(isinstance(column, list) for column in value):
        return None
    points = [
        (separation, contrast)
        for separation, contrast in zip(
            map(number_of, value[0]), map(number_of, value[1]), strict=False
        )
        if separation is not None and contrast is not None
    ]
    if not points:
        return None
    points.sort()
    return Curve(
        separation_arcsec=tuple(point[0] for point in points),
        contrast_mag=tuple(point[1] for point in points),
    )
