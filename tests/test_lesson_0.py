"""The exercises of lesson 0: stub, solution, typical mistakes, hostile answers; and the recording that it measures with."""

import os
import re
import sys
import threading
import types
from pathlib import Path

import dask.array as da
import numpy as np
import pytest

from course_helpers import recording
from course_helpers.exercises import lesson_0
from course_helpers.lazy_recording import open_recording
from course_helpers.memory import measure
from course_helpers.recording import FRAMES, SHAPE, load_time_point

SOURCE = Path(__file__).parents[1] / "notebooks" / "source" / "00_memory_limits.md"
PIXELS = 25 * 512 * 256
MIB, GIB = 2**20, 2**30
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a record of short peaks")


@pytest.fixture(scope="module", autouse=True)
def as_in_a_notebook():
    """Other processes get the functions themselves, as those of a notebook, and need not import this module."""
    for function in list(globals().values()):
        if isinstance(function, types.FunctionType) and function.__module__ == __name__:
            function.__module__ = "__main__"


def mib(bytes_per_pixel):
    return PIXELS * bytes_per_pixel / MIB


# The recording


def test_every_window_is_a_part_of_the_time_point():
    whole = load_time_point(40)
    assert whole.shape == SHAPE and whole.dtype == np.uint16
    random = np.random.default_rng(0)
    for _ in range(30):
        window = tuple(slice(*sorted(random.integers(0, size + 1, 2).tolist())) for size in SHAPE)
        assert np.array_equal(load_time_point(40, window), whole[window])
    for window in (np.s_[:, -100:, :], np.s_[3:3, :, :], np.s_[20:3, :, :], np.s_[:, :, 200:999]):
        assert np.array_equal(load_time_point(40, window), whole[window])


def test_the_recording_looks_like_cells_that_move():
    first, later = load_time_point(0), load_time_point(30)
    assert np.array_equal(first, load_time_point(0))
    assert first.min() == recording.BACKGROUND and 10_000 < first.max() < 20_000
    assert 0.01 < (first > 400).mean() < 0.1 and (first != later).mean() > 0.9
    assert 0.1 < np.corrcoef((first > 400).ravel(), (later > 400).ravel())[0, 1] < 0.9


def test_the_model_is_as_much_smaller_as_the_lesson_says():
    assert np.array_equal(np.multiply(SHAPE, 4), (100, 2048, 1024)) and FRAMES * 50 == 3700


def test_loading_takes_little_more_than_the_result():
    for window in (np.s_[:, :, :], np.s_[:, :128, :]):
        size = load_time_point(0, window).nbytes
        assert abs(measure(lambda window=window: load_time_point(0, window).max()).peak - size) < 3 * MIB


@pytest.mark.parametrize("t", [-1, FRAMES, 0.5, None])
def test_no_such_time_point(t):
    with pytest.raises((TypeError, ValueError), match="t is .*, but must be a whole number from 0 to 73"):
        load_time_point(t)


@pytest.mark.parametrize("window", [np.s_[:, :], (0, 0, 0), np.s_[::2, :, :], np.s_[:, :, ::-1]])
def test_no_such_window(window):
    with pytest.raises(ValueError, match="window is .*, but must be 3 slices with step 1"):
        load_time_point(0, window)


@pytest.mark.parametrize("rows", [512, 64])
def test_the_lazy_recording(rows):
    movie = open_recording(rows)
    assert movie.shape == (FRAMES, *SHAPE) and movie.dtype == np.uint16 and movie.chunksize == (1, 25, rows, 256)
    assert np.array_equal(movie[7, :, 100:300].compute(), load_time_point(7)[:, 100:300])


@pytest.mark.parametrize("rows", [0, 100, 1024, 2.5, "all"])
def test_no_such_chunks(rows):
    with pytest.raises(ValueError, match="rows is .*, but must be a number that divides 512"):
        open_recording(rows)


# The lesson


