"""memory.measure: peaks, limits, the many ways to die, and that nothing is left behind."""

import ctypes
import importlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import dask.array as da
import numpy as np
import psutil
import pytest
from processes import printed_by, wait_until

from course_helpers.memory import Measurement, measure

MIB = 2**20
posix = pytest.mark.skipif(os.name != "posix", reason="Windows has neither signals nor sessions")
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux refuses memory to a single process")


def filled(mebibytes):
    return np.ones(int(mebibytes * MIB), np.uint8)


def sum_of(mebibytes):
    return int(filled(mebibytes).sum())


def copies():
    first = filled(40)
    second = first + 1
    del first
    return second[0] + filled(30)[0]


def start_a_process():
    code = "data = b'1' * 100 * 2**20; print('ready', flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    time.sleep(1)  # long enough to be looked at
    child.communicate(b"\n")


BROUGHT_ALONG = filled(60)
TILES = da.ones((64, 2**20), chunks=(1, 2**20), dtype=np.uint8)
PEAKS = {
    "large": (partial(sum_of, 150), 146, 154),
    "all that exist at a time": (copies, 76, 84),
    "brought along": (lambda array=BROUGHT_ALONG: array[0], 56, 64),
    "some tiles of many": (partial(TILES.sum().compute, num_workers=2), 0, 12),
    "a module that is known": (lambda: da.__name__, 0, 4),
    "a module that the work imports itself": (lambda: importlib.import_module("dask.array").__name__, 8, 100),
    "a process that the work starts": (start_a_process, 95, 150),
}


@pytest.mark.parametrize(("work", "least", "most"), PEAKS.values(), ids=PEAKS)
def test_the_peak_is_what_the_work_takes_at_a_time(work, least, most):
    measurement = measure(work)
    assert measurement.died is None and np.array_equal(measurement.result, work())
    assert least <= measurement.peak / MIB < most


def test_time_and_curve():
    """Arrays leave the memory at once, also small ones, after larger ones, and with others behind them."""

    def up_and_down():
        filled(16)
        arrays = [filled(2) for _ in range(32)]
        time.sleep(0.3)
        del arrays[:-1]
        time.sleep(0.3)

    start = time.perf_counter()
    measurement = measure(up_and_down)
    assert 0.6 <= measurement.seconds < time.perf_counter() - start
    seconds, memory = measurement.curve
    assert seconds[0] == 0 and memory[0] == 0 and len(seconds) > 4
    assert (np.diff(seconds) > 0).all() and seconds[-1] <= measurement.seconds
    assert 60 * MIB < memory.max() <= measurement.peak and memory[-1] < 8 * MIB


def test_functions_of_a_script_and_large_results(tmp_path):
    """What is defined in __main__, as in a notebook, cannot be imported elsewhere; and a script runs once."""
    script = """if True:
        import numpy as np
        from course_helpers.memory import measure
        offset = 5
        def work(): return np.arange(5_000_000) + offset
        assert np.array_equal(measure(work).result, work())
        print('fine', __file__)"""
    (tmp_path / "script.py").write_text(script)
    assert printed_by("script.py", cwd=tmp_path) == f"fine {tmp_path / 'script.py'}\n"


def test_the_printed_form():
    assert repr(Measurement(3 * MIB, 0.127, 7, None, None)) == "<peak 3.0 MiB, 0.13 s, result 7>"
    assert repr(Measurement(0, 0, None, "left", None)) == "<peak 0.0 MiB, 0.00 s, died: left>"


TOO_MUCH = "killed, because it used more than the limit of 100 MiB"


@pytest.mark.parametrize("interval", [0.005, pytest.param(4, marks=linux)], ids=["seen", "between two looks"])
def test_growing_beyond_the_limit_is_the_end(interval, monkeypatch):
    monkeypatch.setattr("course_helpers.memory.INTERVAL", interval)
    measurement = measure(lambda: [filled(8) for _ in range(1000)], 100 * MIB)
    assert measurement.died == TOO_MUCH and measurement.result is None
    assert 100 * MIB < measurement.peak < 1000 * MIB


@linux
def test_too_much_at_once_is_refused():
    measurement = measure(partial(sum_of, 1000), "100 MiB")
    assert measurement.died.startswith("MemoryError: Unable to allocate 1000. MiB")
    assert measurement.peak < 20 * MIB


def load_once():
    return 0 if hasattr(sys, "loaded") else setattr(sys, "loaded", sum_of(50))


