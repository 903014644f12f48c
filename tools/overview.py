"""Draw the picture of the README, tools/overview.png: python -m tools.overview"""

from pathlib import Path

import dask.array as da
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from skimage.color import rgb2hed
from skimage.data import immunohistochemistry
from skimage.filters import gaussian

from course_helpers.mandelbrot import render_level

PICTURE = Path(__file__).with_suffix(".png")
LEVELS = [0, 20_000, 40_000, 80_000]
TILE = 128  # pixels


def draw_zoom(axes, levels):
    """Images of the zoom."""
    for axis, level in zip(axes, levels, strict=True):
        axis.imshow(render_level(level) ** 0.4, cmap="magma")
        axis.set_title(f"image {level:,}")


def draw_tiling(axes):
    """A micrograph, one stain of it cut into tiles, smoothed tile by tile, and where that is wrong."""
    micrograph = immunohistochemistry()
    nuclei = rgb2hed(micrograph)[:, :, 0]
    whole = gaussian(nuclei, sigma=5)
    tiled = da.from_array(nuclei, chunks=(TILE, TILE)).map_blocks(gaussian, sigma=5).compute()
    difference = tiled - whole
    limit = np.abs(difference).max() / 3
    axes[0].imshow(micrograph)
    axes[0].set_title("a micrograph")
    axes[1].imshow(nuclei, cmap="magma")
    for cut in range(TILE, nuclei.shape[0], TILE):
        axes[1].axhline(cut - 0.5, color="white", linewidth=0.8)
        axes[1].axvline(cut - 0.5, color="white", linewidth=0.8)
    axes[1].set_title("its nuclei, in tiles")
    axes[2].imshow(tiled, cmap="magma")
    axes[2].set_title("smoothed tile by tile")
    axes[3].imshow(difference, cmap="berlin", vmin=-limit, vmax=limit)
    axes[3].set_title("what is wrong now")


def main():
    figure, axes = plt.subplots(2, 4, figsize=(8, 4.4), layout="constrained")
    draw_zoom(axes[0], LEVELS)
    draw_tiling(axes[1])
    for axis in axes.flat:
        axis.axis("off")
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=150, metadata={"Software": None})
    Image.open(PICTURE).convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
