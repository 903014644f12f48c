"""Exercises of lesson 6, "Follow objects across tiles"."""

import re
from itertools import product

import dask.array as da
import numpy as np
from dask.array.core import slices_from_chunks
from skimage.measure import label

from course_helpers.exercises.form import Function, Parts, Value, choice, pairs, seen, whole_number, whole_numbers
from course_helpers.exercises.running import Wrong
from course_helpers.objects import label_in_tiles

EXERCISES = {}

# --- 6.1: predict the labels ---

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


def counts_of_mask(connectivity=2):
    """Pieces of the exercise's mask tile by tile, and objects of the whole mask."""
    mask = np.array([[letter == "#" for letter in line] for line in MASK.split()])
    tiles = slices_from_chunks(da.core.normalize_chunks(CHUNKS, mask.shape))
    pieces = [int(label(mask[tile], connectivity=connectivity).max()) for tile in tiles]
    return pieces, int(label(mask, connectivity=connectivity).max())


PIECES, OBJECTS = counts_of_mask()
OBJECTS_WITHOUT_CORNERS = counts_of_mask(connectivity=1)[1]


def predicted(*numbers):
    return dict(zip(("pieces", "largest_label", "objects"), numbers))


def many_or_few(many, few):
    return lambda found, expected: f"this is too much. {many}" if found > expected else f"this is too little. {few}"


EXERCISES["6.1"] = Parts(
    parts={
        "pieces": Value(
            right=sum(PIECES),
            reads=whole_number,
            mistakes={"this would be right without any cuts. What does each tile see, on its own?": OBJECTS},
            otherwise=many_or_few(
                "What is connected within a tile, also at a corner, is one piece.",
                "Two ends that meet in another tile only are two pieces, and a single pixel is one.",
            ),
        ),
        "largest_label": Value(
            right=max(PIECES),
            reads=whole_number,
            mistakes={
                "this would be so if each tile went on counting. Does it?": sum(PIECES),
                "each tile begins with 1. How far does it count?": 1,
            },
            otherwise=many_or_few("No tile counts so far: each begins with 1.", "Some tile counts further."),
        ),
        "objects": Value(
            right=OBJECTS,
            reads=whole_number,
            mistakes={
                "this is right if corners do not connect. Here they do.": OBJECTS_WITHOUT_CORNERS,
                "these are the pieces. Which of them belong together?": sum(PIECES),
            },
            otherwise=many_or_few(
                "Follow each object across cuts from end to end: what touches there, also at a corner, is one.",
                "What touches nowhere, not even at a corner, are several. Is the bar at the left edge among yours?",
            ),
        ),
    },
    mistakes={
        "pieces and objects are swapped: a tile does not know that its piece goes on in the next one.": predicted(
            OBJECTS, max(PIECES), sum(PIECES)
        ),
        "pieces and largest_label are swapped: {pieces} is the label, {largest_label} are the pieces.": predicted(
            max(PIECES), sum(PIECES), OBJECTS
        ),
        "{pieces} pieces cannot make {objects} objects: an object has at least one piece.": seen(
            predicted(3, max(PIECES), OBJECTS), lambda pieces, objects: pieces < objects
        ),
    },
    praise="{pieces} pieces of {objects} objects, and no tile has a label above {largest_label}.",
    hints=[
        "cover all tiles but one with your hand. How many groups of connected pixels do you see? Do so for each of the "
        "four tiles.",
        "pieces is the sum of the four counts. For largest_label, remember with which number each tile begins.",
        "for objects, take the hand away and ignore the cuts. Pixels that touch at a corner are connected, in a tile "
        "as well as across a cut.",
    ],
)


# --- 6.3: compute a name ---


def windows():
    """Labels of a window, the label of an object in it, where the window begins, and the shape of the image."""
    slanted = np.array([[0, 0, 0, 0, 2], [1, 0, 2, 2, 2], [1, 1, 0, 2, 0]])
    yield slanted, 1, (4, 7), (20, 30)
    yield slanted, 2, (0, 7), (20, 30)
    yield slanted, 2, (4, 0), (30, 20)
    later = np.array([[0, 0, 3, 0], [2, 3, 3, 0], [2, 2, 0, 7]])
    for number in (2, 3, 7):
        yield later, number, (11, 6), (40, 25)
    yield np.array([[4, 4, 4], [0, 4, 0]]), 4, (0, 0), (9, 9)
    yield later.astype(np.uint8), 7, (2_900_000, 1_900_000), (3_000_000, 2_000_000)


def name(labels, number, start, shape):
    """The name of an object: the number of its first pixel in an image of this shape."""
    row, column = np.add(np.argwhere(labels == number)[0], start).tolist()
    return row * shape[1] + column + 1


