"""The ObsCore table of a night and of a large catalogue, as the VO's own tools read it."""

import io
import os
import time
import tracemalloc
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable import parse, validate
from astropy.table import Table
from astropy.time import Time
from astropy.wcs import WCS
from pyarrow import parquet
from pyvo.dal.sia2 import SIA2Results
from pyvo.dam import ObsCoreMetadata
from typer.testing import CliRunner

from benchmarks.catalogue import documents as catalogue_documents
from roboao_assets import cli
from roboao_assets.pipelines import night as stages
from roboao_assets.pipelines.obscore import export_obscore, obscore_rows
from roboao_assets.pipelines.observation import reduce_observation
from roboao_assets.science.astrometry import pointing_wcs
from roboao_assets.science.errors import SettingsError
from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.obscore import COLUMNS, ObsCoreError
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.settings import Settings

NIGHT = "20170607"
AUTHORITY = "roboao.example"
# Table 5 of the recommendation: name, type in TAP, unit, UCD, utype of what is mandatory.
MODEL = {
    "dataproduct_type": ("char", None, "meta.code.class", "ObsDataset.dataProductType"),
    "calib_level": ("int", None, "meta.code;obs.calib", "ObsDataset.calibLevel"),
    "obs_collection": ("char", None, "meta.id", "DataID.collection"),
    "obs_id": ("char", None, "meta.id", "DataID.observationID"),
    "obs_publisher_did": ("char", None, "meta.ref.uri;meta.curation", "Curation.publisherDID"),
    "access_url": ("char", None, "meta.ref.url", "Access.reference"),
    "access_format": ("char", None, "meta.code.mime", "Access.format"),
    "access_estsize": ("long", "kbyte", "phys.size;meta.file", "Access.size"),
    "target_name": ("char", None, "meta.id;src", "Target.name"),
    "s_ra": ("double", "deg", "pos.eq.ra", None),
    "s_dec": ("double", "deg", "pos.eq.dec", None),
    "s_fov": ("double", "deg", "phys.angSize;instr.fov", None),
    "s_region": ("char", None, "pos.outline;obs.field", "Char.SpatialAxis.Coverage.Support.Area"),
    "s_xel1": ("long", None, "meta.number", "Char.SpatialAxis.numBins1"),
    "s_xel2": ("long", None, "meta.number", "Char.SpatialAxis.numBins2"),
    "s_resolution": ("double", "arcsec", "pos.angResolution", None),
    "t_min": ("double", "d", "time.start;obs.exposure", None),
    "t_max": ("double", "d", "time.end;obs.exposure", None),
    "t_exptime": ("double", "s", "time.duration;obs.exposure", None),
    "t_resolution": ("double", "s", "time.resolution", None),
    "t_xel": ("long", None, "meta.number", "Char.TimeAxis.numBins"),
    "em_min": ("double", "m", "em.wl;stat.min", None),
    "em_max": ("double", "m", "em.wl;stat.max", None),
    "em_res_power": ("double", None, "spect.resolution", None),
    "em_xel": ("long", None, "meta.number", "Char.SpectralAxis.numBins"),
    "o_ucd": ("char", None, "meta.ucd", "Char.ObservableAxis.ucd"),
    "pol_states": ("char", None, "meta.code;phys.polarization", None),
    "pol_xel": ("long", None, "meta.number", "Char.PolarizationAxis.numBins"),
    "facility_name": ("char", None, "meta.id;instr.tel", "Provenance.ObsConfig.Facility.name"),
    "instrument_name": ("char", None, "meta.id;instr", "Provenance.ObsConfig.Instrument.name"),
}


@pytest.fixture(scope="module")
def settings(small_night, small_observations, tmp_path_factory):
    """An archive with one observation that is distributed, and one that is not."""
    root = tmp_path_factory.mktemp("obscore")
    (root / "raw" / NIGHT).mkdir(parents=True)
    for path in (small_night / NIGHT).iterdir():
        os.link(path, root / "raw" / NIGHT / path.name)
    made = Settings(
        raw_roots=(root / "raw",),
        archive_root=root / "archive",
        threads=2,
        distribution={"authority": AUTHORITY},
    )
    for stage in (
        stages.register_night,
        stages.make_master_darks,
        stages.make_master_flats,
        stages.make_bad_pixel_mask,
    ):
        assert stage(made, NIGHT).succeeded
    wanted = ("bright_star_stack", "astrometric_solution", "strehl_ratio")
    first, second = small_observations
    text = made.model_dump_json()
    for name, more in ((first, ("distribution_package",)), (second, ())):
        outcomes = reduce_observation(text, NIGHT, name, stages=(*wanted, *more))
        assert {o.status for o in outcomes} == {"done"}, outcomes
    return made


