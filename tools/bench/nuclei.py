"""How fast the virtual slide is rendered, beside a picture of the same kind drawn with NumPy, SciPy and scikit-image.

Run it with --full to sum up a slide of 40,000 x 40,000 pixels instead of 10,000 x 10,000.
"""

import sys

import numpy as np
from scipy import ndimage as ndi
from skimage.draw import ellipse

from course_helpers.memory import measure
from course_helpers.slide import nuclei_slide, render_nuclei, true_nuclei
from tools.bench._timing import seconds

WINDOW = np.s_[1000:2000, 2500:4500]  # of middling density
MEGAPIXELS = 2.0


def draw_with_libraries(nuclei):
    """Draw the nuclei with skimage.draw, blur with SciPy, add noise with NumPy: the usual way to make test pictures."""
    rng, light = np.random.default_rng(0), np.full((1000, 2000), 11.0, np.float32)
    for nucleus in nuclei:
        centre, radii, (down, right) = nucleus["centre"] - (1000, 2500), nucleus["diameters"] / 2, nucleus["direction"]
        rotation = np.arctan2(-right, down)
        light[ellipse(*centre, *radii, shape=light.shape, rotation=rotation)] += nucleus["brightness"]
    light = ndi.gaussian_filter(light * rng.normal(1, 0.2, light.shape).astype(np.float32), 1)
    return np.clip(rng.poisson(light) + rng.normal(0.5, 0.3, light.shape), 0, 255).astype(np.uint8)


def compare_speed(repetitions=7):
    """Print megapixels per second on one core by chunk size, best of some interleaved repetitions."""

    def window_in_chunks(side):
        slide = nuclei_slide((1000, 2000), chunks=side, seed=1)
        return lambda: slide.sum(dtype=np.int64).compute(scheduler="synchronous")

    nuclei = true_nuclei(window=WINDOW)
    contenders = {
        "NumPy, SciPy and skimage.draw": lambda: draw_with_libraries(nuclei),
        "one window, without dask": lambda: render_nuclei(window=WINDOW),
        "truth alone, no pixels": lambda: true_nuclei(window=WINDOW),
    }
    contenders |= {
        f"dask, chunks of {side} x {side}, summed up": window_in_chunks(side) for side in (50, 100, 250, 1000)
    }
    times = [{name: seconds(work) for name, work in contenders.items()} for _ in range(repetitions + 1)][1:]
    best = {name: min(run[name] for run in times) for name in contenders}
    peer = best["NumPy, SciPy and skimage.draw"]
    print(f"\n{'one core, 2 megapixels':42} {'Mpx/s':>9} {'x peer':>8}")
    for name, taken in best.items():
        print(f"{name:42} {MEGAPIXELS / taken:9.1f} {peer / taken:8.1f}")
    print(f"nuclei listed per second: {len(nuclei) / best['truth alone, no pixels']:,.0f}")


def large_slides():
    """Print what a slide of 10**12 pixels costs before, and for its first look."""
    print(f"\n{'10**6 x 10**6 pixels, chunks of':42} {'build':>9} {'window':>9}   (seconds)")
    for side in (1000, 2000, 4000):
        build = seconds(lambda: nuclei_slide((10**6, 10**6), chunks=side))
        slide = nuclei_slide((10**6, 10**6), chunks=side)
        window = min(seconds(lambda: slide[500_000:500_100, 999_900:].compute()) for _ in range(2))
        print(f"{f'{side} x {side}':42} {build:9.3f} {window:9.3f}")


def sum_up(sides):
    """Print time and peak memory of summing up whole slides, on all cores."""
    print(f"{'whole slide summed up, chunks of 1000':42} {'seconds':>9} {'Mpx/s':>9} {'peak MB':>9} {'slide MB':>9}")
    for side in sides:
        slide = nuclei_slide((side, side), chunks=1000)
        run = measure(slide.sum(dtype=np.int64).compute)
        speed = side**2 / 1e6 / run.seconds
        print(f"{f'{side:,} x {side:,}':42} {run.seconds:9.1f} {speed:9.1f} {run.peak / 1e6:9.1f} {side**2 / 1e6:9.0f}")


def main():
    sum_up((2000, 5000, 10_000, 40_000) if "--full" in sys.argv else (2000, 5000, 10_000))
    compare_speed()
    large_slides()


if __name__ == "__main__":
    main()
