"""The exercises of lesson 6: stub, solution, typical mistakes, hostile answers."""

import re
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from skimage.measure import label

from course_helpers.exercises import lesson_6
from course_helpers.objects import label_in_tiles, stitch_labels

SOURCE = Path(__file__).parents[1] / "notebooks" / "source" / "06_objects_across_tiles.md"


@pytest.mark.parametrize("number, answers", [("6.1", 3), ("6.2", 1), ("6.3", 1), ("6.4", 1), ("6.5", 1)])
def test_unanswered(line_of, number, answers):
    assert line_of(number, *[...] * answers).startswith(f"○ Exercise {number}: not answered yet.")


def not_written(*arguments): ...


def forgets_return(*arguments):
    len(arguments)


@pytest.mark.parametrize("number", ["6.2", "6.3", "6.4"])
def test_function_not_written(line_of, number):
    assert line_of(number, not_written).startswith(f"○ Exercise {number}: your function returns nothing yet.")
    assert line_of(number, forgets_return).startswith(f"✗ Exercise {number}: your function returns None for ")


def test_checks_use_what_the_lesson_uses():
    """The mask and its tiles are those that the learner sees."""
    lesson = SOURCE.read_text(encoding="utf-8")
    shown = re.search(r'\nmask = mask_from\("""(.*?)"""\)\nmask_tiles = (.*?)\n', lesson, re.S)
    assert shown[1].split() == lesson_6.MASK.split()
    assert shown[2] == f"da.from_array(mask, chunks={lesson_6.CHUNKS})"


# --- 6.1 ---


def test_6_1_right(line_of):
    mask = np.array([[letter == "#" for letter in line] for line in lesson_6.MASK.split()])
    labels = da.from_array(mask, chunks=lesson_6.CHUNKS).map_blocks(label, dtype=np.int32)
    pieces = sum(labels.blocks[index].compute().max() for index in np.ndindex(labels.numblocks))
    assert (pieces, labels.max().compute(), label(mask).max()) == (9, 3, 4)
    assert line_of("6.1", pieces, labels.max().compute(), float(label(mask).max())).startswith("✓")


@pytest.mark.parametrize(
    "answers, feedback",
    [
        ((4, 4, 4), "pieces = 4 would be right without any cuts"),
        ((4, 3, 9), "pieces and objects are swapped"),
        ((9, 9, 4), "this would be so if each tile went on counting"),
        ((9, 4, 4), "is in none of the tiles"),
        ((9, 2, 4), "is in none of the tiles, or not the largest"),
        ((9, 3, 5), "this is right if corners do not connect"),
        ((9, 3, 6), "too many. Follow each object"),
        ((9, 3, 3), "too few. Follow each object"),
        ((8, 3, 4), "pieces = 8 is too few"),
        ((10, 3, 4), "pieces = 10 is too many"),
        ((3, 3, 4), "3 pieces cannot make 4 objects"),
        ((9.5, 3, 4), "a whole number is asked for"),
        ((9, "3", 4), "one number is asked for"),
        ((9, 3, None), "the answer is None"),
        (([3, 2, 2, 2], 3, 4), "one number is asked for"),
        ((da.ones(3).sum(), 3, 4), "nothing is computed yet"),
    ],
)
def test_6_1_mistakes(line_of, answers, feedback):
    line = line_of("6.1", *answers)
    assert line.startswith("✗") and feedback in line


def test_6_1_hostile(line_of, hostile):
    for position in range(3):
        answers = [9, 3, 4]
        answers[position] = hostile
        assert line_of("6.1", *answers)[0] in "✗○"


# --- 6.2 ---


def by_argwhere(labels, number, start, shape):
    row, column = np.argwhere(labels == number)[0]
    return (start[0] + row) * shape[1] + (start[1] + column) + 1


def by_loop(labels, number, start, shape):
    for row in range(labels.shape[0]):
        for column in range(labels.shape[1]):
            if labels[row, column] == number:
                return (start[0] + row) * shape[1] + start[1] + column + 1


def by_argmax(labels, number, start, shape):
    place = np.unravel_index(np.argmax(labels == number), labels.shape)
    return np.ravel_multi_index(np.add(place, start), shape) + 1


@pytest.mark.parametrize("name_of", [by_argwhere, by_loop, by_argmax])
def test_6_2_right(line_of, name_of):
    assert line_of("6.2", name_of).startswith("✓")


