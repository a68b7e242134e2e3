"""Every route of the server, asked of the server itself: a new one cannot be forgotten."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache

METHODS = ("get", "head", "post", "put", "delete", "patch", "options")
# Of what bokeh and Panel bring, and the gate lets nobody have.
_ASK = """
import json, sys
from tornado.web import RequestHandler
from tornado.websocket import WebSocketHandler
from bokeh.server.views.doc_handler import DocHandler
from dashboards.app import make_server
from roboao_assets.storage.settings import Settings

server = make_server(Settings(archive_root=sys.argv[1]), port=0)
found = []
for rule in server._tornado.wildcard_router.rules:
    kind = rule.target
    found.append({
        "pattern": rule.matcher.regex.pattern,
        "methods": [m for m in json.loads(sys.argv[2])
                    if getattr(kind, m) is not getattr(RequestHandler, m)],
        "is_page": issubclass(kind, DocHandler),
        "is_socket": issubclass(kind, WebSocketHandler),
    })
server.stop()
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Route:
    path: str
    methods: tuple[str, ...]
    is_page: bool
    is_socket: bool


@cache
def all_routes(archive: str) -> tuple[Route, ...]:
    """The routes, by their paths: what a pattern leaves open is given as `x`."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ROBOAO_")}
    asked = subprocess.run(
        [sys.executable, "-c", _ASK, archive, json.dumps(METHODS)],
        env=environment | {"PANEL_OAUTH_PROVIDER": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr[-3000:]
    routes = {}
    for found in json.loads(asked.stdout.splitlines()[-1]):
        path = found["pattern"].removesuffix("$").removeprefix("^")
        path = path.removesuffix("/?") if path != "/?" else "/"
        path = path.replace("(.*)", "x").replace(r"\.", ".").replace("\\", "") or "/"
        own = Route(path, tuple(found["methods"]), found["is_page"], found["is_socket"])
        routes.setdefault(path, own)
    return tuple(routes.values())
