"""The log and the comments, in each home of the catalogue; their copies in the archive tree."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboao_assets.pipelines.rebuilding import rebuild_catalogue, refresh_records
from roboao_assets.pipelines.redo import ask_for_pca_of_night, ask_for_redo, plan_redo
from roboao_assets.pipelines.workspace import Workspace
from roboao_assets.science.errors import CatalogueError
from roboao_assets.storage.catalogue import actions, comments, new_observation, open_catalogue
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.raw_names import parse_exposure_name
from roboao_assets.storage.records import RecordError, read_comments, write_comments
from roboao_assets.storage.settings import Settings

A = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"
B = "24_HD1_VIC_Si_o_20160925_030000.000000"
NIGHT = "20160925"
SCRIPT = '<script>alert(\'1\')</script> {"$gt": ""} ../../etc \u202e\U0001f52d'


@pytest.fixture
def book(catalogue):
    for number in range(12):
        by = "ann" if number % 3 else "root@kpno (command line)"
        catalogue.actions.record(
            f"2016092{number % 2}", "copied the calibration", by=by, number=number, why=SCRIPT
        )
    return catalogue.actions


def numbers(page):
    return [action.detail["number"] for action in page.actions]


def test_the_log_is_searched_by_user_and_text(book):
    everything = book.search()
    assert sorted(numbers(everything)) == list(range(12))
    assert everything.older == ""
    times = [action.identifier for action in everything.actions]
    assert times == sorted(times, reverse=True)
    assert sorted(numbers(book.search(by="KPNO"))) == [0, 3, 6, 9]
    assert sorted(numbers(book.search(by="ann", text="20160921"))) == [1, 5, 7, 11]
    assert sorted(numbers(book.search(text="NUMBER 11"))) == [11]
    assert len(book.search(text=SCRIPT).actions) == 12
    for nothing in ("no such word", '$gt": 1', "%", "_" * 30, ".*", "x" * 1_000_000):
        assert book.search(text=nothing).actions == (), nothing[:30]


def test_the_log_is_read_page_by_page(book, monkeypatch):
    monkeypatch.setattr(actions, "_READ_AT_ONCE", 5)
    found, before = [], ""
    for _ in range(5):
        page = book.search(by="ann", before=before, limit=3)
        found += numbers(page)
        before = page.older
        if not before:
            break
    assert sorted(found) == [n for n in range(12) if n % 3]
    assert len(found) == len(set(found))


def test_a_search_for_what_is_nowhere_stops(book, monkeypatch):
    monkeypatch.setattr(actions, "_READ_AT_ONCE", 2)
    monkeypatch.setattr(actions, "_MOST_READ", 4)
    page = book.search(text="number 0,")
    assert page.actions == ()
    assert page.older, "it is said that there is more to look at"
    rest = book.search(text="number 1,", before="0")
    assert (rest.actions, rest.older) == ((), "")


@pytest.fixture
def registered(catalogue):
    for identifier in (A, B):
        catalogue.register_observation(new_observation(parse_exposure_name(identifier)))
    return catalogue


def test_comments_are_kept_newest_last_and_removed(registered):
    book = registered.comments
    first = book.add(A, f"  {SCRIPT}\r\nsecond line ", by="ann")
    assert first.text == f"{SCRIPT}\nsecond line"
    for number in range(3):
        book.add(A, str(number), by="bob")
    book.add(B, "another observation", by="ann")
    texts = [comment.text for comment in book.of(A)]
    assert set(texts) == {first.text, "0", "1", "2"}
    assert [c.identifier for c in book.of(A)] == sorted(c.identifier for c in book.of(A))
    assert book.get(first.identifier) == first
    assert book.remove(first.identifier) is True
    assert book.remove(first.identifier) is False
    assert book.get(first.identifier) is None
    assert len(book.of(A)) == 3
    # What enters an observation again, or reduces it, does not touch them.
    registered.register_observation(new_observation(parse_exposure_name(A)))
    registered.publish(A, "bright_star", {"classified_as": "faint"})
    assert len(book.of(A)) == 3
    assert registered.observation(A)["comment"] == ""


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("x" * 2001, "at most 2000 characters, and this one has 2001"),
        ("x" * 1_000_000, "at most 2000"),
        ("a\0b", "control characters"),
        ("a\x1b[31m", "control characters"),
        ("\ud800", "control characters"),
    ],
)
def test_what_is_no_comment_is_refused_with_a_sentence(registered, text, sentence):
    with pytest.raises(CatalogueError, match=sentence):
        registered.comments.add(A, text, by="ann")
    assert registered.comments.of(A) == []


def test_a_comment_is_on_an_observation_and_they_are_not_endless(registered, monkeypatch):
    with pytest.raises(CatalogueError, match="no observation '../../etc'"):
        registered.comments.add("../../etc", "text", by="ann")
    monkeypatch.setattr(comments, "MOST_COMMENTS", 2)
    for _ in range(2):
        registered.comments.add(A, "text", by="ann")
    with pytest.raises(CatalogueError, match="has 2 comments already"):
        registered.comments.add(A, "text", by="ann")


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    with open_catalogue(f"sqlite:///{tmp_path_factory.mktemp('one')}/c.sqlite") as catalogue:
        catalogue.register_observation(new_observation(parse_exposure_name(A)))
        yield catalogue


@settings(deadline=None, max_examples=60)
@given(text=st.text(max_size=300))
def test_a_text_is_kept_as_it_is_or_refused(one, text):
    try:
        entered = one.comments.add(A, text, by="ann")
    except CatalogueError:
        assert one.comments.of(A) == []
        return
    assert [comment.text for comment in one.comments.of(A)] == [entered.text]
    assert entered.text == text.replace("\r\n", "\n").replace("\r", "\n").strip()
    one.comments.remove(entered.identifier)


@pytest.fixture
def ws(registered, tmp_path):
    root = tmp_path / "tree"
    return Workspace(
        settings=Settings(archive_root=root), paths=ArchivePaths(root), catalogue=registered
    )


def test_comments_come_back_when_the_database_is_lost(ws):
    kept = ws.catalogue.comments.add(A, SCRIPT, by="ann")
    gone = ws.catalogue.comments.add(A, "to be deleted", by="bob")
    assert write_comments(ws.catalogue, ws.paths, NIGHT, A) is True
    assert write_comments(ws.catalogue, ws.paths, NIGHT, A) is False
    assert write_comments(ws.catalogue, ws.paths, NIGHT, B) is False, "it has none"
    ws.catalogue.comments.remove(gone.identifier)
    # The sensor that goes round the nights notices what others have changed.
    assert refresh_records(ws.catalogue, ws.paths, NIGHT) == 3
    ws.catalogue.comments.remove(kept.identifier)  # the database is lost
    (rebuilt,) = rebuild_catalogue(ws, (NIGHT,))
    assert rebuilt.problems == ()
    assert ws.catalogue.comments.of(A) == [kept]
    rebuild_catalogue(ws, (NIGHT,))
    assert ws.catalogue.comments.of(A) == [kept]


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"format": 1, "document": {"_id": "a", "comments": [1]}}']
)
def test_a_spoilt_copy_of_comments_is_named(ws, content):
    path = ws.paths.comments_record(NIGHT, A)
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(RecordError, match=r"comments.*\.json"):
        read_comments(path)
    (rebuilt,) = rebuild_catalogue(ws, (NIGHT,))
    assert str(path) in rebuilt.problems[0]


def test_what_is_asked_for_is_in_the_log_with_who_and_why(registered):
    registered.publish_night(NIGHT, "raw", {})
    asked = {"by": "ann", "why": "a better dark"}
    plan = plan_redo(registered, A, "bright_star.strehl")
    assert (plan.observations, plan.stages) == ((A,), ("strehl_ratio",))
    assert plan.dependents == ("bright_star_preview", "distribution_package", "psf_candidate")
    assert registered.requests.all() == []
    assert ask_for_redo(registered, A, "bright_star.strehl", calibration=False, **asked) == plan
    assert set(registered.requests.of(A).stages) == {"strehl_ratio"}
    ask_for_redo(registered, NIGHT, "bright_star", calibration=False, **asked)
    assert {r.observation for r in registered.requests.all()} == {A, B}
    ask_for_redo(registered, NIGHT, "bright_star", calibration=True, **asked)
    assert "master_darks" in registered.requests.of(NIGHT).stages
    with pytest.raises(CatalogueError, match="no stack"):
        ask_for_pca_of_night(registered, NIGHT, **asked)
    registered.publish(A, "bright_star", {})
    registered.publish(A, "faint_star", {})
    assert ask_for_pca_of_night(registered, NIGHT, **asked) == 1
    assert {"pca_residual", "faint_star_pca_residual"} <= set(registered.requests.of(A).stages)
    told = {(e.subject, e.action): e for e in registered.actions.newest()}
    assert set(told) == {
        (A, "asked for bright_star.strehl again"),
        (NIGHT, "asked for bright_star again"),
        (NIGHT, "asked for the calibration again"),
        (NIGHT, "asked for the PCA again"),
    }
    assert {(e.by, e.detail["why"]) for e in told.values()} == {("ann", "a better dark")}
    assert told[NIGHT, "asked for bright_star again"].detail["observations"] == 2


@pytest.mark.parametrize(
    ("subject", "product", "calibration", "sentence"),
    [
        (A, "bright_star.nothing", False, "no product 'bright_star.nothing'"),
        ("20170101", "bright_star", False, "neither an observation nor a night"),
        (A, "bright_star", True, "masters are made of nights"),
    ],
)
def test_what_cannot_be_asked_for(registered, subject, product, calibration, sentence):
    with pytest.raises(CatalogueError, match=sentence):
        ask_for_redo(registered, subject, product, calibration=calibration, by="ann", why="because")
    assert registered.requests.all() == []
    assert registered.actions.newest() == []
