"""The server of the pages: every one of its routes stands behind the gate (`gate`)."""

import argparse
import ipaddress
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import panel as pn
from bokeh.server.server import Server

from dashboards import pages
from dashboards.access import Access
from dashboards.account_page import account_page
from dashboards.administration_actions import Administration, AdministrationHandler
from dashboards.administration_markup import ACTION_URL
from dashboards.administration_pages import AdministrationPages
from dashboards.answers import Answers
from dashboards.authorised import AUTHORISED_URL, AuthorisedHandler
from dashboards.comments import COMMENT_URL, CommentDesk, CommentHandler
from dashboards.download_tokens import DownloadTokens
from dashboards.downloads import Downloads, EndTokensHandler, ScriptHandler
from dashboards.files import FileHandler, FileStore
from dashboards.gate import LOGIN_URL, LOGOUT_URL, ArchiveAuth, Gate, guard
from dashboards.images import ImageHandler, PictureStore
from dashboards.library_collect import LibrarySource
from dashboards.library_page import LibraryChanger, library_page
from dashboards.links import END_TOKENS_URL
from dashboards.login_page import NO_USER, LoginHandler, LogoutHandler
from dashboards.logins import LoginDesk
from dashboards.name_resolver import NameResolver
from dashboards.night_page import night_page, night_parts
from dashboards.nights_page import nights_page, nights_parts
from dashboards.parts import NIGHT_PARTS_URL, NIGHTS_PARTS_URL, PageParts, PartsHandler
from dashboards.search_exports import ExportHandler
from dashboards.search_page import search_page
from dashboards.sessions import Sessions, derived_secret, has_users, read_secret
from dashboards.single_sign_on import SIGN_ON_URL, sign_on_handler
from dashboards.source import CatalogueSource
from dashboards.survey_images import SurveyDesk
from dashboards.theme_choice import THEME_URL, ThemeHandler
from dashboards.trends_page import trends_page
from dashboards.viewer import Viewers
from dashboards.viewer_images import ImageStore
from dashboards.visitor_parts import VisitorParts
from roboao_assets.science.errors import ArchiveError, CatalogueError, SettingsError
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.settings import Settings, load_settings

_PICTURE_THREADS = 4
_PAGE_THREADS = 2
_LOOKUP_THREADS = 4
_CHANGE_THREADS = 2
_ADMIN_THREADS = 4
# Forms and messages of browsers are small.
_MOST_BODY_BYTES = 100_000
_MOST_MESSAGE_BYTES = 1_000_000

logger = logging.getLogger("roboao.dashboard")


def make_server(settings: Settings, port: int | None = None, *, show: bool = False) -> Server:
    """Make the server; nothing is answered until its loop runs.

    Parameters
    ----------
    settings : Settings
        Those of the catalogue, the archive's root and the dashboard are used.
    port : int, optional
        Instead of `settings.dashboard_port`.
    show : bool
        Open a browser.

    Raises
    ------
    SettingsError
        The address and the origins do not fit, or sessions cannot be signed.
    OSError
        If the port is in use.
    """
    port = settings.dashboard_port if port is None else port
    origins = allowed_origins(settings, port)
    paths = ArchivePaths(settings.archive_root.absolute())
    secret = read_secret(settings.cookie_secret.get_secret_value(), paths.cookie_secret)
    source = CatalogueSource(settings.resolved_catalogue_url)
    sessions = Sessions(
        source, secret, hours=settings.session_hours, secure=settings.dashboard_behind_tls_proxy
    )
    access = Access(source)
    tokens = DownloadTokens(
        source, derived_secret(secret, "downloads"), days=settings.download_token_days
    )
    # Not those of the pictures: a page would wait for the thumbnails of the one before.
    executor = ThreadPoolExecutor(_PAGE_THREADS, thread_name_prefix="pages")
    site = _Site(
        settings=settings,
        paths=paths,
        source=source,
        access=access,
        sessions=sessions,
        tokens=tokens,
        page_executor=executor,
        sign_on_secret=derived_secret(secret, "single sign-on"),
    )
    routes, handlers = _routes(site)
    server = pn.io.server.get_server(
        routes,
        port=port,
        address=settings.dashboard_address,
        websocket_origin=origins,
        title="Robo-AO archive",
        show=show,
        start=False,
        verbose=False,
        extra_patterns=handlers,
        auth_provider=ArchiveAuth(),
        xsrf_cookies=True,
        xsrf_cookie_kwargs=sessions.cookie_options(),
        # What a page carries of its request must not hold the cookie of the session.
        include_headers=[],
        include_cookies=[],
        sign_sessions=True,
        secret_key=derived_secret(secret, "bokeh sessions").encode(),
        websocket_max_message_size=_MOST_MESSAGE_BYTES,
        http_server_kwargs={"max_body_size": _MOST_BODY_BYTES},
        use_xheaders=settings.dashboard_behind_tls_proxy,
    )
    lookups = ThreadPoolExecutor(_LOOKUP_THREADS, thread_name_prefix="visitors")
    parts = PageParts({"/": nights_parts(source), "/night": night_parts(source, access)}, executor)
    gate = Gate(access, sessions, tokens, lookups, parts.prepare)
    guard(server._tornado, gate)  # noqa: SLF001 - bokeh has no other way
    return server


