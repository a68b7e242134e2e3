"""The telemetry for Prometheus: names, help texts, and an endpoint of its own."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from roboao_assets.orchestration.telemetry import DagsterState, Telemetry, gather_telemetry
from roboao_assets.pipelines.telemetry import CatalogueState, DiskSpace, HostLoad
from roboao_assets.science.errors import SettingsError
from roboao_assets.storage.settings import Settings

# Several Prometheus servers, or one with a short interval, cost one look.
_KEPT_S = 10.0
_PARTS = ("disks", "raw_roots", "host", "catalogue", "dagster", "webserver", "nap", "space")


class ArchiveCollector(Collector):
    """Gathers the telemetry when it is scraped, at most every few seconds.

    What cannot be read is left out, and counted in `roboao_collection_errors_total`.

    Parameters
    ----------
    settings : Settings
    gather : callable, optional
        By default `gather_telemetry`.
    """

    def __init__(
        self, settings: Settings, gather: Callable[[Settings], Telemetry] = gather_telemetry
    ):
        self._settings, self._gather = settings, gather
        self._lock = threading.Lock()
        self._errors: Counter[str] = Counter(dict.fromkeys(_PARTS, 0))
        self._telemetry: Telemetry | None = None
        self._at_s = 0.0

    def describe(self) -> Iterable[Metric]:
        """Return nothing: registering must not look at the archive yet."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Return every metric that can be told now."""
        with self._lock:
            if self._telemetry is None or time.monotonic() - self._at_s > _KEPT_S:
                self._telemetry = self._gather(self._settings)
                self._errors.update(self._telemetry.problems.keys())
                self._at_s = time.monotonic()
            return [*metrics_of(self._telemetry), self._collection_errors()]

    def _collection_errors(self) -> Metric:
        errors = CounterMetricFamily(
            "roboao_collection_errors",
            "Times a part of the telemetry could not be read since this process began.",
            labels=["part"],
        )
        for part, count in self._errors.items():
            errors.add_metric([part], count)
        return errors


def metrics_of(telemetry: Telemetry) -> Iterator[Metric]:
    """Yield the metrics of one look at the archive."""
    if telemetry.dagster is not None:
        yield from _of_dagster(telemetry.dagster, telemetry.gathered_at.timestamp())
    if telemetry.catalogue is not None:
        yield from _of_catalogue(telemetry.catalogue)
    if telemetry.host is not None:
        yield from _of_host(telemetry.host)
    if telemetry.disks is not None:
        yield from _of_disks(telemetry.disks)
    if telemetry.missing_raw_roots is not None:
        yield _gauge(
            "roboao_raw_roots_missing",
            "Raw roots that are not there: disks that are not mounted.",
            len(telemetry.missing_raw_roots),
        )
    for name, text, reason in (
        ("roboao_napping", "1 in the nap, when nothing is started.", telemetry.napping),
        (
            "roboao_disk_full",
            "1 if the archive's disk has less room than least_free_gb.",
            telemetry.disk_full,
        ),
    ):
        if reason is not None:
            yield _gauge(name, text, bool(reason))
    if telemetry.webserver_alive is not None:
        yield _gauge(
            "roboao_dagster_webserver_up",
            "1 if Dagster's webserver answers.",
            telemetry.webserver_alive,
        )
    yield _labelled(
        "roboao_collection_duration_seconds",
        "How long the last look at each part of the telemetry took.",
        ("part",),
        {(part,): duration for part, duration in telemetry.duration_s.items()},
    )


def _of_dagster(state: DagsterState, now: float) -> Iterator[Metric]:
    yield _labelled(
        "roboao_runs_queued",
        "Runs that wait, by job.",
        ("job",),
        {(job,): count for job, count in state.queued.items()},
    )
    running = Counter(run.job for run in state.running)
    yield _labelled(
        "roboao_runs_running",
        "Runs under way, by job.",
        ("job",),
        {(job,): count for job, count in running.items()},
    )
    oldest = max((now - run.since.timestamp() for run in state.running), default=0.0)
    yield _gauge(
        "roboao_oldest_running_run_age_seconds",
        "Since when the longest run is under way; 0: none is.",
        max(oldest, 0.0),
    )
    yield _gauge(
        "roboao_dagster_daemon_up",
        "1 if every thread of Dagster's daemon was heard of within two minutes.",
        state.daemon_alive,
    )
    yield _labelled(
        "roboao_dagster_daemon_heartbeat_age_seconds",
        "Since when a thread of Dagster's daemon was not heard of.",
        ("daemon",),
        {(name,): age for name, age in state.heartbeat_age_s.items() if age is not None},
    )


