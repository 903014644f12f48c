"""The script for clusters, count_on_cluster.py, in the queue of a real SLURM (see slurm.py).

Skipped where SLURM is missing, unless COURSE_SLURM_TESTS=required.
"""

import random
import signal
import subprocess
from unittest.mock import Mock

import dask
import numpy as np
import psutil
import pytest
from processes import python, wait_until
from slurm import answer, jobs, no_jobs_left
from strangers import assert_only_keys_open, listening
from test_cluster_script import PARTS, SCRIPT, SMALL, begun, counts_in, files_of, wait_for_part

from course_helpers import clusters

SLURM = [*SMALL, "--cluster", "slurm", "--workers", "2"]
SLOW = """
import time
from course_helpers import nuclei

def slowly(*arguments, seeds=nuclei.seed_nuclei, **named):
    time.sleep(0.3)
    return seeds(*arguments, **named)

nuclei.seed_nuclei = slowly
"""


@pytest.fixture(autouse=True)
def queue(slurm, tmp_path, monkeypatch):
    """An empty queue for each test, whose jobs leave what they say in its folder; a lost worker is noticed soon."""
    monkeypatch.setenv("DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT", "1s")  # in runs of the script, and here:
    monkeypatch.setitem(dask.config.get("distributed.deploy"), "lost-worker-timeout", "1s")
    monkeypatch.chdir(tmp_path)
    yield
    no_jobs_left()


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """Workers that take their time, so that there is some left for what a test does meanwhile."""
    (tmp_path / "slow.py").write_text(SLOW)
    monkeypatch.setenv("DASK_DISTRIBUTED__WORKER__PRELOAD", str([str(tmp_path / "slow.py")]))


@pytest.fixture(scope="module")
def expected(script):
    """The right counts."""
    return script.plan(script.parsed(["unused", *SLURM]))[1].compute(scheduler="threads")


def ended(*arguments, output="counts.zarr"):
    """A run of the script in this queue that has come to its end."""
    return python(SCRIPT, output, *SLURM, *arguments, cwd=".")


def test_the_workers_of_a_queue_listen_to_the_script_only(script, tmp_path):
    before = listening([psutil.Process()])
    with script.cluster_of(script.parsed(["counts.zarr", "--cluster", "slurm", "--workers", "1"])) as cluster:
        assert_only_keys_open(cluster, before)
        (keys,) = tmp_path.glob(".*")
        assert list(keys.glob("*key")) and keys.stat().st_mode & 0o777 == 0o700
    assert not list(tmp_path.glob(".*"))


@pytest.mark.usefixtures("slow")
def test_jobs_that_are_killed_are_replaced_and_the_counts_are_exact(tmp_path, expected):
    """One is killed, later all get what SLURM sends at the end of the wall time: SIGTERM, then SIGKILL."""
    output = tmp_path / "counts.zarr"
    with begun(output, 1, *SLURM) as run:
        answer("scancel", "--signal=KILL", random.choice(wait_until(lambda: jobs("running"), "a job runs")))
        wait_for_part(run, 5)
        for job in jobs():
            answer("scancel", job)
        printed, message = run.communicate(timeout=300)
    assert run.returncode == 0, message
    stored = [line.split(", about")[0] for line in printed.splitlines() if " is stored" in line]
    assert stored == [f"part {number} of {PARTS} is stored" for number in range(6, PARTS + 1)]
    assert np.array_equal(counts_in(output), expected)
    assert not jobs() and not list(tmp_path.glob(".*")), "no job, no key and no lock is left"


def test_a_worker_ends_before_its_wall_time_does_it_and_is_replaced(script, tmp_path):
    options = script.parsed(["counts.zarr", "--cluster", "slurm", "--workers", "1", "--walltime", "00:00:05"])
    with script.cluster_of(options) as cluster:
        first = wait_until(lambda: set(cluster.scheduler_info["workers"]), "a worker has come")
        wait_until(lambda: set(cluster.scheduler_info["workers"]) - first, "another one has come")
    said = [file.read_text() for file in tmp_path.glob("slurm-*.out")]
    assert len(said) > 1 and "worker-lifetime-reached" in "".join(said)


