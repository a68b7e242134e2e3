"""`roboao truth-report`."""

from pathlib import Path
from typing import Annotated

import typer

from roboao_assets.commands.terminal import console, stop
from roboao_assets.storage.settings import load_settings

app = typer.Typer()


@app.command("truth-report")
def truth_report(
    folder: Annotated[
        Path | None, typer.Option(help="Keep the night and its archive here; it must be empty.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="JSON file that is written.")] = None,
    document: Annotated[Path | None, typer.Option(help="Markdown table that is written.")] = None,
    targets: Annotated[int, typer.Option(min=1, help="Science observations.")] = 10,
    frames: Annotated[int, typer.Option(min=1, help="Frames of an observation.")] = 90,
    size: Annotated[int, typer.Option(help="Side of a frame: 256 or 1024 px.")] = 256,
    seed: Annotated[int, typer.Option(help="Same seed, same night.")] = 11,
) -> None:
    """Reduce a simulated night and print recovered against true; fail if a goal is missed."""
    import tempfile

    from roboao_assets.commands.truth_display import report_truth

    if folder is not None and folder.exists() and any(folder.iterdir()):
        stop(f"{folder} is not empty: the truth is reported of a night and archive of its own")
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
