"""How right the archive is: a simulated night reduced, against its truth."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from benchmarks.nights import NIGHT, BenchNight, make_night
from benchmarks.rows import QUICK_SIZE_PX, Goal, Options, Row
from roboao_assets.pipelines import night as stages
from roboao_assets.pipelines.observation import reduce_observation
from roboao_assets.science.calibration import combine_darks, combine_flats
from roboao_assets.storage.catalogue import open_catalogue, product
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.settings import Settings

STAGES = ("bright_star_stack", "strehl_ratio")
TARGETS, FRAMES, SEEING_EXPOSURES = 8, 120, 4
SEED = 11
MASTER_GOAL = Goal(limit=1.2)
REGISTRATION_GOAL = Goal(limit=0.1)
SEEING_GOAL = Goal(limit=0.05)


def measure(options: Options) -> Iterator[Row]:
    """Yield the noise of the masters, and the errors of what is measured on a simulated night."""
    rng = np.random.default_rng(0)
    for kind, number in (("dark", 10), ("dark", 100), ("flat", 5), ("flat", 10)):
        yield Row(
            name=f"noise of a master {kind} of {number}",
            values=(noise_over_ideal(number, kind, rng),),
            goal=MASTER_GOAL,
            note="over that of the mean of frames without cosmic rays",
        )
    night = _quarter_frame_night(options)
    truth = json.loads((night.raw_root / NIGHT / "truth.json").read_text())
    with night.new_archive() as settings:
        _reduce_night(night, settings)
        yield from _observation_rows(settings, truth)
        yield from _seeing_rows(settings, truth)


def noise_over_ideal(number: int, kind: str, rng: np.random.Generator) -> float:
    """Noise of a master over that of the plain mean of frames without cosmic rays."""
    shape = (number, 256, 256)
    clean = rng.normal(0, 8, shape)
    level = 600.0 if kind == "dark" else 20_000.0
    hit = np.where(rng.random(shape) < 0.001, rng.uniform(300, 4000, shape), 0)
    cube = np.rint(clean + level + hit).astype(np.uint16)
    if kind == "dark":
        master = combine_darks(cube, corner_px=50, subtract_corner=False).data
        ideal = 8 / np.sqrt(number)
        return float(np.nanstd(master) / ideal)
    master = combine_flats(cube, np.zeros(shape[1:], np.float32)).data
    return float(np.nanstd(master) * level / (8 / np.sqrt(number)))


def _quarter_frame_night(options: Options) -> BenchNight:
    # What is measured on is the same in full frames, which take sixteen times as long.
    return make_night(
        options,
        targets=TARGETS,
        frames=FRAMES,
        size_px=QUICK_SIZE_PX,
        seed=SEED,
        seeing_exposures=SEEING_EXPOSURES,
    )


def _reduce_night(night: BenchNight, settings: Settings) -> None:
    outcome = stages.measure_night_seeing(settings, NIGHT)
    if not outcome.succeeded:
        raise RuntimeError(f"{outcome.stage}: {outcome.reason}")
    for exposure in night.observations:
        reduce_observation(settings.model_dump_json(), NIGHT, exposure.id, STAGES)


def _observation_rows(settings: Settings, truth: Mapping[str, Any]) -> Iterator[Row]:
    paths = ArchivePaths(settings.archive_root)
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        for true in truth["observations"]:
            document = catalogue.observation(true["id"])
            classified = product(document, "bright_star").get("classified_as", "nothing")
            measured = product(document, "bright_star.strehl").get("ratio_percent")
            value = true["strehl_percent_whole_field"]
            name = true["id"].rsplit("_", 5)[0]
            if measured is None or value is None:
                why = "there is no star" if value is None else "not measured"
                yield Row(name=f"{name}: Strehl ratio", values=(), note=f"{classified}; {why}")
                continue
            yield Row(
                name=f"{name}: error of the Strehl ratio",
                values=(abs(measured - value),),
                unit="%",
                goal=Goal(limit=round(max(0.5, 0.05 * value), 3)),
                note=f"{classified}; true {value:.2f}, measured {measured:.2f}",
            )
            table = np.loadtxt(paths.frames_table(NIGHT, true["id"]))
            yield _registration_row(name, table, true)


def _registration_row(name: str, table: np.ndarray, true: Mapping[str, Any]) -> Row:
    x, y = (np.array(true["frames"][axis], float) for axis in "xy")
    good = np.isfinite(x)
    error = np.hypot(table[good, 3] - x[good], table[good, 4] - y[good]) / np.sqrt(2)
    return Row(
        name=f"{name}: registration, rms",
        values=(float(np.sqrt(np.mean(error**2))),),
        unit="px",
        goal=REGISTRATION_GOAL if true["class"] == "high_flux" else None,
        note=f"median {np.median(error):.3f}",
    )


def _seeing_rows(settings: Settings, truth: Mapping[str, Any]) -> Iterator[Row]:
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        measured = {row[0]: row[3] for row in catalogue.night(NIGHT)["seeing"]["frames"]}
    for number, true in enumerate(truth["seeing"], 1):
        found = measured.get(true["id"])
        yield Row(
            name=f"seeing {number}: error",
            values=() if found is None else (abs(found / true["fwhm_arcsec"] - 1),),
            unit="",
            goal=SEEING_GOAL,
            note=f"true {true['fwhm_arcsec']:.3f} arcsec",
        )
