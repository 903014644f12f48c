"""A virtual stack of fluorescent nuclei in three dimensions, two channels and any number of time points, with the truth."""

import dask.array as da
import numpy as np
from dask.array.core import normalize_chunks

from course_helpers._arguments import per_axis, whole_number
from course_helpers._engine import virtual_stack

VOXEL_SIZE = dict(zip("ZYX", virtual_stack.VOXEL))  # micrometres
CHANNELS = ["nuclei", "marker"]


def nuclei_stack(shape=(2, 2, 32, 240, 360), chunks=(1, 1, 16, 120, 180)):
    """Return a lazy recording of nuclei: in channel 0 their DNA, in channel 1 a marker that comes up in some of them.

    Nuclei grow in clumps, and single ones between them; all drift with time. A voxel is `VOXEL_SIZE` large. It depends on its
    position only: a small stack is the first corner of a large one. Nuclei whose centre lies outside reach in.

    Parameters
    ----------
    shape : tuple of five int
        Time points, channels (1 or 2), planes, rows and columns.
    chunks : int, tuple or str
        Anything that dask accepts as chunks.

    Returns
    -------
    dask.array.Array of uint16
        Grey levels; the camera adds 100 to the light. Nuclei have 400 to 800 levels of light, one of ten 150 to 550.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used.
    """
    shape = per_axis(shape, "shape", 5, 1)
    whole_number(shape[1], "the number of channels", 1, len(CHANNELS))
    chunks = normalize_chunks(chunks, shape, dtype=np.uint16)
    edges = [np.cumsum((0, *sizes), dtype=np.int64) for sizes in chunks]
    meta = np.empty((0,) * 5, np.uint16)
    return da.map_blocks(_render_chunk, chunks=chunks, meta=meta, token="nuclei_stack", edges=edges)


def _render_chunk(block_id, edges):
    """Render a chunk of a stack."""
    times, channels, *bounds = [axis[i : i + 2] for i, axis in zip(block_id, edges)]
    return np.stack(
        [[virtual_stack.render(bounds, time, channel) for channel in range(*channels)] for time in range(*times)]
    )


def true_stack_nuclei(shape=(2, 2, 32, 240, 360), time=0):
    """Return all nuclei whose centre lies on a voxel of the stack at a time point; nothing is rendered.

    `shape` is as for `nuclei_stack`. Returns a structured array of shape (n,) with the float64 fields ``centre``
    (n, 3): plane, row and column in voxels; ``diameter`` in micrometres, at half the brightness; and ``brightness`` and
    ``marker``, the grey levels above the background in channels 0 and 1. TypeError or ValueError if an argument cannot be used.
    """
    shape = per_axis(shape, "shape", 5, 1)
    time = whole_number(time, "time", 0, shape[0] - 1)
    return virtual_stack.nuclei_within([(0, size) for size in shape[2:]], time)
