"""`roboao backup` and `roboao restore`: what the archive tree cannot bring back."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from roboao_assets.commands.terminal import console
from roboao_assets.storage.settings import load_settings

app = typer.Typer()


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="Where the file is written.")],
    keep: Annotated[
        int, typer.Option(min=0, help="Remove all but the newest so many; 0: remove none.")
    ] = 0,
    images: Annotated[
        bool, typer.Option(help="Pictures as well; `rebuild-catalogue` brings most of them back.")
    ] = True,
) -> None:
    """Write catalogue, PSF library and Dagster's history into one file, while all goes on.

    It holds hashes of passwords: it is written for its owner alone to read.
    """
    from roboao_assets.orchestration.home import dagster_home
    from roboao_assets.storage.backup import backup_name, check_backup, remove_older, write_backup
    from roboao_assets.storage.catalogue import open_catalogue
    from roboao_assets.storage.paths import ArchivePaths

    settings = load_settings()
    home = dagster_home(settings)
    path = folder / backup_name(datetime.now(UTC))
    with (
        open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue,
        console.status("backing up") as status,
    ):
        paths = ArchivePaths(settings.archive_root)
        write_backup(path, catalogue, paths, home, images=images, tell=status.update)
    contents = check_backup(path)
    told = ", ".join(f"{count} {name}" for name, count in contents.counts.items())
    console.print(f"{path}: {told}", soft_wrap=True, markup=False)
    if not any(name.startswith("dagster/history") for name in contents.members):
        console.print(
            f"Dagster keeps no files in {home}; if it is in PostgreSQL, back that up with pg_dump",
            style="yellow",
            soft_wrap=True,
        )
    if contents.altered:
        console.print(
            f"{len(contents.altered)} documents hold values that JSON has not, kept as text: "
            f"{', '.join(contents.altered[:5])}",
            style="yellow",
            soft_wrap=True,
        )
    for older in remove_older(folder, keep) if keep else ():
        console.print(f"removed {older}", markup=False)


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A file that `roboao backup` has written.")],
    check: Annotated[
        bool, typer.Option("--check", help="Only read it and say what it holds.")
    ] = False,
    dagster: Annotated[bool, typer.Option(help="Dagster's history as well.")] = True,
) -> None:
    """Enter a backup in an empty catalogue, of either kind; files that are there stay.

    Stop the services before.
    """
    from roboao_assets.orchestration.home import dagster_home
    from roboao_assets.storage.backup import check_backup
    from roboao_assets.storage.catalogue import open_catalogue
    from roboao_assets.storage.paths import ArchivePaths
    from roboao_assets.storage.restore import restore_backup

    if check:
        contents = check_backup(file)
        told = ", ".join(f"{count} {name}" for name, count in contents.counts.items())
        console.print(f"{file} is whole: {told}", soft_wrap=True, markup=False)
        return
    settings = load_settings()
    with open_catalogue(settings.resolved_catalogue_url) as catalogue:
        home = dagster_home(settings) if dagster else None
        done = restore_backup(file, catalogue, ArchivePaths(settings.archive_root), home)
    told = ", ".join(f"{count} {name}" for name, count in done.counts.items())
    console.print(f"restored: {told}; {len(done.files)} files", soft_wrap=True, markup=False)
    for path in done.kept:
        console.print(f"was there and stays: {path}", markup=False, soft_wrap=True)
