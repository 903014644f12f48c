"""Checks of lesson 6, "Follow objects across tiles"."""

from itertools import product

import dask.array as da
import numpy as np
import pandas as pd
from dask.array.core import slices_from_chunks
from skimage.measure import label

from . import Unanswered, Wrong, call, check_for, computed, function, shown, whole_number

MASK = """
    #...........
    #...#####.#.
    ....#...#.#.
    ..#.#...#.#.
    ...##...###.
    ............
    .##.....##..
    ..#......##.
"""
CHUNKS = (4, 6)
COLUMNS_OF_TINY = 12  # the lesson's other mask; `columns` is left over from it

RIGHT_TOOLS = {
    "A": "stitch_labels",
    "B": "measure_in_tiles",
    "C": "count_in_tiles",
    "D": "label_in_tiles",
    "E": "stitch_labels",
}
TOOLS = ("count_in_tiles", "measure_in_tiles", "label_in_tiles", "stitch_labels")


# --- 6.1: predict the labels ---


def counts_of_mask(connectivity=2):
    """Pieces of the exercise's mask tile by tile, and objects of the whole mask."""
    mask = np.array([[letter == "#" for letter in line] for line in MASK.split()])
    tiles = slices_from_chunks(da.core.normalize_chunks(CHUNKS, mask.shape))
    pieces = [int(label(mask[tile], connectivity=connectivity).max()) for tile in tiles]
    return pieces, int(label(mask, connectivity=connectivity).max())


@check_for(
    "6.1",
    hints=[
        "cover all tiles but one with your hand. How many groups of connected pixels do you see? Do so for each of the "
        "four tiles.",
        "pieces is the sum of the four counts. For largest_label, remember with which number each tile begins.",
        "for objects, take the hand away and ignore the cuts. Pixels that touch at a corner are connected, in a tile "
        "as well as across a cut.",
    ],
)
def predicted_labels(pieces, largest_label, objects):
    pieces, largest_label, objects = map(whole_number, (pieces, largest_label, objects))
    true_pieces, true_objects = counts_of_mask()
    _, without_corners = counts_of_mask(connectivity=1)
    if pieces == true_objects and objects == sum(true_pieces):
        raise Wrong("pieces and objects are swapped: a tile does not know that its piece goes on in the next one.")
    if pieces < objects:
        raise Wrong(f"{pieces} pieces cannot make {objects} objects: an object has at least one piece.")
    if pieces == true_objects:
        raise Wrong(f"pieces = {pieces} would be right without any cuts. What does each tile see, on its own?")
    if pieces != sum(true_pieces):
        raise Wrong(
            f"pieces = {pieces} is too {'many' if pieces > sum(true_pieces) else 'few'}. Go from tile to tile and "
            "count what is connected there. Two ends that meet in another tile only are two pieces; corners connect."
        )
    if largest_label == pieces:
        raise Wrong(f"largest_label = {largest_label}: this would be so if each tile went on counting. Does it?")
    if largest_label != max(true_pieces):
        raise Wrong(
            f"largest_label = {largest_label} is in none of the tiles, or not the largest. Where does a tile begin to "
            "count?"
        )
    if objects == without_corners:
        raise Wrong(f"objects = {objects}: this is right if corners do not connect. Here they do.")
    if objects != true_objects:
        raise Wrong(
            f"objects = {objects} is too {'many' if objects > true_objects else 'few'}. Follow each object across cuts."
        )
    return f"{pieces} pieces of {objects} objects, and no tile has a label above {largest_label}."


# --- 6.2: compute a name ---


def windows():
    """Labels of a window, the label of an object in it, where the window begins, and the shape of the image."""
    slanted = np.array([[0, 0, 0, 0, 2], [1, 0, 2, 2, 2], [1, 1, 0, 2, 0]])
    yield slanted, 1, (4, 7), (20, 30)
    yield slanted, 2, (4, 7), (20, 30)
    yield slanted, 2, (0, 7), (20, 30)
    yield slanted, 2, (4, 0), (30, 20)
    yield slanted, 1, (0, 0), (3, 5)
    later = np.array([[0, 0, 3, 0], [2, 3, 3, 0], [2, 2, 0, 7]])
    for number in (2, 3, 7):
        yield later, number, (11, 6), (40, 25)
    yield later.astype(np.uint8), 7, (2_900_000, 1_900_000), (3_000_000, 2_000_000)


