"""HTML of the PSF library's page. Every value from files or catalogue passes through `escape`."""

import math
from collections.abc import Sequence
from html import escape
from urllib.parse import urlencode

from dashboards.library_collect import LibraryView
from dashboards.links import THUMBNAIL_WIDTHS_PX, image_url, observation_url
from dashboards.markup import NOTHING
from roboao_assets.storage.psf_candidates import PsfCandidate, night_of_id
from roboao_assets.storage.psf_library import LibraryChange, PsfEntry

STYLE = """
.psf-cards { display: grid; gap: 14px;
  grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); }
.psf-cards.small { grid-template-columns: repeat(auto-fill, minmax(190px, 1fr)); }
.psf-cards .card img, .psf-choice img { border-radius: 4px; display: block; height: auto;
  width: 100%; }
.psf-cards .card.chosen { border-color: var(--accent); }
.psf-cards .card img + * { margin-top: 8px; }
.psf-cards .facts-line { overflow-wrap: anywhere; }
.psf-cards .choose { display: inline-block; margin-top: 10px; }
.psf-choice { background: var(--panel); border: 1px solid var(--accent); border-radius: 8px;
  display: grid; gap: 18px; grid-template-columns: minmax(0, 884px) minmax(240px, 1fr);
  padding: 16px; }
.psf-choice dl { align-content: start; display: grid; gap: 10px; }
@media (max-width: 900px) { .psf-choice { grid-template-columns: minmax(0, 1fr); } }
.warned { color: var(--warn); }
.history td, .history th { border-bottom: 1px solid var(--line); overflow-wrap: anywhere;
  padding: 6px 14px 6px 0; text-align: left; vertical-align: top; }
.history th { color: var(--muted); font-size: 13px; font-weight: 500; }
.answer { margin: 8px 0; }
"""


def library_url(night: str = "", star: str = "") -> str:
    """Address of the page, with a night's candidates and a star chosen."""
    query = {key: value for key, value in (("night", night), ("star", star)) if value}
    return f"/psf-library?{urlencode(query)}" if query else "/psf-library"


def library_head(view: LibraryView) -> str:
    """Return the title of the page."""
    count = len(view.stars)
    return (
        f'<div class="page-title"><h1>PSF library</h1><span class="quiet">'
        f"{count} star{'' if count == 1 else 's'}</span></div>"
    )


def library_stars(view: LibraryView, night: str, chosen: str) -> str:
    """Return the stars of the library as cards with their frames."""
    if not view.stars:
        return (
            '<div class="notice"><p>The library has no star yet: choose a candidate of a night, '
            "look at its preview and add it.</p></div>"
        )
    cards = "".join(_star_card(view, star, night, chosen) for star in view.stars)
    return f'<div class="psf-cards small stars">{cards}</div>'


def candidate_cards(candidates: Sequence[PsfCandidate], night: str, chosen: str) -> str:
    """Return a night's candidates as cards, and below them what is none."""
    if not candidates:
        return (
            '<div class="notice"><p>This night has no candidates: none of its observations was '
            "reduced yet.</p></div>"
        )
    cards = "".join(_candidate_card(c, chosen) for c in candidates if c.is_candidate)
    others = "".join(
        f'<p class="remark skipped"><b>{escape(c.observation)}</b> {escape(c.status)}</p>'
        for c in candidates
        if not c.is_candidate
    )
    summary = "<summary>Observations that are no candidates</summary>"
    folded = f'<details class="strip">{summary}{others}</details>' if others else ""
    return f'<div class="psf-cards candidates">{cards}</div>{folded}'


def choice(view: LibraryView, candidate: PsfCandidate | None, observation: str) -> str:
    """Return the star that is chosen, large, with its quality."""
    star = view.star(observation)
    shown = candidate or star
    if shown is None:
        return (
            f'<div class="notice problem"><p>Neither the library nor this night has the star '
            f"{escape(observation)}.</p></div>"
        )
    if candidate is not None and candidate.is_candidate:
        url = escape(image_url(candidate.preview_key, version=candidate.version))
        picture = f'<img src="{url}" alt="star and prepared frame">'
    else:
        picture = "" if star is None else _frame_image(view.pictures[observation])
    name = shown.object_name if isinstance(shown, PsfCandidate) else shown.obj_name
    facts = (
        ("observation", observation),
        ("filter", shown.filter_name),
        ("telescope", shown.telescope),
        ("Strehl ratio", _figure(shown.strehl_percent, ".1f", " %")),
        ("FWHM", _figure(shown.fwhm_arcsec, ".3f", '"')),
        ("elongation", _figure(shown.elongation, ".2f")),
        ("companion", shown.companion or "none seen"),
        ("in the library", _held(candidate, star)),
    )
    rows = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts)
    link = escape(observation_url(observation))
    return (
        f'<section class="psf-choice"><div>{picture}</div><div>'
        f'<h2><a href="{link}">{escape(name)}</a></h2><dl>{rows}</dl></div></section>'
    )


