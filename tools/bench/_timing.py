"""What the benchmarks share: times of functions without arguments, in seconds, and what is claimed of them."""

import time

import numpy as np

CLAIMS = []  # what, against whom, ratio, aim


def seconds(work):
    """Time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def best_times(works, repetitions):
    """Best time of each function, with the repetitions interleaved so that noise meets all of them."""
    return np.min([[seconds(work) for work in works] for _ in range(repetitions)], axis=0)


def claim(what, against, ratio, aim):
    """Put a line into the table at the end of the run."""
    CLAIMS.append((what, against, ratio, aim))


def print_claims():
    """Print all lines: the ratio that was measured beside the one that is aimed at, such as ">= 6" or "<= 1.15"."""
    if CLAIMS:
        print(f"\n## summary\n{'':58}{'against':30}{'ratio':>8}{'aim':>9}")
    for what, against, ratio, aim in CLAIMS:
        sign, number = aim.split()
        missed = "" if ratio == float(number) or (ratio > float(number)) == (sign == ">=") else "  missed"
        print(f"{what:58}{against:30}{ratio:8.2f}{aim:>9}{missed}")
