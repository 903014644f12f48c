"""Exercises of lesson 2, "Cut an image into tiles"."""

from collections import Counter
from collections.abc import Set

import dask.array as da
import numpy as np

from course_helpers.exercises.form import Function, Value, array, pairs, seen
from course_helpers.exercises.in_tiles import InTiles
from course_helpers.exercises.running import Wrong

EXERCISES = {}
SHAPE, CHUNKS = (512, 512), (200, 300)

# --- 2.1: predict the calls ---


def calls(chunks, **promises):
    """What dask really does: the shapes of all arrays that a function gets which is mapped over the tiles, sorted."""
    shapes = []

    def report(tile):
        shapes.append(tile.shape)
        return tile

    image = da.zeros(SHAPE, chunks=chunks, dtype=np.uint8)
    image.map_blocks(report, **promises).compute(scheduler="synchronous")
    return sorted(shapes)


CALLS = calls(CHUNKS, dtype=np.uint8)
TILES = calls(CHUNKS, meta=np.empty((0, 0), dtype=np.uint8))


def shapes_of_calls(answer):
    """A list of shapes, sorted."""
    if isinstance(answer, Set):
        raise Wrong("a set keeps equal entries once. Hand in a list, one entry for every call.")
    found = pairs(answer)
    if not found:
        raise Wrong("the function is called several times.")
    return found


def how_often(found):
    """A sentence about the first shape that is listed too often or too rarely."""
    listed, right = Counter(found), Counter(CALLS)
    shape = next(shape for shape in [*listed, *TILES] if listed[shape] != right[shape])
    return (
        f"with shape {shape} the function is called {right[shape]} times; in your list it is {listed[shape]} times. Along each axis full "
        "chunks come first, and the last one is what is left of 512. Each chunk of the rows goes with each of the columns, once."
    )


EXERCISES["2.1"] = Value(
    right=CALLS,
    reads=shapes_of_calls,
    mistakes={
        "these are the calls during compute(). Is the function called before that?": TILES,
        "this is the call before compute(). With what is the function called during compute()?": [(0, 0)],
        "the trial with a single pixel asks for the dtype, which is stated here. Does this stop the other trial, too?": [
            (1, 1),
            *TILES,
        ],
        "each shape is in your list once. One entry for every call is asked for.": sorted(set(CALLS)),
        "all your tiles have the same size. Does 512 divide evenly?": [(0, 0), *[CHUNKS] * 6],
        "the trial with a single pixel asks for the dtype. Is there anything left to ask in this task?": seen(
            calls(CHUNKS), lambda found: (1, 1) in found
        ),
        "a shape is (rows, columns): yours are the other way round.": seen(
            calls(CHUNKS[::-1], dtype=np.uint8), lambda found: {shape[::-1] for shape in found} >= set(TILES)
        ),
        "a tile of shape {shape} goes from edge to edge. Is the image not cut there?": seen(
            calls((200, 512), dtype=np.uint8), lambda found: 512 in np.ravel(found) and {"shape": max(found)}
        ),
    },
    otherwise=how_often,
    also_right=(tuple(CALLS[::-1]), np.array(CALLS), [list(shape) for shape in CALLS]),
    praise=f"{len(CALLS)} calls, {len(TILES)} of them with a tile.",
    hints=[
        "count the calls before compute() and the calls during compute() separately.",
        "before compute(): the task states the dtype, as the lesson does for quarters. What did report print there?",
        "during compute(): one call per tile. Combine each chunk of the rows with each of the columns, leftovers too.",
    ],
)


# --- 2.2: predict the artifacts ---

CUTS = {"row": (200, 400), "column": (300,)}
SIGMA, REACH = 2.2, 9


def bands(rows=CUTS["row"], columns=CUTS["column"], before=REACH, behind=REACH):
    """A mask of bands along cuts before these rows and columns; tests/test_lesson_2.py measures that it is right."""
    mask = np.zeros(SHAPE, dtype=bool)
    for row in rows:
        mask[max(row - before, 0) : row + behind] = True
    for column in columns:
        mask[:, max(column - before, 0) : column + behind] = True
    return mask


def mask_of_pixels(answer):
    """A mask of the shape of the image, as booleans."""
    values = array(answer)
    if values.shape != SHAPE:
        raise Wrong(f"a mask of shape {SHAPE} is asked for: True or False for each pixel.")
    if not np.isin(values, (0, 1)).all():
        raise Wrong("a mask holds nothing but True and False. In this one are other values.")
    return values.astype(bool)


