"""Exercises of lesson 7, "Leave your machine"."""

import tempfile
import threading
from functools import cache, partial
from itertools import count
from math import isclose
from pathlib import Path

import cloudpickle
import dask
import dask.array as da
import numpy as np
import zarr
from dask.utils import parse_bytes
from distributed import futures_of

from course_helpers.exercises.form import Function, Parts, Value, array, choice, number, seen, whole_number
from course_helpers.exercises.running import Wrong, about_notebook, begin, call, described, shown
from course_helpers.nuclei import seed_nuclei
from course_helpers.objects import OverlapError, count_in_tiles
from course_helpers.slide import render_nuclei

EXERCISES = {}

# --- 7.4: plan a cluster for a laptop ---

CORES, FREE, BASE, TARGET = 8, 12, 0.25, 0.6  # in GiB
PIXEL, FACTOR, SPEED, SHORTEST = 2, 12, 2e6, 0.2  # bytes, copies, pixels per second, seconds of work per task
FEWEST = int(SHORTEST * SPEED)  # pixels of a chunk
LARGEST_LIMIT = FREE / CORES
REMEDY = "Write a text with a number and a unit, such as '3 GiB'."


def positive(answer):
    """A whole number from 1."""
    value = whole_number(answer)
    if value < 1:
        raise Wrong("a number from 1 is asked for.")
    return value


def gibibytes(answer):
    """The GiB that a text such as "3 GiB" stands for."""
    try:
        return (parse_bytes(answer) if isinstance(answer, str) else number(answer)) / 2**30
    except ValueError:
        raise Wrong(f"dask cannot read that. {REMEDY}") from None


def needed(side):
    """GiB that one worker with one thread needs, by the rule of the lesson."""
    return BASE + side**2 * PIXEL * FACTOR / 2**30


def is_side_for(side, limit):
    """Whether a task with chunks of this side works long enough, and fits a worker with this limit."""
    return side**2 / SPEED >= SHORTEST and needed(side) <= TARGET * limit


SMALLEST_LIMIT = needed(FEWEST**0.5) / TARGET  # with a task that works long enough


def too_much(n_workers, threads_per_worker, memory_limit, side):
    """What a worker needs and may take, if the side alone is wrong."""
    is_good = (n_workers, threads_per_worker) == (CORES, 1) and SMALLEST_LIMIT <= memory_limit <= LARGEST_LIMIT
    facts = {"needed": needed(side), "allowed": TARGET * memory_limit}
    return is_good and side < FEWEST and facts["needed"] > facts["allowed"] and facts


def plan(side=4000, memory_limit="1.5 GiB"):
    return {"n_workers": CORES, "threads_per_worker": 1, "memory_limit": memory_limit, "side": side}


