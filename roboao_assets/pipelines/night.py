"""The stages of a night, ready to be called from anywhere: settings and a night in, outcome out."""

from collections.abc import Callable
from datetime import UTC, datetime

from roboao_assets.pipelines import calibration, night_report, registering, seeing, summaries
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.redo import BY_ARCHIVE
from roboao_assets.pipelines.retrying import is_transient, next_attempt
from roboao_assets.pipelines.workspace import Workspace, open_workspace, run_stage
from roboao_assets.storage.catalogue import AskedStage
from roboao_assets.storage.files import remove_abandoned
from roboao_assets.storage.settings import Settings

_NightWork = Callable[..., StageOutcome]

# The section of the night's document that keeps a stage's failures.
_SECTIONS = {
    "raw_night": "raw",
    "master_darks": "calib",
    "master_flats": "calib",
    "bad_pixel_mask": "calib",
    "seeing": "seeing",
    "strehl_summary": "strehl",
    "contrast_summary": "contrast_curve",
    night_report.STAGE: night_report.SECTION,
}
# The first and the last stage of a night: what killed processes left half written is removed then.
_AT_THE_ENDS = ("raw_night", night_report.STAGE)


def register_night(settings: Settings, night: str, *, force: bool = False) -> StageOutcome:
    """Enter the night and its observations in the catalogue."""
    return _run("raw_night", registering.register_night, settings, night, force)


def make_master_darks(settings: Settings, night: str, *, force: bool = False) -> StageOutcome:
    """Make `dark_<mode>.fits` of every mode."""
    return _run("master_darks", calibration.make_master_darks, settings, night, force)


def make_master_flats(settings: Settings, night: str, *, force: bool = False) -> StageOutcome:
    """Make `flat_<filter>.fits` of every filter."""
    return _run("master_flats", calibration.make_master_flats, settings, night, force)


def make_bad_pixel_mask(settings: Settings, night: str, *, force: bool = False) -> StageOutcome:
    """Make the bad-pixel mask."""
    return _run("bad_pixel_mask", calibration.make_bad_pixel_mask, settings, night, force)


def measure_night_seeing(settings: Settings, night: str, *, force: bool = False) -> StageOutcome:
    """Measure the seeing in every AO-off exposure, tabulate and plot it."""
    return _run("seeing", seeing.measure_night_seeing, settings, night, force)


def summarise_strehl(settings: Settings, night: str, *, force: bool = False) -> StageOutcome:
    """Plot the night's Strehl ratios."""
    return _run("strehl_summary", summaries.summarise_strehl, settings, night, force)


def summarise_contrast(settings: Settings, night: str, *, force: bool = False) -> StageOutcome:
    """Plot the night's contrast curves."""
    return _run("contrast_summary", summaries.summarise_contrast, settings, night, force)


def report_night(settings: Settings, night: str, *, force: bool = False) -> StageOutcome:
    """Write the night's report page."""
    return _run(night_report.STAGE, night_report.report_night, settings, night, force)


def _run(stage: str, work: _NightWork, settings: Settings, night: str, force: bool) -> StageOutcome:
    def open_and_work() -> StageOutcome:
        with open_workspace(settings) as ws:
            asked = _asked(ws, stage, night)
            if stage in _AT_THE_ENDS:
                remove_abandoned(ws.paths.root, deep=False)
                remove_abandoned(ws.paths.night(night))
            outcome = run_stage(stage, lambda: work(ws, night, force=force))
            # A wish for the product anew is not met by a run that found it as it should be.
            if asked is not None and (force or not asked.force):
                ended = f"{outcome.status}: {outcome.reason}" if outcome.reason else outcome.status
                ws.catalogue.requests.finish(night, asked, ended)
            if not outcome.succeeded:
                _record(ws, stage, night, outcome)
        return outcome

    return run_stage(stage, open_and_work)


def _asked(ws: Workspace, stage: str, night: str) -> AskedStage | None:
    request = ws.catalogue.requests.of(night)
    return request.stages.get(stage) if request else None


def _record(ws: Workspace, stage: str, night: str, outcome: StageOutcome) -> None:
    failures = ws.catalogue.record_night_failure(night, _SECTIONS[stage], outcome.reason)
    if is_transient(outcome) and failures <= ws.settings.most_retries:
        ws.catalogue.requests.ask(
            night,
            night,
            [stage],
            by=BY_ARCHIVE,
            why=f"attempt {failures + 1} of {ws.settings.most_retries + 1}: {outcome.reason}",
            force=False,
            not_before=next_attempt(failures, datetime.now(UTC)),
        )
