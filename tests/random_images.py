"""Images of any dtype, shape and chunks, for tests that compare with the whole image; each comes from a random generator."""

import gc
import tracemalloc

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

DTYPES = ["?", "i1", "u1", ">u2", ">i4", "i8", "u8", "longlong", "ulonglong", "f2", "f4", ">f8", "c8"]


def for_any_seed(examples):
    """Run a test with many seeds, none simpler than another; what it writes into tmp_path, it replaces the next time."""
    run = settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    return lambda test: run(given(seed=st.integers(0, 2**32 - 1))(test))


def random_chunks(rng, shape, most=6):
    """Chunks of any sizes, from 1 pixel to the whole axis."""
    counts = [rng.integers(max(min(size, most), 1)) for size in shape]
    cuts = [np.sort(rng.choice(np.arange(1, size), count, replace=False)) for size, count in zip(shape, counts)]
    return tuple(tuple(np.diff([0, *cut, size]).tolist()) for cut, size in zip(cuts, shape))


def values_of(rng, dtype):
    """Zero, the limits of a dtype, what is special in floats, and some random bits."""
    dtype = np.dtype(dtype)
    bits = np.frombuffer(rng.bytes(9 * dtype.itemsize), "u1") & (1 if dtype.kind == "b" else 255)
    if dtype.kind in "fc":
        special = [np.finfo(dtype).min, np.finfo(dtype).max, np.nan, np.inf, -np.inf, -0.0]
    else:
        special = [True] if dtype.kind == "b" else [np.iinfo(dtype).min, np.iinfo(dtype).max]
    return np.concatenate([np.array([0, *special], dtype), bits.view(dtype)]).astype(dtype)


def random_pixels(rng, shape, dtype):
    """Any values; one image of ten is all zero."""
    values = values_of(rng, dtype)
    return values[rng.integers(len(values), size=shape) * (rng.random() < 0.9)]


def peak_of(work):
    """The most bytes that a function takes at a time; what is loaded by its first run does not count."""
    work()
    gc.collect()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
