"""Nights, a night and its plots, keys and the theme in a real browser."""

import json
from urllib.parse import quote, unquote

import pytest
from plausible import EARLIER_NIGHT, NIGHT, TARGETS, observation_id
from visiting import add_user, let_in

from benchmarks.page_loads import NIGHT as LARGE_NIGHT
from benchmarks.page_loads import fill_night
from dashboards.themes import DARK, LIGHT
from roboao_assets.storage.catalogue import open_catalogue

pytestmark = pytest.mark.browser

# In the page: where a point of a plot lies on the screen. Plots stand in shadow trees.
_PLACE_OF_POINT = """([title, column, number]) => {
  const views = [];
  const walk = (view) => { views.push(view); for (const child of view.children()) walk(child); };
  for (const view of Object.values(Bokeh.index.roots ?? Bokeh.index)) walk(view);
  const view = views.find((v) => v.model.type === "Figure" &&
    v.model.left.some((axis) => axis.axis_label?.startsWith?.(title)));
  if (!view?.frame) return null;
  const renderer = view.model.renderers.find((r) => {
    const data = r.data_source.data;
    return data.url && data[column];
  });
  const data = renderer.data_source.data;
  let x, y;
  if (column === "contrast") {
    const middle = Math.floor(data.separation[number].length / 2);
    x = data.separation[number][middle]; y = data.contrast[number][middle];
  } else { x = data.time[number]; y = data[column][number]; }
  const box = view.canvas_view.el.getBoundingClientRect();
  return [box.x + view.frame.x_scale.compute(x), box.y + view.frame.y_scale.compute(y),
          data.url[number]];
}"""


def _click_point(page, title, column, number=0):
    """Click on a point of a plot; return the address it leads to."""
    found = page.wait_for_function(_PLACE_OF_POINT, arg=[title, column, number]).json_value()
    page.mouse.wheel(0, found[1] - 400)
    page.wait_for_timeout(300)
    x, y, url = page.evaluate(_PLACE_OF_POINT, [title, column, number])
    page.mouse.move(x, y)
    page.wait_for_timeout(200)
    page.mouse.click(x, y)
    return url


def test_the_calendar_leads_to_a_night(page, server):
    page.goto(server)
    page.locator("h1", has_text="Nights of 2017").wait_for()
    assert page.locator(".month").count() == 12
    day = page.get_by_role("link", name="2017-06-07: 7 observations")
    assert day.get_attribute("title").endswith('6 done, 1 failed, 0 waiting; median seeing 1.29"')
    page.get_by_role("link", name="median seeing", exact=True).click()
    page.wait_for_url("**colour=seeing")
    day.click()
    page.wait_for_url(f"{server}/night?night={NIGHT}")
    page.go_back()
    page.locator(".keys-line", has_text='2.0" and more').wait_for()
    page.goto(f"{server}/?year=2013")
    page.locator(".notice", has_text="There is no night of 2013").wait_for()
    assert page.complaints == []


@pytest.mark.parametrize(
    ("title", "column"), [("Strehl", "value"), ("contrast at", "value"), ("5 σ", "contrast")]
)
def test_a_click_on_a_point_opens_the_observation(page, server, title, column):
    page.goto(f"{server}/night?night={NIGHT}")
    url = _click_point(page, title, column)
    page.wait_for_url(f"{server}{url}")
    page.locator("h1").wait_for()
    identifier = unquote(url.removeprefix("/observation?id="))
    assert identifier in {observation_id(target) for target in TARGETS}
    assert page.locator("p.id").inner_text() == identifier
    assert page.complaints == []


def test_hovering_tells_which_observation_it_is(page, server):
    page.goto(f"{server}/night?night={NIGHT}")
    arguments = ["Strehl", "value", 0]
    page.wait_for_function(_PLACE_OF_POINT, arg=arguments)
    x, y, url = page.evaluate(_PLACE_OF_POINT, arguments)
    page.mouse.move(x - 40, y - 40)
    page.mouse.move(x, y, steps=5)
    tip = page.locator(".bk-tooltip-content").locator("visible=true")
    tip.get_by_text("Strehl").wait_for()
    identifier = unquote(url.removeprefix("/observation?id="))
    target = next(t for t in TARGETS if observation_id(t) == identifier)
    assert target.name.replace("|", "/") in tip.inner_text()
    assert f"{target.strehl:.1f} ± 0.3 % OK" in tip.inner_text()
    assert page.complaints == []


def test_the_seeing_is_played_and_paused(page, server):
    page.goto(f"{server}/night?night={NIGHT}")
    page.locator("summary", has_text="Seeing animation (3 exposures)").click()
    stage = page.locator("[data-player]")
    picture, told, button = stage.locator("img"), stage.locator("output"), stage.locator("button")
    assert told.inner_text().startswith("04:00:27, lp600")
    page.wait_for_timeout(900)
    assert told.inner_text().startswith("04:00:27"), "it does not begin by itself"
    first = picture.get_attribute("src")
    button.click()
    told.get_by_text("04:09:27").wait_for()
    assert picture.get_attribute("src") != first
    assert button.inner_text() == "Pause"
    told.get_by_text("04:00:27").wait_for(), "and round again"
    button.click()
    still = told.inner_text()
    page.wait_for_timeout(1600)
    assert (told.inner_text(), button.inner_text()) == (still, "Play")
    stage.locator("input").fill("2")
    assert told.inner_text().startswith("04:18:27")
    assert picture.evaluate("async (i) => (await i.decode(), i.naturalWidth)") > 0
    assert page.complaints == []


