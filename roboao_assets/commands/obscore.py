"""`roboao obscore`: what the archive has, as the Virtual Observatory asks for it."""

from pathlib import Path
from typing import Annotated

import typer

from roboao_assets.commands.terminal import check_night, console
from roboao_assets.storage.settings import load_settings

app = typer.Typer()


@app.command()
def obscore(
    output: Annotated[Path, typer.Option(help="Table: .vot, .parquet or .fits.")],
    night: Annotated[
        list[str] | None, typer.Option(metavar="YYYYMMDD", help="Only this night; again for more.")
    ] = None,
    only_distributed: Annotated[
        bool, typer.Option(help="Leave out what is not marked distributed.")
    ] = True,
) -> None:
    """Write the archive's images as a table of the IVOA's ObsCore 1.1."""
    from roboao_assets.pipelines.obscore import export_obscore

    nights = None if night is None else [check_night(name) for name in night]
    rows = export_obscore(load_settings(), output, nights, only_distributed=only_distributed)
    console.print(f"{rows} images: {output}", soft_wrap=True)