@pytest.fixture
def results(settings, tmp_path):
    """The table as a client of a service gets it."""
    path = tmp_path / "table.vot"
    export_obscore(settings, path)
    return SIA2Results(parse(path, verify="exception"), url="http://localhost/sia")


def test_votable_is_valid(settings, tmp_path):
    path = tmp_path / "table.vot"
    assert export_obscore(settings, path) == 3
    said = io.StringIO()
    assert validate(path, output=said), said.getvalue()
    votable = parse(path, verify="exception")
    table = votable.get_first_table()
    assert table.utype == "ivo://ivoa.net/std/ObsCore#core-1.1"
    assert len(table.array) == 3


def test_columns_are_those_of_the_model(results):
    assert set(results.fieldnames) == set(MODEL) == {column.name for column in COLUMNS}
    known = vars(ObsCoreMetadata())
    for name, (datatype, unit, ucd, utype) in MODEL.items():
        assert name in known
        field = results.getdesc(name)
        assert (field.datatype, field.ucd) == (datatype, ucd)
        assert field.unit == (None if unit is None else u.Unit(unit))
        assert field.utype.startswith("obscore:")
        if utype:
            assert field.utype == f"obscore:{utype}"
        assert (field.arraysize == "*") == (datatype == "char")
    assert results.getdesc("s_region").xtype == "adql:REGION"


def test_rows_are_what_is_on_disk(results, settings, small_observations):
    first = small_observations[0]
    paths = ArchivePaths(settings.archive_root)
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        document = catalogue.observation(first)
    rows = {urlsplit(row.access_url).path.rsplit("/", 1)[-1]: row for row in results}
    # The stack of all frames, the sharpest ones, and the plain mean; weights are no images.
    assert {name: row.calib_level for name, row in rows.items()} == {
        "100p.fits": 3,
        "20p.fits": 3,
        "sum.fits": 2,
    }
    for name, row in rows.items():
        path = unquote(urlsplit(row.access_url).path)
        header, status = fits.getheader(path), os.stat(path)
        assert row.access_url.startswith("file:///")
        assert row.access_format == "image/fits"
        assert row.access_estsize.to_value(u.byte) == pytest.approx(status.st_size, abs=1000)
        assert (row.s_xel1, row.s_xel2) == (header["NAXIS1"], header["NAXIS2"])
        assert row.obs_id == first
        assert row.obs_publisher_did.startswith(f"ivo://{AUTHORITY}/Robo-AO?{NIGHT}/{first}/")
        assert row.obs_publisher_did.endswith(name)
        assert (row.target_name, row.facility_name) == (header["OBJECT"], header["TELESCOP"])
        assert row.instrument_name == header["INSTRUME"]
        # The catalogue keeps milliseconds.
        assert abs(row.t_min - Time(header["DATE-OBS"], scale="utc")).to_value(u.s) < 1.1e-3
        lasted = (row.t_max - row.t_min).to_value(u.s)
        assert lasted == pytest.approx(document["exposure"], abs=1e-3)
        check_place(row, WCS(header), header)
        check_band(row, header["FILTER"])
    assert len({row.obs_publisher_did for row in rows.values()}) == 3
    strehl = document["pipelined"]["bright_star"]["strehl"]
    assert rows["100p.fits"].s_resolution.to_value(u.arcsec) == strehl["fwhm_arcsec"]
    assert np.isnan(rows["sum.fits"].s_resolution)
    exposures = {name: row.t_exptime.to_value(u.s) for name, row in rows.items()}
    assert exposures["20p.fits"] == pytest.approx(0.2 * exposures["100p.fits"])
    assert 0 < exposures["100p.fits"] <= document["exposure"]
    assert paths.stack(NIGHT, first, 20).is_file()


