"""The exercises of lesson 3: stub, solution, typical mistakes, hostile answers."""

import re
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
from scipy.ndimage import maximum_filter
from skimage.filters import gaussian, threshold_otsu

from course_helpers.background import remove_background
from course_helpers.exercises import lesson_3
from course_helpers.tiling import smallest_overlap, tiled, tiling_error

SOURCE = Path(__file__).parents[1] / "notebooks" / "source" / "03_overlapping_tiles.md"


@pytest.mark.parametrize("number, answers", [("3.2", 1), ("3.4", 1)])
def test_unanswered(line_of, number, answers):
    assert line_of(number, *[...] * answers).startswith(f"○ Exercise {number}: not answered yet.")


def not_written(*arguments): ...


@pytest.mark.parametrize("number", ["3.2", "3.4"])
def test_function_not_written(line_of, number):
    assert line_of(number, not_written).startswith(f"○ Exercise {number}: your function returns nothing yet.")


def test_checks_use_what_the_lesson_uses():
    """The region, tile, radii and sizes of the checks are those that the learner reads."""
    lesson = SOURCE.read_text(encoding="utf-8")
    region = f"slide[{', '.join(f'{part.start}:{part.stop}' for part in lesson_3.REGION)}].compute()"
    assert f"image = {region}" in lesson and f"chunks={lesson_3.TILE})" in lesson
    assert f"remove_background(tile, radius={lesson_3.RADIUS})" in lesson
    assert f"sigma={lesson_3.STEPS[0][1]}" in lesson and f"size={2 * lesson_3.STEPS[1][1] + 1}, mode" in lesson
    assert f"margin of {lesson_3.COST_MARGIN} pixels" in lesson and f"at most {lesson_3.COST_LIMIT}" in " ".join(
        lesson.split()
    )
    assert f"tiles of {lesson_3.COST_TILE} × {lesson_3.COST_TILE} pixels" in lesson
    assert re.search(rf"def broken.*radius={lesson_3.NUCLEUS_RADIUS}\)", lesson, re.S)


# 3.1: how much overlap is enough?


def found_by_search(radius, tile=128):
    def top_hat(pixels):
        return remove_background(pixels, radius)

    return smallest_overlap(top_hat, lesson_3.lesson_image(), tile, maximum=24)


def test_3_1_knows_what_searches_find():
    """With the numbers of the exercise, with other tiles, and with the radii that the notebook and the helper have."""
    here = lesson_3.EXERCISES["3.1"].parts["passes_here"]
    searches = [found_by_search(10, 256), found_by_search(7), found_by_search(7, 256), found_by_search(6)]
    assert searches == [wrong for wrong in here.mistakes.values() if isinstance(wrong, int)]
    assert here.right == found_by_search(10)


def test_3_1_image_needs_less_than_the_bound():
    """Else the exercise would not show that a search is not a proof."""
    assert 10 < lesson_3.PASSES_HERE < lesson_3.ALWAYS_ENOUGH == 20


@pytest.mark.parametrize("radius", [5, 6, 7, 10])
def test_broken_disks_need_all_of_the_reach(radius):
    """In both directions one pixel less than 2 * radius fails, and 2 * radius passes."""

    def top_hat(tile):
        return remove_background(tile, radius)

    image = lesson_3.broken_disks(radius, 32)
    wrong = tiled(top_hat, image, 32, 2 * radius - 1) != top_hat(image)
    assert wrong[:64].any() and wrong[64:].any()
    assert tiling_error(top_hat, image, 32, 2 * radius) == 0


# 3.2: a pipeline in tiles


def pipeline(tile):
    return maximum_filter(gaussian(tile, sigma=1.5, mode="nearest", preserve_range=True), size=11, mode="nearest")


def with_margin(depth, boundary="none", **options):
    options = {"dtype": float, **options}
    return lambda tiles: tiles.map_overlap(pipeline, depth=depth, boundary=boundary, **options)


