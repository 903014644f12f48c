"""The exercises of lesson 1: stub, solution, typical mistakes, hostile answers."""

import dask
import dask.array as da
import numpy as np
import pytest

from course_helpers.mandelbrot import render_level


@pytest.fixture(scope="module")
def stack():
    return da.map_blocks(
        lambda block_id: render_level(block_id[0])[np.newaxis],
        chunks=((1,) * 200_000, (512,), (512,)),
        meta=np.empty((0, 0, 0), np.uint16),
    )


def halvings(number):
    return list(range(number))


def test_1_1_right(line_of):
    line = line_of("1.1", 139_845, halvings(18))
    assert line == "✓ Exercise 1.1: correct. You rendered 18 of 200,000 images.\n"
    assert line_of("1.1", np.int64(139_845), halvings(20)).startswith("✓")
    assert line_of("1.1", 139_845.0, halvings(1)).startswith("✓")


@pytest.mark.parametrize("answer", [139_846, 139_900, 139_968, 140_000, 144_000, 144_800])
def test_1_1_approximate(line_of, answer):
    line = line_of("1.1", answer, halvings(5))
    assert line.startswith("✓ Exercise 1.1: approximately right. You rendered 5") and "139845" not in line


@pytest.mark.parametrize(
    "answer, rendered, feedback",
    [
        (130_000, [1], "at 130000 the counts still range from 249 to 256. Go deeper."),
        (0, [1], "range from 0 to 256"),
        (139_844, [1], "off by one"),
        (139_843, [1], "at 139843 the counts still range from 250 to 251. Go deeper."),
        (134_000, [1], "the counts still range from"),
        (199_999, [1], "so are many before it. Where do the uniform images begin? Does your search ask whether all"),
        (146_000, [1], "so are many before it. Where do the uniform images begin?\n"),
        (139_845, [7] * 30, "30 images, of 1 different levels. Dask keeps no image"),
        (139_845, halvings(21), "you rendered 21 images. Can you do with 20? (Other cells add to the list, too."),
        (139_845, [], "the list of rendered images is empty"),
        (139_845, None, "hand over the list"),
        (200_000, [1], "no position in the stack"),
        (-1, [1], "no position in the stack"),
        (139_845.5, [1], "a whole number is asked for"),
        (True, [1], "one number is asked for"),
        ("139845", [1], "'139845', but one number is asked for"),
        ([139_845], [1], "one number is asked for"),
        (None, [1], "the answer is None"),
        (dask.delayed(1), [1], "nothing is computed yet"),
    ],
)
def test_1_1_mistakes(line_of, answer, rendered, feedback):
    line = line_of("1.1", answer, rendered)
    assert line.startswith("✗") and feedback in line


def test_1_1_hostile(line_of, hostile):
    assert line_of("1.1", hostile, halvings(3))[0] in "✗○"
    if not isinstance(hostile, list):
        assert line_of("1.1", 139_845, hostile)[0] in "✗○"


def subtract(level):
    image = render_level(level)
    return int(image.max()) - int(image.min())


def test_1_2_right(line_of):
    assert line_of("1.2", dask.delayed(subtract)).startswith("✓")
    assert line_of("1.2", dask.delayed(lambda level: np.ptp(render_level(level)))).startswith("✓")
    assert line_of("1.2", lambda level: dask.delayed(subtract)(level)).startswith("✓")


def not_written(level): ...


@pytest.mark.parametrize(
    "answer, feedback",
    [
        (subtract, "gives 256 at once"),
        (dask.delayed(render_level), "an array of shape (512, 512)"),
        (lambda level: dask.delayed(subtract(level)), "by then it has rendered an image"),
        (lambda level: dask.delayed(np.ptp)(render_level(level)), "by then it has rendered an image"),
        (dask.delayed(lambda level: subtract(0)), "Does your function use its level"),
        (dask.delayed(lambda level: render_level(level).max()), "the largest count"),
        (dask.delayed(lambda level: render_level(level).min() + 0.0), "the smallest count"),
        (dask.delayed(lambda level: render_level(level).min() - render_level(level).max()), "Mind the order"),
        (dask.delayed(lambda level: int(render_level(level).min()) - int(render_level(level).max())), "Mind the order"),
        (dask.delayed(lambda level: render_level(level).std()), "The counts of this image range from 0 to 256"),
        (dask.delayed(subtract)(0), "without parentheses"),
        (dask.delayed(lambda level: dask.delayed(subtract)(level)), "one more plan"),
        (dask.delayed(lambda level: numpy.ptp(render_level(level))), "NameError"),  # noqa: F821
        (dask.delayed(lambda: 3), "TypeError"),
        (256, "a function is asked for"),
        (lambda level: [dask.delayed(subtract)(level)], "at once"),
    ],
)
def test_1_2_mistakes(line_of, answer, feedback):
    line = line_of("1.2", answer)
    assert line.startswith("✗") and feedback in line


def test_1_2_not_written(line_of):
    assert line_of("1.2", not_written).startswith("○")
    assert line_of("1.2", dask.delayed(not_written)).startswith("○")


def test_1_2_hostile(line_of, hostile):
    assert line_of("1.2", hostile)[0] in "✗○"


def test_1_3_right(line_of, stack):
    assert line_of("1.3", stack[0:150_000:5_000].mean(axis=(1, 2))).startswith("✓")
    means = [
        da.from_delayed(dask.delayed(np.mean)(dask.delayed(render_level)(level)), (), float)
        for level in range(0, 150_000, 5_000)
    ]
    assert line_of("1.3", da.stack(means)).startswith("✓")


@pytest.mark.parametrize(
    "mistake, feedback",
    [
        (lambda stack: stack[:30].mean(axis=(1, 2)), "number 1 is"),
        (lambda stack: stack[0:150_000:5_000].mean(), "shape ()"),
        (lambda stack: [stack[level].mean() for level in range(0, 150_000, 5_000)], "each of them lazy"),
        (lambda stack: da.from_array(stack[0:150_000:5_000].mean(axis=(1, 2)).compute()), "rendered 0 images"),
        (
            lambda stack: stack[0:150_000:5_000].mean(axis=0),
            "shape (512, 512), but one number for each of 30 images is asked for, shape (30,). Over which axes",
        ),
        (
            lambda stack: stack[::5_000].mean(axis=(1, 2)),
            "shape (40,), but one number for each of 30 images is asked for, shape (30,). Which images",
        ),
        (lambda stack: stack[0:150_000:5_000].sum(axis=(1, 2)), "these are the sums"),
        (lambda stack: stack[0:150_000:5_000].rechunk((30, 512, 512)).mean(axis=(1, 2)), "30 images were in memory"),
        (lambda stack: stack[5_000:155_000:5_000].mean(axis=(1, 2)), "number 0 is"),
        (lambda stack: stack[0:150_000:5_000, ::8, ::8].mean(axis=(1, 2)), "is not the mean count of all pixels"),
        (lambda stack: np.ones(30), "already computed"),
        (lambda stack: [1.0] * 30, "already computed"),
        (lambda stack: dask.delayed(np.ones)(30), "a dask array of 30 numbers"),
    ],
)
def test_1_3_mistakes(line_of, stack, mistake, feedback):
    line = line_of("1.3", mistake(stack))
    assert line.startswith("✗") and feedback in line


def test_1_3_hostile(line_of, hostile):
    assert line_of("1.3", hostile)[0] in "✗○"
