"""The search page. The form is plain HTML that goes to an address: the query is all in it."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from functools import cache
from importlib import resources

import panel as pn

from dashboards import search_markup as markup
from dashboards.markup import problem
from dashboards.name_resolver import NameResolver
from dashboards.page_frame import build_page, page_style, page_visitor
from dashboards.search_collect import run_search
from dashboards.search_form import SearchForm, SearchFormError, read_form
from dashboards.source import CatalogueSource
from roboao_assets.science.errors import CatalogueError
from roboao_assets.storage.catalogue import Reader

_TITLE = "Search"


def search_page(
    source: CatalogueSource,
    executor: Executor,
    resolver: NameResolver,
) -> pn.Template:
    """The form as the address fills it in, and what is found.

    Parameters
    ----------
    source : CatalogueSource
    executor : Executor
        Where the search runs: a slow one must not hold up the other pages.
    resolver : NameResolver
    """
    reader = page_visitor().reader
    form, wrong = read_form(pn.state.session_args)
    found = _html(markup.wrong_form(wrong) if wrong else markup.LOADING)
    if not wrong:
        pn.state.onload(_searching(source, executor, resolver, reader, form, found))
    body = pn.Column(_html(markup.search_form(form)), found, sizing_mode="stretch_width")
    return build_page(_TITLE, body)


def _searching(
    source: CatalogueSource,
    executor: Executor,
    resolver: NameResolver,
    reader: Reader | None,
    form: SearchForm,
    found: pn.pane.HTML,
) -> Callable[[], Awaitable[None]]:
    """Return what fills in the results once the page is there."""

    def search() -> str:
        try:
            result = run_search(source.get(), form, reader=reader, resolve=resolver.position_deg)
        except SearchFormError as error:
            return markup.wrong_form(error.sentences)
        except CatalogueError as error:
            return problem("The catalogue cannot be searched", str(error))
        return markup.results(form, result)

    async def fill() -> None:
        found.object = await asyncio.get_running_loop().run_in_executor(executor, search)

    return fill


def _html(text: str) -> pn.pane.HTML:
    return pn.pane.HTML(
        text, stylesheets=[page_style(), _style()], sizing_mode="stretch_width", margin=0
    )


@cache
def _style() -> str:
    return resources.files("dashboards").joinpath("search.css").read_text(encoding="utf-8")
