"""HTML, plots and pictures, each without a browser."""

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from bokeh.models import TapTool
from PIL import Image
from plausible import NIGHT, SCRIPT_NAME, TARGETS, observation_id
from visiting import logged_in

from dashboards import links, markup, night_markup, night_plots, nights_markup, plot
from dashboards.collect import collect_night, collect_observation, read_observation
from dashboards.compute import summarise_night
from dashboards.images import PictureStore, make_thumbnail
from dashboards.night_page import draw_night
from dashboards.source import CatalogueSource
from dashboards.themes import DARK, THEMES
from roboao_assets.pipelines.picture_style import FILTER_STYLES, OTHER_FILTER_STYLE
from roboao_assets.science.errors import CatalogueError, CatalogueUnavailableError

VOID = {"img", "br", "meta", "link", "input"}


class TagChecker(HTMLParser):
    """Remembers tags and fails on one that is closed in the wrong place."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.sources = [], set(), []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check(html):
    checker = TagChecker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    assert "script" not in checker.seen
    return checker


@pytest.fixture(scope="module")
def night(catalogue):
    return collect_night(catalogue, NIGHT, None)


def test_night_markup_is_well_formed_and_escaped(night):
    rows = night_markup.observation_rows(night.observations, night.image_keys, night=NIGHT, total=7)
    head = night_markup.night_head(night, summarise_night(night))
    check(head + rows + night_markup.night_pictures(night) + night_markup.seeing_player(night))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in rows
    assert "<script" not in rows
    assert rows.count('loading="lazy"') == rows.count("<img") == 22
    faint = observation_id(TARGETS[3])
    assert f"{faint}/faint_star/cropped" in unquote(rows)
    assert f"{faint}/bright_star/cropped" not in unquote(rows)


def test_observation_markup_is_well_formed_and_escaped(catalogue):
    for target in TARGETS:
        observation, keys = collect_observation(catalogue, observation_id(target), None)
        cards = [(key, *value) for key, value in observation.header.items()]
        html = (
            markup.observation_head(observation)
            + "".join(
                markup.pipeline_head(result)
                + markup.observation_pictures(observation, keys, result.pipeline)
                + markup.candidates_table(result)
                + markup.references_table(result)
                for result in observation.results
            )
            + markup.observation_pictures(observation, keys)
            + markup.header_table(cards, len(cards))
        )
        assert "b" not in check(html).seen or "<b>robot" not in html


def test_every_picture_is_shown_once(catalogue):
    observation, keys = collect_observation(catalogue, observation_id(TARGETS[3]), None)
    pipelines = [*(r.pipeline for r in observation.results), None]
    shown = "".join(markup.observation_pictures(observation, keys, p) for p in pipelines)
    assert shown.count("<img") == len(keys) == 10
    strange = f"{observation.id}/extended_object/full"
    assert "extended-object" in markup.observation_pictures(observation, [*keys, strange])


def test_candidates_table_tells_what_was_looked_for():
    def table(**pca):
        document = {"_id": "x", "pipelined": {"bright_star": {"pca": pca}}}
        return markup.candidates_table(read_observation(document).results[0])

    assert table(components=3) == ""
    none = table(candidates=[], snr_threshold=5.0, false_alarms_expected=0.0123)
    assert "No companion candidate above a signal-to-noise ratio of 5." in none
    assert "Noise alone gives 0.012 in a map like this." in none
    assert "No companion candidate." in table(candidates=[])
    some = table(candidates=[{"separation_arcsec": 0.5, "pa_deg": "<b>"}])
    assert check(some).seen >= {"table", "td"}
    assert "0.500" in some
    assert "&lt;b&gt;" not in some, "what is no number is absent"


@pytest.mark.parametrize("text", ['"><img src=x onerror=alert(1)>', "<script>", "'&amp;"])
def test_messages_are_escaped(text):
    for html in (markup.problem(text, text), nights_markup.empty_archive(text)):
        assert "img" not in check(html).seen


def test_links_survive_any_id():
    for identifier in (SCRIPT_NAME, "a b&c=d#e?f/g+h%20", "é星", '"'):
        for url, name in (
            (links.observation_url(identifier), "id"),
            (links.image_url(identifier, width_px=360, version="1"), "key"),
        ):
            assert parse_qs(urlsplit(url).query)[name] == [identifier]
            assert not set(url) & set("<>\"' #")


def test_palette_is_the_previews_own():
    assert {name: style[0] for name, style in DARK.filters.items()} == {
        name: style[0] for name, style in FILTER_STYLES.items()
    }
    assert DARK.other_filter[0] == OTHER_FILTER_STYLE[0]


def test_plots_share_their_time_axis_and_invert_contrast(night):
    span = night_plots.make_time_range(night)
    seeing = night_plots.plot_seeing(night, span)
    strehl = night_plots.plot_strehl(night.observations, span)
    deep = night_plots.plot_contrast_over_time(night.observations, span)
    assert seeing.x_range is strehl.x_range is deep.x_range
    assert deep.y_range.flipped
    points = sum(
        len(r.data_source.data["time"]) for r in seeing.renderers if "value" in r.data_source.data
    )
    assert points == len(night.seeing)
    result = night.observations[0].results[0]
    contrast = plot.plot_contrast(result.curve, night.contrast_medians["lp600"], result.candidates)
    assert contrast.y_range.flipped
    named = [item.label.value for item in contrast.legend[0].items]
    assert named == ["night's quartiles", "night's median of 3", "this observation", "candidates"]
    points = contrast.renderers[-1].data_source.data
    assert points["contrast"] == [c.contrast_mag for c in result.candidates]
    assert len(plot.plot_contrast(result.curve).renderers) == 1


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_points_lead_to_their_observations_in_the_colours_of_the_theme(night, theme):
    """Addresses are encoded when they are made: an id may hold any character."""
    drawn = {title: made for title, made, _ in draw_night(night, theme)}
    assert drawn.keys() == {"Seeing", "Strehl ratio", "Contrast over time", "Contrast curves"}
    colours = {colour for colour, _ in theme.filters.values()}
    ids = {o.id: o for o in night.observations}
    for title, made in drawn.items():
        assert len(made.select({"type": TapTool})) == 1, "bokeh makes one tool active"
        (tap,) = made.select({"type": TapTool})
        for renderer in tap.renderers:
            assert renderer.glyph.line_color in colours
            for url in renderer.data_source.data["url"]:
                split = urlsplit(url)
                if title == "Seeing":
                    assert split.path == "/image" or url == "#"
                    continue
                assert (split.scheme, split.netloc, split.path) == ("", "", "/observation")
                assert not set(url) & set("<>\"' ")
                assert parse_qs(split.query)["id"][0] in ids
    measured = {o.id for o in night.observations if o.curve is not None}
    curves = {
        parse_qs(urlsplit(url).query)["id"][0]
        for renderer in drawn["Contrast curves"].select({"type": TapTool})[0].renderers
        for url in renderer.data_source.data["url"]
    }
    assert curves == measured


def test_contrast_curves_of_a_reader_have_medians_of_what_they_see(night):
    """The night's summary is made of all programs, and not theirs."""
    seen = replace(night, contrast_medians={}, observations=night.observations[:4])
    made = night_plots.plot_contrast_curves(seen)
    labels = [item.label.value for item in made.legend[0].items]
    assert labels == ["Si (1)", "Sr (1)", "lp600 (2)", "lp600 median"]
    one = replace(seen, observations=night.observations[:1])
    assert len(night_plots.plot_contrast_curves(one).legend[0].items) == 1


