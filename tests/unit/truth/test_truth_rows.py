"""What the truth report says of products that are right, and of products that are not."""

import math

import numpy as np
import pytest
from astropy.table import Table

from roboao_assets.science.astrometry import pointing_wcs
from roboao_assets.storage.fits_products import write_image
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.truth_disc import disc_rows
from roboao_assets.truth_field import field_rows
from simulator.resolved_disc import Disc, Spot

NIGHT = "20170607"
SCALE = 0.0352
FIELD = "9_M71_field_VIC_lp600_o_20170607_100000.000000"
PLANET = "24_Ganymede_VIC_Si_o_20170607_102000.000000"


def wcs_of(turn_deg=0.3, scale=SCALE / 2):
    return pointing_wcs(
        ra_deg=10.0,
        dec_deg=20.0,
        equinox=2000.0,
        shape=(512, 512),
        plate_scale_arcsec=scale,
        y_axis_pa_deg=turn_deg,
    )


def write_field(paths, wcs, *, away_px=0.0, stars=30):
    """The products of a field whose stars the camera really has at `x`, `y`; its truth."""
    rng = np.random.default_rng(1)
    x, y = rng.uniform(20, 236, (2, stars))
    at_x, at_y = 256 + 2 * (x - x[0]), 250 + 2 * (y - y[0])
    ra, dec = wcs_of().all_pix2world(at_x, at_y, 0)
    cards = [(c.keyword, c.value, c.comment) for c in wcs.to_header().cards]
    cards += [("WCSSRC", "stars", ""), ("PIXSCALE", 0.0175797, "")]
    cards += [("LOCK_X", 256.0, ""), ("LOCK_Y", 250.0, "")]
    stack = paths.stack(NIGHT, FIELD, 100)
    stack.parent.mkdir(parents=True)
    write_image(stack, np.zeros((512, 512), np.float32), cards)
    used = np.arange(stars) < stars - 2
    table = Table({"x": at_x + away_px * rng.choice([-1, 1], stars), "y": at_y, "used": used})
    table.meta["pointing_error_arcsec"] = 9.0
    file = paths.astrometry(NIGHT, FIELD, "bright_star", "stars.ecsv")
    file.parent.mkdir(parents=True, exist_ok=True)
    table.write(file, format="ascii.ecsv")
    places = zip(x, y, ra, dec, strict=True)
    return {
        "id": FIELD,
        "sky_field": {
            "plate_scale_arcsec": SCALE,
            "y_axis_pa_deg": 0.3,
            "pointing_error_arcsec": 9.04,
            "stars": [
                {"x": a, "y": b, "ra_deg": r, "dec_deg": d, "in_catalogue": True}
                for a, b, r, d in places
            ],
        },
    }


def by_quantity(rows):
    return {row.quantity: row for row in rows}


def test_a_field_that_is_right_keeps_all_goals(tmp_path):
    paths = ArchivePaths(tmp_path)
    rows = by_quantity(field_rows(paths, NIGHT, write_field(paths, wcs_of())))
    assert len(rows) == 6
    assert all(row.passed for row in rows.values())
    assert rows["field stars as detected, rms an axis (mas)"].measured < 0.1
    assert rows["plate scale (mas/px)"].measured == pytest.approx(1000 * SCALE, rel=1e-6)
    assert rows["position angle of +y (deg)"].measured == pytest.approx(0.3, abs=1e-4)
    assert rows["field stars identified"].measured == 28


@pytest.mark.parametrize(
    ("wcs", "away_px", "missed"),
    [
        (wcs_of(turn_deg=0.4), 0.0, {"position angle of +y (deg)"}),
        (wcs_of(scale=SCALE / 2 * 1.001), 0.0, {"plate scale (mas/px)"}),
        (wcs_of(), 3.0, {"field stars as detected, rms an axis (mas)"}),
    ],
)
def test_what_is_wrong_is_missed(tmp_path, wcs, away_px, missed):
    paths = ArchivePaths(tmp_path)
    rows = by_quantity(field_rows(paths, NIGHT, write_field(paths, wcs, away_px=away_px)))
    assert {name for name, row in rows.items() if not row.passed} == missed


def test_a_field_without_products_is_missed(tmp_path):
    paths = ArchivePaths(tmp_path / "none")
    true = write_field(ArchivePaths(tmp_path / "other"), wcs_of())
    rows = list(field_rows(paths, NIGHT, true))
    assert len(rows) == 6
    assert not any(row.passed for row in rows)


DISC = Disc(
    diameter_arcsec=1.4,
    limb_darkening=0.5,
    spots=(Spot(x_arcsec=0.2, y_arcsec=0.14, sigma_arcsec=0.06, brightness=0.7),),
)
FLUX_ADU = 5e5


