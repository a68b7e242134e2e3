"""HTML of a night's page: its numbers, its observations by program, its pictures."""

from collections.abc import Collection, Iterable, Sequence
from html import escape

from dashboards.collect import Night, Observation
from dashboards.compute import ORDERS, SELECTIONS, NightNumbers, contrast_at_one_arcsec
from dashboards.links import THUMBNAIL_WIDTHS_PX, image_url, night_url, observation_url
from dashboards.markup import (
    PICTURE_TITLES,
    dashed,
    number,
    remark_lines,
    state_chips,
    strehl_text,
    thumbnail,
)

_ROW_PICTURES = ("full", "cropped", "pca", "contrast_curve")
_RESOLVED_PICTURES = ("full", "cropped", "deconvolved")
_NO_PROGRAM = "without a program"
MOST_TEXT = 300
DRAWING = '<p class="loading" role="status">Drawing the plots…</p>'


def night_links(earlier: str | None, later: str | None) -> str:
    """Return the way to the neighbours of a night and up to all."""
    links = (("prev", earlier, "← ", ""), ("next", later, "", " →"))
    shown = "".join(
        f'<a rel="{kind}" href="{escape(night_url(other))}">'
        f"{before}{escape(dashed(other))}{after}</a>"
        for kind, other, before, after in links
        if other
    )
    return f'{shown}<a rel="up" href="/">all nights</a>'


def night_head(night: Night, numbers: NightNumbers) -> str:
    """Return a night's numbers, and what failed of the night itself."""
    tiles = "".join(
        _tile(name, value, mark)
        for name, value, mark in (
            ("observations", str(numbers.observations), ""),
            ("done", str(numbers.done), ""),
            ("failed", str(numbers.failed), "bad" if numbers.failed else ""),
            ("waiting", str(numbers.waiting), ""),
            ("median seeing", number(numbers.median_seeing_arcsec, ".2f", '"'), ""),
            ("median Strehl", number(numbers.median_strehl_percent, ".1f", " %"), ""),
            ('median contrast at 1"', number(numbers.median_contrast_mag, ".1f", " mag"), ""),
        )
    )
    comment = (
        f'<p class="quiet">Calibration: {escape(night.calibration_comment)}</p>'
        if night.calibration_comment
        else ""
    )
    return f'<div class="tiles">{tiles}</div>{comment}{remark_lines(night.failures, "failure")}'


def choice_form(night: str, text: str, which: str, order: str, address: str) -> str:
    """Return what chooses among a night's observations, filled in.

    Parameters
    ----------
    night, text, which, order : str
        As `select_observations` takes them.
    address : str
        Where the chosen observations come from.
    """
    return (
        f'<form class="choice" data-choice="{escape(address)}" action="/night" role="search">'
        f'<input type="hidden" name="night" value="{escape(night)}">'
        f'<label>find<input name="q" type="search" value="{escape(text)}" maxlength="{MOST_TEXT}" '
        'placeholder="name, id, program, filter or class"></label>'
        f"<label>show{_select('show', SELECTIONS, which)}</label>"
        f"<label>order by{_select('sort', ORDERS, order)}</label></form>"
    )


def observation_rows(
    observations: Sequence[Observation], image_keys: Collection[str], *, night: str, total: int
) -> str:
    """Return observations as rows, by program; those of a program stay in their order."""
    if not total:
        return (
            '<div class="notice"><h2>No observation yet</h2><p>No science observation is '
            "registered for this night. They are when its raw files stand still; reduce it by "
            f"hand with <code>roboao night {escape(night)}</code>.</p></div>"
        )
    if not observations:
        return (
            '<div class="notice"><p>No observation fits the selection. Look for less, or '
            f'<a href="{escape(night_url(night))}">show all {total}</a>.</p></div>'
        )
    programs: dict[str, list[Observation]] = {}
    for observation in observations:
        programs.setdefault(observation.program, []).append(observation)
    groups = "".join(
        _program(name, programs[name], image_keys) for name in sorted(programs, key=_program_order)
    )
    return f'<p class="quiet count">{len(observations)} of {total} observations</p>{groups}'


def seeing_player(night: Night) -> str:
    """Return the AO-off exposures one after the other; empty if no picture is there."""
    frames = [
        (f"{night.night}/seeing/{frame.id}", frame)
        for frame in night.seeing
        if f"{night.night}/seeing/{frame.id}" in night.image_keys
    ]
    if not frames:
        return ""
    width = THUMBNAIL_WIDTHS_PX[-1]
    told = [
        (
            escape(image_url(key, width_px=width, version=night.version)),
            escape(f'{f.utc:%H:%M:%S}, {f.filter_name}, {f.fwhm_arcsec:.2f}"'),
        )
        for key, f in frames
    ]
    items = "".join(
        f'<li data-frame="{url}" data-caption="{caption}"></li>' for url, caption in told
    )
    return (
        '<details class="strip"><summary>Seeing animation '
        f"({len(told)} exposure{'s' if len(told) > 1 else ''})</summary>"
        '<section class="player" data-player aria-label="seeing animation">'
        f'<img loading="lazy" src="{told[0][0]}" alt="AO-off exposure">'
        '<div class="controls"><button type="button" aria-pressed="false">Play</button>'
        f'<input type="range" min="0" max="{len(told) - 1}" value="0" aria-label="exposure">'
        f"<output>{told[0][1]}</output></div><ul hidden>{items}</ul></section></details>"
    )


