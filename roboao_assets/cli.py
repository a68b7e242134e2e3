"""`roboao`: the archive from the command line."""

import logging
import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from roboao_assets import __version__
from roboao_assets.console_tables import print_table
from roboao_assets.science.errors import ArchiveError, SettingsError
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.settings import Settings, load_settings

if TYPE_CHECKING:
    from roboao_assets.storage.psf_candidates import PsfCandidate
    from roboao_assets.storage.psf_library import PsfEntry

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The Robo-AO archive. Settings come from ROBOAO_* variables and roboao.toml.",
)
library_app = typer.Typer(no_args_is_help=True, help="The library of PSFs for high contrast.")
app.add_typer(library_app, name="psf-library")
astrometry_app = typer.Typer(no_args_is_help=True, help="Distortion solutions of the instruments.")
app.add_typer(astrometry_app, name="astrometry")
console = Console(highlight=False)
problems = Console(stderr=True, highlight=False)

Night = Annotated[str, typer.Argument(metavar="YYYYMMDD", help="UT date of the night.")]
Comment = Annotated[str, typer.Option(help="Why; the library's history keeps it.")]
_QUALITY = ("Strehl (%)", 'FWHM (")', "elongation")
RawRoot = Annotated[
    Path | None,
    typer.Option(help="Where the night's folder is made; default: the first raw root."),
]


def main() -> None:
    """Run the command line; an error of ours is one sentence and exit status 2."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app()
    except ArchiveError as error:
        _stop(str(error))


def _stop(sentence: str) -> NoReturn:
    problems.print(f"roboao: {sentence}", style="bold red", markup=False, soft_wrap=True)
    raise SystemExit(2)


def _check_night(night: str) -> str:
    try:
        return datetime.strptime(night, "%Y%m%d").strftime("%Y%m%d")
    except ValueError:
        _stop(f"{night!r} is no night; give its UT date as YYYYMMDD, e.g. 20170607")


def _raw_root(settings: Settings, given: Path | None) -> Path:
    if given is not None:
        return given
    if not settings.raw_roots:
        raise SettingsError(
            "no raw root is set: set ROBOAO_RAW_ROOTS (several are separated by ':') or --raw-root"
        )
    return settings.raw_roots[0]


@app.command()
def version() -> None:
    """Print the version."""
    console.print(__version__)


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
        _stop(f"--size is 256 (quarter frame) or 1024 (full frame), not {size}")
    root = _raw_root(load_settings(), raw_root)
    with Progress(console=console) as progress:
        task = progress.add_task(f"simulating {night}", total=1.0)

        def show(part: float, what: str) -> None:
            progress.update(task, completed=part, description=what)
            if ": " not in what:  # not a part of a file
                progress.console.print(f"[dim]written[/] {what}", soft_wrap=True)

        folder = simulate_night(
            root,
            _check_night(night),
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
        _stop(f"there is no instrument profile {profile!r}: {', '.join(settings.instruments)}")
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


@app.command()
def night(
    night: Night,
    force: Annotated[bool, typer.Option(help="Make also what is up to date.")] = False,
) -> None:
    """Register and reduce a night in the foreground; redo only what changed.

    The exit status is 0 only if every product that could be made was made.
    """
    from roboao_assets.night_command import reduce_in_foreground

    raise SystemExit(reduce_in_foreground(load_settings(), _check_night(night), console, force))


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
) -> None:
    """Show the nights of the archive, or the observations of one."""
    from roboao_assets.night_command import print_night
    from roboao_assets.storage.catalogue import open_catalogue

    settings = load_settings()
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        if night is not None:
            print_night(catalogue, _check_night(night), console)
            return
        table = Table("night", "observations", "reduced", "failed", 'seeing (")')
        for row in catalogue.nights():
            seeing = _figure(row.seeing_median, ".2f")
            table.add_row(row.night, *map(str, (row.observations, row.done, row.failed)), seeing)
        console.print(table)


@app.command()
def serve(
    dashboard_only: Annotated[bool, typer.Option(help="Without the Dagster UI.")] = False,
) -> None:
    """Serve the Dagster UI (with its daemon and sensors) and the dashboard until interrupted."""
    from roboao_assets.serving import serve_until_interrupted

    raise SystemExit(serve_until_interrupted(load_settings(), console, dashboard_only))


@library_app.command("candidates")
def library_candidates(night: Night) -> None:
    """List a night's candidates for the library, with their quality and previews."""
    from roboao_assets.storage.catalogue import open_catalogue
    from roboao_assets.storage.psf_candidates import read_candidates

    settings, night = load_settings(), _check_night(night)
    paths = _archive_paths(settings)
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        candidates = read_candidates(catalogue, paths, night)
    if not candidates:
        _stop(
            f"the night {night} has no PSF candidates: reduce it with `roboao night {night}` first"
        )
    table = Table("id", "object", "filter", *_QUALITY, "companion", "in library?")
    table.columns[0].no_wrap = True
    for c in candidates:
        if c.is_candidate:
            table.add_row(
                *(escape(text) for text in (c.observation, c.object_name, c.filter_name)),
                *_quality(c),
                escape(c.companion) or "-",
                ("yes" if c.same_frame else "another frame") if c.in_library else "no",
            )
    print_table(table, console)
    previews = paths.psf_candidate(night, "<id>", "png")
    console.print(f"previews: {previews}", soft_wrap=True, markup=False)
    for c in candidates:
        if not c.is_candidate:
            sentence = f"no candidate: {c.observation}: {c.status}"
            console.print(sentence, style="dim", soft_wrap=True, markup=False)


