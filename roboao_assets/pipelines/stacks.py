"""The stacks of an observation that are measured: of a bright star, and of a faint one.

What is measured of both is the same; only the names of stages and files differ.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roboao_assets.pipelines.context import NothingToMakeError, ObservationContext
from roboao_assets.science.errors import RawDataError
from roboao_assets.storage.catalogue import skip_reason


@dataclass(frozen=True, kw_only=True)
class StackKind:
    """A pipeline's stack, and the names of the stages that measure it.

    Attributes
    ----------
    pipeline : str
        As the archive tree and the catalogue have it.
    stack, strehl, preview, residual, contrast : str
        Stages, which are the names of the assets.
    """

    pipeline: str
    stack: str
    strehl: str
    preview: str
    residual: str
    contrast: str

    def path(self, ctx: ObservationContext) -> Path:
        """The image that is measured: of all frames."""
        if self.pipeline == "bright_star":
            return ctx.ws.paths.stack(ctx.night, ctx.id, 100)
        return ctx.ws.paths.faint_star_sum(ctx.night, ctx.id, "summed")

    def require(self, ctx: ObservationContext) -> dict[str, Any]:
        """What the catalogue has of the stack.

        Raises
        ------
        NothingToMakeError
            If the observation has no such stack, by its class, or because its pipeline does not
            run on it (any more).
        RawDataError
            If the stack has not been made.
        """
        record = ctx.product(self.pipeline)
        skipped = skip_reason(record)
        if record.get("lock_position") and not skipped:
            return record
        reason = skipped or record.get("reason") or (record.get("status") or {}).get("reason")
        made = record.get("classified_as") or (record.get("status") or {}).get("done")
        if not made and not reason:
            raise RawDataError(
                f"{ctx.id} has no {self.pipeline.replace('_', '-')} stack yet: materialise "
                f"{self.stack} first"
            )
        known = record.get("classified_as") and not skipped
        found = f" (class {record['classified_as']})" if known else ""
        raise NothingToMakeError(
            f"there is no {self.pipeline.replace('_', '-')} stack of {ctx.id}{found}: {reason}"
        )


BRIGHT_STAR = StackKind(
    pipeline="bright_star",
    stack="bright_star_stack",
    strehl="strehl_ratio",
    preview="bright_star_preview",
    residual="pca_residual",
    contrast="contrast_curve",
)
FAINT_STAR = StackKind(
    pipeline="faint_star",
    stack="faint_star_stack",
    strehl="faint_star_strehl_ratio",
    preview="faint_star_preview",
    residual="faint_star_pca_residual",
    contrast="faint_star_contrast_curve",
)
