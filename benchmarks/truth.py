"""How right the archive is: a simulated night reduced, against its truth.

`python -m benchmarks.truth [--targets 8] [--frames 120] [--size 256] [--seed 11]`
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from roboao_assets.pipelines import night as stages
from roboao_assets.pipelines.observation import reduce_observation
from roboao_assets.science.calibration import combine_darks, combine_flats
from roboao_assets.storage.catalogue import open_catalogue, product
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.raw_night import read_night
from roboao_assets.storage.settings import Settings
from simulator import simulate_night

NIGHT = "20170607"
OBSERVATION_STAGES = ("bright_star_stack", "strehl_ratio")


def noise_over_ideal(number, kind, rng):
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


def reduce_night(root, options):
    """Simulate and reduce a night; return its settings and truth."""
    simulate_night(
        root / "raw",
        NIGHT,
        targets=options.targets,
        frames=options.frames,
        size=options.size,
        seed=options.seed,
    )
    settings = Settings(raw_roots=(root / "raw",), archive_root=root / "archive", threads=2)
    for stage in (
        stages.register_night,
        stages.make_master_darks,
        stages.make_master_flats,
        stages.make_bad_pixel_mask,
        stages.measure_night_seeing,
    ):
        outcome = stage(settings, NIGHT)
        if not outcome.succeeded:
            raise RuntimeError(f"{outcome.stage}: {outcome.reason}")
    for exposure in read_night(settings.raw_roots, NIGHT).observations:
        reduce_observation(settings.model_dump_json(), NIGHT, exposure.id, OBSERVATION_STAGES)
    return settings, json.loads((root / "raw" / NIGHT / "truth.json").read_text())


def print_observations(settings, truth):
    """Print Strehl ratio and registration of each observation; return how many miss a goal."""
    missed = 0
    paths = ArchivePaths(settings.archive_root)
    print(
        f"{'observation':34} {'class':10} {'Strehl true':>11} {'measured':>9}  registration rms px"
    )
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        for true in truth["observations"]:
            document = catalogue.observation(true["id"])
            stack = product(document, "bright_star")
            strehl = product(document, "bright_star.strehl").get("ratio_percent")
            value = true["strehl_percent_whole_field"]
            line = f"{true['id'][:34]:34} {stack['classified_as']:10} "
            if strehl is None or value is None:
                print(line + f"{'no star' if value is None else 'not measured':>11}")
                continue
            table = np.loadtxt(paths.frames_table(NIGHT, true["id"]))
            x, y = (np.array(true["frames"][axis], float) for axis in "xy")
            good = np.isfinite(x)
            error = np.hypot(table[good, 3] - x[good], table[good, 4] - y[good]) / np.sqrt(2)
            rms, middle = float(np.sqrt(np.mean(error**2))), float(np.median(error))
            miss = abs(strehl - value) > max(0.5, 0.05 * value)
            miss |= true["class"] == "high_flux" and rms > 0.1
            missed += miss
            print(
                line + f"{value:11.2f} {strehl:9.2f}  {rms:.3f} (median {middle:.3f})"
                f"{'   MISSED' if miss else ''}"
            )
    return missed


def print_seeing(settings, truth):
    """Print the seeing of each AO-off exposure; return how many miss the goal."""
    missed = 0
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        measured = {row[0]: row[3] for row in catalogue.night(NIGHT)["seeing"]["frames"]}
    for true in truth["seeing"]:
        ratio = measured.get(true["id"], np.nan) / true["fwhm_arcsec"]
        miss = not abs(ratio - 1) <= 0.05
        missed += miss
        print(f"{true['id'][:44]:44} measured / true {ratio:.3f}{'   MISSED' if miss else ''}")
    return missed


def main():
    """Print the tables; exit status 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=int, default=8)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    missed = 0
    for kind, number in (("dark", 10), ("dark", 100), ("flat", 5), ("flat", 10)):
        ratio = noise_over_ideal(number, kind, rng)
        missed += ratio > 1.2
        print(f"master {kind} of {number:3d} frames: noise {ratio:.3f} x the ideal mean's")
    with tempfile.TemporaryDirectory(prefix="roboao-truth-") as folder:
        settings, truth = reduce_night(Path(folder), options)
        missed += print_observations(settings, truth)
        missed += print_seeing(settings, truth)
    print(f"{missed} goals missed")
    raise SystemExit(bool(missed))


if __name__ == "__main__":
    main()
