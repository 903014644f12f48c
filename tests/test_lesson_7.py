"""Lesson 7: a lost worker, the lesson itself, and the exercises."""

import logging
import os
import re
import time
from functools import partial
from pathlib import Path

import dask
import dask.array as da
import nbformat
import numpy as np
import psutil
import pytest
import zarr
from dask.distributed import Client, LocalCluster, futures_of

from course_helpers.examples import example_streams
from course_helpers.exercises import lesson_7
from course_helpers.nuclei import nuclei_slide, seed_nuclei
from course_helpers.objects import count_in_tiles

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SOURCE = (NOTEBOOKS / "source" / "07_scaling_out.md").read_text(encoding="utf-8")


# --- a cluster --------------------------------------------------------------------------------------------------------


def test_a_worker_killed_in_the_middle_costs_no_result_and_no_process_is_left(monkeypatch):
    seeds = partial(seed_nuclei, threshold=32, sigma=2)
    count_map = count_in_tiles(seeds, nuclei_slide((2000, 2000), chunks=250), 38, reach=23)
    expected = count_map.compute(scheduler="threads")
    # By default a cluster gives a worker up that is not back within 15 seconds, which a busy computer may need.
    monkeypatch.setitem(dask.config.get("distributed.deploy"), "lost-worker-timeout", "10 minutes")
    cluster = LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        memory_limit="1 GiB",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    )
    with cluster, Client(cluster) as client:
        processes = [psutil.Process(pid) for pid in client.run(os.getpid).values()]
        counting = client.persist(count_map)
        futures = futures_of(counting)
        while sum(future.status == "finished" for future in futures) < 16:
            time.sleep(0.01)
        assert any(future.status == "pending" for future in futures), "the run was over before a worker was killed"
        processes[0].kill()
        assert np.array_equal(counting.compute(), expected)
        client.wait_for_workers(2, timeout=60)
        pids = client.run(os.getpid).values()
        assert processes[0].pid not in pids, "the nanny starts a new worker"
        processes += [psutil.Process(pid) for pid in pids if pid != processes[1].pid]
    assert len(processes) == 3
    assert not psutil.wait_procs(processes, timeout=60)[1]


# --- the lesson -------------------------------------------------------------------------------------------------------


def test_the_lesson_closes_its_cluster_and_uses_the_numbers_of_the_checks():
    solved = nbformat.read(NOTEBOOKS / "solutions" / "07_scaling_out.ipynb", as_version=4)
    printed = [output.text for cell in solved.cells for output in cell.get("outputs", []) if "text" in output]
    assert "workers that are left: 0\n" in printed
    for name in ("OVERLAP", "REACH"):
        added = re.search(rf"^{name} = (\d+) \+ (\d+) ", SOURCE, re.M)
        assert int(added[1]) + int(added[2]) == getattr(lesson_7, name)
    assert f"threshold={lesson_7.SEEDS.keywords['threshold']}, sigma={lesson_7.SEEDS.keywords['sigma']}" in SOURCE
    assert SOURCE.count('dashboard_address="127.0.0.1:0"') + SOURCE.count('"dashboard_address": "127.0.0.1:0"') == 3


# --- 7.1 --------------------------------------------------------------------------------------------------------------

PLAN = {"n_workers": 8, "threads_per_worker": 1, "memory_limit": "1.5 GiB", "side": 4000}


def test_7_1_right(line_of):
    line = line_of("7.1", PLAN)
    assert line.startswith(
        "✓ Exercise 7.1: correct. 8 workers need 4.9 of 7.2 GiB (2.0 for the processes, 2.9 in flight)"
    )
    assert "8.0 seconds" in line
    for side in (633, 1000, 5377):
        assert line_of("7.1", PLAN | {"side": side}).startswith("✓")
    assert line_of("7.1", PLAN | {"memory_limit": "1.4GiB"}).startswith("✓")
    assert line_of("7.1", PLAN | {"memory_limit": int(1.5 * 2**30)}).startswith("✓")


def test_7_1_unanswered(line_of):
    assert line_of("7.1", ...).startswith("○")
    assert "nothing yet for memory_limit, side" in line_of("7.1", PLAN | {"memory_limit": ..., "side": ...})
    assert line_of("7.1", {}).startswith("○")


