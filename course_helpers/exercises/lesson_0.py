"""Checks of lesson 0, "Run out of memory, on purpose"."""

import functools
import math

import numpy as np

from course_helpers.exercises._old import (
    Nearly,
    Unanswered,
    Wrong,
    array,
    check_for,
    computed,
    function,
    is_lazy,
    number,
    returned,
    shown,
)
from course_helpers.exercises.form import Parts, Value, choice, whole_number
from course_helpers.memory import measure
from course_helpers.recording import SHAPE, load_time_point

EXERCISES = {}
MIB, GIB = 2**20, 2**30
PIXELS = math.prod(SHAPE)

HELPFUL = "CEH"
# What speaks against the other ideas.
AGAINST = {
    "A": "A frees some of your 16 GiB. How many would you need?",
    "B": "B moves the limit to 64 GiB. How large is the recording?",
    "D": "D makes the files smaller, but before a pixel is processed it is unpacked.",
    "F": "F loads just as much, and more of the cores ask for memory at the same time.",
    "G": "G would have to move most of the recording to the disk and back again, and the room for that is a few GiB.",
}


@check_for(
    "0.1",
    hints=[
        "ask of each idea: how many bytes are in memory at the same time, on the computer that needs most?",
        "some ideas change the limit, some change the speed, some change what lies on disk. Which ones change how much is "
        "in memory at a time? And is it enough, for the GiB that you calculated above?",
        "three ideas work. Each of them processes a piece, keeps a small result, and forgets the piece.",
    ],
)
def what_helps(answer):
    answer = computed(answer)
    letters = "".join(answer) if isinstance(answer, (list, tuple, set)) and all_text(answer) else answer
    if not isinstance(letters, str):
        raise Wrong(f'the answer is {shown(answer)}, but the letters of all ideas that help are asked for, like "AD".')
    letters = set(letters.upper()) - set(" ,;.\"'")
    if not letters:
        raise Unanswered('no letter yet. Write all letters that help into one text, like "AD".')
    if letters - set("ABCDEFGH"):
        raise Wrong(f"the answer is {shown(answer)}, but the ideas have the letters A to H.")
    reasons = [AGAINST[letter] for letter in sorted(letters & set(AGAINST))]
    missing = len(set(HELPFUL) - letters)
    if missing and letters <= set(HELPFUL):
        raise Wrong(
            "what you chose helps. But it is not all that helps: ask of the others how much is in memory at a time."
        )
    if reasons:
        more = " And something that helps is still missing." if missing else ""
        raise Wrong(f"{' '.join(reasons)}{more}")
    return (
        "These three bound what is in memory at the same time, whatever the length of the recording. A and B move the "
        "limit a little, D saves disk, F saves time and costs memory, G replaces memory by something much slower."
    )


def all_text(values):
    return all(isinstance(value, str) for value in values)


def share_of_bright(t):
    """The function of exercise 0.2."""
    frame = load_time_point(t)
    scaled = (frame - frame.min()) / 255
    mask = scaled > 1
    return float(mask.mean())


BYTES_AT_PEAK = 2 + 2 + 8  # frame, difference, scaled
# Bytes per pixel that somebody may have counted, and what is wrong with them.
MISCOUNTED = {
    1: "is the mask alone. Larger arrays exist before it",
    2: "is the loaded time point alone. What else exists while the function works?",
    4: "holds no array of the result of the division. What kind of number does it give, and how many bytes has that?",
    5: "holds no array of the result of the division. What kind of number does it give, and how many bytes has that?",
    6: "would be right if the division gave uint16. Print (frame / 255).dtype",
    7: "counts three arrays of 2 bytes and the mask. Which dtype does the division give? Print (frame / 255).dtype",
    8: "holds one array of 8 bytes per pixel, or three smaller ones. Count all arrays that exist at the same time, with the "
    "dtype that the division gives",
    9: "lacks what the division divides: it has a place, too, while the division runs",
    10: "lacks one array. The difference in brackets has no name, but while the division runs it has a place",
    11: "counts the mask, but not the difference in brackets. Do both exist at the same time? Which of the lines needs most?",
    13: "counts the difference in brackets and the mask. Do they exist at the same time?",
    16: "counts two arrays of 8 bytes per pixel. Which dtype has the difference?",
    18: "counts two arrays of 8 bytes per pixel. Which dtype has the difference?",
    20: "counts three arrays of 8 bytes or so. Which dtypes have frame and the difference?",
}