def what_differs(found, expected):
    """How many pixels are wrong, and the first row or column that is marked and should not be, or the other way round."""
    says = f"you miss {(expected & ~found).sum()} of the wrong pixels, and mark {(found & ~expected).sum()} too many. "
    for axis, (line, cuts) in enumerate(CUTS.items()):
        marked = found.all(axis=1 - axis)
        for at in np.flatnonzero(marked != expected.all(axis=1 - axis)):
            away = min(cut - at if at < cut else at - cut + 1 for cut in cuts)
            return says + (
                f"{line.capitalize()} {at} is {'' if marked[at] else 'not '}marked from edge to edge, and the nearest {line} beyond a cut is "
                f"{away} away. The filter looks as far as its radius: 4 * sigma, rounded to a whole number, with sigma = {SIGMA}."
            )
    return says + "Whatever the image shows, the wrong ones form bands that run from edge to edge."


EXERCISES["2.2"] = Value(
    right=bands(),
    reads=mask_of_pixels,
    mistakes={
        "rows and columns are swapped: the first number of chunks counts rows, the second one columns.": bands().T,
        "your mask marks {share:.0%} of the pixels. Is it inside out? It should be True where a pixel may be wrong.": seen(
            ~bands(), lambda found: (share := found.mean()) > 0.5 and {"share": share}
        ),
        "no row and no column is marked from edge to edge. To be near a cut in one direction is enough.": seen(
            bands(columns=()) & bands(rows=()),
            lambda found: not found.all(axis=0).any() and not found.all(axis=1).any(),
        ),
        "the image is also cut between rows, where you mark none.": bands(rows=()),
        "no row is marked at the second cut between rows. Where do chunks of 200 rows end?": bands(rows=(200,)),
        f"4 * sigma = {4 * SIGMA} is rounded to a whole number, not cut off.": bands(before=8, behind=8),
        "you mark one side of each cut. On both sides of it the filter looks across.": bands(before=0),
        "you mark the outer edge, too. Is there anything beyond it that the whole image could see?": seen(
            bands(rows=(0, 200, 400, 512)), lambda found: found[0].all() or found[-1].all()
        ),
    },
    otherwise=what_differs,
    also_right=(bands().astype(np.uint8), bands().astype(float), bands().tolist()),
    praise=f"{bands().sum()} pixels, {bands().mean():.1%} of the image: the pixels that differ when it is tried on noise.",
    hints=[
        "a pixel may be wrong if the filter looks across a cut when it computes this pixel. Where are the cuts?",
        "begin with np.zeros((512, 512), dtype=bool). Each cut gives one band of True that runs through the whole image.",
        "a band begins one radius before the cut and ends one radius behind it. The first cut is between rows 199 and 200.",
    ],
)


# --- 2.3: detect a silently wrong result ---


def lazy(pixels, each=np.copy, tiles=30, **promises):
    """What a function makes of the tiles of an image. Promises declare another dtype or shape than computing it gives."""
    return da.from_array(pixels, tiles).map_blocks(each, **{"dtype": pixels.dtype, **promises})


def one_pixel(pixels, place, difference):
    changed = pixels.copy()
    changed[place] = changed[place].item() + difference
    return changed


def largest(tile):
    return tile.max(keepdims=True)


RANDOM = np.random.default_rng(2)
DECIMALS = RANDOM.random((60, 90)) * 100 + 120
COUNTS = RANDOM.integers(20, 220, (48, 31), dtype=np.uint8)
STACK = RANDOM.random((3, 20, 30))
DARK, FLAT, SIGNED = np.zeros((40, 50)), np.full((20, 30), 7.0), np.full((9, 7), -64, np.int8)
GAP, MAXIMA = one_pixel(DECIMALS, (30, 0), np.nan), DECIMALS.reshape(2, 30, 3, 30).max(axis=(1, 3))
RESULTS = (  # in tiles, and what they should be: right ones
    (lazy(COUNTS), COUNTS.astype(float)),
    (lazy(DECIMALS + 3e-7), DECIMALS),
    (lazy(one_pixel(STACK, (1, 2, 3), 3e-7)), STACK),
    (lazy(one_pixel(DARK, (9, 9), 1e-6)), DARK),
    (lazy(DECIMALS, largest, chunks=(1, 1)), MAXIMA),
    # with wrong pixels
    (lazy(DECIMALS - 5), DECIMALS),
    (lazy(DECIMALS[::-1]), DECIMALS),
    (lazy(one_pixel(DECIMALS, (9, 9), 1e-5)), DECIMALS),
    (lazy(one_pixel(COUNTS, (47, 30), 1)), COUNTS),
    (lazy(one_pixel(COUNTS, (0, 0), -1)), COUNTS),
    (lazy(one_pixel(SIGNED, (5, 0), 128)), SIGNED),
    (lazy(one_pixel(STACK, (2, 0, 29), -0.25)), STACK),
    (lazy(DARK + 1.1e-6), DARK),
    (lazy(DARK - 1.1e-6), DARK),
    (lazy(COUNTS), COUNTS + 0.5),
    (lazy(COUNTS + 0.5), COUNTS),
    # with broken promises and other shapes
    (lazy(COUNTS, dtype=np.float64), COUNTS.astype(float)),
    (lazy(FLAT, dtype=np.int64), FLAT),
    (lazy(STACK, dtype=np.float32), STACK),
    (lazy(FLAT[:, :1]), FLAT),
    (lazy(FLAT), FLAT[:1]),
    (lazy(FLAT[np.newaxis]), FLAT),
    (lazy(FLAT.T), FLAT),
    (lazy(DECIMALS, largest, dtype=np.uint8), MAXIMA),
    (lazy(FLAT, lambda tile: tile[:1]), FLAT),
    (lazy(FLAT, lambda tile: tile[:2], tiles=((2, 18), 30)), FLAT[:4]),
    (lazy(FLAT, np.transpose), FLAT.T),
    # with nan
    (lazy(GAP), DECIMALS),
    (lazy(DECIMALS), GAP),
    (lazy(GAP), GAP),
)


