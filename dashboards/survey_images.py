"""Survey images as the archive keeps them: asked for once, then in the catalogue's pictures.

They are kept as PNG whose text chunk tells survey, service, time and world coordinates.
"""

import io
import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from dashboards.source import CatalogueSource
from dashboards.survey_field import FieldOnSky
from dashboards.survey_service import SurveyError, SurveyImage, SurveyService, survey_wcs
from roboao_assets.science.errors import CatalogueError
from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.settings import SurveySettings

logger = logging.getLogger("roboao.dashboard")

_PICTURES = "survey"
_TEXT = "roboao survey"
# Pan-STARRS has 0.25 arcsec per pixel, the others more.
_SCALE_ARCSEC = 0.25
_LEAST_SIDE_PX, _MOST_SIDE_PX = 128, 800
_THREADS = 2
_MOST_FAILURES = 1000


def survey_key(observation: str) -> str:
    """Return the key under which the catalogue keeps an observation's survey image."""
    return f"{observation}/{_PICTURES}/field"


def without_survey(keys: Iterable[str]) -> list[str]:
    """Return the keys of pictures that pipelines made."""
    return [key for key in keys if key.split("/")[1:2] != [_PICTURES]]


class SurveyDesk:
    """Gets survey images, each once, for whoever opens an observation's page.

    Parameters
    ----------
    source : CatalogueSource
    catalogue_url : str
        For writing.
    settings : SurveySettings
    clock : callable
        Seconds that do not go back.
    """

    def __init__(
        self,
        source: CatalogueSource,
        catalogue_url: str,
        settings: SurveySettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._source, self._catalogue_url, self._settings = source, catalogue_url, settings
        self._service = SurveyService(settings.url, settings.image_format, settings.timeout_s)
        # Of its own: a service that hangs must not hold up the pictures of other pages.
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="surveys")
        self._running: dict[str, Future[SurveyImage]] = {}
        self._failures: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def enabled(self) -> bool:
        """Whether there are survey images at all."""
        return self._settings.enabled

    def ask(self, observation: str, night: str, field: FieldOnSky) -> "Future[SurveyImage]":
        """Return what becomes the survey image round a field, or a SurveyError.

        Everybody who asks meanwhile is given the same.
        """
        with self._lock:
            running = self._running.get(observation)
            if running is not None:
                return running
            future = self._executor.submit(self._image, observation, night, field)
            self._running[observation] = future
        future.add_done_callback(lambda _: self._ended(observation))
        return future

    def _ended(self, observation: str) -> None:
        with self._lock:
            self._running.pop(observation, None)

    def _image(self, observation: str, night: str, field: FieldOnSky) -> SurveyImage:
        surveys = self._surveys(field.dec_deg)
        kept = self._kept(observation)
        if kept is not None and kept.hips in surveys and field.is_inside(kept.wcs):
            return kept
        self._refuse_what_failed(observation)
        try:
            image = self._fetched(field, surveys)
        except SurveyError as error:
            raise self._remember(observation, error) from error
        self._keep(observation, night, image)
        return image

    def _surveys(self, dec_deg: float) -> list[str]:
        """Return the surveys to be tried, in order."""
        of_settings = self._settings
        north = dec_deg >= of_settings.least_declination_deg
        surveys = [of_settings.hips] if north else []
        return [*surveys, of_settings.fallback_hips]

    def _fetched(self, field: FieldOnSky, surveys: list[str]) -> SurveyImage:
        side_arcsec = field.side_arcsec * self._settings.fields
        side_px = int(np.clip(side_arcsec / _SCALE_ARCSEC, _LEAST_SIDE_PX, _MOST_SIDE_PX))
        wcs = survey_wcs(field.ra_deg, field.dec_deg, side_px, side_arcsec / side_px)
        for hips in surveys:
            image = self._service.image(hips, wcs)
            if not image.is_blank:
                return image
        raise SurveyError(f"{' and '.join(surveys)} have no data there")

    # -- the catalogue -------------------------------------------------------------------------

    def _kept(self, observation: str) -> SurveyImage | None:
        try:
            png = self._source.get().image(survey_key(observation))
        except CatalogueError as error:
            logger.warning("the survey image of %s cannot be read: %s", observation, error)
            return None
        return None if png is None else read_png(png)

    def _keep(self, observation: str, night: str, image: SurveyImage) -> None:
        try:
            with open_catalogue(self._catalogue_url) as catalogue:
                catalogue.put_image(
                    survey_key(observation), png_of(image), night=night, observation=observation
                )
        except CatalogueError as error:
            # It is shown all the same, and asked for again the next time.
            logger.warning("the survey image of %s cannot be kept: %s", observation, error)

    # -- failures ------------------------------------------------------------------------------

    def _refuse_what_failed(self, observation: str) -> None:
        with self._lock:
            for subject in ("", observation):
                until, told = self._failures.get(subject, (0.0, ""))
                if self._clock() < until:
                    raise SurveyError(told)

    def _remember(self, observation: str, error: SurveyError) -> SurveyError:
        subject, minutes = "" if error.of_service else observation, self._settings.retry_minutes
        told = f"{error}; nobody is asked again for {minutes:g} minutes"
        with self._lock:
            self._failures[subject] = (self._clock() + 60.0 * minutes, told)
            while len(self._failures) > _MOST_FAILURES:
                self._failures.popitem(last=False)
        return SurveyError(told, of_service=error.of_service)


def png_of(image: SurveyImage) -> bytes:
    """Return a survey image as a picture that tells what it is."""
    told = PngInfo()
    text = {
        "hips": image.hips,
        "service": image.service,
        "fetched": image.fetched.isoformat(),
        "wcs": image.wcs.celestial.to_header().tostring(sep="\n"),
    }
    told.add_text(_TEXT, json.dumps(text))
    buffer = io.BytesIO()
    Image.fromarray(image.pixels[::-1]).save(buffer, "PNG", pnginfo=told)
    return buffer.getvalue()


def read_png(png: bytes) -> SurveyImage | None:
    """Read what `png_of` has written; None if it is anything else."""
    try:
        with Image.open(io.BytesIO(png), formats=("PNG",)) as picture:
            picture.load()
            told = json.loads(picture.text[_TEXT])  # type: ignore[attr-defined]
            pixels = np.ascontiguousarray(np.asarray(picture.convert("RGB"))[::-1])
        wcs = WCS(fits.Header.fromstring(told["wcs"], sep="\n"))
        wcs.pixel_shape = pixels.shape[1::-1]
        return SurveyImage(
            pixels=pixels,
            wcs=wcs,
            hips=str(told["hips"]),
            service=str(told["service"]),
            fetched=datetime.fromisoformat(told["fetched"]),
        )
    except (UnidentifiedImageError, OSError, SyntaxError, KeyError, TypeError, ValueError):
        return None
