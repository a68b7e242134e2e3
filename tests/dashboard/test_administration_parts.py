"""What the administrator's pages and the comments are made of, without a browser."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from plausible import NIGHT, TARGETS, fill, observation_id

from dashboards import administration_collect as collect
from dashboards import administration_markup as markup
from dashboards.access import ADMINISTRATION, Access, Asked, Visitor
from dashboards.answers import Answer, Answers, FormError, read_fields
from dashboards.comments import CommentDesk, comments_markup
from dashboards.source import CatalogueSource
from dashboards.users_markup import new_user_form, users_table
from roboao_assets.pipelines.failures import NightFailure
from roboao_assets.pipelines.redo import STAGE_OF_PRODUCT, with_dependents
from roboao_assets.storage.catalogue import (
    Action,
    ActionPage,
    Comment,
    User,
    WorkRequest,
    open_catalogue,
)
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.settings import Settings

SCRIPT = "<script>alert('1')</script>\"x"
OBSERVATION = observation_id(TARGETS[0])
TIME = datetime(2017, 6, 7, 4, 32, 11, tzinfo=UTC)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('parts')}/catalogue.sqlite"
    with open_catalogue(url) as opened:
        fill(opened)
        yield opened


def user(name, programs):
    return User(name=name, password_hash="$hash$", programs=programs, stamp="s")


def visitor(name="ann", login="one", programs="all"):
    return Visitor(user=user(name, programs), login=login)


# -- answers -------------------------------------------------------------------------------------


def test_an_answer_is_its_askers_and_is_said_once():
    answers, answer = Answers(), Answer(sentence="done")
    word = answers.keep(visitor(), answer)
    assert answers.take(visitor(login="two"), word) is None
    assert answers.take(visitor(), word + "x") is None
    assert answers.take(visitor(), word) == answer
    assert answers.take(visitor(), word) is None


def test_answers_that_nobody_reads_are_forgotten():
    answers = Answers()
    words = [answers.keep(visitor(), Answer(sentence=str(i))) for i in range(300)]
    assert answers.take(visitor(), words[0]) is None
    assert answers.take(visitor(), words[-1]) == Answer(sentence="299")


def test_fields_are_texts_of_bounded_length():
    assert read_fields({"a": [b"1", "\u03b2".encode()]}) == {"a": "\u03b2"}
    for value in (b"\xff", b"x" * 20_001):
        with pytest.raises(FormError, match="the field 'a' of the form"):
            read_fields({"a": [value]})


# -- failures and status -------------------------------------------------------------------------


def test_failures_are_told_with_reason_attempts_and_remedy(catalogue):
    catalogue.record_night_failure("20170606", "calib", "4 dark files")
    catalogue.requests.ask(
        "20170606", "20170606", ["master_darks"], by="archive", why="x", not_before=TIME
    )
    found = collect.collect_failures(catalogue, Settings(most_retries=5))
    assert found.nights == (NIGHT, "20170606")
    assert found.older == ""
    calib = next(one for _, one in found.failures if one.product == "calib")
    assert calib.next_attempt == TIME
    assert calib.attempts_left(5) == 6 - calib.attempts
    star = next(one for _, one in found.failures if one.product == "bright_star")
    assert star.attempts_left(5) == 0, "it is not tried again by itself"
    shown = markup.failures_table(found)
    assert "2017-06-07 04:32:11" in shown
    assert "when asked" in shown
    assert f'href="{markup.calibration_url("20170606")}"' in shown
    only = collect.collect_failures(catalogue, Settings(), night="20170606")
    assert {of for of, _ in only.failures} == {"20170606"}
    assert collect.collect_failures(catalogue, Settings(), night="19000101").failures == ()
    assert "Nothing has failed here" in markup.failures_table(
        collect.collect_failures(catalogue, Settings(), night="19000101")
    )


def test_older_nights_are_looked_at_page_by_page(catalogue, monkeypatch):
    monkeypatch.setattr(collect, "_NIGHTS_AT_ONCE", 1)
    first = collect.collect_failures(catalogue, Settings())
    assert (first.nights, first.older) == ((NIGHT,), "20170606")
    assert "/administration?until=20170606" in markup.failures_table(first)
    second = collect.collect_failures(catalogue, Settings(), until=first.older)
    assert (second.nights, second.older) == (("20170606",), "")


def test_what_operators_and_errors_wrote_is_escaped():
    failure = NightFailure(
        subject=SCRIPT, product=SCRIPT, reason=SCRIPT, attempts=1, since=None, next_attempt=None
    )
    found = collect.FailureList(
        failures=((NIGHT, failure),), nights=(NIGHT,), older="", most_retries=1
    )
    action = Action(
        identifier="1", time=None, subject=SCRIPT, action=SCRIPT, by=SCRIPT, detail={SCRIPT: SCRIPT}
    )
    plan = collect.RedoPlan(observations=(SCRIPT,), stages=(SCRIPT,), dependents=(SCRIPT,))
    lender = collect.Lender(night=NIGHT, days=2, missing=(SCRIPT,))
    comment = Comment(identifier=SCRIPT, observation=SCRIPT, by=SCRIPT, text=SCRIPT, time=TIME)
    answer = Answer(sentence=SCRIPT, bad=True, typed=SCRIPT)
    for shown in (
        markup.failures_table(found),
        markup.log_table(ActionPage(actions=(action,), older=SCRIPT), SCRIPT, SCRIPT),
        markup.log_form(SCRIPT, SCRIPT),
        markup.redo_form(SCRIPT, SCRIPT, (SCRIPT,)),
        markup.redo_plan(SCRIPT, SCRIPT, plan, SCRIPT),
        markup.pca_form(SCRIPT, SCRIPT),
        markup.calibration_form(SCRIPT),
        markup.lenders_form(SCRIPT, [lender], SCRIPT),
        markup.status_table(collect.Status(lines=((SCRIPT, SCRIPT),), warnings=(SCRIPT,))),
        markup.answer_markup(answer),
        markup.head(SCRIPT, SCRIPT),
        markup.observation_tools(SCRIPT, (SCRIPT,)),
        markup.night_tools(SCRIPT),
        users_table([user(SCRIPT, (SCRIPT,))], SCRIPT, SCRIPT),
        new_user_form(SCRIPT),
        comments_markup([(comment, True)], SCRIPT, SCRIPT, answer),
    ):
        assert "<script" not in shown
        assert '"x' not in re.sub(r'="x[^"]*', "", shown), "no attribute was left"


def test_the_status_is_that_of_the_command_line():
    told = {"lines": [["queued", "3 runs"], ["archive", "2 nights"]], "warnings": ["full"]}
    status = collect.read_status(json.dumps(told))
    assert status.lines == (("queued", "3 runs"), ("archive", "2 nights"))
    shown = markup.status_table(status)
    assert "3 runs" in shown
    assert '<p class="remark warned">full</p>' in shown


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"lines": 1, "warnings": []}', "x" * 999]
)
def test_a_status_that_cannot_be_read_is_said(text):
    with pytest.raises(collect.StatusError, match="cannot be read"):
        collect.read_status(text)


def test_requests_are_shown_up_to_a_number(catalogue):
    catalogue.requests.ask(OBSERVATION, NIGHT, ["strehl_ratio", "pca_residual"], by="ann", why="w")
    asked = [r for r in catalogue.requests.all() if r.observation == OBSERVATION]
    shown = markup.requests_table(asked)
    assert "strehl_ratio" in shown
    assert "and 1 more" in markup.requests_table(asked, most=1)
    nothing = WorkRequest(observation="a", night=NIGHT)
    assert "Nothing is asked for" in markup.requests_table([nothing])


# -- make again, calibration, users --------------------------------------------------------------


@pytest.mark.parametrize("product", [*collect.products(), "calibration"])
def test_before_it_is_confirmed_it_is_said_what_goes_with_it(catalogue, product):
    assert product in markup.PRODUCT_WORDS
    subject = NIGHT if product == "calibration" else OBSERVATION
    plan = collect.collect_redo(catalogue, subject, product)
    shown = markup.redo_plan(subject, product, plan, "token")
    stages = {*plan.stages, *plan.dependents}
    if product != "calibration":
        assert stages == with_dependents([STAGE_OF_PRODUCT[product]])
    for stage in stages:
        assert f"<li>{markup._STAGE_WORDS[stage]}</li>".replace("'", "&#x27;") in shown  # noqa: SLF001
    assert shown.count("<li>") == len(stages)
    assert 'name="_xsrf" value="token"' in shown
    assert catalogue.requests.of(subject) is None or product  # nothing is asked by looking
    assert "7 observations" in markup.redo_plan(
        NIGHT, "bright_star", collect.collect_redo(catalogue, NIGHT, "bright_star"), "t"
    )


def test_every_product_that_can_be_asked_for_is_offered():
    offered = {STAGE_OF_PRODUCT[product] for product in collect.products()}
    assert offered == set(STAGE_OF_PRODUCT.values())
    assert len(offered) == len(collect.products())


def test_lenders_are_offered_with_what_they_lack():
    whole = collect.Lender(night="20170601", days=6, missing=())
    part = collect.Lender(night="20170606", days=1, missing=("flat_Sz",))
    shown = markup.lenders_form(NIGHT, [whole, part], "token")
    assert "the nearest that lacks nothing" in shown
    assert "2017-06-06, 1 day away, lacks flat_Sz" in shown
    shown = markup.lenders_form(NIGHT, [part], "token")
    assert "the nearest that lacks nothing" not in shown
    assert "No night has all the masters" in shown
    assert "No other night" in markup.lenders_form(NIGHT, [], "token")


def test_the_only_administrator_is_offered_no_removal():
    ann, law = user("ann", "all"), user("law", ("4",))
    shown = users_table([ann, law], "ann", "token")
    assert "Remove ann" not in shown
    assert "Remove law" in shown
    assert "the only administrator" in shown
    assert "Remove ann" in users_table([ann, law, user("admin", ())], "ann", "token")
    assert "$hash$" not in shown


# -- comments, rights ----------------------------------------------------------------------------


def test_comments_are_newest_last_and_their_text_stays_when_it_is_refused():
    comments = [
        (Comment(identifier=str(n), observation="o", by="ann", text=f"text {n}", time=TIME), n > 0)
        for n in range(2)
    ]
    refused = Answer(sentence="too long", bad=True, typed="what I had typed")
    shown = comments_markup(comments, OBSERVATION, "token", refused)
    assert shown.index("text 0") < shown.index("text 1")
    assert shown.count('name="delete"') == 1
    assert ">what I had typed</textarea>" in shown
    assert "2017-06-07 04:32 UTC" in shown


def test_a_comment_is_kept_where_its_copy_cannot_be_written(catalogue, tmp_path, caplog):
    url = f"sqlite:///{catalogue.path}"
    (tmp_path / NIGHT).write_text("no folder")
    desk = CommentDesk(
        catalogue_url=url, paths=ArchivePaths(tmp_path), access=Access(CatalogueSource(url))
    )
    said = desk.perform(visitor(), {"observation": OBSERVATION, "text": "kept"})
    assert said == "Your comment was written."
    (comment,) = catalogue.comments.of(OBSERVATION)
    assert "the copy of the comments" in caplog.text
    (tmp_path / NIGHT).unlink()
    desk.perform(visitor(), {"observation": OBSERVATION, "delete": comment.identifier})
    assert catalogue.comments.of(OBSERVATION) == []
    assert not (tmp_path / NIGHT).exists(), "there was no copy, and there is nothing to copy"


@pytest.mark.parametrize(
    "route",
    [
        *("/administration", "/administration/ws", "/administration/redo/ws"),
        *("/administration/calibration", "/administration/users/ws", "/administration/log"),
        "/administration/action",
    ],
)
def test_routes_of_administrators(tmp_path, route):
    access = Access(CatalogueSource(f"sqlite:///{tmp_path}/none.sqlite"))
    assert access.may(visitor(), Asked("route", route)) is True
    assert access.may(visitor(programs=("4", "24.1")), Asked("route", route)) is False
    assert access.may(None, Asked("route", route)) is False
    for other in (route + "/", route + "x", route.upper(), "/administration/other"):
        assert access.may(visitor(), Asked("route", other)) is False


def test_a_token_administrates_nothing():
    access = Access(CatalogueSource("sqlite:///none.sqlite"))
    assert access.may(visitor(), ADMINISTRATION) is True
    assert access.may(replace(visitor(), by_token=True), ADMINISTRATION) is False
    for route in ("/administration", "/administration/action", "/comment"):
        assert access.may(replace(visitor(), by_token=True), Asked("route", route)) is False


def test_comments_are_of_users():
    access = Access(CatalogueSource("sqlite:///none.sqlite"))
    assert access.may(visitor(programs=()), Asked("route", "/comment")) is True
    assert access.may(None, Asked("route", "/comment")) is False
