"""`roboao psf-library`: the library of PSFs for high contrast."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from roboao_assets.commands.terminal import (
    Night,
    archive_paths,
    check_night,
    console,
    for_each,
    operator,
    print_table,
    show_figure,
    stop,
)
from roboao_assets.storage.settings import load_settings

if TYPE_CHECKING:
    from roboao_assets.storage.psf_candidates import PsfCandidate
    from roboao_assets.storage.psf_library import PsfEntry

app = typer.Typer(no_args_is_help=True, help="The library of PSFs for high contrast.")

Comment = Annotated[str, typer.Option(help="Why; the library's history keeps it.")]
_QUALITY = ("Strehl (%)", 'FWHM (")', "elongation")


@app.command("candidates")
def library_candidates(night: Night) -> None:
    """List a night's candidates for the library, with their quality and previews."""
    from roboao_assets.storage.catalogue import open_catalogue
    from roboao_assets.storage.psf_candidates import read_candidates

    settings, night = load_settings(), check_night(night)
    paths = archive_paths(settings)
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        candidates = read_candidates(catalogue, paths, night)
    if not candidates:
        stop(
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


@app.command("show")
def library_show(
    history: Annotated[bool, typer.Option(help="Every change that was ever made.")] = False,
) -> None:
    """List the PSFs of the library, or the changes of it."""
    from roboao_assets.storage.psf_library import PsfLibrary

    library = PsfLibrary(archive_paths(load_settings()).psf_library)
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


@app.command("add")
def library_add(
    observations: Annotated[list[str], typer.Argument(help="Ids of reduced observations.")],
    comment: Comment = "",
) -> None:
    """Add the PSFs of observations, after a look at their previews."""
    from roboao_assets.pipelines.psf_candidates import add_to_library

    settings, by = load_settings(), operator()
    for_each(
        observations,
        lambda name: add_to_library(settings, name, by=by, comment=comment),
        "added",
    )


@app.command("remove")
def library_remove(
    observations: Annotated[list[str], typer.Argument(help="Ids of stars of the library.")],
    comment: Comment = "",
) -> None:
    """Remove PSFs from the library; its history keeps that they were there."""
    from roboao_assets.storage.catalogue import open_catalogue
    from roboao_assets.storage.psf_candidates import remove_star

    settings, by = load_settings(), operator()
    paths = archive_paths(settings)
    with open_catalogue(settings.resolved_catalogue_url) as catalogue:
        for_each(
            observations,
            lambda name: remove_star(catalogue, paths, name, by=by, comment=comment),
            "removed",
        )


def _quality(star: "PsfCandidate | PsfEntry") -> tuple[str, str, str]:
    return (
        show_figure(star.strehl_percent, ".1f"),
        show_figure(star.fwhm_arcsec, ".3f"),
        show_figure(star.elongation, ".2f"),
    )
