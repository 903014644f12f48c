"""Checks of lesson 2, "Cut an image into tiles"."""
import operator
from collections import Counter

import dask.array as da
import numpy as np
from skimage.filters import gaussian

from course_helpers.exercises._old import Wrong, array, call, check_for, computed, function, shown

SHAPE = (512, 512)
CHUNKS = (200, 300)
SIGMA = 2.2


@check_for("2.1", hints=[
    "Count the calls before compute() and the calls during compute() separately.",
    "Before compute(): the task states the dtype. Which of the two trial calls does this stop?",
    "During compute(): one call per tile. Combine each chunk of the rows with each of the columns, leftovers too.",
])
def shapes_of_calls(answer):
    given = Counter(_shapes(answer))
    called = Counter(_shapes_that_arrive())
    trial = (0, 0)
    tiles, true_tiles = (Counter({s: n for s, n in calls.items() if s != trial}) for calls in (given, called))
    swapped = Counter({shape[::-1]: n for shape, n in tiles.items()})
    area = sum(n * height * width for (height, width), n in tiles.items())
    if (1, 1) in given:
        other = "" if trial in given else " And a trial call of another shape is missing."
        raise Wrong("the trial with a single pixel asks for the dtype. Is there anything left to ask in this task?" + other)
    if swapped == true_tiles:
        raise Wrong("the sizes of your tiles are right, but a shape is (rows, columns): yours are the other way round.")
    if set(tiles) == set(true_tiles) and tiles != true_tiles:
        raise Wrong("all these shapes occur, but not as often as you say. Hand in one entry for every call.")
    if set(tiles) == {CHUNKS}:
        raise Wrong("all your tiles have the same size. Does 512 divide evenly?")
    if area != SHAPE[0] * SHAPE[1]:
        raise Wrong(f"your tiles have {area} pixels together, but the image has {SHAPE[0] * SHAPE[1]}.")
    if tiles != true_tiles:
        raise Wrong("your tiles cover the image, but the chunks are others. Full chunks come first, leftovers last.")
    if trial not in given:
        raise Wrong("these are the calls during compute(). Is the function called before that?")
    if given[trial] != called[trial]:
        raise Wrong("the tiles are right, but count the trial calls again.")
    return f"{sum(called.values())} calls, {sum(true_tiles.values())} of them with a tile."


def _shapes(answer):
    """The answer as a list of pairs of int; Wrong if it is none."""
    answer = computed(answer)
    if isinstance(answer, (set, frozenset, dict)):
        raise Wrong(f"a {type(answer).__name__} keeps equal entries once. Hand in a list, one entry for every call.")
    try:
        shapes = [tuple(operator.index(side) for side in shape) for shape in answer]
    except TypeError:
        shapes = None
    if shapes is None or any(len(shape) != 2 for shape in shapes):
        raise Wrong(f"the answer is {shown(answer)}, but a list of shapes such as [(3, 4), (5, 6)] is asked for.")
    if not shapes:
        raise Wrong("the list is empty, but the function is called several times.")
    return shapes


def _shapes_that_arrive():
    """What dask really does: the shape of every array that a function mapped over the tiles is given."""
    shapes = []

    def note(tile):
        shapes.append(tile.shape)
        return tile

    image = da.zeros(SHAPE, chunks=CHUNKS, dtype=np.uint8)
    image.map_blocks(note, dtype=np.uint8).compute(scheduler="synchronous")
    return shapes


