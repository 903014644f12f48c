"""The exercises of lesson 2: stub, solution, typical mistakes, hostile answers."""

import dask
import dask.array as da
import numpy as np
import pytest
from skimage.filters import gaussian

from course_helpers.exercises import lesson_2


@pytest.mark.parametrize("number", ["2.3", "2.4"])
def test_unanswered(line_of, number):
    expected = f"○ Exercise {number}: not answered yet. Replace the ... above and run both cells again.\n"
    assert line_of(number, ...) == expected


def not_written(*arguments): ...


@pytest.mark.parametrize("number", ["2.3", "2.4"])
def test_function_not_written(line_of, number):
    assert line_of(number, not_written).startswith("○") and "returns nothing yet" in line_of(number, not_written)


@pytest.mark.parametrize("number", ["2.3", "2.4"])
def test_hostile(line_of, hostile, number):
    assert line_of(number, hostile)[0] in "✗○"


def test_2_2_expects_what_noise_shows():
    """The mask that is right is where tiled and whole differ in at least one of three images without equal pixels."""
    wrong = np.zeros(lesson_2.SHAPE, dtype=bool)
    for seed in range(3):
        noise = np.random.default_rng(seed).random(lesson_2.SHAPE)
        tiled = da.from_array(noise, chunks=lesson_2.CHUNKS).map_blocks(gaussian, sigma=lesson_2.SIGMA, dtype=float)
        wrong |= np.abs(tiled.compute() - gaussian(noise, sigma=lesson_2.SIGMA)) > 1e-12
    assert np.array_equal(wrong, lesson_2.bands())


def declared_wrongly(tiled, computed):
    return computed.shape != tiled.shape or computed.dtype != tiled.dtype


def detector(differs):
    """A right answer to 2.3 but for how the pixels are compared."""

    def is_wrong(tiled, whole):
        computed = tiled.compute()
        wrong_shape = computed.shape != whole.shape
        return declared_wrongly(tiled, computed) or wrong_shape or differs(computed.astype(float), whole)

    return is_wrong


def large(a, b):
    return not (np.abs(a - b) <= 1e-6).all()


@pytest.mark.parametrize(
    "answer",
    [
        detector(large),
        detector(lambda a, b: not np.allclose(a, b, rtol=0, atol=1e-6)),
        detector(lambda a, b: int(large(a, b))),
    ],
)
def test_2_3_right(line_of, answer):
    expected = "✓ Exercise 2.3: correct. Your function tells 14 wrong results from 3 right ones.\n"
    assert line_of("2.3", answer) == expected


def without_declared_dtype(tiled, whole):
    computed = tiled.compute()
    return computed.shape != tiled.shape or computed.shape != whole.shape or large(computed, whole)


def without_declared_shape(tiled, whole):
    computed = tiled.compute()
    return computed.dtype != tiled.dtype or computed.shape != whole.shape or large(computed, whole)


def without_shape_of_whole(tiled, whole):
    computed = tiled.compute()
    return declared_wrongly(tiled, computed) or large(computed, whole)


def with_dtype_of_whole(tiled, whole):
    return tiled.dtype != whole.dtype or detector(large)(tiled, whole)


def sizes(tiled, whole):
    """Compares the sizes of the arrays instead of their shapes."""
    computed = tiled.compute()
    return (
        computed.dtype != tiled.dtype
        or computed.size != tiled.size
        or computed.size != whole.size
        or (computed.shape[-1] == whole.shape[-1] and large(computed.astype(float), whole))
    )


def size_of_declared(tiled, whole):
    computed = tiled.compute()
    return (
        computed.dtype != tiled.dtype
        or computed.size != tiled.size
        or computed.shape != whole.shape
        or large(computed.astype(float), whole)
    )


def of_the_micrograph(tiled, whole):
    """Uses the shape of the image of the lesson."""
    return tiled.shape != (512, 512) or detector(large)(tiled, whole)


def without_return_false(tiled, whole):
    if detector(large)(tiled, whole):
        return True


def without_return_true(tiled, whole):
    if not detector(large)(tiled, whole):
        return False


def trusting(tiled, whole):
    """Compares what is declared with the whole, and not with what is computed."""
    computed = tiled.compute()
    return tiled.shape != whole.shape or tiled.dtype != computed.dtype or large(computed.astype(float), whole)