@check_for(
    "0.2",
    hints=[
        "go through the function line by line, and write down which arrays exist while the line runs, each with its dtype. "
        "The line with the most bytes decides.",
        "uint16 minus uint16 is uint16. A whole number divided by a whole number is float64, as in divide above. The "
        "difference exists until the division is done.",
        "while the second line divides, there are frame, the difference, and the result. Add up their bytes per pixel, "
        "multiply by the number of pixels, and divide by 2**20.",
    ],
)
def predict_the_peak(answer):
    predicted = number(answer)
    if predicted <= 0:
        raise Wrong(f"the answer is {predicted:g}, but the function needs some memory.")
    bytes_per_pixel = predicted * MIB / PIXELS
    if predicted == PIXELS:
        raise Wrong("this is the number of pixels. How many bytes does each of them need, in all arrays together?")
    if predicted > 100_000:
        raise Wrong("this looks like bytes. Divide by 2**20 to get MiB.")
    if predicted in range(1, 14):
        raise Wrong(
            f"{predicted:g} looks like bytes per pixel. MiB are asked for: multiply by the number of pixels, divide by 2**20."
        )
    if abs(bytes_per_pixel / BYTES_AT_PEAK * (1e6 / MIB) - 1) < 0.005:
        raise Nearly("This is in MB, of a million bytes. In MiB, of 2**20 bytes, it is a little less.")
    if abs(bytes_per_pixel / BYTES_AT_PEAK - 1) < 0.02:
        measured = measure(functools.partial(share_of_bright, 0))
        return (
            f"{BYTES_AT_PEAK} bytes per pixel are {BYTES_AT_PEAK * PIXELS / MIB:.1f} MiB. Measured here: "
            f"{measured.peak / MIB:.1f} MiB, with "
            "what Python and the loading of the image need on their way."
        )
    if 1 < bytes_per_pixel / BYTES_AT_PEAK < 1.07:
        raise Nearly(
            "This is about what one measures, with what Python and the loading of the image need on their way. Can you "
            "also count it, array by array? That gives a little less."
        )
    nearest = min(MISCOUNTED, key=lambda count: abs(count - bytes_per_pixel))
    if abs(nearest - bytes_per_pixel) < 0.15:
        comment = MISCOUNTED[nearest]
        stop = "" if comment.endswith("?") else "."
        raise Wrong(f"{shown(answer)} MiB is {nearest} bytes per pixel. That {comment}{stop}")
    direction = "less" if bytes_per_pixel < BYTES_AT_PEAK else "more"
    raise Wrong(
        f"{shown(answer)} MiB is {bytes_per_pixel:.3g} bytes per pixel, which is {direction} than there is at the peak. "
        "Which arrays exist at the same time, and how many bytes per pixel has each?"
    )


FREE, BYTES_PER_PIXEL = 10 * GIB, 7
TIME_POINT = 1024 * 2048 * 100 * BYTES_PER_PIXEL
WORKERS, DAYS = FREE // TIME_POINT, 3700 * 40 / 60 / 24  # days of one core

TOO_MUCH = "all at once is more than the free memory. How many GiB are all pixels, times 7 bytes?"
ONE_IMAGE = "how many GiB does a single image take while it is processed?"


def earlier(way):
    return f"an earlier one of the ways works as well as {way}. Calculate the GiB of the others."


def way(right, **mistakes):
    """A part of the answer: the letter of the first way that works, and what is said to the other letters."""
    return Value(
        right=right, reads=choice("A", "B", "C", "D"), mistakes={says: letter for letter, says in mistakes.items()}
    )


EXERCISES["0.3"] = Parts(
    parts={
        "screen": way("A", B=earlier("one after the other"), C=earlier("tile by tile"), D=earlier("several computers")),
        "recording": way("B", A=TOO_MUCH, C=earlier("tile by tile"), D=earlier("several computers")),
        "brain": way(
            "C",
            A=TOO_MUCH,
            B=ONE_IMAGE,
            D="one image cannot be shared out image by image. Is there a way that works on this laptop?",
        ),
        "deadline": way(
            "D",
            A=TOO_MUCH,
            B="memory is not what is short here. With as many workers as fit, how many days does it take?",
            C="tiles need less memory, and as much time. With as many workers as fit, how many days does it take?",
        ),
        "workers": Value(
            right=WORKERS,
            reads=whole_number,
            mistakes={
                "this is one more than fits: round down. (Or did you take the number of cores?)": WORKERS + 1,
                "so many fit if time points are loaded only. Processing takes 7 bytes per pixel.": (
                    FREE // (TIME_POINT * 2 // BYTES_PER_PIXEL)
                ),
                "so many would fit into 16 GiB. How much of it is free?": 16 * GIB // TIME_POINT,
                "so many fit into 10 GB, of a million kB. A GiB is 2**30 bytes.": 10**10 // TIME_POINT,
                "these are too few: the 2 bytes of the loaded pixel are part of the 7.": (
                    FREE // (TIME_POINT * 9 // BYTES_PER_PIXEL)
                ),
                "this would be so with one byte per pixel. Processing takes 7.": FREE
                // (TIME_POINT // BYTES_PER_PIXEL),
                "one time point fits, and more than one.": 1,
            },
            otherwise=lambda found, expected: (
                f"{'more' if found > expected else 'fewer'} than fit into the free memory. How much does one time point need?"
            ),
        ),
    },
    praise=f"A time point needs {TIME_POINT / GIB:.2f} GiB, so {WORKERS} of them fit. The deadline takes {DAYS:.0f} days of one "
    f"core: {DAYS / WORKERS:.1f} days with the workers that fit, and {DAYS / 8:.1f} days with all 8 cores, if there were the "
    "memory for them.",
    also_right=(("a", " b", "c ", "D", 7.0),),
    hints=[
        "calculate for each task: pixels times 7 bytes, for all images and for a single one. Compare with 10 GiB.",
        "screen: do all images fit at once? recording: does one time point fit? brain: does one image fit? deadline: how many "
        "days do 3700 times 40 minutes take, shared among as many workers as fit?",
        "workers: divide the free memory by what one time point needs while it is processed, and round down: a part of a "
        "worker does not work.",
    ],
)