def night_pictures(night: Night) -> str:
    """Return the plots of the night and the AO-off exposures, folded; empty if there is none."""
    plots = [
        (f"{night.night}/{kind}", caption)
        for kind, caption in (
            ("seeing", "seeing"),
            ("seeing_movie", "AO-off exposures"),
            ("strehl", "Strehl ratio"),
            ("contrast_curve", "contrast curves"),
        )
    ]
    exposures = [
        (
            f"{night.night}/seeing/{frame.id}",
            f'{frame.utc:%H:%M:%S}, {frame.filter_name}, {frame.fwhm_arcsec:.2f}"',
        )
        for frame in night.seeing
    ]
    discarded = "".join(
        f'<p class="remark skipped"><b>{escape(remark.product)} gave no seeing:</b> '
        f"{escape(remark.reason)}</p>"
        for remark in night.seeing_discarded
    )
    return _strip("Plots of the night", plots, night) + _strip(
        "AO-off exposures", exposures, night, discarded
    )


def _select(name: str, options: dict[str, str], chosen: str) -> str:
    # What is there anyway stays out of the address.
    items = "".join(
        f'<option value="{escape(key) if number else ""}"{" selected" if key == chosen else ""}>'
        f"{escape(label)}</option>"
        for number, (key, label) in enumerate(options.items())
    )
    return f'<select name="{name}">{items}</select>'


def _program_order(program: str) -> tuple[int, list[int], str]:
    """Numbers in their order, then other names, then observations without a program."""
    parts = program.split(".")
    if all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        return 0, [int(part) for part in parts], program
    return 1 + (not program), [], program


def _program(name: str, observations: Sequence[Observation], image_keys: Collection[str]) -> str:
    states = [observation.state for observation in observations]
    counts = ", ".join(
        f"{states.count(state)} {state}"
        for state in ("done", "failed", "waiting")
        if state in states
    )
    title = f"Program {name}" if name else f"Observations {_NO_PROGRAM}"
    rows = "".join(_row(observation, image_keys) for observation in observations)
    return (
        f'<section class="program"><h2>{escape(title)}<span class="quiet">{counts}</span></h2>'
        f'<div class="rows">{rows}</div></section>'
    )


def _row(observation: Observation, image_keys: Collection[str]) -> str:
    o = observation
    pictures = _row_pictures(o, image_keys) or '<span class="no-picture">no preview yet</span>'
    metrics = (
        ("Strehl", strehl_text(o)),
        ("FWHM", number(o.fwhm_arcsec, ".3f", '"')),
        ("seeing", number(o.seeing_nearest_arcsec or o.seeing_median_arcsec, ".2f", '"')),
        ('at 1"', number(contrast_at_one_arcsec(o), ".1f", " mag")),
    )
    cells = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in metrics)
    facts = " · ".join(
        part
        for part in (
            f"{o.utc:%H:%M:%S}" if o.utc else "",
            o.filter_name,
            number(o.exposure_s, "g", " s") if o.exposure_s is not None else "",
            number(o.magnitude, ".1f", " mag") if o.magnitude is not None else "",
        )
        if part
    )
    link = escape(observation_url(o.id))
    return (
        f'<article class="card row {o.state}"><a class="thumbs" href="{link}">{pictures}</a><div>'
        f'<header><h3><a href="{link}" title="{escape(o.id)}">{escape(o.name or o.id)}</a></h3>'
        f'<span class="chips">{state_chips(o)}</span></header>'
        f'<p class="quiet facts-line">{escape(facts)}</p>'
        f"{remark_lines(o.failures, 'failure')}{remark_lines(o.skipped, 'skipped')}</div>"
        f'<dl class="metrics">{cells}</dl></article>'
    )


def _row_pictures(observation: Observation, image_keys: Collection[str]) -> str:
    """Return thumbnails: each kind from the leading pipeline that has one."""
    found = []
    resolved = observation.classification == "extended_object"
    for kind in _RESOLVED_PICTURES if resolved else _ROW_PICTURES:
        keys = [f"{observation.id}/{r.pipeline}/{kind}" for r in observation.results]
        there = next((key for key in keys if key in image_keys), None)
        if there is not None:
            url = image_url(there, width_px=THUMBNAIL_WIDTHS_PX[0], version=observation.version)
            title = PICTURE_TITLES[kind]
            found.append(
                f'<img loading="lazy" class="{kind}" src="{escape(url)}" title="{title}" '
                f'alt="{title}">'
            )
    return "".join(found)


def _strip(title: str, pictures: Iterable[tuple[str, str]], night: Night, remarks: str = "") -> str:
    figures = [
        thumbnail(key, caption, night.version)
        for key, caption in pictures
        if key in night.image_keys
    ]
    if not figures and not remarks:
        return ""
    return (
        f'<details class="strip"><summary>{title} ({len(figures)})</summary>'
        f'<div class="night-pictures">{"".join(figures)}</div>{remarks}</details>'
    )


def _tile(name: str, value: str, mark: str) -> str:
    return f'<div class="tile {mark}"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
