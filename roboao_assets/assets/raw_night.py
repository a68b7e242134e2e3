"""The raw night: what was observed, registered in the catalogue."""

import warnings
from collections.abc import Sequence

import dagster as dg

from roboao_assets.orchestration.markdown import markdown_code, markdown_text
from roboao_assets.orchestration.night_stage import build_night_asset
from roboao_assets.orchestration.resources import CodeLocation
from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.raw_night import read_night

GROUP = "raw"


def build_raw_night(location: CodeLocation) -> list[dg.AssetsDefinition]:
    """Return the asset `raw_night`."""
    return [
        build_night_asset(
            location,
            "raw_night",
            group=GROUP,
            kinds={"fits", "bzip2"},
            description=(
                "The raw files of a UT night by family, and its observations registered in the "
                "catalogue with what their names and headers say."
            ),
        )
    ]


def build_raw_checks(location: CodeLocation) -> list[dg.AssetChecksDefinition]:
    """Return the checks of `raw_night`."""
    with warnings.catch_warnings():
        # Checks with partitions are in preview; without them a night's check would
        # overwrite that of the night before.
        warnings.simplefilter("ignore", dg.PreviewWarning)

        @dg.asset_check(
            asset="raw_night",
            name="every_raw_file_is_understood",
            partitions_def=location.partitions.nights,
            description="No raw file has a name that says nothing of what it is.",
        )
        def every_raw_file_is_understood(
            context: dg.AssetCheckExecutionContext,
        ) -> dg.AssetCheckResult:
            raw = read_night(location.settings.raw_roots, context.partition_key)
            reasons = [
                f"- {markdown_code(path.name)}: {markdown_text(reason)}"
                for path, reason in raw.unreadable
            ]
            return dg.AssetCheckResult(
                passed=not reasons,
                severity=dg.AssetCheckSeverity.WARN,
                description=f"{len(reasons)} files are not understood" if reasons else None,
                metadata={
                    "observations": len(raw.observations),
                    "not_understood": dg.MetadataValue.md("\n".join(reasons) or "none"),
                },
            )

        @dg.asset_check(
            asset="raw_night",
            name="every_raw_file_is_there",
            partitions_def=location.partitions.nights,
            description="No raw file that the night once had has vanished. What was made of one "
            "that has is kept.",
        )
        def every_raw_file_is_there(
            context: dg.AssetCheckExecutionContext,
        ) -> dg.AssetCheckResult:
            with open_catalogue(location.settings.resolved_catalogue_url) as catalogue:
                raw = (catalogue.night(context.partition_key) or {}).get("raw") or {}
            missing = raw.get("missing") or []
            return dg.AssetCheckResult(
                passed=not missing,
                severity=dg.AssetCheckSeverity.WARN,
                description=f"{len(missing)} files have vanished" if missing else None,
                metadata={"missing": dg.MetadataValue.md(_bullets(missing))},
            )

    return [every_raw_file_is_understood, every_raw_file_is_there]


def _bullets(names: Sequence[str]) -> str:
    return "\n".join(f"- {markdown_code(name)}" for name in names) or "none"