@dataclass(frozen=True, kw_only=True)
class _Site:
    """What pages and handlers share."""

    settings: Settings
    paths: ArchivePaths
    source: CatalogueSource
    access: Access
    sessions: Sessions
    tokens: DownloadTokens
    page_executor: Executor
    sign_on_secret: str


def _routes(site: _Site) -> tuple[dict[str, Callable[[], Any]], list[tuple[Any, ...]]]:
    """Return the pages by address, and the handlers that are no pages."""
    settings, paths, source, access = site.settings, site.paths, site.source, site.access
    sessions, page_executor = site.sessions, site.page_executor
    url = settings.resolved_catalogue_url
    library = LibrarySource(paths)
    executor = ThreadPoolExecutor(_PICTURE_THREADS, thread_name_prefix="pictures")
    changer = LibraryChanger(url, access, executor)
    viewers = Viewers(paths=paths, store=ImageStore(), executor=executor)
    resolver = NameResolver()
    surveys = SurveyDesk(source, url, settings.survey)
    answers, changes = Answers(), ThreadPoolExecutor(_CHANGE_THREADS, thread_name_prefix="changes")
    own_parts = VisitorParts(access=access, answers=answers)
    admin = AdministrationPages(
        source=source,
        settings=settings,
        access=access,
        answers=answers,
        # Not that of the pictures: how the archive is may take its time to be told.
        executor=ThreadPoolExecutor(_ADMIN_THREADS, thread_name_prefix="administration"),
    )
    routes = {
        # Functions proper: Panel takes any other callable for a pane of its value.
        "/": nights_page,
        "/night": lambda: night_page(source, access, page_executor),
        "/observation": lambda: pages.observation_page(
            source, access, viewers, surveys, settings.resolved_dagster_url, own_parts
        ),
        "/search": lambda: search_page(source, executor, resolver),
        "/trends": lambda: trends_page(source, page_executor),
        "/account": lambda: account_page(site.tokens.days),
        "/psf-library": lambda: library_page(source, library, changer),
        "/administration": admin.overview,
        "/administration/redo": admin.redo,
        "/administration/calibration": admin.calibration,
        "/administration/users": admin.users,
        "/administration/log": admin.log,
    }
    pictures = {"store": PictureStore(source), "access": access, "executor": executor}
    files = {"store": FileStore(source, paths), "access": access, "executor": executor}
    tables = {"source": source, "executor": executor, "resolver": resolver}
    downloads = Downloads(source=source, paths=paths, tokens=site.tokens, resolver=resolver)
    scripts = {"downloads": downloads, "executor": executor}
    threads = {"executor": page_executor}
    forms = {"answers": answers, "executor": changes}
    comments = CommentDesk(catalogue_url=url, paths=paths, access=access)
    administration = Administration(settings=settings, access=access)
    desk = LoginDesk(source, url)
    login = {"source": source, "desk": desk, "sessions": sessions}
    sign_on = sign_on_handler()
    other_logins: list[tuple[Any, ...]] = []
    if sign_on is not None:
        login["sign_on"] = SIGN_ON_URL
        options = {"source": source, "sessions": sessions, "secret": site.sign_on_secret}
        other_logins.append((SIGN_ON_URL, sign_on, options))
    return routes, [
        *other_logins,
        ("/image", ImageHandler, pictures),
        ("/file", FileHandler, files),
        ("/search/table", ExportHandler, tables),
        ("/script", ScriptHandler, scripts),
        (END_TOKENS_URL, EndTokensHandler, {"catalogue_url": url, "executor": executor}),
        (NIGHTS_PARTS_URL, PartsHandler, {"make": nights_parts(source), **threads}),
        (NIGHT_PARTS_URL, PartsHandler, {"make": night_parts(source, access), **threads}),
        (COMMENT_URL, CommentHandler, forms | {"work": comments.perform}),
        (ACTION_URL, AdministrationHandler, forms | {"work": administration.perform}),
        (LOGIN_URL, LoginHandler, login),
        (AUTHORISED_URL, AuthorisedHandler, {"access": access}),
        (LOGOUT_URL, LogoutHandler, {"sessions": sessions}),
        (THEME_URL, ThemeHandler, {"cookie_options": sessions.cookie_options()}),
    ]


