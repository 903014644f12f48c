"""How the virtual stack is painted, by the same rules as the virtual slide: functions of a seed and a position.

Space is cut into boxes, the cells, which hold one nucleus at most. All nuclei drift in the same way, so that a time point is
the first one, moved. A nucleus is seven numbers: plane, row and column of its centre at time 0, its diameter in micrometres,
its brightness in grey levels, how bright the marker gets in it, and the time from which on the marker grows.
"""

import numpy as np
from numba import njit

from course_helpers._engine.virtual_slide import _chromatin, _gaussian, _hash, _uniform, _wave

SEED = np.uint64(0)
VOXEL = (1.5, 0.5, 0.5)  # micrometres
CELL = (8, 22, 22)  # voxels; a nucleus touches nuclei of the 26 neighbouring cells only
REACH = (5, 13, 13)  # voxels from its centre that the largest nucleus can light up, soft edge included
DRIFT = (0.0, 0.75, 1.25)  # voxels from a time point to the next
CLOSEST = 0.85  # least distance of two centres, in sums of the nuclei's radii
EDGE = 1.5  # micrometres from full brightness inside a nucleus to darkness outside
OFFSET, READ_NOISE, GAIN = 100, 6.0, 0.5  # grey levels that the camera adds; standard deviation; variance per light
NUCLEUS = np.dtype([("centre", float, 3), ("diameter", float), ("brightness", float), ("marker", float)])


def nuclei_within(bounds, time):
    """Return the nuclei whose centre is within (start, stop) along all axes at a time point: NUCLEUS, (n,)."""
    (start, stop), drift = np.transpose(bounds) - 0.5, np.multiply(time, DRIFT)
    found = _nuclei_between(start - drift, stop - drift)
    nuclei = np.empty(len(found), NUCLEUS)
    nuclei["centre"] = found[:, :3] + drift
    nuclei["diameter"], nuclei["brightness"] = found[:, 3], found[:, 4]
    nuclei["marker"] = found[:, 5] * np.clip((time + 1 - found[:, 6]) / 2, 0, 1)
    return nuclei[((nuclei["centre"] >= start) & (nuclei["centre"] < stop)).all(axis=1)]


def render(bounds, time, channel):
    """Render the voxels within (start, stop) along all axes: uint16."""
    start, stop = np.transpose(bounds)
    light = np.zeros(stop - start, np.float32)
    nuclei = nuclei_within([(a - far, b + far) for a, b, far in zip(start, stop, REACH)], time)
    level = nuclei["marker" if channel else "brightness"]
    lit = np.column_stack([nuclei["centre"], nuclei["diameter"] / 2, level])[level > 0]
    _fill_light(light, start, np.multiply(time, DRIFT), lit, channel == 0)
    picture = np.empty(light.shape, np.uint16)
    _photograph(light, start, time, channel, picture)
    return picture


@njit(nogil=True, cache=True)
def _abundance(row, col):
    """Return the probability that something grows here: in round clumps, with single nuclei between them."""
    x, y = row / 420 + 0.05, col / 460 + 0.1
    return 0.006 + max(0.0, _wave(x) + _wave(y) - 0.7)


@njit(nogil=True, cache=True)
def _candidate(key, i, j, k, nucleus):
    """Write what grows in cell (i, j, k) into `nucleus` (its seven numbers), return its rank, 0 for nothing."""
    cell = _hash(_hash(_hash(key, i), j), k)
    nucleus[0] = (i + _uniform(cell, 1)) * CELL[0]
    nucleus[1] = (j + _uniform(cell, 2)) * CELL[1]
    nucleus[2] = (k + _uniform(cell, 3)) * CELL[2]
    if _uniform(cell, 4) > _abundance(nucleus[1], nucleus[2]):
        return np.uint64(0)
    nucleus[3] = 7 + 3 * _uniform(cell, 5)
    nucleus[4] = (150 if _uniform(cell, 6) < 0.1 else 400) + 400 * _uniform(cell, 7) * _uniform(cell, 8)
    nucleus[5] = 300 + 300 * _uniform(cell, 9) if _uniform(cell, 10) < 0.4 else 0.0
    nucleus[6] = 4 * _uniform(cell, 11)
    return cell | np.uint64(1)