def _of_catalogue(state: CatalogueState) -> Iterator[Metric]:
    yield _gauge("roboao_nights", "Nights known.", state.nights)
    yield _gauge("roboao_observations", "Observations in the catalogue.", state.observations)
    yield _gauge(
        "roboao_observations_reduced",
        "Observations with a bright-star or extended-object stack.",
        state.reduced,
    )
    yield _labelled(
        "roboao_observations_failed",
        "Observations of which the last attempt at a pipeline's stack failed.",
        ("pipeline",),
        {(name,): count for name, count in state.failed.items()},
    )
    yield _gauge(
        "roboao_requests_waiting",
        "Observations and nights of which something is asked to be made.",
        state.requests_waiting,
    )
    yield _gauge(
        "roboao_nights_unprocessed", "Nights with raw data and no report.", len(state.unprocessed)
    )
    if state.unprocessed:
        yield _gauge(
            "roboao_oldest_unprocessed_night_timestamp_seconds",
            "Beginning (0 h UT) of the oldest night with raw data and no report.",
            _beginning(state.unprocessed[0]),
        )
    age = state.product_age
    if age is not None:
        yield _gauge(
            "roboao_product_age_median_seconds",
            "From shutter close to the bright-star stack, newest night with one: median.",
            age.median_s,
        )
        yield _gauge(
            "roboao_product_age_max_seconds",
            "From shutter close to the bright-star stack, newest night with one: longest.",
            age.maximum_s,
        )
        yield _gauge(
            "roboao_newest_night_timestamp_seconds",
            "Beginning (0 h UT) of the newest night with a bright-star stack.",
            _beginning(age.night),
        )


def _of_host(load: HostLoad) -> Iterator[Metric]:
    yield _gauge("roboao_cpu_usage_ratio", "Of all cores, 0 to 1.", load.cpu_ratio)
    yield _gauge("roboao_load_average", "Processes that want to run, 1 min.", load.load_average)
    yield _gauge(
        "roboao_memory_available_bytes",
        "Memory that processes can have.",
        load.memory_available_bytes,
    )
    yield _gauge("roboao_memory_total_bytes", "Memory of the machine.", load.memory_total_bytes)


def _of_disks(disks: Iterable[DiskSpace]) -> Iterator[Metric]:
    places = {(disk.purpose, disk.path): disk for disk in disks}
    labels = ("purpose", "path")
    yield _labelled(
        "roboao_disk_free_bytes",
        "Room on the disk of the archive and of each raw root.",
        labels,
        {place: disk.free_bytes for place, disk in places.items()},
    )
    yield _labelled(
        "roboao_disk_total_bytes",
        "Size of the disk of the archive and of each raw root.",
        labels,
        {place: disk.total_bytes for place, disk in places.items()},
    )


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _labelled(
    name: str, text: str, labels: tuple[str, ...], values: dict[tuple[str, ...], float]
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for label_values, value in values.items():
        family.add_metric(label_values, value)
    return family


def _beginning(night: str) -> float:
    return datetime.strptime(night, "%Y%m%d").replace(tzinfo=UTC).timestamp()


def archive_registry(settings: Settings) -> CollectorRegistry:
    """Return a registry of the archive's metrics alone."""
    registry = CollectorRegistry()
    registry.register(ArchiveCollector(settings))
    return registry


def metrics_text(settings: Settings) -> str:
    """Return the metrics as Prometheus reads them."""
    return generate_latest(archive_registry(settings)).decode()


@contextmanager
def serving_metrics(settings: Settings) -> Iterator[None]:
    """Serve the metrics at `/metrics` on 127.0.0.1, in a thread, for as long as the block lasts.

    Raises
    ------
    SettingsError
        If the port is taken.
    """
    if not settings.metrics_port:
        yield
        return
    try:
        server, thread = start_http_server(
            settings.metrics_port, addr="127.0.0.1", registry=archive_registry(settings)
        )
    except OSError as error:
        raise SettingsError(
            f"the metrics cannot be served on 127.0.0.1:{settings.metrics_port}: {error}; end what "
            f"uses that port, or set ROBOAO_METRICS_PORT (0: no metrics)"
        ) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def serve_metrics_until_interrupted(settings: Settings) -> None:
    """Serve the metrics alone, for a deployment that starts Dagster's services by itself.

    Raises
    ------
    SettingsError
        If the port is taken, or is 0.
    """
    if not settings.metrics_port:
        raise SettingsError("metrics_port is 0: no metrics are served; set ROBOAO_METRICS_PORT")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with serving_metrics(settings):
        stop.wait()
