"""Exercises of lesson 0, "Run out of memory, on purpose"."""

import functools
import gc
import math
import threading
from itertools import product

import numpy as np

from course_helpers import recording
from course_helpers.exercises.form import (
    NOTHING,
    Function,
    Parts,
    Value,
    array,
    choice,
    letters,
    number,
    seen,
    whole_number,
)
from course_helpers.exercises.running import Raised, Traced, Wrong, begin, names_used
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
    also_right=("hec", "C, E, H", ["C", "E", "H"], {"H", "C", "E"}, np.array(["C", "E", "H"]), "C/E\nand H!"),
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


def close(found, wanted):
    """Whether a prediction is this number of MiB, or a rounded one; or lies between two."""
    off = 0.5 if found > 20 and found == int(found) else 0.06
    low, high = wanted if isinstance(wanted, tuple) else (wanted - off, wanted + off)
    return low < found <= high


def counted_otherwise(found):
    """The bytes per pixel that somebody counted in another way, and in which; None if in none of these."""
    ways = {
        "in MB, of a million bytes. Divide by 2**20, and count once more": PIXELS / 1e6,
        "of a time point of the real recording, which is 64 times as large as this one": 64 * PIXELS / MIB,
    }
    counts = product(ways.items(), range(1, 36))
    return next(({"count": count, "how": how} for (how, size), count in counts if close(found, count * size)), None)


def in_another_unit(found):
    """The unit in which somebody may have answered."""
    limits = {"GB or GiB": (0, 0.1), "kB or KiB": (3000, 100_000), "bytes": (100_000, math.inf)}
    return next(({"unit": unit} for unit, (low, high) in limits.items() if low < found <= high), None)


