"""An archive of a thousand nights, as far as Dagster, the catalogue and the raw folders show it.

No frame is in it: the raw files are empty, and of the products there are the documents of the
catalogue and the events of the instance, each as the archive's own code writes it.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import sqlalchemy
from dagster import DagsterEventType
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationPlanned,
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.events import (
    AssetMaterializationPlannedData,
    DagsterEvent,
    StepMaterializationData,
)
from dagster._core.storage.event_log.schema import (
    SqlEventLogStorageMetadata,
    SqlEventLogStorageTable,
)
from dagster._core.storage.event_log.sqlite.sqlite_event_log import (
    INDEX_SHARD_NAME,
    SqliteEventLogStorage,
)

from benchmarks.catalogue import documents
from benchmarks.scale_repeat import NightModel, marked, repeat_night
from roboao_assets.assets.observation_products import STAGES, observation_specs
from roboao_assets.automation.jobs import CALIBRATION_ASSETS, REDUCTION_STEP, SUMMARY_ASSETS
from roboao_assets.automation.tags import night_tags, range_tags
from roboao_assets.orchestration.events import (
    materialization,
    outcome_metadata,
    strehl_flag_evaluation,
)
from roboao_assets.orchestration.home import prepare_dagster_home
from roboao_assets.orchestration.provenance import DATA_VERSION_TAG, ProvenanceTags
from roboao_assets.orchestration.reference_checks import ASSET, CHECK
from roboao_assets.orchestration.resources import CodeLocation, load_code_location
from roboao_assets.pipelines.freshness import CODE_VERSIONS, fingerprint
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.storage.catalogue import Catalogue, open_catalogue
from roboao_assets.storage.files import write_text_whole
from roboao_assets.storage.manifest import update_manifest
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.psf_library import PsfEntry, PsfLibrary
from roboao_assets.storage.raw_names import RAW_SUFFIX
from roboao_assets.storage.raw_scan import NightScan, scan_raw_nights
from roboao_assets.storage.settings import Settings

# Of each night beside its observations: darks, flats, seeing exposures.
CALIBRATION_FILES = (
    *(f"dark_{mode}_{number}" for mode in (0, 6) for number in range(5)),
    *(f"flat_{number}_{name}_0" for name in ("Si", "lp600") for number in range(5)),
)
# Long since settled.
_AGE_S = 40 * 86400.0
# Stages that come with a picture, and its size as an inline picture of the event log.
_PICTURED = ("bright_star_preview", "pca_residual", "psf_candidate")
_PICTURE_BYTES = 20_000
_CHECKS = (("strehl_ratio", "strehl_flag"), (ASSET, CHECK))


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the archive is."""

    nights: int
    per_night: int

    @property
    def observations(self) -> int:
        """Of all nights."""
        return self.nights * self.per_night

    @property
    def raw_files(self) -> int:
        """Of all nights."""
        return self.nights * (self.per_night + len(CALIBRATION_FILES))

    def __str__(self) -> str:
        return f"{self.nights} nights of {self.per_night} observations"


