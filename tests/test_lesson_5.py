"""The exercises of lesson 5: stub, solution, typical mistakes, hostile answers."""

import re
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from skimage.measure import label
from skimage.segmentation import clear_border

from course_helpers.exercises import lesson_5
from course_helpers.nuclei import count_nuclei, nuclei_slide, render_nuclei, segment_nuclei
from course_helpers.objects import OverlapError, count_in_tiles

THRESHOLD, SIGMA = lesson_5.THRESHOLD, lesson_5.SIGMA
FACTOR = 193_000 / 33_000
SOURCE = Path(__file__).parents[1] / "notebooks" / "source" / "05_tiled_nuclei_counting.md"


def lazy_map(side, threshold=THRESHOLD, sigma=SIGMA, **options):
    options = {"chunks": (1, 1), "meta": np.empty((0, 0)), **options}
    return nuclei_slide(chunks=side).map_blocks(count_nuclei, threshold, sigma, **options)


@pytest.fixture(scope="module")
def map_500():
    """The count map with the three tiles that are looked at; the others are not compared, and not computed here."""
    counts = np.zeros((4, 10))
    for i, j in lesson_5.TILES_LOOKED_AT:
        counts[i, j] = count_nuclei(
            render_nuclei(window=np.s_[500 * i : 500 * i + 500, 500 * j : 500 * j + 500]), THRESHOLD, SIGMA
        )[0, 0]
    return counts


def test_the_lesson_uses_the_numbers_of_the_checks():
    text = SOURCE.read_text(encoding="utf-8")
    assert f"\nTHRESHOLD = {THRESHOLD}\n" in text and f"\nSIGMA = {SIGMA}\n" in text


def test_the_lesson_shows_the_functions_of_the_checks():
    """The two functions that exercises 5.3 and 5.4 print are those that their checks use."""
    text = SOURCE.read_text(encoding="utf-8")
    blobs = np.random.default_rng(0).random((20, 16, 16)) > 0.7
    for name in ("label_bright", "count_by_centroid"):
        code = re.search(rf"^def {name}\(.*?(?=^\S|^```)", text, re.M | re.S)[0]
        namespace = vars(lesson_5).copy()
        exec(code, namespace)
        for blob in blobs:
            image = blob if name == "count_by_centroid" else 200 * blob
            assert np.array_equal(namespace[name](image), getattr(lesson_5, name)(image))


# 5.1


def test_5_1_unanswered(line_of, map_500):
    assert line_of("5.1", ..., ..., ...).startswith("○")
    assert line_of("5.1", map_500).startswith("○")
    assert line_of("5.1", map_500, FACTOR, ...).startswith("○")


def test_5_1_right(line_of, map_500):
    line = line_of("5.1", map_500, FACTOR, "C")
    assert line.startswith(
        "✓ Exercise 5.1: correct. 500 x 500: the map has 40 pixels, and the cuts are shorter by a factor of 5.85. "
    )
    assert "whether you declared the map" in line and "look at the table: the shape should be (4, 10)" in line
    assert line_of("5.1", map_500.tolist(), 5.85, " c ").startswith("✓")


def test_the_map_is_that_of_the_tiles(map_500):
    part = lazy_map(500).blocks[1:2, 5:6].compute()
    assert part[0, 0] == map_500[1, 5] > 0


@pytest.mark.parametrize(
    "change, feedback",
    [
        (lambda right: lazy_map(500), "not computed yet. Call .compute() on it.\n"),
        (lambda right: lazy_map(500, chunks=None), "chunks=(1, 1) is missing"),
        (lambda right: np.zeros((20, 50)), "one pixel per tile of 100 x 100. Rechunk the tiles first"),
        (lambda right: right.sum(), "map_500 is one number"),
        (lambda right: 6159.5, "map_500 is one number"),
        (lambda right: right.T, "shape (10, 4), but (4, 10)"),
        (lambda right: np.zeros((2000, 5000)), "but (4, 10) is asked for"),
        (lambda right: np.floor(right), "Which function did you map"),
        (lambda right: right + 1, "Which function did you map, with which arguments?"),
        (lambda right: right * np.nan, "is nan, but count_nuclei"),
        (lambda right: None, "map_500: the answer is None"),
    ],
)
def test_5_1_map_mistakes(line_of, map_500, change, feedback):
    line = line_of("5.1", change(map_500), FACTOR, "C")
    assert line.startswith("✗") and feedback in line


