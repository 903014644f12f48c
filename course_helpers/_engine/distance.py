"""The distance transform in whole numbers: exact, and the same in a tile as in the whole image."""

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def squared_distance(foreground, distance):
    """Write the exact squared Euclidean distance to the nearest background pixel into `distance` (int32).

    First along the columns, then along the rows (Saito and Toriwaki 1994, Pattern Recognition 27:1551). Whole numbers
    are faster than roots, and equal distances stay equal. What lies beyond the border counts as foreground.
    """
    rows, cols = foreground.shape
    far = 32767  # further than any nucleus is wide; its square fits into int32
    for row in range(rows):
        for col in range(cols):
            above = distance[row - 1, col] if row else far
            distance[row, col] = min(above + 1, far) if foreground[row, col] else 0
    for row in range(rows - 2, -1, -1):
        for col in range(cols):
            distance[row, col] = min(distance[row, col], distance[row + 1, col] + 1)
    along_column = np.empty(cols, np.int32)
    for row in range(rows):
        for col in range(cols):
            along_column[col] = distance[row, col] ** 2
        for col in range(cols):
            nearest, step = along_column[col], 1
            while step * step < nearest:  # no pixel further away along the row can be nearer
                if col >= step:
                    nearest = min(nearest, along_column[col - step] + step * step)
                if col + step < cols:
                    nearest = min(nearest, along_column[col + step] + step * step)
                step += 1
            distance[row, col] = nearest
