"""Checks of lesson 3, "Give tiles a margin"."""

import functools

import dask
import dask.array as da
import numpy as np
from dask.array.core import normalize_chunks, slices_from_chunks
from dask.callbacks import Callback
from scipy.ndimage import maximum_filter
from skimage.filters import gaussian, threshold_otsu
from skimage.morphology import disk

from course_helpers.background import remove_background
from course_helpers.exercises._old import (
    Wrong,
    array,
    call,
    check_for,
    described,
    function,
    shown,
)
from course_helpers.exercises.form import Parts, Value, number, seen, whole_number
from course_helpers.nuclei import nuclei_slide
from course_helpers.tiling import overlap_needed, tile_cost, tiled

EXERCISES = {}

REGION = np.s_[1400:1912, 4300:4812]
TILE = 128
RADIUS = 10

STEPS = ("gaussian", 1.5), ("maximum", 5)

# A check cannot see whether boundary is named: today's default may be the right one.
NAME_BOUNDARY = "(Does your code name the boundary? If not, add it: its default has changed between versions of dask.)"

COST_TILE, COST_MARGIN, COST_LIMIT = 64, 12, 1.25

NUCLEUS_RADIUS = 6


# --- 3.1: how much overlap is enough? ---


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


def differing(image, overlap):
    """How many pixels of an image a top-hat in tiles gets wrong, and by how much at most; None if it gets all right."""
    differences = np.abs(np.subtract(tiled(top_hat, image, TILE, overlap), top_hat(image), dtype=int))
    return {"count": np.count_nonzero(differences), "most": differences.max()} if differences.any() else None


def fails_here(found):
    return differing(lesson_image(), found) if 0 <= found < ALWAYS_ENOUGH else None


def fails_on_disks(found):
    return differing(broken_disks(RADIUS, TILE), found) if 0 <= found < ALWAYS_ENOUGH else None


PASSES_HERE, ALWAYS_ENOUGH = 18, overlap_needed(("top-hat", RADIUS))
ENOUGH_BUT = "enough for every image, but so is less. "
NEGATIVE = "an overlap is a number of pixels, 0 or more."

