"""What searches of the web pages cost in a catalogue of 30,000 observations.

The rows have the median and longest of several calls of each search, and the median of this
process's CPU time, which other work on the machine does not stretch. The goal for the SQLite home
is 100 ms a search. A catalogue elsewhere is measured by

    python -m benchmarks.catalogue --url mongodb://... [--observations 30000] [--calls 7]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from benchmarks.report import PartResult, table
from benchmarks.rows import Goal, Options, Row
from roboao_assets.storage.catalogue import (
    CONTRAST_SEPARATIONS_ARCSEC,
    Catalogue,
    Cone,
    ObservationQuery,
    Reader,
    contrast_key,
    new_observation,
    open_catalogue,
)
from roboao_assets.storage.raw_names import parse_exposure_name

START = datetime(2015, 11, 1, tzinfo=UTC)
PER_NIGHT = 120
HEADER_CARDS = 120
OBSERVATIONS, QUICK_OBSERVATIONS = 30_000, 1_000
CALLS = 7
SEARCH_GOAL = Goal(limit=100)


def documents(count: int, per_night: int = PER_NIGHT) -> Iterator[dict[str, Any]]:
    """Yield documents of the size and variety of a real archive's."""
    rng = np.random.default_rng(1)
    cards = [(f"KEY{n}", float(n), "a comment of the usual length") for n in range(HEADER_CARDS)]
    for number in range(count):
        night, turn = divmod(number, per_night)
        utc = START + timedelta(days=night, hours=2, seconds=240 * turn)
        filter_name = ("Si", "Sz", "lp600")[number % 3]
        identifier = f"{number % 40}_KOI{number}_VIC_{filter_name}_o_{utc:%Y%m%d_%H%M%S}.000000"
        document = new_observation(
            parse_exposure_name(identifier),
            telescope="KPNO_2.1m",
            exposure_s=90.0,
            magnitude=float(rng.uniform(8, 16)),
            ra_deg=float(rng.uniform(0, 360)),
            dec_deg=float(np.degrees(np.arcsin(rng.uniform(-0.5, 1)))),
            azimuth_deg=float(rng.uniform(0, 360)),
            elevation_deg=float(rng.uniform(30, 90)),
            header_cards=cards,
        )
        nearest = [utc, float(rng.uniform(0.8, 2.0))]
        document["seeing"] |= {"median": 1.3, "mean": 1.4, "nearest": nearest}
        document["distributed"]["status"] = number % 3 != 0
        curve = rng.uniform(0, 8, (2, 40)).tolist()
        document["pipelined"]["bright_star"] = {
            "status": {"done": number % 10 != 0, "retries": number % 10 == 0},
            "classified_as": "high_flux",
            "strehl": {"ratio_percent": float(rng.gamma(4, 2)), "flag": "OK"},
            "pca": {
                "status": {"done": number % 10 != 0},
                "contrast_curve": curve,
                "candidates": [{"snr": 6.0}] if number % 25 == 0 else [],
                **{contrast_key(s): float(rng.uniform(1, 7)) for s in CONTRAST_SEPARATIONS_ARCSEC},
            },
        }
        yield document


def searches(count: int) -> dict[str, Callable[[Catalogue], Any]]:
    """Return the searches by what they are for."""
    one_percent = f"KOI{count // 2}"[:-2]
    cone = Cone(120.0, 20.0, 1.0)
    night = f"{START + timedelta(days=count // PER_NIGHT // 2):%Y%m%d}"

    def find(**conditions: Any) -> Callable[[Catalogue], Any]:
        query = ObservationQuery(**{"limit": 50, "summary_only": True, **conditions})
        return lambda catalogue: catalogue.find_observations(query)

    def page(**conditions: Any) -> Callable[[Catalogue], Any]:
        """As the search page does: the first 50, and how many there are."""
        newest = {"limit": 50, "summary_only": True, "sort": ("date_utc", False)}
        query = ObservationQuery(**{**newest, **conditions})
        return lambda catalogue: catalogue.find_page(query)[1]

    def count_of(**conditions: Any) -> Callable[[Catalogue], Any]:
        query = ObservationQuery(**conditions)
        return lambda catalogue: catalogue.count_observations(query)

    return {
        "nights()": lambda catalogue: catalogue.nights(),
        "one night": find(nights=(night,), limit=0),
        "name contains": find(name_contains=one_percent),
        "name contains, nothing found": find(name_contains="nowhere"),
        "cone of 1 degree": find(cone=cone, sort=("separation", True)),
        "cone of 60 degrees": find(cone=Cone(120.0, 20.0, 60.0)),
        "Strehl range, sorted by it": find(strehl=(15.0, None), sort=("strehl", False)),
        "Strehl range, sorted by time": find(strehl=(5.0, 8.0)),
        "magnitude range, sorted by it": find(magnitude=(9.0, 10.0), sort=("magnitude", True)),
        "all of these": find(
            name_contains="1", strehl=(5.0, 20.0), cone=Cone(120.0, 20.0, 30.0), filters=("Si",)
        ),
        "one program, page 10": find(programs=("7",), skip=450),
        "redo asked": find(force_redo=True),
        **_pages(page, one_percent),
        "count, name contains": count_of(name_contains=one_percent),
        "count, magnitude range": count_of(magnitude=(9.0, 10.0)),
        "count, cone of 1 degree": count_of(cone=cone),
    }


