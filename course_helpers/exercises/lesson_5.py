"""Exercises of lesson 5, "Count nuclei tile by tile"."""

import functools
from dataclasses import replace
from itertools import chain, combinations, product

import dask
import dask.array as da
import numpy as np
from scipy import ndimage as ndi
from skimage.measure import label, regionprops

from course_helpers.examples import exclude_half
from course_helpers.exercises.form import (
    ANY,
    Function,
    Parts,
    Value,
    array,
    choice,
    is_function,
    number,
    seen,
    whole_number,
)
from course_helpers.exercises.running import Wrong, begin, described
from course_helpers.nuclei import count_nuclei
from course_helpers.slide import nuclei_slide, render_nuclei

EXERCISES = {}

# --- 5.1: larger chunks ---

SLIDE, SMALL, LARGE = (2000, 5000), 100, 500
THRESHOLD, SIGMA = 32, 2
SLIDE_REACH, OVERLAP = 23, 53  # of the slide, and the sums that the lesson shows: tests compare them
SUM_100, SUM_500, WHOLE = 6021, 6159.5, 6248
MAP_SHAPE = (SLIDE[0] // LARGE, SLIDE[1] // LARGE)
LOOKED_AT = ((0, 2), (1, 5), (3, 8), (3, 9))  # enough to tell known mistakes, and fast


def count_map(answer):
    """The shape that a lazy map declares, and if it is right, the counts of a few tiles, as all of them take seconds."""
    if not isinstance(answer, da.Array):
        computed = " It is computed already: map the lazy tiles, and leave out .compute()."
        raise Wrong(f"a lazy count map is asked for.{computed * isinstance(answer, np.ndarray)}")
    if answer.shape != MAP_SHAPE:
        return answer.shape, []
    begin("computing some tiles of your map")
    try:
        tiles = dask.compute(*(answer[row : row + 1, column : column + 1] for row, column in LOOKED_AT))
    except Exception as error:
        raise Wrong(f"computing it raises {described(error)}.") from None
    if wrong := {np.shape(tile) for tile in tiles} - {(1, 1)}:
        raise Wrong(
            f"chunks=(1, 1) declares one number for a tile, but computing it gives an array of shape {min(wrong)}. A tile "
            "has to give its count in an array of shape (1, 1), as count_nuclei does."
        )
    return answer.shape, [tile.item() for tile in tiles]


@functools.cache
def known_map():
    tiles = nuclei_slide(SLIDE, chunks=LARGE)
    return count_map(tiles.map_blocks(count_nuclei, THRESHOLD, SIGMA, chunks=(1, 1), meta=np.empty((0, 0))))


def declares(*shapes):
    """A mistake of maps that declare one of these shapes."""
    return seen(da.zeros(shapes[0]), lambda found: found[0] in shapes)


def about_counts(found):
    both = zip(LOOKED_AT, found[1], known_map()[1])
    place, here, there = next(counts for counts in both if counts[1] != counts[2])
    return (
        f"its tile {place} counts {here:g}, but count_nuclei with THRESHOLD and SIGMA finds {there:g} there, with halves for "
        "labels at its borders. Which function did you map, with which arguments, on which tiles?"
    )


MAP_500 = Value(
    right=known_map,
    reads=count_map,
    lazy=True,
    same=lambda found, known: found == known(),
    mistakes={
        "it declares one pixel per tile of 100 x 100. Rechunk the tiles, not the map, and leave chunks=(1, 1).": declares(
            (SLIDE[0] // SMALL, SLIDE[1] // SMALL)
        ),
        "it declares the shape of the slide, as if a tile gave a tile. Map count_nuclei, which gives one number: chunks=(1, 1).": declares(
            SLIDE
        ),
        "this is one number. The map is asked for, one number per tile of 500 x 500; its sum comes later.": declares(
            (), (1,), (1, 1)
        ),
        "rows and columns of the map are swapped.": declares(MAP_SHAPE[::-1]),
        f"it declares shape {{found[0]}}. {MAP_SHAPE} is asked for, one number for each tile of {LARGE} x {LARGE}.": seen(
            da.zeros((2, 10)), lambda found: found[0] != MAP_SHAPE
        ),
    },
    otherwise=about_counts,
)


EXERCISES["5.1"] = Parts(
    parts={
        "map_500": MAP_500,
        "reason": Value(
            right="C",
            reads=choice("A", "B", "C", "D"),
            mistakes={
                "compare the calls: which threshold did the large tiles get, and which the small ones?": "A",
                "each number in the map is a whole or a half, which a computer adds without any rounding.": "B",
                "far from any cut a small tile shows the same surroundings as a large one, and the watershed treats them "
                "alike.": "D",
            },
        ),
    },
    tells="{name}: {fault}",
    seconds=60,
    praise=f"The sum of your map is {SUM_500:g}. That is closer to the {WHOLE} of the whole image than {SUM_100:g} with tiles of "
    f"{SMALL} x {SMALL}, but not up to it.",
    hints=[
        "rechunk gives new tiles; then make the map as above, with the same arguments of map_blocks. Leave it lazy.",
        "for the reason, ask of each letter: did this change at all between the two maps? Which number did you hand to "
        "count_nuclei both times? Can halves be wrong by rounding? Which nuclei are wrong in a tile, and how many of them "
        "are there in all?",
    ],
)

# --- 5.2: choose the overlap ---


def label_bright(tile):
    """The method of the lesson: blur, threshold and label."""
    return label(ndi.gaussian_filter(tile, 5, mode="nearest", output=np.float32) > 25)


PICTURE = render_nuclei(seed=7, window=np.s_[638:1238, 2400:3300])
OBJECTS = label_bright(PICTURE)
HEIGHT, WIDTH = (max(side.stop - side.start for side in along) for along in zip(*ndi.find_objects(OBJECTS)))
SIDE, REACH, BLUR, TILE = max(HEIGHT, WIDTH), int(4 * 5 + 0.5), int(4 * SIGMA + 0.5), 120
RULE = SIDE + REACH


def one_or_per_axis(answer):
    """A whole number, or two for rows and columns; two that are equal are one."""
    if isinstance(answer, (list, tuple, np.ndarray)) and len(np.ravel(answer)) == 2:
        rows, columns = map(whole_number, answer)
        return rows if rows == columns else (rows, columns)
    return whole_number(answer)


def same_overlap(found, known):
    """Whether an overlap is this one; each axis may have the right one of its own, as `count_in_tiles` takes it."""
    return found == known or (found, known) == ((HEIGHT + REACH, WIDTH + REACH), RULE)


def room_for_an_object(found):
    if isinstance(found, tuple):
        return "one of them is not what the largest object needs along this axis. Rows come first, then columns."
    if found < REACH:
        return "it is less than the reach alone. An overlap holds the longest side of an object, too."
    how = "less" if found < RULE else "more"
    return (
        f"beside the reach, it has room for {found - REACH} pixels of an object, which is {how} than the longest side of one in the "
        "whole picture. An overlap holds both once: each side of a tile gets it."
    )


EXERCISES["5.2"] = Parts(
    parts={
        "reach": Value(
            right=REACH,
            reads=number,
            mistakes={
                "it is that of segment_nuclei on the slide. label_bright has another blur, and no distance.": SLIDE_REACH,
                "it is that of a blur with SIGMA = 2. Which sigma does label_bright have?": BLUR,
                "it is the overlap. The reach is what the method adds to the largest object.": RULE,
                "it is the largest object. The reach is how far the method looks beyond a pixel.": SIDE,
            },
            otherwise="overlap_needed tells how far a Gaussian filter looks beyond a pixel, which does not count itself. Which sigma does label_bright have, and does anything "
            "else in it look at neighbours?",
        ),
        "overlap": Value(
            right=RULE,
            reads=one_or_per_axis,
            same=same_overlap,
            nearly={
                "With {found} you are one pixel above the rule. Is a side last - first + 1 pixels long?": RULE + 1,
            },
            mistakes={
                "it is one pixel below the rule. Is a side last - first + 1 pixels long, or last - first?": RULE - 1,
                "it is the overlap of the slide. This picture has other objects, and label_bright has another reach.": OVERLAP,
                "it holds the largest object. But the pixels at its far end depend on what the filter sees beyond them.": SIDE,
                "it is the reach of the filter alone. A tile also has to see whole what begins in it.": REACH,
            },
            otherwise=room_for_an_object,
        ),
    },
    follows={"overlap": lambda reach, overlap: overlap == SIDE + reach},
    also_right=(
        (REACH, (RULE,) * 2),
        (float(REACH), [HEIGHT + REACH, WIDTH + REACH]),
        (np.int64(REACH), np.int64(RULE)),
    ),
    praise=f"An object of up to {SIDE} pixels fits into the overlap together with the reach of the filter, {REACH}. (Both sides "
    f"have to be looked at: the highest object has {HEIGHT} rows, the widest {WIDTH} columns.)",
    hints=[
        "two numbers are added: one you measure on the picture, one you know from the filter. Which filter looks at "
        "neighbours, and how far? A threshold looks at one pixel.",
        "largest_side measures labels, and overlap_needed gives the reach of a Gaussian filter, both as for the slide. Which "
        "labels and which sigma are those of this picture?",
        "the overlap is the largest side of objects, plus the reach of a Gaussian filter with sigma 5. There is no distance "
        "here, so nothing else looks at neighbours.",
    ],
)


# --- 5.3: exclude half of the borders ---


def label_tiles():
    """Labels of tiles, small ones first, which a reply can show: rectangles whose names have gaps and come in no order."""
    yield (np.array([[0, 0, 0], [0, 5, 0], [0, 0, 0]]),)
    yield (np.array([[9, 9, 0], [9, 0, 0], [0, 0, 4]]),)
    yield (np.array([[5, 5, 5], [5, 0, 5], [5, 5, 5]]),)  # a ring: no background at the borders
    random = np.random.default_rng(53)
    for shape in ((3, 3), (3, 4), (1, 7), (7, 9), (9, 8), (12, 15), (35, 60)):
        for share in (0.3, 0.6, 1):  # of the rectangles that are labels; the rest is background
            names = random.permutation(np.arange(1, 2 * np.prod(shape)))[: np.prod(shape)].reshape(shape)
            names[(shape[0] + 1) // 3, 1] = names[shape[0] // 2, shape[1] // 2]  # one label has two parts
            names[random.random(shape) >= share] = 0
            size = 1 + (np.array(shape) > 8)
            yield (names.repeat(size[0], 0).repeat(size[1], 1).astype(random.choice(["u2", "i4", "i8"])),)
    yield (np.zeros((5, 6), np.int32),)


def in_words(labels):
    """A tile as a reply tells it."""
    if labels.size <= 25:
        return f"labels = {labels.tolist()}"
    content = "without labels" if not labels.any() else "without background" if labels.all() else "with background"
    return f"a tile {content}, of shape {labels.shape} and dtype {labels.dtype}"


LINES = {"upper": np.s_[0], "lower": np.s_[-1], "left": np.s_[:, 0], "right": np.s_[:, -1]}
RULES = list(product(("lower", "upper"), ("right", "left")))  # the borders that may be excluded
COUNTED = ("twice", "once", "nowhere")  # a nucleus across a line, by how many of the two borders there are excluded


def names_in(labels):
    return np.count_nonzero(np.unique(labels))


def half_border(labels, excluded=RULES[0], count=lambda labels, border, kept: names_in(kept)):
    """How many labels do not touch the excluded borders; `count` is for mistakes."""
    border = np.zeros(labels.shape, bool)
    for line in excluded:
        border[LINES[line]] = True
    kept = np.where(np.isin(labels, labels[border]), 0, labels)
    return np.array([[count(labels, border, kept)]])


def way(count):
    """A mistake that counts in another way, with the borders of the learner."""
    return {"count": lambda: count}


def one_count(answer):
    """The number in an array of shape (1, 1)."""
    if isinstance(answer, (list, tuple)):
        raise Wrong("map_blocks needs a NumPy array: use np.array.")
    if np.shape(answer) != (1, 1):
        raise Wrong("an array of shape (1, 1) is asked for.")
    return number(np.asarray(answer))


class HalfBorder(Function):
    """A function that may leave out any two borders that meet, in all tiles the same."""

    def judged(self, answer):
        is_function(answer)
        form = self.nearest(answer)
        Function.judged(form, answer)
        excluded = " and the ".join(form.right.keywords["excluded"])
        return f"Your rule excludes the {excluded} border: a nucleus across one line is counted once."

    def nearest(self, answer):
        """This exercise with the borders that explain all results, perhaps with a known mistake, or else the most."""
        cases = list(self.answered(answer, None))

        def explained(form, mistake):
            function = form.made_by(mistake)
            return (self.alike(case.found, self.outcome(function, case.arguments)) for case in cases)

        forms = [replace(self, right=functools.partial(self.right, excluded=rule)) for rule in RULES]
        ways = [{}, *(mistake for mistake in self.mistakes.values() if isinstance(mistake, dict))]
        return max(product(forms, ways), key=lambda pair: (all(explained(*pair)), sum(explained(pair[0], {}))))[0]


def by_each_rule(labels):
    counts = {" and the ".join(rule): half_border(labels, rule).item() for rule in RULES}
    right = ", ".join(f"{count} without the {borders} border" for borders, count in counts.items())
    if len({*counts.values()}) == 1:
        right = f"{min(counts.values())}, whichever two borders that meet you exclude"
    return f"it should be {right}. Count this tile by your rule on paper. (Numbers of labels may have gaps.)"


def wrong_borders():
    """A row for any choice of borders but two that meet."""
    for lines in chain.from_iterable(combinations(LINES, count) for count in range(5)):
        across, beside = (COUNTED[len({*lines} & pair)] for pair in ({"upper", "lower"}, {"left", "right"}))
        if (across, beside) != ("once", "once"):
            yield (
                f"of the four borders, this excludes {' and '.join(lines) or 'none'}. So a nucleus across a line between rows is counted "
                f"{across}, one across a line between columns {beside}.",
                {"excluded": lines},
            )


EXERCISES["5.3"] = HalfBorder(
    right=half_border,
    cases=label_tiles,
    given=in_words,
    reads=one_count,
    mistakes={
        **dict(wrong_borders()),
        "this counts the background, 0, as if it were a label.": way(lambda labels, border, kept: names_in(kept) + 1),
        "this is one too few: is the 0 taken away twice?": way(lambda labels, border, kept: names_in(kept) - 1),
        "a label counts 1 or 0 by this rule, never one half. (The mean of two counts is the other strategy.)": seen(
            way(lambda labels, border, kept: (names_in(labels) + names_in(kept)) / 2), lambda found: found % 1
        ),
        "so many remain if a row and a column of pixels are cut off. What is left of a nucleus at the border still "
        "counts.": way(lambda labels, border, kept: names_in(np.where(border, 0, labels))),
        "this joins labels that touch each other. Count the labels that are left; do not label a mask of them anew.": way(
            lambda labels, border, kept: label(kept > 0).max()
        ),
        "this counts the parts of labels. A label in two parts is one: count names.": way(
            lambda labels, border, kept: label(kept).max()
        ),
        "this counts pixels, not labels.": way(lambda labels, border, kept: np.count_nonzero(kept)),
        "these are the labels that you leave out. Count the others.": way(
            lambda labels, border, kept: names_in(labels[border])
        ),
        "your function counts 0 in every tile. It is given labels, so nothing has to be segmented: which are left?": way(
            lambda labels, border, kept: 0
        ),
    },
    otherwise=by_each_rule,
    also_right=(
        exclude_half,
        *(functools.partial(half_border, excluded=rule) for rule in RULES),
        lambda labels: np.array([[len(set(labels.flat) - {0, *labels[0], *labels[:, -1]})]], float),
    ),
    hints=[
        "labels[0] is the first row, labels[-1] the last one, labels[:, 0] the first column, labels[:, -1] the last one. A "
        "line between two tiles is the last row of one and the first row of the other: exclude at one of the two.",
        "np.unique(labels) lists the labels of the tile. Which of them also occur in the two borders you exclude? "
        "np.setdiff1d(a, b) gives what is in a and not in b. The 0 is no label.",
        "collect the labels of both excluded borders, and the 0, in one list. Count the labels of the tile that are not in it. "
        "np.array([[number]]) has shape (1, 1).",
    ],
)

# --- 5.4: find the flaw ---


def count_by_centroid(image, side=8, margin=3):
    """The rule of the lesson: sum over tiles of the objects whose centroid lies in the tile, seen with a margin."""
    total = 0
    for row in range(0, image.shape[0], side):
        for column in range(0, image.shape[1], side):
            top, left = max(row - margin, 0), max(column - margin, 0)
            window = image[top : row + side + margin, left : column + side + margin]
            for region in regionprops(label(window)):
                y, x = region.centroid[0] + top, region.centroid[1] + left
                total += row <= y < row + side and column <= x < column + side
    return total


def blobs(answer):
    """A boolean image of the exercise's shape."""
    image = array(answer)
    if image.shape != (16, 16):
        raise Wrong("an array of shape (16, 16) is asked for.")
    if not np.isin(image, (0, 1)).all():
        raise Wrong("it holds other values than False and True, or 0 and 1.")
    return image.astype(bool)


def drawn(*boxes):
    """An image with these boxes."""
    image = np.zeros((16, 16), bool)
    for box in boxes:
        image[box] = True
    return image


def size_of(found):
    """Rows and columns of the smallest box around all that is drawn."""
    return dict(zip(("rows", "columns"), np.ptp(np.argwhere(found), axis=0) + 1))


def parts(found, margin):
    """How many pixels of an image each tile sees."""
    ends = [(max(first - margin, 0), first + 8 + margin) for first in (0, 8)]
    return [found[slice(*rows), slice(*columns)].sum() for rows, columns in product(ends, ends)]


def counted_once(lies=lambda found: True):
    """A recogniser of an object that is counted once and lies like this, with what tiles see of it."""

    def look(found):
        *some, most = sorted({*parts(found, margin=3)} - {0})
        facts = {"parts": ", ".join(map(str, some)), "most": most, "size": found.sum()}
        return count_by_centroid(found) == 1 and lies(found) and facts

    return look


EXERCISES["5.4"] = Value(
    right=ANY,
    reads=blobs,
    mistakes={
        "there are 0 objects in your image, but one is asked for.": seen(drawn(), lambda found: not found.any()),
        "the corners of your image are True. True is the object, and False what is around it.": seen(
            ~drawn(np.s_[4, 4:12]), lambda found: found[:: len(found) - 1, :: len(found) - 1].all()
        ),
        "there are {count} objects in your image, but one is asked for. (Pixels that touch at a corner are one object.)": seen(
            drawn(np.s_[4, 4:12], np.s_[10, 2:4]),
            lambda found: label(found).max() > 1 and {"count": label(found).max()},
        ),
        "your object is {rows} x {columns} pixels large. At most 8 along either axis are allowed.": seen(
            drawn(np.s_[3:12, 4:9]),
            lambda found: max(size_of(found).values()) > 8 and size_of(found),
        ),
        "your object is counted once. It lies in a single tile; the flaw shows at the lines between tiles.": seen(
            drawn(np.s_[2:6, 2:6]), counted_once(lambda found: found.sum() in parts(found, margin=0))
        ),
        "your object is counted once. All tiles at the cut see it whole, and agree on its centroid. Make it larger.": seen(
            drawn(np.s_[2:4, 6:10]), counted_once(lambda found: {*parts(found, margin=3)} <= {0, found.sum()})
        ),
        "your object is counted once. One tile sees all of its {size} pixels, others {parts}. Where is the centroid of each part? Move the object.": seen(
            drawn(np.s_[4, 3:11]), counted_once(lambda found: found.sum() in parts(found, margin=3))
        ),
        "your object is counted once. No tile sees all of its {size} pixels, but {most} at most. In which tile is the centroid "
        "of each part?": seen(drawn(np.s_[2:6, 4:7], np.s_[4, 4:12]), counted_once()),
    },
    also_right=(
        drawn(np.s_[4:12, 3]),
        drawn(np.s_[1:7, 4:12]),
        drawn(np.s_[4:12, 4:12]).astype(int),
        drawn(np.s_[4, 4:12]).tolist(),
    ),
    praise=lambda found: "One object, counted {}: a tile that sees a part of it finds another centroid.".format(
        f"{count_by_centroid(found)} times" if count_by_centroid(found) else "by no tile"
    ),
    hints=[
        "each tile sees 3 pixels beyond its own 8. When does a tile see only a part of an object of 8 pixels, and where is "
        "the centroid of that part?",
        "take a straight line of 8 pixels across the line between two tiles, and write down which of its columns the left tile "
        "sees, and which the right one. The centroid of a line is its middle.",
        "the left tile sees columns 0 to 10, the right one 5 to 15. Let the line begin so that at least one of them does "
        "not see all of it. You can also let a loop try all beginnings.",
    ],
)
