"""A piece of a sky survey, asked of a hips2fits service (CDS): HTTP in, an image with a WCS out."""

import io
import json
import socket
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np
from astropy.io import fits
from astropy.visualization import AsinhStretch, AsymmetricPercentileInterval
from astropy.wcs import WCS, FITSFixedWarning
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dashboards.sky_position import shown
from roboao_assets import __version__
from roboao_assets.science.errors import ArchiveError

MOST_BYTES = 8_000_000
_MOST_ERROR_BYTES = 4_000
_PIECE_BYTES = 65_536
# A picture whose pixels are all within so many shades is one of nothing.
_NOTHING_SHADES = 8


class SurveyError(ArchiveError):
    """There is no survey image; the message says why.

    Attributes
    ----------
    of_service : bool
        The service is out of reach, whatever it is asked for.
    """

    def __init__(self, message: str, *, of_service: bool = False) -> None:
        super().__init__(message)
        self.of_service = of_service


@dataclass(frozen=True, kw_only=True)
class SurveyImage:
    """A piece of a survey.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (y, x, 3)
        The first row is the lowest of the WCS.
    wcs : astropy.wcs.WCS
    hips : str
        Identifier of the survey.
    service : str
        Host that made the image.
    fetched : datetime
        UTC.
    """

    pixels: NDArray[np.uint8]
    wcs: WCS
    hips: str
    service: str
    fetched: datetime

    @property
    def is_blank(self) -> bool:
        """Whether the survey has nothing there."""
        return int(np.ptp(self.pixels, axis=(0, 1)).max()) <= _NOTHING_SHADES