EXERCISES["3.1"] = Parts(
    parts={
        "passes_here": Value(
            right=PASSES_HERE,
            reads=whole_number,
            mistakes={
                "some pixels still differ. In tiles of 256 pixels a search ends here; yours have 128, and more cuts.": 16,
                "some pixels still differ. A search ends here with radius=7, in tiles of 128; yours has radius=10.": 14,
                "some pixels still differ. The search in the section above ends here; yours has another radius and "
                "other tiles.": 13,
                "some pixels still differ. A search ends here with radius=6, which remove_background takes if it is "
                "told none.": 12,
                "{count} pixels of the image still differ, by up to {most}. If a search found this number: did it use "
                f"radius={RADIUS}, image and tile={TILE}?": seen(PASSES_HERE - 1, fails_here),
                NEGATIVE: seen(-1, lambda found: found < 0),
            },
            otherwise="with this overlap no pixel differs, but is it the smallest one that passes? Try less.",
        ),
        "always_enough": Value(
            right=ALWAYS_ENOUGH,
            reads=whole_number,
            mistakes={
                "this is the radius of one filter. How many filters make a top-hat?": RADIUS,
                "this would be enough for radius=7. Here it is 10.": overlap_needed(("top-hat", 7)),
                "this would be enough for radius=6. Here it is 10.": overlap_needed(("top-hat", 6)),
                f"{ENOUGH_BUT}This is the width of the disk: how far is its end from its middle?": 2 * RADIUS + 1,
                f"{ENOUGH_BUT}Do you count a pixel in the middle of each filter? It is no distance.": 2 * RADIUS + 2,
                f"{ENOUGH_BUT}A Gaussian filter, as in flatten, is no part of this.": ALWAYS_ENOUGH + 8,
                f"{ENOUGH_BUT}Two filters look around. How far does the subtraction look?": 3 * RADIUS,
                f"{ENOUGH_BUT}An overlap is counted on one side of a tile; the other side gets as many pixels again.": 2
                * ALWAYS_ENOUGH,
                f"{ENOUGH_BUT}An overlap of a whole tile is wide. How far does the top-hat look?": TILE,
                "not even enough for the image of this lesson: {count} of its pixels differ.": seen(15, fails_here),
                "it passes on the image of this lesson, but an image with a disk on two of its cuts has {count} wrong "
                "pixels with it. A search proves nothing.": seen(PASSES_HERE, fails_on_disks),
                NEGATIVE: seen(-1, lambda found: found < 0),
            },
            otherwise=f"{ENOUGH_BUT}Go backwards from one pixel of the result: how far does it see?",
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


class Watch(Callback):
    """Watches computations: how large the pieces of a plane get, and how many bytes a computation brings back.

    Attributes
    ----------
    most_pixels : int
        Pixels of the largest plane on the way.
    margins : (int, int)
        Rows and columns by which the pieces were made larger than a tile, both sides and all steps together.
    most_bytes : int
        Bytes of all arrays that one computation returned.
    """

    def __init__(self, tile):
        self.tile, self.most_pixels, self.most_bytes, self.margins = tile, 0, 0, (0, 0)
        self._pieces = {}
        super().__init__(posttask=self.look, finish=self.count)

    def look(self, key, result, graph, state, worker):
        if len(shape := getattr(result, "shape", ())) != 2:
            return
        # Only growth beyond a tile is a margin: dask also builds small pieces, to fill the outer border.
        shape_or_tile = np.maximum(shape, self.tile)
        inputs = [self._pieces[name] for name in state["dependencies"][key] if name in self._pieces]
        before, margins = np.max(inputs, axis=0) if inputs else (shape_or_tile, (0, 0))
        margins = margins + np.maximum(shape_or_tile - before, 0)
        self._pieces[key] = shape_or_tile, margins
        self.margins = np.maximum(self.margins, margins)
        self.most_pixels = max(self.most_pixels, result.size)

    def count(self, graph, state, failed):
        results = [value.nbytes for value in state["cache"].values() if isinstance(value, np.ndarray)]
        self.most_bytes = max(self.most_bytes, sum(results))


def smooth_and_widen(pixels):
    smoothed = gaussian(pixels, sigma=STEPS[0][1], mode="nearest", preserve_range=True)
    return maximum_filter(smoothed, size=2 * STEPS[1][1] + 1, mode="nearest")


def noise():
    """An image in which the result depends on every pixel within reach; its shape is no multiple of the tiles."""
    return np.random.default_rng(3).integers(0, 256, size=(150, 170), dtype=np.uint8)


def lazy_tiles(image, side):
    """An image cut into tiles, each made when it is needed, so that no part of the plan holds the whole image."""
    chunks = normalize_chunks(side, image.shape)
    windows = np.array(slices_from_chunks(chunks), dtype=object).reshape(*map(len, chunks), 2)
    return da.map_blocks(
        lambda block_id: image[tuple(windows[block_id])].copy(), chunks=chunks, meta=np.empty((0, 0), dtype=image.dtype)
    )


def lazy_result(learners_function, tiles, dtype):
    """Call a function with tiles and return its dask array; Wrong in words if it is not what is asked for."""
    # Steps that are not fused stay visible to Watch.
    options = {"scheduler": "synchronous", "optimization.fuse.active": False}
    with dask.config.set(options), Watch(tiles.chunksize) as watched:
        result = call(learners_function, tiles)
    if isinstance(result, np.ndarray):
        raise Wrong(
            "your function returns a NumPy array, already computed. Return a dask array: no .compute() at the end, "
            "and no filter that is given all of tiles at once, as it computes them."
        )
    if not isinstance(result, da.Array):
        raise Wrong(f"your function returns {shown(result)}, but a dask array is asked for.")
    if watched.most_bytes >= tiles.nbytes:
        raise Wrong(
            f"while your function runs, {watched.most_bytes} bytes are computed and kept, as many as the whole image "
            "has or more. Leave pixels lazy; compute a few numbers at most."
        )
    if watched.most_pixels >= tiles.size:
        raise Wrong("while your function runs, it puts the whole image into one piece. It should work tile by tile.")
    if result.shape != tiles.shape:
        raise Wrong(f"for an image of shape {tiles.shape} the result has shape {result.shape}.")
    if result.dtype != dtype:
        raise Wrong(f"the result declares {result.dtype}, but {np.dtype(dtype)} is what it should hold.")
    if result.chunks != tiles.chunks:
        raise Wrong(f"the tiles {tiles.chunks} became {result.chunks}. The result should be cut like the input.")
    return result


def computed_result(result, image):
    """The pixels of a learner's dask array, and what `Watch` saw on the way; Wrong in words if computing fails."""
    try:
        # Watch sees every step if nothing is optimized, and no whole image as long as the chunks stay apart.
        with Watch(result.chunksize) as watched:
            chunks = result.persist(scheduler="synchronous", optimize_graph=False)
        values = array(chunks.compute())
    except Exception as error:
        raise error if isinstance(error, Wrong) else Wrong(f"computing the result raises {described(error)}.") from None
    if values.shape != image.shape or values.dtype != result.dtype:
        raise Wrong(
            f"the result declares shape {result.shape} and {result.dtype}, but computing it gives {shown(values)}."
        )
    return values, watched


def refuse_whole_image(watched, image):
    """Wrong if a right result was made from the whole image in one piece."""
    if watched.most_pixels >= image.size:
        raise Wrong(
            "the result is right, but your function puts the whole image into one piece. It should work tile by tile."
        )


def near_cuts(chunks, distance):
    """A mask of the pixels that lie within a distance of a cut between chunks."""
    near = [np.zeros(sum(sizes), dtype=bool) for sizes in chunks]
    for axis, sizes in zip(near, chunks):
        for cut in np.cumsum(sizes)[:-1]:
            axis[max(cut - distance, 0) : cut + distance] = True
    return np.logical_or.outer(*near)


def near_border(shape, distance):
    """A mask of the pixels that lie within a distance of the border of the image."""
    mask = np.ones(shape, dtype=bool)
    mask[distance:-distance, distance:-distance] = False
    return mask


@check_for(
    "3.2",
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
def pipeline_in_tiles(answer):
    in_tiles, image, needed = function(answer), noise(), overlap_needed(*STEPS)
    result = lazy_result(in_tiles, lazy_tiles(image, 60), np.float64)
    values, watched = computed_result(result, image)
    compare_pipeline(image, values, result.chunks)
    refuse_whole_image(watched, image)
    margin = max(watched.margins) / 2
    if margin > needed:
        (_, sigma), (_, radius) = STEPS
        size = 2 * radius + 1
        why = f"size={size} is a width, not a radius." if margin == overlap_needed(("gaussian", sigma)) + size else ""
        raise Wrong(
            f"the result is right, but your tiles have a margin of {margin:g} pixels, all steps together. Less is "
            f"always enough. {why}"
        )
    return f"Tiled equals whole in every pixel, with no more than {needed} pixels of margin. {NAME_BOUNDARY}"


def compare_pipeline(image, values, chunks):
    """Compare with the pipeline on the whole image; Wrong with a sentence about where the result differs."""
    whole, needed = smooth_and_widen(image), overlap_needed(*STEPS)
    wrong = ~(np.abs(values - whole) <= 1e-9)
    if not wrong.any():
        return
    amount = f"{wrong.sum()} pixels of a test image differ from the whole"
    if (wrong <= near_border(image.shape, needed)).all() and (wrong & ~near_cuts(chunks, needed)).any():
        raise Wrong(f"{amount}, all of them at the outer border. What does the second filter find there?")
    radii, inside = [overlap_needed(step) for step in STEPS], ~near_border(image.shape, needed)
    for depth in range(needed):
        reference = tiled(smooth_and_widen, image, chunks[0][0], depth)
        if np.allclose(reference[inside], values[inside]):
            only_one = "the radius of only one of the two filters" if depth in radii else "less than both look together"
            raise Wrong(f"{amount}. Your margin is {depth} pixels: {only_one if depth else 'there is none at all'}.")
    if (wrong & inside & ~near_cuts(chunks, needed)).any():
        raise Wrong(f"{amount}, also far from any cut. Does your function apply smooth_and_widen to the tiles?")
    raise Wrong(f"{amount}, near the cuts. Is the margin wide enough for both filters, along both axes?")


# --- 3.3: predict the cost ---


def close(found, right):
    """Equal as far as two decimals tell."""
    return bool(np.isclose(found, right, rtol=0.01))


def cost_of(axes):
    """A part of the answer: how many times as many pixels are processed in tiles with this many axes."""
    tile, margin, right = COST_TILE, COST_MARGIN, tile_cost((COST_TILE,) * axes, COST_MARGIN)
    long = tile + 2 * margin
    return Value(
        right=right,
        reads=number,
        same=close,
        mistakes={
            "there is a margin on one side only. A tile has two neighbours along each axis.": (
                ((tile + margin) / tile) ** axes
            ),
            "there is twice the margin. It is 12 pixels wide on each side.": ((tile + 4 * margin) / tile) ** axes,
            "this is the factor of a single axis. How many axes are cut?": long / tile,
            "this is the cost with another number of axes.": (long / tile) ** (5 - axes),
            "factors of axes are multiplied, not added.": axes * long / tile,
            "this has strips along the sides, but not what lies at the corners between them.": (
                1 + axes * 2 * margin / tile
            ),
            "this counts the extra pixels alone. How many are processed in all, per useful pixel?": right - 1,
            "this is upside down: useful pixels per processed pixel.": 1 / right,
            "this is a number of pixels. How many times the useful pixels is it?": long**axes,
            "this is a number of extra pixels. How many times as many are processed?": long**axes - tile**axes,
            "this is a percentage. How many times the useful pixels is it?": 100 * right,
            "this is a percentage of extra pixels. How many times as many are processed?": 100 * (right - 1),
            "parentheses are missing: the whole sum is divided by the tile.": (tile + 2 * margin / tile) ** axes,
            "a margin cannot make you process fewer pixels than the tile has.": seen(0.2, lambda found: found < 1),
        },
        otherwise=lambda found, expected: (
            f"this is too {'large' if found > expected else 'small'}. Compare the tile with and without its margin."
        ),
    )


def too_expensive(found):
    cost = tile_cost(int(found), COST_MARGIN)
    return {"cost": cost} if cost > COST_LIMIT else None


def is_no_power_of_two(found):
    return found < 1 or found != int(found) or int(found) & (int(found) - 1)


EXERCISES["3.3"] = Parts(
    parts={
        "cost_2d": cost_of(2),
        "cost_3d": cost_of(3),
        "tile_size": Value(
            right=256,
            reads=number,
            mistakes={
                "with this tile both axes together cost 1.41. For one axis alone, or with a margin on one side only, it "
                f"would be {COST_LIMIT} or less.": 128,
                "with this tile you process 1.89 times the pixels, or 0.89 times as many more. At most "
                f"{COST_LIMIT} times in all is asked for.": 64,
                "the cost is low enough, but so it is with a smaller tile. (In 3D, this one would be right.)": 512,
                "this is the exponent. How many pixels is the side of the tile long?": 8,
                "this tile has its margin on. How long is it without?": 256 + 2 * COST_MARGIN,
                "this is the number of pixels in a tile. How long is its side?": 256**2,
                "this would do if every size was allowed. A power of two, such as 32, 64 or 128, is asked for.": seen(
                    204, lambda found: 203 < found < 205
                ),
                "this is no power of two, such as 32, 64 or 128.": seen(200, is_no_power_of_two),
                "with this tile the cost is {cost:.2f}, more than " + f"{COST_LIMIT}.": seen(32, too_expensive),
            },
            otherwise="the cost is low enough, but so it is with a smaller tile.",
        ),
    },
    mistakes={
        "cost_2d and cost_3d are swapped: a third axis makes it more expensive.": seen(
            {"cost_2d": 2.6, "cost_3d": 1.89, "tile_size": 256},
            lambda cost_2d, cost_3d: close(cost_2d, (88 / 64) ** 3) and close(cost_3d, (88 / 64) ** 2),
        ),
    },
    also_right=((1.89, 2.6, np.int64(256)), (np.float32((88 / 64) ** 2), np.array(2.6), 256.0)),
    praise="{cost_2d:.2f} times the pixels in 2D and {cost_3d:.2f} in 3D; with tiles of {tile_size:g} it is "
    f"{tile_cost(256, COST_MARGIN):.2f}.",
    hints=[
        "begin with one axis: how many pixels long is the tile with its margin, and how many without?",
        "there is a margin at both ends of each axis. Each axis contributes the same factor; multiply as many of them "
        "as there are axes.",
        "for the last number, try one tile size after the other, or solve ((tile + 2 * margin) / tile) ** 2 = 1.25.",
    ],
)


# --- 3.4: repair a pipeline ---


@functools.cache
def images_for_nuclei():
    """Two parts of the slide with different thresholds, and disks that need the whole margin."""
    slide = nuclei_slide()
    crowded, sparse = slide[1400:1700, 4300:4740].compute(), slide[300:600, 300:740].compute()
    return crowded, sparse // 2 + np.uint8(30), broken_disks(NUCLEUS_RADIUS, 64)


@check_for(
    "3.4",
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
def repaired(answer):
    find_nuclei = function(answer)
    for image in images_for_nuclei():
        result = lazy_result(find_nuclei, lazy_tiles(image, 64), bool)
        mask, watched = computed_result(result, image)
        compare_nuclei(image, mask, result.chunks)
        refuse_whole_image(watched, image)
    return (
        "Every pixel is right on three test images, and nothing but a few numbers was computed on the way. "
        f"{NAME_BOUNDARY}"
    )


def compare_nuclei(image, mask, chunks):
    """Compare with the whole image; Wrong with a sentence about the first fault that shows."""
    flat = remove_background(image, NUCLEUS_RADIUS)
    threshold, flat = threshold_otsu(flat), flat.astype(int)
    wrong = mask != (flat > threshold)
    if not wrong.any():
        return
    reach = overlap_needed(("top-hat", NUCLEUS_RADIUS))
    cuts, border = near_cuts(chunks, reach), near_border(image.shape, reach)
    amount = f"{wrong.sum()} pixels of a test image are wrong"
    if any(np.array_equal(mask, flat > level) for level in range(-1, 256)):
        raise Wrong(f"{amount}. All tiles use one threshold, {other_threshold(image, flat, threshold, mask)}")
    limits = [threshold_limits(flat[tile], mask[tile], (cuts | border)[tile]) for tile in slices_from_chunks(chunks)]
    lows, highs = np.array(limits).T
    if (lows >= highs).any():
        raise Wrong(
            f"{amount}, also in the middle of tiles: no threshold of the image without its background (radius "
            f"{NUCLEUS_RADIUS}) gives your mask there."
        )
    if lows.max() >= highs.min():
        raise Wrong(
            f"{amount}. Not all tiles use the same threshold: what is bright enough in one tile is not in another."
        )
    possible = range(lows.max(), highs.min())
    used = threshold if threshold in possible else min(possible, key=lambda level: ((flat > level) != mask).sum())
    strange = mask != (flat > used)
    if (strange & cuts & ~border).any():
        raise Wrong(
            f"{amount}, some at the cuts, where tiles do not know enough of their neighbours. "
            "How far does the top-hat look?"
        )
    raise Wrong(f"{amount}, some at the outer border of the image. What does your boundary put there?")


def other_threshold(image, flat, threshold, mask):
    """Say which threshold was used instead of the right one; the rest of a sentence."""
    if not mask.any():
        return (
            "and no pixel is above it. Is it a grey value? (Counts go to threshold_otsu as hist=counts; without hist= "
            "they are taken for pixels.)"
        )
    if np.array_equal(mask, flat >= threshold):
        return (
            "and pixels that are equal to the right one are True in your mask. Is it > or >=? If it is >, does your "
            "threshold come from all pixels?"
        )
    if np.array_equal(mask, flat > threshold_otsu(image)):
        return "that of the image with its background. Which image do you compare with it?"
    return (
        "but not the right one. Is it Otsu's threshold of the image that it is applied to, from all of its pixels, with "
        "a bin for each grey value, and computed anew for every image?"
    )


def threshold_limits(flat, mask, doubtful):
    """The brightest pixel below and the darkest pixel above the threshold that a tile was divided by."""
    below, above = flat[~doubtful & ~mask], flat[~doubtful & mask]
    return below.max(initial=-1), above.min(initial=256)
