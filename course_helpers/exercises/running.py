"""Run what a learner wrote: in a thread that can be stopped, with copies of the arguments, and in silence."""

import contextlib
import copy
import ctypes
import dis
import inspect
import io
import shutil
import tempfile
import textwrap
import threading
import time
import tracemalloc
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np

SECONDS_OF_SILENCE = 0.7


class Wrong(Exception):
    """The answer is not right; the message says what about it, without giving the right one away."""


class Nearly(Exception):
    """The answer is accepted as an approximation; the message says what an exact one would be."""


class Unanswered(Exception):
    """There is no answer yet; the message says what to do."""


class Raised(Wrong):
    """A learner's function raised an exception; `error` describes it."""

    error = ""


class Stopped(BaseException):
    """Raised in a thread that takes too long. No ``except Exception:`` of a learner catches it."""


class Nowhere(io.TextIOBase):
    """Takes what a learner's code prints, however much it is."""

    def write(self, text):
        return len(text)


class Work(threading.Thread):
    """A check at work: what it is doing, since when, and what came out."""

    def __init__(self, judge):
        super().__init__(daemon=True)
        self.judge, self.praise, self.error = judge, None, None
        self.done = threading.Event()  # join() takes a thread for ended if a KeyboardInterrupt comes while it waits
        self.begin("looking at the answer")

    def begin(self, doing, limited=True):
        """Tell what comes next. A step has the seconds of its exercise; those that run no code of a learner have no limit."""
        self.doing, self.since = doing, time.monotonic() if limited else float("inf")

    def run(self):
        try:
            with np.errstate(all="ignore"):  # each thread has its own
                self.praise = self.judge()
        except BaseException as error:
            self.error = error
        finally:
            self.done.set()

    def stop(self):
        """Raise `Stopped` in this thread; whether it ended. Code in C, or with a bare ``except:``, may go on."""
        end = time.monotonic() + 1
        while not self.done.is_set() and time.monotonic() < end:
            if self.ident:  # else it is about to begin
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident), ctypes.py_object(Stopped))
            self.done.wait(0.1)
        return self.done.is_set()


