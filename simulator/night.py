"""Writes a raw night, and the truth about it."""

import json
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from roboao_assets.science.instrument import InstrumentProfile, select_profile
from roboao_assets.storage.files import write_text_whole, write_whole
from roboao_assets.storage.instruments import load_instruments
from roboao_assets.storage.tables import ecsv_text
from simulator.detector import (
    DETECTOR_PX,
    FLAT_LEVEL_ADU,
    FRAME_TIME_S,
    MODES,
    QUARTER_PX,
    Camera,
    Window,
    draw_bias_levels,
)
from simulator.exposure import Exposure, FrameTruth
from simulator.headers import CAMERA, MARKER, Pointing, primary_cards, timestamp
from simulator.raw_files import Card, compress_frames
from simulator.schedule import NightPlan, ScheduledExposure, dark_modes, plan_night
from simulator.seeds import child_seed
from simulator.star_field import CATALOGUE_NAME
from simulator.truth import night_truth, observation_truth, seeing_truth

Progress = Callable[[float, str], None]

DARK_FILES = 10
FLAT_FILES = 6
FLAT_EXPOSURE_S = 1.0
# Frames made by one task; a longer exposure is made by several at once.
TASK_FRAMES = 100
FULL_FRAME_TASK_FRAMES = 40
# At 1 sigma 2.7 times better or worse: no sky changes more within a minute.
MAX_SEEING_SPREAD = 1.0


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """One bzip2 stream of a file and, of an exposure, the truth of its frames."""

    content: bytes
    truths: list[FrameTruth]
    transfer_sum: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class _FileTask:
    """A file: functions that make its pieces, in order, and how much work each is."""

    name: str
    pieces: list[Callable[[], _Piece]]
    work: float
    exposure: ScheduledExposure | None = None


def simulate_night(
    root: Path,
    night: str,
    *,
    targets: int = 6,
    frames: int = 90,
    size: int = 256,
    seed: int = 1,
    profile: InstrumentProfile | None = None,
    on_progress: Progress | None = None,
    workers: int | None = None,
    dark_frames: int | None = None,
    seeing_exposures: int = 4,
    seeing_spread: float = 0.0,
) -> Path:
    """Write a raw night of simulated observations.

    Parameters
    ----------
    root : Path
        Raw root; the night's folder is made in it.
    night : str
        UT date, ``YYYYMMDD``.
    targets, frames : int
        Science observations, and frames in each (0.116 s a frame). The first eight targets
        are always of the same kinds: single, binary, faint, an empty field and so on; the ninth
        is a field of stars with known places on the sky, the tenth a resolved disc.
    size : int
        Side of the frames: 256 (quarter frame) or 1024.
    seed : int
        The same seed gives the same bytes, whatever the number of workers.
    profile : InstrumentProfile, optional
        Default: the one whose camera was in use on the night.
    on_progress : callable, optional
        Called with the part done (0..1) and what was finished.
    workers : int, optional
        Threads; default: the processors, at most 8.
    dark_frames : int, optional
        Frames of each dark cube (default 40 quarter frames, 20 full frames).
    seeing_exposures : int
        AO-off exposures of 60 frames (full frame: 30), or of `frames` if that is less.
    seeing_spread : float
        Spread (1 sigma) of the natural logarithm of the seeing within each exposure, which
        changes with a correlation time of 5 s; 0: it is steady.

    Returns
    -------
    Path
        The night's folder; `truth.json` is in it, written last, and the reference stars of
        its star field if it has one.

    Raises
    ------
    ValueError
        An argument that cannot be used.
    """
    _check(night, targets, frames, size, seeing_exposures, seeing_spread)
    chosen = profile or _profile_of(night)
    plan = plan_night(
        night,
        chosen,
        targets=targets,
        seeing_exposures=seeing_exposures,
        frames=frames,
        size=size,
        seed=seed,
        seeing_spread=seeing_spread,
    )
    camera = Camera(child_seed(plan.seed, 2), chosen.read_noise_adu)
    number = dark_frames or (40 if size == QUARTER_PX else 20)
    tasks = [*_exposure_tasks(plan, camera), *_calibration_tasks(plan, camera, number)]
    folder = Path(root) / night
    folder.mkdir(parents=True, exist_ok=True)
    made = _run(folder, tasks, workers or min(os.cpu_count() or 1, 8), on_progress)
    for exposure in plan.observations:
        if exposure.field is not None:
            write_text_whole(folder / CATALOGUE_NAME, ecsv_text(exposure.field.catalogue))
    truth = night_truth(
        plan,
        camera,
        seed=seed,
        observations=[observation_truth(e, made[e.id]) for e in plan.observations],
        seeing=[seeing_truth(e, made[e.id]) for e in plan.seeing],
        files=sorted(task.name for task in tasks),
    )
    write_text_whole(folder / "truth.json", json.dumps(truth, indent=1))
    return folder


