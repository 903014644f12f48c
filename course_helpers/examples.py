"""Functions that a lesson needs and an exercise asks for: imported, so that no lesson shows the solution."""

import numpy as np


def exclude_half(labels):
    """Count the labels of a tile that do not touch its lower or right border; the result has shape (1, 1)."""
    excluded = np.union1d(labels[-1], labels[:, -1])
    return np.array([[np.count_nonzero(np.setdiff1d(labels, excluded))]])