def test_6_2_agrees_with_label_in_tiles():
    """The name that is asked for is the label that the tool gives."""
    mask = np.random.default_rng(6).random((20, 30)) < 0.3
    labels = label(mask, connectivity=1)
    for left in (0, 4):
        names = label_in_tiles(label, da.from_array(mask, chunks=(10, 15)), overlap=30).compute()
        window = label(mask)[:, left:]
        for number in np.unique(window)[1:]:
            whole = (label(mask)[:, :left] != number).all()
            if whole:
                expected = names[:, left:][window == number]
                assert (expected == by_argwhere(window, number, (0, left), mask.shape)).all()
    assert labels.any()


def parts(labels, number):
    rows, columns = np.nonzero(labels == number)
    return rows, columns


def of_window(labels, number, start, shape):
    return np.flatnonzero(labels == number)[0] + 1


def without_one(labels, number, start, shape):
    return by_argwhere(labels, number, start, shape) - 1


def width_of_window(labels, number, start, shape):
    row, column = np.argwhere(labels == number)[0]
    return (start[0] + row) * labels.shape[1] + start[1] + column + 1


def rows_for_columns(labels, number, start, shape):
    row, column = np.argwhere(labels == number)[0]
    return (start[0] + row) * shape[0] + start[1] + column + 1


def column_by_column(labels, number, start, shape):
    row, column = np.argwhere(labels == number)[0]
    return (start[1] + column) * shape[0] + start[0] + row + 1


def corner_of_box(labels, number, start, shape):
    rows, columns = parts(labels, number)
    return (start[0] + rows.min()) * shape[1] + start[1] + columns.min() + 1


def leftmost(labels, number, start, shape):
    row, column = np.argwhere(labels.T == number)[0][::-1]
    return (start[0] + row) * shape[1] + start[1] + column + 1


def last_pixel(labels, number, start, shape):
    row, column = np.argwhere(labels == number)[-1]
    return (start[0] + row) * shape[1] + start[1] + column + 1


def any_object(labels, number, start, shape):
    row, column = np.argwhere(labels)[0]
    return (start[0] + row) * shape[1] + start[1] + column + 1


def only_row(labels, number, start, shape):
    row, column = np.argwhere(labels == number)[0]
    return (start[0] + row) * shape[1] + column + 1


def only_column(labels, number, start, shape):
    row, column = np.argwhere(labels == number)[0]
    return row * shape[1] + start[1] + column + 1


def no_start(labels, number, start, shape):
    row, column = np.argwhere(labels == number)[0]
    return row * shape[1] + column + 1


def row_and_column(labels, number, start, shape):
    return np.argwhere(labels == number)[0] + start


def rounded_centre(labels, number, start, shape):
    rows, columns = parts(labels, number)
    return int((start[0] + rows.mean()) * shape[1] + start[1] + columns.mean() + 1)


def columns_of_tiny(labels, number, start, shape):
    return by_argwhere(labels, number, start, (8, 12))


def swapped_start(labels, number, start, shape):
    return by_argwhere(labels, number, start[::-1], shape)


def no_parentheses(labels, number, start, shape):
    row, column = np.argwhere(labels == number)[0]
    return start[0] + row * shape[1] + start[1] + column + 1


def start_added_to_number(labels, number, start, shape):
    return of_window(labels, number, start, shape) + start[0] * shape[1] + start[1]


def both_starts_added_to_number(labels, number, start, shape):
    return of_window(labels, number, start, shape) + sum(start)


def overwrites_labels(labels, number, start, shape):
    labels[labels != number] = 0
    return by_argwhere(labels, number, start, shape)


