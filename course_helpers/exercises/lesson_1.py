"""Exercises of lesson 1, "Compute images only when you look at them"."""

import contextlib
import functools
import unittest.mock
import weakref
from types import SimpleNamespace

import dask
import dask.array as da
import numpy as np
from dask.callbacks import Callback
from dask.delayed import Delayed, DelayedLeaf

from course_helpers import mandelbrot
from course_helpers.exercises.form import ANY, Function, Parts, Value, number, read, seen, whole_number
from course_helpers.exercises.running import Wrong, begin, call, described, is_lazy, names_used, shown
from course_helpers.mandelbrot import MAX_ITER, render_level

EXERCISES = {}

NUMBER_OF_IMAGES, FIRST, NEARLY, MOST_RENDERED = 200_000, 139_845, 5_000, 20
LAST, ACCEPTED = NUMBER_OF_IMAGES - 1, range(FIRST, FIRST + NEARLY + 1)


def counts_of(level):
    """The range of the counts of an image, by names."""
    image = render_level(level)
    return {"smallest": image.min(), "largest": image.max()}


# --- 1.1: a delayed function of your own ---


@contextlib.contextmanager
def counted_renders():
    """A list that grows with every image that is rendered: by how many of them are in memory then."""
    renders, images = [], []
    original = mandelbrot.mandelbrot_array

    def noting(*arguments, **options):
        image = original(*arguments, **options)
        images.append(weakref.ref(image))
        renders.append(sum(known() is not None for known in images))
        return image

    # render_level looks this name up in its module, however the learner has imported render_level.
    with unittest.mock.patch.object(mandelbrot, "mandelbrot_array", noting):
        yield renders


class DelayedFunction(Function):
    """A function that must do nothing but return a plan; what this gives is compared.

    Rows of `mistakes` may name ``answer``, ``plan`` and ``renders`` (of the call), or ``value`` (of the plan), and
    ``computes``: whether .compute is written in the function.
    """

    def judged(self, answer):
        self.refuse({"answer": answer})
        return super().judged(answer)

    def found(self, answer, own, given):
        with counted_renders() as renders:
            plan = call(answer, *own.values(), given=given)
        computes = "compute" in names_used(answer)
        facts = {"plan": plan, "returns": shown(plan), "renders": renders, "computes": computes}
        self.refuse(facts, f"for {given} ")

        def computing(*case):
            return plan.compute(scheduler="synchronous")

        computing.__wrapped__ = answer  # a complaint is about the learner's function
        value = call(computing, *own.values(), given=given)
        self.refuse({"value": value, "computes": computes}, f"for {given} ")
        return read(self.reads, value, f"for {given} computing your plan gives")


def spread_of(level):
    return int(np.ptp(render_level(level)))


