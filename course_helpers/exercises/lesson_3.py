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
    number,
    shown,
    whole_number,
)
from course_helpers.nuclei import nuclei_slide
from course_helpers.tiling import overlap_needed, tile_cost, tiled, tiling_error

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


@functools.cache
def errors_on_lesson_image():
    """The largest difference for each overlap from 0 to twice the radius."""
    return [tiling_error(top_hat, lesson_image(), TILE, overlap) for overlap in range(2 * RADIUS + 1)]


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


@check_for(
    "3.1",
    hints=[
        "passes_here can be found by trying: tiling_error or smallest_overlap, with image and a tile of 128. "
        "always_enough can not be found by trying, because you cannot try every image.",
        "remove_background is two filters with the same disk, one after the other, and then a subtraction. "
        "How far does each look?",
        "go backwards from one pixel of the result: to which pixels does the maximum filter look, and to which pixels "
        "does the minimum filter look from the farthest of those?",
    ],
)
def enough_overlap(passes_here, always_enough):
    here, always = whole_number(passes_here), whole_number(always_enough)
    errors, bound = errors_on_lesson_image(), overlap_needed(("top-hat", RADIUS))
    if min(here, always) < 0:
        raise Wrong(f"an overlap is a number of pixels, 0 or more, but {min(here, always)} is below.")
    if always < here == bound and not errors[always] and errors[always - 1]:
        raise Wrong(f"you say that {always} is enough for every image, but that this image needs {here}. Swapped?")
    if here < len(errors) and errors[here]:
        wrong = np.count_nonzero(tiled(top_hat, lesson_image(), TILE, here) != top_hat(lesson_image()))
        raise Wrong(
            f"with passes_here = {here}, {wrong} pixel(s) of the image still differ, by up to {errors[here]:g}. "
            f"If a search found this number: did it use radius={RADIUS}, image and tile={TILE}?"
        )
    if here and (here >= len(errors) or not errors[here - 1]):
        raise Wrong(
            f"with passes_here = {here} no pixel differs, but is it the smallest overlap that passes? Try less."
        )
    if always < bound:
        raise Wrong(not_always_enough(here, always))
    if always > bound:
        width = f"{always} is the width of the disk: how far is its end from its middle, and how many filters use it?"
        both_sides = "An overlap is counted on one side of a tile; the other side gets as many pixels again."
        why = {2 * RADIUS + 1: width, 2 * bound: both_sides}.get(always, "")
        raise Wrong(f"always_enough = {always} is enough for every image, but so is less. {why}")
    return (
        f"{here} passes on this image, {always} is provably enough for every image: the radii of both filters add up."
    )


def not_always_enough(here, always):
    """Say why an overlap is not enough for every image, when another one passes on the image of the lesson."""
    if always == RADIUS:
        return f"always_enough = {always} is the radius of one filter. How many filters make a top-hat?"
    if always < here:
        return f"always_enough = {always} is not even enough for this image: you found that it needs {here}."
    image = broken_disks(RADIUS, TILE)
    wrong = np.count_nonzero(tiled(top_hat, image, TILE, always) != top_hat(image))
    example = f"An image with a disk on two of its cuts has {wrong} wrong pixels with this overlap."
    if always == here:
        return f"{here} passes on this image, but it is not always enough. {example} A search proves nothing."
    return f"always_enough = {always} is not always enough. {example}"


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


@check_for(
    "3.3",
    hints=[
        "begin with one axis: how many pixels long is the tile with its margin, and how many without?",
        "there is a margin at both ends of each axis. Each axis contributes the same factor; multiply as many of them "
        "as there are axes.",
        "for the last number, try one tile size after the other, or solve ((tile + 2 * margin) / tile) ** 2 = 1.25.",
    ],
)
def predicted_cost(cost_2d, cost_3d, tile_size):
    expected = [tile_cost((COST_TILE,) * axes, COST_MARGIN) for axes in (2, 3)]
    costs = number(cost_2d), number(cost_3d)
    if np.allclose(costs, expected[::-1], rtol=0.01):
        raise Wrong("cost_2d and cost_3d are swapped: a third axis makes it more expensive.")
    for axes, cost, right in zip((2, 3), costs, expected):
        compare_cost(axes, cost, right)
    side = whole_number(tile_size)
    if side < 1 or side & (side - 1):
        raise Wrong(f"tile_size = {shown(tile_size)} is not a power of two, such as 32, 64 or 128.")
    if tile_cost(side, COST_MARGIN) > COST_LIMIT:
        raise Wrong(f"with tile_size = {side} the cost is {tile_cost(side, COST_MARGIN):.2f}, more than {COST_LIMIT}.")
    if tile_cost(side // 2 or 1, COST_MARGIN) <= COST_LIMIT:
        raise Wrong(
            f"with tile_size = {side} the cost is {tile_cost(side, COST_MARGIN):.2f}. "
            "That is allowed, but so are smaller tiles."
        )
    return (
        f"{expected[0]:.2f} times the pixels in 2D and {expected[1]:.2f} in 3D; with tiles of {side} it is "
        f"{tile_cost(side, COST_MARGIN):.2f}."
    )


def compare_cost(axes, cost, right):
    """Say what a wrong cost looks like."""
    long, short, useful = COST_TILE + 2 * COST_MARGIN, COST_TILE + COST_MARGIN, COST_TILE
    mistakes = [
        ((short / useful) ** axes, "there is a margin on one side only. A tile has two neighbours along each axis"),
        (long / useful, "this is the factor of a single axis. How many axes are cut?"),
        (right - 1, "this counts the extra pixels alone. How many are processed in all, per useful pixel?"),
        (1 / right, "this is upside down: useful pixels per processed pixel"),
        (long**axes, "this is a number of pixels. How many times the useful pixels is it?"),
        (long**axes - useful**axes, "this is a number of extra pixels. How many times as many are processed?"),
        ((long / useful) ** (5 - axes), "this is the cost with another number of axes"),
    ]
    if np.isclose(cost, right, rtol=0.01):
        return
    for value, words in mistakes:
        if np.isclose(cost, value, rtol=0.01):
            raise Wrong(f"cost_{axes}d = {cost:g}: {words.rstrip('?')}{'?' if words.endswith('?') else '.'}")
    if cost < 1:
        raise Wrong(f"cost_{axes}d = {cost:g}, but a margin cannot make you process fewer pixels than the tile has.")
    raise Wrong(
        f"cost_{axes}d = {cost:g} is too {'large' if cost > right else 'small'}. "
        "Compare the tile with and without its margin."
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
