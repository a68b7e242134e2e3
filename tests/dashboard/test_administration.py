"""Administration and comments over HTTP: who may, what it does to the catalogue, hostile input."""

import re
from html import unescape
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from plausible import NIGHT, TARGETS, fill, observation_id
from test_login import pull_document, shake_hands, token_in
from visiting import Client, add_user, logged_in

from dashboards.access import Access, AccessError, Visitor
from dashboards.administration_actions import Administration
from dashboards.source import CatalogueSource
from roboao_assets.science.errors import CatalogueError
from roboao_assets.storage.catalogue import ObservationQuery, open_catalogue
from roboao_assets.storage.passwords import verify_password
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.records import read_comments
from roboao_assets.storage.settings import Settings

SEEN, HIDDEN = (observation_id(TARGETS[i]) for i in (0, 1))
OTHER_NIGHT = "20170606"
VISITORS = ("stranger", "other", "user", "admin")
PROGRAMS = {"other": ["4", "24", "24.10"], "user": ["24.1"], "admin": "all", "riddle": "all"}
ADMIN_PAGES = (
    "/administration",
    f"/administration/redo?{urlencode({'subject': SEEN})}",
    f"/administration/calibration?night={OTHER_NIGHT}",
    "/administration/users",
    "/administration/log",
)
HOSTILE = (
    "<script>alert(1)</script>",
    "../../../etc/passwd",
    '{"$ne": null}',
    "' OR 1=1 --",
    "\u202e\U0001f52d\u0000x",
    "x" * 19_000,
    "x" * 30_000,
)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('administration')}/catalogue.sqlite"
    with open_catalogue(url) as catalogue:
        fill(catalogue)
        for document in catalogue.find_observations(ObservationQuery(summary_only=True)):
            catalogue.set_distributed(document["_id"], document["_id"] == SEEN)
    for name, programs in PROGRAMS.items():
        add_user(url, name, programs)
    return url


@pytest.fixture(scope="module")
def root(url):
    return Path(urlsplit(url).path).parent


@pytest.fixture(scope="module")
def server(start_server, url, root):
    return start_server(url, ROBOAO_ARCHIVE_ROOT=str(root), ROBOAO_RAW_ROOTS=str(root / "raw"))


@pytest.fixture(scope="module")
def clients(server):
    clients = {name: logged_in(server, name) for name in PROGRAMS}
    return clients | {"stranger": Client(server)}


@pytest.fixture
def catalogue(url):
    with open_catalogue(url) as opened:
        yield opened


TOKENS = {}


def send(client, route, **fields):
    if client not in TOKENS:
        TOKENS[client] = client.form_token()
    return client.ask(route, urlencode({"_xsrf": TOKENS[client], **fields}).encode())


def act(client, **fields):
    return send(client, "/administration/action", **fields)


def sentence(client, answer):
    """The sentence on the page to which a form's answer leads."""
    status, headers, body = answer
    assert status == 303, body
    page = client.ask(headers["Location"])[2].decode()
    document = pull_document(client.address, urlsplit(headers["Location"]).path, client, page)
    # Panel sends what is shown escaped once more.
    said = re.search(r'class="answer(?: bad)?" role="status">(.*?)</p>', plain(document))
    assert said, plain(document)[-3000:]
    return unescape(said[1])


def plain(document):
    return unescape(document.replace('\\"', '"'))


@pytest.mark.parametrize("visitor", VISITORS)
@pytest.mark.parametrize("page", ADMIN_PAGES)
def test_pages_are_for_administrators(server, clients, page, visitor):
    status, headers, body = clients[visitor].ask(page)
    if visitor == "stranger":
        assert (status, headers["Location"]) == (302, f"/login?{urlencode({'next': page})}")
    elif visitor != "admin":
        nothing = clients[visitor].ask("/nothing")
        assert (status, body) == (404, nothing[2])
    else:
        assert status == 200
        path = urlsplit(page).path
        document = pull_document(server, path, clients["admin"], body.decode())
        assert "admin-links" in document
        assert "No such page" not in document


@pytest.mark.parametrize("visitor", [v for v in VISITORS if v != "admin"])
@pytest.mark.parametrize("page", ADMIN_PAGES)
def test_websockets_are_for_the_log_in_to_which_the_page_was_sent(server, clients, page, visitor):
    path = urlsplit(page).path
    token = token_in(clients["admin"].ask(page)[2].decode())
    assert shake_hands(server, path, clients["admin"].cookie_header(), token) == 101
    # Of another's page, and of an own page at this address.
    assert shake_hands(server, path, clients[visitor].cookie_header(), token) == 404
    if visitor != "stranger":
        own = token_in(clients[visitor].ask("/")[2].decode())
        assert shake_hands(server, path, clients[visitor].cookie_header(), own) == 404
    another = clients["riddle"].cookie_header()
    assert shake_hands(server, path, another, token) == 404, "another administrator's page"