@check_for("2.2", hints=[
    "A pixel may be wrong if the filter looks across a cut when it computes this pixel. Where are the cuts?",
    "Begin with np.zeros((512, 512), dtype=bool). Each cut gives one band of True that runs through the whole image.",
    "A band begins one radius before the cut and ends one radius behind it. The first cut is between rows 199 and 200.",
])
def mask_of_artifacts(answer):
    if isinstance(answer, (bool, int, float, str, np.generic)):
        raise Wrong(f"the answer is {shown(answer)}, but a mask is asked for: True or False for each pixel.")
    mask = array(answer, SHAPE)
    if not np.isin(mask, (0, 1)).all():
        raise Wrong("a mask holds nothing but True and False, but there are other values in yours.")
    mask = mask.astype(bool)
    wrong = _truly_wrong()
    if not mask.any() or mask.all():
        raise Wrong(f"your mask marks {'every' if mask.any() else 'no'} pixel.")
    if (mask == ~wrong).all():
        raise Wrong("your mask is inside out: it should be True where a pixel may be wrong.")
    if (mask == wrong.T).all():
        raise Wrong("rows and columns are swapped: the first number of chunks counts rows, the second one columns.")
    rows, columns = mask.all(axis=1), mask.all(axis=0)
    if (mask == np.logical_and.outer(mask.any(axis=1), mask.any(axis=0))).all() and not (rows.any() or columns.any()):
        raise Wrong("you mark only where bands cross. To be near a cut in one direction is enough.")
    if (mask != np.logical_or.outer(rows, columns)).any():
        missed, unspoiled = (wrong & ~mask).sum(), (mask & ~wrong).sum()
        raise Wrong(f"you miss {missed} of the wrong pixels, and mark {unspoiled} too many. Whatever the image shows, "
                    "the wrong ones form bands that run from edge to edge.")
    _compare_bands(rows, wrong.all(axis=1), range(CHUNKS[0], SHAPE[0], CHUNKS[0]), "row")
    _compare_bands(columns, wrong.all(axis=0), range(CHUNKS[1], SHAPE[1], CHUNKS[1]), "column")
    return f"{wrong.sum()} pixels, {wrong.mean():.1%} of the image: the pixels that differ when it is tried on noise."


def _truly_wrong():
    """Where tiled and whole differ in at least one of three images of noise, in which no two pixels are equal."""
    wrong = np.zeros(SHAPE, dtype=bool)
    for seed in range(3):
        noise = np.random.default_rng(seed).random(SHAPE)
        tiles = da.from_array(noise, chunks=CHUNKS).map_blocks(gaussian, sigma=SIGMA, dtype=float)
        wrong |= np.abs(tiles.compute(scheduler="synchronous") - gaussian(noise, sigma=SIGMA)) > 1e-12
    return wrong


def _compare_bands(marked, wrong, cuts, line):
    """Compare the marked lines (rows or columns) with the wrong ones; Wrong with the first thing that differs."""
    if (marked == wrong).all():
        return
    if not marked.any():
        raise Wrong(f"no {line} is marked from edge to edge, but the image is also cut between {line}s.")
    if marked[0] or marked[-1]:
        raise Wrong(f"you mark {line}s at the outer edge. Is there anything beyond it that the whole image could see?")
    if not any(marked[cut - 1] or marked[cut] for cut in cuts):
        raise Wrong(f"you mark {line}s, but none of them lies at a cut. Where do the chunks of this task end?")
    for cut in cuts:
        before, behind = _reach(marked[:cut][::-1]), _reach(marked[cut:])
        plural = line if before == 1 else f"{line}s"
        if not before and not behind:
            raise Wrong(f"there are {len(cuts)} cuts between {line}s, and at one of them you mark nothing.")
        if not before or not behind:
            raise Wrong(f"you mark {line}s on one side of a cut only, but the tiles on both sides lack a neighbour.")
        if before != behind:
            raise Wrong(f"you mark {before} {plural} before a cut and {behind} behind it, but the filter looks "
                        "equally far in both directions.")
        if before != _reach(wrong[cut:]):
            further = "looks further" if before < _reach(wrong[cut:]) else "does not look that far"
            raise Wrong(f"you mark {before} {plural} on each side of a cut, but the filter {further}.")
    raise Wrong(f"the {line}s at the cuts are right, but you mark others too, away from any cut.")


def _reach(lines):
    """How many lines are marked without a gap, counted from the first."""
    return len(lines) if lines.all() else int(np.argmin(lines))


