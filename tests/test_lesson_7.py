"""Lesson 7: what only it can say. Its exercises are tested in test_exercises.py, by their tables."""

import logging
import os
import re
import time
from functools import partial

import dask
import dask.array as da
import nbformat
import numpy as np
import psutil
import pytest
from dask.distributed import Client, LocalCluster, futures_of
from processes import ROOT
from strangers import assert_only_keys_open, listening
from test_cluster_script import in_this_process

from course_helpers.exercises import lesson_7
from course_helpers.nuclei import seed_nuclei
from course_helpers.objects import count_in_tiles
from course_helpers.slide import nuclei_slide
from course_helpers.task_streams import example_streams
from course_helpers.tiling import overlap_needed

NOTEBOOKS = ROOT / "notebooks"
SOURCE = (NOTEBOOKS.parent / "sources" / "07_scaling_out.md").read_text(encoding="utf-8")


def test_a_worker_killed_in_the_middle_costs_no_result_and_no_process_is_left(monkeypatch):
    seeds = partial(seed_nuclei, threshold=32, sigma=2)
    count_map = count_in_tiles(seeds, nuclei_slide((1000, 1600), chunks=200), 38, reach=23)
    expected = count_map.compute(scheduler="threads")
    # By default a cluster gives a worker up that is not back within 15 seconds, which a busy computer may need.
    monkeypatch.setitem(dask.config.get("distributed.deploy"), "lost-worker-timeout", "10 minutes")
    here = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "security": True}
    workers = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": "1 GiB"}
    cluster = LocalCluster(**here, **workers, silence_logs=logging.CRITICAL)
    with cluster, Client(cluster) as client:
        processes = [psutil.Process(pid) for pid in client.run(os.getpid).values()]
        counting = client.persist(count_map)
        futures = futures_of(counting)
        while sum(future.status == "finished" for future in futures) < 8:
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


def test_the_lesson_closes_its_cluster():
    solved = nbformat.read(NOTEBOOKS / "solutions" / "07_scaling_out.ipynb", as_version=4)
    printed = [output.text for cell in solved.cells for output in cell.get("outputs", []) if "text" in output]
    assert "workers that are left: 0\n" in printed


def test_the_cluster_of_the_lesson_is_reached_from_this_machine_only_and_with_its_key_only():
    (lines,) = re.findall(r"^cluster = (LocalCluster\(.*?^\))", SOURCE, re.S | re.M)
    before = listening([psutil.Process()])
    with eval(lines) as cluster:
        assert_only_keys_open(cluster, before)
        family = [psutil.Process(), *psutil.Process().children(recursive=True)]
        assert {host for host, _ in listening(family) - before} == {"127.0.0.1"}


def test_7_3_goes_by_the_numbers_of_the_lesson():
    lesson = {"overlap_needed": overlap_needed}
    exec("\n".join(re.findall(r"^(?:LARGEST|REACH|OVERLAP) = .*", SOURCE, re.M)), lesson)
    assert (lesson["OVERLAP"], lesson["REACH"]) == (lesson_7.OVERLAP, lesson_7.REACH)
    assert f"threshold={lesson_7.SEEDS.keywords['threshold']}, sigma={lesson_7.SEEDS.keywords['sigma']}" in SOURCE


slide_path = "of the notebook"


def map_of_notebook(path):
    return da.zeros((3, 4), chunks=1) if slide_path else path


def test_7_3_tells_who_goes_by_the_notebook(line_of):
    assert "Your function uses slide_path of the notebook" in line_of("7.3", map_of_notebook)


def test_7_3_tells_what_an_exception_came_of(line_of):
    line = line_of("7.3", lambda path: 1 / 0)
    assert "called with the path of a slide of 1000 x 1501 pixels, your function raises ZeroDivisionError" in line


def test_7_3_data_sent_before_is_noticed(line_of):
    with in_this_process() as cluster, Client(cluster) as client:
        line = line_of("7.3", lambda path: lesson_7.counted(path, read=lambda path: client.persist(da.from_zarr(path))))
    assert line.startswith("✗") and "sent to the cluster before" in line


@pytest.mark.parametrize(
    "change",
    [{"overlap": (52, 53)}, {"overlap": (53, 54)}, {"reach": (23, 22)}, {"reach": (24, 23)}, {"reach": 0}]
    + [{"chunks": 499}, {"chunks": 501}, {"chunks": (500, 499)}, {"chunks": (501, 500)}, {"chunks": (500, 501)}],
)
def test_7_3_tells_what_is_wrong_by_a_pixel(line_of, change):
    assert line_of("7.3", partial(lesson_7.counted, **change)).startswith("✗")


def test_7_3_looks_at_a_tile_of_the_second_slide_too(line_of):
    def pixels(path):
        return lesson_7.loaded_by_one_task(path) if (lazy := da.from_zarr(path)).shape == (1501, 500) else lazy

    assert "for the count of tile (0, 0) pixels are read" in line_of("7.3", partial(lesson_7.counted, read=pixels))


def test_7_1_streams_show_their_causes():
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
