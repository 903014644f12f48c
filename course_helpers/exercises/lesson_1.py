"""Exercises of lesson 1, "Compute images only when you look at them"."""

import contextlib
import functools
import unittest.mock

import dask
import dask.array as da
import numpy as np
from dask.callbacks import Callback
from dask.delayed import Delayed, DelayedLeaf

from course_helpers import mandelbrot
from course_helpers.exercises.form import ANY, Checked, Function, Parts, Value, number, read, seen, whole_number
from course_helpers.exercises.running import Wrong, begin, call, is_lazy, shown
from course_helpers.mandelbrot import MAX_ITER, render_level

EXERCISES = {}

# --- 1.1: find the first uniform image ---

NUMBER_OF_IMAGES, FIRST, NEARLY, MOST_RENDERED = 200_000, 139_845, 5_000, 20
LAST = NUMBER_OF_IMAGES - 1


def levels_of_record(answer):
    """The levels in the list of the lesson."""
    if not isinstance(answer, list):
        raise Wrong("the list is asked for to which the lesson appends each level that is rendered.")
    return [whole_number(level) for level in answer]


def counts_of(level):
    """The range of the counts of an image, by names."""
    image = render_level(level)
    return {"smallest": image.min(), "largest": image.max()}


def too_many(first_uniform, rendered):
    """Whether so many images were rendered for a level that may be right, and whether some of them again."""
    different = len(set(rendered))
    again = f", of {different} different levels. Dask keeps no image: asking twice renders twice"
    facts = {"count": len(rendered), "again": again * (different < len(rendered))}
    return facts if len(rendered) > MOST_RENDERED and first_uniform >= FIRST else None


EXERCISES["1.1"] = Parts(
    parts={
        "first_uniform": Value(
            right=FIRST,
            reads=whole_number,
            same=lambda found, known: found in known if isinstance(known, range) else found == known,
            nearly={
                "Image {found} is uniform, but so is the one before it. Can you find the very first?": range(
                    FIRST + 1, FIRST + NEARLY + 1
                ),
            },
            mistakes={
                "this image is not uniform yet, but its neighbour is. You are off by one.": FIRST - 1,
                "this image is uniform, but so are many before it. Where do the uniform images begin? Does your search ask "
                "whether all counts are equal? They need not be 256.": LAST,
                "this is how many images are uniform. Which number has the first of them?": NUMBER_OF_IMAGES - FIRST,
                "this is the middle of the stack, which is not uniform. Does your search go on?": NUMBER_OF_IMAGES // 2,
                f"the images of the stack are numbered from 0 to {LAST}.": seen(
                    NUMBER_OF_IMAGES, lambda found: not 0 <= found <= LAST
                ),
                "there the counts still range from {smallest} to {largest}. Go deeper.": seen(
                    130_000, lambda found: counts_of(found) if found < FIRST else None
                ),
            },
            otherwise="this image is uniform, but so are many before it. Where do the uniform images begin?",
        ),
        "rendered": Value(reads=levels_of_record, right=ANY),
    },
    mistakes={
        "the list of rendered images is empty. Find the level with stack[level].compute(), in at most "
        f"{MOST_RENDERED} images: what render_level renders when you call it yourself is not in the list.": seen(
            {"first_uniform": FIRST, "rendered": []}, lambda rendered: not rendered
        ),
        f"the answer may be right, but you rendered {{count}} images{{again}}. Can you do with {MOST_RENDERED}? (Other cells "
        "add to the list, too. If one ran after your search, run your search again, then this cell.)": seen(
            {"first_uniform": FIRST, "rendered": [7] * 30}, too_many
        ),
    },
    also_right=((np.int64(FIRST), [7] * MOST_RENDERED), (float(FIRST), [1]), (FIRST + NEARLY, [1])),
    praise=lambda rendered: f"You rendered {len(rendered)} of {NUMBER_OF_IMAGES:,} images.",
    hints=[
        "the stack has two parts: images that are not uniform, and after them images that are. You look for the border "
        "between them. What does one image in the middle of the stack tell you about all others?",
        "if the image in the middle is uniform, the border lies before it, else after it. Either way, half of the stack is "
        "out of the game after one image. How often can you halve 200,000 until one image is left?",
        "keep two levels, one that is known not to be uniform and one that is. Look at the image in the middle between "
        "them, and let the middle take the place of one of the two, until they are neighbours.",
    ],
)


# --- 1.2: a delayed function of your own ---


@contextlib.contextmanager
def counted_renders():
    """A list that grows by one entry whenever an image is rendered."""
    renders = []
    original = mandelbrot.mandelbrot_array

    def noting(*arguments, **options):
        renders.append(options)
        return original(*arguments, **options)

    # render_level looks this name up in its module, however the learner has imported render_level.
    with unittest.mock.patch.object(mandelbrot, "mandelbrot_array", noting):
        yield renders


