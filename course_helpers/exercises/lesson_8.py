"""Exercises of lesson 8, "Measure your own image"."""

import re
from functools import partial
from math import ceil, isclose
from operator import add

import numpy as np
from skimage.filters import threshold_otsu

from course_helpers.exercises.form import Function, Parts, Value, array, entries, number, seen, whole_numbers
from course_helpers.exercises.running import Wrong

EXERCISES = {}


# --- 8.1: what do the files say? ---

CAMERA, OBJECTIVE = 6.5, 20
ROUNDED = 0.01  # so far off, as a part of it, a size of a pixel is the same
SAID, TRUE_STEP = 0.5, 2  # micrometres, of file D: by the file along all axes, by the person along Z


def axes_of_three(answer):
    """Letters of axes, as in "TYX", "t, y, x" or ["T", "Y", "X"]; as one text."""
    asked = 'one letter for each of the three axes is asked for, from T, C, Z, Y and X, as a text such as "ZYX".'
    parts = [answer] if isinstance(answer, str) else entries(answer, asked)
    text = re.sub(r"[\s,./-]", "", "".join(map(str, parts))).upper()
    if len(text) != 3 or set(text) - set("TCZYXSQ"):
        raise Wrong(asked)
    return text


def axes(right, said):
    """A part that asks for the three axes of a file, with what the file says."""
    return Value(
        right=right,
        reads=axes_of_three,
        mistakes={
            "this is what the file says. What does the person say that changes from one picture to the next?": said,
            "the file is right about Y and X, the last two axes. Only the first one is in doubt.": seen(
                "YXT", lambda found: found[1:] != "YX"
            ),
        },
        otherwise="what changes from one picture to the next: time (T), the channel, such as a stain (C), or the focus (Z)?",
    )


EXERCISES["8.1"] = Parts(
    parts={
        "axes_a": axes("TYX", said="ZYX"),
        "pixel_b": Value(
            right=CAMERA / OBJECTIVE,
            reads=number,
            same=partial(isclose, rel_tol=ROUNDED),
            mistakes={"a size is above 0.": seen(-1, lambda found: found <= 0)},
            otherwise=lambda found: (
                f"{found:g} micrometres would be in a pixel of the camera with an objective that magnifies {CAMERA / found:.4g} times. "
                "The more it magnifies, the less is in a pixel. (Three digits are enough.)"
            ),
        ),
        "axes_c": axes("CYX", said="QYX"),
        "factor_d": Value(
            right=TRUE_STEP / SAID,
            reads=number,
            same=lambda found, right: isclose(found, right, rel_tol=1e-6),
            mistakes={
                "this is the other way round, the wrong volume divided by the right one. How often does the wrong one fit "
                "into the right one?": SAID / TRUE_STEP,
                "then volumes would be right. How large is a voxel by the file, and how large is it in truth?": 1,
                "a factor between volumes is above 0.": seen(-1, lambda found: found <= 0),
            },
            otherwise=lambda found, expected: (
                f"this is too {'large' if found > expected else 'small'}. A volume is a product of three sides: which of "
                "them is wrong, and by how much?"
            ),
        ),
    },
    also_right=(("t, y, x", 0.325, ["C", "Y", "X"], 4), (("T", "Y", "X"), np.float32(0.326), "cyx", np.array([4]))),
    praise="No file raised an error, and two of them not even a note. Only who recorded them could tell.",
    hints=[
        "for A and C, ask what differs between the first picture and the second: T is time, C channel (stain), Z focus.",
        "for B, think of a picture on the camera: the objective makes the sample that many times larger. How much of the "
        "sample fits into one pixel of the camera?",
        "for D, compute the volume of a voxel twice, as a product of its three sides: once by the file, once by what the "
        "person says. Then divide.",
    ],
)


# --- 8.2: how far along which axis? ---

AXES = "TCZYX"
VOXEL, SIGMA, LONGEST = (2, 0.25, 0.25), 1, 12  # micrometres; a voxel along Z, Y, X
REACH = (0, 0, *(int(4 * SIGMA / size + 0.5) + 1 for size in VOXEL))  # of the blur and the direct neighbours
LARGEST = (0, 0, *(int(LONGEST / size) for size in VOXEL))
OVERLAP = tuple(map(add, LARGEST, REACH))


