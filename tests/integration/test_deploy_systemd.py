"""The systemd units of deploy/, checked by systemd itself."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml
from distributed import Client

from roboao_assets.storage.settings import load_settings

FOLDER = Path(__file__).parents[2] / "deploy" / "one-machine"
UNITS = sorted(path.name for path in (FOLDER / "systemd").glob("*.service"))


@pytest.fixture(scope="module")
def analyze():
    path = shutil.which("systemd-analyze")
    if path is None:
        message = "no systemd-analyze on this machine: the units were NOT checked"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The units with the programs of this environment; nothing else is changed."""
    folder = tmp_path_factory.mktemp("units")
    shutil.copytree(FOLDER / "systemd", folder, dirs_exist_ok=True)
    for path in folder.glob("*.service"):
        own = Path(sys.executable).parent
        path.write_text(path.read_text().replace("/opt/roboao/.venv/bin", str(own)))
    return folder


def ask(analyze, installed, *words):
    units = {"SYSTEMD_UNIT_PATH": f"{installed}:", "SYSTEMD_LOG_LEVEL": "warning"}
    return subprocess.run(
        [analyze, *words],
        env=os.environ | units,
        cwd=installed,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("unit", [*UNITS, "roboao.target", "roboao-backup.timer"])
def test_systemd_finds_nothing_wrong(analyze, installed, unit):
    name = unit.replace("@", "@1")
    done = ask(analyze, installed, "verify", "--man=no", "--recursive-errors=no", name)
    assert done.returncode == 0, done.stderr
    assert "roboao" not in done.stderr


@pytest.mark.parametrize("unit", UNITS)
def test_a_service_may_do_little(analyze, installed, unit):
    """By `systemd-analyze security` 10 is a service that may do everything, 0 that may nothing."""
    name = unit.replace("@", "@1")
    done = ask(analyze, installed, "security", "--offline=true", "--threshold=25", name)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


def commands():
    for unit in UNITS:
        text = (FOLDER / "systemd" / unit).read_text().replace("\\\n", " ")
        for line in re.findall(r"^ExecStart(?:Pre)?=(.+)$", text, re.MULTILINE):
            yield unit, line.split()


@pytest.mark.parametrize(("unit", "words"), list(commands()), ids=lambda value: str(value)[:40])
def test_every_option_is_known_to_its_program(unit, words):
    program, *rest = words
    subcommand = [word for word in rest[:2] if not word.startswith("-") and word.isalpha()]
    if rest[0] == "-m":
        subcommand = rest[:2]
    if program.endswith("dagster"):
        subcommand = rest[:2]
    told = subprocess.run(
        [Path(sys.executable).parent / Path(program).name, *subcommand, "--help"],
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for option in (word for word in rest[len(subcommand) :] if word.startswith("-")):
        assert re.search(rf"(^|[\s,\[]){re.escape(option)}\b", told), (unit, option)


def test_the_target_wants_what_every_archive_needs():
    wanted = set(re.findall(r"roboao-\S+\.service", (FOLDER / "systemd/roboao.target").read_text()))
    elsewhere = {name for name in UNITS if "dask" in name} | {"roboao-backup.service"}
    assert wanted == set(UNITS) - elsewhere


def listening(pid):
    """Addresses that a process and its children listen on."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    sockets = (c for p in family for c in p.net_connections("tcp") if c.status == "LISTEN")
    return {c.laddr.ip for c in sockets}


def test_dask_listens_on_this_machine_alone(tmp_path):
    """By their own defaults a worker and both HTTP servers listen on every address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    values = {
        "${ROBOAO_DASK_SCHEDULER}": f"tcp://127.0.0.1:{port}",
        "${INSIDE_ADDRESS}": inside_address(),
        "%H-%i": "this-1",
        "8786": port,
        "127.0.0.1:8787": "127.0.0.1:0",
        "/var/lib/roboao/dask": str(tmp_path),
    }
    running = []
    try:
        for name in ("roboao-dask-scheduler.service", "roboao-dask-worker@.service"):
            ((program, *words),) = (w for unit, w in commands() if unit == name)
            program = Path(sys.executable).parent / Path(program).name
            command = [program, *(values.get(word, word) for word in words)]
            log = (tmp_path / name).open("wb")
            with log:
                running.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path))
        scheduler, worker = (process.pid for process in running)
        with Client(f"tcp://127.0.0.1:{port}", timeout=60, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
        assert listening(scheduler) == {"127.0.0.1"}
        assert listening(worker) == {"127.0.0.1"}
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(30)


def inside_address():
    text = (FOLDER / "systemd" / "roboao-.service.d" / "10-common.conf").read_text()
    return re.search(r"^Environment=INSIDE_ADDRESS=(\S+)$", text, re.MULTILINE)[1]


def test_the_workspace_names_the_code_servers_port():
    (server,) = yaml.safe_load((FOLDER / "workspace.yaml").read_text())["load_from"]
    (words,) = (w for unit, w in commands() if unit == "roboao-code.service" and "-p" in w)
    assert server["grpc_server"]["port"] == int(words[words.index("-p") + 1])


@pytest.mark.parametrize(("mode", "status"), [(0o600, 0), (0o400, 0), (0o640, 78), (0o604, 78)])
def test_nothing_starts_while_others_may_read_the_secrets(tmp_path, mode, status):
    text = (FOLDER / "systemd/roboao-.service.d/10-common.conf").read_text()
    (command,) = re.findall(r"^ExecStartPre=\+/bin/sh -c '(.+)'$", text, re.MULTILINE)
    file = tmp_path / "environment"
    file.touch()
    file.chmod(mode)
    # What systemd makes of it, with the file of the test.
    command = command.replace("$$", "$").replace("/etc/roboao/environment", str(file))
    ran = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    assert ran.returncode == status
    assert ("chmod 600" in ran.stderr) == bool(status)


def test_the_example_environment_can_be_loaded(monkeypatch, tmp_path):
    """With what is commented out as well: each is a setting that there is."""
    monkeypatch.chdir(tmp_path)
    for line in (FOLDER / "environment.example").read_text().splitlines():
        found = re.fullmatch(r"#?((?:ROBOAO|DAGSTER)_[A-Z_]+)=(\S+)", line)
        if found:
            monkeypatch.setenv(found[1], found[2])
    settings = load_settings()
    assert settings.dashboard_behind_tls_proxy
    assert settings.resolved_dagster_webserver.endswith("/dagster")
