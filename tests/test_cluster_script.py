"""The script for clusters, count_on_cluster.py: killed, resumed, and told what it cannot do."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
import tifffile
import zarr
from dask.distributed import LocalCluster
from processes import ROOT, printed_by
from strangers import assert_only_keys_open, listening

from course_helpers import clusters
from course_helpers.image_files import open_image
from course_helpers.nuclei import seed_nuclei, segment_blobs
from course_helpers.objects import label_in_tiles, measure_in_tiles
from course_helpers.slide import nuclei_slide
from course_helpers.stack import VOXEL_SIZE, nuclei_stack

SCRIPT = ROOT / "notebooks" / "count_on_cluster.py"
# Counts a small slide, with one worker, in 12 parts.
SMALL, PARTS = "--shape 1000 3000 --tile 250 250 --workers 1".split(), 12


@contextmanager
def begun(output, until, *arguments, **options):
    """A process that runs the script, when it has said that this part is stored; killed in the end, if it still runs."""
    command = [sys.executable, SCRIPT, output, *SMALL, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as run:
        try:
            wait_for_part(run, until)
            yield run
        finally:
            run.kill()


def wait_for_part(run, number):
    """Wait until a process that runs the script has said that this part is stored."""
    while not run.stdout.readline().startswith(f"part {number} "):
        assert run.poll() is None, run.stderr.read()


def kill_with_all_its_processes(run):
    family = [run, *psutil.Process(run.pid).children(recursive=True)]
    for process in family:
        process.kill()
    assert not psutil.wait_procs(family[1:], timeout=60)[1], "a worker outlives the script"


def in_this_process(options=None):
    """A cluster without processes, which starts faster."""
    pages = {"dashboard_address": "127.0.0.1:0", "worker_dashboard_address": "127.0.0.1:0"}
    return LocalCluster(processes=False, n_workers=1, **pages)


def counts_in(output):
    return zarr.open_array(output / "counts", mode="r")[:]


def files_of(output):
    return {path: path.stat().st_mtime_ns for path in sorted(output.glob("counts/c/*/*"))}


def test_runs_that_end_early_keep_whole_parts_and_the_next_run_does_the_others(script, tmp_path, capsys, monkeypatch):
    """One is killed with all its processes, one gets Ctrl+C (as Linux and macOS send it), one comes to the end."""
    output = tmp_path / "counts.zarr"
    line = [str(output), *SMALL]
    slide = nuclei_slide((1000, 3000)).compute(scheduler="threads")
    zarr.create_array(tmp_path / "slide.zarr", data=slide)
    counts = script.plan(script.parsed([*line, "--image", f"{tmp_path}/slide.zarr"]))[1].compute(scheduler="threads")
    assert counts.sum() == seed_nuclei(slide, 32, 2).max()
    assert script.parsed(line).reach == [8 + 30 // 2], "of the Gaussian filter and of half an object"
    with begun(output, until=2) as run:
        kill_with_all_its_processes(run)
    kept = files_of(output)
    if os.name == "posix":
        with begun(output, until=len(kept) + 2, start_new_session=True) as run:
            os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to the script and to its workers
            _, message = run.communicate(timeout=300)
        files = files_of(output)
        assert run.returncode == 3 and kept.items() < files.items()
        assert message.startswith(f"\nStopped. {len(files)} of {PARTS} parts are stored. Run the same line again")
        kept = files
    counted = (before := counts_in(output)) >= 0
    assert 2 <= len(kept) < PARTS and counted.sum() == 4 * len(kept), "a part is written as a whole"
    assert np.array_equal(before[counted], counts[counted])

    monkeypatch.setattr(script, "cluster_of", in_this_process)
    script.main(line)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{len(kept)} of {PARTS} parts are there already"
    assert sum(" is stored" in line for line in lines) == PARTS - len(kept)
    assert lines[-1] == f"{counts.sum():,} objects in {4 * PARTS} tiles"
    assert np.array_equal(counts_in(output), counts)
    files = files_of(output)
    assert len(files) == PARTS and kept.items() < files.items(), "finished parts are left alone"

    monkeypatch.setattr(script, "cluster_of", lambda options: pytest.fail("nothing is left to do"))
    script.main(line)
    assert capsys.readouterr().out.splitlines() == [f"{PARTS} of {PARTS} parts are there already", lines[-1]]


def test_workers_leave_ctrl_c_to_the_script(monkeypatch):
    """Windows sends it to each of them; a worker imports the script under a name that multiprocessing gives it."""
    ignored = []
    monkeypatch.setattr(signal, "signal", lambda *arguments: ignored.append(arguments))
    runpy.run_path(str(SCRIPT), run_name="script")
    assert ignored == []
    runpy.run_path(str(SCRIPT), run_name="__mp_main__")
    assert ignored == [(signal.SIGINT, signal.SIG_IGN)]


STACK = ["--image", "stack.ome.tif", "--channel", "0"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--tile", "0"], "not a whole number from 1"),
        (["--walltime", "1h"], "no time like"),
        (["--segment", "mine.py:find"], "--segment needs --reach"),
        (["--with", "threshold"], "must be NAME=NUMBER"),
        (["--record", "stack.ome.tif"], "no record of lesson 8"),
        (["--image", "nowhere.tif"], "there is no file or folder"),
        (["--image", "stack.ome.tif"], "--channel is None, but must be chosen from 0 to 1"),
        ([*STACK, "--time", "-1"], "--time is -1, but must be chosen from 0 to 0"),
        (STACK, "must be three numbers, because the image has 16 planes"),
        (["--image", "stack.ome.tif", "--record", "record.json", "--pixel-size", "1", "1", "1"], "mean other lengths"),
        (["--record", "record.json"], "two numbers for the virtual slide"),
        (["--image", "bare.tif", "--table"], "Give --pixel-size"),
        (["--segment", "course_helpers.nuclei:find", "--reach", "1"], "no attribute 'find'"),
        (["--with", "treshold=32"], "unexpected keyword argument 'treshold'"),
        (["--segment", "nowhere.py:find", "--reach", "1"], "No module named 'nowhere'"),
        (["--table", "--largest", "1", "2", "3"], "one number, or 2"),
    ],
)
def test_wrong_arguments_start_nothing(script, tmp_path, recording, arguments, message, capsys):
    tifffile.imwrite("bare.tif", np.zeros((20, 20), np.uint8))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SystemExit) as ended:
        script.main(["result", *arguments])
    assert message in (capsys.readouterr().err if ended.value.code == 2 else ended.value.code)
    assert sorted(tmp_path.iterdir()) == before


def test_the_job_script_says_what_was_asked_for(tmp_path):
    """In a new process, in which Ctrl+C stays what it was; dask-jobqueue takes it for itself when it is imported."""
    script = f"""if True:
        import runpy, signal
        before = signal.getsignal(signal.SIGINT)
        runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
        assert signal.getsignal(signal.SIGINT) is before"""
    options = ["--job-script", "--queue", "long", "--account", "lab", "--memory", "3GiB", "--walltime", "07:00:00"]
    text = printed_by("-c", script, tmp_path / "counts.zarr", *options)
    for line in ("#SBATCH -p long", "#SBATCH -A lab", "#SBATCH --mem=3G", "#SBATCH -t 07:00:00"):
        assert line in text.splitlines()
    assert re.search(r"distributed\.cli\.dask_worker tls://\S+ .*--nthreads 1 --memory-limit 3\.00GiB --nanny", text)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("walltime", ["90", "90:00", "01:30:00", "0-01", "0-01:30", "0-01:29:60"])
def test_workers_end_before_the_wall_time_of_their_job(script, walltime):
    words = clusters._lifetime(script.parsed(["unused", "--walltime", walltime]).walltime)
    lifetime, stagger = (int(words[words.index(name) + 1].rstrip("s")) for name in ("--lifetime", "--lifetime-stagger"))
    wall = 3600 if walltime == "0-01" else 5400
    assert 0.7 * wall < lifetime - stagger < lifetime + stagger < wall


@pytest.fixture
def begun_result(script, tmp_path):
    """The options of a run in two parts, its tiles, and the array of its counts, in which nothing is counted yet."""
    options = script.parsed([str(tmp_path / "counts"), "--shape", "1000", "500", "--tile", "250", "250"])
    tiles, found, *_ = script.plan(options)
    script.begin(tiles, options)
    return options, tiles, found, script.open_result(tiles, options)


def test_a_damaged_part_is_counted_anew(script, begun_result):
    """Whichever bit is lost, or all of them."""
    options, tiles, found, counts = begun_result
    assert script.unfinished_parts(counts, options)[0] == [(slice(0, 2), slice(0, 2)), (slice(2, 4), slice(0, 2))]
    counts[:] = found.compute(scheduler="threads")
    file = Path(options.output) / "counts" / "c" / "1" / "0"
    whole = file.read_bytes()
    for damaged in [b"", *(whole[:n] + bytes([whole[n] ^ 4]) + whole[n + 1 :] for n in range(len(whole)))]:
        file.write_bytes(damaged)
        assert script.unfinished_parts(script.open_result(tiles, options), options) == ([(slice(2, 4), slice(0, 2))], 2)


def test_the_workers_of_this_machine_listen_to_the_script_only(script):
    before = listening([psutil.Process()])
    with script.cluster_of(script.parsed(["unused", "--workers", "1"])) as cluster:
        assert_only_keys_open(cluster, before)


def test_another_result_or_a_damaged_one_is_refused(script, begun_result):
    """Counts of other settings are not mixed; those without checksums are not trusted."""
    options, tiles, _, counts = begun_result
    for change, words in ({"numbers": {"threshold": 40}}, "numbers .*32.*40"), ({"shape": [9, 5]}, "shape .*1000.*9"):
        with pytest.raises(ValueError, match=rf"was begun with {words}.*Use the same settings"):
            script.open_result(tiles, SimpleNamespace(**vars(options) | change))
    file = Path(options.output) / "counts" / "zarr.json"
    content = file.read_bytes()
    for damaged in [b"", content.replace(b"int64", b"int66"), content.replace(b"4,", b"5,", 1), content[:-9]]:
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            script.open_result(tiles, options)
    zarr.create_array(f"{options.output}/counts", data=np.full(counts.shape, 7), compressors=None, overwrite=True)
    with pytest.raises(ValueError, match="no checksums"):
        script.open_result(tiles, options)


BLURS = {"threshold": 322, "outline_sigma": [2 / 3, 2, 2], "spot_sigma": [1, 3, 3]}
SIZES = {"largest": [10, 28, 28], "reach": [5, 13, 13], "tile": [8, 64, 64]}
STACK_SHAPE = (1, 2, 16, 120, 150)


@pytest.fixture
def recording(tmp_path, monkeypatch):
    """A folder with a recording of two channels and a record of lesson 8; the arguments that name them."""
    monkeypatch.chdir(tmp_path)
    sizes = {f"PhysicalSize{axis}": size for axis, size in VOXEL_SIZE.items()}
    tifffile.imwrite("stack.ome.tif", nuclei_stack(STACK_SHAPE).compute(), metadata={"axes": "TCZYX", **sizes})
    settings = SIZES | {"overlap": np.add(SIZES["largest"], SIZES["reach"]).tolist(), "nuclei": 0, "numbers": BLURS}
    settings |= {"segment": "course_helpers.nuclei:segment_blobs", "pixel_size": VOXEL_SIZE, "axes": "CZYX"}
    said = {"axes": "QZYX", "pixel_size": {}}  # of the file of the record, which was corrected
    Path("record.json").write_text(json.dumps({"settings": settings, "image": said}))
    return ["--image", "stack.ome.tif", "--record", "record.json", "--labels", "--table"]


def check_result(output):
    """Raise if the result is not that of the whole image."""
    spacing, volume = tuple(VOXEL_SIZE[axis] for axis in "ZYX"), nuclei_stack(STACK_SHAPE)[0, 0].rechunk(-1)
    whole = [partial(segment_blobs, **BLURS), volume, 0]
    table = measure_in_tiles(*whole, ("label", "centroid", "area", "intensity_mean"), spacing=spacing)
    assert np.array_equal(zarr.open_array(output / "labels", mode="r")[:], label_in_tiles(*whole).compute())
    stored = pd.read_csv(output / "objects.csv")
    assert list(stored) == ["label", "z_um", "y_um", "x_um", "volume_um3", "intensity_mean"]
    assert len(table) > 5 and np.allclose(stored, table)
    assert counts_in(output).sum() == len(table)


def test_a_recording_is_labelled_and_measured_with_a_function_in_a_file(recording, tmp_path):
    """By workers that cannot import the file: it takes its folder out of the paths that they get."""
    finder = """if True:
        import sys
        from course_helpers.nuclei import segment_blobs
        sys.path[:] = [folder for folder in sys.path if not folder.endswith("mine")]
        def find(window, **numbers):
            return segment_blobs(window, **numbers)"""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "finder.py").write_text(finder)
    numbers = [f"{name}={json.dumps(number)}" for name, number in BLURS.items()]
    arguments = [*recording, "--segment", "mine/finder.py:find", "--workers", "1", "--with", *numbers]
    printed_by(SCRIPT, "result", *arguments, cwd=tmp_path)
    check_result(tmp_path / "result")


def test_a_record_gives_the_settings_and_a_dry_run_tells_the_files(script, recording, tmp_path, capsys, monkeypatch):
    output = tmp_path / "result"
    script.main([str(output), *recording, "--dry-run"])
    said = capsys.readouterr().out
    assert not output.exists() and "12 of (8, 64, 64) pixels, in 2 parts" in said
    monkeypatch.setattr(script, "cluster_of", in_this_process)
    script.main([str(output), *recording])
    check_result(output)
    chunks = [path for path in output.rglob("*") if path.is_file() and "/c/" in path.as_posix()]
    assert f"files: {len(chunks)} in" in said
    assert [image.partition(":")[2].split()[0] for image in open_image(output, number=0).images] == ["counts", "labels"]
    assert open_image(output, number=1).axes == "ZYX"


@pytest.mark.parametrize("axes, corrections", [("QZYX", ""), ("ZCYX", "--axes CZYX --pixel-size 1.5 0.5 0.5")])
def test_what_says_the_same_as_the_file_of_the_record_is_corrected(script, recording, axes, corrections):
    pixels = tifffile.imread("stack.ome.tif")
    zarr.create_array("bare.zarr", data=pixels, dimension_names=[name.lower() for name in axes])
    options = script.parsed(["unused", *recording, "--image", "bare.zarr", *corrections.split()])
    tiles, spacing = script.open_tiles(options)
    assert spacing == (1.5, 0.5, 0.5) and np.array_equal(tiles.compute(), pixels[0])
