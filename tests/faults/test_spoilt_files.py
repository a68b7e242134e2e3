"""A night of good observations and of spoilt files of every kind: the good ones are not stopped."""

import os
import re
import shutil
from dataclasses import dataclass

import pytest
import spoilt_files as spoil
from ledger import Fault, half_files
from spoilt_site import NIGHT, Site

from roboao_assets.storage.raw_night import read_night

NIGHT_LIMIT_BYTES = "0.3"


@pytest.fixture(scope="module")
def good(small_night):
    """The bytes of a good observation in one file, and its filter."""
    names = [e.id for e in read_night((small_night,), NIGHT).observations]
    chosen = next(n for n in names if not (small_night / NIGHT / f"{n}_0.fits.bz2").exists())
    return (small_night / NIGHT / f"{chosen}.fits.bz2").read_bytes()


@pytest.fixture(scope="module")
def unspoilt(small_night, small_observations, tmp_path_factory):
    """The products of the night without any fault, by observation."""
    site = Site(tmp_path_factory.mktemp("unspoilt") / "site")
    site.link(small_night)
    ended = site.night()
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert not site.told()
    return {name: site.products(name) for name in small_observations}


def others_stopped(site, unspoilt) -> int:
    """Good observations whose products are not those of the unspoilt night, byte for byte."""
    return sum(site.products(name) != products for name, products in unspoilt.items())


def lost(unspoilt, site) -> int:
    """Products of the unspoilt night that are not there."""
    return sum(len(p.keys() - site.products(name).keys()) for name, p in unspoilt.items())


@dataclass(frozen=True)
class Spoilt:
    """A file of a night, and what has to be said of it."""

    fault: str
    content: bytes
    pattern: str = ""  # empty: it is reduced all the same
    filter: str = "Si"
    parts: tuple[str, ...] = ("",)  # of the exposure; the last one has `content`


def observation(number: int, filter_name: str) -> str:
    return f"1_spoilt_{number}_VIC_{filter_name}_o_{NIGHT}_09{number:02d}00.000000"


CONTENTS = {
    "truncated bzip2": (spoil.truncated, r"truncated or damaged, copy it again"),
    "garbage": (spoil.garbage, r"no bzip2 file, or is damaged .* copy it again"),
    "0 bytes": (spoil.empty, r"empty \(zero bytes\); copy it again"),
    "a flipped bit": (spoil.flipped, r"truncated or damaged, copy it again"),
    "other NAXIS in one extension": (spoil.other_naxis, r"first frame is 256 x 256 .* 128 x 256"),
    "all frames NaN": (spoil.all_nan, r"none of the 60 frames of .* has finite values"),
    "NaN in a float cube": (spoil.some_nan, ""),
    "NaN in header values": (spoil.nan_in_header, ""),
    "header of 9000 cards": (spoil.huge_header, ""),
    "header without an end": (spoil.endless_header, r"no END card in 1000 blocks"),
    "unknown mode": (spoil.unknown_mode, r"MODE_NUM is missing or unknown"),
    "bomb: terabytes announced": (spoil.announced_bomb, r"unpacks to 2097 GB .* most_raw_file_gb"),
    "bomb: extensions without end": (spoil.hidden_bomb, r"unpacks to 0\.3.* GB or more"),
}


def spoilt_observations(good) -> list[Spoilt]:
    found = [Spoilt(name, make(good), pattern) for name, (make, pattern) in CONTENTS.items()]
    return [
        *found,
        Spoilt("unknown filter", good, r"filter 'H2O' is not in the profile", filter="H2O"),
        Spoilt("_1 without _0", good, r"_0\.fits\.bz2 is missing .* copy it", parts=("", "_1")),
        Spoilt("_0 without the first", good, r"\d\.fits\.bz2 is missing", parts=("_0",)),
        Spoilt("truncated _0", spoil.truncated(good), r"_0\.fits\.bz2.* copy", parts=("", "_0")),
    ]


def put_spoilt(site, good, number, one) -> str:
    name = observation(number, one.filter)
    for part in one.parts:
        content = one.content if part == one.parts[-1] else good
        (site.raw / f"{name}{part}.fits.bz2").write_bytes(content)
    return name


def put_good(site, good, number, one) -> str:
    """Do as the sentence says; return the id under which the observation now stands."""
    name = observation(number, one.filter)
    if one.filter != "Si":
        shutil.move(
            site.raw / f"{name}.fits.bz2", site.raw / f"{observation(number, 'Si')}.fits.bz2"
        )
        return observation(number, "Si")
    wanted = {"_1 without _0": ("_0",), "_0 without the first": ("",)}
    for part in wanted.get(one.fault, one.parts[-1:]):
        site.put(site.raw / f"{name}{part}.fits.bz2", good)
    return name


