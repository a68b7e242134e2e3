"""Credentials: how what holds them is shown without them, and in which files they may stand."""

import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from roboao_assets.science.errors import SettingsError

HIDDEN = "***"
# Settings whose value is never shown, not even where it is wrong: a password may be all of it.
SECRET_SETTINGS = ("catalogue_url", "cookie_secret")

_USER = re.compile(r"//.*@", re.DOTALL)
# Of MongoDB's options: the key file's password, session tokens of authMechanismProperties.
_OPTION = re.compile(r"([?&;][^=&;]*(?:password|secret|token|properties)[^=&;]*=)[^&;]*", re.I)


def without_credentials(text: str) -> str:
    """Return an address, or a text with one in it, without user, password and secret options.

    Rather too much is hidden than too little: in an address that cannot be used, a password may
    hold what separates the parts of one.
    """
    return _OPTION.sub(rf"\1{HIDDEN}", _USER.sub(f"//{HIDDEN}@", text))


def holds_credentials(url: str) -> bool:
    """Return whether there is something in an address that must not be shown."""
    return without_credentials(url) != url


def check_private(path: Path, what: str) -> None:
    """Refuse a file with a secret that others than its owner may read.

    Parameters
    ----------
    path : Path
    what : str
        What it does with the secret, for the sentence: "signs the sessions".

    Raises
    ------
    SettingsError
        Its group or the world has a right to it.
    OSError
        It cannot be looked at.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise SettingsError(
            f"{path} {what} and has mode {mode:04o}; it must be its owner's alone (0600): "
            f"`chmod 600 {path}`, and change the secret if somebody else may have read it"
        )


def check_settings_file(path: Path) -> None:
    """Refuse a settings file that holds a secret and that others than its owner may read.

    One that is not there, or is no TOML, holds none: whoever reads it says what is wrong with it.

    Raises
    ------
    SettingsError
        It does, and they may.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    held = [name for name in SECRET_SETTINGS if holds_secret(name, values.get(name))]
    if held:
        check_private(path, f"holds a secret ({', '.join(held)})")


def holds_secret(name: str, value: object) -> bool:
    """Return whether the value of one of `SECRET_SETTINGS` is a secret, or has one in it."""
    if not value:
        return False
    return name != "catalogue_url" or holds_credentials(str(value))


def what_is_wrong(problem: Mapping[str, Any]) -> str:
    """Return what pydantic says of a setting, with what was given unless that may be a secret.

    Parameters
    ----------
    problem : mapping
        Of `ValidationError.errors`.
    """
    place = [str(part) for part in problem["loc"]]
    # Of a setting that there is not only the name is wrong.
    hidden = problem["type"] == "extra_forbidden" or bool({*place} & {*SECRET_SETTINGS})
    given = "" if hidden else f" (got {without_credentials(repr(problem['input']))})"
    return f"{'.'.join(place)}: {problem['msg']}{given}"
