"""Small pictures of prepared frames, as addresses that hold the picture itself."""

import base64
import io

import numpy as np
from bokeh.palettes import Inferno256
from numpy.typing import NDArray
from PIL import Image

_SIDE_PX = 150
_MIN_HALF_PX = 8
_DEPTH = 200.0
_COLOURS = np.array(
    [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in Inferno256], np.uint8
)


def frame_picture(frame: NDArray[np.float32]) -> str:
    """Return the middle half of a frame, logarithmic, as a `data:` address.

    Parameters
    ----------
    frame : ndarray, float32, shape (2 h + 1, 2 h + 1), axes (y, x)
        Prepared star on the central pixel.
    """
    half = frame.shape[0] // 2
    reach = min(max(half // 2, _MIN_HALF_PX), half)
    middle = frame[half - reach : half + reach + 1, half - reach : half + reach + 1]
    peak = max(float(middle.max()), float(np.finfo(np.float32).tiny))
    level = np.clip(middle.astype(np.float64) / peak, 0.0, 1.0)
    shown = np.arcsinh(_DEPTH * level) / np.arcsinh(_DEPTH)
    # y is up, the rows of a picture go down.
    picture = Image.fromarray(_COLOURS[(shown[::-1] * 255).astype(int)])
    file = io.BytesIO()
    picture.resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BICUBIC).save(file, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
