"""Packages for distribution: everything that the archive has of an observation, in one file.

A package that is handed out (`distributed.status` is true) agrees with the observation's folder.
It is made again when a file of the folder changed, vanished or was added, when the package itself
was changed or removed, and when an operator set `distributed.status` to false.
"""

import hashlib
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from roboao_assets.pipelines.context import CLAIM, NothingToMakeError, ObservationContext
from roboao_assets.pipelines.freshness import fingerprint
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.workspace import Workspace, run_stage
from roboao_assets.storage.catalogue import product, program_of
from roboao_assets.storage.packages import (
    FolderFiles,
    Member,
    are_same_files,
    hash_members,
    look_at_folder,
    manifest_of,
    write_package,
)

STAGE = "distribution_package"

log = logging.getLogger(__name__)


def make_package(ctx: ObservationContext) -> StageOutcome:
    """Pack what the observation's folder holds.

    Raises
    ------
    NothingToMakeError
        If there is no product, or no frame of the observation could be used.
    """
    return pack_observation(ctx.ws, ctx.night, ctx.id, force=ctx.force)


def pack_observation(
    ws: Workspace, night: str, observation: str, *, force: bool = False
) -> StageOutcome:
    """Make the package of an observation, unless the one there agrees with its folder.

    Files are read only if their size or time is not the one that they were hashed with.

    Parameters
    ----------
    ws : Workspace
    night, observation : str
    force : bool
        Make it even if it agrees.

    Raises
    ------
    NothingToMakeError
        If there is no product, or no frame of the observation could be used.
    """
    document = ws.catalogue.observation(observation) or {}
    _check_class(observation, document)
    folder, package = ws.paths.observation(night, observation), ws.paths.package(night, observation)
    found = look_at_folder(folder, package)
    if not found.files:
        raise NothingToMakeError(f"there is nothing to pack: {observation} has no product")
    if found.left_out:
        log.warning("%s: no regular files, not packed: %s", folder, ", ".join(found.left_out))
    record = _record_of(document)
    members = hash_members(folder, found, _known_members(record))
    manifest = manifest_of(_head(night, observation, document), members)
    identity = fingerprint(STAGE, manifest)
    kept = "" if force or record.get("status") is not True else ws.kept(record, identity)
    if kept and _stands(ws, night, observation, record):
        if not _is_listed(record, found):
            _publish(ws, night, observation, {"members": _entries(members)})
        return _outcome("unchanged", kept, record, found)
    written = write_package(package, folder, manifest, members, threads=ws.settings.threads)
    made = {
        "fingerprint": identity,
        "sha256": written.sha256,
        "size_bytes": written.size_bytes,
        "unpacked_bytes": written.unpacked_bytes,
        "files": len(members),
        "members": _entries(members),
    }
    _publish(ws, night, observation, made)
    return _outcome("done", identity, made, found)


def withdraw_if_outdated(ws: Workspace, night: str, observation: str) -> bool:
    """Mark an observation not distributed if its folder is no longer what was packed.

    Nothing is read but names, sizes and times; the package stays until another takes its place.

    Returns
    -------
    bool
        True if there is no package to be handed out any more.
    """
    record = _record_of(ws.catalogue.observation(observation) or {})
    if record.get("status") is not True:
        return False
    folder, package = ws.paths.observation(night, observation), ws.paths.package(night, observation)
    if package.is_file() and _is_listed(record, look_at_folder(folder, package)):
        return False
    reason = "a product is newer than the package: materialise distribution_package"
    ws.catalogue.set_distributed(observation, False, reason=reason)
    return True


def renew_package(ws: Workspace, night: str, observation: str) -> StageOutcome | None:
    """Make a package again that is outdated because a file was drawn anew after the reduction.

    Returns
    -------
    StageOutcome or None
        None if there is nothing to be done here: it is not outdated, or another run is at work on
        the observation, which packs it at its end.
    """
    if not withdraw_if_outdated(ws, night, observation):
        return None
    owner = f"{socket.gethostname()}:{os.getpid()}"
    if not ws.catalogue.claim(observation, CLAIM, owner, ttl_s=ws.settings.stage_timeout_s):
        return None
    try:
        outcome = run_stage(STAGE, lambda: pack_observation(ws, night, observation))
        if not outcome.succeeded:
            ws.catalogue.record_package_failure(observation, outcome.reason)
    finally:
        ws.catalogue.release(observation, CLAIM, owner)
    return outcome


def record_no_package(ctx: ObservationContext, reason: str) -> None:
    """Note that there is nothing to be distributed, and why."""
    ctx.ws.catalogue.set_distributed(ctx.id, False, [], reason=reason)


def record_failed_package(ctx: ObservationContext, reason: str) -> None:
    """Note that packing failed, and why: the former package is not distributed any more."""
    ctx.ws.catalogue.record_package_failure(ctx.id, reason)


def _check_class(observation: str, document: Mapping[str, Any]) -> None:
    stack = product(document, "bright_star")
    if stack.get("classified_as") == "failed":
        raise NothingToMakeError(
            f"there is nothing to distribute of {observation}: its class is failed "
            f"({stack.get('reason') or 'no reason was given'})"
        )


def _head(night: str, observation: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """What the package is of, and the data versions of its products."""
    pipelined = document.get("pipelined")
    return {
        "id": observation,
        "night": night,
        "program": program_of(document),
        "products": dict(sorted(_fingerprints(pipelined if isinstance(pipelined, dict) else {}))),
    }


def _fingerprints(record: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    identity = record.get("fingerprint")
    if path and isinstance(identity, str):
        yield path, identity
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from _fingerprints(value, f"{path}.{key}".lstrip("."))


def _record_of(document: Mapping[str, Any]) -> dict[str, Any]:
    record = document.get("distributed")
    return dict(record) if isinstance(record, Mapping) else {}


def _known_members(record: Mapping[str, Any]) -> list[Member]:
    """Members as the catalogue has them; what somebody spoilt there is hashed again."""
    entries = record.get("members")
    members = []
    for entry in entries if isinstance(entries, list) else ():
        try:
            members.append(Member(**entry))
        except TypeError:
            continue
    return members


def _entries(members: list[Member]) -> list[dict[str, Any]]:
    return [vars(member) for member in members]


def _is_listed(record: Mapping[str, Any], found: FolderFiles) -> bool:
    return are_same_files(_known_members(record), found)


def _stands(ws: Workspace, night: str, observation: str, record: Mapping[str, Any]) -> bool:
    """True if the package is there as it was written; it is read only if its time is another."""
    package = ws.paths.package(night, observation)
    try:
        status = package.stat()
        if status.st_size != record.get("size_bytes"):
            return False
        if status.st_mtime_ns == record.get("mtime_ns"):
            return True
        with package.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != record.get("sha256"):
                return False
    except FileNotFoundError:
        return False
    _publish(ws, night, observation, {})
    return True


def _publish(ws: Workspace, night: str, observation: str, made: Mapping[str, Any]) -> None:
    package = ws.paths.package(night, observation)
    ws.catalogue.set_distributed(
        observation,
        True,
        [package.relative_to(ws.paths.root).as_posix()],
        package={**made, "mtime_ns": package.stat().st_mtime_ns},
    )


def _outcome(
    status: str, identity: str, record: Mapping[str, Any], found: FolderFiles
) -> StageOutcome:
    figures = {name: record[name] for name in ("files", "size_bytes", "unpacked_bytes")}
    if found.left_out:
        figures["left_out"] = len(found.left_out)
    return StageOutcome(stage=STAGE, status=status, fingerprint=identity, metadata=figures)
