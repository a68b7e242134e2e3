"""An archive on two machines, set up as docs/many-machines.md says, and what befalls it."""

import re
import tarfile
import time

import numpy as np
import pytest
from astropy.io import fits
from site_of_machines import (
    CUT,
    INSIDE,
    KILLED,
    NAME,
    NIGHT,
    OUTSIDE,
    PASSWORD,
    POWERLESS,
    SCHEDULER,
    TARGETS,
    UNFINISHED,
)
from worker_watch import watching

from roboao_assets.storage.files import PARTIAL_PREFIX
from roboao_assets.storage.raw_night import read_night

CUT_S = 40
OF_THE_ARCHIVE = (
    *(f"roboao-{name}" for name in ("code", "webserver", "daemon", "dashboard", "metrics")),
    *("roboao-dask-scheduler", "nginx", "nftables"),
)
WORKERS = ("roboao-dask-worker@1", "roboao-dask-worker@2")
OF_THE_WORKERS = (*WORKERS, "nftables")
# Prints the ports of an address that somebody answers on, of all there are.
SCAN = """
import concurrent.futures, socket, sys
def answers(port):
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((sys.argv[1], port)) == 0
ports = range(1, 65536)
with concurrent.futures.ThreadPoolExecutor(64) as pool:
    print(*(port for port, found in zip(ports, pool.map(answers, ports)) if found))
"""


def open_ports(machine, address, user="root"):
    script = f"python3 -c '{SCAN}' {address}"
    return {int(port) for port in machine.run(script, user=user).split()}


def reaches(machine, user, address, port):
    """Can a program of this user open a connection?"""
    ask = f"import socket; socket.create_connection(('{address}', {port}), 3)"
    return machine.attempt(f'python3 -c "{ask}"', user=user).returncode == 0


@pytest.mark.parametrize(
    ("name", "units"), [("archive", OF_THE_ARCHIVE), ("workers", OF_THE_WORKERS)]
)
def test_systemd_runs_every_service(site, name, units):
    machine = getattr(site, name)
    site.wait(
        lambda: set(machine.ask("systemctl", "is-active", *units).split()) == {"active"},
        "the start of the services",
        180,
    )
    assert machine.ask("systemctl", "--failed", "--plain", "--no-legend") == ""
    print(name, *(f"{unit}: active" for unit in units), sep="\n  ")


@pytest.mark.parametrize(("name", "units"), [("archive", OF_THE_ARCHIVE), ("workers", WORKERS)])
def test_services_have_given_up_their_rights(site, name, units):
    machine = getattr(site, name)
    number = machine.run("id -u roboao").strip()
    for unit in (u for u in units if u.startswith("roboao-")):
        pid = machine.run(f"systemctl show --property=MainPID --value {unit}").strip()
        status = dict(
            line.split(":", 1) for line in machine.run(f"cat /proc/{pid}/status").splitlines()
        )
        assert status["Uid"].split() == [number] * 4, unit
        assert status["NoNewPrivs"].strip() == "1", unit
        assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == 0, unit
        assert status["Seccomp"].strip() == "2", unit
        inside = f"nsenter --target {pid} --mount --"
        assert machine.attempt(f"{inside} touch /opt/roboao/x").returncode != 0, unit
        assert machine.attempt(f"{inside} touch /data/raw/x").returncode != 0, unit


def test_the_world_reaches_the_web_alone(site):
    assert open_ports(site.outside, OUTSIDE[0]) == {80, 443}
    # The inner address as well: the archive's machine answers to it from everywhere.
    site.outside.run(f"ip route add {INSIDE[0]}/32 via {OUTSIDE[0]}")
    assert open_ports(site.outside, INSIDE[0]) == {80, 443}


def test_without_the_firewall_the_services_listen_inside_alone(site):
    site.archive.run("nft flush ruleset")
    try:
        assert open_ports(site.outside, OUTSIDE[0]) == {80, 443}
    finally:
        site.archive.run("systemctl restart nftables")


def test_machines_reach_what_they_need_and_no_more(site):
    assert open_ports(site.workers, INSIDE[0]) == {80, 443, 8786, 27017}
    workers = {port // 100 for port in open_ports(site.archive, INSIDE[1])}
    assert workers == {280, 281}


@pytest.mark.parametrize(
    ("name", "address", "port"),
    [
        ("archive", "127.0.0.1", 3000),
        ("archive", "127.0.0.1", 4266),
        ("archive", INSIDE[0], 8786),
        ("workers", INSIDE[0], 8786),
        ("workers", INSIDE[1], 28100),
    ],
)
def test_other_users_of_a_machine_are_kept_out(site, name, address, port):
    machine = getattr(site, name)
    assert reaches(machine, "roboao", address, port)
    assert not reaches(machine, "games", address, port)


def test_answers_pass_whatever_the_port_they_go_to(site):
    """A server's answer to a port that is also one of a worker's is no connection to a worker."""
    ask = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 28150)); s.settimeout(3)"
    site.archive.run(f"python3 -c \"{ask}; s.connect(('127.0.0.1', 5432))\"", user="games")