def test_the_lesson_shows_the_function_of_the_check():
    text = SOURCE.read_text(encoding="utf-8")
    code = re.search(r"^def share_of_bright\(.*?(?=^\S|^```)", text, re.M | re.S)[0]
    namespace = {"load_time_point": load_time_point}
    exec(code, namespace)
    assert namespace["share_of_bright"](3) == lesson_0.share_of_bright(3) > 0


def test_the_lesson_has_the_numbers_of_the_checks():
    text = SOURCE.read_text(encoding="utf-8")
    assert "range(3, 43)" in text and lesson_0.TIMES == range(3, 43)
    assert "small_limit = 64 * MiB" in text and lesson_0.LIMIT_OF_MEAN == 64 * MIB
    assert "of which 10 GiB are free, and 8 cores" in text and lesson_0.FREE == 10 * GIB


# 0.1


@pytest.mark.parametrize("answer", ["CEH", "hec", "C, E, H", ["C", "E", "H"], {"H", "C", "E"}, " c e h "])
def test_0_1_right(line_of, answer):
    assert line_of("0.1", answer).startswith("✓ Exercise 0.1: correct. These three bound what is in memory")


@pytest.mark.parametrize(
    "answer, feedback",
    [
        ("ACEH", "✗ Exercise 0.1: A frees some of your 16 GiB."),
        ("BCEH", "B moves the limit to 64 GiB."),
        ("CDEH", "before a pixel is processed it is unpacked"),
        ("CEFH", "more of the cores ask for memory at the same time"),
        ("CEGH", "the room for that is a few GiB"),
        ("AB", "How large is the recording? And something that helps is still missing."),
        ("ABCDEFGH", "A frees some"),
        ("CE", "what you chose helps. But it is not all that helps"),
        ("H", "it is not all that helps"),
        ("X", "have the letters A to H"),
        ("tiles", "have the letters A to H"),
        (3, "the letters of all ideas that help are asked for"),
        (["C", 5], "the letters of all ideas"),
        (None, "the answer is None"),
    ],
)
def test_0_1_mistakes(line_of, answer, feedback):
    line = line_of("0.1", answer)
    assert line.startswith("✗") and feedback in line


def test_0_1_every_wrong_idea_is_answered(line_of):
    assert set(lesson_0.AGAINST) | set(lesson_0.HELPFUL) == set("ABCDEFGH")
    line = line_of("0.1", "ABDFG")
    assert all(f" {letter} " in line for letter in "ABDFG") and not any(f" {letter} " in line for letter in "CEH")


@pytest.mark.parametrize("answer", [..., "", "  ", []])
def test_0_1_unanswered(line_of, answer):
    assert line_of("0.1", answer).startswith("○")


def test_0_1_hostile(line_of, hostile):
    assert line_of("0.1", hostile)[0] in "✗○"


# 0.2


def test_0_2_right(line_of):
    line = line_of("0.2", mib(12))
    assert line.startswith("✓ Exercise 0.2: correct. 12 bytes per pixel are 37.5 MiB. Measured here: ")
    assert line_of("0.2", np.float64(37.6)).startswith("✓")
    assert line_of("0.2", 37).startswith("✓ Exercise 0.2: correct. 12 bytes per pixel are 37.5 MiB.")


@linux
def test_0_2_is_what_is_measured(line_of):
    peak = measure(lambda: lesson_0.share_of_bright(0)).peak
    assert 0.95 < peak / (12 * PIXELS) < 1.1
    measured = re.search(r"Measured here: ([\d.]+) MiB", line_of("0.2", 37.5))
    assert 0.95 < float(measured[1]) / 37.5 < 1.1


def test_0_2_megabytes(line_of):
    assert line_of("0.2", PIXELS * 12 / 1e6).startswith("✓ Exercise 0.2: approximately right. This is in MB")


@linux
def test_0_2_measured_instead_of_counted(line_of):
    peak = measure(lambda: lesson_0.share_of_bright(0)).peak
    assert line_of("0.2", peak / MIB).startswith("✓ Exercise 0.2: ")
    for answer in (38.6, 39.9):
        assert line_of("0.2", answer).startswith("✓ Exercise 0.2: approximately right. This is about what one measures")


