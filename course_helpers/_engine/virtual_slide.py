"""How the virtual slide is painted: functions of a seed and a position, nothing else.

The slide is a window on an endless plane cut into square cells that hold one nucleus at most. Every random choice is a
hash of the seed and of a position, so any piece can be rendered alone and always looks the same. Only whole numbers,
+ - * / and square roots are used: no sine or exponential whose last digit differs from machine to machine.
A nucleus is seven numbers: row and column of its centre, its longer and its shorter diameter, the direction (row,
column) of the longer one as a unit vector, and its brightness in grey levels.
"""

import numpy as np
from numba import njit

CELL = 18  # pixels; a nucleus touches nuclei of the eight neighbouring cells only
REACH = 12  # pixels from its centre that the largest nucleus can light up, soft edge included
BAND = 128  # rows rendered at a time
CLOSEST = 0.75  # least distance of two centres, in sums of the nuclei's radii along the line between them
EDGE = 3.5  # pixels from full brightness inside a nucleus to darkness outside
NUCLEUS = np.dtype([("centre", float, 2), ("diameters", float, 2), ("direction", float, 2), ("brightness", float)])
READ_NOISE, GAIN = 0.3, 0.03  # standard deviation of the dark camera; variance per grey level of light


def nuclei_within(bounds, seed):
    """Return the nuclei with their centre within (start, stop) along both axes of the endless plane: NUCLEUS, (n,)."""
    (i_start, i_stop), (j_start, j_stop) = [((a - 1) // CELL, (b - 1) // CELL + 1) for a, b in bounds]
    rows = [_nuclei_of_cells(i, j_start, j_stop, np.uint64(seed)) for i in range(i_start, i_stop)]
    nuclei = np.concatenate(rows).view(NUCLEUS)[:, 0]
    start, stop = np.transpose(bounds) - 0.5
    return nuclei[((nuclei["centre"] >= start) & (nuclei["centre"] < stop)).all(axis=1)]


def render(bounds, seed, noise):
    """Render the pixels within (start, stop) along both axes of the endless plane: uint8, or float32 without noise."""
    (row_start, row_stop), (col_start, col_stop) = bounds
    # Made here and filled there, because tools that measure memory do not see what compiled functions allocate.
    picture = np.empty((row_stop - row_start, col_stop - col_start), np.uint8 if noise else np.float32)
    fill = _fill_picture if noise else _fill_light
    fill(picture, row_start, col_start, np.uint64(seed))
    return picture


@njit(nogil=True, cache=True)
def _hash(key, number):
    """Return 64 random bits for a key and a whole number: step `number` of the SplitMix64 generator of that key."""
    bits = key + np.uint64(number) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


@njit(nogil=True, cache=True)
def _uniform(key, number):
    """Return a random number, at least 0 and below 1."""
    return (_hash(key, number) >> np.uint64(11)) * 2.0**-53


@njit(nogil=True, cache=True)
def _gaussian(bits):
    """Return a nearly Gaussian number of mean 0 and variance 1: the sum of four uniform ones, 16 bits each."""
    total = (
        (bits & np.uint64(0xFFFF))
        + ((bits >> np.uint64(16)) & np.uint64(0xFFFF))
        + ((bits >> np.uint64(32)) & np.uint64(0xFFFF))
        + (bits >> np.uint64(48))
    )
    return (np.int64(total) - 131070) * (np.sqrt(3.0) / 65536)


@njit(nogil=True, cache=True)
def _wave(x):
    """Return a wave of period 1 between -1 and 1, made of parabolas, that looks like a sine."""
    x = x - np.floor(x) - 0.5
    return 16 * x * (abs(x) - 0.5)


@njit(nogil=True, cache=True)
def _crowding(row, col):
    """Return how crowded the tissue is: 0 at (0, 0), 1 at (2000, 5000), and so on every 4000 rows and 10000 columns."""
    return 0.5 - 0.25 * (_wave(row / 4000 + 0.25) + _wave(col / 10000 + 0.25))


@njit(nogil=True, cache=True)
def _abundance(row, col):
    """Return the probability that something grows here: it follows the crowding, and varies over some 300 pixels."""
    x, y = (row + col / 2) / 300, (col - row / 2) / 340
    patches = _wave(x + 0.5 * _wave(0.6 * y)) * _wave(y + 0.5 * _wave(0.43 * x))
    return 0.02 + 0.55 * _crowding(row, col) ** 2 * (1 + 0.6 * patches)


@njit(nogil=True, cache=True)
def _background(row, col):
    """Return the grey level without nuclei: uneven light, and haze where the tissue is crowded."""
    return 9.5 + 1.5 * _wave((row + col / 3) / 1100) * _wave((col - row / 3) / 1700) + 4 * _crowding(row, col) ** 2


@njit(nogil=True, cache=True)
def _elliptical_distance(nucleus, row, col):
    """Return the distance from the nucleus's centre in units of its radius in that direction: 1 on the outline."""
    row, col = row - nucleus[0], col - nucleus[1]
    along = 2 * (row * nucleus[4] + col * nucleus[5]) / nucleus[2]
    across = 2 * (row * nucleus[5] - col * nucleus[4]) / nucleus[3]
    return np.sqrt(along * along + across * across)


@njit(nogil=True, cache=True)
def _candidate(key, i, j, nucleus):
    """Write what grows in cell (i, j) into `nucleus` (its seven numbers), return its rank, 0 for nothing."""
    cell = _hash(_hash(key, i), j)
    nucleus[0], nucleus[1] = (i + _uniform(cell, 1)) * CELL, (j + _uniform(cell, 2)) * CELL
    if _uniform(cell, 3) > _abundance(nucleus[0], nucleus[1]):
        return np.uint64(0)
    size = _uniform(cell, 4) * _uniform(cell, 5)  # many small ones, few large ones
    dividing = _uniform(cell, 6) < 0.05
    stretch = np.sqrt(1.05 + 0.4 * _uniform(cell, 7))
    diameter = 9.7 if dividing else 9.7 + 6.7 * size
    nucleus[2], nucleus[3] = diameter * stretch, diameter / stretch
    turn = 2 * _uniform(cell, 8) - 1
    turn *= 0.785 + 0.215 * turn * turn  # close to the tangent of half the angle: all directions alike
    nucleus[4], nucleus[5] = (1 - turn * turn) / (1 + turn * turn), 2 * turn / (1 + turn * turn)
    nucleus[6] = (115 if dividing else 34) + 50 * _uniform(cell, 9) - 14 * size
    return cell | np.uint64(1)


@njit(nogil=True, cache=True)
def _nucleus(key, i, j, nucleus, rival):
    """Write the nucleus of cell (i, j) into `nucleus`, return whether there is one; `rival` is overwritten.

    Of two candidates that would come too close, the one of lower rank gives way, even if the other gives way to a
    third: so nine cells decide (Matern's hard-core process of type II).
    """
    rank = _candidate(key, i, j, nucleus)
    for neighbour in range(9 if rank else 0):
        if _candidate(key, i + neighbour // 3 - 1, j + neighbour % 3 - 1, rival) > rank:
            away = _elliptical_distance(nucleus, rival[0], rival[1])
            back = _elliptical_distance(rival, nucleus[0], nucleus[1])
            if away * back < CLOSEST * (away + back):
                return False
    return rank > 0


@njit(nogil=True, cache=True)
def _nuclei_of_cells(i, j_start, j_stop, seed):
    """Return the nuclei of the cells (i, j_start), ..., (i, j_stop - 1): float64, shape (n, 7)."""
    key, count = _hash(seed, 1), 0
    nuclei, rival = np.empty((j_stop - j_start, 7)), np.empty(7)
    for j in range(j_start, j_stop):
        count += _nucleus(key, i, j, nucleus=nuclei[count], rival=rival)
    return nuclei[:count].copy()


@njit(nogil=True, cache=True)
def _chromatin(key, row, col):
    """Return the texture that nuclei show at a pixel, about 1: random numbers 2.2 pixels apart, smoothly joined."""
    i, j = np.int64(np.floor(row / 2.2)), np.int64(np.floor(col / 2.2))
    down, right = row / 2.2 - i, col / 2.2 - j
    down, right = down * down * (3 - 2 * down), right * right * (3 - 2 * right)
    upper, lower = _hash(key, i), _hash(key, i + 1)
    above = (1 - right) * _uniform(upper, j) + right * _uniform(upper, j + 1)
    below = (1 - right) * _uniform(lower, j) + right * _uniform(lower, j + 1)
    return 0.72 + 0.56 * ((1 - down) * above + down * below)


@njit(nogil=True, cache=True)
def _light_of_nucleus(nucleus, row, col, key):
    """Return the grey levels that a nucleus adds to a pixel: brightness times soft edge times texture."""
    distance = _elliptical_distance(nucleus, row, col)
    inside = 0.5 + (1 - distance) * np.sqrt(nucleus[2] * nucleus[3]) / (2 * EDGE)
    if inside <= 0:
        return 0.0
    inside = min(inside, 1.0)
    return nucleus[6] * inside * inside * (3 - 2 * inside) * _chromatin(key, row, col)


@njit(nogil=True, cache=True)
def _fill_light(light, row_start, col_start, seed):
    """Fill `light` (float32) with the grey levels that reach the camera: background plus all nuclei that reach in."""
    row_stop, col_stop = row_start + light.shape[0], col_start + light.shape[1]
    for row in range(row_start, row_stop):
        for col in range(col_start, col_stop):
            light[row - row_start, col - col_start] = _background(row, col)
    texture = _hash(seed, 3)
    for i in range((row_start - REACH) // CELL, (row_stop + REACH) // CELL + 1):
        for nucleus in _nuclei_of_cells(i, (col_start - REACH) // CELL, (col_stop + REACH) // CELL + 1, seed):
            row_middle, col_middle = int(nucleus[0]), int(nucleus[1])
            for row in range(max(row_start, row_middle - REACH), min(row_stop, row_middle + REACH + 2)):
                for col in range(max(col_start, col_middle - REACH), min(col_stop, col_middle + REACH + 2)):
                    light[row - row_start, col - col_start] += _light_of_nucleus(nucleus, row, col, texture)


@njit(nogil=True, cache=True)
def _photograph(light, row_start, col_start, seed, picture):
    """Fill `picture` (uint8) with what the camera makes of the light: noise is added, grey levels are rounded.

    Its variance grows with the light, as photon noise does.
    """
    for row in range(light.shape[0]):
        key = _hash(_hash(seed, 2), row_start + row)
        for col in range(light.shape[1]):
            noise = _gaussian(_hash(key, col_start + col))
            grey = light[row, col] + noise * np.sqrt(READ_NOISE**2 + GAIN * light[row, col])
            picture[row, col] = np.uint8(min(max(grey + 0.5, 0.0), 255.0))


@njit(nogil=True, cache=True)
def _fill_picture(picture, row_start, col_start, seed):
    """Fill `picture` (uint8) with what the camera sees; band by band, because the light needs four times the memory."""
    light = np.empty((min(BAND, picture.shape[0]), picture.shape[1]), np.float32)
    for row in range(0, picture.shape[0], BAND):
        band = picture[row : row + BAND]
        _fill_light(light[: len(band)], row_start + row, col_start, seed)
        _photograph(light[: len(band)], row_start + row, col_start, seed, band)
