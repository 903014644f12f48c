"""Checks of arguments, all in one wording: what a value is, what it must be, and what helps."""

from functools import partial
from math import inf, isfinite
from numbers import Integral, Real

import numpy as np

LARGEST = 2**64 - 1  # what 64 bits hold: no image has as many pixels along an axis


def whole_number(value, name, least, most=LARGEST):
    """Return a value as int; raise TypeError if it is no whole number, ValueError if it is too small or too large."""
    beyond = isinstance(value, Integral) and value > LARGEST
    wanted = f"a whole number from {least}{f' to {most}' if most < LARGEST or beyond else ''}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} is {value!r}, but must be {wanted}.")
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}, but must be {wanted}.")
    return int(value)


def real_number(value, name, least=-inf, above=-inf):
    """Return a value as float; raise TypeError if it is no number, ValueError if it is not finite or too small."""
    wanted = f"a finite number{f' from {least}' if least > -inf else f' above {above}' if above > -inf else ''}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is {value!r}, but must be {wanted}.")
    try:
        number = float(value)
    except OverflowError:  # a whole number beyond all floats
        number = inf
    if not isfinite(number) or number < least or number <= above:
        raise ValueError(f"{name} is {value}, but must be {wanted}.")
    return number


def number_of_bytes(value, name, least):
    """Return a value as a number of bytes, given as such or as text with a unit; raise TypeError or ValueError if not."""
    from dask.utils import parse_bytes  # here, because what only loads time points starts without dask, and faster

    wanted = f'a number of bytes from {least} ({least / 2**20:g} MiB), or text with a unit such as "200 MiB" or "1 GB"'
    if isinstance(value, bool) or not isinstance(value, (Real, str)):
        raise TypeError(f"{name} is {value!r}, but must be {wanted}.")
    try:
        number = parse_bytes(value)
    except (ValueError, OverflowError):
        number = -1
    if not least <= number < 2**62:
        raise ValueError(f"{name} is {value!r}, but must be {wanted}.")
    return number


def per_axis(values, name, axes, least, number=whole_number):
    """Return a tuple with a number of a kind for every axis; a single one stands for all axes."""
    values = tuple(values) if isinstance(values, (tuple, list)) else (values,) * axes
    if len(values) != axes:
        raise ValueError(f"{name} is {values}, but must be one number, or {axes}: one for every axis.")
    return tuple(number(value, name, least) for value in values)


def bounds_of(window, shape):
    """Return (start, stop) along every axis of a window of an image, given as slices; they may hold no pixel."""
    slices = isinstance(window, tuple) and all(isinstance(part, slice) and part.step in (None, 1) for part in window)
    if not slices or len(window) != len(shape):
        example = f"np.s_[{', '.join(['0:100'] * len(shape))}]"
        raise ValueError(f"window is {window!r}, but must be {len(shape)} slices with step 1, such as {example}.")
    bounds = [part.indices(size)[:2] for part, size in zip(window, shape)]
    return [(start, max(start, stop)) for start, stop in bounds]


def dask_array(array, name):
    """Return the array; raise TypeError if it is not one of dask, ValueError if sizes of its chunks are not known."""
    import dask.array as da  # here, because what only loads time points starts without dask, and faster

    if not isinstance(array, da.Array):
        raise TypeError(
            f"{name} is of type {type(array).__name__}, but must be a dask array. Use dask.array.from_array."
        )
    if not all(isfinite(size) for size in array.shape):
        raise ValueError(f"{name} has shape {array.shape}, but must have known chunks. Call compute_chunk_sizes first.")
    return array


def numpy_array(array, name):
    """Return the array; raise TypeError if it is not one of NumPy, all of whose pixels count."""
    if not isinstance(array, np.ndarray) or np.ma.isMaskedArray(array):
        raise TypeError(
            f"{name} is of type {type(array).__name__}, but must be a NumPy array without a mask. Compute a part of a dask "
            "array first, such as image[:2000, :2000].compute(), or hand its tiles over with dask.array.map_overlap."
        )
    return array


def plane(image):
    """Return the image; raise if it is not one plane of grey values in a NumPy array, finite in all of its pixels."""
    if numpy_array(image, "image").ndim != 2 or image.dtype.kind not in "iuf":
        raise TypeError(
            f"image is {image.ndim}-D {image.dtype}, but must be one plane (rows, columns) of integers or floats. Pass "
            "one plane or channel at a time, such as image[0], and convert a mask with .astype(np.uint8)."
        )
    return finite(image, "image")


def finite(array, name):
    """Return the array; raise ValueError if it holds NaN or infinity."""
    if array.dtype.kind in "fc" and not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity, but must be finite. Replace them first, with nan_to_num.")
    return array


def plain(values, name, shape=None, dtype=None):
    """Return values as an array of this shape and dtype; raise if they are masked, of another shape, or do not fit."""
    if np.ma.isMaskedArray(values):
        raise TypeError(f"{name} has a mask, but must be plain. Fill masked pixels first, with numpy.ma.filled.")
    values = np.asarray(values)
    if shape is not None and values.shape != shape:
        raise ValueError(
            f"{name} has shape {values.shape}, but must have {shape}, as handed over or declared (chunks=)."
        )
    if dtype is None or dtype in (values.dtype, object):
        return values
    with np.errstate(all="ignore"):
        cast = values.astype(dtype)
        back = cast.astype(values.dtype)
    same = (back == values) | (back != back) & (values != values)
    # A number beyond the limits may come back by luck: as Python numbers, the extremes are compared exactly.
    ends = [(end(cast).item(), end(values).item()) for end in (np.min, np.max) if values.size]
    if not same.all() or any(after != before == before for after, before in ends):
        raise ValueError(f"{name} holds {values.dtype} values that do not fit into {cast.dtype}. Choose another dtype.")
    return cast


def as_declared(array, name):
    """Return a dask array, or raise; blocks that are not what it declares raise when they are computed.

    On a dashboard, tasks keep the name that those of the array have.
    """
    check, kind = check_of_blocks(array, name), array.name.rpartition("-")[0] or array.name
    return array.map_blocks(check, dtype=array.dtype, meta=array._meta, token=kind)


def check_of_blocks(array, name):
    """Return a function of a block and its block_id that returns the block, or raises if it is not as declared."""
    plain(dask_array(array, name)._meta, name)
    return partial(_declared_block, name=name, chunks=array.chunks, dtype=array.dtype)


def _declared_block(block, name, chunks, dtype, block_id):
    """Return a block as the dask array declares it."""
    shape = tuple(sizes[number] for sizes, number in zip(chunks, block_id))
    return plain(block, f"block {block_id} of {name}", shape, dtype)
