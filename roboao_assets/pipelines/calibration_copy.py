"""A night without calibration files of its own: which other night can lend its masters."""

import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from roboao_assets.pipelines.freshness import product_record
from roboao_assets.pipelines.redo import NIGHT_STAGES
from roboao_assets.pipelines.workspace import Workspace
from roboao_assets.science.errors import ArchiveError, CalibrationMissingError
from roboao_assets.storage.files import write_whole
from roboao_assets.storage.product_files import is_intact, record_paths
from roboao_assets.storage.raw_header import parse_facts, read_header
from roboao_assets.storage.raw_night import RawNight, read_night


@dataclass(frozen=True, kw_only=True)
class Lender:
    """A night that has masters.

    Attributes
    ----------
    night : str
    days : int
        Between the two nights.
    missing : tuple of str
        Masters that the other night needs and this one does not have.
    """

    night: str
    days: int
    missing: tuple[str, ...]


def find_lenders(ws: Workspace, raw: RawNight) -> list[Lender]:
    """Return the nights with masters of their own: those that lack nothing first, then by date."""
    needed = _needed_masters(ws, raw)
    lenders = []
    for row in ws.catalogue.nights():
        if row.night == raw.night:
            continue
        section = (ws.catalogue.night(row.night) or {}).get("calib") or {}
        if section.get("done") is not True or section.get("copied_from"):
            continue
        masters = section.get("masters") or {}
        missing = tuple(sorted(needed - set(masters)))
        lenders.append(
            Lender(night=row.night, days=_days_between(row.night, raw.night), missing=missing)
        )
    return sorted(lenders, key=lambda lender: (len(lender.missing), lender.days, lender.night))


def _needed_masters(ws: Workspace, raw: RawNight) -> set[str]:
    """Names of the masters that a night's exposures need, as far as their headers can be read."""
    needed = set()
    for exposure in (*raw.observations, *raw.seeing):
        try:
            if ws.settings.profile(exposure.name.camera, exposure.name.utc).frames_calibrated:
                continue
            header = read_header(exposure.files[0])
            mode = parse_facts(header).mode
        except (ArchiveError, OSError):
            continue
        needed |= {f"flat_{exposure.name.filter_name}", "bad_pixels"}
        if mode is not None:
            width = header.get("NAXIS1")
            quarter = "4" if isinstance(width, int) and width < 1024 else ""
            needed.add(f"dark_{mode}{quarter}")
    return needed


def _days_between(night: str, other: str) -> int:
    return abs((datetime.strptime(night, "%Y%m%d") - datetime.strptime(other, "%Y%m%d")).days)


def copy_calibration(ws: Workspace, night: str, source: str | None, *, by: str) -> Lender:
    """Copy the masters of another night, and ask for the night to be reduced with them.

    It is recorded as "Copied from YYYYMMDD" in the night's document and in the log.
    Calibration files of its own, should they come later, replace what was copied.

    Parameters
    ----------
    ws : Workspace
    night : str
    source : str or None
        The night that lends; None: the nearest that lacks nothing.
    by : str
        Who asked for it.

    Returns
    -------
    Lender
        The night that lent.

    Raises
    ------
    CalibrationMissingError
        No night can lend, or not the one asked for.
    RawDataError
        The night has no raw data.
    """
    raw = read_night(ws.settings.raw_roots, night)
    lender = _choose(find_lenders(ws, raw), night, source)
    section = (ws.catalogue.night(lender.night) or {})["calib"]
    copied: dict[str, dict[str, Any]] = {}
    for name, record in section["masters"].items():
        paths = record_paths(ws.paths.root, record.get("products"))
        if not all(is_intact(ws.paths.root, file) for file in record["products"]):
            raise CalibrationMissingError(
                f"the master {name} of {lender.night} is not on disk as it was made: run the "
                f"night {lender.night} again first, or copy from another night"
            )
        targets = [_copy(path, ws.paths.night(night) / "calib" / path.name) for path in paths]
        copied[name] = product_record(ws.paths.root, record["fingerprint"], targets)
    ws.catalogue.publish_night(
        night,
        "calib",
        {
            "masters": copied,
            "copied_from": lender.night,
            "comment": f"Copied from {lender.night}",
        },
    )
    ws.catalogue.actions.record(night, "copied the calibration", by=by, source=lender.night)
    ws.catalogue.requests.ask(
        night,
        night,
        NIGHT_STAGES,
        by=by,
        why=f"calibration copied from {lender.night}",
        force=False,
    )
    return lender


def _choose(lenders: list[Lender], night: str, source: str | None) -> Lender:
    if source is not None:
        lenders = [lender for lender in lenders if lender.night == source]
        if not lenders:
            raise CalibrationMissingError(
                f"the night {source} has no masters of its own that {night} could have"
            )
        return lenders[0]
    if not lenders:
        raise CalibrationMissingError(
            f"no night of the archive has masters that {night} could have: calibrate one first"
        )
    if lenders[0].missing:
        told = "; ".join(f"{x.night} has no {', '.join(x.missing)}" for x in lenders[:3])
        raise CalibrationMissingError(
            f"no night has all masters that {night} needs ({told}); name one with --from to copy "
            f"what it has"
        )
    return lenders[0]


def _copy(source: Path, target: Path) -> Path:
    with write_whole(target) as partial:
        shutil.copyfile(source, partial)
    return target


def copied_masters(ws: Workspace, night: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """Return the night whose masters `night` was lent, and their records; "" if none."""
    section = (ws.catalogue.night(night) or {}).get("calib") or {}
    source, masters = section.get("copied_from"), section.get("masters") or {}
    files = [file for record in masters.values() for file in record.get("products") or ()]
    if not source or not files or not all(is_intact(ws.paths.root, file) for file in files):
        return "", {}
    return str(source), masters