def kind(array):
    return f"shape {array.shape} and dtype {array.dtype}"


def in_words(tiled, whole):
    """What is in a result, as far as this matters."""
    computed, words = tiled.compute(), f"a result of {kind(tiled)}"
    for more, other in ((", which has {} once it is computed", computed), (", with whole of {}", whole)):
        words += more.format(kind(other)) * (kind(other) != kind(tiled))
    if computed.shape == whole.shape:
        differences = computed.astype(float) - whole
        most = np.unravel_index(np.abs(differences).argmax(), whole.shape)  # a nan comes before all numbers
        words += f", in which {np.count_nonzero(differences)} of {whole.size} pixels differ"
        if differences.any():
            place = ", ".join(map(str, most))
            words += f", most at ({place}): {computed[most]:.9g} - {whole[most]:.9g} = {differences[most]:.3g}"
    return words


def is_wrong(tiled, whole, far=lambda one, other: not (np.abs(one - other) <= 1e-6).all(), dtype=float):
    """Whether a tiled result is wrong; the pixels are converted and compared like this."""
    computed = tiled.compute()
    if kind(computed) != kind(tiled) or computed.shape != whole.shape:
        return True
    return bool(far(computed.astype(dtype or computed.dtype), whole))


def rule(tiled, whole, expected):
    """What makes a result wrong, or right."""
    computed = tiled.compute()
    if kind(computed) != kind(tiled):
        return "it is wrong, because it is not what it declares."
    if computed.shape != whole.shape:
        return "it is wrong, because whole has another shape."
    if not expected:
        return "it is right: before any conversion it is what it declares, no pixel differs by more than 1e-6, and the dtype of whole does not matter."
    if np.isnan(computed + whole).any():
        return "it is wrong, because a pixel is not a number. But every comparison with nan is False (try np.nan > 1e-6), and np.nanmax leaves it out."
    return "it is wrong, because a pixel differs by more than 1e-6. Is one such pixel enough for your function, whatever the sign of its difference, and is 1e-6 all that it allows? (np.allclose allows a share of the value, too.)"


def verdict(answer):
    """One True or False, also as 1 or 0."""
    value = np.asarray(answer)
    if value.size != 1 or value.dtype.kind not in "bi" or value not in (0, 1):
        raise Wrong("one True or False is asked for.")
    return bool(value)


EXERCISES["2.3"] = Function(
    right=is_wrong,
    cases=lambda: RESULTS,
    given=in_words,
    reads=verdict,
    mistakes={
        "right ones get True as well. Is a comparison turned round, or does it go by something of image, such as 512 x 512 pixels?": (
            lambda tiled, whole: True
        ),
        "and so for most wrong results. Which way through your function leads to True?": lambda tiled, whole: False,
        "your answers are inside out: True is for a wrong result.": lambda tiled, whole: not is_wrong(tiled, whole),
        "wrong results are to get True, without an exception.": seen(
            lambda tiled, whole: np.testing.assert_array_equal(tiled, whole) or False,
            lambda error: "AssertionError" in error,
        ),
        "without rtol=0, np.allclose also allows a share of the pixel's value, and without atol, only 1e-8.": {
            "far": lambda: lambda one, other: not np.allclose(one, other)
        },
        "nan in both of them is a difference as well. Do you leave it out, or does an option make both equal?": {
            "far": lambda: lambda one, other: not np.allclose(one, other, rtol=0, atol=1e-6, equal_nan=True)
        },
        "int8 has no 128, and begins again at -128. Convert to float before you subtract.": {"dtype": None},
        "differences of both signs cancel in a sum or a mean. Take np.abs of each before.": {
            "far": lambda: lambda one, other: abs((one - other).mean()) > 1e-6
        },
    },
    also_right=(
        lambda tiled, whole: is_wrong(tiled, whole, far=lambda a, b: not np.allclose(a, b, rtol=0, atol=1e-6)),
        lambda tiled, whole: int(is_wrong(tiled, whole)),
        lambda tiled, whole: np.array(is_wrong(tiled, whole)),
    ),
    otherwise=rule,
    praise="Your function tells wrong results from right ones in {count} cases.",
    hints=[
        "compute once, keep the result. Compare shapes and dtypes first: arrays of different shapes cannot be subtracted.",
        "too bright and too dark must not cancel, and one wrong pixel is enough: no sum, mean or maximum without np.abs.",
        "every comparison with nan is False. So do not ask whether one difference is large, but whether all are small.",
    ],
)


