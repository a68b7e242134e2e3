"""Asset checks of the calibration: they read the files, whoever made them."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from roboao_assets.orchestration.resources import CodeLocation
from roboao_assets.science.calibration_quality import (
    MasterQuality,
    judge_bad_pixels,
    judge_dark,
    judge_flat,
)
from roboao_assets.storage.paths import ArchivePaths


def build_calibration_checks(location: CodeLocation) -> list[dg.AssetChecksDefinition]:
    """Return the checks of `master_darks`, `master_flats` and `bad_pixel_mask`."""
    return [
        _build_check(
            location,
            asset="master_darks",
            name="dark_noise",
            pattern="dark_*.fits",
            judge=_judge_dark,
            description="Every master dark is much quieter than one frame, and finite.",
        ),
        _build_check(
            location,
            asset="master_flats",
            name="flat_level",
            pattern="flat_*.fits",
            judge=_judge_flat,
            description="Every master flat has mean 1, few outliers, and is finite.",
        ),
        _build_check(
            location,
            asset="bad_pixel_mask",
            name="bad_pixel_count",
            pattern="bad_pixels.fits",
            judge=_judge_bad_pixels,
            description="Few pixels are bad.",
        ),
    ]


def _build_check(
    location: CodeLocation,
    *,
    asset: str,
    name: str,
    pattern: str,
    judge: Callable[[Path], MasterQuality],
    description: str,
) -> dg.AssetChecksDefinition:
    paths = ArchivePaths(location.settings.archive_root.absolute())
    with warnings.catch_warnings():
        # Checks with partitions are in preview; without them a night's check would
        # overwrite that of the night before.
        warnings.simplefilter("ignore", dg.PreviewWarning)

        @dg.asset_check(
            asset=asset,
            name=name,
            partitions_def=location.partitions.nights,
            description=description,
        )
        def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
            folder = paths.bad_pixel_mask(context.partition_key).parent
            figures: dict[str, float] = {}
            problems: list[str] = []
            for path in sorted(folder.glob(pattern)):
                quality = judge(path)
                figures |= {f"{path.stem} {key}": v for key, v in quality.figures.items()}
                problems += [f"{path.name}: {problem}" for problem in quality.problems]
            # No file at all is no problem of quality: calibrated frames need no masters.
            return dg.AssetCheckResult(
                passed=not problems,
                severity=dg.AssetCheckSeverity.WARN,
                description="; ".join(problems) or None,
                metadata=figures,
            )

    return check


def _judge_dark(path: Path) -> MasterQuality:
    data, header = _read(path)
    return judge_dark(data, header.get("NOISE"), header.get("NFRAMES"))


def _judge_flat(path: Path) -> MasterQuality:
    return judge_flat(_read(path)[0])


def _judge_bad_pixels(path: Path) -> MasterQuality:
    return judge_bad_pixels(_read(path)[0])


def _read(path: Path) -> tuple[NDArray[np.float32], Mapping[str, Any]]:
    from roboao_assets.storage.fits_products import read_image

    return read_image(path)
