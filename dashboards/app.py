"""The server of the pages.

It has no login yet, so it listens to this machine alone (127.0.0.1).
"""

import argparse
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import panel as pn
from bokeh.server.server import Server

from dashboards import pages
from dashboards.files import FileHandler, FileStore
from dashboards.images import ImageHandler, PictureStore
from dashboards.library_collect import LibrarySource
from dashboards.library_page import library_page
from dashboards.name_resolver import NameResolver
from dashboards.search_exports import ExportHandler
from dashboards.search_page import search_page
from dashboards.source import CatalogueSource
from dashboards.viewer import Viewers
from dashboards.viewer_images import ImageStore
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.settings import Settings, load_settings

ADDRESS = "127.0.0.1"
_PICTURE_THREADS = 4


def make_server(settings: Settings, port: int | None = None, *, show: bool = False) -> Server:
    """Make the server; nothing is answered until its loop runs.

    Parameters
    ----------
    settings : Settings
        The catalogue, the archive's root and the port of the dashboard are used.
    port : int, optional
        Instead of `settings.dashboard_port`.
    show : bool
        Open a browser.

    Raises
    ------
    OSError
        If the port is in use.
    """
    port = settings.dashboard_port if port is None else port
    url = settings.resolved_catalogue_url
    source = CatalogueSource(url)
    paths = ArchivePaths(settings.archive_root.absolute())
    library = LibrarySource(paths)
    dagster_url = settings.dagster_url.rstrip("/") or f"http://{ADDRESS}:{settings.dagster_port}"
    executor = ThreadPoolExecutor(_PICTURE_THREADS, thread_name_prefix="pictures")
    viewers = Viewers(paths=paths, store=ImageStore(), executor=executor)
    resolver = NameResolver()
    pn.config.theme = "dark"  # type: ignore[misc]
    return pn.io.server.get_server(
        {
            # Functions proper: Panel takes any other callable for a pane of its value.
            "/": lambda: pages.nights_page(source),
            "/night": lambda: pages.night_page(source),
            "/observation": lambda: pages.observation_page(source, viewers, dagster_url),
            "/search": lambda: search_page(source, executor, resolver),
            "/psf-library": lambda: library_page(source, library, url, executor),
        },
        port=port,
        address=ADDRESS,
        websocket_origin=[f"{name}:{port}" for name in (ADDRESS, "localhost")],
        title="Robo-AO archive",
        show=show,
        start=False,
        verbose=False,
        extra_patterns=_plain_addresses(source, paths, executor, resolver),
    )


def _plain_addresses(
    source: CatalogueSource, paths: ArchivePaths, executor: Executor, resolver: NameResolver
) -> list[tuple[str, type, dict[str, Any]]]:
    """Addresses that are no pages: pictures, files, tables."""
    search = {
        "source": source,
        "executor": executor,
        "resolver": resolver,
        "reader_of": lambda request: None,
    }
    return [
        ("/image", ImageHandler, {"store": PictureStore(source), "executor": executor}),
        ("/file", FileHandler, {"store": FileStore(source, paths), "executor": executor}),
        ("/search/table", ExportHandler, search),
    ]


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
    print(f"Dashboard: http://{ADDRESS}:{server.port}/  (Ctrl-C ends it)", flush=True)
    try:
        server.io_loop.start()
    except KeyboardInterrupt:
        server.stop()


def main(argv: Sequence[str] | None = None) -> None:
    """Serve the pages of the archive that the settings name."""
    parser = argparse.ArgumentParser(description="Serve the archive's web pages on this machine.")
    parser.add_argument("--port", type=int, help="instead of the setting dashboard_port")
    parser.add_argument("--show", action="store_true", help="open a browser")
    options = parser.parse_args(argv)
    serve(load_settings(), options.port, show=options.show)


if __name__ == "__main__":
    main()