def _check(
    night: str, targets: int, frames: int, size: int, seeing_exposures: int, seeing_spread: float
) -> None:
    try:
        datetime.strptime(night, "%Y%m%d")
    except ValueError:
        raise ValueError(f"night is {night!r}; expected a UT date YYYYMMDD") from None
    if size not in (QUARTER_PX, DETECTOR_PX):
        raise ValueError(f"size is {size}; the camera has {QUARTER_PX} and {DETECTOR_PX}")
    if targets < 1 or frames < 1:
        raise ValueError(f"targets is {targets} and frames {frames}; both must be at least 1")
    if seeing_exposures < 0:
        raise ValueError(f"seeing_exposures is {seeing_exposures}; it must be at least 0")
    if not 0.0 <= seeing_spread <= MAX_SEEING_SPREAD:
        raise ValueError(f"seeing_spread is {seeing_spread}; expected 0 to {MAX_SEEING_SPREAD}")


def _profile_of(night: str) -> InstrumentProfile:
    utc = datetime.strptime(night, "%Y%m%d").replace(tzinfo=UTC) + timedelta(hours=12)
    return select_profile(load_instruments(), CAMERA, utc)


def _run(
    folder: Path, tasks: list[_FileTask], workers: int, on_progress: Progress | None
) -> dict[str, list[_Piece]]:
    """Make and write all files; return the pieces of each exposure without their content."""
    total = sum(task.work for task in tasks)
    done = 0.0
    made: dict[str, list[_Piece]] = {}
    with ThreadPoolExecutor(workers, thread_name_prefix="simulator") as pool:
        calls = (call for task in tasks for call in task.pieces)
        pieces = _in_order(pool, calls, ahead=2 * workers)
        for task in tasks:
            with write_whole(folder / task.name) as path, path.open("wb") as file:
                for number in range(1, len(task.pieces) + 1):
                    piece = next(pieces)
                    file.write(piece.content)
                    if task.exposure is not None:
                        kept = replace(piece, content=b"")
                        made.setdefault(task.exposure.id, []).append(kept)
                    done += task.work / len(task.pieces)
                    if on_progress is not None and number < len(task.pieces):
                        on_progress(done / total, f"{task.name}: {number} of {len(task.pieces)}")
            if on_progress is not None:
                on_progress(min(done / total, 1.0), task.name)
    return made


def _in_order(
    pool: ThreadPoolExecutor, calls: Iterator[Callable[[], _Piece]], ahead: int
) -> Iterator[_Piece]:
    # At most `ahead` pieces are made before their turn: they wait in memory.
    waiting: deque[Future[_Piece]] = deque()
    for call in calls:
        waiting.append(pool.submit(call))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class _SharedExposure:
    """An exposure that several tasks draw frames of: built once, let go after the last."""

    def __init__(self, build: Callable[[], Exposure], uses: int) -> None:
        self._build = build
        self._uses = uses
        self._lock = threading.Lock()
        self._exposure: Exposure | None = None

    def take(self) -> Exposure:
        with self._lock:
            if self._exposure is None:
                self._exposure = self._build()
            return self._exposure

    def let_go(self) -> None:
        with self._lock:
            self._uses -= 1
            if self._uses == 0:
                self._exposure = None


def _exposure_tasks(plan: NightPlan, camera: Camera) -> Iterator[_FileTask]:
    for index, scheduled in enumerate(plan.observations):
        yield from _tasks_of(scheduled, camera, two_streams=index % 2 == 1)
    for scheduled in plan.seeing:
        yield from _tasks_of(scheduled, camera, two_streams=False)