def less_or_more(found):
    return (
        f"{found:.5g} MiB are {found * MIB / PIXELS:.4g} bytes per pixel, which is {'less' if found < PEAK else 'more'} than "
        "there is at the peak. Which arrays exist at the same time, and which dtype has each? Print "
        "(frame - frame.min()).dtype and (frame / 255).dtype."
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
        "this is the number of pixels. How many bytes does each of them need, in all arrays together?": PIXELS,
        "this looks like bits. A byte has 8 of them.": 8 * PEAK,
        "these are frame, scaled and mask, while mask is made. One line before, more exists.": 11 * PIXELS / MIB,
        "these are 24 bytes per pixel, more than there are at the peak. Which arrays exist at the same time, and which dtype has "
        "each? Print (frame / 255).dtype. (frame.nbytes holds the 2 bytes of each pixel already.)": 24 * PIXELS / MIB,
        "so much would all time points together need. The function has one.": FRAMES * PEAK,
        "the answer is {found:g}, but the function needs some memory.": seen(0, lambda found: found <= 0),
        "{found:g} looks like bytes per pixel. MiB are asked for: multiply by the number of pixels, divide by 2**20.": seen(
            BYTES_AT_PEAK, lambda found: found in range(1, 22)
        ),
        "{found:.5g} would be {count} bytes per pixel {how}.": seen(11 * PIXELS / 1e6, counted_otherwise),
        "this looks like {unit}. MiB are asked for, of 2**20 bytes.": seen(PEAK / 1024, in_another_unit),
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
SCREEN, TIME_POINT, BRAIN = (
    BYTES_PER_PIXEL * pixels for pixels in (96 * 2048 * 2048, 1024 * 2048 * 100, 20_000 * 10_000 * 2_000)
)
WORKERS, DAYS = FREE // TIME_POINT, 3700 * 40 / 60 / 24  # days of one core
WAYS = {"B": "one after the other", "C": "tile by tile", "D": "several computers"}


def take(size, verb="takes"):
    return f"{verb} {size / GIB:,.1f} GiB"


def way(right, fits="", **others):
    """A part of the answer: the first way that works, why no later one is needed, and what is said to other letters."""
    later = {
        letter: f"{fits}, so an earlier one of the ways works as well as {name}."
        for letter, name in WAYS.items()
        if letter > right
    }
    says = {says: letter for letter, says in (later | others).items()}
    return Value(right=right, reads=choice("A", "B", "C", "D"), mistakes=says)


TOO_LARGE = f"all at once it {take(3700 * TIME_POINT)}, and 10 are free."
EXERCISES["0.4"] = Parts(
    parts={
        "screen": way("A", f"all at once it {take(SCREEN)}"),
        "recording": way("B", f"one time point {take(TIME_POINT)}", A=TOO_LARGE),
        "brain": way(
            "C",
            A=f"all at once it {take(BRAIN)}, and 10 are free.",
            B=f"there is a single image, and it {take(BRAIN)}.",
            D="one image cannot be shared out image by image. Is there a way that works on this laptop?",
        ),
        "deadline": way(
            "D",
            A=TOO_LARGE,
            B="memory is not what is short here. With as many workers as fit, how many days does it take?",
            C="tiles need less memory, and as much time. With as many workers as fit, how many days does it take?",
        ),
        "workers": Value(
            right=WORKERS,
            reads=whole_number,
            mistakes={
                f"{WORKERS + 1} {take((WORKERS + 1) * TIME_POINT, 'take')}, one more than fits: round down. That there is a core "
                "for it does not help.": WORKERS + 1,
                "one time point fits, and more than one.": seen(1, lambda found: found <= 1),
            },
            otherwise=lambda found, expected: (
                f"{found} {take(found * TIME_POINT, 'take')}, "
                f"{'which is more than the 10 that are free' if found > expected else 'and more fit'}."
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

LIMIT_OF_MEAN = 96 * MIB
UNWATCHED = recording._cells, np.empty, np.empty_like
FEW, TIMES = range(60, 67), range(3, 43)
POOLS, DASK = {"ThreadPoolExecutor", "ThreadPool", "Pool"}, {"open_recording", "compute"}
ONE_PLANE = np.s_[12:13, :, :]


def mean_of(times, load=load_time_point, dtype=np.float32, after=np.asarray):
    """The mean of time points; with another argument a wrong one."""
    total = np.zeros(SHAPE, dtype)
    for t in times:
        total += load(t)
    return after(total / len(times))


def of_a_time_point(answer):
    """An array of the shape of a time point; says what else is given."""
    found = array(answer)
    if found.shape == SHAPE:
        return found
    many = found.shape[1:] == SHAPE
    more = f" It holds {len(found)} of them, in a list or along an axis more: return one array alone." if many else ""
    raise Wrong(f"an array of the shape of a time point, {SHAPE}, is asked for.{more}")


def rounded(times, found, expected):
    """What is rounded: the result, or each time point."""
    lost = np.abs(expected - found).max()
    return (found % 1 == 0).all() and lost < len(times) and {"what": "the result" if lost < 1 else "each time point"}


def overflown(times, found, expected):
    """The bits of the sum's dtype, if what all pixels have lost is a multiple of what it can hold."""
    lost = (expected - found) * len(times)
    for bits in (16, 8):
        if np.allclose(lost, (lost / 2**bits).round() * 2**bits, atol=0.05):
            return {"bits": bits, "most": 2**bits - 1}


@functools.cache
def known_planes():
    """Some pixels of one plane of all time points, and 1, in columns."""
    planes = (load_time_point(t, ONE_PLANE)[0, ::8].ravel() for t in range(FRAMES))
    return np.column_stack([*planes, np.ones(PIXELS // SHAPE[0] // 8)])


def recipe(times, found, expected):
    """What was added up, in words, if one plane is wrong, and a sum of time points, each with any factor; None if not."""
    pixels, right = (planes[ONE_PLANE][0, ::8].ravel().astype(float) for planes in (found, expected))
    if not np.isfinite(pixels).all() or np.allclose(pixels, right, atol=0.01):
        return None
    factors = np.linalg.lstsq(known_planes(), pixels, rcond=None)[0]
    if not np.allclose(known_planes() @ factors, pixels, rtol=1e-5, atol=0.02):
        return None
    *factors, more = factors.tolist()
    parts = []
    for run in np.split(np.arange(FRAMES), np.flatnonzero(np.abs(np.diff(factors)) > 1e-4) + 1):
        if abs(factors[run[0]]) > 1e-4:
            name = f"time point {run[0]}" if run.size == 1 else f"time points {run[0]} to {run[-1]}, each"
            parts.append(f"{name} divided by {1 / factors[run[0]]:.4g}")
    if not parts and found.any():
        return None
    parts = ([*parts[:4], "others"] if len(parts) > 5 else parts) or ["no time point"]
    if abs(more) > 0.02:
        parts.append(
            f"and {more:.4g} in each pixel (does the sum begin with zeros? np.empty leaves what the memory held before)"
        )
    return {"parts": ", ".join(parts), "count": len(times)}


def first_difference(found, expected):
    different = ~(np.abs(found - expected) <= 0.01)
    place = plane, row, column = np.unravel_index(different.argmax(), SHAPE)
    share = different.mean()
    return (
        f"in plane {plane}, row {row}, column {column} it is {found[place]:.6g}, where the mean is {expected[place]:.6g}, and "
        f"{f'{share:.0%}' if share > 0.01 else 'less than 1%'} of the pixels differ. Does it use every time point once, all "
        "with the same weight, and without rounding?"
    )


def until_the_end(times, sizes, peak, names):
    """What was in memory until a function used too much, and what to ask then."""
    if not sizes:
        return "It loaded no time point here before."
    at_last = f", and {sizes[-1] / MIB:.0f} MiB at number {len(sizes)}" * (len(sizes) > 1)
    grows = sizes[-1] > sizes[0] + 2**23
    return (
        f"For {times}, its arrays took {sizes[0] / MIB:.0f} MiB when it loaded the first of {len(times)} time points{at_last}. "
        f"At most it was {peak / MIB:.0f} MiB. "
        + "What has to be kept of a time point that is added already? " * grows
        + "Which arrays exist while one is added, and at the end, with which dtypes?"
        + " A pool loads ahead, and what it has loaded waits for you." * bool(POOLS & names)
    )


def filled(makes):
    """np.empty, but with something in it, as if the memory had been in use before; what is too large stays as it is."""

    def make(*arguments, **options):
        made = makes(*arguments, **options)
        if made.nbytes < LIMIT_OF_MEAN:
            made.fill(1)
        return made

    return make


class Fitting(Function):
    """A function within a limit of memory. What its arrays take is noted whenever it loads a time point."""

    def found(self, answer, own, given):
        fewest, threads = {}, {threading.get_ident()}  # bytes when a time point was loaded, in its emptiest window

        def watched(t):
            if threading.current_thread() is not threading.main_thread():  # there, cells may run at the same time
                if memory.now() > LIMIT_OF_MEAN or t not in fewest and len(fewest) % 10 == 0:
                    gc.collect()
                fewest[t] = min(memory.now(), fewest.get(t, math.inf))
                threads.add(threading.get_ident())
                if memory.now() > LIMIT_OF_MEAN:
                    raise MemoryError
            return UNWATCHED[0](t)

        with Traced() as memory:
            recording._cells, np.empty, np.empty_like = watched, *map(filled, UNWATCHED[1:])
            try:
                found = super().found(answer, own, given)
            except (Raised, MemoryError) as reason:
                if "MemoryError" not in getattr(reason, "error", "MemoryError"):
                    raise
                found = NOTHING
            finally:
                recording._cells, np.empty, np.empty_like = UNWATCHED
        own |= {"sizes": list(fewest.values()), "threads": len(threads), "missed": len({*own["times"]} - {*fewest})}
        if memory.peak > LIMIT_OF_MEAN or found is NOTHING:
            names = names_used(answer)
            self.refuse({"names": names, "then": until_the_end(own["times"], own["sizes"], memory.peak, names)})
        return found

    def look(self, case):
        self.refuse({"unseen": case.own["missed"], "count": len(case.own["times"])}, f"for {case.given} ")

    def answered(self, answer, folder):
        """The cases; Wrong if all are right, but something stays in memory of each time point."""
        cases = list(super().answered(answer, folder))
        # What several threads hold varies from run to run, so that nothing can be said about a thousand.
        if all(self.alike(case.found, case.expected) and case.own["threads"] == 1 for case in cases):
            few, many = (case.own["sizes"] for case in cases)
            # Added to what is kept, or set aside. Batches of up to ten begin anew between the 10th and 20th, the 30th and 40th.
            added, set_aside = min(many[30:]) - min(many[10:20]), min(many) - min(few)
            kept = max(added / 20, set_aside / (len(many) - len(few)))
            if max(many) + (1000 - len(many)) * kept > LIMIT_OF_MEAN:
                self.refuse({"kept": kept / MIB})
        return cases


def mean_with_dask(times):
    from course_helpers.lazy_recording import open_recording  # here, because the lesson begins without dask, and faster

    return open_recording()[times.start : times.stop].mean(axis=0).compute(num_workers=1)


TOO_MUCH = f"your function used more than {LIMIT_OF_MEAN // MIB} MiB."
EXERCISES["0.2"] = Fitting(
    right=mean_of,
    cases=lambda: [(FEW,), (TIMES,)],
    given="{times}",
    reads=of_a_time_point,
    same=lambda found, right: (np.abs(found - right) <= 0.01).all(),
    seconds=120,  # for each case, on a slow computer
    mistakes={
        f"{TOO_MUCH} For a mean over time, dask keeps partial results of many chunks, with one worker as well. Add up one time "
        "point after the other with load_time_point.": seen(mean_with_dask, lambda then, names: DASK & names),
        f"{TOO_MUCH} {{then}}": seen(
            lambda times: np.mean([load_time_point(t) for t in times], axis=0), lambda then: True
        ),
        "the result is right, but your function did not load {unseen} of the {count} time points. Those that were loaded before, or in "
        "another process, take memory, too. Load each of them in your function.": seen(
            lambda times: measure(functools.partial(mean_of, times)).result,
            lambda unseen: unseen,
        ),
        f"for {TIMES} the result is right, but {{kept:.3f}} MiB of each time point stay in memory: a thousand would need more "
        f"than {LIMIT_OF_MEAN // MIB} MiB. What has to be kept of a time point that is added already?": seen(
            {"load": lambda: lambda t, kept=[]: kept.append(np.ones(2**15)) or load_time_point(t)}, lambda kept: True
        ),
        "what is divided by 0 becomes inf or nan: does your divisor count the time points?": seen(
            {"after": lambda: lambda mean: mean / np.float32(0)}, lambda found: not np.isfinite(found).any()
        ),
        "{what} is rounded. The mean has decimals.": seen({"after": lambda: np.floor}, rounded),
        "the sum has overflowed: {bits} bits hold numbers up to {most} only.": seen({"dtype": "uint16"}, overflown),
        "this adds up {parts}. The mean of {times} is the sum of these {count} time points, each divided by {count}.": seen(
            {"times": lambda times: times[1:]}, recipe
        ),
        "the pixels are right, but in other places. The mean is taken pixel by pixel.": seen(
            {"after": lambda: np.flip},
            lambda found, expected: np.allclose(np.sort(found, axis=None), np.sort(expected, axis=None), atol=0.01),
        ),
        "whole numbers cannot take in decimals. Begin with np.zeros(SHAPE, np.float32).": seen(
            {"dtype": "uint16", "load": lambda times: lambda t: load_time_point(t) / len(times)},
            lambda error: "Cannot cast ufunc" in error,
        ),
        "square brackets take a part of an array. A function is called with round ones: load_time_point(t).": seen(
            lambda times: load_time_point[times[0]], lambda error: "'function' object is not subscriptable" in error
        ),
        "NumPy does not go through a generator, as in np.mean(load_time_point(t) for t in times): write a loop.": seen(
            lambda times: np.mean((load_time_point(t) for t in times), axis=0),
            lambda error: "axis 0 is out of bounds" in error or "generator" in error,
        ),
    },
    otherwise=first_difference,
    praise=f"{len(TIMES)} time points, within {LIMIT_OF_MEAN // MIB} MiB.",
    hints=[
        "a mean is a sum divided by a number. What do you have to keep of a time point once it is added to the sum?",
        "begin with an array of zeros with the shape of a time point, and add one time point after the other in a loop. "
        "Which dtype can hold the sum of forty pixels of up to 12,000?",
        "total = np.zeros(SHAPE, np.float32), then for t in times: total += load_time_point(t), and after the loop "
        "return total / len(times).",
    ],
)