class DelayedFunction(Function):
    """A function that must do nothing but return a plan; what this gives is compared.

    Rows of `mistakes` may name ``answer``, ``plan`` and ``renders`` (of the call), or ``value`` (of the plan).
    """

    def judged(self, answer):
        self.refuse({"answer": answer})
        return super().judged(answer)

    def found(self, answer, own, given):
        with counted_renders() as renders:
            plan = call(answer, *own.values(), given=given)
        self.refuse({"plan": plan, "returns": shown(plan), "renders": renders}, f"for {given} ")

        def computing(*case):
            return plan.compute(scheduler="synchronous")

        computing.__wrapped__ = answer  # a complaint is about the learner's function
        value = call(computing, *own.values(), given=given)
        self.refuse({"value": value}, f"for {given} ")
        return read(self.reads, value, f"for {given} computing your plan gives")


def spread_of(level, lowest=np.min, highest=np.max):
    image = render_level(level)
    return int(highest(image)) - int(lowest(image))


def delays(function, **others):
    return dask.delayed(functools.partial(function, **others))


EXERCISES["1.2"] = DelayedFunction(
    right=spread_of,
    # Of two of them only a corner has the smallest count. One level further, or less, a spread is another one.
    cases=lambda: ((level,) for level in (76_139, 110_231, FIRST)),
    given="level {level}",
    reads=number,
    mistakes={
        "this is the spread of level 0. Does your function use its level?": dask.delayed(lambda level: spread_of(0)),
        "this is the spread of some pixels, every second one of each row and column. Take all.": delays(
            spread_of, lowest=lambda image: image[::2, ::2].min(), highest=lambda image: image[::2, ::2].max()
        ),
        "this is the spread of the next level. Does your function change its level?": (
            dask.delayed(lambda level: spread_of(level + 1))
        ),
        "this is the largest count of the image. Does your function use the smallest one as well?": (
            delays(spread_of, lowest=lambda image: 0)
        ),
        "this is the smallest count of the image. Does your function use the largest one as well?": (
            dask.delayed(lambda level: render_level(level).min() + 0.0)
        ),
        f"counts lie between 0 and {MAX_ITER}. Mind the order of the subtraction, and that unsigned numbers have no values "
        "below zero.": seen(delays(spread_of, lowest=np.max, highest=np.min), lambda found: not 0 <= found <= MAX_ITER),
        "this is the plan of one call. Hand over the function itself, spread, without parentheses behind it.": seen(
            dask.delayed(spread_of)(0),
            lambda answer: isinstance(answer, Delayed) and not isinstance(answer, DelayedLeaf),
        ),
        "your function gives {returns} at once. It should return a plan: is the function delayed?": seen(
            spread_of, lambda plan: not is_lazy(plan)
        ),
        "your function gives a plan, but by then it has rendered an image. Delay the rendering as well.": seen(
            lambda level: dask.delayed(np.ptp)(render_level(level)), lambda renders: renders
        ),
        "computing your plan gives one more plan. Inside a delayed function, work directly.": seen(
            dask.delayed(lambda level: dask.delayed(spread_of)(level)), lambda value: is_lazy(value)
        ),
    },
    otherwise=lambda level: "the counts of this image range from {smallest} to {largest}.".format(**counts_of(level)),
    also_right=(dask.delayed(lambda level: np.ptp(render_level(level))), lambda level: dask.delayed(spread_of)(level)),
    praise="Three plans cost nothing, and computing them gave three numbers.",
    hints=[
        "write it as a normal function first and call it: does spread(0) give a number? Then delay it, as delayed_render "
        "above.",
        "the line @dask.delayed above def makes a function delayed. Inside, render_level(level) gives an image, and an image "
        "has .max() and .min().",
        "two lines inside the function do it: render the image, return its maximum minus its minimum.",
    ],
)


# --- 1.3: brightness along the zoom ---

LEVELS = range(0, 150_000, 5_000)
MOST_IN_MEMORY = 5


def images(levels=LEVELS):
    """A lazy stack of these images of the zoom, one per chunk."""
    return da.map_blocks(
        lambda block_id: render_level(levels[block_id[0]])[np.newaxis],
        chunks=((1,) * len(levels), (512,), (512,)),
        meta=np.empty((0, 0, 0), np.uint16),
    )


def means(stack):
    return stack.mean(axis=(1, 2))


@functools.cache
def mean_counts():
    """The mean count of each of these images, in the order of the levels."""
    return np.array([render_level(level).mean() for level in LEVELS])


