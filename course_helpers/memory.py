"""Measure memory and time of a piece of work, in a process of its own that may run out of memory without harm."""

import contextlib
import gc
import importlib
import inspect
import numbers
import os
import pickle
import pickletools
import reprlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle
import numpy as np
import psutil
from dask.system import CPU_COUNT

INTERVAL = 0.005  # seconds between two looks at the memory of the process
SMALLEST_LIMIT = 2**24  # what Python itself may need on the way, for example to format an error message
ENVIRONMENT = {
    # Large arrays go back to the system as soon as they are deleted. By default, glibc keeps some for later.
    "MALLOC_MMAP_THRESHOLD_": "1048576",
    "MALLOC_TRIM_THRESHOLD_": "1048576",
    "PYTHONFAULTHANDLER": "1",
    "PYTHONUTF8": "1",
}
CHILD = (
    "import pickle, sys; request = pickle.load(sys.stdin.buffer); sys.path[:] = request['path'];"
    "from course_helpers.memory import _measured_process; _measured_process(request)"
)


class Curve(NamedTuple):
    """Memory over time: seconds since the work began, and bytes beyond those of the fresh process."""

    seconds: np.ndarray
    bytes: np.ndarray


@dataclass(frozen=True, repr=False)
class Measurement:
    """What `measure` found out.

    Attributes
    ----------
    peak : int
        The most memory in use at a time, in bytes beyond those of the fresh process.
    seconds : float
        How long the work took, or after which time it died.
    result : object
        What the work returned; None if it died.
    died : str or None
        How the work died, as a sentence; None if it did not.
    curve : Curve
        Arrays of seconds and bytes, for pictures.
    output : str
        What the work printed, and the traceback if it raised an error.
    """

    peak: int
    seconds: float
    result: Any
    died: str | None
    curve: Curve
    output: str

    def __repr__(self):
        facts = f"peak {self.peak / 2**20:.1f} MiB, {self.seconds:.2f} s"
        return f"<{facts}, " + (f"died: {self.died}>" if self.died else f"result {reprlib.repr(self.result)}>")


def measure(work, memory_limit=None):
    """Run a function in a process of its own; report its memory, time and result, or how it died.

    Memory counts from the moment at which the process has started and imported the modules that the work uses: 0 is
    a Python that is ready to begin. Data that the work brings along, such as an array in a variable of the notebook,
    counts; so do modules that it imports itself. Measured is the resident memory of the process and of all
    processes that it starts (whose own Python counts, too). Memory that is asked for but never written to takes no
    room, and is not seen; pages of mapped files are. Expect an error of 1 to 3 MiB.

    When the call returns, or is interrupted, the process and those that it started have ended.

    Parameters
    ----------
    work : callable
        A function without arguments; `functools.partial` turns another one into such. It may be defined in a notebook.
    memory_limit : int, optional
        How many bytes the work may take, counted like the peak. Without it, memory is measured only. On Linux, a
        request that goes beyond the limit at once fails with a MemoryError in Python, as on a computer without room.
        (Room for the stacks of threads comes on top.) On all systems, the process is ended as soon as it uses
        more than the limit, as by an operating system that runs out of memory. macOS and Windows have this second
        guard only, which looks every few milliseconds: a fast program overshoots by some MiB.

    Returns
    -------
    Measurement
        With attributes ``peak`` (bytes), ``seconds``, ``result``, ``died`` (None or a sentence), ``curve``, ``output``.
        The peak comes from the operating system's own record where it keeps one for this time (Linux; on macOS
        and Windows if it is above what the start took), and from the curve otherwise. The curve has a sample every 5
        ms, and misses shorter peaks.

    Raises
    ------
    TypeError
        If the work is not callable without arguments, or the work or its result cannot be sent between processes.
    ValueError
        If the limit is less than Python itself needs.
    RuntimeError
        If no process can be started.

    Examples
    --------
    >>> measurement = measure(lambda: sum(range(1000)), memory_limit=100 * 2**20)
    >>> measurement.result, measurement.died
    (499500, None)
    """
    _check(work, memory_limit)
    payload = _pickled(work)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "work").write_bytes(payload)
        request = {"path": sys.path, "folder": name, "modules": _modules_in(payload), "limit": memory_limit}
        with _Watched(folder, memory_limit) as watched:
            watched.start(request)
            watched.watch()
        return watched.measurement()