@pytest.mark.parametrize(
    "factor, feedback",
    [
        (1 / FACTOR, "the wrong way round"),
        (5, "the ratio of the sides"),
        (25, "the ratio of the numbers of tiles"),
        (193_000, "looks like a length"),
        (33_000.0, "looks like a length"),
        (4, "have another ratio"),
        (19 / 3, "have another ratio"),
        ((20 * 5000 + 50 * 2000) / (4 * 5000 + 10 * 2000), "the ratio of the sides"),
        (5, "whole perimeters of tiles"),
        ((21 * 5000 + 51 * 2000) / (5 * 5000 + 11 * 2000), "you counted the outer edge of the slide, too"),
        ((19 + 49) / (3 + 9), "the numbers of lines"),
        ((19 * 2000 + 49 * 5000) / (3 * 2000 + 9 * 5000), "you swapped the lengths"),
        ("5.85", "cuts_shorter: the answer is '5.85', but one number is asked for"),
        (None, "cuts_shorter: the answer is None"),
        ([193_000, 33_000], "one number is asked for"),
    ],
)
def test_5_1_factor_mistakes(line_of, map_500, factor, feedback):
    line = line_of("5.1", map_500, factor, "C")
    assert line.startswith("✗") and feedback in line and "5.8" not in line.replace("'5.85'", "")


def test_5_1_factor_with_one_decimal(line_of, map_500):
    line = line_of("5.1", map_500, 5.8, "C")
    assert line.startswith("✗") and "cuts_shorter is 5.8, which is close. Give two decimals" in line


@pytest.mark.parametrize(
    "reason, feedback",
    [
        ("A", "which threshold did the large tiles get"),
        ("b", "a whole or a half"),
        ("D", "far from any cut"),
        ("E", "one of the letters"),
        ("", "one of the letters"),
        ("larger tiles", "one of the letters"),
        (3, "one of the letters"),
        (None, "reason: the answer is None"),
    ],
)
def test_5_1_reason_mistakes(line_of, map_500, reason, feedback):
    line = line_of("5.1", map_500, FACTOR, reason)
    assert line.startswith("✗") and feedback in line and "share" not in line


def test_5_1_hostile(line_of, hostile, map_500):
    assert line_of("5.1", hostile, FACTOR, "C")[0] in "✗○"
    assert line_of("5.1", map_500, hostile, "C")[0] in "✗○"
    assert line_of("5.1", map_500, FACTOR, hostile)[0] in "✗○"


# 5.2


def boxed(number):
    return np.array([[number]])


def kept(*borders):
    """A right or wrong rule: count the labels that are not in these borders."""

    def rule(labels):
        names = set(np.unique(labels).tolist()) - {0}
        for border in borders:
            names -= set(np.unique(labels[border]).tolist())
        return boxed(len(names))

    return rule


UPPER, LOWER, LEFT, RIGHT = np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]


@pytest.mark.parametrize("borders", [(UPPER, LEFT), (UPPER, RIGHT), (LOWER, LEFT), (LOWER, RIGHT)])
def test_5_2_right(line_of, borders):
    assert line_of("5.2", kept(*borders)).startswith("✓ Exercise 5.2: correct. Your rule excludes the ")


def test_5_2_solution(line_of):
    assert "the lower and the right border" in line_of("5.2", lesson_5.exclude_half)


def count(labels):
    return np.count_nonzero(np.unique(labels))


def average(labels):
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return boxed(count(labels) - count(border) / 2)


def overwrite(labels):
    for name in np.union1d(labels[-1], labels[:, -1]):
        labels[labels == name] = 0
    return boxed(count(labels))


def relabelled(labels):
    remaining = np.where(np.isin(labels, np.union1d(labels[-1], labels[:, -1])), 0, labels)
    return boxed(label(remaining > 0).max())


