"""The virtual slide of nuclei and its truth."""

import zlib
from functools import partial

import dask.array as da
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from random_images import for_any_seed, peak_of, random_chunks
from scipy.spatial import cKDTree

from course_helpers._engine.virtual_slide import NUCLEUS, nuclei_within
from course_helpers.slide import draw_nuclei, nuclei_slide, render_nuclei, thumbnail, true_nuclei

BILLION = 10**9
FAR = (3 * BILLION, 3 * BILLION)
WINDOWS = [
    ((2000, 5000), np.s_[1400:1700, 4000:4300]),  # crowded
    ((2000, 5000), np.s_[100:400, 100:400]),  # sparse
    (FAR, np.s_[2 * BILLION + 1 : 2 * BILLION + 301, BILLION - 150 : BILLION + 150]),
]  # beyond 32-bit positions


# --- the slide as a dask array ---------------------------------------------------------------------------------------


def test_default_slide_is_lazy_and_a_single_layer():
    slide = nuclei_slide()
    assert isinstance(slide, da.Array)
    assert (slide.shape, slide.dtype) == ((2000, 5000), np.uint8)
    assert slide.chunks == ((100,) * 20, (100,) * 50)
    assert len(slide.dask.layers) == 1
    assert nuclei_slide().name == slide.name != nuclei_slide(seed=1).name


WHOLE, TRUTH = render_nuclei((300, 500), seed=3), true_nuclei()


@for_any_seed(30)
def test_pixels_do_not_depend_on_shape_chunks_or_window(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, WHOLE.shape, endpoint=True).tolist())
    window = tuple(slice(*sorted(rng.integers(-size, size, size=2).tolist())) for size in shape)
    chunks = random_chunks(rng, shape) if rng.random() < 0.8 else "auto"
    expected = WHOLE[: shape[0], : shape[1]]
    slide = nuclei_slide(shape, chunks, seed=3)
    assert np.array_equal(slide.compute(num_workers=8), expected)
    assert np.array_equal(render_nuclei(shape, 3, window), expected[window])
    far = nuclei_slide((10**6, 10**6), chunks=1000, seed=3)[: shape[0], : shape[1]]
    assert np.array_equal(far[window].compute(), expected[window])


def test_the_picture_is_the_same_on_every_machine():
    # Results stored in lessons depend on it. After a change of the picture on purpose, put the new sum here.
    assert zlib.crc32(render_nuclei(window=np.s_[1000:1500, 4000:4500]).tobytes()) == 4286617662


def test_seeds_differ_and_any_integer_type_will_do():
    window = np.s_[1500:1600, 4500:4600]
    pictures = [render_nuclei(seed=seed, window=window) for seed in (0, 1, 2**63, 2**64 - 1)]
    for k, picture in enumerate(pictures):
        assert all((picture != other).mean() > 0.3 for other in pictures[:k])
    assert np.array_equal(render_nuclei(seed=np.int16(1), window=window), pictures[1])
    assert np.array_equal(true_nuclei(seed=np.uint8(1)), true_nuclei(seed=1))
    assert len(true_nuclei(seed=1)) != len(true_nuclei(seed=0))


def test_memory_is_a_few_chunks():
    brightest = nuclei_slide((4000, 6000), chunks=1000).max()
    assert peak_of(partial(brightest.compute, scheduler="synchronous")) < 8e6  # of 24 million pixels


# --- the truth -------------------------------------------------------------------------------------------------------


def numpy_hash(key, number):
    """SplitMix64 again, in plain NumPy."""
    bits = np.atleast_1d(key).astype(np.uint64) + np.asarray(number).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def numpy_wave(x):
    x = x % 1
    return np.where(x < 0.5, 1 - (4 * x - 1) ** 2, (4 * x - 3) ** 2 - 1)


