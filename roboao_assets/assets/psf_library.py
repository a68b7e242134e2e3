"""The PSF library: the administrator's, observed by Dagster and never written by it."""

import hashlib
import warnings
from collections.abc import Iterator

import dagster as dg

from roboao_assets.orchestration.night_stage import OWNERS
from roboao_assets.orchestration.resources import CodeLocation
from roboao_assets.storage.paths import ArchivePaths

GROUP = "high_contrast"


def build_psf_library(location: CodeLocation) -> list[dg.AssetsDefinition]:
    """Return the observed asset `psf_library`."""
    path = ArchivePaths(location.settings.archive_root.absolute()).psf_library
    spec = dg.AssetSpec(
        "psf_library",
        group_name=GROUP,
        owners=OWNERS,
        kinds={"fits"},
        description=(
            "`psf_library.fits`: reference PSFs that the administrator took in. What was made "
            "with another library is stale."
        ),
    )
    with warnings.catch_warnings():
        # In beta; there is no other kind of asset that Dagster looks at and does not make.
        warnings.simplefilter("ignore", dg.BetaWarning)

        @dg.multi_observable_source_asset(name="observe_psf_library", specs=[spec])
        def observe_psf_library() -> Iterator[dg.ObserveResult]:
            if not path.exists():
                yield dg.ObserveResult(
                    asset_key="psf_library",
                    data_version=dg.DataVersion("none"),
                    metadata={"status": "there is none yet"},
                )
                return
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            yield dg.ObserveResult(
                asset_key="psf_library",
                data_version=dg.DataVersion(digest),
                metadata={"size_bytes": path.stat().st_size},
            )

    return [observe_psf_library]
