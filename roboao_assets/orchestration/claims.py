"""Claims of observations that nobody reduces any more, and what became of the observations."""

import logging
from collections.abc import Iterable, Mapping

import dagster as dg

from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.redo import PRODUCT_OF_STAGE
from roboao_assets.science.errors import ArchiveError
from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.settings import Settings

log = logging.getLogger(__name__)

_RUN = "run "
_ROOT_TAG = "dagster/root_run_id"


def owner_of(run: dg.DagsterRun) -> str:
    """In whose name a run claims observations: its own, or that of the run it goes on with."""
    return f"{_RUN}{run.root_run_id or run.run_id}"


def settle_abandoned(
    settings: Settings,
    owner: str,
    in_flight: Iterable[str],
    abandoned: Mapping[str, StageOutcome],
) -> None:
    """Give back what `owner` had claimed of observations whose worker died or was stopped.

    A claim that is not given back runs out by itself, after the time limit of a stage: until
    then nobody else can reduce it. So a catalogue that cannot be reached here is no failure.

    Parameters
    ----------
    settings : Settings
    owner : str
    in_flight : iterable of str
        Observations of which nothing came back.
    abandoned : mapping of str to StageOutcome
        Observations whose worker could not tell of their failure: it is recorded here.
    """
    names = [*in_flight, *abandoned]
    if not names:
        return
    from roboao_assets.pipelines.context import CLAIM

    try:
        with open_catalogue(settings.resolved_catalogue_url) as catalogue:
            for name, outcome in abandoned.items():
                product = PRODUCT_OF_STAGE.get(outcome.stage)
                if product is not None:
                    catalogue.record_failure(name, product, outcome.reason)
            for name in names:
                catalogue.release(name, CLAIM, owner)
    except ArchiveError as error:
        log.warning("the claims of %s were not given back: %s", ", ".join(names), error)


def _is_dead(instance: dg.DagsterInstance, root_run_id: str) -> bool:
    """Whether a run has ended and with it every run that went on with it."""
    root = instance.get_run_by_id(root_run_id)
    if root is not None and not root.is_finished:
        return False
    later = instance.get_runs(dg.RunsFilter(tags={_ROOT_TAG: root_run_id}))
    return all(run.is_finished for run in later)


def release_claims_of_dead_runs(
    instance: dg.DagsterInstance, settings: Settings, owner: str, observations: Iterable[str]
) -> list[str]:
    """Give back what runs had claimed that have ended, or that nobody knows.

    A run whose process was killed gave nothing back.

    Returns
    -------
    list of str
        The observations that are free again.
    """
    from roboao_assets.pipelines.context import CLAIM

    released = []
    with open_catalogue(settings.resolved_catalogue_url) as catalogue:
        for name in observations:
            holder = catalogue.claimant(name, CLAIM)
            if holder is None or holder == owner or not holder.startswith(_RUN):
                continue
            if _is_dead(instance, holder.removeprefix(_RUN)):
                catalogue.release(name, CLAIM, holder)
                released.append(name)
    return released
