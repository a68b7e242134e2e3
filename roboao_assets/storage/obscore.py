"""Tables of the IVOA's ObsCore 1.1: its columns, and writing them as VOTable, Parquet or FITS.

References
----------
Louys, Tody, Dowler, Durand+ 2017, Observation Data Model Core Components 1.1,
doi:10.5479/ADS/bib/2017ivoa.spec.0509L
"""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from astropy.io import fits
from astropy.io.votable import tree
from astropy.table import MaskedColumn, Table

from roboao_assets.science.errors import ArchiveError
from roboao_assets.storage.files import write_whole

Kind = Literal["char", "double", "int", "long"]


class ObsCoreError(ArchiveError):
    """A table of ObsCore cannot be written as asked."""


@dataclass(frozen=True)
class ObsCoreColumn:
    """A column of ObsCore, as the recommendation has it.

    Attributes
    ----------
    name : str
    kind : {'char', 'double', 'int', 'long'}
        As VOTable calls it.
    ucd, utype, unit, xtype : str
        Empty where it has none; `utype` without the prefix of the model.
    description : str
    """

    name: str
    kind: Kind
    ucd: str
    utype: str
    unit: str = ""
    xtype: str = ""
    description: str = ""


_PLACE = "Char.SpatialAxis.Coverage.Location.Coord.Position2D.Value2"
_TIMES = "Char.TimeAxis.Coverage.Bounds.Limits"
_WAVES = "Char.SpectralAxis.Coverage.Bounds.Limits"
_C = ObsCoreColumn

COLUMNS = (
    _C("dataproduct_type", "char", "meta.code.class", "ObsDataset.dataProductType"),
    _C("calib_level", "int", "meta.code;obs.calib", "ObsDataset.calibLevel"),
    _C("obs_collection", "char", "meta.id", "DataID.collection"),
    _C("obs_id", "char", "meta.id", "DataID.observationID"),
    _C("obs_publisher_did", "char", "meta.ref.uri;meta.curation", "Curation.publisherDID"),
    _C("access_url", "char", "meta.ref.url", "Access.reference"),
    _C("access_format", "char", "meta.code.mime", "Access.format"),
    _C("access_estsize", "long", "phys.size;meta.file", "Access.size", "kbyte"),
    _C("target_name", "char", "meta.id;src", "Target.name"),
    _C("s_ra", "double", "pos.eq.ra", f"{_PLACE}.C1", "deg"),
    _C("s_dec", "double", "pos.eq.dec", f"{_PLACE}.C2", "deg"),
    _C(
        "s_fov",
        "double",
        "phys.angSize;instr.fov",
        "Char.SpatialAxis.Coverage.Bounds.Extent.diameter",
        "deg",
        description="diameter of the circle round the image",
    ),
    _C(
        "s_region",
        "char",
        "pos.outline;obs.field",
        "Char.SpatialAxis.Coverage.Support.Area",
        xtype="adql:REGION",
        description="outline of the image, STC-S",
    ),
    _C("s_xel1", "long", "meta.number", "Char.SpatialAxis.numBins1"),
    _C("s_xel2", "long", "meta.number", "Char.SpatialAxis.numBins2"),
    _C(
        "s_resolution",
        "double",
        "pos.angResolution",
        "Char.SpatialAxis.Resolution.Refval.value",
        "arcsec",
        description="measured FWHM of the star",
    ),
    _C("t_min", "double", "time.start;obs.exposure", f"{_TIMES}.StartTime", "d"),
    _C("t_max", "double", "time.end;obs.exposure", f"{_TIMES}.StopTime", "d"),
    _C(
        "t_exptime",
        "double",
        "time.duration;obs.exposure",
        "Char.TimeAxis.Coverage.Support.Extent",
        "s",
        description="of the frames in the image",
    ),
    _C(
        "t_resolution",
        "double",
        "time.resolution",
        "Char.TimeAxis.Resolution.Refval.value",
        "s",
    ),
    _C("t_xel", "long", "meta.number", "Char.TimeAxis.numBins"),
    _C("em_min", "double", "em.wl;stat.min", f"{_WAVES}.LoLimit", "m"),
    _C("em_max", "double", "em.wl;stat.max", f"{_WAVES}.HiLimit", "m"),
    _C(
        "em_res_power",
        "double",
        "spect.resolution",
        "Char.SpectralAxis.Resolution.ResolPower.refVal",
    ),
    _C("em_xel", "long", "meta.number", "Char.SpectralAxis.numBins"),
    _C("o_ucd", "char", "meta.ucd", "Char.ObservableAxis.ucd"),
    _C(
        "pol_states",
        "char",
        "meta.code;phys.polarization",
        "Char.PolarizationAxis.stateList",
    ),
    _C("pol_xel", "long", "meta.number", "Char.PolarizationAxis.numBins"),
    _C("facility_name", "char", "meta.id;instr.tel", "Provenance.ObsConfig.Facility.name"),
    _C("instrument_name", "char", "meta.id;instr", "Provenance.ObsConfig.Instrument.name"),
)
"""The mandatory columns, in the order of the recommendation."""