@pytest.mark.usefixtures("slow")
def test_a_second_run_is_refused_until_the_first_is_killed_and_then_resumes_it(tmp_path, expected):
    output = tmp_path / "counts.zarr"
    with begun(output, 2, *SLURM) as run:
        run.send_signal(signal.SIGSTOP)  # it does not come to its end meanwhile
        second = ended()
        run.kill()
    assert second.returncode == 1 and "is being written by somebody else" in second.stderr
    kept = files_of(output)
    third = ended()
    assert third.returncode == 0, third.stderr
    assert third.stdout.startswith(f"{len(files_of(output)) - third.stdout.count(' is stored')} of {PARTS} parts")
    assert kept.items() <= files_of(output).items() and np.array_equal(counts_in(output), expected)
    wait_until(lambda: not jobs(), "the jobs of the killed run have noticed")


def said_in_the_end(script, capsys):
    """What the script says when no worker has come; it ends with the code of what can be tried again."""
    with pytest.raises(SystemExit) as end:
        script.main(["counts.zarr", *SLURM])
    assert end.value.code == 3
    return capsys.readouterr().err


def test_a_run_without_workers_ends_with_a_sentence(script, capsys, monkeypatch):
    monkeypatch.setattr(clusters, "PATIENCE", 6)
    answer("scontrol", "update", "PartitionName=tests", "State=DOWN")
    try:
        message = said_in_the_end(script, capsys)
    finally:
        answer("scontrol", "update", "PartitionName=tests", "State=UP")
    assert message.count("\n") == 2 and "squeue says: 2 PENDING (PartitionDown)" in message
    assert f"0 of {PARTS} parts are stored. Run the same line again" in message


def test_a_run_waits_for_its_turn_in_the_queue(script, capsys, monkeypatch):
    """All processors are taken; when it has said that it waits, its jobs are cancelled."""
    monkeypatch.setattr(clusters, "PATIENCE", 6)
    answer("sbatch", "--ntasks=4", "--wrap=sleep 1000", "--output=/dev/null")
    wait_until(lambda: jobs("running"), "all processors are taken")
    said = Mock(side_effect=lambda *text, **_: "PENDING (Resources)" in f"{text}" and no_jobs_left())
    monkeypatch.setattr(clusters, "print", said, raising=False)
    assert "no job of this run is in the queue" in said_in_the_end(script, capsys)


def test_what_slurm_does_not_take_is_refused_before_work_starts():
    refused = ended("--queue", "nowhere")
    assert refused.returncode == 1 and "invalid partition specified: nowhere" in refused.stderr
    assert "Traceback" not in refused.stderr and not jobs()


def test_a_run_ends_when_the_disk_is_full_and_is_exact_when_there_is_room_again(tmp_path, expected):
    """The file system holds 20 blocks of 4 kiB: two files of metadata and three of keys take five of them."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80k", "none", disk]).returncode:
        pytest.skip("no small file system can be mounted here")
    try:
        output, filler = disk / "counts.zarr", disk / "filler"
        for blocks in (20, 12):
            filler.write_bytes(bytes(4096 * blocks))
            full = ended(output=output)
            assert full.returncode == 1 and "No space left" in full.stderr and "Traceback" not in full.stderr
        assert f"0 of {PARTS} parts are there" in full.stdout and 0 < len(files_of(output)) < PARTS
        assert f"{len(files_of(output))} of {PARTS} parts are stored" in full.stderr
        filler.unlink()
        assert ended(output=output).returncode == 0
        assert np.array_equal(counts_in(output), expected)
    finally:
        no_jobs_left()
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_workers_without_enough_memory_end_the_run():
    options = ["--memory", "400MB", "--shape", "6000", "6000", "--tile", "6000", "6000"]
    killed = ended(*options)
    assert killed.returncode == 1 and "Traceback" not in killed.stderr
    assert "0 of 1 parts are stored. Run this again, with more than --memory 400MB" in killed.stderr
