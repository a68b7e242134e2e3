"""A night of good observations and of spoilt files of every kind: the good ones are not stopped."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import spoilt_files as spoil
from ledger import Fault, half_files
from spoilt_site import NIGHT, Site, observation

ALL_THE_SAME = "reduced all the same"


@dataclass
class Tried:
    """A fault of a night, and what came of it.

    `name` is under what it is told, `pattern` what is told; empty: it is reduced all the same.
    `heal` does what the sentence says, and returns the observation that is reduced then, if any.
    """

    fault: str
    name: str
    pattern: str
    heal: Callable[[], str] = str
    reason: str = ""
    healed: bool = field(default=False, init=False)

    def note(self, site: Site, told: dict[str, str]) -> None:
        """Keep what was told of it, or that it was reduced."""
        self.reason = told.get(self.name, "")
        if not self.pattern and not self.reason and site.is_reduced(self.name):
            self.reason = ALL_THE_SAME

    def is_told(self) -> bool:
        if not self.pattern:
            return self.reason == ALL_THE_SAME
        return re.search(self.pattern, self.reason) is not None


def run_twice(site, tried: list[Tried], unspoilt, ledger, suffix="", again=True):
    """Reduce the night, heal the faults, reduce it again; enter all and demand all."""
    site.night()
    told, stopped, lost = site.told(), site.others_stopped(unspoilt), site.lost(unspoilt)
    partial = half_files([site.archive])
    said = site.run("failures", NIGHT)
    for one in tried:
        one.note(site, told)
    waiting = {one.fault: one.heal() for one in tried}
    ended = site.night() if again else None
    for one in tried:
        now = waiting[one.fault]
        one.healed = one.is_told() and (not again or not now or site.is_reduced(now))
        ledger.enter(
            Fault(
                name=one.fault + suffix,
                tried=1,
                survived=int(one.healed),
                told=one.reason,
                products_lost=lost,
                half_files=len(partial),
                others_stopped=stopped,
            )
        )
    assert said.returncode == 0, said.stderr
    assert (stopped, lost, partial) == (0, 0, [])
    assert not [one for one in tried if not one.is_told()]
    # Every sentence is of a fault that was tried, and can be shown.
    assert set(told) == {one.name for one in tried if one.pattern}
    assert all(name.isprintable() and reason.isprintable() for name, reason in told.items())
    if ended is not None:
        assert not [one for one in tried if not one.healed], site.told()
        assert ended.returncode == 0, ended.stdout[-4000:]
        assert not site.told()
        assert site.others_stopped(unspoilt) == 0
        assert not half_files([site.archive])


CONTENTS = {
    "truncated bzip2": (spoil.truncated, r"truncated or damaged, copy it again"),
    "garbage": (spoil.garbage, r"no bzip2 file, or is damaged .* copy it again"),
    "0 bytes": (spoil.empty, r"empty \(zero bytes\); copy it again"),
    "a flipped bit": (spoil.flipped, r"truncated or damaged, copy it again"),
    "other NAXIS in one extension": (spoil.other_naxis, r"256 x 256 .* 128 x 256 .* copy it again"),
    "all frames NaN": (spoil.all_nan, r"none of the 60 frames .* copy it again"),
    "a pixel NaN in every frame": (
        spoil.dead_pixel,
        r"not one frame is finite .* copy the raw files again",
    ),
    "a frame and a pixel NaN": (spoil.some_nan, ""),
    "NaN in header values": (spoil.nan_in_header, ""),
    "header of 9000 cards": (spoil.huge_header, ""),
    "header without an end": (spoil.endless_header, r"no END card in 1000 blocks"),
    "unknown mode": (spoil.unknown_mode, r"MODE_NUM is missing or unknown"),
    "bomb: terabytes announced": (spoil.announced_bomb, r"unpacks to 2097 GB .* most_raw_file_gb"),
    "bomb: extensions without end": (spoil.hidden_bomb, r"unpacks to 0\.3.* GB or more"),
}


def spoilt_contents(site, good) -> list[Tried]:
    """An observation of each kind of spoilt content; the good one is put in its place."""
    tried = []
    for number, (fault, (make, pattern)) in enumerate(CONTENTS.items()):
        name = observation(number)
        path = site.put(site.raw / f"{name}.fits.bz2", make(good))
        heal = (lambda p=path, n=name: site.put(p, good) and n) if pattern else str
        tried.append(Tried(fault, name, pattern, heal))
    return tried


def spoilt_parts(site, good) -> list[Tried]:
    """Long exposures of which a file is missing or spoilt, and one of a filter that nobody has."""

    def whole(name: str, part: str) -> str:
        site.put(site.raw / f"{name}{part}.fits.bz2", good)
        return name

    tried = []
    kinds = {
        "_1 without _0": ({"": good, "_1": good}, "_0", r"_0\.fits\.bz2 is missing .* copy it"),
        "_0 without the first": ({"_0": good}, "", r"\d\.fits\.bz2 is missing .* copy it"),
        "truncated _0": ({"": good, "_0": good[:-5000]}, "_0", r"_0\.fits\.bz2.* copy it again"),
    }
    for number, (fault, (parts, wanted, pattern)) in enumerate(kinds.items(), 20):
        name = observation(number)
        for part, content in parts.items():
            site.put(site.raw / f"{name}{part}.fits.bz2", content)
        tried.append(Tried(fault, name, pattern, lambda n=name, w=wanted: whole(n, w)))
    odd, usual = observation(30, "H2O"), observation(30)
    path = site.put(site.raw / f"{odd}.fits.bz2", good)

    def rename() -> str:
        path.rename(site.raw / f"{usual}.fits.bz2")
        return usual

    tried.append(Tried("unknown filter", odd, r"filter 'H2O' is not in the profile", rename))
    return tried


def test_spoilt_observations(small_night, unspoilt, good, ledger, tmp_path):
    site = Site(tmp_path / "site", {"ROBOAO_MOST_RAW_FILE_GB": "0.3"})
    site.link(small_night)
    tried = [*spoilt_contents(site, good), *spoilt_parts(site, good)]
    run_twice(site, tried, unspoilt, ledger)


TAIL = f"VIC_Si_o_{NIGHT}_1000"
HOSTILE_NAMES = {
    "newline in the name": (f"1_a\nb_{TAIL}01.0", r"cannot be printed; rename it"),
    "bytes that are no UTF-8": (f"1_a\udcff\udcfeb_{TAIL}02.0", r"cannot be printed; rename it"),
    "no room for names of products": (f"1_{'x' * 180}_{TAIL}03.0", r"is too long: an id may have"),
    "a name of no form": ("<b>no id<b>", r"neither <program>_<object>.* until it is renamed"),
    "'...' in the name": (f"1_a...b_{TAIL}04.0", r"'\.\.\.' in its name, .* rename it"),
    "the year 2099": (
        "1_future_VIC_Si_o_20990101_100005.0",
        r"is of 2099-01-01 by its name .* move it to the folder 20990101, or rename",
    ),
    "an id of another night": (
        "1_other_VIC_Si_o_20170606_100006.0",
        r"stands in the folder of the night 20170607: move it",
    ),
    "quotes": (f'1_it\'s "it"_{TAIL}07.0', ""),
    "'..' as the object": (f"1_.._{TAIL}08.0", ""),
    "shell metacharacters": (f"1_$(touch pwned);`id`|&*?[a]~_{TAIL}09.0", ""),
    "HTML in the object": (f"1_<img src=x onerror=alert(1)>_{TAIL}10.0", ""),
    "marks of addresses": (f"1_a%2e%2e#b?c\\d=ä€_{TAIL}11.0", ""),
}


def hostile_names(site, good) -> list[Tried]:
    tried = []
    for number, (fault, (stem, pattern)) in enumerate(HOSTILE_NAMES.items(), 40):
        path = site.put(site.raw / f"{stem}.fits.bz2", good)
        if not pattern:
            tried.append(Tried(fault, stem, ""))
            continue

        def rename(path=path, number=number) -> str:
            path.rename(site.raw / f"{observation(number)}.fits.bz2")
            return observation(number)

        shown = path.name.replace("\n", r"\n").replace("\udcff\udcfe", r"\udcff\udcfe")
        tried.append(Tried(fault, shown, pattern, rename))
    return tried


def no_files(site, elsewhere) -> list[Tried]:
    """What has a raw file's name and is none, or cannot be read."""
    tail = f"_VIC_Si_o_{NIGHT}_110000.0.fits.bz2"
    folder, fifo = site.raw / f"1_folder{tail}", site.raw / f"1_fifo{tail}"
    dangling, circle = site.raw / f"1_dangling{tail}", site.raw / f"1_circle{tail}"
    folder.mkdir()
    os.mkfifo(fifo)
    dangling.symlink_to(elsewhere / "nothing")
    circle.symlink_to(circle)

    def remove(path: Path) -> str:
        path.rmdir() if path == folder else path.unlink()
        return ""

    reasons = {
        "a folder": (folder, r"is no file"),
        "a fifo": (fifo, r"is no file"),
        "a dangling link": (dangling, r"cannot be looked at: No such file"),
        "a link to itself": (circle, r"cannot be looked at: Too many levels"),
    }
    return [
        Tried(fault, path.name, pattern, lambda p=path: remove(p))
        for fault, (path, pattern) in reasons.items()
    ]


