"""Examples that lessons show or need and exercises ask about: once for both."""

import numpy as np
from skimage.morphology import isotropic_dilation

from course_helpers.slide import render_nuclei


def exclude_half(labels):
    """Count the labels of a tile that do not touch its lower or right border; the result has shape (1, 1)."""
    excluded = np.union1d(labels[-1], labels[:, -1])
    return np.array([[np.count_nonzero(np.setdiff1d(labels, excluded))]])


def example_streams():
    """Made-up task streams, by letter: lists of (worker, kind of work, start, stop), in seconds."""
    rng = np.random.default_rng(7)
    return {letter: records(rng) for letter, records in zip("ABCD", (_full, _long, _small, _moving))}


def _row(worker, lengths, gaps, kinds):
    """Work of one worker, one piece after the other; gaps are waiting times before each piece."""
    stops = np.cumsum(np.add(lengths, gaps))
    return [(worker, kind, float(stop - length), float(stop)) for kind, length, stop in zip(kinds, lengths, stops)]


def _full(rng):
    kinds = ["work", "disk"] * 9
    rows = [_row(n, rng.uniform(0.35, 0.6, 18), np.full(18, 0.02), kinds) for n in range(3)]
    return sum(rows, [])


def _long(rng):
    rows = [_row(n, rng.uniform(0.3, 0.5, 10), np.full(10, 0.02), ["work"] * 10) for n in range(3)]
    end = rows[1][-1][3]
    return sum(rows, []) + [(1, "work", end + 0.02, end + 4.5)]


def _small(rng):
    rows = [_row(n, rng.uniform(0.02, 0.04, 75), rng.uniform(0.06, 0.12, 75), ["work"] * 75) for n in range(3)]
    return sum(rows, [])


def _moving(rng):
    kinds = ["transfer", "work"] * 9
    lengths = [np.where(np.arange(18) % 2, 0.3, 0.65) * rng.uniform(0.8, 1.2, 18) for _ in range(3)]
    return sum((_row(n, lengths[n], np.full(18, 0.02), kinds) for n in range(3)), [])


def same_objects(labels, others):
    """Whether two label images show the same objects, whatever their numbers are."""
    pairs = np.unique([np.asarray(image).ravel() for image in (labels, others)], axis=1)
    one_to_one = all(len(np.unique(numbers)) == len(numbers) for numbers in pairs)  # no number has two partners
    return bool(one_to_one and np.array_equal(*(pairs > 0)))


def winding_objects():
    """A mask of 1000 x 1000 pixels with long objects that wind around each other: points of spirals, thickened."""
    mask, turns = np.zeros((1000, 1000), dtype=bool), np.linspace(1, 6, 20_000)
    for first_angle in [0, np.pi]:
        angles = 2 * np.pi * turns + first_angle
        mask[(500 + 76 * turns * np.sin(angles)).astype(int), (500 + 76 * turns * np.cos(angles)).astype(int)] = True
    return isotropic_dilation(mask, radius=11)


def best_square(table, side, at_least, statistic="mean", rounding=np.floor, find="idxmin"):
    """Row and column of the square with the smallest statistic of the areas, among those with enough objects.

    `statistic`, `rounding` and `find` are for the mistakes that exercise 6.3 knows.
    """
    row, column = (rounding(table[name] / side).astype(int) for name in ("centroid-0", "centroid-1"))
    squares = table["area"].groupby([row, column])
    enough = squares.agg(statistic)[squares.size() >= at_least]
    return tuple(int(part) for part in getattr(enough, find)()) if len(enough) else None


def put_samples(levels):
    """Write twelve round samples of tissue, in three rows, to all levels of an empty pyramid of 80,000 x 120,000 pixels."""
    side = 2048
    rows, columns = np.ogrid[-side // 2 : side // 2, -side // 2 : side // 2]
    inside = rows**2 + columns**2 < 1000**2
    for number, left in enumerate([16_384, 45_056, 73_728, 102_400]):
        crowded = np.s_[:, 2 * side : 3 * side]
        sample = render_nuclei((side, 3 * side), seed=number, window=crowded) * inside
        for factor, level in zip(2 ** np.arange(len(levels)), levels):
            for top in [16_384, 36_864, 57_344]:
                row, column = top // factor, left // factor
                level[row : row + len(sample), column : column + len(sample)] = sample
            sample = sample.reshape(len(sample) // 2, 2, -1, 2).mean(axis=(1, 3)).round().astype(np.uint8)
