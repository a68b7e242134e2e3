"""What the pages derive from what was collected: medians, contrast at 1", selections."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

import numpy as np

from dashboards.collect import Night, Observation, SeeingFrame
from dashboards.results import Curve, MedianCurve
from roboao_assets.science.contrast_quartiles import NightCurve, quartiles_by_filter
from roboao_assets.science.seeing import summarise_seeing

SUMMARY_SEPARATION_ARCSEC = 1.0
_NO_TIME = datetime.max.replace(tzinfo=UTC)

# What can be chosen on the night page -> which observations it means.
SELECTIONS = {
    "all": "all observations",
    "done": "done",
    "failed": "failed",
    "waiting": "waiting",
    "flagged": "flagged BAD?",
}
ORDERS = {
    "time": "time",
    "strehl": "Strehl ratio, best first",
    "contrast": "contrast, deepest first",
    "name": "name",
}


@dataclass(frozen=True, kw_only=True)
class NightNumbers:
    """The numbers at the head of a night's page; None where nothing was measured."""

    observations: int
    done: int
    failed: int
    waiting: int
    median_seeing_arcsec: float | None
    median_strehl_percent: float | None
    median_contrast_mag: float | None


def contrast_at(curve: Curve | None, separation_arcsec: float) -> float | None:
    """Interpolate a contrast curve (mag); None outside it."""
    if curve is None:
        return None
    separations = curve.separation_arcsec
    if not separations[0] <= separation_arcsec <= separations[-1]:
        return None
    return float(np.interp(separation_arcsec, separations, curve.contrast_mag))


def contrast_at_one_arcsec(observation: Observation) -> float | None:
    """Contrast at 1" (mag)."""
    return contrast_at(observation.curve, SUMMARY_SEPARATION_ARCSEC)


def summarise_night(night: Night) -> NightNumbers:
    """Count a night's observations and take the medians."""
    seeing = night.seeing_median_arcsec
    if seeing is None:
        seeing = _median(frame.fwhm_arcsec for frame in night.seeing)
    states = [observation.state for observation in night.observations]
    return NightNumbers(
        observations=len(states),
        done=states.count("done"),
        failed=states.count("failed"),
        waiting=states.count("waiting"),
        median_seeing_arcsec=seeing,
        median_strehl_percent=_median(o.strehl_percent for o in night.observations),
        median_contrast_mag=_median(contrast_at_one_arcsec(o) for o in night.observations),
    )


def contrast_medians(observations: Iterable[Observation]) -> dict[str, MedianCurve]:
    """Median and quartiles of observations' contrast curves by filter, as the night's summary has.

    At the separations that at least half of the curves reach; of one curve there is no median.
    """
    curves = [
        NightCurve(
            filter_name=observation.filter_name,
            separation_arcsec=observation.curve.separation_arcsec,
            contrast_mag=observation.curve.contrast_mag,
        )
        for observation in observations
        if observation.curve is not None
    ]
    return {
        name: MedianCurve(
            total=found.total,
            separation_arcsec=tuple(found.separation_arcsec.tolist()),
            lower_mag=tuple(found.lower_mag.tolist()),
            median_mag=tuple(found.median_mag.tolist()),
            upper_mag=tuple(found.upper_mag.tolist()),
        )
        for name, found in quartiles_by_filter(curves).items()
        if found.total > 1
    }


def seeing_trend(
    frames: Sequence[SeeingFrame], *, points: int = 60
) -> tuple[tuple[datetime, float], ...]:
    """Sample the robust polynomial through a night's seeing: (time, FWHM arcsec).

    Empty if there are not two times to draw a line between.
    """
    if len(frames) < 2 or frames[0].utc == frames[-1].utc:
        return ()
    summary = summarise_seeing([f.utc for f in frames], [f.fwhm_arcsec for f in frames])
    first, last = summary.times[0], summary.times[-1]
    times = [first + (last - first) * index / (points - 1) for index in range(points)]
    return tuple(zip(times, summary.evaluate(times).tolist(), strict=True))


def select_observations(
    observations: Iterable[Observation], *, text: str = "", which: str = "all", order: str = "time"
) -> list[Observation]:
    """Return the observations that hold `text` in id, name, program, filter or class.

    Parameters
    ----------
    observations : iterable of Observation
    text : str
        Words that must all occur, whatever the case.
    which : str
        A key of `SELECTIONS`; any other means `all`.
    order : str
        A key of `ORDERS`; any other means `time`. What has no value comes last.
    """
    words = text.casefold().split()
    chosen = [o for o in observations if _is_meant(o, which) and _holds(o, words)]
    keys = {
        "strehl": lambda o: -_or_none(o.strehl_percent),
        "contrast": lambda o: -_or_none(contrast_at_one_arcsec(o)),
        "name": lambda o: o.name.casefold(),
    }
    by_time = sorted(chosen, key=lambda o: (o.utc or _NO_TIME, o.id))
    return sorted(by_time, key=keys[order]) if order in keys else by_time


def select_cards(header: dict[str, tuple[str, str]], text: str) -> list[tuple[str, str, str]]:
    """Return the header cards that hold `text` in keyword, value or comment."""
    wanted = text.casefold().strip()
    return [
        (key, value, comment)
        for key, (value, comment) in header.items()
        if wanted in f"{key} {value} {comment}".casefold()
    ]


def _is_meant(observation: Observation, which: str) -> bool:
    if which == "flagged":
        return observation.strehl_flag not in ("", "OK")
    return which not in ("done", "failed", "waiting") or observation.state == which


def _holds(observation: Observation, words: Sequence[str]) -> bool:
    o = observation
    shown = f"{o.id} {o.name} {o.program} {o.filter_name} {o.classification}".casefold()
    return all(word in shown for word in words)


def _or_none(value: float | None) -> float:
    return -1e9 if value is None else value


def _median(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(median(present)) if present else None
