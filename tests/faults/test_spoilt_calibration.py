"""Darks, flats, seeing exposures missing or spoilt; masters, library, products spoilt on disk."""

import re
import threading
import time
from datetime import date

import spoilt_files as spoil
from ledger import Fault, half_files
from spoilt_site import NIGHT, Site, observation

from roboao_assets.storage.fits_products import read_product_header
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.psf_library import PsfLibrary
from roboao_assets.storage.raw_scan import scan_raw_nights


def enter(ledger, name, told, survived, **counts):
    ledger.enter(Fault(name=name, tried=1, survived=int(survived), told=told, **counts))


def counts_of(site, unspoilt) -> dict[str, int]:
    return {
        "others_stopped": site.others_stopped(unspoilt),
        "products_lost": site.lost(unspoilt),
        "half_files": len(half_files([site.archive])),
    }


NOTHING = {"others_stopped": 0, "products_lost": 0, "half_files": 0}


def frames_in(site, master: str) -> int:
    return read_product_header(site.archive / NIGHT / "calib" / f"{master}.fits")["NFRAMES"]


def test_spoilt_calibration_files(small_night, unspoilt, ledger, tmp_path):
    """The others are combined: the masters are byte for byte those of the night without them."""
    site = Site(tmp_path / "site")
    site.link(small_night)
    dark, other = sorted(site.raw.glob("dark_0_*"))[:2]
    flat = min(site.raw.glob("flat_0_Si_*"))
    seeing = min(site.raw.glob("seeing_VIC_Si_*"))
    tail = f"VIC_Si_o_{NIGHT}_013000.0.fits.bz2"
    spoilt = {
        "spoilt dark": (f"dark_0_{tail}", spoil.truncated, dark, r"truncated or damaged, copy it"),
        "dark of another shape": (
            f"dark_0_again_{tail}",
            lambda _: min(site.raw.glob("dark_64_*")).read_bytes(),
            other,
            r"frames of 256 x 256 px uint16, and most files of its kind of 1024 x 1024",
        ),
        "spoilt flat": (f"flat_0_Si_{tail}", spoil.garbage, flat, r"truncated or damaged, copy it"),
        "spoilt seeing file": (f"seeing_{tail}", spoil.truncated, seeing, r"copy it again"),
    }
    for name, make, source, _ in spoilt.values():
        site.put(site.raw / name, make(source.read_bytes()))
    site.night()
    told, counts = site.told(), counts_of(site, unspoilt)
    frames = {key: frames_in(site, key) for key in ("dark_0", "flat_Si")}
    for name, _, source, _ in spoilt.values():
        site.put(site.raw / name, source.read_bytes())
    healed = site.night()
    more = {key: frames_in(site, key) - frames[key] for key in frames}
    for fault, (name, _, _, _) in spoilt.items():
        reason = told.get(name, told.get(name.removesuffix(".fits.bz2"), ""))
        survived = healed.returncode == 0 and not site.told()
        enter(ledger, fault, reason, survived, **counts)
        assert re.search(spoilt[fault][3], reason), (fault, told)
    assert len(told) == len(spoilt), told
    assert counts == NOTHING
    assert healed.returncode == 0, healed.stdout[-3000:]
    assert not site.told()
    assert more == {"dark_0": 2, "flat_Si": 1}
    assert all(site.is_reduced(name) for name in unspoilt)


def test_missing_calibration(small_night, unspoilt, small_observations, ledger, tmp_path):
    site = Site(tmp_path / "site")
    site.link(small_night, lambda name: not name.startswith(("dark_", "flat_")))
    site.link(small_night, lambda name: name.startswith("flat_"))
    site.night()
    no_darks = site.told()[NIGHT]
    site.link(small_night, lambda name: name.startswith("dark_"))
    for path in site.raw.glob("flat_*"):
        path.unlink()
    site.night()
    no_flats = site.told()[NIGHT]
    site.link(small_night, lambda name: name.startswith("flat_0_Si_"))
    site.night()
    of_filter = {name: "_Si_" in name for name in small_observations}
    one_filter, reduced = site.told(), {name: site.is_reduced(name) for name in of_filter}
    site.link(small_night, lambda name: name.startswith("flat_0_lp600_"))
    ended = site.night()
    counts = counts_of(site, unspoilt)
    lacking = next(name for name, is_si in of_filter.items() if not is_si)
    healed = ended.returncode == 0 and not site.told() and counts == NOTHING
    for fault, reason in (
        ("no darks", no_darks),
        ("no flats", no_flats),
        ("no flats of one filter", one_filter.get(lacking, "")),
    ):
        enter(ledger, fault, reason, healed, **counts)
    assert re.search(r"has 0 dark and \d+ flat files in .* add the missing files", no_darks)
    assert re.search(r"has \d+ dark and 0 flat files in .* add the missing files", no_flats)
    assert reduced == of_filter
    assert re.search(
        r"master frame flat_lp600.fits is not in .* raw files of this mode", one_filter[lacking]
    )
    assert healed, (ended.stdout[-3000:], counts)