@pytest.mark.parametrize(
    "change, feedback",
    [
        ({"n_workers": 1, "threads_per_worker": 8}, "with 8 threads in a worker, only one of them works"),
        ({"n_workers": 4, "threads_per_worker": 2}, "this function holds the GIL"),
        ({"n_workers": 16, "memory_limit": "0.7 GiB"}, "16 tasks at a time share 8 cores"),
        ({"n_workers": 4}, "4 of 8 cores have nothing to do"),
        ({"memory_limit": "12 GiB"}, "that of one worker, not of all together"),
        ({"memory_limit": "16 GiB"}, "that of one worker, not of all together"),
        ({"memory_limit": "2 GiB"}, "nothing is left for the system"),
        ({"memory_limit": "1.8 GiB"}, "add up to 14.4 GiB"),
        ({"memory_limit": "0.25 GiB"}, "the processes fill it before they do anything"),
        ({"memory_limit": "a lot"}, "memory_limit: dask cannot read 'a lot'"),
        ({"memory_limit": 1.5}, "memory_limit: 1.5 has no unit, so it means bytes"),
        ({"memory_limit": "1.5"}, "memory_limit: '1.5' has no unit, so it means bytes"),
        ({"memory_limit": "0.9"}, "memory_limit: '0.9' has no unit, so it means bytes"),
        ({"memory_limit": "1.5 kB"}, "memory_limit: '1.5 kB' is less than one MiB"),
        ({"memory_limit": None}, "memory_limit: the answer is None"),
        ({"side": 6000}, "Did you leave out the base"),
        ({"side": 7000}, "instead of 60 %"),
        ({"side": 7500}, "one byte per pixel"),
        ({"side": 15000}, "leave out the factor"),
        ({"side": 100_000}, "Choose smaller chunks"),
        ({"side": 500}, "works for 125 ms only"),
        ({"side": 4000.5}, "side: the answer is 4000.5, but a whole number"),
        ({"side": 0}, "side: the answer is 0, but a number from 1"),
        ({"n_workers": "8"}, "n_workers: the answer is '8', but one number"),
    ],
)
def test_7_1_mistakes(line_of, change, feedback):
    line = line_of("7.1", PLAN | change)
    assert line.startswith("✗") and feedback in line


def test_7_1_hostile(line_of, hostile):
    assert line_of("7.1", hostile)[0] in "✗○"
    for name in lesson_7.FIELDS:
        assert line_of("7.1", PLAN | {name: hostile})[0] in "✗○"


# --- 7.2 --------------------------------------------------------------------------------------------------------------


def count(tiles, overlap=lesson_7.OVERLAP, reach=lesson_7.REACH, seeds=lesson_7.SEEDS):
    return count_in_tiles(seeds, tiles, overlap, reach=reach)


def read(path):
    return zarr.open_array(path, mode="r")[:]


def whole_in_one_task(path):
    lazy = dask.delayed(read)(path)
    return count(da.from_delayed(lazy, zarr.open_array(path, mode="r").shape, np.uint8).rechunk(500))


@pytest.mark.parametrize(
    "answer",
    [
        lambda path: count(da.from_zarr(path, chunks=500)),
        lambda path: count(da.from_zarr(path).rechunk(500)),
        lambda path: count(da.from_array(zarr.open_array(path, mode="r"), chunks=500)),
        lambda path: count(da.from_zarr(path, chunks=250).rechunk(500)),
    ],
)
def test_7_2_right(line_of, answer):
    line = line_of("7.2", answer)
    assert line.startswith("✓ Exercise 7.2: correct. The image has 1.43 MiB, your graph less than 1 % of that.")


def no_return(path):
    count(da.from_zarr(path))


def not_written(path): ...


def test_7_2_not_written(line_of):
    assert line_of("7.2", not_written).startswith("○")
    assert "Does every way through it end with return?" in line_of("7.2", no_return)


@pytest.mark.parametrize(
    "answer, feedback",
    [
        (lambda path: count(da.from_array(read(path), chunks=500)), "pixels are in it"),
        (whole_in_one_task, "one task loads the whole image"),
        (lambda path: count(da.from_zarr(path)).compute(scheduler="threads"), "without computing it"),
        (lambda path: count(da.from_zarr(path)).sum(), "returns one number, lazily"),
        (lambda path: count(da.from_zarr(path).rechunk(-1)), "The whole image is one tile"),
        (lambda path: count(da.from_zarr(path)), "your tiles follow the chunks of the file"),
        (lambda path: count(da.from_zarr(path, chunks=250)), "your map has shape (4, 6)"),
        (lambda path: count(da.from_zarr(path, chunks=500), reach=0), "your map counts as if nothing were wrong"),
        (lambda path: count(da.from_zarr(path, chunks=500), overlap=100), "your map counts as if nothing were wrong"),
        (lambda path: da.from_zarr(path), "your map has shape (1000, 1500)"),
        (
            lambda path: count(da.from_zarr(path, chunks=500), seeds=partial(seed_nuclei, threshold=40, sigma=2)),
            "another number",
        ),
        (lambda path: count(da.from_zarr(path, chunks=500), overlap=23), "computing it raises OverlapError"),
        (lambda path: dask.delayed(read)(path), "Return a dask array"),
        (lambda path: da.from_zarr(path + "x"), "your function raises"),
        (lambda: 1, "your function raises TypeError"),
        (7, "a function is asked for"),
    ],
)
def test_7_2_mistakes(line_of, answer, feedback):
    line = line_of("7.2", answer)
    assert line.startswith("✗") and feedback in line


