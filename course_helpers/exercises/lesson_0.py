"""Exercises of lesson 0, "Run out of memory, on purpose"."""

import functools
import gc
import math
import operator
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np

from course_helpers import recording
from course_helpers.exercises.form import (
    Checked,
    Parts,
    Value,
    array,
    choice,
    is_function,
    letters,
    number,
    read,
    seen,
    told,
    whole_number,
)
from course_helpers.exercises.running import Raised, Unanswered, Wrong, about_notebook, begin, call, names_used, silence
from course_helpers.memory import measure
from course_helpers.recording import FRAMES, SHAPE, load_time_point

EXERCISES = {}
MIB, GIB = 2**20, 2**30
PIXELS = math.prod(SHAPE)

# --- 0.3: what helps? ---

HELPFUL = "CEH"
AGAINST = {
    "A": "A frees some of your 16 GiB. How many would you need?",
    "B": "B moves the limit to 64 GiB. How large is the recording?",
    "D": "D makes the files smaller, but before a pixel is processed it is unpacked.",
    "F": "F loads just as much, and more of the cores ask for memory at the same time.",
    "G": "G would have to move most of the recording to the disk and back again, and the room for that is a few GiB.",
}


def what_speaks_against(found):
    """The reasons against all letters that do not help, and whether one that helps is missing."""
    reasons = " ".join(AGAINST[letter] for letter in found if letter in AGAINST)
    return reasons + " And something that helps is still missing." * bool(set(HELPFUL) - set(found))


EXERCISES["0.3"] = Value(
    right=HELPFUL,
    reads=letters("ABCDEFGH"),
    mistakes={
        "these are those that do not help. Ask of each how much is in memory at a time.": "".join(AGAINST),
        "these are all of them. Some leave as much in memory at a time as there was.": "ABCDEFGH",
        **{says: "".join(sorted(HELPFUL + letter)) for letter, says in AGAINST.items()},
        "{found}: right so far, and {missing} missing. Ask of the others how much is in memory at a time, on each computer.": seen(
            "CE", lambda found: set(found) < set(HELPFUL) and {"missing": (0, "one is", "two are")[3 - len(found)]}
        ),
    },
    otherwise=what_speaks_against,
    also_right=(
        "hec",
        "C, E, H",
        ["C", "E", "H"],
        {"H", "C", "E"},
        " c e h ",
        np.array(["C", "E", "H"]),
        "C/E\nand H!",
    ),
    praise="These three bound what is in memory at the same time, whatever the length of the recording. A and B move the "
    "limit a little, D saves disk, F saves time and costs memory, G replaces memory by something much slower.",
    hints=[
        "ask of each idea: how many bytes are in memory at the same time, on the computer that needs most?",
        "some ideas change the limit, some change the speed, some change what lies on disk. Which ones change how much is "
        "in memory at a time? And is it enough, for the GiB that you calculated above?",
        "three ideas work. Each of them processes a piece, keeps a small result, and forgets the piece.",
    ],
)


# --- 0.1: predict a peak ---


def share_of_bright(t):
    """The function of the exercise, which the praise measures."""
    frame = load_time_point(t)
    scaled = (frame - frame.min()) / 255
    mask = scaled > 1
    return float(mask.mean())


BYTES_AT_PEAK = 2 + 2 + 8  # frame, difference, scaled
PEAK = BYTES_AT_PEAK * PIXELS / MIB
MISCOUNTED = {  # bytes per pixel that somebody may have counted, and what is wrong with them
    1: "is the mask alone. Larger arrays exist before it.",
    2: "is the loaded time point alone. What else exists while the function works?",
    4: "is less than the result of the division alone. Which dtype has it? Print (frame / 255).dtype.",
    6: "fits three arrays of uint16, or frame and float32, but the division gives neither. Print (frame / 255).dtype.",
    8: "fits scaled alone, or frame, the difference and float32. Print (frame / 255).dtype, and count all that exists with it.",
    10: "lacks one array. The difference in brackets has no name, but while the division runs it has a place.",
    11: "counts the mask, but not the difference in brackets. Do both exist at the same time? Which of the lines needs most?",
    13: "counts the difference in brackets and the mask. Do they exist at the same time?",
    16: "has room for two arrays of 8 bytes. Only one array is float64: print the dtype of frame - frame.min().",
    24: "has room for three arrays of 8 bytes. Or did you multiply frame.nbytes, which holds the 2 bytes of each pixel already?",
}


