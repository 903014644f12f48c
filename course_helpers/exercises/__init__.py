"""Check an answer and give hints: ``exercise("1.1").check(answer)`` prints one line and never raises.

The checks of lesson N live in ``lesson_N.py``. Each is a function of the learner's answers. It returns the sentence that
follows "correct", raises `Wrong` with a sentence about this very answer, `Nearly` where an approximation is accepted, or
`Unanswered` with what to do next.
"""

import contextlib
import importlib
import importlib.util
import io
import re
import sys
import warnings

import numpy as np

from course_helpers.exercises import _progress

_checks = {}


class Wrong(Exception):
    """The answer is not right; the message says what about it, without giving the right one away."""


class Nearly(Exception):
    """The answer is accepted as an approximation; the message says what an exact one would be."""


class Unanswered(Exception):
    """There is no answer yet; the message says what to do."""


def check_for(number, hints):
    """Decorator: make a function the check of an exercise, with hints from gentle to telling."""

    def register(check):
        _checks[number] = Exercise(number, check, hints)
        return check

    return register


def exercise(number):
    """The exercise with this number, for example ``exercise("1.1")``.

    Parameters
    ----------
    number : str
        Lesson and exercise, separated by a dot.

    Returns
    -------
    Exercise
        Its ``check(answer)`` prints whether an answer is right, its ``hint()`` helps a little more each time.

    Raises
    ------
    ValueError
        If there is no exercise with this number.
    """
    parts = re.fullmatch(r"(\d+)\.\d+", str(number), re.ASCII)
    lesson = f"{__name__}.lesson_{parts[1]}" if parts else __name__
    if importlib.util.find_spec(lesson):
        importlib.import_module(lesson)
    if str(number) not in _checks:
        raise ValueError(f'there is no exercise {number!r}: use its number as a text, for example exercise("1.1")')
    return _checks[str(number)]


class Exercise:
    """One exercise: its number, the function that checks answers, its hints."""

    def __init__(self, number, check, hints):
        self._number, self._check, self._hints = number, check, hints
        self._hints_given, self._line, self._line_of_hint = 0, None, None

    def __repr__(self):
        return f'exercise("{self._number}"), with .check(answer) and .hint()'

    def check(self, *answers):
        """Print one line: ✓ and what was achieved, ✗ and what is wrong with this answer, or ○ if there is none yet."""
        try:
            # What the learner's own code prints or warns of must not drown the one line of feedback.
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                if not answers or any(answer is ... for answer in answers):
                    raise Unanswered("not answered yet. Replace the ... above and run both cells again.")
                symbol, message = "✓", f"correct. {self._check(*answers)}"
        except Nearly as reason:
            symbol, message = "✓", f"approximately right. {reason}"
        except Unanswered as reason:
            symbol, message = "○", str(reason)
        except Wrong as reason:
            symbol, message = "✗", str(reason)
        except (Exception, SystemExit) as error:
            symbol, message = (
                "✗",
                f"this answer could not be checked: {described(error)}. Is it what the task asks for?",
            )
        self._line = f"{symbol} Exercise {self._number}: {message}"
        say(self._line)
        _progress.note(self._number, symbol)

    def hint(self):
        """Print the next hint; the same one again after the last one, and while answers change; none after ✓."""
        if self._line and self._line.startswith("✓"):
            return say(f"No hint for exercise {self._number}: it is solved.")
        if self._hints_given == 0 or self._line == self._line_of_hint:
            self._hints_given += 1
        self._line_of_hint = self._line
        position = min(self._hints_given, len(self._hints)) - 1
        last = " (There are no more hints.)" if self._hints_given > len(self._hints) else ""
        say(f"Hint {position + 1} of {len(self._hints)} for exercise {self._number}: {self._hints[position]}{last}")


def progress(lesson=None):
    """Print which exercises are solved (✓), tried but not solved yet (✗) and not tried yet (○).

    The record stays on the computer that runs the notebook; an exercise that was solved once stays solved.

    Parameters
    ----------
    lesson : int, optional
        The number of a lesson, for example ``progress(5)``; all lessons without it.

    Raises
    ------
    ValueError
        If there is no lesson with this number.
    """
    for line in _progress.report(lesson):
        say(line, tidy=False)


def say(message, tidy=True):
    """Print one line, also where the terminal's encoding lacks the symbols; tidy: with single blanks between words."""
    line = " ".join(message.split()) if tidy else message
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(line.encode(encoding, "replace").decode(encoding))


