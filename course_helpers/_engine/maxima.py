"""The local maxima of a plane, labelled."""

import numpy as np
from numba import njit

NEIGHBOURS = ((-1, 0), (0, -1), (0, 1), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))  # the last four touch at a corner
PEAK = -1  # a maximum without a number


@njit(nogil=True, cache=True)
def label_maxima(height):
    """Return the numbers of the local maxima above 0: int32, 1 to n in raster order, elsewhere 0.

    The four neighbours of a maximum are not higher. A plateau of equal pixels is one if this holds for all of them.
    Maxima that touch at corners get the same number.
    """
    labels = np.empty(height.shape, np.int32)
    _mark_peaks(height, labels)
    rows, cols = height.shape
    for row in range(rows):
        for col in range(cols):
            if labels[row, col] == PEAK:
                for down, right in NEIGHBOURS[:4]:
                    y, x = min(max(row + down, 0), rows - 1), min(max(col + right, 0), cols - 1)
                    if labels[y, x] == 0 and height[y, x] == height[row, col]:  # which has a higher neighbour
                        _spread(0, row, col, labels, 4)
    count = 0
    for row in range(rows):
        for col in range(cols):
            if labels[row, col] == PEAK:
                count += 1
                _spread(count, row, col, labels, 8)
    return labels


@njit(nogil=True, cache=True)
def _mark_peaks(height, labels):
    """Mark pixels above 0 that have no higher neighbour. Nothing branches in the loops: they become vector instructions."""
    rows, cols = height.shape
    for row in range(rows):
        here, above, below = height[row], height[max(row - 1, 0)], height[min(row + 1, rows - 1)]
        for col in range(cols):
            labels[row, col] = PEAK * ((here[col] > 0) & (here[col] >= above[col]) & (here[col] >= below[col]))
        left, right, left_labels, right_labels = here[:-1], here[1:], labels[row, :-1], labels[row, 1:]
        for col in range(cols - 1):
            left_labels[col] *= left[col] >= right[col]
        for col in range(cols - 1):
            right_labels[col] *= right[col] >= left[col]


@njit(nogil=True, cache=True)
def _spread(number, row, col, labels, directions):
    """Give a number to a peak and to all that hang together with it; those beside it, above or below are equally high."""
    labels[row, col] = number
    found = [(row, col)]
    while found:
        row, col = found.pop()
        for direction in range(directions):
            y, x = row + NEIGHBOURS[direction][0], col + NEIGHBOURS[direction][1]
            inside = 0 <= y < labels.shape[0] and 0 <= x < labels.shape[1]
            if inside and labels[y, x] == PEAK:
                labels[y, x] = number
                found.append((y, x))
