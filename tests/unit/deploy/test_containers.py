"""What can be known of the containers without a container engine."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pymongo.uri_parser import parse_uri

from roboao_assets import __version__
from roboao_assets.orchestration.run_queue import ArchiveRunCoordinator
from roboao_assets.storage.settings import Settings

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "compose"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OWN = sorted(n for n, s in SERVICES.items() if s["image"].startswith("roboao-archive"))


def settings_of(names):
    """The names that are settings of the archive, without prefix."""
    return {n.removeprefix("ROBOAO_").lower() for n in names if n.startswith("ROBOAO_")}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_watched_and_restarted(name):
    service = SERVICES[name]
    _, _, tag = service["image"].rpartition(":")
    assert re.fullmatch(r"\d+(\.\d+)*", tag), service["image"]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["restart"] == "unless-stopped"
    assert set(service["networks"]) <= set(COMPOSE["networks"])
    for other, condition in service.get("depends_on", {}).items():
        assert condition == {"condition": "service_healthy"}
        assert "healthcheck" in SERVICES[other]
    for volume in service.get("volumes", []):
        source = volume.partition(":")[0]
        if source.startswith("."):
            assert (FOLDER / source).exists(), source
        elif not source.startswith("$"):
            assert source in COMPOSE["volumes"], source


@pytest.mark.parametrize("name", OWN)
def test_an_own_service_may_do_little(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "ports" not in service
    assert service["networks"] == ["inner"]
    raw = next(v for v in service["volumes"] if ":/data/raw" in v)
    assert raw.endswith(":ro")


def test_only_the_proxy_is_reached_from_outside():
    assert [n for n, s in SERVICES.items() if "ports" in s] == ["nginx"]
    assert COMPOSE["networks"]["inner"]["internal"] is True


def test_secrets_are_files_that_the_script_makes(tmp_path):
    referred = {s for service in SERVICES.values() for s in service.get("secrets", [])}
    assert referred == set(COMPOSE["secrets"])
    shutil.copy(FOLDER / "make-secrets.sh", tmp_path)
    looks = []
    for _ in range(2):
        subprocess.run(["sh", "make-secrets.sh"], cwd=tmp_path, check=True)
        looks.append({p.name: p.read_text() for p in (tmp_path / "secrets").iterdir()})
    assert looks[0] == looks[1], "what is there stays"
    made = looks[0]
    expected = {secret["file"] for secret in COMPOSE["secrets"].values()}
    assert {f"./secrets/{name}" for name in made} == expected
    assert len(set(made.values())) == len(made)
    assert min(map(len, made.values())) >= 64
    # MongoDB takes 6 to 1024 characters of base64.
    assert re.fullmatch(r"[A-Za-z0-9+/=]{6,1024}", made["mongodb_keyfile"])
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700


def test_no_password_stands_in_a_file():
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET", name):
                assert name.endswith("_FILE"), name
                assert value.startswith("/run/secrets/"), name
                assert value.removeprefix("/run/secrets/") in service["secrets"]


def test_variables_are_settings():
    for name in OWN:
        variables = SERVICES[name]["environment"]
        plain = {v for v in variables if not v.endswith("_FILE")}
        assert settings_of(plain) <= set(Settings.model_fields)


def test_the_daemons_address_of_code_and_scheduler_are_services():
    (server,) = yaml.safe_load((FOLDER / "workspace.yaml").read_text())["load_from"]
    assert server["grpc_server"]["host"] == "code"
    assert str(server["grpc_server"]["port"]) in SERVICES["code"]["command"]
    assert (
        SERVICES["worker"]["command"][2] == SERVICES["code"]["environment"]["ROBOAO_DASK_SCHEDULER"]
    )


@pytest.mark.parametrize("name", [n for n in OWN if n != "dashboard"])
def test_commands_are_programs_of_the_environment(name):
    program, *words = SERVICES[name]["command"]
    assert (Path(sys.executable).parent / program).exists()
    subcommand = [w for w in words[:2] if re.fullmatch(r"[a-z-]+", w) and not w.startswith("-")]
    told = subprocess.run(
        [Path(sys.executable).parent / program, *subcommand, "--help"],
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for option in (w for w in words[len(subcommand) :] if w.startswith("-")):
        assert re.search(rf"(^|[\s,\[]){re.escape(option)}\b", told), option


def test_compose_itself_takes_the_file(tmp_path):
    """By Debian's docker-compose, which needs no engine for this; its `name` is of later days."""
    program = shutil.which("docker-compose")
    if program is None:
        message = "no docker-compose on this machine: it was NOT asked about the file"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    text = (FOLDER / "compose.yaml").read_text()
    (tmp_path / "compose.yaml").write_text(re.sub(r"(?m)^name: .*\n", "", text))
    names = {"NAME": "a.example.org", "ARCHIVE": "/a", "RAW": "/r", "CERTIFICATES": "/c"}
    done = subprocess.run(
        [program, "config"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]} | {f"ROBOAO_{k}": v for k, v in names.items()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    resolved = yaml.safe_load(done.stdout)
    assert resolved["services"].keys() == SERVICES.keys()
    for name in OWN:
        service = resolved["services"][name]
        assert "/r:/data/raw:ro" in service["volumes"]
        assert service["environment"]["ROBOAO_DASHBOARD_ORIGINS"] == "a.example.org"


def with_secrets(variables, *command):
    return subprocess.run(
        ["sh", FOLDER / "with-secrets.sh", *command],
        env={"PATH": os.environ["PATH"]} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("password", ["plain", "p@ss/w:rd?&%#", "' \" $HOME `id` \\"])
def test_secrets_come_from_files(tmp_path, password):
    for name in ("mongodb", "postgres"):
        (tmp_path / name).write_text(password + "\n")
    done = with_secrets(
        {
            "ROBOAO_MONGODB_PASSWORD_FILE": str(tmp_path / "mongodb"),
            "DAGSTER_PG_PASSWORD_FILE": str(tmp_path / "postgres"),
        },
        *(sys.executable, "-c", "import os, json; print(json.dumps(dict(os.environ)))"),
    )
    assert done.returncode == 0, done.stderr
    given = yaml.safe_load(done.stdout)
    assert given["DAGSTER_PG_PASSWORD"] == password
    assert not [name for name in given if name.endswith("_FILE")]
    assert "ROBOAO_MONGODB_PASSWORD" not in given, "it is no setting of the archive"
    parsed = parse_uri(given["ROBOAO_CATALOGUE_URL"])
    assert (parsed["username"], parsed["password"]) == ("roboao", password)
    assert parsed["nodelist"] == [("mongodb", 27017)]


def test_a_secret_that_is_not_there_is_named(tmp_path):
    done = with_secrets({"DAGSTER_PG_PASSWORD_FILE": str(tmp_path / "nothing")}, "true")
    assert done.returncode == 78
    assert "nothing (DAGSTER_PG_PASSWORD_FILE) cannot be read" in done.stderr


def dockerfile():
    text = (FOLDER / "Dockerfile").read_text().replace("\\\n", " ")
    return [line.split(maxsplit=1) for line in text.splitlines() if line and line[0] != "#"]


def test_the_image_is_not_roots():
    last_stage = dockerfile()[max(i for i, w in enumerate(dockerfile()) if w[0] == "FROM") :]
    assert [words[1] for words in last_stage if words[0] == "USER"] == ["roboao"]
    assert all(re.match(r"python:3\.11-", words[1]) for words in dockerfile() if words[0] == "FROM")


def test_what_is_copied_is_there_and_let_in():
    admitted = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = set()
    for words in dockerfile():
        if words[0] == "COPY" and not words[1].startswith("--from"):
            copied |= set(words[1].split()[:-1])
    for path in copied:
        assert (ROOT / path).exists(), path
    # All of the package is let in.
    assert copied - {"roboao_assets/orchestration/dagster.yaml"} == admitted


def test_scripts_are_shell():
    for script in FOLDER.glob("*.sh"):
        subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.parametrize("name", ["dagster-values.yaml", "dask-values.yaml"])
def test_values_of_the_charts(name):
    text = (ROOT / "deploy" / "kubernetes" / name).read_text()
    values = yaml.safe_load(text)
    assert set(re.findall(r"tag: (\S+)", text)) == {__version__}
    assert settings_of(re.findall(r"name: (ROBOAO_\w+)", text)) <= set(Settings.model_fields)
    assert "LoadBalancer" not in re.sub(r"#.*", "", text)
    if name.startswith("dagster"):
        coordinator = values["dagsterDaemon"]["runCoordinator"]["config"]["customRunCoordinator"]
        assert coordinator["class"] == ArchiveRunCoordinator.__name__
        assert coordinator["module"] == ArchiveRunCoordinator.__module__


def test_versions_agree():
    assert SERVICES["code"]["image"] == f"roboao-archive:{__version__}"