def numpy_texture(rows, cols, seed):
    """Smooth random texture from a lattice of 2.2 pixels."""
    key = numpy_hash(seed, 3)
    (down, i), (right, j) = np.modf(rows / 2.2), np.modf(cols / 2.2)
    down, right = down**2 * (3 - 2 * down), right**2 * (3 - 2 * right)
    left_above, right_above, left_below, right_below = [
        (numpy_hash(numpy_hash(key, i + di), j + dj) >> np.uint64(11)) / 2**53 for di in (0, 1) for dj in (0, 1)
    ]
    above, below = left_above + right * (right_above - left_above), left_below + right * (right_below - left_below)
    return 0.72 + 0.56 * (above + down * (below - above))


def numpy_light(nuclei, window, seed):
    """The light in a window by the formulas of the documentation, from the truth, all pixels times all nuclei."""
    rows, cols = np.mgrid[window].astype(float)
    crowding = (2 - numpy_wave(rows / 4000 + 0.25) - numpy_wave(cols / 10000 + 0.25)) / 4
    light = 9.5 + 1.5 * numpy_wave((rows + cols / 3) / 1100) * numpy_wave((cols - rows / 3) / 1700) + 4 * crowding**2
    texture = numpy_texture(rows, cols, seed)
    for nucleus in nuclei:
        row, col = rows - nucleus["centre"][0], cols - nucleus["centre"][1]
        angle = np.arctan2(nucleus["direction"][1], nucleus["direction"][0])
        along, across = row * np.cos(angle) + col * np.sin(angle), row * np.sin(angle) - col * np.cos(angle)
        longer, shorter = nucleus["diameters"] / 2
        depth = (1 - np.hypot(along / longer, across / shorter)) * np.sqrt(longer * shorter)  # pixels from the outline
        edge = np.clip(0.5 + depth / 3.5, 0, 1)
        light += nucleus["brightness"] * texture * (3 * edge**2 - 2 * edge**3)
    return light


@pytest.mark.parametrize(("shape", "window"), WINDOWS)
@pytest.mark.parametrize("seed", [0, 2**64 - 5])
def test_truth_renders_the_picture(shape, window, seed):
    nuclei = nuclei_within([(part.start - 12, part.stop + 12) for part in window], seed)
    light = render_nuclei(shape, seed, window, noise=False)
    assert len(nuclei) > 0
    assert light.dtype == np.float32
    np.testing.assert_allclose(light, numpy_light(nuclei, window, seed), atol=1e-3)


def test_noise_is_that_of_a_camera():
    window = np.s_[500:2000, 2000:4500]
    light = render_nuclei(window=window, noise=False).astype(float)
    noise = render_nuclei(window=window) - light
    for low, high in ((0, 10), (10, 15), (30, 60), (60, 100), (100, 170)):
        chosen = (light >= low) & (light < high)
        expected = 0.3**2 + 0.03 * light[chosen].mean() + 1 / 12  # camera, light, rounding
        assert chosen.sum() > 3000
        assert abs(noise[chosen].mean()) < 5 * (expected / chosen.sum()) ** 0.5
        assert noise[chosen].var() == pytest.approx(expected, rel=0.07)
    scaled = noise / np.sqrt(0.3**2 + 0.03 * light + 1 / 12)
    for shifted in (scaled[1:, :-1], scaled[:-1, 1:], scaled[1:, 1:]):
        assert abs((shifted * scaled[:-1, :-1]).mean()) < 0.005
    assert np.abs(scaled.mean(axis=0)).max() < 5 / len(scaled) ** 0.5  # no stripes
    assert np.abs(scaled.mean(axis=1)).max() < 5 / scaled.shape[1] ** 0.5


@pytest.mark.parametrize("seed", range(3))
def test_number_and_sizes(seed):
    nuclei = nuclei_within([(0, 2000), (0, 5000)], seed)
    assert nuclei.dtype == NUCLEUS
    assert 4000 <= len(nuclei) <= 7000
    assert 8 <= nuclei["diameters"].min() and nuclei["diameters"].max() <= 20
    assert (nuclei["diameters"][:, 0] > nuclei["diameters"][:, 1]).all()
    np.testing.assert_allclose(np.hypot(*nuclei["direction"].T), 1)
    angles = np.degrees(np.arctan2(*nuclei["direction"].T)) % 180
    share = np.histogram(angles, 6, range=(0, 180))[0] / len(nuclei)
    assert 0.13 < share.min() and share.max() < 0.2  # all directions alike
    rounded = np.round(nuclei["centre"]).astype(int)
    assert rounded.min() >= 0 and (rounded < (2000, 5000)).all()
    assert 20 <= nuclei["brightness"].min() and 150 < nuclei["brightness"].max() <= 165
    assert 0.03 < (nuclei["brightness"] > 100).mean() < 0.08  # dividing nuclei


