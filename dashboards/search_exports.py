"""Results of a search as tables for other programs: CSV and VOTable."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from dashboards.access import Visitor
from dashboards.name_resolver import NameResolver
from dashboards.search_form import SearchForm, make_query
from dashboards.sentences import SearchHandler
from dashboards.source import CatalogueSource
from roboao_assets.storage.catalogue import (
    CONTRAST_PIPELINES,
    CONTRAST_SEPARATIONS_ARCSEC,
    Catalogue,
    ObservationQuery,
    contrast_field,
    contrast_key,
)

MOST_ROWS = 30_000
FORMATS = {
    "csv": "text/csv; charset=utf-8",
    "votable": "application/x-votable+xml",
}
_NO_INTEGER = -1
# With these a spreadsheet's formula begins; what they may do is read and send the other cells.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class ExportColumn:
    """A column of the table.

    Attributes
    ----------
    name : str
        Ends in the unit, as everywhere in the archive.
    field : str
        Of the catalogue.
    kind : {'unicodeChar', 'double', 'int', 'boolean'}
        As VOTable calls it.
    ucd, unit, description : str
    convert : callable
        From the catalogue's value, which is not None.
    """

    name: str
    field: str
    kind: str
    ucd: str
    unit: str = ""
    description: str = ""
    convert: Callable[[Any], Any] = lambda value: value  # noqa: E731 - the identity


def _iso(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}"


_C = ExportColumn


def export_columns(pipeline: str) -> tuple[ExportColumn, ...]:
    """Return the columns of a table whose measurements are those of a pipeline."""
    measured = [
        _C("strehl_percent", f"{pipeline}_strehl", "double", "instr.det.psf", "%"),
        _C("strehl_flag", f"{pipeline}_flag", "unicodeChar", "meta.code.qual"),
    ]
    if pipeline in CONTRAST_PIPELINES:
        measured += [
            _C(
                contrast_key(separation),
                contrast_field(pipeline, separation),
                "double",
                "phot.mag;arith.diff",
                "mag",
                f'contrast, 5 sigma, at {separation:g}"',
            )
            for separation in CONTRAST_SEPARATIONS_ARCSEC
        ]
        measured.append(
            _C(
                "candidates",
                f"{pipeline}_candidates",
                "int",
                "meta.number",
                description="companion candidates found",
            )
        )
    made = [
        _C(f"{name}_made", f"{name}_done", "boolean", "meta.code.status")
        for name in ("bright_star", "faint_star", "extended_object")
    ]
    return (
        _C("id", "id", "unicodeChar", "meta.id;meta.main"),
        _C("name", "name", "unicodeChar", "meta.id;src"),
        _C("date_utc", "date_utc", "unicodeChar", "time.start;obs.exposure", convert=_iso),
        _C("program", "program", "unicodeChar", "meta.id;obs.proposal", convert=str),
        _C("filter", "filter", "unicodeChar", "meta.id;instr.filter"),
        _C("exposure_s", "exposure_s", "double", "time.duration;obs.exposure", "s"),
        _C("magnitude", "magnitude", "double", "phot.mag", "mag"),
        _C("ra_deg", "ra_rad", "double", "pos.eq.ra;meta.main", "deg", convert=math.degrees),
        _C("dec_deg", "dec_rad", "double", "pos.eq.dec;meta.main", "deg", convert=math.degrees),
        _C("azimuth_deg", "azimuth_rad", "double", "pos.az.azi", "deg", convert=math.degrees),
        _C("elevation_deg", "elevation_rad", "double", "pos.az.alt", "deg", convert=math.degrees),
        _C("seeing_nearest_arcsec", "seeing_nearest", "double", "instr.obsty.seeing", "arcsec"),
        _C("seeing_median_arcsec", "seeing_median", "double", "instr.obsty.seeing", "arcsec"),
        *measured,
        *made,
        _C("distributed", "distributed", "boolean", "meta.code.status"),
    )


def read_rows(catalogue: Catalogue, query: ObservationQuery) -> tuple[list[tuple], bool]:
    """Return the rows of the whole selection, and whether there are more than `MOST_ROWS`."""
    columns = export_columns(query.pipeline)
    everything = replace(query, skip=0, limit=MOST_ROWS + 1)
    found = catalogue.find_fields(everything, [column.field for column in columns])
    rows = [
        tuple(
            None if value is None else column.convert(value)
            for column, value in zip(columns, row, strict=True)
        )
        for row in found[:MOST_ROWS]
    ]
    return rows, len(found) > MOST_ROWS


def csv_text(columns: Sequence[ExportColumn], rows: Iterable[tuple]) -> str:
    """Return a table as CSV (RFC 4180), UTF-8, with a line of names; missing values are empty.

    A text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([column.name for column in columns])
    writer.writerows([_no_formula(value) for value in row] for row in rows)
    return text.getvalue()


