"""Parts of pages as plain HTML: in the page when it comes, and over HTTP when they are renewed.

They are made in a thread, so that a large night does not hold up the other pages: for a page
before its own function is called, which runs in the server's loop, and at its refresh by the
browser (page.js).
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Protocol

from tornado.httputil import HTTPServerRequest

from dashboards.access import Visitor
from dashboards.gate import current_visitor
from dashboards.sentences import SentenceHandler
from roboao_assets.science.errors import ArchiveError, CatalogueError

NIGHT_PARTS_URL, NIGHTS_PARTS_URL = "/night/parts", "/nights/parts"


class PartsError(ArchiveError):
    """What was asked for means nothing, or is not there for who asks."""


class PartsMaker(Protocol):
    """Makes the parts of a page: by their names, as HTML."""

    def __call__(self, visitor: Visitor, arguments: Mapping[str, str]) -> dict[str, str]:
        """Return the parts (PartsError: there are none, and why)."""


@dataclass(frozen=True)
class PageParts:
    """Makes the parts of pages before the pages are made.

    Attributes
    ----------
    makers : mapping of str to PartsMaker
        By the path of the page.
    executor : Executor
    """

    makers: Mapping[str, PartsMaker]
    executor: Executor

    async def prepare(self, request: HTTPServerRequest, visitor: Visitor) -> None:
        """Make what a page will show, if it is one of ours; it is noted on the request."""
        make = self.makers.get(request.path)
        if make is not None:
            request.parts = await asyncio.get_running_loop().run_in_executor(  # type: ignore[attr-defined]
                self.executor, _attempt, make, visitor, _arguments(request)
            )


def page_parts(request: Any) -> dict[str, str]:
    """Return the parts that were made for a request (or bokeh's copy of it).

    Raises
    ------
    PartsError, CatalogueError
        They could not be made.
    """
    made: dict[str, str] | ArchiveError = request.parts
    if isinstance(made, ArchiveError):
        raise made
    return made


class PartsHandler(SentenceHandler):
    """Sends the parts that a maker makes; what it cannot make is answered with a sentence."""

    def initialize(self, make: PartsMaker, executor: Executor) -> None:
        """Take what the server hands every handler of this kind."""
        self._make, self._executor = make, executor

    async def get(self) -> None:
        """Send the parts. The browser asks with what it has (ETag), and mostly has them."""
        visitor = current_visitor(self.request)
        assert visitor is not None  # the gate turns strangers away
        made = await asyncio.get_running_loop().run_in_executor(
            self._executor, _attempt, self._make, visitor, _arguments(self.request)
        )
        if isinstance(made, PartsError):
            self.explain(404, str(made))
            return
        if isinstance(made, ArchiveError):
            self.explain(503, f"The catalogue cannot be read now: {made}.")
            return
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "private, no-cache")
        self.set_header("Vary", "Cookie")
        self.write(
            "".join(f'<div data-part="{name}">{html}</div>\n' for name, html in made.items())
        )


def _attempt(
    make: PartsMaker, visitor: Visitor, arguments: Mapping[str, str]
) -> dict[str, str] | ArchiveError:
    try:
        return make(visitor, arguments)
    except (PartsError, CatalogueError) as error:
        return error


def _arguments(request: HTTPServerRequest) -> dict[str, str]:
    return {
        name: values[0].decode("utf-8", "replace")
        for name, values in request.query_arguments.items()
    }
