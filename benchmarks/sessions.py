"""Twenty readers of the dashboard at once, in an archive of 30,000 observations.

Each logs in and opens page after page as a browser does: the page over HTTP, then its document
over the websocket, which stays open until the next page. Between two pages they look around for
some seconds. What is told is the time from the click to the document, and the server's memory.
"""

import asyncio
import random
import re
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import quote, urlencode

from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.websocket import websocket_connect

from benchmarks.catalogue import OBSERVATIONS, PER_NIGHT, QUICK_OBSERVATIONS, START, documents
from benchmarks.dashboard_server import dashboard
from benchmarks.rows import Goal, Options, Row
from roboao_assets.storage.catalogue import Catalogue, open_catalogue
from roboao_assets.storage.passwords import hash_password

SESSIONS = 20
PAGES, QUICK_PAGES = 8, 4
# Mean of the time a reader looks at a page (exponential).
LOOKED_AT_S, QUICK_LOOKED_AT_S = 30.0, 0.2
PAGE_GOAL, MEMORY_GOAL = Goal(limit=1.0), Goal(limit=2048)
PASSWORD = "of every reader of the benchmark"  # noqa: S105
_PAGE_LIMIT_S = 60


@dataclass
class Figures:
    """What the readers saw: seconds from click to document by kind of page, and refusals."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    memory_mib: float = 0.0

    def everything(self) -> list[float]:
        """All pages' seconds, sorted."""
        return sorted(value for values in self.seconds.values() for value in values)


class ReaderSession:
    """A browser's part of a session: cookies, and the websocket of the page that is open.

    Parameters
    ----------
    address : str
        Of the server, without a slash at the end.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._cookies: dict[str, str] = {}
        self._client = AsyncHTTPClient(force_instance=True)
        self._socket: object | None = None

    async def log_in(self, name: str) -> None:
        """Log in; RuntimeError if the server refuses."""
        form = (await self._ask("/login")).body.decode()
        found = re.search(r'name="_xsrf" value="([^"]+)"', form)
        if found is None:
            raise RuntimeError("the log-in page has no form token")
        fields = {"_xsrf": found[1], "name": name, "password": PASSWORD, "next": "/"}
        answer = await self._ask("/login", body=urlencode(fields))
        if answer.code != 303:
            raise RuntimeError(f"{name} could not log in: {answer.code}")

    async def open(self, path: str) -> float:
        """Open a page; return the seconds until its document was there."""
        self.leave()
        start = time.perf_counter()
        answer = await self._ask(path)
        token = re.search(r'"token":"([^"]+)"', answer.body.decode())
        if answer.code != 200 or token is None:
            raise RuntimeError(f"{path} was answered by {answer.code}")
        route = path.partition("?")[0].rstrip("/")
        request = HTTPRequest(
            f"{self.address.replace('http', 'ws', 1)}{route}/ws",
            headers={"Cookie": self._cookie_header(), "Origin": self.address},
        )
        connection = await websocket_connect(request, subprotocols=["bokeh", token[1]])
        self._socket = connection
        for fragment in ('{"msgid":"m0","msgtype":"PULL-DOC-REQ"}', "{}", "{}"):
            await connection.write_message(fragment)
        while True:
            message = await asyncio.wait_for(connection.read_message(), _PAGE_LIMIT_S)
            if message is None:
                raise RuntimeError(f"the websocket of {path} was closed: {connection.close_code}")
            if isinstance(message, str) and "PULL-DOC-REPLY" in message:
                break
        for _ in range(2):
            await asyncio.wait_for(connection.read_message(), _PAGE_LIMIT_S)
        return time.perf_counter() - start

    def leave(self) -> None:
        """Close the websocket of the page that is open."""
        if self._socket is not None:
            self._socket.close()  # type: ignore[attr-defined]
            self._socket = None

    def close(self) -> None:
        """End the session's connections."""
        self.leave()
        self._client.close()

    async def _ask(self, path: str, body: str | None = None) -> HTTPResponse:
        request = HTTPRequest(
            self.address + path,
            method="GET" if body is None else "POST",
            body=body,
            headers={"Cookie": self._cookie_header()},
            follow_redirects=False,
            request_timeout=_PAGE_LIMIT_S,
        )
        answer = await self._client.fetch(request, raise_error=False)
        for line in answer.headers.get_list("Set-Cookie"):
            for name, morsel in SimpleCookie(line).items():
                self._cookies[name] = morsel.value
        return answer

    def _cookie_header(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self._cookies.items())


