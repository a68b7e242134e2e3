"""After an accident: runs that died unheard, a lost database, a lost memory of Dagster's."""

from typing import Annotated

import typer

from roboao_assets.commands.terminal import check_night, console
from roboao_assets.storage.settings import load_settings

app = typer.Typer()


@app.command()
def recover(
    gone_host: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="End the runs of a host that is no more instead."),
    ] = None,
) -> None:
    """End the runs that a power cut or a `kill -9` has left behind; what lives is left alone.

    `roboao serve` does it by itself, before it starts Dagster's daemon.
    """
    from roboao_assets.orchestration.dead_runs import end_dead_runs
    from roboao_assets.orchestration.home import open_instance
    from roboao_assets.orchestration.run_process import NIGHT_TAG

    with open_instance(load_settings()) as instance:
        ended = end_dead_runs(instance, gone_host)
        for run_id in ended:
            run = instance.get_run_by_id(run_id)
            if run is not None:
                night = run.tags.get(NIGHT_TAG, "")
                console.print(f"ended: {run_id} {run.job_name} {night}".rstrip(), soft_wrap=True)
    if not ended:
        console.print("no run was left behind")


@app.command("rebuild-catalogue")
def rebuild(
    night: Annotated[
        list[str] | None, typer.Option(metavar="YYYYMMDD", help="Only this; may be repeated.")
    ] = None,
    tell_dagster: Annotated[
        bool, typer.Option(help="Report the products to Dagster, where it does not know them.")
    ] = True,
) -> None:
    """Enter in the catalogue what the archive tree has and the catalogue has not.

    Documents that are there stay as they are. Users are no part of the archive tree.
    """
    from roboao_assets.pipelines.rebuilding import RebuiltNight, rebuild_catalogue
    from roboao_assets.pipelines.workspace import open_workspace

    settings = load_settings()
    nights = tuple(map(check_night, night)) if night else None

    def show(one: RebuiltNight) -> None:
        console.print(
            f"{one.night}: {one.entered} documents entered, {one.kept} were there, "
            f"{one.images} images"
        )
        for problem in one.problems:
            console.print(f"  {problem}", style="red", markup=False, soft_wrap=True)

    with open_workspace(settings) as ws:
        rebuilt = rebuild_catalogue(ws, nights, show)
    if tell_dagster:
        _tell_dagster([one.night for one in rebuilt])
    if any(one.problems for one in rebuilt):
        raise SystemExit(1)


def _tell_dagster(nights: list[str]) -> None:
    from rich.progress import track

    from roboao_assets.assets.observation_products import observation_specs
    from roboao_assets.orchestration.home import open_instance
    from roboao_assets.orchestration.reporting import report_night
    from roboao_assets.orchestration.resources import load_code_location
    from roboao_assets.storage.catalogue import open_catalogue

    settings = load_settings()
    location = load_code_location(settings)
    specs = observation_specs(location)
    reported = 0
    with (
        open_instance(settings) as instance,
        open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue,
    ):
        for night in track(nights, "telling Dagster", console=console):
            reported += report_night(instance, location, catalogue, specs, night)
    console.print(f"{reported} products reported to Dagster")