EXERCISES["1.1"] = DelayedFunction(
    right=spread_of,
    # Of two of them only a corner has the smallest count. One level further, or less, a spread is another one.
    cases=lambda: ((level,) for level in (76_139, 99_043, 110_231, FIRST, 0)),
    given="level {level}",
    reads=number,
    mistakes={
        "a spread is not below zero. Mind the order of the subtraction, and that unsigned numbers begin again at the top.": seen(
            dask.delayed(lambda level: -spread_of(level)), lambda found: found < 0 or 65_000 < found < 66_000
        ),
        "there it works on a plan. Call a method of it, such as image.max(), or delay the whole function.": seen(
            lambda level: max(dask.delayed(render_level)(level)), lambda error: "Delayed" in error
        ),
        "a level is a number. Render its image first: image = render_level(level).": seen(
            dask.delayed(lambda image: image.max() - image.min()),
            lambda error: "'int' object has no attribute" in error,
        ),
        "Python's own max and min compare whole rows with each other. Write image.max() and image.min().": seen(
            dask.delayed(lambda level: max(render_level(level))), lambda error: "truth value" in error
        ),
        "a method is called only with () behind it, as in image.max().": seen(
            dask.delayed(lambda level: render_level(level).max - 0),
            lambda error: "builtin_function" in error,
        ),
        "this is the plan of one call. Hand over the function itself, spread, without parentheses behind it.": seen(
            dask.delayed(spread_of)(0),
            lambda answer: isinstance(answer, Delayed) and not isinstance(answer, DelayedLeaf),
        ),
        "your function gives {returns} at once, because .compute() in it asks for a result. Leave it out: return a plan.": seen(
            lambda level: dask.delayed(spread_of)(level).compute(),
            lambda plan, computes: computes and not is_lazy(plan),
        ),
        "your function gives {returns} at once. It should return a plan. Is the function delayed, by @dask.delayed above def or "
        "by spread = dask.delayed(spread) below it?": seen(spread_of, lambda plan: not is_lazy(plan)),
        "your function gives a plan, but by then it has rendered an image. Delay the rendering as well.": seen(
            lambda level: dask.delayed(np.ptp)(render_level(level)), lambda renders: renders
        ),
        "there is another plan within your plan. Inside a delayed function, work directly, with render_level(level).": seen(
            dask.delayed(lambda level: dask.delayed(spread_of)(level)),
            lambda value, computes: computes or is_lazy(value),
        ),
    },
    otherwise=lambda level: (
        "the counts of this image range from {smallest} to {largest}. Does your function render its level, look for both in all pixels, and subtract?".format(
            **counts_of(level)
        )
    ),
    also_right=(dask.delayed(lambda level: np.ptp(render_level(level))), lambda level: dask.delayed(spread_of)(level)),
    praise="{count} plans cost nothing, and computing them gave {count} numbers.",
    hints=[
        "write it as a normal function first and call it: does spread(0) give a number? Then delay it, as delayed_render "
        "above.",
        "the line @dask.delayed above def makes a function delayed. Inside, render_level(level) gives an image, and an image "
        "has .max() and .min().",
        "two lines inside the function do it: render the image, return its maximum minus its minimum.",
    ],
)


# --- 1.2: find the first uniform image ---


def level(answer):
    """The number of an image."""
    if np.ndim(answer) == 2:
        raise Wrong("the number of the image is asked for, its level, not the image itself.")
    return whole_number(answer)


def levels_of_record(answer):
    """The levels in the list of the lesson."""
    if not isinstance(answer, list):
        raise Wrong("the list is asked for to which the lesson appends each level that is rendered.")
    return [whole_number(level) for level in answer]


def none_near(first_uniform, rendered):
    """Whether no uniform image was rendered that may have shown this answer."""
    near = any(FIRST <= level <= first_uniform + NEARLY for level in rendered)
    return first_uniform in ACCEPTED and not near and {"count": len(rendered)}


def off_the_record(first_uniform, rendered):
    """The closest rendered images before and behind the first uniform one, if a search that gave another one is at odds with them."""
    low = max((at for at in rendered if 0 <= at < FIRST), default=0)
    high = min((at for at in rendered if FIRST <= at <= LAST), default=LAST)
    is_wrong = 0 <= first_uniform < FIRST - 1 or ACCEPTED.stop <= first_uniform <= LAST
    at_odds = rendered and (first_uniform <= low or first_uniform >= high or 0 < low and high < LAST)
    return is_wrong and at_odds and high - low > 1 and {"low": low, "high": high, **counts_of(low)}


def too_many(first_uniform, rendered):
    """Whether so many images were rendered for a level that may be right, and whether some of them again."""
    different = len(set(rendered))
    again = f", of {different} different levels. Dask keeps no image: asking twice renders twice"
    facts = {"count": len(rendered), "again": again * (different < len(rendered))}
    return facts if len(rendered) > MOST_RENDERED and first_uniform in ACCEPTED else None