EXERCISES["7.4"] = Parts(
    in_dict=True,
    tells="{name}: {fault}",
    parts={
        # Before the workers, because with more threads their number may be meant well.
        "threads_per_worker": Value(
            right=1,
            reads=positive,
            mistakes={
                "with {found} threads in a worker, only one of them works at a time: this function holds the GIL. Which part "
                "of a cluster has a GIL of its own?": seen(2, lambda found: found > 1),
            },
        ),
        "n_workers": Value(
            right=CORES,
            reads=positive,
            mistakes={
                "with one thread in each, so many leave {idle} of 8 cores without work.": seen(
                    4, lambda found: found < CORES and {"idle": CORES - found}
                ),
                "{found} tasks at a time share 8 cores: they wait for each other, and all need memory.": seen(
                    16, lambda found: found > CORES
                ),
            },
        ),
        "memory_limit": Value(
            right=LARGEST_LIMIT,
            reads=gibibytes,
            same=lambda found, largest: SMALLEST_LIMIT <= found <= largest,
            mistakes={
                f"in bytes, this is {{bytes:.3g}}. {REMEDY}": seen(
                    "1.5", lambda found: found < 2**-10 and {"bytes": found * 2**30}
                ),
                f"60 % of it are {{allowed:.3g}} GiB, and the process alone takes {BASE}. What remains is too little for a "
                "task that works long enough.": seen(
                    "0.42 GiB", lambda found: found < LARGEST_LIMIT and {"allowed": TARGET * found}
                ),
                "this is the limit of one worker. With one for each core, all together might take {sum:.3g} GiB. How much is "
                "left for them?": seen("12 GiB", lambda found: found > LARGEST_LIMIT and {"sum": CORES * found}),
            },
        ),
        "side": Value(
            right=LARGEST_LIMIT,
            reads=positive,
            same=is_side_for,
            mistakes={
                "this looks like the pixels of a chunk. How long is its side?": seen(
                    FEWEST, lambda found: found >= FEWEST
                ),
                "a task with a chunk of this side works for {milliseconds:.4g} ms only, so the overhead weighs more than it "
                "should. Choose larger chunks.": seen(
                    632, lambda found: found**2 / SPEED < SHORTEST and {"milliseconds": 1000 * found**2 / SPEED}
                ),
            },
            otherwise=lambda found: (
                f"a worker with a chunk of {found:,} x {found:,} pixels needs {needed(found):,.3g} GiB. How much of its limit "
                "may it fill?"
            ),
        ),
    },
    mistakes={
        f"by the rule, one worker needs {{needed:.4f}} GiB: {BASE} for the process, the rest for a task that takes its chunk "
        f"{FACTOR} times, {PIXEL} bytes per pixel. 60 % of the limit are {{allowed:.4f}} GiB. Choose smaller chunks.": seen(
            plan(5393), too_much
        ),
    },
    follows={
        "n_workers": lambda threads_per_worker, n_workers: threads_per_worker * n_workers == CORES,
        "memory_limit": lambda n_workers, memory_limit: SMALLEST_LIMIT <= memory_limit <= FREE / n_workers,
        "side": lambda memory_limit, side: is_side_for(side, memory_limit),
    },
    praise=lambda memory_limit, side: (
        f"A worker needs {needed(side):.2f} of {TARGET * memory_limit:.2f} GiB ({BASE} for the process, "
        f"{needed(side) - BASE:.2f} for its task), and each task works for {side**2 / SPEED:.1f} seconds."
    ),
    also_right=(
        plan(633, "0.45 GiB"),
        plan(5392),
        plan(memory_limit=3 * 2**29),
        plan(np.int64(4000), "1500 MiB"),
    ),
    hints=[
        "begin with the threads: the function holds the GIL. What do two threads of one process do, then? With that, the "
        "number of cores gives the number of workers.",
        "what the system, the browser and the notebook leave is shared by all workers: divide it by their number, and you have the "
        "largest memory_limit of one. 60 % of it is for the base and for the chunk.",
        "for the side there is a largest and a smallest value; anything between them will do. At most: side**2 * 2 * 12 "
        "bytes fit into 60 % of one limit, less the base. At least: side**2 pixels at 2 megapixels per second take 0.2 s.",
    ],
)


# --- 7.3: repair a pipeline ---

TILE, OVERLAP, REACH = 500, 53, 23  # those of the lesson, as are the seeds
SEEDS = partial(seed_nuclei, threshold=32, sigma=2)
CHUNK = 300  # of the files, which are no tiles


def counted(path, read=da.from_zarr, chunks=TILE, overlap=OVERLAP, reach=REACH, seeds=SEEDS):
    """The right count map, lazily."""
    return count_in_tiles(seeds, read(path).rechunk(chunks), overlap, reach=reach)


def loaded_by_one_task(path):
    like = da.from_zarr(path)
    return da.from_delayed(dask.delayed(zarr.load)(path), like.shape, like.dtype)


def with_long_nucleus(slide, more=0):
    """A slide with a nucleus alone across a cut, so many pixels longer than OVERLAP and REACH allow."""
    slide[180:320, 400:610] = 0
    slide[240:260, 470 : 538 + more] = 100
    return slide


@cache
def slides():
    """Slides, the last two with a nucleus that is too long.

    A side of 1000 or 1501 pixels has another number of tiles if these are one pixel smaller or larger.
    """
    wide = render_nuclei((4000, 4000), window=np.s_[2500:3500, 2400:3901])
    tall = render_nuclei((4000, 4000), window=np.s_[1300:2801, 3400:3900])
    tall = np.where(tall > 60, tall + np.uint16(256), tall)  # more than uint8 can hold
    too_long = with_long_nucleus(np.zeros((700, 700), np.uint8), more=1)
    return with_long_nucleus(wide), with_long_nucleus(tall.T).T, too_long, too_long.T


