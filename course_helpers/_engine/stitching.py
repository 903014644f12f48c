"""Labels of tiles that touch across the faces between them, and the names that join them."""

from itertools import product

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from course_helpers._engine.windows import boxed, consecutive


def faces(tile, check, block_id):
    """Return a tile's number of labels and its first and last plane along each axis, in an array of one element."""
    labels, count = consecutive(check(tile, block_id=block_id))
    small = np.min_scalar_type(count)
    planes = [[np.take(labels, [end], axis).astype(small) for end in (0, -1)] for axis in range(tile.ndim)]
    return boxed((count, planes), tile.ndim)


def join(faces, connectivity):
    """Return what `rename` needs: each tile's offset; the labels that join an earlier one, and their new names.

    Label l of a tile has the number offset + l. Only labels at a face can touch labels of other tiles, so the lists
    stay short. Two labels that touch are an edge of a graph, and an object is one of its connected components.
    """
    counts = np.array([count for count, _ in faces.flat], np.int64)
    offsets = (np.cumsum(counts) - counts).reshape(faces.shape)
    edges = [np.empty((2, 0), np.int64)]
    for axis in range(faces.ndim):
        for seam in range(faces.shape[axis] - 1):
            near, far = _plane(faces, offsets, axis, seam, -1), _plane(faces, offsets, axis, seam + 1, 0)
            edges.append(_touching(near, far, axis, connectivity))
    nodes, ends = np.unique(np.concatenate(edges, axis=1), return_inverse=True)
    ends = ends.reshape(2, -1)
    graph = coo_array((np.ones(ends.shape[1], bool), ends), shape=(len(nodes), len(nodes)))
    _, component = connected_components(graph, directed=False)
    _, first = np.unique(component, return_index=True)
    kept = nodes[first][component]  # the first label of each object: nodes are sorted
    absorbed, target = nodes[nodes != kept], kept[nodes != kept]
    return offsets, absorbed, target - np.searchsorted(absorbed, target)


def _plane(faces, offsets, axis, position, end):
    """Return one side of a seam, a plane through the whole image, with numbers that differ from tile to tile."""
    tiles, offsets = np.take(faces, [position], axis), np.take(offsets, [position], axis)
    numbers = np.empty(tiles.shape, object)
    for index in np.ndindex(tiles.shape):
        _, planes = tiles[index]
        numbers[index] = np.where(planes[axis][end], planes[axis][end] + offsets[index], 0)
    return np.block(numbers.tolist())


def _touching(near, far, axis, connectivity):
    """Return the pairs of numbers that touch across a seam, shape (2, n).

    >>> _touching(np.array([[1, 1, 0, 2]]), np.array([[0, 5, 0, 6]]), axis=0, connectivity=1)
    array([[1, 2],
           [5, 6]])
    """
    pairs = []
    for step in product((-1, 0, 1), repeat=near.ndim):
        if step[axis] == 0 and np.count_nonzero(step) < connectivity:
            a = near[tuple(slice(max(-s, 0), size - max(s, 0)) for s, size in zip(step, near.shape))]
            b = far[tuple(slice(max(s, 0), size - max(-s, 0)) for s, size in zip(step, near.shape))]
            both = (a > 0) & (b > 0)
            pairs.append(np.stack([a[both], b[both]]))
    return np.unique(np.concatenate(pairs, axis=1), axis=1)


def rename(tile, check, joined, block_id):
    """Return a tile with the labels of the stitched image."""
    labels, count = consecutive(check(tile, block_id=block_id))
    offsets, absorbed, target = joined
    numbers = offsets[block_id] + np.arange(1, count + 1)
    names = numbers - np.searchsorted(absorbed, numbers)
    first, last = np.searchsorted(absorbed, [offsets[block_id] + 1, offsets[block_id] + count + 1])
    names[absorbed[first:last] - offsets[block_id] - 1] = target[first:last]
    return np.concatenate([[0], names])[labels]