@check_for("2.3", hints=[
    "Compute once, keep the result. Compare shapes and dtypes first: arrays of different shapes cannot be subtracted.",
    "Too bright and too dark must not cancel, and one wrong pixel is enough: no sum, mean or maximum without np.abs.",
    "Every comparison with nan is False. So do not ask whether one difference is large, but whether all are small.",
])
def detector(answer):
    is_wrong = function(answer)
    results = _results()
    for tiled, whole, truth, words in results:
        # Some words end with a sentence of their own.
        returned = call(is_wrong, tiled, whole, given=f"a result {words.split('. ')[0]}")
        verdict = computed(returned, "Let your function call .compute().")
        if np.ndim(verdict) != 0 or np.asarray(verdict).dtype.kind not in "bi" or verdict not in (0, 1):
            raise Wrong(f"your function returns {shown(verdict)}, but one True or False is asked for.")
        if bool(verdict) != truth:
            raise Wrong(f"your function returns {bool(verdict)} for a result {words}.")
    right = sum(not truth for _, _, truth, _ in results)
    return f"Your function tells {len(results) - right} wrong results from {right} right ones."


def _results():
    """Tiled results: a dask array, what it should be, whether it is wrong, and words for it."""
    whole = np.random.default_rng(2).random((60, 80)) * 200 + 20
    counts = whole.astype(np.uint8)
    cancelling = np.where(np.arange(80) % 2, 5.0, -5.0)
    one_count, one_pixel, gap = counts.copy(), whole.copy(), whole.copy()
    one_count[29, 40] += 1
    one_pixel[np.unravel_index(whole.argmax(), whole.shape)] += 1e-5
    gap[30, 0] = np.nan
    flat = np.full(whole.shape, 7.0)
    largest = whole.reshape(2, 30, 2, 40).max(axis=(1, 3))

    def lazy(result, chunks=(30, 40)):
        return da.from_array(result, chunks=chunks)

    def becoming(change):
        return lazy(flat, chunks=-1).map_blocks(change, dtype=flat.dtype)

    return [
        (lazy(counts), counts, False, "of shape (60, 80) that is equal in every pixel, shape and dtype"),
        (lazy(counts), counts.astype(float), False, "that has the pixels of whole as uint8 instead of float64"),
        (lazy(whole + 1e-7), whole, False, "that differs by 1e-7 in every pixel. This counts as rounding"),
        (lazy(whole + 5), whole, True, "that is 5 too bright everywhere"),
        (lazy(whole - 5), whole, True, "that is 5 too dark everywhere. A negative difference is a difference, too"),
        (lazy(whole + cancelling), whole, True, "in which half of the pixels are 5 too bright, the others 5 too dark"),
        (lazy(one_count), counts, True, "in which a single pixel is wrong by 1"),
        (lazy(one_pixel), whole, True, f"in which a single pixel of {whole.max():.0f} is wrong by 1e-5. "
         "(np.allclose also allows a share of the pixel's value, rtol)"),
        (lazy(whole).map_blocks(lambda tile: tile, dtype=np.uint8), whole, True,
         "that declares uint8, but gives float64 once it is computed"),
        (lazy(counts).map_blocks(lambda tile: tile, dtype=float), counts.astype(float), True,
         "that declares float64, but gives uint8 once it is computed"),
        (lazy(flat[:1]), flat, True, "with 1 row instead of 60. NumPy stretches a single row when you compare it"),
        (lazy(flat[np.newaxis], chunks=-1), flat, True, "of shape (1, 60, 80) instead of (60, 80)"),
        (lazy(whole).map_blocks(lambda tile: tile.max(keepdims=True), dtype=float), largest, True,
         "that declares shape (60, 80), while it has one number per tile once it is computed"),
        (becoming(lambda tile: tile[:1]), flat, True, "that declares shape (60, 80), but has 1 row when computed"),
        (becoming(np.transpose), flat.T, True, "that declares shape (60, 80), but has (80, 60) when computed"),
        (lazy(gap), whole, True, "in which one pixel is not a number (nan). Try np.nan > 1e-6 in a cell"),
        (lazy(gap), gap, True, "in which a pixel is not a number (nan), and in whole, too"),
    ]


