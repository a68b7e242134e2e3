"""Scripts that fetch files, run by a real shell with the real curl and wget."""

import hashlib
import os
import re
import shutil
import stat
import subprocess
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plausible import NIGHT, TARGETS, fill, observation_id
from product_tree import OBSERVATION, write_tree
from visiting import Client, add_user, logged_in

from dashboards.access import Access, Asked
from dashboards.download_script import Entry, ScriptHead, script_text
from dashboards.download_tokens import DownloadTokens
from dashboards.script_links import script_links
from dashboards.source import CatalogueSource
from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.paths import ArchivePaths

HIDDEN = observation_id(TARGETS[1])
PACKAGE = f"{OBSERVATION}.tar.bz2"
SEARCH = {"date_from": "2017-06-07", "date_to": "2017-06-07"}


def has(tool):
    if shutil.which(tool) is None:
        message = f"no {tool} on this machine: its script was NOT tested"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def url(root):
    url = f"sqlite:///{root}/catalogue.sqlite"
    write_tree(root)
    package = ArchivePaths(root).package(NIGHT, OBSERVATION)
    with open_catalogue(url) as catalogue:
        fill(catalogue)
        mark_packed(catalogue, package)
        catalogue.set_distributed(HIDDEN, False)
    add_user(url)
    add_user(url, "user", ["24.1"])
    add_user(url, "other", ["4"])
    return url