def step_by_step(smooth_depth=6, widen_depth=5, boundary="nearest"):
    def two_calls(tiles):
        smooth = {"sigma": 1.5, "mode": "nearest", "preserve_range": True}
        smoothed = tiles.map_overlap(gaussian, depth=smooth_depth, boundary=boundary, dtype=float, **smooth)
        widen = {"size": 11, "mode": "nearest"}
        return smoothed.map_overlap(maximum_filter, depth=widen_depth, boundary=boundary, dtype=float, **widen)

    return two_calls


def trimmed_after_each_step(tiles):
    """One margin for both filters, of which each filter uses up its own part."""
    pieces = da.overlap.overlap(tiles, depth=11, boundary="none")
    smoothed = pieces.map_blocks(gaussian, dtype=float, sigma=1.5, mode="nearest", preserve_range=True)
    smoothed = da.overlap.trim_internal(smoothed, {0: 6, 1: 6}, boundary="none")
    widened = smoothed.map_blocks(maximum_filter, dtype=float, size=11, mode="nearest")
    return da.overlap.trim_internal(widened, {0: 5, 1: 5}, boundary="none")


def whole_at_once(procedure):
    """The whole image in one tile, in three ways."""
    return [
        lambda tiles: tiles.rechunk(-1).map_blocks(procedure, dtype=float).rechunk(tiles.chunks),
        lambda tiles: tiles.rechunk(-1).map_overlap(procedure, 12, boundary="none", dtype=float).rechunk(tiles.chunks),
        lambda tiles: da.from_delayed(dask.delayed(procedure)(tiles), tiles.shape, float).rechunk(tiles.chunks),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        with_margin(11),
        with_margin({0: 11, 1: 11}),
        with_margin((11, 11), dtype=None, meta=np.empty((0, 0))),
        with_margin(11, allow_rechunk=False),
        with_margin(11, boundary=None),
        step_by_step(),
        step_by_step(boundary="none"),
        trimmed_after_each_step,
    ],
)
def test_3_2_right(line_of, answer):
    line = line_of("3.2", answer)
    assert line.startswith(
        "✓ Exercise 3.2: correct. Tiled equals whole in every pixel, with no more than 11 pixels of margin. "
        "(Does your code name the boundary?"
    )


@pytest.mark.parametrize(
    "answer, feedback",
    [
        (lambda tiles: tiles.map_blocks(pipeline, dtype=float), "Your margin is 0 pixels: there is none at all"),
        (with_margin(5), "Your margin is 5 pixels: the radius of only one of the two filters"),
        (with_margin(6), "Your margin is 6 pixels: the radius of only one of the two filters"),
        (with_margin(10), "Your margin is 10 pixels: less than both look together"),
        (with_margin(10, boundary="nearest"), "less than both look together"),
        (with_margin((11, 4)), "along both axes"),
        (with_margin(12), "the result is right, but your tiles have a margin of 12 pixels"),
        (with_margin(17), "a margin of 17 pixels, all steps together. Less is always enough. size=11 is a width"),
        (with_margin((11, 17)), "a margin of 17 pixels"),
        (step_by_step(6, 11), "a margin of 17 pixels, all steps together. Less is always enough. size=11 is a width"),
        (step_by_step(6, 10), "a margin of 16 pixels"),
        (step_by_step(6, 6), "a margin of 12 pixels"),
        (step_by_step(11, 11, "none"), "a margin of 22 pixels"),
        (step_by_step(6, 6, "none"), "a margin of 12 pixels"),
        (
            lambda tiles: with_margin(11)(tiles.rechunk({1: -1})).rechunk(tiles.chunks),
            "a margin of 55 pixels",
        ),
        (with_margin(11, boundary="nearest"), "all of them at the outer border"),
        (with_margin(11, boundary=0), "all of them at the outer border"),
        (with_margin(11, dtype=np.uint8), "declares uint8, but float64"),
        (with_margin(11, trim=False), "computing it gives an array of shape (194, 214)"),
        (lambda tiles: with_margin(11)(tiles).compute(), "already computed"),
        (lambda tiles: da.from_array(pipeline(tiles.compute()), chunks=60), "Leave pixels lazy"),
        (lambda tiles: tiles.rechunk(-1).map_blocks(pipeline, dtype=float), "should be cut like the input"),
        *[(answer, "but your function puts the whole image into one piece") for answer in whole_at_once(pipeline)],
        (lambda tiles: tiles.astype(float), "Does your function apply smooth_and_widen"),
        (lambda tiles: tiles.astype(float) * np.nan, "Does your function apply smooth_and_widen"),
        (lambda tiles: with_margin(11)(tiles)[:-1], "the result has shape (149, 170)"),
        (lambda tiles: tiles.map_blocks(lambda tile: tile.no_such_method(), dtype=float), "AttributeError"),
        (lambda tiles: undefined, "NameError"),  # noqa: F821
        (lambda: 3, "TypeError"),
        (11, "a function is asked for"),
        (da.zeros((150, 170), chunks=60), "a function is asked for"),
        (lambda tiles: 11, "returns 11, but a dask array is asked for"),
    ],
)
def test_3_2_mistakes(line_of, answer, feedback):
    line = line_of("3.2", answer)
    assert line.startswith("✗") and feedback in line