class Large:
    """Takes 50 MiB for a moment when a process loads it for the first time."""

    __reduce__ = lambda self: (load_once, ())  # noqa: E731


@linux
def test_a_peak_between_two_looks_counts_from_the_beginning_of_the_work(monkeypatch):
    monkeypatch.setattr("course_helpers.memory.INTERVAL", 4)
    large = Large()
    assert abs(measure(lambda: (sum_of(10), large)).peak / MIB - 10) < 4
    assert measure(partial(sum_of, 104), 100 * MIB).died == TOO_MUCH


def test_a_result_may_take_as_much_as_the_limit_on_its_way_back():
    measurement = measure(lambda: filled(80)[::2], 100 * MIB)  # not contiguous: sending it makes a copy
    assert measurement.died is None and measurement.result.nbytes == 40 * MIB


@pytest.mark.parametrize(
    "work, sentence",
    [
        (partial(signal.raise_signal, signal.SIGINT), "KeyboardInterrupt"),
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        (partial(sys.exit, 3), "SystemExit: 3"),
        (partial(os._exit, 3), "ended its process with exit code 3 before it returned"),
        pytest.param(partial(ctypes.string_at, 0), "crashed (SIGSEGV), which Python cannot catch", marks=posix),
        pytest.param(lambda: os.kill(os.getpid(), signal.SIGKILL), "killed from outside (SIGKILL)", marks=posix),
    ],
)
def test_how_it_died(work, sentence):
    measurement = measure(work)
    assert measurement.died.startswith(sentence) and measurement.result is None


def test_what_is_printed_appears(capfd, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)

    def work():
        threading.Thread(target=time.sleep, args=(1000,)).start()  # so that the process does not end by itself
        print("hällo")

    measure(work)
    assert capfd.readouterr().out == "hällo\n"


def assert_gone(*pids):
    """Processes end soon; what nobody waits for remains as a zombie for a while."""
    for pid in map(int, pids):
        wait_until(
            lambda pid=pid: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE,
            f"process {pid} has ended",
        )


SLEEPER = [sys.executable, "-c", "import time; time.sleep(1000)"]
ESCAPE = f"""
import os, subprocess
if os.fork() == 0:
    os.setsid()
    print(subprocess.Popen({SLEEPER}, stdout=2, start_new_session=True).pid)
"""


@pytest.mark.parametrize(
    "start",
    [
        lambda: subprocess.Popen(SLEEPER).pid,
        pytest.param(partial(subprocess.check_output, ["sh", "-c", "sleep 1000 > /dev/null & echo $!"]), marks=posix),
        pytest.param(partial(subprocess.check_output, [sys.executable, "-c", ESCAPE]), marks=linux),
    ],
    ids=["child", "orphan", "in a session of its own"],
)
def test_what_the_work_starts_is_ended_and_no_file_is_left(start, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert_gone(*measure(lambda: (os.getpid(), start())).result)
    assert list(tmp_path.iterdir()) == []


@posix
@pytest.mark.parametrize("end", ["SIGINT", "SIGKILL"])
def test_nothing_outlives_the_caller(end, tmp_path):
    """Ctrl-C ends the work and what it started; so does the death of the process that measures."""
    script = f"""if True:
        import os, subprocess, sys, time
        from course_helpers.memory import measure
        def work():
            child = subprocess.Popen({SLEEPER})
            with open("new", "w") as file: file.write(f"{{os.getpid()}} {{child.pid}}")
            os.replace("new", "pids")
            time.sleep(1000)
        measure(work)"""
    caller = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    wait_until((tmp_path / "pids").exists, "the work has begun")
    caller.send_signal(signal.Signals[end])
    assert ("KeyboardInterrupt" in caller.communicate(timeout=60)[1]) == (end == "SIGINT")
    assert_gone(*(tmp_path / "pids").read_text().split())


@pytest.mark.parametrize(
    "work, words",
    [
        (sum_of, "work needs arguments (missing a required argument: 'mebibytes')"),
        (threading.Lock().acquire, "work cannot be sent to another process"),
        (lambda: (i for i in "ab"), "result cannot be sent back from the process (TypeError: cannot pickle"),
    ],
)
def test_work_that_does_not_come_alone_is_refused(work, words):
    with pytest.raises(TypeError, match=re.escape(words)):
        measure(work)


def test_a_process_that_cannot_start(monkeypatch):
    monkeypatch.setattr("course_helpers.memory.run", os._exit)  # which takes one argument, and gets three
    with pytest.raises(RuntimeError, match="did not start: it ended its process with exit code 1"):
        measure(print)