ACTIONS = {
    "redo": {"subject": HIDDEN, "product": "bright_star"},
    "pca": {"night": NIGHT},
    "copy-calibration": {"night": OTHER_NIGHT},
    "add-user": {"name": "eve", "password": "a password of eve", "again": "a password of eve"},
    "set-password": {
        "name": "admin",
        "password": "a password of eve",
        "again": "a password of eve",
    },
    "set-programs": {"name": "other", "programs": "all"},
    "remove-user": {"name": "riddle"},
}


@pytest.mark.parametrize("visitor", [v for v in VISITORS if v != "admin"])
@pytest.mark.parametrize("action", ACTIONS)
def test_actions_are_for_administrators(clients, catalogue, action, visitor):
    before = state(catalogue)
    status, _, body = act(clients[visitor], action=action, **ACTIONS[action])
    assert (status, body) == (404, clients[visitor].ask("/nothing")[2])
    assert state(catalogue) == before


def state(catalogue):
    return catalogue.users.all(), catalogue.requests.all(), catalogue.actions.newest()


@pytest.mark.parametrize("action", ACTIONS)
def test_without_its_token_no_form_is_carried_out(clients, catalogue, action):
    before = state(catalogue)
    fields = urlencode({"action": action, **ACTIONS[action]}).encode()
    assert clients["admin"].ask("/administration/action", fields)[0] == 403
    assert clients["admin"].ask(f"/administration/action?{fields.decode()}")[0] in (404, 405)
    assert state(catalogue) == before


def newest(catalogue):
    (action,) = catalogue.actions.newest(limit=1)
    return action.subject, action.action, action.by


def test_an_observation_is_asked_for_with_what_is_made_from_it(clients, catalogue):
    fields = {"subject": HIDDEN, "product": "bright_star.strehl", "why": "a <b>better</b> dark"}
    page = clients["admin"].ask(f"/administration/redo?{urlencode(fields)}")[2].decode()
    told = pull_document(clients["admin"].address, "/administration/redo", clients["admin"], page)
    assert catalogue.requests.of(HIDDEN) is None, "looking asks for nothing"
    assert "admin-links" in told
    answer = act(clients["admin"], action="redo", **fields)
    assert sentence(clients["admin"], answer).startswith(f"bright_star.strehl of {HIDDEN}")
    asked = catalogue.requests.of(HIDDEN).stages["strehl_ratio"]
    assert (asked.by, asked.why, asked.force) == ("admin", "a <b>better</b> dark", True)
    assert newest(catalogue) == (HIDDEN, "asked for bright_star.strehl again", "admin")


def test_a_night_and_its_calibration_and_its_pca_are_asked_for(clients, catalogue):
    admin = clients["riddle"]
    told = sentence(admin, act(admin, action="redo", subject=NIGHT, product="faint_star"))
    assert "observations of 2017-06-07" in told
    of_night = [r for r in catalogue.requests.all() if "faint_star_stack" in r.stages]
    assert len(of_night) == len(TARGETS)
    assert newest(catalogue) == (NIGHT, "asked for faint_star again", "riddle")
    told = sentence(admin, act(admin, action="redo", subject=NIGHT, product="calibration"))
    assert told == f"The masters and the seeing of {NIGHT} will be made again."
    assert "master_darks" in catalogue.requests.of(NIGHT).stages
    told = sentence(admin, act(admin, action="pca", night="2017-06-07"))
    assert told.startswith("The PCA of ")
    assert "pca_residual" in catalogue.requests.of(SEEN).stages
    assert newest(catalogue) == (NIGHT, "asked for the PCA again", "riddle")


def test_what_cannot_be_copied_is_said(clients):
    admin = clients["admin"]
    told = sentence(admin, act(admin, action="copy-calibration", night=OTHER_NIGHT))
    assert told.startswith("Nothing was changed: ")
    assert OTHER_NIGHT in told