EXERCISES["1.2"] = Parts(
    parts={
        "first_uniform": Value(
            right=FIRST,
            reads=level,
            same=lambda found, known: found in known if isinstance(known, range) else found == known,
            nearly={
                "Image {found} is uniform, but so is the one before it. Can you find the very first?": ACCEPTED[1:],
            },
            mistakes={
                "this image is not uniform yet, but its neighbour is. You are off by one.": FIRST - 1,
                "this is how many images are uniform. Which number has the first of them?": NUMBER_OF_IMAGES - FIRST,
                f"the images of the stack are numbered from 0 to {LAST}.": seen(
                    NUMBER_OF_IMAGES, lambda found: not 0 <= found <= LAST
                ),
                "at this level, near the very beginning, the counts range from {smallest} to {largest}. The level of an image is "
                "asked for: not a count, nor a place in a list.": seen(
                    18, lambda found: found <= MAX_ITER and counts_of(found)
                ),
                "there the counts still range from {smallest} to {largest}, and all pixels should have the same. Go deeper.": seen(
                    130_000, lambda found: counts_of(found) if found < FIRST else None
                ),
            },
            otherwise="this image is uniform, but so are many before it. Where do the uniform images begin?",
        ),
        "rendered": Value(reads=levels_of_record, right=ANY),
    },
    mistakes={
        "your search looked at no image beyond {last}: small_stack has only the first 2,000. Search in stack.": seen(
            {"first_uniform": None, "rendered": [999, 1_499, 1_749]},
            lambda rendered: rendered and 1_000 <= max(rendered) < 2_000 and {"last": max(rendered)},
        ),
        "first_uniform = {first_uniform} may be right, but none of the {count} images in the list of rendered ones is uniform and near it. "
        f"Let your search find it with stack[level].compute(), in at most {MOST_RENDERED} images: what render_level renders "
        "when you call it yourself is not in the list, nor what was found before rendered.clear().": seen(
            {"first_uniform": FIRST, "rendered": [139_000]}, none_near
        ),
        "first_uniform = {first_uniform} does not go with what your search rendered. Image {low} is not uniform: its counts range from "
        "{smallest} to {largest}. Image {high} is: all its pixels have the same count, whichever. The first uniform one lies between "
        "the two. Go on there until they are neighbours; the uniform one is the answer.": seen(
            {"first_uniform": 1, "rendered": [99_999, 49_999, 24_999]}, off_the_record
        ),
        f"the answer may be right, but you rendered {{count}} images{{again}}. Can you do with {MOST_RENDERED}? An "
        "image in the middle tells in which half to go on. (Other cells "
        "add to the list, too. If one ran after your search, run your search again, then this cell.)": seen(
            {"first_uniform": FIRST, "rendered": [FIRST] * 30}, too_many
        ),
    },
    also_right=(
        (np.int64(FIRST), [FIRST] * MOST_RENDERED),
        (float(FIRST), [FIRST]),
        (FIRST + NEARLY, [1, LAST, FIRST + 7]),
    ),
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


# --- 1.3: brightness along the zoom ---

LEVELS = range(0, 150_000, 5_000)
MOST_IN_MEMORY = 2  # with one worker


def images(levels=LEVELS):
    """A lazy stack of these images of the zoom, one per chunk."""
    return da.map_blocks(
        lambda block_id: render_level(levels[block_id[0]])[np.newaxis],
        chunks=((1,) * len(levels), (512,), (512,)),
        meta=np.empty((0, 0, 0), np.uint16),
    )


@functools.cache
def mean_counts():
    """The mean count of each of these images, in the order of the levels."""
    return images().mean(axis=(1, 2)).compute(scheduler="threads")


def brightness(answer):
    """What computing a lazy array of so many numbers gives, images rendered for it and held at once; other answers as they are."""
    if not isinstance(answer, da.Array) or answer.shape != (len(LEVELS),) or answer.dtype.kind not in "iuf":
        return answer
    begin("computing the right numbers", limited=False)
    mean_counts()  # before renders are counted
    begin("computing your array")
    pixels = []  # held by finished tasks, after each of them

    def look(key, result, graph, state, worker):
        pixels.append(sum(value.size for value in state["cache"].values() if isinstance(value, np.ndarray)))

    try:
        with Callback(posttask=look), counted_renders() as renders:
            values = answer.compute(scheduler="synchronous")
    except (ArithmeticError, ValueError, TypeError) as error:
        remedy = " Leave dtype out of .mean: sums are large, and a mean has decimals." * isinstance(
            error, OverflowError
        )
        raise Wrong(f"computing it raises {described(error)}.{remedy}") from None
    if np.shape(values) != answer.shape:
        raise Wrong(f"computing it gives {shown(values)}, which is not what it declares.")
    held = max(max(pixels, default=0) / 512**2, *renders, 0)
    return SimpleNamespace(values=values, renders=len(renders), held=held)


def kind(when):
    """A recogniser of answers that are no lazy array of so many numbers; tells what they are."""
    return lambda found: not isinstance(found, SimpleNamespace) and when(found) and {"what": shown(found)}


def first_wrong_mean(found):
    wrong = np.flatnonzero(~np.isclose(found.values, mean_counts(), rtol=1e-6, atol=1e-6))
    if not wrong.size:
        return None
    at = wrong[0]
    return {"position": at, "value": found.values[at], "level": LEVELS[at], "right": mean_counts()[at]}


def in_one_piece(numbers):
    """A lazy array of these numbers, which a function makes."""
    return da.map_blocks(numbers, chunks=((len(LEVELS),),), meta=np.empty(0))


ONE_EACH = (
    f"the answer is {{what}}, but one number for each of {len(LEVELS)} images is asked for, shape ({len(LEVELS)},). "
)
EXERCISES["1.3"] = Value(
    reads=brightness,
    lazy=True,
    seconds=60,
    mistakes={
        "the answer is {what}, each of them lazy. One dask array is asked for: can you do without a loop?": seen(
            [image.mean() for image in images()],
            kind(lambda found: isinstance(found, (list, tuple)) and any(map(is_lazy, found))),
        ),
        "the answer is {what}, already computed. Leave it lazy: no .compute(), np.asarray or np.array.": seen(
            np.ones(len(LEVELS)), kind(lambda found: isinstance(found, (np.ndarray, list, tuple, float, np.number)))
        ),
        f"the answer is {{what}}, but a dask array of {len(LEVELS)} numbers is asked for.": seen(
            dask.delayed(np.ones)(len(LEVELS)),
            kind(lambda found: not isinstance(found, da.Array) or found.dtype.kind not in "iuf"),
        ),
        f"{ONE_EACH}A slice start:stop:step ends before its stop. Which are the first, the second and the last of your images?": seen(
            images(range(0, 200_000, 5_000)).mean(axis=(1, 2)),
            kind(lambda found: found.ndim == 1 and len(found) not in (512, len(LEVELS))),
        ),
        f"{ONE_EACH}Axes of length 1 are left over.": seen(
            images().mean(axis=(1, 2), keepdims=True), kind(lambda found: found.size == len(LEVELS) != found.shape[-1])
        ),
        f"{ONE_EACH}Over which axes is the mean taken?": seen(images().mean(axis=0), kind(lambda found: True)),
        "number {position} is {value:.3f}, but the mean count of all pixels of image {level} is {right:.3f}. The images are "
        "those of level 0, 5000, 10000, ..., 145000, and a mean is a sum divided by the number of pixels.": seen(
            images(range(7, 150_000, 5_000)).mean(axis=(1, 2)), first_wrong_mean
        ),
        f"the numbers are right, but computing the array rendered {{found.renders}} of the {len(LEVELS)} images: what is missing was "
        "done before. Leave all work to the moment of computing.": seen(
            in_one_piece(mean_counts), lambda found: found.renders < len(LEVELS)
        ),
        "the numbers are right, but while one worker computed them {found.held:.0f} images were in memory at once. Keep one image "
        "per chunk, and per task.": seen(
            images().rechunk((5, 512, 512)).mean(axis=(1, 2)), lambda found: round(found.held) > MOST_IN_MEMORY
        ),
    },
    also_right=(
        images().mean(axis=(1, 2)),
        images().astype(float).rechunk((1, 256, 256)).mean(axis=(1, 2)),
        da.stack([da.from_delayed(dask.delayed(np.mean)(dask.delayed(render_level)(at)), (), float) for at in LEVELS]),
    ),
    praise=f"{len(LEVELS)} numbers of {len(LEVELS)} images, and each image is forgotten once it has its mean.",
    hints=[
        "begin with the images you need, stack[first:last:step], still lazy. Then take the mean of each image.",
        "the array that you get by slicing has three axes: level, row, column. The mean is taken over two of them; "
        "which are they?",
        "mean takes axis=..., and more than one axis as a tuple. Do not call .compute() and do not rechunk: as long as each "
        "image is a chunk of its own, dask can forget it once it has its mean.",
    ],
)
