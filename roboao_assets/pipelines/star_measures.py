"""What is measured and drawn of a stack: the Strehl ratio and the previews."""

from collections.abc import Sequence
from pathlib import Path

from roboao_assets.pipelines.context import ObservationContext
from roboao_assets.pipelines.freshness import fingerprint, product_record
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.previews import cropped_preview, full_preview
from roboao_assets.pipelines.stacks import StackKind
from roboao_assets.science.strehl import StrehlMeasurement, measure_strehl
from roboao_assets.storage.files import write_bytes_whole, write_text_whole
from roboao_assets.storage.fits_products import provenance_cards, write_image


def make_strehl(ctx: ObservationContext, kind: StackKind) -> StageOutcome:
    """Measure the Strehl ratio of a stack's star; write the table and the box."""
    ws, paths = ctx.ws, ctx.ws.paths
    stack = kind.require(ctx)
    identity = fingerprint(kind.strehl, stack["fingerprint"], ctx.profile.name)
    record = ctx.product(f"{kind.pipeline}.strehl")
    kept = ctx.kept(record, identity)
    if kept:
        return StageOutcome(
            stage=kind.strehl,
            status="unchanged",
            fingerprint=kept,
            metadata={"strehl_percent": record["ratio_percent"], "flag": record["flag"]},
        )
    image, _ = ctx.image(kind.path(ctx))
    x, y = stack["lock_position"]
    strehl = measure_strehl(
        image,
        x,
        y,
        ctx.profile,
        ctx.exposure.name.filter_name,
        pixfrac=ctx.profile.drizzle_pixfrac,
    )
    table = paths.strehl_table(ctx.night, ctx.id, kind.pipeline)
    write_text_whole(table, _strehl_text(strehl))
    box = paths.strehl_box(ctx.night, ctx.id, kind.pipeline)
    write_image(
        box,
        strehl.box,
        [
            ("STREHL", strehl.ratio_percent, "Strehl ratio (percent)"),
            ("STREHLER", strehl.total_error_percent, "its uncertainty (percent)"),
            ("STREHLUN", strehl.uncorrected_percent, "not corrected for the sampling"),
            ("PIXSCALE", ctx.profile.drizzled_scale_arcsec, "arcsec/px"),
            *provenance_cards(
                stage=kind.strehl,
                raw=(),
                calibration=(),
                settings_fingerprint="",
                fingerprint=identity,
            ),
        ],
    )
    ws.catalogue.publish(
        ctx.id,
        f"{kind.pipeline}.strehl",
        {
            "lock_position": [strehl.x, strehl.y],
            "ratio_percent": strehl.ratio_percent,
            "ratio_error_percent": strehl.total_error_percent,
            "uncorrected_percent": strehl.uncorrected_percent,
            "core_arcsec": strehl.core_arcsec,
            "halo_arcsec": strehl.halo_arcsec,
            "fwhm_arcsec": strehl.fwhm_arcsec,
            "flag": strehl.flag,
            **product_record(paths.root, identity, [table, box]),
        },
    )
    return StageOutcome(
        stage=kind.strehl,
        status="done",
        fingerprint=identity,
        metadata={
            "strehl_percent": strehl.ratio_percent,
            "strehl_error_percent": strehl.total_error_percent,
            "fwhm_arcsec": strehl.fwhm_arcsec,
            "core_arcsec": strehl.core_arcsec,
            "halo_arcsec": strehl.halo_arcsec,
            "flag": strehl.flag,
        },
    )


def _strehl_text(s: StrehlMeasurement) -> str:
    return (
        '# lock_x[px] lock_y[px] core["] halo["] SR[%] FWHM["] flag\n'
        f"{s.x:.3f} {s.y:.3f} {s.core_arcsec:.5f} {s.halo_arcsec:.5f} "
        f"{s.ratio_percent:.4f} {s.fwhm_arcsec:.5f} {s.flag}\n"
    )


def make_preview(ctx: ObservationContext, kind: StackKind) -> StageOutcome:
    """Draw the full and the cropped preview of a stack."""
    ws, paths = ctx.ws, ctx.ws.paths
    stack = kind.require(ctx)
    strehl = ctx.product(f"{kind.pipeline}.strehl")
    identity = fingerprint(kind.preview, stack["fingerprint"], strehl.get("fingerprint"))
    record = ctx.product(f"{kind.pipeline}.preview")
    kept = ctx.kept(record, identity)
    if kept:
        return StageOutcome(stage=kind.preview, status="unchanged", fingerprint=kept)
    image, _ = ctx.image(kind.path(ctx))
    x, y = stack["lock_position"]
    scale = ctx.profile.drizzled_scale_arcsec
    pictures = {
        "full": full_preview(
            image,
            plate_scale_arcsec=scale,
            title=ctx.id,
            east_is_left=ctx.profile.east_is_left,
            y_axis_pa_deg=ctx.profile.y_axis_pa_deg,
            lock_xy=(x, y),
        ),
        "cropped": cropped_preview(
            image,
            x,
            y,
            ctx.profile.cropped_preview_arcsec,
            plate_scale_arcsec=scale,
            title=ctx.exposure.name.object_name,
            east_is_left=ctx.profile.east_is_left,
            y_axis_pa_deg=ctx.profile.y_axis_pa_deg,
            strehl_percent=strehl.get("ratio_percent"),
            strehl_error_percent=strehl.get("ratio_error_percent"),
            fwhm_arcsec=strehl.get("fwhm_arcsec"),
            flag=strehl.get("flag", ""),
        ),
    }
    written = publish_pictures(ctx, kind.pipeline, pictures)
    ws.catalogue.publish(
        ctx.id, f"{kind.pipeline}.preview", product_record(paths.root, identity, written)
    )
    return StageOutcome(
        stage=kind.preview,
        status="done",
        fingerprint=identity,
        preview_png=pictures["cropped"],
    )


def publish_pictures(
    ctx: ObservationContext, pipeline: str, pictures: dict[str, bytes]
) -> Sequence[Path]:
    """Write previews to the archive and to the catalogue; return their paths."""
    written = []
    for kind, png in pictures.items():
        path = ctx.ws.paths.preview(ctx.night, ctx.id, pipeline, kind)
        write_bytes_whole(path, png)
        ctx.ws.catalogue.put_image(
            f"{ctx.id}/{pipeline}/{kind}", png, night=ctx.night, observation=ctx.id
        )
        written.append(path)
    return written
