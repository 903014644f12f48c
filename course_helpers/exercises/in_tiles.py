"""A form for functions of a dask array that return another one: `InTiles`. It looks at plans and at computations."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import dask
import dask.array as da
import numpy as np
from dask.array.core import normalize_chunks, slices_from_chunks
from dask.callbacks import Callback

from course_helpers.exercises.form import Function, array, read, seen
from course_helpers.exercises.running import Raised, Wrong, about_notebook, begin, call, described, is_lazy, shown

FEW_BYTES = 2**13  # may be computed early, as some numbers of an image, however small it is


class Watch(Callback):
    """Watches computations: how large the pieces of a plane get, and how many bytes a computation brings back.

    Attributes
    ----------
    most_pixels : int
        Entries of the largest array on the way.
    margins : (int, int)
        Rows and columns by which the pieces were made larger than a tile, both sides and all steps together.
    most_bytes : int
        Bytes of all arrays that one computation returned.
    """

    def __init__(self, tile):
        self.tile, self.most_pixels, self.most_bytes, self.margins = tile, 0, 0, np.zeros(2, dtype=int)
        self._pieces = {}
        super().__init__(posttask=self.look, finish=self.count)

    def look(self, key, result, graph, state, worker):
        shape = getattr(result, "shape", ())
        self.most_pixels = max(self.most_pixels, getattr(result, "size", 0) if shape else 0)
        if len(shape) != 2 or 1 in shape:  # a line of counts, for example
            return
        # Only growth beyond a tile is a margin: dask also builds small pieces, to fill the outer border.
        shape_or_tile = np.maximum(shape, self.tile)
        inputs = [self._pieces[name] for name in state["dependencies"][key] if name in self._pieces]
        before, margins = np.max(inputs, axis=0) if inputs else (shape_or_tile, (0, 0))
        margins = margins + np.maximum(shape_or_tile - before, 0)
        self._pieces[key] = shape_or_tile, margins
        self.margins = np.maximum(self.margins, margins)

    def count(self, graph, state, failed):
        results = [value.nbytes for value in state["cache"].values() if isinstance(value, np.ndarray)]
        self.most_bytes = max(self.most_bytes, sum(results))


def bytes_in_plan(result):
    """Bytes of the arrays that a plan holds, already computed."""
    values = (getattr(step, "value", step) for step in dict(result.__dask_graph__()).values())
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))


def lazy_tiles(image, side, taken=None):
    """A copy of an image cut into tiles, each taken when it is needed: no part of the plan holds the whole image.

    What is taken is noted in the list ``taken``.
    """
    image = image.copy()
    chunks = normalize_chunks(side, image.shape)
    windows = np.array(slices_from_chunks(chunks), dtype=object).reshape(*map(len, chunks), 2)

    def take(block_id):
        if taken is not None:
            taken.append(block_id)
        return image[tuple(windows[block_id])]

    return da.map_blocks(take, chunks=chunks, meta=np.empty((0, 0), dtype=image.dtype))


def in_words(tiles):
    (height, width), (rows, columns) = tiles.shape, tiles.chunksize
    return f"a {tiles.dtype} image of {height} x {width} pixels in tiles of {rows} x {columns}"


def same_pixels(one, other):
    return one.shape == other.shape and np.allclose(one, other, rtol=0, atol=1e-9)


@dataclass(kw_only=True)
class InTiles(Function):
    """A function of a dask array that returns another one: lazy, cut like the first, and never a whole image.

    A row ``seen(example, when)`` is looked at as soon as all facts are known that ``when`` names: first ``returned``
    (what came back) and ``running`` (the `Watch` over the call), then ``pixels`` (computed, not yet compared) with their
    ``plan``, then ``watched`` (the `Watch` over the computation of right pixels) or ``found`` with masks of the ``wrong``
    pixels, of those ``inside`` (beyond reach of the border of the image), and of those ``far`` from all cuts as well.
    """

    dtype: object
    reach: int = 0  # pixels that the result depends on along each axis: a narrower margin is not enough
    given: object = in_words
    reads: Callable = array
    same: Callable = same_pixels

    def __post_init__(self):
        self.mistakes = {
            **about_plans(self.right, self.reach),
            **about_results(self.right, self.reach),
            **(about_map_overlap(self.right) if self.reach else {}),
            **self.mistakes,
            **(about_margin(self.reach) if self.reach else {}),
        }

    def look(self, case):
        facts = {"watched": case.own["watch"], "tiles": case.own["tiles"], "times": case.own["times"]}
        self.refuse(facts, f"for {case.given} the result is right, but ")

    def found(self, answer, own, given):
        """The pixels that a learner's function stands for; notes the `Watch` over their computation."""
        size = own["tiles"].chunksize
        own["tiles"] = tiles = lazy_tiles(own["tiles"].compute(), own["tiles"].chunks, taken := [])
        # Steps that are not fused stay visible to Watch.
        with dask.config.set({"scheduler": "synchronous", "optimization.fuse.active": False}), Watch(size) as running:
            returned = call(answer, tiles, given=given)
        facts = {"returned": returned, "returns": shown(returned), "running": running}
        if says := self.recognised({**facts, "tiles": tiles, "dtype": np.dtype(self.dtype)}):
            # An image of the notebook explains everything else that is seen.
            another = about_notebook(answer, (np.ndarray, da.Array), begin="your")
            raise Wrong(f"for {given} {another or says + about_notebook(answer)}")
        begin(f"computing what your function returns for {given}")
        taken.clear()
        try:
            # Watch sees every step if nothing is optimized, and no whole image as long as the chunks stay apart.
            with Watch(size) as watched:
                tiles_of_result = returned.persist(scheduler="synchronous", optimize_graph=False)
            pixels = tiles_of_result.compute()
        except (Exception, SystemExit) as error:
            reason = Raised(f"computing what your function returns for {given} raises {described(error)}.")
            reason.error = described(error)
            raise reason from None
        self.refuse({"pixels": pixels, "gives": shown(pixels), "plan": returned}, f"for {given} ")
        own |= {"watch": watched, "margin": tuple(watched.margins // 2), "times": len(taken) / tiles.npartitions}
        return read(self.reads, pixels, f"for {given} computing your result gives")

    def fault(self, answer, first, answered):
        wrong = ~np.isclose(first.found, first.expected, rtol=0, atol=1e-9)
        row, column = np.argwhere(wrong)[0]
        one, other = (shown(pixels[row, column].item()) for pixels in (first.found, first.expected))
        where = f"{wrong.sum()} pixels differ from the whole, the first in row {row}, column {column}: {one} instead of {other}. "
        inside, far = away(first.arguments["tiles"].chunks, self.reach)
        first.own.update(wrong=wrong, inside=inside, far=far)
        says = super().fault(answer, first, answered)
        return where + says[0].upper() + says[1:]


def about_computing(returned):
    """A word on what is no dask array; False if it is one."""
    says = " It is computed already: no .compute() at the end, and no function that is given all of tiles at once."
    return not isinstance(returned, da.Array) and {"computed": says * isinstance(returned, np.ndarray)}


def computed_by_rows(tiles):
    """The same array with its pixels in the plan, computed one row of tiles after the other."""
    rows = [tiles.blocks[row].compute() for row in range(tiles.numblocks[0])]
    return da.from_array(np.vstack(rows), chunks=tiles.chunks)


def about_plans(right, reach):
    """Mistakes in what a function returns, whatever it shows: with examples that `right` makes."""
    return {
        "your function returns {returns}, but a lazy dask array is asked for.{computed}": seen(
            lambda tiles: right(tiles).compute(),
            about_computing,
        ),
        "your function computes and keeps {running.most_bytes} bytes while it runs, as many as the whole image has or "
        "more. Leave pixels lazy; compute a few numbers at most.": seen(
            lambda tiles: right(tiles.persist()),
            lambda running, tiles: running.most_bytes >= max(tiles.nbytes, FEW_BYTES),
        ),
        "your function puts the whole image into one piece while it runs. It should work tile by tile.": seen(
            lambda tiles: right(tiles) if tiles.rechunk(-1).max().compute() else tiles,
            lambda running, tiles: running.most_pixels >= tiles.size,
        ),
        "the plan that your function returns holds {bytes} bytes of pixels that are computed already, as many as the "
        "whole image has or more. Leave pixels lazy.": seen(
            lambda tiles: right(computed_by_rows(tiles)),
            lambda returned, tiles: (
                (bytes := bytes_in_plan(returned)) >= max(tiles.nbytes, FEW_BYTES) and {"bytes": bytes}
            ),
        ),
        "the result declares {returned.dtype}, but {dtype} is what it should hold.{same}": seen(
            lambda tiles: right(tiles).astype(complex),
            lambda returned, dtype, tiles: (
                returned.dtype != dtype and {"same": " It is tiles itself, unchanged." * (returned is tiles)}
            ),
        ),
        "the result is cut into {returned.chunks}, and not like the input: {tiles.chunks}.{trim}": seen(
            lambda tiles: right(da.overlap.overlap(tiles, depth=3, boundary="none")),
            lambda returned, tiles: returned.chunks != tiles.chunks and about_size(returned, tiles, reach),
        ),
    }


def about_size(one, other, reach):
    """A word on what makes an array larger or smaller than another, or cuts it in another way."""
    if not reach:
        return {"trim": " (chunks= in map_blocks declares sizes, it does not cut.)"}
    if one.size == other.size:
        return {"trim": " (rechunk makes other tiles, and so does a margin that is wider than a tile.)"}
    larger = "larger: the margins of its tiles are still there. Trim them."
    return {
        "trim": f" It is {larger if one.size > other.size else 'smaller: map_overlap trims the margins by itself.'}"
    }


def about_margin(reach):
    """A mistake that is looked for after those of the exercise."""

    def narrow(margin, tiles):
        cut = [size for size, number in zip(margin, tiles.numblocks) if number > 1]
        return {"rows": margin[0], "columns": margin[1]} if min(cut) < reach else None

    return {
        "Your margin, all steps together, is {rows} pixels in rows and {columns} in columns. How far do two filters look, "
        "one after the other?": seen({"depth": reach - 1}, narrow),
    }


def about_results(right, reach):
    """Mistakes that show when a plan is computed."""
    return {
        "what your function computes for a tile is a plan, not pixels: a number in it, such as a mean, is still lazy. Compute it before.": seen(
            lambda tiles: right(tiles).map_blocks(da.from_array, dtype=right(tiles).dtype),
            lambda pixels: is_lazy(pixels),
        ),
        "what your function returns declares shape {plan.shape} and {plan.dtype}, but computing it gives {gives}: what comes of a "
        "tile is something else than declared.{trim}": seen(
            lambda tiles: right(tiles).map_blocks(np.pad, 1, dtype=right(tiles).dtype, chunks=tiles.chunks),
            lambda pixels, plan: (
                (pixels.shape, pixels.dtype) != (plan.shape, plan.dtype) and about_size(pixels, plan, reach)
            ),
        ),
        "your function puts the whole image into one piece. It should work tile by tile.": seen(
            lambda tiles: right(tiles).rechunk(-1).rechunk(tiles.chunks),
            lambda watched, tiles: watched.most_pixels >= tiles.size,
        ),
        "each tile was loaded {times:.0f} times. Does the function of a tile compute something of all tiles, each time "
        "anew? Do it once, before.": seen(
            lambda tiles: right(tiles).map_blocks(
                lambda tile: (tiles.max().compute(), tile)[1], dtype=right(tiles).dtype
            ),
            lambda times: times > 3,
        ),
    }


def about_map_overlap(right):
    """Errors of map_overlap."""
    return {
        "depth is a whole number of pixels, such as 3: without quotes and decimals.": seen(
            lambda tiles: tiles.map_overlap(np.copy, depth=3.0, boundary="none"),
            lambda error: (
                "'float' object is not subscriptable" in error or "'str' object does not support item" in error
            ),
        ),
        "boundary {boundary} is unknown to map_overlap. The section on the border of the image lists what it knows.": seen(
            lambda tiles: right(tiles.map_overlap(np.copy, depth=3, boundary="mirror")),
            lambda error: (
                (name := re.search(r"(?:invalid literal|could not convert).*('\w+')", error)) and {"boundary": name[1]}
            ),
        ),
    }


def away(chunks, reach):
    """Masks of the pixels that are farther than this from the border of the image, and of those that are from all cuts."""
    inside, far = [], []
    for sizes in chunks:
        edges = np.cumsum((0, *sizes))
        beyond = np.abs(np.arange(edges[-1]) + 0.5 - edges[:, np.newaxis]) > reach
        inside.append(beyond[0] & beyond[-1])
        far.append(beyond.all(axis=0))
    return np.logical_and.outer(*inside), np.logical_and.outer(*far)