def test_a_night_of_which_nothing_is_there_says_what_it_waits_for(night):
    empty = replace(night, observations=(), seeing=(), contrast_medians={})
    drawn = draw_night(empty, DARK)
    assert [made for _, made, _ in drawn] == [None] * 4
    assert all(missing.startswith("No ") and len(missing) > 40 for _, _, missing in drawn)


def test_nothing_measured_is_no_plot():
    assert night_plots.plot_strehl([]) is None
    assert night_plots.plot_contrast_over_time([]) is None


@pytest.fixture(scope="module")
def picture_key():
    return f"{observation_id(TARGETS[0])}/bright_star/full"


@pytest.fixture(scope="module")
def fetch(server):
    client = logged_in(server)
    return lambda url: client.ask(url.removeprefix(server))


def test_picture_is_served_as_it_is_in_the_catalogue(server, fetch, catalogue, picture_key):
    status, headers, body = fetch(server + links.image_url(picture_key))
    assert (status, headers["Content-Type"]) == (200, "image/png")
    assert body == catalogue.image(picture_key)
    assert headers["Cache-Control"] == "no-cache"
    assert headers["Etag"]


def test_thumbnail_is_small_and_kept_by_the_browser(server, fetch, picture_key):
    url = server + links.image_url(picture_key, width_px=360, version="7")
    status, headers, body = fetch(url)
    assert (status, headers["Content-Type"]) == (200, "image/webp")
    assert Image.open(io.BytesIO(body)).width == 360
    assert len(body) < 40_000
    assert "immutable" in headers["Cache-Control"]
    assert fetch(url)[2] == body


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("key=nothing", 404, b"no picture nothing"),
        ("key=../../etc/passwd", 404, b"no picture"),
        ("", 400, b"Say which picture"),
        ("key=" + "x" * 600, 400, b"Say which picture"),
        ("key=nothing&width=361", 400, b""),
        ("key=nothing&width=-1", 400, b""),
    ],
)
def test_pictures_that_are_not_there_are_answered_with_a_sentence(
    server, fetch, query, status, words
):
    found, headers, body = fetch(f"{server}/image?{query}")
    assert found == status
    assert words in body
    assert "immutable" not in headers.get("Cache-Control", "")


def test_server_listens_to_this_machine_alone(server):
    port = urlsplit(server).port
    with open("/proc/net/tcp") as table:
        listening = re.findall(rf"([0-9A-F]{{8}}):{port:04X} 00000000:0000 0A", table.read())
    assert listening == ["0100007F"]


def test_store_keeps_thumbnails_of_a_version_only(catalogue_url, picture_key):
    source = CatalogueSource(catalogue_url)
    store = PictureStore(source)
    first, _ = store.picture(picture_key, 360, "1")
    assert store.picture(picture_key, 360, "1")[0] is first
    assert store.picture(picture_key, 360, "")[0] is not first
    assert store.picture("nothing", 360, "1") is None
    source.close()


def test_bytes_that_are_no_picture_are_told():
    with pytest.raises(CatalogueError, match="4 bytes that are no picture"):
        make_thumbnail(b"\x89PNG", 360)


def test_catalogue_that_comes_later_is_found(tmp_path, catalogue_url):
    path = tmp_path / "catalogue.sqlite"
    source = CatalogueSource(f"sqlite:///{path}")
    assert not source.was_made()
    with pytest.raises(CatalogueUnavailableError, match="no catalogue at"):
        source.get()
    path.symlink_to(catalogue_url.removeprefix("sqlite:///"))
    assert source.was_made()
    assert len(source.get().nights()) == 2
    source.close()
    assert CatalogueSource("mongodb://nowhere").was_made()