@pytest.mark.parametrize(
    "answer, feedback",
    [
        (kept(), "counts all labels, also those at every border"),
        (kept(UPPER, LOWER, LEFT, RIGHT), "excludes all four borders"),
        (lambda labels: boxed(count(clear_border(labels))), "excludes all four borders"),
        (average, "takes the mean of two counts"),
        (kept(UPPER, LOWER), "excludes the upper and the lower border. A nucleus"),
        (kept(LEFT, RIGHT), "excludes the left and the right border. A nucleus"),
        (kept(LOWER), "excludes the lower border only"),
        (kept(RIGHT), "excludes the right border only"),
        (lambda labels: boxed(count(labels) - count(labels[-1]) - count(labels[:, -1])), "subtracts a label twice"),
        (lambda labels: boxed(len(np.setdiff1d(labels, np.union1d(labels[0], labels[:, 0])))), "counts the background"),
        (lambda labels: kept(LOWER, RIGHT)(labels) + 1, "counts the background"),
        (
            lambda labels: boxed(labels.max() - count(np.union1d(labels[-1], labels[:, -1]))),
            "relies on the largest label",
        ),
        (
            lambda labels: boxed(np.where(np.isin(labels, np.union1d(labels[-1], labels[:, -1])), 0, labels).max()),
            "relies on the largest label",
        ),
        (lambda labels: boxed(np.sum(~np.isin(labels, [0, *labels[-1], *labels[:, -1]]))), "counts pixels"),
        (lambda labels: count(labels), "shape (1, 1) is asked for"),
        (lambda labels: np.array([count(labels)]), "shape (1, 1) is asked for"),
        (lambda labels: boxed("7"), "a number is asked for"),
        (overwrite, "changes the labels"),
        (relabelled, "joins labels that touch"),
        (lambda labels: da.from_array(boxed(1)), "a plan of dask's"),
        (lambda labels: boxed(count(labels[:-1, :-1])), "cuts off a row and a column of pixels"),
        (lambda labels: boxed(count(labels[1:, :-1])), "cuts off a row and a column of pixels"),
        (lambda labels: boxed(len(np.unique(labels[:-1, :-1])) - 1), "cuts off a row and a column of pixels"),
        (
            lambda labels: boxed(len(np.unique(labels)) - len(np.unique(labels[-1])) - len(np.unique(labels[:, -1])) + 1),
            "subtracts a label twice",
        ),
        (
            lambda labels: kept(LOWER, RIGHT)(labels) if len(labels) not in (5, 8) else kept()(labels),
            "for labels = [[2, 2, 0, 4, 4], [2, 2, 0, 4, 4], [0, 0, 0, 0, 0], [6, 6, 0, 8, 8], [6, 6, 0, 8, 8]], your "
            "function counts 4 of 4 labels",
        ),
        (lambda labels: boxed(segment_nuclei(labels, THRESHOLD, SIGMA).max()), "labels, not pixels: do not segment"),
        (lambda labels: boxed(0), "counts 0 in every tile"),
        (kept(np.s_[-2:], np.s_[:, -2:]), "only come near a border"),
        (kept(np.s_[-3:], np.s_[:, -3:]), "only come near a border"),
        (kept(np.s_[:2], np.s_[:, :2]), "only come near a border"),
        (kept(np.s_[-2:], np.s_[:, -1]), "for labels = [[0, 0, 0], [0, 5, 0], [0, 0, 0]], your function counts 0 of 1 labels"),
        (kept(UPPER, LEFT, RIGHT), "excludes three borders, all but the lower one"),
        (
            lambda labels: boxed(labels.max() - len(labels[-1]) - len(labels[:, -1])),
            "counts -1 of 1 labels",
        ),
        (
            lambda labels: boxed(2 * labels.max()),
            "counts 10 of 1 labels, which is not what is left without the labels at half of the borders. Labels need not be",
        ),
        (
            lambda labels: boxed(len(np.setdiff1d(np.unique(labels)[1:], np.union1d(labels[-1], labels[:, -1])))),
            "takes it for granted that the first label is 0",
        ),
        (lambda labels: kept(LOWER, RIGHT)(labels).tolist(), "needs a NumPy array"),
        (
            lambda labels: boxed(count(labels) - len(np.union1d(labels[-1], labels[:, -1]))),
            "subtracts the background, 0, as if it were a label",
        ),
        (
            lambda labels: boxed(len(np.setdiff1d(labels, np.union1d(labels[-1], labels[:, -1]))) - 1),
            "subtracts the background, 0, as if it were a label",
        ),
        (
            lambda labels: boxed(kept(LOWER, RIGHT)(labels)[0, 0] + 0 * max(set(labels.flat) - {0})),
            "called with a tile without labels (an array of shape (5, 6) and dtype int32), your function raises ValueError",
        ),
        (
            lambda labels: kept(LOWER, RIGHT)(labels) if labels.shape[0] > 9 else kept(LOWER)(labels),
            "for labels = [[0, 0, 0], [5, 0, 7], [0, 0, 0]], your function counts 2 of 2",
        ),
        (lambda labels: boxed(np.nan), "counts nan"),
        (
            lambda labels: kept(LOWER, RIGHT)(labels) if labels.any() else boxed(-1),
            "in a tile without labels, your function counts -1 of 0",
        ),
        (lambda labels: labels.nothing, "raises AttributeError"),
        (lambda: boxed(1), "raises TypeError"),
        (7, "a function is asked for"),
    ],
)
def test_5_2_mistakes(line_of, answer, feedback):
    line = line_of("5.2", answer)
    assert line.startswith("✗") and feedback in line


