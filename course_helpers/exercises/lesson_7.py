"""Checks of lesson 7, "Leave your machine"."""

import tempfile
from functools import partial
from itertools import count
from pathlib import Path

import cloudpickle
import dask.array as da
import numpy as np
from dask.callbacks import Callback
from dask.utils import parse_bytes
from distributed import futures_of

from course_helpers.exercises._old import (
    Unanswered,
    Wrong,
    call,
    check_for,
    described,
    function,
    is_lazy,
    named,
    number,
    shown,
    whole_number,
)
from course_helpers.nuclei import render_nuclei, seed_nuclei
from course_helpers.objects import OverlapError, count_in_tiles

GIB = 2**30

# --- 7.1: plan a cluster for a laptop ---

CORES, MEMORY, RESERVED, BASE, TARGET = 8, 16 * GIB, 4 * GIB, GIB / 4, 0.6
PIXEL, FACTOR, SPEED, SHORTEST = 2, 12, 2e6, 0.2  # bytes, copies, pixels per second, seconds of work per task
FIELDS = ("n_workers", "threads_per_worker", "memory_limit", "side")


def positive(answer):
    """The answer as a whole number from 1, or Wrong."""
    value = whole_number(answer)
    if value < 1:
        raise Wrong(f"the answer is {value}, but a number from 1 is asked for.")
    return value


def size_in_bytes(answer):
    """The number of bytes that a text such as "3 GiB" stands for, or Wrong."""
    if isinstance(answer, str):
        try:
            value = parse_bytes(answer)
        except ValueError:
            raise Wrong(f"dask cannot read {shown(answer)}. Write a number and a unit, such as '3 GiB'.") from None
    else:
        value = number(answer)
    if value < 2**20:
        unit = isinstance(answer, str) and any(letter.isalpha() for letter in answer)
        reason = "is less than one MiB" if unit else "has no unit, so it means bytes"
        raise Wrong(f"{shown(answer)} {reason}. Write a text with a number and a unit, such as '3 GiB'.")
    return value


def in_flight(plan, factor=FACTOR, pixel=PIXEL, base=BASE):
    """Bytes that all workers need at a time, by the rule of the lesson."""
    workers, threads, _, side = plan
    return workers * threads * side**2 * pixel * factor + workers * base


@check_for(
    "7.1",
    hints=[
        "begin with the threads: the function holds the GIL. What do two threads of one process do, then? With that, the "
        "number of cores gives the number of workers.",
        "what the system and the browser leave is shared by all workers: divide it by their number, and you have the "
        "largest memory_limit of one. 60 % of it is for the base and for chunks in flight.",
        "for the side there is a largest and a smallest value; anything between them will do. At most: side**2 * 2 * 12 "
        "bytes fit into 60 % of one limit, less the base. At least: side**2 pixels at 2 megapixels per second take 0.2 s.",
    ],
)
def laptop(answer):
    if not isinstance(answer, dict):
        raise Wrong(f"the answer is {shown(answer)}. Keep the dictionary of the task, with its four entries.")
    missing = [name for name in FIELDS if answer.get(name, ...) is ...]
    if missing:
        raise Unanswered(f"nothing yet for {', '.join(missing)}. Replace each ... and run both cells again.")
    readers = (positive, positive, size_in_bytes, positive)
    plan = tuple(named(name, read, answer[name]) for name, read in zip(FIELDS, readers))
    check_workers(plan)
    check_memory(plan)
    workers, _, limit, side = plan
    return (
        f"{workers} workers need {in_flight(plan) / GIB:.1f} of {TARGET * workers * limit / GIB:.1f} GiB "
        f"({workers * BASE / GIB:.1f} for the processes, {in_flight(plan, base=0) / GIB:.1f} in flight), and each task works "
        f"for {side**2 / SPEED:.1f} seconds."
    )


def check_workers(plan):
    """Wrong if cores idle, are crowded, or threads wait for each other."""
    workers, threads, _, _ = plan
    if threads > 1:
        raise Wrong(
            f"with {threads} threads in a worker, only one of them works at a time: this function holds the GIL. "
            "Which part of a cluster has a GIL of its own?"
        )
    if workers * threads > CORES:
        raise Wrong(
            f"{workers * threads} tasks at a time share {CORES} cores: they wait for each other, and all need memory."
        )
    if workers * threads < CORES:
        idle = CORES - workers * threads
        raise Wrong(f"{idle} of {CORES} cores {'has' if idle == 1 else 'have'} nothing to do.")


