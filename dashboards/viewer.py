"""The viewer of an observation's images: pan, zoom, cut, stretch, colours, read-out, profile."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import TypeVar

import numpy as np
import panel as pn
from numpy.typing import NDArray

from dashboards.later import hand_over
from dashboards.page_frame import WIDGET_STYLE, html_pane
from dashboards.themes import DARK, Theme
from dashboards.viewer_compute import (
    CUTS,
    STRETCHES,
    cut_levels,
    radial_profile,
    read_out,
    shade,
)
from dashboards.viewer_images import ImageStore, ViewerImage, image_titles
from dashboards.viewer_plot import PALETTES, ImageFigure, ProfileFigure
from roboao_assets.science.errors import ArchiveError
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.served_files import ServedFile, observation_files

PROFILE_ARCSEC = 2.0
_LOOKS = {"stack": ("noise to peak", "logarithmic"), "residual": ("1 to 99.9 %", "linear")}
T = TypeVar("T")
_HINT = "Move over the image to read it; click to centre the radial profile."


class Viewer:
    """One observation's images in a browser.

    Parameters
    ----------
    store : ImageStore
        Shared by all viewers.
    files : mapping of str to ServedFile
        Of the observation.
    executor : Executor
        Reads and shades images: a second of it must not hold up the other pages.
    theme : Theme
        Of the page.
    """

    def __init__(
        self,
        store: ImageStore,
        files: Mapping[str, ServedFile],
        executor: Executor,
        theme: Theme = DARK,
    ) -> None:
        self._store, self.files, self._executor = store, files, executor
        titles = image_titles(files)
        self.image_choice = _select("image", titles, 260)
        self.stretch_choice = _select("stretch", list(STRETCHES), 150)
        self.cut_choice = _select("cut", list(CUTS), 150)
        self.colour_choice = _select("colours", list(PALETTES), 160)
        self.read_out = html_pane(_told(_HINT))
        self._figure, self._profile = ImageFigure(theme), ProfileFigure(theme)
        self._image: ViewerImage | None = None
        self._plots = pn.FlexBox(
            pn.pane.Bokeh(self._figure.plot, margin=0),
            pn.pane.Bokeh(self._profile.plot, margin=0),
            sizing_mode="stretch_width",
            gap="16px",
        )
        self._wanted = 0
        self.image_choice.param.watch(self._look, "value")
        for choice in (self.stretch_choice, self.cut_choice):
            choice.param.watch(self._shade_again, "value")
        self.colour_choice.param.watch(lambda event: self._figure.paint(event.new), "value")
        self._figure.pointer.on_change("data", self._pointed)
        self._figure.chosen.on_change("data", self._clicked)

    def panel(self) -> pn.viewable.Viewable:
        """Return the viewer as a part of a page; a sentence if there is no image."""
        if not self.image_choice.options:
            return html_pane(
                '<div class="notice"><p>No image of this observation is in the archive yet; the '
                "stage <code>bright_star_stack</code> makes the first.</p></div>"
            )
        controls = pn.Row(
            self.image_choice,
            self.cut_choice,
            self.stretch_choice,
            self.colour_choice,
            styles={"gap": "16px", "flex-wrap": "wrap"},
            sizing_mode="stretch_width",
            margin=0,
        )
        self._figure.paint(self.colour_choice.value)
        # The page comes at once, the image when it is read.
        pn.state.onload(self._look)
        return pn.Column(controls, self.read_out, self._plots, sizing_mode="stretch_width")

    def _look(self, *_: object) -> None:
        """Read the chosen image and show all of it."""
        name = self.image_choice.value
        self._plots.loading = True
        self._later(lambda: self._store.read(self.files, name), partial(self._take, name))

    def _take(self, name: str, read: "Future[ViewerImage]") -> None:
        if name != self.image_choice.value:
            return  # another one was chosen meanwhile
        self._plots.loading = False
        try:
            self._image = image = read.result()
        except ArchiveError as error:
            self._image = None
            self.read_out.object = f'<p class="bad read-out">{escape(str(error))}</p>'
            self._plots.visible = False
            return
        self._plots.visible = True
        # Of a residual the noise is what is looked at.
        kind = "residual" if "/pca/" in name else "stack"
        cut, stretch = _LOOKS[kind]
        self.cut_choice.value, self.stretch_choice.value = cut, stretch
        self._figure.frame(image, self._origin(image))
        self.read_out.object = _told(_HINT)
        self._figure.chosen.data = {"x": [0.0], "y": [0.0]}
        self._shade_again()

    def _shade_again(self, *_: object) -> None:
        """Send the image as it is cut and stretched now."""
        image = self._image
        if image is not None:
            self._wanted += 1
            cut, stretch = self.cut_choice.value, self.stretch_choice.value
            self._later(
                lambda: shade(image.pixels, *cut_levels(image.pixels, cut), stretch),
                partial(self._send, image, self._wanted),
            )

    def _send(self, image: ViewerImage, wanted: int, shaded: "Future[NDArray[np.uint8]]") -> None:
        if wanted != self._wanted or image is not self._image:
            return
        shades, scale = shaded.result(), image.scale_arcsec
        x, y = self._origin(image)
        self._figure.pixels.data = {
            "image": [shades],
            "x": [-(x + 0.5) * scale],
            "y": [-(y + 0.5) * scale],
            "dw": [shades.shape[1] * scale],
            "dh": [shades.shape[0] * scale],
        }

    def _later(self, work: Callable[[], T], then: Callable[["Future[T]"], None]) -> None:
        """Do `work` in a thread and hand its end to the page, when the page has a moment."""
        hand_over(self._executor.submit(work), then)

    def _pointed(self, _attribute: str, _old: object, new: Mapping[str, list[float]]) -> None:
        if self._image is not None and new["x"]:
            told = read_out(self._image, *self._pixel(new))
            self.read_out.object = _told(told or _HINT)

    def _clicked(self, _attribute: str, _old: object, new: Mapping[str, list[float]]) -> None:
        if self._image is not None and new["x"]:
            x, y = self._pixel(new)
            profile = radial_profile(self._image, x, y, PROFILE_ARCSEC)
            self._profile.show(profile, self._image.unit)

    def _pixel(self, data: Mapping[str, list[float]]) -> tuple[float, float]:
        assert self._image is not None
        x, y = self._origin(self._image)
        scale = self._image.scale_arcsec
        return x + data["x"][0] / scale, y + data["y"][0] / scale

    @staticmethod
    def _origin(image: ViewerImage) -> tuple[float, float]:
        if image.star_xy is not None:
            return image.star_xy
        height, width = image.pixels.shape
        return (width - 1) / 2, (height - 1) / 2


@dataclass(frozen=True, kw_only=True)
class Viewers:
    """What all viewers share.

    Attributes
    ----------
    paths : ArchivePaths
    store : ImageStore
    executor : Executor
    """

    paths: ArchivePaths
    store: ImageStore
    executor: Executor

    def make(self, night: str, observation: str, theme: Theme = DARK) -> Viewer:
        """Return the viewer of an observation's images, in the colours of a theme."""
        files = observation_files(self.paths, night, observation)
        return Viewer(self.store, files, self.executor, theme)


def _select(name: str, options: object, width: int) -> pn.widgets.Select:
    return pn.widgets.Select(
        label=name, options=options, width=width, margin=0, stylesheets=[WIDGET_STYLE]
    )


def _told(text: str) -> str:
    return f'<p class="read-out quiet">{escape(text)}</p>'
