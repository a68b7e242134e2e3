"""Instrument profiles: those that come with the package, and a site's own."""

import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from roboao_assets.science.errors import SettingsError
from roboao_assets.science.instrument import FilterProfile, InstrumentProfile
from roboao_assets.storage.mirror import place_of


def load_instruments(own: Path | None = None) -> dict[str, InstrumentProfile]:
    """Return the instrument profiles by name.

    Parameters
    ----------
    own : Path, optional
        A TOML file of the same form as the package's `instruments.toml`; a profile of the same name
        replaces the one that comes with the package.

    Raises
    ------
    SettingsError
        The file cannot be read, or a profile in it lacks something or has something unknown.
    """
    shipped = resources.files("roboao_assets.storage").joinpath("instruments.toml")
    profiles = _read(tomllib.loads(shipped.read_text(encoding="utf-8")), "the package")
    if own is None:
        return profiles
    try:
        tables = tomllib.loads(place_of(own).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(
            f"the instrument profiles in {own} (instruments_file) cannot be read: {error}"
        ) from error
    return profiles | _read(tables, str(own))


def _read(tables: Mapping[str, Any], where: str) -> dict[str, InstrumentProfile]:
    return {name: _profile(name, table, where) for name, table in tables.items()}


def _profile(name: str, given: Any, where: str) -> InstrumentProfile:
    try:
        table = dict(given)
        filters = {f["name"]: FilterProfile(**f) for f in table.pop("filters")}
        for key in ("valid_from", "valid_until"):
            if key in table:
                table[key] = _aware(table[key])
        return InstrumentProfile(name=name, filters=filters, **table)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise SettingsError(
            f"the instrument profile {name!r} of {where} cannot be used ({error}); a profile has "
            f"the keys of those in roboao_assets/storage/instruments.toml"
        ) from error


def _aware(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
