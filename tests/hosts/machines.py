"""Machines of the tests: namespaces of their own, in each of which systemd boots.

A machine has its own process ids, host name, users, network and files (this machine's, under a
layer that goes with the tests), and the checkout at /opt/roboao. Nothing of it is seen outside.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[2]
BOOT = Path(__file__).with_name("boot.sh")
CGROUPS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
BOOT_LIMIT_S, RUN_LIMIT_S = 120, 600
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def unavailable(reason: str) -> NoReturn:
    """Skip with the reason; fail where CI is set, which has all that is needed."""
    message = f"NO MACHINES TO TEST WITH: {reason}; several machines were NOT tested"
    if os.environ.get("CI") and os.getuid() == 0:
        pytest.fail(message)
    pytest.skip(message)


def check_this_machine() -> Path:
    """Return where groups of processes can be made; without all that is needed, skip."""
    if os.getuid() != 0:
        unavailable("namespaces of the network need root")
    for program in ("ip", "nft", "nginx", "unshare", "nsenter", "openssl", "curl"):
        if shutil.which(program, path=PATH) is None:
            unavailable(f"the program {program} is not there")
    if not Path("/lib/systemd/systemd").exists():
        unavailable("systemd is not there")
    if not Path("/lib/systemd/system/postgresql@.service").exists():
        unavailable("Debian's PostgreSQL is not there")
    if Path(sys.prefix) != ROOT / ".venv":
        unavailable(f"this runs in {sys.prefix}, not in the checkout's .venv")
    trial = subprocess.run(
        ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--fork", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    if trial.returncode != 0:
        unavailable(f"namespaces are refused: {trial.stderr.strip()}")
    cgroups = next((c for c in CGROUPS if (c / "cgroup.procs").exists()), None)
    if cgroups is None:
        unavailable("there is no cgroup2")
    return cgroups


def clear_leftovers(cgroups: Path) -> None:
    """Remove the networks and groups of tests that were killed; their processes went with them."""
    for network in Path("/run/netns").glob("roboao-*-*"):
        if not Path("/proc", network.name.split("-")[1]).exists():
            subprocess.run(["ip", "netns", "del", network.name], check=False)
            _remove_groups(cgroups / network.name)


def _remove_groups(cgroup: Path, limit_s: float = 20) -> None:
    deadline = time.monotonic() + limit_s
    while cgroup.exists() and time.monotonic() < deadline:
        for path, _, _ in os.walk(cgroup, topdown=False):
            try:
                os.rmdir(path)
            except OSError:
                # Its processes are not all gone yet.
                time.sleep(0.1)


def relocate(folder: Path) -> str:
    """Write what must differ in a checkout at /opt/roboao; return the layers, uppermost first.

    The virtual environment and the installed package name their own folder in a few files.
    """
    here, there = str(ROOT), "/opt/roboao"
    venv = ROOT / ".venv"
    packages = next((venv / "lib").glob("python3*")) / "site-packages"
    candidates = [
        *(path for path in (venv / "bin").iterdir() if path.is_file() and not path.is_symlink()),
        venv / "pyvenv.cfg",
        *packages.glob("*roboao*.p*"),
        *packages.glob("roboao*.dist-info/direct_url.json"),
    ]
    for path in candidates:
        content = path.read_bytes()
        if here.encode() not in content and own_python() is None:
            continue
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        content = content.replace(here.encode(), there.encode())
        if own_python() is not None:
            content = content.replace(sys.base_prefix.encode(), b"/opt/python")
        target.write_bytes(content)
        target.chmod(path.stat().st_mode)
    if own_python() is not None:
        python = f"python3.{sys.version_info.minor}"
        (folder / ".venv" / "bin" / python).symlink_to(f"/opt/python/bin/{python}")
    return f"{folder}:{ROOT}"


def own_python() -> Path | None:
    """Return Python's folder if services could not see it where it is, None if they can."""
    prefix = Path(sys.base_prefix)
    return None if prefix in (Path("/usr"), Path("/usr/local")) else prefix