def not_written(labels): ...


def test_5_2_not_written(line_of):
    assert line_of("5.2", not_written).startswith("○")


def no_return(labels):
    np.array([[count(labels)]])


def test_5_2_no_return(line_of):
    line = line_of("5.2", no_return)
    assert line.startswith("✗") and "your function returns None for a tile with labels at all borders (an array of shape" in line


def test_5_2_hostile(line_of, hostile):
    assert line_of("5.2", hostile)[0] in "✗○"


def test_the_four_rules_and_the_mistakes_count_differently():
    def counts(function):
        return tuple(function(tile) for tile in lesson_5.label_tiles().values())

    right = [counts(lambda tile, rule=rule: lesson_5.without(tile, *rule)) for rule in lesson_5.RULES]
    assert len(set(right)) == 4
    assert not set(right) & {counts(function) for _, function in lesson_5.half_border_mistakes()}


def test_5_2_messages_do_not_tell_which_borders(line_of):
    for mistake, _ in lesson_5.half_border_mistakes():
        assert "meet" not in mistake
    assert "meet" not in line_of("5.2", lambda labels: boxed(np.nan))


# 5.3


@pytest.fixture(scope="module")
def side():
    return lesson_5.sizes_of_objects()["side"]


def test_5_3_right(line_of, side):
    assert line_of("5.3", side + 12).startswith(f"✓ Exercise 5.3: correct. An object of up to {side} pixels")
    assert line_of("5.3", np.int64(side + 12)).startswith("✓")
    assert line_of("5.3", side + 11).startswith("✓ Exercise 5.3: approximately right.")


def test_5_3_unanswered(line_of):
    assert line_of("5.3", ...).startswith("○")


def test_5_3_the_rule_is_right_and_the_picture_needs_it():
    picture = nuclei_slide(seed=4)[900:1500, 2000:2900].rechunk(120)
    sizes = lesson_5.sizes_of_objects()
    whole = lesson_5.label_bright(picture.compute()).max()
    assert count_in_tiles(lesson_5.label_bright, picture, sizes["side"] + 12, reach=12).sum().compute() == whole
    with pytest.raises(OverlapError):
        count_in_tiles(lesson_5.label_bright, picture, 12).sum().compute()