def test_3_2_hostile(line_of, hostile):
    assert line_of("3.2", hostile)[0] in "✗○"
    if not callable(hostile):
        assert line_of("3.2", lambda tiles: hostile)[0] in "✗○"


# 3.4: repair a pipeline


def summed_histogram(pixels):
    return da.histogram(pixels, bins=256, range=(0, 256))[0].compute()


def find_nuclei(depth=12, boundary="none", radius=6, threshold=lambda tiles, flat: threshold_of(flat)):
    """The repaired pipeline, with places for mistakes."""

    def find(tiles):
        flat = tiles.map_overlap(remove_background, depth=depth, boundary=boundary, radius=radius, dtype=np.uint8)
        return flat > threshold(tiles, flat)

    return find


def threshold_of(pixels):
    return threshold_otsu(hist=summed_histogram(pixels))


def threshold_per_tile(depth, boundary):
    return lambda tiles: tiles.map_overlap(remove_and_divide, depth=depth, boundary=boundary, dtype=bool)


def remove_and_divide(tile):
    """All of the broken pipeline in one function: right for a whole image, wrong for a tile."""
    flat = remove_background(tile, radius=6)
    return flat > threshold_otsu(flat)


def background_of_whole(tiles):
    flat = tiles.rechunk(-1).map_overlap(remove_background, depth=12, boundary="none", radius=6, dtype=np.uint8)
    flat = flat.rechunk(tiles.chunks)
    return flat > threshold_of(flat)


def threshold_of_whole(tiles, flat):
    return flat.rechunk(-1).map_blocks(lambda whole: np.array([[threshold_otsu(whole)]]), chunks=(1, 1)).compute()[0, 0]


def threshold_of_sample(step):
    return lambda tiles, flat: threshold_of(flat[::step, ::step])


def threshold_of_100_bins(tiles, flat):
    return threshold_otsu(hist=da.histogram(flat, bins=100, range=(0, 256))[0].compute())


def threshold_with_bin_centres(tiles, flat):
    counts, edges = da.histogram(flat, bins=256, range=(0, 256))
    return threshold_otsu(hist=(counts.compute(), (edges[:-1] + edges[1:]) / 2))


def mean_of_thresholds(tiles, flat):
    return flat.map_blocks(lambda tile: np.array([[threshold_otsu(tile)]]), chunks=(1, 1), dtype=float).mean().compute()


def at_least_the_threshold(tiles):
    flat = tiles.map_overlap(remove_background, depth=12, boundary="none", radius=6, dtype=np.uint8)
    return flat >= threshold_of(flat)


def lazy_threshold(tiles, flat):
    counts = da.histogram(flat, bins=256, range=(0, 256))[0]
    return counts.map_blocks(lambda hist: np.array(threshold_otsu(hist=hist)), drop_axis=0, dtype=int)


@pytest.mark.parametrize(
    "answer",
    [
        find_nuclei(),
        find_nuclei(depth=13),
        find_nuclei(boundary="reflect"),
        find_nuclei(boundary=None),
        find_nuclei(threshold=lazy_threshold),
        find_nuclei(threshold=threshold_with_bin_centres),
    ],
)
def test_3_4_right(line_of, answer):
    assert line_of("3.4", answer).startswith("✓ Exercise 3.4: correct. Every pixel is right on three test images")


