"""Whether the archive may start something now: not in its nap, not with the disk nearly full."""

import shutil
from datetime import UTC, datetime

from roboao_assets.storage.nap import find_timezone, parse_nap
from roboao_assets.storage.settings import Settings


def why_not_now(settings: Settings, now: datetime | None = None) -> str:
    """Return a sentence that says why nothing is to be started now; empty if all is well.

    Parameters
    ----------
    settings : Settings
    now : datetime, optional
        Aware; by default the clock's.
    """
    return why_napping(settings, now) or why_disk_full(settings)


def why_napping(settings: Settings, now: datetime | None = None) -> str:
    """Return a sentence if the archive is in its nap at `now` (aware; by default the clock's)."""
    nap = parse_nap(settings.nap)
    if nap is None:
        return ""
    end = nap.end_of((now or datetime.now(UTC)).astimezone(find_timezone(settings.nap_timezone)))
    if end is None:
        return ""
    return (
        f"the archive naps ({settings.nap} {settings.nap_timezone}) and starts nothing until "
        f"{end:%Y-%m-%d %H:%M}; what runs goes on"
    )


def why_disk_full(settings: Settings) -> str:
    """Return a sentence if the archive's disk has less room than `least_free_gb`."""
    root = settings.archive_root.absolute()
    while not root.exists():
        root = root.parent
    free_gb = shutil.disk_usage(root).free / 1e9
    if free_gb >= settings.least_free_gb:
        return ""
    return (
        f"the disk of {settings.archive_root.absolute()} has {free_gb:.1f} GB left, less than "
        f"{settings.least_free_gb:g} GB (setting least_free_gb): nothing new is started until "
        f"there is room"
    )
