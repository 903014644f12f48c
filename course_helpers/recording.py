"""A small model of a long three-dimensional recording of moving cells, computed piece by piece as it is loaded."""

import math

import numpy as np
from numpy.random import default_rng

from course_helpers._arguments import bounds_of, whole_number

FRAMES = 74  # time points; the recording that the model stands for has 50 times as many, 3700
SHAPE = (25, 512, 256)  # planes, rows, columns of a time point; along each axis a quarter of 100, 2048, 1024
DTYPE = np.uint16
BACKGROUND = 100  # grey values that the camera adds to the light, before noise
LOADED, PREPROCESSED, COUNTED = 2, 2 + 4, 2 + 4 + 1  # bytes per pixel in memory, of plans


def load_time_point(t, window=np.s_[:, :, :]):
    """Load one time point of the recording, or a window of it.

    Nothing is read from disk: the pixels are computed, always the same ones. While it works, the function needs the
    memory of its result and of about two planes.

    Parameters
    ----------
    t : int
        Number of the time point, from 0 to ``FRAMES - 1``.
    window : tuple of three slices, optional
        Planes, rows and columns to load, such as ``np.s_[:, :256, :]``; by default all.

    Returns
    -------
    ndarray of uint16, shape (planes, rows, columns)
        Cells of up to 12,000 grey values on a background of about 115.

    Raises
    ------
    TypeError, ValueError
        If there is no such time point, or `window` is not made of three slices with step 1.
    """
    t, bounds = whole_number(t, "t", 0, FRAMES - 1), bounds_of(window, SHAPE)
    pixels = np.empty([stop - start for start, stop in bounds], DTYPE)
    planes, rows, columns = (slice(*pair) for pair in bounds)
    noise = default_rng(t).integers(BACKGROUND, BACKGROUND + 32, SHAPE[1:], dtype=DTYPE)
    for plane, picture in zip(range(*bounds[0]), pixels):
        picture[:] = np.roll(noise, 37 * plane, axis=0)[rows, columns]
    for centre, radii, brightness in _cells(t):
        place = tuple(_extent(*along) for along in zip(centre, radii, bounds))
        if all(part.start < part.stop for part in place):
            planes_of, rows_of, columns_of = (_light(*along) for along in zip(centre, radii, bounds, place))
            light = planes_of[:, None, None] * rows_of[:, None] * columns_of
            pixels[place] += (brightness * light).astype(DTYPE)
    return pixels


def _cells(t):
    """Centre and radii (planes, rows, columns) and brightness of each cell at a time point."""
    random = default_rng(2048)
    centres = random.uniform((3, 30, 20), (22, 482, 236), (60, 3))
    steps = random.normal(0, (0.02, 0.5, 0.5), (60, 3))
    radii = random.uniform(9, 17, (60, 1)) * (0.35, 1, 1)
    return zip((centres + t * steps).tolist(), radii.tolist(), random.uniform(2000, 12_000, 60).tolist())


def _extent(centre, radius, bounds):
    """The part of a window, which has these bounds along one axis, that a cell lies in."""
    start, stop = bounds
    return slice(max(math.ceil(centre - radius), start) - start, min(math.ceil(centre + radius), stop) - start)


def _light(centre, radius, bounds, part):
    """How bright a cell is in this part of a window, from 0 at its edge to 1 in its centre."""
    distances = np.arange(part.start, part.stop) + (bounds[0] - centre)
    return np.cos(np.pi / 2 / radius * distances) ** 2


def ways_through(time_points):
    """Plans of five ways through a recording, by their names: bytes per pixel, in axes of steps, time points, four quarters.

    A step of the first way loads, preprocesses or counts one time point; one of the others does all three to its pieces, and
    the plan has its fullest moment.
    """
    times, half, whole = range(time_points), time_points // 2, slice(4)
    plans = {"all at once": np.zeros((3 * time_points, time_points, 4), int)}
    for t in times:
        for first_step, size in ((t, LOADED), (time_points + t, PREPROCESSED)):
            plans["all at once"][first_step:, t] = size  # and kept from now on
        plans["all at once"][2 * time_points + t, t] = COUNTED
    ways = {
        "time point by time point": [[(t, whole)] for t in times],
        "two in parallel": [[(t, whole), (t + 1, whole)] for t in times[::2]],
        "tile by tile": [[(t, quarter)] for t in times for quarter in range(4)],
        "two computers": [[(t, whole), (t + half, whole)] for t in times[:half]],
    }
    for name, steps in ways.items():
        plans[name] = np.zeros((len(steps), time_points, 4), int)
        for step, pieces in enumerate(steps):
            for t, quarters in pieces:
                plans[name][step, t, quarters] = COUNTED
    return plans


def memory_of(name, plan):
    """Bytes in memory in each step of a plan; of two computers, each with half of the time points, on the fuller one."""
    computers = 2 if name == "two computers" else 1
    return plan.reshape(len(plan), computers, -1).sum(axis=2).max(axis=1) * (math.prod(SHAPE) // 4)