def history_table(history: Sequence[LibraryChange]) -> str:
    """Return every change, newest first."""
    if not history:
        return '<p class="quiet">No change is on record.</p>'
    rows = "".join(
        f"<tr><td>{change.date_utc:%Y-%m-%d %H:%M:%S}</td><td>{escape(change.action)}</td>"
        f"<td>{escape(change.obs_name)}</td><td>{escape(change.by)}</td>"
        f"<td>{escape(change.comment)}</td></tr>"
        for change in history
    )
    return (
        '<table class="history"><thead><tr><th>UTC</th><th></th><th>observation</th><th>by</th>'
        f"<th>comment</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def answer(sentence: str, *, bad: bool = False) -> str:
    """Return what became of a change."""
    return f'<p class="answer {"bad" if bad else ""}">{escape(sentence)}</p>' if sentence else ""


def _held(candidate: PsfCandidate | None, star: PsfEntry | None) -> str:
    if star is None:
        return "no"
    if candidate is None or candidate.sha256 == star.sha256:
        return "yes"
    return "yes, but its frame was made anew since: remove and add it to renew it"


def _star_card(view: LibraryView, star: PsfEntry, night: str, chosen: str) -> str:
    facts = f"{star.filter_name} · {star.telescope} · {_figure(star.strehl_percent, '.1f', ' %')}"
    warned = f'<p class="warned">{escape(star.companion)}</p>' if star.companion else ""
    # Its own night has its preview.
    own = night_of_id(star.obs_name) or night
    return (
        f'<article class="card{" chosen" if star.obs_name == chosen else ""}">'
        f"{_frame_image(view.pictures[star.obs_name])}"
        f'<h3 title="{escape(star.obs_name)}">{escape(star.obj_name)}</h3>'
        f'<p class="quiet facts-line">{escape(facts)}</p>{warned}'
        f'<a class="choose" href="{escape(library_url(own, star.obs_name))}">choose</a></article>'
    )


def _candidate_card(candidate: PsfCandidate, chosen: str) -> str:
    c = candidate
    facts = " · ".join(
        (
            c.filter_name,
            f"Strehl {_figure(c.strehl_percent, '.1f', ' %')}",
            f"FWHM {_figure(c.fwhm_arcsec, '.3f', chr(34))}",
            f"elongation {_figure(c.elongation, '.2f')}",
        )
    )
    chips = ""
    if c.in_library:
        word, kind = ("in library", "ok") if c.same_frame else ("made anew since", "flag")
        chips = f'<span class="chips"><span class="chip {kind}">{word}</span></span>'
    small, large = (
        escape(image_url(c.preview_key, width_px=width, version=c.version))
        for width in THUMBNAIL_WIDTHS_PX
    )
    words = (
        f'<p class="warned">{escape(c.companion)}</p>'
        if c.companion
        else '<p class="quiet">no companion seen</p>'
    )
    return (
        f'<article class="card{" chosen" if c.observation == chosen else ""}"><header>'
        f'<h3 title="{escape(c.observation)}">{escape(c.object_name or c.observation)}</h3>{chips}'
        f'</header><p class="quiet facts-line">{escape(facts)}</p>'
        f'<img loading="lazy" src="{small}" srcset="{small} 1x, {large} 2x" alt="preview">{words}'
        f'<a class="choose" href="{escape(library_url(c.night, c.observation))}">choose</a>'
        "</article>"
    )


def _frame_image(picture: str) -> str:
    return f'<img src="{picture}" alt="prepared frame">'


def _figure(value: float, form: str, unit: str = "") -> str:
    return f"{value:{form}}{unit}" if math.isfinite(value) else NOTHING
