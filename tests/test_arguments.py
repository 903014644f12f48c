"""The one wording in which arguments are refused, by all helpers: what a value is, what it must be."""

from functools import partial

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_helpers import objects
from course_helpers._arguments import plain, real_number, whole_number
from course_helpers.background import remove_background
from course_helpers.lazy_recording import open_recording
from course_helpers.mandelbrot import DEEPEST_LEVEL, mandelbrot_array, render_level
from course_helpers.memory import SMALLEST_LIMIT, measure
from course_helpers.nuclei import count_nuclei, seed_nuclei, segment_blobs, segment_nuclei
from course_helpers.own_image import mean_in_objects, summed_histogram
from course_helpers.pyramids import create_pyramid, view_window, write_pyramid
from course_helpers.recording import FRAMES, load_time_point
from course_helpers.slide import nuclei_slide, render_nuclei, thumbnail, true_nuclei
from course_helpers.stack import nuclei_stack
from course_helpers.storage import write_verified
from course_helpers.tiling import compute_in_patches, overlap_needed, smallest_overlap, tile_cost, tiling_error


def test_numbers_become_those_of_python_or_the_range_is_told():
    """So that a uint8 does not wrap; both ends of a range belong to it."""
    for value in (1, np.uint8(7), 9):
        number = whole_number(value, "size", 1, 9)
        assert number == value and type(number) is int
    for value in (0, np.float32(2.5)):
        number = real_number(value, "sigma", 0)
        assert number == value and type(number) is float
    with pytest.raises(ValueError, match="^size is 10, but must be a whole number from 1 to 9.$"):
        whole_number(10, "size", 1, 9)
    with pytest.raises(ValueError, match="^sigma is -0.1, but must be a finite number from 0.$"):
        real_number(-0.1, "sigma", 0)


DTYPES = ["?", "u1", ">u2", "u4", "u8", ">u8", "i1", ">i2", "i4", "i8", "f2", ">f4", "f4", "f8"]
POWERS = [sign * 2**bits + step for sign in (-1, 1) for bits in (7, 8, 15, 16, 24, 31, 53, 63) for step in (-1, 0, 1)]
FLOATS = [2.0**63, 2.0**64, -(2.0**63), 0.5, 1e-300, 6e4, 1e39, 1e308, np.inf, -np.inf, np.nan]
LIMITS = [0, 1, *POWERS, 2**64 - 1, *FLOATS]


