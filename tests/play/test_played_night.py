"""A night played: files in pieces, one spoilt, flats late, an operator's wish, a kill -9.

At its end the archive is, byte for byte in its images, the one made in one undisturbed go. The
real daemon, sensors, Dask workers and a server that speaks MongoDB's protocol; run by `make play`.
"""

import json
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from archive_deployment import NIGHT, Deployment, images
from pymongo import MongoClient

from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.files import PARTIAL_PREFIX
from roboao_assets.storage.raw_night import read_night
from simulator import simulate_night


@pytest.fixture(scope="module")
def telescope(tmp_path_factory) -> Path:
    """What the telescope writes in the night, before anybody copies it."""
    root = tmp_path_factory.mktemp("telescope")
    simulate_night(root, NIGHT, targets=4, frames=60, size=256, seed=7, dark_frames=10)
    return root / NIGHT


@pytest.fixture(scope="module")
def undisturbed(telescope, tmp_path_factory) -> Path:
    """The archive of the night made in one go, without a sensor."""
    folder = tmp_path_factory.mktemp("undisturbed")
    deployment = Deployment(folder)
    deployment.take_in(telescope)
    said = deployment.roboao("night", NIGHT)
    assert (deployment.archive / NIGHT / "summary" / f"report.{NIGHT}.html").exists(), said
    return deployment.archive


@pytest.fixture
def deployment(tmp_path, mongodb_url):
    deployment = Deployment(tmp_path, mongodb_url)
    yield deployment
    deployment.stop()


def copy_in_pieces(source: Path, target: Path, pieces: int = 3) -> None:
    content = source.read_bytes()
    step = len(content) // pieces + 1
    with target.open("wb") as file:
        for start in range(0, len(content), step):
            file.write(content[start : start + step])
            file.flush()
            time.sleep(2)


def test_a_played_night_ends_as_an_undisturbed_one(telescope, undisturbed, deployment):
    observations = [e.id for e in read_night((telescope.parent,), NIGHT).observations]
    files = {o: sorted(telescope.glob(f"{o}*.fits.bz2")) for o in observations}
    night = deployment.raw
    deployment.start()
    # The first observation comes in pieces, one is cut short, the darks come; no flats yet.
    first, second, *others = observations
    for path in sorted(telescope.glob("dark*")):
        shutil.copy2(path, night / path.name)
    for path in files[first]:
        copy_in_pieces(path, night / path.name)
    for path in files[second]:
        whole = path.read_bytes()
        (night / path.name).write_bytes(whole[: len(whole) * 2 // 3])
    deployment.wait(lambda: bool(deployment.document(second)), "the registration of the night")
    deployment.wait(lambda: "flat files" in deployment.roboao("failures", NIGHT), "the sentence")
    assert not deployment.status(first), "nothing is reduced without flats"
    # The flats come late; the seeing with them.
    for path in sorted(telescope.glob("flat*")) + sorted(telescope.glob("seeing*")):
        shutil.copy2(path, night / path.name)
    deployment.wait(lambda: deployment.status(first).get("done") is True, "the first observation")
    deployment.wait(lambda: bool(deployment.status(second).get("retries")), "the spoilt one")
    # An operator, with a plain client of the database.
    with MongoClient(deployment.url, serverSelectionTimeoutMS=5000) as client:
        database = client.get_default_database()
        path = "pipelined.bright_star.strehl.status.force_redo"
        database.objects.update_one({"_id": first}, {"$set": {path: True}})
    # The rest arrives, the spoilt file is copied again, and in the middle of it the power goes.
    for name in (second, *others):
        for source in files[name]:
            (night / source.name).unlink(missing_ok=True)
            shutil.copyfile(source, night / source.name)

    def under_way() -> bool:
        return any(run.job_name == "reduce_observations" for run in deployment.unfinished_runs())

    def one_more_is_done() -> bool:
        return any(deployment.status(name).get("done") for name in others)

    deployment.wait(one_more_is_done, "another observation")
    was_under_way = under_way()
    deployment.kill()
    deployment.start()

    def finished() -> bool:
        return deployment.night_is_finished(len(observations), done=3)

    deployment.wait(finished, "the end of the night")
    # Quiet means quiet: no sensor starts anything more.
    time.sleep(15)
    deployment.wait(finished, "the very end of the night")
    with open_catalogue(deployment.url, read_only=True) as catalogue:
        history = catalogue.actions.newest(first)
    assert any(entry.action == "made strehl_ratio" for entry in history), history
    assert list(deployment.archive.rglob(f"{PARTIAL_PREFIX}*")) == []
    expected, made = images(undisturbed), images(deployment.archive)
    assert sorted(made) == sorted(expected)
    different = [name for name in expected if made[name] != expected[name]]
    assert different == []
    report = {
        "time": datetime.now(UTC).isoformat(),
        "images": len(expected),
        "killed_while_reducing": was_under_way,
    }
    print(json.dumps(report))