def check_memory(plan):
    """Wrong if the limits or the tasks do not fit into memory, or tasks are too short."""
    workers, _, limit, side = plan
    free, allowed = MEMORY - RESERVED, TARGET * workers * limit
    if workers * limit > free:
        if limit in (MEMORY, free):
            raise Wrong("memory_limit is that of one worker, not of all together.")
        if workers * limit == MEMORY:
            raise Wrong("the workers may take all the memory, and nothing is left for the system and the browser.")
        raise Wrong(
            f"the limits of {workers} workers add up to {workers * limit / GIB:.3g} GiB. How much may they take?"
        )
    if workers * BASE >= allowed:
        raise Wrong("the memory_limit is so low that the processes fill it before they do anything. Which limit fits?")
    if in_flight(plan) > allowed:
        raise Wrong(
            f"by the rule, {in_flight(plan) / GIB:.3f} GiB are needed, and {allowed / GIB:.3f} GiB are allowed. "
            f"{forgotten(plan, allowed)}"
        )
    if side**2 / SPEED < SHORTEST:
        raise Wrong(
            f"a task with a chunk of this side works for {1000 * side**2 / SPEED:.4g} ms only, so the overhead weighs more "
            "than it should. Choose larger chunks."
        )


def forgotten(plan, allowed):
    """A sentence about what seems to be missing from a plan that needs too much memory."""
    if in_flight(plan) <= 1.01 * allowed:
        return "That is very close. Did you round up?"
    if in_flight(plan, base=0) <= allowed:
        return "Did you leave out the base of each process?"
    if in_flight(plan) <= allowed / TARGET:
        return "Did you use the limits as a whole, instead of 60 % of them?"
    if in_flight(plan, pixel=1) <= allowed:
        return "Did you count one byte per pixel?"
    if in_flight(plan, factor=1) <= allowed:
        return "Did you leave out the factor?"
    return "Choose smaller chunks."


# --- 7.2: repair a pipeline ---

SHAPE, TILE, OVERLAP, REACH = (1000, 1500), 500, 38, 23
STORED = 400  # side of the chunks in the file, which are not the tiles
SEEDS = partial(seed_nuclei, threshold=32, sigma=2)  # those of the lesson


@check_for(
    "7.2",
    hints=[
        "which line of count_slowly reads pixels, and where does it run? The graph should hold the path instead.",
        "lesson 4 and lesson 5 opened a Zarr array as a dask array without reading it. [:] is not needed.",
        "da.from_zarr(path, chunks=500) gives lazy tiles; hand them to count_in_tiles with seeds, OVERLAP and reach=REACH, "
        "and return what comes back, without computing it.",
    ],
)
def small_graph(answer):
    function(answer)
    slide = render_nuclei((4000, 4000), window=np.s_[2500 : 2500 + SHAPE[0], 2500 : 2500 + SHAPE[1]])
    right = count_in_tiles(SEEDS, da.from_array(slide, chunks=TILE), OVERLAP, reach=REACH).compute(scheduler="threads")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = str(Path(folder) / "slide.zarr")
        da.from_array(slide, chunks=STORED).to_zarr(path)
        lazy = lazy_map(answer, path, right.shape)
        graph = size_of_graph(lazy)
        if graph > slide.nbytes / 4:
            raise Wrong(
                f"for an image of {slide.nbytes / 2**20:.2f} MiB, the graph has {graph / 2**20:.2f} MiB: pixels are in it. "
                "Which line reads them before dask does?"
            )
        counts, largest = computed_map(lazy)
        refuses = refuses_long_nuclei(answer, str(Path(folder) / "long.zarr"))
    if largest > slide.nbytes / 2:
        raise Wrong(
            "the graph is small, but one task loads the whole image, and a worker has to hold it. Read tile by tile."
        )
    if not np.array_equal(counts, right):
        raise Wrong(
            f"the graph is small, but the map counts {np.sum(counts):g} nuclei in all, which is another number than "
            "count_slowly finds. Do segmentation, overlap and reach stay as they were?"
        )
    if not refuses:
        raise Wrong(
            "on a slide with a nucleus longer than OVERLAP, count_slowly stops with an OverlapError, and your map counts "
            "as if nothing were wrong. Do overlap and reach stay as they were?"
        )
    return f"The image has {slide.nbytes / 2**20:.2f} MiB, your graph less than {-(-100 * graph // slide.nbytes)} % of that."


