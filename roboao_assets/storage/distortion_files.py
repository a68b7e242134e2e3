"""Distortion solutions of the instruments: one file an epoch, the newest before a night holds."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from roboao_assets.science.distortion import Distortion, published_distortion
from roboao_assets.science.errors import ArchiveError
from roboao_assets.storage.files import write_text_whole
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.tables import ecsv_text

_ARRAYS = ("matrix", "a", "b", "matrix_error", "a_error", "b_error")
_KEY = "distortion"


class DistortionFileError(ArchiveError):
    """A file with a distortion solution cannot be used."""


def write_distortion(path: Path, distortion: Distortion, stars: Table | None = None) -> None:
    """Write a solution, with the stars that made it as rows (ECSV), whole or not at all."""
    table = Table() if stars is None else stars.copy(copy_data=False)
    if not table.colnames:
        table["x"] = np.empty(0)
    table.meta[_KEY] = {
        "reference_x": float(distortion.reference_x),
        "reference_y": float(distortion.reference_y),
        "shape": [int(n) for n in distortion.shape],
        "rms_mas": float(distortion.rms_mas),
        "stars": int(distortion.stars),
        "source": distortion.source,
        **{
            name: None if (value := getattr(distortion, name)) is None else value.tolist()
            for name in _ARRAYS
        },
    }
    write_text_whole(path, ecsv_text(table))


def read_distortion(path: Path) -> Distortion:
    """Read a solution.

    Raises
    ------
    DistortionFileError
        If the file is missing or is none.
    """
    advice = "remove it, and solve the epoch again with `roboao astrometry solve`"
    try:
        values: dict[str, Any] = dict(Table.read(path, format="ascii.ecsv").meta[_KEY])
        for name in _ARRAYS:
            values[name] = None if values[name] is None else np.array(values[name], dtype=float)
        if not np.isfinite(values["matrix"]).all() or not np.linalg.det(values["matrix"]):
            raise ValueError("its matrix cannot be inverted")
        return Distortion(**{**values, "shape": tuple(values["shape"])})
    except FileNotFoundError:
        raise DistortionFileError(
            f"the distortion solution {path} was looked for and is not there"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, np.linalg.LinAlgError) as error:
        raise DistortionFileError(f"{path} is no distortion solution ({error}): {advice}") from None


def read_published(path: Path) -> Distortion:
    """Read a solution in the form that Robo-AO published (JSON: `order` and `values`).

    Raises
    ------
    DistortionFileError
        If the file is none.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        values = dict(zip(content["order"], content["values"], strict=True))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DistortionFileError(f"{path} is no published solution: {error}") from None
    return published_distortion(values, source=str(content.get("source", Path(path).name)))


def newest_distortion(
    paths: ArchivePaths, telescope: str, night: str
) -> tuple[Path, Distortion] | None:
    """Return the newest solution of a telescope that is not after a night (YYYYMMDD), or None.

    Raises
    ------
    DistortionFileError
        If that file cannot be used.
    """
    prefix = f"{telescope}_"
    epochs = {}
    for path in paths.distortion(telescope, "*").parent.glob("*.ecsv"):
        epoch = path.stem.removeprefix(prefix)
        if path.stem.startswith(prefix) and _is_night(epoch) and epoch <= night:
            epochs[epoch] = path
    if not epochs:
        return None
    path = epochs[max(epochs)]
    return path, read_distortion(path)


def _is_night(text: str) -> bool:
    try:
        return datetime.strptime(text, "%Y%m%d").strftime("%Y%m%d") == text
    except ValueError:
        return False