@check_for(
    "6.2",
    hints=[
        "three steps: find the first pixel of the object in the window, add where the window begins, and turn row and "
        "column of the image into one number.",
        "np.argwhere(labels == number) lists row and column of all pixels of the object, in raster order.",
        "the number of a pixel is row * (columns of the image) + column + 1, with its row and column in the image.",
    ],
)
def name_of_object(answer):
    name_of = function(answer)
    for labels, number, start, shape in windows():
        window = labels.copy()
        described = f"labels of shape {labels.shape}, number={number}, start={start}, shape={shape}"
        given = call(name_of, window, number, start, shape, given=described)
        if isinstance(given, (tuple, list, np.ndarray)) and np.size(given) > 1:
            raise Wrong(f"your function returns {shown(given)}. A name is one number.")
        compare_name(whole_number(given), labels, number, start, shape)
        if not np.array_equal(window, labels):
            raise Wrong("the name is right, but your function changes labels. Leave them as they are.")
    return "Every window of an object gives it the same name, also in an image of six trillion pixels."


def compare_name(given, labels, number, start, shape):
    """Say what a wrong name looks like."""
    rows, columns = np.nonzero(labels == number)
    (top, left), (height, width), window_width = start, shape, labels.shape[1]
    right = (top + rows[0]) * width + left + columns[0] + 1
    first_of_column = np.lexsort((rows, columns))[0]
    any_row, any_column = np.argwhere(labels)[0]
    in_window = rows[0] * window_width + columns[0] + 1
    adds_start_too_late = "this adds start to a number of the window, whose lines are shorter. Add row to row first"
    mistakes = [
        (
            (top + rows[0]) * COLUMNS_OF_TINY + left + columns[0] + 1,
            f"this goes by the {COLUMNS_OF_TINY} columns of tiny. Take the columns of the image from shape",
        ),
        (
            (left + rows[0]) * width + top + columns[0] + 1,
            "this takes the two numbers in start for each other. The first one is the row",
        ),
        (
            top + rows[0] * width + left + columns[0] + 1,
            "parentheses are missing. The row of the image is a sum, and all of it is multiplied",
        ),
        (in_window + top * width + left, adds_start_too_late),
        (in_window + top + left, adds_start_too_late),
        (right - 1, "it is one less. Count pixels from 1, because 0 is the background"),
        (number, "this is the number in the window. Where does the object have its first pixel?"),
        (
            in_window,
            "this is the pixel's number in the window. Where does the window begin in the image?",
        ),
        (
            rows[0] * width + columns[0] + 1,
            "where does the window begin? Neither its first row nor its first column is in it",
        ),
        (
            (top + rows[0]) * window_width + left + columns[0] + 1,
            "this goes by the width of the window. A line of the image is as long as the image is wide",
        ),
        (
            (top + rows[0]) * height + left + columns[0] + 1,
            "this takes rows for columns. How many pixels are in one line of the image?",
        ),
        (
            (left + columns[0]) * height + top + rows[0] + 1,
            "this counts column by column. Raster order goes line by line",
        ),
        (
            (top + rows.min()) * width + left + columns.min() + 1,
            "this is the corner of a box around the object, which need not be a pixel of it",
        ),
        (
            (top + rows[first_of_column]) * width + left + columns[first_of_column] + 1,
            "this is the leftmost pixel. The first one is in the topmost row",
        ),
        ((top + rows[-1]) * width + left + columns[-1] + 1, "this is the last pixel of the object, not the first one"),
        (
            (top + any_row) * width + left + any_column + 1,
            "this is the first pixel of another object. Does your function use number?",
        ),
        ((top + rows[0]) * width + columns[0] + 1, "the row is that of the image, but is the column?"),
        (rows[0] * width + left + columns[0] + 1, "the column is that of the image, but is the row?"),
    ]
    if given == right:
        return
    where = f"for object {number} in a window that begins at {start} of an image of shape {shape} you get {given}"
    for value, words in mistakes:
        if given == value:
            raise Wrong(f"{where}: {words.rstrip('?')}{'?' if words.endswith('?') else '.'}")
    raise Wrong(f"{where}. In the window its first pixel is in row {rows[0]}, column {columns[0]}.")


# --- 6.3: where are nuclei small? ---