def lazy_map(answer, path, shape):
    """The lazy count map that the learner's function returns, or Wrong."""
    result = call(answer, path)
    if not is_lazy(result):
        raise Wrong(f"your function returns {shown(result)}. Return the lazy count map, without computing it.")
    if not isinstance(result, da.Array):
        raise Wrong(f"your function returns {shown(result)}. Return a dask array, the count map.")
    if result.shape == ():
        raise Wrong("your function returns one number, lazily. Return the map; its sum comes later.")
    if result.shape == tuple(-(-size // STORED) for size in SHAPE):
        raise Wrong(
            f"your tiles follow the chunks of the file, which have {STORED} x {STORED} pixels here. Ask for {TILE} x {TILE}."
        )
    if result.shape != shape:
        tiles = " The whole image is one tile." if result.shape == (1, 1) else ""
        raise Wrong(
            f"for an image of {SHAPE} pixels, your map has shape {result.shape}. With tiles of {TILE} x {TILE} and one "
            f"pixel for each of them it would be {shape}.{tiles}"
        )
    return result


def size_of_graph(lazy):
    """Bytes that are sent when the graph goes to a scheduler, or Wrong."""
    if futures_of(lazy):
        raise Wrong(
            "the graph contains data that was sent to the cluster before. Let the workers read their tiles themselves."
        )
    try:
        return len(cloudpickle.dumps(lazy.dask))
    except Exception as error:
        raise Wrong(f"the graph cannot be sent to other processes: {described(error)}.") from None


def computed_map(lazy):
    """The counts, and the bytes of the largest array that a task returns meanwhile."""
    sizes = [0]
    try:
        with Callback(posttask=lambda key, result, *_: sizes.append(getattr(result, "nbytes", 0))):
            counts = lazy.compute(scheduler="threads", optimize_graph=False)
    except Exception as error:
        raise Wrong(
            f"your map is lazy, but computing it raises {described(error)} ... Use OVERLAP and REACH as above."
        ) from None
    return counts, max(sizes)


def refuses_long_nuclei(answer, path):
    """Whether the learner's map refuses a nucleus whose seed ends between OVERLAP - REACH and OVERLAP beyond its tile."""
    image = np.zeros((600, 1000), np.uint8)
    image[240:260, 470:535] = 100
    da.from_array(image, chunks=STORED).to_zarr(path)
    try:
        call(answer, path).compute(scheduler="threads")
    except OverlapError:
        return True
    return False


# --- 7.3: how large, how many? ---

OVERHEAD, TASKS, PIXELS_PER_SECOND, SHARE, STEP = 0.003, 4, 5e6, 0.05, 10
SERIAL, FASTER = 0.05, 12


def smallest_side(overhead=OVERHEAD * TASKS, share=SHARE / (1 - SHARE)):
    """The smallest side of a tile for which overhead / work is at most `share`."""
    return next(side for side in count(STEP, STEP) if overhead / (side**2 / PIXELS_PER_SECOND) <= share)


def speed_up(workers, serial=SERIAL):
    """Amdahl's law."""
    return 1 / (serial + (1 - serial) / workers)


@check_for(
    "7.3",
    hints=[
        "write down, for one tile, the seconds of overhead and the seconds of work as a function of the side. For the "
        "workers, put numbers into the formula of Amdahl's law.",
        "overhead: 4 tasks of 0.003 s. Work: side**2 / 5e6 s. The share is overhead / (overhead + work). A loop over sides "
        "finds the first one that is small enough.",
        "amdahl(0.05, n) is the speed-up with n workers; let a loop find the first n for which it is 12 or more. For the limit, "
        "think of n so large that (1 - s) / n vanishes.",
    ],
)
def overhead_and_amdahl(side, workers=..., limit=...):
    if workers is ... or limit is ...:
        raise Unanswered("hand over all three answers: .check(tile_side, workers_needed, limit).")
    check_side(named("tile_side", number, side))
    check_needed(named("workers_needed", number, workers))
    check_limit(named("limit", number, limit))
    return (
        f"Tiles of {side} pixels: overhead {100 * OVERHEAD * TASKS / (OVERHEAD * TASKS + side**2 / PIXELS_PER_SECOND):.1f} %. "
        f"And {workers} workers are {speed_up(workers):.1f} times as fast as one."
    )


def check_side(side):
    """Wrong if this is not the smallest side with little overhead."""
    right = smallest_side()
    mistakes = {
        smallest_side(share=SHARE): "there the overhead is 5 % of the work. Take 5 % of overhead plus work.",
        smallest_side(overhead=OVERHEAD): "you counted one task per tile. How many are there?",
        smallest_side(overhead=1000 * OVERHEAD * TASKS): "did you take milliseconds for seconds?",
        smallest_side(share=SHARE / 10 / (1 - SHARE / 10)): "is your share 5 %, or 0.5 %?",
    }
    if side == right:
        return
    if side in mistakes:
        raise Wrong(f"tile_side is {side:g}: {mistakes[side]}")
    if side > 0 and side % STEP:
        raise Wrong(f"tile_side is {side:g}, but a multiple of {STEP} is asked for.")
    if right**2 * 0.9 < side < right**2 * 1.1:
        raise Wrong(f"tile_side is {side:g}, which looks like the pixels of a tile. How long is its side?")
    if side < right:
        raise Wrong(f"tile_side is {side:g}: the overhead takes more than 5 % of the whole time.")
    raise Wrong(f"tile_side is {side:g}. The overhead is small enough, but also with smaller tiles.")


def check_needed(workers):
    """Wrong if this is not the smallest number of workers."""
    right = next(n for n in count(1) if speed_up(n) >= FASTER)
    if workers == right:
        return
    if workers == FASTER:
        raise Wrong(f"{FASTER} workers would do if all of the time could be divided.")
    if workers == -(-FASTER // (1 - SERIAL)):
        raise Wrong(
            f"workers_needed is {workers:g}: the 5 % do not get shorter with more workers, they stay. Use Amdahl's law."
        )
    if workers % 1:
        raise Wrong(f"workers_needed is {workers:g}, but workers come in whole numbers.")
    if workers == right - 1:
        raise Wrong(f"with {workers:g} workers it is {speed_up(workers):.3f} times as fast: not quite {FASTER}.")
    if 0 < workers < right:
        raise Wrong(f"with {workers:g} workers it is only {speed_up(workers):.1f} times as fast.")
    if workers > right:
        raise Wrong(f"{workers:g} workers are enough, but fewer are, too.")
    raise Wrong(f"workers_needed is {workers:g}. At least one worker has to work.")


def check_limit(limit):
    """Wrong if this is not 1 / s."""
    if abs(limit * SERIAL - 1) < 1e-3:
        return
    if limit in (SERIAL, 100 * SERIAL):
        raise Wrong("limit is the share that cannot be divided. How many times as fast does this allow?")
    if abs(limit * (1 - SERIAL) - 1) < 1e-2:
        raise Wrong("limit is how many times as fast it gets if the part that can be divided is left as it is.")
    if limit < FASTER:
        raise Wrong(f"limit is {limit:g}, which is less than the {FASTER} times that you reached before.")
    raise Wrong(f"limit is {limit:g}. If the part that can be divided took no time at all, what would be left?")


# --- 7.4: read a task stream ---

CAUSES = {"A": "memory full", "B": "one task too long", "C": "tasks too small", "D": "data moves"}


@check_for(
    "7.4",
    hints=[
        "look at colours first: the table above says what red and orange mean.",
        "then look at white: is it spread evenly between all tasks, or is there one large piece of it?",
        "orange is the disk, where results go that do not fit into memory. Red comes from another worker. In one stream, all "
        "but one worker have finished early.",
    ],
)
def causes(answer):
    if not isinstance(answer, dict):
        raise Wrong(f"the answer is {shown(answer)}. Keep the dictionary of the task, with a cause for each letter.")
    missing = [letter for letter in CAUSES if answer.get(letter, ...) is ...]
    if missing:
        raise Unanswered(
            f"no cause yet for {', '.join(missing)}. Replace each ... by one of the four causes, in quotes."
        )
    for letter, cause in CAUSES.items():
        given = answer[letter]
        if not isinstance(given, str) or given not in CAUSES.values():
            raise Wrong(f"for {letter} you write {shown(given)}. Choose one of: {', '.join(sorted(CAUSES.values()))}.")
        if given != cause:
            raise Wrong(f"{letter} is something else: {against(letter, given)}")
    return (
        "Remedies: A smaller chunks or fewer threads, B tiles of equal work, C larger tiles, D let workers read their data, or "
        "smaller margins."
    )


def against(letter, given):
    """What speaks against a cause."""
    return {
        "memory full": "if the memory were full, results would go to disk. Which colour has the disk, and is it here?",
        "data moves": "if data moved much, there would be much red.",
        "one task too long": "no bar is much longer than all others. How does the end look?",
        "tasks too small": "the bars are long compared with the white between them, all along the run."
        if letter != "B"
        else "the white is at the end, in one piece, not between all tasks.",
    }[given]
