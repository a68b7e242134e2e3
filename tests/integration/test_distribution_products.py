"""Packages of a simulated night, in both homes of the catalogue: made, left alone, made again."""

import hashlib
import json
import os
import sqlite3
import subprocess
import tarfile

import numpy as np
import pytest
from astropy.io import fits
from pymongo import MongoClient

from roboao_assets.pipelines import distribution
from roboao_assets.pipelines import night as stages
from roboao_assets.pipelines.observation import reduce_observation
from roboao_assets.pipelines.redo import take_package_wish
from roboao_assets.pipelines.workspace import open_workspace
from roboao_assets.storage.catalogue import ObservationQuery, open_catalogue
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.settings import Settings

NIGHT = "20170607"
STAGE = distribution.STAGE
MEASURED = ("bright_star_stack", "astrometric_solution", "strehl_ratio", "bright_star_preview")
HOMES = ("sqlite", pytest.param("mongodb", marks=pytest.mark.mongodb))


@pytest.fixture(scope="module", params=HOMES)
def settings(request, small_night, small_observations, tmp_path_factory):
    """An archive of its own for each home, with one observation reduced and packed."""
    root = tmp_path_factory.mktemp("packages")
    (root / "raw" / NIGHT).mkdir(parents=True)
    for path in (small_night / NIGHT).iterdir():
        os.link(path, root / "raw" / NIGHT / path.name)
    url = ""
    if request.param == "mongodb":
        url = f"{request.getfixturevalue('mongodb_server').rstrip('/')}/roboao_test_packages"
    made = Settings(
        raw_roots=(root / "raw",), archive_root=root / "archive", catalogue_url=url, threads=2
    )
    for stage in (
        stages.register_night,
        stages.make_master_darks,
        stages.make_master_flats,
        stages.make_bad_pixel_mask,
    ):
        assert stage(made, NIGHT).succeeded
    outcomes = reduce(made, small_observations[0], (*MEASURED, STAGE))
    assert [o.status for o in outcomes] == ["done"] * 5, outcomes
    yield made
    if url:
        with MongoClient(url) as client:
            client.drop_database("roboao_test_packages")


def reduce(settings, observation, wanted=(STAGE,), **options):
    text = settings.model_dump_json()
    return reduce_observation(text, NIGHT, observation, stages=wanted, **options)


def pack(settings, observation, **options):
    (outcome,) = reduce(settings, observation, **options)
    return outcome


def distributed(settings, observation):
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        return catalogue.observation(observation)["distributed"]


def operator_sets(settings, observation, value):
    """What an operator does with a database client, who knows nothing of our code."""
    url = settings.resolved_catalogue_url
    if url.startswith("mongodb"):
        with MongoClient(url) as client:
            objects = client["roboao_test_packages"]["objects"]
            objects.update_one({"_id": observation}, {"$set": {"distributed.status": value}})
        return
    database = sqlite3.connect(url.removeprefix("sqlite:///"))
    with database:
        database.execute(
            "UPDATE objects SET document = json_set(document, '$.distributed.status', json(?)) "
            "WHERE id = ?",
            (json.dumps(value), observation),
        )
    database.close()


@pytest.fixture
def observation(small_observations):
    return small_observations[0]


@pytest.fixture
def paths(settings):
    return ArchivePaths(settings.archive_root)


@pytest.fixture
def package(paths, observation):
    return paths.package(NIGHT, observation)


def test_everything_of_the_observation_is_in_it(settings, paths, package, observation, tmp_path):
    subprocess.run(["tar", "xjf", str(package), "-C", str(tmp_path)], check=True)
    unpacked = tmp_path / observation
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=unpacked, check=True)
    folder = paths.observation(NIGHT, observation)
    products = {p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and p != package}
    assert paths.stack(NIGHT, observation, 100).relative_to(folder) in products
    for product in products:
        assert (unpacked / product).read_bytes() == (folder / product).read_bytes()
    manifest = json.loads((unpacked / "MANIFEST.json").read_text())
    assert {entry["name"] for entry in manifest["members"]} == {p.as_posix() for p in products}
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        document = catalogue.observation(observation)
    assert manifest["id"] == observation
    assert manifest["night"] == NIGHT
    assert manifest["program"] == document["science_program"]["program_id"]
    for product in ("bright_star", "bright_star.strehl", "bright_star.preview"):
        record = document["pipelined"]["bright_star"]
        for part in product.split(".")[1:]:
            record = record[part]
        assert manifest["products"][product] == record["fingerprint"]