def _check(work, memory_limit):
    """Raise the errors of `measure` that need no process."""
    if not callable(work):
        raise TypeError(f"work is {reprlib.repr(work)}, but a function is needed: hand it over without calling it")
    with contextlib.suppress(ValueError):  # some compiled functions do not tell their arguments
        signature = inspect.signature(work)
        try:
            signature.bind()
        except TypeError as error:
            raise TypeError(f"work needs arguments ({error}): write lambda: work(...) or functools.partial") from None
    if memory_limit is None:
        return
    if isinstance(memory_limit, bool) or not isinstance(memory_limit, numbers.Real):
        raise TypeError(f"memory_limit is {reprlib.repr(memory_limit)}, but a number of bytes or None is needed")
    if not SMALLEST_LIMIT <= memory_limit < 2**62:
        raise ValueError(
            f"memory_limit is {memory_limit} bytes, but Python itself needs up to {SMALLEST_LIMIT} (16 MiB) on its way. "
            "The limit is in bytes: 200 * 2**20 are 200 MiB"
        )


def _pickled(work):
    try:
        return cloudpickle.dumps(work)
    except Exception as error:
        raise TypeError(
            f"work cannot be sent to another process ({error}). It uses something that lives in this one only, such "
            "as an open file, a lock or a generator: let the function make it"
        ) from error


def _modules_in(payload):
    """The loaded modules that a pickle names: imported before memory is measured, they do not count as data."""
    words = {argument for _, argument, _ in pickletools.genops(payload) if isinstance(argument, str)}
    return sorted(words & set(sys.modules) - {"__main__", "__mp_main__"})


class _Watched:
    """The process seen from outside: starts it, samples its memory, and ends it with all that it started."""

    def __init__(self, folder, limit):
        self.folder, self.limit = folder, limit
        self.samples, self.family, self.listed = [], set(), 0.0
        self.killed = False

    def __enter__(self):
        options = {"start_new_session": True} if os.name == "posix" else {"creationflags": subprocess.CREATE_NO_WINDOW}
        environment = {**os.environ, **ENVIRONMENT}
        command, pipe = [sys.executable, "-c", CHILD], subprocess.PIPE
        with open(self.folder / "output", "wb") as output:
            self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=output, env=environment, **options)
        return self

    def __exit__(self, *_):
        self.list_family()
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        for process in self.family:
            with contextlib.suppress(psutil.Error):
                process.kill()  # psutil makes sure that it is still this one
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def start(self, request):
        """Hand over what to do, and wait until the process is ready to begin."""
        with contextlib.suppress(OSError):  # a pipe without a reader, which has many names on Windows
            pickle.dump(request, self.process.stdin)
            self.process.stdin.flush()
        ready = self.process.stdout.readline().split()
        if not ready:
            raise RuntimeError(f"the process in which to measure did not start. {self.output()}")
        # On Windows, what was started may be a launcher, and Python its child.
        pid, self.fresh = map(int, ready)
        self.begun = time.perf_counter()
        with contextlib.suppress(psutil.NoSuchProcess):
            self.family.add(psutil.Process(pid))

    def list_family(self):
        for process in list(self.family):
            with contextlib.suppress(psutil.NoSuchProcess):
                self.family.update(process.children(recursive=True))
        self.listed = time.perf_counter()

    def memory(self):
        """Memory of the process and all that it started, in bytes beyond those of the fresh process."""
        if time.perf_counter() - self.listed > 0.1:  # on a computer with many processes, the list takes a while
            self.list_family()
        total = -self.fresh
        for process in self.family:
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
        return total

    def watch(self):
        """Sample the memory until the process ends; end it if it takes more than the limit."""
        while self.process.poll() is None:
            self.samples.append((time.perf_counter(), self.memory()))
            if self.limit and self.samples[-1][1] > self.limit and not (self.folder / "report").exists():
                self.killed = True
                return
            time.sleep(INTERVAL)

    def output(self):
        printed = (self.folder / "output").read_bytes()[-100_000:].decode(errors="replace")
        return printed.replace(os.linesep, "\n")

    def measurement(self):
        report = {"begun": self.begun, "ended": time.perf_counter(), "peak": 0, "died": None}
        with contextlib.suppress(OSError):
            report.update(pickle.loads((self.folder / "report").read_bytes()))
        died = report["died"] or (None if (self.folder / "report").exists() else self.how_it_ended())
        begun, ended = report["begun"], self.samples[-1][0] if self.killed else report["ended"]
        samples = [(0, 0)] + [(moment - begun, memory) for moment, memory in self.samples if begun <= moment <= ended]
        seconds, memory = np.array(samples).T
        peak = int(max(report["peak"], memory.max()))
        if self.killed or (self.limit and peak > self.limit and not died):  # a peak between two looks counts as well
            died = f"killed, because it used more than the limit of {self.limit / 2**20:.0f} MiB"
        return Measurement(peak, ended - begun, self.result(died), died, Curve(seconds, memory), self.output())

    def how_it_ended(self):
        """A sentence on a process that ended without a report."""
        code = self.process.returncode
        if os.name == "posix" and code == -signal.SIGKILL:
            return "killed from outside (SIGKILL), as by an operating system that runs out of memory"
        if code < 0 or code > 255:  # a signal, or an error code of Windows
            name = signal.Signals(-code).name if -code in set(signal.Signals) else hex(code)
            return f"crashed ({name}), which Python cannot catch"
        return f"ended its process with exit code {code} before it returned"

    def result(self, died):
        if died:
            return None
        try:
            with open(self.folder / "result", "rb") as file:
                return pickle.load(file)
        except Exception as error:
            reason = (self.folder / "unsent").read_text("utf-8") if (self.folder / "unsent").exists() else error
            raise TypeError(
                f"the result cannot be sent back from the process ({reason}). Return numbers, arrays or tables"
            ) from None


