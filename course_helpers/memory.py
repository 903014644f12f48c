"""Measure memory and time of a piece of work, in a process of its own that may run out of memory without harm."""

import contextlib
import inspect
import multiprocessing
import os
import pickle
import reprlib
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import psutil

from course_helpers._arguments import number_of_bytes
from course_helpers._engine.measured_process import in_words, memory, run

INTERVAL = 0.005  # seconds between two looks at the memory of the process
SMALLEST_LIMIT = 2**24  # what Python itself may need on the way, for example to format an error message


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
    curve : ndarray of float64, shape (2, n)
        Seconds since the work began, and memory in bytes. There is a sample every 5 ms, so that it misses shorter peaks.
    """

    peak: int
    seconds: float
    result: Any
    died: str | None
    curve: np.ndarray

    def __repr__(self):
        facts = f"peak {self.peak / 2**20:.1f} MiB, {self.seconds:.2f} s"
        return f"<{facts}, " + (f"died: {self.died}>" if self.died else f"result {reprlib.repr(self.result)}>")


def measure(work, memory_limit=None):
    """Run a function in a process of its own; report its memory, time and result, or how it died.

    Memory counts from the moment at which the process has started and imported the modules that the work uses: 0 is
    a Python that is ready to begin. Data that the work brings along, such as an array in a variable of the notebook,
    counts; so do modules that it imports itself. Measured is the resident memory of the process and of all
    processes that it starts (whose own Python counts, too). Memory that is asked for but never written to takes no
    room, and is not seen; pages of mapped files are. Expect an error of 1 to 3 MiB. The peak is the operating system's
    own record where it keeps one (Linux; macOS and Windows if it is above what the start took), else that of the curve.

    When the call returns, or is interrupted, the process and those that it started have ended.

    Parameters
    ----------
    work : callable
        A function without arguments; `functools.partial` turns another one into such. It may be defined in a notebook.
    memory_limit : int or str, optional
        How much the work may take, counted like the peak: bytes, or text such as "200 MiB" or "1 GB". On Linux, a
        request that goes beyond the limit at once fails with a MemoryError in Python, as on a computer without room.
        (Room for the stacks of threads comes on top.) On all systems, the process is ended as soon as it uses
        more than the limit, as by an operating system that runs out of memory. macOS and Windows have this second
        guard only, which looks every few milliseconds: a fast program overshoots by some MiB.

    Returns
    -------
    Measurement
        With attributes ``peak`` (bytes), ``seconds``, ``result``, ``died`` (None or a sentence) and ``curve``.

    Raises
    ------
    TypeError
        If the work is not callable without arguments, the limit is neither number nor text, or the work or its result
        cannot be sent between processes.
    ValueError
        If the limit is no number of bytes, or less than Python itself needs.
    RuntimeError
        If no process can be started.

    Examples
    --------
    >>> measure(lambda: sum(range(1000)), memory_limit="100 MiB").result
    499500
    """
    pickled = _pickled(work)
    limit = inf if memory_limit is None else number_of_bytes(memory_limit, "memory_limit", SMALLEST_LIMIT)
    context, family = multiprocessing.get_context("spawn"), set()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "work"
        file.write_bytes(pickled)
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=run, args=(file, limit, sender))
        try:
            with sender, _main_hidden():
                process.start()
            family.add(psutil.Process(process.pid))
            return _watched(process, family, receiver, limit)
        finally:
            _end(process, family)
            receiver.close()


def _pickled(work):
    if not callable(work):
        raise TypeError(f"work is {reprlib.repr(work)}, but must be a function. Hand it over without calling it.")
    try:
        inspect.signature(work).bind()
    except ValueError:
        pass  # some compiled functions do not tell their arguments
    except TypeError as error:
        raise TypeError(f"work needs arguments ({error}). Write lambda: work(...) or functools.partial.") from None
    try:
        return cloudpickle.dumps(work)
    except Exception as error:
        raise TypeError(
            f"work cannot be sent to another process ({error}). It uses something that lives in this one only, such "
            "as an open file, a lock or a generator: let the function make it."
        ) from error


@contextlib.contextmanager
def _main_hidden():
    """Keep multiprocessing from running a script once more in the process that it starts: the work brings all along."""
    main = vars(sys.modules["__main__"])
    hidden = {name: main[name] for name in ("__spec__", "__file__") if name in main}
    main.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        main.update(hidden)


def _watched(process, family, receiver, limit):
    """The Measurement of a process from its beginning; ends it if it takes more than the limit."""
    fresh = _message(process, receiver)
    if fresh is None:
        raise RuntimeError(f"The process in which to measure did not start: it {_how_it_ended(process)}.")
    begun, listed, samples, killed = time.perf_counter(), -inf, [(0.0, 0)], False
    while not killed and not receiver.poll(INTERVAL):
        moment = time.perf_counter() - begun
        if moment - listed > 0.1:  # on a computer with many processes, the list takes a while
            _add_children(family)
            listed = moment
        used = sum(map(memory, family)) - fresh
        if receiver.poll() or not process.is_alive():  # the work is over: what its result takes does not count
            break
        samples.append((moment, used))
        killed = used > limit
    report = None if killed else _message(process, receiver)
    seconds, peak, died = report or (samples[-1][0], 0, None)
    curve = np.array([sample for sample in samples if sample[0] <= seconds]).T
    peak = int(max(peak, curve[1].max()))
    if peak > limit:  # also between two looks, and if then a request was refused
        died = f"killed, because it used more than the limit of {limit / 2**20:.0f} MiB"
    elif report is None:
        died = _how_it_ended(process)
    return Measurement(peak, seconds, None if died else _result(receiver), died, curve)


def _message(process, receiver):
    """What the process sends next; None if it ends without."""
    while process.is_alive() and not receiver.poll(INTERVAL):
        pass
    with contextlib.suppress(EOFError, OSError):
        return receiver.recv() if receiver.poll() else None


def _result(receiver):
    try:
        result, reason = pickle.loads(receiver.recv_bytes())
    except Exception as error:
        reason = in_words(error)
    if reason:
        raise TypeError(
            f"The result cannot be sent back from the process ({reason}). Return numbers, arrays or tables."
        )
    return result


def _how_it_ended(process):
    process.join()
    code = process.exitcode
    if os.name == "posix" and code == -signal.SIGKILL:
        return "killed from outside (SIGKILL), as by an operating system that runs out of memory"
    if code < 0 or code > 255:  # a signal, or an error code of Windows
        name = signal.Signals(-code).name if -code in set(signal.Signals) else hex(code)
        return f"crashed ({name}), which Python cannot catch"
    return f"ended its process with exit code {code} before it returned"


def _add_children(family):
    """Add what a set of processes started; those that lost their parent stay in it."""
    for member in list(family):
        with contextlib.suppress(psutil.Error):
            family.update(member.children(recursive=True))


def _end(process, family):
    """End a process, if it was started, and all that it started."""
    _add_children(family)
    if process.pid:
        with contextlib.suppress(AttributeError, OSError):  # Windows has no groups of processes
            os.killpg(process.pid, signal.SIGKILL)
        for member in family:
            with contextlib.suppress(psutil.Error):
                member.kill()  # psutil makes sure that it is still this one
        process.kill()
        process.join()
