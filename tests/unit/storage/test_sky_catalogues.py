"""Reference stars from tables as people have them, and sentences where they cannot be had."""

import astropy.units as u
import numpy as np
import pytest
from astropy.table import MaskedColumn, Table

from roboao_assets.storage.sky_catalogues import SkyCatalogueError, query_gaia, read_sky_catalogue


def stars(**more):
    columns = {"ra": [10.0, 11.0], "dec": [20.0, -21.0], "pmra": [1.5, -2.0], "pmdec": [0.5, 3.0]}
    return Table(columns | {"mag": [12.0, 13.0], "epoch": [2016.0, 2016.0]} | more)


@pytest.mark.parametrize("suffix", ["fits", "ecsv", "parquet"])
def test_every_format_gives_the_same(tmp_path, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"stars.{suffix}"
    stars().write(path, format="ascii.ecsv" if suffix == "ecsv" else suffix)
    read = read_sky_catalogue(path)
    assert read.ra_deg == pytest.approx([10, 11])
    assert read.dec_deg == pytest.approx([20, -21])
    assert read.pm_ra_mas_yr == pytest.approx([1.5, -2])
    assert read.pm_dec_mas_yr == pytest.approx([0.5, 3])
    assert read.magnitude == pytest.approx([12, 13])
    assert read.epoch_year == pytest.approx([2016, 2016])
    assert read.source == str(path)


def test_gaias_names_units_and_gaps(tmp_path):
    table = Table(
        {
            "RA_ICRS": [36000.0, 36.0, 1.0] * u.arcsec,
            "DE_ICRS": MaskedColumn([1.0, 2.0, 3.0], mask=[False, False, True]),
            "pmRA": MaskedColumn([1.0, 2.0, 3.0], mask=[False, True, False]),
            "Gmag": [10.0, 11.0, 12.0],
        },
        meta={"epoch": 2015.5},
    )
    path = tmp_path / "gaia.ecsv"
    table.write(path, format="ascii.ecsv")
    read = read_sky_catalogue(path)
    assert read.ra_deg == pytest.approx([10.0, 0.01])
    assert read.pm_ra_mas_yr == pytest.approx([1.0, 0.0])
    assert read.epoch_year == pytest.approx([2015.5, 2015.5])


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (Table({"alpha": [1.0], "dec": [1.0]}), "has no column ra"),
        (Table({"ra": [1.0], "dec": [1.0]}), "does not say of which year"),
        (Table({"ra": [np.nan], "dec": [1.0], "epoch": [2016.0]}), "no star with a position"),
        (Table({"ra": ["1h"], "dec": [1.0], "epoch": [2016.0]}), "is not in deg"),
    ],
)
def test_a_table_that_is_no_catalogue_says_why(tmp_path, table, reason):
    path = tmp_path / "t.ecsv"
    table.write(path, format="ascii.ecsv")
    with pytest.raises(SkyCatalogueError, match=reason):
        read_sky_catalogue(path)


def test_gaia_without_its_client_or_a_network_is_a_sentence(monkeypatch):
    import sys
    from types import ModuleType

    monkeypatch.setitem(sys.modules, "astroquery", None)
    monkeypatch.setitem(sys.modules, "astroquery.gaia", None)
    with pytest.raises(SkyCatalogueError, match="astroquery is not installed"):
        query_gaia(10.0, 20.0, 30.0)

    class Gaia:
        @staticmethod
        def launch_job(query):
            raise ConnectionError("no route to host")

    client = ModuleType("astroquery.gaia")
    client.Gaia = Gaia
    monkeypatch.setitem(sys.modules, "astroquery", ModuleType("astroquery"))
    monkeypatch.setitem(sys.modules, "astroquery.gaia", client)
    with pytest.raises(SkyCatalogueError, match="could not be asked .*no route to host"):
        query_gaia(10.0, 20.0, 30.0)