def _no_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def votable_bytes(
    columns: Sequence[ExportColumn], rows: Sequence[tuple], *, cut: bool, pipeline: str
) -> bytes:
    """Return a table as VOTable 1.3, with units and UCDs.

    Parameters
    ----------
    columns, rows
    cut : bool
        There are more rows than these.
    pipeline : str
        Whose measurements they are.
    """
    import numpy as np
    from astropy.io.votable import tree

    # Of 1.4 astropy knows no percent.
    votable = tree.VOTableFile(version="1.3")
    resource = tree.Resource(type="results")
    votable.resources.append(resource)
    resource.infos.append(tree.Info(name="QUERY_STATUS", value="OVERFLOW" if cut else "OK"))
    resource.infos.append(tree.Info(name="PIPELINE", value=pipeline))
    table = tree.TableElement(votable, name="observations")
    resource.tables.append(table)
    for column in columns:
        field = tree.Field(
            votable,
            name=column.name,
            ID=column.name,
            datatype=column.kind,
            arraysize="*" if column.kind == "unicodeChar" else None,
            ucd=column.ucd,
            unit=column.unit or None,
        )
        field.description = column.description or None
        if column.kind == "int":
            field.values.null = _NO_INTEGER
        table.fields.append(field)
    table.create_arrays(len(rows))
    missing = {"unicodeChar": "", "double": np.nan, "int": _NO_INTEGER, "boolean": False}
    for column, values in zip(columns, zip(*rows, strict=True), strict=bool(rows)):
        is_text, empty = column.kind == "unicodeChar", missing[column.kind]
        filled = [
            empty if value is None else _xml_text(value) if is_text else value for value in values
        ]
        table.array[column.name] = np.ma.MaskedArray(
            np.array(filled, dtype=object if is_text else None),
            mask=[value is None for value in values],
        )
    text = io.BytesIO()
    votable.to_xml(text)
    return text.getvalue()


def _xml_text(value: Any) -> str:
    """Return a text without the characters that XML has not."""
    return "".join(c if c.isprintable() or c in "\t\n\r" else "\ufffd" for c in str(value))


class ExportHandler(SearchHandler):
    """`/search/table?format=csv|votable&...`: the selection of a search, whole."""

    def initialize(
        self, source: CatalogueSource, executor: Executor, resolver: NameResolver
    ) -> None:
        """Take what the server hands every handler of this kind."""
        self._source, self._executor, self._resolver = source, executor, resolver

    async def get(self) -> None:
        """Send the table, or a sentence that says why there is none."""
        arguments = dict(self.request.query_arguments)
        kind = b"".join(arguments.pop("format", [])).decode("utf-8", "replace")
        if kind not in FORMATS:
            self.explain(400, f"Say as what: format={' or format='.join(FORMATS)}.")
            return
        made = await self.searched(arguments, partial(self._table, kind))
        if made is None:
            return
        content, cut = made
        self.set_header("Content-Type", FORMATS[kind])
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")
        suffix = "csv" if kind == "csv" else "vot"
        self.set_header("Content-Disposition", f'attachment; filename="roboao-search.{suffix}"')
        if cut:
            self.set_header("X-Rows-Cut-At", str(MOST_ROWS))
        self.write(content)

    def _table(self, kind: str, form: SearchForm, visitor: Visitor) -> tuple[bytes, bool]:
        query = make_query(form, reader=visitor.reader, resolve=self._resolver.position_deg)
        rows, cut = read_rows(self._source.get(), query)
        columns = export_columns(query.pipeline)
        if kind == "csv":
            return csv_text(columns, rows).encode("utf-8", "replace"), cut
        return votable_bytes(columns, rows, cut=cut, pipeline=query.pipeline), cut
