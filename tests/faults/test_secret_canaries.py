"""Secrets that the archive works with are searched for in every byte that it leaves.

A real night on a Dask cluster, with a catalogue that asks for a password, the whole of
`roboao serve`, every command, and the failures in which a careless sentence would quote an address.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import pytest
from deployment import answers, free_port, wait_until
from postgresql_server import DATABASE, PASSWORD, USER, postgresql
from pymongo import MongoClient
from searched import found, in_folder, in_processes, in_rows, unpacked

from roboao_assets.orchestration.home import prepare_dagster_home
from roboao_assets.storage.settings import Settings

sys.path.insert(0, str(Path(__file__).parents[1] / "dashboard"))
from site_routes import all_routes
from visiting import Client

NIGHT = "20170607"
LIMIT_S = 900
SECTION = Path(__file__).parents[2] / "deploy" / "dagster-postgresql.yaml"
CATALOGUE, PG = "the catalogue's password", "PostgreSQL's password"
SECRETS = {
    CATALOGUE: "c4nary-catalogue-9f3a",
    "the cookie secret": "c4nary-cookie-secret-2b7d-0123456789abcdef",
    "the single sign-on's secret": "c4nary-oauth-secret-77e1",
    "the user's password": "c4nary password of chief",
    "the wrong password": "c4nary-wrong-password-51",
    "the key's password": "c4nary-key-file-password-40",
}
# Addresses that cannot be used, each with a secret in the place where somebody errs.
WRONG = SECRETS["the wrong password"]
WRONG_URLS = (
    f"mongodb://roboao:{WRONG}@127.0.0.1:9/roboao?serverSelectionTimeoutMS=300",
    f"mongodb://roboao:{WRONG}@[::bad/roboao",
    f"mongodb://roboao:{WRONG}/x@127.0.0.1:9/roboao",
    f"mongodb://roboao:{WRONG}@127.0.0.1:port/roboao",
    f"mongo://roboao:{WRONG}@127.0.0.1/roboao",
    f"roboao:{WRONG}@127.0.0.1/roboao",
    "mongodb://127.0.0.1:9/x?serverSelectionTimeoutMS=300&tls=true&tlsCertificateKeyFilePassword="
    + SECRETS["the key's password"],
)
COMMANDS = (
    ("status",),
    ("status", "--json"),
    ("status", NIGHT),
    ("metrics",),
    ("failures",),
    ("history",),
    ("requests",),
    ("user", "list"),
    ("psf-library", "show"),
)
QUERIES = """{
  version instance { info hasInfo runQueueConfig { maxConcurrentRuns } }
  runsOrError { ... on Runs { results { runId runConfigYaml tags { key value }
    executionPlan { steps { key } } } } }
  assetsOrError { ... on AssetConnection { nodes { key { path }
    assetMaterializations(limit: 5) { description metadataEntries { __typename label description
      ... on TextMetadataEntry { text } ... on UrlMetadataEntry { url }
      ... on MarkdownMetadataEntry { mdStr } ... on JsonMetadataEntry { jsonString } } } } } }
  repositoriesOrError { ... on RepositoryConnection { nodes { name
    allTopLevelResourceDetails { name description configFields { name defaultValueAsJson }
      configuredValues { key value } } } } }
  workspaceOrError { ... on Workspace { locationEntries { name
    locationOrLoadError { ... on PythonError { message stack } } } } }
}"""
LOGS = """query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
  __typename ... on MessageEvent { message }
  ... on ErrorEvent { error { message stack } } } } } }"""


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request):
    """Where Dagster keeps its history: the variables of its environment."""
    if request.param == "sqlite":
        yield {"DAGSTER_PG_PASSWORD": PASSWORD}
        return
    with postgresql() as port:
        yield {
            "DAGSTER_PG_HOST": "127.0.0.1",
            "DAGSTER_PG_PORT": str(port),
            "DAGSTER_PG_DB": DATABASE,
            "DAGSTER_PG_USERNAME": USER,
            "DAGSTER_PG_PASSWORD": PASSWORD,
        }


@pytest.fixture
def environment(dagster_environment, storage, mongodb_url, small_night, monkeypatch):
    """An archive that needs every secret there is."""
    place = urlsplit(mongodb_url)
    # FerretDB takes any password, but has to be given one.
    user = f"roboao:{SECRETS[CATALOGUE]}"
    url = f"mongodb://{user}@{place.netloc}{place.path}?authMechanism=PLAIN"
    for name, value in (storage | {"DAGSTER_HOME": dagster_environment["DAGSTER_HOME"]}).items():
        monkeypatch.setenv(name, value)
    config = prepare_dagster_home(Settings()) / "dagster.yaml"
    if "DAGSTER_PG_HOST" in storage:
        config.write_text(config.read_text() + SECTION.read_text())
    dashboard, metrics, dagster = free_port(), free_port(), free_port()
    return (
        dagster_environment
        | storage
        | {
            "ROBOAO_RAW_ROOTS": str(small_night),
            "ROBOAO_CATALOGUE_URL": url,
            "ROBOAO_COOKIE_SECRET": SECRETS["the cookie secret"],
            "PANEL_OAUTH_PROVIDER": "github",
            "PANEL_OAUTH_KEY": "the-archive",
            "PANEL_OAUTH_SECRET": SECRETS["the single sign-on's secret"],
            "ROBOAO_DASHBOARD_PORT": str(dashboard),
            "ROBOAO_METRICS_PORT": str(metrics),
            "ROBOAO_DAGSTER_PORT": str(dagster),
            "ROBOAO_SURVEY__ENABLED": "false",
            "ROBOAO_ARCHIVING_START_DATE": "2017-06-05",
        }
    )


class Told:
    """What the processes have said, kept for the search."""

    def __init__(self, folder):
        self.folder, self.number = folder, 0
        folder.mkdir()

    def keep(self, name, content):
        self.number += 1
        path = self.folder / f"{self.number:03d}-{re.sub(r'[^a-z0-9]+', '-', name.lower())[:40]}"
        path.write_bytes(content)

    def run(self, environment, *words, given=None):
        ran = subprocess.run(
            [sys.executable, "-m", *words],
            env=environment,
            cwd=environment["DAGSTER_HOME"],
            input=given,
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
        )
        self.keep(" ".join(words), ran.stdout + ran.stderr)
        return ran


@contextmanager
def running(environment, log, *words):
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            env=environment,
            cwd=environment["DAGSTER_HOME"],
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def provoke_a_failed_task(address, settings):
    from distributed import Client as DaskClient

    from roboao_assets.orchestration.observation_task import ObservationTask, TaskRules
    from roboao_assets.storage.sent_settings import settings_to_send

    def fail_in_a_task(rules, task):
        # What Dask writes of it into the log of the worker holds the arguments.
        raise ValueError("a defect, on purpose")

    rules = TaskRules(
        run_id="canary",
        owner="canary",
        settings_json=settings_to_send(settings),
        force=False,
        time_limit_s=60.0,
    )
    task = ObservationTask(night=NIGHT, observation="x", stages=("bright_star_stack",))
    with DaskClient(address, set_as_default=False) as client:
        future = client.submit(fail_in_a_task, rules, task, pure=False)
        error = future.exception(timeout=60)
        assert "on purpose" in str(error)
        logs = [client.get_worker_logs(), client.get_scheduler_logs(), client.get_events()]
        state = client.run_on_scheduler(
            lambda dask_scheduler: repr(
                [(t, t.run_spec, t.exception_text) for t in dask_scheduler.tasks.values()]
            )
        )
    said = repr(logs) + repr(state) + repr(error) + repr(rules)
    assert "fail_in_a_task" in said, "the log of the failure is looked at"
    return said.encode()


def ask(url, data=None, headers=None):
    request = urllib.request.Request(url, data, headers or {})
    with urllib.request.urlopen(request, timeout=120) as reply:
        return str(reply.headers).encode() + reply.read()


def graphql(port, query, **variables):
    body = json.dumps({"query": query, "variables": variables}).encode()
    url = f"http://127.0.0.1:{port}/graphql"
    return ask(url, body, {"Content-Type": "application/json"})


def look_at_everything(environment, told, archive):
    """Every answer of the services of `roboao serve`; returns secrets that were made meanwhile."""
    dagster = environment["ROBOAO_DAGSTER_PORT"]
    answer = graphql(dagster, QUERIES)
    told.keep("graphql", answer)
    asked = json.loads(answer[answer.index(b'{"data"') :])["data"]
    runs = asked["runsOrError"]["results"]
    assert len(runs) >= 3, "the runs of the night are seen"
    for run in runs:
        told.keep("logs of a run", graphql(dagster, LOGS, id=run["runId"]))
    told.keep("metrics", ask(f"http://127.0.0.1:{environment['ROBOAO_METRICS_PORT']}/metrics"))
    address = f"http://127.0.0.1:{environment['ROBOAO_DASHBOARD_PORT']}"
    client = Client(address)
    assert client.log_in("chief", WRONG)[0] == 403
    assert client.log_in("chief", SECRETS["the user's password"])[0] == 303
    observation = next(p.name for p in (archive / NIGHT).iterdir() if p.name[:1].isdigit())
    more = {"/night": f"?night={NIGHT}", "/observation": f"?id={quote(observation)}"}
    for route in all_routes(str(archive.parent / "asked")):
        if "get" in route.methods and not route.is_socket:
            status, headers, body = client.ask(route.path + more.get(route.path, ""))
            told.keep(f"answer {route.path}", f"{status} {headers}".encode() + body)
    query = urlencode({"tool": "curl", "what": "packages", "date_from": "2017-06-07"})
    script = client.ask(f"/script?{query}")
    assert script[0] == 200, script[2]
    token = re.search(rb"ROBOAO_TOKEN:-([^}]+)}", script[2])[1].decode()
    package = {"observation": observation, "name": f"{observation}.tar.bz2"}
    sent = {"Authorization": f"Bearer {token}"}
    assert Client(address).ask(f"/file?{urlencode(package)}", headers=sent)[0] == 200
    return {"a download token": token, "a session": client.session.value}


def in_catalogue(url):
    with MongoClient(url) as client:
        database = client.get_default_database()
        for name in database.list_collection_names():
            yield from in_rows(f"catalogue {name}", ([str(d)] for d in database[name].find({})))


def in_postgresql(environment):
    import psycopg2

    connection = psycopg2.connect(
        host="127.0.0.1",
        port=environment["DAGSTER_PG_PORT"],
        user=USER,
        password=PASSWORD,
        dbname=DATABASE,
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for (table,) in cursor.fetchall():
            cursor.execute(f'SELECT * FROM "{table}"')
            yield from in_rows(f"PostgreSQL {table}", cursor.fetchall())
    connection.close()


def fail_everywhere(environment, told):
    """The same with the database away or the address wrong; nothing may succeed."""
    for url in WRONG_URLS:
        away = environment | {"ROBOAO_CATALOGUE_URL": url}
        commands = COMMANDS if url == WRONG_URLS[0] else (("status", NIGHT), ("user", "list"))
        for words in commands:
            ran = told.run(away, "roboao_assets.cli", *words)
            assert b"Traceback" not in ran.stderr, (words, ran.stderr[-2000:])
    away = environment | {"ROBOAO_CATALOGUE_URL": WRONG_URLS[0]}
    night = told.run(away, "roboao_assets.cli", "night", NIGHT, "--force")
    assert night.returncode != 0
    backup = told.run(away, "roboao_assets.cli", "backup", str(told.folder))
    assert backup.returncode != 0
    words = ["dagster", "asset", "materialize", "-m", "roboao_assets.definitions", "--select"]
    failed = told.run(away, *words, "master_darks", "--partition", NIGHT)
    assert failed.returncode != 0
    lost = told.run(environment | {"DAGSTER_PG_PORT": "9"}, "roboao_assets.cli", "status")
    assert b"Traceback" not in lost.stderr
    port = free_port()
    log = told.folder / "dashboard-without-catalogue"
    with running(away, log, "dashboards.app", "--port", str(port)):
        wait_until(lambda: log.read_bytes() or _listens(port), 120, "the dashboard", log)
        client = Client(f"http://127.0.0.1:{port}")
        deadline = time.monotonic() + 60
        while not _listens(port) and time.monotonic() < deadline:
            time.sleep(0.2)
        for path in ("/login", "/", "/night?night=x", "/image?key=x"):
            told.keep("without catalogue", repr(client.ask(path)).encode())


def _listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def cluster(environment, told):
    """A scheduler and a worker of their own, which say all they have to say."""
    talking = environment | {
        "DASK_LOGGING__DISTRIBUTED": "debug",
        "DASK_DISTRIBUTED__ADMIN__LOG_LENGTH": "100000",
    }
    file = told.folder.parent / "scheduler.json"
    where = ["--scheduler-file", str(file), "--host", "127.0.0.1"]
    scheduler = ["distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard"]
    worker = ["distributed.cli.dask_worker", "--nthreads", "1", "--no-dashboard"]
    with running(talking, told.folder / "scheduler", *scheduler, *where):
        wait_until(file.exists, 120, "the scheduler", told.folder / "scheduler")
        with running(talking, told.folder / "worker", *worker, *where):
            yield json.loads(file.read_text())["address"]


def test_no_secret_is_left_anywhere(environment, tmp_path, monkeypatch, ledger):
    told = Told(tmp_path / "told")
    archive = tmp_path / "archive"
    roboao = "roboao_assets.cli"
    secrets = SECRETS | {PG: PASSWORD}
    leaks = set()
    with cluster(environment, told) as address:
        environment = environment | {"ROBOAO_DASK_SCHEDULER": address}
        reduced = told.run(environment, roboao, "night", NIGHT)
        assert reduced.returncode == 0, reduced.stdout[-3000:]
        leaks |= found(secrets, in_processes())[0]
        monkeypatch.setenv("ROBOAO_CATALOGUE_URL", environment["ROBOAO_CATALOGUE_URL"])
        told.keep("dask", provoke_a_failed_task(address, Settings(archive_root=archive)))
    environment["ROBOAO_DASK_SCHEDULER"] = ""
    password = SECRETS["the user's password"].encode() + b"\n"
    added = told.run(
        environment, roboao, "user", "add", "chief", "--programs", "all", "--password-stdin",
        given=password,
    )  # fmt: skip
    assert added.returncode == 0, added.stderr
    serve = tmp_path / "told" / "serve"
    with running(environment, serve, roboao, "serve"):
        for name in ("DAGSTER", "DASHBOARD", "METRICS"):
            port = int(environment[f"ROBOAO_{name}_PORT"])
            ready = (
                (lambda p=port: answers(p)) if name == "DAGSTER" else (lambda p=port: _listens(p))
            )
            wait_until(ready, 300, f"the start of {name}", serve)
        made = look_at_everything(environment, told, archive)
        leaks |= found(secrets | made, in_processes())[0]
    for words in COMMANDS:
        ran = told.run(environment, roboao, *words)
        assert ran.returncode == 0, (words, ran.stderr[-2000:])
    observation = next(p.name for p in (archive / NIGHT).iterdir() if p.name[:1].isdigit())
    assert told.run(environment, roboao, "explain", observation).returncode == 0
    assert told.run(environment, roboao, "backup", str(tmp_path / "backups")).returncode == 0
    fail_everywhere(environment, told)

    # The page of a script holds its token, and the answers of the log-in their cookie.
    everywhere, searched = found(secrets | made, in_folder(tmp_path))
    leaks |= everywhere
    leaks |= found(secrets | made, in_catalogue(environment["ROBOAO_CATALOGUE_URL"]))[0]
    if "DAGSTER_PG_HOST" in environment:
        more, number = found(secrets | made, in_postgresql(environment))
        leaks, searched = leaks | more, searched + number
    assert leaks == set()
    assert searched > 10_000_000, "a night leaves more than that to be searched"
    print(f"{len(secrets | made)} secrets, {searched / 1e6:.0f} MB searched")


def test_the_search_finds_what_is_hidden(tmp_path):
    """In packages, in compressed values of databases, in another spelling."""
    import bz2
    import sqlite3
    import zlib

    secret = {"it": 'c4nary "x" y'}
    (tmp_path / "a.bz2").write_bytes(bz2.compress(b"-- c4nary%20%22x%22%20y --"))
    with sqlite3.connect(tmp_path / "b.db") as database:
        database.execute("CREATE TABLE t (a)")
        database.execute("INSERT INTO t VALUES (?)", [zlib.compress(b'{"p": "c4nary \\"x\\" y"}')])
    leaks, _ = found(secret, in_folder(tmp_path))
    assert {leak.split(" in ")[1] for leak in leaks} == {
        f"{tmp_path}/a.bz2 (unpacked)",
        f"{tmp_path}/b.db t (unpacked)",
    }
    assert found(secret, unpacked("clean", b"c4nary"))[0] == set()