def tables():
    """Tables of objects, the side of the squares, the least number of objects."""
    random = np.random.default_rng(317)  # all mistakes below differ
    for side, grid, at_least, more in ((250, (4, 7), 10, 15), (100, (6, 3), 5, 0), (64, (2, 5), 2, 1)):
        counts = random.integers(at_least + 1, 30, grid)
        means = random.permuted(np.linspace(80, 160, counts.size)).reshape(grid)
        order = np.argsort(means, axis=None)
        # The two squares with the smallest means have too few nuclei, the first one also if nuclei on its borders count
        # twice; the next one has many, or as many as it needs.
        counts.flat[order[:2]] = max(at_least - 4, 1), at_least - 1
        counts.flat[order[2]] = at_least + more
        yield one_table(random, counts, means, side), side, at_least
    counts, means = np.full((9, 19), 8), random.uniform(100, 160, (9, 19))
    means[8, 18] = 70  # beyond the slide of the lesson, and the last square of all
    means[7, 3], means[2, 12] = 90, 80
    yield one_table(random, counts, means, 300), 300, 8
    counts, means = np.full((3, 6), 12), random.uniform(100, 160, (3, 6))
    means[1, 2] = 90
    table = one_table(random, counts, means, 250)
    crumbs = (table["centroid-0"] // 250 == 2) & (table["centroid-1"] // 250 == 4) & (np.arange(len(table)) % 3 > 0)
    table.loc[crumbs, "area"] = 7.0
    yield table, 250, 12


def one_table(random, counts, means, side):
    """A table with the columns of the lesson; `counts` and `means` are those of the squares."""
    parts = []
    for row, column in np.ndindex(counts.shape):
        count = counts[row, column]
        places = random.uniform(0, 1, (count, 2))
        places[0] = 0  # what lies on the line between two squares belongs to the one that begins there
        areas = random.exponential(40, count)  # skewed, so that the median is not the mean
        centers = places * side + (row * side, column * side)
        columns = {
            "centroid-0": centers[:, 0],
            "centroid-1": centers[:, 1],
            "area": areas - areas.mean() + means[row, column],
            "intensity_mean": random.uniform(30, 70, count),
        }
        parts.append(pd.DataFrame(columns))
    table = pd.concat(parts).sample(frac=1, random_state=3, ignore_index=True)
    table.insert(0, "label", random.permutation(len(table)) + 1)
    return table


@check_for(
    "6.3",
    hints=[
        "for each nucleus, find the row and column of its square first: how often does side fit into its centroid-0, "
        "and into its centroid-1?",
        'table["area"].groupby([row, column]) puts the areas of each square together. .size() counts them, .mean() '
        "averages them.",
        "keep the means of squares with enough nuclei: means[sizes >= at_least]. .idxmin() then gives row and column.",
    ],
)
def square_of_small_nuclei(answer):
    small_nuclei = function(answer)
    for table, side, at_least in tables():
        own = table.copy()
        described = f"a table of {len(table)} nuclei, side={side}, at_least={at_least}"
        given = computed(call(small_nuclei, own, side, at_least, given=described))
        readable = isinstance(given, (tuple, list, np.ndarray)) and np.ndim(given) == 1
        square = tuple(whole_number(part) for part in given) if readable else ()
        if len(square) != 2:
            raise Wrong(
                f"your function returns {shown(given)}. Row and column of a square are asked for, as in (2, 3)."
            )
        if square != best_square(table, side, at_least) and "nuclei" in names_in(getattr(small_nuclei, "__code__", None)):
            raise Wrong(
                f"with side={side} and at_least={at_least} you get {square}. Your function goes by nuclei of the notebook. "
                "It is given another table here."
            )
        compare_square(square, table, side, at_least)
        if not own.equals(table):
            raise Wrong(
                "the square is right, but your function changes the table. Leave it as it is: keep what you compute in "
                "variables, or work on table.copy()."
            )
    return "Your function finds the square in five tables, with squares of different sizes."


def names_in(code):
    """The names in the code of a function, and of functions in it, that are neither its arguments nor its variables."""
    inner = [names_in(part) for part in getattr(code, "co_consts", ()) if hasattr(part, "co_names")]
    return set(getattr(code, "co_names", ())).union(*inner)


SLIDE = (2000, 5000)
TABLE_REACHES_FURTHER = "this is right within 2000 x 5000 pixels. This table comes from a larger slide"


def best_square(table, side, at_least, statistic="mean", rounding=np.floor, find="idxmin"):
    """Row and column of the square with the smallest statistic of the areas, among those with enough objects."""
    row, column = (rounding(table[name] / side).astype(int) for name in ("centroid-0", "centroid-1"))
    squares = table["area"].groupby([row, column])
    enough = squares.agg(statistic)[squares.size() >= at_least]
    return tuple(int(part) for part in getattr(enough, find)()) if len(enough) else None


def on_both_sides(table, side):
    """The table with nuclei on the line between two squares in both of them."""
    for name in ("centroid-0", "centroid-1"):
        on_line = table[(table[name] % side == 0) & (table[name] > 0)]
        table = pd.concat([table, on_line.assign(**{name: on_line[name] - side / 2})])
    return table


def compare_square(square, table, side, at_least):
    """Say what a wrong square looks like."""
    right = best_square(table, side, at_least)
    if square == right:
        return
    within = [[limit, limit // side * side] for limit in SLIDE]  # also where squares that are cut off are left out
    on_slide = [table[(table["centroid-0"] < row) & (table["centroid-1"] < column)] for row, column in zip(*within)]
    last = table[["centroid-0", "centroid-1"]].max() // side * side
    without_last = table[(table["centroid-0"] < last.iloc[0]) & (table["centroid-1"] < last.iloc[1])]
    no_crumbs = table[table["area"] >= 20]
    mistakes = [
        (best_square(table, 250, at_least), "this goes by squares of 250 pixels. Does your function use side?"),
        (best_square(table, 250, 20), "this goes by 250 and 20. Does your function use side and at_least?"),
        (best_square(table, side, 20), "this is right if more nuclei are needed. Does your function use at_least?"),
        *((best_square(part, side, at_least), TABLE_REACHES_FURTHER) for part in on_slide),
        (best_square(no_crumbs, side, at_least), "small nuclei seem to be left out. Each row of the table counts"),
        (best_square(without_last, side, at_least), "do you look at the last row and the last column of squares too?"),
        (right[::-1], "row and column are swapped: centroid-0 is the row"),
        (
            best_square(on_both_sides(table, side), side, at_least),
            f"some nuclei are counted twice. One at {2.0 * side} belongs to one row of squares only, row 2",
        ),
        (best_square(table, side, 0), f"that square has fewer than {at_least} nuclei"),
        (best_square(table, side, at_least + 1), f"a square with exactly {at_least} nuclei has enough of them"),
        (best_square(table, side, at_least, find="idxmax"), "nuclei are largest there. The smallest mean is asked for"),
        (
            best_square(table, side, at_least, rounding=np.round),
            "some nuclei were put into the wrong square. A nucleus at 0.9 of the side is still in the first one",
        ),
        (best_square(table, side, at_least, "median"), "the median is smallest there. The mean is asked for"),
        (best_square(table, side, at_least, "sum"), "the sum of the areas is smallest there. The mean is asked for"),
        (best_square(table, side, at_least, "min"), "the smallest single nucleus lies there. The mean is asked for"),
        (
            best_square(table, side, at_least, "size"),
            "the fewest nuclei are there. The smallest mean area is asked for",
        ),
        (
            best_square(table, side, at_least, "size", find="idxmax"),
            "the most nuclei are there. The smallest mean area is asked for",
        ),
        (tuple(part * side for part in right), "this is the place in pixels. Count squares"),
        (tuple(part + 1 for part in right), "squares are counted from 0"),
    ]
    for value, words in mistakes:
        if square == value:
            end = "" if words.endswith("?") else "."
            raise Wrong(f"with side={side} and at_least={at_least} you get {square}: {words}{end}")
    rows, columns = (table[name] // side for name in ("centroid-0", "centroid-1"))
    empty = not ((rows == square[0]) & (columns == square[1])).any()
    where = "That square is empty in this table" if empty else "The smallest mean area is in another square"
    raise Wrong(f"with side={side} and at_least={at_least} you get {square}. {where}.")


# --- 6.4: which labels touch? ---


def neighbours():
    """Labels of two tiles side by side, from plain to random; no label is in both tiles."""
    yield np.array([[5, 0, 1], [0, 0, 1], [0, 0, 0]]), np.array([[2, 0, 6], [2, 0, 0], [0, 0, 0]])
    yield np.array([[5, 0, 0], [0, 0, 1], [0, 0, 0]]), np.array([[0, 0, 6], [2, 0, 0], [0, 0, 0]])
    yield np.array([[0, 1], [0, 0], [0, 3], [0, 0], [0, 4]]), np.array([[2, 0], [0, 0], [5, 0], [0, 0], [7, 0]])
    yield np.array([[0, 1], [0, 1], [0, 1], [0, 1]]), np.array([[2, 0], [0, 0], [3, 0], [0, 0]])
    yield np.array([[0, 5], [0, 5], [0, 0]]), np.array([[6, 0], [6, 0], [0, 0]])
    yield np.array([[9, 1], [0, 0], [0, 0], [0, 4]]), np.array([[0, 8], [2, 0], [7, 7], [0, 8]])
    yield np.array([[0, 3], [0, 0], [0, 0], [0, 0]]), np.array([[0, 0], [0, 0], [0, 0], [5, 0]])
    yield np.array([[1, 2]]), np.array([[3]])
    yield np.array([[0, 7], [0, 0], [0, 8]]), np.array([[2, 0], [0, 0], [9, 0]])  # labels restart in every tile
    yield np.zeros((4, 4), int), np.ones((4, 4), int)
    random = np.random.default_rng(64)
    for rows in (5, 9, 30):
        both = [label(random.random((rows, columns)) < 0.45, connectivity=1) for columns in (6, 8)]
        yield both[0], np.where(both[1], both[1] + both[0].max(), 0)


def touching(left, right, steps=(-1, 0, 1), rows=None):
    """All pairs of labels that touch across the cut, with the given differences of rows, from these rows of left."""
    pairs = set()
    for row, step in product(range(len(left))[rows or slice(None)], steps):
        if 0 <= row + step < len(right) and left[row, -1] and right[row + step, 0]:
            pairs.add((int(left[row, -1]), int(right[row + step, 0])))
    return pairs


@check_for(
    "6.4",
    hints=[
        "only two columns matter: the last one of left, and the first one of right. Which pixels of the second one "
        "touch a given pixel of the first one?",
        "pixel number i of the left column touches numbers i - 1, i and i + 1 of the right one, if these exist.",
        "with a = left[:, -1] and b = right[:, 0], zip(a, b) gives neighbours in the same row, zip(a[:-1], b[1:]) "
        "those one row further down. A set keeps each pair once; throw out pairs with a 0.",
    ],
)
def pairs_across_cut(answer):
    touching_pairs = function(answer)
    for left, right in neighbours():
        # Empty lists and sets are answers here, None is not.
        described = f"tiles of shape {left.shape} and {right.shape}"
        given = computed(call(touching_pairs, left.copy(), right.copy(), given=described))
        compare_pairs(list_of_pairs(given), left, right)
    return "Your function finds all pairs, also at corners, in tiles of several shapes."


def list_of_pairs(given):
    """The answer as a list of pairs of int; Wrong if it is none."""
    if isinstance(given, (str, bytes, dict, int, float)):
        raise Wrong(f"your function returns {shown(given)}. A list of pairs is asked for, such as [(1, 5), (2, 5)].")
    try:
        entries = [tuple(pair) for pair in given]
    except TypeError:
        raise Wrong(
            f"your function returns {shown(given)}. A list of pairs is asked for, such as [(1, 5), (2, 5)]."
        ) from None
    if any(len(pair) != 2 for pair in entries):
        raise Wrong("an entry of your list does not have two parts. Each is a pair of labels.")
    return [tuple(whole_number(part) for part in pair) for pair in entries]


def compare_pairs(given, left, right):
    """Say what wrong pairs look like."""
    expected, found = touching(left, right), set(given)
    if found == expected and len(given) == len(found):
        return
    example = f"for random tiles of shape {left.shape} and {right.shape}"
    if left.size + right.size < 25:
        example = f"for left = {left.tolist()} and right = {right.tolist()}"
    some_rows = [touching(left, right, rows=slice(*ends)) for ends in ((1, -1), (1, None), (0, -1))]
    ends = {(left[0, -1], right[-1, 0]), (left[-1, -1], right[0, 0])}
    if any(0 in pair for pair in found):
        raise Wrong(f"{example} there is a pair with 0. The background touches many labels, but it is no object.")
    if found == expected:
        raise Wrong(f"{example} a pair comes more than once. Two labels may touch in many pixels; list the pair once.")
    if found == {pair[::-1] for pair in expected}:
        raise Wrong(f"{example} the label in right comes first. Pairs are (label in left, label in right).")
    if expected and found == touching(left, right, steps=(0,)):
        raise Wrong(f"{example} a pair is missing. Pixels touch at corners as well, one row up or down.")
    if found in (touching(left, right, steps=(0, 1)), touching(left, right, steps=(-1, 0))):
        raise Wrong(
            f"{example} a pair is missing. There are two directions in which corners touch: one row up, one row down."
        )
    if found and found == touching(right, left) or found == {pair[::-1] for pair in touching(right, left)} != set():
        raise Wrong(f"{example} you look at the outer ends of the tiles. They meet where left ends and right begins.")
    if found == touching(left, right, steps=(-1, 1)):
        raise Wrong(f"{example} a pair is missing. Pixels side by side in the same row touch as well.")
    if found in some_rows:
        raise Wrong(f"{example} a pair is missing. Do you look at the first row and the last row too?")
    if found == touching(left, right, rows=slice(left.shape[1])):
        raise Wrong(f"{example} pairs are missing. You seem to look at {left.shape[1]} rows. How many are there?")
    if expected < found <= expected | ends:
        raise Wrong(f"{example} the first row meets the last one. Does an index below 0, or np.roll, go round the end?")
    if expected - found:
        missing = min(expected - found)
        again = any(set(missing) & set(pair) for pair in found)
        raise Wrong(f"{example} the pair {missing} is missing.{' A label may touch several others.' if again else ''}")
    extra = min(found - expected)
    raise Wrong(f"{example} your list has {extra}, but these two do not touch across the cut.")


# --- 6.5: choose the tool ---


@check_for(
    "6.5",
    hints=[
        "ask two questions about each: is there a limit to the size of the objects? And what is to come out: a "
        "number per tile, a table, or an image of labels?",
        "B: what would stitch_labels do to cells that touch across a cut? E: how large would a window have to be?",
        "go through the list above: for A and E, begin with how large the objects are; for B, C and D with what is "
        "wanted.",
    ],
)
def advice(answer):
    if answer is None or not isinstance(answer, dict):
        raise Wrong(f"the answer is {shown(answer)}. Keep the dictionary of the task, with a name for each letter.")
    if any(answer.get(letter, ...) is ... for letter in RIGHT_TOOLS):
        missing = ", ".join(letter for letter in RIGHT_TOOLS if answer.get(letter, ...) is ...)
        raise Unanswered(f"no advice yet for {missing}. Replace each ... by the name of a tool, in quotes.")
    for letter, tool in RIGHT_TOOLS.items():
        given = answer[letter]
        name = given if isinstance(given, str) else getattr(given, "__name__", None)
        if not isinstance(name, str) or name not in TOOLS:
            raise Wrong(f"for {letter} you write {shown(given)}. Choose one of: {', '.join(TOOLS)}.")
        if name != tool:
            raise Wrong(f"{letter} would not be happy with {name}: {why_not(letter, name)}")
    return "Five people know what to do."


def why_not(letter, tool):
    """A sentence about what goes wrong with this tool, or is missing."""
    return {
        ("A", "count_in_tiles"): "it counts a network where it begins. Can a tile see where that is?",
        ("A", "measure_in_tiles"): "each network would be measured in one window. How large would it have to be?",
        ("A", "label_in_tiles"): "it names a network by its first pixel. Can all tiles with a part of it see that?",
        ("B", "count_in_tiles"): "it says how many cells there are, and nothing about a single one.",
        ("B", "label_in_tiles"): "labels contain no brightness, so B would have much work left.",
        ("B", "stitch_labels"): "it joins what touches, and here all cells touch.",
        ("C", "measure_in_tiles"): "it gives much more than one number per tile, and takes memory and time for it.",
        ("C", "label_in_tiles"): "it gives as many numbers as the slide has pixels, and C wants one per tile.",
        ("C", "stitch_labels"): "nuclei that touch across a cut would become one.",
        ("D", "count_in_tiles"): "a click on a nucleus could not tell which one it is.",
        ("D", "measure_in_tiles"): "a table has no pixels that a colleague could click on.",
        ("D", "stitch_labels"): "it would join nuclei that touch across a cut.",
        ("E", "count_in_tiles"): "it counts pieces of tissue, but how many pixels has each?",
        ("E", "measure_in_tiles"): "it can measure areas, but in which window would the largest piece be whole?",
        ("E", "label_in_tiles"): "which overlap would you take for the largest piece?",
    }[letter, tool]