@pytest.mark.parametrize(
    "answer, feedback",
    [
        (threshold_per_tile(6, 0), "Not all tiles use the same threshold"),
        (threshold_per_tile(12, "none"), "Not all tiles use the same threshold"),
        (threshold_per_tile(24, "none"), "Not all tiles use the same threshold"),
        (find_nuclei(depth=6), "some at the cuts"),
        (find_nuclei(depth=0), "some at the cuts"),
        (find_nuclei(depth=11), "some at the cuts"),
        (find_nuclei(boundary=0), "some at the outer border"),
        (find_nuclei(boundary="nearest"), "some at the outer border"),
        (find_nuclei(boundary="periodic"), "some at the outer border"),
        (find_nuclei(threshold=lambda tiles, flat: 20), "but not the right one"),
        (find_nuclei(threshold=lambda tiles, flat: threshold_of(tiles)), "that of the image with its background"),
        (find_nuclei(threshold=threshold_of_sample(2)), "from all of its pixels"),
        (find_nuclei(threshold=threshold_of_sample(3)), "does your threshold come from all pixels"),
        (find_nuclei(threshold=threshold_of_sample(4)), "from all of its pixels"),
        (find_nuclei(threshold=threshold_of_100_bins), "with a bin for each grey value"),
        (find_nuclei(threshold=mean_of_thresholds), "but not the right one"),
        (find_nuclei(threshold=lambda tiles, flat: flat.mean().compute()), "but not the right one"),
        (find_nuclei(threshold=lambda tiles, flat: threshold_of(flat) + 1), "but not the right one"),
        (find_nuclei(threshold=lambda tiles, flat: threshold_otsu(summed_histogram(flat))), "go to threshold_otsu as"),
        (at_least_the_threshold, "Is it > or >=?"),
        (background_of_whole, "while your function runs, it puts the whole image into one piece"),
        (find_nuclei(threshold=threshold_of_whole), "while your function runs, it puts the whole image into one piece"),
        *[
            (lambda tiles, whole=whole: whole(tiles) > 0, "the result is right, but your function puts the whole image")
            for whole in whole_at_once(remove_and_divide)
        ],
        (find_nuclei(threshold=lambda tiles, flat: flat.max().compute() / 2), "but not the right one"),
        (find_nuclei(threshold=lambda tiles, flat: threshold_otsu(flat.compute())), "Leave pixels lazy"),
        (find_nuclei(depth=14, radius=7), "also in the middle of tiles"),
        (lambda tiles: tiles > threshold_of(tiles), "also in the middle of tiles"),
        (lambda tiles: tiles > 300, "no pixel is above it"),
        (lambda tiles: find_nuclei()(tiles).compute(), "already computed"),
        (lambda tiles: find_nuclei()(tiles).astype(np.uint8), "declares uint8, but bool"),
        (lambda tiles: find_nuclei()(tiles.rechunk(100)), "should be cut like the input"),
        (lambda tiles: threshold_of(tiles), "but a dask array is asked for"),
        (lambda tiles: undefined, "NameError"),  # noqa: F821
        (True, "a function is asked for"),
    ],
)
def test_3_4_mistakes(line_of, answer, feedback):
    line = line_of("3.4", answer)
    assert line.startswith("✗") and feedback in line


def test_3_4_fixed_threshold(line_of):
    """A number that is right for one of the images is wrong for another."""
    for image in lesson_3.images_for_nuclei()[:2]:
        fixed = threshold_otsu(remove_background(image, radius=6))
        line = line_of("3.4", find_nuclei(threshold=lambda tiles, flat: fixed))
        assert line.startswith("✗") and "but not the right one" in line


def test_3_4_hostile(line_of, hostile):
    assert line_of("3.4", hostile)[0] in "✗○"
    if not callable(hostile):
        assert line_of("3.4", lambda tiles: hostile)[0] in "✗○"
