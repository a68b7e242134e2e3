"""HTML of the pages. Every value that comes from the catalogue passes through `escape`."""

from collections.abc import Iterable, Sequence
from html import escape

from dashboards.collect import PICTURES, Observation, Remark
from dashboards.compute import SUMMARY_SEPARATION_ARCSEC, contrast_at
from dashboards.links import THUMBNAIL_WIDTHS_PX, image_url, night_url, observation_url
from dashboards.results import PIPELINES, Candidate, PipelineResult

NOTHING = "–"
PICTURE_TITLES = {
    "full": "whole field",
    "cropped": "lock star",
    "deconvolved": "before and after deconvolution",
    "pca": "PSF-subtracted",
    "snr_map": "signal-to-noise map",
    "contrast_curve": "contrast curve",
}
_STATE_WORDS = {"done": "done", "failed": "failed", "waiting": "waiting"}
_CLASS_WORDS = {
    "high_flux": "high flux",
    "faint": "faint",
    "zero_flux": "no star",
    "failed": "unusable frames",
    "extended_object": "resolved",
}


def dashed(night: str) -> str:
    """Return `YYYYMMDD` as `YYYY-MM-DD`."""
    return f"{night[:4]}-{night[4:6]}-{night[6:]}" if len(night) == 8 else night


def number(value: float | None, form: str = ".2f", unit: str = "") -> str:
    """Spell a value with its unit, a dash if there is none."""
    return NOTHING if value is None else f"{value:{form}}{unit}"


def strehl_text(measured: Observation | PipelineResult) -> str:
    """Spell the Strehl ratio with its error."""
    if measured.strehl_percent is None:
        return NOTHING
    error = measured.strehl_error_percent
    return f"{measured.strehl_percent:.1f}" + (f" ± {error:.1f}" if error else "") + " %"


def problem(title: str, sentence: str) -> str:
    """Return a notice that something cannot be shown, and why."""
    return (
        f'<div class="notice problem"><h2>{escape(title)}</h2>'
        f"<p>{escape(sentence_of(sentence))}</p>"
        '<p><a href="/">All nights</a></p></div>'
    )


def observation_head(observation: Observation) -> str:
    """Return the title of an observation's page, its numbers and remarks."""
    o = observation
    place = "  ".join(o.radec) if o.radec else NOTHING
    horizon = (
        f"{o.azimuth_deg:.1f}°, {o.elevation_deg:.1f}°"
        if o.azimuth_deg is not None and o.elevation_deg is not None
        else NOTHING
    )
    facts = (
        ("observed (UTC)", f"{o.utc:%Y-%m-%d %H:%M:%S}" if o.utc else NOTHING),
        ("program", o.program or NOTHING),
        ("telescope, camera", ", ".join(filter(None, (o.telescope, o.camera))) or NOTHING),
        ("filter", o.filter_name or NOTHING),
        ("exposure", number(o.exposure_s, "g", " s")),
        ("magnitude", number(o.magnitude, ".2f")),
        ("RA, Dec", place),
        ("azimuth, elevation", horizon),
        ("seeing, night median", number(o.seeing_median_arcsec, ".2f", '"')),
        ("seeing, nearest in time", number(o.seeing_nearest_arcsec, ".2f", '"')),
        ("distributed", "yes" if o.distributed else "no"),
    )
    comment = f'<p class="quiet">{escape(o.comment)}</p>' if o.comment else ""
    return (
        f'<div class="page-title"><h1>{escape(o.name or o.id)}</h1>'
        f'<span class="chips">{state_chips(o)}</span>'
        f'<nav class="beside"><a href="{escape(night_url(o.night))}">← night {dashed(o.night)}</a>'
        f'</nav></div><p class="id">{escape(o.id)}</p>'
        f"{remark_lines(o.failures, 'failure')}{remark_lines(o.skipped, 'skipped')}{comment}"
        f"{_facts(facts)}"
    )


