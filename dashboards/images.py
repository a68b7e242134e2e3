"""Pictures over HTTP, from the catalogue and from nowhere else."""

import asyncio
import io
import threading
from collections import OrderedDict
from concurrent.futures import Executor

from PIL import Image, UnidentifiedImageError
from tornado.web import HTTPError

from dashboards.access import Access, Asked
from dashboards.gate import current_visitor
from dashboards.links import THUMBNAIL_WIDTHS_PX
from dashboards.sentences import SentenceHandler
from dashboards.source import CatalogueSource
from roboao_assets.science.errors import CatalogueError, CatalogueUnavailableError

_CACHE_BYTES = 64_000_000
_MOST_KEY_CHARACTERS = 500


class PictureStore:
    """Pictures of the catalogue, in full or as thumbnails; the thumbnails made last are kept."""

    def __init__(self, source: CatalogueSource) -> None:
        self._source = source
        self._thumbnails: OrderedDict[tuple[str, int, str], bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def picture(self, key: str, width_px: int | None, version: str) -> tuple[bytes, str] | None:
        """Return a picture and its media type.

        Parameters
        ----------
        key : str
            Key in the catalogue.
        width_px : int or None
            Make it this wide, if it is wider.
        version : str
            Of the picture; a thumbnail is kept only for a version, as pictures are made again.

        Returns
        -------
        tuple of (bytes, str) or None
            None if the catalogue has no such picture.
        """
        if width_px is None:
            png = self._source.get().image(key)
            return None if png is None else (png, "image/png")
        place = (key, width_px, version)
        with self._lock:
            if place in self._thumbnails:
                self._thumbnails.move_to_end(place)
                return self._thumbnails[place], "image/webp"
        png = self._source.get().image(key)
        if png is None:
            return None
        thumbnail = make_thumbnail(png, width_px)
        if version:
            self._keep(place, thumbnail)
        return thumbnail, "image/webp"

    def _keep(self, place: tuple[str, int, str], thumbnail: bytes) -> None:
        with self._lock:
            self._size += len(thumbnail) - len(self._thumbnails.pop(place, b""))
            self._thumbnails[place] = thumbnail
            while self._size > _CACHE_BYTES:
                _, dropped = self._thumbnails.popitem(last=False)
                self._size -= len(dropped)


def make_thumbnail(png: bytes, width_px: int) -> bytes:
    """Return a picture as WebP, at most `width_px` wide.

    Raises
    ------
    CatalogueError
        If the bytes are no picture.
    """
    try:
        with Image.open(io.BytesIO(png)) as picture:
            small = picture.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise CatalogueError(
            f"the catalogue holds {len(png)} bytes that are no picture: {error}; make the preview "
            f"again"
        ) from error
    if small.width > width_px:
        height = max(1, round(small.height * width_px / small.width))
        small = small.resize((width_px, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=85, method=2)
    return buffer.getvalue()


class ImageHandler(SentenceHandler):
    """`/image?key=...[&width=...][&v=...]`."""

    def initialize(self, store: PictureStore, access: Access, executor: Executor) -> None:
        """Take what the server hands every handler of this kind."""
        self._store, self._access = store, access
        self._executor = executor

    async def get(self) -> None:
        """Send a picture, or a sentence that says why there is none.

        Of pictures that the visitor may not see it is the one of those that are not there.
        """
        key, version = self.get_query_argument("key", ""), self.get_query_argument("v", "")
        width_px = self._width_px()
        if not 0 < len(key) <= _MOST_KEY_CHARACTERS:
            self.explain(400, "Say which picture: /image?key=<key of the catalogue>.")
            return
        # Reading and scaling happen in a thread: a slow catalogue must not hold up the pages.
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                self._executor, self._picture, key, width_px, version
            )
        except CatalogueUnavailableError as error:
            self.explain(503, f"The catalogue cannot be read now: {error}.")
            return
        except CatalogueError as error:
            self.explain(500, f"The picture cannot be shown: {error}.")
            return
        if found is None:
            self.explain(404, f"The catalogue has no picture {key}; it may not be made yet.")
            return
        content, media_type = found
        self.set_header("Content-Type", media_type)
        self.set_header("X-Content-Type-Options", "nosniff")
        # A versioned address always means the same bytes; any other is asked for again (ETag).
        self.set_header(
            "Cache-Control", "private, max-age=31536000, immutable" if version else "no-cache"
        )
        # What a browser has kept is for the log-in that asked for it.
        self.set_header("Vary", "Cookie")
        self.write(content)

    def _picture(self, key: str, width_px: int | None, version: str) -> tuple[bytes, str] | None:
        if not self._access.may(current_visitor(self.request), Asked("picture", key)):
            return None
        return self._store.picture(key, width_px, version)

    def _width_px(self) -> int | None:
        text = self.get_query_argument("width", "")
        if not text:
            return None
        if text not in {str(width) for width in THUMBNAIL_WIDTHS_PX}:
            raise HTTPError(400, reason=f"width is one of {THUMBNAIL_WIDTHS_PX}")
        return int(text)