def described(error):
    """An exception in a few words: its type and the first 150 characters of its message."""
    with contextlib.suppress(Exception):
        return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}".rstrip(": .")
    return type(error).__name__


def shown(value):
    """A value as it appears in a message: short, and never a failure."""
    with contextlib.suppress(Exception):
        if isinstance(value, (bool, int, float, str, np.number)):
            text = repr(value.item() if isinstance(value, np.number) else value)
            return text if len(text) <= 40 else text[:37] + "..."
        if value is None:
            return "None"
        if hasattr(value, "shape") and hasattr(value, "dtype"):
            kind = "a dask array" if is_lazy(value) else "an array"
            return f"{kind} of shape {tuple(value.shape)} and dtype {value.dtype}"
        if isinstance(value, (list, tuple, dict, set)):
            return f"a {type(value).__name__} with {len(value)} entries"
    return f"an object of type {type(value).__name__}"


def is_lazy(value):
    """Whether a value is a dask collection, such as a dask array or what a delayed function returns."""
    return hasattr(value, "__dask_graph__") and not isinstance(value, type)


def computed(value, remedy="Call .compute() on it."):
    """The value itself; Wrong if it is None or has not been computed yet."""
    if value is None:
        raise Wrong("the answer is None. Did the cell above run?")
    if is_lazy(value):
        raise Wrong(f"this is still a plan of dask's, nothing is computed yet. {remedy}")
    return value


def named(name, read, answer, **options):
    """What `read` makes of one of several answers; if it is Wrong, the message says which answer it is about."""
    try:
        return read(answer, **options)
    except Wrong as reason:
        raise Wrong(f"{name}: {reason}") from None


def number(answer):
    """The answer as a float; Wrong with the reason if it is not one finite number."""
    try:
        value = np.asarray(computed(answer))
    except ValueError:  # a ragged list, for example
        value = np.array(None)
    if value.ndim or value.dtype.kind not in "iuf":
        raise Wrong(f"the answer is {shown(answer)}, but one number is asked for.")
    if not np.isfinite(value):
        raise Wrong(f"the answer is {shown(answer)}, but a finite number is asked for.")
    return float(answer)


def whole_number(answer):
    """The answer as an int; Wrong with the reason if it is not one whole number."""
    value = number(answer)
    if not value.is_integer():
        raise Wrong(f"the answer is {shown(answer)}, but a whole number is asked for.")
    return int(value)


def function(answer):
    """The answer; Wrong with the reason if it cannot be called."""
    if not callable(answer):
        raise Wrong(f"the answer is {shown(answer)}, but a function is asked for: hand it over without calling it.")
    return answer


def call(learners_function, *arguments, given=None):
    """What the learner's function returns; `given` says in words what it is called with.

    Raises Wrong in words if it raises or returns None, Unanswered if its body is not written yet.
    """
    given = given or ", ".join(map(shown, arguments))
    try:
        result = learners_function(*arguments)
    except (Exception, SystemExit) as error:
        raise Wrong(f"called with {given}, your function raises {described(error)}.") from None
    return returned(learners_function, result, given)


def returned(learners_function, result, given):
    """The result of the learner's function; Wrong if it is None, Unanswered if its body is not written yet."""
    if result is not None and result is not ...:
        return result
    if is_written(learners_function):
        raise Wrong(f"your function returns None for {given}. Does every way through it end with return?")
    raise Unanswered("your function returns nothing yet. Write its body and let it end with return.")


def is_written(learners_function):
    """Whether a function that returns None has a body at all: that of a stub uses no name."""
    return bool(getattr(getattr(learners_function, "__code__", None), "co_names", ()))


def array(answer, shape=None, remedy="Call .compute() on it."):
    """The answer as a NumPy array of numbers; Wrong with the reason if it is none, or has another shape."""
    answer = computed(answer, remedy)
    try:
        values = np.asarray(answer)
    except Exception as error:
        raise Wrong(f"the answer is {shown(answer)}, not an array: {described(error)}.") from None
    if values.dtype.kind not in "biuf":
        raise Wrong(f"the answer is {shown(answer)}, but an array of numbers is asked for.")
    if shape is not None and values.shape != tuple(shape):
        raise Wrong(f"the answer has shape {values.shape}, but {tuple(shape)} is asked for.")
    return values