def mark_packed(catalogue, package):
    content = package.read_bytes()
    made = {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    catalogue.set_distributed(OBSERVATION, True, [package.name], package=made)


@pytest.fixture(scope="module")
def server(start_server, url, root):
    return start_server(url, ROBOAO_ARCHIVE_ROOT=str(root))


@pytest.fixture(scope="module")
def user(server):
    return logged_in(server, "user")


def script_of(client, tool="curl", what="packages", **search):
    query = urlencode({"tool": tool, "what": what} | (search or SEARCH))
    status, headers, body = client.ask(f"/script?{query}")
    return status, headers, body.decode()


def run(text, folder, **variables):
    script = folder / "script.sh"
    script.write_text(text)
    return subprocess.run(
        ["/bin/sh", str(script)],
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("tool", ["curl", "wget"])
def test_a_script_fetches_goes_on_and_leaves_what_is_there(user, root, tmp_path, tool):
    has(tool)
    status, headers, text = script_of(user, tool)
    assert status == 200
    assert headers["Cache-Control"] == "no-store"
    content = ArchivePaths(root).package(NIGHT, OBSERVATION).read_bytes()
    (tmp_path / f"{PACKAGE}.part").write_bytes(content[:700])
    ran = run(text, tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == f"got  ./{PACKAGE}\nAll 1 files are here.\n"
    assert (tmp_path / PACKAGE).read_bytes() == content
    again = run(text, tmp_path)
    assert (again.returncode, again.stdout) == (0, f"have ./{PACKAGE}\nAll 1 files are here.\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([PACKAGE, "script.sh"])


@pytest.mark.parametrize("tool", ["curl", "wget"])
def test_what_was_spoilt_on_the_way_is_fetched_anew(user, root, tmp_path, tool):
    has(tool)
    content = ArchivePaths(root).package(NIGHT, OBSERVATION).read_bytes()
    (tmp_path / f"{PACKAGE}.part").write_bytes(b"x" * len(content))
    (tmp_path / PACKAGE).write_bytes(b"y" * len(content))
    ran = run(script_of(user, tool)[2], tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert (tmp_path / PACKAGE).read_bytes() == content


def test_single_files_come_into_a_folder_of_their_observation(user, root, tmp_path):
    has("curl")
    ran = run(script_of(user, what="files", text=OBSERVATION, match="exact")[2], tmp_path)
    assert ran.returncode == 0, ran.stderr
    folder = ArchivePaths(root).observation(NIGHT, OBSERVATION)
    wanted = {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and path.name != PACKAGE
    }
    assert len(wanted) > 3
    got = tmp_path / OBSERVATION
    assert {p.relative_to(got): p.read_bytes() for p in got.rglob("*") if p.is_file()} == wanted


def test_a_script_without_rights_says_what_is_missing(user, server, tmp_path, url):
    has("curl")
    text = script_of(user)[2]
    spoilt = run(text, tmp_path, ROBOAO_TOKEN="nothing")
    assert spoilt.returncode == 1
    assert f"FAILED: ./{PACKAGE}" in spoilt.stderr
    assert "1 of 1 files are missing" in spoilt.stderr
    assert run(text, tmp_path).returncode == 0
    (tmp_path / PACKAGE).unlink()
    assert user.post("/account/end-tokens")[0] == 303
    assert run(text, tmp_path).returncode == 1
    assert user.ask("/")[0] == 200, "the session goes on"
    assert run(script_of(user)[2], tmp_path).returncode == 0


def test_who_may_not_see_it_finds_nothing_in_a_script(server):
    status, _, text = script_of(logged_in(server, "other"))
    assert status == 404
    assert "nothing to fetch" in text
    everything = script_of(logged_in(server))[2]
    assert PACKAGE in everything
    assert HIDDEN not in everything
    assert (
        Client(server).ask(f"/script?{urlencode({'tool': 'curl', 'what': 'packages'})}")[0] == 404
    )


def token_of(client):
    line = next(x for x in script_of(client)[2].splitlines() if x.startswith("token="))
    return line.removeprefix("token=${ROBOAO_TOKEN:-").removesuffix("}")


FILE = f"/file?{urlencode({'observation': OBSERVATION, 'name': PACKAGE})}"
HIDDEN_FILE = f"/file?{urlencode({'observation': HIDDEN, 'name': f'{HIDDEN}.tar.bz2'})}"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (FILE, 200),
        (HIDDEN_FILE, 404),
        ("/", 404),
        (f"/night?night={NIGHT}", 404),
        (f"/observation?id={quote(OBSERVATION)}", 404),
        (f"/image?key={quote(OBSERVATION + '/bright_star/full', safe='')}", 404),
        ("/search/table?format=csv", 404),
        ("/script?tool=curl&what=packages", 404),
        ("/account", 404),
        ("/psf-library", 404),
        ("/ws", 404),
        ("/static/js/bokeh.min.js", 404),
    ],
)
def test_a_token_is_good_for_files_and_nothing_else(server, user, path, status):
    stranger = Client(server)
    headers = {"Authorization": f"Bearer {token_of(user)}"}
    assert stranger.ask(path, headers=headers)[0] == status
    admin = {"Authorization": f"Bearer {token_of(logged_in(server))}"}
    assert stranger.ask(path, headers=admin)[0] == (404 if path == HIDDEN_FILE else status)


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer x", "Basic dXNlcjpwdw==", "bearer {}", "Bearer {}x",
     "Bearer " + "9" * 40_000, "Bearer 2|1:0|10:1|15:roboao-download|4:e30=|" + "0" * 64],
)  # fmt: skip
def test_what_is_no_token_is_a_strangers_whatever_the_cookies(server, user, header):
    text = header.replace("{}", token_of(user))
    assert user.ask(FILE, headers={"Authorization": text})[0] == 404


def test_a_token_ends_with_its_time_and_with_any_change_of_its_user(url):
    source = CatalogueSource(url)
    tokens = DownloadTokens(source, "s" * 64, days=1)
    with open_catalogue(url) as catalogue:
        add_user(url, "mortal", ["24.1"])
        made = catalogue.users.get("mortal")
        header = f"Bearer {tokens.make(made)}"
        visitor = tokens.find(header)
        assert (visitor.name, visitor.by_token) == ("mortal", True)
        assert Access(source).may(visitor, Asked("observation", OBSERVATION))
        assert not Access(source).may(visitor, Asked("observation", HIDDEN))
        assert DownloadTokens(source, "s" * 64, days=-1).find(header) is None
        assert DownloadTokens(source, "t" * 64, days=1).find(header) is None
        for change in (
            lambda: catalogue.users.set_programs("mortal", ["24.1"]),
            lambda: catalogue.users.set_password("mortal", "$other$"),
            lambda: catalogue.users.end_tokens("mortal"),
            lambda: catalogue.users.remove("mortal"),
        ):
            header = f"Bearer {tokens.make(catalogue.users.get('mortal'))}"
            assert tokens.find(header) is not None
            change()
            assert tokens.find(header) is None


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({}, "tool=curl or wget"),
        ({"tool": "sh", "what": "packages"}, "tool=curl or wget"),
        ({"tool": "curl", "what": "../etc"}, "what=packages or files"),
        ({"tool": "curl", "what": "packages", "nothing": "1"}, "no field"),
        ({"tool": "curl", "what": "packages", "magnitude_min": "{$gt: 1}"}, "is a number"),
        ({"tool": "curl", "what": "packages", "text": "x" * 50_000}, "characters"),
    ],
)
def test_hostile_or_meaningless_addresses_are_answered_with_a_sentence(user, query, sentence):
    status, _, body = user.ask(f"/script?{urlencode(query)}")
    assert status == 400
    assert sentence in body.decode()


