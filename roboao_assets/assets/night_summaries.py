"""What is said of a night as a whole: its seeing, Strehl ratios and contrast curves."""

import warnings

import dagster as dg

from roboao_assets.orchestration.markdown import markdown_text
from roboao_assets.orchestration.night_stage import build_night_asset
from roboao_assets.orchestration.resources import CodeLocation
from roboao_assets.pipelines.failures import night_failures
from roboao_assets.storage.catalogue import open_catalogue

# Of a check's page; `roboao failures` has all.
_MOST_FAILURES = 50

GROUP = "night_summaries"


def build_night_summaries(location: CodeLocation) -> list[dg.AssetsDefinition]:
    """Return the assets of the night's summaries."""
    to_night = location.partitions.observations_to_night

    def of_observations(name: str) -> list[dg.AssetDep]:
        """Of both stacks: that of the faint-star pipeline speaks for faint stars."""
        return [
            dg.AssetDep(asset, partition_mapping=to_night) for asset in (name, f"faint_star_{name}")
        ]

    return [
        build_night_asset(
            location,
            "seeing",
            group=GROUP,
            deps=["raw_night", "master_darks", "master_flats", "bad_pixel_mask"],
            kinds={"matplotlib"},
            description=(
                "Seeing of every AO-off exposure of the night, its table and plot against time; "
                "each observation gets the night's median and mean and the nearest in time."
            ),
        ),
        build_night_asset(
            location,
            "strehl_summary",
            group=GROUP,
            deps=[*of_observations("strehl_ratio"), "seeing"],
            kinds={"matplotlib"},
            description="Plot of the night's Strehl ratios.",
        ),
        build_night_asset(
            location,
            "contrast_summary",
            group=GROUP,
            deps=of_observations("contrast_curve"),
            kinds={"matplotlib"},
            description=(
                "Plot and tables of the night's contrast curves, with median and quartiles by "
                "filter; behind the curve of each observation its night's median."
            ),
        ),
        build_night_asset(
            location,
            "night_report",
            group=GROUP,
            deps=["seeing", "strehl_summary", "contrast_summary"],
            kinds={"html"},
            description="The night on one page of HTML that needs nothing else.",
        ),
    ]


def build_summary_checks(location: CodeLocation) -> list[dg.AssetChecksDefinition]:
    """Return the check of `night_report`: the list of what failed of the night."""
    with warnings.catch_warnings():
        # Checks with partitions are in preview (see `raw_night.build_raw_checks`).
        warnings.simplefilter("ignore", dg.PreviewWarning)

        @dg.asset_check(
            asset="night_report",
            name="nothing_failed",
            partitions_def=location.partitions.nights,
            description="Every product of the night that could be made was made.",
        )
        def nothing_failed(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
            with open_catalogue(location.settings.resolved_catalogue_url) as catalogue:
                failures = night_failures(catalogue, context.partition_key)
            rows = [
                f"| {markdown_text(f.subject)} | {f.product} | {f.attempts} "
                f"| {markdown_text(f.reason)} |"
                for f in failures[:_MOST_FAILURES]
            ]
            head = ["| of | product | attempts | reason |", "|---|---|---|---|"]
            return dg.AssetCheckResult(
                passed=not failures,
                severity=dg.AssetCheckSeverity.WARN,
                description=f"{len(failures)} products failed" if failures else None,
                metadata={
                    "failed": len(failures),
                    "failures": dg.MetadataValue.md("\n".join(head + rows) if rows else "none"),
                },
            )

    return [nothing_failed]
