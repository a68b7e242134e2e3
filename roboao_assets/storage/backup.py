"""A backup of what the archive tree cannot bring back, as one file: written and checked.

`roboao-backup-<time>.tar.gz` holds each collection of the catalogue as lines of JSON, the pictures,
the PSF library, the list of nights, and Dagster's files; its last member, `manifest.json`, has the
SHA-256 of each. Every document is whole; of several that were changed while the backup was made
some may be of before, some of after.
"""

import base64
import gzip
import hashlib
import json
import math
import os
import sqlite3
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from roboao_assets import __version__
from roboao_assets.science.errors import ArchiveError
from roboao_assets.storage.catalogue import Catalogue
from roboao_assets.storage.catalogue.base import COLLECTIONS
from roboao_assets.storage.catalogue.values import to_json
from roboao_assets.storage.files import write_whole
from roboao_assets.storage.paths import ArchivePaths

FORMAT = 1
MANIFEST, NIGHTS_MANIFEST, LIBRARY = "manifest.json", "nights.json", "psf_library.fits"
PREFIX, SUFFIX = "roboao-backup-", ".tar.gz"
DOCUMENTS_AT_ONCE, _IMAGES_AT_ONCE = 500, 200
_SQLITE_HEAD = b"SQLite format 3\0"

Progress = Callable[[str], None]


class BackupError(ArchiveError):
    """A backup cannot be made, is damaged, or would be restored over what is there."""


