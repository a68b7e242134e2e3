"""What an operator wants to know of the catalogue and the machine, gathered in a moment."""

import os
import shutil
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import psutil

from roboao_assets.storage.catalogue import PIPELINES, Catalogue, ObservationQuery, product
from roboao_assets.storage.manifest import Manifest, read_manifest
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.raw_night import list_nights
from roboao_assets.storage.settings import Settings

# A night has hardly more observations; the ages of its newest products tell enough.
_NEWEST = 200
_CPU_INTERVAL_S = 0.1


@dataclass(frozen=True, kw_only=True)
class DiskSpace:
    """The disk below the archive or a raw root (bytes)."""

    purpose: str
    path: str
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, kw_only=True)
class HostLoad:
    """How busy the machine is.

    Attributes
    ----------
    cpu_ratio : float
        Of all cores, 0 to 1, over a tenth of a second.
    load_average, cores : float, int
        Processes that run or want to, over a minute.
    memory_available_bytes, memory_total_bytes : int
    """

    cpu_ratio: float
    load_average: float
    cores: int
    memory_available_bytes: int
    memory_total_bytes: int


@dataclass(frozen=True, kw_only=True)
class ProductAge:
    """From the closing of the shutter to the bright-star stack, of the newest night that has any.

    Of the newest observations of that night; one that was made again counts by its last stack.
    """

    night: str
    observations: int
    median_s: float
    maximum_s: float


@dataclass(frozen=True, kw_only=True)
class CatalogueState:
    """What the catalogue says.

    Attributes
    ----------
    nights, observations, reduced : int
        Known; observations with a stack as a bright star or as a resolved object.
    failed : mapping of str to int
        Observations by pipeline of which the last attempt at its stack failed.
    requests_waiting : int
        Observations and nights of which something is asked.
    unprocessed : tuple of str
        Nights of which there are raw data and no report, or observations that were never
        entered; oldest first.
    product_age : ProductAge or None
    """

    nights: int
    observations: int
    reduced: int
    failed: Mapping[str, int]
    requests_waiting: int
    unprocessed: tuple[str, ...]
    product_age: ProductAge | None


def gather_disks(settings: Settings) -> tuple[DiskSpace, ...]:
    """Return the room on the archive's disk and on that of each raw root that is there."""
    archive = settings.archive_root.absolute()
    existing = next(folder for folder in (archive, *archive.parents) if folder.exists())
    places = [("archive", archive, existing)]
    places += [("raw", root.absolute(), root) for root in settings.raw_roots if root.is_dir()]
    return tuple(_space(purpose, path, folder) for purpose, path, folder in places)


def _space(purpose: str, path: Path, folder: Path) -> DiskSpace:
    usage = shutil.disk_usage(folder)
    return DiskSpace(
        purpose=purpose, path=str(path), free_bytes=usage.free, total_bytes=usage.total
    )


def missing_raw_roots(settings: Settings) -> tuple[str, ...]:
    """Return the raw roots that are not there: a disk that is not mounted."""
    return tuple(str(root.absolute()) for root in settings.raw_roots if not root.is_dir())


def gather_host() -> HostLoad:
    """Return how busy the machine is."""
    memory = psutil.virtual_memory()
    return HostLoad(
        cpu_ratio=psutil.cpu_percent(_CPU_INTERVAL_S) / 100,
        load_average=os.getloadavg()[0],
        cores=psutil.cpu_count() or 1,
        memory_available_bytes=memory.available,
        memory_total_bytes=memory.total,
    )


def gather_catalogue(settings: Settings, catalogue: Catalogue) -> CatalogueState:
    """Return what the catalogue, the manifest and the names in the raw roots say."""
    manifest = read_manifest(ArchivePaths(settings.archive_root.absolute()).manifest)
    rows = {row.night: row for row in catalogue.nights()}
    entered = {night: row.observations for night, row in rows.items()}
    return CatalogueState(
        nights=len(rows.keys() | manifest.nights.keys()),
        observations=sum(entered.values()),
        reduced=sum(row.done for row in rows.values()),
        failed={
            pipeline: catalogue.count_observations(ObservationQuery(pipelines_failed=(pipeline,)))
            for pipeline in PIPELINES
        },
        requests_waiting=len(catalogue.requests.all()),
        unprocessed=_unprocessed(settings, catalogue, manifest, entered),
        product_age=newest_product_age(catalogue),
    )


def _unprocessed(
    settings: Settings, catalogue: Catalogue, manifest: Manifest, entered: Mapping[str, int]
) -> tuple[str, ...]:
    there = list_nights(settings.raw_roots, settings.archiving_start_date)
    reported = set(catalogue.nights_with("report"))
    return tuple(
        night
        for night, observations in sorted(manifest.nights.items())
        if night in there
        and (night not in reported or entered.get(night, 0) < max(len(observations), 1))
    )


def newest_product_age(catalogue: Catalogue) -> ProductAge | None:
    """Return how long the newest night's stacks took after the shutter closed; None: no stack."""
    newest = catalogue.find_observations(
        ObservationQuery(
            pipelines_done=("bright_star",),
            sort=("date_utc", False),
            limit=_NEWEST,
            summary_only=True,
        )
    )
    ages: dict[str, list[float]] = {}
    for document in newest:
        made = product(document, "bright_star").get("last_modified")
        exposure_s = document.get("exposure")
        if not isinstance(made, datetime) or not isinstance(exposure_s, int | float):
            continue
        closed = document["date_utc"] + timedelta(seconds=exposure_s)
        night = f"{document['date_utc']:%Y%m%d}"
        ages.setdefault(night, []).append((made - closed).total_seconds())
    if not ages:
        return None
    night = max(ages)
    return ProductAge(
        night=night,
        observations=len(ages[night]),
        median_s=statistics.median(ages[night]),
        maximum_s=max(ages[night]),
    )
