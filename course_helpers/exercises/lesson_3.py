"""Exercises of lesson 3, "Give tiles a margin"."""

import functools
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
from course_helpers.exercises.in_tiles import InTiles, lazy_tiles, near_border, near_cuts
from course_helpers.slide import nuclei_slide
from course_helpers.tiling import overlap_needed, tile_cost

EXERCISES = {}

REGION = np.s_[1400:1912, 4300:4812]
TILE = 128
RADIUS = 10

NUCLEUS_RADIUS = 6


# --- 3.1: how wide a margin is enough? ---


@functools.cache
def lesson_image():
    """The image of the lesson."""
    return nuclei_slide()[REGION].compute()


def top_hat(pixels):
    return remove_background(pixels, RADIUS)


def broken_disks(radius, tile):
    """An image on which a top-hat in tiles needs all of its reach: disks at the cuts, each without its farthest pixel.

    A disk begins at the last pixel before a cut. Whether it is whole, and so removed as background, is decided by its
    pixel at the other end, which lies 2 * radius away from that pixel: in columns in one half, in rows in the other.
    """
    image = np.zeros((4 * tile, 2 * tile), dtype=np.uint8)
    top, left = tile // 2 - radius, tile - 1
    image[top : top + 2 * radius + 1, left : left + 2 * radius + 1] = 200 * disk(radius)
    image[tile // 2, left + 2 * radius] = 0
    image[2 * tile :] = image[: 2 * tile].T
    return image


def fails_on(image):
    """Recognises margins with which a top-hat in tiles gets pixels of an image wrong: how many, and by how much at most."""

    def when(found):
        if not 0 <= found < ALWAYS_ENOUGH:
            return None
        differences = np.abs(np.subtract(tiled(top_hat, image(), TILE, found), top_hat(image()), dtype=int))
        return {"count": np.count_nonzero(differences), "most": differences.max()} if differences.any() else None

    return when


PASSES_HERE, ALWAYS_ENOUGH = 18, overlap_needed(("top-hat", RADIUS))
NEGATIVE = "a margin is a number of pixels, 0 or more."

EXERCISES["3.1"] = Parts(
    parts={
        "passes_here": Value(
            right=PASSES_HERE,
            reads=whole_number,
            mistakes={
                "{count} pixels of the image still differ, by up to {most}. None may. If a search found this number: did it use "
                f"radius={RADIUS}, image and tile={TILE}?": seen(8, fails_on(lesson_image)),
                NEGATIVE: seen(-1, lambda found: found < 0),
            },
            otherwise="with this margin no pixel differs, but is it the smallest one that passes? Try less.",
        ),
        "always_enough": Value(
            right=ALWAYS_ENOUGH,
            reads=whole_number,
            mistakes={
                "this is the radius of one filter. How many filters make a top-hat?": RADIUS,
                "a margin is counted on one side of a tile; the other side gets as many pixels again.": 2
                * ALWAYS_ENOUGH,
                "not even enough for the image of this lesson: {count} of its pixels differ.": seen(
                    15, fails_on(lesson_image)
                ),
                "it passes on the image of this lesson, but an image with a disk on two of its cuts has {count} wrong "
                "pixels with it. A search proves nothing.": seen(
                    PASSES_HERE, fails_on(lambda: broken_disks(RADIUS, TILE))
                ),
                NEGATIVE: seen(-1, lambda found: found < 0),
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


def in_two_steps(boundary):
    """The answer in two steps, each with a margin of its own."""
    return lambda tiles: in_tiles(in_tiles(tiles, 6, boundary, size=1), 5, boundary, sigma=0)


def trimmed_after_each_step(tiles):
    """One margin for both filters, of which each filter uses up its own part."""
    pieces = da.overlap.overlap(tiles, depth=11, boundary="none").map_blocks(smooth_and_widen, size=1, dtype=float)
    smoothed = da.overlap.trim_internal(pieces, {0: 6, 1: 6}, boundary="none")
    widened = smoothed.map_blocks(smooth_and_widen, sigma=0, dtype=float)
    return da.overlap.trim_internal(widened, {0: 5, 1: 5}, boundary="none")


def noise():
    """Images in which the result depends on every pixel within reach. No chunk is so narrow that dask enlarges it."""
    random = np.random.default_rng(3)
    for shape, side, dtype in (((150, 170), 60, "u1"), ((190, 121), (40, 50), "u2"), ((36, 200), (36, 45), "u1")):
        yield (lazy_tiles(random.integers(0, 256, shape, dtype), side),)


def far_from_cuts(found, expected, tiles):
    far = ~near_cuts(tiles.chunks, 11) & ~near_border(tiles.shape, 11)
    return not np.allclose(found[far], expected[far])


def only_at_border(found, expected, tiles):
    wrong = np.abs(found - expected) > 1e-9
    return (wrong <= near_border(tiles.shape, 11)).all() and (wrong & ~near_cuts(tiles.chunks, 11)).any()


def wide(watched):
    more = max(watched.margins)
    return {"more": more} if more > 2 * 11 else None


EXERCISES["3.2"] = InTiles(
    right=in_tiles,
    cases=noise,
    dtype=np.float64,
    reach=11,
    mistakes={
        "Some lie far from any cut. Does your function apply smooth_and_widen as it is, and nothing else?": (
            seen({"size": 1}, far_from_cuts)
        ),
        "All of them lie at the outer border. What does your boundary put there, and what do both filters make of it?": seen(
            {"boundary": "nearest"}, only_at_border
        ),
        "your pieces are up to {more} pixels longer than a tile, along one axis, all steps together. Less is always enough: the radii "
        "of both filters, once on each side. (size=11 is a width, and depth counts one side.)": (
            seen({"depth": (11, 13)}, wide)
        ),
    },
    otherwise="They lie near the cuts. What do your tiles see there?",
    also_right=(
        lambda tiles: in_tiles(tiles, {0: 11, 1: 11}),
        lambda tiles: tiles.map_overlap(smooth_and_widen, (11, 11), boundary="none", meta=np.empty((0, 0))),
        lambda tiles: da.map_overlap(smooth_and_widen, tiles, depth=11, boundary=None, allow_rechunk=False),
        in_two_steps("nearest"),
        in_two_steps("none"),
        trimmed_after_each_step,
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


@functools.cache
def images_for_nuclei():
    """Two parts of the slide with different thresholds, and disks that need the whole margin; with sides of tiles.

    The first part has another threshold if pixels are left out, or counted twice.
    """
    slide = nuclei_slide()
    crowded, sparse = slide[1475:1625, 4725:4855].compute(), slide[300:490, 300:460].compute()
    disks = np.pad(broken_disks(NUCLEUS_RADIUS, 64), ((0, 0), (0, 64)))  # some tiles have neighbours on all sides
    disks[disks > 0] = 255  # the last grey value has a bin, too
    return (crowded, (40, 50)), (sparse // 2 + np.uint8(30), (70, 60)), (disks, 64)


def threshold_of(pixels, mask):
    """The grey value that divides these pixels as the mask does, and how many pixels it divides in another way."""
    wrong = [np.count_nonzero((pixels > level) != mask) for level in range(-1, 256)]
    return int(np.argmin(wrong)) - 1, min(wrong)


def fault_in_mask(found, tiles):
    """What is wrong with a mask: the threshold, what is compared with it, or the pixels at the border or the cuts."""
    flat = remove_background(tiles.compute(scheduler="synchronous"), NUCLEUS_RADIUS).astype(int)
    level, wrong = threshold_of(flat, found)
    if not wrong:
        return {"fault": "one threshold", "level": level, "otsu": threshold_otsu(flat)}
    border = near_border(tiles.shape, 12)
    far = ~near_cuts(tiles.chunks, 12) & ~border
    parts = [(flat[tile][far[tile]], found[tile][far[tile]]) for tile in slices_from_chunks(tiles.chunks)]
    if any(threshold_of(*part)[1] for part in parts):
        return {"fault": "no threshold"}
    level, wrong = threshold_of(flat[far], found[far])
    if wrong:
        return {"fault": "own thresholds"}
    return {"fault": "cuts" if (((flat > level) != found) & ~border).any() else "border"}


def fault(kind):
    return lambda found, tiles: (facts := fault_in_mask(found, tiles))["fault"] == kind and facts


EXERCISES["3.4"] = InTiles(
    right=find_nuclei,
    cases=lambda: ((lazy_tiles(image, side),) for image, side in images_for_nuclei()),
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
            {"threshold": lambda: lambda flat: 20}, fault("one threshold")
        ),
        "Not all tiles use the same threshold: what is bright enough in one tile is not in another.": seen(
            lambda tiles: tiles.map_overlap(one_tile, depth=6, boundary=0, dtype=bool), fault("own thresholds")
        ),
        "Some lie in the middle of tiles, where no threshold of the image without its background (radius=6) gives your mask. What "
        "do you compare with the threshold?": seen(lambda tiles: tiles > otsu_of(tiles), fault("no threshold")),
        "da.histogram returns counts and edges. Call .compute() on the counts alone.": seen(
            lambda tiles: find_nuclei(tiles, lambda flat: da.histogram(flat, 256, (0, 256)).compute()),
            lambda error: "'tuple' object has no attribute 'compute'" in error,
        ),
        "remove_background takes NumPy arrays. Let map_overlap call it, for one tile after the other.": seen(
            lambda tiles: remove_background(tiles) > 20, lambda error: "image is of type Array" in error
        ),
        "Some lie at the outer border of the image. What does your boundary put there?": seen(
            {"boundary": 0}, fault("border")
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
