"""How fast the virtual slide and the virtual stack are rendered, beside pictures of the same kind drawn with libraries."""

import numpy as np
from scipy import ndimage as ndi
from skimage.draw import ellipse

from course_helpers.slide import nuclei_slide, render_nuclei, true_nuclei
from course_helpers.stack import nuclei_stack, true_stack_nuclei
from tools.bench._timing import best_times, claim, seconds

WINDOW = np.s_[1000:2000, 2500:4500]  # of middling density
VOLUME = (32, 512, 512)


def draw_slide(nuclei):
    """Draw nuclei with skimage.draw, blur with SciPy, add noise with NumPy: the usual way to make test pictures."""
    rng, light = np.random.default_rng(0), np.full((1000, 2000), 11.0, np.float32)
    for nucleus in nuclei:
        centre, radii, (down, right) = nucleus["centre"] - (1000, 2500), nucleus["diameters"] / 2, nucleus["direction"]
        rotation = np.arctan2(-right, down)
        light[ellipse(*centre, *radii, shape=light.shape, rotation=rotation)] += nucleus["brightness"]
    light = ndi.gaussian_filter(light * rng.normal(1, 0.2, light.shape).astype(np.float32), 1)
    return np.clip(rng.poisson(light) + rng.normal(0.5, 0.3, light.shape), 0, 255).astype(np.uint8)


def draw_stack(count):
    """Draw balls of light by NumPy, blur them with SciPy, add noise: the usual way to make a test volume."""
    rng, light = np.random.default_rng(0), np.zeros(VOLUME, np.float32)
    planes, rows, columns = np.ogrid[-4:5, -10:11, -10:11]
    ball = (1.5 * planes) ** 2 + (rows / 2) ** 2 + (columns / 2) ** 2 < 18
    for centre in rng.integers((4, 10, 10), np.subtract(VOLUME, (5, 11, 11)), (count, 3)):
        light[tuple(slice(middle - half, middle + half + 1) for middle, half in zip(centre, (4, 10, 10)))] += 500 * ball
    light = ndi.gaussian_filter(light, 0.7)
    return (rng.poisson(light) + rng.normal(100, 6, VOLUME)).clip(0, 65535).astype(np.uint16)


def compare(title, peer, ours, megapixels):
    """Print millions of pixels per second on one core, best of three, and the ratio to the peer."""
    times = best_times([peer, *ours.values()], 3)
    print(f"\n{title:44}{'Mpx/s':>9}{'x peer':>8}")
    for name, taken in zip(["NumPy, SciPy and scikit-image", *ours], times):
        print(f"{name:44}{megapixels / taken:9.1f}{times[0] / taken:8.1f}")
    claim(f"{title}, {name}", "NumPy and SciPy", times[0] / times[-1], ">= 8")


def main():
    nuclei, sides = true_nuclei(window=WINDOW), (50, 100, 250, 1000)
    slides = {f"chunks of {side}": nuclei_slide((1000, 2000), side, seed=1) for side in sides}
    slides = {name: slide.sum(dtype=np.int64) for name, slide in slides.items()}
    ways = {name: lambda total=total: total.compute(scheduler="synchronous") for name, total in slides.items()}
    compare(
        "virtual slide", lambda: draw_slide(nuclei), {"one window": lambda: render_nuclei(window=WINDOW), **ways}, 2
    )

    stacks = {side: nuclei_stack((1, 1, *VOLUME), (1, 1, VOLUME[0], side, side)).max() for side in (64, 128, 512)}
    ways = {
        f"chunks of {side}": lambda most=most: most.compute(scheduler="synchronous") for side, most in stacks.items()
    }
    count = len(true_stack_nuclei((1, 1, *VOLUME)))
    compare("virtual stack", lambda: draw_stack(count), ways, np.prod(VOLUME) / 1e6)

    slide = nuclei_slide((10**6, 10**6), chunks=1000)
    print(f"\na window of 10**6 x 10**6 pixels: {seconds(lambda: slide[500_000:500_100, 999_900:].compute()):.3f} s")


if __name__ == "__main__":
    main()