def mib(bytes_per_pixel):
    return bytes_per_pixel * PIXELS / MIB


def close(found, wanted):
    """Whether a prediction is this number of MiB, or a rounded one; or lies between two."""
    off = 0.5 if found > 20 and found == int(found) else 0.06
    low, high = wanted if isinstance(wanted, tuple) else (wanted - off, wanted + off)
    return low < found <= high


def in_millions(found):
    """The bytes per pixel that somebody counted who divided by a million."""
    count = next((count for count in range(1, 36) if close(found, count * PIXELS / 1e6)), None)
    return count and {"count": count}


def bytes_per_pixel_instead(found):
    return f"{found:.5g} MiB are {found / mib(1):.4g} bytes per pixel"


def less_or_more(found):
    return (
        f"{bytes_per_pixel_instead(found)}, which is {'less' if found < PEAK else 'more'} than there is at the peak. Which "
        "arrays exist at the same time, and which dtype has each? Print (frame - frame.min()).dtype and (frame / 255).dtype."
    )


def praise_of_peak():
    begin("measuring the function")
    measured = measure(functools.partial(share_of_bright, 0)).peak / MIB
    return (
        f"{BYTES_AT_PEAK} bytes per pixel are {PEAK:.1f} MiB. Measured here: {measured:.1f} MiB, with what Python and the "
        "loading of the image need on their way."
    )


EXERCISES["0.1"] = Value(
    right=(0.98 * PEAK, 1.02 * PEAK),
    reads=number,
    same=close,
    seconds=60,  # where a process takes long to start
    nearly={
        "This is in MB, of a million bytes. In MiB, of 2**20 bytes, it is a little less.": (
            0.995 * BYTES_AT_PEAK * PIXELS / 1e6,
            1.005 * BYTES_AT_PEAK * PIXELS / 1e6,
        ),
        "This is about what one measures, with what Python and the loading of the image need on their way. Can you also "
        "count it, array by array? That gives a little less.": (1.02 * PEAK, 1.05 * PEAK),
    },
    mistakes={
        **{
            f"{{found:.5g}} MiB are {count} byte{'s' * (count > 1)} per pixel. That {says}": mib(count)
            for count, says in MISCOUNTED.items()
        },
        "this is the number of pixels. How many bytes does each of them need, in all arrays together?": PIXELS,
        "this looks like bits. A byte has 8 of them.": 8 * PEAK,
        "so much would a time point of the real recording need, which is 64 times as large as this one.": 64 * PEAK,
        "so much would all time points together need. The function has one.": FRAMES * PEAK,
        "the answer is {found:g}, but the function needs some memory.": seen(0, lambda found: found <= 0),
        "{found:g} looks like bytes per pixel. MiB are asked for: multiply by the number of pixels, divide by 2**20.": seen(
            BYTES_AT_PEAK, lambda found: found in range(1, 22)
        ),
        "{found:.5g} would be {count} bytes per pixel in MB, of a million bytes. Divide by 2**20, and count once more.": seen(
            11 * PIXELS / 1e6, in_millions
        ),
        "this looks like GB or GiB. MiB are asked for, of 2**20 bytes.": seen(PEAK / 1024, lambda found: found < 0.1),
        "this looks like kB or KiB. MiB are asked for, of 2**20 bytes.": seen(
            PEAK * 1024, lambda found: 3000 < found <= 100_000
        ),
        "this looks like bytes. Divide by 2**20 to get MiB.": seen(11 * PIXELS, lambda found: found > 100_000),
    },
    otherwise=less_or_more,
    praise=praise_of_peak,
    also_right=(37, 38, np.float64(37.6), np.array([37.5])),
    hints=[
        "go through the function line by line, and write down which arrays exist while the line runs, each with its dtype. "
        "The line with the most bytes decides.",
        "uint16 minus uint16 is uint16. A whole number divided by a whole number is float64, as in divide above. The "
        "difference exists until the division is done.",
        "while the second line divides, there are frame, the difference, and the result. Add up their bytes per pixel, "
        "multiply by the number of pixels, and divide by 2**20.",
    ],
)


