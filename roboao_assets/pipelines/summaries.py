"""Night summaries: the Strehl ratios and the contrast curves of a night on one page each.

Of a faint star, the numbers are those of the faint-star stack, where there is one
(`leading_pipeline`): every observation counts once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from roboao_assets.pipelines.contrast_pictures import (
    LEAST_CURVES,
    publish_contrast_picture,
    quartiles_document,
)
from roboao_assets.pipelines.distribution import renew_package
from roboao_assets.pipelines.freshness import fingerprint, product_record
from roboao_assets.pipelines.night_plots import contrast_plot
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.strehl_plots import StrehlPoint, strehl_plot
from roboao_assets.pipelines.workspace import Workspace
from roboao_assets.science.contrast_quartiles import (
    ContrastQuartiles,
    NightCurve,
    finite_points,
    quartiles_by_filter,
)
from roboao_assets.storage.catalogue import ObservationQuery, leading_pipeline, product
from roboao_assets.storage.files import write_bytes_whole, write_text_whole
from roboao_assets.storage.tables import ecsv_text

PIPELINES = ("bright_star", "faint_star")


def summarise_strehl(ws: Workspace, night: str, *, force: bool = False) -> StageOutcome:
    """Plot and tabulate the Strehl ratios of the night: `strehl.YYYYMMDD.png` and `.ecsv`."""
    measured = []
    for document in _observations(ws, night):
        pipeline = leading_pipeline(document)
        record = product(document, f"{pipeline}.strehl")
        if record.get("ratio_percent") is not None:
            measured.append((document, pipeline, record))
    points = [_strehl_point(document, record) for document, _, record in measured]
    # Seeing and magnitude are told again without a Strehl ratio being made anew.
    inputs = [
        [d["_id"], pipeline, s.get("fingerprint"), point.seeing_arcsec, point.magnitude]
        for (d, pipeline, s), point in zip(measured, points, strict=True)
    ]
    if not measured:
        reason = f"no observation of {night} has a Strehl ratio"
        return _nothing("strehl_summary", reason)

    def make() -> tuple[bytes, list[Path], dict[str, Any]]:
        path = ws.paths.summary_table(night, "strehl")
        names = [(d["_id"], pipeline) for d, pipeline, _ in measured]
        write_text_whole(path, ecsv_text(_strehl_table(names, points)))
        return strehl_plot(points, title=f"Strehl ratio {night}"), [path], {}

    return _summarise(ws, night, "strehl_summary", "strehl", inputs, make, force=force)


def _strehl_point(document: Mapping[str, Any], record: Mapping[str, Any]) -> StrehlPoint:
    nearest = (document.get("seeing") or {}).get("nearest") or (None, None)
    return StrehlPoint(
        utc=document["date_utc"],
        ratio_percent=record["ratio_percent"],
        ratio_error_percent=record.get("ratio_error_percent"),
        filter_name=document["filter"],
        flag=record.get("flag", ""),
        seeing_arcsec=nearest[1],
        magnitude=document.get("magnitude"),
    )


def _strehl_table(names: Sequence[tuple[str, str]], points: Sequence[StrehlPoint]) -> Table:
    """A row an observation; NaN where something is not known."""

    def numbers(values: Iterable[float | None]) -> list[float]:
        return [float("nan") if value is None else float(value) for value in values]

    table = Table(
        {
            "observation": [observation for observation, _ in names],
            "pipeline": [pipeline for _, pipeline in names],
            "utc": [p.utc.isoformat() for p in points],
            "filter": [p.filter_name for p in points],
            "ratio_percent": numbers(p.ratio_percent for p in points),
            "ratio_error_percent": numbers(p.ratio_error_percent for p in points),
            "flag": [p.flag for p in points],
            "seeing_arcsec": numbers(p.seeing_arcsec for p in points),
            "magnitude": numbers(p.magnitude for p in points),
        },
        units={"ratio_percent": "%", "ratio_error_percent": "%", "magnitude": "mag"},
    )
    return _with_units(table)


def summarise_contrast(ws: Workspace, night: str, *, force: bool = False) -> StageOutcome:
    """Plot and tabulate the contrast curves of the night.

    Makes `contrast_curve.YYYYMMDD.png`; `contrast_curve.YYYYMMDD.ecsv`, the median and the
    quartiles by filter; `contrast_curves.YYYYMMDD.ecsv`, every curve, a row a point. Then every
    observation's own plot is drawn again whose median has changed, and its package made again.
    """
    documents = _observations(ws, night)
    measured = []
    for document in documents:
        pipeline = leading_pipeline(document, "pca")
        record = product(document, f"{pipeline}.pca")
        # Two points make a line; a curve without is told by its own stage.
        if finite_points(*(record.get("contrast_curve") or ((), ())))[0].size >= 2:
            measured.append((document, pipeline, record))
    # The curve itself is among the inputs: a document may have been written by hand.
    inputs = [
        [d["_id"], pipeline, (p.get("contrast") or {}).get("fingerprint"), p["contrast_curve"]]
        for d, pipeline, p in measured
    ]
    if not measured:
        reason = f"no observation of {night} has a contrast curve (is the PSF library empty?)"
        return _nothing("contrast_summary", reason)
    curves = [
        NightCurve(
            separation_arcsec=p["contrast_curve"][0],
            contrast_mag=p["contrast_curve"][1],
            filter_name=d["filter"],
        )
        for d, _, p in measured
    ]
    quartiles = quartiles_by_filter(curves)

    def make() -> tuple[bytes, list[Path], dict[str, Any]]:
        sigma = ws.settings.high_contrast.sigma
        picture = contrast_plot(curves, title=f"Contrast {night}", sigma=sigma)
        of_filters = ws.paths.summary_table(night, "contrast_curve")
        write_text_whole(of_filters, ecsv_text(_quartiles_table(quartiles)))
        of_curves = ws.paths.summary_table(night, "contrast_curves")
        names = [(d["_id"], pipeline) for d, pipeline, _ in measured]
        write_text_whole(of_curves, ecsv_text(_curves_table(names, curves)))
        stored = [{"filter": name, **quartiles_document(q)} for name, q in quartiles.items()]
        return picture, [of_filters, of_curves], {"quartiles": stored}

    outcome = _summarise(ws, night, "contrast_summary", "contrast_curve", inputs, make, force=force)
    redrawn = _redraw_observations(ws, night, documents, quartiles)
    renewed = [renew_package(ws, night, observation) for observation in redrawn]
    failed = [o.reason for o in renewed if o is not None and not o.succeeded]
    if failed:
        # The summary stands; that a package does not is told with it, and in the catalogue.
        return replace(outcome, reason=f"{len(failed)} packages were not renewed: {failed[0]}")
    return outcome


def _redraw_observations(
    ws: Workspace,
    night: str,
    documents: Sequence[Mapping[str, Any]],
    quartiles: Mapping[str, ContrastQuartiles],
) -> list[str]:
    """Draw the plots whose median has changed; return the observations that they are of."""
    redrawn = []
    for document in documents:
        found = quartiles.get(document["filter"])
        median = found if found is not None and found.total >= LEAST_CURVES else None
        for pipeline in PIPELINES:
            curve = product(document, f"{pipeline}.pca").get("contrast_curve")
            if not curve or not finite_points(*curve)[0].size:
                continue
            if publish_contrast_picture(ws, night, document["_id"], pipeline, document, median):
                redrawn.append(document["_id"])
    return list(dict.fromkeys(redrawn))


def _quartiles_table(quartiles: Mapping[str, ContrastQuartiles]) -> Table:
    """A row a filter and separation."""
    columns = ("separation_arcsec", "curves", "lower_mag", "median_mag", "upper_mag")
    names = [np.full(q.curves.size, name) for name, q in quartiles.items()]
    table = Table({"filter": np.concatenate(names)})
    for column in columns:
        table[column] = np.concatenate([getattr(q, column) for q in quartiles.values()])
    return _with_units(table)


def _curves_table(names: Sequence[tuple[str, str]], curves: Sequence[NightCurve]) -> Table:
    """A row a point of a curve; `names` are the observation and pipeline of each curve."""
    points = [finite_points(c.separation_arcsec, c.contrast_mag) for c in curves]
    sizes = [separation.size for separation, _ in points]
    table = Table(
        {
            "observation": np.repeat([observation for observation, _ in names], sizes),
            "pipeline": np.repeat([pipeline for _, pipeline in names], sizes),
            "filter": np.repeat([c.filter_name for c in curves], sizes),
            "separation_arcsec": np.concatenate([separation for separation, _ in points]),
            "contrast_mag": np.concatenate([contrast for _, contrast in points]),
        }
    )
    return _with_units(table)


def _with_units(table: Table) -> Table:
    for name in table.colnames:
        for ending, unit, digits in (("_arcsec", "arcsec", 5), ("_mag", "mag", 4)):
            if name.endswith(ending):
                table[name] = np.round(table[name], digits)
                table[name].unit = unit
    return table


def _observations(ws: Workspace, night: str) -> list[dict[str, Any]]:
    query = ObservationQuery(nights=(night,), summary_only=True)
    return ws.catalogue.find_observations(query)


def _nothing(stage: str, reason: str) -> StageOutcome:
    return StageOutcome(
        stage=stage, status="skipped", reason=reason, fingerprint=fingerprint(stage, [])
    )


def _summarise(
    ws: Workspace,
    night: str,
    stage: str,
    kind: str,
    inputs: list[list[Any]],
    make: Callable[[], tuple[bytes, list[Path], dict[str, Any]]],
    *,
    force: bool,
) -> StageOutcome:
    """Make the plot of `kind` unless it stands for just these inputs.

    `make` returns the plot, the other files it wrote, and what the night's document keeps.
    """
    identity = fingerprint(stage, inputs)
    stored = (ws.catalogue.night(night) or {}).get(kind)
    kept = "" if force else ws.kept(stored, identity)
    if kept:
        return StageOutcome(
            stage=stage,
            status="unchanged",
            fingerprint=kept,
            metadata={"observations": len(inputs)},
        )
    picture, written, values = make()
    path = ws.paths.summary_plot(night, kind)
    write_bytes_whole(path, picture)
    ws.catalogue.put_image(f"{night}/{kind}", picture, night=night)
    record = product_record(ws.paths.root, identity, [path, *written])
    ws.catalogue.publish_night(night, kind, {**values, **record})
    return StageOutcome(
        stage=stage,
        status="done",
        fingerprint=identity,
        metadata={"observations": len(inputs)},
        preview_png=picture,
    )