_PREFIX = "obscore:"
_TABLE_UTYPE = "ivo://ivoa.net/std/ObsCore#core-1.1"
_DTYPES = {"double": "f8", "int": "i4", "long": "i8"}
# What stands for a missing integer where a format cannot leave a cell empty.
_NO_INTEGER = -1
# Of the convention by which a Parquet file carries the head of a VOTable.
_PARQUET_HEAD = b"IVOA.VOTable-Parquet."


def write_obscore(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write a table of ObsCore, whole or not at all; its ending says in which format.

    Parameters
    ----------
    path : Path
        `.vot`, `.parquet` or `.fits`.
    rows : iterable of mapping
        Values by the names of `COLUMNS`; what is None or not there is empty. Read once: no row is
        kept as such.

    Returns
    -------
    int
        Rows.

    Raises
    ------
    ObsCoreError
        If the ending is another.
    """
    write = WRITERS.get(path.suffix)
    if write is None:
        raise ObsCoreError(
            f"{path} ends in {path.suffix or 'nothing'!r}, and a table of ObsCore is written as "
            f"{', '.join(WRITERS)}: name it so"
        )
    values: dict[str, list[Any]] = {column.name: [] for column in COLUMNS}
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007 - the number of the last is the answer
        for name, column in values.items():
            column.append(row.get(name))
    with write_whole(path) as partial:
        write(partial, values)
    return count


def _array(column: ObsCoreColumn, values: Sequence[Any]) -> np.ma.MaskedArray:
    mask = [value is None for value in values]
    if column.kind == "char":
        texts = np.array(["" if value is None else _ascii(value) for value in values], dtype=object)
        return np.ma.MaskedArray(texts, mask=mask)
    empty = np.nan if column.kind == "double" else _NO_INTEGER
    filled = [empty if value is None else value for value in values]
    return np.ma.MaskedArray(filled, mask=mask, dtype=_DTYPES[column.kind])


def _ascii(value: Any) -> str:
    # The type `char` of VOTable and FITS is ASCII.
    return str(value).encode("ascii", "replace").decode("ascii")


def _votable(values: Mapping[str, Sequence[Any]]) -> tree.VOTableFile:
    votable = tree.VOTableFile(version="1.4")
    resource = tree.Resource(type="results")
    votable.resources.append(resource)
    resource.infos.append(tree.Info(name="QUERY_STATUS", value="OK"))
    table = tree.TableElement(votable, name="ObsCore")
    table.utype = _TABLE_UTYPE
    resource.tables.append(table)
    table.fields.extend(_field(votable, column) for column in COLUMNS)
    table.create_arrays(len(values["obs_id"]))
    for column in COLUMNS:
        table.array[column.name] = _array(column, values[column.name])
    return votable


def _field(votable: tree.VOTableFile, column: ObsCoreColumn) -> tree.Field:
    field = tree.Field(
        votable,
        name=column.name,
        ID=column.name,
        datatype=column.kind,
        arraysize="*" if column.kind == "char" else None,
        ucd=column.ucd,
        utype=_PREFIX + column.utype,
        unit=column.unit or None,
        xtype=column.xtype or None,
    )
    field.description = column.description or None
    if column.kind in ("int", "long"):
        field.values.null = _NO_INTEGER
    return field


def _write_votable(path: Path, values: Mapping[str, Sequence[Any]]) -> None:
    _votable(values).to_xml(str(path))


def _write_fits(path: Path, values: Mapping[str, Sequence[Any]]) -> None:
    table = Table()
    for column in COLUMNS:
        array = _array(column, values[column.name])
        if column.kind == "char":
            array = array.filled("").astype("U")
        elif column.kind == "double":
            array = array.filled(np.nan)
        table[column.name] = MaskedColumn(array, unit=column.unit or None)
    hdu = fits.table_to_hdu(table)
    hdu.name = "OBSCORE"
    for number, column in enumerate(COLUMNS, 1):
        hdu.header[f"TUCD{number}"] = column.ucd
        hdu.header[f"TUTYP{number}"] = _PREFIX + column.utype
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)


def _write_parquet(path: Path, values: Mapping[str, Sequence[Any]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    types = {"char": pa.string(), "double": pa.float64(), "int": pa.int32(), "long": pa.int64()}
    head = {_PARQUET_HEAD + b"version": b"1.0", _PARQUET_HEAD + b"content": _empty_votable()}
    fields, arrays = [], []
    for c in COLUMNS:
        column = values[c.name]
        if c.kind == "char":
            # As in a VOTable a text that is not there is empty: astropy reads no other in
            # Parquet, and asks for the longest.
            column = _array(c, column).filled("")
            head[f"table::len::{c.name}"] = str(max([1, *map(len, column)]))
        described = {"ucd": c.ucd, "utype": _PREFIX + c.utype, "unit": c.unit}
        fields.append(pa.field(c.name, types[c.kind], metadata=described))
        arrays.append(pa.array(column, type=types[c.kind]))
    schema = pa.schema(fields, metadata=head)
    parquet.write_table(pa.Table.from_arrays(arrays, schema=schema), path)


def _empty_votable() -> bytes:
    text = io.BytesIO()
    _votable({column.name: [] for column in COLUMNS}).to_xml(text)
    return text.getvalue()


WRITERS: dict[str, Callable[[Path, Mapping[str, Sequence[Any]]], None]] = {
    ".vot": _write_votable,
    ".parquet": _write_parquet,
    ".fits": _write_fits,
}
"""What writes a table, by the ending of its name."""
