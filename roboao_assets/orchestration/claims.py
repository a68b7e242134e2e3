"""Claims of observations that nobody reduces any more."""

import logging
from collections.abc import Iterable

from roboao_assets.science.errors import ArchiveError
from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.settings import Settings

log = logging.getLogger(__name__)


def release_claims(settings: Settings, owner: str, observations: Iterable[str]) -> None:
    """Give back what `owner` had claimed of observations whose worker died or was stopped.

    A claim that is not given back runs out by itself, after the time limit of an
    observation: until then nobody else can reduce it. So a catalogue that cannot be
    reached here is no failure.
    """
    names = list(observations)
    if not names:
        return
    from roboao_assets.pipelines.observation import CLAIM

    try:
        with open_catalogue(settings.resolved_catalogue_url) as catalogue:
            for name in names:
                catalogue.release(name, CLAIM, owner)
    except ArchiveError as error:
        log.warning("the claims of %s were not given back: %s", ", ".join(names), error)
