"""What the commands share: the terminal, and the arguments that several have."""

import math
import socket
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from roboao_assets.science.errors import ArchiveError
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.settings import Settings

console = Console(highlight=False)
problems = Console(stderr=True, highlight=False)

Night = Annotated[str, typer.Argument(metavar="YYYYMMDD", help="UT date of the night.")]

# Columns of a terminal that has room for a table with ids.
_WIDE = 110


def stop(sentence: str) -> NoReturn:
    """End the command with a sentence and exit status 2."""
    problems.print(f"roboao: {sentence}", style="bold red", markup=False, soft_wrap=True)
    raise SystemExit(2)


def operator() -> str:
    """Return who works at this terminal, for the log."""
    from roboao_assets.storage.psf_library import user_name

    return f"{user_name()}@{socket.gethostname()} (command line)"


def check_night(night: str) -> str:
    """Return `night` if it is a UT date YYYYMMDD; end the command if not."""
    try:
        return datetime.strptime(night, "%Y%m%d").strftime("%Y%m%d")
    except ValueError:
        stop(f"{night!r} is no night; give its UT date as YYYYMMDD, e.g. 20170607")


def archive_paths(settings: Settings) -> ArchivePaths:
    """Return the paths of the archive."""
    return ArchivePaths(settings.archive_root.absolute())


def print_plain(text: str) -> None:
    """Print what another program reads: as it is, without colours or wrapping."""
    console.out(text, highlight=False)


def counted(number: int, noun: str) -> str:
    """Return a number and what it counts: `1 run`, `2 runs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def show_figure(value: float | None, form: str) -> str:
    """Return a number as text, "-" where there is none."""
    return "-" if value is None or math.isnan(value) else format(value, form)


def for_each(names: Iterable[str], work: Callable[[str], object], word: str) -> None:
    """Do `work` for each name; tell of every failure, then fail if there was one."""
    failed = 0
    for name in names:
        try:
            work(name)
            console.print(f"{word}: {name}", soft_wrap=True)
        except ArchiveError as error:
            failed += 1
            problems.print(f"{name}: {error}", style="red", markup=False, soft_wrap=True)
    if failed:
        raise SystemExit(1)


def print_table(table: Table, console: Console) -> None:
    """Print a table whose ids stay whole: they are copied into other commands."""
    if console.quiet:
        return
    if console.width < _WIDE:
        # A log or a narrow terminal: whole ids matter more than the frame of the table.
        table.box = None
        console = Console(width=_WIDE + 50, highlight=False, file=console.file)
    console.print(table)