def pipeline_head(result: PipelineResult) -> str:
    """Return the title of a pipeline's part of an observation's page, and its numbers."""
    r = result
    used = NOTHING if r.frames is None else str(r.frames)
    if r.frames is not None and r.frames_used is not None:
        used = f"{r.frames_used} of {r.frames}"
    lock = f"({r.lock_xy[0]:.1f}, {r.lock_xy[1]:.1f}) px" if r.lock_xy else NOTHING
    contrast = contrast_at(r.curve, SUMMARY_SEPARATION_ARCSEC)
    of_object = (
        ("diameter", number(r.diameter_arcsec, ".2f", '"')),
        ("deconvolution", _deconvolution(r)),
    )
    of_star = (
        ("Strehl ratio", f"{strehl_text(r)} {r.strehl_flag}".strip()),
        ("FWHM", number(r.fwhm_arcsec, ".3f", '"')),
        ("core, halo", f"{number(r.core_arcsec, '.3f')}, {number(r.halo_arcsec, '.2f', chr(34))}"),
        ('contrast at 1"', number(contrast, ".2f", " mag")),
        ("candidates", str(len(r.candidates)) if r.searched else NOTHING),
    )
    facts = (
        *(of_object if r.pipeline == "extended_object" else of_star),
        ("frames stacked", used),
        ("lock position (x, y)", lock),
    )
    title = f"{PIPELINES[r.pipeline]} pipeline".capitalize()
    return f'<h2 class="plot-title pipeline">{escape(title)}</h2>{_facts(facts)}'


def _deconvolution(result: PipelineResult) -> str:
    psf = f", PSF {result.deconvolved_with}" if result.deconvolved_with else ""
    return f"{result.deconvolution}{psf}" or NOTHING


def candidates_table(result: PipelineResult) -> str:
    """Return the companion candidates as a table; empty if none were looked for."""
    if not result.searched:
        return ""
    threshold = number(result.snr_threshold, "g")
    above = "" if result.snr_threshold is None else f" above a signal-to-noise ratio of {threshold}"
    expected = (
        ""
        if result.false_alarms_expected is None
        else f" Noise alone gives {result.false_alarms_expected:.2g} in a map like this."
    )
    if not result.candidates:
        return f'<p class="quiet count">No companion candidate{above}.{expected}</p>'
    rows = "".join(
        _candidate_row(index, candidate)
        for index, candidate in enumerate(result.candidates, start=1)
    )
    return (
        '<h3 class="table-title">Companion candidates</h3>'
        '<table class="numbers candidates"><thead><tr><th>no.</th><th>separation (")</th>'
        "<th>PA (°)</th><th>contrast (mag)</th><th>S/N</th><th>false-alarm probability</th></tr>"
        f'</thead><tbody>{rows}</tbody></table><p class="quiet count">{len(result.candidates)}'
        f"{above}.{expected} The probability is that of noise having such a peak anywhere in the "
        "map.</p>"
    )


def references_table(result: PipelineResult) -> str:
    """Return the library PSFs that were subtracted, each a link; empty if there are none."""
    if not result.references:
        return ""
    rows = "".join(
        f"<tr><td>{_reference(name)}</td><td>{number(correlation, '.4f')}</td></tr>"
        for name, correlation in result.references
    )
    components = "" if result.components is None else f", principal components {result.components}"
    return (
        f'<details class="references"><summary>References ({len(result.references)}{components})'
        '</summary><table class="numbers references"><thead><tr><th>observation</th>'
        f"<th>correlation</th></tr></thead><tbody>{rows}</tbody></table></details>"
    )


def _reference(name: str) -> str:
    if not name:
        return "a star of another program"
    return f'<a href="{escape(observation_url(name))}">{escape(name)}</a>'


def observation_pictures(
    observation: Observation, image_keys: Iterable[str], pipeline: str | None = None
) -> str:
    """Return the pictures of a pipeline in full, in the order of the flow.

    Without `pipeline`, those of pipelines that have no part of the page of their own.
    """
    own = {result.pipeline for result in observation.results}
    order = {kind: index for index, kind in enumerate(PICTURES)}
    keys = sorted(
        (
            key
            for key in image_keys
            if (_pipeline(key) == pipeline if pipeline else _pipeline(key) not in own)
        ),
        key=lambda key: (_pipeline(key), order.get(kind_of(key), len(order)), key),
    )
    if not keys and (pipeline or own):
        return ""
    if not keys:
        return (
            '<div class="notice"><p>No picture of this observation has been made yet: it waits for '
            "its reduction, or that has failed; above it says which.</p></div>"
        )
    figures = "".join(_large_figure(key, observation.version) for key in keys)
    return f'<div class="pictures">{figures}</div>'


