"""`/script`: the script that fetches what a search means, for who asks; and the end of tokens."""

import asyncio
import logging
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from tornado.web import HTTPError

from dashboards.access import Visitor
from dashboards.download_script import TOOLS, Entry, ScriptHead, script_text
from dashboards.download_tokens import DownloadTokens
from dashboards.gate import current_visitor
from dashboards.links import ACCOUNT_URL, file_url
from dashboards.name_resolver import NameResolver
from dashboards.search_form import SearchForm, make_query
from dashboards.sentences import SearchHandler, SentenceHandler
from dashboards.source import CatalogueSource
from dashboards.values import integer_of, section_of, text_of
from roboao_assets.science.errors import ArchiveError, CatalogueError
from roboao_assets.storage.catalogue import Catalogue, ObservationQuery, night_of, open_catalogue
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.served_files import observation_files

# What a script fetches -> of how many observations at most: single files are looked up on disk.
WHATS = {"packages": 10_000, "files": 500}
_MOST_TITLE = 300

logger = logging.getLogger("roboao.downloads")


class DownloadError(ArchiveError):
    """There is no script of what was asked for; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Downloads:
    """Makes scripts.

    Attributes
    ----------
    source : CatalogueSource
    paths : ArchivePaths
    tokens : DownloadTokens
    resolver : NameResolver
    """

    source: CatalogueSource
    paths: ArchivePaths
    tokens: DownloadTokens
    resolver: NameResolver

    def script(
        self, tool: str, what: str, form: SearchForm, visitor: Visitor, base_url: str
    ) -> tuple[str, str]:
        """Return the name and the text of a script.

        Raises
        ------
        SearchFormError, DownloadError
            The form means nothing, or nothing that can be fetched.
        CatalogueError
            The catalogue cannot be read.
        """
        query = make_query(form, reader=visitor.reader, resolve=self.resolver.position_deg)
        entries = self._entries(self.source.get(), what, replace(query, skip=0, limit=0))
        if not entries:
            raise DownloadError(
                f"there are no {what} of such observations yet: of what is not distributed, or "
                f"was not packed, there is nothing to fetch"
            )
        now = datetime.now(UTC)
        gigabytes = sum(entry.size_bytes for entry in entries) / 1e9
        chosen = ", ".join(f"{name}={value}" for name, value in form.chosen().items()) or "all"
        name = f"roboao-{now:%Y%m%dT%H%M%S}.sh"
        head = ScriptHead(
            title=f"Robo-AO archive: {len(entries)} {what}, {gigabytes:.3f} GB, "
            f"of observations with {chosen[:_MOST_TITLE]}",
            name=name,
            user=visitor.name,
            until=f"{now + timedelta(days=self.tokens.days):%Y-%m-%d %H:%M} UT",
            base_url=base_url,
            token=self.tokens.make(visitor.user),
        )
        return name, script_text(tool, head, entries)

    def _entries(self, catalogue: Catalogue, what: str, query: ObservationQuery) -> list[Entry]:
        most = WHATS[what]
        total = catalogue.count_observations(query)
        if total > most:
            raise DownloadError(
                f"{total} observations were chosen, and a script of {what} has {most} at most: "
                f"choose fewer, e.g. by a span of dates or a program"
            )
        entries: list[Entry] = []
        for document in catalogue.find_observations(query):
            identifier, night = str(document["_id"]), night_of(document)
            if night is None:
                continue
            if what == "files":
                entries += self._files(night, identifier)
            elif (packed := section_of(document, "distributed")).get("status") is True:
                name, size = self.paths.package(night, identifier).name, packed.get("size_bytes")
                if integer_of(size) is not None:
                    address = file_url(identifier, name)
                    digest = text_of(packed.get("sha256"))
                    entry = Entry(target=name, size_bytes=size, sha256=digest, address=address)
                    entries.append(entry)
        return entries

    def _files(self, night: str, identifier: str) -> list[Entry]:
        package = self.paths.package(night, identifier).name
        return [
            Entry(
                target=f"{identifier}/{name}",
                size_bytes=served.size_bytes,
                sha256="",
                address=file_url(identifier, name),
            )
            for name, served in observation_files(self.paths, night, identifier).items()
            if name != package
        ]


class ScriptHandler(SearchHandler):
    """`/script?tool=curl|wget&what=packages|files&...`: the rest is a search's address."""

    def initialize(self, downloads: Downloads, executor: Executor) -> None:
        """Take what the server hands every handler of this kind."""
        self._downloads, self._executor = downloads, executor

    async def get(self) -> None:
        """Send the script, or a sentence that says why there is none."""
        arguments = dict(self.request.query_arguments)
        tool, what = (
            b"".join(arguments.pop(name, [])).decode("utf-8", "replace")
            for name in ("tool", "what")
        )
        if tool not in TOOLS or what not in WHATS:
            tools, whats = " or ".join(TOOLS), " or ".join(WHATS)
            self.explain(400, f"Say with what and what: tool={tools} and what={whats}.")
            return
        base_url = f"{self.request.protocol}://{self.request.host}"

        def work(form: SearchForm, visitor: Visitor) -> tuple[str, str, str]:
            return *self._downloads.script(tool, what, form, visitor, base_url), visitor.name

        try:
            made = await self.searched(arguments, work)
        except DownloadError as error:
            sentence = str(error)
            self.explain(404, f"{sentence[:1].upper()}{sentence[1:]}.")
            return
        if made is None:
            return
        name, text, reader = made
        logger.info("script of %s for %s from %s", what, reader, self.request.remote_ip)
        self.set_header("Content-Type", "text/x-shellscript; charset=utf-8")
        self.set_header("Content-Disposition", f'attachment; filename="{name}"')
        self.set_header("Cache-Control", "no-store")
        self.write(text)


class EndTokensHandler(SentenceHandler):
    """`/account/end-tokens`, by POST only: no script of the user's fetches anything any more."""

    def initialize(self, catalogue_url: str, executor: Executor) -> None:
        """Take what the server hands every handler of this kind."""
        self._url, self._executor = catalogue_url, executor

    async def post(self) -> None:
        """End the tokens, and go back to the page."""
        visitor = current_visitor(self.request)
        if visitor is None:
            raise HTTPError(404)
        try:
            await asyncio.get_running_loop().run_in_executor(
                self._executor, _end_tokens, self._url, visitor.name
            )
        except CatalogueError as error:
            self.explain(503, f"The tokens could not be ended: {error}.")
            return
        logger.info("tokens of %s ended from %s", visitor.name, self.request.remote_ip)
        self.redirect(f"{ACCOUNT_URL}?ended=yes", status=303)


def _end_tokens(url: str, name: str) -> None:
    with open_catalogue(url) as catalogue:
        catalogue.users.end_tokens(name)
        catalogue.actions.record(name, "user's tokens ended", by=name)
