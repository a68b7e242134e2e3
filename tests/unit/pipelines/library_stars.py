"""Stars whose likeness is known, and observations that were compared with some of them."""

from datetime import UTC, datetime, timedelta

import numpy as np

from roboao_assets.storage.catalogue import new_observation
from roboao_assets.storage.psf_library import PsfEntry, write_psf_candidate
from roboao_assets.storage.raw_names import parse_exposure_name

NIGHT = "20170607"
ID = f"4_HD_1_VIC_Si_o_{NIGHT}_043211.367797"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
SIDE = 41


def frame_like(likeness, seed=0):
    """A frame whose correlation with `star_frame()` is about `likeness`."""
    noise = np.random.default_rng(1000 + seed).normal(size=(SIDE, SIDE))
    star = star_frame()
    noise *= np.std(star) / np.std(noise)
    return (likeness * star + np.sqrt(1 - likeness**2) * noise).astype(np.float32)


def star_frame():
    y, x = np.indices((SIDE, SIDE)) - SIDE // 2
    core = np.exp(-4 * np.log(2) * (x**2 + y**2) / 5.0**2)
    speckles = np.random.default_rng(0).normal(size=(SIDE, SIDE)) * 0.1
    return (core + speckles).astype(np.float32)


def library_star(name, likeness, seed=0, *, added=LONG_AGO, **changes):
    values = {
        "obs_name": name,
        "obj_name": f"object of {name}",
        "filter_name": "Si",
        "telescope": "KPNO_2.1m",
        "strehl_percent": 10.0,
        "frame": frame_like(likeness, seed),
        "date_added": added,
    }
    return PsfEntry(**(values | changes))


def reduced(catalogue, paths, used, observation=ID, *, candidate=True):
    """An observation whose PCA was made with the stars `used`, with its candidate file."""
    exposure = parse_exposure_name(observation)
    catalogue.register_observation(new_observation(exposure, telescope="KPNO_2.1m"))
    catalogue.publish(observation, "bright_star", {"lock_position": [1.0, 1.0]})
    if used is None:
        catalogue.record_skip(observation, "bright_star.pca", "the PSF library is empty")
    else:
        pairs = [[name, 0.9] for name in used]
        catalogue.publish(observation, "bright_star.pca", {"library_psf_id_corr": pairs})
        catalogue.publish(observation, "bright_star.pca.preview", {})
    if candidate:
        own = library_star(observation, 1.0, obj_name=exposure.object_name, frame=star_frame())
        write_psf_candidate(paths.psf_candidate(NIGHT, observation, "fits"), own)


def later():
    """A time after everything that was made so far."""
    return datetime.now(UTC) + timedelta(seconds=2)