@dataclass(frozen=True, kw_only=True)
class ScaleArchive:
    """The archive: its folders, and what made it so large."""

    folder: Path
    size: Size

    @property
    def settings(self) -> Settings:
        """Settings that depend on no site."""
        return Settings(
            raw_roots=(self.folder / "raw",),
            archive_root=self.folder / "archive",
            dagster_port=1,
            workers=2,
            threads=1,
        )

    @property
    def home(self) -> Path:
        """The Dagster instance's folder."""
        return self.folder / "archive" / "dagster"

    def environment(self) -> dict[str, str]:
        """Variables of a process that serves this archive."""
        settings = self.settings
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ROBOAO_", "DAGSTER_"))}
        return kept | {
            "DAGSTER_HOME": str(self.home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "ROBOAO_RAW_ROOTS": str(settings.raw_roots[0]),
            "ROBOAO_ARCHIVE_ROOT": str(settings.archive_root),
        }


def make_archive(folder: Path, size: Size) -> ScaleArchive:
    """Return the archive in `folder`, which is made unless a run before has completed it."""
    archive = ScaleArchive(folder=folder, size=size)
    complete = folder / "complete"
    if complete.is_file() and complete.read_text() == str(size):
        return archive
    settings = archive.settings
    settings.archive_root.mkdir(parents=True)
    found = [d for d in documents(size.observations, size.per_night)]
    _touch_raw_files(settings.raw_roots[0], found)
    scans = scan_raw_nights(settings.raw_roots, settings.archiving_start_date, 1)
    paths = ArchivePaths(settings.archive_root.absolute())
    update_manifest(paths.manifest, {n: scan.observations for n, scan in scans.items()})
    with open_catalogue(settings.resolved_catalogue_url) as catalogue:
        # Nothing is lost with it: a run that is broken off makes it anew.
        catalogue._connected().execute("PRAGMA synchronous = OFF")
        _fill_catalogue(catalogue, found, scans)
    _fill_library(PsfLibrary(paths.psf_library))
    fill_instance(archive, load_code_location(settings))
    write_text_whole(complete, str(size))
    return archive


def night_of_document(document: dict[str, Any]) -> str:
    """UT date of an observation's document."""
    return f"{document['date_utc']:%Y%m%d}"


def _touch_raw_files(root: Path, found: list[dict[str, Any]]) -> None:
    then = datetime.now(UTC).timestamp() - _AGE_S

    def touch(path: Path) -> None:
        path.touch()
        os.utime(path, (then, then))

    for night in dict.fromkeys(map(night_of_document, found)):
        (root / night).mkdir(parents=True)
        for name in CALIBRATION_FILES:
            touch(root / night / f"{name}{RAW_SUFFIX}")
    for document in found:
        touch(root / night_of_document(document) / f"{document['_id']}{RAW_SUFFIX}")


def _fill_catalogue(
    catalogue: Catalogue, found: list[dict[str, Any]], scans: dict[str, NightScan]
) -> None:
    for document in found:
        catalogue.register_observation(document)
    for night, scan in scans.items():
        catalogue.publish_night(night, "raw", {"scan": scan.fingerprint, "fingerprint": "1-a"})
        catalogue.publish_night(night, "calib", {"masters": {}})
        catalogue.publish_night(night, "psf_lib", {})
        catalogue.publish_night(night, "report", {"fingerprint": "1-b"})


def _fill_library(library: PsfLibrary) -> None:
    rng = np.random.default_rng(2)
    for number in range(8):
        name = f"1_STAR{number}_VIC_Si_o_20151101_0{number // 10}{number % 10:02d}00.000000"
        frame = rng.normal(size=(201, 201)).astype(np.float32)
        library.add(
            PsfEntry(
                obs_name=name,
                obj_name=f"STAR{number}",
                frame=frame / np.abs(frame).max(),
                filter_name="Si",
                telescope="KPNO_2.1m",
                strehl_percent=10.0,
            ),
            by="benchmark",
        )


class BulkEventLog(SqliteEventLogStorage):
    """Dagster's own event log in SQLite, with one transaction for everything until `commit`.

    What is stored, and how, is Dagster's own code. Only the shards of the single runs, which
    the pages of a run read and no other, are not kept.
    """

    def __init__(self, base_dir: str) -> None:
        super().__init__(base_dir)
        self._index = sqlalchemy.create_engine(
            self.conn_string_for_shard(INDEX_SHARD_NAME)
        ).connect()
        self._run = sqlalchemy.create_engine("sqlite://").connect()
        SqlEventLogStorageMetadata.create_all(self._run.engine)
        self._run.commit()

    @contextmanager
    def _connect(self, shard: str) -> Iterator[sqlalchemy.engine.Connection]:
        yield self._index if shard == INDEX_SHARD_NAME else self._run

    def has_table(self, table_name: str) -> bool:
        """Whether there is a table: of an index made a moment ago, there are all."""
        return True

    def commit(self) -> None:
        """Write what was stored."""
        self._index.commit()
        self._run.rollback()

    def last_id(self) -> int:
        """Storage id of the last event."""
        newest = sqlalchemy.select(sqlalchemy.func.max(SqlEventLogStorageTable.c.id))
        return int(self._index.execute(newest).scalar() or 0)

    def close(self) -> None:
        """Write what was stored, and end."""
        self.commit()
        self._index.close()
        self._run.close()


class _Provenance(ProvenanceTags):
    """The archive's tags, with the inputs remembered instead of looked up in the event log."""

    def __init__(self, instance: dg.DagsterInstance, location: CodeLocation) -> None:
        super().__init__(instance, location.partitions, observation_specs(location))
        self.made: dict[tuple[dg.AssetKey, str | None], tuple[str, str]] = {}

    def _look_up(self, key: dg.AssetKey, partition: str | None) -> tuple[str, str]:
        return self.made.get((key, partition)) or super()._look_up(key, partition)


def fill_instance(archive: ScaleArchive, location: CodeLocation) -> None:
    """Record for every night the runs that made it, and what they made.

    The first night is written by Dagster's own code and ours; the others are its rows with their
    own names, run ids, data versions and event numbers: half an hour becomes two minutes.
    """
    os.environ["DAGSTER_HOME"] = str(archive.home)
    home = prepare_dagster_home(location.settings)
    nights = location.partitions.manifest.nights
    first, *others = nights
    with dg.DagsterInstance.from_config(str(home)) as instance:
        storage = BulkEventLog(instance.event_log_storage._base_dir)
        writer = _NightWriter(instance, storage, location)
        writer.write(first)
        storage.close()
    model = NightModel(first, nights[first], tuple(writer.run_ids))
    databases = (home / "history" / "runs" / "index.db", home / "history" / "runs.db")
    for path in databases:
        repeat_night(path, model, [(night, nights[night]) for night in others])


class _NightWriter:
    """What three runs of a night leave in the instance."""

    def __init__(
        self, instance: dg.DagsterInstance, storage: BulkEventLog, location: CodeLocation
    ) -> None:
        self._instance, self._storage, self._location = instance, storage, location
        self._provenance = _Provenance(instance, location)
        self.run_ids: list[str] = []
        # Noise cannot be compressed: a picture of exactly this size.
        self._picture = np.random.default_rng(3).bytes(_PICTURE_BYTES)

    def write(self, night: str) -> None:
        """Write a night in one transaction."""
        observations = self._location.partitions.manifest.nights[night]
        partition = {"dagster/partition": night}
        run = self._begin("calibrate_night", night, partition, CALIBRATION_ASSETS, [night])
        self._make_own(run, night, CALIBRATION_ASSETS)
        ends = range_tags(self._location, night) or {}
        run = self._begin("reduce_observations", night, ends, STAGES, observations)
        self._plan_checks(run, observations)
        for observation in observations:
            self._make_observation(run, observation)
        self._end(run)
        run = self._begin("summarise_night", night, partition, SUMMARY_ASSETS, [night])
        self._make_own(run, night, SUMMARY_ASSETS)
        self._storage.commit()
        self._provenance.made.clear()

    def _begin(
        self, job: str, night: str, tags: dict[str, str], assets: tuple[str, ...], partitions: Any
    ) -> dg.DagsterRun:
        run = dg.DagsterRun(
            job_name=job,
            run_id=str(uuid.uuid4()),
            status=dg.DagsterRunStatus.SUCCESS,
            tags={**tags, **night_tags(night)},
            asset_selection=frozenset(map(dg.AssetKey, assets)),
        )
        self._instance.run_storage.add_run(run)
        self.run_ids.append(run.run_id)
        for asset in assets:
            step = REDUCTION_STEP if job == "reduce_observations" else asset
            for key in partitions:
                planned = AssetMaterializationPlannedData(dg.AssetKey(asset), partition=key)
                self._store(
                    run,
                    DagsterEvent.build_asset_materialization_planned_event(job, step, planned),
                )
        return run

    def _plan_checks(self, run: dg.DagsterRun, observations: tuple[str, ...]) -> None:
        partitions = self._location.partitions.observations
        subset = partitions.empty_subset().with_partition_keys(observations)
        for asset, check in _CHECKS:
            planned = AssetCheckEvaluationPlanned(
                asset_key=dg.AssetKey(asset), check_name=check, partitions_subset=subset
            )
            self._store(
                run, self._event(run, DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED, planned)
            )

    def _evaluate(self, run: dg.DagsterRun, observation: str, outcome: StageOutcome) -> None:
        number = self._storage.last_id()
        target = AssetCheckEvaluationTargetMaterializationData(
            storage_id=number, run_id=run.run_id, timestamp=datetime.now(UTC).timestamp()
        )
        evaluation = (
            strehl_flag_evaluation(observation, outcome, target)
            if outcome.stage == "strehl_ratio"
            else dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey(ASSET),
                check_name=CHECK,
                passed=True,
                partition=observation,
                severity=dg.AssetCheckSeverity.WARN,
                target_materialization_data=target,
            )
        )
        self._store(run, self._event(run, DagsterEventType.ASSET_CHECK_EVALUATION, evaluation))

    @staticmethod
    def _event(
        run: dg.DagsterRun, kind: DagsterEventType, data: Any = None, step: str = REDUCTION_STEP
    ) -> DagsterEvent:
        return DagsterEvent(
            event_type_value=kind.value,
            event_specific_data=data,
            job_name=run.job_name,
            step_key=None if data is None else step,
        )

    def _make_own(self, run: dg.DagsterRun, night: str, assets: tuple[str, ...]) -> None:
        for asset in assets:
            outcome = StageOutcome(
                stage=asset,
                status="done",
                fingerprint=fingerprint(asset, night),
                metadata={"files": 10, "level": 1012.4},
                seconds=12.3,
            )
            made = dg.AssetMaterialization(
                asset,
                partition=night,
                metadata=outcome_metadata(outcome),
                tags={DATA_VERSION_TAG: outcome.fingerprint},
            )
            self._materialise(run, asset, made, outcome)
        self._end(run)

    def _make_observation(self, run: dg.DagsterRun, observation: str) -> None:
        for stage in STAGES:
            outcome = StageOutcome(
                stage=stage,
                status="done",
                fingerprint=f"{CODE_VERSIONS[stage]}-{uuid.uuid4().hex}{uuid.uuid4().hex}",
                metadata={"flag": "OK", "ratio_percent": 12.34, "fwhm_arcsec": 0.12, "frames": 700},
                preview_png=self._picture if stage in _PICTURED else None,
                seconds=3.21,
            )
            tags = self._provenance.tags(observation, outcome)
            made = materialization(observation, outcome, tags)
            self._materialise(run, REDUCTION_STEP, made, outcome)
            if stage in dict(_CHECKS):
                self._evaluate(run, observation, outcome)

    def _materialise(
        self, run: dg.DagsterRun, step: str, made: dg.AssetMaterialization, outcome: StageOutcome
    ) -> None:
        data = StepMaterializationData(made)
        number = self._store(
            run, self._event(run, DagsterEventType.ASSET_MATERIALIZATION, data, step)
        )
        place = (made.asset_key, made.partition)
        self._provenance.made[place] = (outcome.fingerprint, marked(number))

    def _end(self, run: dg.DagsterRun) -> None:
        self._store(run, self._event(run, DagsterEventType.RUN_SUCCESS))

    def _store(self, run: dg.DagsterRun, event: DagsterEvent) -> int:
        entry = dg.EventLogEntry(
            user_message="",
            level=20,
            job_name=run.job_name,
            run_id=run.run_id,
            error_info=None,
            timestamp=datetime.now(UTC).timestamp(),
            step_key=event.step_key,
            dagster_event=event,
        )
        self._storage.store_event(entry)
        return self._storage.last_id()
