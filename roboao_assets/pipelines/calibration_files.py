"""Raw darks and flats of a night that can be used; spoilt ones are left out, and told of.

One dark that arrived in pieces must not keep a night from being calibrated by the others. What was
found to be spoilt is kept in the night's document (`calib.left_out`), so that it is not read again
until it is another file.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from roboao_assets.pipelines.workspace import Workspace
from roboao_assets.science.errors import RawDataError
from roboao_assets.storage.raw_frames import RawFileRecord, file_record, read_frames

LEFT_OUT = "left_out"


@dataclass(frozen=True, kw_only=True)
class CalibrationFiles:
    """Files of one kind (mode or filter): those that can be used, and the others.

    Attributes
    ----------
    paths : tuple of Path
    records : tuple of RawFileRecord
        Of `paths`.
    left_out : tuple of dict
        As the night's document keeps them: the file's record and the `reason`. One that could not
        even be read has no `sha256`.
    """

    paths: tuple[Path, ...]
    records: tuple[RawFileRecord, ...]
    left_out: tuple[dict[str, Any], ...]


def left_out_before(section: Mapping[str, Any], files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Return what is known to be spoilt of `files` and is as it was then, by name.

    Parameters
    ----------
    section : mapping
        `calib` of the night's document.
    files : iterable of Path
    """
    known = {str(entry["name"]): entry for entry in section.get(LEFT_OUT) or ()}
    return {p.name: known[p.name] for p in files if p.name in known and _is(p, known[p.name])}


def _is(path: Path, entry: Mapping[str, Any]) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    # What could not be read may have become readable without a change of size or time.
    identity = (entry.get("size_bytes"), entry.get("mtime_ns"))
    return bool(entry.get("sha256")) and identity == (status.st_size, status.st_mtime_ns)


def usable_files(
    files: Sequence[Path],
    known: Mapping[str, RawFileRecord],
    spoilt: Mapping[str, dict[str, Any]],
) -> CalibrationFiles:
    """Return the files without those that are known to be spoilt or cannot be read.

    Parameters
    ----------
    files : sequence of Path
    known : mapping of str to RawFileRecord
        Earlier records, by name.
    spoilt : mapping of str to dict
        See `left_out_before`.
    """
    good: list[tuple[Path, RawFileRecord]] = []
    left_out = []
    for path in files:
        if path.name in spoilt:
            left_out.append(spoilt[path.name])
            continue
        try:
            good.append((path, file_record(path, known.get(path.name))))
        except RawDataError as error:
            left_out.append({"name": path.name, "reason": str(error)})
    return CalibrationFiles(
        paths=tuple(path for path, _ in good),
        records=tuple(record for _, record in good),
        left_out=tuple(left_out),
    )


def without_spoilt(ws: Workspace, files: CalibrationFiles) -> CalibrationFiles:
    """Look at each file alone and return those that are whole and of one shape and type.

    The shape and type are those of most of them.
    """
    kinds: dict[Path, str] = {}
    reasons: dict[Path, str] = {}
    for path, record in zip(files.paths, files.records, strict=True):
        try:
            frames = read_frames(
                [path],
                threads=ws.settings.threads,
                known=[record],
                most_bytes=ws.settings.most_raw_file_bytes,
            ).frames
            kinds[path] = f"{frames.shape[2]} x {frames.shape[1]} px {frames.dtype}"
        except RawDataError as error:
            reasons[path] = str(error)
    usual = Counter(kinds.values()).most_common(1)[0][0] if kinds else ""
    for path, kind in kinds.items():
        if kind != usual:
            reasons[path] = (
                f"{str(path)!r} has frames of {kind}, and most files of its kind of {usual}: copy "
                f"it again, or rename it if it is of another mode"
            )
    pairs = list(zip(files.paths, files.records, strict=True))
    return CalibrationFiles(
        paths=tuple(path for path, _ in pairs if path not in reasons),
        records=tuple(record for path, record in pairs if path not in reasons),
        left_out=(
            *files.left_out,
            *(asdict(r) | {"reason": reasons[path]} for path, r in pairs if path in reasons),
        ),
    )