@pytest.mark.parametrize(
    "answer, feedback",
    [
        (lambda tiled, whole: True, "returns True for a result of shape (60, 80) that is equal in every pixel"),
        (of_the_micrograph, "returns True for a result of shape (60, 80) that is equal"),
        (with_dtype_of_whole, "returns True for a result that has the pixels of whole as uint8 instead of float64"),
        (lambda tiled, whole: False, "returns False for a result that is 5 too bright everywhere"),
        (lambda tiled, whole: tiled.dtype != tiled.compute().dtype, "returns False for a result that is 5 too bright"),
        (
            without_return_false,
            "returns None for a result of shape (60, 80) that is equal in every pixel, shape and dtype. "
            "Does every way through it end with return?",
        ),
        (without_return_true, "returns None for a result that is 5 too bright everywhere. Does every way"),
        (lambda tiled, whole: large(tiled.compute().astype(float), whole), "False for a result that declares uint8"),
        (
            lambda tiled, whole: (
                tiled.dtype.itemsize < tiled.compute().dtype.itemsize or large(tiled.compute() + 0.0, whole)
            ),
            "returns False for a result that declares float64, but gives uint8",
        ),
        (sizes, "of shape (1, 60, 80) instead of (60, 80)"),
        (size_of_declared, "declares shape (60, 80), but has (80, 60) when computed"),
        (detector(lambda a, b: (a != b).any()), "differs by 1e-7 in every pixel. This counts as rounding"),
        (detector(lambda a, b: (a - b).max() > 1e-6), "A negative difference is a difference"),
        (detector(lambda a, b: abs((a - b).sum()) > 0.01), "the others 5 too dark"),
        (detector(lambda a, b: np.abs(a - b).sum() > 1e-6), "differs by 1e-7 in every pixel"),
        (detector(lambda a, b: np.abs(a - b).max() > 1e-10), "differs by 1e-7 in every pixel"),
        (detector(lambda a, b: not np.allclose(a, b, rtol=0)), "differs by 1e-7 in every pixel"),
        *[
            (detector(lambda a, b, limit=limit: not (np.abs(a - b) <= limit).all()), "is wrong by 1e-5")
            for limit in (0.4, 1e-2, 1e-3, 1e-4)
        ],
        *[
            (detector(lambda a, b, limit=limit: not np.abs(a - b).mean() <= limit), "is wrong by 1e-5")
            for limit in (1e-6, 1e-4)
        ],
        (detector(lambda a, b: not np.allclose(a, b)), "a single pixel of 220 is wrong by 1e-5. (np.allclose also"),
        (detector(lambda a, b: not np.allclose(a, b, rtol=0, atol=1e-6, equal_nan=True)), "and in whole, too"),
        (detector(lambda a, b: abs(a.mean() - b.mean()) > 1e-6), "the others 5 too dark"),
        (detector(lambda a, b: np.abs(a - b).mean() > 0.01), "a single pixel is wrong by 1"),
        (detector(lambda a, b: np.abs(a - b).max() > 1e-6), "one pixel is not a number"),
        (without_shape_of_whole, "with 1 row instead of 60"),
        (trusting, "but has 1 row when computed"),
        (without_declared_shape, "declares shape (60, 80), while it has one number per tile"),
        (without_declared_dtype, "declares uint8, but gives float64"),
        (
            lambda tiled, whole: np.abs(tiled.compute() - whole) > 1e-6,
            "returns an array of shape (60, 80) and dtype bool",
        ),
        (lambda tiled, whole: (tiled != whole).any(), "Let your function call .compute()"),
        (lambda tiled, whole: "yes", "returns 'yes', but one True or False"),
        (lambda tiled, whole: 0.5, "returns 0.5, but one True or False"),
        (lambda tiled, whole: 2, "returns 2, but one True or False"),
        (
            lambda tiled, whole: tiled.computed() - whole,
            "called with a result of shape (60, 80) that is equal in every pixel, shape and dtype, your function raises Attr",
        ),
        (lambda tiled, whole: tiled.computed() - whole, "AttributeError"),
        (lambda tiled: True, "TypeError"),
        (True, "the answer is True, but a function is asked for"),
    ],
)
def test_2_3_mistakes(line_of, answer, feedback):
    line = line_of("2.3", answer)
    assert line.startswith("✗") and feedback in line


def test_2_3_results_are_what_their_words_say():
    for tiled, whole, wrong, words in lesson_2._results():
        computed = tiled.compute()
        wrong_shape = computed.shape != whole.shape
        assert (declared_wrongly(tiled, computed) or wrong_shape or large(computed, whole)) == wrong, words


def darker(tile, haze):
    return np.clip(tile.astype(np.int16) - haze, 0, 255).astype(np.uint8)


def haze_of(tiles):
    return round(tiles.mean().compute())


def with_haze(function, dtype=np.uint8):
    """An answer to 2.4 that measures the haze rightly and hands it to every tile."""
    return lambda tiles: tiles.map_blocks(function, haze_of(tiles), dtype=dtype)


def all_lazy(tiles):
    return da.clip(tiles.astype(np.int16) - tiles.mean().round().astype(np.int16), 0, 255).astype(np.uint8)


def by_hand(tiles):
    return tiles.map_blocks(darker, int(np.round(np.asarray(tiles).mean())), dtype=np.uint8)


@pytest.mark.parametrize(
    "answer",
    [
        with_haze(darker),
        lambda tiles: tiles.map_blocks(darker, haze_of(tiles)),
        all_lazy,
        by_hand,
        lambda tiles: da.maximum(tiles, haze_of(tiles)) - haze_of(tiles),
        lambda tiles: tiles.map_blocks(darker, haze=haze_of(tiles), meta=np.empty((0, 0), np.uint8)),
        lambda tiles: tiles.map_blocks(darker, tiles.mean().round().astype(np.int16), dtype=np.uint8),
        with_haze(lambda tile, haze: np.where(tile > haze, tile - haze, 0).astype(np.uint8)),
    ],
)
def test_2_4_right(line_of, answer):
    assert line_of("2.4", answer).startswith("✓ Exercise 2.4: correct. All pixels of two test images")


