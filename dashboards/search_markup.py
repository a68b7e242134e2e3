"""HTML of the search page. Every text of a reader or the catalogue passes through `escape`."""

from collections.abc import Sequence
from html import escape

from dashboards.links import (
    THUMBNAIL_WIDTHS_PX,
    TRENDS_URL,
    image_url,
    night_url,
    observation_url,
)
from dashboards.markup import NOTHING, dashed, number
from dashboards.results import PIPELINES
from dashboards.script_links import script_links
from dashboards.search_collect import SearchResult, SearchRow
from dashboards.search_exports import MOST_ROWS
from dashboards.search_form import FILTERS, FLAGS, RANGES, SearchForm
from dashboards.sky_position import RADIUS_UNITS
from roboao_assets.storage.catalogue import CONTRAST_SEPARATIONS_ARCSEC, SEARCHED_PRODUCTS

LOADING = '<p class="loading" role="status">Searching…</p>'
_MOST_SHOWN = 300
_PRODUCT_WORDS = {"strehl": "Strehl ratio", "pca": "PCA and contrast"}
# Column -> its head, by what it is sorted, its class, its title.
_COLUMNS = (
    ("", "", "text", ""),
    ("name", "name", "text", ""),
    ("observed (UT)", "date_utc", "text", ""),
    ("program", "program", "text", ""),
    ("filter", "filter", "text", ""),
    ("exp. (s)", "exposure_s", "", "exposure"),
    ("mag", "magnitude", "", "magnitude"),
    ("RA", "ra_deg", "text", "right ascension (h)"),
    ("Dec", "dec_deg", "text", "declination (deg)"),
    ("az (°)", "azimuth_deg", "", "azimuth"),
    ("el (°)", "elevation_deg", "", "elevation"),
    ('seeing (")', "seeing_nearest", "", "nearest in time"),
    ("Strehl (%)", "strehl", "", ""),
    ("flag", "flag", "text", "of the Strehl ratio"),
    ("contrast (mag)", "contrast", "", ""),
    ("cand.", "", "", "companion candidates; not to be sorted by"),
)


def search_form(form: SearchForm) -> str:
    """Return the form, filled in."""
    groups = (_target_group(form), _place_group(form), _range_group(form), _measured_group(form))
    filled = "".join(groups) + _products_group(form)
    sort = f'<input type="hidden" name="sort" value="{escape(form.sort)}">' if form.sort else ""
    return (
        '<div class="page-title"><h1>Search</h1></div>'
        f'<form method="get" action="/search" role="search" data-sparse>{filled}{sort}'
        '<div class="buttons"><button type="submit">Search</button>'
        '<a href="/search">clear everything</a></div></form>'
    )


def wrong_form(sentences: Sequence[str]) -> str:
    """Return a notice of what cannot be searched for."""
    items = "".join(f"<li>{escape(s[:1].upper() + s[1:])}.</li>" for s in sentences)
    return (
        '<div class="notice problem" role="alert"><h2>This cannot be searched for</h2>'
        f"<ul>{items}</ul></div>"
    )


def results(form: SearchForm, result: SearchResult) -> str:
    """Return what was found: number, time, table, pages."""
    if not result.total:
        return _nothing_found(form)
    cut = f" (the first {MOST_ROWS})" if result.total > MOST_ROWS else ""
    exports = "".join(
        f'<a href="{escape(form.address("/search/table", page="") + _more(form) + kind)}" '
        f"download>{name}{cut}</a>"
        for kind, name in (("csv", "CSV"), ("votable", "VOTable"))
    )
    noun = "observation" if result.total == 1 else "observations"
    place = ""
    if result.cone_deg is not None and form.target:
        ra, dec, _ = result.cone_deg
        place = f'<span class="quiet">{escape(form.target)} is at {ra:.5f}° {dec:+.5f}°</span>'
    separation = (("separation", "separation", "", "from the place asked for"),)
    columns = (*_COLUMNS, *(separation if result.cone_deg is not None else ()))
    head = "".join(_head(form, *column) for column in columns)
    rows = "".join(_row(row, with_separation=result.cone_deg is not None) for row in result.rows)
    return (
        f'<div class="found"><b class="total">{result.total} {noun}</b>'
        f'<span class="quiet">found in {result.took_ms:.0f} ms</span>{place}'
        f'<span class="beside"><a href="{escape(form.address(TRENDS_URL, page="", sort=""))}">'
        f'trends</a><span class="quiet">all as</span>{exports}</span></div>'
        f'<div class="wide"><table class="results"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{_pages(form, result)}"
        + script_links(form.chosen(page="", sort=""))
    )


def _more(form: SearchForm) -> str:
    address = form.address("/search/table", page="")
    return "&format=" if "?" in address else "?format="


