"""A raw night sorted by what its names say, whatever they say."""

import os
import re
from datetime import date
from pathlib import Path

import pytest
from fuzzing import at_least
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roboao_assets.science.errors import RawDataError
from roboao_assets.storage.raw_night import list_nights, read_night

NIGHT = "20160925"
A = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"
B = "24.1_HD_1_VIC_Si_o_20160925_080000.000000"
C = "4_C_VIC_Si_o_20160925_090000.000000"
SEEING = "seeing_VIC_Si_o_20160925_070000.000000"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "raw" / NIGHT).mkdir(parents=True)
    return tmp_path / "raw"


def put(root: Path, *stems: str, content: bytes = b"x") -> None:
    (root / NIGHT).mkdir(parents=True, exist_ok=True)
    for stem in stems:
        (root / NIGHT / f"{stem}.fits.bz2").write_bytes(content)


def names(paths) -> list[str]:
    return [path.name.removesuffix(".fits.bz2") for path in paths]


def test_families(root):
    put(root, A, B, C, SEEING, "bias_0_1", "pointing_x", "dark_0_a", "dark_6_a", "dark_64_a")
    put(root, "dark_10_10", "dark_10_9", "flat_0_Si_2", "flat_0_Si_10", "flat_0_lp600_1")
    night = read_night([root], NIGHT)
    assert [e.id for e in night.observations] == [B, C, A]
    assert [e.id for e in night.seeing] == [SEEING]
    assert {key: names(files) for key, files in night.darks.items()} == {
        "0": ["dark_0_a"],
        "6": ["dark_6_a"],
        "10": ["dark_10_9", "dark_10_10"],
        "64": ["dark_64_a"],
    }
    assert list(night.darks) == ["0", "6", "10", "64"]
    assert {key: names(files) for key, files in night.flats.items()} == {
        "Si": ["flat_0_Si_2", "flat_0_Si_10"],
        "lp600": ["flat_0_lp600_1"],
    }
    assert names(night.unprocessed) == ["bias_0_1", "pointing_x"]
    assert night.unreadable == ()
    assert night.folders == (root / NIGHT,)
    exposure = night.observations[2]
    assert (exposure.night, exposure.problem) == (NIGHT, "")
    assert exposure.name.object_name == "351_Yrsa"


def test_parts_are_in_numerical_order(root):
    put(root, A, *(f"{A}_{n}" for n in range(12)))
    (exposure,) = read_night([root], NIGHT).observations
    assert names(exposure.files) == [A, *(f"{A}_{n}" for n in range(12))]
    assert exposure.problem == ""


@pytest.mark.parametrize(
    ("stems", "problem"),
    [
        ([A, f"{A}_0", f"{A}_2"], rf"{A}_1\.fits\.bz2 is missing though {A}_2\.fits\.bz2"),
        ([f"{A}_0"], rf"not whole: {A}\.fits\.bz2 is missing"),
        ([A, f"{A}_9"], r"_0.*_1.*_2\.fits\.bz2 \(and 6 more\) is missing"),
        ([A, f"{A}_0", f"{A}_00"], "two files of one part"),
    ],
)
def test_an_exposure_that_is_not_whole_says_so(root, stems, problem):
    put(root, *stems, B)
    whole, exposure = read_night([root], NIGHT).observations
    assert whole.problem == ""
    assert exposure.id == A
    assert len(exposure.files) == len(stems)
    assert re.search(problem, exposure.problem)


def test_empty_files(root):
    put(root, A)
    put(root, f"{A}_0", SEEING, "dark_6_1", "flat_0_Si_1", content=b"")
    night = read_night([root], NIGHT)
    assert "_0.fits.bz2 is empty (zero bytes)" in night.observations[0].problem
    assert "is empty" in night.seeing[0].problem
    assert night.darks == {}
    assert night.flats == {}
    assert names(path for path, _ in night.unreadable) == ["dark_6_1", "flat_0_Si_1"]


def test_what_does_not_parse_is_listed_with_the_reason(root):
    put(root, "readme", "dark_x_1", "dark", "flat_0", "4_b_VIC_Si_o_20161325_000000.0", f"{A}_x")
    put(root, "ünï_çode", "4_a,b_VIC_Si_o_20160925_110427.0", "", B)
    night = read_night([root], NIGHT)
    reasons = {path.name.removesuffix(".fits.bz2"): reason for path, reason in night.unreadable}
    assert "mode number" in reasons["dark_x_1"]
    assert "mode number" in reasons["dark"]
    assert "no filter" in reasons["flat_0"]
    assert "no valid date" in reasons["4_b_VIC_Si_o_20161325_000000.0"]
    for stem in ("readme", f"{A}_x", "ünï_çode"):
        assert "is neither" in reasons[stem]
    assert [e.id for e in night.observations if e.id == B] == [B]


def test_hidden_partial_and_other_files_are_ignored(root):
    folder = root / NIGHT
    for name in (
        f".{A}.fits.bz2",
        ".fits.bz2",
        f"{A}.fits.bz2.part",
        f"{A}.fits.bz2.tmp",
        f"{A}.fits",
        "truth.json",
        "log.txt",
    ):
        (folder / name).write_bytes(b"x")
    night = read_night([root], NIGHT)
    assert night.observations == ()
    assert night.unreadable == ()


