"""Nights from the command line: reduce one, register new ones, show them; serve the pages."""

from typing import Annotated

import typer
from rich.table import Table

from roboao_assets.commands.terminal import (
    Night,
    check_night,
    console,
    print_plain,
    show_figure,
)
from roboao_assets.storage.settings import load_settings

app = typer.Typer()


@app.command()
def night(
    night: Night,
    force: Annotated[bool, typer.Option(help="Make also what is up to date.")] = False,
) -> None:
    """Register and reduce a night in the foreground; redo only what changed.

    The exit status is 0 only if every product that could be made was made.
    """
    from roboao_assets.commands.night_display import reduce_in_foreground

    raise SystemExit(reduce_in_foreground(load_settings(), check_night(night), console, force))


@app.command()
def register() -> None:
    """Look through the raw roots and enter new nights and observations in the manifest."""
    from roboao_assets.orchestration.partitions import register_raw_nights

    manifest = register_raw_nights(load_settings())
    console.print(
        f"{len(manifest)} nights, {sum(map(len, manifest.values()))} observations registered"
    )


@app.command()
def status(
    night: Annotated[str | None, typer.Argument(metavar="[YYYYMMDD]")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The state of the archive as JSON, without the nights.")
    ] = False,
) -> None:
    """Show what the archive does and how it is, and its nights; or the observations of one."""
    from roboao_assets.commands.night_display import print_night
    from roboao_assets.storage.catalogue import open_catalogue

    settings = load_settings()
    if night is not None:
        with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
            print_night(catalogue, check_night(night), console)
        return
    from roboao_assets.commands import telemetry as display
    from roboao_assets.orchestration.telemetry import gather_telemetry

    telemetry = gather_telemetry(settings)
    if as_json:
        print_plain(display.as_json(telemetry))
        return
    display.print_telemetry(telemetry)
    if telemetry.catalogue is None:
        return
    table = Table("night", "observations", "reduced", "failed", 'seeing (")')
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        for row in catalogue.nights():
            seeing = show_figure(row.seeing_median, ".2f")
            table.add_row(row.night, *map(str, (row.observations, row.done, row.failed)), seeing)
    console.print(table)


@app.command()
def serve(
    dashboard_only: Annotated[bool, typer.Option(help="Without the Dagster UI.")] = False,
) -> None:
    """Serve the Dagster UI (with its daemon and sensors) and the dashboard until interrupted."""
    from roboao_assets.serving import serve_until_interrupted

    raise SystemExit(serve_until_interrupted(load_settings(), console, dashboard_only))
