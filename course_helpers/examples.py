"""Examples that lessons show or need and exercises ask about: once for both."""

from math import ceil, prod

import numpy as np
from skimage.morphology import isotropic_dilation

from course_helpers.slide import render_nuclei


def exclude_half(labels):
    """Count the labels of a tile that do not touch its lower or right border; the result has shape (1, 1)."""
    excluded = np.union1d(labels[-1], labels[:, -1])
    return np.array([[np.count_nonzero(np.setdiff1d(labels, excluded))]])


MOVIE, MOVIE_WINDOW = (64, 512, 512), 32  # of exercise 4.2


class MovieCosts(dict):
    """Costs by their names; printed are those that exercise 4.2 compares with its limits."""

    def __str__(self):
        lines = {"one frame:               ": "frame", "window, at worst place:  ": "window"}
        return "\n".join(
            f"{text}{self[way]:5} requests, {self[way] * self['size'] / 2**10:9,.1f} KiB" for text, way in lines.items()
        )


def movie_costs(chunks):
    """What each way of reading the movie takes with chunks of this shape; `best` is a window where it touches fewest."""
    depth, down, across = (ceil(whole / size) for whole, size in zip(MOVIE, chunks))
    worst = [_touched_at_worst(whole, size) for whole, size in zip(MOVIE[1:], chunks[1:])]
    within = [ceil(MOVIE_WINDOW / size) for size in chunks[1:]]
    counts = {"frame": down * across, "window": depth * prod(worst), "best": depth * prod(within)}
    mebibytes = {f"{name}_mib": count * prod(chunks) / 2**20 for name, count in counts.items()}
    return MovieCosts(counts | mebibytes | {"size": prod(chunks), "layers": depth, "down": down, "across": across})


def _touched_at_worst(whole, size):
    """How many chunks of this size the window touches at most along an axis, wherever it lies."""
    return max((first + MOVIE_WINDOW - 1) // size - first // size + 1 for first in range(whole - MOVIE_WINDOW + 1))


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