def survey_wcs(ra_deg: float, dec_deg: float, side_px: int, scale_arcsec: float) -> WCS:
    """Return a gnomonic projection with north up, its middle at a place (ICRS)."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crval = [ra_deg, dec_deg]
    wcs.wcs.crpix = [(side_px + 1) / 2] * 2
    wcs.wcs.cdelt = [-scale_arcsec / 3600, scale_arcsec / 3600]
    wcs.wcs.radesys = "ICRS"
    wcs.pixel_shape = (side_px, side_px)
    wcs.wcs.set()
    return wcs


class SurveyService:
    """A hips2fits service.

    Parameters
    ----------
    url : str
    image_format : str
        `jpg`, `png` or `fits`.
    timeout_s : float
        From the connection to the last byte.
    """

    def __init__(self, url: str, image_format: str, timeout_s: float) -> None:
        self._url, self._format, self._timeout_s = url, image_format, timeout_s
        self.host = urlsplit(url).netloc.rpartition("@")[2]

    def image(self, hips: str, wcs: WCS) -> SurveyImage:
        """Fetch a piece of a survey.

        Parameters
        ----------
        hips : str
        wcs : astropy.wcs.WCS
            With `pixel_shape`: what is asked for.

        Raises
        ------
        SurveyError
            The service cannot be reached, does not answer in time, refuses, or sends something
            else than was asked for.
        """
        content = self._fetch(self._address(hips, wcs))
        if content.startswith(b"SIMPLE  ="):
            pixels, wcs = _read_fits(content, wcs)
        else:
            pixels = _read_picture(content, wcs)
        fetched = datetime.now(UTC).replace(microsecond=0)
        return SurveyImage(pixels=pixels, wcs=wcs, hips=hips, service=self.host, fetched=fetched)

    def _address(self, hips: str, wcs: WCS) -> str:
        assert wcs.pixel_shape is not None
        header: dict[str, Any] = dict(wcs.to_header().items())
        header["NAXIS1"], header["NAXIS2"] = wcs.pixel_shape
        query = {"hips": hips, "wcs": json.dumps(header), "format": self._format}
        return f"{self._url}{'&' if '?' in self._url else '?'}{urlencode(query)}"

    def _fetch(self, address: str) -> bytes:
        request = urllib.request.Request(  # noqa: S310 - the setting is http or https
            address, headers={"User-Agent": f"roboao-archive/{__version__}"}
        )
        deadline = time.monotonic() + self._timeout_s
        try:
            with _deadline(self._timeout_s) as watch:
                opener = urllib.request.build_opener(_Http(watch), _Https(watch))
                with opener.open(request, timeout=self._timeout_s) as answer:
                    return self._read(answer, deadline)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error) from error
        except (OSError, HTTPException, ValueError) as error:
            # A socket that was shut in the middle of reading fails in many ways.
            if time.monotonic() >= deadline or isinstance(error, TimeoutError):
                raise self._too_late() from error
            raise SurveyError(
                f"the survey service {self.host} cannot be reached ({_cause(error)}): this machine "
                f"may have no network; the setting survey.url names the service",
                of_service=True,
            ) from error

    def _read(self, answer: HTTPResponse, deadline: float) -> bytes:
        pieces, size = [], 0
        while piece := answer.read1(_PIECE_BYTES):
            pieces.append(piece)
            size += len(piece)
            if size > MOST_BYTES:
                raise SurveyError(
                    f"the survey service {self.host} sent more than {MOST_BYTES // 10**6} MB, "
                    f"which is no image of this size"
                )
        if time.monotonic() >= deadline:
            raise self._too_late()
        expected = answer.headers.get("Content-Length", "")
        if expected.isdecimal() and int(expected) != size:
            raise SurveyError(
                f"the survey service {self.host} sent {size} of {expected} bytes and stopped"
            )
        return b"".join(pieces)

    def _too_late(self) -> SurveyError:
        return SurveyError(
            f"the survey service {self.host} did not answer within {self._timeout_s:g} s",
            of_service=True,
        )

    def _refusal(self, error: urllib.error.HTTPError) -> SurveyError:
        """Say what the service said: it explains refusals as JSON with a title."""
        try:
            told = json.loads(error.read(_MOST_ERROR_BYTES))["title"]
        except (OSError, HTTPException, ValueError, TypeError, KeyError):
            told = error.reason
        return SurveyError(
            f"the survey service {self.host} answered {error.code} ({shown(str(told))})",
            of_service=error.code >= 500 or error.code == 429,
        )


def _read_picture(content: bytes, wcs: WCS) -> NDArray[np.uint8]:
    assert wcs.pixel_shape is not None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as picture:
                # Before it is decoded: what is small as a file can be large as an image.
                _check_size(picture.size, wcs)
                rgb = np.asarray(picture.convert("RGB"))
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
        OSError,
        ValueError,
        SyntaxError,  # of a damaged PNG
    ) as error:
        raise SurveyError(
            f"the survey service sent {len(content)} bytes that are no image"
        ) from error
    # The first row of a picture is the highest.
    return np.ascontiguousarray(rgb[::-1])


def _read_fits(content: bytes, asked: WCS) -> tuple[NDArray[np.uint8], WCS]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)
            with fits.open(io.BytesIO(content)) as units:
                header = units[0].header
                if header.get("NAXIS") != 2:
                    raise SurveyError(
                        "the survey service sent FITS that is no image in one band; choose such a "
                        "survey, or the format jpg (settings survey.hips, survey.image_format)"
                    )
                _check_size((header["NAXIS1"], header["NAXIS2"]), asked)
                values = np.asarray(units[0].data, dtype=np.float32)
                wcs = WCS(header)
    except SurveyError:
        raise
    # astropy fails in as many ways as a damaged file can be read.
    except Exception as error:
        raise SurveyError(
            f"the survey service sent {len(content)} bytes that cannot be read as FITS"
        ) from error
    return _stretched(values), wcs if wcs.has_celestial else asked


def _stretched(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    good = np.isfinite(values)
    if not good.any():
        return np.zeros((*values.shape, 3), np.uint8)
    low, high = AsymmetricPercentileInterval(5.0, 99.8).get_limits(values[good])
    part = np.clip((values - low) / max(high - low, 1e-30), 0.0, 1.0)
    grey = np.where(good, 255 * AsinhStretch(0.05)(np.nan_to_num(part)), 0).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _check_size(size: tuple[int, int], wcs: WCS) -> None:
    assert wcs.pixel_shape is not None
    if tuple(size) != tuple(wcs.pixel_shape):
        raise SurveyError(
            f"the survey service sent an image of {size[0]} x {size[1]} px, and "
            f"{wcs.pixel_shape[0]} x {wcs.pixel_shape[1]} px were asked for"
        )


def _cause(error: Exception) -> str:
    """Name what is behind urllib's error, without what a stranger may have written into it."""
    behind = getattr(error, "reason", error)
    if isinstance(behind, OSError) and behind.strerror:
        return behind.strerror
    return type(behind).__name__


# -- a deadline for all of an answer: the time limit of a socket is that of one piece of it --------

Watch = Callable[[socket.socket], None]


@contextmanager
def _deadline(seconds: float) -> Iterator[Watch]:
    """Shut every socket that is watched once the time is over."""
    sockets: list[socket.socket] = []
    over = threading.Event()

    def shut(one: socket.socket) -> None:
        try:
            # Of the plain socket: the one of TLS may be in use by another thread.
            socket.socket.shutdown(one, socket.SHUT_RDWR)
        except OSError:
            return  # it is closed already

    def end() -> None:
        over.set()
        for one in tuple(sockets):
            shut(one)

    def watch(one: socket.socket) -> None:
        sockets.append(one)
        if over.is_set():
            shut(one)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield watch
    finally:
        timer.cancel()


def _watched(kind: type[HTTPConnection], watch: Watch) -> Callable[..., HTTPConnection]:
    class Connection(kind):  # type: ignore[misc, valid-type]
        def connect(self) -> None:
            super().connect()
            watch(self.sock)

    return Connection


class _Http(urllib.request.HTTPHandler):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def http_open(self, request: urllib.request.Request) -> HTTPResponse:
        return self.do_open(_watched(HTTPConnection, self._watch), request)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def https_open(self, request: urllib.request.Request) -> HTTPResponse:
        return self.do_open(_watched(HTTPSConnection, self._watch), request)
