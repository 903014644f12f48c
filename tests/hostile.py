"""What learners may hand over to a check by mistake, and a little worse."""

import dask
import dask.array as da
import numpy as np


class Hostile:
    """An object that fails at whatever is done with it."""

    def __getattr__(self, name):
        raise RuntimeError("hands off")

    def __repr__(self):
        raise RuntimeError("no name")

    __array__ = __len__ = __iter__ = __bool__ = __eq__ = __float__ = __repr__


def hostile_answers():
    """What a learner may hand over by mistake, and a little worse."""
    return [*hostile_values(), *hostile_arrays(), *hostile_objects()]


def hostile_values():
    recursive = []
    recursive.append(recursive)
    numbers = [None, float("nan"), float("inf"), -1, True, 1 + 2j, 10**400]
    texts = ["", "130000", "three\nlines\nof text", b"x"]
    lists = [[], {}, {1}, (), [None], ["a", 1], [[1], [1, 2]], recursive, range(10**12), [0] * 2_000_000]
    return numbers + texts + lists


def raises(*arguments, **options):
    raise KeyError("a mistake of mine")


def leaves(*arguments, **options):
    raise SystemExit(1)


def not_written(*arguments, **options): ...


def hostile_arrays():
    numbers = [np.array([]), np.array(np.nan), np.full((3, 3), np.nan), np.zeros((2, 3, 4))]
    others = [np.array(["a"]), np.array([None]), np.ma.masked_all(3)]
    fails = da.from_delayed(dask.delayed(raises)(), (50,), float)
    lazy = [da.zeros((4, 4)), da.zeros(50), da.zeros(50) * np.nan, fails]
    delayed = [dask.delayed(1), dask.delayed(raises), dask.delayed(raises)(), dask.delayed(not_written)]
    return numbers + others + lazy + delayed


def hostile_objects():
    return [print, len, int, raises, leaves, not_written, lambda: 1, object(), Hostile(), Hostile]