def which_pixel(labels, number, start, shape, found):
    """A sentence about the pixel that a name stands for, beside the one that is right."""
    if not 0 < found <= shape[0] * shape[1]:
        return f"the pixels of this image have the numbers 1 to {shape[0] * shape[1]}."
    row, column = divmod(found - 1, shape[1])
    where, inside = "of the image", (row - start[0], column - start[1])
    if all(0 <= at < size for at, size in zip(inside, labels.shape)):
        (row, column), where = inside, f"of the window, where labels has {labels[inside]}"
    first = np.argwhere(labels == number)[0]
    return (
        f"this is the pixel in row {row}, column {column} {where}. The first pixel of the object is in row {first[0]}, column "
        f"{first[1]} of the window (counted from 0). Where is it in the image?"
    )


EXERCISES["6.3"] = Function(
    right=name,
    cases=windows,
    given="object {number} in a window of shape {labels.shape} that begins at {start}, of an image of shape {shape}",
    reads=whole_number,
    mistakes={
        "it is one less. Count pixels from 1, because 0 is the background.": lambda *case: name(*case) - 1,
        "it is one more. How many pixels come before the first pixel of the image?": lambda *case: name(*case) + 1,
        "this is the pixel with the largest label: labels.argmax() does not use number. Look for labels == number.": {
            "number": lambda labels: labels.max()
        },
        "this takes the two numbers in start for each other. The first is the row.": {
            "start": lambda start: start[::-1]
        },
        "this is the pixel's number in the window. Where does the window begin in the image?": (
            lambda labels, number, *_: name(labels, number, (0, 0), labels.shape)
        ),
        "this goes by the width of the window. How long is a line of the image?": {
            "shape": lambda labels: labels.shape
        },
        "this takes rows for columns. How many pixels are in a line of the image?": {
            "shape": lambda shape: shape[::-1]
        },
        "numbers of 32 bits do not reach so far. Make an int of row and column first.": (
            lambda *case: np.int64(name(*case)).astype(np.int32)
        ),
    },
    otherwise=which_pixel,
    praise="Every window of an object gives it the same name, also in an image of six trillion pixels.",
    hints=[
        "three steps: find the first pixel of the object in the window, add where the window begins, and turn row and "
        "column of the image into one number.",
        "np.argwhere(labels == number) lists row and column of all pixels of the object, in raster order.",
        "the number of a pixel is row * (columns of the image) + column + 1, with its row and column in the image.",
    ],
)


# --- 6.4: where are nuclei small? ---


