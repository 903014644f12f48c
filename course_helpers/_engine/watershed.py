"""The watershed of a distance transform: the same in a tile as in the whole image, and on all cores at once."""

from heapq import heapify, heappop, heappush

import numpy as np
from numba import njit

from course_helpers._engine.maxima import NEIGHBOURS


@njit(nogil=True, cache=True)
def flood(distance, labels):
    """Let the labels (int32, written in place) grow over all pixels with a distance (int32) above 0 that they can reach.

    Those furthest from the background come first, and those equally far in raster order. Left to the queue, the order of
    these, and with it the outline of an object, would depend on the whole picture: tiles would disagree, however large
    their overlap is.
    """
    rows, cols = distance.shape
    queue = [_order(distance, row, col) for row, col in zip(*np.nonzero(labels))]
    heapify(queue)
    while queue:
        row, col = divmod(heappop(queue) & 0xFFFFFFFF, cols)  # the lower half of the number
        for down, right in NEIGHBOURS[:4]:
            y, x = row + down, col + right
            if 0 <= y < rows and 0 <= x < cols and distance[y, x] > 0 and labels[y, x] == 0:
                labels[y, x] = labels[row, col]
                heappush(queue, _order(distance, y, x))


@njit(nogil=True, cache=True)
def _order(distance, row, col):
    """Return distance and place of a pixel in one number: the further from the background, the smaller."""
    return row * distance.shape[1] + col - (np.int64(distance[row, col]) << 32)
