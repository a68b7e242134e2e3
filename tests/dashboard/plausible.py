"""A catalogue of two plausible nights, filled through the catalogue's own interface."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np

from roboao_assets.pipelines import night_plots, previews
from roboao_assets.pipelines.contrast_pictures import contrast_curve_plot, quartiles_document
from roboao_assets.pipelines.residual_pictures import (
    CandidateMark,
    residual_preview,
    snr_map_preview,
)
from roboao_assets.science.contrast_quartiles import NightCurve, quartiles_by_filter
from roboao_assets.storage.catalogue import (
    CONTRAST_SEPARATIONS_ARCSEC,
    Catalogue,
    contrast_key,
    new_observation,
)
from roboao_assets.storage.raw_names import parse_exposure_name

NIGHT, EARLIER_NIGHT = "20170607", "20170606"
SCALE_ARCSEC = 0.0175797
SCRIPT_NAME = "<script>alert(1)</script>"
FAILURE = (
    "CalibrationMissingError: no master dark of mode 9 for the night 20170607; "
    "there are 4 dark files and 10 are needed"
)
CANDIDATES = (
    {
        "separation_arcsec": 0.879,
        "pa_deg": 306.8,
        "contrast_mag": 4.31,
        "snr": 19.2,
        "false_alarm_probability": 3.2e-12,
        "x": 140.0,
        "y": 130.0,
    },
    {
        "separation_arcsec": 1.45,
        "pa_deg": 76.0,
        "contrast_mag": 6.02,
        "snr": 7.3,
        "false_alarm_probability": 4.1e-7,
        "x": 20.0,
        "y": 80.0,
    },
)
SEPARATION = np.linspace(0.1, 1.7, 60)
SKIPPED = "the PSF library has no reference of another object in filter Sg"


@dataclass(frozen=True)
class Target:
    name: str
    filter_name: str
    minute: int
    flux: float
    strehl: float | None = None
    flag: str = "OK"
    failure: str = ""
    contrast: bool = True


TARGETS = (
    Target("351_Yrsa", "lp600", 0, 8e4, 9.4),
    Target("HD_171238", "Si", 14, 5e4, 12.1),
    Target("HIP_79123_B", "Sr", 31, 2e4, 5.2),
    Target("KOI-1422", "lp600", 44, 700.0, 1.3, flag="BAD?"),
    Target(SCRIPT_NAME.replace("/", "|"), "Sg", 58, 3e4, 3.9, contrast=False),
    Target("TYC_2134-1", "Sz", 77, 4e4, failure=FAILURE),
    Target("GJ_1214", "lp600", 96, 6e4, 8.8),
)


def observation_id(target: Target, night: str = NIGHT) -> str:
    time = _time(target.minute, night)
    return f"24.1_{target.name}_VIC_{target.filter_name}_o_{time:%Y%m%d_%H%M%S.%f}"


def fill(catalogue: Catalogue) -> None:
    rng = np.random.default_rng(20170607)
    for target in TARGETS:
        add_observation(catalogue, target, NIGHT, rng)
    _add_seeing(catalogue, rng)
    _add_contrast(catalogue)
    add_observation(catalogue, TARGETS[0], EARLIER_NIGHT, rng)
    catalogue.record_night_failure(
        EARLIER_NIGHT, "calib", "4 dark files of mode 9 were found and 10 are needed"
    )


def add_observation(
    catalogue: Catalogue, target: Target, night: str, rng: np.random.Generator
) -> None:
    identifier = observation_id(target, night)
    name = parse_exposure_name(identifier)
    document = new_observation(
        name,
        telescope="KPNO_2.1m",
        exposure_s=90.0,
        magnitude=11.2 + target.minute / 50,
        ra_deg=281.5 + target.minute / 10,
        dec_deg=-0.5 + target.minute / 20,
        equinox=2000.0,
        azimuth_deg=143.0,
        elevation_deg=61.5,
        header_cards=[
            ("MODE_NUM", 9, "camera mode"),
            ("EXPOSURE", 90.0, "[s]"),
            ("FILTER", target.filter_name, "filter"),
            ("OBSERVER", "<b>robot</b>", "who"),
            *[(f"DUMMY{n:03d}", n * 1.5, "a card") for n in range(60)],
        ],
        raw_files=[f"{identifier}.fits.bz2"],
    )
    # A path cannot hold a slash, a database can: what an operator writes is shown as text too.
    document["name"] = document["name"].replace("|", "/")
    catalogue.register_observation(document)
    catalogue.set_seeing(
        identifier, {"median": 1.29, "mean": 1.31, "nearest": [name.utc, 1.2 + target.minute / 300]}
    )
    if target.failure:
        catalogue.record_failure(identifier, "bright_star", target.failure)
        catalogue.record_failure(identifier, "bright_star", target.failure)
        reason = f"bright_star_stack failed: {target.failure}"
        catalogue.record_failure(identifier, "bright_star.strehl", reason)
        return
    _publish_products(catalogue, target, night, rng)


def _publish_products(
    catalogue: Catalogue, target: Target, night: str, rng: np.random.Generator
) -> None:
    faint = target.flux < 1e3
    image, x, y = star_field(target.flux, rng)
    classified = {"classified_as": "faint" if faint else "high_flux", "reason": ""}
    _publish_pipeline(catalogue, target, night, "bright_star", image, (x, y), classified)
    if faint:
        _publish_pipeline(catalogue, target, night, "faint_star", image, (x, y), {})


def _publish_pipeline(
    catalogue: Catalogue,
    target: Target,
    night: str,
    pipeline: str,
    image: np.ndarray,
    lock_xy: tuple[float, float],
    classified: dict,
) -> None:
    identifier = observation_id(target, night)
    ratio = strehl_of(target, pipeline)
    stack = {**classified, "frames": 770, "frames_used": 755, "lock_position": lock_xy}
    catalogue.publish(identifier, pipeline, stack)
    fwhm = 0.24 if target.flag != "OK" else 0.112
    strehl = {
        "lock_position": lock_xy,
        "ratio_percent": ratio,
        "ratio_error_percent": 0.3,
        "core_arcsec": 0.08,
        "halo_arcsec": 0.7,
        "fwhm_arcsec": fwhm,
        "flag": target.flag,
    }
    catalogue.publish(identifier, f"{pipeline}.strehl", strehl)
    pictures = {
        "full": previews.full_preview(
            image, plate_scale_arcsec=SCALE_ARCSEC, title=identifier, lock_xy=lock_xy
        ),
        "cropped": previews.cropped_preview(
            image,
            *lock_xy,
            3.5,
            plate_scale_arcsec=SCALE_ARCSEC,
            title=target.name,
            strehl_percent=ratio,
            strehl_error_percent=0.3,
            fwhm_arcsec=fwhm,
            flag=target.flag,
        ),
    }
    catalogue.publish(identifier, f"{pipeline}.preview", {})
    if target.contrast:
        contrast = contrast_of(target, pipeline)
        pictures |= residual_pictures()
        places = [(c["separation_arcsec"], c["contrast_mag"]) for c in CANDIDATES]
        pictures["contrast_curve"] = contrast_curve_plot(
            SEPARATION, contrast, title=target.name, candidates=places
        )
        others = [t for t in TARGETS if t is not target][:5]
        curve = {
            "contrast_curve": [SEPARATION, contrast],
            **{
                contrast_key(at): float(np.interp(at, SEPARATION, contrast, right=np.nan))
                for at in CONTRAST_SEPARATIONS_ARCSEC
            },
            "candidates": list(CANDIDATES),
            "snr_threshold": 5.0,
            "false_alarms_expected": 0.012,
            "components": 3,
            "library_psf_id_corr": [
                [observation_id(t), 0.99 - 0.01 * n] for n, t in enumerate(others)
            ],
        }
        catalogue.publish(identifier, f"{pipeline}.pca", curve)
    else:
        catalogue.record_skip(identifier, f"{pipeline}.pca", SKIPPED)
    for kind, png in pictures.items():
        key = f"{identifier}/{pipeline}/{kind}"
        catalogue.put_image(key, png, night=night, observation=identifier)


def strehl_of(target: Target, pipeline: str) -> float | None:
    if target.strehl is None or pipeline == "bright_star":
        return target.strehl
    return target.strehl + 0.8


def contrast_of(target: Target, pipeline: str) -> np.ndarray:
    level = 1.8 + 0.1 * (strehl_of(target, pipeline) or 0.0)
    return level + 4.2 * (1 - np.exp(-SEPARATION / 0.45))


def _add_contrast(catalogue: Catalogue) -> None:
    curves = [
        NightCurve(
            filter_name=target.filter_name,
            separation_arcsec=SEPARATION,
            contrast_mag=contrast_of(target, "bright_star"),
        )
        for target in TARGETS
        if target.contrast and target.strehl is not None
    ]
    found = quartiles_by_filter(curves)
    stored = [{"filter": name, **quartiles_document(q)} for name, q in found.items()]
    catalogue.publish_night(NIGHT, "contrast_curve", {"quartiles": stored})
    png = night_plots.contrast_plot(curves, title=f"Contrast {NIGHT}")
    catalogue.put_image(f"{NIGHT}/contrast_curve", png, night=NIGHT)


def _add_seeing(catalogue: Catalogue, rng: np.random.Generator) -> None:
    times = [_time(minute) for minute in range(0, 110, 9)]
    values = 1.3 + 0.15 * np.sin(np.arange(len(times)) / 2.5)
    frames, points = [], []
    for index, (time, trend) in enumerate(zip(times, values, strict=True)):
        identifier = f"seeing_VIC_lp600_o_{time:%Y%m%d_%H%M%S.%f}"
        fwhm = float(trend + rng.normal(0, 0.05))
        filter_name = ("lp600", "Si")[index % 2]
        row = [identifier, time, filter_name, fwhm, fwhm * 1.05, fwhm * 0.95, 10.0]
        frames.append(row)
        points.append(
            night_plots.SeeingPoint(
                utc=time, fwhm_arcsec=fwhm, filter_name=filter_name, exposure_s=10.0
            )
        )
        if index < 3:
            image, x, y = star_field(900.0, rng, fwhm_arcsec=fwhm, size=512)
            png = previews.seeing_exposure_preview(
                image,
                x=x,
                y=y,
                fwhm_x_arcsec=fwhm * 1.05,
                fwhm_y_arcsec=fwhm * 0.95,
                fwhm_arcsec=fwhm,
                plate_scale_arcsec=2 * SCALE_ARCSEC,
                title=identifier,
            )
            catalogue.put_image(f"{NIGHT}/seeing/{identifier}", png, night=NIGHT)
    discarded = [["seeing_VIC_Si_o_20170607_060000.000000", "no star was found in the exposure"]]
    summary = {"frames": frames, "median": 1.29, "discarded": discarded}
    catalogue.publish_night(NIGHT, "seeing", summary)
    png = night_plots.seeing_plot(points, title=f"Seeing, {NIGHT}", median_arcsec=1.29)
    catalogue.put_image(f"{NIGHT}/seeing", png, night=NIGHT)


def star_field(
    flux: float, rng: np.random.Generator, *, fwhm_arcsec: float = 0.11, size: int = 512
) -> tuple[np.ndarray, float, float]:
    """An AO star (core, ring, halo) or, for a large FWHM, a seeing-limited one, on sky noise."""
    x, y = size * 0.53, size * 0.47
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    radius = np.hypot(columns - x, rows - y) * SCALE_ARCSEC
    if fwhm_arcsec > 0.5:
        profile = (1 + (radius * 2 / fwhm_arcsec) ** 2 * 0.32) ** -2.5
    else:
        core = 0.3 * np.exp(-((radius / 0.06) ** 2))
        ring = 0.015 * np.exp(-(((radius - 0.15) / 0.03) ** 2))
        profile = core + ring + 0.014 * (1 + (radius / 0.45) ** 2) ** -2.2
    image = 50.0 + flux * profile + rng.normal(0, 3.0, (size, size))
    return image.astype(np.float32), x, y


@cache
def residual_pictures() -> dict[str, bytes]:
    left = residual(np.random.default_rng(3))
    rows, columns = np.mgrid[-100:101, -100:101]
    snr = np.where(np.hypot(columns, rows) < 8, np.nan, left / 2.0)
    options = {
        "plate_scale_arcsec": SCALE_ARCSEC,
        "title": "PSF subtracted",
        "candidates": [CandidateMark(**candidate) for candidate in CANDIDATES],
        "fwhm_px": 6.4,
    }
    return {"pca": residual_preview(left, **options), "snr_map": snr_map_preview(snr, **options)}


def residual(rng: np.random.Generator) -> np.ndarray:
    rows, columns = np.mgrid[-100:101, -100:101]
    noise = rng.normal(0, 1, (201, 201)) * (1 + 30 * np.exp(-np.hypot(columns, rows) / 8))
    companion = 25 * np.exp(-((columns - 40) ** 2 + (rows - 30) ** 2) / 8)
    companion += 12 * np.exp(-((columns + 80) ** 2 + (rows + 20) ** 2) / 8)
    return (noise + companion).astype(np.float32)


def _time(minute: int, night: str = NIGHT) -> datetime:
    start = datetime.strptime(night, "%Y%m%d").replace(tzinfo=UTC)
    return start + timedelta(hours=4, minutes=minute, seconds=27, microseconds=40912)