@pytest.mark.parametrize(
    "change, feedback",
    [
        (lambda sizes: sizes["side"], "what the filter sees beyond them"),
        (lambda sizes: 12, "the reach of the filter alone"),
        (lambda sizes: sizes["side"] + 24, "counts once"),
        (lambda sizes: sizes["side"] + 3, "sigma is not the reach"),
        (lambda sizes: sizes["side"] // 2 + 12, "half of the largest object"),
        (lambda sizes: sizes["area"] + 12, "contains an area"),
        (lambda sizes: sizes["box"] + 12, "contains an area"),
        (lambda sizes: round(sizes["diameter"]) + 12, "a disc of the same area"),
        (lambda sizes: round(sizes["mean"]) + 12, "an average object"),
        (lambda sizes: sizes["side"] + 8, "Which sigma does label_bright have"),
        (lambda sizes: 38, "38 is the overlap for the slide and segment_nuclei"),
        (lambda sizes: sizes["number"], "is the number of objects"),
        (lambda sizes: sizes["side"] - 1, "contains no reach. And is a side"),
        (lambda sizes: sizes["side"] + 9, "three times sigma is not the reach"),
        (lambda sizes: sizes["side"] + 5, "but not also all that the filter sees"),
        (lambda sizes: int(sizes["diameter"]) + 13, "contains the diameter of a disc of the same area"),
        (lambda sizes: min(sizes["height"], sizes["width"]) + 12, "you looked at one side"),
        (lambda sizes: sizes["axis"] + 12, "contains the major axis"),
        (lambda sizes: round(sizes["axis"]) + 12, "contains the major axis"),
        (lambda sizes: 30, "It may pass on this picture by luck"),
        (lambda sizes: 0, "too small to be safe"),
        (lambda sizes: 120, "more than the rule demands"),
        (lambda sizes: -1, "cannot be negative"),
        (lambda sizes: 40.5, "a whole number is asked for"),
        (lambda sizes: "54", "one number is asked for"),
        (lambda sizes: (54, 54), "one number is asked for"),
    ],
)
def test_5_3_mistakes(line_of, change, feedback):
    answer = change(lesson_5.sizes_of_objects())
    line = line_of("5.3", answer)
    assert line.startswith("✗") and feedback in line
    right = str(lesson_5.sizes_of_objects()["side"] + 12)
    assert right not in line or right in str(answer)


def test_5_3_names_the_overlap_of_the_slide():
    solved = (SOURCE.parents[1] / "solutions" / f"{SOURCE.stem}.ipynb").read_text(encoding="utf-8")
    assert re.search(r"reach of the blur: 8  overlap: (\d+)", solved)[1] == "38"


def test_5_3_hostile(line_of, hostile):
    assert line_of("5.3", hostile)[0] in "✗○"


# 5.4


def image(*boxes):
    pixels = np.zeros((16, 16), bool)
    for box in boxes:
        pixels[box] = True
    return pixels


@pytest.mark.parametrize(
    "answer",
    [
        image(np.s_[4, 4:12]),
        image(np.s_[4:12, 3]),
        image(np.s_[1:7, 4:12]),
        image(np.s_[4, 4:12]).astype(int),
        image(np.s_[4, 4:12]).tolist(),
        image(np.s_[4:12, 4:12]),
    ],
)
def test_5_4_right(line_of, answer):
    assert line_of("5.4", answer).startswith("✓ Exercise 5.4: correct. One object, counted ")


@pytest.mark.parametrize(
    "answer, feedback",
    [
        (image(), "there are 0 objects"),
        (image(np.s_[4, 0:16]), "1 x 16 pixels large"),
        (image(np.s_[3:12, 4:9]), "9 x 5 pixels large"),
        (image(np.s_[4, 4:12], np.s_[10, 2:4]), "there are 2 objects"),
        (image(np.s_[2:6, 2:6]), "It lies in a single tile"),
        (image(np.s_[6:10, 6:10]), "All tiles at the cut see it whole"),
        (image(np.s_[4, 3:11]), "Which part of it does each tile see"),
        (np.ones((8, 8), bool), "shape (8, 8), but (16, 16)"),
        (np.ones((16, 16), bool), "16 x 16 pixels large"),
        (3 * image(np.s_[4, 4:12]), "other values than False and True"),
        (image(np.s_[4, 4:12]) * np.nan, "other values than False and True"),
        (da.from_array(image(np.s_[4, 4:12])), "Call .compute() on it"),
        (lambda: image(), "an array of numbers is asked for"),
    ],
)
def test_5_4_mistakes(line_of, answer, feedback):
    line = line_of("5.4", answer)
    assert line.startswith("✗") and feedback in line


def test_5_4_unanswered(line_of):
    assert line_of("5.4", ...).startswith("○")


def test_5_4_hostile(line_of, hostile):
    assert line_of("5.4", hostile)[0] in "✗○"


def test_a_margin_as_wide_as_the_object_mends_the_centroid_rule():
    for start in range(9):
        line = image(np.s_[4, start : start + 8])
        assert lesson_5.count_by_centroid(line, margin=8) == 1
    assert {lesson_5.count_by_centroid(image(np.s_[4, start : start + 8])) for start in range(9)} == {1, 2}
