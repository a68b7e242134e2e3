"""`roboao simulate` and `roboao import-cube`: raw nights from elsewhere than the telescope."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from roboao_assets.commands.terminal import Night, check_night, console, stop
from roboao_assets.science.errors import SettingsError
from roboao_assets.storage.settings import Settings, load_settings

app = typer.Typer()

RawRoot = Annotated[
    Path | None,
    typer.Option(help="Where the night's folder is made; default: the first raw root."),
]


def _raw_root(settings: Settings, given: Path | None) -> Path:
    if given is not None:
        return given
    if not settings.raw_roots:
        raise SettingsError(
            "no raw root is set: set ROBOAO_RAW_ROOTS (several are separated by ':') or --raw-root"
        )
    return settings.raw_roots[0]


@app.command()
def simulate(
    night: Night,
    targets: Annotated[int, typer.Option(min=1, help="Science observations.")] = 6,
    frames: Annotated[int, typer.Option(min=1, help="Frames of an observation.")] = 90,
    size: Annotated[int, typer.Option(help="Side of a frame: 256 or 1024 px.")] = 256,
    seed: Annotated[int, typer.Option(help="Same seed, same night.")] = 1,
    raw_root: RawRoot = None,
) -> None:
    """Make a raw night as the telescope would have written it, with truth.json beside it."""
    from rich.progress import Progress

    from simulator import simulate_night

    if size not in (256, 1024):
        stop(f"--size is 256 (quarter frame) or 1024 (full frame), not {size}")
    root = _raw_root(load_settings(), raw_root)
    with Progress(console=console) as progress:
        task = progress.add_task(f"simulating {night}", total=1.0)

        def show(part: float, what: str) -> None:
            progress.update(task, completed=part, description=what)
            if ": " not in what:  # not a part of a file
                progress.console.print(f"[dim]written[/] {what}", soft_wrap=True)

        folder = simulate_night(
            root,
            check_night(night),
            targets=targets,
            frames=frames,
            size=size,
            seed=seed,
            on_progress=show,
        )
    console.print(f"raw night: {folder}", soft_wrap=True)


@app.command("import-cube")
def import_cube(
    cube: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="FITS cube.")],
    profile: Annotated[str, typer.Option(help="Instrument profile, e.g. PHARO.")],
    object_name: Annotated[str, typer.Option("--object", help="Target; no blanks.")],
    filter_name: Annotated[str, typer.Option("--filter", help="Filter of the profile.")],
    utc: Annotated[datetime, typer.Option(help="Start of the first frame, UTC.")],
    program: Annotated[str, typer.Option(help="Science program.")] = "1",
    exposure_s: Annotated[float, typer.Option(help="Exposure of the whole cube.")] = 0.0,
    mode: Annotated[str, typer.Option(help="Camera mode, if the frames need masters.")] = "",
    ra_deg: Annotated[float | None, typer.Option(help="Right ascension, J2000.")] = None,
    dec_deg: Annotated[float | None, typer.Option(help="Declination, J2000.")] = None,
    magnitude: Annotated[float | None, typer.Option()] = None,
    raw_root: RawRoot = None,
) -> None:
    """Turn a cube of short exposures into an observation of a raw night."""
    from roboao_assets.storage.cube_import import CubeTarget
    from roboao_assets.storage.cube_import import import_cube as write_raw

    settings = load_settings()
    if profile not in settings.instruments:
        stop(f"there is no instrument profile {profile!r}: {', '.join(settings.instruments)}")
    path = write_raw(
        cube,
        _raw_root(settings, raw_root),
        settings.instruments[profile],
        CubeTarget(
            program=program,
            object_name=object_name,
            filter_name=filter_name,
            utc=utc.replace(tzinfo=UTC),
            exposure_s=exposure_s,
            mode=mode,
            ra_deg=ra_deg,
            dec_deg=dec_deg,
            magnitude=magnitude,
        ),
    )
    console.print(f"raw file: {path}", soft_wrap=True)
