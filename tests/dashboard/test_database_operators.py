"""Operators of a database in addresses and forms are text, in both homes of the catalogue."""

from urllib.parse import quote

import pytest
from catalogue_homes import HOMES
from plausible import TARGETS, observation_id
from product_tree import write_tree
from test_every_route import NAMING, SEEN, addresses, fill_archive, state
from visiting import Client, logged_in

from roboao_assets.storage.catalogue import is_login, open_catalogue

HIDDEN = observation_id(TARGETS[1])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("operators") / "archive"
    write_tree(root)
    return root


@pytest.fixture(scope="module", params=HOMES)
def url(request, root):
    if request.param == "sqlite":
        url = f"sqlite:///{root}/catalogue.sqlite"
        fill_archive(url)
        yield url
        return
    from pymongo import MongoClient

    url = request.getfixturevalue("mongodb_server").rstrip("/") + "/operators"
    with MongoClient(url) as client:
        try:
            fill_archive(url)
            yield url
        finally:
            client.drop_database("operators")


@pytest.fixture(scope="module")
def server(start_server, url, root):
    return start_server(url, ROBOAO_ARCHIVE_ROOT=str(root))


@pytest.fixture(scope="module")
def clients(server):
    return {name: logged_in(server, name) for name in ("user", "admin")}


OPERATORS = (
    '{"$gt": ""}',
    '{"$ne": null}',
    '{"$regex": ".*"}',
    '{"$where": "sleep(5000) || true"}',
    "$where",
    "$gt",
    ".*",
    "a.b.c",
    "science_program.program_id",
    "' OR '1'='1",
    "x'; DROP TABLE objects; --",
    "\0",
    "true, $or: [ {}, {'a': 'a",
)
SUFFIXES = ("[$ne]", "[$gt]", "[$regex]", "[$where]", ".$ne", "[]")


@pytest.mark.parametrize("path", NAMING)
def test_operators_in_an_address_are_text(clients, url, path):
    before = state(url)
    asked = [address for value in OPERATORS for address in addresses(path, value)]
    asked += [address for suffix in SUFFIXES for address in addresses(path, "", suffix)]
    for address in asked:
        status, _, body = clients["user"].ask(address)
        assert status < 500, address
        assert HIDDEN.encode() not in body, address
        assert quote(HIDDEN, safe="").encode() not in body, address
    assert state(url) == before


@pytest.mark.parametrize("value", OPERATORS)
def test_operators_in_a_comment_are_its_text(clients, url, value):
    told = clients["user"].post("/comment", observation=SEEN, text=value)
    assert told[0] in (200, 303, 400)
    with open_catalogue(url) as catalogue:
        kept = catalogue.comments.of(SEEN)
        assert [c.text for c in kept] in ([value], []), "as it was written, or not at all"
        assert kept or value == "\0"
        for comment in kept:
            catalogue.comments.remove(comment.identifier)


@pytest.mark.parametrize("value", [o for o in OPERATORS if not is_login(o)])
def test_operators_do_not_choose_what_is_changed(clients, url, value):
    """Ids and names of forms that are operators change nothing and log nobody in."""
    before = state(url)
    admin = clients["admin"]
    secret = {"password": "a password of eve", "again": "a password of eve"}
    for fields in (
        {"action": "redo", "subject": value, "product": "bright_star"},
        {"action": "redo", "subject": SEEN, "product": value},
        {"action": "remove-user", "name": value},
        {"action": "set-programs", "name": value, "programs": "all"},
        {"action": "set-programs", "name": "user", "programs": value},
        {"action": "set-password", "name": value, **secret},
        {"action": "add-user", "name": value, **secret},
        {"action": value},
    ):
        assert admin.post("/administration/action", **fields)[0] in (200, 303, 400, 404), fields
    for fields in ({"observation": value, "text": "x"}, {"observation": SEEN, "delete": value}):
        assert clients["user"].post("/comment", **fields)[0] in (400, 404)
    assert state(url) == before


def test_operators_log_nobody_in(server):
    for fields in (
        {"name[$ne]": "", "password[$ne]": ""},
        {"name": '{"$gt": ""}', "password": '{"$gt": ""}'},
        {"name": "admin", "password[$ne]": "x"},
    ):
        client = Client(server)
        assert client.post("/login", **fields)[0] == 403
        assert client.session is None
