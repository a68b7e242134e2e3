"""`roboao serve`: the Dagster UI, its daemon, the dashboard and the metrics, as one."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from rich.console import Console

from roboao_assets.orchestration.dead_runs import end_dead_runs
from roboao_assets.orchestration.home import open_instance, prepare_dagster_home
from roboao_assets.orchestration.metrics import serving_metrics
from roboao_assets.orchestration.sensor_ticks import ClockWatch
from roboao_assets.storage.settings import Settings

_STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class _Service:
    name: str
    process: subprocess.Popen[bytes]


def serve_until_interrupted(settings: Settings, console: Console, dashboard_only: bool) -> int:
    """Run the services until SIGINT or SIGTERM, or until one of them ends by itself.

    Returns
    -------
    int
        Exit status: 0 after an interrupt, 1 if a service ended.
    """
    stop = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.append(True))
    services: list[_Service] = []
    with ExitStack() as stack:
        # Ended in the end, whatever ends this.
        stack.callback(_stop_all, services)
        if not dashboard_only:
            _end_dead_runs(settings, console)
            stack.enter_context(serving_metrics(settings))
            services.append(_start_dagster(settings))
            console.print(f"Dagster UI  http://127.0.0.1:{settings.dagster_port}")
            if settings.metrics_port:
                console.print(f"metrics     http://127.0.0.1:{settings.metrics_port}/metrics")
        services.append(_start_dashboard(settings))
        console.print(f"dashboard   http://{settings.dashboard_address}:{settings.dashboard_port}")
        console.print("Ctrl-C stops all of it.")
        clock = ClockWatch()
        while not stop:
            if clock.was_set() and not dashboard_only:
                _restart_dagster(settings, console, services)
            for service in services:
                if service.process.poll() is not None:
                    console.print(
                        f"{service.name} ended with status {service.process.returncode}; "
                        f"its last words are above"
                    )
                    return 1
            time.sleep(0.2)
        return 0


def _restart_dagster(settings: Settings, console: Console, services: list[_Service]) -> None:
    """Stop Dagster and start it again: what it does every few seconds goes by the time of day.

    Its daemon rests until a clock that was set back is where it was, and ends itself when one is
    set forth. Runs go on, or are begun again.
    """
    console.print("the clock was set: Dagster is started again")
    _stop_all([services.pop(0)])
    _end_dead_runs(settings, console)
    services.insert(0, _start_dagster(settings))


def _end_dead_runs(settings: Settings, console: Console) -> None:
    # Before the daemon starts: its sensors would take the nights of such runs for under way.
    with open_instance(settings) as instance:
        ended = end_dead_runs(instance)
    if ended:
        console.print(f"{len(ended)} runs that died unheard were ended")


def _start_dagster(settings: Settings) -> _Service:
    home = prepare_dagster_home(settings)
    command = [
        *(sys.executable, "-m", "dagster", "dev", "-m", "roboao_assets.definitions"),
        *("-h", "127.0.0.1", "-p", str(settings.dagster_port)),
    ]
    environment = os.environ | {"DAGSTER_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "1"}
    return _Service("dagster dev", _spawn(command, environment))


def _start_dashboard(settings: Settings) -> _Service:
    command = [sys.executable, "-m", "dashboards.app", "--port", str(settings.dashboard_port)]
    return _Service("the dashboard", _spawn(command, dict(os.environ)))


def _spawn(command: list[str], environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    # Groups of their own: the terminal's Ctrl-C reaches us alone, and we end them in order.
    return subprocess.Popen(command, env=environment, start_new_session=True)


def _stop_all(services: list[_Service]) -> None:
    for service in services:
        # dagster dev started in the background ignores SIGTERM; it obeys SIGINT.
        _signal(service, signal.SIGINT)
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    for service in services:
        try:
            service.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _signal(service, signal.SIGKILL)
            service.process.wait()


def _signal(service: _Service, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(service.process.pid, number)