def locked_file(site, good) -> Tried:
    name = observation(55)
    path = site.put(site.raw / f"{name}.fits.bz2", good)
    path.chmod(0)

    def unlock() -> str:
        path.chmod(0o644)
        return name

    pattern = r"cannot be read: Permission denied; let the user that the archive runs as read it"
    return Tried("a file of mode 000", name, pattern, unlock)


def on_two_roots(site, small_observations) -> list[Tried]:
    """Files of one name on two raw roots: of the same content nothing need be said."""
    site.second.mkdir(parents=True)
    same, other = small_observations
    for path in site.raw.glob(f"{same}*"):
        site.put(site.second / path.name, path.read_bytes())
    longer = site.put(site.second / f"{other}.fits.bz2", b"other")
    dark = next(iter(sorted(site.raw.glob("dark_64_*"))))
    changed = site.put(site.second / dark.name, spoil.flipped(dark.read_bytes()))

    def remove(path: Path) -> str:
        path.unlink()
        return ""

    sizes = r"comes first in the raw roots; they differ \(5 and \d+ bytes\), remove the wrong one"
    return [
        Tried("one id, other content on two roots", longer.name, sizes, lambda: remove(longer)),
        Tried(
            "the same, of one size",
            changed.name,
            r"they differ \(of one size\), remove the wrong one",
            lambda: remove(changed),
        ),
    ]


def test_hostile_names(
    small_night, small_observations, unspoilt, good, ledger, tmp_path, catalogue_url
):
    site = Site(tmp_path / "site", catalogue_url=catalogue_url)
    site.link(small_night)
    is_mongodb = catalogue_url.startswith("mongodb")
    tried = hostile_names(site, good)
    if not is_mongodb:
        tried += [*no_files(site, tmp_path), locked_file(site, good)]
        tried += on_two_roots(site, small_observations)
    # What a database may refuse is the names; how a night is healed does not depend on it.
    suffix = " (FerretDB)" if is_mongodb else ""
    run_twice(site, tried, unspoilt, ledger, suffix, again=not is_mongodb)
    assert not list(tmp_path.rglob("pwned"))
