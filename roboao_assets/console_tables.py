"""Tables on a terminal."""

from rich.console import Console
from rich.table import Table

# Columns of a terminal that has room for a table with ids.
_WIDE = 110


def print_table(table: Table, console: Console) -> None:
    """Print a table whose ids stay whole: they are copied into other commands."""
    if console.quiet:
        return
    if console.width < _WIDE:
        # A log or a narrow terminal: whole ids matter more than the frame of the table.
        table.box = None
        console = Console(width=_WIDE + 50, highlight=False, file=console.file)
    console.print(table)