def measure(options: Options) -> Iterator[Row]:
    """Yield the times of the pages and the server's memory."""
    observations = QUICK_OBSERVATIONS if options.quick else OBSERVATIONS
    pages = QUICK_PAGES if options.quick else PAGES
    looked_at_s = QUICK_LOOKED_AT_S if options.quick else LOOKED_AT_S
    url = f"sqlite:///{options.scratch}/catalogue.sqlite"
    with open_catalogue(url) as catalogue:
        fill(catalogue, observations)
    with dashboard(url, options.scratch) as (process, address):
        figures = asyncio.run(_visit(address, process, addresses(observations), pages, looked_at_s))
    seconds = figures.everything()
    note = f"{SESSIONS} sessions, {observations:,} observations, {len(seconds)} pages"
    yield Row(
        name="page of the dashboard, 95 % within",
        values=(seconds[int(0.95 * (len(seconds) - 1))],),
        unit="s",
        key="dashboard_page_s",
        goal=PAGE_GOAL,
        note=note,
    )
    for kind, values in sorted(figures.seconds.items()):
        yield Row(name=f"  {kind}", values=tuple(values), unit="s")
    yield Row(
        name="memory of the dashboard",
        values=(figures.memory_mib,),
        unit="MiB",
        key="dashboard_memory_mib",
        goal=MEMORY_GOAL,
        note=f"with {SESSIONS} sessions open",
    )


def fill(catalogue: Catalogue, observations: int) -> None:
    """Enter observations and the readers, who see all programs."""
    for document in documents(observations):
        catalogue.register_observation(document)
    hashed = hash_password(PASSWORD, login="reader0")
    for number in range(SESSIONS):
        catalogue.users.add(f"reader{number}", hashed, "all")


def addresses(observations: int) -> dict[str, list[str]]:
    """Return what is opened, by kind of page."""
    nights = [
        f"{START + timedelta(days=n):%Y%m%d}" for n in range(min(7, observations // PER_NIGHT))
    ]
    names = [document["_id"] for document in documents(300)]
    return {
        "nights": ["/"],
        "night": [f"/night?night={night}" for night in nights],
        "observation": [f"/observation?id={quote(name)}" for name in names],
        "search": ["/search?" + urlencode(q) for q in ({"name": "KOI1"}, {"strehl_min": "5"})],
    }


async def _visit(
    address: str,
    process: "subprocess.Popen[bytes]",
    choices: dict[str, list[str]],
    pages: int,
    looked_at_s: float,
) -> Figures:
    figures = Figures()
    rng = random.Random(1)  # noqa: S311
    plans = [
        [(kind, rng.choice(choices[kind]), rng.expovariate(1 / looked_at_s))
         for kind in rng.choices(list(choices), k=pages)]
        for _ in range(SESSIONS)
    ]  # fmt: skip
    async with _sessions(address) as sessions:
        readings = [_read(s, plan, figures) for s, plan in zip(sessions, plans, strict=True)]
        await asyncio.gather(*readings)
        figures.memory_mib = _peak_memory_mib(process.pid)
    return figures


async def _read(
    session: ReaderSession, plan: list[tuple[str, str, float]], figures: Figures
) -> None:
    for kind, path, pause_s in plan:
        await asyncio.sleep(pause_s)
        figures.seconds.setdefault(kind, []).append(await session.open(path))


@asynccontextmanager
async def _sessions(address: str) -> AsyncIterator[list[ReaderSession]]:
    sessions = [ReaderSession(address) for _ in range(SESSIONS)]
    try:
        for number, session in enumerate(sessions):
            await session.log_in(f"reader{number}")
        yield sessions
    finally:
        for session in sessions:
            session.close()


def _peak_memory_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]
