"""A hips2fits service on loopback: a sky of known stars as JPEG, PNG or FITS, and its troubles.

The survey that is asked for names the trouble: `CDS/P/hang` never answers, and so on.
"""

import io
import json
import struct
import threading
import time
import warnings
import zlib
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from PIL import Image

# What refuses everything says so as the real one does.
REFUSAL = {"title": "Bad <b>request</b>", "description": "no such HiPS"}
MEDIA_TYPES = {"jpg": "image/jpeg", "png": "image/png", "fits": "image/fits"}
HUGE_BYTES = 20_000_000


class HipsService:
    """What a test knows of the service.

    Attributes
    ----------
    url : str
    asked : list of dict
        Arguments of each request.
    stars_deg : ndarray, shape (n, 2)
        The sky: right ascension and declination.
    trouble : str
        Whatever survey is asked for.
    """

    def __init__(self, url):
        self.url, self.asked, self.released = url, [], threading.Event()
        self.stars_deg, self.trouble = np.empty((0, 2)), ""

    def surveys(self):
        return [query["hips"] for query in self.asked]


def draw(header, stars_deg):
    """Return an image (y, x), 0 to 1, of stars as a projection has them; 2 px wide."""
    wcs = WCS(fits.Header(header))
    y, x = np.indices((header["NAXIS2"], header["NAXIS1"]))
    image = np.random.default_rng(7).uniform(0.03, 0.12, y.shape)
    for star_x, star_y in wcs.all_world2pix(stars_deg, 0) if len(stars_deg) else ():
        image += np.exp(-((x - star_x) ** 2 + (y - star_y) ** 2) / (2 * 2.0**2))
    return np.clip(image, 0, 1)


def picture(image, image_format):
    """Return a picture whose highest row comes first; slightly red."""
    shades = (255 * image[::-1, :, None] * (1.0, 0.8, 0.7)).astype(np.uint8)
    buffer = io.BytesIO()
    if image_format == "png":
        Image.fromarray(shades).save(buffer, "PNG")
    else:
        Image.fromarray(shades).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def fits_file(image, header):
    unit = fits.PrimaryHDU((1000 * image).astype(np.float32))
    unit.header.update({k: v for k, v in header.items() if not k.startswith("NAXIS")})
    buffer = io.BytesIO()
    unit.writeto(buffer)
    return buffer.getvalue()


def _png_chunk(name, content):
    sum32 = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", sum32)


class _Handler(BaseHTTPRequestHandler):
    service: HipsService

    def do_GET(self):
        query = {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}
        self.service.asked.append(query)
        name = self.service.trouble or query["hips"].rsplit("/", 1)[-1]
        trouble = getattr(self, f"_{name}", None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (trouble or self._sky)(query)

    def _sky(self, query):
        header, image_format = json.loads(query["wcs"]), query["format"]
        image = draw(header, self.service.stars_deg)
        made = fits_file(image, header) if image_format == "fits" else picture(image, image_format)
        self._send(made, MEDIA_TYPES[image_format])

    def _send(self, content, media_type="image/jpeg", *, status=200, length=None):
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        try:
            self.wfile.write(content)
        except OSError:
            return  # who asked has had enough

    def _blank(self, query):
        header = json.loads(query["wcs"])
        image = np.zeros((header["NAXIS2"], header["NAXIS1"]))
        if query["format"] == "fits":
            self._send(fits_file(np.full_like(image, np.nan), header), "image/fits")
        else:
            self._send(picture(image, query["format"]))

    def _refuse(self, _query):
        self._send(json.dumps(REFUSAL).encode(), "application/json", status=400)

    def _broken(self, _query):
        self._send(b"<h1>Internal error</h1>" * 1000, "text/html", status=500)

    def _garbage(self, _query):
        self._send(np.random.default_rng(1).bytes(5000))

    def _spoilt(self, query):
        whole = picture(np.random.default_rng(1).uniform(size=(600, 600)), "png")
        self._send(whole[:3000])

    def _cards(self, query):
        """FITS whose header promises more than there is."""
        header = json.loads(query["wcs"])
        image = np.zeros((header["NAXIS2"], header["NAXIS1"]))
        self._send(fits_file(image, header)[: 2880 * 3], "image/fits")

    def _cube(self, query):
        self._send(fits_file(np.zeros((3, 8, 8)), {}), "image/fits")

    def _small(self, _query):
        self._send(picture(np.zeros((40, 30)), "jpg"))

    def _bomb(self, _query):
        """A small file that unpacks to 900 million pixels."""
        rows = zlib.compress(bytes(30_000 * 3751), 1)
        self._send(
            b"\x89PNG\r\n\x1a\n"
            + _png_chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0))
            + _png_chunk(b"IDAT", rows)
            + _png_chunk(b"IEND", b"")
        )

    def _huge(self, _query):
        self._send(b"\xff\xd8" + bytes(HUGE_BYTES))

    def _short(self, _query):
        self._send(b"\xff\xd8\xff", length=100_000)

    def _hang(self, _query):
        self.service.released.wait(60)

    def _trickle(self, _query):
        """A byte now and then: each piece is in time, the whole never comes."""
        try:
            self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Slow: ")
            while not self.service.released.wait(0.1):
                self.wfile.write(b"x")
        except OSError:
            return

    def _drip(self, _query):
        self.send_response(200)
        self.end_headers()
        try:
            while not self.service.released.wait(0.1):
                self.wfile.write(b"x")
        except OSError:
            return

    def _slow(self, query):
        time.sleep(0.5)
        self._sky(query)

    def log_message(self, *_):
        """Tests are silent."""


@contextmanager
def serving():
    """Yield a HipsService that answers on loopback."""
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        handler.service = HipsService(f"http://127.0.0.1:{server.server_port}/hips2fits")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield handler.service
        finally:
            handler.service.released.set()
            server.shutdown()
            thread.join()
