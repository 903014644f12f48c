"""Lesson 6: what only it can say. Its exercises are tested in test_exercises.py, by their tables."""

import re

import dask.array as da
import networkx
import numpy as np
import pytest
from processes import ROOT
from skimage.measure import label

from course_helpers.exercises import lesson_6
from course_helpers.objects import label_in_tiles, stitch_labels

SOURCE = ROOT / "sources" / "06_objects_across_tiles.md"


def test_checks_use_what_the_lesson_uses():
    """The mask and its tiles are those that the learner sees."""
    lesson = SOURCE.read_text(encoding="utf-8")
    shown = re.search(r'\nmask = mask_from\("""(.*?)"""\)\nmask_tiles = (.*?)\n', lesson, re.S)
    assert shown[1].split() == lesson_6.MASK.split()
    assert shown[2] == f"da.from_array(mask, chunks={lesson_6.CHUNKS})"


def test_6_1_expects_what_tiles_give():
    mask = np.array([[letter == "#" for letter in line] for line in lesson_6.MASK.split()])
    labels = da.from_array(mask, chunks=lesson_6.CHUNKS).map_blocks(label, dtype=np.int32)
    pieces = sum(labels.blocks[index].compute().max() for index in np.ndindex(labels.numblocks))
    assert (pieces, labels.max().compute(), label(mask).max()) == (9, 3, 4)
    expected = [part.right for part in lesson_6.EXERCISES["6.1"].parts.values()]
    assert expected == [9, 3, 4]


def by_loop(labels, number, start, shape):
    for row in range(labels.shape[0]):
        for column in range(labels.shape[1]):
            if labels[row, column] == number:
                return (start[0] + row) * shape[1] + start[1] + column + 1


def by_argmax(labels, number, start, shape):
    place = np.unravel_index(np.argmax(labels == number), labels.shape)
    return np.ravel_multi_index(np.add(place, start), shape) + 1


@pytest.mark.parametrize("name_of", [by_loop, by_argmax])
def test_6_3_right(line_of, name_of):
    assert line_of("6.3", name_of).startswith("✓")


@pytest.mark.parametrize("left", [0, 4])
def test_6_3_agrees_with_label_in_tiles(left):
    """The name that is asked for is the label that the tool gives, wherever the window shows the object whole."""
    mask = np.random.default_rng(6).random((20, 30)) < 0.3
    names = label_in_tiles(label, da.from_array(mask, chunks=(10, 15)), overlap=30).compute()
    window = label(mask)[:, left:]
    whole = set(np.unique(window)) - set(np.unique(label(mask)[:, :left])) - {0}
    assert len(whole) > 5
    for number in whole:
        assert (names[:, left:][window == number] == lesson_6.name(window, number, (0, left), mask.shape)).all()


def by_histogram(table, side, at_least):
    centres = table[["centroid-0", "centroid-1"]].to_numpy()
    bins = [np.arange(0, centres[:, axis].max() + 2 * side, side) for axis in (0, 1)]
    counts = np.histogram2d(*centres.T, bins=bins)[0]
    sums = np.histogram2d(*centres.T, bins=bins, weights=table["area"])[0]
    means = np.where(counts >= at_least, sums / np.maximum(counts, 1), np.inf)
    return np.unravel_index(means.argmin(), means.shape)


def by_loop_over_squares(table, side, at_least):
    squares = list(zip(table["centroid-0"] // side, table["centroid-1"] // side))
    best = None
    for square in sorted(set(squares)):
        areas = table["area"][[other == square for other in squares]]
        if len(areas) >= at_least and (best is None or areas.mean() < best[0]):
            best = (areas.mean(), square)
    return list(best[1])


def with_own_columns(table, side, at_least):
    table = table.assign(row=table["centroid-0"] // side, column=table["centroid-1"] // side)
    squares = table.groupby(["row", "column"])[["area", "intensity_mean"]].agg(["size", "mean"])["area"]
    return squares["mean"][squares["size"] >= at_least].idxmin()


@pytest.mark.parametrize("small_nuclei", [by_histogram, by_loop_over_squares, with_own_columns])
def test_6_4_right(line_of, small_nuclei):
    assert line_of("6.4", small_nuclei).startswith("✓")


def test_6_4_tables_have_the_columns_of_the_lesson():
    for table, _, _ in lesson_6.tables():
        assert list(table) == ["label", "centroid-0", "centroid-1", "area", "intensity_mean"]


def test_6_5_pairs_join_what_stitch_labels_joins():
    """As many objects remain as pieces minus joins; a graph of the pairs has the components of the stitched labels."""
    mask = np.random.default_rng(4).random((40, 20)) < 0.4
    tiles = da.from_array(mask, chunks=(40, 10)).map_blocks(label, dtype=np.int32)
    left, right = (tiles.blocks[0, side].compute() for side in (0, 1))
    right = np.where(right, right + left.max(), 0)
    graph = networkx.Graph(list(lesson_6.touching(left, right)))
    graph.add_nodes_from(range(1, right.max() + 1))
    assert networkx.number_connected_components(graph) == stitch_labels(tiles).max().compute() == label(mask).max()


def test_6_2_takes_functions_for_their_names(line_of):
    tools = {letter: part.right for letter, part in lesson_6.EXERCISES["6.2"].parts.items()}
    assert line_of("6.2", tools | {"A": stitch_labels, "D": label_in_tiles}).startswith("✓")