@pytest.mark.parametrize(
    "mistake, feedback",
    [
        (columns_of_tiny, "this goes by the 12 columns of tiny"),
        (swapped_start, "this takes the two numbers in start for each other"),
        (no_parentheses, "parentheses are missing"),
        (start_added_to_number, "this adds start to a number of the window"),
        (both_starts_added_to_number, "this adds start to a number of the window"),
        (overwrites_labels, "your function changes labels"),
        (
            lambda labels, number, start, shape: labels[99],
            "called with labels of shape (3, 5), number=1, start=(4, 7), shape=(20, 30), your function raises IndexError",
        ),
        (of_window, "this is the pixel's number in the window"),
        (without_one, "it is one less"),
        (width_of_window, "the width of the window"),
        (rows_for_columns, "this takes rows for columns"),
        (column_by_column, "this counts column by column"),
        (corner_of_box, "the corner of a box"),
        (leftmost, "this is the leftmost pixel"),
        (last_pixel, "this is the last pixel"),
        (any_object, "Does your function use number?"),
        (only_row, "but is the column?"),
        (only_column, "but is the row?"),
        (no_start, "Neither its first row nor its first column"),
        (row_and_column, "A name is one number"),
        (rounded_centre, "In the window its first pixel is in row"),
        (lambda labels, number, start, shape: number, "this is the number in the window. Where"),
        (lambda labels, number: 3, "TypeError"),
        (lambda labels, number, start, shape: np.argwhere(labels == 99)[0], "IndexError"),
        (by_argwhere(np.eye(2), 1, (0, 0), (2, 2)), "a function is asked for"),
    ],
)
def test_6_2_mistakes(line_of, mistake, feedback):
    line = line_of("6.2", mistake)
    assert line.startswith("✗") and feedback in line


def test_6_2_small_numbers(line_of):
    """A name that is squeezed into int32 is wrong in a large image."""

    def squeezed(labels, number, start, shape):
        return np.int64(by_argwhere(labels, number, start, shape)).astype(np.int32)

    assert line_of("6.2", squeezed).startswith("✗")


def test_6_2_hostile(line_of, hostile):
    assert line_of("6.2", hostile)[0] in "✗○"


# --- 6.3 ---