def _measured_process(request):
    """What the started process does: make ready, do the work, report, and send the result."""
    folder = Path(request["folder"])
    threading.Thread(target=_end_with_parent, args=(os.dup(0),), daemon=True).start()
    ready = _redirect()
    _import(request["modules"])
    gc.collect()
    _limit_requests(request["limit"])
    with contextlib.suppress(OSError):  # Linux: the record of the largest memory starts anew
        Path("/proc/self/clear_refs").write_text("5")
    fresh, before = psutil.Process().memory_info().rss, _largest_memory()
    os.write(ready, b"%d %d\n" % (os.getpid(), fresh))
    os.close(ready)
    report = {"begun": time.perf_counter(), "died": None}
    result = None
    try:
        with open(folder / "work", "rb") as file:
            work = pickle.load(file)
        result = work()
    except BaseException as error:
        traceback.print_exception(type(error), error, error.__traceback__.tb_next)
        report["died"] = _in_words(error)
    report["ended"] = time.perf_counter()
    report["peak"] = _largest_memory() - fresh if _largest_memory() > before else 0
    _limit_requests(None)
    (folder / "report.new").write_bytes(pickle.dumps(report))
    os.replace(folder / "report.new", folder / "report")
    _send(result, folder)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # does not wait for threads that the work left behind


def _import(modules):
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    if "dask.array" in sys.modules:
        importlib.import_module("distributed")  # else dask does it when it computes for the first time


def _redirect():
    """Let all that is printed go where errors go, to a file, and nothing be read; return the former standard output."""
    ready = os.dup(1)
    os.dup2(2, 1)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    return ready


def _end_with_parent(pipe):
    """Wait until the parent closes the pipe, at the latest by its own end; then end what was started here, and this."""
    os.read(pipe, 1)
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            process.kill()
    os._exit(1)


def _limit_requests(limit):
    """On Linux, let requests for memory fail that go beyond the limit at once; None takes the limit away."""
    if sys.platform != "linux":
        return
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    if limit is not None:
        stack, _ = resource.getrlimit(resource.RLIMIT_STACK)
        stack = 2**23 if stack == resource.RLIM_INFINITY else stack
        used = int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0]) * 1024
        limit = int(used + limit + (CPU_COUNT + 2) * stack)
        limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
    resource.setrlimit(resource.RLIMIT_DATA, (most if limit is None else limit, most))


def _largest_memory():
    """The most memory that this process ever had, in bytes, as the operating system has recorded it."""
    with contextlib.suppress(OSError, IndexError):
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
    if os.name == "nt":
        return psutil.Process().memory_info().peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _in_words(error):
    if isinstance(error, SystemExit):
        return f"left with sys.exit({'' if error.code is None else reprlib.repr(error.code)})"
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _send(result, folder):
    try:
        with open(folder / "result", "wb") as file:
            cloudpickle.dump(result, file)
    except Exception as error:
        (folder / "unsent").write_text(_in_words(error), "utf-8")