def _nothing_found(form: SearchForm) -> str:
    if form.is_empty():
        return (
            '<div class="notice"><h2>No observation yet</h2><p>The archive holds no observation '
            "that you may see. It appears here when its night is registered.</p></div>"
        )
    return (
        '<div class="notice"><h2>No observation fits</h2><p>Leave out a condition or widen a '
        "range; an observation in which a value is missing fits no range of it. Strehl ratio, "
        "flag, contrast and candidates are those of the pipeline chosen: faint stars are measured "
        'by the faint-star one.</p><p><a href="/search">Clear everything</a></p></div>'
    )


def _head(form: SearchForm, name: str, key: str, kind: str, title: str) -> str:
    mark = f' class="{kind}"' if kind else ""
    hint = f' title="{escape(title)}"' if title else ""
    if not key:
        return f"<th{mark}{hint}>{escape(name)}</th>"
    field, ascends = form.sorting()
    # A first click sorts as one mostly wants it, a second one the other way round.
    first = "-" if key in ("date_utc", "strehl", "contrast") else ""
    wanted, arrow, state = f"{first}{key}", "", ""
    if field == key:
        wanted = f"-{key}" if ascends else key
        arrow = " ▲" if ascends else " ▼"
        state = f' aria-sort="{"ascending" if ascends else "descending"}"'
    address = escape(form.address(sort=wanted, page=""))
    return f'<th{mark}{hint}{state}><a href="{address}">{escape(name)}{arrow}</a></th>'


def _row(row: SearchRow, *, with_separation: bool) -> str:
    link = escape(observation_url(row.id))
    picture = '<span class="no-thumbnail"></span>'
    if row.picture:
        source = escape(
            image_url(row.picture, width_px=THUMBNAIL_WIDTHS_PX[0], version=row.version)
        )
        picture = f'<img loading="lazy" src="{source}" alt="">'
    time = (
        f'<a href="{escape(night_url(row.night))}">{dashed(row.night)}</a> {row.utc:%H:%M:%S}'
        if row.utc
        else NOTHING
    )
    ra, dec = row.radec or (NOTHING, NOTHING)
    cells = [
        ("text", f'<a href="{link}" tabindex="-1">{picture}</a>'),
        (
            "text name",
            f'<a href="{link}" title="{escape(row.id)}">{escape(row.name or row.id)}</a>',
        ),
        ("text", time),
        ("text", escape(row.program or NOTHING)),
        ("text", escape(row.filter_name or NOTHING)),
        ("", number(row.exposure_s, "g")),
        ("", number(row.magnitude, ".2f")),
        ("text", escape(ra)),
        ("text", escape(dec)),
        ("", number(row.azimuth_deg, ".1f")),
        ("", number(row.elevation_deg, ".1f")),
        ("", number(row.seeing_nearest_arcsec, ".2f")),
        ("", number(row.strehl_percent, ".1f")),
        ("text", escape(row.strehl_flag or NOTHING)),
        ("", number(row.contrast_mag, ".2f")),
        ("", NOTHING if row.candidates is None else str(row.candidates)),
    ]
    if with_separation:
        cells.append(("", _angle(row.separation_arcsec)))
    columns = "".join(f'<td class="{kind}">{text}</td>' for kind, text in cells)
    return f"<tr>{columns}</tr>"


def _angle(arcsec: float | None) -> str:
    if arcsec is None or arcsec < 60:
        return number(arcsec, ".1f", '"')
    return f"{arcsec / 60:.1f}′" if arcsec < 3600 else f"{arcsec / 3600:.2f}°"


def _pages(form: SearchForm, result: SearchResult) -> str:
    if result.pages == 1:
        return ""
    wanted = (
        (1, "« first"),
        (result.page - 1, "‹ previous"),
        (result.page, f"page {result.page} of {result.pages}"),
        (result.page + 1, "next ›"),
        (result.pages, "last »"),
    )
    parts = [
        f"<span>{text}</span>"
        if page == result.page
        else f'<a href="{escape(form.address(page=str(page) if page > 1 else ""))}">{text}</a>'
        for page, text in wanted
        if 1 <= page <= result.pages and (page != result.page or text.startswith("page"))
    ]
    return f'<nav class="pages" aria-label="pages">{"".join(parts)}</nav>'


def _target_group(form: SearchForm) -> str:
    match = _select(form, "match", (("", "contains"), ("exact", "is exactly")))
    return _group(
        "What and when",
        f'<div class="fields">{_input(form, "text", "grow", "351_Yrsa")}{match}</div>'
        f'<div class="fields">{_input(form, "program", "short", "24")}'
        f"{_input(form, 'date_from', 'grow', 'YYYY-MM-DD')}"
        f"{_input(form, 'date_to', 'grow', 'YYYY-MM-DD')}</div>"
        f'<div class="fields">{_checks(form, "filter", [(name, name) for name in FILTERS])}</div>',
    )


