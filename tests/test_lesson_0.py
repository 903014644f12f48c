"""Lesson 0: the recording that it measures with, and what the tables of its exercises cannot say."""

import re
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from processes import ROOT
from random_images import for_any_seed

from course_helpers import recording
from course_helpers.exercises import lesson_0
from course_helpers.lazy_recording import open_recording
from course_helpers.memory import measure
from course_helpers.recording import FRAMES, SHAPE, load_time_point

SOURCE = ROOT / "sources" / "00_memory_limits.md"
MIB, GIB = 2**20, 2**30


def test_every_window_is_a_part_of_the_time_point():
    whole = load_time_point(40)
    assert whole.shape == SHAPE and whole.dtype == np.uint16
    edges = np.sort([np.random.default_rng(0).integers(0, size + 1, (30, 2)) for size in SHAPE]).swapaxes(0, 1)
    windows = [tuple(slice(*pair) for pair in window) for window in edges.tolist()]
    for window in (*windows, np.s_[:, -100:, :], np.s_[3:3, :, :], np.s_[20:3, :, :], np.s_[:, ::1, 200:999]):
        assert np.array_equal(load_time_point(40, window), whole[window])


def test_the_recording_looks_like_cells_that_move():
    first, later = load_time_point(0), load_time_point(30)
    assert np.array_equal(first, load_time_point(0))
    assert first.min() == recording.BACKGROUND and 10_000 < first.max() < 20_000
    assert 0.01 < (first > 400).mean() < 0.1 and (first != later).mean() > 0.9
    assert 0.1 < np.corrcoef((first > 400).ravel(), (later > 400).ravel())[0, 1] < 0.9


def test_loading_takes_little_more_than_the_result():
    for window in (np.s_[:, :, :], np.s_[:, :128, :]):
        size = load_time_point(0, window).nbytes
        assert abs(measure(lambda window=window: load_time_point(0, window).max()).peak - size) < 3 * MIB


@pytest.mark.parametrize("rows", [512, 64])
def test_the_lazy_recording(rows):
    movie = open_recording(rows)
    assert movie.shape == (FRAMES, *SHAPE) and movie.dtype == np.uint16 and movie.chunksize == (1, 25, rows, 256)
    assert np.array_equal(movie[7, :, 100:300].compute(), load_time_point(7)[:, 100:300])


def test_the_lesson_shows_the_function_that_0_2_measures():
    text = SOURCE.read_text(encoding="utf-8")
    code = re.search(r"^def share_of_bright\(.*?(?=^\S|^```)", text, re.M | re.S)[0]
    namespace = {"load_time_point": load_time_point}
    exec(code, namespace)
    assert namespace["share_of_bright"](3) == lesson_0.share_of_bright(3) > 0


def test_the_lesson_has_the_numbers_of_the_recording_and_of_the_checks():
    text = SOURCE.read_text(encoding="utf-8")
    assert np.array_equal(np.multiply(SHAPE, 4), (100, 2048, 1024)) and FRAMES * 50 == 3700
    assert "range(3, 43)" in text and lesson_0.TIMES == range(3, 43)
    assert "small_limit = 96 * MiB" in text and lesson_0.LIMIT_OF_MEAN == 96 * MIB
    assert "of which 10 GiB are free, and 8 cores" in text and lesson_0.FREE == 10 * GIB


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a record of short peaks")
def test_0_1_is_what_is_measured():
    assert 0.95 < measure(lambda: lesson_0.share_of_bright(0)).peak / MIB / lesson_0.PEAK < 1.07


def test_0_1_accepts_approximations(line_of):
    assert "approximately right. This is in MB" in line_of("0.1", lesson_0.PEAK * MIB / 1e6)
    assert "approximately right. This is about what one measures" in line_of("0.1", 38.6)


@for_any_seed(8)
def test_0_2_tells_which_time_points_were_added(seed):
    rng = np.random.default_rng(seed)
    first, last = sorted(rng.choice(FRAMES, 2, replace=False).tolist())
    divisor, more = rng.integers(1, 99), rng.choice([0, 1, 7])
    planes = np.zeros(SHAPE, np.float32)
    for t in range(first, last + 1):
        planes[lesson_0.ONE_PLANE] += load_time_point(t, lesson_0.ONE_PLANE) / np.float32(divisor)
    planes += more
    facts = lesson_0.recipe(range(5), planes, np.zeros(SHAPE))
    assert facts["parts"].startswith(f"time points {first} to {last}, each divided by {divisor}")
    assert (f", and {more} in each pixel" in facts["parts"]) == (more > 0)
    assert ("np.empty" in facts["parts"]) == (more > 0)
    for found in (np.sqrt(planes), planes):
        assert lesson_0.recipe(range(5), found, planes) is None