LIMIT_OF_MEAN, TIMES = 64 * MIB, range(3, 43)


@functools.cache
def true_mean():
    """The mean of the time points of exercise 0.4."""
    total = np.zeros(SHAPE)
    for t in TIMES:
        total += load_time_point(t)
    return total / len(TIMES)


def work_of(answer, times):
    """What runs in the other process: the learner's function; a plan of dask's is not sent back."""
    result = answer(times)
    return "lazy" if is_lazy(result) else result


@check_for(
    "0.4",
    hints=[
        "a mean is a sum divided by a number. What do you have to keep of a time point once it is added to the sum?",
        "begin with an array of zeros with the shape of a time point, and add one time point after the other in a loop. "
        "Which dtype can hold the sum of forty pixels of up to 12,000?",
        "total = np.zeros(SHAPE, np.float32), then for t in times: total += load_time_point(t), and after the loop "
        "return total / len(times).",
    ],
)
def make_it_fit(answer):
    function(answer)
    try:
        run = measure(functools.partial(work_of, answer, TIMES), LIMIT_OF_MEAN)
    except (TypeError, RuntimeError) as error:
        raise Wrong(f"your function could not be run in a process of its own: {error}.") from None
    if run.died:
        raise Wrong(why_it_died(answer, run))
    if isinstance(run.result, str) and run.result == "lazy":
        raise Wrong("your function returns a plan of dask's, nothing is computed yet. Call .compute() on it.")
    compare_means(array(returned(answer, run.result, str(TIMES)), shape=SHAPE))
    few = range(5)
    if np.abs(np.asarray(answer(few)) - np.mean([load_time_point(t) for t in few], axis=0)).max() > 0.01:
        raise Wrong(
            f"for {TIMES} your function is right, but not for {few}. Does it divide by the number of its times?"
        )
    return f"{len(TIMES)} time points, within {LIMIT_OF_MEAN // MIB} MiB. A thousand would need no more."


def why_it_died(answer, run):
    """A sentence on a function that did not reach the end."""
    limit = f"{LIMIT_OF_MEAN // MIB} MiB"
    if not run.died.startswith(("killed, because", "MemoryError")) and "_ArrayMemoryError" not in run.died:
        return f"called with {TIMES}, your function does not come to its end: {run.died[:200]}."
    if {"open_recording", "compute"} & set(getattr(getattr(answer, "__code__", None), "co_names", ())):
        return (
            f"your function died: it used more than {limit}. For a mean over time, dask keeps partial results of many chunks, "
            "with one worker as well. Add up one time point after the other with load_time_point."
        )
    few, more = (measure(functools.partial(work_of, answer, TIMES[:count]), 8 * LIMIT_OF_MEAN) for count in (4, 20))
    growth = (more.peak - few.peak) / 16 / (2 * PIXELS)
    if few.died or more.died or growth > 0.12:
        return (
            f"your function died: it used more than {limit}. It keeps more, the more time points it gets. What has to be kept "
            "of a time point that is added already?"
        )
    return (
        f"your function died: it used more than {limit}, although it does not keep more if it gets more time points. Which "
        "arrays exist at the same time, with which dtypes?"
    )


def compare_means(values):
    """Wrong with the reason if this is not the mean of the time points."""
    right = true_mean()
    if not np.isfinite(values).all():
        raise Wrong("the result holds values that are no finite numbers.")
    if np.abs(values - right).max() <= 0.01:
        return
    total = right * len(TIMES)
    for mistake, wrong in {
        "is the sum of the time points, not yet divided by their number": total,
        "comes from a sum that overflowed: uint16 holds numbers up to 65535 only. Add up in float32": (
            np.round(total) % 65536 / len(TIMES)
        ),
        "is rounded to whole numbers. The mean has decimals": np.floor(right),
        "lacks the first time point of times": (total - load_time_point(TIMES[0])) / (len(TIMES) - 1),
        "lacks the last time point of times": (total - load_time_point(TIMES[-1])) / (len(TIMES) - 1),
        "is divided by one too many": total / (len(TIMES) + 1),
        "is divided by one too few": total / (len(TIMES) - 1),
    }.items():
        if np.allclose(values, wrong, rtol=1e-4, atol=0.02) or (
            "rounded" in mistake and np.abs(values - right).max() <= 1.0
        ):
            raise Wrong(f"your result {mistake}.")
    if np.allclose(values, load_time_point(TIMES[-1])):
        raise Wrong("your result is the last time point alone. Does the loop add to what was there before?")
    raise Wrong(
        f"your result differs from the mean by up to {np.abs(values - right).max():.4g} grey values. Does it use every time "
        f"point of {TIMES} once, all with the same weight, and without rounding?"
    )