def test_what_is_spoilt_on_disk(small_night, unspoilt, small_observations, ledger, tmp_path):
    """It is noticed, and what was there is there again, byte for byte."""
    site = Site(tmp_path / "site")
    site.link(small_night)
    assert site.night().returncode == 0
    added = site.run("psf-library", "add", *small_observations)
    assert added.returncode == 0, added.stdout + added.stderr
    assert site.night().returncode == 0
    before = {name: site.products(name) for name in small_observations}
    assert all(any(p.endswith("_pca.fits") for p in before[name]) for name in before)
    paths = ArchivePaths(site.archive)
    first, second = small_observations
    cut = {
        "truncated master dark": paths.master_dark(NIGHT, "64"),
        "truncated master flat": paths.master_flat(NIGHT, "Si"),
        "truncated product 100p.fits": paths.stack(NIGHT, first, 100),
        "truncated package": paths.package(NIGHT, second),
        "truncated PSF candidate": paths.psf_candidate(NIGHT, second, "fits"),
    }
    sizes = {path: path.stat().st_size for path in cut.values()}
    masters = {p: p.read_bytes() for p in cut.values() if "calib" in p.parts}
    for path in cut.values():
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size * 2 // 3)
    ended = site.night()
    stages = ("master_darks", "master_flats", "bright_star_stack", "distribution_package")
    lines = ended.stdout.splitlines()
    made = dict(zip(cut, (*stages, "psf_candidate"), strict=True))
    counts = counts_of(site, before)
    for fault, stage in made.items():
        line = next((" ".join(x.split()) for x in lines if x.startswith("made") and stage in x), "")
        whole = cut[fault].stat().st_size == sizes[cut[fault]]
        enter(ledger, fault, line[:200], whole and bool(line), **counts)
        assert line, (fault, ended.stdout)
        assert whole, fault
    assert counts == NOTHING
    assert {path: path.read_bytes() for path in masters} == masters
    assert ended.returncode == 0
    spoil_the_library(site, before, ledger)


def spoil_the_library(site, before, ledger):
    library = ArchivePaths(site.archive).psf_library
    whole = library.read_bytes()
    # Within the frames: what stands behind them, the table, is gone.
    library.write_bytes(whole[:100_000])
    site.night()
    told, counts = site.told(), counts_of(site, before)
    library.write_bytes(whole)
    ended = site.night()
    healed = ended.returncode == 0 and not site.told() and counts_of(site, before) == NOTHING
    reason = next(iter(told.values()), "")
    enter(ledger, "truncated PSF library", reason, healed, **counts)
    assert counts == NOTHING
    assert set(told) == set(before)
    assert str(library) in reason
    assert "backup" in reason, reason
    assert healed, ended.stdout[-3000:]
    assert len(PsfLibrary(library).entries()) == len(before)


class Growing:
    """A file that grows, a little every few milliseconds, until it is told to be whole."""

    def __init__(self, path, content):
        self.path, self.content = path, content
        self.done = len(content) // 2
        path.write_bytes(content[: self.done])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._grow)

    def _grow(self):
        with self.path.open("ab", buffering=0) as file:
            while not self._stop.wait(0.01):
                step = max(1, (len(self.content) - self.done) // 10_000)
                file.write(self.content[self.done : self.done + step])
                self.done = min(len(self.content), self.done + step)
            file.write(self.content[self.done :])

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._stop.set()
        self._thread.join()


def test_a_file_that_grows_while_it_is_read(small_night, unspoilt, good, ledger, tmp_path):
    site = Site(tmp_path / "site")
    site.link(small_night)
    name = observation(57)
    site.growing = f"{name}.fits.bz2"
    with Growing(site.raw / site.growing, good) as growing:
        site.night()
        assert growing.done < len(good), "it was whole before the night was reduced"
    told, counts, made = site.told(), counts_of(site, unspoilt), site.products(name)
    ended = site.night()
    healed = ended.returncode == 0 and site.is_reduced(name) and not site.told()
    enter(ledger, "a file growing while it is read", told.get(name, ""), healed, **counts)
    assert counts == NOTHING
    assert set(told) == {name}
    assert re.search(r"changed while it was read; it is read again when it has settled", told[name])
    assert not made
    assert healed, ended.stdout[-3000:]


def test_a_growing_file_waits_until_it_has_settled(small_night, good, ledger, tmp_path):
    """As the sensor looks: nothing of it is taken in before it stood still."""
    settle_s = 1.0
    root = tmp_path / "raw"
    (root / NIGHT).mkdir(parents=True)
    name, still = observation(58), observation(59)
    (root / NIGHT / f"{still}.fits.bz2").write_bytes(good)
    path = root / NIGHT / f"{name}.fits.bz2"
    before: dict = {NIGHT: {}}

    def look():
        scan = scan_raw_nights((root,), date(2012, 1, 1), settle_s, before=before)[NIGHT]
        before[NIGHT] = scan.recent
        return scan

    seen = []
    with Growing(path, good):
        while len(seen) < 12 or still not in seen[-1].observations:
            time.sleep(0.3)
            seen.append(look())
            assert len(seen) < 200
    early = [scan for scan in seen if name in scan.observations]
    arriving = seen[-1].n_arriving
    deadline = time.monotonic() + 60
    while name not in (scan := look()).observations and time.monotonic() < deadline:
        time.sleep(0.3)
    settled = name in scan.observations and path.read_bytes() == good
    told = f"{arriving} files are still arriving"
    enter(ledger, "a file growing while it arrives", told, settled and not early)
    assert not early
    assert arriving == 1
    assert settled
    assert scan.fingerprint != seen[-1].fingerprint