def test_0_4_the_right_ways_are_the_first_that_work():
    """From the sizes: what fits, and what would be too slow even with as many workers as fit."""
    screen, brain = 96 * 2048 * 2048 * lesson_0.BYTES_PER_PIXEL, 20_000 * 10_000 * 2_000 * lesson_0.BYTES_PER_PIXEL
    assert screen < lesson_0.FREE < brain
    assert 3700 * lesson_0.TIME_POINT > lesson_0.FREE > lesson_0.TIME_POINT
    assert lesson_0.DAYS / min(8, lesson_0.WORKERS) > 7


def added(total, times, load=load_time_point):
    for t in times:
        total += load(t)
    return total / len(times)


def running_mean_of_each_part(times):
    mean = np.zeros(SHAPE, np.float32)
    for z in range(0, SHAPE[0], 5):
        part = np.s_[z : z + 5, :, :]
        for number, t in enumerate(times, start=1):
            mean[part] += (load_time_point(t, part) - mean[part]) / number
    return mean


def mean_with_dask(times):
    movie = open_recording()
    return added(np.zeros(SHAPE, np.float32), times, lambda t: movie[t].compute(num_workers=1))


def batches_of_four(times):
    total = np.zeros(SHAPE, np.float32)
    for first in range(0, len(times), 4):
        batch = [load_time_point(t) for t in times[first : first + 4]]  # while the one before is still there
        for frame in batch:
            total += frame
    return total / len(times)


def in_threads(times):
    with ThreadPoolExecutor(2) as pool:
        parts = pool.map(lambda part: running_mean_of_each_part(part) * len(part), (times[::2], times[1::2]))
        return sum(parts) / len(times)


def with_garbage(times):
    def load(t):
        garbage = [load_time_point(t, np.s_[:2, :, :])]
        garbage.append(garbage)  # in a cycle, as a figure is
        return load_time_point(t)

    return added(np.zeros(SHAPE, np.float32), times, load)


@pytest.mark.parametrize(
    "answer", [running_mean_of_each_part, mean_with_dask, batches_of_four, in_threads, with_garbage]
)
def test_0_2_right(line_of, answer):
    assert line_of("0.2", answer).startswith("✓ Exercise 0.2: correct. 40 time points, within 96 MiB.")


def stack_of_each_part(times):
    total, stack = np.zeros(SHAPE, np.float32), np.empty((len(times), 1, *SHAPE[1:]), np.uint16)
    for z in range(SHAPE[0]):
        part = np.s_[z : z + 1, :, :]
        for pixels, t in zip(stack, times):
            pixels[:] = load_time_point(t, part)
        total[part] = stack.mean(axis=0)
    return total


def large_batches(times):
    total = 0
    for first in range(0, len(times), 4):
        batch = np.array([load_time_point(t) for t in times[first : first + 4]], float)
        total = batch.sum(axis=0) + total
    return total / len(times)


def stops_tracemalloc(times):
    tracemalloc.stop()
    return lesson_0.mean_of(times)


@pytest.mark.parametrize(
    "answer, feedback",
    [
        (stack_of_each_part, " MiB of each time point stay in memory"),
        (large_batches, "its arrays took 7 MiB when it loaded the first of 7 time points, and 132 MiB at number 5."),
        (lambda times: np.zeros((len(times) * 4, *SHAPE)), "It holds 28 of them"),
        (lambda times: np.zeros(10**15), "It loaded no time point here before."),
        (stops_tracemalloc, "your function stops tracemalloc"),
        (lambda times: [lesson_0.mean_of(times)], "a list with 1 entries, but an array of the shape of a time point"),
        (lambda times: lesson_0.mean_of(times) * (1 if len(times) < 9 else 2), "for range(3, 43) you get"),
        (lambda times: added(np.empty(SHAPE, np.float32), times), "np.empty leaves"),
        (lambda times: added(np.empty_like(load_time_point(3), float), times), "np.empty leaves"),
    ],
)
def test_0_2_mistakes(line_of, answer, feedback):
    line = line_of("0.2", answer)
    assert line.startswith("✗") and feedback in line, line
    assert recording._cells.__name__ == "_cells" and np.empty is not np.ones and not tracemalloc.is_tracing()


@pytest.mark.parametrize("place", [(0, 0, 0), (24, 511, 255), (7, 300, 20)])
def test_0_2_finds_one_wrong_pixel(line_of, place):
    wrong = np.zeros(SHAPE, np.float32)
    wrong[place] = 0.02
    line = line_of("0.2", lambda times: lesson_0.mean_of(times) + wrong)
    assert "in plane {}, row {}, column {} it is".format(*place) in line