def _place_group(form: SearchForm) -> str:
    units = _select(form, "unit", [("" if u == "arcsec" else u, u) for u in RADIUS_UNITS])
    return _group(
        "Place on the sky",
        f'<div class="fields">{_input(form, "ra", "grow", "18:46:00 or degrees")}'
        f"{_input(form, 'dec', 'grow', '-00:30:00 or degrees')}</div>"
        f'<div class="fields">{_input(form, "radius", "short", "30")}{units}'
        f"{_input(form, 'target', 'grow', 'looked up at Sesame', 'or round the object')}</div>",
    )


def _range_group(form: SearchForm) -> str:
    names = [name for name in RANGES if name not in ("strehl", "contrast")]
    ranges = "".join(_range(form, name) for name in names)
    return _group("Observed at", f'<div class="ranges">{ranges}</div>', "ranges-group")


def _measured_group(form: SearchForm) -> str:
    pipelines = [("" if p == "bright_star" else p, word) for p, word in PIPELINES.items()]
    at = [
        ("" if separation == 1.0 else f"{separation:g}", f"{separation:g} arcsec")
        for separation in CONTRAST_SEPARATIONS_ARCSEC
    ]
    return _group(
        "Measured",
        f'<div class="ranges">{_range(form, "strehl")}{_range(form, "contrast")}</div>'
        f'<div class="fields tight">{_select(form, "contrast_at", at, "contrast at")}'
        f"{_select(form, 'pipeline', pipelines)}"
        f"{_select(form, 'flag', [('', 'any'), *((flag, flag) for flag in FLAGS)])}"
        f"{_select(form, 'candidates', _YES_NO, 'candidates')}</div>",
    )


_YES_NO = (("", "any"), ("yes", "yes"), ("no", "no"))


def _products_group(form: SearchForm) -> str:
    made = []
    for product in SEARCHED_PRODUCTS:
        pipeline, _, part = product.partition(".")
        made.append((product, f"{PIPELINES[pipeline]} {_PRODUCT_WORDS.get(part, 'stack')}"))
    return _group(
        "Products that exist",
        f'<div class="fields">{_checks(form, "made", made)}</div>'
        f'<div class="fields">{_select(form, "distributed", _YES_NO)}</div>',
        "products-group",
    )


def _group(title: str, content: str, kind: str = "") -> str:
    return f'<fieldset class="{kind}"><legend>{escape(title)}</legend>{content}</fieldset>'


def _value(form: SearchForm, name: str) -> str:
    return escape(getattr(form, name)[:_MOST_SHOWN])


def _input(form: SearchForm, name: str, kind: str, example: str, label: str = "") -> str:
    parameter = SearchForm.param[name]
    return (
        f'<label class="field {kind}">{escape(label or parameter.label)}<input type="text" '
        f'name="{name}" value="{_value(form, name)}" placeholder="{escape(example)}" '
        f'title="{escape(parameter.doc)}" maxlength="{_MOST_SHOWN}" autocomplete="off" '
        'spellcheck="false"></label>'
    )


def _select(
    form: SearchForm, name: str, options: Sequence[tuple[str, str]], label: str = ""
) -> str:
    chosen = getattr(form, name)
    parameter = SearchForm.param[name]
    words = "".join(
        f'<option value="{escape(value)}"{" selected" if value == chosen else ""}>'
        f"{escape(word)}</option>"
        for value, word in options
    )
    return (
        f'<label class="field">{escape(label or parameter.label)}<select name="{name}" '
        f'title="{escape(parameter.doc)}">{words}</select></label>'
    )


def _checks(form: SearchForm, name: str, options: Sequence[tuple[str, str]]) -> str:
    chosen = set(getattr(form, name).replace(",", " ").split())
    boxes = "".join(
        f'<label><input type="checkbox" name="{name}" value="{escape(value)}"'
        f"{' checked' if value in chosen else ''}>{escape(word)}</label>"
        for value, word in options
    )
    title = escape(SearchForm.param[name].label)
    return (
        f'<div class="checks" role="group" aria-label="{title}"><span class="checks-title">{title}'
        f"</span>{boxes}</div>"
    )


def _range(form: SearchForm, name: str) -> str:
    word, unit = RANGES[name]
    ends = [
        f'<input type="text" inputmode="decimal" name="{name}_{end}" maxlength="30" '
        f'autocomplete="off" value="{_value(form, f"{name}_{end}")}" '
        f'aria-label="{escape(word)} {label} ({escape(unit)})">'
        for end, label in (("min", "from"), ("max", "to"))
    ]
    return f"<span>{escape(word)} ({escape(unit)})</span>{ends[0]}<i>–</i>{ends[1]}"
