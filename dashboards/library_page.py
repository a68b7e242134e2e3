"""The page of the PSF library: a look at the candidates, and the decision."""

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Literal

import panel as pn

from dashboards import library_markup as markup
from dashboards.access import ADMINISTRATION, Access, Visitor, is_night
from dashboards.library_changes import ChangeWish, change_library
from dashboards.library_collect import LibrarySource, LibraryView, collect_candidates
from dashboards.markup import dashed, problem
from dashboards.page_frame import (
    WIDGET_STYLE,
    address_argument,
    build_page,
    page_visitor,
    write_address,
)
from dashboards.page_style import page_style
from dashboards.source import CatalogueSource
from roboao_assets.science.errors import ArchiveError
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.psf_candidates import PsfCandidate

_TITLE = "PSF library"


@dataclass(frozen=True)
class LibraryChanger:
    """What a page needs to change the library.

    Attributes
    ----------
    catalogue_url : str
    access : Access
    executor : Executor
        A change waits for a lock and for the disk; it must not hold up the other pages.
    """

    catalogue_url: str
    access: Access
    executor: Executor

    async def change(self, paths: ArchivePaths, wish: ChangeWish, visitor: Visitor) -> str:
        """Carry a visitor's wish out in a thread; return a sentence that says so."""
        return await asyncio.get_running_loop().run_in_executor(
            self.executor, change_library, self.catalogue_url, paths, wish, visitor, self.access
        )


def library_page(
    source: CatalogueSource, library: LibrarySource, changer: LibraryChanger
) -> pn.Template:
    """The library's stars and history, a night's candidates, and what adds and removes.

    Parameters
    ----------
    source : CatalogueSource
        For reading.
    library : LibrarySource
    changer : LibraryChanger
    """
    visitor = page_visitor()
    if not changer.access.may(visitor, ADMINISTRATION):
        sentence = "The PSF library holds stars of all programs; administrators see it."
        return build_page(_TITLE, _html(problem("No such page", sentence)))
    star = address_argument("star")
    try:
        nights = [summary.night for summary in source.get().nights()]
        view = library.get()
    except ArchiveError as error:
        return build_page(_TITLE, _html(problem("The library cannot be shown", str(error))))
    night = address_argument("night")
    night = night if is_night(night) else (nights or [""])[0]
    page = _LibraryPage(source, library, night, star)
    choose_night = pn.widgets.Select(
        label="candidates of the night",
        options={dashed(name): name for name in dict.fromkeys([*nights, *filter(None, [night])])},
        value=night,
        width=220,
        margin=(0, 0, 12, 0),
        stylesheets=[WIDGET_STYLE],
    )

    def change_night(event: object) -> None:
        page.night = choose_night.value
        write_address(night=page.night, star=page.star)
        page.renew()

    choose_night.param.watch(change_night, "value")
    body = pn.Column(page.head, sizing_mode="stretch_width")
    if star:
        body.extend([page.choice, _decision(page, view, changer, visitor)])
    body.extend([page.answer, choose_night, page.candidates])
    body.extend([_heading("Stars of the library"), page.stars, _heading("History"), page.history])
    page.renew()
    return build_page(_TITLE, body)


class _LibraryPage:
    """The panes of one browser's page; `renew` fills them from what is there now."""

    def __init__(
        self, source: CatalogueSource, library: LibrarySource, night: str, star: str
    ) -> None:
        self.source, self.library, self.night, self.star = source, library, night, star
        self.head, self.choice, self.answer = _html(""), _html(""), _html("")
        self.candidates, self.stars, self.history = _html(""), _html(""), _html("")

    def renew(self) -> LibraryView | None:
        """Read everything again; say so if it cannot be read."""
        try:
            view = self.library.get()
            found = self._candidates()
        except ArchiveError as error:
            self.answer.object = markup.answer(str(error), bad=True)
            return None
        chosen = next((c for c in found if c.observation == self.star), None)
        self.head.object = markup.library_head(view)
        self.stars.object = markup.library_stars(view, self.night, self.star)
        self.history.object = markup.history_table(view.history)
        self.candidates.object = markup.candidate_cards(found, self.night, self.star)
        if self.star:
            self.choice.object = markup.choice(view, chosen, self.star)
        return view

    def _candidates(self) -> tuple[PsfCandidate, ...]:
        if not self.night:
            return ()
        return collect_candidates(self.source.get(), self.library.paths, self.night)


def _decision(
    page: _LibraryPage, view: LibraryView, changer: LibraryChanger, visitor: Visitor
) -> pn.Row:
    """The comment and the two buttons; only the one that can be meant is enabled."""
    comment = pn.widgets.TextInput(
        label="comment",
        placeholder="why; the history keeps it",
        width=420,
        margin=0,
        stylesheets=[WIDGET_STYLE],
    )
    add = pn.widgets.Button(
        label="Add to the library", button_type="primary", align="end", margin=0
    )
    remove = pn.widgets.Button(
        label="Remove from the library", button_type="danger", align="end", margin=0
    )

    def enable(shown: LibraryView | None) -> None:
        held = shown is not None and shown.star(page.star) is not None
        add.disabled, remove.disabled = held, not held

    async def change(action: Literal["add", "remove"]) -> None:
        # A second click before the first has ended would only be refused.
        add.disabled = remove.disabled = True
        wish = ChangeWish(
            action=action,
            night=page.night,
            observation=page.star,
            comment=(comment.value_input or comment.value or "").strip(),
        )
        try:
            said, bad = await changer.change(page.library.paths, wish, visitor), False
        except ArchiveError as error:
            said, bad = f"Nothing was changed: {error}", True
        else:
            comment.value = comment.value_input = ""
        enable(page.renew())
        page.answer.object = markup.answer(said, bad=bad)

    async def on_add(event: object) -> None:
        await change("add")

    async def on_remove(event: object) -> None:
        await change("remove")

    add.on_click(on_add)
    remove.on_click(on_remove)
    enable(view)
    return pn.Row(comment, add, remove, styles={"gap": "16px"}, margin=(12, 0, 12, 0))


def _heading(text: str) -> pn.pane.HTML:
    return _html(f'<h2 class="plot-title">{text}</h2>')


def _html(text: str) -> pn.pane.HTML:
    return pn.pane.HTML(
        text, stylesheets=[page_style(), markup.STYLE], sizing_mode="stretch_width", margin=0
    )
