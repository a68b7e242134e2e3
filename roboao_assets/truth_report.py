"""Recovered against true: what the archive made of a simulated night, beside what was put in.

Reads the archive and the catalogue of a night that was reduced, and the `truth.json` that the
simulator leaves beside its raw files. Every quantity has a goal, and keeps it or not.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from roboao_assets.science.errors import RawDataError
from roboao_assets.storage.catalogue import leading_pipeline, open_catalogue, product
from roboao_assets.storage.files import write_text_whole
from roboao_assets.storage.fits_products import read_image
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.settings import Settings
from roboao_assets.truth_disc import disc_rows
from roboao_assets.truth_field import field_rows
from roboao_assets.truth_rows import TruthRow, truth_row

# A companion is looked for where it is so much (mag) brighter than the contrast curve's limit.
_SAFE_MAG = 1.0
# What has this probability of being noise is called a companion.
_FALSE_ALARM = 1e-3
# A signal-to-noise as near (relative) to the limit of a class is on either side of it.
_CLASS_MARGIN = 0.05


def compare_with_truth(settings: Settings, truth_file: Path) -> list[TruthRow]:
    """Compare the night of `truth_file` with what the archive has of it.

    Parameters
    ----------
    settings : Settings
        Of the archive.
    truth_file : Path
        `truth.json` of a simulated night.

    Raises
    ------
    RawDataError
        If there is no such file.
    """
    try:
        truth = json.loads(truth_file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RawDataError(
            f"there is no {truth_file}: only a night that `roboao simulate` made has a truth to be "
            f"compared with"
        ) from error
    limits = (settings.bright_star.zero_flux_snr, settings.bright_star.faint_snr)
    paths = ArchivePaths(settings.archive_root.absolute())
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        rows = [*_masters(paths, truth)]
        rows += _seeing(catalogue.night(truth["night"]) or {}, truth["seeing"])
        for observation in truth["observations"]:
            document = catalogue.observation(observation["id"]) or {}
            rows += _observation(paths, truth, observation, document, limits)
    return rows


def write_report(rows: Sequence[TruthRow], path: Path) -> None:
    """Write rows and verdict as JSON."""
    values = [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        | {"passed": passed}
        for row, passed in ((asdict(r), r.passed) for r in rows)
    ]
    report = {"passed": all(row.passed for row in rows), "rows": values}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_whole(path, json.dumps(report, indent=1) + "\n")


def markdown_table(rows: Sequence[TruthRow]) -> str:
    """Return rows as a table of a document."""
    lines = [
        "| subject | quantity | true | recovered | error | goal | |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        verdict = "" if row.goal is None else "pass" if row.passed else "**miss**"
        cells = [short_name(row.subject), row.quantity]
        cells += [show_figure(v) for v in (row.true, row.measured, row.error, row.goal)]
        lines.append(f"| {' | '.join([*cells, verdict])} |")
    return "\n".join(lines) + "\n"


def short_name(subject: str) -> str:
    """Return a subject without camera, filter and times, which say nothing in a table."""
    return subject.split("_VIC_", maxsplit=1)[0]


def show_figure(value: float | str | None) -> str:
    """Return a value in four digits; a dash where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return value if isinstance(value, str) else f"{value:.4g}"


def _masters(paths: ArchivePaths, truth: Mapping[str, Any]) -> Iterator[TruthRow]:
    path = paths.bad_pixel_mask(truth["night"])
    dead = np.array(truth["dead_pixels"], dtype=int)
    found = math.nan
    if path.exists() and dead.size:
        mask, _ = read_image(path)
        found = float((mask[dead[:, 1], dead[:, 0]] > 0).mean())
    yield truth_row("bad-pixel mask", "dead pixels found (part)", 1.0, found, 0.05)


def _seeing(night: Mapping[str, Any], exposures: Sequence[Mapping[str, Any]]) -> Iterator[TruthRow]:
    measured = {m["id"]: m for m in (night.get("seeing") or {}).get("measured", ())}
    for true in exposures:
        found = measured.get(true["id"], {})
        fwhm = true["fwhm_arcsec"]
        yield truth_row(
            true["id"], "seeing FWHM (arcsec)", fwhm, found.get("fwhm_arcsec"), 0.05 * fwhm
        )
        yield truth_row(true["id"], "airmass", true["airmass"], found.get("airmass"), 0.01)


def _observation(
    paths: ArchivePaths,
    truth: Mapping[str, Any],
    true: Mapping[str, Any],
    document: Mapping[str, Any],
    class_limits: Sequence[float],
) -> Iterator[TruthRow]:
    subject, night = true["id"], truth["night"]
    if "disc" in true:
        yield from disc_rows(paths, truth, true)
        return
    stack = product(document, "bright_star")
    yield _class(true, stack, class_limits)
    yield truth_row(subject, "frames", true["n_frames"], stack.get("frames"), 0.0)
    if true["strehl_percent_whole_field"] is None or not stack.get("lock_position"):
        return
    yield _strehl(true, document)
    yield from _frames(paths, night, true)
    yield from _companions(true, document)
    if "sky_field" in true:
        yield from field_rows(paths, night, true)


