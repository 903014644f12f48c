"""The script for clusters, count_on_cluster.py, in the queue of a real SLURM (see slurm.py).

Skipped where SLURM is missing, unless COURSE_SLURM_TESTS=required.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import zarr
from strangers import assert_only_keys_open, listening

SCRIPT = Path(__file__).parents[1] / "notebooks" / "count_on_cluster.py"
SLIDE = ["--shape", "1000", "3000", "--tile", "250"]

pytestmark = pytest.mark.usefixtures("slurm")


def run(output, *options):
    """Run the script to its end, in the folder of its output, where SLURM leaves what the jobs say."""
    command = [sys.executable, str(SCRIPT), str(output), *SLIDE, *options]
    return subprocess.run(command, cwd=output.parent, capture_output=True, text=True, timeout=300)


def test_the_count_in_the_queue_is_that_of_this_machine(tmp_path):
    for name in ("local", "slurm"):
        ended = run(tmp_path / name, "--cluster", name)
        assert ended.returncode == 0, ended.stderr
    local, slurm = (zarr.open_array(tmp_path / name, mode="r")[:] for name in ("local", "slurm"))
    assert local.min() >= 0 and np.array_equal(slurm, local)


def test_the_workers_of_a_queue_listen_to_the_script_only(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = listening([psutil.Process()])
    with script.slurm_cluster(script.parsed(["counts.zarr", "--workers", "1"])) as cluster:
        assert_only_keys_open(cluster, before)
        keys = list(tmp_path.glob(".*key*"))
        assert keys and {file.stat().st_mode & 0o777 for file in keys} == {0o600}
