"""The script for clusters, count_on_cluster.py: killed, resumed, and told what it cannot do."""

import importlib.util
import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import dask.array as da
import numpy as np
import psutil
import pytest
import zarr

from course_helpers.nuclei import seed_nuclei
from course_helpers.slide import nuclei_slide

SCRIPT = Path(__file__).parents[1] / "notebooks" / "count_on_cluster.py"
SHAPE, SIDE = (2000, 3000), 250


def command(output, *options):
    """The command line that counts a small slide with one worker, in 24 parts."""
    shape = ["--shape", *map(str, SHAPE), "--tile", str(SIDE), "--workers", "1"]
    return [sys.executable, str(SCRIPT), str(output), *shape, *options]


def run_script(output, *options):
    return subprocess.run(command(output, *options), capture_output=True, text=True, encoding="utf-8", timeout=300)


@pytest.fixture(scope="module")
def script():
    specification = importlib.util.spec_from_file_location("count_on_cluster", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def counts(script, tmp_path_factory):
    """What the script should count, from dask's threads."""
    options = script.parsed(["unused", "--shape", *map(str, SHAPE), "--tile", str(SIDE)])
    return script.lazy_count_map(options).compute(scheduler="threads")


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The output of a run that was killed, with all its processes, when three parts were stored."""
    output = tmp_path_factory.mktemp("killed") / "counts.zarr"
    with subprocess.Popen(command(output), stdout=subprocess.PIPE, text=True, encoding="utf-8") as run:
        for line in run.stdout:
            if line.startswith("part 3 "):
                break
        family = [run, *psutil.Process(run.pid).children(recursive=True)]
        for process in family:
            process.kill()
    assert run.returncode != 0
    assert not psutil.wait_procs(family[1:], timeout=60)[1], "a worker outlives the script"
    return output


def files_of(output):
    return {path: path.stat().st_mtime_ns for path in sorted(output.glob("c/*/*"))}


def test_a_killed_run_keeps_whole_parts_and_the_next_run_does_the_others(killed, counts):
    before, files = zarr.open_array(killed, mode="r")[:], files_of(killed)
    assert 3 <= len(files) < 24
    counted = before >= 0
    assert counted.sum() == 4 * len(files), "a part is written as a whole"
    assert np.array_equal(before[counted], counts[counted])

    resumed = run_script(killed)
    assert resumed.returncode == 0, resumed.stderr
    lines = resumed.stdout.splitlines()
    assert lines[0] == f"{len(files)} of 24 parts are there already"
    assert sum(" is stored" in line for line in lines) == 24 - len(files)
    assert lines[-1] == f"{counts.sum():,} nuclei in 96 tiles"
    assert np.array_equal(zarr.open_array(killed, mode="r")[:], counts)
    after = files_of(killed)
    assert len(after) == 24 and {path: after[path] for path in files} == files, "finished parts are left alone"


@pytest.mark.skipif(os.name != "posix", reason="Ctrl+C can be sent to a group of processes on Linux and macOS only")
def test_ctrl_c_ends_the_run_with_a_sentence(tmp_path):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
    with subprocess.Popen(command(tmp_path / "counts.zarr"), **options) as run:
        while not run.stdout.readline().startswith("part 3 "):
            assert run.poll() is None, run.stderr.read()
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to the script and to its workers
        _, message = run.communicate(timeout=300)
    assert run.returncode == 1
    stored = len(files_of(tmp_path / "counts.zarr"))
    assert message == f"\nStopped: {stored} of 24 parts are stored. Run the same line again to count the others.\n"


def test_workers_leave_ctrl_c_to_the_script(monkeypatch):
    """Windows sends it to each of them; a worker imports the script under a name that multiprocessing gives it."""
    ignored = []
    monkeypatch.setattr(signal, "signal", lambda *arguments: ignored.append(arguments))
    runpy.run_path(str(SCRIPT), run_name="script")
    assert ignored == []
    runpy.run_path(str(SCRIPT), run_name="__mp_main__")
    assert ignored == [(signal.SIGINT, signal.SIG_IGN)]


def test_a_finished_run_starts_no_cluster(script, counts, tmp_path, capsys, monkeypatch):
    slide = nuclei_slide((600, 700), chunks=300)
    slide.to_zarr(str(tmp_path / "slide.zarr"))
    output, image = str(tmp_path / "counts.zarr"), str(tmp_path / "slide.zarr")
    arguments = [output, "--image", image, "--tile", "200", "--workers", "1"]
    script.main(arguments)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "0 of 4 parts are there already"
    whole = seed_nuclei(slide.compute(scheduler="threads"), 32, 2).max()
    assert lines[-1] == f"{whole} nuclei in 12 tiles"
    monkeypatch.setitem(script.CLUSTERS, "local", lambda options: pytest.fail("nothing is left to do"))
    script.main(arguments)
    assert capsys.readouterr().out.splitlines() == ["4 of 4 parts are there already", lines[-1]]


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
    assert re.search(r"distributed\.cli\.dask_worker tcp://\S+ .*--nthreads 1 --memory-limit 3\.00GiB --nanny", text)
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
