"""Files of the archive as they are handed out: asked for by ids and names, never by a path."""

from dataclasses import dataclass
from pathlib import Path

from roboao_assets.storage.packages import look_at_folder
from roboao_assets.storage.paths import ArchivePaths


@dataclass(frozen=True, kw_only=True)
class ServedFile:
    """A file that can be handed out.

    Attributes
    ----------
    name : str
        What it is asked for by: below its observation's folder, with `/`.
    path : Path
    size_bytes, mtime_ns : int
    """

    name: str
    path: Path
    size_bytes: int
    mtime_ns: int


def observation_files(paths: ArchivePaths, night: str, observation: str) -> dict[str, ServedFile]:
    """Return the regular files below an observation's folder by their names, its package last.

    A name that is asked for is looked up here and joined to nothing, and no link is followed:
    whatever it says, it leads to a file of this observation or to none.

    Parameters
    ----------
    paths : ArchivePaths
    night, observation : str
        As the catalogue has them.
    """
    if "/" in observation or "\0" in observation or observation.startswith("."):
        return {}
    folder, package = paths.observation(night, observation), paths.package(night, observation)
    served = {
        name: ServedFile(
            name=name,
            path=folder / name,
            size_bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
        )
        for name, status in look_at_folder(folder, package).files.items()
    }
    if package.is_file() and not package.is_symlink():
        status = package.stat()
        served[package.name] = ServedFile(
            name=package.name,
            path=package,
            size_bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
        )
    return served