def test_a_folder_and_a_dangling_link_with_a_raw_name(root):
    (root / NIGHT / f"{A}.fits.bz2").mkdir()
    (root / NIGHT / f"{B}.fits.bz2").symlink_to("nowhere")
    night = read_night([root], NIGHT)
    assert night.observations == ()
    reasons = [reason for _, reason in night.unreadable]
    assert reasons[0].startswith("is no file")
    assert reasons[1].startswith("cannot be looked at")


def test_a_night_spread_over_several_roots(tmp_path):
    first, second = tmp_path / "1", tmp_path / "2"
    put(first, A, f"{A}_1", "dark_6_1")
    put(second, f"{A}_0", B, "dark_6_2", "dark_6_1")
    put(second, f"{A}_1", content=b"longer")
    night = read_night([first, tmp_path / "not mounted", second], NIGHT)
    assert night.folders == (first / NIGHT, second / NIGHT)
    exposure = night.observations[1]
    assert exposure.files == (
        first / NIGHT / f"{A}.fits.bz2",
        second / NIGHT / f"{A}_0.fits.bz2",
        first / NIGHT / f"{A}_1.fits.bz2",
    )
    assert names(night.darks["6"]) == ["dark_6_1", "dark_6_2"]
    assert night.darks["6"][0].parent.parent == first
    # The second dark_6_1 has the same size: the same file. The second part 1 has not.
    ((path, reason),) = night.unreadable
    assert path == second / NIGHT / f"{A}_1.fits.bz2"
    assert "they differ (6 and 1 bytes)" in reason


def test_no_such_night(root, tmp_path):
    with pytest.raises(RawDataError, match="'2016' is no night"):
        read_night([root], "2016")
    with pytest.raises(RawDataError, match=r"raw', .*gone' \(which is not there\)"):
        read_night([root, tmp_path / "gone"], "20170101")
    with pytest.raises(RawDataError, match="set ROBOAO_RAW_ROOTS"):
        read_night([], NIGHT)


def test_nights_newest_first_from_the_start_date(tmp_path):
    first, second = tmp_path / "1", tmp_path / "2"
    for folder in (
        first / "20160925",
        first / "20150101",
        first / "notes",
        first / "20161399",
        second / "20160925",
        second / "20160926",
        second / "٢٠١٦٠٩٢٧",
    ):
        folder.mkdir(parents=True)
    (first / "20160927").write_text("no folder")
    assert list_nights([first, second, tmp_path / "gone"], date(2016, 1, 1)) == {
        "20160926": (second / "20160926",),
        "20160925": (first / "20160925", second / "20160925"),
    }
    assert list(list_nights([first], date(2015, 1, 1))) == ["20160925", "20150101"]


FILE_NAME = st.one_of(
    st.binary(min_size=1, max_size=80),
    st.from_regex(rb"(dark|flat|seeing|bias|4|24\.1)(_[0-9A-Za-z.]{0,9}){0,7}", fullmatch=True),
).filter(lambda b: b"/" not in b and b"\0" not in b)


@settings(
    max_examples=at_least(150),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(stem=FILE_NAME)
def test_no_file_name_raises(root, stem):
    folder = os.fsencode(root / NIGHT)
    path = os.path.join(folder, stem + b".fits.bz2")
    with open(path, "wb") as file:
        file.write(b"x")
    try:
        night = read_night([root], NIGHT)
    finally:
        os.unlink(path)
    for _, reason in night.unreadable:
        reason.encode()


def test_an_id_of_another_night_is_left_alone(root):
    stray = A.replace(NIGHT, "20160926")
    put(root, stray, f"{stray}_0", SEEING.replace(NIGHT, "20990101"), B)
    night = read_night([root], NIGHT)
    assert [e.id for e in night.observations] == [B]
    assert night.seeing == ()
    reasons = [reason for _, reason in night.unreadable]
    assert len(reasons) == 3
    assert "is of 2016-09-26 by its name" in reasons[0]
    assert "move it to the folder 20160926, or rename it" in reasons[0]
    assert "is of 2099-01-01 by its name" in reasons[2]


@pytest.mark.parametrize("stem", ["dark_6_a\nb", "flat_0_Si_\udcff", "bias_\x1b[0m", f"x{A}\udcfe"])
def test_what_cannot_be_printed_is_left_alone(root, stem):
    put(root, stem, B)
    night = read_night([root], NIGHT)
    assert (night.darks, night.flats, night.unprocessed) == ({}, {}, ())
    ((path, reason),) = night.unreadable
    assert path.name.startswith(stem)
    assert reason == "has characters in its name that cannot be printed; rename it"


def test_a_folder_that_cannot_be_looked_into_is_told(root, tmp_path, monkeypatch):
    put(root, B)
    put(tmp_path / "other", A)
    iterdir = Path.iterdir

    def refuse(self):
        if self == tmp_path / "other" / NIGHT:
            raise PermissionError(13, "Permission denied")
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", refuse)
    night = read_night([root, tmp_path / "other"], NIGHT)
    assert [e.id for e in night.observations] == [B]
    assert night.unreadable == (
        (tmp_path / "other" / NIGHT, "is a folder that cannot be looked into: Permission denied"),
    )


def test_files_of_one_name_and_size_are_kept_for_a_closer_look(root, tmp_path):
    other = tmp_path / "other"
    put(root, A)
    put(other, A)
    night = read_night([root, other], NIGHT)
    name = f"{A}.fits.bz2"
    assert night.hidden == ((root / NIGHT / name, other / NIGHT / name),)
    assert night.unreadable == ()