def check_place(row, wcs, header):
    shape = (header["NAXIS1"], header["NAXIS2"])
    middle = wcs.pixel_to_world((shape[0] - 1) / 2, (shape[1] - 1) / 2).icrs
    centre = SkyCoord(row.s_ra, row.s_dec)
    assert centre.separation(middle).arcsec < 0.05
    words = row.s_region.split()
    assert words[:2] == ["POLYGON", "ICRS"]
    corners = SkyCoord(np.array(words[2:], float).reshape(4, 2), unit="deg")
    expected = SkyCoord(wcs.calc_footprint(axes=shape, center=False), unit="deg")
    for corner in corners:
        assert corner.separation(expected).min().arcsec < 0.05
    # Counter-clockwise with north up and east left: position angles grow.
    angles = centre.position_angle(corners).deg
    assert np.sum(np.diff([*angles, angles[0]]) < 0) == 1
    assert row.s_fov.to_value(u.deg) == pytest.approx(
        corners[0].separation(corners[2]).deg, rel=1e-3
    )


def check_band(row, filter_name):
    expected = {"Si": (686e-9, 839e-9), "lp600": (600e-9, 950e-9)}[filter_name]
    band = (row.em_min.to_value(u.m), row.em_max.to_value(u.m))
    assert band == pytest.approx(expected)


def test_every_format_has_the_same(settings, tmp_path):
    tables = {}
    for ending in ("vot", "fits", "parquet"):
        path = tmp_path / f"table.{ending}"
        assert export_obscore(settings, path, only_distributed=False) == 6
        tables[ending] = Table.read(path)
    for column in COLUMNS:
        seen = {}
        for ending, table in tables.items():
            values = table[column.name].tolist()
            texts = [v.decode() if isinstance(v, bytes) else v for v in values]
            seen[ending] = [None if str(v) in ("None", "", "--", "nan") else v for v in texts]
        assert seen["vot"] == seen["fits"] == seen["parquet"], column.name
    assert tables["fits"]["s_ra"].unit == "deg"
    header = fits.getheader(tmp_path / "table.fits", 1)
    place = next(k for k in range(1, 40) if header[f"TTYPE{k}"] == "s_ra")
    assert header[f"TUCD{place}"] == "pos.eq.ra"
    schema = parquet.read_schema(tmp_path / "table.parquet")
    assert schema.field("s_ra").metadata[b"ucd"] == b"pos.eq.ra"
    head = parse(io.BytesIO(schema.metadata[b"IVOA.VOTable-Parquet.content"]), verify="exception")
    assert [f.name for f in head.get_first_table().fields] == [c.name for c in COLUMNS]


def test_it_is_served_where_the_setting_says(settings, small_observations):
    served = settings.model_copy(
        update={
            "distribution": settings.distribution.model_copy(
                update={"base_url": "https://data.example/roboao/"}
            )
        }
    )
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        document = catalogue.observation(small_observations[0])
    odd = {**document, "_id": "odd", "pipelined": {"bright_star": {
        "status": {"done": True},
        "products": [["20170607/a b#1/bright_star/100p.fits", 2500]],
    }}}  # fmt: skip
    (row,) = obscore_rows(served, [odd])
    assert row["access_url"] == (
        "https://data.example/roboao/20170607/a%20b%231/bright_star/100p.fits"
    )
    assert row["access_estsize"] == 3
    # Without a footprint of its own: the field of the instrument where the telescope pointed.
    assert row["s_fov"] == pytest.approx(np.hypot(36, 36) / 3600, rel=1e-3)
    wcs = pointing_wcs(
        ra_deg=row["s_ra"],
        dec_deg=row["s_dec"],
        equinox=2000.0,
        shape=(1024, 1024),
        plate_scale_arcsec=0.0351594,
    )
    corners = np.array(row["s_region"].split()[2:], float).reshape(4, 2)
    expected = wcs.calc_footprint(axes=(1024, 1024), center=False)[::-1]
    assert corners == pytest.approx(expected, abs=2e-7)
    assert np.radians([row["s_ra"], row["s_dec"]]) == pytest.approx(
        document["coordinates"]["radec"], abs=1e-7
    )
    bare = {"_id": "bare", "pipelined": odd["pipelined"]}
    (row,) = obscore_rows(served, [bare])
    assert row.get("s_ra") is None
    assert row["t_min"] is None


