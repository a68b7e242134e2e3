"""Raw files that were there and are gone: it is told, and what was made of them is kept."""

from collections.abc import Iterable, Sequence

from roboao_assets.pipelines.freshness import fingerprint
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.redo import PRODUCT_OF_STAGE, RECORD_OF_STAGE
from roboao_assets.pipelines.workspace import Workspace
from roboao_assets.storage.catalogue import product
from roboao_assets.storage.catalogue.documents import status_path
from roboao_assets.storage.catalogue.values import at_path
from roboao_assets.storage.raw_night import RawExposure


def vanished_files(ws: Workspace, observation: str, exposures: Iterable[RawExposure]) -> list[str]:
    """Return the raw files from which an observation was reduced and which its night has not.

    One that was never read, as its file was spoilt, say, has vanished if it has no file at all.
    """
    there = {path.name for e in exposures if e.id == observation for path in e.files}
    names = [str(record.get("name")) for record in ws.catalogue.raw_records(observation)]
    if not names and not there:
        document = ws.catalogue.observation(observation) or {}
        names = [str(name) for name in (document.get("raw_data") or {}).get("data") or ()]
    return [name for name in names if name not in there]


def keep_products(
    ws: Workspace, observation: str, stages: Sequence[str], files: Sequence[str]
) -> list[StageOutcome]:
    """Return the ends of stages that are not gone through: what they made once is kept.

    A product that was never made has nothing to be made of: its failure is forgotten.
    """
    document = ws.catalogue.observation(observation) or {}
    shown = ", ".join(files[:3]) + (" ..." if len(files) > 3 else "")
    gone = f"the raw files {shown} are gone" if len(files) > 1 else f"the raw file {shown} is gone"
    outcomes = []
    for stage in stages:
        made = str(product(document, RECORD_OF_STAGE.get(stage, "")).get("fingerprint") or "")
        reason = f"{gone}: what was made of it is kept" if made else f"{gone}: nothing to make"
        of_stage = PRODUCT_OF_STAGE.get(stage, "")
        status = at_path(document, f"pipelined.{status_path(of_stage)}") or {}
        if of_stage and not made and status.get("retries"):
            ws.catalogue.record_skip(observation, of_stage, reason)
        outcomes.append(
            StageOutcome(
                stage=stage,
                status="unchanged" if made else "skipped",
                reason=reason,
                fingerprint=made or fingerprint(stage, "skipped", reason),
            )
        )
    return outcomes
