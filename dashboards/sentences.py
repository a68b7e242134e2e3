"""Handlers that answer in a sentence when they have nothing else to send."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from tornado.web import HTTPError, RequestHandler

from dashboards.access import Visitor
from dashboards.gate import current_visitor
from dashboards.search_form import SearchForm, SearchFormError, read_form
from roboao_assets.science.errors import CatalogueError, CatalogueUnavailableError

Found = TypeVar("Found")


class SentenceHandler(RequestHandler):
    """A handler that can say why."""

    def explain(self, status: int, sentence: str) -> None:
        """End the answer with a sentence, which no browser keeps or takes for a page."""
        self.set_status(status)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")
        self.finish(f"{sentence.removesuffix('.')}.\n")


class SearchHandler(SentenceHandler):
    """A handler that makes something of the address of a search."""

    _executor: Executor

    async def searched(
        self, arguments: dict[str, list[bytes]], work: Callable[[SearchForm, Visitor], Found]
    ) -> Found | None:
        """Return what `work` makes, in a thread, of the search; None after saying why not.

        Parameters
        ----------
        arguments : dict
            Of the address, without those that are not the search's.
        work : callable
            Is given the search and who asks.
        """
        form, wrong = read_form(arguments)
        if wrong:
            self.explain(400, f"This cannot be searched for: {'; '.join(wrong)}.")
            return None
        visitor = current_visitor(self.request)
        if visitor is None:
            raise HTTPError(404)
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, work, form, visitor)
        except SearchFormError as error:
            self.explain(400, f"This cannot be searched for: {error}.")
        except CatalogueUnavailableError as error:
            self.explain(503, f"The catalogue cannot be read now: {error}.")
        except CatalogueError as error:
            self.explain(500, f"The catalogue cannot be searched: {error}.")
        return None
