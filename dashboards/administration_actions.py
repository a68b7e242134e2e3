"""What an administrator does on the pages: one door, behind which the visitor is asked again.

The actions are those of the command line, through the same functions: requests that the sensors
carry out, masters that are copied, users that are changed. Each enters itself in the log.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dashboards.access import ADMINISTRATION, Access, AccessError, Visitor, is_night
from dashboards.answers import FormError, FormHandler
from dashboards.markup import dashed
from roboao_assets.pipelines.calibration_copy import copy_calibration
from roboao_assets.pipelines.redo import ask_for_pca_of_night, ask_for_redo
from roboao_assets.pipelines.workspace import open_workspace
from roboao_assets.storage import user_changes
from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.settings import Settings

_MOST_CHARACTERS = 500
_WHY_NOT_SAID = "asked for on the pages"


@dataclass(frozen=True, kw_only=True)
class Administration:
    """Carries actions out.

    Attributes
    ----------
    settings : Settings
    access : Access
    """

    settings: Settings
    access: Access

    def perform(self, visitor: Visitor, fields: Mapping[str, str]) -> str:
        """Carry out the action that a form asks for; return a sentence that says so.

        Raises
        ------
        AccessError
            The visitor does not administrate the archive.
        ArchiveError
            It cannot be done; nothing was changed.
        """
        if not self.access.may(visitor, ADMINISTRATION):
            raise AccessError("There is no such page")
        action = _ACTIONS.get(fields.get("action", ""))
        if action is None:
            raise FormError(f"the form asks for no action that there is: {', '.join(_ACTIONS)}")
        return action(self.settings, fields, visitor.name)


class AdministrationHandler(FormHandler):
    """`/administration/action`, by POST only."""

    home = "/administration"


def _redo(settings: Settings, fields: Mapping[str, str], by: str) -> str:
    subject, product = _short(fields, "subject"), _short(fields, "product") or "bright_star"
    calibration = product == "calibration"
    with open_catalogue(settings.resolved_catalogue_url) as catalogue:
        plan = ask_for_redo(
            catalogue,
            subject,
            "bright_star" if calibration else product,
            calibration=calibration,
            by=by,
            why=_why(fields),
        )
    if calibration:
        return f"The masters and the seeing of {subject} will be made again."
    count = len(plan.observations)
    of = subject if count == 1 else f"{count} observations of {dashed(subject)}"
    return f"{product} of {of} will be made again, with all that is made from it."


def _pca(settings: Settings, fields: Mapping[str, str], by: str) -> str:
    night = _night(fields, "night")
    with open_catalogue(settings.resolved_catalogue_url) as catalogue:
        count = ask_for_pca_of_night(catalogue, night, by=by, why=_why(fields))
    noun = "observation" if count == 1 else "observations"
    return f"The PCA of {count} {noun} of {dashed(night)} will be made again."


def _copy_calibration(settings: Settings, fields: Mapping[str, str], by: str) -> str:
    night = _night(fields, "night")
    source = _night(fields, "source") if fields.get("source") else None
    with open_workspace(settings) as ws:
        lender = copy_calibration(ws, night, source, by=by)
    missing = f" Still missing: {', '.join(lender.missing)}." if lender.missing else ""
    return f"The masters of {dashed(night)} are copied from {dashed(lender.night)}.{missing}"


def _add_user(settings: Settings, fields: Mapping[str, str], by: str) -> str:
    name, programs = _short(fields, "name"), user_changes.read_programs(_short(fields, "programs"))
    password = _password(fields)
    with open_catalogue(settings.resolved_catalogue_url) as catalogue:
        user_changes.add_user(catalogue, name, password, programs, by=by)
    return f"User {name} sees {user_changes.spelled_programs(programs)}."


def _set_password(settings: Settings, fields: Mapping[str, str], by: str) -> str:
    name, password = _short(fields, "name"), _password(fields)
    with open_catalogue(settings.resolved_catalogue_url) as catalogue:
        user_changes.set_password(catalogue, name, password, by=by)
    return f"The password of {name} was set; open sessions have ended."


def _set_programs(settings: Settings, fields: Mapping[str, str], by: str) -> str:
    name, programs = _short(fields, "name"), user_changes.read_programs(_short(fields, "programs"))
    with open_catalogue(settings.resolved_catalogue_url) as catalogue:
        user_changes.set_programs(catalogue, name, programs, by=by)
    return f"User {name} sees {user_changes.spelled_programs(programs)}; open sessions have ended."


def _remove_user(settings: Settings, fields: Mapping[str, str], by: str) -> str:
    name = _short(fields, "name")
    with open_catalogue(settings.resolved_catalogue_url) as catalogue:
        user_changes.remove_user(catalogue, name, by=by)
    return f"User {name} was removed."


_ACTIONS: Mapping[str, Callable[[Settings, Mapping[str, str], str], str]] = {
    "redo": _redo,
    "pca": _pca,
    "copy-calibration": _copy_calibration,
    "add-user": _add_user,
    "set-password": _set_password,
    "set-programs": _set_programs,
    "remove-user": _remove_user,
}


def _short(fields: Mapping[str, str], name: str) -> str:
    """Return a field of a form without blanks at its ends."""
    text = fields.get(name, "").strip()
    if len(text) > _MOST_CHARACTERS or "\0" in text:
        raise FormError(
            f"the field {name!r} has at most {_MOST_CHARACTERS} characters that can be read; "
            f"this one has {len(text)}"
        )
    return text


def _why(fields: Mapping[str, str]) -> str:
    return _short(fields, "why") or _WHY_NOT_SAID


def _night(fields: Mapping[str, str], name: str) -> str:
    night = _short(fields, name).replace("-", "")
    if not is_night(night):
        raise FormError(f"a night is its UT date, YYYYMMDD; {night!r:.60} is none")
    return night


def _password(fields: Mapping[str, str]) -> str:
    # As it was typed: blanks at its ends are part of it.
    password, again = fields.get("password", ""), fields.get("again", "")
    if password != again:
        raise FormError("the two passwords are not the same; type both again")
    return password