def is_reduced(site, name) -> bool:
    made = {path.rsplit("/", 1)[-1] for path in site.products(name)}
    return {"100p.fits", f"{name}_strehl.txt", f"{name}_full.png", f"{name}.tar.bz2"} <= made


def test_spoilt_observations(small_night, unspoilt, good, ledger, tmp_path):
    site = Site(tmp_path / "site", {"ROBOAO_MOST_RAW_FILE_GB": NIGHT_LIMIT_BYTES})
    site.link(small_night)
    spoilt = spoilt_observations(good)
    names = [put_spoilt(site, good, number, one) for number, one in enumerate(spoilt)]
    ended = site.night()
    assert ended.returncode == 1
    told, stopped = site.told(), others_stopped(site, unspoilt)
    partial = half_files([site.archive])
    made_of_spoilt = [
        n for n, one in zip(names, spoilt, strict=True) if one.pattern and site.products(n)
    ]
    reduced_anyway = [is_reduced(site, n) for n in names]
    now = [
        put_good(site, good, number, one) if one.pattern else name
        for number, (name, one) in enumerate(zip(names, spoilt, strict=True))
    ]
    again = site.night()
    for number, (one, name) in enumerate(zip(spoilt, names, strict=True)):
        reason = told.get(name, "")
        healed = is_reduced(site, now[number])
        ledger.enter(
            Fault(
                name=one.fault,
                tried=1,
                survived=int(healed and (bool(one.pattern) or reduced_anyway[number])),
                told=reason if one.pattern else "reduced all the same",
                products_lost=lost(unspoilt, site),
                half_files=len(partial),
                others_stopped=stopped,
            )
        )
    assert not stopped
    assert not partial
    assert not made_of_spoilt
    for number, (one, name) in enumerate(zip(spoilt, names, strict=True)):
        reason = told.get(name, "")
        assert bool(reason) == bool(one.pattern), (one.fault, reason)
        assert re.search(one.pattern, reason), (one.fault, reason)
        assert is_reduced(site, now[number]), (one.fault, site.told())
    assert again.returncode == 0, again.stdout[-4000:]
    assert not site.told()
    assert not half_files([site.archive])
    assert not others_stopped(site, unspoilt)


def hostile_names(good) -> dict[str, tuple[bytes, str, str]]:
    """Of each fault: the name of a raw file, as bytes, what is said of it, how it is shown."""
    tail = f"VIC_Si_o_{NIGHT}_1000"
    long = "x" * 180
    return {
        "newline in the name": (f"1_a\nb_{tail}01.0", r"cannot be printed; rename it", r"1_a\nb"),
        "bytes that are no UTF-8": (
            os.fsdecode(b"1_a\xff\xfeb_") + f"{tail}02.0",
            r"cannot be printed; rename it",
            r"1_a\udcff\udcfeb",
        ),
        "a name too long for its products": (f"1_{long}_{tail}03.0", r"is too long: an id", long),
        "a name of no form": (
            "<b>no id</b>".replace("/", ""),
            r"neither <program>_<object>",
            "<b>",
        ),
        "'...' in the name": (f"1_a...b_{tail}04.0", r"'\.\.\.' in its name", "1_a...b"),
        "the year 2099": (
            "1_future_VIC_Si_o_20990101_100005.0",
            r"is of 2099-01-01 by its name .* move it to the folder 20990101, or rename",
            "1_future",
        ),
        "an id of another night": (
            "1_other_VIC_Si_o_20170606_100006.0",
            r"stands in the folder of the night 20170607: move it",
            "1_other",
        ),
        "quotes": (f'1_it\'s "it"_{tail}07.0', "", ""),
        "'..' as the object": (f"1_.._{tail}08.0", "", ""),
        "shell metacharacters": (f"1_$(touch pwned);`id`|&*?[a]~_{tail}09.0", "", ""),
        "HTML in the object": (f"1_<img src=x onerror=alert(1)>_{tail}10.0", "", ""),
        "marks of addresses": (f"1_a%2e%2e#b?c\\d=ä€_{tail}11.0", "", ""),
    }


def put_no_files(site, elsewhere) -> dict[str, tuple[str, str]]:
    """Put what has a raw file's name and is none; return what has to be said of each."""
    stem = f"_VIC_Si_o_{NIGHT}_110000.0.fits.bz2"
    (site.raw / f"1_folder{stem}").mkdir()
    os.mkfifo(site.raw / f"1_fifo{stem}")
    (site.raw / f"1_dangling{stem}").symlink_to(elsewhere / "nothing")
    (site.raw / f"1_circle{stem}").symlink_to(site.raw / f"1_circle{stem}")
    return {
        "a folder": (f"1_folder{stem}", r"is no file"),
        "a fifo": (f"1_fifo{stem}", r"is no file"),
        "a dangling link": (f"1_dangling{stem}", r"cannot be looked at: No such file"),
        "a link to itself": (f"1_circle{stem}", r"cannot be looked at: Too many levels"),
    }