def best_square(table, side, at_least):
    """Row and column of the square with the smallest mean area, among those with enough nuclei."""
    row, column = (table[f"centroid-{axis}"] // side for axis in (0, 1))
    areas = table["area"].groupby([row, column])
    return areas.mean()[areas.size() >= at_least].idxmin()


def tables():
    """Tables of objects, the side of the squares, the least number of objects."""
    import pandas as pd  # here, because it takes a while, and the first exercise of the lesson needs no tables

    random = np.random.default_rng(64)
    for side, first, grid, count, at_least in (
        (250, 1, (4, 7), 450, 15),
        (100, 0, (6, 3), 300, 17),
        (64, 0, (2, 5), 180, 18),
        (300, 0, (9, 19), 2600, 14),
        (250, 0, (3, 6), 300, 18),
        (250, 0, (8, 21), 2700, 15),
        (200, 11, (14, 16), 300, 17),
    ):
        places = random.uniform(first, grid, (count, 2))  # from the first square on, which need not be the one at 0
        places[::5] = np.floor(places[::5])  # on lines: what lies there belongs to the square that begins there
        columns = {
            "label": random.permutation(count) + 1,
            "centroid-0": places[:, 0] * side,
            "centroid-1": places[:, 1] * side,
            "area": random.exponential(60, count) + 7,  # skewed, so that the median is not the mean
            "intensity_mean": random.uniform(30, 70, count),
        }
        table = pd.DataFrame(columns)
        # Of the nuclei of the right square, two are the ends of the table: none may be left out where all are needed. Where one
        # more is needed, another square is right.
        inside = nuclei_in(best_square(table, side, at_least), table, side)
        ends = pd.concat([inside[:1], table.drop(inside.index[:2]), inside[1:2]], ignore_index=True)
        if first > 9:  # as of chosen rows of a table of large objects
            ends["area"] *= 40
            ends.index = 3 * ends.index + 5
        yield from ((ends, side, enough) for enough in sorted({at_least, len(inside), len(inside) + 1}))


def nuclei_in(place, table, side):
    """The rows of the table that belong to a square."""
    return table[(table["centroid-0"] // side == place[0]) & (table["centroid-1"] // side == place[1])]


def about_square(table, side, at_least, found, expected):
    """What is in a square that has enough nuclei, and in the one asked for."""
    ours, smallest = (nuclei_in(place, table, side)["area"] for place in (found, expected))
    last = [int(table[f"centroid-{axis}"].max() // side) for axis in (0, 1)]
    return (
        f"the {len(ours)} nuclei of that square have a mean area of {ours.mean():.1f}. The square in row {expected[0]}, column {expected[1]} "
        f"has {len(smallest)} nuclei, which are enough, and a mean of {smallest.mean():.1f}. (The table reaches to the square in row "
        f"{last[0]}, column {last[1]}. What lies on a line belongs to the square that begins there.)"
    )


def square(answer):
    """Row and column of a square, as whole numbers."""
    try:
        return whole_numbers("row, column")(answer)
    except Wrong as reason:
        raise Wrong(f"{reason} These are the place of the smallest mean, which idxmin() of the means tells.") from None


EXERCISES["6.4"] = Function(
    right=best_square,
    cases=tables,
    given=lambda table, side, at_least: f"a table of {len(table)} nuclei, side={side} and at_least={at_least}",
    reads=square,
    mistakes={
        "no square is left to choose from. Are rows and columns whole numbers, by //? Is the number of nuclei compared with at_least?": seen(
            lambda *case: np.empty(0).argmin(), lambda error: "empty sequence" in error
        ),
        'sizes come from groups.size(), with its (). And .size of a table is something else than its column, ["size"].': seen(
            lambda table, side, at_least: table.groupby("label").size >= at_least,
            lambda error: re.search("KeyError: True|instances of 'method' and", error),
        ),
        "rows of a table need not be called 0, 1, 2. Take pairs of columns by zip, or a position by .iloc.": seen(
            lambda *case: (case[0]["area"][0], best_square(*case))[1],
            lambda error: re.fullmatch(r"KeyError: \d+", error),
        ),
        "this goes by squares of 250 pixels. Does your function use side?": {"side": 250},
        "row and column are swapped: centroid-0 is the row.": lambda *case: best_square(*case)[::-1],
        "squares are counted from 0.": lambda *case: tuple(part + 1 for part in best_square(*case)),
        "that square is empty in this table. Count squares, not pixels, from 0: the row goes by centroid-0, the column by centroid-1.": seen(
            lambda *case: (0, 900), lambda found, table, side: nuclei_in(found, table, side).empty
        ),
        "that square has {count} nuclei, and at least {at_least} are asked for. (What lies on a line between two squares belongs to the one "
        "that begins there.)": seen(
            {"at_least": 0},
            lambda found, table, side, at_least: (
                {"count": count} if (count := len(nuclei_in(found, table, side))) < at_least else None
            ),
        ),
    },
    otherwise=about_square,
    praise="Your function finds the square in {count} tables, with squares of different sizes.",
    hints=[
        "for each nucleus, find the row and column of its square first: how often does side fit into its centroid-0, "
        "and into its centroid-1?",
        'table["area"].groupby([row, column]) puts the areas of each square together. .size() counts them, .mean() '
        "averages them.",
        "keep the means of squares with enough nuclei: means[sizes >= at_least]. .idxmin() then gives row and column.",
    ],
)


# --- 6.5: which labels touch? ---


def neighbours():
    """Labels of two tiles side by side, small ones first, in which a label may lie in several places."""
    yield np.array([[5, 0, 1], [0, 0, 1], [0, 0, 0]]), np.array([[2, 0, 6], [2, 0, 0], [0, 0, 0]])
    yield np.array([[5, 0, 0], [0, 0, 1], [0, 0, 0]]), np.array([[0, 0, 6], [2, 0, 0], [0, 0, 0]])
    yield np.array([[1, 2]]), np.array([[3]])
    yield np.zeros((4, 4), int), np.ones((4, 4), int)
    yield np.array([[0, 65_536]], np.int32), np.array([[65_536, 0]], np.int32)  # whose product has too many bits
    random = np.random.default_rng(65)
    for rows in (2, 3, 4, 5, 5, 5, 5, 7, 9, 30):
        for share in (0.2, 0.4, 0.6):  # of the pixels that have a label
            shapes = (rows, random.integers(1, 4)), (rows, random.integers(1, 4))
            yield tuple(random.integers(1, rows + 3, shape) * (random.random(shape) < share) for shape in shapes)


def meetings(left, right, steps=(0, -1, 1)):
    """(two labels, row in left, row in right) of all pixels that meet across the cut, with these differences of rows."""
    for row, step in product(range(len(left)), steps):
        if 0 <= row + step < len(right):
            yield (int(left[row, -1]), int(right[row + step, 0])), row, row + step


def touching(left, right, steps=(0, -1, 1), keep=set, background=False):
    """All pairs of labels that touch across the cut; the further arguments are for mistakes."""
    return keep(pair for pair, *_ in meetings(left, right, steps) if background or all(pair))


def first_missing(left, right, found, expected):
    """The first pair that is missing, and the rows in which its labels touch."""
    missing = min(set(expected) - set(found))
    return next(
        {"missing": pair, "row": row, "other": other} for pair, row, other in meetings(left, right) if pair == missing
    )


EXERCISES["6.5"] = Function(
    right=touching,
    cases=neighbours,
    given=lambda left, right: (
        f"left = {left.tolist()} and right = {right.tolist()}"
        if left.size + right.size < 25
        else f"tiles of shape {left.shape} and {right.shape}"
    ),
    reads=pairs,
    mistakes={
        "pairs are missing. Pixels touch at corners as well, one row up or down. (Or does return end your loop?)": {
            "steps": (0,)
        },
        "the label in right comes first. Pairs are (label in left, label in right).": (
            lambda left, right: {pair[::-1] for pair in touching(left, right)}
        ),
        "your list is empty. Which pixels do you compare, and does return end your loop in the first row?": (
            lambda left, right: []
        ),
        "the first row has none above it, and the last one none below. And does your loop count the rows of left?": seen(
            lambda left, right: right[len(right)], lambda error: "out of bounds for axis 0" in error
        ),
        "there is a pair with 0, which is no object but the background. (And a row is no label.)": seen(
            {"background": True},
            lambda found: any(0 in pair for pair in found),
        ),
        "a pair comes more than once. Two labels may touch in many pixels; list the pair once.": seen(
            {"keep": lambda: list},
            lambda found, expected: sorted(set(found)) == expected,
        ),
        "your list has {extra}, but no label {extra[0]} of left touches a label {extra[1]} of right across the cut, where the last column "
        "of left meets the first one of right.": seen(
            lambda left, right: touching(left, right) | {(77, 78)},
            lambda found, expected: (more := set(found) - set(expected)) and {"extra": min(more)},
        ),
        "the pair {missing} is missing: row {row} of the last column of left touches row {other} of the first column of right "
        "(counted from 0). Does your loop come to its end?": seen(
            lambda left, right: sorted(touching(left, right))[1::2], first_missing
        ),
    },
    also_right=(
        lambda left, right: np.array(sorted(touching(left, right))).reshape(-1, 2),
        lambda left, right: [list(pair) for pair in touching(left, right)],
        lambda left, right: tuple(touching(left, right)),
        lambda left, right: (pair for pair in touching(left, right)),
    ),
    praise="Your function finds all pairs, also at corners, in tiles of several shapes.",
    hints=[
        "only two columns matter: the last one of left, and the first one of right. Which pixels of the second one "
        "touch a given pixel of the first one?",
        "pixel number i of the left column touches numbers i - 1, i and i + 1 of the right one, if these exist.",
        "with a = left[:, -1] and b = right[:, 0], zip(a, b) gives neighbours in the same row, zip(a[:-1], b[1:]) "
        "those one row further down. A set keeps each pair once; throw out pairs with a 0.",
    ],
)


# --- 6.2: choose the tool ---


GIVES = {
    "count_in_tiles": "it gives one number per tile, and has to see each object whole in a window.",
    "measure_in_tiles": "it gives a table with a row for each object, which it has to see whole in a window.",
    "label_in_tiles": "it gives an image of labels, and has to see each object whole in a window.",
    "stitch_labels": "it joins what touches across a cut, and gives an image of labels.",
}


def tool(right, wish):
    """A part of the answer: the tool that fits, and what is wanted, which speaks against the others."""
    mistakes = {f"{gives} {wish}": name for name, gives in GIVES.items() if name != right}
    return Value(right=right, reads=choice(*GIVES), mistakes=mistakes)


EXERCISES["6.2"] = Parts(
    in_dict=True,
    tells="{name} would not be happy with {found}: {fault}",
    parts={
        "A": tool("stitch_labels", "A has networks that run through all tiles. How large would a window have to be?"),
        "B": tool("measure_in_tiles", "B wants the brightness of each cell, and all cells touch each other."),
        "C": tool("count_in_tiles", "C wants one number per tile, of nuclei that may touch, and nothing else."),
        "D": tool("label_in_tiles", "D wants pixels to click on, and nuclei that touch are two."),
        "E": tool(
            "stitch_labels", "E wants the size of pieces. How large would a window be that shows the largest one?"
        ),
    },
    also_right=(
        {
            "A": "stitch labels",
            "B": "measure_in_tiles()",
            "C": "Count_In_Tiles",
            "D": label_in_tiles,
            "E": "stitch-labels",
        },
    ),
    praise="Five people know what to do.",
    hints=[
        "ask two questions about each: is there a limit to the size of the objects? And what is to come out: a "
        "number per tile, a table, or an image of labels?",
        "B: what would stitch_labels do to cells that touch across a cut? E: how large would a window have to be?",
        "go through the list above: for A and E, begin with how large the objects are; for B, C and D with what is "
        "wanted.",
    ],
)