def header_table(cards: Sequence[tuple[str, str, str]], total: int) -> str:
    """Return FITS header cards as a table."""
    if not total:
        return '<p class="quiet">The catalogue holds no FITS header of this observation.</p>'
    rows = "".join(
        f"<tr><th>{escape(key)}</th><td>{escape(value)}</td><td>{escape(comment)}</td></tr>"
        for key, value, comment in cards
    )
    return (
        f'<p class="quiet count">{len(cards)} of {total} cards</p>'
        f'<table class="header-cards"><tbody>{rows}</tbody></table>'
    )


def sentence_of(reason: str) -> str:
    """Return an error's words as a sentence: with a capital and a full stop."""
    return reason[:1].upper() + reason[1:].rstrip(".") + "."


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts)
    return f'<dl class="facts">{cells}</dl>'


def _candidate_row(index: int, candidate: Candidate) -> str:
    cells = (
        str(index),
        number(candidate.separation_arcsec, ".3f"),
        number(candidate.pa_deg, ".1f"),
        number(candidate.contrast_mag, ".2f"),
        number(candidate.snr, ".1f"),
        number(candidate.false_alarm_probability, ".1e"),
    )
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def state_chips(observation: Observation) -> str:
    """Return state, class and flag as marks."""
    chips = [(_STATE_WORDS[observation.state], observation.state)]
    if observation.classification:
        word = _CLASS_WORDS.get(observation.classification, observation.classification)
        chips.append((word, "class"))
    if observation.strehl_flag:
        chips.append((observation.strehl_flag, "ok" if observation.strehl_flag == "OK" else "flag"))
    return "".join(f'<span class="chip {kind}">{escape(word)}</span>' for word, kind in chips)


def remark_lines(remarks: Iterable[Remark], kind: str) -> str:
    """Return why products are not there; `kind` is `failure` or `skipped`."""
    texts = []
    for remark in remarks:
        again = f" ({remark.failures} attempts)" if remark.failures > 1 else ""
        texts.append(
            f'<p class="remark {kind}"><b>{escape(remark.product)}'
            f"{' failed' if kind == 'failure' else ' not made'}{again}:</b> "
            f"{escape(remark.reason)}</p>"
        )
    return "".join(texts)


def thumbnail(key: str, caption: str, version: str) -> str:
    """Return a thumbnail that loads when it comes into view and opens the whole picture."""
    small, large = THUMBNAIL_WIDTHS_PX
    one = escape(image_url(key, width_px=small, version=version))
    two = escape(image_url(key, width_px=large, version=version))
    whole = escape(image_url(key, version=version))
    return (
        f'<figure class="{escape(kind_of(key))}"><a href="{whole}"><img loading="lazy" '
        f'src="{one}" srcset="{one} 1x, {two} 2x" alt="{escape(caption)}"></a>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _large_figure(key: str, version: str) -> str:
    caption = PICTURE_TITLES.get(kind_of(key), kind_of(key))
    pipeline = _pipeline(key).replace("_", "-")
    url = escape(image_url(key, version=version))
    return (
        f'<figure class="{escape(kind_of(key))}"><a href="{url}"><img loading="lazy" src="{url}" '
        f'alt="{escape(caption)}"></a><figcaption>{escape(caption)}, {escape(pipeline)} pipeline'
        "</figcaption></figure>"
    )


def kind_of(key: str) -> str:
    """Return what a picture shows, by its key."""
    return key.rsplit("/", 1)[-1]


def _pipeline(key: str) -> str:
    parts = key.rsplit("/", 2)
    return parts[1] if len(parts) == 3 else ""
