"""Checks of lesson 5, "Count nuclei tile by tile"."""

import functools

import numpy as np
from scipy import ndimage as ndi
from skimage.measure import label, regionprops

from course_helpers.exercises._old import (
    Nearly,
    Unanswered,
    Wrong,
    array,
    call,
    check_for,
    computed,
    function,
    is_lazy,
    named,
    number,
    shown,
    whole_number,
)
from course_helpers.nuclei import count_nuclei, render_nuclei

SLIDE, SMALL, LARGE = (2000, 5000), 100, 500
THRESHOLD, SIGMA = 32, 2  # those of the lesson
TILES_LOOKED_AT = [(0, 2), (1, 5), (3, 9)]


def cuts(side):
    """Length of all inner cuts of the slide, in pixel sides."""
    rows, columns = SLIDE
    return (rows // side - 1) * columns + (columns // side - 1) * rows


@check_for(
    "5.1",
    hints=[
        "rechunk gives new tiles; then make the map as above, with the same arguments of map_blocks, and compute it. For "
        "the cuts, draw the slide: how many lines from left to right separate 20 rows of tiles, and how long is each?",
        "one line less than there are rows of tiles, each as long as the slide is wide; one line less than there are "
        "columns of tiles, each as long as the slide is high. Add up, for both tile sizes, and divide.",
        "for the reason, ask of each letter: did this change at all between the two maps? Which number did you hand to "
        "count_nuclei both times? Can halves be wrong by rounding? Which nuclei are wrong in a tile, and how many of them are there in all?",
    ],
)
def larger_chunks(map_500, cuts_shorter=..., reason=...):
    if cuts_shorter is ... or reason is ...:
        raise Unanswered("hand over all three answers: .check(map_500, cuts_shorter, reason).")
    check_map(map_500)
    check_cuts(cuts_shorter)
    letter = named("reason", computed, reason)
    if not isinstance(letter, str) or letter.strip().upper() not in ("A", "B", "C", "D"):
        raise Wrong(f'reason is {shown(reason)}, but one of the letters "A", "B", "C" and "D" is asked for.')
    raise_for_reason(letter.strip().upper())
    factor = cuts(SMALL) / cuts(LARGE)
    return (
        f"{LARGE} x {LARGE}: the map has {np.size(map_500)} pixels, and the cuts are shorter by a factor of {factor:.2f}. "
        "(The numbers cannot tell whether you declared the map with chunks=(1, 1). Put its line without .compute() "
        f"into a cell and look at the table: the shape should be {np.shape(map_500)}.)"
    )


def check_map(map_500):
    """Wrong if this is not the computed count map of tiles of 500 x 500."""
    if map_500 is None:
        named("map_500", computed, map_500)
    if is_lazy(map_500):
        declared = getattr(map_500, "shape", ())
        extra = " And it declares the shape of the slide: chunks=(1, 1) is missing." if declared == SLIDE else ""
        raise Wrong(f"map_500 is not computed yet. Call .compute() on it.{extra}")
    expected = tuple(size // LARGE for size in SLIDE)
    if np.shape(map_500) == tuple(size // SMALL for size in SLIDE):
        raise Wrong(
            f"map_500 has shape {np.shape(map_500)}, one pixel per tile of {SMALL} x {SMALL}. Rechunk the tiles first."
        )
    if np.shape(map_500) == ():
        raise Wrong("map_500 is one number. The map is asked for, one number per tile; its sum comes later.")
    values = named("map_500", array, map_500, shape=expected)
    for i, j in TILES_LOOKED_AT:
        window = np.s_[i * LARGE : (i + 1) * LARGE, j * LARGE : (j + 1) * LARGE]
        right = count_nuclei(render_nuclei(SLIDE, window=window), THRESHOLD, SIGMA)[0, 0]
        if values[i, j] != right:
            raise Wrong(
                f"the tile ({i}, {j}) of map_500 is {values[i, j]:g}, but count_nuclei with THRESHOLD and SIGMA finds "
                f"another number there. Which function did you map, with which arguments?"
            )


def check_cuts(cuts_shorter):
    """Wrong if this is not how much shorter the cuts are."""
    factor, right = named("cuts_shorter", number, cuts_shorter), cuts(SMALL) / cuts(LARGE)
    if abs(factor / right - 1) < 0.005:
        return
    if abs(factor * right - 1) < 0.005:
        raise Wrong(
            "cuts_shorter is the wrong way round: divide the length with the small tiles by that with the large ones."
        )
    if factor == LARGE / SMALL:
        raise Wrong(
            "cuts_shorter is the ratio of the sides of the tiles. You also get it from adding up whole perimeters of tiles. "
            "But part of a perimeter can be the outer edge of the slide: count the lines between tiles only."
        )
    edge = 2 * sum(SLIDE)
    if abs(factor * (cuts(LARGE) + edge) / (cuts(SMALL) + edge) - 1) < 0.005:
        raise Wrong("you counted the outer edge of the slide, too. Only lines that separate tiles from tiles are cuts.")
    swapped = {side: sum((size // side - 1) * size for size in SLIDE) for side in (SMALL, LARGE)}
    if abs(factor / (swapped[SMALL] / swapped[LARGE]) - 1) < 0.005:
        raise Wrong("you swapped the lengths: does a line between two rows of tiles run down the slide or across it?")
    lines = {side: sum(size // side - 1 for size in SLIDE) for side in (SMALL, LARGE)}
    if abs(factor / (lines[SMALL] / lines[LARGE]) - 1) < 0.005:
        raise Wrong("cuts_shorter is the ratio of the numbers of lines. They are not all of the same length.")
    if abs(factor - right) < 0.1:
        raise Wrong(f"cuts_shorter is {factor:g}, which is close. Give two decimals, or let Python divide.")
    if factor == (LARGE / SMALL) ** 2:
        raise Wrong("cuts_shorter is the ratio of the numbers of tiles. Add up the lengths of the lines between them.")
    if factor > 1000:
        raise Wrong(
            f"cuts_shorter is {factor:g}, which looks like a length. A factor is asked for: one length divided by the other."
        )
    raise Wrong(f"cuts_shorter is {factor:g}, but the lengths of all lines between tiles have another ratio.")


def raise_for_reason(letter):
    """Wrong with what speaks against this reason."""
    against = {
        "A": "compare the calls: which threshold did the large tiles get, and which the small ones?",
        "B": "each number in the map is a whole or a half, which a computer adds without any rounding.",
        "D": "far from any cut a small tile shows the same surroundings as a large one, and the watershed treats them alike.",
    }
    if letter in against:
        raise Wrong(f"the map and the factor are right. But the reason is not {letter}: {against[letter]}")


def exclude_half(labels):
    """Count the labels of a tile that do not touch its lower or right border; the result has shape (1, 1)."""
    excluded = np.union1d(labels[-1], labels[:, -1])
    return np.array([[np.count_nonzero(np.setdiff1d(labels, excluded))]])


def label_tiles():
    """Labels of tiles on which wrong rules give wrong numbers."""
    # Of 1, 2, 4 and 8 labels at the four borders, no two choices of borders leave the same number.
    borders = np.zeros((19, 23), np.int32)
    borders[8:11, 8:11], borders[11, 8:10], borders[10:12, 7] = 80, 71, 72  # three that touch
    borders[:2, 4:6], borders[-1, 4], borders[-2:, 7:9] = 33, 5, 16
    for name, row in zip((7, 38, 9, 40), range(2, 18, 4)):
        borders[row, 0] = name
    for name, row in zip((11, 62, 13, 44, 15, 26, 17, 58), range(1, 17, 2)):
        borders[row, 20 + name % 3 :] = name
    corners = np.zeros((8, 8), np.int32)
    corners[:2, :2], corners[:2, 6:], corners[6:, :2], corners[6:, 6:], corners[4, 4] = 2, 4, 6, 8, 9
    ring = np.full((7, 9), 5, np.int32)  # its borders hold no background
    ring[1:-1, 1:-1], ring[3, 3] = 0, 7
    near = np.zeros((14, 15), np.int32)  # each of these comes close to a border, and touches none
    near[1:3, 5], near[2:4, 9], near[-3:-1, 5], near[-4:-2, 8] = 3, 6, 7, 12
    near[6:8, 1], near[6, 2:4], near[6:8, -2], near[9, -4:-2] = 20, 21, 25, 31
    names = (7 * np.arange(25, dtype=np.int32) + 16) % 25 + 3  # the smallest one in the middle
    full = names.reshape(5, 5).repeat(3, 0).repeat(2, 1)  # no background
    empty = np.zeros((5, 6), np.int32)
    return {
        "with labels at all borders": borders,
        "with labels in the corners": corners,
        "with a label all around": ring,
        "with labels that do not touch a border": near,
        "without background": full,
        "without labels": empty,
    }


def tiny_tiles():
    """Labels of tiles small enough to be shown in a message."""
    yield np.array([[0, 0, 0], [0, 5, 0], [0, 0, 0]])
    yield np.array([[0, 5, 0], [0, 0, 0], [0, 7, 0]])
    yield np.array([[0, 0, 0], [5, 0, 7], [0, 0, 0]])
    yield np.array([[9, 9, 0], [9, 0, 0], [0, 0, 4]])
    yield np.array([[2, 2, 0, 4, 4], [2, 2, 0, 4, 4], [0, 0, 0, 0, 0], [6, 6, 0, 8, 8], [6, 6, 0, 8, 8]])


SIDES = {"upper": np.s_[0], "lower": np.s_[-1], "left": np.s_[:, 0], "right": np.s_[:, -1]}
INNER = {"upper": np.s_[1:], "lower": np.s_[:-1], "left": np.s_[:, 1:], "right": np.s_[:, :-1]}
RULES = [(vertical, horizontal) for vertical in ("upper", "lower") for horizontal in ("left", "right")]


def without(labels, *sides):
    """How many labels do not touch any of these borders."""
    excluded = np.concatenate([[0], *[labels[SIDES[side]] for side in sides]])
    return len(np.setdiff1d(labels, excluded))


def at(labels, side):
    """How many labels touch a border."""
    return len(np.setdiff1d(labels[SIDES[side]], [0]))


def strip(labels, side, width):
    """The outermost rows or columns at a border."""
    rows = {"upper": labels, "lower": labels[::-1], "left": labels.T, "right": labels.T[::-1]}[side]
    return rows[:width]


def half_border_mistakes():
    """Pairs of what a wrong rule does, and a function that counts like it."""
    twice = "A nucleus across one kind of line is lost, one across the other kind is counted twice"
    mistakes = [
        ("counts all labels, also those at every border", without),
        (
            "excludes all four borders: a nucleus that lies across a line is not counted anywhere",
            lambda labels: without(labels, *SIDES),
        ),
        (
            "takes the mean of two counts. That is the other strategy",
            lambda labels: (without(labels) + without(labels, *SIDES)) / 2,
        ),
        (f"excludes the upper and the lower border. {twice}", lambda labels: without(labels, "upper", "lower")),
        (f"excludes the left and the right border. {twice}", lambda labels: without(labels, "left", "right")),
    ]
    for side in SIDES:
        mistakes.append(
            (
                f"excludes the {side} border only. A nucleus across the other kind of line is counted twice",
                lambda labels, side=side: without(labels, side),
            )
        )
        mistakes.append(
            (
                f"excludes three borders, all but the {side} one. A nucleus across one kind of line is not counted anywhere",
                lambda labels, side=side: without(labels, *(other for other in SIDES if other != side)),
            )
        )
    for a, b in RULES:
        mistakes += [
            (
                "subtracts the background, 0, as if it were a label",
                lambda labels, a=a, b=b: without(labels) - len(np.union1d(labels[SIDES[a]], labels[SIDES[b]])),
            ),
            (
                "subtracts the background, 0, as if it were a label",
                lambda labels, a=a, b=b: len(np.setdiff1d(labels, np.union1d(labels[SIDES[a]], labels[SIDES[b]]))) - 1,
            ),
            (
                "takes it for granted that the first label is 0. A tile may have no background",
                lambda labels, a=a, b=b: len(
                    np.setdiff1d(np.unique(labels)[1:], np.union1d(labels[SIDES[a]], labels[SIDES[b]]))
                ),
            ),
            (
                "cuts off a row and a column of pixels. What remains of a nucleus at the border is counted still",
                lambda labels, a=a, b=b: without(labels[INNER[a]][INNER[b]]),
            ),
            (
                "cuts off a row and a column of pixels. What remains of a nucleus at the border is counted still",
                lambda labels, a=a, b=b: len(np.unique(labels[INNER[a]][INNER[b]])) - 1,
            ),
            (
                f"subtracts a label twice if it touches both the {a} and the {b} border",
                lambda labels, a=a, b=b: without(labels) - at(labels, a) - at(labels, b),
            ),
            (
                f"subtracts a label twice if it touches both the {a} and the {b} border",
                lambda labels, a=a, b=b: 1 + sum(
                    sign * len(np.unique(pixels))
                    for sign, pixels in ((1, labels), (-1, labels[SIDES[a]]), (-1, labels[SIDES[b]]))
                ),
            ),
            (
                "counts the background, 0, as if it were a label",
                lambda labels, a=a, b=b: len(np.setdiff1d(labels, np.union1d(labels[SIDES[a]], labels[SIDES[b]]))),
            ),
            ("counts the background, 0, as if it were a label", lambda labels, a=a, b=b: without(labels, a, b) + 1),
            (
                "relies on the largest label. But labels need not be numbered one after the other",
                lambda labels, a=a, b=b: labels.max() - (without(labels) - without(labels, a, b)),
            ),
            (
                "relies on the largest label. But labels need not be numbered one after the other",
                lambda labels, a=a, b=b: max(
                    set(labels.flat) - set(labels[SIDES[a]]) - set(labels[SIDES[b]]), default=0
                ),
            ),
            (
                "joins labels that touch each other. Count the labels that are left; do not label a mask of them anew",
                lambda labels, a=a, b=b: label(
                    np.isin(labels, [0, *labels[SIDES[a]], *labels[SIDES[b]]], invert=True)
                ).max(),
            ),
            (
                "counts pixels, not labels",
                lambda labels, a=a, b=b: np.isin(labels, [0, *labels[SIDES[a]], *labels[SIDES[b]]], invert=True).sum(),
            ),
        ]
        for width in (2, 3):
            mistakes.append(
                (
                    "also excludes labels that only come near a border. Which pixels of a tile touch its border?",
                    lambda labels, a=a, b=b, width=width: len(
                        np.setdiff1d(labels, [0, *strip(labels, a, width).flat, *strip(labels, b, width).flat])
                    ),
                )
            )
    return mistakes


def counted_by(answer, labels, name):
    """The number that the learner's function gives for a tile; Wrong if it has another shape or changes the tile."""
    given = labels.copy()
    result = call(answer, given, given=f"a tile {name} ({shown(given)})")
    if is_lazy(result):
        raise Wrong(
            "your function returns a plan of dask's. Within a tile, count with NumPy: map_blocks makes the plan."
        )
    if isinstance(result, (list, tuple)):
        raise Wrong(f"your function returns {shown(result)}, but map_blocks needs a NumPy array: use np.array.")
    if np.shape(result) != (1, 1):
        raise Wrong(
            f"for a tile {name}, your function returns {shown(result)}, but an array of shape (1, 1) is asked for."
        )
    if np.asarray(result).dtype.kind not in "biuf":
        raise Wrong(f"for a tile {name}, your function returns {shown(result)}, but a number is asked for.")
    if not np.array_equal(given, labels):
        raise Wrong("your function changes the labels that it is given. dask may need them elsewhere: work on a copy.")
    return float(np.asarray(result)[0, 0])


@check_for(
    "5.2",
    hints=[
        "labels[0] is the first row, labels[-1] the last one, labels[:, 0] the first column, labels[:, -1] the last one. A "
        "line between two tiles is the last row of one and the first row of the other: exclude at one of the two.",
        "np.unique(labels) lists the labels of the tile. Which of them also occur in the two borders you exclude? "
        "np.setdiff1d(a, b) gives what is in a and not in b. The 0 is no label.",
        "collect the labels of both excluded borders, and the 0, in one list. Count the labels of the tile that are not in it. "
        "np.array([[number]]) has shape (1, 1).",
    ],
)
def half_border(answer):
    function(answer)
    tiles = label_tiles()
    counted = {name: counted_by(answer, tile, name) for name, tile in tiles.items()}
    if not any(counted.values()):
        raise Wrong("your function counts 0 in every tile. It is given labels, not pixels: do not segment again.")
    for rule in RULES:
        if all(counted[name] == without(tile, *rule) for name, tile in tiles.items()):
            return f"Your rule excludes the {' and the '.join(rule)} border: a nucleus across one line is counted once."
    for mistake, count in half_border_mistakes():
        if all(counted[name] == count(tile) for name, tile in tiles.items()):
            raise Wrong(f"your function {mistake}.")
    for name, tile in {**{f"labels = {tile.tolist()}": tile for tile in tiny_tiles()}, **tiles}.items():
        given = counted[name] if name in counted else counted_by(answer, tile, name)
        if given not in [without(tile, *rule) for rule in RULES]:
            where = f"for {name}" if name not in counted else f"in a tile {name}"
            more = " Labels need not be numbered one after the other." if given > without(tile) else ""
            raise Wrong(
                f"{where}, your function counts {given:g} of {without(tile)} labels, which is not what is left without "
                f"the labels at half of the borders.{more} Count this tile by your rule on paper."
            )
    raise Wrong(
        "your function excludes other borders in one tile than in another. The rule must be the same in every tile."
    )


def label_bright(tile):
    """The method of exercise 5.3: blur, threshold and label."""
    return label(ndi.gaussian_filter(tile, 3, mode="nearest", output=np.float32) > 30)


@functools.cache
def sizes_of_objects():
    """The largest objects of exercise 5.3 by several measures, and the mean of the longer sides."""
    regions = regionprops(label_bright(render_nuclei(seed=4, window=np.s_[900:1500, 2000:2900])))
    boxes = [(region.bbox[2] - region.bbox[0], region.bbox[3] - region.bbox[1]) for region in regions]
    return {
        "side": max(map(max, boxes)),
        "height": max(height for height, _ in boxes),
        "width": max(width for _, width in boxes),
        "axis": max(region.axis_major_length for region in regions),
        "mean": float(np.mean([max(box) for box in boxes])),
        "area": int(max(region.area for region in regions)),
        "diameter": max(region.equivalent_diameter_area for region in regions),
        "box": int(max(region.area_bbox for region in regions)),
        "number": len(regions),
    }


@check_for(
    "5.3",
    hints=[
        "two numbers are added: one you measure on the picture, one you know from the filter. Which filter looks at "
        "neighbours, and how far? A threshold looks at one pixel.",
        "overlap_needed gives the reach of a Gaussian filter. regionprops(labels) gives a list of regions, and region.bbox is "
        "(first row, first column, last row + 1, last column + 1).",
        "for every region take the longer one of bbox[2] - bbox[0] and bbox[3] - bbox[1]. The largest of these numbers, plus "
        "the reach of the filter with sigma 3, is the overlap.",
    ],
)
def choose_overlap(answer):
    sizes, reach = sizes_of_objects(), int(4 * 3 + 0.5)
    side, height, width = sizes["side"], sizes["height"], sizes["width"]
    if abs(number(answer) - reach - sizes["axis"]) < 1:
        raise Wrong(
            f"{number(answer):g} contains the major axis, that of an ellipse like the object. Take the bounding box."
        )
    overlap = whole_number(answer)
    if overlap == side + reach:
        return (
            f"An object of up to {side} pixels fits into the overlap together with the reach of the filter, {reach}. "
            f"(Both sides have to be looked at: the highest object has {height} rows, the widest {width} columns.)"
        )
    near = {
        min(height, width) + reach: "you looked at one side of the bounding boxes only. Take the longer one of each.",
        side + 8: f"{overlap} contains the reach of a blur with SIGMA = {SIGMA}. Which sigma does label_bright have?",
        38: "38 is the overlap for the slide and segment_nuclei. This picture has other objects. And which sigma does "
        "label_bright have? (Did you take the diameter of a disc of the same area? An object that is longer than wide "
        "needs more.)",
        sizes["number"]: f"{overlap} is the number of objects. The overlap is asked for: a length in pixels.",
        side - 1: f"{overlap} contains no reach. And is a side last - first + 1 pixels long, or last - first?",
        side: f"{overlap} holds the largest object. But the pixels at its far end depend on what the filter sees beyond them.",
        reach: f"{overlap} is the reach of the filter alone. A tile also has to see whole what begins in it.",
        side + 2 * reach: "the reach of the filter counts once: behind the far end of the object.",
        side + 3: "sigma is not the reach: how far does scipy's Gaussian filter look?",
        side + 3 * 3: "three times sigma is not the reach: scipy's Gaussian filter looks further.",
        side // 2 + reach: "half of the largest object is not enough: it may begin at the last pixel of a tile.",
        -(-side // 2) + reach: "half of the largest object is not enough: it may begin at the last pixel of a tile.",
    }
    if overlap in near:
        raise Wrong(near[overlap])
    if overlap < 0:
        raise Wrong(f"the overlap is {overlap}, but it cannot be negative.")
    if any(abs(overlap - reach - area) <= 1 for area in (sizes["area"], sizes["box"])):
        raise Wrong(f"{overlap} contains an area. Measure the longer side of the bounding box.")
    if abs(overlap - reach - sizes["diameter"]) < 1:
        raise Wrong(
            f"{overlap} contains the diameter of a disc of the same area. An object that is longer than wide needs more."
        )
    if abs(overlap - reach - sizes["mean"]) <= 1:
        raise Wrong(f"{overlap} would hold an average object. The largest one decides.")
    if overlap in (side + reach - 1, side + reach + 1):
        raise Nearly(
            f"With {overlap} you are one pixel off the rule. Is a side last - first + 1 pixels long, or last - first?"
        )
    if side < overlap < side + reach:
        raise Wrong(f"{overlap} holds the largest object, but not also all that the filter sees beyond its far end.")
    if overlap < side + reach:
        raise Wrong(
            f"{overlap} is too small to be safe. It may pass on this picture by luck, but the rule demands more."
        )
    raise Wrong(
        f"{overlap} is enough, but more than the rule demands: every pixel of overlap is processed again and again."
    )


def count_by_centroid(image, side=8, margin=3):
    """The rule of exercise 5.4: sum over tiles of the objects whose centroid lies in the tile, seen with a margin."""
    total = 0
    for row in range(0, image.shape[0], side):
        for column in range(0, image.shape[1], side):
            top, left = max(row - margin, 0), max(column - margin, 0)
            window = image[top : row + side + margin, left : column + side + margin]
            for region in regionprops(label(window)):
                y, x = region.centroid[0] + top, region.centroid[1] + left
                total += row <= y < row + side and column <= x < column + side
    return total


@check_for(
    "5.4",
    hints=[
        "each tile sees 3 pixels beyond its own 8. When does a tile see only a part of an object of 8 pixels, and where is "
        "the centroid of that part?",
        "take a straight line of 8 pixels across the line between two tiles, and write down which of its columns the left tile "
        "sees, and which the right one. The centroid of a line is its middle.",
        "the left tile sees columns 0 to 10, the right one 5 to 15. Let the line begin so that at least one of them does "
        "not see all of it. You can also let a loop try all beginnings.",
    ],
)
def find_the_flaw(answer):
    image = array(answer, shape=(16, 16))
    if not np.isin(image, (0, 1)).all():
        raise Wrong("the array holds other values than False and True, or 0 and 1.")
    image = image.astype(bool)
    objects = regionprops(label(image))
    if len(objects) != 1:
        diagonal = " (Pixels that touch at a corner are one object.)" if len(objects) > 1 else ""
        raise Wrong(f"there are {len(objects)} objects in your image, but one is asked for.{diagonal}")
    top, left, bottom, right = objects[0].bbox
    if max(bottom - top, right - left) > 8:
        raise Wrong(
            f"your object is {bottom - top} x {right - left} pixels large. At most 8 along either axis are allowed."
        )
    counted = count_by_centroid(image)
    if counted != 1:
        times = f"{counted} times" if counted else "by no tile"
        return f"One object, counted {times}: a tile that sees a part of it finds another centroid."
    if top // 8 == (bottom - 1) // 8 and left // 8 == (right - 1) // 8:
        raise Wrong("your object is counted once. It lies in a single tile; the flaw shows at the lines between tiles.")
    if top >= 5 and bottom <= 11 and left >= 5 and right <= 11:
        raise Wrong(
            "your object is counted once. All tiles at the cut see it whole, and agree on its centroid. Make it larger."
        )
    raise Wrong(
        "your object is counted once. Which part of it does each tile see, and where is the centroid of that part?"
    )
