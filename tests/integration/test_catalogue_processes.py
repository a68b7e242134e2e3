"""Several processes at once, and processes that are killed, in both homes."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

from roboao_assets.storage.catalogue import new_observation, open_catalogue, product
from roboao_assets.storage.raw_names import parse_exposure_name

ID = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"
NIGHT = "20160925"
WRITERS = 4
ROUNDS = 12
SPAWN = multiprocessing.get_context("spawn")


def document_of(identifier):
    return new_observation(parse_exposure_name(identifier), header_cards=[("X", "x" * 60, "")] * 40)


def identifier_of(number):
    return f"4_star_{number}_VIC_Si_o_{NIGHT}_{number:06d}.000000"


def run_all(target, *arguments):
    """Start WRITERS processes at once; each must end well."""
    barrier = SPAWN.Barrier(WRITERS)
    processes = [
        SPAWN.Process(target=target, args=(number, barrier, *arguments))
        for number in range(WRITERS)
    ]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(120)
        assert [process.exitcode for process in processes] == [0] * WRITERS
    finally:
        for process in processes:
            process.kill()
            process.join()


def write_at_once(number, barrier, url):
    barrier.wait(60)
    with open_catalogue(url) as catalogue:  # the first of them makes the catalogue
        catalogue.register_observation(document_of(ID))
        for turn in range(ROUNDS):
            catalogue.register_observation(document_of(identifier_of(number * ROUNDS + turn)))
            catalogue.publish(ID, "bright_star", {f"writer_{number}": turn})
            catalogue.publish(ID, "bright_star.strehl", {f"writer_{number}_{turn}": turn})
            catalogue.record_failure(ID, "faint_star", "count me")
            catalogue.publish_night(NIGHT, f"psf_lib.writer_{number}", {f"turn_{turn}": True})
            catalogue.record_night_failure(NIGHT, "contrast_curve", "count me")


def test_writers_at_once_lose_nothing(catalogue_url):
    run_all(write_at_once, catalogue_url)
    with open_catalogue(catalogue_url, read_only=True) as catalogue:
        stored = catalogue.observation(ID)["pipelined"]
        night = catalogue.night(NIGHT)
        assert stored["faint_star"]["status"]["retries"] == WRITERS * ROUNDS
        assert night["contrast_curve"]["retries"] == WRITERS * ROUNDS
        for number in range(WRITERS):
            assert stored["bright_star"][f"writer_{number}"] == ROUNDS - 1
            for turn in range(ROUNDS):
                assert stored["bright_star"]["strehl"][f"writer_{number}_{turn}"] == turn
                assert night["psf_lib"][f"writer_{number}"][f"turn_{turn}"] is True
        (summary,) = catalogue.nights()
        assert summary.observations == WRITERS * ROUNDS + 1


def claim_in_turn(number, barrier, url, folder):
    owner = f"owner {number}"
    with open_catalogue(url) as catalogue:
        barrier.wait(60)
        for turn in range(5):
            while not catalogue.claim(ID, f"product {turn}", owner, 60.0):
                time.sleep(0.01)
            # O_EXCL: two owners at once would meet here.
            inside = os.open(Path(folder) / f"inside_{turn}", os.O_CREAT | os.O_EXCL)
            time.sleep(0.02)
            os.close(inside)
            (Path(folder) / f"inside_{turn}").unlink()
            assert catalogue.release(ID, f"product {turn}", owner)
        if catalogue.claim(ID, "only one", owner, 60.0):
            (Path(folder) / f"winner_{number}").touch()


def test_claims_are_exclusive(catalogue_url, tmp_path):
    run_all(claim_in_turn, catalogue_url, str(tmp_path))
    assert len(list(tmp_path.glob("winner_*"))) == 1


def claim_and_die(url, claimed):
    catalogue = open_catalogue(url)
    catalogue.claim(ID, "bright_star", "the dead", 1.5)
    claimed.set()
    time.sleep(60)


def test_claim_of_a_killed_process_expires(catalogue, catalogue_url):
    claimed = SPAWN.Event()
    process = SPAWN.Process(target=claim_and_die, args=(catalogue_url, claimed))
    process.start()
    assert claimed.wait(60)
    start = time.monotonic()
    process.kill()
    process.join()
    while not catalogue.claim(ID, "bright_star", "the living", 60.0):
        assert time.monotonic() - start < 30
        time.sleep(0.05)


def write_until_killed(url, journal):
    """Publish numbers; note each in the journal once the catalogue has acknowledged it."""
    with open_catalogue(url) as catalogue, Path(journal).open("ab", buffering=0) as acknowledged:
        for number in range(1_000_000):
            identifier = identifier_of(number)
            catalogue.register_observation(document_of(identifier))
            catalogue.publish(identifier, "bright_star", {"first": number, "second": [number] * 50})
            catalogue.publish(ID, "bright_star", {"first": number, "second": [number] * 50})
            catalogue.put_image(identifier, bytes([number % 256]) * 20_000, night=NIGHT)
            acknowledged.write(b"%d\n" % number)


def test_killed_writer_loses_nothing_acknowledged(catalogue, catalogue_url, tmp_path):
    catalogue.register_observation(document_of(ID))
    journal = tmp_path / "journal"
    process = SPAWN.Process(target=write_until_killed, args=(catalogue_url, str(journal)))
    process.start()
    deadline = time.monotonic() + 60
    while not journal.exists() or journal.stat().st_size < 30:
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    acknowledged = [int(line) for line in journal.read_text().splitlines()]
    assert len(acknowledged) > 5
    for number in acknowledged:
        stored = product(catalogue.observation(identifier_of(number)), "bright_star")
        assert (stored["first"], stored["second"]) == (number, [number] * 50)
        assert catalogue.image(identifier_of(number)) == bytes([number % 256]) * 20_000
    shared = product(catalogue.observation(ID), "bright_star")
    assert shared["first"] >= acknowledged[-1]
    assert shared["second"] == [shared["first"]] * 50
    # What it was at when it died is there whole or not at all, and nobody is locked out.
    last = catalogue.observation(identifier_of(acknowledged[-1] + 1))
    if last is not None and product(last, "bright_star"):
        assert product(last, "bright_star")["second"] == [acknowledged[-1] + 1] * 50
    catalogue.publish(ID, "bright_star", {"after": True})
    assert product(catalogue.observation(ID), "bright_star")["after"] is True


def read_along(number, barrier, url, stop):
    with open_catalogue(url, read_only=True) as catalogue:
        barrier.wait(60)
        while not stop.is_set():
            stored = product(catalogue.observation(ID), "bright_star")
            assert stored.get("second", []) == [stored.get("first")] * len(stored.get("second", []))
            catalogue.nights()


def test_readers_see_whole_documents_while_a_writer_writes(catalogue, catalogue_url):
    catalogue.register_observation(document_of(ID))
    stop = SPAWN.Event()
    barrier = SPAWN.Barrier(3)
    readers = [
        SPAWN.Process(target=read_along, args=(number, barrier, catalogue_url, stop))
        for number in range(2)
    ]
    for reader in readers:
        reader.start()
    barrier.wait(60)
    for number in range(40):
        catalogue.publish(ID, "bright_star", {"first": number, "second": [number] * 100})
    stop.set()
    for reader in readers:
        reader.join(60)
    assert [reader.exitcode for reader in readers] == [0, 0]