def test_users_are_added_changed_and_removed(server, clients, catalogue):
    admin, secret = clients["admin"], "correct horse battery"

    def said(action, **fields):
        return sentence(admin, act(admin, action=action, **fields))

    typed = {"name": "eve", "password": secret, "again": secret}
    assert said("add-user", **typed, programs=" 4, 24.1 ") == "User eve sees 4, 24.1."
    assert catalogue.users.get("eve").programs == ("4", "24.1")
    assert newest(catalogue) == ("eve", "user added", "admin")
    assert "a user eve already" in said("add-user", **typed)
    assert "not the same" in said("add-user", **(typed | {"name": "x", "again": "x" * 20}))
    short = {"password": "short", "again": "short"}
    assert "12 to 1024 characters" in said("add-user", name="x", **short)
    assert catalogue.users.get("x") is None
    said("set-programs", name="eve", programs="none")
    assert catalogue.users.get("eve").programs == ()
    assert "no program" in said("set-programs", name="eve", programs="4;5")
    said("set-password", name="eve", password=secret + "!", again=secret + "!")
    assert verify_password(catalogue.users.get("eve").password_hash, secret + "!")
    assert said("remove-user", name="eve") == "User eve was removed."
    assert catalogue.users.get("eve") is None
    assert newest(catalogue) == ("eve", "user removed", "admin")
    assert "no user" in said("remove-user", name="eve")
    assert secret not in str(catalogue.actions.newest())


def test_the_last_administrator_stays(tmp_path):
    url = f"sqlite:///{tmp_path}/catalogue.sqlite"
    for name, programs in (("ann", "all"), ("law", ["4"])):
        add_user(url, name, programs)
    administration = Administration(
        settings=Settings(archive_root=tmp_path, catalogue_url=url),
        access=Access(CatalogueSource(url)),
    )
    with open_catalogue(url) as catalogue:
        ann, law = (Visitor(user=catalogue.users.get(n), login=n) for n in ("ann", "law"))
        for action in ({"action": "remove-user"}, {"action": "set-programs", "programs": "4"}):
            with pytest.raises(CatalogueError, match="only administrator"):
                administration.perform(ann, {"name": "ann", **action})
            with pytest.raises(AccessError):
                administration.perform(law, {"name": "ann", **action})
        assert catalogue.users.get("ann").is_admin
        assert catalogue.actions.newest() == []


def test_who_is_no_administrator_any_more_is_refused(server, catalogue):
    add_user(f"sqlite:///{catalogue.path}", "for_a_while", "all")
    client = logged_in(server, "for_a_while")
    assert act(client, action="set-programs", name="for_a_while", programs="24.1")[0] == 303
    assert act(client, action="remove-user", name="riddle")[0] == 404
    assert catalogue.users.get("riddle") is not None
    catalogue.users.remove("for_a_while")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_fields_are_answered_with_a_sentence(clients, catalogue, text):
    admin, before = clients["admin"], state(catalogue)
    for action, fields in ACTIONS.items():
        for field in ("action", *fields):
            if (action, field) == ("add-user", "again"):
                continue
            wished = {"action": action, **fields, "back": text, field: text}
            status, headers, body = act(admin, **wished)
            place = urlsplit(headers["Location"]).path
            assert (status, place) == (303, "/administration"), (action, field, body)
    assert "Nothing was changed" in sentence(admin, (status, headers, body))
    assert state(catalogue) == before
    for page in ("redo?subject", "redo?product", "calibration?night", "log?by", "log?text"):
        address = f"/administration/{page}={urlencode({'': text[:3000]})[1:]}"
        status, _, body = admin.ask(address)
        assert status == 200
        path = urlsplit(address).path
        document = pull_document(admin.address, path, admin, body.decode())
        assert "<script>alert" not in plain(document)


def test_a_megabyte_is_not_read(server, clients, catalogue):
    before = state(catalogue)
    for route in ("/administration/action", "/comment"):
        try:
            status, _, _ = clients["admin"].post(route, action="redo", subject="x" * 1_000_000)
            assert status in (400, 413)
        except OSError:
            pass  # the connection was closed while it was sent
    assert clients["admin"].ask("/")[0] == 200
    assert state(catalogue) == before


# -- comments ------------------------------------------------------------------------------------


def comment(client, observation, text, back="/search"):
    return send(client, "/comment", observation=observation, text=text, back=back)


