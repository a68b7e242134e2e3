"""The state of the archive: for a person (`roboao status`), as JSON, and for Prometheus."""

import dataclasses
import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from roboao_assets.commands.terminal import console, counted, print_plain
from roboao_assets.storage.settings import load_settings

if TYPE_CHECKING:
    from roboao_assets.orchestration.telemetry import Telemetry

app = typer.Typer()

_SHOWN_RUNS, _SHOWN_NIGHTS = 6, 3


@app.command()
def metrics(
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve them on metrics_port until interrupted.")
    ] = False,
) -> None:
    """Print the telemetry as Prometheus reads it; `roboao serve` serves it at /metrics."""
    from roboao_assets.orchestration.metrics import metrics_text, serve_metrics_until_interrupted

    settings = load_settings()
    if serve:
        serve_metrics_until_interrupted(settings)
        return
    print_plain(metrics_text(settings))


def as_json(telemetry: "Telemetry") -> str:
    """Return the telemetry as JSON, with what `roboao status` says of it; times as ISO 8601."""
    told = {"lines": _lines(telemetry), "warnings": _warnings(telemetry)}
    return json.dumps(dataclasses.asdict(telemetry) | told, default=_plain, indent=1)


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in JSON")


def print_telemetry(telemetry: "Telemetry") -> None:
    """Print the telemetry in a few lines."""
    for name, text in _lines(telemetry):
        console.print(f"[bold]{name:<14}[/]{escape(text)}", soft_wrap=True)
    for sentence in _warnings(telemetry):
        console.print(sentence, style="yellow", markup=False, soft_wrap=True)


def _warnings(telemetry: "Telemetry") -> list[str]:
    return [
        *(reason for reason in (telemetry.napping, telemetry.disk_full) if reason),
        *(f"the raw root {root} is not there" for root in telemetry.missing_raw_roots or ()),
        *(f"{part}: {problem}" for part, problem in telemetry.problems.items()),
    ]


def _lines(telemetry: "Telemetry") -> list[tuple[str, str]]:
    lines = [("services", _services(telemetry))]
    if telemetry.dagster is not None:
        queued = telemetry.dagster.queued
        by_job = ", ".join(f"{count} {job}" for job, count in sorted(queued.items()))
        waiting = counted(sum(queued.values()), "run")
        lines.append(("queued", waiting + (f": {by_job}" if by_job else "")))
        lines.append(("running", _running(telemetry)))
    lines += _catalogue_lines(telemetry)
    if telemetry.host is not None:
        host = telemetry.host
        available, total = host.memory_available_bytes / 1e9, host.memory_total_bytes / 1e9
        lines.append(
            (
                "machine",
                f"CPU {host.cpu_ratio:.0%} of {host.cores} cores, load {host.load_average:.1f}, "
                f"memory {available:.1f} of {total:.1f} GB available",
            )
        )
    for disk in telemetry.disks or ():
        free, total = disk.free_bytes / 1e9, disk.total_bytes / 1e9
        lines.append((f"{disk.purpose} disk", f"{free:.0f} of {total:.0f} GB free  {disk.path}"))
    return lines


def _services(telemetry: "Telemetry") -> str:
    webserver = {True: "answers", False: "does not answer", None: "unknown"}
    if telemetry.dagster is None:
        daemon = "unknown" if "dagster" in telemetry.problems else "never ran here"
    else:
        daemon = "alive" if telemetry.dagster.daemon_alive else _silent(telemetry)
    return f"Dagster's daemon {daemon}; its webserver {webserver[telemetry.webserver_alive]}"


def _silent(telemetry: "Telemetry") -> str:
    assert telemetry.dagster is not None
    ages = telemetry.dagster.heartbeat_age_s.values()
    heard = [age for age in ages if age is not None]
    return f"silent for {duration(max(heard))}" if heard else "never ran here"


def _running(telemetry: "Telemetry") -> str:
    assert telemetry.dagster is not None
    runs = telemetry.dagster.running
    shown = [
        f"{run.job} {run.night} for "
        f"{duration((telemetry.gathered_at - run.since).total_seconds())}".replace("  ", " ")
        for run in runs[:_SHOWN_RUNS]
    ]
    more = f" and {len(runs) - _SHOWN_RUNS} more" if len(runs) > _SHOWN_RUNS else ""
    return counted(len(runs), "run") + (f": {', '.join(shown)}{more}" if shown else "")


def _catalogue_lines(telemetry: "Telemetry") -> list[tuple[str, str]]:
    state = telemetry.catalogue
    if state is None:
        return []
    failed = ", ".join(f"{count} {name}" for name, count in state.failed.items() if count)
    lines = [
        (
            "archive",
            f"{counted(state.nights, 'night')}, {counted(state.observations, 'observation')}, "
            f"{state.reduced} reduced; failed: {failed or 'none'}; "
            f"{counted(state.requests_waiting, 'request')} waiting",
        )
    ]
    if state.unprocessed:
        nights = ", ".join(state.unprocessed[:_SHOWN_NIGHTS])
        more = ", ..." if len(state.unprocessed) > _SHOWN_NIGHTS else ""
        to_do = counted(len(state.unprocessed), "night")
        lines.append(("to do", f"{to_do} with raw data, oldest {nights}{more}"))
    age = state.product_age
    if age is not None:
        lines.append(
            (
                "last night",
                f"{age.night}: from shutter to stack {duration(age.median_s)} (median), "
                f"{duration(age.maximum_s)} (longest) of {age.observations}",
            )
        )
    return lines


def duration(seconds: float) -> str:
    """Return a time span as a person says it."""
    # Two clocks, or a look that took a moment: what has only just begun began no later than now.
    seconds = max(seconds, 0.0)
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
