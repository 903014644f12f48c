"""Checks of lesson 1, "Compute images only when you look at them"."""

import contextlib
import functools
import unittest.mock

import dask
import dask.array as da
import numpy as np
from dask.callbacks import Callback
from dask.delayed import DelayedLeaf

from course_helpers import mandelbrot
from course_helpers.exercises._old import (
    Nearly,
    Unanswered,
    Wrong,
    call,
    check_for,
    function,
    is_lazy,
    shown,
    whole_number,
)
from course_helpers.mandelbrot import MAX_ITER, render_level

NUMBER_OF_IMAGES = 200_000
LAST = NUMBER_OF_IMAGES - 1
MOST_RENDERED = 20
NEARLY = 5_000  # levels by which an answer may be too high and still be called approximate
LEVELS = range(0, 150_000, 5_000)
MOST_IN_MEMORY = 5


def spread_of(level):
    """The largest count of an image minus the smallest."""
    return int(np.ptp(render_level(level)))


@check_for(
    "1.1",
    hints=[
        "the stack has two parts: images that are not uniform, and after them images that are. You look for the border "
        "between them. What does one image in the middle of the stack tell you about all others?",
        "if the image in the middle is uniform, the border lies before it, else after it. Either way, half of the stack is "
        "out of the game after one image. How often can you halve 200,000 until one image is left?",
        "keep two levels, one that is known not to be uniform and one that is. Look at the image in the middle between "
        "them, and let the middle take the place of one of the two, until they are neighbours.",
    ],
)
def first_uniform(answer, rendered=None):
    level = whole_number(answer)
    if not 0 <= level < NUMBER_OF_IMAGES:
        raise Wrong(f"{shown(answer)} is no position in the stack: its images are numbered from 0 to {LAST}.")
    if not isinstance(rendered, list):
        raise Wrong("hand over the list of rendered levels as well: .check(first_uniform, rendered).")
    image = render_level(level)
    if np.ptp(image) and spread_of(level + 1) == 0:
        raise Wrong(f"image {level} is not uniform yet, but its neighbour is. You are off by one.")
    if np.ptp(image):
        raise Wrong(f"at {level} the counts still range from {image.min()} to {image.max()}. Go deeper.")
    if not rendered:
        raise Wrong(
            "the list of rendered images is empty. Find the level with stack[level].compute(), in at most "
            f"{MOST_RENDERED} images: what render_level renders when you call it yourself is not in the list."
        )
    if len(rendered) > MOST_RENDERED:
        different = len(set(map(str, rendered)))
        again = f", of {different} different levels. Dask keeps no image: asking twice renders twice"
        raise Wrong(
            f"the answer may be right, but you rendered {len(rendered)} images{again if different < len(rendered) else ''}. "
            f"Can you do with {MOST_RENDERED}? (Other cells add to the list, too. If one ran after your search, run your "
            "search again, then this cell.)"
        )
    effort = f"You rendered {len(rendered)} of {NUMBER_OF_IMAGES:,} images."
    if spread_of(level - 1) == 0:
        if spread_of(level - NEARLY) == 0:
            end = " Does your search ask whether all counts are equal? They need not be 256." if level == LAST else ""
            raise Wrong(f"image {level} is uniform, but so are many before it. Where do the uniform images begin?{end}")
        raise Nearly(f"{effort} Image {level} is uniform, but so is the one before it. Can you find the very first?")
    return effort


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


@check_for(
    "1.2",
    hints=[
        "write it as a normal function first and call it: does spread(0) give a number? Then delay it, as delayed_render "
        "above.",
        "the line @dask.delayed above def makes a function delayed. Inside, render_level(level) gives an image, and an image "
        "has .max() and .min().",
        "two lines inside the function do it: render the image, return its maximum minus its minimum.",
    ],
)
def spread(answer):
    if is_lazy(answer) and not isinstance(answer, DelayedLeaf):
        raise Wrong(
            "this is the plan of one call. Hand over the function itself, spread, without parentheses behind it."
        )
    function(answer)
    for level in (0, 60_000, 139_900):
        with counted_renders() as renders:
            plan = call(answer, level)
        if not is_lazy(plan):
            raise Wrong(
                f"spread({level}) gives {shown(plan)} at once. It should return a plan: is the function delayed?"
            )
        if renders:
            raise Wrong(
                f"spread({level}) gives a plan, but by then it has rendered an image. Delay the rendering as well."
            )
        try:
            value = dask.compute(plan, scheduler="synchronous")[0]
        except Exception as error:
            raise Wrong(
                f"spread({level}) is delayed, but computing it raises {type(error).__name__}: {error}."
            ) from None
        if value is None or value is ...:
            raise Unanswered("spread is delayed, but its function returns nothing yet. Write its body, with a return.")
        if is_lazy(value):
            raise Wrong(f"computing spread({level}) gives one more plan. Inside a delayed function, work directly.")
        if np.ndim(value) != 0 or np.asarray(value).dtype.kind not in "iuf":
            raise Wrong(
                f"computing spread({level}) gives {shown(value)}. One number is asked for: largest minus smallest count."
            )
        compare_spread(level, float(value))
    return "Three plans cost nothing, and computing them gave three numbers."