@contextlib.contextmanager
def silence():
    """What is printed or warned of must not drown the one line of feedback, and is not shown."""
    with contextlib.redirect_stdout(Nowhere()), contextlib.redirect_stderr(Nowhere()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def finish(judge, seconds, still=None):
    """What `judge` returns or raises; Wrong if one of its steps takes longer than so many seconds.

    Parameters
    ----------
    judge : callable
        Without arguments. It works in `silence`.
    seconds : float
        For each step.
    still : callable, optional
        Told once, within a second, what is being done.
    """
    if isinstance(threading.current_thread(), Work):
        raise Wrong("a check is called in what is checked, and would never end. Call it in a cell of its own.")
    with silence():
        work = Work(judge)
        begun = work.since
        try:
            work.start()  # which may be interrupted when the thread has begun
            while not work.done.wait(0.05):  # short, because on Windows nothing interrupts a long one
                if still and time.monotonic() - begun > SECONDS_OF_SILENCE:
                    still = still(work.doing)
                if time.monotonic() - work.since > seconds:
                    doing = work.doing
                    goes_on = "" if work.stop() else " It goes on in the background until you restart the kernel."
                    raise Wrong(
                        f"{doing} took longer than {seconds:g} seconds and was stopped. Does a loop of yours never "
                        f"end, or is there far more to do than needed?{goes_on}"
                    )
        except (KeyboardInterrupt, SystemExit):
            work.stop()
            raise
    if work.error is not None:
        raise work.error
    return work.praise


def begin(doing, limited=True):
    """Tell whoever waits for this check what it does next."""
    if isinstance(threading.current_thread(), Work):
        threading.current_thread().begin(doing, limited)


def call(learners, *arguments, given):
    """What the learner's function returns; `given` says in words what it is called with.

    Wrong in words if it raises, cannot take so many arguments or returns None; Unanswered if its body is not written yet.
    """
    begin(f"your function, called with {given},")
    try:
        result = learners(*arguments)
    except (Exception, SystemExit) as error:
        reason = Raised(why_it_raises(learners, arguments, given, error))
        reason.error = described(error)
        raise reason from None
    if inspect.iscoroutine(result):
        result.close()
    if result is not None and result is not ...:
        return result
    if is_written(learners):
        prints = " It prints, but what is printed is not returned." * ("print" in names_used(learners))
        raise Wrong(f"your function returns None for {given}. Does every way through it end with return?{prints}")
    raise Unanswered("your function returns nothing yet. Write its body and let it end with return.")


def why_it_raises(learners, arguments, given, error):
    """A sentence about the exception of a learner's function."""
    with contextlib.suppress(ValueError):  # some functions of C tell nothing about their arguments
        try:
            inspect.signature(learners).bind(*arguments)
        except TypeError:
            takes = len(inspect.signature(learners).parameters)
            return f"your function takes {takes} argument{'s' * (takes != 1)}, but is called with {len(arguments)}: {given}."
    return f"called with {given}, your function raises {described(error)}.{about_notebook(learners)}"


def is_written(learners):
    """Whether a function that returns None does anything at all."""
    code = code_of(learners)
    nothing = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE"}
    return code is None or not {step.opname for step in dis.get_instructions(code)} <= nothing


def code_of(learners):
    """The code of a function, also of one that is wrapped, such as a delayed one; None if it is not written in Python."""
    return getattr(inspect.unwrap(learners), "__code__", None)


def codes(code):
    """The code of a function, and that of the functions in it."""
    if code is not None:
        yield code
        for part in code.co_consts:
            if hasattr(part, "co_names"):
                yield from codes(part)


def names_used(learners):
    """All names in the code of a function that are neither its arguments nor its variables."""
    return {name for code in codes(code_of(learners)) for name in code.co_names}


def about_notebook(learners, kinds=object, begin=" Your"):
    """A sentence about data of these kinds in the notebook that a function uses beside its arguments; empty if it uses none.

    Of functions of the notebook that it calls, numbers and arrays count only. It is appended to another sentence, unless
    `begin` says otherwise.
    """
    known = getattr(inspect.unwrap(learners), "__globals__", {})
    own = globals_used(learners, known)
    helpers = [known[name] for name in own if getattr(known[name], "__globals__", None) is known]
    theirs = {
        name
        for helper in helpers
        for name in globals_used(helper, known)
        if isinstance(known[name], (int, float, np.ndarray, np.number)) or is_lazy(known[name])
    }
    data = sorted(
        name
        for name in own | theirs
        if isinstance(known[name], kinds)
        and not callable(known[name])
        and not isinstance(known[name], ModuleType)
        and not name.isupper()
    )
    names = " and ".join(data)
    return f"{begin} function uses {names} of the notebook. Here it is given something else." if data else ""


def globals_used(function, known):
    """The global names that a function uses."""
    steps = [step for code in codes(code_of(function)) for step in dis.get_instructions(code)]
    return {step.argval for step in steps if step.opname == "LOAD_GLOBAL"} & set(known)


def handed(argument, folder):
    """A copy of an argument for the learner's function to work on; that of a file or store lies in the folder."""
    if isinstance(argument, Path):
        own = Path(tempfile.mkdtemp(dir=folder)) / argument.name
        if argument.exists():
            shutil.copytree(argument, own) if argument.is_dir() else shutil.copy2(argument, own)
        return own
    is_table = hasattr(argument, "iloc") and hasattr(argument, "equals")
    return copy.deepcopy(argument) if is_table or isinstance(argument, (np.ndarray, list, dict, set)) else argument


def is_unchanged(own, argument):
    """Whether a copy that was handed out still has the content, shape and type that it had."""
    if isinstance(argument, Path):
        return files(own) == files(argument)
    if isinstance(argument, np.ndarray):
        return (own.shape, own.dtype, own.tobytes()) == (argument.shape, argument.dtype, argument.tobytes())
    if hasattr(argument, "iloc"):
        return own.equals(argument)
    if is_lazy(argument):
        return own is argument or is_unchanged(own.compute(), argument.compute())
    if isinstance(argument, list) and any(isinstance(entry, np.ndarray) for entry in argument):
        return len(own) == len(argument) and all(map(is_unchanged, own, argument))
    return not isinstance(argument, (list, dict, set)) or own == argument


def files(path):
    """The content of a file, or of all files below a folder, by their names."""
    return {str(file.relative_to(path)): file.read_bytes() for file in [path, *path.rglob("*")] if file.is_file()}


class Traced:
    """Within, `now` tells how many bytes are allocated beyond those of the beginning; after it, `peak` the most."""

    def __enter__(self):
        tracemalloc.start()
        tracemalloc.reset_peak()  # a cell that failed half-way may have left it on, with a peak of its own
        self.before = tracemalloc.get_traced_memory()[0]
        return self

    def __exit__(self, *error):
        if not tracemalloc.is_tracing():
            raise Wrong("your function stops tracemalloc, with which this check measures.")
        self.peak = tracemalloc.get_traced_memory()[1] - self.before
        tracemalloc.stop()

    def now(self):
        return tracemalloc.get_traced_memory()[0] - self.before


def described(error):
    """An exception in a few words: its type and the first words of its message."""
    with contextlib.suppress(Exception):
        return f"{type(error).__name__}: {textwrap.shorten(str(error), 150, placeholder=' …')}".rstrip(": .")
    return type(error).__name__


def shown(value):
    """A value as it appears in a message: short, and never a failure."""
    with contextlib.suppress(Exception):
        if isinstance(value, (bool, int, float, str, np.number)):
            value = value.item() if isinstance(value, np.number) else value
            text = repr(float(f"{value:.6g}") if isinstance(value, float) and abs(value) < 1e5 else value)
            return text if len(text) <= 40 else text[:37] + "..."
        if value is None:
            return "None"
        if hasattr(value, "shape") and hasattr(value, "dtype"):
            kind = "a dask array" if is_lazy(value) else "a masked array" if np.ma.isMaskedArray(value) else "an array"
            return f"{kind} of shape {tuple(value.shape)} and dtype {value.dtype}"
        if isinstance(value, (list, tuple, dict, set, frozenset, range)):
            with np.printoptions(legacy="1.25"):  # 5 instead of np.int64(5)
                text = repr(value) if len(value) < 30 else ""
            return text if 0 < len(text) <= 60 else f"a {type(value).__name__} with {len(value)} entries"
    return f"an object of type {type(value).__name__}"


def is_lazy(value):
    """Whether a value is a dask collection, such as a dask array or what a delayed function returns."""
    return hasattr(value, "__dask_graph__") and not isinstance(value, type)