def test_7_2_data_sent_before_is_noticed(line_of):
    cluster = LocalCluster(processes=False, n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0")
    with cluster, Client(cluster) as client:
        line = line_of("7.2", lambda path: count(client.persist(da.from_zarr(path, chunks=500))))
    assert line.startswith("✗") and "sent to the cluster before" in line


def test_7_2_hostile(line_of, hostile):
    assert line_of("7.2", hostile)[0] in "✗○"
    assert line_of("7.2", lambda path: hostile)[0] in "✗○"


# --- 7.3 --------------------------------------------------------------------------------------------------------------

RIGHT = (1070, 29, 20)


def test_7_3_right(line_of):
    assert line_of("7.3", *RIGHT).startswith("✓ Exercise 7.3: correct. Tiles of 1070 pixels: overhead 5.0 %")
    assert line_of("7.3", 1070, 29.0, 1 / 0.05).startswith("✓")


def test_7_3_the_numbers_are_right():
    share = [0.012 / (0.012 + side**2 / 5e6) for side in (1060, 1070)]
    assert share[0] > 0.05 >= share[1]
    assert lesson_7.speed_up(28) < 12 <= lesson_7.speed_up(29)
    assert lesson_7.speed_up(1) == 1 and abs(lesson_7.speed_up(10**9) - 20) < 1e-5


def test_7_3_unanswered(line_of):
    assert line_of("7.3", ..., ..., ...).startswith("○")
    assert line_of("7.3", 1070).startswith("○")


@pytest.mark.parametrize(
    "position, wrong, feedback",
    [
        (0, 1100, "5 % of the work"),
        (0, 540, "How many are there?"),
        (0, 33770, "milliseconds for seconds"),
        (0, 3460, "is your share 5 %, or 0.5 %?"),
        (0, 1068, "a multiple of 10"),
        (0, 1_144_900, "How long is its side?"),
        (0, 1060, "takes more than 5 %"),
        (0, -10, "takes more than 5 %"),
        (0, 2000, "also with smaller tiles"),
        (0, "1070", "tile_side: the answer is '1070'"),
        (1, 12, "if all of the time could be divided"),
        (1, 13, "they stay"),
        (1, 28, "11.915 times as fast: not quite 12."),
        (1, 28.5, "workers_needed is 28.5, but workers come in whole numbers"),
        (1, 12 / 0.95, "workers come in whole numbers"),
        (1, 20, "it is only 10.3 times"),
        (1, 64, "fewer are, too"),
        (1, 0, "At least one worker"),
        (1, None, "workers_needed: the answer is None"),
        (2, 0.05, "the share that cannot be divided"),
        (2, 5, "the share that cannot be divided"),
        (2, 1 / 0.95, "the part that can be divided is left"),
        (2, 10, "less than the 12 times"),
        (2, 29, "what would be left?"),
        (2, float("inf"), "limit: the answer is inf"),
    ],
)
def test_7_3_mistakes(line_of, position, wrong, feedback):
    answers = list(RIGHT)
    answers[position] = wrong
    line = line_of("7.3", *answers)
    assert line.startswith("✗") and feedback in line


def test_7_3_hostile(line_of, hostile):
    for position in range(3):
        answers = list(RIGHT)
        answers[position] = hostile
        assert line_of("7.3", *answers)[0] in "✗○"


# --- 7.4 --------------------------------------------------------------------------------------------------------------


def test_7_4_right(line_of):
    assert line_of("7.4", dict(lesson_7.CAUSES)).startswith("✓")


def test_7_4_unanswered(line_of):
    assert line_of("7.4", ...).startswith("○")
    assert "no cause yet for B" in line_of("7.4", lesson_7.CAUSES | {"B": ...})


@pytest.mark.parametrize("letter, right", lesson_7.CAUSES.items())
def test_7_4_mistakes(line_of, letter, right):
    for cause in set(lesson_7.CAUSES.values()) - {right}:
        line = line_of("7.4", lesson_7.CAUSES | {letter: cause})
        assert line.startswith("✗") and f"{letter} is something else" in line and right not in line
    assert "Choose one of" in line_of("7.4", lesson_7.CAUSES | {letter: "bad luck"})


def test_7_4_hostile(line_of, hostile):
    assert line_of("7.4", hostile)[0] in "✗○"
    assert line_of("7.4", lesson_7.CAUSES | {"A": hostile})[0] in "✗○"


def test_7_4_the_streams_show_their_causes():
    def total(records, kind):
        return sum(stop - start for _, name, start, stop in records if name == kind)

    streams = example_streams()
    for letter, kind in [("A", "disk"), ("D", "transfer")]:
        assert total(streams[letter], kind) > 0.4 * (total(streams[letter], kind) + total(streams[letter], "work"))
    ends = [max(stop for worker, *_, stop in streams["B"] if worker == n) for n in range(3)]
    assert max(ends) > 1.5 * sorted(ends)[1]
    span = max(stop for *_, stop in streams["C"])
    assert total(streams["C"], "work") < 0.4 * 3 * span
    for records in streams.values():
        for worker in range(3):
            row = [(start, stop) for n, _, start, stop in records if n == worker]
            assert row == sorted(row) and all(a[1] <= b[0] for a, b in zip(row, row[1:])), "bars do not overlap"
