"""Headers and names of raw files, as the camera computer writes them."""

from dataclasses import dataclass
from datetime import datetime

from roboao_assets.science.instrument import InstrumentProfile
from simulator.detector import DETECTOR_PX, FRAME_TIME_S, CameraMode, Window
from simulator.raw_files import Card

CAMERA = "VIC"
MARKER = "o"


def timestamp(utc: datetime) -> str:
    """`YYYYMMDD_HHMMSS.ffffff`, as it ends file names."""
    return utc.strftime("%Y%m%d_%H%M%S.%f")


@dataclass(frozen=True, kw_only=True)
class Pointing:
    """Where the telescope looks: `H:M:S`, `D:M:S`, degrees."""

    right_ascension: str = "00:00:00.00"
    declination: str = "+00:00:00.00"
    azimuth_deg: float = 0.0
    elevation_deg: float = 90.0


def with_units(text: str, units: str) -> str:
    """Turn ``H:M:S`` into ``..h..m..s`` (`units` "hms") or ``..d..m..s`` ("dms")."""
    return "".join(part + unit for part, unit in zip(text.split(":"), units, strict=True))


def primary_cards(
    profile: InstrumentProfile,
    *,
    utc: datetime,
    mode: CameraMode,
    window: Window,
    exposure_s: float,
    filter_name: str,
    object_name: str,
    magnitude: float,
    pointing: Pointing,
) -> list[Card]:
    """Cards of a raw file's primary header, after the ones that FITS itself needs."""
    first, last = window.start_px + 1, window.start_px + window.side_px
    return [
        ("TELESCOP", profile.telescope, "telescope"),
        ("INSTRUME", CAMERA, "visible camera"),
        ("DATE-OBS", utc.strftime("%Y-%m-%dT%H:%M:%S.%f"), "UTC, start of exposure"),
        ("UTC", utc.strftime("%Y%m%d_%H%M%S.%f"), "start of exposure"),
        ("OBJECT", object_name, "name of the target"),
        ("MAGNITUD", magnitude, "V magnitude; 9999 if unknown"),
        ("FILTER", filter_name, "filter"),
        ("MODE_NUM", mode.number, "camera mode"),
        ("EMGAIN", mode.em_gain, "electron-multiplying gain"),
        ("EXPOSURE", round(exposure_s, 4), "[s] whole exposure, all frames"),
        ("FRAMTIME", FRAME_TIME_S, "[s] one frame"),
        ("TELRA", pointing.right_ascension, "right ascension of the telescope"),
        ("TELDEC", pointing.declination, "declination of the telescope"),
        ("OBJRA", with_units(pointing.right_ascension, "hms"), "right ascension of the target"),
        ("OBJDEC", with_units(pointing.declination, "dms"), "declination of the target"),
        ("EQUINOX", 2000.0, "equinox of the coordinates"),
        ("AZIMUTH", round(pointing.azimuth_deg, 4), "[deg]"),
        ("ELVATION", round(pointing.elevation_deg, 4), "[deg]"),
        ("DETSIZE", f"[1:{DETECTOR_PX},1:{DETECTOR_PX}]", "whole detector"),
        ("DETSEC", f"[{first}:{last},{first}:{last}]", "part that was read"),
        ("SIMULATE", True, "these data are simulated"),
    ]
