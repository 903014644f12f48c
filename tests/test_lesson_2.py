"""Lesson 2: what only it can say. Its exercises are tested in test_exercises.py, by their tables."""

import dask.array as da
import numpy as np
from skimage.filters import gaussian

from course_helpers.exercises import lesson_2


def test_2_2_expects_what_noise_shows():
    """The mask that is right is where tiled and whole differ in at least one of three images without equal pixels."""
    wrong = np.zeros(lesson_2.SHAPE, dtype=bool)
    for seed in range(3):
        noise = np.random.default_rng(seed).random(lesson_2.SHAPE)
        tiled = da.from_array(noise, chunks=lesson_2.CHUNKS).map_blocks(gaussian, sigma=lesson_2.SIGMA, dtype=float)
        wrong |= np.abs(tiled.compute() - gaussian(noise, sigma=lesson_2.SIGMA)) > 1e-12
    assert np.array_equal(wrong, lesson_2.bands())


def test_2_4_says_that_a_persisted_plan_is_computed(line_of):
    """In small images, too, no step of such a plan is left to watch."""
    line = line_of("2.4", lambda tiles: lesson_2.without_haze(tiles).persist())
    assert line.startswith("✗") and "computes and keeps 9450 bytes" in line
