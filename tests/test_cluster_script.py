"""The script for clusters, count_on_cluster.py: killed, resumed, and told what it cannot do."""

import importlib.util
import os
import re
import runpy
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import dask.array as da
import numpy as np
import psutil
import pytest
import zarr
from dask.distributed import Client, LocalCluster, Security

from course_helpers.nuclei import seed_nuclei
from course_helpers.slide import nuclei_slide

SCRIPT = Path(__file__).parents[1] / "notebooks" / "count_on_cluster.py"
SHAPE, SIDE, PARTS = (1000, 3000), 250, 12


def arguments_for(output):
    """The arguments that count a small slide with one worker."""
    return [str(output), "--shape", *map(str, SHAPE), "--tile", str(SIDE), "--workers", "1"]


def begun(output, until, **options):
    """A process that runs the script, when it has said that this part is stored."""
    command = [sys.executable, str(SCRIPT), *arguments_for(output)]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    while not run.stdout.readline().startswith(f"part {until} "):
        assert run.poll() is None, run.stderr.read()
    return run


@pytest.fixture(scope="module")
def script():
    specification = importlib.util.spec_from_file_location("count_on_cluster", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def files_of(output):
    return {path: path.stat().st_mtime_ns for path in sorted(output.glob("c/*/*"))}


def test_runs_that_end_early_keep_whole_parts_and_the_next_run_does_the_others(script, tmp_path, capsys, monkeypatch):
    """One is killed with all its processes, one gets Ctrl+C (as Linux and macOS send it), one comes to the end."""
    output = tmp_path / "counts.zarr"
    counts = script.lazy_count_map(script.parsed(arguments_for(output))).compute(scheduler="threads")
    with begun(output, until=2) as run:
        family = [run, *psutil.Process(run.pid).children(recursive=True)]
        for process in family:
            process.kill()
    assert not psutil.wait_procs(family[1:], timeout=60)[1], "a worker outlives the script"
    kept = files_of(output)
    if os.name == "posix":
        as_in_a_terminal = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # background jobs of a shell ignore it
        with begun(output, until=len(kept) + 2, start_new_session=True, preexec_fn=as_in_a_terminal) as run:
            os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to the script and to its workers
            _, message = run.communicate(timeout=300)
        files = files_of(output)
        assert run.returncode == 1 and kept.items() < files.items()
        stopped = f"Stopped: {len(files)} of {PARTS} parts are stored. Run the same line again to count the others."
        assert message == f"\n{stopped}\n"
        kept = files
    before = zarr.open_array(output, mode="r")[:]
    counted = before >= 0
    assert 2 <= len(kept) < PARTS and counted.sum() == 4 * len(kept), "a part is written as a whole"
    assert np.array_equal(before[counted], counts[counted])

    script.main(arguments_for(output))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{len(kept)} of {PARTS} parts are there already"
    assert sum(" is stored" in line for line in lines) == PARTS - len(kept)
    assert lines[-1] == f"{counts.sum():,} nuclei in {4 * PARTS} tiles"
    assert np.array_equal(zarr.open_array(output, mode="r")[:], counts)
    files = files_of(output)
    assert len(files) == PARTS and kept.items() < files.items(), "finished parts are left alone"

    monkeypatch.setitem(script.CLUSTERS, "local", lambda options: pytest.fail("nothing is left to do"))
    script.main(arguments_for(output))
    assert capsys.readouterr().out.splitlines() == [f"{PARTS} of {PARTS} parts are there already", lines[-1]]


def test_workers_leave_ctrl_c_to_the_script(monkeypatch):
    """Windows sends it to each of them; a worker imports the script under a name that multiprocessing gives it."""
    ignored = []
    monkeypatch.setattr(signal, "signal", lambda *arguments: ignored.append(arguments))
    runpy.run_path(str(SCRIPT), run_name="script")
    assert ignored == []
    runpy.run_path(str(SCRIPT), run_name="__mp_main__")
    assert ignored == [(signal.SIGINT, signal.SIG_IGN)]


def test_a_slide_in_a_store_is_counted(script, tmp_path, capsys, monkeypatch):
    slide = nuclei_slide((600, 700), chunks=300)
    slide.to_zarr(str(tmp_path / "slide.zarr"))
    loopback = {"dashboard_address": "127.0.0.1:0", "worker_dashboard_address": "127.0.0.1:0"}
    in_this_process = partial(LocalCluster, processes=False, n_workers=1, **loopback)
    monkeypatch.setitem(script.CLUSTERS, "local", lambda options: in_this_process())
    script.main([str(tmp_path / "counts.zarr"), "--image", str(tmp_path / "slide.zarr"), "--tile", "200"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "0 of 4 parts are there already"
    whole = seed_nuclei(slide.compute(scheduler="threads"), 32, 2).max()
    assert lines[-1] == f"{whole} nuclei in 12 tiles"


def test_other_settings_are_not_mixed(script, tmp_path):
    output = str(tmp_path / "counts.zarr")
    options = script.parsed([output, "--shape", "500", "500", "--tile", "250"])
    target = script.open_target(script.lazy_count_map(options), options)
    assert script.unfinished_parts(target) == ([(slice(0, 2), slice(0, 2))], 1)
    with pytest.raises(SystemExit, match=r"was begun with threshold 32.*, not 40\.0\. Use the same settings"):
        script.main([output, "--shape", "500", "500", "--tile", "250", "--threshold", "40"])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--tile", "0"], "not a whole number from 1"),
        (["--workers", "x"], "invalid"),
        (["--cluster", "cloud"], "choose"),
    ],
)
def test_wrong_arguments_start_nothing(script, tmp_path, arguments, message, capsys):
    with pytest.raises(SystemExit):
        script.main([str(tmp_path / "counts.zarr"), *arguments])
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_an_image_of_three_dimensions_is_refused(script, tmp_path):
    da.zeros((2, 3, 4), chunks=2).to_zarr(str(tmp_path / "stack.zarr"))
    with pytest.raises(SystemExit, match="has 3 dimensions, but two are expected"):
        script.main([str(tmp_path / "counts.zarr"), "--image", str(tmp_path / "stack.zarr")])


def test_the_job_script_says_what_was_asked_for(script, tmp_path, capsys):
    options = ["--job-script", "--queue", "long", "--account", "lab", "--memory", "3GiB", "--walltime", "07:00:00"]
    script.main([str(tmp_path / "counts.zarr"), *options])
    text = capsys.readouterr().out
    for line in ("#SBATCH -p long", "#SBATCH -A lab", "#SBATCH --mem=3G", "#SBATCH -t 07:00:00"):
        assert line in text.splitlines()
    assert re.search(
        r"distributed\.cli\.dask_worker tls://\S+ .*--nthreads 1 --memory-limit 3\.00GiB --nanny .*--dashboard-address 127\.0\.0\.1:0 .*--tls-key ",
        text,
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [None, b""])
def test_a_damaged_part_is_counted_anew(script, tmp_path, content):
    output = tmp_path / "counts.zarr"
    options = script.parsed([str(output), "--shape", "1000", "500", "--tile", "250"])
    count_map = script.lazy_count_map(options)
    target = script.open_target(count_map, options)
    counts = count_map.compute(scheduler="threads")
    target[:] = counts
    file = output / "c" / "1" / "0"
    whole = file.read_bytes()
    flipped = [whole[:n] + bytes([whole[n] ^ 4]) + whole[n + 1 :] for n in range(len(whole))]
    for damaged in flipped if content is None else [content]:
        file.write_bytes(damaged)
        assert script.unfinished_parts(script.open_target(count_map, options)) == ([(slice(2, 4), slice(0, 2))], 2)


def test_counts_without_checksums_are_not_trusted(script, tmp_path):
    output = str(tmp_path / "counts.zarr")
    options = script.parsed([output, "--shape", "1000", "500", "--tile", "250"])
    count_map = script.lazy_count_map(options)
    attributes = dict(script.open_target(count_map, options).attrs)
    layout = {"data": np.full(count_map.shape, 7), "chunks": (2, 2), "compressors": None, "attributes": attributes}
    zarr.create_array(output, overwrite=True, **layout)
    with pytest.raises(SystemExit, match="no checksums"):
        script.open_target(count_map, options)


def test_the_workers_of_this_machine_listen_to_this_machine_and_their_key_only(script):
    processes = [psutil.Process()]

    def listening():
        sockets = sum((process.net_connections("inet") for process in processes), [])
        return {socket.laddr for socket in sockets if socket.status == psutil.CONN_LISTEN}

    before = listening()
    with script.local_cluster(script.parsed(["unused", "--workers", "1"])) as cluster, Client(cluster) as client:
        client.wait_for_workers(1, timeout=60)
        processes += processes[0].children(recursive=True)
        opened = listening() - before
        with pytest.raises(OSError, match="certificate"):
            Client(cluster.scheduler_address, security=Security.temporary())
    assert len(opened) > 2 and {address.ip for address in opened} == {"127.0.0.1"}


def test_damaged_metadata_are_refused(script, tmp_path):
    output = tmp_path / "counts.zarr"
    options = script.parsed([str(output), "--shape", "1000", "500", "--tile", "250"])
    count_map = script.lazy_count_map(options)
    script.open_target(count_map, options)
    content = (output / "zarr.json").read_bytes()
    for damaged in [b"", content.replace(b"int64", b"int66"), content.replace(b"4,", b"5,", 1), content[:-9]]:
        (output / "zarr.json").write_bytes(damaged)
        with pytest.raises(SystemExit, match="or damaged"):
            script.open_target(count_map, options)