def test_0_2_unanswered(line_of):
    assert line_of("0.2", ...).startswith("○")


@pytest.mark.parametrize(
    "answer, feedback",
    [
        (PIXELS * 12, "this looks like bytes"),
        (PIXELS * 11, "this looks like bytes"),
        (12, "12 looks like bytes per pixel"),
        (7.0, "7 looks like bytes per pixel"),
        (PIXELS, "this is the number of pixels"),
        (PIXELS / MIB, "the mask alone"),
        (mib(2), "the loaded time point alone"),
        (mib(4), "no array of the result of the division"),
        (mib(5), "no array of the result of the division"),
        (mib(6), "if the division gave uint16"),
        (mib(7), "three arrays of 2 bytes and the mask"),
        (mib(8), "Count all arrays that exist at the same time"),
        (mib(9), "what the division divides"),
        (mib(10), "The difference in brackets has no name"),
        (mib(11), "but not the difference in brackets"),
        (mib(13), "Do they exist at the same time?"),
        (mib(16), "Which dtype has the difference?"),
        (mib(18), "Which dtype has the difference?"),
        (mib(20), "Which dtypes have frame and the difference?"),
        (30.0, "9.6 bytes per pixel, which is less than there is at the peak"),
        (100, "32 bytes per pixel, which is more than there is at the peak"),
        (0, "needs some memory"),
        (-37.5, "needs some memory"),
        ("37.5", "one number is asked for"),
        (None, "the answer is None"),
    ],
)
def test_0_2_mistakes(line_of, answer, feedback):
    line = line_of("0.2", answer)
    assert line.startswith("✗") and feedback in line and "?." not in line
    assert answer == 12 or " 12 " not in line


def test_0_2_hostile(line_of, hostile):
    assert line_of("0.2", hostile)[0] in "✗○"


# 0.3

RIGHT = {"screen": "A", "recording": "B", "brain": "C", "deadline": "D", "workers": 7}


def test_0_3_the_right_ways_are_the_first_that_work():
    """From the sizes: what fits, and what would be too slow even with as many workers as fit."""
    screen, brain = 96 * 2048 * 2048 * lesson_0.BYTES_PER_PIXEL, 20_000 * 10_000 * 2_000 * lesson_0.BYTES_PER_PIXEL
    assert screen < lesson_0.FREE
    assert 3700 * lesson_0.TIME_POINT > lesson_0.FREE > lesson_0.TIME_POINT
    assert brain > lesson_0.FREE
    assert lesson_0.DAYS / min(8, lesson_0.WORKERS) > 7


# 0.4


def mean_image(times):
    total = np.zeros(SHAPE, np.float32)
    for t in times:
        total += load_time_point(t)
    return total / len(times)


def mean_in_float64(times):
    total = np.zeros(SHAPE)
    for t in times:
        total = total + load_time_point(t)
    return total / len(times)


def running_mean(times):
    mean = np.zeros(SHAPE, np.float32)
    for number, t in enumerate(times, start=1):
        mean += (load_time_point(t) - mean) / number
    return mean


def mean_by_planes(times):
    planes = [np.s_[z : z + 1, :, :] for z in range(SHAPE[0])]
    return np.concatenate(
        [np.mean([load_time_point(t, plane) for t in times], axis=0, dtype=np.float32) for plane in planes]
    )


def mean_by_dask(times):
    part = open_recording(64)[times.start : times.stop]
    return part.mean(axis=0, dtype=np.float32, split_every=4).compute(num_workers=1)


@pytest.mark.parametrize("answer", [mean_image, mean_in_float64, running_mean, mean_by_planes, mean_by_dask])
def test_0_4_right(line_of, answer):
    line = line_of("0.4", answer)
    assert line == "✓ Exercise 0.4: correct. 40 time points, within 64 MiB. A thousand would need no more.\n"


def failing_mean(times):
    frames = [load_time_point(t) for t in times]
    return np.mean(frames, axis=0)


def summed_list(times):
    return sum([load_time_point(t).astype(np.float32) for t in times]) / len(times)