def test_the_group_is_common_and_the_users_are_not(site):
    both = [m.run("id -u roboao; id -g roboao").split() for m in (site.archive, site.workers)]
    (one, its_group), (other, others_group) = both
    assert one != other
    assert its_group == others_group


def products(site, night):
    """The files of a night by their names, without the night in them."""
    folder = site.paths.night(night)
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p.relative_to(folder)).replace(night, "NIGHT"): p for p in found}


def assert_complete(site, night):
    """Every observation has its package, nothing is half, and nobody failed."""
    observations = [e.id for e in read_night((site.raw,), night).observations]
    assert len(observations) == TARGETS
    for observation in observations:
        assert site.paths.package(night, observation).is_file(), observation
    assert list(site.tree.rglob(f"{PARTIAL_PREFIX}*")) == []
    states = site.sql(
        "SELECT status, count(*) FROM runs JOIN run_tags USING (run_id) WHERE run_tags.key ="
        f" 'roboao/night' AND run_tags.value = '{night}' GROUP BY status"
    )
    assert {state for state, _ in states} == {"SUCCESS"}, states
    assert "nothing" in site.archive.run(f"roboao failures {night}").lower()


def test_a_night_arrives_and_is_reduced(site, measured):
    arrived = site.arrive(NIGHT)
    reported = site.wait_for_night(NIGHT)
    measured["last_file_to_report_s"] = round(reported - arrived, 1)
    assert_complete(site, NIGHT)


def log_in(site, name):
    """Return the status of the log-in of a user."""
    site.outside.run("rm -f ~/cookies", user="astronomer")
    page = site.curl(f"https://{NAME}/login")
    token = page.partition('name="_xsrf" value="')[2].partition('"')[0]
    fields = {"_xsrf": token, "name": name, "password": PASSWORD, "next": "/"}
    form = [w for k, v in fields.items() for w in ("--data-urlencode", f"{k}={v}")]
    origin = ["--header", f"Origin: https://{NAME}"]
    return site.curl(*form, *origin, *STATUS, f"https://{NAME}/login")


STATUS = ("--output", "/dev/null", "--write-out", "%{http_code}")


def test_the_astronomer_outside_takes_a_package_home(site):
    assert log_in(site, "chief") == "303"
    assert NIGHT in site.curl(f"https://{NAME}/night?night={NIGHT}")
    observations = [e.id for e in read_night((site.raw,), NIGHT).observations]
    parts = site.curl(f"https://{NAME}/night/parts?night={NIGHT}")
    assert [o for o in observations if o not in parts] == []
    observation = observations[0]
    name = f"{observation}.tar.bz2"
    url = f"https://{NAME}/file?observation={observation}&name={name}"
    assert site.curl(*STATUS[:1], "taken", *STATUS[2:], url) == "200"
    there = site.outside.run("sha256sum </home/astronomer/taken").split()[0]
    package = site.paths.package(NIGHT, observation)
    assert (
        there
        == site.archive.run(f"sha256sum </data/archive/{package.relative_to(site.tree)}").split()[0]
    )
    with tarfile.open(package) as tar:
        assert any(member.endswith("100p.fits") for member in tar.getnames())
    assert site.curl(*STATUS, f"https://{NAME}/dagster/") == "200"


def test_a_stranger_outside_gets_nothing(site):
    site.outside.run("rm -f ~/cookies", user="astronomer")
    observation = read_night((site.raw,), NIGHT).observations[0].id
    for path in (
        "/",
        f"/night?night={NIGHT}",
        f"/file?observation={observation}&name={observation}.tar.bz2",
        "/dagster/graphql",
    ):
        answer = site.curl("--include", f"https://{NAME}{path}")
        status = int(answer.split()[1])
        assert status in (302, 401, 403, 404), (path, answer[:300])
        assert observation not in re.sub(r"(?m)^location: .*$", "", answer, flags=re.I), path


def test_what_both_users_made_both_can_replace(site):
    """Folders by folders; then, in the test of the lent machine, by doing it."""
    for machine in (site.archive, site.workers):
        # The dashboard's secret is its own user's.
        look = "find /data/archive -name .dashboard -prune -o -type d ! -writable -print"
        locked = machine.run(look, user="roboao")
        assert locked == ""
    numbers = site.archive.run("find /data/archive/2* -printf '%u %g\\n' | sort -u").splitlines()
    assert {line.split()[1] for line in numbers} == {"roboao"}
    assert len({line.split()[0] for line in numbers}) == 2, "both have written"
    for folder in (site.tree, site.paths.night(NIGHT)):
        assert folder.stat().st_mode & 0o7777 == 0o2770, folder