# --- 0.4: choose a strategy ---

FREE, BYTES_PER_PIXEL = 10 * GIB, 7
TIME_POINT = 1024 * 2048 * 100 * BYTES_PER_PIXEL
WORKERS, DAYS = FREE // TIME_POINT, 3700 * 40 / 60 / 24  # days of one core

SCREEN, ALL_TIME_POINTS, BRAIN = (
    size * BYTES_PER_PIXEL / GIB for size in (96 * 2048 * 2048, 3700 * 1024 * 2048 * 100, 20_000 * 10_000 * 2_000)
)
TOO_MUCH = f"all at once these take {ALL_TIME_POINTS:,.0f} GiB, and 10 are free."


def earlier(way, fits):
    return f"{fits}, so an earlier one of the ways works as well as {way}."


def take(count):
    return f"{count} take {count * TIME_POINT / GIB:,.1f} GiB"


def way(right, **mistakes):
    """A part of the answer: the letter of the first way that works, and what is said to the other letters."""
    return Value(
        right=right, reads=choice("A", "B", "C", "D"), mistakes={says: letter for letter, says in mistakes.items()}
    )


WAYS = {"B": "one after the other", "C": "tile by tile", "D": "several computers"}
EXERCISES["0.4"] = Parts(
    parts={
        "screen": way(
            "A", **{letter: earlier(name, f"all at once take {SCREEN:.1f} GiB") for letter, name in WAYS.items()}
        ),
        "recording": way(
            "B",
            A=TOO_MUCH,
            C=earlier("tile by tile", f"one time point takes {TIME_POINT / GIB:.1f} GiB"),
            D=earlier("several computers", f"one time point takes {TIME_POINT / GIB:.1f} GiB"),
        ),
        "brain": way(
            "C",
            A=f"all of it at once takes {BRAIN:,.0f} GiB, and 10 are free.",
            B=f"there is a single image, and it takes {BRAIN:,.0f} GiB.",
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
                f"{take(WORKERS + 1)}, one more than fits: round down. That there is a core for it does not help.": WORKERS
                + 1,
                "so many fit if time points are loaded only. Processing takes 7 bytes per pixel.": FREE
                * 7
                // (TIME_POINT * 2),
                "so many fit with 4 bytes per pixel. Processing takes 7.": FREE * 7 // (TIME_POINT * 4),
                "so many fit with one byte per pixel. Processing takes 7.": FREE * 7 // TIME_POINT,
                "so many fit with 14 bytes per pixel. The 2 bytes of a loaded pixel are part of the 7.": FREE
                // (TIME_POINT * 2),
                "so many would fit into 16 GiB, if time points were loaded only. Processing takes 7 bytes per pixel, and 10 "
                "GiB are free.": 16 * GIB * 7 // (TIME_POINT * 2),
                "so many would fit into 16 GiB. How much of it is free?": 16 * GIB // TIME_POINT,
                "so many would fit into the 6 GiB that are not free.": 6 * GIB // TIME_POINT,
                f"{take(6)}. Is there room for one more? (A GiB is 2**30 bytes: with 10 GB, of 10**9, one gets 6.)": 6,
                f"{take(5)}, and more fit. (The 2 bytes of a loaded pixel are part of the 7: with 9, one gets 5.)": 5,
                "one time point fits, and more than one.": seen(1, lambda found: found <= 1),
            },
            otherwise=lambda found, expected: (
                f"{take(found)}, {'which is more than the 10 that are free' if found > expected else 'and more fit'}."
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


# --- 0.2: make it fit ---

LIMIT_OF_MEAN = 64 * MIB
FEW, MORE, TIMES = range(60, 67), range(23, 43), range(3, 43)
LEFTOVER = 99  # what np.empty holds while a function is measured
ALL, SOME_PLANES, ONE_PLANE = np.s_[:, :, :], np.s_[10:13, :, :], np.s_[12:13, :, :]  # a part is compared faster


def mean_of(times, window=ALL, use=np.s_[:], dtype=np.float64, each=np.asarray, after=np.asarray):
    """The mean of time points; with another argument a wrong one."""
    total = np.zeros([len(range(*part.indices(size))) for part, size in zip(window, SHAPE)], dtype)
    for t in times[use]:
        total += each(load_time_point(t, window))
    return after(total / len(times))


WRONG_MEANS = {
    says: functools.partial(mean_of, **arguments)
    for says, arguments in {
        "the sum has overflowed: uint16 holds numbers up to 65535 only.": {"dtype": np.uint16},
        "the sum has overflowed: uint8 holds numbers up to 255 only.": {"dtype": np.uint8},
        "the sum has overflowed: int16 holds numbers up to 32767 only.": {"dtype": np.int16},
        "float16 keeps three digits only, and ends at 65504.": {"dtype": np.float16},
        "your time points overflow: uint8 holds numbers up to 255 only.": {"each": np.uint8},
        "this is rounded down. The mean has decimals.": {"dtype": np.float32, "after": np.floor},
        "this is rounded. The mean has decimals.": {"dtype": np.float32, "after": np.round},
        "each time point is rounded down when it is divided. The mean has decimals.": {
            "each": lambda frame: frame // len(FEW) * len(FEW)
        },
    }.items()
}


@functools.cache
def known_planes():
    """Some pixels of one plane of all time points, and 1, in columns."""
    planes = (load_time_point(t, ONE_PLANE)[0, ::8].ravel() for t in range(FRAMES))
    return np.column_stack([*planes, np.ones(PIXELS // SHAPE[0] // 8)])


def recipe(plane):
    """What was added up to this plane, in words, if it is a sum of time points, each with any factor; None if it is not."""
    found = plane[0, ::8].ravel().astype(float)
    if not np.isfinite(found).all():
        return None
    factors = np.linalg.lstsq(known_planes(), found, rcond=None)[0]
    if not np.allclose(known_planes() @ factors, found, rtol=1e-5, atol=0.02):
        return None
    *factors, more = factors.tolist()
    parts = []
    for run in np.split(np.arange(FRAMES), np.flatnonzero(np.abs(np.diff(factors)) > 1e-4) + 1):
        if abs(factors[run[0]]) > 1e-4:
            name = f"time point {run[0]}" if run.size == 1 else f"time points {run[0]} to {run[-1]}, each"
            parts.append(f"{name} divided by {1 / factors[run[0]]:.4g}")
    parts = ([*parts[:4], "others"] if len(parts) > 5 else parts) or ["no time point"]
    zeros = " Does the sum begin with zeros? (np.empty leaves in an array whatever the memory held before.)"
    return {
        "parts": ", ".join(parts) + f", and {more:.4g} in each pixel" * (abs(more) > 0.02),
        "zeros": zeros * (abs(more) > 0.02),
    }


@functools.cache
def right_mean(times, in_some_planes):
    return mean_of(times, SOME_PLANES if in_some_planes else ALL, dtype=np.float32)


@functools.cache
def known_mean(says):
    """What a known mistake gives in one plane."""
    return WRONG_MEANS[says](FEW, window=ONE_PLANE).astype(np.float32)


def mean_at_once(times):
    return np.mean([load_time_point(t) for t in times], axis=0)


def mean_of_recording(times):
    return np.mean([load_time_point(t).astype(float) for t in range(FRAMES)], axis=0)


def mean_beside_planes(times):
    total, kept = np.zeros(SHAPE, np.float32), []
    for t in times:
        frame = load_time_point(t)
        total += frame
        kept.append(frame[12].copy())
    return total / len(times)


def mean_of_floats(times):
    total = np.zeros(SHAPE)
    for t in times:
        frame = load_time_point(t).astype(float)
        total = total + frame
    return total / len(times)


KEEPS_MORE = "{took}. It keeps more, the more time points it gets. What has to be kept of a time point that is added already?{ahead}"
KEEPS_NO_MORE = (
    "{took}. It does not keep more if it gets more time points. Which arrays exist at the same time, with which dtypes?"
)
LARGE_WITH_FEW = (
    f"{{took}} With {len(FEW)} time points, it takes 8 times as much already. Does it load others, too? Which arrays exist at "
    "the same time?"
)
WITH_DASK = (
    "{took}. For a mean over time, dask keeps partial results of many chunks, with one worker as well. Add up one time point "
    "after the other with load_time_point."
)


def filled(makes):
    """np.empty, but with something in it, as if the memory had been in use before."""

    def make(*arguments, **options):
        made = makes(*arguments, **options)
        made.fill(LEFTOVER)
        return made

    return make


@silence()
def results_of(answer, cases, folder, all_cases):
    """What runs in the other process: for each case, the bytes in memory while each of its time points was loaded.

    Results and peaks go to files, where they take no memory. A fault is returned. Unless all cases are asked for, a wrong
    result is the last: what follows would only keep its author waiting.
    """
    cells_of, in_memory = recording._cells, []

    def noting(t):  # each time point may be loaded in many windows
        gc.collect()
        now = tracemalloc.get_traced_memory()[0] - at_first
        in_memory[-1][t] = min(now, in_memory[-1].get(t, now))
        return cells_of(t)

    recording._cells = noting
    np.empty, np.empty_like = filled(np.empty), filled(np.empty_like)
    _ = np.ma  # a part of NumPy that is loaded when it is first used, which must not count
    gc.freeze()  # what is there already need not be looked through
    tracemalloc.start()
    for times in cases:
        in_memory.append({})
        at_first, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        try:
            found = read(array, call(answer, times, given=str(times)), f"for {times} your function returns")
        except (Wrong, Unanswered) as reason:
            if "MemoryError" in getattr(reason, "error", ""):
                raise MemoryError from None
            return reason
        written = folder / "unfinished"  # this process may be killed while it writes
        written.mkdir()
        (written / "peak.txt").write_text(str(tracemalloc.get_traced_memory()[1]))
        np.save(written / "found.npy", found)
        written.rename(folder / str(len(times)))
        recording._cells = cells_of
        if not all_cases and not is_mean(found, times):
            break
        recording._cells = noting
        del found
    return [list(case.values()) for case in in_memory]


def is_mean(found, times):
    """Whether a result is right on some planes."""
    return found.shape == SHAPE and (np.abs(found[SOME_PLANES] - mean_of(times, SOME_PLANES)) <= 0.01).all()


def measured(answer, cases, folder, limit, all_cases=False):
    """Peaks of the arrays in bytes, by the number of time points, and what `results_of` returns; None if it died."""
    begin("measuring your function")
    try:
        run = measure(functools.partial(results_of, answer, cases, folder, all_cases), limit)
    except (TypeError, RuntimeError) as error:
        raise Wrong(f"your function could not be run in a process of its own: {error}.") from None
    if isinstance(run.result, Exception):
        raise run.result
    if run.died and not run.died.startswith(("killed, because", "MemoryError")):
        raise Wrong(f"your function does not come to its end: {run.died[:200]}.")
    files = {len(times): folder / str(len(times)) / "peak.txt" for times in cases}
    return {count: int(file.read_text()) for count, file in files.items() if file.exists()}, run.result


def make_it_fit(answer):
    is_function(answer)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            peaks, in_memory = measured(answer, [FEW, TIMES], Path(folder), LIMIT_OF_MEAN)
        except Raised as reason:
            yield {"error": reason.error}
            raise
        for times, window in ((FEW, ALL), (TIMES, SOME_PLANES)):
            if len(times) in peaks:
                compare(answer, times, np.load(Path(folder) / str(len(times)) / "found.npy", mmap_mode="r"), window)
    with_dask = {"open_recording", "compute"} & names_used(answer)
    if in_memory is None:
        raise Wrong(why_it_died(answer, with_dask))
    # With dask, what it keeps varies from run to run, so that nothing can be said about a thousand.
    kept = 0 if with_dask else kept_of_each(*in_memory)
    thousand = peaks[len(TIMES)] + (1000 - len(TIMES)) * kept
    yield {
        "kept": kept / MIB,
        "thousand": thousand,
        "ahead": loads_ahead(answer),
        "more": "" if with_dask else " A thousand would need no more.",
    }


def kept_of_each(few, many):
    """Bytes that stay in memory of each time point, or that are set aside for it at the beginning.

    Batches of up to ten begin anew between the 10th time point and the 20th, and between the 30th and the 40th.
    """
    if len(many) < len(TIMES):  # it loads in a way of its own
        return 0
    added, set_aside = min(many[30:]) - min(many[10:20]), min(many) - min(few)
    return max(added / 20, set_aside / (len(many) - len(few)))


def about_shape(found):
    """What is returned in another shape than that of a time point, in words."""
    if found.shape == (1, *SHAPE):
        return f"the mean within a list, or with an axis more: its shape is {found.shape}. Return the array alone."
    what = f"an array of shape {found.shape}" if found.ndim else "one number"
    what = f"{len(found)} arrays of the shape of a time point" if found.shape[1:] == SHAPE else what
    return f"{what}, but a time point has shape {SHAPE}."


def compare(answer, times, found, window):
    """Wrong, with the first difference, if a result is not the mean of these time points."""
    begin("comparing your results")
    if found.shape != SHAPE:
        raise Wrong(f"for {times} your function returns {about_shape(found)}")
    expected = right_mean(times, window == SOME_PLANES)
    different = ~(np.abs(found[window] - expected) <= 0.01)
    if not different.any():
        return
    place = np.unravel_index(different.argmax(), different.shape)
    plane, row, column = np.add(place, [part.start or 0 for part in window])
    share = np.count_nonzero(different) / different.size
    says = (
        f"{f'{share:.0%}' if share > 0.01 else 'Less than 1%'} of the pixels differ. Does it use every time point once, "
        f"all with the same weight, and without rounding?{about_notebook(answer)}"
    )
    given = (
        f"for {times} you get {found[window][place]:.6g} in plane {plane}, row {row}, column {column}, where the mean is "
        f"{expected[place]:.6g}: "
    )
    if times == FEW:
        if different[ONE_PLANE].any():
            EXERCISES["0.2"].refuse({"plane": found[ONE_PLANE]}, given)
        alike = (
            known for known in WRONG_MEANS if np.allclose(found[ONE_PLANE], known_mean(known), rtol=1e-5, atol=0.02)
        )
        if known := next(alike, None):
            says = known
        elif not np.isfinite(found).any():
            says = (
                "all pixels are so. What is divided by 0 becomes inf or nan: does your divisor count the time points?"
            )
        elif np.allclose(np.sort(found[window], axis=None), np.sort(expected, axis=None), atol=0.01):
            says = "the pixels are right, but in other places. The mean is taken pixel by pixel."
    raise Wrong(given + says)


def in_words(peaks):
    return f"Its arrays take {', '.join(f'{peak / MIB:.0f} MiB with {count}' for count, peak in peaks.items())} time points"


def loads_ahead(answer):
    pools = {"ThreadPoolExecutor", "ThreadPool", "Pool"} & names_used(answer)
    return " A pool loads ahead, and what it has loaded waits for you." * bool(pools)


def why_it_died(answer, with_dask):
    """A sentence on a function that used more than the limit, with the peaks that it has under a larger one."""
    cases, most = [FEW, MORE, TIMES], 8 * LIMIT_OF_MEAN
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        peaks, _ = measured(answer, cases, Path(folder), most, all_cases=True)
    took = f"your function died: it used more than {LIMIT_OF_MEAN // MIB} MiB."
    if not peaks:
        return told(LARGE_WITH_FEW, {"took": took})
    # Where it died once more, it takes more than that. Batches of ten are full for twenty and for forty: only what grows
    # all the way is kept of every time point.
    reached = [*peaks.values(), most][: len(cases)]
    growth = np.diff(reached) / np.diff([len(times) for times in cases[: len(reached)]])
    says = WITH_DASK if with_dask else KEEPS_MORE if growth.min() > MIB / 8 else KEEPS_NO_MORE
    return told(says, {"took": f"{took} {in_words(peaks)}", "ahead": loads_ahead(answer)})


EXERCISES["0.2"] = Checked(
    check=make_it_fit,
    seconds=120,  # for each measurement, on a slow computer
    mistakes={
        **WRONG_MEANS,
        f"this adds up {{parts}}. The mean of {FEW} is the sum of these {len(FEW)} time points, each divided by {len(FEW)}.{{zeros}}": seen(
            functools.partial(mean_of, use=np.s_[1:]), recipe
        ),
        KEEPS_MORE: mean_at_once,
        KEEPS_NO_MORE: mean_of_floats,
        "your function raises {error}. Whole numbers cannot take in decimals. Begin with np.zeros(SHAPE, np.float32).": seen(
            lambda times: functools.reduce(
                operator.iadd, (load_time_point(t) / len(times) for t in times), load_time_point(3)
            ),
            lambda error: "Cannot cast ufunc" in error,
        ),
        "your function raises {error}. Square brackets take a part of an array. A function is called with round ones: "
        "load_time_point(t).": seen(
            lambda times: load_time_point[times[0]], lambda error: "'function' object is not subscriptable" in error
        ),
        "your function raises {error}. NumPy does not go through a generator, as in np.mean(load_time_point(t) for t in "
        "times): write a loop.": seen(
            lambda times: np.mean((load_time_point(t) for t in times), axis=0),
            lambda error: "axis 0 is out of bounds" in error,
        ),
        f"for {TIMES} the result is right, but {{kept:.3f}} MiB of each time point stay in memory: a thousand would need more "
        f"than {LIMIT_OF_MEAN // MIB} MiB. What has to be kept of a time point that is added already?{{ahead}}": seen(
            mean_beside_planes, lambda thousand: thousand > LIMIT_OF_MEAN
        ),
        LARGE_WITH_FEW: mean_of_recording,
    },
    praise=f"{len(TIMES)} time points, within {LIMIT_OF_MEAN // MIB} MiB.{{more}}",
    hints=[
        "a mean is a sum divided by a number. What do you have to keep of a time point once it is added to the sum?",
        "begin with an array of zeros with the shape of a time point, and add one time point after the other in a loop. "
        "Which dtype can hold the sum of forty pixels of up to 12,000?",
        "total = np.zeros(SHAPE, np.float32), then for t in times: total += load_time_point(t), and after the loop "
        "return total / len(times).",
    ],
)