def test_the_catalogue_says_where_it_is(settings, package, observation):
    record = distributed(settings, observation)
    assert record["status"] is True
    assert record["location"] == [f"{NIGHT}/{observation}/{observation}.tar.bz2"]
    assert record["sha256"] == hashlib.sha256(package.read_bytes()).hexdigest()
    assert record["size_bytes"] == package.stat().st_size
    assert "reason" not in record
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        query = ObservationQuery(distributed=True, summary_only=True)
        (summary,) = catalogue.find_observations(query)
    assert summary["_id"] == observation
    assert summary["distributed"]["size_bytes"] == record["size_bytes"]
    assert "members" not in summary["distributed"]


def test_what_agrees_is_left_alone_and_not_even_read(settings, paths, package, observation):
    before = package.stat().st_mtime_ns
    stack = paths.stack(NIGHT, observation, 100)
    stack.chmod(0)
    try:
        if os.getuid() != 0:
            with pytest.raises(PermissionError):
                stack.read_bytes()
        # Reading would move the time of access, whoever may read.
        os.utime(stack, ns=(1, stack.stat().st_mtime_ns))
        outcome = pack(settings, observation)
        assert stack.stat().st_atime_ns == 1
    finally:
        stack.chmod(0o644)
    assert outcome.status == "unchanged"
    assert outcome.metadata["size_bytes"] == package.stat().st_size
    assert package.stat().st_mtime_ns == before


def test_new_times_alone_make_nothing_again(settings, paths, package, observation):
    """An archive copied to another disk without its times."""
    for path in (package, paths.stack(NIGHT, observation, 100)):
        os.utime(path, ns=(10**18, 10**18))
    assert pack(settings, observation).status == "unchanged"
    assert package.stat().st_mtime_ns == 10**18
    assert distributed(settings, observation)["mtime_ns"] == 10**18


@pytest.mark.parametrize("change", ["member", "added", "vanished"])
def test_a_change_of_the_folder(change, settings, paths, package, observation):
    table = paths.strehl_table(NIGHT, observation, "bright_star")
    added = paths.pca(NIGHT, observation, "bright_star", "note.txt")
    before = distributed(settings, observation)
    text = table.read_text()
    if change == "member":
        table.write_text(text.replace("OK", "NO") + "#")
    elif change == "added":
        added.parent.mkdir(exist_ok=True)
        added.write_text("new")
    else:
        table.unlink()
    with open_workspace(settings) as ws:
        assert distribution.withdraw_if_outdated(ws, NIGHT, observation)
        assert not distribution.withdraw_if_outdated(ws, NIGHT, observation)
    assert distributed(settings, observation)["status"] is False
    assert "newer than the package" in distributed(settings, observation)["reason"]
    assert pack(settings, observation).status == "done"
    after = distributed(settings, observation)
    assert after["status"] is True
    assert after["sha256"] != before["sha256"]
    with tarfile.open(package) as tar:
        names = tar.getnames()
    assert (f"{observation}/bright_star/pca/{added.name}" in names) == (change == "added")
    assert any(name.endswith("_strehl.txt") for name in names) == (change != "vanished")
    # As it was: the same package again, bit by bit.
    added.unlink(missing_ok=True)
    table.write_text(text)
    assert pack(settings, observation).status == "done"
    assert distributed(settings, observation)["sha256"] == before["sha256"]


@pytest.mark.parametrize("spoil", ["removed", "cut", "flipped"])
def test_a_spoilt_package_is_made_again(spoil, settings, package, observation):
    content = package.read_bytes()
    if spoil == "removed":
        package.unlink()
    elif spoil == "cut":
        package.write_bytes(content[:-1])
    else:
        package.write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
    assert pack(settings, observation).status == "done"
    assert package.read_bytes() == content
    assert pack(settings, observation).status == "unchanged"


