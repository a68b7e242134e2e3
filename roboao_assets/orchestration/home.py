"""The Dagster instance of an archive: where it is kept, and how it is made."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import dagster as dg
import yaml
from sqlalchemy.exc import DBAPIError

from roboao_assets.science.errors import ArchiveError
from roboao_assets.storage.files import PARTIAL_PREFIX, write_text_whole
from roboao_assets.storage.settings import Settings

_LOCK = ".making.lock"
# Of the SQLite files; the one that tells that they are made comes last.
_FOLDERS = ("schedules", "history")
_STORAGES = {"storage", "run_storage", "event_log_storage", "schedule_storage"}


class DagsterStorageError(ArchiveError):
    """Where Dagster keeps runs and events cannot be read or written."""


def dagster_home(settings: Settings) -> Path:
    """Return the folder that DAGSTER_HOME names, or `dagster` in the archive."""
    named = os.environ.get("DAGSTER_HOME")
    home = Path(named) if named else settings.archive_root / "dagster"
    return home.expanduser().absolute()


def prepare_dagster_home(settings: Settings) -> Path:
    """Return the folder of the Dagster instance (see `dagster_home`); make it if needed.

    A folder without a `dagster.yaml` gets the one that comes with the package; one
    that is there is the operator's and stays as it is.
    """
    home = dagster_home(settings)
    home.mkdir(parents=True, exist_ok=True)
    config = home / "dagster.yaml"
    if not config.exists():
        template = resources.files("roboao_assets.orchestration").joinpath("dagster.yaml")
        write_text_whole(config, template.read_text(encoding="utf-8"))
    return home


def prepare_storage(home: Path) -> None:
    """Make Dagster's SQLite files in `home`, if its `dagster.yaml` leaves it at those.

    Dagster makes them table by table: what a full disk has left of that, or two that did it at
    once, passes for whole, and cannot be brought to a later version. Here they are made whole or
    not at all, and by one at a time.
    """
    config = home / "dagster.yaml"
    with (home / _LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / _FOLDERS[-1]).exists() and not _is_elsewhere(config):
            _make_storage(home, config)


def _is_elsewhere(config: Path) -> bool:
    """Whether Dagster keeps its runs where this file says, and not in SQLite files beside it."""
    named = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
    return not _STORAGES.isdisjoint(named)


def _make_storage(home: Path, config: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=PARTIAL_PREFIX, dir=home) as folder:
        made = Path(folder)
        shutil.copyfile(config, made / config.name)
        with dg.DagsterInstance.from_config(folder) as instance:
            instance.get_runs(limit=1)
            instance.all_instigator_state()
            instance.get_asset_keys()
        for name in _FOLDERS:
            (made / name).rename(home / name)


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """Yield the Dagster instance of the archive; closed afterwards.

    Raises
    ------
    DagsterStorageError
        Its storage cannot be read or written, at the opening or later.
    """
    try:
        home = prepare_dagster_home(settings)
        prepare_storage(home)
        with dg.DagsterInstance.from_config(str(home)) as instance:
            yield instance
    except DBAPIError as error:
        # What SQLAlchemy adds is the statement, over many lines.
        raise DagsterStorageError(
            f"Dagster's storage ({dagster_home(settings)}, or the server that dagster.yaml there "
            f"names) did not work: {error.orig}; look for a full or read-only disk, or whether "
            f"the server runs, and start again: what was made before is kept"
        ) from error