def _class(true: Mapping[str, Any], stack: Mapping[str, Any], limits: Sequence[float]) -> TruthRow:
    found, snr = stack.get("classified_as"), stack.get("snr")
    # A magnitude makes a class but for the weather: of a star at the limit either is right.
    at_limit = snr is not None and any(abs(snr / limit - 1) < _CLASS_MARGIN for limit in limits)
    return TruthRow(
        subject=true["id"],
        quantity="class",
        true=true["class"],
        measured=found,
        error=0.0 if found == true["class"] else math.nan,
        goal=None if at_limit else 0.0,
    )


def _strehl(true: Mapping[str, Any], document: Mapping[str, Any]) -> TruthRow:
    ratio = true["strehl_percent_whole_field"]
    measured = product(document, f"{leading_pipeline(document)}.strehl").get("ratio_percent")
    # Frames of a faint star cannot be recentred perfectly, as those of the truth are.
    goal = max(0.5, 0.05 * ratio) if true["class"] == "high_flux" else 0.35 * ratio
    if "sky_field" in true:
        # Where stars are everywhere in a small frame there is no sky to take a level from.
        goal = None
    return truth_row(true["id"], "Strehl ratio (%)", ratio, measured, goal)


def _frames(paths: ArchivePaths, night: str, true: Mapping[str, Any]) -> Iterator[TruthRow]:
    table = np.loadtxt(paths.frames_table(night, true["id"]), ndmin=2)
    x, y = (np.array(true["frames"][axis], float) for axis in "xy")
    clear = np.isfinite(x)
    clear[true["clouded_frames"]] = False
    distance = np.hypot(table[:, 3] - x, table[:, 4] - y)[clear] / np.sqrt(2)
    bright = true["class"] == "high_flux"
    yield truth_row(
        true["id"],
        "registration, median an axis (px)",
        0.0,
        float(np.median(distance)),
        0.1 if bright else None,
    )
    level = np.array(true["frames"]["bias_adu"], float)
    # What is measured has the sky in it, which is the same in all frames.
    scatter = float(np.std(table[:, 5] - level))
    # Nor is there in a field of stars, whose light wanders in and out of the corner.
    goal = None if "sky_field" in true else 1.0
    yield truth_row(true["id"], "bias level, frame to frame (ADU)", 0.0, scatter, goal)


def _companions(true: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[TruthRow]:
    record = product(document, f"{leading_pipeline(document, 'pca')}.pca")
    candidates = record.get("candidates")
    if candidates is None or not record.get("contrast_curve"):
        return
    separation, limit = (np.array(values, float) for values in record["contrast_curve"])
    known = [*true["companions"], *true["field_stars"]]
    for companion in true["companions"]:
        place = companion["sep_arcsec"]
        depth = float(np.interp(place, separation, limit, left=-99.0, right=-99.0))
        if companion["dmag"] > depth - _SAFE_MAG:
            continue
        near = min(candidates, key=lambda c: _distance(c, companion), default={})
        name = f'companion at {place:.2f}"'
        yield truth_row(
            true["id"], f"{name}: separation (arcsec)", place, near.get("separation_arcsec"), 0.02
        )
        yield truth_row(
            true["id"], f"{name}: contrast (mag)", companion["dmag"], near.get("contrast_mag"), 0.15
        )
        pa = near.get("pa_deg")
        turned = None if pa is None else (pa - companion["pa_deg"] + 180) % 360 - 180
        yield truth_row(true["id"], f"{name}: position angle, error (deg)", 0.0, turned, 1.5)
    false = [
        c
        for c in candidates
        if c["false_alarm_probability"] < _FALSE_ALARM
        and all(_distance(c, companion) > 0.3 for companion in known)
    ]
    references = len(record.get("library_psf_id_corr") or ())
    # Two stars and their companions are no library: what they leave is told, and no more.
    goal = 0.0 if references > 2 else None
    yield truth_row(true["id"], "candidates that are none", 0.0, float(len(false)), goal)


def _distance(candidate: Mapping[str, Any], companion: Mapping[str, Any]) -> float:
    """Distance between two places round the star (arcsec)."""
    places = (
        (candidate["separation_arcsec"], candidate["pa_deg"]),
        (companion["sep_arcsec"], companion["pa_deg"]),
    )
    (x0, y0), (x1, y1) = (
        (s * math.sin(math.radians(pa)), s * math.cos(math.radians(pa))) for s, pa in places
    )
    return math.hypot(x0 - x1, y0 - y1)
