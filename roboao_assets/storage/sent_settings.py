"""Settings on their way to another machine: without what nobody on the way may read.

The catalogue's address travels without user and password; who receives it puts in its own
(`ROBOAO_CATALOGUE_URL` of a Dask worker), which must be of the same place.
"""

import json

from roboao_assets.science.errors import SettingsError
from roboao_assets.storage.credentials import HIDDEN, holds_credentials, without_credentials
from roboao_assets.storage.settings import Settings, load_settings


def settings_to_send(settings: Settings) -> str:
    """Return settings as JSON, with absolute paths and without a password or another secret."""
    settings = settings.with_absolute_paths()
    values = settings.model_dump(mode="json", exclude={"cookie_secret"})
    values["catalogue_url"] = without_credentials(settings.catalogue_url)
    return json.dumps(values)


def received_settings(text: str) -> Settings:
    """Return the settings that were sent, with this process' own credentials.

    Raises
    ------
    SettingsError
        They name a catalogue that needs credentials, and this process has none for it.
    """
    values = json.loads(text)
    url = values.get("catalogue_url", "")
    if HIDDEN in url:
        own = load_settings().catalogue_url
        if without_credentials(own) != url:
            raise SettingsError(missing_credentials(url, without_credentials(own)))
        values["catalogue_url"] = own
    return Settings.model_validate_json(json.dumps(values))


def catalogue_place() -> str:
    """Return this process' catalogue, without credentials; empty if it has no setting of one."""
    try:
        return without_credentials(load_settings().catalogue_url)
    except SettingsError:
        return ""


def missing_credentials(wanted: str, present: str) -> str:
    """Return the sentence that says which credentials a process lacks."""
    return (
        f"passwords are not sent with tasks, and here ROBOAO_CATALOGUE_URL is "
        f"{present or 'not set'}, not {wanted}; set it, with user and password, in the "
        f"environment of the Dask worker and start it again"
    )


def needs_credentials(settings: Settings) -> str:
    """Return the catalogue for which a receiver needs credentials; empty if it needs none."""
    url = settings.catalogue_url
    return without_credentials(url) if holds_credentials(url) else ""