# --- 2.4: repair a pipeline ---


def hazy_images():
    """Images of different brightness and cuts; the mean of some is rounded up, that of the others down."""
    ramp = (np.arange(35 * 54) ** 2 * 256 // (35 * 54) ** 2).reshape(35, 54).astype(np.uint8)  # all 256 values
    for pixels, chunks in (
        (255 - ramp, ((5, 25, 5), (1, 53))),
        (np.repeat(ramp, 5, axis=0), (160, 20)),  # large enough for bytes of a plan to be counted
        (np.pad(np.array([[30, 255]], np.uint8), ((3, 16), (4, 24))), (8, 16)),  # no haze: all that is bright stays
        (np.pad(np.full((200, 200), 255, np.uint8), ((400, 0), (400, 0))), 200),  # no part has the mean of the whole
        (np.tile(np.array([2, 3], np.uint8), (20, 15)), (8, 10)),  # its mean lies in the middle between two numbers
    ):
        yield (da.from_array(pixels, chunks),)


def darker(tile, haze):
    return np.clip(tile.astype(np.int16) - haze, 0, 255).astype(np.uint8)


def without_haze(tiles, haze=None, each=darker):
    """A plan that makes each tile darker by the haze: without another one, by the rounded mean of all tiles."""
    if haze is None:
        haze = round(tiles.mean().compute())
    return tiles.map_blocks(each, haze, dtype=np.uint8)


def two_results(tiles, found):
    """A value whose pixels have several values in the result, if there is one."""
    pixels = tiles.compute()
    for value in np.unique(pixels):
        becomes = np.unique(found[pixels == value])
        if becomes.size > 1:
            return {"value": value, "one": becomes[0], "other": becomes[-1]}
    return None


def what_is_subtracted(tiles, found):
    taken, mean = np.unique((tiles.compute().astype(int) - found)[found > 0]), tiles.mean().compute()
    says = "No pixel stays above zero"
    if taken.size:
        says = f"From pixels that stay above zero, you subtract {taken[0]}" + f" to {taken[-1]}" * (taken.size > 1)
    return f"{says}. The haze is round({mean:.9g}) = {round(mean)}, of all pixels at once (the mean of the tiles' means may be another)."


EXERCISES["2.4"] = InTiles(
    right=without_haze,
    cases=hazy_images,
    dtype=np.uint8,
    mistakes={
        "the mean is a plan as well, and round needs a number. Compute it before.": {
            "haze": lambda tiles: round(tiles.mean())
        },
        "Pixels became brighter: they went below zero and came back at the top. No step prevents this, or it comes too late.": seen(
            {"each": lambda: np.subtract}, lambda tiles, found: (found > tiles.compute()).any()
        ),
        "A pixel of {value} becomes {one} in one place and {other} in another. Is the same haze subtracted from all "
        "tiles, and from the pixels as they are?": seen(
            {"each": lambda: lambda tile, haze: darker(tile, round(tile.mean()))}, two_results
        ),
        "a whole number of Python is no array. round gives such a one, and in the function of a tile the first argument is the tile, then "
        "comes what you hand over to map_blocks.": seen(
            {"each": lambda: lambda haze, tile: darker(tile, haze)},
            lambda error: "'int' object has no attribute" in error,
        ),
    },
    otherwise=what_is_subtracted,
    also_right=(
        lambda tiles: tiles.map_blocks(darker, haze=round(tiles.mean().compute()), meta=np.empty((0, 0), np.uint8)),
        lambda tiles: tiles.map_blocks(darker, tiles.mean().round().astype(np.int16), dtype=np.uint8),
        lambda tiles: da.maximum(tiles, round(tiles.mean().compute())) - round(tiles.mean().compute()),
    ),
    praise="All pixels of {count} test images are right, and the plans tell the truth about them.",
    hints=[
        "three things are broken: the number that is subtracted, what happens to a dark pixel, and the declared dtype.",
        "the haze is one number for all tiles: round(...) of the computed mean. Hand it over as for stretch_by.",
        "for one tile: convert to a type with a sign that also holds 255, subtract the haze, cut off below zero, convert "
        "back to uint8. Return tiles.map_blocks(your_function, haze, dtype=...) with the dtype that your function returns.",
    ],
)
