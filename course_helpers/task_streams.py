"""Task streams: which worker did what, from when to when, as dask records it, as a picture, and made up for an exercise."""

import numpy as np
from dask.utils import key_split

KINDS = {"nuclei_slide": "make a tile", "objects": "count in a window", "transfer": "transfer", "disk": "disk"}
STYLES = {
    "make a tile": ("#3b528b", ""),
    "count in a window": ("#5ec962", ""),
    "work": ("#5ec962", ""),
    "other": ("#9ecae1", ""),
    "transfer": ("#d62728", "////"),
    "disk": ("#ff7f0e", "...."),
}


def records_of(data):
    """Worker, kind of work, start and stop in seconds, for everything that `get_task_stream` recorded.

    Workers are numbered from 0, in the order in which they begin.
    """
    parts = [
        (message["worker"], _kind_of(message["key"], part["action"]), part["start"], part["stop"])
        for message in data
        for part in message["startstops"]
    ]
    parts.sort(key=lambda part: part[2])
    begin = parts[0][2]
    names = list(dict.fromkeys(worker for worker, *_ in parts))
    return [
        (names.index(worker), kind, start - begin, stop - begin)
        for worker, kind, start, stop in parts
        if kind != "disk" or stop - start > 0.01  # a look at an empty disk is no spilling
    ]


def _kind_of(key, action):
    """A word for what a worker does: for computing, it follows from the name of the task."""
    name = key_split(key) if action == "compute" else action  # such as "objects-sum" or "disk-read"
    return KINDS.get(name.split("-")[0], "other")


def draw_stream(axis, records, title=""):
    """Draw a task stream: one row per worker, one bar for each piece of work."""
    for kind, (colour, hatch) in STYLES.items():
        bars = [(worker, start, stop - start) for worker, name, start, stop in records if name == kind]
        if bars:
            rows, lefts, widths = np.transpose(bars)
            height = 0.4 if hatch else 0.9
            style = {"color": colour, "hatch": hatch, "edgecolor": "black", "linewidth": 0.3}
            axis.barh(rows, widths, left=lefts, height=height, label=kind, **style)
    count = len({worker for worker, *_ in records})
    axis.set(yticks=range(count), yticklabels=[f"worker {n + 1}" for n in range(count)], title=title)
    axis.set_ylim(count - 0.4, -0.6)


def example_streams():
    """Made-up task streams, by letter: lists of (worker, kind of work, start, stop), in seconds."""
    rng = np.random.default_rng(7)
    return {letter: records(rng) for letter, records in zip("ABCD", (_full, _long, _small, _moving))}


def _row(worker, lengths, gaps, kinds):
    """Work of one worker, one piece after the other; gaps are waiting times before each piece."""
    stops = np.cumsum(np.add(lengths, gaps))
    return [(worker, kind, float(stop - length), float(stop)) for kind, length, stop in zip(kinds, lengths, stops)]


def _full(rng):
    kinds = ["work", "disk"] * 9
    rows = [_row(n, rng.uniform(0.35, 0.6, 18), np.full(18, 0.02), kinds) for n in range(3)]
    return sum(rows, [])


def _long(rng):
    rows = [_row(n, rng.uniform(0.3, 0.5, 10), np.full(10, 0.02), ["work"] * 10) for n in range(3)]
    end = rows[1][-1][3]
    return sum(rows, []) + [(1, "work", end + 0.02, end + 4.5)]


def _small(rng):
    rows = [_row(n, rng.uniform(0.02, 0.04, 75), rng.uniform(0.06, 0.12, 75), ["work"] * 75) for n in range(3)]
    return sum(rows, [])


def _moving(rng):
    kinds = ["transfer", "work"] * 9
    lengths = [np.where(np.arange(18) % 2, 0.3, 0.65) * rng.uniform(0.8, 1.2, 18) for _ in range(3)]
    return sum((_row(n, lengths[n], np.full(18, 0.02), kinds) for n in range(3)), [])