def per_axis(answer):
    """Five whole numbers as a tuple, also from a dictionary of the letters or numbers of the axes."""
    if isinstance(answer, dict):
        by_axis = {str(axis).upper(): size for axis, size in answer.items()}
        answer = [by_axis.get(name, by_axis.get(str(place))) for place, name in enumerate(AXES)]
    return whole_numbers(", ".join(AXES))(answer)


def distances(right, made_of):
    """A part that asks for one distance along each of the five axes."""

    def too_far_or_short(found, expected):
        along = {"too large": [], "too small": []}
        for axis, size, count, needed in zip("ZYX", VOXEL, found[2:], expected[2:]):
            if count != needed:
                how = "too large" if count > needed else "too small"
                along[how].append(f"{axis} ({count} x {size} = {count * size:g} micrometres)")
        says = " and ".join(f"{how} along {', '.join(names)}" for how, names in along.items() if names)
        return f"it is {says}. Are {made_of} in it, once each, in voxels of that axis?"

    return Value(
        right=right,
        reads=per_axis,
        mistakes={
            "these are the right numbers in another order. T, C, Z, Y, X is asked for.": seen(
                (0, 0, *right[:1:-1]), lambda found, expected: sorted(found) == sorted(expected)
            ),
            "no distance is below 0.": seen((0, 0, -3, -17, -17), lambda found: min(found) < 0),
            "then a tile sees nothing but itself. How far does the blur look?": (0,) * 5,
            "this reaches into other time points or channels. The segmentation sees one time point and one channel at a "
            "time.": seen((1, 1, *right[2:]), lambda found: any(found[:2])),
        },
        otherwise=too_far_or_short,
    )


EXERCISES["8.2"] = Parts(
    parts={
        "reach": distances(REACH, "the blur (to 4 sigma) and the direct neighbours (1 voxel)"),
        "overlap": distances(OVERLAP, "the largest nucleus and reach"),
    },
    mistakes={"reach and overlap are exchanged.": {"reach": OVERLAP, "overlap": REACH}},
    follows={"overlap": lambda reach, overlap: overlap == tuple(map(add, LARGEST, reach))},
    also_right=(
        (list(REACH), np.array(OVERLAP)),
        (dict(zip(AXES, REACH)), dict(zip(reversed(AXES.lower()), reversed(OVERLAP)))),
        (dict(enumerate(REACH)), OVERLAP),
    ),
    praise=f"The same length has {VOXEL[0] / VOXEL[1]:g} times as many voxels along Y and X as along Z.",
    hints=[
        "along T and C, ask what the segmentation looks at there. Along the others, how long is a voxel?",
        "along each of Z, Y and X, divide sigma by the length of a voxel, put it into int(4 * sigma + 0.5), and add the "
        "direct neighbour.",
        "for overlap, divide the largest nucleus by the length of a voxel along Z, Y and X, and add reach axis by axis.",
    ],
)


# --- 8.3: one threshold for all tiles ---

LEVELS = np.arange(65_536)


def counts_of(tile):
    return np.bincount(tile.ravel(), minlength=LEVELS.size)


def threshold_for_all(tiles, count=counts_of, levels=LEVELS):
    """The Otsu threshold of all pixels, by the sum of the tiles' histograms; nan where they have one grey level."""
    counts = sum(map(count, tiles))
    return threshold_otsu(hist=(counts, levels)) if np.count_nonzero(counts) != 1 else np.nan


def raising(example, pattern):
    """A row for exceptions whose words match."""
    return seen(example, lambda error: re.search(pattern, error))


