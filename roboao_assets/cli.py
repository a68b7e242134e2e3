"""`roboao`: the archive from the command line."""

import logging

import typer

from roboao_assets import __version__
from roboao_assets.commands import (
    astrometry,
    backfills,
    backups,
    explain,
    library,
    nights,
    obscore,
    operation,
    raw,
    recovery,
    telemetry,
    truth,
    users,
)
from roboao_assets.commands.terminal import console, stop
from roboao_assets.science.errors import ArchiveError
from roboao_assets.storage.files import is_of_the_disk

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The Robo-AO archive. Settings come from ROBOAO_* variables and roboao.toml.",
)
_GROUPS = (
    *(raw, nights, backfills, obscore, operation, explain),
    *(telemetry, recovery, backups, truth),
)
for group in _GROUPS:
    app.add_typer(group.app)
app.add_typer(library.app, name="psf-library")
app.add_typer(operation.calib_app, name="calib")
app.add_typer(astrometry.app, name="astrometry")
app.add_typer(users.app, name="user")


@app.command()
def version() -> None:
    """Print the version."""
    console.print(__version__)


def main() -> None:
    """Run the command line; an error of ours, or of a disk, is one sentence and exit status 2."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app()
    except ArchiveError as error:
        stop(str(error))
    except OSError as error:
        if not is_of_the_disk(error):
            raise
        stop(f"{error}; see to the disk and start again: what was made before is kept")


if __name__ == "__main__":
    main()
