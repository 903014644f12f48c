"""What happens in the process that `memory.measure` starts. It imports little, so that it starts fast."""

import contextlib
import ctypes
import gc
import importlib
import multiprocessing
import os
import pickle
import sys
import threading
import time
from math import inf
from pathlib import Path

import cloudpickle
import psutil


def run(file, limit, sender):
    """Make ready, do the work, report, and send the result."""
    if os.name == "posix":
        os.setsid()  # a group of its own: no Ctrl-C reaches it, and all that it starts can be ended at once
    with contextlib.suppress(AttributeError):  # Linux: whose parent has ended becomes a child of this one, and is found
        ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
    threading.Thread(target=end_with_parent, daemon=True).start()
    make_ready(file)
    if limit < inf:
        limit_requests(limit)
    with contextlib.suppress(OSError):  # Linux: the record of the largest memory starts anew
        Path("/proc/self/clear_refs").write_text("5")
    fresh, before = memory(psutil.Process()), largest_memory()
    sender.send(fresh)
    begun, result, died = time.perf_counter(), None, None
    try:
        result = load(file)()
    except BaseException as error:
        died = in_words(error)
    seconds, largest = time.perf_counter() - begun, largest_memory()
    if limit < inf:
        limit_requests(inf)
    sender.send((seconds, largest - fresh if largest > before else 0, died))
    print(end="", flush=True)
    try:
        pickled = cloudpickle.dumps((result, None))
    except Exception as error:
        pickled = pickle.dumps((None, in_words(error)))
    sender.send_bytes(pickled)
    threading.Event().wait()  # to be ended with all that the work started, which could not be found without this parent


def make_ready(file):
    """Load the modules that the work uses, and let arrays go back to the system as soon as they are deleted."""
    with contextlib.suppress(AttributeError, TypeError):  # not every C library keeps some for later as glibc does
        ctypes.CDLL(None).mallopt(-3, 2**20)  # M_MMAP_THRESHOLD: arrays from 1 MiB
    with contextlib.suppress(Exception):
        load(file)
    if "dask.array" in sys.modules:
        importlib.import_module("distributed")  # else dask does it when it computes for the first time
    if "numba" in sys.modules:
        sys.modules["numba"].njit(lambda: 0)()  # else its compiler is loaded with the first compiled function
    gc.collect()


def memory(process):
    """Memory that a process uses, in bytes; 0 if it has ended."""
    with contextlib.suppress(psutil.Error):
        return process.memory_info().rss
    return 0


def load(file):
    with open(file, "rb") as opened:
        return pickle.load(opened)


def end_with_parent():
    """Wait for the end of the process that measures; then end what was started here, and this."""
    multiprocessing.parent_process().join()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            process.kill()
    os._exit(1)


def limit_requests(limit):
    """On Linux, let requests for memory fail that go beyond the limit at once."""
    if sys.platform == "linux":
        from dask.system import CPU_COUNT  # here, because most measurements do without dask, and start faster

        process = psutil.Process()
        _, most = process.rlimit(psutil.RLIMIT_DATA)
        soft = process.memory_info().data + limit + (CPU_COUNT + 2) * 2**23  # with the stacks of threads
        process.rlimit(psutil.RLIMIT_DATA, (int(min(soft, most % 2**63)), most))  # -1 is none


def largest_memory():
    """The most memory that this process ever had, in bytes, as the operating system has recorded it."""
    with contextlib.suppress(OSError, IndexError):
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
    if os.name == "nt":
        return psutil.Process().memory_info().peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def in_words(error):
    """How an exception ended the work."""
    return f"{type(error).__name__}: {error}".rstrip(": ")
