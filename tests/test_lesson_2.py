"""The exercises of lesson 2: stub, solution, typical mistakes, hostile answers."""

import dask
import dask.array as da
import numpy as np
import pytest
from skimage.filters import gaussian

from course_helpers.exercises import lesson_2


@pytest.mark.parametrize("number", ["2.4"])
def test_unanswered(line_of, number):
    expected = f"○ Exercise {number}: not answered yet. Replace the ... above and run both cells again.\n"
    assert line_of(number, ...) == expected


def not_written(*arguments): ...


@pytest.mark.parametrize("number", ["2.4"])
def test_function_not_written(line_of, number):
    assert line_of(number, not_written).startswith("○") and "returns nothing yet" in line_of(number, not_written)


@pytest.mark.parametrize("number", ["2.4"])
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
