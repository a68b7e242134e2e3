"""How right the archive is: a simulated night reduced, against its truth."""

import math
from collections.abc import Iterator

import numpy as np

from benchmarks.nights import NIGHT, BenchNight, make_night
from benchmarks.rows import QUICK_SIZE_PX, Goal, Options, Row
from roboao_assets.pipelines import night as stages
from roboao_assets.pipelines.observation import reduce_observation
from roboao_assets.science.calibration import combine_darks, combine_flats
from roboao_assets.storage.settings import Settings
from roboao_assets.truth_report import compare_with_truth

STAGES = ("bright_star_stack", "strehl_ratio")
TARGETS, FRAMES, SEEING_EXPOSURES = 8, 120, 4
SEED = 11
MASTER_GOAL = Goal(limit=1.2)


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
    with night.new_archive() as settings:
        _reduce_night(night, settings)
        for row in compare_with_truth(settings, night.raw_root / NIGHT / "truth.json"):
            subject = row.subject.rsplit("_", 5)[0]
            yield Row(
                name=f"{subject}: {row.quantity}",
                values=() if math.isnan(row.error) else (row.error,),
                unit="",
                goal=None if row.goal is None else Goal(limit=round(row.goal, 3)),
                note=f"true {row.true}, recovered {row.measured}",
            )


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
