"""Background removal with a white top-hat: what is smaller than a disk stays, what is larger goes."""

from math import isqrt

import numpy as np

from course_helpers._arguments import plane, whole_number


def remove_background(image, radius=6):
    """Subtract the background from one image plane: the white top-hat, which is the image minus its opening.

    The opening is the minimum over a disk around every pixel, followed by the maximum over the same disk. It keeps
    whatever the disk fits into (the background) and removes brighter objects that are narrower than the disk.

    The disk has the pixels (dy, dx) with dy**2 + dx**2 <= radius**2, like ``skimage.morphology.disk(radius)``. What
    lies outside the image does not count. In images with sides of at least 2 * radius + 1, the result equals that of
    ``skimage.morphology.white_tophat(image, disk(radius))`` in every pixel, as long as no difference is too large for the
    dtype and no integer beyond 2**53, where scikit-image rounds. A pixel depends on others up to 2 * radius away: that is
    the overlap that tiles need.

    Parameters
    ----------
    image : integer or float array of shape (height, width)
        One plane of grey values.
    radius : int
        Radius of the disk in pixels, 1 or more. Choose it larger than the radius of the objects you want to keep.

    Returns
    -------
    array of the same shape and dtype
        0 or more everywhere. A difference too large for a signed integer dtype, such as 100 - (-100) in int8, becomes
        the largest value of that dtype; in a float dtype, infinity.

    Raises
    ------
    TypeError, ValueError
        If `image` is not a plane of grey values in a NumPy array, or holds NaN, infinite or masked pixels.

    References
    ----------
    P. Soille, Morphological Image Analysis, 2nd edition, 2003, chapter 4.

    Examples
    --------
    >>> row = np.array([[3, 3, 9, 3, 3, 3]], dtype=np.uint8)
    >>> remove_background(row, radius=1)
    array([[0, 0, 6, 0, 0, 0]], dtype=uint8)
    """
    image, radius = plane(image), whole_number(radius, "radius", 1)
    limits = (np.finfo if image.dtype.kind == "f" else np.iinfo)(image.dtype)
    background = _disk_filter(image, radius, np.minimum, limits.max)
    result = image - _disk_filter(background, radius, np.maximum, limits.min)
    if image.dtype.kind == "i":  # a top-hat is never negative: where it seems so, the subtraction wrapped around
        result[result < 0] = limits.max
    return result.astype(image.dtype, copy=False)


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
            extreme(result, window[top : top + height, left : left + width], out=result)
    return result
