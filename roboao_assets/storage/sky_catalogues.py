"""Reference stars on the sky from a local table, or from Gaia where there is a network."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.table import Column, MaskedColumn, Table
from numpy.typing import NDArray

from roboao_assets.science.errors import ArchiveError
from roboao_assets.science.sky_catalogue import SkyCatalogue
from roboao_assets.storage.mirror import bring, place_of

# What a column is called, by Gaia and others; the first that is there is taken.
_NAMES = {
    "ra_deg": ("ra", "ra_icrs", "raj2000", "ra_deg"),
    "dec_deg": ("dec", "de_icrs", "dec_icrs", "dej2000", "decj2000", "dec_deg"),
    "pm_ra_mas_yr": ("pmra", "pm_ra", "pmra_cosdec", "pm_ra_cosdec", "pm_ra_mas_yr"),
    "pm_dec_mas_yr": ("pmdec", "pmde", "pm_dec", "pm_dec_mas_yr"),
    "magnitude": ("mag", "phot_g_mean_mag", "gmag", "magnitude"),
    "epoch_year": ("epoch", "ref_epoch", "epoch_year"),
}
_UNITS = {"ra_deg": "deg", "dec_deg": "deg", "pm_ra_mas_yr": "mas/yr", "pm_dec_mas_yr": "mas/yr"}
_GAIA_LIMIT = 20_000


class SkyCatalogueError(ArchiveError):
    """There are no reference stars: a table is missing or unusable, a service does not answer."""


def read_sky_catalogue(path: Path) -> SkyCatalogue:
    """Read reference stars from a table.

    Parameters
    ----------
    path : Path
        FITS, ECSV or Parquet with the columns ``ra, dec`` (deg, ICRS), ``pmra, pmdec`` (mas/yr,
        the first times cos(dec)), ``mag`` and ``epoch`` (Julian year), or as Gaia names them. An
        epoch may stand in the table's metadata. Without proper motions stars are taken to be at
        rest; rows without a position are left out.

    Raises
    ------
    SkyCatalogueError
        If the table is missing, cannot be read, or lacks positions or their epoch.
    """
    table = _read(Path(path))
    names = {name.lower(): name for name in table.colnames}
    found = {
        field: next((names[n] for n in known if n in names), None)
        for field, known in _NAMES.items()
    }
    for field in ("ra_deg", "dec_deg"):
        if found[field] is None:
            raise SkyCatalogueError(
                f"the catalogue {path} has no column {' or '.join(_NAMES[field][:3])} "
                f"(it has {', '.join(table.colnames[:12])}): rename its column"
            )
    values = {
        field: np.full(len(table), np.nan)
        if column is None
        else _numbers(table[column], _UNITS.get(field), path)
        for field, column in found.items()
    }
    for field in ("pm_ra_mas_yr", "pm_dec_mas_yr"):
        values[field] = np.nan_to_num(values[field], nan=0.0)
    if found["epoch_year"] is None:
        meta = {str(key).lower(): value for key, value in table.meta.items()}
        epoch = next((meta[n] for n in _NAMES["epoch_year"] if n in meta), None)
        try:
            values["epoch_year"] = np.full(len(table), float(epoch))
        except (TypeError, ValueError):
            raise SkyCatalogueError(
                f"the catalogue {path} does not say of which year its positions are: add a column "
                "or metadata `epoch` (2016.0 for Gaia DR3)"
            ) from None
    good = np.isfinite(values["ra_deg"] + values["dec_deg"] + values["epoch_year"])
    if not good.any():
        raise SkyCatalogueError(f"the catalogue {path} has no star with a position and an epoch")
    return SkyCatalogue(**{k: v[good] for k, v in values.items()}, source=str(path))


def query_gaia(ra_deg: float, dec_deg: float, radius_arcsec: float) -> SkyCatalogue:
    """Ask the Gaia archive (DR3) for the stars round a point; needs astroquery and a network.

    Raises
    ------
    SkyCatalogueError
        If astroquery is not installed, or the archive cannot be asked.
    """
    try:
        from astroquery.gaia import Gaia
    except ImportError:
        raise SkyCatalogueError(
            "the setting astrometry.gaia asks for Gaia, and astroquery is not installed: "
            "`pip install roboao-archive[gaia]`, or name a local table in astrometry.catalogue"
        ) from None
    query = (
        f"SELECT TOP {_GAIA_LIMIT} ra, dec, pmra, pmdec, phot_g_mean_mag, ref_epoch "
        "FROM gaiadr3.gaia_source WHERE 1 = CONTAINS(POINT('ICRS', ra, dec), "
        f"CIRCLE('ICRS', {ra_deg:.8f}, {dec_deg:.8f}, {radius_arcsec / 3600:.8f}))"
    )
    try:
        table = Gaia.launch_job(query).get_results()
    # The service fails in as many ways as there are layers of network under it.
    except Exception as error:
        raise SkyCatalogueError(
            f"Gaia could not be asked ({type(error).__name__}: {error}): try again later, or "
            "name a local table in astrometry.catalogue"
        ) from error
    return SkyCatalogue(
        ra_deg=_numbers(table["ra"], "deg", "Gaia"),
        dec_deg=_numbers(table["dec"], "deg", "Gaia"),
        pm_ra_mas_yr=np.nan_to_num(_numbers(table["pmra"], None, "Gaia"), nan=0.0),
        pm_dec_mas_yr=np.nan_to_num(_numbers(table["pmdec"], None, "Gaia"), nan=0.0),
        magnitude=_numbers(table["phot_g_mean_mag"], None, "Gaia"),
        epoch_year=_numbers(table["ref_epoch"], None, "Gaia"),
        source="Gaia DR3",
    )


def _read(path: Path) -> Table:
    place = place_of(path)
    if not place.is_file():
        raise SkyCatalogueError(
            f"the star catalogue {path} was looked for and is not there: correct the setting "
            "astrometry.catalogue"
        )
    formats = {".fits": "fits", ".fit": "fits", ".ecsv": "ascii.ecsv", ".parquet": "parquet"}
    suffix = path.suffix.lower()
    if suffix not in formats:
        raise SkyCatalogueError(
            f"the star catalogue {path} is none of FITS, ECSV and Parquet ({', '.join(formats)})"
        )
    # Parquet is not opened by Python.
    bring(place)
    try:
        with warnings.catch_warnings():
            # Units that astropy does not know are none of the columns used, or are refused later.
            warnings.simplefilter("ignore")
            return Table.read(place, format=formats[suffix])
    except ImportError as error:
        raise SkyCatalogueError(
            f"the star catalogue {path} cannot be read here ({error}): install pyarrow, or convert "
            "it to FITS"
        ) from error
    except Exception as error:
        raise SkyCatalogueError(f"the star catalogue {path} cannot be read: {error}") from error


def _numbers(
    column: Column | Sequence[float], unit: str | None, where: object
) -> NDArray[np.float64]:
    name = getattr(column, "name", "")
    try:
        if unit and getattr(column, "unit", None) is not None:
            column = Column(column).to(unit) if not isinstance(column, MaskedColumn) else column
        filled = np.ma.filled(np.ma.asarray(column, dtype=np.float64), np.nan)
        return np.array(filled, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SkyCatalogueError(
            f"the column {name} of the catalogue {where} is not in {unit or 'numbers'}: {error}"
        ) from None
