"""Checks of arguments, all in one wording: what a value is, what it must be, and what helps."""

from math import inf, isfinite
from numbers import Integral, Real

import numpy as np


def whole_number(value, name, least, most=inf):
    """Return a value as int; raise TypeError if it is no whole number, ValueError if it is too small or too large."""
    wanted = f"a whole number from {least}{f' to {most}' if most < inf else ''}"
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
    if not isfinite(value) or value < least or value <= above:
        raise ValueError(f"{name} is {value}, but must be {wanted}.")
    return float(value)


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


def per_axis(values, name, axes, least):
    """Return a tuple with a whole number for every axis; a single one stands for all axes."""
    values = tuple(values) if isinstance(values, (tuple, list)) else (values,) * axes
    if len(values) != axes:
        raise ValueError(f"{name} is {values}, but must be one whole number, or {axes}: one for every axis.")
    return tuple(whole_number(value, name, least) for value in values)


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
