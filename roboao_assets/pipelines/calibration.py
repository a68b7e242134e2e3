"""Master darks, master flats and the bad-pixel mask of a night; fitting them to an observation."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from roboao_assets.pipelines.calibration_copy import copied_masters, find_lenders
from roboao_assets.pipelines.calibration_files import (
    LEFT_OUT,
    CalibrationFiles,
    left_out_before,
    usable_files,
    without_spoilt,
)
from roboao_assets.pipelines.freshness import fingerprint, product_record
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.workspace import Workspace
from roboao_assets.science.calibration import bad_pixel_mask, combine_darks, combine_flats
from roboao_assets.science.errors import CalibrationMissingError, RawDataError
from roboao_assets.science.frame_calibration import FrameCalibration, build_calibration, cut_centre
from roboao_assets.science.instrument import InstrumentProfile
from roboao_assets.storage.fits_products import provenance_cards, read_image, write_image
from roboao_assets.storage.raw_frames import RawFileRecord, read_frames
from roboao_assets.storage.raw_night import RawNight, read_night

# The mode of the dome flats, and so of the darks that are taken off them.
FLATS_MODE = "0"

Cards = list[tuple[str, object, str]]


@dataclass(frozen=True, kw_only=True)
class _Master:
    """One master frame: what it is made from and how."""

    stage: str
    key: str
    path: Path
    files: tuple[Path, ...]
    inputs: tuple[str, ...] = ()
    combine: Callable[[NDArray], tuple[NDArray, Cards]]


def make_master_darks(ws: Workspace, night: str, *, force: bool = False) -> StageOutcome:
    """Make `dark_<mode>.fits` of every mode of the night.

    Raises
    ------
    CalibrationMissingError
        If the night has too few dark or flat files.
    """
    raw = read_night(ws.settings.raw_roots, night)
    if not needs_calibration(ws, raw):
        return _not_needed("master_darks")
    if lent := _lent("master_darks", ws, raw, "dark_"):
        return lent
    options = ws.settings.calibration

    def combine(cube: NDArray, mode: str) -> tuple[NDArray, Cards]:
        dark = combine_darks(
            cube,
            corner_px=options.corner_px,
            # Mode darks carry bias drift, so their level means nothing; that of mode 0 does.
            subtract_corner=mode != FLATS_MODE,
            sigma=options.clip_sigma,
            passes=options.clip_passes,
            threads=ws.settings.threads,
        )
        noise = float(np.median(dark.noise))
        return dark.data, [
            ("NFRAMES", dark.n_frames, "dark frames combined"),
            ("NOISE", noise, "median noise of a frame (ADU)"),
        ]

    masters = [
        _Master(
            stage="master_darks",
            key=f"dark_{mode}",
            path=ws.paths.master_dark(night, mode),
            files=files,
            combine=lambda cube, mode=mode: combine(cube, mode),
        )
        for mode, files in sorted(raw.darks.items())
    ]
    return _make_all("master_darks", ws, raw, masters, force=force)


def make_master_flats(ws: Workspace, night: str, *, force: bool = False) -> StageOutcome:
    """Make `flat_<filter>.fits` of every filter of the night; needs `dark_0.fits`.

    Raises
    ------
    CalibrationMissingError
        If the night has too few dark or flat files, or no dark of the flats' mode.
    """
    raw = read_night(ws.settings.raw_roots, night)
    if not needs_calibration(ws, raw):
        return _not_needed("master_flats")
    if lent := _lent("master_flats", ws, raw, "flat_"):
        return lent
    options = ws.settings.calibration
    dark, dark_header = read_master(ws.paths.master_dark(night, FLATS_MODE), "master_darks")

    def combine(cube: NDArray) -> tuple[NDArray, Cards]:
        flat = combine_flats(
            cube,
            dark,
            sigma=options.clip_sigma,
            passes=options.clip_passes,
            threads=ws.settings.threads,
        )
        return flat.data, [("NFRAMES", flat.n_frames, "flat frames combined")]

    masters = [
        _Master(
            stage="master_flats",
            key=f"flat_{name}",
            path=ws.paths.master_flat(night, name),
            files=files,
            inputs=(str(dark_header["FPRINT"]),),
            combine=combine,
        )
        for name, files in sorted(raw.flats.items())
    ]
    return _make_all("master_flats", ws, raw, masters, force=force)


def make_bad_pixel_mask(ws: Workspace, night: str, *, force: bool = False) -> StageOutcome:
    """Make `bad_pixels.fits` (1 = bad) from all full-frame masters of the night.

    Raises
    ------
    CalibrationMissingError
        If there are no masters.
    """
    raw = read_night(ws.settings.raw_roots, night)
    if not needs_calibration(ws, raw):
        return _not_needed("bad_pixel_mask")
    if lent := _lent("bad_pixel_mask", ws, raw, "bad_pixels"):
        return lent
    flats, darks = (
        _with_usable_files(ws, night, raw.flats),
        _with_usable_files(ws, night, raw.darks),
    )
    flat_paths = [ws.paths.master_flat(night, name) for name in flats]
    dark_paths = [ws.paths.master_dark(night, mode) for mode in darks]
    masters = {p: read_master(p, "master_darks and master_flats") for p in dark_paths + flat_paths}
    inputs = sorted(str(header["FPRINT"]) for _, header in masters.values())
    sigma = ws.settings.calibration.bad_pixel_sigma
    identity = fingerprint("bad_pixel_mask", inputs, sigma)
    path = ws.paths.bad_pixel_mask(night)
    record = _stored_masters(ws, night).get("bad_pixels")
    kept = "" if force else ws.kept(record, identity)
    if kept:
        return StageOutcome(stage="bad_pixel_mask", status="unchanged", fingerprint=kept)
    flat_images = [masters[p][0] for p in flat_paths]
    full = flat_images[0].shape
    dark_images = [masters[p][0] for p in dark_paths]
    mask = bad_pixel_mask([d for d in dark_images if d.shape == full], flat_images, sigma=sigma)
    for quarter in (d for d in dark_images if d.shape != full):
        # The smaller frames are the centre of the full one.
        centre = cut_centre(mask, quarter.shape)
        centre |= bad_pixel_mask([quarter], [], sigma=sigma)
    cards: Cards = [("NBAD", int(mask.sum()), "bad pixels")]
    cards += provenance_cards(
        stage="bad_pixel_mask",
        raw=(),
        calibration=dark_paths + flat_paths,
        settings_fingerprint=ws.settings.calibration.fingerprint(),
        fingerprint=identity,
    )
    write_image(path, mask.astype(np.uint8), cards)
    _publish_masters(ws, night, {"bad_pixels": product_record(ws.paths.root, identity, [path])})
    return StageOutcome(
        stage="bad_pixel_mask",
        status="done",
        fingerprint=identity,
        metadata={"bad_pixels": int(mask.sum()), "bad_fraction": float(mask.mean())},
    )


def _make_all(
    stage: str, ws: Workspace, raw: RawNight, masters: Sequence[_Master], *, force: bool
) -> StageOutcome:
    section, stored = _calib_section(ws, raw.night), _stored_masters(ws, raw.night)
    known = known_records(section.get("files", ()))
    seen: list[RawFileRecord] = []
    left_out: list[dict[str, Any]] = []
    made: dict[str, dict] = {}
    metadata: dict[str, str | int | float] = {}
    changed = False
    for master in masters:
        spoilt = {} if force else left_out_before(section, master.files)
        files = usable_files(master.files, known, spoilt)
        record = stored.get(master.key)
        if not force and ws.kept(record, _identity(ws, master, files.records)):
            made[master.key] = record
        elif files.paths:
            files, figures = _make_one(ws, master, files)
            if figures:
                identity = _identity(ws, master, files.records)
                made[master.key] = product_record(ws.paths.root, identity, [master.path])
                metadata |= figures
                changed = True
        seen += files.records
        left_out += files.left_out
    # Darks and flats keep their records in one list: those of the other family stay.
    own = {path.name for master in masters for path in master.files}
    groups = (*raw.darks.values(), *raw.flats.values())
    other = {path.name for files in groups for path in files} - own
    others = [entry for entry in section.get(LEFT_OUT) or () if entry["name"] in other]
    kept = {**known, **{r.name: r for r in seen}}
    _publish_masters(
        ws,
        raw.night,
        made,
        files=[asdict(r) for r in kept.values()],
        **{LEFT_OUT: [*others, *left_out]},
    )
    if left_out:
        # It may be that too few are left.
        _lent(stage, ws, raw, "")
        told = "; ".join(f"{entry['name']}: {entry['reason']}" for entry in left_out)
        metadata["left_out"] = told
    return StageOutcome(
        stage=stage,
        status="done" if changed else "unchanged",
        fingerprint=fingerprint(stage, sorted(m["fingerprint"] for m in made.values())),
        metadata={"masters": ", ".join(sorted(made)), **metadata},
    )


def _identity(ws: Workspace, master: _Master, records: Sequence[RawFileRecord]) -> str:
    return fingerprint(
        master.stage,
        [[r.name, r.sha256] for r in records],
        master.inputs,
        ws.settings.calibration.fingerprint(),
    )


def _make_one(
    ws: Workspace, master: _Master, files: CalibrationFiles
) -> tuple[CalibrationFiles, dict[str, str | int | float]]:
    """Make a master of the files that are not spoilt; return those and its figures, {} if none."""
    options = {"threads": ws.settings.threads, "most_bytes": ws.settings.most_raw_file_bytes}
    try:
        cube = read_frames(files.paths, known=files.records, **options)
    except RawDataError:
        usable = without_spoilt(ws, files)
        if not usable.paths:
            return usable, {}
        if usable.paths == files.paths:
            raise
        files = usable
        cube = read_frames(files.paths, known=files.records, **options)
    data, cards = master.combine(cube.frames)
    provenance = provenance_cards(
        stage=master.stage,
        raw=files.records,
        calibration=(),
        settings_fingerprint=ws.settings.calibration.fingerprint(),
        fingerprint=_identity(ws, master, files.records),
    )
    write_image(master.path, data, [*cards, *provenance])
    return files, {f"{master.key} {key.lower()}": value for key, value, _ in cards}


def _with_usable_files(
    ws: Workspace, night: str, groups: Mapping[str, Sequence[Path]]
) -> dict[str, Sequence[Path]]:
    """The modes or filters of which not every file is left out, in their order."""
    section = _calib_section(ws, night)
    return {
        key: files
        for key, files in sorted(groups.items())
        if len(left_out_before(section, files)) < len(files)
    }


def needs_calibration(ws: Workspace, raw: RawNight) -> bool:
    """False if every exposure of the night comes from a camera whose frames are calibrated."""
    exposures = (*raw.observations, *raw.seeing)
    profiles = (ws.settings.profile(e.name.camera, e.name.utc) for e in exposures)
    return not exposures or not all(p.frames_calibrated for p in profiles)


def _not_needed(stage: str) -> StageOutcome:
    return StageOutcome(
        stage=stage,
        status="skipped",
        reason="the frames of this night come calibrated: no masters are needed",
        fingerprint=fingerprint(stage, "not needed"),
    )


def _lent(stage: str, ws: Workspace, raw: RawNight, prefix: str) -> StageOutcome | None:
    """Return the end of a stage whose masters another night lent; None if it can make its own.

    Raises
    ------
    CalibrationMissingError
        It can neither make its own nor was it lent any.
    """
    options = ws.settings.calibration
    section = _calib_section(ws, raw.night)
    dark_files = [path for files in raw.darks.values() for path in files]
    flat_files = [path for files in raw.flats.values() for path in files]
    spoilt = left_out_before(section, [*dark_files, *flat_files])
    darks = sum(path.name not in spoilt for path in dark_files)
    flats = sum(path.name not in spoilt for path in flat_files)
    if darks >= options.min_dark_files and flats >= options.min_flat_files:
        return None
    source, masters = copied_masters(ws, raw.night)
    if source:
        own = sorted(r["fingerprint"] for n, r in masters.items() if n.startswith(prefix))
        return StageOutcome(
            stage=stage,
            status="unchanged",
            reason=f"Copied from {source}",
            fingerprint=fingerprint(stage, own),
        )
    lenders = find_lenders(ws, raw)
    lend = "no other night of the archive has masters yet"
    if lenders:
        nights = ", ".join(
            x.night + (f" (without {', '.join(x.missing)})" if x.missing else "")
            for x in lenders[:3]
        )
        lend = f"or copy the masters with `roboao calib copy {raw.night}`; these can lend: {nights}"
    raise CalibrationMissingError(
        f"night {raw.night} has {darks} dark and {flats} flat files in "
        f"{', '.join(str(f) for f in raw.folders)}; {options.min_dark_files} and "
        f"{options.min_flat_files} are needed{_spoilt_told(spoilt)}. The night waits: add the "
        f"missing files ({lend})"
    )


def _spoilt_told(spoilt: Mapping[str, Mapping[str, Any]]) -> str:
    told = [f"{name} is left out: {entry['reason']}" for name, entry in spoilt.items()]
    more = f", and {len(told) - 2} more" if len(told) > 2 else ""
    return f" ({'; '.join(told[:2])}{more})" if told else ""


def read_master(path: Path, made_by: str) -> tuple[NDArray[np.float32], fits.Header]:
    """Read a master frame.

    Raises
    ------
    CalibrationMissingError
        If it is not there.
    """
    if not path.is_file():
        folder = path.parent
        there = ", ".join(sorted(p.name for p in folder.glob("*.fits"))) or "nothing"
        raise CalibrationMissingError(
            f"the master frame {path.name} is not in {folder} (there is: {there}); materialise "
            f"{made_by} of that night, and look whether it has raw files of this mode and filter"
        )
    return read_image(path)


def frame_calibration(
    ws: Workspace,
    night: str,
    profile: InstrumentProfile,
    *,
    mode: str | None,
    filter_name: str,
    shape: tuple[int, int],
) -> tuple[FrameCalibration, list[Path], list[str]]:
    """Fit the night's masters to frames of a mode, filter and shape.

    Returns
    -------
    calibration : FrameCalibration
    paths : list of Path
        The masters used.
    fingerprints : list of str
        Theirs.

    Raises
    ------
    CalibrationMissingError
        If a master is missing or does not fit.
    """
    if profile.frames_calibrated:
        return FrameCalibration(), [], []
    if mode is None:
        raise CalibrationMissingError(
            "the header keyword MODE_NUM is missing or unknown, so that no master dark can be "
            "chosen; it must be the number of the camera mode, 6 to 10"
        )
    flat_path = ws.paths.master_flat(night, filter_name)
    flat, flat_header = read_master(flat_path, "master_flats")
    mode_key = mode if shape == flat.shape else f"{mode}4"
    dark_path = ws.paths.master_dark(night, mode_key)
    dark, dark_header = read_master(dark_path, "master_darks")
    mask_path = ws.paths.bad_pixel_mask(night)
    mask, mask_header = read_master(mask_path, "bad_pixel_mask")
    calibration = build_calibration(
        dark=dark,
        flat=flat,
        bad_pixels=mask > 0,
        shape=shape,
        corner_px=min(ws.settings.calibration.corner_px, min(shape) // 4),
    )
    headers = (dark_header, flat_header, mask_header)
    return calibration, [dark_path, flat_path, mask_path], [str(h["FPRINT"]) for h in headers]


def known_records(stored: Iterable[Mapping[str, Any]]) -> dict[str, RawFileRecord]:
    """Records of raw files as the catalogue keeps them, by file name."""
    return {item["name"]: RawFileRecord(**item) for item in stored}


def _calib_section(ws: Workspace, night: str) -> dict[str, Any]:
    return (ws.catalogue.night(night) or {}).get("calib") or {}


def _stored_masters(ws: Workspace, night: str) -> dict[str, dict[str, Any]]:
    return dict(_calib_section(ws, night).get("masters") or {})


def _publish_masters(
    ws: Workspace, night: str, made: dict[str, dict[str, Any]], **more: object
) -> None:
    own = {"copied_from": None, "comment": ""}
    ws.catalogue.publish_night(night, "calib", {"masters": made, **own, **more}, merge=("masters",))
