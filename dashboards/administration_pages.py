"""The administrator's pages: overview, make again, copy calibration, users, log.

They show; what changes anything is a form that goes to `administration_actions`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

import panel as pn

from dashboards import administration_collect as collect
from dashboards import administration_markup as markup
from dashboards import users_markup
from dashboards.access import ADMINISTRATION, Access, is_night
from dashboards.answers import ARGUMENT, Answers, FormError
from dashboards.markup import dashed, problem
from dashboards.page_frame import (
    address_argument,
    build_page,
    form_token,
    page_style,
    page_visitor,
)
from dashboards.source import CatalogueSource
from roboao_assets.science.errors import ArchiveError
from roboao_assets.storage.settings import Settings

_TITLE = "Administration"
_MOST_CHARACTERS = 500
_LOG_ENTRIES = 100


@dataclass(frozen=True, kw_only=True)
class AdministrationPages:
    """What the pages are made with.

    Attributes
    ----------
    source : CatalogueSource
    settings : Settings
    access : Access
    answers : Answers
    executor : Executor
        Where what is shown is gathered.
    status : StatusSource
    """

    source: CatalogueSource
    settings: Settings
    access: Access
    answers: Answers
    executor: Executor
    status: collect.StatusSource = field(default_factory=collect.StatusSource)

    def overview(self) -> pn.Template:
        """How the archive is, what failed, what is asked for."""
        night, until = _argument("night"), _argument("until")

        def failures() -> str:
            found = collect.collect_failures(
                self.source.get(), self.settings, night=_checked(night), until=_checked(until)
            )
            return markup.failures_table(found, night)

        title = f"What failed of {dashed(night)}" if is_night(night) else "What failed"
        return self._page(
            "/administration",
            "Administration",
            ("", lambda: markup.status_table(self.status.get())),
            (title, failures),
            ("", markup.night_form),
            (
                "What is asked for",
                lambda: markup.requests_table(self.source.get().requests.all()),
            ),
        )

    def redo(self) -> pn.Template:
        """What would be made again, in words, and the button that asks for it."""
        subject = _argument("subject").strip()
        product = _argument("product") or "bright_star"
        token = form_token()
        form = markup.redo_form(subject, product, collect.products())
        parts = [("", lambda: form)]
        if subject:
            parts.append(("", lambda: self._plan(subject, product, token)))
        if is_night(subject):
            parts.append(("PCA of the night", lambda: markup.pca_form(subject, token)))
        return self._page(markup.REDO_URL, "Make again", *parts)

    def _plan(self, subject: str, product: str, token: str) -> str:
        plan = collect.collect_redo(self.source.get(), subject, product)
        return markup.redo_plan(subject, product, plan, token)

    def calibration(self) -> pn.Template:
        """Which nights could lend a night their masters, and the button that copies them."""
        given, token = _argument("night"), form_token()
        form = markup.calibration_form(given)

        def lenders() -> str:
            night = _checked(given)
            found = collect.collect_lenders(self.source.get(), self.settings, night)
            return markup.lenders_form(night, found, token)

        parts = [("", lambda: form), *([("", lenders)] if given else [])]
        return self._page(markup.CALIBRATION_URL, "Copy calibration", *parts)

    def users(self) -> pn.Template:
        """Who may look at the archive, and the forms that change it."""
        token, myself = form_token(), page_visitor().name

        def table() -> str:
            return users_markup.users_table(self.source.get().users.all(), myself, token)

        return self._page(
            markup.USERS_URL,
            "Users",
            ("", table),
            ("New user", lambda: users_markup.new_user_form(token)),
        )

    def log(self) -> pn.Template:
        """Who did what, and when."""
        by, text, before = _argument("by"), _argument("text"), _argument("before")

        def table() -> str:
            page = self.source.get().actions.search(
                by=by.strip(), text=text.strip(), before=before, limit=_LOG_ENTRIES
            )
            return markup.log_table(page, by, text)

        form = markup.log_form(by, text)
        return self._page(markup.LOG_URL, "Log", ("", lambda: form), ("", table))

    def _page(self, here: str, title: str, *parts: tuple[str, Callable[[], str]]) -> pn.Template:
        """Return a page whose parts (heading, content) are filled once it is there."""
        visitor = page_visitor()
        if not self.access.may(visitor, ADMINISTRATION):
            return build_page(_TITLE, _html(problem("No such page", "There is no such page.")))
        answer = self.answers.take(visitor, address_argument(ARGUMENT))
        body = pn.Column(
            _html(markup.head(title, here) + markup.answer_markup(answer)),
            sizing_mode="stretch_width",
        )
        for heading, content in parts:
            if heading:
                body.append(_html(f'<h2 class="plot-title">{heading}</h2>'))
            pane = _html(markup.LOADING)
            pn.state.onload(self._filling(pane, content))
            body.append(pane)
        return build_page(title, body)

    def _filling(
        self, pane: pn.pane.HTML, content: Callable[[], str]
    ) -> Callable[[], Awaitable[None]]:
        """Return what fills a part in, from a thread."""

        def told() -> str:
            try:
                return content()
            except ArchiveError as error:
                return problem("This cannot be shown", str(error))

        async def fill() -> None:
            pane.object = await asyncio.get_running_loop().run_in_executor(self.executor, told)

        return fill


def _argument(name: str) -> str:
    return address_argument(name)[:_MOST_CHARACTERS]


def _checked(night: str) -> str:
    """Return a night of the address, empty if it gives none."""
    plain = night.strip().replace("-", "")
    if plain and not is_night(plain):
        raise FormError(f"a night is its UT date, YYYYMMDD; the address says {night[:60]!r}")
    return plain


def _html(text: str) -> pn.pane.HTML:
    return pn.pane.HTML(
        text, stylesheets=[page_style(), markup.STYLE], sizing_mode="stretch_width", margin=0
    )
