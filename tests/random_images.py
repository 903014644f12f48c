"""Images of any dtype, shape and chunks, for tests that compare with the whole image; each comes from a random generator."""

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


def random_pixels(rng, shape, dtype):
    """Any bits, zero, the limits of the dtype, and what is special in floats; one image of ten is all zero."""
    dtype = np.dtype(dtype)
    bits = np.frombuffer(rng.bytes(9 * dtype.itemsize), "u1") & (1 if dtype.kind == "b" else 255)
    limits = [np.iinfo(dtype).min, np.iinfo(dtype).max] if dtype.kind in "iu" else [True]
    special = np.array([0, *([np.nan, np.inf, -np.inf, -0.0] if dtype.kind in "fc" else limits)], dtype)
    values = np.concatenate([special, bits.view(dtype)]).astype(dtype)
    return values[rng.integers(len(values), size=shape) * (rng.random() < 0.9)]