def as_given(tiles):
    return tiles.map_blocks(lambda tile: tile - round(tile.mean()), dtype=np.float64)


def haze_per_tile(tile):
    return darker(tile, round(tile.mean()))


def mean_of_means(tiles):
    means = tiles.map_blocks(lambda tile: np.array([[tile.mean()]]), dtype=float, chunks=(1, 1)).compute()
    return tiles.map_blocks(darker, round(means.mean()), dtype=np.uint8)


def without_return(tiles):
    tiles.map_blocks(darker, haze_of(tiles), dtype=np.uint8)


def typo(tiles):
    return tile.map_blocks(darker, 85, dtype=np.uint8)  # noqa: F821


WRAPPED = "a pixel of 30 becomes 201: it went below zero and came back at the top. Which of your steps"


@pytest.mark.parametrize(
    "answer, feedback",
    [
        (as_given, "the result declares float64, but uint8"),
        (lambda tiles: as_given(tiles).astype(np.uint8), "Is the same haze subtracted from all tiles?"),
        (lambda tiles: tiles.map_blocks(haze_per_tile, dtype=np.uint8), "Is the same haze subtracted from all tiles?"),
        (lambda tiles: tiles.map_blocks(lambda tile: tile - round(tile.mean()), dtype=np.uint8), "Is the same haze"),
        (lambda tiles: tiles - np.uint8(haze_of(tiles)), WRAPPED),
        (with_haze(lambda tile, haze: np.clip(tile - haze, 0, 255)), WRAPPED),
        (with_haze(lambda tile, haze: (tile.astype(np.int16) - haze).astype(np.uint8)), WRAPPED),
        (with_haze(lambda tile, haze: np.clip(tile.astype(np.int16) - haze, 0, 255)), "computing it gives int16"),
        (with_haze(lambda tile, haze: np.abs(tile.astype(np.int16) - haze).astype(np.uint8)), "but 0 is right"),
        (with_haze(lambda tile, haze: np.where(tile > haze, tile - haze, tile).astype(np.uint8)), "but 0 is right"),
        (
            lambda tiles: tiles.map_blocks(darker, 40, dtype=np.uint8),
            "0 is right: the mean of this test image is 84.78",
        ),
        (
            lambda tiles: tiles.map_blocks(darker, int(tiles.mean().compute()), dtype=np.uint8),
            "a pixel of 85 becomes 1, but 0 is right: the mean of this test image is 84.78",
        ),
        (
            lambda tiles: tiles.map_blocks(darker, tiles.mean().compute(), dtype=np.uint8),
            "a pixel of 255 becomes 84, but 85 is right: the mean of this test image is 170.22",
        ),
        (mean_of_means, "the mean of this test image is 84.78"),
        (
            with_haze(lambda tile, haze: np.maximum(tile.astype(np.int8) - haze, 0).astype(np.uint8)),
            "a pixel of 213 becomes 0, but 128 is right. Can the type you convert to hold 213?",
        ),
        (lambda tiles: np.zeros((3, 3)), "returns a NumPy array, but a dask array is asked for"),
        (lambda tiles: tiles, "returns the pixels unchanged"),
        (lambda tiles: with_haze(darker)(tiles).compute(), "let it return a plan"),
        (lambda tiles: with_haze(darker)(tiles).persist(), "let your function return a plan"),
        (lambda tiles: da.from_array(darker(np.asarray(tiles), haze_of(tiles)), chunks=tiles.chunks), "return a plan"),
        (lambda tiles: with_haze(darker)(tiles).rechunk((35, 54)), "but the result ((35,), (54,))"),
        (lambda tiles: with_haze(darker)(tiles).ravel(), "the input has chunks"),
        (with_haze(lambda tile, haze: darker(tile, haze)[:1]), "but computing it gives (3, 54)"),
        (with_haze(lambda tile, haze: darker(tile, haze)[5, 5, 5]), "your function raises IndexError"),
        (
            without_return,
            "✗ Exercise 2.4: your function returns None for a dask array of shape (35, 54) and dtype uint8. Does every way through it end with return?",
        ),
        (typo, "called with a dask array of shape (35, 54) and dtype uint8, your function raises NameError"),
        (lambda tiles: darker, "but a dask array is asked for"),
        (lambda tiles: dask.delayed(darker)(3), "but a dask array is asked for"),
        (lambda tiles: tiles.blocks[7, 7], "your function raises"),
        (lambda: 1, "TypeError"),
        (da.zeros(3, dtype=np.uint8), "but a function is asked for"),
    ],
)
def test_2_4_mistakes(line_of, answer, feedback):
    line = line_of("2.4", answer)
    assert line.startswith("✗") and feedback in line
