"""`roboao night`: a night reduced before one's eyes."""

import logging

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from roboao_assets.commands.terminal import print_table
from roboao_assets.night_run import NightEvent, NightRun, run_night
from roboao_assets.orchestration.dead_runs import end_dead_runs
from roboao_assets.orchestration.home import open_instance
from roboao_assets.pipelines.night_table import NightRow, night_rows
from roboao_assets.storage.catalogue import Catalogue, open_catalogue
from roboao_assets.storage.settings import Settings

_MARKS = {
    "done": "[green]made[/]",
    "unchanged": "[dim]unchanged[/]",
    "skipped": "[yellow]skipped[/]",
}


def reduce_in_foreground(settings: Settings, night: str, console: Console, force: bool) -> int:
    """Reduce a night, show how it goes and the table at its end.

    Returns
    -------
    int
        Exit status: 0 only if every product that could be made was made.
    """
    # The events are shown here; Dagster's own log of them would be a second display, and what
    # the cluster says of its starting and stopping is of no use to anybody.
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    logging.getLogger("distributed").setLevel(logging.ERROR)
    with open_instance(settings) as instance, _progress(console) as progress:
        # What a killed run has claimed is free again only when the run has ended.
        end_dead_runs(instance)
        display = _Display(progress)
        run = run_night(settings, night, instance, display.show, force=force)
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        rows = night_rows(catalogue, night)
        print_night(catalogue, night, console)
    _print_problems(run, rows, console)
    console.print(f"archive: {settings.archive_root.absolute() / night}", soft_wrap=True)
    console.print("pages:   roboao serve")
    return 0 if run.succeeded else 1


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


class _Display:
    """Events of the night as a bar and, above it, a line each."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("starting", total=None)

    def show(self, event: NightEvent) -> None:
        """Show an event."""
        if event.kind == "job_started":
            self._progress.update(self._task, description=event.job)
            return
        if event.kind == "said":
            self._progress.update(self._task, description=_plain(f"{event.job}  {event.reason}"))
            return
        self._progress.advance(self._task)
        what = f"{event.asset or event.job}  {event.partition}"
        if event.kind == "failed":
            mark, text = "[red]failed[/]", event.reason
        elif event.kind == "retrying":
            mark, text = "[yellow]again[/]", event.reason
        else:
            mark = _MARKS.get(event.status, event.status)
            text = event.reason or _figures(event)
        self._progress.console.print(f"{mark:<20} {what}  [dim]{_plain(text)}[/]", soft_wrap=True)


def _figures(event: NightEvent) -> str:
    """The figures of an event, short."""
    shown = []
    for key, value in event.figures.items():
        if isinstance(value, float):
            shown.append(f"{key} {value:.4g}")
        elif isinstance(value, int) or (isinstance(value, str) and 0 < len(value) <= 30):
            shown.append(f"{key} {value}")
    return ", ".join(shown[:6])


def _plain(text: str) -> str:
    # Square brackets would be read as markup.
    return text.replace("[", r"\[")


def print_night(catalogue: Catalogue, night: str, console: Console) -> None:
    """Print the table of a night's observations."""
    table = Table(
        "observation",
        "class",
        "frames",
        "Strehl (%)",
        'seeing (")',
        'contrast at 1" (mag)',
        "status",
        title=f"Night {night}",
    )
    for row in night_rows(catalogue, night):
        table.add_row(*_cells(row))
    print_table(table, console)


def _cells(row: NightRow) -> list[str]:
    strehl = "-"
    if row.strehl_percent is not None:
        strehl = f"{row.strehl_percent:.1f}"
        if row.strehl_error_percent is not None:
            strehl += f" ± {row.strehl_error_percent:.1f}"
        strehl += "" if row.strehl_flag == "OK" else f" {row.strehl_flag}"
    return [
        row.observation,
        row.classified_as or "-",
        "-" if row.frames is None else str(row.frames),
        _plain(strehl),
        "-" if row.seeing_arcsec is None else f"{row.seeing_arcsec:.2f}",
        "-" if row.contrast_1_arcsec_mag is None else f"{row.contrast_1_arcsec_mag:.1f}",
        row.status,
    ]


def _print_problems(run: NightRun, rows: list[NightRow], console: Console) -> None:
    for problem in run.problems:
        console.print(problem, style="red", markup=False, soft_wrap=True)
    notes = {reason: row.observation for row in rows if not row.failed for reason in row.reasons}
    for reason, observation in notes.items():
        console.print(f"{observation}: {reason}", style="dim", markup=False, soft_wrap=True)
