"""The catalogue made again from the archive tree: documents from their copies, images from files.

Comments come from their copies. Users, requests and the log are not of the archive tree: they are
restored from a backup, or made anew.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from roboao_assets.pipelines.workspace import Workspace
from roboao_assets.science.errors import ArchiveError
from roboao_assets.storage.catalogue import Catalogue, ObservationQuery
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.psf_candidates import preview_key
from roboao_assets.storage.raw_night import is_night
from roboao_assets.storage.records import (
    list_comments,
    list_records,
    read_comments,
    read_record,
    write_comments,
    write_record,
)


@dataclass(frozen=True, kw_only=True)
class RebuiltNight:
    """What was entered of a night.

    Attributes
    ----------
    night : str
    entered, kept : int
        Documents that were missing; documents that the catalogue had, which stay as they are.
    images : int
    problems : tuple of str
    """

    night: str
    entered: int
    kept: int
    images: int
    problems: tuple[str, ...]


def rebuild_catalogue(
    ws: Workspace,
    nights: tuple[str, ...] | None = None,
    on_night: Callable[[RebuiltNight], None] | None = None,
) -> list[RebuiltNight]:
    """Enter in the catalogue what the archive tree has and the catalogue has not.

    Parameters
    ----------
    ws : Workspace
    nights : tuple of str or None
        None: all of the archive tree.
    on_night : callable, optional
        Told each night as it is done.

    Returns
    -------
    list of RebuiltNight
        Newest night first.
    """
    if nights is None:
        folders = (path.name for path in ws.paths.root.iterdir() if path.is_dir())
        nights = tuple(sorted(filter(is_night, folders), reverse=True))
    rebuilt = []
    for night in nights:
        rebuilt.append(_rebuild_night(ws, night))
        if on_night is not None:
            on_night(rebuilt[-1])
    return rebuilt


def _rebuild_night(ws: Workspace, night: str) -> RebuiltNight:
    entered = kept = 0
    problems = []
    own = ws.paths.night_record(night)
    for path in [*list_records(ws.paths, night), *([own] if own.exists() else [])]:
        try:
            document = read_record(path)
            new = ws.catalogue.restore(document, is_night=path == own)
        except ArchiveError as error:
            problems.append(str(error))
            continue
        entered, kept = entered + new, kept + (not new)
    for path in list_comments(ws.paths, night):
        try:
            for comment in read_comments(path):
                ws.catalogue.comments.restore(comment)
        except ArchiveError as error:
            problems.append(str(error))
    images = 0
    known = set(ws.catalogue.image_keys(night=night))
    for key, path, observation in _images(ws.paths, night):
        if key not in known:
            ws.catalogue.put_image(key, path.read_bytes(), night=night, observation=observation)
            images += 1
    return RebuiltNight(
        night=night, entered=entered, kept=kept, images=images, problems=tuple(problems)
    )


def _images(paths: ArchivePaths, night: str) -> Iterator[tuple[str, Path, str | None]]:
    """Yield the catalogue's key, the file and the observation of every preview of a night."""
    for path in sorted(
        path for kind in ("preview", "pca") for path in paths.night(night).glob(f"*/*/{kind}/*.png")
    ):
        observation, pipeline = path.parts[-4], path.parts[-3]
        name = path.stem.removeprefix(f"{observation}_")
        if name != path.stem:
            yield f"{observation}/{pipeline}/{name}", path, observation
    summary = paths.summary_plot(night, "any").parent
    for path in sorted(summary.glob(f"*.{night}.png")):
        yield f"{night}/{path.name.split('.')[0]}", path, None
    for path in sorted(paths.psf_candidate(night, "any", "png").parent.glob("*.png")):
        yield preview_key(night, path.stem), path, None
    of_seeing = {paths.seeing_plot(night): "seeing", paths.seeing_movie(night): "seeing_movie"}
    for path in sorted(paths.seeing_plot(night).parent.glob("*.png")):
        yield f"{night}/{of_seeing.get(path) or f'seeing/{path.stem}'}", path, None


def refresh_records(catalogue: Catalogue, paths: ArchivePaths, night: str) -> int:
    """Write the copies of a night's documents that are not as the catalogue has them.

    Returns
    -------
    int
        How many were written.
    """
    query = ObservationQuery(nights=(night,))
    written = 0
    for document in catalogue.find_observations(query):
        name = document["_id"]
        written += write_record(paths.observation_record(night, name), document)
        written += write_comments(catalogue, paths, night, name)
    document = catalogue.night(night)
    if document is not None:
        written += write_record(paths.night_record(night), document)
    return written