def image_of(disc, x, y, side=160, blur_px=0.0):
    """The disc through a perfect telescope of square pixels, by its transfer function."""
    fy, fx = np.fft.fftfreq(side), np.fft.rfftfreq(side)
    moved = np.exp(-2j * math.pi * (fy[:, None] * y + fx[None, :] * x))
    blur = np.exp(-2 * (math.pi * blur_px) ** 2 * (fy[:, None] ** 2 + fx[None, :] ** 2))
    pixel = np.sinc(fy)[:, None] * np.sinc(fx)[None, :]
    return np.fft.irfft2(disc.transfer(fy, fx, SCALE / 2) * moved * blur * pixel, (side, side))


STAR = "4_HD1_VIC_Si_o_20170607_101000.000000"
SEEN = 0.9


def write_star(paths):
    """A star of the disc's light, in a halo of which a tenth lies outside of any box."""
    stack = np.full((240, 240), 1.0)
    stack[120, 120] += SEEN * 4 * FLUX_ADU
    file = paths.stack(NIGHT, STAR, 20)
    file.parent.mkdir(parents=True)
    cards = [("PIXSCALE", SCALE / 2, ""), ("LOCK_X", 120.0, ""), ("LOCK_Y", 120.0, "")]
    write_image(file, stack.astype(np.float32), cards)
    # The best fifth are the last two frames, clearer than the others.
    lines = [f"{i} {0.1 + 0.01 * i} 1 1 1 1" for i in range(10)]
    paths.frames_table(NIGHT, STAR).write_text("\n".join(lines))


def night_of(true):
    star = {
        "id": STAR,
        "electrons_per_frame": FLUX_ADU,
        "adu_per_electron": 2.0,
        "frames": {"transparency": [0.1] * 8 + [0.5, 0.5]},
        "companions": [],
        "field_stars": [],
    }
    return {"night": NIGHT, "observations": [star, true]}


def write_disc(paths, *, flux=1.0, blur_px=0.5, disc=DISC):
    stack_file, made_file = (
        paths.extended_object(NIGHT, PLANET, kind) for kind in ("stack", "deconvolved")
    )
    stack_file.parent.mkdir(parents=True)
    cards = [("PIXSCALE", SCALE / 2, ""), ("LOCK_X", 80.0, ""), ("LOCK_Y", 78.0, "")]
    cards += [
        ("CORNER_X", 20, ""),
        ("CORNER_Y", 30, ""),
        ("BACKGRND", 3.0, ""),
        ("PSFOBS", STAR, ""),
    ]
    # ADU of a raw pixel, in pixels of a quarter of that.
    per_raw_px = 4 * FLUX_ADU
    stack = np.full((240, 240), 3.0)
    stack[30:190, 20:180] += per_raw_px * image_of(DISC, 80.3, 77.8, blur_px=4.0)
    write_image(stack_file, stack.astype(np.float32), cards)
    made = SEEN * flux * per_raw_px * image_of(disc, 80.3, 77.8, blur_px=blur_px)
    write_image(made_file, made.astype(np.float32), cards)
    write_star(paths)
    table = "# frame x y ex ey sharpness used\n0 1 1 0 0 1 1\n1 1 1 0 0 1 0\n"
    paths.extended_shifts_table(NIGHT, PLANET).write_text(table)
    return {
        "id": PLANET,
        "electrons_per_frame": FLUX_ADU,
        "adu_per_electron": 2.0,
        "frames": {"transparency": [0.5, 0.9]},
        "disc": DISC.truth() | {"plate_scale_arcsec": SCALE},
    }


def test_a_disc_that_is_right_keeps_all_goals(tmp_path):
    paths = ArchivePaths(tmp_path)
    true = write_disc(paths)
    rows = by_quantity(disc_rows(paths, night_of(true), true))
    assert all(row.passed for row in rows.values())
    assert rows["deconvolved: flux, by that of its star"].measured == pytest.approx(1.0, abs=1e-3)
    assert rows["deconvolved: part of all its light"].measured == pytest.approx(SEEN, abs=1e-3)
    assert rows["deconvolved: diameter (arcsec)"].measured == pytest.approx(1.4, abs=0.02)
    assert rows["stack: brightness, rms error (part)"].measured > 0.1
    assert rows["deconvolved: brightness, rms error (part)"].measured < 0.06


@pytest.mark.parametrize(
    ("wrong", "missed"),
    [
        ({"flux": 1.03}, "deconvolved: flux, by that of its star"),
        ({"blur_px": 6.0}, "deconvolved: brightness, rms error (part)"),
        ({"disc": Disc(diameter_arcsec=1.5, limb_darkening=0.5)}, "deconvolved: diameter (arcsec)"),
    ],
)
def test_a_disc_that_is_wrong_is_missed(tmp_path, wrong, missed):
    paths = ArchivePaths(tmp_path)
    true = write_disc(paths, **wrong)
    rows = by_quantity(disc_rows(paths, night_of(true), true))
    assert not rows[missed].passed


def test_a_disc_without_products_is_missed(tmp_path):
    true = write_disc(ArchivePaths(tmp_path / "other"))
    found = disc_rows(ArchivePaths(tmp_path / "none"), night_of(true), true)
    rows = [row for row in found if row.goal is not None]
    assert len(rows) == 3
    assert not any(row.passed for row in rows)
