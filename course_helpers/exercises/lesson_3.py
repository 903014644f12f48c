"""Exercises of lesson 3, "Give tiles a margin"."""

from decimal import Decimal
from fractions import Fraction

import dask.array as da
import numpy as np
from dask.array.core import slices_from_chunks
from scipy.ndimage import maximum_filter
from skimage.filters import gaussian, threshold_otsu
from skimage.morphology import disk

from course_helpers._engine.tiled import tiled
from course_helpers.background import remove_background
from course_helpers.exercises.form import Parts, Value, number, seen, whole_number
from course_helpers.exercises.in_tiles import InTiles, lazy_tiles
from course_helpers.slide import nuclei_slide
from course_helpers.tiling import overlap_needed, tile_cost

EXERCISES = {}

# --- 3.1: how wide a margin is enough? ---

REGION, TILE, RADIUS = np.s_[1400:1912, 4300:4812], 128, 10
PASSES_HERE, ALWAYS_ENOUGH = 18, overlap_needed(("top-hat", RADIUS))
NEGATIVE = "a margin is a number of pixels, 0 or more."


def lesson_image():
    """The image of the lesson."""
    return nuclei_slide()[REGION].compute()


def top_hat(pixels):
    return remove_background(pixels, RADIUS)


def broken_disks(radius=RADIUS, tile=TILE):
    """An image on which a top-hat in tiles needs all of its reach: disks at the cuts, each without its farthest pixel.

    A disk begins at the last pixel before a cut. Whether it is whole, and so removed as background, is decided by its
    pixel at the other end, which lies 2 * radius away from that pixel: in columns in one half, in rows in the other.
    """
    broken = 255 * disk(radius)
    broken[radius, -1] = 0
    half = np.zeros((3 * tile, 3 * tile), dtype=np.uint8)
    half[tile // 2 - radius :, tile - 1 :][: 2 * radius + 1, : 2 * radius + 1] = broken
    return np.vstack([half, half.T])


def fails_on(image):
    """Recognises margins with which a top-hat in tiles gets pixels of an image wrong: how many, and by how much at most."""

    def when(found):
        in_tiles = tiled(top_hat, image(), TILE, min(found, ALWAYS_ENOUGH))
        differences = np.abs(np.subtract(in_tiles, top_hat(image()), dtype=int))
        return differences.any() and {"count": np.count_nonzero(differences), "most": differences.max()}

    return when


EXERCISES["3.1"] = Parts(
    parts={
        "passes_here": Value(
            right=PASSES_HERE,
            reads=whole_number,
            mistakes={
                NEGATIVE: seen(-1, lambda found: found < 0),
                "{count} pixels of the image still differ, by up to {most}. None may. If a search found this number: did it use "
                f"radius={RADIUS}, image and tile={TILE}?": seen(8, fails_on(lesson_image)),
            },
            otherwise="with this margin no pixel differs, but is it the smallest one that passes? Try less.",
        ),
        "always_enough": Value(
            right=ALWAYS_ENOUGH,
            reads=whole_number,
            mistakes={
                NEGATIVE: seen(-1, lambda found: found < 0),
                "this is the radius of one filter. How many filters make a top-hat?": RADIUS,
                "a margin is counted on one side of a tile; the other side gets as many pixels again.": 4 * RADIUS,
                "not even enough for the image of this lesson: {count} of its pixels differ.": seen(
                    15, fails_on(lesson_image)
                ),
                "it passes on the image of this lesson, but an image with a disk on two of its cuts has {count} wrong "
                "pixels with it. A search proves nothing.": seen(PASSES_HERE, fails_on(broken_disks)),
            },
            otherwise="enough for every image, but so is less. Go backwards from one pixel of the result: how far does it see? "
            f"(A disk reaches {RADIUS} pixels beyond the one in its middle.)",
        ),
    },
    mistakes={
        "you say that {always_enough} is enough for every image, but that this one needs {passes_here}. Swapped?": {
            "passes_here": ALWAYS_ENOUGH,
            "always_enough": PASSES_HERE,
        },
    },
    also_right=((np.int64(PASSES_HERE), float(ALWAYS_ENOUGH)),),
    praise="{passes_here} passes on this image, {always_enough} is provably enough for every image: the radii of both "
    "filters add up.",
    hints=[
        "passes_here can be found by trying: tiling_error or smallest_overlap, with image and a tile of 128. "
        "always_enough can not be found by trying, because you cannot try every image.",
        "remove_background is two filters with the same disk, one after the other, and then a subtraction. "
        "How far does each look?",
        "go backwards from one pixel of the result: to which pixels does the maximum filter look, and to which pixels "
        "does the minimum filter look from the farthest of those?",
    ],
)


# --- 3.2: a pipeline in tiles ---


def smooth_and_widen(pixels, sigma=1.5, size=11):
    smoothed = gaussian(pixels, sigma=sigma, mode="nearest", preserve_range=True)
    return maximum_filter(smoothed, size=size, mode="nearest")


def in_tiles(tiles, depth=11, boundary="none", **other_sizes):
    return tiles.map_overlap(smooth_and_widen, depth=depth, boundary=boundary, dtype=float, **other_sizes)


def noise():
    """Images in which the result depends on every pixel within reach. No chunk is so narrow that dask enlarges it."""
    random = np.random.default_rng(3)
    for shape, side, dtype in (((150, 170), 60, "u1"), ((190, 121), (40, 50), "u2"), ((36, 200), (36, 45), "u1")):
        yield (lazy_tiles(random.integers(0, 256, shape, dtype), side),)


EXERCISES["3.2"] = InTiles(
    right=in_tiles,
    cases=noise,
    dtype=np.float64,
    reach=11,
    mistakes={
        "Some lie far from any cut. Does your function apply smooth_and_widen as it is, and nothing else?": (
            seen({"size": 1}, lambda wrong, far: (wrong & far).any())
        ),
        "All of them lie at the outer border. What does your boundary put there, and what do both filters make of it?": seen(
            {"boundary": "nearest"}, lambda wrong, inside: not (wrong & inside).any()
        ),
        "your pieces are up to {more} pixels longer than a tile, along one axis, all steps together. Less is always enough: the radii "
        "of both filters, once on each side. (size=11 is a width, and depth counts one side.)": (
            seen({"depth": (11, 13)}, lambda watched: (more := max(watched.margins)) > 2 * 11 and {"more": more})
        ),
    },
    otherwise="They lie near the cuts. What do your tiles see there?",
    also_right=(
        lambda tiles: in_tiles(tiles, {0: 11, 1: 11}),
        lambda tiles: tiles.map_overlap(smooth_and_widen, (11, 11), boundary="none", meta=np.empty((0, 0))),
        lambda tiles: da.map_overlap(smooth_and_widen, tiles, depth=11, boundary=None, allow_rechunk=False),
        lambda tiles: in_tiles(in_tiles(tiles, 6, "nearest", size=1), 5, "nearest", sigma=0),
        lambda tiles: da.overlap.trim_internal(
            da.overlap.overlap(tiles, 11, "none").map_blocks(smooth_and_widen, dtype=float), {0: 11, 1: 11}, "none"
        ),
    ),
    praise="Tiled equals whole in every pixel, with no more than 11 pixels of margin.",
    hints=[
        "the pipeline is one function, so one map_overlap is enough. What is missing is its depth and its "
        "boundary. The second filter meets the border of the image as well: which boundary is right for both?",
        "the Gaussian looks int(4 * sigma + 0.5) pixels far. size=11 is the full width of the maximum filter's "
        "footprint: how far is it from the middle to its end?",
        "go backwards from one pixel of the result: first through the maximum filter, then, from the farthest pixel, "
        "through the Gaussian. overlap_needed adds it up for you, if you give it the radius of the maximum "
        "filter, not its size.",
    ],
)


# --- 3.3: predict the cost ---

COST_TILE, COST_MARGIN, COST_LIMIT = 64, 12, 1.25


def close(found, right):
    """Equal as far as two decimals tell."""
    return bool(np.isclose(found, right, rtol=0.005))


def cost(axes):
    """How many times as many pixels are processed in tiles with this many axes."""
    return tile_cost((COST_TILE,) * axes, COST_MARGIN)


def cost_of(axes):
    """A part of the answer: the cost with this many axes."""
    return Value(
        right=cost(axes),
        reads=number,
        same=close,
        mistakes={
            **{f"this would be right if the number of axes were {n}.": cost(n) for n in (1, 2, 3) if n != axes},
            "this counts the extra pixels alone. How many are processed in all, per useful pixel?": cost(axes) - 1,
            "with a margin you process more than 1 pixel for a useful one, and here fewer than 20. Is it a number of pixels, a percentage, "
            "or a quotient that is turned round or without its parentheses?": seen(
                100 * cost(axes), lambda found: not 1 <= found <= 20
            ),
            "this is near, but rounded too coarsely, rounded on the way, or of a tile at the border, which has fewer margins. Give two "
            "decimals for a tile inside.": seen(
                round(cost(axes)), lambda found: found == round(cost(axes)) or abs(found / cost(axes) - 1) < 0.07
            ),
        },
        otherwise=lambda found: (
            f"this would be right if a tile of {COST_TILE} pixels were {COST_TILE * found ** (1 / axes):.4g} pixels long with its "
            f"margin, along each of {axes} axes. How long is it? (The factors of the axes are multiplied.)"
        ),
    )


EXERCISES["3.3"] = Parts(
    parts={
        "cost_2d": cost_of(2),
        "cost_3d": cost_of(3),
        "tile_size": Value(
            right=256,
            reads=number,
            mistakes={
                "a power of two, such as 32, 64 or 128, is asked for.": seen(
                    204, lambda found: found not in 2.0 ** np.arange(64)
                ),
                f"with this tile both axes together cost {{cost:.2f}}, more than {COST_LIMIT}.": seen(
                    128, lambda found: found < 256 and {"cost": tile_cost(int(found), COST_MARGIN)}
                ),
            },
            otherwise="the cost is low enough, but so it is with a smaller tile.",
        ),
    },
    also_right=(
        (Fraction(121, 64), Decimal("2.6"), np.int64(256)),
        (np.float32(1.89), np.array(2.6), 256.0),
    ),
    praise=f"{cost(2):.2f} times the pixels in 2D and {cost(3):.2f} in 3D; with tiles of 256 it is "
    f"{tile_cost(256, COST_MARGIN):.2f}.",
    hints=[
        "begin with one axis: how many pixels long is the tile with its margin, and how many without?",
        "there is a margin at both ends of each axis. Each axis contributes the same factor; multiply as many of them "
        "as there are axes.",
        "for the last number, try one tile size after the other, or solve ((tile + 2 * margin) / tile) ** 2 = 1.25.",
    ],
)


# --- 3.4: repair a pipeline ---

NUCLEUS_RADIUS = 6


def otsu_of(pixels):
    """Otsu's threshold of lazy pixels, from summed histograms: lazy as well, so that pixels are computed once."""
    counts = da.histogram(pixels, bins=256, range=(0, 256))[0]
    return counts.map_blocks(lambda hist: np.array(threshold_otsu(hist=hist)), drop_axis=0, dtype=int)


def find_nuclei(tiles, threshold=otsu_of, depth=12, boundary="none"):
    flat = tiles.map_overlap(remove_background, radius=NUCLEUS_RADIUS, depth=depth, boundary=boundary, dtype=np.uint8)
    return flat > threshold(flat)


def one_tile(tile):
    flat = remove_background(tile, NUCLEUS_RADIUS)
    return flat > threshold_otsu(flat)


def threshold_by_loop(flat):
    """One tile after the other is computed, counted and forgotten."""
    return threshold_otsu(
        hist=sum(np.bincount(block.compute().ravel(), minlength=256) for block in flat.blocks.ravel())
    )


def images_for_nuclei():
    """Two parts of the slide with different thresholds, and disks that need the whole margin.

    The first part has another threshold if pixels are left out, or counted twice.
    """
    slide = nuclei_slide()
    yield (lazy_tiles(slide[1475:1625, 4725:4855].compute(), (40, 50)),)
    yield (lazy_tiles(slide[300:490, 300:460].compute() // 2 + np.uint8(30), (70, 60)),)
    yield (lazy_tiles(broken_disks(NUCLEUS_RADIUS, 64), 64),)


def one_threshold(found, tiles, where=True):
    """The grey value that divides these pixels of the image without its background as the mask does, and Otsu's; or None."""
    flat = remove_background(tiles.compute(scheduler="synchronous"), NUCLEUS_RADIUS).astype(int)
    level = flat[where & ~found].max(initial=-1)
    return {"level": level, "otsu": threshold_otsu(flat)} if level < flat[where & found].min(initial=256) else None


EXERCISES["3.4"] = InTiles(
    right=find_nuclei,
    cases=images_for_nuclei,
    dtype=bool,
    reach=2 * NUCLEUS_RADIUS,
    mistakes={
        "No pixel is True. Is your threshold a grey value? Counts go to threshold_otsu as hist=counts; without hist= they "
        "are taken for pixels.": seen({"threshold": lambda: lambda flat: 1000}, lambda found: not found.any()),
        "threshold_otsu gives one number, and map_blocks needs an array for each tile. Besides, all tiles have one threshold.": seen(
            {"threshold": lambda: lambda flat: flat.map_blocks(threshold_otsu).compute()},
            lambda error: "tuple index out of range" in error,
        ),
        "True and False are swapped: nuclei are brighter than the threshold.": seen(
            lambda tiles: ~find_nuclei(tiles), lambda found, expected: (found != expected).mean() > 0.9
        ),
        "All tiles use one threshold, about {level}, where Otsu's is {otsu}. Is yours computed anew for every image, from all "
        "pixels without their background, each once, with a bin for each grey value, and compared by >?": seen(
            {"threshold": lambda: lambda flat: 20}, lambda found, tiles: one_threshold(found, tiles)
        ),
        "Some lie in the middle of tiles, where no threshold of the image without its background (radius=6) gives your mask. What "
        "do you compare with the threshold?": seen(
            lambda tiles: tiles > otsu_of(tiles),
            lambda found, tiles, far: (
                not all(one_threshold(found[tile], tiles[tile], far[tile]) for tile in slices_from_chunks(tiles.chunks))
            ),
        ),
        "Not all tiles use the same threshold: what is bright enough in one tile is not in another.": seen(
            lambda tiles: tiles.map_overlap(one_tile, depth=6, boundary=0, dtype=bool),
            lambda found, tiles, far: not one_threshold(found, tiles, far),
        ),
        "da.histogram returns counts and edges. Call .compute() on the counts alone.": seen(
            lambda tiles: find_nuclei(tiles, lambda flat: da.histogram(flat, 256, (0, 256)).compute()),
            lambda error: "'tuple' object has no attribute 'compute'" in error,
        ),
        "remove_background takes NumPy arrays. Let map_overlap call it, for one tile after the other.": seen(
            lambda tiles: remove_background(tiles) > 20, lambda error: "image is of type Array" in error
        ),
        "Some lie at the outer border of the image. What does your boundary put there?": seen(
            {"boundary": 0}, lambda found, tiles, inside: one_threshold(found, tiles, inside)
        ),
    },
    otherwise="Some lie at the cuts. What do your tiles see there?",
    also_right=(
        lambda tiles: find_nuclei(tiles, depth=13),
        lambda tiles: find_nuclei(tiles, boundary="reflect"),
        lambda tiles: find_nuclei(tiles, boundary=None),
        lambda tiles: find_nuclei(tiles, threshold=threshold_by_loop),
    ),
    praise="Every pixel is right on three test images, and nothing but a few numbers was computed on the way.",
    hints=[
        "one of the three faults is in depth, one in boundary, and one in what happens to every tile on its own. "
        "Which of them would a wider margin mend?",
        "the background can be removed in tiles, with a margin of the sum of two radii. The threshold can not: it "
        "belongs between two steps that work in tiles.",
        "remove the background lazily, sum the histograms of the result with da.histogram (as in the section on "
        "thresholds), give the computed counts to threshold_otsu(hist=...), and compare the lazy image with that "
        "number.",
    ],
)
