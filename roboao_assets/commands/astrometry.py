"""`roboao astrometry`: distortion solutions of the instruments."""

from pathlib import Path
from typing import Annotated

import typer

from roboao_assets.commands.terminal import archive_paths, check_night, console, stop
from roboao_assets.storage.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="Distortion solutions of the instruments.")


@app.command("solve")
def astrometry_solve(
    observation: Annotated[str, typer.Argument(help="Id of a reduced dense field.")],
    catalogue: Annotated[
        Path | None, typer.Option(help="Table of reference stars (FITS, ECSV, Parquet).")
    ] = None,
    order: Annotated[int | None, typer.Option(min=1, max=3, help="Of the distortion.")] = None,
    max_rotation_deg: Annotated[
        float | None, typer.Option(min=0.01, max=180, help="180: any.")
    ] = None,
    max_pointing_error_arcsec: Annotated[float | None, typer.Option(min=0.1)] = None,
    tolerance_arcsec: Annotated[
        float | None,
        typer.Option(min=0.01, help="What the known geometry may be off in the corners."),
    ] = None,
    allow_flip: Annotated[bool, typer.Option(help="The image may be a mirror image.")] = False,
) -> None:
    """Solve the distortion of an epoch on a dense field; later observations use it."""
    from roboao_assets.pipelines.distortion_epoch import solve_epoch

    given = {
        "catalogue": None if catalogue is None else str(catalogue.absolute()),
        "order": order,
        "max_rotation_deg": max_rotation_deg,
        "max_pointing_error_arcsec": max_pointing_error_arcsec,
        "tolerance_arcsec": tolerance_arcsec,
        "allow_flip": allow_flip or None,
    }
    settings = load_settings()
    changes = {name: value for name, value in given.items() if value is not None}
    options = settings.astrometry.model_copy(update=changes)
    solved = solve_epoch(settings.model_copy(update={"astrometry": options}), observation)
    geometry = solved.distortion
    console.print(
        f"{geometry.stars} of {solved.identified} identified stars ({solved.detected} detected): "
        f"rms {geometry.rms_mas:.1f} mas, {1000 * geometry.plate_scale_arcsec:.3f} mas/px, "
        f"+y at {geometry.y_axis_pa_deg:.3f} degrees, pointing off by "
        f"{solved.pointing_error_arcsec:.1f} arcsec"
    )
    console.print(f"solution: {solved.path}\nresiduals: {solved.plot}", soft_wrap=True)


@app.command("import")
def astrometry_import(
    published: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JSON file.")],
    telescope: Annotated[str, typer.Option(help="As in the profile, e.g. KPNO_2.1m.")],
    night: Annotated[str, typer.Option(metavar="YYYYMMDD", help="It holds from here on.")],
) -> None:
    """Enter a distortion solution in the form that Robo-AO published."""
    from roboao_assets.storage.distortion_files import read_published, write_distortion

    settings = load_settings()
    known = {profile.telescope for profile in settings.instruments.values()}
    if telescope not in known:
        stop(f"there is no telescope {telescope!r}: {', '.join(sorted(known))}")
    path = archive_paths(settings).distortion(telescope, check_night(night))
    write_distortion(path, read_published(published))
    console.print(f"solution: {path}", soft_wrap=True)