@app.command("truth-report")
def truth_report(
    folder: Annotated[
        Path | None, typer.Option(help="Keep the night and its archive here; it must be empty.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="JSON file that is written.")] = None,
    document: Annotated[Path | None, typer.Option(help="Markdown table that is written.")] = None,
    targets: Annotated[int, typer.Option(min=1, help="Science observations.")] = 8,
    frames: Annotated[int, typer.Option(min=1, help="Frames of an observation.")] = 90,
    size: Annotated[int, typer.Option(help="Side of a frame: 256 or 1024 px.")] = 256,
    seed: Annotated[int, typer.Option(help="Same seed, same night.")] = 11,
) -> None:
    """Reduce a simulated night and print recovered against true; fail if a goal is missed."""
    import tempfile

    from roboao_assets.truth_command import report_truth

    if folder is not None and folder.exists() and any(folder.iterdir()):
        _stop(f"{folder} is not empty: the truth is reported of a night and archive of its own")
    with tempfile.TemporaryDirectory(prefix="roboao-truth-") as temporary:
        root = (folder or Path(temporary)).absolute()
        (root / "raw").mkdir(parents=True, exist_ok=True)
        # The site's own choices of how to measure count, its archive does not.
        settings = load_settings().model_copy(
            update={
                "raw_roots": (root / "raw",),
                "archive_root": root / "archive",
                "catalogue_url": "",
                "dask_scheduler": "",
            }
        )
        raise SystemExit(
            report_truth(
                settings,
                console,
                night="20170607",
                targets=targets,
                frames=frames,
                size=size,
                seed=seed,
                report=report,
                document=document,
            )
        )


@library_app.command("show")
def library_show(
    history: Annotated[bool, typer.Option(help="Every change that was ever made.")] = False,
) -> None:
    """List the PSFs of the library, or the changes of it."""
    from roboao_assets.storage.psf_library import PsfLibrary

    library = PsfLibrary(_archive_paths(load_settings()).psf_library)
    if history:
        table = Table("date (UTC)", "", "observation", "by", "comment")
        for change in library.history():
            table.add_row(
                f"{change.date_utc:%Y-%m-%d %H:%M:%S}",
                change.action,
                escape(change.obs_name),
                escape(change.by),
                escape(change.comment),
            )
    else:
        table = Table("observation", "object", "filter", "telescope", *_QUALITY, "companion")
        for entry in library.entries(with_modes=False):
            table.add_row(
                escape(entry.obs_name),
                escape(entry.obj_name),
                escape(entry.filter_name),
                escape(entry.telescope),
                *_quality(entry),
                escape(entry.companion) or "-",
            )
    print_table(table, console)


@library_app.command("add")
def library_add(
    observations: Annotated[list[str], typer.Argument(help="Ids of reduced observations.")],
    comment: Comment = "",
) -> None:
    """Add the PSFs of observations, after a look at their previews."""
    from roboao_assets.pipelines.psf_candidates import add_to_library
    from roboao_assets.storage.psf_library import user_name

    settings, by = load_settings(), user_name()
    _for_each(
        observations,
        lambda name: add_to_library(settings, name, by=by, comment=comment),
        "added",
    )


@library_app.command("remove")
def library_remove(
    observations: Annotated[list[str], typer.Argument(help="Ids of stars of the library.")],
    comment: Comment = "",
) -> None:
    """Remove PSFs from the library; its history keeps that they were there."""
    from roboao_assets.storage.catalogue import open_catalogue
    from roboao_assets.storage.psf_candidates import remove_star
    from roboao_assets.storage.psf_library import user_name

    settings, by = load_settings(), user_name()
    paths = _archive_paths(settings)
    with open_catalogue(settings.resolved_catalogue_url) as catalogue:
        _for_each(
            observations,
            lambda name: remove_star(catalogue, paths, name, by=by, comment=comment),
            "removed",
        )


@astrometry_app.command("solve")
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


@astrometry_app.command("import")
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
        _stop(f"there is no telescope {telescope!r}: {', '.join(sorted(known))}")
    path = _archive_paths(settings).distortion(telescope, _check_night(night))
    write_distortion(path, read_published(published))
    console.print(f"solution: {path}", soft_wrap=True)


def _archive_paths(settings: Settings) -> ArchivePaths:
    return ArchivePaths(settings.archive_root.absolute())


def _quality(star: "PsfCandidate | PsfEntry") -> tuple[str, str, str]:
    return (
        _figure(star.strehl_percent, ".1f"),
        _figure(star.fwhm_arcsec, ".3f"),
        _figure(star.elongation, ".2f"),
    )


def _for_each(names: list[str], work: Callable[[str], object], word: str) -> None:
    """Do `work` for each name; tell of every failure, then fail if there was one."""
    failed = 0
    for name in names:
        try:
            work(name)
            console.print(f"{word}: {name}", soft_wrap=True)
        except ArchiveError as error:
            failed += 1
            problems.print(f"{name}: {error}", style="red", markup=False, soft_wrap=True)
    if failed:
        raise SystemExit(1)


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None or math.isnan(value) else format(value, form)


if __name__ == "__main__":
    main()
