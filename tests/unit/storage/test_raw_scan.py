import os
from datetime import date

from roboao_assets.storage.raw_scan import scan_raw_nights

NOW_S = 2_000_000_000.0
A = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"
B = "24_HD1_VIC_Si_o_20160925_030000.000000"


def put(folder, name, age_s=1000.0, content=b"x"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    os.utime(path, (NOW_S - age_s, NOW_S - age_s))
    return path


def scan(*roots, since=date(2012, 1, 1)):
    return scan_raw_nights(roots, since, settle_s=20.0, now_s=NOW_S)


def test_observations_of_a_night_over_several_roots_in_time_order(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    put(one / "20160925", f"{A}.fits.bz2")
    put(one / "20160925", f"{A}_0.fits.bz2")
    put(two / "20160925", f"{B}.fits.bz2")
    put(two / "20160925", "dark_6_a.fits.bz2")
    put(two / "20160925", "seeing_VIC_Si_o_20160925_020000.fits.bz2")
    put(two / "20160925", "notes.txt")
    put(two / "20160925", "1_x_20160925.fits.bz2")
    night = scan(one, two, tmp_path / "not_mounted")["20160925"]
    assert night.observations == (B, A)
    assert (night.n_files, night.n_arriving) == (6, 0)


def test_newest_first_and_nothing_before_the_start_date(tmp_path):
    for name in ("20110101", "20160925", "20170101", "calib", "2016092"):
        put(tmp_path / name, "dark_0_a.fits.bz2")
    assert list(scan(tmp_path)) == ["20170101", "20160925"]
    assert list(scan(tmp_path, since=date(2016, 9, 26))) == ["20170101"]


def test_an_exposure_that_still_arrives_waits_as_a_whole(tmp_path):
    folder = tmp_path / "20160925"
    put(folder, f"{A}.fits.bz2")
    part = put(folder, f"{A}_0.fits.bz2", age_s=5)
    put(folder, f"{B}.fits.bz2")
    before = scan(tmp_path)["20160925"]
    assert before.observations == (B,)
    assert (before.n_files, before.n_arriving) == (1, 2)
    os.utime(part, (NOW_S - 21, NOW_S - 21))
    after = scan(tmp_path)["20160925"]
    assert after.observations == (B, A)
    assert after.fingerprint != before.fingerprint


def test_the_fingerprint_changes_with_every_family_and_only_then(tmp_path):
    folder = tmp_path / "20160925"
    put(folder, f"{A}.fits.bz2")
    first = scan(tmp_path)["20160925"].fingerprint
    assert scan(tmp_path)["20160925"].fingerprint == first
    put(folder, "notes.txt")
    assert scan(tmp_path)["20160925"].fingerprint == first
    dark = put(folder, "dark_6_a.fits.bz2")
    second = scan(tmp_path)["20160925"].fingerprint
    put(folder, dark.name, content=b"longer")
    third = scan(tmp_path)["20160925"].fingerprint
    assert len({first, second, third}) == 3
    dark.unlink()
    assert scan(tmp_path)["20160925"].fingerprint == first


def test_a_name_that_dagster_cannot_use_is_no_observation(tmp_path):
    put(tmp_path / "20160925", "4_a...b_VIC_lp600_o_20160925_110427.040912.fits.bz2")
    night = scan(tmp_path)["20160925"]
    assert night.observations == ()
    assert night.n_files == 1


def test_names_that_are_no_text_and_links_in_a_circle_hide_nothing(tmp_path):
    folder = tmp_path / "20160925"
    put(folder, f"{A}.fits.bz2")
    before = scan(tmp_path)["20160925"]
    put(folder, "0_\udcff\udcfe.fits.bz2")
    (folder / "1_circle.fits.bz2").symlink_to(folder / "1_circle.fits.bz2")
    (folder / "1_dangling.fits.bz2").symlink_to(tmp_path / "nothing")
    (folder / "1_folder.fits.bz2").mkdir()
    put(folder, f"{B}.fits.bz2")
    night = scan(tmp_path)["20160925"]
    assert night.observations == (B, A)
    assert night.n_files == 3
    assert night.fingerprint != before.fingerprint


def test_an_id_of_another_night_is_no_observation_of_this_one(tmp_path):
    put(tmp_path / "20160926", f"{A}.fits.bz2")
    put(tmp_path / "20160925", f"{B}.fits.bz2")
    nights = scan(tmp_path)
    assert nights["20160926"].observations == ()
    assert nights["20160926"].n_files == 1
    assert nights["20160925"].observations == (B,)