@pytest.mark.parametrize(
    ("visitor", "observation", "may"),
    [
        ("stranger", SEEN, False),
        ("other", SEEN, False),
        ("user", SEEN, True),
        ("user", HIDDEN, False),
        ("user", "nothing", False),
        ("admin", SEEN, True),
        ("admin", HIDDEN, True),
    ],
)
def test_who_sees_an_observation_may_comment_on_it(clients, catalogue, visitor, observation, may):
    before = len(catalogue.comments.of(observation))
    status, _, body = comment(clients[visitor], observation, f"of {visitor}")
    assert status == (303 if may else 404)
    if visitor == "other":
        assert body == comment(clients[visitor], "nothing", "x")[2]
    after = catalogue.comments.of(observation)
    assert len(after) == before + may
    if may:
        assert (after[-1].by, after[-1].text) == (visitor, f"of {visitor}")
        assert newest(catalogue) == (observation, "comment written", visitor)


def test_comments_are_deleted_by_their_author_or_an_administrator(clients, catalogue, root):
    def delete(visitor, one, observation=SEEN):
        fields = {"observation": observation, "delete": one.identifier, "back": "/search"}
        return send(clients[visitor], "/comment", **fields)[0]

    mine = catalogue.comments.add(SEEN, "mine", by="user")
    others = catalogue.comments.add(SEEN, "of an administrator", by="admin")
    hidden = catalogue.comments.add(HIDDEN, "hidden", by="user")
    for visitor, one, observation in (
        ("user", others, SEEN),
        ("user", hidden, HIDDEN),
        ("user", hidden, SEEN),
        ("other", mine, SEEN),
        ("stranger", mine, SEEN),
        ("admin", hidden, SEEN),
    ):
        assert delete(visitor, one, observation) == 404
    assert {c.identifier for c in (mine, others)} <= {
        c.identifier for c in catalogue.comments.of(SEEN)
    }
    assert delete("user", mine) == 303
    assert newest(catalogue) == (SEEN, "comment deleted", "user")
    assert delete("user", mine) == 404
    kept = read_comments(ArchivePaths(root).comments_record(NIGHT, SEEN))
    assert [one["_id"] for one in kept] == [c.identifier for c in catalogue.comments.of(SEEN)]
    assert delete("admin", hidden, HIDDEN) == 303


@pytest.mark.parametrize("text", ["", "   \r\n", "x" * 2001, "a\u0000b", "x" * 30_000])
def test_what_is_no_comment_is_answered_with_a_sentence(clients, catalogue, text):
    before = catalogue.comments.of(SEEN)
    back = f"/observation?{urlencode({'id': SEEN})}#comments"
    answer = comment(clients["user"], SEEN, text, back)
    assert answer[1]["Location"].startswith("/observation?id=")
    assert answer[1]["Location"].endswith("#comments")
    assert "Nothing was changed" in sentence(clients["user"], answer)
    assert catalogue.comments.of(SEEN) == before


@pytest.mark.parametrize(
    "back", ["https://evil.example/", "//evil.example", "/\\evil.example", "/x\r\nSet-Cookie: a=b"]
)
def test_a_form_leads_to_pages_of_this_server_only(clients, back):
    status, headers, body = comment(clients["user"], SEEN, "where to?", back)
    assert (status, headers["Location"], body) == (200, None, b"Your comment was written.\n")
    status, headers, body = act(clients["admin"], action="x", back=back)
    assert status == 303
    assert re.fullmatch(r"/administration\?said=[\w-]+", headers["Location"])
    assert "a=b" not in str(headers)


def test_an_answer_is_read_by_who_asked_and_once(clients):
    status, headers, _ = comment(clients["user"], SEEN, "", "/observation?id=" + SEEN)
    word = headers["Location"].split("said=")[1]
    page = clients["admin"].ask(headers["Location"])[2].decode()
    document = pull_document(clients["admin"].address, "/observation", clients["admin"], page)
    assert "this one is empty" not in document
    assert "this one is empty" in sentence(clients["user"], (status, headers, b""))
    again = clients["user"].ask(f"/observation?{urlencode({'id': SEEN, 'said': word})}")[2].decode()
    document = pull_document(clients["user"].address, "/observation", clients["user"], again)
    assert "this one is empty" not in document


def test_a_comment_in_no_encoding_is_refused(clients, catalogue):
    before = catalogue.comments.of(SEEN)
    token = clients["user"].form_token()
    body = urlencode({"_xsrf": token, "observation": SEEN}).encode() + b"&text=%ff%fe"
    status, headers, told = clients["user"].ask("/comment", body)
    assert (status, headers["Location"]) == (400, None)
    assert b"no text in UTF-8" in told
    assert catalogue.comments.of(SEEN) == before