@dataclass
class Contents:
    """What a backup holds.

    Attributes
    ----------
    members : dict of str to (str, int)
        Name -> SHA-256 and bytes.
    counts : dict of str to int
        Documents by collection, and `images`.
    altered : list of str
        Documents with a value that JSON has not (written by another program): it is kept as text.
    """

    members: dict[str, tuple[str, int]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    altered: list[str] = field(default_factory=list)


def backup_name(now: datetime) -> str:
    """Return the name of a backup made at `now` (aware)."""
    return f"{PREFIX}{now.astimezone(UTC):%Y%m%dT%H%M%SZ}{SUFFIX}"


def write_backup(
    path: Path,
    catalogue: Catalogue,
    paths: ArchivePaths,
    dagster_home: Path | None,
    *,
    images: bool = True,
    tell: Progress = lambda _: None,
) -> Contents:
    """Write a backup, whole or not at all, for its owner alone to read.

    Parameters
    ----------
    path : Path
    catalogue : Catalogue
    paths : ArchivePaths
        Of them the PSF library and the list of nights are taken.
    dagster_home : Path or None
        Its `dagster.yaml` and SQLite files are taken, each as it is at one moment.
    images : bool
        Without them, `roboao rebuild-catalogue` brings back those that the tree has.
    tell : callable
        Is given the name of each part.

    Raises
    ------
    BackupError
        The disk is full, the folder cannot be written, or a database of Dagster's cannot be read.
    CatalogueError
        The catalogue cannot be read.
    """
    contents = Contents()
    try:
        with write_whole(path, mode=0o600) as partial, _Writer(partial, contents) as writer:
            for collection in COLLECTIONS:
                tell(collection)
                writer.add_lines(
                    f"catalogue/{collection}.jsonl", _lines(catalogue, collection, contents)
                )
            if images:
                tell("images")
                _add_images(writer, catalogue, contents)
            for name, file in ((LIBRARY, paths.psf_library), (NIGHTS_MANIFEST, paths.manifest)):
                if file.is_file():
                    tell(name)
                    writer.add_file(name, file)
            for name, file in _dagster_files(dagster_home):
                tell(f"dagster/{name}")
                writer.add_file(f"dagster/{name}", file)
            writer.add_bytes(MANIFEST, _manifest_text(contents), listed=False)
    except (OSError, sqlite3.Error) as error:
        raise BackupError(
            f"the backup {path} could not be written ({error}); nothing of it was left. Make room, "
            f"or name a folder that can be written"
        ) from error
    return contents


def _manifest_text(contents: Contents) -> bytes:
    told = {
        "format": FORMAT,
        "version": __version__,
        "made": datetime.now(UTC).isoformat(),
        "counts": contents.counts,
        "altered": contents.altered,
        "members": contents.members,
    }
    return json.dumps(told, indent=1).encode()


def _lines(catalogue: Catalogue, collection: str, contents: Contents) -> Iterator[bytes]:
    contents.counts[collection] = 0
    after = ""
    while documents := catalogue.documents_after(collection, after, DOCUMENTS_AT_ONCE):
        for document in documents:
            contents.counts[collection] += 1
            try:
                text = to_json(document)
            except (TypeError, ValueError):
                contents.altered.append(f"{collection}/{document['_id']}")
                text = to_json(_spelled(document))
            yield text.encode("utf-8", "replace") + b"\n"
        after = str(documents[-1]["_id"])


def _spelled(value: Any) -> Any:
    """Return what another program has written as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(key): _spelled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_spelled(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    known = value is None or isinstance(value, str | bool | int | float | datetime)
    return value if known else str(value)


def _add_images(writer: "_Writer", catalogue: Catalogue, contents: Contents) -> None:
    contents.counts["images"] = 0
    after, part = "", 0
    while rows := catalogue.images_after(after, _IMAGES_AT_ONCE):
        lines = (
            json.dumps(
                {
                    "key": row.key,
                    "night": row.night,
                    "observation": row.observation,
                    "png": base64.b64encode(row.png).decode("ascii"),
                }
            ).encode()
            + b"\n"
            for row in rows
        )
        writer.add_lines(f"images/{part:06d}.jsonl", lines)
        contents.counts["images"] += len(rows)
        after, part = rows[-1].key, part + 1


def _dagster_files(home: Path | None) -> Iterator[tuple[str, Path]]:
    if home is None or not home.is_dir():
        return
    for path in sorted(
        (home / "dagster.yaml", *home.glob("history/**/*.db"), *home.glob("schedules/*.db"))
    ):
        if path.is_file():
            yield path.relative_to(home).as_posix(), path


class _Writer:
    """Adds members to a tar file, and notes what each is."""

    def __init__(self, path: Path, contents: Contents) -> None:
        self._contents = contents
        self._folder = path.parent
        self._tar = tarfile.open(path, "w:gz", compresslevel=6)  # noqa: SIM115 - see __exit__

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *exception: object) -> None:
        self._tar.close()

    def add_lines(self, name: str, lines: Iterable[bytes]) -> None:
        with self._scratch() as scratch:
            with scratch.open("wb") as file:
                file.writelines(lines)
            self._add(name, scratch)

    def add_bytes(self, name: str, content: bytes, *, listed: bool = True) -> None:
        with self._scratch() as scratch:
            scratch.write_bytes(content)
            self._add(name, scratch, listed=listed)

    def add_file(self, name: str, path: Path) -> None:
        """Add a copy: of a database as it is at one moment, whoever writes it."""
        with self._scratch() as scratch:
            with path.open("rb") as file:
                is_sqlite = file.read(len(_SQLITE_HEAD)) == _SQLITE_HEAD
            if is_sqlite:
                with (
                    closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as source,
                    closing(sqlite3.connect(scratch)) as copy,
                ):
                    source.backup(copy)
                self._add(name, scratch)
            else:
                # Written whole by renaming: what was opened stays as it was.
                self._add(name, path)

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".partial-") as folder:
            yield Path(folder) / "member"

    def _add(self, name: str, path: Path, *, listed: bool = True) -> None:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            member = tarfile.TarInfo(name)
            member.size, member.mode = size, 0o600
            member.mtime = int(datetime.now(UTC).timestamp())
            self._tar.addfile(member, file)
        if listed:
            self._contents.members[name] = (digest, size)


def check_backup(path: Path) -> Contents:
    """Return what a backup holds, after reading all of it.

    Raises
    ------
    BackupError
        It is no backup, is damaged or cut short, or was made by a later version.
    """
    found: dict[str, tuple[str, int]] = {}
    manifest: dict[str, Any] | None = None
    with read_members(path) as members:
        for name, file in members:
            if name == MANIFEST:
                manifest = json.loads(file.read())
                continue
            digest, size = hashlib.sha256(), 0
            while block := file.read(1 << 20):
                digest.update(block)
                size += len(block)
            found[name] = (digest.hexdigest(), size)
    if manifest is None:
        raise BackupError(
            f"{path} has no {MANIFEST}: it was cut short, or is no backup of an archive"
        )
    if manifest["format"] != FORMAT:
        raise BackupError(
            f"{path} has the format {manifest['format']}, and this version of roboao-archive "
            f"({__version__}) reads {FORMAT}: restore it with version {manifest['version']}"
        )
    listed = {name: (digest, size) for name, (digest, size) in manifest["members"].items()}
    damaged = sorted(
        name for name in listed.keys() | found.keys() if listed.get(name) != found.get(name)
    )
    if damaged:
        raise BackupError(
            f"{path} is damaged: {', '.join(damaged[:5])} not as written; take another backup"
        )
    return Contents(members=listed, counts=manifest["counts"], altered=manifest["altered"])


@contextmanager
def read_members(path: Path) -> Iterator[Iterator[tuple[str, IO[bytes]]]]:
    """Yield the members of a backup, to be read one after the other."""
    if not path.is_file():
        raise BackupError(f"there is no backup file {path}")
    try:
        with tarfile.open(path, "r|gz") as tar:
            yield ((m.name, file) for m in tar if (file := tar.extractfile(m)) is not None)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise BackupError(
            f"the backup {path} is damaged or cut short, or is none ({error}); take another one"
        ) from error


def remove_older(folder: Path, keep: int) -> list[Path]:
    """Remove all backups of a folder but the newest `keep`; return those that were removed."""
    found = sorted(folder.glob(f"{PREFIX}*{SUFFIX}"))
    older = found[: max(0, len(found) - keep)]
    for path in older:
        path.unlink()
    return older