def paths(folder):
    """The path of each slide, stored."""
    for slide in slides():
        path = Path(tempfile.mkdtemp(dir=folder), "slide.zarr")
        da.from_array(slide, chunks=CHUNK).to_zarr(path)
        yield (path,)


def slide_in_words(path):
    return "the path of a slide of {} x {} pixels".format(*zarr.open_array(path, mode="r").shape)


def tried(step):
    """What a step returns, and the exception that it raises; one of them is None."""
    try:
        return step(), None
    except Exception as error:
        return None, error


def computed(lazy):
    return tried(lambda: lazy.compute(scheduler="threads"))


class Repair(Function):
    """A function that makes the lazy count map of a slide. The graph is looked at, too, and what is read."""

    def found(self, answer, own, given):
        where, about = f"for {given} ", about_notebook(answer)
        slide = zarr.open_array(own["path"], mode="r")
        result = call(answer, str(own["path"]), given=given)
        facts = {"result": result, "what": shown(result), "slide": slide}
        self.refuse(facts | {"right": tuple(-(-side // TILE) for side in slide.shape)}, where, about)
        if futures_of(result):
            raise Wrong(
                "the graph contains data that was sent to the cluster before, or read and kept there by persist. Let workers "
                "read tiles as they count."
            )
        graph, unsendable = tried(lambda: len(cloudpickle.dumps(result.dask)))
        self.refuse(facts | {"graph": graph or 0, "unsendable": unsendable and described(unsendable)}, where, about)
        begin("computing your map")
        counts, error = computed(result)
        if isinstance(error, OverlapError):
            return "an OverlapError"
        own["result"] = result
        self.refuse(
            facts | {"counts": counts, "made": shown(counts), "problem": error and described(error)}, where, about
        )
        return counts

    def outcome(self, function, arguments):
        counts, error = computed(function(*arguments.values()))
        return "an OverlapError" if isinstance(error, OverlapError) else counts

    def look(self, case):
        if "result" in case.own:
            tile = (0, 0) if case.number % 2 else tuple(count - 1 for count in case.found.shape)
            spoil(case.own["path"], tile)
            result = case.own["result"]
            facts = {"far": computed(result.blocks[tile])[1] and tile, "is_early": not computed(result)[1]}
            self.refuse(facts, f"for {case.given} ")


def spoil(path, tile):
    """Make the chunks unreadable that lie more than a tile away from this tile."""
    for file in path.glob("c/*/*"):
        axes = zip(tile, map(int, file.parts[-2:]))
        if any(place * CHUNK >= (at + 2) * TILE or (place + 1) * CHUNK <= (at - 1) * TILE for at, place in axes):
            file.write_bytes(b"spoiled")


EXERCISES["7.3"] = Repair(
    right=counted,
    cases=paths,
    given=slide_in_words,
    reads=array,
    shows=lambda found: "a lazy map with a small graph",
    mistakes={
        "your function returns {what}. Return a dask array: the count map, without computing it.": seen(
            lambda path: counted(path).compute(scheduler="threads"), lambda result: not isinstance(result, da.Array)
        ),
        "your function returns one number, lazily. Return the map; its sum comes later.": seen(
            lambda path: counted(path).sum(), lambda result: result.ndim == 0
        ),
        "your map has shape {result.shape}. With one number for each tile of 500 x 500 it would be {right}. Is it what count_in_tiles "
        "gives for such tiles, of the image at path, whose chunks are others?": seen(
            {"chunks": 250}, lambda result, right: result.shape != right
        ),
        "your map comes in chunks of {result.chunksize}, so one task waits for many tiles. Return it as count_in_tiles "
        "gives it.": seen(lambda path: counted(path).rechunk(-1), lambda result, right: result.numblocks != right),
        "the graph cannot be sent to other processes: {unsendable}.": seen(
            lambda path, lock=threading.Lock(): counted(path).map_blocks(
                lambda counts: lock and counts, dtype=np.int64
            ),
            lambda unsendable: unsendable,
        ),
        "the graph has {graph} bytes, for an image of {slide.nbytes}: pixels are in it. Which line reads them before dask "
        "does?": seen(
            {"read": lambda: lambda path: da.from_array(zarr.load(path))},
            lambda graph, slide: graph > slide.nbytes / 8,
        ),
        "your map is lazy, but computing it raises {problem}.": seen(
            lambda path: counted(path).map_blocks(np.linalg.inv, dtype=int), lambda problem: problem
        ),
        "your map is {what}, but computing it gives {made}.": seen(
            lambda path: counted(path).map_blocks(np.copy, dtype=float),
            lambda result, counts: (np.shape(counts), np.asarray(counts).dtype) != (result.shape, result.dtype),
        ),
        "computing it raises an OverlapError. Do overlap and reach stay as they were?": seen(
            {"overlap": REACH}, lambda found: isinstance(found, str)
        ),
        "count_slowly stops with an OverlapError here, as a nucleus is longer than OVERLAP and REACH allow, and your map counts as if "
        "nothing were wrong. Do overlap and reach stay as they were?": seen(
            {"reach": REACH - 1}, lambda expected: isinstance(expected, str)
        ),
        "it has {here} nuclei in tile {tile}, and count_slowly has another number there. Do pixels, segmentation, overlap and reach "
        "stay as they were?": seen(
            {"seeds": lambda: partial(seed_nuclei, threshold=33, sigma=2)},
            lambda found, expected: (
                {"tile": (tile := tuple(np.argwhere(found != expected)[0].tolist())), "here": found[tile]}
            ),
        ),
        "the graph is small, but for the count of tile {far} pixels are read that are more than a tile away from it. A "
        "task that loads the whole image, or a whole row of it, fills its worker. Read tile by tile.": seen(
            {"read": lambda: loaded_by_one_task}, lambda far: far
        ),
        "the counts are right, and your map does not read the file when it is computed: its pixels were read when "
        "your function was called. Leave this to the workers.": seen(
            lambda path: da.from_array(counted(path).compute(scheduler="threads"), chunks=1), lambda is_early: is_early
        ),
    },
    praise="The counts of {count} slides are those of count_slowly, and the graph holds no pixels.",
    also_right=(
        lambda path: counted(path),
        lambda path: counted(path, read=lambda path: da.from_array(zarr.open_array(path, mode="r"), chunks=TILE)),
        lambda path: counted(path, read=lambda path: da.from_zarr(path, chunks=250)),
        lambda path: counted(path, read=lambda path: da.from_zarr(path, chunks=1000)),
        lambda path: counted(path, overlap=(OVERLAP, OVERLAP), reach=(REACH, REACH)),
    ),
    hints=[
        "which line of count_slowly reads pixels, and where does it run? The graph should hold the path instead.",
        "lesson 4 and lesson 5 opened a Zarr array as a dask array without reading it. [:] is not needed.",
        "da.from_zarr(path, chunks=500) gives lazy tiles; hand them to count_in_tiles with seeds, OVERLAP and reach=REACH, "
        "and return what comes back, without computing it.",
    ],
)


# --- 7.2: how large, how many? ---

OVERHEAD, PIXELS_PER_SECOND = 4 * 0.003, 5e6  # seconds of four tasks per tile
SHARE, SERIAL, FASTER = 0.05, 0.04, 12


def overhead_with(side):
    """The share of the whole time that the overhead takes."""
    return OVERHEAD / (OVERHEAD + side**2 / PIXELS_PER_SECOND)


def speed_up(workers):
    """Amdahl's law."""
    return 1 / (SERIAL + (1 - SERIAL) / workers)


SIDE = next(side for side in count(10, 10) if overhead_with(side) <= SHARE)
WORKERS = next(workers for workers in count(1) if speed_up(workers) >= FASTER)


EXERCISES["7.2"] = Parts(
    parts={
        "tile_side": Value(
            right=SIDE,
            reads=positive,
            mistakes={
                "this looks like the pixels of a tile. How long is its side?": seen(
                    SIDE**2, lambda found: found > 100 * SIDE
                ),
                "a multiple of 10 is asked for.": seen(1068, lambda found: found % 10),
                "there the four tasks have {overhead:.3g} s of overhead and {work:.3g} s of work: the share of overhead in the "
                "whole time is {share:.2%}, {but}.": seen(
                    1000,
                    lambda found: {
                        "overhead": OVERHEAD,
                        "work": found**2 / PIXELS_PER_SECOND,
                        "share": overhead_with(found),
                        "but": "which is too much"
                        if found < SIDE
                        else "and with smaller tiles it is small enough, too",
                    },
                ),
            },
        ),
        "workers_needed": Value(
            right=WORKERS,
            reads=positive,
            mistakes={
                f"4 % of the time stays as it is, so with so many it is {{speed:.3f}} times as fast, not {FASTER}.": seen(
                    FASTER, lambda found: found < WORKERS and {"speed": speed_up(found)}
                ),
                "with so many it is {speed:.3f} times as fast: enough, but so it is with fewer.": seen(
                    64, lambda found: found > WORKERS and {"speed": speed_up(found)}
                ),
            },
        ),
        "limit": Value(
            right=1 / SERIAL,
            reads=number,
            same=partial(isclose, rel_tol=1e-3),
            mistakes={
                "this is the share that cannot be divided. How many times as fast does this allow?": seen(
                    4, lambda found: found in (SERIAL, 100 * SERIAL)
                ),
                "this is not more than the 12 times that you reached before.": seen(12, lambda found: found <= FASTER),
                "so fast it gets with {workers:.0f} workers. What if there are many more?": seen(
                    speed_up(1000),
                    lambda found: found < 1 / SERIAL and {"workers": (1 - SERIAL) / (1 / found - SERIAL)},
                ),
                "no number of workers is so fast. If the part that can be divided took no time at all, what would be left?": (
                    seen(100, lambda found: found > 1 / SERIAL)
                ),
            },
        ),
    },
    mistakes={
        "workers_needed and limit seem to be exchanged.": {
            "tile_side": SIDE,
            "workers_needed": 1 / SERIAL,
            "limit": WORKERS,
        },
    },
    praise=lambda tile_side, workers_needed: (
        f"Tiles of {tile_side} pixels: overhead {100 * overhead_with(tile_side):.1f} %. And {workers_needed} workers are "
        f"{speed_up(workers_needed):.1f} times as fast as one."
    ),
    also_right=((SIDE, float(WORKERS), 25), (np.float64(SIDE), WORKERS, speed_up(10**6))),
    hints=[
        "write down, for one tile, the seconds of overhead and the seconds of work as a function of the side. For the "
        "workers, put numbers into the formula of Amdahl's law.",
        "overhead: 4 tasks of 0.003 s. Work: side**2 / 5e6 s. The share is overhead / (overhead + work). A loop over sides "
        "finds the first one that is small enough.",
        "amdahl(0.04, n) is the speed-up with n workers; let a loop find the first n for which it is 12 or more. For the limit, "
        "think of n so large that (1 - s) / n vanishes.",
    ],
)


# --- 7.1: read a task stream ---

AGAINST = {
    "memory full": "if the memory were full, results would go to disk. Which colour has the disk, and is it here?",
    "data moves": "if data moved much, there would be much red: data from another worker.",
    "one task too long": "no bar is much longer than all others. How does the end look?",
    "tasks too small": "if tasks were too small, bars would be short, with white between them, all along the run.",
}


def cause(right):
    """A part of the answer: the cause, and what speaks against the others."""
    mistakes = {says: name for name, says in AGAINST.items() if name != right}
    return Value(right=right, reads=choice(*AGAINST), mistakes=mistakes)


EXERCISES["7.1"] = Parts(
    in_dict=True,
    tells="{name} is something else: {fault}",
    parts={
        "A": cause("memory full"),
        "B": cause("one task too long"),
        "C": cause("tasks too small"),
        "D": cause("data moves"),
    },
    praise=(
        "Remedies: A smaller chunks or fewer threads, B tiles of equal work, C larger tiles, D let workers read their data, or "
        "smaller margins."
    ),
    also_right=({"D": " Data moves", "C": "TASKS TOO SMALL", "B": "one task too long", "A": "memory full"},),
    hints=[
        "look at colours first: the table in *Watch it work* says what red and orange mean.",
        "then look at white: is it spread evenly between all tasks, or is there one large piece of it?",
        "orange is the disk, where results go that do not fit into memory. Red comes from another worker. In one stream, all "
        "but one worker have finished early.",
    ],
)