def test_density_grows_from_top_left_to_bottom_right():
    counts = np.histogram2d(*TRUTH["centre"].T, bins=(2, 5), range=((0, 2000), (0, 5000)))[0]
    assert (np.diff(counts, axis=0) > 0).all()
    assert (np.diff(counts, axis=1) > 0).all()
    assert counts[1, 4] > 10 * counts[0, 0] > 0


def test_nuclei_touch_but_never_hide_each_other():
    nuclei = TRUTH
    pairs = cKDTree(nuclei["centre"]).query_pairs(20, output_type="ndarray")
    away = nuclei["centre"][pairs[:, 1]] - nuclei["centre"][pairs[:, 0]]
    distance = np.hypot(*away.T)
    radii = 0
    for side in (0, 1):
        nucleus = nuclei[pairs[:, side]]
        cosine = (nucleus["direction"] * away).sum(axis=1) / distance
        longer, shorter = nucleus["diameters"].T / 2
        radii = radii + 1 / np.sqrt(cosine**2 / longer**2 + (1 - cosine**2) / shorter**2)
    assert (distance / radii).min() >= 0.75
    touching = np.unique(pairs[distance < 1.05 * radii])
    assert 0.1 < len(touching) / len(nuclei) < 0.4


@for_any_seed(60)
def test_the_truth_of_a_window_is_what_the_truth_of_the_slide_has_there(seed):
    rng, inside = np.random.default_rng(seed), np.ones(len(TRUTH), bool)
    cell = rng.choice([(1, 1), (36, 54)])  # where cells of nuclei end, too
    ends = [np.sort(rng.integers(0, 2 * size, size=2) // side * side) for size, side in zip((2000, 5000), cell)]
    window = tuple(slice(*pair) for pair in ends)
    for axis, part in enumerate(window):
        inside &= (TRUTH["centre"][:, axis] >= part.start - 0.5) & (TRUTH["centre"][:, axis] < part.stop - 0.5)
    assert np.array_equal(true_nuclei(window=window), TRUTH[inside])


# --- looking at it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "chunks", "max_size", "square"),
    [
        ((400, 1000), (333, 444), 500, (2, 2)),
        ((400, 1001), (100, 100), 250, (5, 5)),
        ((3, 5), (2, 2), 500, (1, 1)),
        ((1, 100_000), (1, 1000), 500, (1, 200)),
        ((7000, 11), (1000, 2), 500, (14, 11)),
    ],
)
def test_a_thumbnail_shows_the_mean_per_square(shape, chunks, max_size, square):
    image = np.random.default_rng(0).random(shape)
    down, right = square
    rows, cols = shape[0] // down, shape[1] // right
    expected = image[: rows * down, : cols * right].reshape(rows, down, cols, right).mean(axis=(1, 3))
    slide = da.from_array(image, chunks=chunks)
    np.testing.assert_allclose(thumbnail(slide) if max_size == 500 else thumbnail(slide, max_size), expected)


def test_outlines_lie_on_the_nuclei():
    window = np.s_[1500:1700, 4000:4300]
    nuclei = true_nuclei(window=np.s_[1480:1720, 3980:4320])
    figure = Figure(figsize=(3, 2), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(np.zeros((200, 300)), cmap="gray")
    axes.axis("off")
    drawn = draw_nuclei(axes, nuclei, origin=(1500, 4000), facecolors="white", edgecolors="none", antialiased=False)
    assert drawn in axes.collections
    canvas.draw()
    outlines = np.asarray(canvas.buffer_rgba())[:, :, 0] > 128
    lit = render_nuclei(window=window, noise=False) > 32
    assert outlines.shape == lit.shape
    assert (outlines & lit).sum() / (outlines | lit).sum() > 0.85