def fits(number, dtype):
    """Whether a number can be held exactly, as Python compares whole numbers and floats exactly."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return number != number or dtype.type(number).item() == number
    limits = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return limits[0] <= number <= limits[1] and number == int(number)


@given(st.sampled_from(DTYPES), st.sampled_from(DTYPES), st.lists(st.sampled_from(LIMITS), max_size=3))
@settings(derandomize=True, deadline=None, max_examples=400)
def test_numbers_fit_or_are_refused(source, target, numbers):
    source, target = np.dtype(source), np.dtype(target)
    values = np.array([number for number in numbers if fits(number, source)], source)
    if all(fits(number, target) for number in values.tolist()):
        moved = plain(values, "image", dtype=target)
        assert moved.dtype == target
        assert all(a == b or a != a and b != b for a, b in zip(moved.tolist(), values.tolist(), strict=True))
    else:
        with pytest.raises(ValueError, match="^image holds .* do not fit"):
            plain(values, "image", dtype=target)


def never(*_):
    raise AssertionError("this runs although an argument is wrong")


PLANE, TILES = np.zeros((9, 9)), da.zeros((20, 20), chunks=10)
LABELS = TILES.astype(int)
NO_NUMBERS = [True, None, "2", 1j, (1, 2), np.nan, -np.inf]
NO_WHOLE_NUMBERS = [True, np.True_, 2.0, "3", (1, 2), -1]
NO_PLANES = [TILES, PLANE > 0, np.zeros((3, 3, 3)), PLANE + np.nan, PLANE - np.inf, np.ma.zeros((3, 3))]
NO_TILES = [PLANE, TILES[TILES[:, 0] > 0], da.ma.masked_equal(TILES, 7)]
NO_WINDOWS = [np.s_[0:10:2, 0:10], np.s_[0:10], np.s_[5, :], (0, 9, 0, 9), np.s_[:, :, :, :]]
IN_TILES = {"segment": never, "image": TILES, "overlap": 3}
# Functions, arguments that they take, and of some of these values that they refuse.
REFUSED = [
    ([nuclei_slide, true_nuclei, render_nuclei], {}, {"shape": [(0, 10), (1, 2, 3)], "seed": NO_WHOLE_NUMBERS}),
    ([true_nuclei, render_nuclei], {}, {"window": NO_WINDOWS}),
    ([thumbnail], {"slide": TILES}, {"slide": [PLANE], "max_size": [0]}),
    ([nuclei_stack], {}, {"shape": [(4, 4, 4), (1, 1, 0, 4, 4), "x"]}),
    ([render_level], {}, {"level": [-1, DEEPEST_LEVEL + 1]}),
    ([mandelbrot_array], {}, {"scale": [0]}),
    ([load_time_point], {"t": 0}, {"t": [FRAMES, -1], "window": [*NO_WINDOWS, np.s_[:, :, ::-1], np.s_[5, :, :]]}),
    ([open_recording], {}, {"rows": [0, 100, 1024, 2.5, "all"]}),
    ([remove_background], {"image": PLANE}, {"image": NO_PLANES, "radius": [0]}),
    (
        [segment_nuclei, seed_nuclei, count_nuclei],
        {"image": PLANE, "threshold": 1},
        {"image": NO_PLANES, "threshold": NO_NUMBERS, "sigma": [-1]},
    ),
    (
        [segment_blobs],
        {"image": PLANE, "threshold": 0, "outline_sigma": 1, "spot_sigma": 1},
        {"image": [PLANE > 0, PLANE + np.nan, TILES], "threshold": [np.nan]}
        | {"outline_sigma": [-1, (1, 1, 1)], "spot_sigma": [-1, (1, 1, 1)]},
    ),
    (
        [partial(tiling_error, overlap=1), partial(smallest_overlap, maximum=1)],
        {"procedure": np.copy, "image": PLANE, "tile": 3},
        {"image": [TILES, np.ma.zeros((9, 9))], "tile": [0, (3, 3, 3)]},
    ),
    ([partial(smallest_overlap, np.copy, PLANE, 3)], {}, {"maximum": [-1]}),
    ([partial(tiling_error, never, PLANE), tile_cost], {"tile": 3}, {"overlap": [-1]}),
    ([lambda step: overlap_needed(("gaussian", 1), step)], {}, {"step": ["gaussian", ("gaussian",), ("otsu", 1)]}),
    ([lambda length: overlap_needed(("gaussian", length))], {}, {"length": [-1]}),
    ([compute_in_patches], {"array": TILES}, {"array": NO_TILES, "size": [0], "out": [np.ones(5)]}),
    (
        [objects.count_in_tiles, objects.cut_in_tiles, objects.label_in_tiles, objects.measure_in_tiles],
        IN_TILES | {"reach": 2},
        {"image": NO_TILES, "overlap": [-1, (3, 3, 3), 1], "reach": [-1]},
    ),
    ([objects.changed_in_tiles], IN_TILES, {"image": NO_TILES, "overlap": [-1]}),
    (
        [objects.label_in_tiles],
        IN_TILES,
        {"dtype": ["u1"], "renumber": [[1.0, 2.5], [2, 1], [[1, 2]], [0, 1], [1, 1], "yes"]},
    ),
    ([partial(objects.label_in_tiles, renumber=range(1, 301))], IN_TILES, {"dtype": ["u1"]}),
    ([objects.measure_in_tiles], IN_TILES, {"image": [TILES[0]], "spacing": [(1, 0)], "properties": [["size"]]}),
    ([objects.stitch_labels], {"labels": LABELS}, {"labels": [PLANE.astype(int), TILES > 0], "connectivity": [3]}),
    ([summed_histogram], {}, {"image": [TILES > 0, TILES * 1j, TILES[:0], TILES + np.nan, TILES - np.inf]}),
    ([mean_in_objects], {"labels": LABELS, "image": TILES}, {"image": [TILES[None], TILES[:9]]}),
    ([write_verified], {"image": TILES, "path": "a"}, {"image": [NO_TILES[1]], "chunks": [0, (10,), (2.5, 1)]}),
    ([partial(create_pyramid, dtype="u1", pixel_size=1)], {"path": "a"}, {"shape": [(3, 4, 5), (0, 4)]}),
    (
        [write_pyramid],
        {"image": TILES, "path": "a", "pixel_size": 1},
        {"pixel_size": [0, np.inf, {"T": 1}, {"Y": 0}], "chunks": [(0, 9)], "unit": ["µm"]}
        | {"axes": ["CYX"], "channels": [["GFP"], [("a", 900)] * 3]},
    ),
    (
        [view_window],
        {"levels": [PLANE], "center": (9, 9), "zoom": 1},
        {"zoom": [0, np.nan], "center": [(9, np.nan)], "levels": [PLANE]},
    ),
    (
        [measure],
        {"work": never},
        {"work": [3], "memory_limit": [[1], True, "1 foo", "200", -1, SMALLEST_LIMIT - 1, np.nan, np.inf]},
    ),
]


@pytest.mark.parametrize(
    ("helper", "right", "name", "wrong"),
    [
        (helper, right, name, wrong)
        for helpers, right, refused in REFUSED
        for helper in helpers
        for name, values in refused.items()
        for wrong in values
    ],
)
def test_every_helper_refuses_at_once_and_says_what_is_wrong(tmp_path, monkeypatch, helper, right, name, wrong):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((TypeError, ValueError), match=rf"{name}.* must "):
        helper(**right | {name: wrong})
    assert not list(tmp_path.iterdir())
