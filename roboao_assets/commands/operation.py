"""What an operator does: redo products, lend calibration, see failures, requests and history."""

from datetime import datetime
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from roboao_assets.commands.terminal import (
    Night,
    check_night,
    console,
    for_each,
    operator,
    print_table,
    stop,
)
from roboao_assets.storage.settings import load_settings

app = typer.Typer()
calib_app = typer.Typer(no_args_is_help=True, help="Masters of nights without their own.")

Why = Annotated[str, typer.Option(help="Why; the history keeps it.")]


@app.command()
def redo(
    subjects: Annotated[list[str], typer.Argument(help="Ids of observations, or nights.")],
    product: Annotated[
        str, typer.Option(help="As the catalogue calls it, e.g. bright_star.strehl.")
    ] = "bright_star",
    calibration: Annotated[
        bool, typer.Option("--calibration", help="Of nights: the masters and the seeing.")
    ] = False,
    why: Why = "",
) -> None:
    """Ask for a product to be made again, with all that is made from it; sensors do it."""
    from roboao_assets.pipelines.redo import STAGE_OF_PRODUCT, ask_for_redo
    from roboao_assets.pipelines.workspace import open_workspace

    if product not in STAGE_OF_PRODUCT:
        stop(f"there is no product {product!r}: {', '.join(STAGE_OF_PRODUCT)}")
    with open_workspace(load_settings()) as ws:
        for_each(
            subjects,
            lambda subject: ask_for_redo(
                ws.catalogue,
                subject,
                product,
                calibration=calibration,
                by=operator(),
                why=why or "asked for on the command line",
            ),
            "asked for",
        )


@app.command()
def requests() -> None:
    """List what was asked to be made again, and what is tried again by itself."""
    from roboao_assets.storage.catalogue import open_catalogue

    with open_catalogue(load_settings().resolved_catalogue_url, read_only=True) as catalogue:
        table = Table("observation or night", "stage", "by", "why", "asked (UTC)", "not before")
        table.columns[0].no_wrap = True
        for request in catalogue.requests.all():
            for asked in request.stages.values():
                table.add_row(
                    escape(request.observation),
                    asked.stage,
                    escape(asked.by),
                    escape(asked.why),
                    _time(asked.asked_at),
                    _time(request.not_before),
                )
    print_table(table, console)


@app.command()
def history(
    subject: Annotated[str | None, typer.Argument(help="Observation, night or user.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 50,
) -> None:
    """List what was done by whom, newest first."""
    from roboao_assets.storage.catalogue import open_catalogue

    with open_catalogue(load_settings().resolved_catalogue_url, read_only=True) as catalogue:
        table = Table("time (UTC)", "subject", "action", "by", "")
        for entry in catalogue.actions.newest(subject, limit):
            told = (entry.subject, entry.action, entry.by, entry.detail_text)
            table.add_row(_time(entry.time), *map(escape, told))
    print_table(table, console)


@app.command()
def failures(night: Annotated[str | None, typer.Argument(metavar="[YYYYMMDD]")] = None) -> None:
    """List what could not be made of a night (or of all), and which raw files cannot be used."""
    from roboao_assets.pipelines.failures import failures_of_nights, files_left_alone
    from roboao_assets.storage.catalogue import open_catalogue

    settings = load_settings()
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        nights = [check_night(night)] if night else [row.night for row in catalogue.nights()]
        columns = ("product", "attempts", "left", "next attempt", "reason")
        table = Table("observation or night", *columns)
        table.columns[0].no_wrap = True
        for _, failure in failures_of_nights(catalogue, nights):
            table.add_row(
                escape(failure.subject),
                failure.product,
                str(failure.attempts),
                str(failure.attempts_left(settings.most_retries)),
                _time(failure.next_attempt) if failure.next_attempt else "when asked",
                escape(failure.reason),
            )
        for one in nights:
            for file in files_left_alone(catalogue, one):
                shown = (file.name, file.use, "-", "-", "when it changed", file.reason)
                table.add_row(*map(escape, shown))
    if not table.row_count:
        console.print("nothing has failed")
        return
    print_table(table, console)


@calib_app.command("copy")
def calib_copy(
    night: Night,
    source: Annotated[
        str | None, typer.Option("--from", metavar="YYYYMMDD", help="Default: the nearest.")
    ] = None,
) -> None:
    """Copy the masters of another night; the night is then reduced with them."""
    from roboao_assets.pipelines.calibration_copy import copy_calibration
    from roboao_assets.pipelines.workspace import open_workspace

    night = check_night(night)
    with open_workspace(load_settings()) as ws:
        lender = copy_calibration(
            ws, night, None if source is None else check_night(source), by=operator()
        )
    console.print(f"the masters of {night} are copied from {lender.night}")
    if lender.missing:
        console.print(f"still missing: {', '.join(lender.missing)}", style="yellow")


def _time(time: datetime | None) -> str:
    return "-" if time is None else f"{time:%Y-%m-%d %H:%M:%S}"