def compare_spread(level, value):
    """Say what a wrong spread looks like."""
    image = render_level(level)
    largest, smallest = int(image.max()), int(image.min())
    if value == largest - smallest:
        return
    if value < 0 or value > MAX_ITER:
        raise Wrong(
            f"spread({level}) is {value:.0f}, but counts lie between 0 and {MAX_ITER}. Mind the order of the "
            "subtraction, and that unsigned numbers have no values below zero."
        )
    if value == largest:
        raise Wrong(
            f"spread({level}) is {value:.0f}, the largest count of this image. Does your function use its level, and the smallest count?"
        )
    if value == smallest:
        raise Wrong(
            f"spread({level}) is {value:.0f}, the smallest count of this image. Does your function use the largest one as well?"
        )
    raise Wrong(f"spread({level}) is {value:g}. The counts of this image range from {smallest} to {largest}.")


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


@check_for(
    "1.3",
    hints=[
        "begin with the images you need, stack[first:last:step], still lazy. Then take the mean of each image.",
        "the array that you get by slicing has three axes: level, row, column. The mean is taken over two of them; "
        "which are they?",
        "mean takes axis=..., and more than one axis as a tuple. Do not call .compute() and do not rechunk: as long as each "
        "image is a chunk of its own, dask can forget it once it has its mean.",
    ],
)
def brightness(answer):
    if isinstance(answer, (list, tuple)) and any(map(is_lazy, answer)):
        raise Wrong(
            f"the answer is {shown(answer)}, each of them lazy. One dask array is asked for: can you do without a loop?"
        )
    if isinstance(answer, (np.ndarray, list, tuple, float, np.number)):
        raise Wrong(f"the answer is {shown(answer)}, already computed. Leave it lazy: no .compute(), no np.asarray.")
    if not isinstance(answer, da.Array):
        raise Wrong(f"the answer is {shown(answer)}, but a dask array of {len(LEVELS)} numbers is asked for.")
    if answer.shape != (len(LEVELS),):
        question = "Which images are asked for?" if answer.ndim == 1 else "Over which axes is the mean taken?"
        raise Wrong(
            f"the array has shape {answer.shape}, but one number for each of {len(LEVELS)} images is asked for, "
            f"shape ({len(LEVELS)},). {question}"
        )
    if answer.dtype.kind not in "iuf":
        raise Wrong(f"the array has dtype {answer.dtype}, but numbers are asked for.")
    expected = mean_counts()
    with LargestResults() as memory, counted_renders() as renders:
        values = answer.compute(scheduler="synchronous")
    images_held = memory.most_bytes / render_level(0).nbytes
    if np.allclose(values, expected * render_level(0).size, rtol=1e-6):
        raise Wrong("these are the sums of the images. The mean does not depend on how many pixels an image has.")
    if not np.allclose(values, expected, rtol=1e-6, atol=1e-6):
        position = int(np.flatnonzero(~np.isclose(values, expected, rtol=1e-6, atol=1e-6))[0])
        raise Wrong(
            f"number {position} is {values[position]:.3f}, and that is not the mean count of all pixels of image "
            f"{LEVELS[position]}. The images are those of level {LEVELS[0]}, {LEVELS[1]}, {LEVELS[2]}, ..., {LEVELS[-1]}."
        )
    if len(renders) < len(LEVELS):
        raise Wrong(
            f"the numbers are right, but computing the array rendered {len(renders)} images: the others were rendered "
            "before. Leave all work to the moment of computing."
        )
    if images_held > MOST_IN_MEMORY:
        raise Wrong(
            f"the numbers are right, but while they were computed {images_held:.0f} images were in memory at once. "
            "Keep one image per chunk."
        )
    return (
        f"{len(LEVELS)} numbers of {len(LEVELS)} images, and never more than {MOST_IN_MEMORY} of the images in memory."
    )
