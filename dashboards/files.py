"""Files of the archive over HTTP: the one way from the pages to the archive tree."""

import asyncio
from concurrent.futures import Executor
from html import escape
from urllib.parse import quote

from tornado.web import StaticFileHandler

from dashboards.access import Access, Asked
from dashboards.gate import current_visitor
from dashboards.links import file_url
from dashboards.sentences import SentenceHandler
from dashboards.source import CatalogueSource
from roboao_assets.science.errors import CatalogueError, CatalogueUnavailableError
from roboao_assets.storage.catalogue import night_of
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.served_files import ServedFile, observation_files

_MOST_CHARACTERS = 500
_MEDIA_TYPES = {
    ".fits": "application/fits",
    ".bz2": "application/x-bzip2",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
    ".ecsv": "text/plain; charset=utf-8",
}


class FileStore:
    """Finds a file by the id of its observation and its name."""

    def __init__(self, source: CatalogueSource, paths: ArchivePaths) -> None:
        self._source, self._paths = source, paths

    def find(self, observation: str, name: str) -> ServedFile | None:
        """Return a file; None if the catalogue has no such observation, or it no such file."""
        document = self._source.get().observation(observation)
        night = night_of(document) if document else None
        if document is None or night is None:
            return None
        return observation_files(self._paths, night, str(document["_id"])).get(name)


class FileHandler(SentenceHandler, StaticFileHandler):
    """`/file?observation=...&name=...`; also a part of a file (`Range`), so that it can go on."""

    def initialize(  # type: ignore[override]
        self, store: FileStore, access: Access, executor: Executor
    ) -> None:
        """Take what the server hands every handler of this kind."""
        self._store, self._access, self._executor = store, access, executor
        super().initialize(path="/")

    async def get(self, path: str = "", include_body: bool = True) -> None:
        """Send a file, or a sentence that says why there is none.

        Of files that the visitor may not have it is the one of those that are not there.
        """
        observation = self.get_query_argument("observation", "")
        name = self.get_query_argument("name", "")
        if not (0 < len(observation) <= _MOST_CHARACTERS and 0 < len(name) <= _MOST_CHARACTERS):
            self.explain(400, "Say which file: /file?observation=<id>&name=<name of the file>.")
            return
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                self._executor, self._find, observation, name
            )
        except CatalogueError as error:
            unavailable = isinstance(error, CatalogueUnavailableError)
            self.explain(503 if unavailable else 500, f"The catalogue cannot be read: {error}.")
            return
        if found is None:
            self.explain(404, "There is no such file of such an observation.")
            return
        self._found = found
        await super().get(str(found.path), include_body)

    def _find(self, observation: str, name: str) -> ServedFile | None:
        if not self._access.may(current_visitor(self.request), Asked("observation", observation)):
            return None
        return self._store.find(observation, name)

    async def head(self, path: str = "") -> None:  # type: ignore[override]
        """Send what `get` would, without the content."""
        await self.get(path, include_body=False)

    @classmethod
    def get_absolute_path(cls, root: str, path: str) -> str:
        """Return the path, which was found by its name among the files that there are."""
        return path

    def validate_absolute_path(self, root: str, absolute_path: str) -> str | None:
        """Return the path, see above."""
        return absolute_path

    def compute_etag(self) -> str | None:
        """Return what is another when the file was made again; its content is not read for it."""
        return f'"{self._found.mtime_ns:x}-{self._found.size_bytes:x}"'

    def get_content_type(self) -> str:
        """Return the type that the ending stands for."""
        return _MEDIA_TYPES.get(self._found.path.suffix, "application/octet-stream")

    def set_extra_headers(self, path: str) -> None:
        """Have it saved under its own name, and never taken for a page."""
        name = quote(self._found.path.name)
        self.set_header("Content-Disposition", f"attachment; filename*=UTF-8''{name}")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "private, no-cache")
        self.set_header("Vary", "Cookie")


def files_table(files: dict[str, ServedFile], observation: str) -> str:
    """Return an observation's files as links, the package first; empty if there is none."""
    if not files:
        return ""
    package = f"{observation}.tar.bz2"
    names = sorted(files, key=lambda name: (name != package, name))
    rows = "".join(
        f'<tr><td><a href="{escape(file_url(observation, name))}" download>{escape(name)}</a></td>'
        f"<td>{_size(files[name].size_bytes)}</td></tr>"
        for name in names
    )
    return (
        f'<details class="files"><summary>Files ({len(files)})</summary><table class="numbers">'
        f"<thead><tr><th>file</th><th>size</th></tr></thead><tbody>{rows}</tbody></table></details>"
    )


def _size(size_bytes: int) -> str:
    if size_bytes < 1000:
        return f"{size_bytes} B"
    return f"{size_bytes / 1e3:.1f} kB" if size_bytes < 1e6 else f"{size_bytes / 1e6:.1f} MB"