def mean_of_halves(times):
    half = len(times) // 2
    return sum(np.mean([load_time_point(t) for t in part], axis=0) for part in (times[:half], times[half:])) / 2


def dask_mean(times):
    return open_recording()[times.start : times.stop].mean(axis=0).compute(num_workers=1)


def weighted(times):
    mean = np.zeros(SHAPE, np.float32)
    for t in times:
        mean += load_time_point(t)
        mean /= 2
    return mean


def lazy_sum(times):
    return open_recording()[times.start : times.stop].mean(axis=0)


def too_many_copies(times):
    total = np.zeros(SHAPE)
    for t in times:
        frame = load_time_point(t).astype(float)
        total = total + frame
    return total / len(times)


def overflowing(times):
    total = np.zeros(SHAPE, np.uint16)
    for t in times:
        total += load_time_point(t)
    return total / len(times)


def raises(times):
    return times.nothing


def crashes(times):
    os._exit(4)


def no_return(times):
    mean_image(times)


def changed(**changes):
    """The right answer with something wrong in it."""

    def answer(times):
        used = changes.get("times", lambda times: times)(times)
        result = mean_image(used)
        return changes.get("result", lambda result, times: result)(result, times)

    return answer


@pytest.mark.parametrize(
    "answer, feedback",
    [
        (failing_mean, "it used more than 64 MiB. It keeps more, the more time points it gets."),
        (summed_list, "It keeps more, the more time points it gets"),
        (mean_of_halves, "It keeps more, the more time points it gets"),
        (dask_mean, "dask keeps partial results of many chunks"),
        (too_many_copies, "although it does not keep more if it gets more time points"),
        (changed(result=lambda mean, times: mean * len(times) / 40), "is right, but not for range(0, 5)"),
        (weighted, "all with the same weight, and without rounding?"),
        (lazy_sum, "Call .compute() on it"),
        (overflowing, "a sum that overflowed: uint16 holds numbers up to 65535 only"),
        (raises, "your function does not come to its end: AttributeError"),
        (crashes, "ended its process with exit code 4"),
        (no_return, "Does every way through it end with return?"),
        (lambda: 1, "your function does not come to its end: TypeError"),
        (
            lambda times, lock=threading.Lock(): mean_image(times),
            "could not be run in a process of its own: work cannot be sent",
        ),
        (changed(result=lambda mean, times: mean * len(times)), "is the sum of the time points"),
        (changed(result=lambda mean, times: np.round(mean).astype(int)), "is rounded to whole numbers"),
        (changed(result=lambda mean, times: mean // 1), "is rounded to whole numbers"),
        (changed(times=lambda times: times[1:]), "lacks the first time point"),
        (changed(times=lambda times: times[:-1]), "lacks the last time point"),
        (changed(result=lambda mean, times: mean * len(times) / (len(times) + 1)), "divided by one too many"),
        (changed(result=lambda mean, times: mean * len(times) / (len(times) - 1)), "divided by one too few"),
        (changed(times=lambda times: times[-1:]), "is the last time point alone"),
        (changed(times=lambda times: range(40)), "differs from the mean by up to"),
        (changed(result=lambda mean, times: mean[0]), "has shape (512, 256), but (25, 512, 256)"),
        (changed(result=lambda mean, times: mean * np.nan), "no finite numbers"),
        (changed(result=lambda mean, times: "done"), "an array of numbers is asked for"),
        (7, "a function is asked for"),
        (None, "a function is asked for"),
    ],
)
def test_0_4_mistakes(line_of, answer, feedback):
    line = line_of("0.4", answer)
    assert line.startswith("✗") and feedback in line, line


def not_written(times): ...


def test_0_4_unanswered(line_of):
    assert line_of("0.4", ...).startswith("○")
    assert line_of("0.4", not_written).startswith("○")


def test_0_4_hostile(line_of, hostile):
    assert line_of("0.4", hostile)[0] in "✗○"


def test_0_4_dask_arrays_are_known():
    assert lesson_0.work_of(lambda times: da.zeros(3), range(2)) == "lazy"
    assert lesson_0.work_of(lambda times: None, range(2)) is None