@njit(nogil=True, cache=True)
def _distance(plane, row, col):
    """Return the length, in micrometres, of a vector in voxels."""
    return np.sqrt((plane * VOXEL[0]) ** 2 + (row * VOXEL[1]) ** 2 + (col * VOXEL[2]) ** 2)


@njit(nogil=True, cache=True)
def _nucleus(key, i, j, k, nucleus, rival):
    """Write the nucleus of cell (i, j, k) into `nucleus`, return whether there is one; `rival` is overwritten.

    As on the slide, of two that would come too close, the one of lower rank gives way.
    """
    rank = _candidate(key, i, j, k, nucleus)
    for number in range(27 if rank else 0):
        near = (i + number // 9 - 1, j + number // 3 % 3 - 1, k + number % 3 - 1)
        if _candidate(key, near[0], near[1], near[2], rival) > rank:
            away = _distance(nucleus[0] - rival[0], nucleus[1] - rival[1], nucleus[2] - rival[2])
            if away < CLOSEST * (nucleus[3] + rival[3]) / 2:
                return False
    return rank > 0


@njit(nogil=True, cache=True)
def _nuclei_between(start, stop):
    """Return the nuclei of all cells between two corners, and a few around: float64, shape (n, 7)."""
    key, count = _hash(SEED, 1), 0
    low = [np.int64(np.floor(start[axis] / CELL[axis])) for axis in range(3)]
    high = [np.int64(np.floor(stop[axis] / CELL[axis])) + 1 for axis in range(3)]
    cells = (high[0] - low[0]) * (high[1] - low[1]) * (high[2] - low[2])
    nuclei, rival = np.empty((cells + 1, 7)), np.empty(7)
    for i in range(low[0], high[0]):
        for j in range(low[1], high[1]):
            for k in range(low[2], high[2]):
                count += _nucleus(key, i, j, k, nuclei[count], rival)
    return nuclei[:count].copy()


@njit(nogil=True, cache=True)
def _fill_light(light, start, drift, nuclei, textured):
    """Add the light of nuclei, each given by centre, radius and level: brightness times soft edge times texture."""
    key = _hash(SEED, 3)
    for number in range(len(nuclei)):
        plane, row, col, radius, level = nuclei[number]
        low = [max(np.int64(nuclei[number, axis]) - REACH[axis] - start[axis], 0) for axis in range(3)]
        high = [np.int64(nuclei[number, axis]) + REACH[axis] + 2 - start[axis] for axis in range(3)]
        for i in range(low[0], min(high[0], light.shape[0])):
            texture = _hash(key, start[0] + i)
            for j in range(low[1], min(high[1], light.shape[1])):
                for k in range(low[2], min(high[2], light.shape[2])):
                    away = _distance(start[0] + i - plane, start[1] + j - row, start[2] + k - col)
                    inside = min(0.5 + (radius - away) / EDGE, 1.0)
                    if inside > 0:
                        added = level * inside * inside * (3 - 2 * inside)
                        if textured:
                            added *= _chromatin(texture, start[1] + j - drift[1], start[2] + k - drift[2])
                        light[i, j, k] += added


@njit(nogil=True, cache=True)
def _photograph(light, start, time, channel, picture):
    """Fill `picture` (uint16) with what the camera makes of the light."""
    key = _hash(_hash(_hash(SEED, 2), time), channel)
    for i in range(light.shape[0]):
        for j in range(light.shape[1]):
            line = _hash(_hash(key, start[0] + i), start[1] + j)
            for k in range(light.shape[2]):
                noise = _gaussian(_hash(line, start[2] + k))
                grey = OFFSET + light[i, j, k] + noise * np.sqrt(READ_NOISE**2 + GAIN * light[i, j, k])
                picture[i, j, k] = np.uint16(min(max(grey + 0.5, 0.0), 65535.0))
