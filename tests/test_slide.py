"""The virtual slide of nuclei and its truth."""

import zlib
from functools import partial
from itertools import combinations

import dask.array as da
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from random_images import for_any_seed, peak_of, random_chunks
from scipy.spatial import cKDTree

from course_helpers._engine.virtual_slide import nuclei_within
from course_helpers.slide import draw_nuclei, nuclei_slide, render_nuclei, thumbnail, true_nuclei

FAR = (25 * 10**8 + 1400, 10**9 + 4000)  # beyond 32-bit positions
WHOLE, TRUTH = render_nuclei((300, 500), seed=3), true_nuclei()


@for_any_seed(30)
def test_pixels_do_not_depend_on_shape_chunks_or_window(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, WHOLE.shape, endpoint=True).tolist())
    window = tuple(slice(*sorted(rng.integers(-size, size, size=2).tolist())) for size in shape)
    slide = nuclei_slide(shape, random_chunks(rng, shape), seed=3)
    assert isinstance(slide, da.Array) and len(slide.dask.layers) == 1
    expected = WHOLE[: shape[0], : shape[1]]
    assert np.array_equal(slide.compute(num_workers=8), expected)
    assert np.array_equal(render_nuclei(shape, 3, window), expected[window])
    far = nuclei_slide((10**6, 10**6), chunks=1000, seed=3)[: shape[0], : shape[1]]
    assert np.array_equal(far[window].compute(), expected[window])


def test_the_picture_is_the_same_on_every_machine():
    # Results stored in lessons depend on it. After a change of the picture on purpose, put the new sum here.
    assert zlib.crc32(render_nuclei(window=np.s_[1000:1500, 4000:4500]).tobytes()) == 4286617662


def test_seeds_give_other_pictures():
    slides = [nuclei_slide(seed=seed)[1500:1600, 4500:4600] for seed in (0, 1, 2**63, 2**64 - 1)]
    pictures = da.compute(*slides)  # together, as chunks of one name are computed once
    assert all((one != other).mean() > 0.3 for one, other in combinations(pictures, 2))


def test_memory_is_a_few_chunks():
    brightest = nuclei_slide((4000, 6000), chunks=1000).max()
    assert peak_of(partial(brightest.compute, scheduler="synchronous")) < 8e6  # of 24 million pixels


@pytest.mark.parametrize("seed", [0, 2**64 - 5])
@pytest.mark.parametrize("row, col", [(1400, 4000), (1000, 2500), FAR])
def test_light_and_noise_are_where_the_truth_says(row, col, seed):
    """Nuclei are bright inside, by a texture of 0.72 to 1.28, and fade around half of it; elsewhere is the background."""
    window, shape = np.s_[row : row + 150, col : col + 150], (3 * 10**9, 3 * 10**9)
    nuclei = nuclei_within([(part.start - 12, part.stop + 12) for part in window], seed)
    light, picture = (render_nuclei(shape, seed, window, noise=noise) for noise in (False, True))
    away = np.stack(np.mgrid[window], -1)[..., None, :] - nuclei["centre"]
    along, across = (away * nuclei["direction"]).sum(-1), (away[..., ::-1] * nuclei["direction"]) @ (1, -1)
    depth = 1 - np.hypot(*(2 * np.stack([along, across]) / nuclei["diameters"].T[:, None, None]))
    depth *= np.sqrt(nuclei["diameters"].prod(axis=1)) / 2  # pixels from the outline
    lit = (depth > -1.76).sum(axis=-1)
    dark, single = lit == 0, (depth > 1.76).any(axis=-1) & (lit == 1)
    assert 7 < light[dark].min() and light[dark].max() < 15.1
    share = (light - np.median(light[dark]))[single] / nuclei["brightness"][depth.argmax(axis=-1)[single]]
    assert 0.6 < share.min() and share.max() < 1.4 and abs(share.mean() - 1) < 0.1
    expected = 0.03 * light + 0.3**2 + 1 / 12  # light, camera, rounding
    noise = (picture - light)[light < 200] / np.sqrt(expected[light < 200])
    assert abs(noise.mean()) < 0.02 and abs(noise.var() - 1) < 0.04


