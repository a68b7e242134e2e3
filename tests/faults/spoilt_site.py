"""A site of its own for a night with spoilt files: the real command, and what came of it."""

import bz2
import ctypes
import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from astropy.io import fits

from roboao_assets.pipelines.failures import files_left_alone, night_failures
from roboao_assets.storage.catalogue import open_catalogue

NIGHT = "20170607"
# Of a loaded machine; nothing here takes a tenth of it on an idle one.
COMMAND_LIMIT_S = 900
_FOLDERS = {"archive", "home", "raw", "temporary", "work"}
_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 24, 1, 2


def obey_modes() -> None:
    """Let a process that root starts be refused what a file's mode refuses."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
            if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
                raise OSError(ctypes.get_errno(), "a capability cannot be dropped")


@dataclass
class Site:
    """Raw roots, archive and Dagster home below one folder, in which nothing else may appear."""

    root: Path
    settings: dict[str, str] = field(default_factory=dict)
    catalogue_url: str = ""
    # Name of a raw file that somebody else writes meanwhile.
    growing: str = ""

    def __post_init__(self):
        for name in _FOLDERS - {"archive"}:
            (self.root / name).mkdir(parents=True)
        self.raw.mkdir(parents=True)
        self.catalogue_url = self.catalogue_url or f"sqlite:///{self.archive}/catalogue.sqlite"

    @property
    def archive(self) -> Path:
        return self.root / "archive"

    @property
    def raw(self) -> Path:
        """The night's folder on the first raw root."""
        return self.root / "raw" / "one" / NIGHT

    @property
    def second(self) -> Path:
        """The night's folder on the second raw root."""
        return self.root / "raw" / "two" / NIGHT

    def link(self, source: Path, chosen=lambda name: True) -> None:
        """Bring the files of a night whose names are `chosen`."""
        for path in (source / NIGHT).iterdir():
            if chosen(path.name):
                os.link(path, self.raw / path.name)

    def put(self, path: Path, content: bytes) -> Path:
        """Write a raw file in place of what stands there, which may be a link to another's."""
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        return path

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run a command as an operator does, in a folder in which it must write nothing."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ROBOAO_", "DAGSTER_"))}
        roots = [self.raw.parent, *([self.second.parent] if self.second.is_dir() else [])]
        own = {
            "DAGSTER_HOME": str(self.root / "home"),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "TMPDIR": str(self.root / "temporary"),
            "ROBOAO_RAW_ROOTS": os.pathsep.join(map(str, roots)),
            "ROBOAO_ARCHIVE_ROOT": str(self.archive),
            "ROBOAO_CATALOGUE_URL": self.catalogue_url,
            "ROBOAO_WORKERS": "2",
            # Half of a package, which takes half of an observation's time.
            "ROBOAO_BRIGHT_STAR__SHORT_STACKS": "0",
            "COLUMNS": "400",
        }
        before = self._outside()
        ended = subprocess.run(  # noqa: PLW1510 (a failure is told by its status)
            [sys.executable, "-m", "roboao_assets.cli", *arguments],
            env=kept | own | self.settings,
            cwd=self.root / "work",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_LIMIT_S,
            preexec_fn=obey_modes,
        )
        # Dask may log that a worker's heartbeat met a scheduler that had gone already.
        assert "Traceback" not in ended.stdout, ended.stdout[-6000:]
        assert "/roboao_assets/" not in ended.stderr, ended.stderr[-6000:]
        assert self._outside() == before, "something was written outside of the archive"
        return ended

    def night(self) -> subprocess.CompletedProcess:
        """Reduce the night by the real command, with its Dask workers."""
        return self.run("night", NIGHT)

    def _outside(self) -> dict[str, tuple[int, int]]:
        """Names, sizes and times of all that is not the archive's, Dagster's or temporary."""
        found = {path.name: (0, 0) for path in self.root.iterdir() if path.name != "archive"}
        assert set(found) <= _FOLDERS
        for name in ("raw", "work"):
            for path in (self.root / name).rglob("*"):
                if path.name == self.growing:
                    continue
                status = path.lstat()
                found[str(path)] = (status.st_size, status.st_mtime_ns)
        return found

    def open_catalogue(self):
        return open_catalogue(self.catalogue_url, read_only=True)

    def told(self) -> dict[str, str]:
        """What `roboao failures` lists of the night: the sentences by observation or file."""
        with self.open_catalogue() as catalogue:
            rows = [(f.subject, f.reason) for f in night_failures(catalogue, NIGHT)]
            rows += [(f.name, f.reason) for f in files_left_alone(catalogue, NIGHT)]
        found: dict[str, str] = {}
        for name, reason in rows:
            assert "a defect" not in reason, (name, reason)
            found.setdefault(name, reason)
        return found

    def is_reduced(self, observation: str) -> bool:
        """Whether an observation has the products that every star has, and its package."""
        made = {path.rsplit("/", 1)[-1] for path in self.products(observation)}
        named = {f"{observation}{end}" for end in ("_strehl.txt", "_full.png", ".tar.bz2")}
        return {"100p.fits", "frames.txt", *named} <= made

    def others_stopped(self, unspoilt: dict[str, dict[str, str]]) -> int:
        """How many good observations have not the unspoilt night's products, byte for byte."""
        return sum(self.products(name) != products for name, products in unspoilt.items())

    def lost(self, unspoilt: dict[str, dict[str, str]]) -> int:
        """How many of the unspoilt night's products are not there."""
        return sum(len(p.keys() - self.products(name).keys()) for name, p in unspoilt.items())

    def products(self, observation: str) -> dict[str, str]:
        """SHA-256 of every product of an observation, by name below the night's folder."""
        night = self.archive / NIGHT
        files = [p for p in (night / observation).rglob("*") if p.is_file()]
        files += (night / "summary" / "psflib").glob(f"{observation}.*")
        digest = {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
        return {str(p.relative_to(night)): value for p, value in digest.items()}


def observation(number: int, filter_name: str = "Si") -> str:
    """Id of an observation of a night that has others, by the night's hour and a number."""
    return f"1_spoilt_{number}_VIC_{filter_name}_o_{NIGHT}_09{number:02d}00.000000"


def split_hdus(packed: bytes) -> list[bytes]:
    """Return the HDUs of a raw file, each as its bytes."""
    raw = bz2.decompress(packed)
    with fits.open(BytesIO(raw)) as hdus:
        starts = [unit.fileinfo()["hdrLoc"] for unit in hdus]
    return [raw[a:b] for a, b in zip(starts, [*starts[1:], len(raw)], strict=True)]


def set_card(hdu: bytes, keyword: str, value: str) -> bytes:
    """Return an HDU with another value in one card."""
    at = next(i for i in range(0, len(hdu), 80) if hdu[i : i + 8].strip() == keyword.encode())
    return hdu[:at] + f"{keyword:<8}= {value:>20}".ljust(80).encode() + hdu[at + 80 :]


def add_cards(hdu: bytes, cards: bytes) -> bytes:
    """Return an HDU with further cards in front of its END."""
    end = next(i for i in range(0, len(hdu), 80) if hdu[i : i + 80] == b"END".ljust(80))
    data = -(-(end + 80) // 2880) * 2880
    header = hdu[:end] + cards + b"END".ljust(80)
    return header.ljust(-(-len(header) // 2880) * 2880) + hdu[data:]


def pack(hdus: list[bytes]) -> bytes:
    """Return HDUs as a raw file."""
    return bz2.compress(b"".join(hdus), 1)
