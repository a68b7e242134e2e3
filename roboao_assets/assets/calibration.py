"""Calibration of a night: master darks, master flats, bad-pixel mask."""

import dagster as dg

from roboao_assets.orchestration.night_stage import build_night_asset
from roboao_assets.orchestration.resources import CodeLocation

GROUP = "calibration"


def build_calibration(location: CodeLocation) -> list[dg.AssetsDefinition]:
    """Return the assets `master_darks`, `master_flats` and `bad_pixel_mask`."""
    return [
        build_night_asset(
            location,
            "master_darks",
            group=GROUP,
            deps=["raw_night"],
            description=(
                "`calib/dark_<mode>.fits` of every camera mode: sigma-clipped means, those of the "
                "science modes without the bias level of their far corner."
            ),
        ),
        build_night_asset(
            location,
            "master_flats",
            group=GROUP,
            deps=["raw_night", "master_darks"],
            description=(
                "`calib/flat_<filter>.fits` of every filter: sigma-clipped means, dark-subtracted, "
                "of mean 1."
            ),
        ),
        build_night_asset(
            location,
            "bad_pixel_mask",
            group=GROUP,
            deps=["master_darks", "master_flats"],
            description="`calib/bad_pixels.fits`: hot, dead and deviating pixels (1 = bad).",
        ),
    ]
