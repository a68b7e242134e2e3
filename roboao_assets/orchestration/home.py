"""The Dagster instance of an archive: where it is kept, and how it is made."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import dagster as dg
from sqlalchemy.exc import DBAPIError

from roboao_assets.science.errors import ArchiveError
from roboao_assets.storage.files import write_text_whole
from roboao_assets.storage.settings import Settings


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


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """Yield the Dagster instance of the archive; closed afterwards.

    Raises
    ------
    DagsterStorageError
        Its storage cannot be read or written, at the opening or later.
    """
    try:
        with dg.DagsterInstance.from_config(str(prepare_dagster_home(settings))) as instance:
            yield instance
    except DBAPIError as error:
        # What SQLAlchemy adds is the statement, over many lines.
        raise DagsterStorageError(
            f"Dagster's storage ({dagster_home(settings)}, or the server that dagster.yaml there "
            f"names) did not work: {error.orig}; look for a full or read-only disk, or whether "
            f"the server runs, and start again: what was made before is kept"
        ) from error