def by_groupby(table, side, at_least, statistic="mean", find="idxmin"):
    row = (table["centroid-0"] // side).astype(int)
    column = (table["centroid-1"] // side).astype(int)
    squares = table["area"].groupby([row, column])
    return getattr(squares.agg(statistic)[squares.size() >= at_least], find)()


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


@pytest.mark.parametrize("small_nuclei", [by_groupby, by_histogram, by_loop_over_squares, with_own_columns])
def test_6_3_right(line_of, small_nuclei):
    assert line_of("6.3", small_nuclei).startswith("✓")


def rounded(table, side, at_least):
    row, column = (table[name] / side for name in ("centroid-0", "centroid-1"))
    squares = table["area"].groupby([row.round(), column.round()]).agg(["size", "mean"])
    return squares["mean"][squares["size"] >= at_least].idxmin()


def in_fixed_grid(table, side, at_least, rows, columns):
    """Look at these many rows and columns of squares only."""
    table = table[(table["centroid-0"] < rows * side) & (table["centroid-1"] < columns * side)]
    return by_groupby(table, side, at_least)


def grid_of_lesson(table, side, at_least):
    return in_fixed_grid(table, side, at_least, 2000 // side, 5000 // side)


def larger_grid_of_lesson(table, side, at_least):
    return in_fixed_grid(table, side, at_least, 2000 / side, 5000 / side)


def without_last_squares(table, side, at_least):
    rows, columns = (table[["centroid-0", "centroid-1"]].max() // side).astype(int)
    return in_fixed_grid(table, side, at_least, rows, columns)


def adds_columns(table, side, at_least):
    table["row"] = table["centroid-0"] // side
    return by_groupby(table, side, at_least)


def sorts_in_place(table, side, at_least):
    table.sort_values("area", inplace=True)
    return by_groupby(table, side, at_least)


def whole_areas(table, side, at_least):
    answer = by_groupby(table, side, at_least)
    table["area"] = table["area"].astype(int)
    return answer


nuclei = lesson_6.one_table(np.random.default_rng(0), np.full((8, 20), 20), np.full((8, 20), 100), 250)
nuclei = nuclei.sort_values("centroid-0", ignore_index=True)  # about as in the lesson


def table_of_notebook(table, side, at_least):
    return by_groupby(nuclei, side, at_least)


def places_of_notebook(table, side, at_least):
    row, column = (nuclei[name] // side for name in ("centroid-0", "centroid-1"))
    squares = table["area"].groupby([row, column]).agg(["size", "mean"])
    return squares["mean"][squares["size"] >= at_least].idxmin()


def areas_of_notebook(table, side, at_least):
    row, column = (table[name] // side for name in ("centroid-0", "centroid-1"))
    squares = nuclei["area"].groupby([row, column]).agg(["size", "mean"])
    return squares["mean"][squares["size"] >= at_least].idxmin()


def both_borders(table, side, at_least):
    means = {}
    rows, columns = (table[["centroid-0", "centroid-1"]].max() // side).astype(int) + 1
    for row, column in np.ndindex(rows, columns):
        here = table["centroid-0"].between(row * side, row * side + side)
        here &= table["centroid-1"].between(column * side, column * side + side)
        if here.sum() >= at_least:
            means[row, column] = table["area"][here].mean()
    return min(means, key=means.get)


def test_6_3_tables_have_the_columns_of_the_lesson():
    for table, _, _ in lesson_6.tables():
        assert list(table) == ["label", "centroid-0", "centroid-1", "area", "intensity_mean"]


@pytest.mark.parametrize(
    "mistake, feedback",
    [
        (table_of_notebook, "Your function goes by nuclei of the notebook"),
        (places_of_notebook, "Your function goes by nuclei of the notebook"),
        (areas_of_notebook, "Your function goes by nuclei of the notebook"),
        (both_borders, "some nuclei are counted twice. One at 500.0 belongs to one row of squares only, row 2"),
        (lambda table, side, at_least: (0, 18), "(0, 18). That square is empty in this table."),
        (lambda table, side, at_least: (0, 0), "The smallest mean area is in another square."),
        (grid_of_lesson, "this is right within 2000 x 5000 pixels"),
        (larger_grid_of_lesson, "this is right within 2000 x 5000 pixels"),
        (without_last_squares, "the last row and the last column of squares"),
        (lambda table, *more: by_groupby(table[table["area"] >= 20], *more), "small nuclei seem to be left out"),
        (adds_columns, "your function changes the table"),
        (sorts_in_place, "your function changes the table"),
        (whole_areas, "your function changes the table"),
        (lambda table, side, at_least: by_groupby(table, side, 20), "Does your function use at_least?"),
        (lambda table, side, at_least: by_groupby(table, 250, 20), "Does your function use side and at_least?"),
        (
            lambda table, side, at_least: table["centre"],
            "side=250, at_least=10, your function raises KeyError",
        ),
        (lambda *arguments: by_groupby(*arguments)[::-1], "row and column are swapped"),
        (lambda table, side, at_least: by_groupby(table, side, 0), "that square has fewer than 10 nuclei"),
        (
            lambda table, side, at_least: by_groupby(table, side, at_least + 1),
            "a square with exactly 5 nuclei has enough",
        ),
        (lambda *arguments: by_groupby(*arguments, find="idxmax"), "nuclei are largest there"),
        (lambda *arguments: by_groupby(*arguments, "sum"), "the sum of the areas"),
        (lambda *arguments: by_groupby(*arguments, "median"), "the median is smallest there"),
        (lambda *arguments: by_groupby(*arguments, "min"), "the smallest single nucleus"),
        (lambda *arguments: by_groupby(*arguments, "size", "idxmax"), "the most nuclei are there"),
        (rounded, "some nuclei were put into the wrong square"),
        (
            lambda table, side, at_least: tuple(side * part for part in by_groupby(table, side, at_least)),
            "Count squares",
        ),
        (lambda *arguments: tuple(1 + part for part in by_groupby(*arguments)), "squares are counted from 0"),
        (lambda table, side, at_least: by_groupby(table, 250, at_least), "this goes by squares of 250 pixels"),
        (lambda table, side, at_least: table["area"].min(), "Row and column of a square are asked for"),
        (lambda table, side, at_least: table, "Row and column of a square are asked for"),
        (lambda table, side, at_least: "2, 3", "Row and column of a square are asked for"),
        (lambda table, side, at_least: (1, 2, 3), "Row and column of a square are asked for"),
        (lambda table, side, at_least: (1.5, 2), "a whole number is asked for"),
        (lambda table, side, at_least: table["centroid"], "KeyError"),
        (lambda table, side: (0, 0), "TypeError"),
        ((2, 3), "a function is asked for"),
    ],
)
def test_6_3_mistakes(line_of, mistake, feedback):
    line = line_of("6.3", mistake)
    assert line.startswith("✗") and feedback in line


def test_6_3_hostile(line_of, hostile):
    assert line_of("6.3", hostile)[0] in "✗○"
    assert line_of("6.3", lambda table, side, at_least: hostile)[0] in "✗○"


# --- 6.4 ---


def by_shifts(left, right):
    a, b = left[:, -1], right[:, 0]
    pairs = {*zip(a, b), *zip(a[:-1], b[1:]), *zip(a[1:], b[:-1])}
    return [pair for pair in pairs if 0 not in pair]


def by_rows(left, right, directions=(-1, 0, 1)):
    pairs = []
    for row in range(left.shape[0]):
        for other in (row + direction for direction in directions):
            if 0 <= other < right.shape[0]:
                pair = left[row, -1], right[other, 0]
                if pair[0] > 0 and pair[1] > 0 and pair not in pairs:
                    pairs.append(pair)
    return pairs


@pytest.mark.parametrize(
    "touching_pairs",
    [
        by_shifts,
        by_rows,
        lambda left, right: set(by_rows(left, right)),
        lambda left, right: np.array(by_rows(left, right)).reshape(-1, 2),
        lambda left, right: [list(pair) for pair in by_rows(left, right)],
    ],
)
def test_6_4_right(line_of, touching_pairs):
    assert line_of("6.4", touching_pairs).startswith("✓")


def test_6_4_pairs_join_what_stitch_labels_joins():
    """As many objects remain as pieces minus joins; a graph of the pairs has the components of the stitched labels."""
    import networkx

    mask = np.random.default_rng(4).random((40, 20)) < 0.4
    tiles = da.from_array(mask, chunks=(40, 10)).map_blocks(label, dtype=np.int32)
    left, right = (tiles.blocks[0, side].compute() for side in (0, 1))
    right = np.where(right, right + left.max(), 0)
    graph = networkx.Graph(by_shifts(left, right))
    graph.add_nodes_from(range(1, right.max() + 1))
    assert networkx.number_connected_components(graph) == stitch_labels(tiles).max().compute() == label(mask).max()


def with_repeats(left, right):
    a, b = left[:, -1], right[:, 0]
    pairs = [*zip(a, b), *zip(a[:-1], b[1:]), *zip(a[1:], b[:-1])]
    return [pair for pair in pairs if 0 not in pair]


def with_background(left, right):
    return sorted(set(zip(left[:, -1], right[:, 0])))


def rolled(left, right):
    a, b = left[:, -1], right[:, 0]
    pairs = {pair for shift in (-1, 0, 1) for pair in zip(a, np.roll(b, shift))}
    return [pair for pair in pairs if 0 not in pair]


def outer_ends(left, right):
    return by_shifts(left[:, ::-1], right[:, ::-1])


def some_rows(left, right, rows):
    """Go through these rows of left."""
    pairs = set()
    for row in rows:
        for other in (row - 1, row, row + 1):
            if 0 <= other < len(right) and left[row, -1] and right[other, 0]:
                pairs.add((left[row, -1], right[other, 0]))
    return pairs


def first_partner_only(left, right):
    return list(dict(sorted(by_shifts(left, right), reverse=True)).items())


def goes_round(left, right):
    pairs = {(left[row, -1], right[row + step, 0]) for row in range(len(left) - 1) for step in (-1, 0, 1)}
    return [pair for pair in pairs | set(by_shifts(left, right)) if 0 not in pair]


@pytest.mark.parametrize(
    "mistake, feedback",
    [
        (lambda left, right: some_rows(left, right, range(1, len(left) - 1)), "the first row and the last row"),
        (lambda left, right: some_rows(left, right, range(len(left) - 1)), "the first row and the last row"),
        (lambda left, right: some_rows(left, right, range(1, len(left))), "the first row and the last row"),
        (
            lambda left, right: some_rows(left, right, range(min(left.shape))),
            "You seem to look at 2 rows. How many are there?",
        ),
        (goes_round, "the first row meets the last one"),
        (first_partner_only, "A label may touch several others"),
        (lambda left, right: left[9], "tiles of shape (3, 3) and (3, 3), your function raises IndexError"),
        (with_repeats, "a pair comes more than once"),
        (with_background, "there is a pair with 0"),
        (lambda left, right: by_rows(left, right, (0,)), "Pixels touch at corners as well"),
        (lambda left, right: by_rows(left, right, (0, 1)), "two directions in which corners touch"),
        (lambda left, right: by_rows(left, right, (0, -1)), "two directions in which corners touch"),
        (lambda left, right: by_rows(left, right, (-1, 1)), "side by side in the same row touch as well"),
        (lambda left, right: by_rows(left, right, (-2, -1, 0, 1, 2)), "these two do not touch"),
        (rolled, "the first row meets the last one"),
        (outer_ends, "you look at the outer ends"),
        (lambda left, right: by_shifts(right, left), "you look at the outer ends"),
        (lambda left, right: [pair[::-1] for pair in by_shifts(left, right)], "the label in right comes first"),
        (lambda left, right: by_shifts(left.T, right.T), "is missing"),
        (lambda left, right: [], "the pair (1, 2) is missing"),
        (lambda left, right: [label for pair in by_shifts(left, right) for label in pair], "A list of pairs"),
        (lambda left, right: [(1, 2, 3)], "Each is a pair of labels"),
        (lambda left, right: len(by_shifts(left, right)), "A list of pairs"),
        (lambda left, right: {1: 2}, "A list of pairs"),
        (lambda left, right: [("1", "2")], "one number is asked for"),
        (lambda left, right: zip(left[:, -1], right[:, 0])[0], "TypeError"),
        ([(1, 2)], "a function is asked for"),
    ],
)
def test_6_4_mistakes(line_of, mistake, feedback):
    line = line_of("6.4", mistake)
    assert line.startswith("✗") and feedback in line


def test_6_4_hostile(line_of, hostile):
    assert line_of("6.4", hostile)[0] in "✗○"
    assert line_of("6.4", lambda left, right: hostile)[0] in "✗○"


# --- 6.5 ---


def test_6_5_right(line_of):
    assert line_of("6.5", dict(lesson_6.RIGHT_TOOLS)).startswith("✓")
    assert line_of("6.5", lesson_6.RIGHT_TOOLS | {"A": stitch_labels, "D": label_in_tiles}).startswith("✓")


@pytest.mark.parametrize(
    "changes, feedback",
    [
        ({"A": "count_in_tiles"}, "A would not be happy with count_in_tiles: it counts a network where it begins"),
        ({"A": "measure_in_tiles"}, "measured in one window"),
        ({"A": "label_in_tiles"}, "it names a network by its first pixel"),
        ({"B": "stitch_labels"}, "here all cells touch"),
        ({"B": "label_in_tiles"}, "labels contain no brightness"),
        ({"B": "count_in_tiles"}, "nothing about a single one"),
        ({"C": "label_in_tiles"}, "as many numbers as the slide has pixels"),
        ({"C": "measure_in_tiles"}, "much more than one number per tile"),
        ({"C": "stitch_labels"}, "nuclei that touch across a cut"),
        ({"D": "stitch_labels"}, "nuclei that touch across a cut"),
        ({"D": "measure_in_tiles"}, "a table has no pixels"),
        ({"D": "count_in_tiles"}, "could not tell which one"),
        ({"E": "measure_in_tiles"}, "in which window would the largest piece be whole"),
        ({"E": "count_in_tiles"}, "how many pixels has each?"),
        ({"E": "label_in_tiles"}, "which overlap would you take"),
        ({"E": "stitch_label"}, "for E you write 'stitch_label'. Choose one of"),
        ({"C": None}, "for C you write None"),
        ({"C": ["count_in_tiles"]}, "for C you write a list"),
    ],
)
def test_6_5_mistakes(line_of, changes, feedback):
    line = line_of("6.5", lesson_6.RIGHT_TOOLS | changes)
    assert line.startswith("✗") and feedback in line


def test_6_5_each_tool_gets_its_own_sentence():
    wrong = [(letter, tool) for letter in "ABCDE" for tool in lesson_6.TOOLS if lesson_6.RIGHT_TOOLS[letter] != tool]
    sentences = [lesson_6.why_not(*pair) for pair in wrong]
    assert len(set(sentences)) == len(wrong) == 15
    assert not any(tool in sentence for sentence in sentences for tool in lesson_6.TOOLS)


def test_6_5_unanswered(line_of):
    assert line_of("6.5", dict.fromkeys("ABCDE", ...)).startswith("○ Exercise 6.5: no advice yet for A, B, C, D, E.")
    assert "no advice yet for B." in line_of("6.5", lesson_6.RIGHT_TOOLS | {"B": ...})
    assert "no advice yet for E." in line_of(
        "6.5", {key: tool for key, tool in lesson_6.RIGHT_TOOLS.items() if key < "E"}
    )


def test_6_5_hostile(line_of, hostile):
    assert line_of("6.5", hostile)[0] in "✗○"
    assert line_of("6.5", lesson_6.RIGHT_TOOLS | {"C": hostile})[0] in "✗○"
