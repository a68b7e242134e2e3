"""Users in each home of the catalogue: who sees what, and when a session is over."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roboao_assets.science.errors import CatalogueError
from roboao_assets.storage.catalogue import (
    ObservationQuery,
    Reader,
    is_login,
    new_observation,
    open_catalogue,
)
from roboao_assets.storage.raw_names import parse_exposure_name


def enter(catalogue, program, minute, *, pi=(), distributed=True, stored=None):
    identifier = f"{program}_star_VIC_Si_o_20170607_04{minute:02d}11.367797"
    document = new_observation(parse_exposure_name(identifier), program_pi=pi)
    if stored is not None:
        document["science_program"]["program_id"] = stored
    catalogue.register_observation(document)
    catalogue.set_distributed(identifier, distributed)
    return identifier


def test_users_are_entered_changed_and_removed(catalogue):
    users = catalogue.users
    assert users.all() == []
    users.add("duev", "$hash$", ["4", "24.1", "4"])
    users.add("admin", "$other$", "all")
    assert [user.name for user in users.all()] == ["admin", "duev"]
    first = users.get("duev")
    assert (first.password_hash, first.programs, first.is_admin) == ("$hash$", ("4", "24.1"), False)
    assert first.reader == Reader(login="duev", programs=("4", "24.1"))
    assert users.get("admin").is_admin
    assert users.get("admin").reader is None
    with pytest.raises(CatalogueError, match="already"):
        users.add("duev", "$x$", [])
    assert users.get("duev") == first
    assert users.remove("duev") is True
    assert users.remove("duev") is False
    assert users.get("duev") is None
    for change in (
        lambda: users.set_password("duev", "$x$"),
        lambda: users.set_programs("duev", ["4"]),
    ):
        with pytest.raises(CatalogueError, match="no user 'duev'"):
            change()
    assert catalogue._get("users", "duev") is None  # noqa: SLF001


def test_every_change_ends_the_sessions(catalogue):
    users = catalogue.users
    users.add("law", "$hash$", ["4"])
    stamps = [users.get("law").stamp]
    assert users.get("law").stamp == stamps[0]
    users.set_password("law", "$hash$")
    stamps.append(users.get("law").stamp)
    users.set_programs("law", ["4"])
    stamps.append(users.get("law").stamp)
    users.set_identity("law", "law@example.org")
    stamps.append(users.get("law").stamp)
    users.remove("law")
    users.add("law", "$hash$", ["4"])
    stamps.append(users.get("law").stamp)
    assert len(set(stamps)) == 5


def test_an_identity_is_of_one_user(catalogue):
    users = catalogue.users
    users.add("law", "$hash$", ["4"])
    users.add("duev", "", [])
    assert users.get("law").identity == ""
    users.set_identity("law", "law@example.org")
    users.set_identity("law", "law@example.org")
    assert users.get("law").identity == "law@example.org"
    with pytest.raises(CatalogueError, match="is the user law already"):
        users.set_identity("duev", "law@example.org")
    for spoilt in (" x", "x ", "x" * 321):
        with pytest.raises(CatalogueError, match="no blanks at its ends"):
            users.set_identity("duev", spoilt)
    with pytest.raises(CatalogueError, match="no user 'eve'"):
        users.set_identity("eve", "eve@example.org")
    users.set_identity("law", "")
    users.set_identity("duev", "law@example.org")
    assert [user.identity for user in users.all()] == ["law@example.org", ""]


def test_a_change_with_a_database_client_ends_the_sessions(catalogue):
    from roboao_assets.storage.catalogue.change import Change

    catalogue.users.add("law", "$hash$", ["4"])
    before = catalogue.users.get("law").stamp
    catalogue._update("users", "law", Change(assign={"programs": ["4", 24, {"ne": 1}, "x"]}))  # noqa: SLF001
    user = catalogue.users.get("law")
    assert user.programs == ("4", "24"), "what is no program gives no right"
    assert user.stamp != before
    catalogue._update("users", "law", Change(assign={"programs": "ALL", "password": 3}))  # noqa: SLF001
    user = catalogue.users.get("law")
    assert (user.programs, user.password_hash, user.is_admin) == ((), "", False)


@pytest.mark.parametrize(
    ("name", "programs", "sentence"),
    [
        ("", [], "no login"),
        ('{"$ne": ""}', [], "no login"),
        ("../../etc", [], "no login"),
        ("x" * 65, [], "no login"),
        ("duev\n", [], "no login"),
        ("duev", ["24.1.1"], "no program"),
        ("duev", ["$all"], "no program"),
        ("duev", "4", "a list or 'all'"),
        ("admin", ["4"], "sees everything by its name"),
    ],
)
def test_what_cannot_be_a_user_is_refused(catalogue, name, programs, sentence):
    with pytest.raises(CatalogueError, match=sentence):
        catalogue.users.add(name, "$hash$", programs)
    assert catalogue.users.all() == []


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text())
def test_a_login_is_what_every_home_can_keep_as_a_key(text):
    if is_login(text):
        assert text.isascii()
        assert text.isprintable()
        assert not set(text) & set("$/\\ \"'<>&;:")


def test_a_reader_sees_distributed_observations_of_own_programs(catalogue):
    four = enter(catalogue, "4", 1)
    by_hand = enter(catalogue, "4", 2, stored=4)
    pi = enter(catalogue, "11.1", 3, pi=["riddle", "law"])
    others = [
        enter(catalogue, "4", 4, distributed=False),
        enter(catalogue, "4.1", 5),
        enter(catalogue, "14", 6, pi=["lawrence"]),
        enter(catalogue, "11.1", 7, pi=["law"], distributed=False),
        enter(catalogue, "24", 8, stored=None, pi=[]),
    ]

    def seen(reader):
        query = ObservationQuery(reader=reader)
        found = [d["_id"] for d in catalogue.find_observations(query)]
        assert catalogue.count_observations(query) == len(found)
        nights = catalogue.nights(reader)
        assert sum(night.observations for night in nights) == len(found)
        return found

    assert seen(Reader(login="law", programs=("4",))) == [four, by_hand, pi]
    assert seen(Reader(login="law", programs=())) == [pi]
    assert seen(Reader(login="nobody", programs=())) == []
    assert catalogue.nights(Reader(login="nobody", programs=("5",))) == []
    assert len(seen(None)) == 3 + len(others)
    query = ObservationQuery(reader=Reader(login="law", programs=("4",)), ids=(others[0],))
    assert catalogue.find_observations(query) == []


def test_a_night_without_observations_is_for_those_who_see_all(catalogue):
    catalogue.publish_night("20170608", "seeing", {"median": 1.2})
    assert [night.night for night in catalogue.nights()] == ["20170608"]
    assert catalogue.nights(Reader(login="law", programs=("4",))) == []


def test_the_last_administrator_stays(catalogue):
    users = catalogue.users
    users.add("ann", "$hash$", "all")
    users.add("law", "$hash$", ["4"])
    before = users.get("ann")
    for change in (lambda: users.remove("ann"), lambda: users.set_programs("ann", ["4"])):
        with pytest.raises(CatalogueError, match="ann is the only administrator"):
            change()
    users.set_programs("ann", "all")  # says nothing new, and takes nothing away
    assert users.get("ann").is_admin
    assert users.get("ann").stamp != before.stamp
    users.add("admin", "$hash$", "all")
    users.set_programs("ann", ["4"])
    with pytest.raises(CatalogueError, match="admin is the only administrator"):
        users.remove("admin")
    assert users.remove("law") is True
    users.set_programs("ann", "all")
    assert users.remove("admin") is True


def test_two_administrators_who_remove_each_other_at_once_leave_one(catalogue_url, catalogue):
    for name in ("ann", "bob"):
        catalogue.users.add(name, "$hash$", "all")

    def remove(name):
        with open_catalogue(catalogue_url) as own:
            try:
                return own.users.remove(name)
            except CatalogueError as error:
                return str(error)

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(remove, ("ann", "bob")))
    assert answers.count(True) == 1
    assert any("only administrator" in str(answer) for answer in answers)
    assert len(catalogue.users.all()) == 1