def allowed_origins(settings: Settings, port: int) -> list[str]:
    """Return the origins (host:port) from which pages may open a websocket.

    Raises
    ------
    SettingsError
        The dashboard listens to other machines, and it is not said by which name they reach it.
    """
    address, origins = settings.dashboard_address, list(settings.dashboard_origins)
    if is_loopback(address):
        origins += [f"{name}:{port}" for name in ("127.0.0.1", "localhost")]
    elif not origins:
        raise SettingsError(
            f"dashboard_address {address} is reached from other machines, and dashboard_origins "
            f"does not say by which names; give those that stand in the browser's address, e.g. "
            f"ROBOAO_DASHBOARD_ORIGINS=archive.example.org (with :{port} if it is shown there), "
            f"or leave the address at 127.0.0.1"
        )
    elif not settings.dashboard_behind_tls_proxy:
        logger.warning(
            "the dashboard listens to %s without TLS: passwords can be read on the way "
            "(docs/login.md)",
            address,
        )
    return origins


def is_loopback(address: str) -> bool:
    """Return whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def serve(settings: Settings, port: int | None = None, *, show: bool = False) -> None:
    """Serve the pages until interrupted.

    Parameters
    ----------
    settings : Settings
    port : int, optional
        Instead of `settings.dashboard_port`.
    show : bool
        Open a browser.
    """
    server = make_server(settings, port, show=show)
    server.start()
    print(
        f"Dashboard: http://{settings.dashboard_address}:{server.port}/  (Ctrl-C ends it)",
        flush=True,
    )
    try:
        if not has_users(CatalogueSource(settings.resolved_catalogue_url)):
            print(f"Dashboard: {NO_USER} (Of the demonstration: make user.)", flush=True)
    except CatalogueError as error:
        logger.warning("the users cannot be looked up: %s", error)
    try:
        server.io_loop.start()
    except KeyboardInterrupt:
        server.stop()


def main(argv: Sequence[str] | None = None) -> None:
    """Serve the pages of the archive that the settings name."""
    parser = argparse.ArgumentParser(description="Serve the archive's web pages.")
    parser.add_argument("--port", type=int, help="instead of the setting dashboard_port")
    parser.add_argument("--show", action="store_true", help="open a browser")
    options = parser.parse_args(argv)
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # Who logs in, and who is refused, is always told.
    logging.getLogger("roboao").setLevel(logging.INFO)
    try:
        serve(load_settings(), options.port, show=options.show)
    except ArchiveError as error:
        parser.exit(2, f"dashboard: {error}\n")


if __name__ == "__main__":
    main()