def _pages(page: Callable[..., Any], one_percent: str) -> dict[str, Callable[[Catalogue], Any]]:
    """Return what the search page asks: a page of 50 and the number of all, in one."""
    wide = Cone(120.0, 20.0, 60.0)
    half_year = (START + timedelta(days=60), START + timedelta(days=180))
    broad = {
        "strehl": (2.0, 30.0),
        "magnitude": (8.0, 16.0),
        "exposure_s": (30.0, 120.0),
        "seeing_nearest": (0.8, 1.9),
        "elevation_deg": (30.0, 89.0),
    }
    user = Reader(programs=("7", "24"), login="law")
    return {
        "page: everything": page(),
        "page: the last of everything": page(skip=OBSERVATIONS - 50),
        "page: everything, by Strehl, missing last": page(sort=("strehl", True)),
        "page: everything, by name": page(sort=("name", True)),
        "page: name or id contains": page(text=one_percent),
        "page: name or id contains, all do": page(text="koi"),
        "page: name or id contains, other than ASCII": page(text="ü"),
        "page: name or id is": page(text="KOI77", text_exact=True),
        "page: program with its parts": page(programs=("7",), subprograms=True),
        "page: half a year": page(date_from=half_year[0], date_to=half_year[1]),
        "page: filter": page(filters=("Si",)),
        "page: seeing": page(seeing_nearest=(None, 1.0), sort=("seeing_nearest", True)),
        "page: azimuth and elevation": page(azimuth_deg=(90, 180), elevation_deg=(60, None)),
        "page: flag and class": page(flags=("OK",), classified_as=("high_flux",)),
        'page: contrast at 1"': page(contrast_mag=(6.0, None), sort=("contrast", False)),
        "page: candidate companions": page(has_candidates=True),
        "page: products": page(products_made=("bright_star", "bright_star.pca"), distributed=True),
        "page: cone of 30 arcsec": page(cone=Cone(120.0, 20.0, 30 / 3600)),
        "page: cone of 60 degrees, by separation": page(cone=wide, sort=("separation", True)),
        "page: cone of 60 degrees, by time": page(cone=wide),
        "page: whole sky as a cone": page(cone=Cone(120.0, 20.0, 180.0)),
        "page: five broad ranges": page(**broad),
        "page: five broad ranges in the cone": page(**broad, cone=wide),
        "page: what a user may see": page(reader=user),
        "page: a user, broad ranges in the cone": page(**broad, cone=wide, reader=user),
    }


def measure(options: Options) -> Iterator[Row]:
    """Yield the rows of an SQLite catalogue."""
    observations = QUICK_OBSERVATIONS if options.quick else OBSERVATIONS
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        yield from rows(f"sqlite:///{folder}/catalogue.sqlite", observations, CALLS)


def rows(url: str, observations: int, calls: int) -> Iterator[Row]:
    """Fill the catalogue `url`, which is empty, and yield the time of each search."""
    with open_catalogue(url) as catalogue:
        start = time.perf_counter()
        for document in documents(observations):
            catalogue.register_observation(document)
        yield Row(
            name="registration",
            values=(1000 * (time.perf_counter() - start) / observations,),
            unit="ms",
            note=f"mean of {observations} observations of 8 kB",
        )
        for name, search in searches(observations).items():
            yield _time_search(catalogue, name, search, calls)


def _time_search(
    catalogue: Catalogue, name: str, search: Callable[[Catalogue], Any], calls: int
) -> Row:
    wall_ms, cpu_ms = [], []
    for _ in range(calls):
        start, start_cpu = time.perf_counter(), time.process_time()
        result = search(catalogue)
        wall_ms.append(1000 * (time.perf_counter() - start))
        cpu_ms.append(1000 * (time.process_time() - start_cpu))
    found = result if isinstance(result, int) else len(result)
    return Row(
        name=name,
        values=tuple(wall_ms),
        unit="ms",
        goal=SEARCH_GOAL,
        note=f"{found} found; {statistics.median(cpu_ms):.1f} ms of a processor",
    )


def main() -> None:
    """Measure a catalogue that is named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--observations", type=int, default=OBSERVATIONS)
    parser.add_argument("--url", required=True, help="an empty catalogue")
    parser.add_argument("--calls", type=int, default=CALLS)
    arguments = parser.parse_args()
    measured = tuple(rows(arguments.url, arguments.observations, arguments.calls))
    print(table([PartResult(part="catalogue", rows=measured)]))


if __name__ == "__main__":
    main()
