"""Lesson 1: what only it can say. Its exercises are tested in test_exercises.py, by their tables."""

import dask
import numpy as np
import pytest

from course_helpers.exercises.lesson_1 import FIRST, LAST, LEVELS, NEARLY, images, in_one_piece, mean_counts, spread_of
from course_helpers.mandelbrot import render_level


def test_1_2_expects_what_is_rendered():
    assert spread_of(FIRST - 1) > 0 == spread_of(FIRST)


@pytest.mark.parametrize(
    "answer, rendered, feedback",
    [
        (FIRST, [FIRST] * 18, "✓ Exercise 1.2: correct. You rendered 18 of 200,000 images."),
        (FIRST + 1, [FIRST], "✓ Exercise 1.2: approximately right."),
        (FIRST + NEARLY, [FIRST + 7, FIRST + 8, LAST], "✓ Exercise 1.2: approximately right."),
        (FIRST + NEARLY + 1, [1], "Where do the uniform images begin?\n"),
        (FIRST - 2, [1], "there the counts still range from 250 to 251, and all pixels should have the same."),
        (130_000, [1] * 30, "there the counts still range from 249 to 256, and"),
        (FIRST, [FIRST, *range(20)], "you rendered 21 images. Can you do with 20?"),
        (FIRST, [139_000], "none of the 1 images in the list"),
        (100_000, [49_999, 99_999], "there the counts still range from"),
        (
            139_062,
            [100_000, 150_000, 137_500, 140_625],
            "Image 137500 is not uniform: its counts range from 250 to 251. Image 140625 is",
        ),
        (199_998, [149_999, 174_999, 187_499], "Image 149999 is: all its pixels have the same count"),
        (150_000, [FIRST - 1, FIRST], "Where do the uniform images begin?"),  # the record would tell the answer
        (FIRST, ..., "Right so far: first_uniform. Still open: rendered."),
    ],
)
def test_1_2_looks_at_the_level_and_the_record(line_of, answer, rendered, feedback):
    line = line_of("1.2", answer, rendered)
    assert feedback in line and ("approximately" not in line or str(FIRST) not in line)


def not_written(level): ...


@pytest.mark.parametrize(
    "answer, feedback",
    [
        (dask.delayed(render_level), "gives an array of shape (512, 512)"),
        (lambda level: dask.delayed(render_level(level).max()), "by then it has rendered an image"),
        (dask.delayed(lambda level: render_level(level).min() - render_level(level).max()), "Mind the order"),
        (dask.delayed(lambda level: render_level(level)[0].max() - 200), "range from 218 to 256"),
        (dask.delayed(lambda level: numpy.ptp(render_level(level))), "your function raises NameError"),  # noqa: F821
        (dask.delayed(lambda: 3), "your function takes 0 arguments"),
        (dask.delayed(lambda level: dask.delayed(spread_of)(level).compute()), "another plan within your plan"),
        (lambda level: [dask.delayed(spread_of)(level)], "at once"),
        (dask.delayed(not_written), "○ Exercise 1.1: your function returns nothing yet."),
    ],
)
def test_1_1_looks_at_the_plan_and_at_what_it_gives(line_of, answer, feedback):
    line = line_of("1.1", answer)
    assert line[0] in "✗○" and feedback in line


@pytest.mark.parametrize(
    "answer, feedback",
    [
        (images().mean(), "a dask array of shape ()"),
        (images(range(9, 150_000, 5_000)).mean(axis=(1, 2)), "number 0 is"),
        (images()[:, ::8, ::8].mean(axis=(1, 2)), "but the mean count of all pixels of image 0 is"),
        (
            in_one_piece(lambda: np.stack([render_level(level) for level in LEVELS]).mean(axis=(1, 2))),
            "30 images were in memory",
        ),
        (images().astype(float).rechunk((3, 512, 512)).mean(axis=(1, 2)), "3 images were in memory"),
        (in_one_piece(lambda: mean_counts()[np.newaxis]), "which is not what it declares"),
    ],
)
def test_1_3_looks_at_all_pixels_of_the_right_images(line_of, answer, feedback):
    line = line_of("1.3", answer)
    assert line.startswith("✗") and feedback in line


def test_1_3_counts_no_image_that_the_check_renders_itself(line_of):
    mean_counts.cache_clear()
    assert "computing the array rendered 0 of the 30 images" in line_of("1.3", in_one_piece(mean_counts))