@given(
    st.lists(st.text(max_size=40), max_size=6),
    st.text(max_size=80),
    st.sampled_from(["curl", "wget"]),
)
def test_no_name_becomes_a_command_or_leads_elsewhere(names, title, tool):
    head = ScriptHead(
        title=title, name="x.sh", user=title, until="", base_url="http://127.0.0.1:9", token="t"
    )
    entries = [Entry(target=n, size_bytes=1, sha256="", address=f"/{n}") for n in names]
    text = script_text(tool, head, entries)
    listed = text[text.index("# file, bytes, SHA-256 or -, address") :]
    # The same lines with a harmless `get` in its place: what a shell takes them for.
    lines = [line for line in listed.splitlines() if line.startswith("get ")]
    program = 'get() { printf "%s\\n" "$#"; printf "%s\\0" "$1" >&2; }\n' + "\n".join(lines)
    ran = subprocess.run(["/bin/sh", "-c", program], capture_output=True, check=True)
    assert ran.stdout == b"4\n" * len(lines)
    targets = [t for t in ran.stderr.decode("utf-8", "surrogateescape").split("\0") if t]
    for target in targets:
        inside = os.path.normpath(os.path.join("/here", target))
        assert inside.startswith("/here/")
    assert len(text.splitlines()) == len(script_text(tool, head, []).splitlines()) + len(names)


def test_a_script_is_not_in_the_list_of_processes_and_its_login_is_private(tmp_path):
    """curl is given the token by a file of mode 600, and the file is gone at the end."""
    has("curl")
    fake = tmp_path / "bin"
    fake.mkdir()
    seen = tmp_path / "seen"
    (fake / "curl").write_text(
        f'#!/bin/sh\nprintf "%s " "$@" > {seen}\nstat -c %a "$2" >> {seen}\nexit 22\n'
    )
    (fake / "curl").chmod(stat.S_IRWXU)
    head = ScriptHead(
        title="t", name="x.sh", user="u", until="", base_url="http://127.0.0.1:9", token="geheim"
    )
    text = script_text("curl", head, [Entry(target="a", size_bytes=1, sha256="", address="/a")])
    ran = run(text, tmp_path, PATH=f"{fake}:{os.environ['PATH']}", TMPDIR=str(tmp_path))
    assert ran.returncode == 1
    told = seen.read_text()
    assert "geheim" not in told
    assert told.endswith("600\n")
    assert {p.name for p in tmp_path.iterdir()} == {"bin", "seen", "script.sh"}


def test_the_pages_lead_to_the_scripts(user):
    night = user.ask(f"/night?night={NIGHT}")[2].decode()
    address = re.search(r'href="(/script[^"]+tool=curl[^"]+packages[^"]+)"', night)[1]
    status, _, body = user.ask(address.replace("&amp;", "&"))
    assert status == 200
    assert PACKAGE in body.decode()
    links = script_links({"text": '"><script>', "match": "exact"})
    assert "<script>" not in links
    assert links.count("/script?tool=") == 4