def test_an_operator_asks_for_it_again(settings, package, observation):
    before = package.stat()
    operator_sets(settings, observation, False)
    with open_catalogue(settings.resolved_catalogue_url) as catalogue:
        # Whoever looks first asks, and nobody asks twice.
        taken = [take_package_wish(catalogue, catalogue.observation(observation)) for _ in range(2)]
        asked = catalogue.requests.of(observation)
    assert taken == [True, False]
    assert set(asked.stages) == {STAGE}
    assert pack(settings, observation).status == "done"
    assert package.stat().st_ino != before.st_ino
    assert distributed(settings, observation)["status"] is True
    assert pack(settings, observation, force=True).status == "done"
    assert pack(settings, observation).status == "unchanged"


def test_a_stage_alone_withdraws_the_package_and_the_next_look_renews_it(
    settings, paths, package, observation
):
    box = paths.strehl_box(NIGHT, observation, "bright_star")
    box.unlink()
    (made,) = reduce(settings, observation, ("strehl_ratio",))
    assert made.status == "done"
    assert distributed(settings, observation)["status"] is False
    with open_workspace(settings) as ws:
        # It is withdrawn already: what is to be renewed is what is handed out.
        assert distribution.renew_package(ws, NIGHT, observation) is None
    assert pack(settings, observation).status == "done"
    preview = paths.preview(NIGHT, observation, "bright_star", "full")
    preview.write_bytes(preview.read_bytes() + b"\0")
    with open_workspace(settings) as ws:
        assert ws.catalogue.claim(observation, "reduction", "another run", ttl_s=60)
        assert distribution.renew_package(ws, NIGHT, observation) is None
        ws.catalogue.release(observation, "reduction", "another run")
        ws.catalogue.set_distributed(observation, True)
        assert distribution.renew_package(ws, NIGHT, observation).status == "done"
    preview.write_bytes(preview.read_bytes()[:-1])
    assert pack(settings, observation).status == "done"


def test_a_failure_takes_the_former_package_away_and_is_counted(
    settings, paths, package, observation
):
    folder = paths.observation(NIGHT, observation)
    former = package.read_bytes()
    package.unlink()
    package.mkdir()  # what a package cannot take the place of
    (package / "in the way").write_text("")
    outcome = pack(settings, observation)
    assert outcome.status == "failed"
    assert "the operating system refused" in outcome.reason
    record = distributed(settings, observation)
    assert (record["status"], record["retries"]) == (False, 1)
    assert record["reason"] == outcome.reason
    assert not [p for p in folder.iterdir() if p.name.startswith(".partial-")]
    (package / "in the way").unlink()
    package.rmdir()
    assert pack(settings, observation).status == "done"
    assert package.read_bytes() == former
    assert distributed(settings, observation)["retries"] == 0


def test_nothing_to_pack_is_skipped_with_the_reason(settings, paths, small_observations):
    other = small_observations[1]
    outcome = pack(settings, other)
    assert outcome.status == "skipped"
    assert "has no product" in outcome.reason
    record = distributed(settings, other)
    assert (record["status"], record["location"]) == (False, [])
    assert record["reason"] == outcome.reason
    assert not paths.observation(NIGHT, other).exists()


def test_a_failed_observation_is_not_distributed(settings, paths, small_observations):
    other = small_observations[1]
    folder = paths.pipeline(NIGHT, other, "bright_star")
    folder.mkdir(parents=True)
    fits.writeto(paths.stack_sum(NIGHT, other), np.full((4, 4), np.nan, np.float32))
    with open_catalogue(settings.resolved_catalogue_url) as catalogue:
        value = {"classified_as": "failed", "reason": "the mean of the frames is not finite"}
        catalogue.publish(other, "bright_star", value)
    outcome = pack(settings, other)
    assert outcome.status == "skipped"
    assert "its class is failed (the mean of the frames is not finite)" in outcome.reason
    assert not paths.package(NIGHT, other).exists()
