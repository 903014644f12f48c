"""Background removal with a white top-hat: what is smaller than a disk stays, what is larger goes."""
from math import isqrt
from numbers import Integral

import numpy as np


def remove_background(image, radius=6):
    """Subtract the background from one image plane: the white top-hat, which is the image minus its opening.

    The opening is the minimum over a disk around every pixel, followed by the maximum over the same disk. It keeps
    whatever the disk fits into (the background) and removes brighter objects that are narrower than the disk.

    The disk has the pixels (dy, dx) with dy**2 + dx**2 <= radius**2, like ``skimage.morphology.disk(radius)``. What
    lies outside the image does not count. In images with sides of at least 2 * radius + 1, the result equals that of
    ``skimage.morphology.white_tophat(image, disk(radius))`` in every pixel. A pixel depends on others up to
    2 * radius away: that is the overlap that tiles need.

    Parameters
    ----------
    image : integer or float array of shape (height, width)
        One plane of grey values. Pixels that are masked, NaN or infinite are missing: they do not count either.
    radius : int
        Radius of the disk in pixels, 1 or more. Choose it larger than the radius of the objects you want to keep.

    Returns
    -------
    array of the same shape and dtype
        0 or more everywhere. Missing pixels are NaN in a float image, and masked in a masked array. A difference too
        large for a signed integer dtype, such as 100 - (-100) in int8, becomes the largest value of that dtype.

    Raises
    ------
    TypeError, ValueError
        If `image` is not a plane of grey values in a NumPy array, or `radius` is not a whole number from 1.

    References
    ----------
    P. Soille, Morphological Image Analysis, 2nd edition, 2003, chapter 4.

    Examples
    --------
    >>> row = np.array([[3, 3, 9, 3, 3, 3]], dtype=np.uint8)
    >>> remove_background(row, radius=1)
    array([[0, 0, 6, 0, 0, 0]], dtype=uint8)
    """
    _check(image, radius)
    missing = np.ma.getmaskarray(image) if np.ma.isMaskedArray(image) else None
    plane = np.asarray(image)
    if plane.dtype.kind == "f" and not np.isfinite(plane).all():
        missing = ~np.isfinite(plane) if missing is None else missing | ~np.isfinite(plane)
    result = _top_hat(plane, int(radius), missing).astype(plane.dtype, copy=False)
    if plane.dtype.kind == "f" and missing is not None:
        result[missing] = np.nan
    return np.ma.array(result, mask=missing) if np.ma.isMaskedArray(image) else result


def _top_hat(plane, radius, missing):
    limits = np.finfo if plane.dtype.kind == "f" else np.iinfo
    lowest, highest = limits(plane.dtype).min, limits(plane.dtype).max
    if missing is not None:
        plane = np.where(missing, highest, plane)
    background = _disk_filter(plane, radius, np.minimum, highest)
    if missing is not None:
        background[missing] = lowest
    background = _disk_filter(background, radius, np.maximum, lowest)
    if missing is not None:
        background[missing] = highest
    result = plane - background
    if plane.dtype.kind == "i":
        result[result < 0] = highest  # a top-hat is never negative: where it seems so, the subtraction wrapped around
    return result


def _disk_filter(plane, radius, extreme, outside):
    """Return the minimum or maximum (`extreme`) over a disk. `outside` must be a value that never wins.

    The disk is a stack of rows, narrow at the top and wide in the middle. `window` holds the extreme along a stretch of
    a row; the stretch grows from one row of the disk to the next, by combining it with a shifted copy of itself.
    """
    height, width = plane.shape
    pad_y, pad_x = min(radius, max(height - 1, 0)), min(radius, max(width - 1, 0))  # further away there are no pixels
    window = np.pad(plane, ((pad_y, pad_y), (pad_x, pad_x)), constant_values=outside)
    result = np.full(plane.shape, outside, plane.dtype)
    length = 1
    for dy in range(pad_y, -1, -1):
        half_width = min(isqrt(radius**2 - dy**2), pad_x)
        while length < 2 * half_width + 1:
            step = min(length, 2 * half_width + 1 - length)
            window = extreme(window[:, :-step], window[:, step:])
            length += step
        left = pad_x - half_width
        for top in {pad_y - dy, pad_y + dy}:
            extreme(result, window[top:top + height, left:left + width], out=result)
    return result


def _check(image, radius):
    if not isinstance(image, np.ndarray):
        raise TypeError(f"image is of type {type(image).__name__}, not a NumPy array. Pass a dask array to dask.array."
                        "map_overlap(remove_background, image, depth=2 * radius, boundary='none', radius=radius).")
    if image.ndim != 2:
        raise ValueError(f"image has {image.ndim} axes, but the background is removed from one plane (rows, columns). "
                         "Pass one plane or channel at a time, such as image[0].")
    if image.dtype.kind not in "iuf":
        raise TypeError(f"image has dtype {image.dtype}, but only integers and floats are grey values. "
                        "Convert it first, for example with image.astype(np.uint8).")
    if isinstance(radius, bool) or not isinstance(radius, Integral):
        raise TypeError(f"radius is {radius!r}, but must be a whole number of pixels, 1 or more.")
    if radius < 1:
        raise ValueError(f"radius is {radius}, but must be 1 or more: a smaller disk would remove everything.")