@check_for("2.4", hints=[
    "Three things are broken: the number that is subtracted, what happens to a dark pixel, and the declared dtype.",
    "The haze is one number for all tiles: round(...) of the computed mean. Hand it over as for stretch_by.",
    "For one tile: convert to a type with a sign that also holds 255, subtract the haze, cut off below zero, convert back to uint8. Return "
    "tiles.map_blocks(your_function, haze, dtype=...) with the dtype that your function returns.",
])
def repaired_pipeline(answer):
    remove_haze = function(answer)
    # Tiles of different brightness and size, and all 256 values. One mean is rounded up, the other one down.
    dark = (np.arange(35 * 54) ** 2 * 256 // (35 * 54) ** 2).reshape(35, 54).astype(np.uint8)
    for pixels in (dark, 255 - dark):
        _check_haze_removal(remove_haze, pixels)
    return "All pixels of two test images are right, and the plans tell the truth about them."


def _check_haze_removal(remove_haze, pixels):
    """Try the learner's function on one image; Wrong with the first thing that is not as the task says."""
    read = []

    def note(tile):
        read.append(tile.shape)
        return tile

    tiles = da.from_array(pixels, chunks=(16, 20)).map_blocks(note, meta=np.empty((0, 0), dtype=np.uint8))
    result = call(remove_haze, tiles)
    read.clear()  # to measure the haze, the tiles may be read
    if isinstance(result, np.ndarray):
        raise Wrong("your function returns a NumPy array, but a dask array is asked for. Only the mean may be computed: "
                    "let it return a plan, without .compute() at the end.")
    if not isinstance(result, da.Array):
        raise Wrong(f"your function returns {shown(result)}, but a dask array is asked for.")
    if result.chunks != tiles.chunks:
        raise Wrong(f"the input has chunks {tiles.chunks}, but the result {result.chunks}.")
    if result.dtype != np.uint8:
        raise Wrong(f"the result declares {result.dtype}, but uint8 is asked for.")
    values = array(call(da.Array.compute, result))
    if values.dtype != np.uint8:
        raise Wrong(f"the result declares uint8, but computing it gives {values.dtype}.")
    if values.shape != pixels.shape:
        raise Wrong(f"the result declares shape {pixels.shape}, but computing it gives {values.shape}.")
    _compare_pixels(pixels, values)
    if len(read) < tiles.npartitions:
        raise Wrong("the pixels are right, but computed before they are asked for: let your function return a plan.")


def _compare_pixels(pixels, values):
    """Compare with what haze removal should give; Wrong with a sentence about a pixel that differs."""
    mean = pixels.mean()
    haze = round(mean)
    expected = np.maximum(pixels.astype(int) - haze, 0)
    wrong = values != expected
    if not wrong.any():
        return
    if (values == pixels).all():
        raise Wrong("your function returns the pixels unchanged.")
    for pixel in np.unique(pixels):
        becomes = np.unique(values[pixels == pixel])
        if len(becomes) > 1:
            raise Wrong(f"a pixel of {pixel} becomes {becomes[0]} in one place and {becomes[-1]} in another. "
                        "Is the same haze subtracted from all tiles?")
    if (values == pixels - np.uint8(haze)).all():
        raise Wrong(f"a pixel of 30 becomes {values[pixels == 30][0]}: it went below zero and came back at the top. "
                    "Which of your steps should prevent this, and does it come at the right time?")
    first = np.argmax(wrong)
    if pixels[wrong].min() > 127 and not values[wrong].any():
        raise Wrong(f"a pixel of {pixels.flat[first]} becomes 0, but {expected.flat[first]} is right. "
                    f"Can the type you convert to hold {pixels.flat[first]}?")
    raise Wrong(f"a pixel of {pixels.flat[first]} becomes {values.flat[first]}, but {expected.flat[first]} is right: "
                f"the mean of this test image is {mean:.2f}.")
