"""What the administrator's pages show: failures, requests, the state of the archive, lenders."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from roboao_assets.pipelines.calibration_copy import Lender, find_lenders
from roboao_assets.pipelines.failures import NightFailure, failures_of_nights
from roboao_assets.pipelines.redo import STAGE_OF_PRODUCT, RedoPlan, plan_redo
from roboao_assets.pipelines.workspace import Workspace
from roboao_assets.science.errors import ArchiveError
from roboao_assets.storage.catalogue import Catalogue
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.raw_night import read_night
from roboao_assets.storage.settings import Settings

# What is shown of the pipelines is named here for the pages as well.
__all__ = [
    "FailureList",
    "Lender",
    "RedoPlan",
    "Status",
    "StatusError",
    "StatusSource",
    "collect_failures",
    "collect_lenders",
    "collect_redo",
    "products",
    "read_status",
]

_NIGHTS_AT_ONCE = 30
_STATUS_KEPT_S = 30.0
_STATUS_TIMEOUT_S = 120.0
# A product's own pictures are made with it.
_PRODUCTS = tuple(
    product
    for product, stage in STAGE_OF_PRODUCT.items()
    if list(STAGE_OF_PRODUCT.values()).count(stage) == 1 or not product.endswith(".preview")
)


class StatusError(ArchiveError):
    """The state of the archive cannot be told."""


@dataclass(frozen=True, kw_only=True)
class FailureList:
    """What failed of some nights.

    Attributes
    ----------
    failures : tuple of (str, NightFailure)
        With their nights, newest night first.
    nights : tuple of str
        That were looked at.
    older : str
        Night from which on older ones are looked at; empty: there are none.
    most_retries : int
    """

    failures: tuple[tuple[str, NightFailure], ...]
    nights: tuple[str, ...]
    older: str
    most_retries: int


def collect_failures(
    catalogue: Catalogue, settings: Settings, *, night: str = "", until: str = ""
) -> FailureList:
    """Return what failed of a night, or of the newest nights up to one."""
    known = [row.night for row in catalogue.nights()]
    wanted = [name for name in known if (not night or name == night)]
    wanted = [name for name in wanted if not until or name <= until]
    nights, rest = wanted[:_NIGHTS_AT_ONCE], wanted[_NIGHTS_AT_ONCE:]
    return FailureList(
        failures=tuple(failures_of_nights(catalogue, nights)),
        nights=tuple(nights),
        older=rest[0] if rest else "",
        most_retries=settings.most_retries,
    )


def products() -> tuple[str, ...]:
    """Return the products that can be asked for, as the catalogue calls them."""
    return _PRODUCTS


def collect_redo(catalogue: Catalogue, subject: str, product: str) -> RedoPlan:
    """Return what would be made again; `product` is of `products`, or `calibration`.

    Raises
    ------
    CatalogueError
        There is no such product, observation or night.
    """
    if product == "calibration":
        return plan_redo(catalogue, subject, "bright_star", calibration=True)
    return plan_redo(catalogue, subject, product)


def collect_lenders(catalogue: Catalogue, settings: Settings, night: str) -> Sequence[Lender]:
    """Return the nights that could lend a night their masters, the best first.

    Raises
    ------
    RawDataError
        The night has no raw data.
    """
    paths = ArchivePaths(settings.archive_root.absolute())
    ws = Workspace(settings=settings, paths=paths, catalogue=catalogue)
    return find_lenders(ws, read_night(settings.raw_roots, night))


@dataclass(frozen=True, kw_only=True)
class Status:
    """What `roboao status` says.

    Attributes
    ----------
    lines : tuple of (str, str)
    warnings : tuple of str
    """

    lines: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]


class StatusSource:
    """Asks the command line how the archive is; several readers within half a minute cost one look.

    A process of its own, as Dagster's storage is read by Dagster, which these pages do not know.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at_s = 0.0
        self._status: Status | None = None

    def get(self) -> Status:
        """Return how the archive is.

        Raises
        ------
        StatusError
            The command did not tell it.
        """
        with self._lock:
            if self._status is None or time.monotonic() - self._at_s > _STATUS_KEPT_S:
                self._status = read_status(_told_by_the_command())
                self._at_s = time.monotonic()
            return self._status


def _told_by_the_command() -> str:
    command = [sys.executable, "-m", "roboao_assets.cli", "status", "--json"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_STATUS_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StatusError(f"`roboao status --json` did not answer: {error}") from None
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise StatusError(f"`roboao status --json` ended with {done.returncode} and said: {said}")
    return done.stdout


def read_status(text: str) -> Status:
    """Read what `roboao status --json` prints.

    Raises
    ------
    StatusError
        It is something else.
    """
    try:
        content = json.loads(text)
        if not isinstance(content, Mapping):
            raise TypeError("no mapping")
        return Status(
            lines=tuple((str(name), str(told)) for name, told in content["lines"]),
            warnings=tuple(map(str, content["warnings"])),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise StatusError(
            f"`roboao status --json` said what cannot be read ({error!r}): {text[:200]!r}"
        ) from None
