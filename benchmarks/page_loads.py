"""How fast the dashboard's pages of nights are: a thousand nights, and a night of 250.

A real server, asked over HTTP, and a real browser on this machine: the time from the navigation to
the frame in which the rows of the observations are there.
"""

import io
import re
import secrets
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.catalogue import START, documents
from benchmarks.dashboard_server import dashboard
from benchmarks.rows import Goal, Options, Row
from benchmarks.scale_pages import browser
from roboao_assets.storage.catalogue import Catalogue, open_catalogue
from roboao_assets.storage.passwords import hash_password

NIGHTS, PER_NIGHT, QUICK_NIGHTS = 1_000, 30, 20
OBSERVATIONS, EXPOSURES = 250, 30
NIGHT = f"{START:%Y%m%d}"
ROWS_GOAL = Goal(limit=1000)
_NAME, _LOADS = "benchmark", 7
_PICTURES = ("full", "cropped", "pca", "snr_map", "contrast_curve")
_SEPARATION_ARCSEC = np.linspace(0.1, 1.7, 60)
# Tells when the first frame after the rows' coming was made.
_WATCH = """new MutationObserver((_, watch) => {
  if (!document.querySelector('article.card')) return;
  watch.disconnect();
  requestAnimationFrame(() => setTimeout(() => { window.rowsShown = performance.now(); }));
}).observe(document, {childList: true, subtree: true});"""


def fill_night(
    catalogue: Catalogue, observations: int, exposures: int, picture_px: int = 512
) -> None:
    """Fill a catalogue with a night: measured observations with pictures, AO-off exposures."""
    rng = np.random.default_rng(3)
    pictures = [_picture(rng, picture_px) for _ in range(4)]
    for number, document in enumerate(documents(observations, observations)):
        product = document["pipelined"]["bright_star"]
        depth = 2 + rng.normal(0, 0.2) + 4 * (1 - np.exp(-_SEPARATION_ARCSEC / 0.45))
        product["pca"]["contrast_curve"] = [_SEPARATION_ARCSEC.tolist(), depth.tolist()]
        product["preview"] = {"done": True}
        catalogue.register_observation(document)
        for turn, kind in enumerate(_PICTURES):
            key = f"{document['_id']}/bright_star/{kind}"
            png = pictures[(number + turn) % len(pictures)]
            catalogue.put_image(key, png, night=NIGHT, observation=document["_id"])
    frames = []
    for number in range(exposures):
        utc = START + timedelta(hours=2, minutes=20 * number)
        name = f"seeing_VIC_Si_o_{utc:%Y%m%d_%H%M%S}.000000"
        frames.append([name, utc, "Si", float(rng.normal(1.3, 0.1)), 1.3, 1.2, 10.0])
        png = pictures[number % len(pictures)]
        catalogue.put_image(f"{NIGHT}/seeing/{name}", png, night=NIGHT)
    catalogue.publish_night(NIGHT, "seeing", {"frames": frames, "median": 1.3})


def measure(options: Options) -> Iterator[Row]:
    """Yield the rows of this part."""
    nights = QUICK_NIGHTS if options.quick else NIGHTS
    many = options.scratch / "nights"
    with _filled(many) as catalogue:
        for document in documents(nights * PER_NIGHT, PER_NIGHT):
            catalogue.register_observation(document)
    with served(many) as (address, cookies):
        seconds = [_ask(address, "/", cookies)[0] for _ in range(1 + _LOADS)][1:]
        size = len(_ask(address, "/", cookies)[1])
    yield Row(
        name="page of nights, from the request to its last byte",
        values=tuple(1000 * s for s in seconds),
        unit="ms",
        note=f"{nights} nights of {PER_NIGHT}; {size / 1000:.0f} kB",
    )
    one = options.scratch / "night"
    with _filled(one) as catalogue:
        fill_night(catalogue, OBSERVATIONS, EXPOSURES)
    with served(one) as (address, cookies), browser() as opened:
        page = f"/night?night={NIGHT}"
        size = len(_ask(address, page, cookies)[1])
        shown = load_times_ms(opened, address, page, cookies)
    yield Row(
        name=f"page of a night of {OBSERVATIONS}, from the navigation to its rows",
        values=tuple(shown),
        unit="ms",
        key="night_page_ms",
        goal=ROWS_GOAL,
        note=f"in Chromium, after one warm-up; {size / 1000:.0f} kB",
    )


def load_times_ms(opened: Any, address: str, page: str, cookies: dict[str, str]) -> list[float]:
    """Return how long a browser waits for the rows of a page, several times."""
    context = opened.new_context(viewport={"width": 1280, "height": 900})
    context.add_cookies(
        [{"name": name, "value": value, "url": address} for name, value in cookies.items()]
    )
    context.add_init_script(_WATCH)
    tab, shown = context.new_page(), []
    for _ in range(1 + _LOADS):
        tab.goto(address + page)
        tab.wait_for_function("() => window.rowsShown")
        shown.append(float(tab.evaluate("window.rowsShown")))
        # Plots and thumbnails of this load are not to be those of the next.
        tab.wait_for_load_state("networkidle")
        tab.goto("about:blank")
    context.close()
    return shown[1:]


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the address of a dashboard on a folder's catalogue, and the cookies of an admin."""
    password = secrets.token_urlsafe(16)
    with open_catalogue(_url(folder)) as catalogue:
        catalogue.users.add(_NAME, hash_password(password, login=_NAME), "all")
    with dashboard(_url(folder), folder) as (_, address):
        yield address, _log_in(address, password)


def _log_in(address: str, password: str) -> dict[str, str]:
    jar = CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    with opener.open(f"{address}/login", timeout=60) as answer:
        form = answer.read().decode()
    found = re.search(r'name="_xsrf" value="([^"]+)"', form)
    assert found is not None
    fields = {"_xsrf": found[1], "name": _NAME, "password": password, "next": "/search"}
    opener.open(f"{address}/login", urllib.parse.urlencode(fields).encode(), timeout=60).close()
    return {cookie.name: cookie.value or "" for cookie in jar}


def _ask(address: str, path: str, cookies: dict[str, str]) -> tuple[float, bytes]:
    header = "; ".join(f"{name}={value}" for name, value in cookies.items())
    request = urllib.request.Request(address + path, headers={"Cookie": header})
    start = time.perf_counter()
    with urllib.request.urlopen(request, timeout=60) as answer:
        body = answer.read()
    return time.perf_counter() - start, body


@contextmanager
def _filled(folder: Path) -> Iterator[Catalogue]:
    folder.mkdir(parents=True)
    with open_catalogue(_url(folder)) as catalogue:
        yield catalogue


def _url(folder: Path) -> str:
    return f"sqlite:///{folder}/catalogue.sqlite"


def _picture(rng: np.random.Generator, side: int) -> bytes:
    """Return a noisy star as PNG, as large as a preview is."""
    y, x = np.indices((side, side)) - side / 2
    shades = 10 + rng.normal(0, 6, (side, side)) + 1500 * np.exp(-np.hypot(x, y) / 20)
    file = io.BytesIO()
    Image.fromarray(np.clip(shades, 0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()
