"""A site of three machines: the archive's, one of workers, and one of the world outside.

The archive's machine and the workers' are set up by docs/many-machines.md, block by block. In the
place of NFS stand mounts of a common folder, in that of MongoDB a FerretDB.
"""

import re
import secrets
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from machines import Machine, link
from page import Block, blocks

from roboao_assets.storage.paths import ArchivePaths

NAME = "archive.example.org"
# Of the archive and the workers, as the page has them; of the archive and the world.
INSIDE, OUTSIDE = ("10.0.0.1", "10.0.0.2"), ("192.0.2.1", "192.0.2.2")
SCHEDULER = f"tcp://{INSIDE[0]}:8786"
NIGHT, TARGETS = "20170607", 3
# The same raw files by other names: each has its accident.
KILLED, CUT, POWERLESS = OTHER_NIGHTS = ("20170608", "20170609", "20170610")
PASSWORD = "the words of the gate"
LIMIT_S = 900
ENVIRONMENT = "/etc/roboao/environment"
# Files of the page that say how to get what the tests' machines have by their mounts.
STOOD_IN_FOR = ("/etc/exports", "/etc/fstab")
# FerretDB on SQLite knows no users.
OF_THE_TESTS = (
    f"ROBOAO_CATALOGUE_URL=mongodb://{INSIDE[0]}:27017/roboao",
    "ROBOAO_SENSOR_INTERVAL_S=5",
    "ROBOAO_SETTLE_S=3",
    "ROBOAO_SURVEY__ENABLED=false",
)
BEFORE_THE_PAGE = f"""
install -d -m 700 /etc/ssl/roboao
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={NAME} \
  -addext subjectAltName=DNS:{NAME} -keyout /etc/ssl/roboao/privkey.pem \
  -out /etc/ssl/roboao/fullchain.pem 2>/dev/null
version=$(ls /usr/lib/postgresql | sort -n | tail -1)
[ -d /etc/postgresql/$version/main ] || pg_createcluster $version main
systemctl start postgresql@$version-main
until runuser -u postgres -- psql -qc 'SELECT 1' >/dev/null 2>&1; do sleep 0.2; done
"""
COPY_IN_PIECES = """
umask 022
mkdir -p /data/raw/{night}
for file in /srv/telescope/{night}/*.fits.bz2; do
  piece=$(( $(stat -c %s "$file") / 3 + 1 ))
  for n in 0 1 2; do
    dd if="$file" bs=$piece skip=$n count=1 status=none >>"/data/raw/{night}/${{file##*/}}"
    sleep 0.2
  done
done
"""
UNFINISHED = "SELECT count(*) FROM runs WHERE status NOT IN ('SUCCESS', 'FAILURE', 'CANCELED')"


