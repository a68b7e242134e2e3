"""What every stage works with: settings, paths, the catalogue; and how a stage is run."""

import logging
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from roboao_assets.pipelines.freshness import kept_fingerprint
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.science.errors import (
    ArchiveError,
    CatalogueUnavailableError,
    TransferError,
)
from roboao_assets.storage.catalogue import NIGHTS, Catalogue, night_of, open_catalogue
from roboao_assets.storage.mirror import in_original_words, place_of
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.records import write_record
from roboao_assets.storage.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """The archive as a stage sees it."""

    settings: Settings
    paths: ArchivePaths
    catalogue: Catalogue

    @property
    def raw_roots(self) -> tuple[Path, ...]:
        """Where the raw nights stand for this process."""
        return tuple(place_of(root) for root in self.settings.raw_roots)

    def kept(self, record: Mapping[str, Any] | None, fingerprint: str) -> str:
        """Fingerprint of the recorded product if it need not be made again, else ""."""
        any_code = not self.settings.redo_for_new_code
        return kept_fingerprint(record, fingerprint, self.paths.root, any_code=any_code)


@contextmanager
def open_workspace(settings: Settings) -> Iterator[Workspace]:
    """Yield the workspace of `settings`; its catalogue is closed afterwards.

    Meanwhile linear algebra has one thread: with more its sums have another order, and the last
    bits of a product would tell how many cores had made it.
    """
    root = place_of(settings.archive_root).absolute()
    root.mkdir(parents=True, exist_ok=True)
    with (
        threadpool_limits(limits=1, user_api="blas"),
        open_catalogue(settings.resolved_catalogue_url) as catalogue,
    ):
        ws = Workspace(settings=settings, paths=ArchivePaths(root), catalogue=catalogue)
        try:
            yield ws
        finally:
            _copy_changed(ws)


def _copy_changed(ws: Workspace) -> None:
    """Write the documents that were changed beside the products (`storage.records`)."""
    for collection, identifier in sorted(ws.catalogue.changed):
        if collection == NIGHTS:
            document, path = ws.catalogue.night(identifier), ws.paths.night_record(identifier)
        else:
            document = ws.catalogue.observation(identifier)
            night = night_of(document or {})
            if night is None:
                continue
            path = ws.paths.observation_record(night, identifier)
        if document is not None:
            write_record(path, document)
    ws.catalogue.changed.clear()


def run_stage(stage: str, work: Callable[[], StageOutcome]) -> StageOutcome:
    """Run `work` and return how it ended, timed; no exception leaves here.

    What this project raises on purpose, and the operating system's errors, are
    told by their sentence. Anything else is a defect of ours: its traceback goes
    to the log, and the observation after it is still reduced.
    """
    start = time.monotonic()
    try:
        outcome = work()
    except ArchiveError as error:
        outcome = _failure(stage, error, str(error))
    except OSError as error:
        outcome = _failure(stage, error, f"the operating system refused: {error}")
    except Exception as error:
        log.exception("defect in stage %s", stage)
        where = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} (a defect, at {where.name}:{where.lineno})"
        outcome = _failure(stage, error, reason)
    if outcome.status == "failed":
        log.error("%s: %s", stage, outcome.reason)
    return replace(outcome, seconds=time.monotonic() - start)


def _failure(stage: str, error: Exception, reason: str) -> StageOutcome:
    retryable = isinstance(error, CatalogueUnavailableError | TransferError | OSError)
    return StageOutcome(
        stage=stage,
        status="failed",
        reason=in_original_words(reason),
        retryable=retryable,
        error_type=type(error).__name__,
    )
