"""Exercises that are no tables yet: goes away with the last `check_for`. New ones follow `form`."""

from types import SimpleNamespace

import numpy as np

from course_helpers.exercises.running import Nearly, Unanswered, Wrong, described, is_lazy, is_written, shown  # noqa: F401

checks = {}


def check_for(number, hints):
    """Decorator: make a function the check of an exercise, with hints from gentle to telling."""

    def register(check):
        def judge(*answers):
            if not answers or any(answer is ... for answer in answers):
                raise Unanswered("not answered yet. Replace the ... above and run both cells again.")
            return check(*answers)

        checks[number] = SimpleNamespace(judge=judge, hints=hints, seconds=None, mistakes={})
        return check

    return register


def computed(value, remedy="Call .compute() on it."):
    """The value itself; Wrong if it is None or has not been computed yet."""
    if value is None:
        raise Wrong("the answer is None. Did the cell above run?")
    if is_lazy(value):
        raise Wrong(f"this is still a plan of dask's, nothing is computed yet. {remedy}")
    return value


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