def put_on_two_roots(site, good, small_observations) -> dict[str, tuple[str, str]]:
    """Put files of one name on two roots; return what has to be said of each."""
    site.second.mkdir(parents=True)
    same, other = small_observations
    for name in site.raw.glob(f"{same}*"):
        (site.second / name.name).write_bytes(name.read_bytes())
    (site.second / f"{other}.fits.bz2").write_bytes(good[:-100])
    darks = sorted(path.name for path in site.raw.glob("dark_64_*"))
    changed = spoil.flipped((site.raw / darks[0]).read_bytes())
    (site.second / darks[0]).write_bytes(changed)
    return {
        "one id on two roots, other content": (
            f"{other}.fits.bz2",
            r"is left alone, as .* comes first in the raw roots; they differ \(\d+ and \d+ bytes\)",
        ),
        "the same, of one size": (darks[0], r"they differ \(of one size\), remove the wrong one"),
    }


def test_hostile_names(
    small_night, unspoilt, good, ledger, tmp_path, catalogue_url, small_observations
):
    site = Site(tmp_path / "site", catalogue_url=catalogue_url)
    site.link(small_night)
    names = hostile_names(good)
    for name, _, _ in names.values():
        (site.raw / f"{name}.fits.bz2").write_bytes(good)
    unreadable = site.raw / f"1_locked_VIC_Si_o_{NIGHT}_120000.0.fits.bz2"
    unreadable.write_bytes(good)
    unreadable.chmod(0)
    expected = put_no_files(site, tmp_path) | put_on_two_roots(site, good, small_observations)
    site.night()
    told, stopped = site.told(), others_stopped(site, unspoilt)
    locked = unreadable.name.removesuffix(".fits.bz2")
    said = site.run("failures", NIGHT)
    partial = half_files([site.archive])
    reduced = {fault: is_reduced(site, name) for fault, (name, _, _) in names.items()}
    # Each is renamed, removed or opened, as its sentence says.
    number = {fault: k for k, fault in enumerate(names)}
    for fault, (name, pattern, _) in names.items():
        if pattern:
            (site.raw / f"{name}.fits.bz2").rename(
                site.raw / f"{observation(number[fault], 'Si')}.fits.bz2"
            )
    for name, _ in expected.values():
        for path in (site.second / name, site.raw / name):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            elif os.path.lexists(path) and (path.parent == site.second or name[:2] == "1_"):
                path.unlink()
    unreadable.chmod(0o644)
    again = site.night()
    healed = {
        fault: is_reduced(site, observation(number[fault], "Si") if pattern else name)
        for fault, (name, pattern, _) in names.items()
    }
    home = "" if catalogue_url.startswith("sqlite") else " (FerretDB)"
    counts = {
        "products_lost": lost(unspoilt, site),
        "half_files": len(partial),
        "others_stopped": stopped,
    }
    for fault, (_, pattern, shown) in names.items():
        key = next((k for k in told if shown and shown in k), "")
        reason = told.get(key, "") if pattern else "reduced all the same"
        survived = int(healed[fault] and (bool(pattern) or reduced[fault]))
        ledger.enter(Fault(name=fault + home, tried=1, survived=survived, told=reason, **counts))
    for fault, (name, _) in expected.items():
        reason = told.get(name, "")
        survived = int(again.returncode == 0)
        ledger.enter(Fault(name=fault + home, tried=1, survived=survived, told=reason, **counts))
    reason = told.get(locked, "")
    survived = int(is_reduced(site, locked))
    ledger.enter(Fault(name=f"mode 000{home}", tried=1, survived=survived, told=reason, **counts))

    assert said.returncode == 0, said.stderr
    assert not stopped
    assert not partial
    for fault, (name, pattern, shown) in names.items():
        keys = [key for key in told if shown and shown in key]
        if pattern:
            assert keys, (fault, told)
            assert re.search(pattern, told[keys[0]]), (fault, told[keys[0]])
            assert keys[0].isprintable()
        else:
            assert name not in told, told
            assert reduced[fault], fault
    for fault, (name, pattern) in expected.items():
        assert re.search(pattern, told.get(name, "")), (fault, told)
    assert re.search(r"cannot be read: .*Permission denied", told.get(locked, "")), told
    # The same content twice is no fault.
    assert not [key for key in told if key.startswith(small_observations[0])]
    assert all(healed.values()), healed
    assert again.returncode == 0, again.stdout[-4000:]
    assert not site.told()
    assert is_reduced(site, locked)
    assert not list((site.root / "work").iterdir())
    assert not list(tmp_path.rglob("pwned"))
