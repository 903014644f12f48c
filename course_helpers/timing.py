"""How long a function takes."""

import timeit


def seconds(work):
    """Seconds that a function without arguments takes, at its best of three times."""
    return min(timeit.repeat(work, number=1, repeat=3))
