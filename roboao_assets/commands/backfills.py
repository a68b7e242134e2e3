"""Backfills from the command line: many nights again, behind everything else in the queue."""

from collections import Counter
from typing import Annotated

import typer
from rich.table import Table

from roboao_assets.commands.terminal import check_night, console, print_table, stop
from roboao_assets.storage.settings import Settings, load_settings

app = typer.Typer()


@app.command()
def backfill(
    first: Annotated[str | None, typer.Argument(metavar="[FIRST", help="Night.")] = None,
    last: Annotated[str | None, typer.Argument(metavar="LAST]", help="Night.")] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(help="A product of observations and what depends on it; default: all."),
    ] = None,
    force: Annotated[bool, typer.Option(help="Make also what is up to date.")] = False,
    new_code: Annotated[
        bool, typer.Option("--new-code", help="Make again what an older version made.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Show how far the last one is.")] = False,
) -> None:
    """Put the nights from FIRST to LAST into Dagster's queue, newest first, behind all else.

    A new night, or what an operator asks for, goes before the nights that are left.
    """
    settings = load_settings()
    if status:
        _show_status(settings)
        return
    if first is None:
        stop("give the first and the last night of the backfill, or --status")
    from roboao_assets.assets.observation_products import STAGES
    from roboao_assets.automation.backfills import known_nights, launch_backfill
    from roboao_assets.orchestration.resources import load_code_location

    unknown = sorted(set(stage or ()) - set(STAGES))
    if unknown:
        stop(f"there is no stage {', '.join(unknown)}; the stages are {', '.join(STAGES)}")
    location = load_code_location(settings)
    nights = known_nights(location, check_night(first), check_night(last or first))
    launched = launch_backfill(location, nights, stages=stage or (), force=force, new_code=new_code)
    console.print(
        f"backfill {launched.name}: {len(launched.nights)} nights are in the queue, from "
        f"{launched.nights[0]} back to {launched.nights[-1]}; `roboao backfill --status` shows "
        f"how far it is"
    )


def _show_status(settings: Settings) -> None:
    from roboao_assets.automation.backfills import JOBS, backfill_names, backfill_progress
    from roboao_assets.orchestration.home import open_instance

    with open_instance(settings) as instance:
        names = backfill_names(instance)
        if not names:
            console.print("there has been no backfill")
            return
        nights = backfill_progress(instance, names[-1])
    table = Table("night", *(job.replace("_", " ") for job in JOBS))
    for night in nights:
        table.add_row(night.night, *(status.lower() or "-" for status in night.statuses))
    print_table(table, console)
    ends = Counter(night.state for night in nights)
    told = ", ".join(f"{count} {state}" for state, count in sorted(ends.items()))
    console.print(f"backfill {names[-1]}: {told}")