class Site:
    """The three machines and what they share."""

    def __init__(self, folder: Path, checkout: str, cgroups: Path, database: Path):
        self.folder, self.database = folder, database
        self.raw, self.telescope = folder / "common" / "raw", folder / "telescope"
        self.tree = folder / "common" / "archive"
        for path in (self.raw, self.telescope, self.tree):
            path.mkdir(parents=True)
        self.paths = ArchivePaths(self.tree)
        self.secret = secrets.token_hex(12)
        raw, tree = f"{self.raw}:/data/raw", f"{self.tree}:/data/archive"
        mounts = {
            "archive": [raw, tree, f"{database.parent}:/opt/ferretdb:ro"],
            "workers": [f"{raw}:ro", tree],
            "outside": [raw, f"{self.telescope}:/srv/telescope:ro"],
        }
        self.machines: list[Machine] = []
        for name, mounted in mounts.items():
            self.machines.append(Machine(name, folder, checkout, cgroups, mounted))
        self.archive, self.workers, self.outside = self.machines
        self._database: subprocess.Popen | None = None

    def set_up(self) -> None:
        """Lay the cables, boot the machines, follow the page, make the users."""
        (here, there), (door, world) = INSIDE, OUTSIDE
        link(self.archive, ("inner", f"{here}/24"), self.workers, ("inner", f"{there}/24"))
        link(self.archive, ("outer", f"{door}/24"), self.outside, ("outer", f"{world}/24"))
        for machine in self.machines:
            machine.boot()
        self.archive.run(BEFORE_THE_PAGE)
        self._start_database()
        # On the workers' machine somebody has the number of the archive's user on the other.
        self.workers.run("useradd --system somebody")
        self.outside.run("useradd telescope; useradd --create-home astronomer")
        for machine in (self.archive, self.workers):
            for block in blocks(machine.name):
                self._follow(machine, block)
        self.outside.run(f"chown telescope /data/raw; echo {door} {NAME} >>/etc/hosts")
        for user, programs in (("chief", "all"), ("law", "4")):
            words = f"roboao user add {user} --programs {programs} --password-stdin"
            self.archive.run(f"echo '{PASSWORD}' | {words}")
        self.wait(self._all_listen, "the start of the services", 300)
        certificate = self.archive.run("cat /etc/ssl/roboao/fullchain.pem")
        self.outside.run(f"cat >/home/astronomer/archive.pem <<'END'\n{certificate}END\n")

    def _all_listen(self) -> bool:
        """Are the services there? Active means started; Dagster's take a while to load."""
        here, there = (m.ask("ss", "-Htln").split() for m in (self.archive, self.workers))
        wanted = (3000, 4266, 5006, 8786, 9464)
        return all(any(one.endswith(f":{port}") for one in here) for port in wanted) and any(
            one.endswith(":28101") for one in there
        )

    def _follow(self, machine: Machine, block: Block) -> None:
        if block.file in STOOD_IN_FOR:
            return
        machine.run(re.sub(r"\bPASSWORD\b", self.secret, block.script()))
        if block.file == ENVIRONMENT:
            machine.run(Block(machine=machine.name, file=block.file, lines=OF_THE_TESTS).script())

    def _start_database(self) -> None:
        self.archive.run("install -d -o nobody /var/lib/ferretdb")
        words = ["-directory", "/var/lib/ferretdb", "-listen", f"{INSIDE[0]}:27017"]
        as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        program = f"/opt/ferretdb/{self.database.name}"
        with (self.folder / "ferretdb.log").open("wb") as log:
            self._database = subprocess.Popen(
                [*self.archive.enter(), *as_nobody, program, *words],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    def curl(self, *words: str) -> str:
        """Return what the astronomer's curl printed, with the cookies that it keeps."""
        cookies = "--cookie cookies --cookie-jar cookies"
        options = f"--silent --show-error --max-time 120 --cacert archive.pem {cookies}"
        script = f"cd; curl {options} " + " ".join(f"'{word}'" for word in words)
        return self.outside.run(script, user="astronomer")

    def arrive(self, night: str) -> float:
        """Copy a night onto the raw root, file by file in pieces; return when it was there."""
        self.outside.run(COPY_IN_PIECES.format(night=night), user="telescope")
        return time.time()

    def sql(self, query: str) -> list[list[str]]:
        """Return the rows of a query to Dagster's storage."""
        command = f'runuser -u postgres -- psql -At dagster -c "{query}"'
        return [line.split("|") for line in self.archive.run(command).splitlines()]

    def wait(self, condition: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
        """Return when `condition` holds; fail with the services' journals after the limit."""
        deadline = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > deadline:
                journals = [m.journal(lines=80) for m in (self.archive, self.workers)]
                pytest.fail(f"{what} took longer than {limit_s} s:\n" + "\n".join(journals))
            time.sleep(0.5)

    def wait_for_night(self, night: str) -> float:
        """Return when the report of a night was written, after all has come to rest."""
        report = self.paths.night_report(night)
        self.wait(report.exists, f"the report of {night}")
        quiet_since = time.monotonic()

        def at_rest() -> bool:
            nonlocal quiet_since
            if self.sql(UNFINISHED) != [["0"]]:
                quiet_since = time.monotonic()
            return time.monotonic() - quiet_since > 20

        self.wait(at_rest, f"the rest after {night}")
        return report.stat().st_mtime

    def remove(self) -> None:
        """End everything."""
        if self._database is not None:
            self._database.stdin.close()
            try:
                self._database.wait(10)
            except subprocess.TimeoutExpired:
                self._database.kill()
                self._database.wait()
        for machine in self.machines:
            machine.remove()
