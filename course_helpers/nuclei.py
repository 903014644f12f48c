"""Find nuclei in a picture, and count them: blur, global threshold, distance transform or bright spots, watershed."""

import numpy as np
from skimage.segmentation import watershed

from course_helpers._arguments import finite, numpy_array, per_axis, plane, real_number
from course_helpers._engine.blur import gaussian_blur
from course_helpers._engine.distance import squared_distance
from course_helpers._engine.maxima import label_maxima
from course_helpers._engine.watershed import flood


def segment_nuclei(image, threshold, sigma=3.5):
    """Label the nuclei of a picture; touching nuclei are split between the maxima of the distance to the background.

    Nuclei at the border of the picture have labels like all others. A picture that is foreground everywhere shows no
    outline of a nucleus: it has no labels.

    Parameters
    ----------
    image : integer or float ndarray of shape (rows, columns)
    threshold : float
        What is brighter than this after the blur is foreground.
    sigma : float
        Standard deviation of the Gaussian blur in pixels. The blur sees ``int(4 * sigma + 0.5)`` pixels far.

    Returns
    -------
    labels : ndarray of int32, shape (rows, columns)
        0 for background, 1 to n for the nuclei.

    Raises
    ------
    TypeError, ValueError
        If `image` is not a plane of finite grey values, or `threshold` or `sigma` is not a finite number.

    Examples
    --------
    >>> image = np.zeros((60, 90))
    >>> image[20:40, 20:38] = image[20:40, 50:70] = 100
    >>> segment_nuclei(image, threshold=40, sigma=2).max()
    np.int32(2)
    """
    distance = _distance_in_nuclei(image, threshold, sigma)
    labels = label_maxima(distance)
    flood(distance, labels)
    return labels


def segment_blobs(image, threshold, outline_sigma, spot_sigma):
    """Label bright objects in two or more dimensions: each pixel above the threshold belongs to the bright spot uphill from it.

    The image is blurred twice: a little, for the outline, which is where it crosses the threshold; and more, until each object
    has a single brightest spot. From pixel to brighter neighbour, all that leads to the same spot is one object. (Much the same
    is known as Voronoi-Otsu labelling.)

    A label depends on the surroundings alone: no further than the object, the wider blur and one pixel more, its direct
    neighbours. So tiles give what the whole image gives.

    Parameters
    ----------
    image : integer or float ndarray of any number of dimensions
    threshold : float
        What is brighter than this after the smaller blur is foreground.
    outline_sigma, spot_sigma : float or tuple of float, one per axis
        Standard deviations of the Gaussian blurs in pixels, 0 for none; the second is about a third of an object's radius.

    Returns
    -------
    labels : ndarray of int32, shape of `image`
        0 for background, 1 to n for the objects.

    Raises
    ------
    TypeError, ValueError
        If `image` is no NumPy array of finite grey values, or another argument is not finite or not one for every axis.
    """
    if numpy_array(image, "image").dtype.kind not in "iuf":
        raise TypeError(
            f"image is {image.dtype}, but must be of integers or floats. Convert it with .astype(np.uint8)."
        )
    threshold, precise = real_number(threshold, "threshold"), np.result_type(finite(image, "image"), np.float32)
    outline_sigma = per_axis(outline_sigma, "outline_sigma", image.ndim, 0, real_number)
    spot_sigma = per_axis(spot_sigma, "spot_sigma", image.ndim, 0, real_number)
    foreground = gaussian_blur(image, outline_sigma, precise) > threshold
    spots = gaussian_blur(image, spot_sigma, precise)[foreground]
    # Ranks, because pixels of equal brightness must come in an order that does not depend on the picture around them.
    downhill = np.full(image.shape, image.size)
    downhill[foreground] = np.argsort(np.argsort(-spots, kind="stable"))
    return watershed(downhill, mask=foreground)


def seed_nuclei(image, threshold, sigma=3.5):
    """Label one maximum per nucleus: as many labels as `segment_nuclei` makes nuclei, without its watershed.

    A seed is small, so it can be right only where the picture shows enough around it: as far as the blur sees,
    plus half the width of the widest nucleus or clump of nuclei, plus a few pixels. In `count_in_tiles`, this is the
    overlap to choose, or more; with the sum as ``reach``, seeds that saw less are reported instead of counted.

    Parameters, errors and the type of the result are those of `segment_nuclei`.
    """
    return label_maxima(_distance_in_nuclei(image, threshold, sigma))


def count_nuclei(image, threshold, sigma=3.5):
    """Estimate how many nuclei belong to a tile: the mean of the counts with and without nuclei that touch its border.

    A nucleus cut by the border of two tiles counts one half in each. That is an estimate: a nucleus may be cut
    by a corner, or be split in a tile that sees only a part of it. `count_in_tiles` is exact.

    Parameters and errors are those of `segment_nuclei`. The result is one pixel of a count map, float64 of shape (1, 1),
    for `dask.array.map_blocks` with ``chunks=(1, 1)``. It is 0 where a side is shorter than the blur sees.
    """
    labels = segment_nuclei(image, threshold, sigma)
    if min(labels.shape) < int(4 * sigma + 0.5):  # nothing in it is free of the mirrored world beyond the border
        return np.zeros((1, 1))
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    touching = np.count_nonzero(np.unique(border))
    return np.array([[labels.max() - touching / 2]])


def _distance_in_nuclei(image, threshold, sigma):
    """Return the squared distance (int32) of each foreground pixel to the background, which is 0 itself."""
    threshold, sigma = real_number(threshold, "threshold"), real_number(sigma, "sigma", 0)
    precise = np.result_type(plane(image), np.float32)  # float64 where float32 would round grey values
    foreground = gaussian_blur(image, (sigma, sigma), precise) > threshold
    if foreground.size == 0 or foreground.all():
        return np.zeros(foreground.shape, np.int32)
    distance = np.empty(foreground.shape, np.int32)
    squared_distance(foreground, distance)
    return distance