def assert_the_same(site, night):
    """Are the products of `night` those of the undisturbed one, pixel by pixel?"""
    before, after = products(site, NIGHT), products(site, night)
    assert sorted(after) == sorted(before)
    images = [name for name in before if name.endswith(".fits")]
    assert len(images) >= TARGETS
    for name in images:
        with fits.open(before[name]) as one, fits.open(after[name]) as other:
            for a, b in zip(one, other, strict=True):
                if a.is_image and a.data is not None:
                    np.testing.assert_array_equal(a.data, b.data, err_msg=name)


def test_killed_workers_come_again_and_lose_nothing(site, watched, measured):
    site.arrive(KILLED)
    site.wait(lambda: watched.busy(KILLED) >= 2, "the work of both workers")
    time.sleep(1)
    assert watched.busy(KILLED) >= 1, "it was killed in the middle"
    site.workers.run(f"systemctl kill --kill-whom=all --signal=KILL {' '.join(WORKERS)}")
    killed = time.time()
    site.wait(lambda: not watched.tasks, "the scheduler's notice")
    site.wait(lambda: len(watched.tasks) == len(WORKERS), "the workers' return")
    measured["killed_to_workers_again_s"] = round(time.time() - killed, 1)
    measured["killed_to_report_s"] = round(site.wait_for_night(KILLED) - killed, 1)
    assert_complete(site, KILLED)
    assert_the_same(site, KILLED)


def newest(site, night):
    """When the newest product of a night was written."""
    return max((path.stat().st_mtime for path in products(site, night).values()), default=0.0)


def test_a_cut_cable_loses_nothing(site, watched, measured):
    site.arrive(CUT)
    site.wait(lambda: watched.busy(CUT) >= 1, "the workers' work")
    site.archive.run("ip link set inner down")
    time.sleep(CUT_S)
    site.archive.run("ip link set inner up")
    back = time.time()
    site.wait(lambda: newest(site, CUT) > back, "the next product")
    measured["cable_cut_s"] = CUT_S
    measured["cable_back_to_next_product_s"] = round(newest(site, CUT) - back, 1)
    measured["cable_back_to_report_s"] = round(site.wait_for_night(CUT) - back, 1)
    assert_complete(site, CUT)
    assert_the_same(site, CUT)


def test_workers_come_back_to_a_scheduler_that_was_started_again(site, watched, measured):
    site.wait(lambda: len(watched.tasks) == len(WORKERS), "the workers")
    site.archive.run("systemctl kill --kill-whom=all --signal=KILL roboao-dask-scheduler")
    killed = time.time()
    with watching(site.archive.enter(), SCHEDULER) as again:
        site.wait(lambda: len(again.tasks) == len(WORKERS), "the workers' return", 300)
    measured["scheduler_killed_to_workers_again_s"] = round(time.time() - killed, 1)


def test_a_machine_that_lost_its_power_goes_on_by_itself(site, watched, measured):
    site.arrive(POWERLESS)
    site.wait(lambda: watched.busy(POWERLESS) >= 1, "the workers' work")
    site.workers.cut_power()
    cut = time.time()
    site.workers.boot()
    measured["power_cut_to_report_s"] = round(site.wait_for_night(POWERLESS) - cut, 1)
    active = site.workers.ask("systemctl", "is-active", *OF_THE_WORKERS)
    assert set(active.split()) == {"active"}
    assert_complete(site, POWERLESS)
    assert_the_same(site, POWERLESS)


def test_the_archives_own_machine_takes_the_workers_place(site):
    """Its user replaces what the other machine's user made."""
    observation = read_night((site.raw,), NIGHT).observations[0].id
    stack = site.paths.stack(NIGHT, observation, 100)
    others = stack.stat()
    site.workers.run(f"systemctl stop {' '.join(WORKERS)}")
    site.archive.run("systemctl start roboao-dask-worker@1")
    site.archive.run(f"roboao redo {observation} --product bright_star")
    site.wait(lambda: stack.stat().st_mtime > others.st_mtime, "the new stack")
    package = site.paths.package(NIGHT, observation)
    site.wait(lambda: package.stat().st_mtime > others.st_mtime, "the new package")
    site.wait(lambda: site.sql(UNFINISHED) == [["0"]], "the end of the runs")
    assert stack.stat().st_uid != others.st_uid
    assert stack.stat().st_gid == others.st_gid
    assert_complete(site, NIGHT)