@pytest.fixture(scope="module")
def large_server(start_server, tmp_path_factory):
    root = tmp_path_factory.mktemp("large")
    url = f"sqlite:///{root}/catalogue.sqlite"
    with open_catalogue(url) as catalogue:
        fill_night(catalogue, 250, 3, picture_px=64)
    add_user(url)
    return start_server(url, ROBOAO_ARCHIVE_ROOT=str(root))


def test_a_night_of_250_asks_for_the_thumbnails_in_view_only(page, large_server):
    let_in(page.context, large_server)
    page.goto(f"{large_server}/night?night={LARGE_NIGHT}")
    page.locator("article.card").first.wait_for()
    page.wait_for_load_state("networkidle")
    assert page.locator("article.card").count() == 250
    assert page.locator("section.program").count() == 40

    def asked():
        return {url for url in page.asked if "/image?" in url}

    before = asked()
    assert len(before) < 4 * 60, "of 1000 thumbnails those near the window"
    last = page.locator("article.card").last
    last.scroll_into_view_if_needed()
    picture = last.locator("img").first
    page.wait_for_function("(image) => image.naturalWidth > 0", arg=picture.element_handle())
    page.wait_for_load_state("networkidle")
    assert len(asked() - before) < 4 * 80
    page.get_by_label("find").press_sequentially("koi24", delay=10)
    page.locator("p.count", has_text="11 of 250 observations").wait_for()
    assert page.url.endswith(f"/night?night={LARGE_NIGHT}&q=koi24")
    assert page.complaints == []


def test_keys_go_through_observations_and_nights(page, server):
    ids = [observation_id(target) for target in TARGETS]

    def at(identifier):
        page.wait_for_url(f"{server}/observation?id={quote(identifier, safe='')}")
        page.locator("p.id", has_text=identifier).wait_for()

    page.goto(f"{server}/observation?id={quote(ids[4], safe='')}")
    at(ids[4])
    page.keyboard.press("ArrowRight")
    at(ids[5])
    page.keyboard.press("k")
    at(ids[4])
    field = page.get_by_label("find in the FITS header")
    field.press_sequentially("jk?tu/", delay=10)
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(300)
    assert field.input_value() == "jk?tu/"
    at(ids[4])
    page.locator("h1").click()
    page.keyboard.press("Control+ArrowRight")
    page.keyboard.press("u")
    page.wait_for_url(f"{server}/night?night={NIGHT}")
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(f"{server}/night?night={EARLIER_NIGHT}")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("j")
    page.wait_for_url(f"{server}/night?night={NIGHT}")
    page.keyboard.press("?")
    keys = page.locator("dialog#keys")
    keys.get_by_text("previous night or observation").wait_for()
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(300)
    assert page.url == f"{server}/night?night={NIGHT}", "while the keys are shown they do nothing"
    page.keyboard.press("Escape")
    keys.wait_for(state="hidden")
    page.keyboard.press("/")
    page.wait_for_url(f"{server}/search")
    assert page.complaints == []


def test_the_theme_is_kept_and_reaches_pages_widgets_and_plots(page, server):
    address = f"{server}/night?night={NIGHT}&show=done"
    colours = """() => [getComputedStyle(document.documentElement).backgroundColor,
        JSON.stringify(Object.values(Bokeh.index.roots ?? Bokeh.index).flatMap((root) => {
          const found = [];
          const walk = (view) => {
            if (view.model.type === "Figure") found.push(view.model.background_fill_color);
            for (const child of view.children()) walk(child);
          };
          walk(root);
          return found;
        }))]"""
    page.goto(address)
    for theme in (DARK, LIGHT):
        page.wait_for_function(f"() => JSON.parse(({colours})()[1]).length === 4")
        back, plots = page.evaluate(colours)
        expected = ", ".join(str(int(theme.back[i : i + 2], 16)) for i in (1, 3, 5))
        assert back == f"rgb({expected})"
        assert json.loads(plots) == [theme.panel] * 4
        if theme is DARK:
            with page.expect_navigation():
                page.keyboard.press("t")
            assert page.url == address
    page.goto(f"{server}/observation?id={quote(observation_id(TARGETS[0]), safe='')}")
    field = page.get_by_label("find in the FITS header")
    field.wait_for()
    raised = ", ".join(str(int(LIGHT.raised[i : i + 2], 16)) for i in (1, 3, 5))
    assert field.evaluate("(e) => getComputedStyle(e).backgroundColor") == f"rgb({raised})"
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("button", name="dark theme").click()
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
    assert page.complaints == []


def test_narrow_windows_have_room_for_all(page, server):
    for width in (1024, 700):
        page.set_viewport_size({"width": width, "height": 768})
        for address in ("/", f"/night?night={NIGHT}"):
            page.goto(server + address)
            page.locator("article.card, .calendar").first.wait_for()
            page.wait_for_load_state("networkidle")
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{address} is {wide} px wide in a window of {width} px"
    assert page.complaints == []
