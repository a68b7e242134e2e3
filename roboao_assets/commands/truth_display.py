"""`roboao truth-report`: a simulated night, reduced as any is and compared with its truth."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from roboao_assets.commands.night_display import reduce_in_foreground
from roboao_assets.commands.terminal import print_table
from roboao_assets.pipelines.psf_candidates import add_to_library
from roboao_assets.storage.files import write_text_whole
from roboao_assets.storage.psf_library import user_name
from roboao_assets.storage.settings import Settings
from roboao_assets.truth_report import (
    TruthRow,
    compare_with_truth,
    markdown_table,
    short_name,
    show_figure,
    write_report,
)
from simulator import simulate_night
from simulator.single_stars import single_stars


def report_truth(
    settings: Settings,
    console: Console,
    *,
    night: str,
    targets: int,
    frames: int,
    size: int,
    seed: int,
    report: Path | None,
    document: Path | None,
) -> int:
    """Simulate, reduce with the single stars as PSF library, compare and print.

    Parameters
    ----------
    settings : Settings
        Of an archive for this alone; the first raw root takes the simulated night.
    console : Console
    night : str
    targets, frames, size, seed : int
        See `simulator.simulate_night`.
    report, document : Path or None
        JSON file, and Markdown table, that are written.

    Returns
    -------
    int
        Exit status: 0 only if every goal is kept.
    """
    raw = simulate_night(
        settings.raw_roots[0], night, targets=targets, frames=frames, size=size, seed=seed
    )
    truth_file = raw / "truth.json"
    quiet = Console(quiet=True)
    reduce_in_foreground(settings, night, quiet, False)
    for observation in single_stars(truth_file):
        add_to_library(settings, observation, by=user_name(), comment="single by the truth")
    reduce_in_foreground(settings, night, quiet, False)
    rows = compare_with_truth(settings, truth_file)
    print_table(_table(rows), console)
    missed = [row for row in rows if not row.passed]
    console.print(
        f"{len(rows)} quantities, {len(missed)} missed their goal"
        + "".join(f"\n  {row.subject}: {row.quantity}" for row in missed)
    )
    if report is not None:
        write_report(rows, report)
        console.print(f"report: {report}", soft_wrap=True)
    if document is not None:
        write_text_whole(document, markdown_table(rows))
    return 1 if missed else 0


def _table(rows: list[TruthRow]) -> Table:
    table = Table("subject", "quantity", "true", "recovered", "error", "goal", "")
    for row in rows:
        verdict = "" if row.goal is None else "[green]pass[/]" if row.passed else "[red]MISS[/]"
        table.add_row(
            short_name(row.subject),
            row.quantity,
            *map(show_figure, (row.true, row.measured, row.error, row.goal)),
            verdict,
        )
    return table
