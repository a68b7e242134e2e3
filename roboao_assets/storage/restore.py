"""A backup restored: into an empty catalogue of either home, and files that are not there."""

import base64
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from roboao_assets.storage.backup import (
    DOCUMENTS_AT_ONCE,
    LIBRARY,
    NIGHTS_MANIFEST,
    BackupError,
    check_backup,
    read_members,
)
from roboao_assets.storage.catalogue import Catalogue
from roboao_assets.storage.catalogue.base import COLLECTIONS, ImageRow
from roboao_assets.storage.catalogue.values import from_json
from roboao_assets.storage.files import write_whole
from roboao_assets.storage.paths import ArchivePaths


@dataclass
class Restored:
    """What a restore has done.

    Attributes
    ----------
    counts : dict of str to int
        Documents entered by collection, and `images`.
    files : list of Path
        Files that were written.
    kept : list of Path
        Files that were there, and stay as they are.
    """

    counts: dict[str, int] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)


def restore_backup(
    path: Path, catalogue: Catalogue, paths: ArchivePaths, dagster_home: Path | None
) -> Restored:
    """Enter a backup in an empty catalogue, and write the files that are not there.

    Parameters
    ----------
    path : Path
        It is read twice: nothing is restored of one that is damaged.
    catalogue : Catalogue
        Of either home, whichever the backup was made of.
    paths : ArchivePaths
    dagster_home : Path or None
        None: Dagster's files are left alone.

    Raises
    ------
    BackupError
        The backup is damaged, or the catalogue has documents.
    """
    check_backup(path)
    filled = [name for name in COLLECTIONS if catalogue.documents_after(name, "", 1)]
    if filled:
        raise BackupError(
            f"the catalogue {catalogue.url} is not empty (it has {', '.join(filled)}); a backup is "
            f"restored into an empty one: move the file away, or name another database"
        )
    # A database that is there goes with others: all of Dagster's files or none.
    if dagster_home is not None and (dagster_home / "history").exists():
        kept, dagster_home = [dagster_home / "history"], None
    else:
        kept = []
    done = Restored(kept=kept)
    with read_members(path) as members:
        for name, file in members:
            _restore_member(name, file, catalogue, paths, dagster_home, done)
    return done


def _restore_member(
    name: str,
    file: IO[bytes],
    catalogue: Catalogue,
    paths: ArchivePaths,
    dagster_home: Path | None,
    done: Restored,
) -> None:
    collection = name.removeprefix("catalogue/").removesuffix(".jsonl")
    if name.startswith("catalogue/") and collection in COLLECTIONS:
        done.counts[collection] = _enter(catalogue, collection, file)
        return
    if name.startswith("images/"):
        rows = _image_rows(file)
        catalogue.enter_images(rows)
        done.counts["images"] = done.counts.get("images", 0) + len(rows)
        return
    target = _target(name, paths, dagster_home)
    if target is None:
        return
    if target.exists():
        done.kept.append(target)
        return
    mode = 0o600 if name.startswith("dagster/") else 0o644
    with write_whole(target, mode=mode) as partial, partial.open("wb") as copy:
        shutil.copyfileobj(file, copy, 1 << 20)
    done.files.append(target)


def _enter(catalogue: Catalogue, collection: str, file: IO[bytes]) -> int:
    count = 0
    batch: list[dict[str, Any]] = []
    for line in file:
        batch.append(from_json(line.decode("utf-8")))
        if len(batch) == DOCUMENTS_AT_ONCE:
            catalogue.enter_documents(collection, batch)
            count, batch = count + len(batch), []
    if batch:
        catalogue.enter_documents(collection, batch)
    return count + len(batch)


def _image_rows(file: IO[bytes]) -> list[ImageRow]:
    rows = []
    for line in file:
        told = json.loads(line)
        png = base64.b64decode(told["png"])
        rows.append(
            ImageRow(key=told["key"], night=told["night"], observation=told["observation"], png=png)
        )
    return rows


def _target(name: str, paths: ArchivePaths, dagster_home: Path | None) -> Path | None:
    """Return where a member is written; None for what is not known, or leads elsewhere."""
    own = {LIBRARY: paths.psf_library, NIGHTS_MANIFEST: paths.manifest}
    if name in own:
        return own[name]
    inner = Path(name.removeprefix("dagster/"))
    if not name.startswith("dagster/") or dagster_home is None:
        return None
    return None if inner.is_absolute() or ".." in inner.parts else dagster_home / inner
