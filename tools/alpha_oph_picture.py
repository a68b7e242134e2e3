"""The README's picture of alpha Ophiuchi: `alpha_oph_picture.py ARCHIVE OUT.png`.

Left the stack, right the PCA residual on a linear scale; the circle is where interferometry
(kernel phases) has the companion: 124.2 mas at position angle 86.4 degrees.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from roboao_assets.storage.fits_products import read_image
from roboao_assets.storage.instruments import load_instruments

SEPARATION_ARCSEC, PA_DEG = 0.1242, 86.4
HALF_ARCSEC = 0.45


def main(archive: Path, out: Path) -> None:
    """Draw the picture."""
    (folder,) = archive.glob("2012*/*alpha_Oph*/bright_star")
    scale = load_instruments()["PHARO"].drizzled_scale_arcsec
    stack, header = read_image(folder / "100p.fits")
    (residual_path,) = folder.glob("pca/*_pca.fits")
    residual, _ = read_image(residual_path)
    peak = np.nanmax(stack)
    figure = Figure(figsize=(9, 4.6), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    half = residual.shape[0] // 2
    panels = (
        (left, np.arcsinh(stack / peak * 100), (header["LOCK_X"], header["LOCK_Y"]), "stack"),
        (right, residual / peak * 100, (half, half), "residual (% of the peak)"),
    )
    for axes, image, (x, y), title in panels:
        height, width = image.shape
        # East is left: the axis of offsets runs from positive to negative.
        extent = np.array([x + 0.5, x - width + 0.5, -y - 0.5, height - y - 0.5]) * scale
        shown = axes.imshow(image, origin="lower", extent=tuple(extent), cmap="inferno")
        axes.set(title=title, xlabel='east (")', ylabel='north (")')
        axes.set(xlim=(HALF_ARCSEC, -HALF_ARCSEC), ylim=(-HALF_ARCSEC, HALF_ARCSEC))
    figure.colorbar(shown, ax=right, shrink=0.85)
    angle = np.radians(PA_DEG)
    for axes in (left, right):
        axes.plot(
            SEPARATION_ARCSEC * np.sin(angle),
            SEPARATION_ARCSEC * np.cos(angle),
            "o",
            markersize=26,
            fillstyle="none",
            color="cyan",
        )
    figure.savefig(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