@pytest.mark.parametrize("seed", range(3))
def test_nuclei_are_as_the_documentation_says(seed):
    nuclei = true_nuclei(seed=seed)
    counts = np.histogram2d(*nuclei["centre"].T, bins=(2, 5))[0]
    assert (np.diff(counts, axis=0) > 0).all() and (np.diff(counts, axis=1) > 0).all()
    assert counts[1, 4] > 10 * counts[0, 0] > 0
    longer, shorter = nuclei["diameters"].T
    assert 8 <= shorter.min() and longer.max() <= 20 and (longer > shorter).all()
    np.testing.assert_allclose(np.hypot(*nuclei["direction"].T), 1)
    share = np.histogram(np.arctan2(*nuclei["direction"].T) % np.pi, 6, range=(0, np.pi))[0] / len(nuclei)
    assert 0.13 < share.min() and share.max() < 0.2  # all directions alike
    assert 0.03 < (nuclei["brightness"] > 100).mean() < 0.08  # dividing ones


def test_nuclei_touch_but_never_hide_each_other():
    pairs = cKDTree(TRUTH["centre"]).query_pairs(20, output_type="ndarray").T
    away = np.subtract(*TRUTH["centre"][pairs])
    distance = np.hypot(*away.T)
    along = (TRUTH["direction"][pairs] * away).sum(axis=-1) / distance
    longer, shorter = np.moveaxis(TRUTH["diameters"][pairs], -1, 0) / 2
    radii = (1 / np.hypot(along / longer, np.sqrt(abs(1 - along**2)) / shorter)).sum(axis=0)
    assert (distance / radii).min() >= 0.75
    assert 0.1 < len(np.unique(pairs[:, distance < 1.05 * radii])) / len(TRUTH) < 0.4


@for_any_seed(60)
def test_the_truth_of_a_window_is_what_the_truth_of_the_slide_has_there(seed):
    rng = np.random.default_rng(seed)
    cell = rng.choice([(1, 1), (36, 54)])  # where cells of nuclei end, too
    ends = [np.sort(rng.integers(0, 2 * size, size=2) // side * side) for size, side in zip((2000, 5000), cell)]
    start, stop = np.transpose(ends) - 0.5
    inside = ((TRUTH["centre"] >= start) & (TRUTH["centre"] < stop)).all(axis=1)
    assert np.array_equal(true_nuclei(window=tuple(slice(*pair) for pair in ends)), TRUTH[inside])


@for_any_seed(20)
def test_a_thumbnail_shows_the_mean_per_square(seed):
    rng = np.random.default_rng(seed)
    shape, most = rng.permutation([rng.integers(1, 9), rng.integers(1, 999)]).tolist(), int(rng.integers(1, 400))
    image, side = rng.random(shape), -(-max(shape) // most)
    down, right = np.minimum(side, shape)
    rows, cols = shape[0] // down, shape[1] // right
    expected = image[: rows * down, : cols * right].reshape(rows, down, cols, right).mean(axis=(1, 3))
    np.testing.assert_allclose(thumbnail(da.from_array(image, random_chunks(rng, shape)), most), expected)


def test_outlines_lie_on_the_nuclei():
    figure = Figure((3, 2), dpi=100, facecolor="black")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-0.5, 299.5), ylim=(199.5, -0.5))
    axes.axis("off")
    draw_nuclei(axes, TRUTH, origin=(1500, 4000), facecolors="white", edgecolors="none", antialiased=False)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[:, :, 0] > 128
    lit = render_nuclei(window=np.s_[1500:1700, 4000:4300], noise=False) > 32
    assert (drawn & lit).sum() / (drawn | lit).sum() > 0.85