def grey_tiles():
    """Tiles of one image: small and large ones, dark, bright and empty ones.

    Grey levels come in steps, so that the best threshold is clearly better than the next one, however it is computed.
    """
    random = np.random.default_rng(83)
    for shapes in (((40, 50), (120, 150), (90, 30)), ((100, 80), (30, 20), (5, 200)), ((20, 30, 40), (10, 30, 40))):
        tiles = []
        for shape in shapes:
            light = (random.random(shape) < random.uniform(0, 0.6)) * random.gamma(2, random.uniform(400, 3000), shape)
            tiles.append(((300 + random.gamma(2, 60, shape) + light) // 40 * 40 + 3).astype(np.uint16))
        yield (tiles,)
    yield ([*tiles[:1], np.zeros((300, 300), np.uint16), np.array([0, 65_535], np.uint16)],)
    yield ([np.array([[255, 255, 254], [7, 3, 0]], np.uint16), np.array([[250, 9], [4, 0]], np.uint16)],)
    yield ([np.array([[65_534, 65_535, 65_535]], np.uint16), np.array([[65_534], [65_534]], np.uint16)],)


def a_threshold(answer):
    """One number."""
    try:
        return number(answer)
    except Wrong as reason:
        raise Wrong(f"{reason} All pixels of all tiles together have one threshold.") from None


EXERCISES["8.3"] = Function(
    right=threshold_for_all,
    cases=grey_tiles,
    given=lambda tiles: f"tiles of the shapes {', '.join(str(tile.shape) for tile in tiles)}",
    reads=a_threshold,
    same=lambda found, right: isclose(found, right, abs_tol=1e-6),
    mistakes={
        "two arrays have different lengths. The histogram of a tile, the counts and the levels have one entry for each of the "
        "65,536 levels.": raising(lambda tiles: sum(np.bincount(tile.ravel()) for tile in tiles), r"shapes \(\d+,\)"),
        "arrays of different shapes cannot be put into one: neither tiles, nor the counts and edges that np.histogram returns "
        "([0] takes the counts).": raising(np.stack, "same shape|inhomogeneous|array dimensions"),
        "65,536 edges make one bin less. Where all pixels are in the last one, nothing is left to compare.": raising(
            lambda tiles: threshold_otsu(hist=(sum(np.histogram(tile, LEVELS)[0] for tile in tiles), LEVELS[:-1])),
            "argmax of an empty",
        ),
        "np.bincount takes one axis. .ravel() puts all pixels of a tile into one.": raising(
            lambda tiles: np.bincount(tiles[0]), "object too deep"
        ),
        "your bins go from the smallest to the largest pixel of each tile, so that the same bin is another grey level in "
        "another tile. Does np.histogram know the range?": {
            "count": lambda: lambda tile: np.histogram(tile, LEVELS.size)[0]
        },
        "this is the mean of the thresholds of the tiles. A dark tile has one, too, in its noise. Add up histograms "
        "instead.": lambda tiles: np.mean([threshold_otsu(tile) for tile in tiles]),
        "threshold_otsu takes the counts for an image here. Hand them over as hist=(counts, levels).": (
            lambda tiles: threshold_otsu(sum(map(counts_of, tiles)))
        ),
        "this is {off:g} too high. A bin for each grey level has this level as its centre: 0, 1, 2 and so on.": seen(
            {"levels": LEVELS + 0.5},
            lambda found, expected: round(found - expected, 3) in (0.5, 1) and {"off": found - expected},
        ),
        "with 256 bins, each takes many grey levels. One bin for each of the 65,536 levels is asked for.": {
            "count": lambda: lambda tile: np.histogram(tile, 256, (0, 65_536))[0],
            "levels": np.arange(128, 65_536, 256),
        },
    },
    otherwise=lambda tiles, found, expected: (
        f"the histogram of all pixels gives {expected:g}, those of single tiles {', '.join(f'{threshold_otsu(tile):g}' for tile in tiles)}. "
        "Does your loop count each pixel of each tile once, in the bin of its own grey level, and is hist=(counts, levels) in this order?"
    ),
    also_right=(
        lambda tiles: threshold_otsu(hist=sum(map(counts_of, tiles))),
        lambda tiles: threshold_otsu(np.concatenate([tile.ravel() for tile in tiles])),
        lambda tiles: float(threshold_for_all(tiles, lambda tile: np.histogram(tile, np.arange(65_537))[0])),
        lambda tiles: threshold_for_all(tiles, lambda tile: counts_of(tile) / sum(tile.size for tile in tiles)),
        lambda tiles: np.array([threshold_for_all(tiles, levels=LEVELS.astype(float))]),
    ),
    praise=f"However many tiles an image has, its histogram has {LEVELS.size:,} numbers. (All pixels in one array would take memory "
    "for all of them.)",
    hints=[
        "begin with 65,536 zeros, and add the histogram of each tile to them. The threshold is made once, after the loop.",
        "np.bincount(tile.ravel(), minlength=65536) counts how often each of the grey levels 0 to 65,535 occurs in a tile.",
        "the levels that belong to the counts are np.arange(65536). threshold_otsu(hist=(counts, levels)) needs no pixels.",
    ],
)


# --- 8.4: which tiles need work? ---

FACTOR = 8


def tiles_with_signal(brightest, side, radius, threshold, exceeds=np.greater):
    """Whether something in a tile or within the radius exceeds the threshold; the last argument is for a mistake."""
    side, radius = side / FACTOR, radius / FACTOR
    found = np.zeros([ceil(size / side) for size in brightest.shape], bool)
    for tile in np.ndindex(found.shape):
        window = tuple(slice(int(max(at * side - radius, 0)), ceil((at + 1) * side + radius)) for at in tile)
        found[tile] = exceeds(brightest[window].max(), threshold)
    return found


def coarse_pictures():
    """Pictures with few bright pixels, side, radius and threshold; the last tiles are smaller, or not."""
    random = np.random.default_rng(84)
    for shape, *more in 2 * (
        ((12, 20), 32, 8, 100),
        ((9, 14), 40, 16, 3500),
        ((13, 22), 40, 24, 100),
        ((3, 5), 64, 16, 100),
        ((20, 17), 24, 0, 100),
        ((20, 37), 16, 56, 300),
        ((30, 41), 64, 16, 99.5),
        ((8, 8), 32, 8, 2000),
    ):
        image = random.integers(20, 90, shape, dtype=np.uint16)
        for value in (100, 300, 4000):  # the first one is the threshold itself
            image[random.random(shape) < 2 / image.size] = value
        yield image, *more


def about_tile(brightest, side, radius, found, expected):
    """A sentence about the first tile where an answer is another: its window, and the largest value in it."""
    row, column = tile = np.argwhere(found != expected)[0]
    first, end = np.maximum(tile * side - radius, 0) // FACTOR, ((tile + 1) * side + radius) // FACTOR
    window = tuple(map(slice, first, np.minimum(end, brightest.shape)))
    shown = ", ".join(f"{part.start}:{part.stop}" for part in window)
    more = " (Below 0, a slice counts from the end.)" * bool(expected[row, column] and 0 in first)
    return (
        f"the tile in row {row} and column {column} (from 0) is {found[row, column]}, but the largest value in its window, "
        f"brightest[{shown}], is {brightest[window].max()}. Does your function look at this window, and is one value above the "
        f"threshold enough?{more}"
    )


EXERCISES["8.4"] = Function(
    right=tiles_with_signal,
    cases=coarse_pictures,
    given="brightest of shape {brightest.shape}, side={side}, radius={radius} and threshold={threshold}",
    reads=array,
    same=lambda found, right: found.dtype == right.dtype and np.array_equal(found, right),
    share=1,  # few tiles are True, so that different mistakes often give the same
    mistakes={
        "a window is empty. Where do its slices begin and end, in squares of brightest? (Below 0, Python counts from the end. "
        "max(..., 0) prevents that.)": raising(lambda brightest, *more: brightest[:0].max(), "zero-size array"),
        "slices, ranges and shapes need whole numbers. / gives a float; // divides and leaves out the rest.": raising(
            lambda brightest, side, *more: brightest[: side / FACTOR], "slice indices|'float' object"
        ),
        "the radius is left out. What is bright beside a tile is blurred into it.": {"radius": 0},
        "a tile that has the threshold as its brightest pixel is not above it.": {"exceeds": lambda: np.greater_equal},
        "the radius is in pixels of the image. How many squares of brightest is that?": {
            "radius": lambda radius: FACTOR * radius
        },
        "this is the other way round. True means that a tile has to be computed.": lambda *case: (
            ~tiles_with_signal(*case)
        ),
        "it has the dtype {found.dtype}, and bool is asked for. False and True choose tiles, where numbers choose by position.": seen(
            lambda *case: tiles_with_signal(*case).astype(float), lambda found: found.dtype != bool
        ),
        "brightest has {brightest.shape[0]} x {brightest.shape[1]} squares of 8 x 8 pixels. How many rows and columns of tiles of "
        "side {side} are that, smaller ones at the end included?": seen(
            lambda *case: np.pad(tiles_with_signal(*case), 1), lambda found, expected: found.shape != expected.shape
        ),
    },
    otherwise=about_tile,
    also_right=(lambda *case: tiles_with_signal(*case).tolist(),),
    praise="What is False never needs to be loaded: nothing that is bright reaches it.",
    hints=[
        "count in squares: a tile has side // 8 of them along each axis, and the blur looks radius // 8 of them further.",
        "an axis of so many squares takes -(-squares // step) tiles of step squares, the last one perhaps smaller. Loop over "
        "rows and columns of tiles.",
        "the window of a tile in row r begins at max(r * step - margin, 0) and ends at (r + 1) * step + margin. Is its "
        "maximum above the threshold?",
    ],
)
