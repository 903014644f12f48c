"""What the benchmarks share: times of functions without arguments, in seconds."""

import time

import numpy as np


def seconds(work):
    """Time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def best_times(works, repetitions):
    """Best time of each function, with the repetitions interleaved so that noise meets all of them."""
    return np.min([[seconds(work) for work in works] for _ in range(repetitions)], axis=0)
