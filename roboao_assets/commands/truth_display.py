"""`roboao truth-report`: a simulated night, reduced as any is and compared with its truth."""

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from roboao_assets.commands.night_display import reduce_in_foreground
from roboao_assets.commands.terminal import print_table
from roboao_assets.pipelines.distortion_epoch import solve_epoch
from roboao_assets.pipelines.observation import reduce_observation
from roboao_assets.pipelines.psf_candidates import add_to_library
from roboao_assets.storage.files import write_text_whole
from roboao_assets.storage.psf_library import user_name
from roboao_assets.storage.settings import Settings
from roboao_assets.truth_report import (
    compare_with_truth,
    markdown_table,
    short_name,
    show_figure,
    write_report,
)
from roboao_assets.truth_rows import TruthRow
from simulator import simulate_night
from simulator.single_stars import single_stars
from simulator.star_field import CATALOGUE_NAME


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
    fields = _fields_of_stars(truth_file)
    if fields:
        settings = _with_reference_stars(settings, raw / CATALOGUE_NAME)
    quiet = Console(quiet=True)
    reduce_in_foreground(settings, night, quiet, False)
    for observation in single_stars(truth_file):
        add_to_library(settings, observation, by=user_name(), comment="single by the truth")
    reduce_in_foreground(settings, night, quiet, False)
    for observation in fields:
        # As for an epoch: the camera's distortion first, then where the field looks with it.
        solve_epoch(settings, observation)
        reduce_observation(
            settings.model_dump_json(), night, observation, ("astrometric_solution",)
        )
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


def _fields_of_stars(truth_file: Path) -> list[str]:
    truth = json.loads(truth_file.read_text(encoding="utf-8"))
    return [o["id"] for o in truth["observations"] if "sky_field" in o]


def _with_reference_stars(settings: Settings, catalogue: Path) -> Settings:
    astrometry = settings.astrometry.model_copy(update={"catalogue": str(catalogue)})
    return settings.model_copy(update={"astrometry": astrometry})


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