class Machine:
    """One machine; `boot` it, `run` shell scripts on it, `cut_power`."""

    def __init__(
        self, name: str, folder: Path, checkout: str, cgroups: Path, mounts: Sequence[str]
    ):
        self.name, self.folder, self.checkout = name, folder, checkout
        self.mounts = list(mounts)
        self.network = f"roboao-{os.getpid()}-{name}"
        self.cgroup = cgroups / self.network
        self.layers = folder / name
        self.pid = 0
        self._process: subprocess.Popen | None = None
        self.layers.mkdir()
        # A layer must not lie in the layer below it.
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", self.layers], check=True)
        subprocess.run(["ip", "netns", "add", self.network], check=True)

    def boot(self) -> None:
        """Start systemd in namespaces of its own; return when the machine is up."""
        self.cgroup.mkdir(exist_ok=True)
        python = own_python()
        words = [self.name, self.layers, self.checkout, python or "-", *self.mounts]
        enter = f"echo $$ >{self.cgroup}/cgroup.procs; exec "
        namespaces = "--mount --pid --uts --ipc --cgroup --fork --kill-child"
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    # A machine goes with the tests, however they end.
                    *("setpriv", "--pdeathsig=KILL"),
                    *("nsenter", f"--net=/run/netns/{self.network}", "bash", "-c"),
                    f'{enter} unshare {namespaces} bash "$@"',
                    *("bash", BOOT, *words),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + BOOT_LIMIT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            self.pid = self.pid or self._first_process()
            if self.pid and self.ask("systemctl", "is-system-running") in ("running", "degraded"):
                return
            time.sleep(0.2)
        told = (self.folder / f"{self.name}.log").read_text(errors="replace")
        pytest.fail(f"the machine {self.name} did not boot: {told[-3000:]}")

    def _first_process(self) -> int:
        """Return the id of its systemd, 0 while it is not there."""
        pid = self._process.pid
        try:
            (child, *_) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split() or ["0"]
            if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                return int(child)
        except OSError:
            pass
        return 0

    def enter(self) -> list[str]:
        """Words before a command that is to run on the machine, as root and with nothing set."""
        namespaces = ["--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup"]
        environment = ["env", "-i", "--chdir=/", f"PATH={PATH}", "LANG=C.UTF-8", "HOME=/root"]
        return ["nsenter", f"--target={self.pid}", *namespaces, "--", *environment]

    def run(self, script: str, limit_s: float = RUN_LIMIT_S, user: str = "root") -> str:
        """Run a shell script; return what it printed, fail with it if it failed."""
        done = self.attempt(script, limit_s, user)
        assert done.returncode == 0, f"{self.name}: {script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def attempt(
        self, script: str, limit_s: float = RUN_LIMIT_S, user: str = "root"
    ) -> subprocess.CompletedProcess:
        """Run a shell script; return how it ended."""
        as_user = [] if user == "root" else ["runuser", "-u", user, "--"]
        return subprocess.run(
            [*self.enter(), *as_user, "bash", "-euo", "pipefail", "-c", script],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=limit_s,
            check=False,
        )

    def ask(self, *words: str) -> str:
        """Return what a command printed, whatever its status."""
        done = subprocess.run(
            [*self.enter(), *words], capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout.strip()

    def journal(self, units: str = "roboao-*", lines: int = 60) -> str:
        """Return the newest lines of the journal of some units."""
        return self.ask(
            "journalctl", "--no-pager", "-q", "-o", "short-iso", f"-n{lines}", "-u", units
        )

    def cut_power(self) -> None:
        """End every process of the machine at once; its files stay."""
        if self._process is None:
            return
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
        elif self._process.poll() is None:
            self._process.kill()
        self._process.wait(30)
        self.pid, self._process = 0, None

    def remove(self) -> None:
        """Leave nothing of the machine behind."""
        self.cut_power()
        subprocess.run(["ip", "netns", "del", self.network], check=False)
        _remove_groups(self.cgroup)
        subprocess.run(["umount", self.layers], check=False)


def link(one: Machine, its: tuple[str, str], other: Machine, others: tuple[str, str]) -> None:
    """Lay a cable between two machines: (interface, address with prefix length) at each end."""
    words = ["ip", "link", "add", its[0], "netns", one.network, "type", "veth", "peer", "name"]
    subprocess.run([*words, others[0], "netns", other.network], check=True)
    for machine, (interface, address) in ((one, its), (other, others)):
        at = ["ip", "-n", machine.network]
        subprocess.run([*at, "address", "add", address, "dev", interface], check=True)
        subprocess.run([*at, "link", "set", interface, "up"], check=True)
