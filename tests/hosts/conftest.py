"""The site, set up once a session; what was measured on it, written when the session ends."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from machines import check_this_machine, clear_leftovers, relocate
from mongodb_server import built_ferretdb
from site_of_machines import NIGHT, OTHER_NIGHTS, SCHEDULER, TARGETS, Site
from worker_watch import watching

from simulator import simulate_night

BUILD = Path(__file__).parents[2] / "build"


@pytest.fixture(scope="session")
def measured():
    """What is written to build/hosts.json."""
    values: dict[str, float | int | str] = {}
    yield values
    BUILD.mkdir(exist_ok=True)
    (BUILD / "hosts.json").write_text(json.dumps(values, indent=1) + "\n")
    print("\n" + json.dumps(values, indent=1), flush=True)


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Iterator[Site]:
    """The machines, set up as the page says, with nights at the telescope that nobody copied."""
    cgroups = check_this_machine()
    clear_leftovers(cgroups)
    database = built_ferretdb()
    folder = tmp_path_factory.mktemp("site")
    folder.chmod(0o755)
    (folder / "relocated").mkdir()
    site = Site(folder, relocate(folder / "relocated"), cgroups, database)
    try:
        simulate_night(site.telescope, NIGHT, targets=TARGETS, frames=150, seed=5, dark_frames=10)
        for night in OTHER_NIGHTS:
            the_same_another_night(site.telescope, night)
        site.set_up()
        yield site
    finally:
        site.remove()


def the_same_another_night(telescope: Path, night: str) -> None:
    """Give the night's files the names of another: its products must be the same."""
    (telescope / night).mkdir()
    for path in (telescope / NIGHT).glob("*.fits.bz2"):
        (telescope / night / path.name.replace(NIGHT, night)).hardlink_to(path)


@pytest.fixture
def watched(site):
    """A watch over the workers, until the test ends."""
    with watching(site.archive.enter(), SCHEDULER) as watch:
        yield watch
