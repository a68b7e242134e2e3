"""Every searched field of an observation: its name here and its place in a document."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from roboao_assets.storage.catalogue.documents import PIPELINES, status_path
from roboao_assets.storage.catalogue.values import at_path

# Pipelines that subtract a star, and so have contrast curves and candidates.
CONTRAST_PIPELINES = ("bright_star", "faint_star")
# Separations at which the contrast of every curve is kept as a number that can be searched.
CONTRAST_SEPARATIONS_ARCSEC = (0.2, 0.5, 1.0, 2.0)
SEARCHED_PRODUCTS = (
    "bright_star",
    "bright_star.strehl",
    "bright_star.pca",
    "faint_star",
    "faint_star.strehl",
    "faint_star.pca",
    "extended_object",
)


def contrast_key(separation_arcsec: float) -> str:
    """Return under which key of `pca` the contrast at a separation is kept (mag)."""
    return f"contrast_{separation_arcsec:g}_arcsec_mag".replace(".", "_")


def contrast_field(pipeline: str, separation_arcsec: float) -> str:
    """Return the field of a pipeline's contrast at one of the separations."""
    return f"{pipeline}_{contrast_key(separation_arcsec)}"


def made_field(product: str) -> str:
    """Return the field that tells whether a product (e.g. `bright_star.pca`) is made."""
    return f"{product.replace('.', '_')}_done"


# A field's name is that of its column in the SQLite home.
TEXT_FIELDS = {"id": "_id", "name": "name", "filter": "filter"}
NUMBER_FIELDS = {
    "exposure_s": "exposure",
    "magnitude": "magnitude",
    "seeing_median": "seeing.median",
    "seeing_nearest": "seeing.nearest.1",
    "azimuth_rad": "coordinates.azel.0",
    "elevation_rad": "coordinates.azel.1",
    "ra_rad": "coordinates.radec.0",
    "dec_rad": "coordinates.radec.1",
}
FLAG_FIELDS = {"distributed": "distributed.status"}
# Lists, of which only the length is searched.
LIST_FIELDS = {}
for _pipeline in PIPELINES:
    TEXT_FIELDS[f"{_pipeline}_class"] = f"pipelined.{_pipeline}.classified_as"
    TEXT_FIELDS[f"{_pipeline}_flag"] = f"pipelined.{_pipeline}.strehl.flag"
    NUMBER_FIELDS[f"{_pipeline}_strehl"] = f"pipelined.{_pipeline}.strehl.ratio_percent"
    NUMBER_FIELDS[f"{_pipeline}_retries"] = f"pipelined.{_pipeline}.status.retries"
for _product in SEARCHED_PRODUCTS:
    FLAG_FIELDS[made_field(_product)] = f"pipelined.{status_path(_product)}.done"
for _pipeline in CONTRAST_PIPELINES:
    LIST_FIELDS[f"{_pipeline}_candidates"] = f"pipelined.{_pipeline}.pca.candidates"
    for _separation in CONTRAST_SEPARATIONS_ARCSEC:
        _key = contrast_key(_separation)
        NUMBER_FIELDS[contrast_field(_pipeline, _separation)] = f"pipelined.{_pipeline}.pca.{_key}"
FIELD_PATHS = {
    **TEXT_FIELDS,
    **NUMBER_FIELDS,
    **FLAG_FIELDS,
    **LIST_FIELDS,
    "date_utc": "date_utc",
    "program": "science_program.program_id",
    "program_pi": "science_program.program_PI",
}


def value_of(document: Mapping[str, Any], field: str) -> Any:  # noqa: PLR0911 - a table
    """Return a field of a document: None if it is not of its kind, of a list the length."""
    value = at_path(document, FIELD_PATHS[field])
    if field in FLAG_FIELDS:
        return value is True
    if field in LIST_FIELDS:
        return len(value) if isinstance(value, list) else None
    if field in TEXT_FIELDS:
        return value if isinstance(value, str) else None
    if field in NUMBER_FIELDS:
        good = isinstance(value, int | float) and not isinstance(value, bool)
        return value if good else None
    if field == "date_utc":
        return value if isinstance(value, datetime) else None
    return value


# Names by which results are sorted, and the field each means: {} is the query's pipeline.
SORT_FIELDS = {
    "date_utc": "date_utc",
    "id": "id",
    "name": "name",
    "program": "program",
    "filter": "filter",
    "exposure_s": "exposure_s",
    "magnitude": "magnitude",
    "seeing_median": "seeing_median",
    "seeing_nearest": "seeing_nearest",
    "azimuth_deg": "azimuth_rad",
    "elevation_deg": "elevation_rad",
    "ra_deg": "ra_rad",
    "dec_deg": "dec_rad",
    "strehl": "{}_strehl",
    "flag": "{}_flag",
    # Both depend on more than the pipeline.
    "contrast": "",
    "separation": "",
}
