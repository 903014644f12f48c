"""The recording as a dask array. A module of its own: what only loads time points starts without dask, and faster."""

import dask.array as da
import numpy as np

from course_helpers.recording import DTYPE, FRAMES, SHAPE, load_time_point


def open_recording(rows=SHAPE[1]):
    """The whole recording as a lazy dask array of shape (74, 25, 512, 256); nothing is loaded before it is computed.

    Parameters
    ----------
    rows : int, optional
        How many rows a chunk has. It has one time point, all planes and all columns.

    Raises
    ------
    ValueError
        If the rows of a time point cannot be divided into such chunks.
    """
    if rows not in range(1, SHAPE[1] + 1) or SHAPE[1] % rows:
        raise ValueError(f"rows is {rows}, but must be a number that divides {SHAPE[1]}, such as 256.")

    def load_chunk(block_id):
        t, _, i, _ = block_id
        return load_time_point(t, np.s_[:, i * rows : (i + 1) * rows, :])[np.newaxis]

    chunks = ((1,) * FRAMES, SHAPE[:1], (rows,) * (SHAPE[1] // rows), SHAPE[2:])
    return da.map_blocks(load_chunk, chunks=chunks, meta=np.empty((0,) * 4, DTYPE))