class LargestResults(Callback):
    """Watches a computation and remembers the most bytes that finished tasks held at the same time."""

    def __init__(self):
        self.most_bytes = 0
        super().__init__(posttask=self.look)

    def look(self, key, result, graph, state, worker):
        held = sum(getattr(value, "nbytes", 0) for value in state["cache"].values())
        self.most_bytes = max(self.most_bytes, held)


def lazy_means(answer):
    """Look at what the array declares, then at its numbers, and at how they come about."""
    yield {"answer": answer, "found": shown(answer)}
    begin("computing your array")
    with LargestResults() as memory, counted_renders() as renders:
        values = answer.compute(scheduler="synchronous")
    begin("comparing your numbers", limited=False)
    yield {"values": values}
    yield {"renders": len(renders), "held": memory.most_bytes / render_level(0).nbytes}


def first_wrong_mean(values):
    wrong = np.flatnonzero(~np.isclose(values, mean_counts(), rtol=1e-6, atol=1e-6))
    at = wrong[0] if wrong.size else None
    return {"position": at, "value": values[at], "level": LEVELS[at]} if wrong.size else None


ONE_EACH = (
    f"the array has shape {{answer.shape}}, but one number for each of {len(LEVELS)} images is asked for, shape "
    f"({len(LEVELS)},). "
)
EXERCISES["1.3"] = Checked(
    check=lazy_means,
    seconds=60,
    mistakes={
        "the answer is {found}, each of them lazy. One dask array is asked for: can you do without a loop?": seen(
            [image.mean() for image in images()],
            lambda answer: isinstance(answer, (list, tuple)) and any(map(is_lazy, answer)),
        ),
        "the answer is {found}, already computed. Leave it lazy: no .compute(), no np.asarray.": seen(
            np.ones(len(LEVELS)), lambda answer: isinstance(answer, (np.ndarray, list, tuple, float, np.number))
        ),
        f"the answer is {{found}}, but a dask array of {len(LEVELS)} numbers is asked for.": seen(
            dask.delayed(np.ones)(len(LEVELS)), lambda answer: not isinstance(answer, da.Array)
        ),
        f"{ONE_EACH}Is it one for each row or column of an image? Over which axes is the mean taken?": seen(
            images().mean(axis=(0, 1)), lambda answer: answer.shape == (512,)
        ),
        f"{ONE_EACH}Which images are asked for?": seen(
            means(images(range(0, 200_000, 5_000))), lambda answer: answer.ndim == 1 and len(answer) != len(LEVELS)
        ),
        f"{ONE_EACH}Over which axes is the mean taken?": seen(images().mean(axis=0), lambda answer: answer.ndim != 1),
        "the array has dtype {answer.dtype}, but numbers are asked for.": seen(
            means(images()) > 100, lambda answer: answer.dtype.kind not in "iuf"
        ),
        "these are the sums of the images. The mean does not depend on how many pixels an image has.": seen(
            images().sum(axis=(1, 2)),
            lambda values: np.allclose(values, mean_counts() * render_level(0).size, rtol=1e-6),
        ),
        "number {position} is {value:.3f}, and that is not the mean count of all pixels of image {level}. The images are "
        f"those of level {LEVELS[0]}, {LEVELS[1]}, {LEVELS[2]}, ..., {LEVELS[-1]}.": seen(
            means(images(range(len(LEVELS)))), first_wrong_mean
        ),
        "the numbers are right, but computing the array rendered {renders} images: the others were rendered before. Leave "
        "all work to the moment of computing.": seen(
            da.map_blocks(lambda: mean_counts(), chunks=((len(LEVELS),),), meta=np.empty(0)),
            lambda renders: renders < len(LEVELS),
        ),
        "the numbers are right, but while they were computed {held:.0f} images were in memory at once. Keep one image per "
        "chunk.": seen(means(images().rechunk(-1)), lambda held: held > MOST_IN_MEMORY),
    },
    also_right=(
        means(images()),
        da.stack([da.from_delayed(delays(np.mean)(dask.delayed(render_level)(at)), (), float) for at in LEVELS]),
    ),
    praise=f"{len(LEVELS)} numbers of {len(LEVELS)} images, and never more than {MOST_IN_MEMORY} of the images in memory.",
    hints=[
        "begin with the images you need, stack[first:last:step], still lazy. Then take the mean of each image.",
        "the array that you get by slicing has three axes: level, row, column. The mean is taken over two of them; "
        "which are they?",
        "mean takes axis=..., and more than one axis as a tuple. Do not call .compute() and do not rechunk: as long as each "
        "image is a chunk of its own, dask can forget it once it has its mean.",
    ],
)