def test_faint_and_resolved_objects_are_told_by_their_own_stacks(settings):
    def done(*names):
        return {"status": {"done": True}, "products": [[f"n/x/{name}", 10**6] for name in names]}

    faint = done("x_summed.fits", "x_summed_weight.fits", "x_simple_sum.fits", "shifts.txt")
    document = {
        "_id": "x",
        "exposure": 90.0,
        "pipelined": {
            "bright_star": {**done("100p.fits", "sum.fits"), "classified_as": "faint"},
            "faint_star": {**faint, "strehl": {"ratio_percent": 2.0, "fwhm_arcsec": 0.3}},
            "extended_object": done("x_stack.fits", "x_deconvolved.fits", "x_full.png"),
        },
    }
    rows = {row["access_url"].rsplit("/", 1)[-1]: row for row in obscore_rows(settings, [document])}
    assert {name: row["calib_level"] for name, row in rows.items()} == {
        "x_summed.fits": 3,
        "x_simple_sum.fits": 2,
        "x_stack.fits": 3,
        "x_deconvolved.fits": 4,
    }
    assert rows["x_summed.fits"]["s_resolution"] == 0.3
    document["pipelined"]["faint_star"]["status"]["done"] = False
    document["pipelined"]["extended_object"]["status"] = {}
    assert list(obscore_rows(settings, [document])) == []


def test_the_command(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("ROBOAO_ARCHIVE_ROOT", str(settings.archive_root))
    monkeypatch.setenv("ROBOAO_DISTRIBUTION__AUTHORITY", AUTHORITY)
    output = tmp_path / "table.fits"

    def roboao(*words):
        done = CliRunner().invoke(cli.app, ["obscore", "--output", str(output), *words])
        assert done.exit_code == 0, done.output
        return done.output

    assert roboao().startswith("3 images")
    assert roboao("--no-only-distributed").startswith("6 images")
    assert roboao("--night", NIGHT, "--night", "20170608").startswith("3 images")
    # An empty table is a table.
    assert roboao("--night", "20170608").startswith("0 images")
    assert len(Table.read(output)) == 0


def test_what_cannot_be_written_is_told(settings, tmp_path):
    with pytest.raises(ObsCoreError, match=r"ends in '\.csv'.*\.vot, \.parquet, \.fits"):
        export_obscore(settings, tmp_path / "table.csv")
    nameless = settings.model_copy(
        update={"distribution": settings.distribution.model_copy(update={"authority": ""})}
    )
    with pytest.raises(SettingsError, match="ROBOAO_DISTRIBUTION__AUTHORITY"):
        export_obscore(nameless, tmp_path / "table.vot")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("home", ["sqlite", pytest.param("mongodb", marks=pytest.mark.mongodb)])
def test_a_large_catalogue(home, request, tmp_path):
    """A night at a time, without headers: memory grows by what is written, not by what is known."""
    count = 6_000 if home == "sqlite" else 200
    url = (
        f"sqlite:///{tmp_path}/catalogue.sqlite"
        if home == "sqlite"
        else request.getfixturevalue("mongodb_url")
    )
    with open_catalogue(url) as catalogue:
        for number, document in enumerate(catalogue_documents(count)):
            night, name = f"{document['date_utc']:%Y%m%d}", document["_id"]
            document["pipelined"]["bright_star"]["products"] = [
                [f"{night}/{name}/bright_star/100p.fits", 16_787_520]
            ]
            document["distributed"]["status"] = number % 3 != 0
            catalogue.register_observation(document)
    made = Settings(
        archive_root=tmp_path / "archive",
        catalogue_url=url,
        distribution={"authority": AUTHORITY},
    )
    output = tmp_path / "table.parquet"
    start = time.process_time()
    rows = export_obscore(made, output, only_distributed=True)
    seconds = time.process_time() - start
    # Of ten observations nine are reduced, of three two are distributed.
    assert rows == sum(n % 10 != 0 and n % 3 != 0 for n in range(count))
    assert seconds < 12
    assert len(set(parquet.read_table(output)["obs_publisher_did"].to_pylist())) == rows
    if home == "sqlite":
        tracemalloc.start()
        nights = [f"201511{day:02d}" for day in range(1, 31)]
        fewer = export_obscore(made, output, nights)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # A document has 8 kB and more; a row of the table is a tenth of it in memory.
        assert peak < fewer * 6000