def _tasks_of(
    scheduled: ScheduledExposure, camera: Camera, *, two_streams: bool
) -> Iterator[_FileTask]:
    frames = scheduled.plan.frames
    files = [(f"{scheduled.id}.fits.bz2", 0, frames)]
    if scheduled.target.split and frames >= 3:
        # The first file can be the shortest.
        short = max(1, frames // 8)
        middle = (short + frames) // 2
        files = [
            (f"{scheduled.id}.fits.bz2", 0, short),
            (f"{scheduled.id}_0.fits.bz2", short, middle),
            (f"{scheduled.id}_1.fits.bz2", middle, frames),
        ]
    longest = TASK_FRAMES if scheduled.plan.size_px == QUARTER_PX else FULL_FRAME_TASK_FRAMES
    cuts = []
    for name, first, stop in files:
        pieces = -(-(stop - first) // longest)
        if two_streams and stop - first > 1:
            pieces = max(pieces, 2)
        edges = np.linspace(first, stop, pieces + 1).round().astype(int).tolist()
        cuts.append((name, list(pairwise(edges))))
    shared = _SharedExposure(
        partial(Exposure, scheduled.plan, camera), sum(len(spans) for _, spans in cuts)
    )
    for name, spans in cuts:
        yield _FileTask(
            name=name,
            pieces=[
                partial(_draw_piece, shared, scheduled, first, stop, first == spans[0][0])
                for first, stop in spans
            ],
            work=_work(spans[-1][1] - spans[0][0], scheduled.plan.size_px, light=True),
            exposure=scheduled,
        )


def _work(frames: int, size: int, *, light: bool) -> float:
    # Seconds, about: images and detector. Only for the progress shown.
    return frames * ((0.03 if light else 0.0) + 0.25 * (size / DETECTOR_PX) ** 2)


def _draw_piece(
    shared: _SharedExposure, scheduled: ScheduledExposure, first: int, stop: int, starts_file: bool
) -> _Piece:
    exposure = shared.take()
    truths: list[FrameTruth] = []
    transfers: list[np.ndarray] = []

    def pixels() -> Iterator[np.ndarray]:
        for index in range(first, stop):
            frame = exposure.frame(index)
            truths.append(frame.truth)
            if not scheduled.plan.loop_closed:
                moved = exposure.transfer_at_mean_position(frame)
                transfers[:] = [moved + transfers[0]] if transfers else [moved]
            yield frame.pixels

    content = compress_frames(pixels(), cards=scheduled.cards, starts_file=starts_file)
    shared.let_go()
    return _Piece(content=content, truths=truths, transfer_sum=transfers[0] if transfers else None)


def _calibration_tasks(plan: NightPlan, camera: Camera, dark_frames: int) -> Iterator[_FileTask]:
    """Darks of the science modes and of the flats' mode, flats, a bias and a pointing file."""
    full = Window.of_size(DETECTOR_PX)
    suffix = "4" if plan.window.side_px == QUARTER_PX else ""
    files = [
        (f"dark_{mode}{suffix}_{CAMERA}_clear", mode, plan.window, dark_frames, "")
        for mode in dark_modes(plan)
    ]
    files += [(f"dark_0_{CAMERA}_clear", 0, full, 1, "")] * DARK_FILES
    for filter_name in plan.filters:
        files += [(f"flat_0_{filter_name}", 0, full, 1, filter_name)] * FLAT_FILES
    files += [(f"bias_0_{CAMERA}_clear", 0, full, 1, "")]
    files += [(f"pointing_{CAMERA}_lp600", 6, plan.window, 1, "")]
    for index, (stem, number, window, frames, filter_name) in enumerate(files):
        utc = plan.start_utc + timedelta(seconds=35.0 * index, microseconds=1217 * index)
        exposure_s = 0.0 if stem.startswith("bias") else FLAT_EXPOSURE_S
        cards = primary_cards(
            plan.profile,
            utc=utc,
            mode=MODES[number],
            window=window,
            exposure_s=exposure_s if number == 0 else frames * FRAME_TIME_S,
            filter_name=filter_name or "clear",
            object_name=stem.split("_", 1)[0],
            magnitude=9999.0,
            pointing=Pointing(),
        )
        draw = partial(
            _draw_calibration,
            camera,
            child_seed(plan.seed, 3, index),
            number,
            window,
            frames,
            exposure_s if number == 0 else FRAME_TIME_S,
            filter_name,
            cards,
        )
        yield _FileTask(
            name=f"{stem}_{MARKER}_{timestamp(utc)}.fits.bz2",
            pieces=[draw],
            work=_work(frames, window.side_px, light=False),
        )


def _draw_calibration(
    camera: Camera,
    seed: np.random.SeedSequence,
    mode_number: int,
    window: Window,
    frames: int,
    exposure_s: float,
    filter_name: str,
    cards: list[Card],
) -> _Piece:
    rng = np.random.default_rng(seed)
    mode = MODES[mode_number]
    light = None
    if filter_name:
        level = np.float32(FLAT_LEVEL_ADU * rng.uniform(0.95, 1.05))
        light = level * camera.response(filter_name)[window.slices]
    pixels = (
        camera.read_frame(
            rng, mode, window, photo_electrons=light, bias_adu=float(bias), exposure_s=exposure_s
        )
        for bias in draw_bias_levels(rng, mode, frames)
    )
    return _Piece(content=compress_frames(pixels, cards=cards, starts_file=True), truths=[])
