"""What the observations of a night cannot do without, made where nobody has made it."""

from collections.abc import Iterator

from roboao_assets.orchestration.night_stage import run_night_stage
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.workspace import open_workspace, run_stage
from roboao_assets.storage.settings import Settings


def prepare_night(settings: Settings, night: str) -> Iterator[StageOutcome]:
    """Register `night` and make its bad-pixel mask, if that was not done.

    On the command line masters and stacks are asked for by name; who did not name the
    small things between them means them too.

    Yields
    ------
    StageOutcome
        Of what was made.
    """
    registered = masked = False

    def look() -> StageOutcome:
        nonlocal registered, masked
        with open_workspace(settings) as ws:
            registered = bool((ws.catalogue.night(night) or {}).get("raw"))
        mask = ws.paths.bad_pixel_mask(night)
        # Without flats there is nothing to make it from, and the stack says so itself.
        masked = mask.exists() or not any(mask.parent.glob("flat_*.fits"))
        return StageOutcome(stage="raw_night", status="unchanged")

    looked = run_stage("raw_night", look)
    if not looked.succeeded:
        yield looked
        return
    if not registered:
        yield run_night_stage("raw_night", settings, night)
    if not masked:
        yield run_night_stage("bad_pixel_mask", settings, night)
