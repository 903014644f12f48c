"""The mechanism behind exercise("1.1").check(answer) and .hint()."""

import contextlib
import io
import re
import signal
import sys
import threading
import time
import warnings

import dask.array as da
import numpy as np
import pytest

from course_helpers import exercises
from course_helpers.exercises import Exercise, Nearly, Unanswered, Wrong, exercise, running
from course_helpers.exercises.form import Form, Function, Parts, Value, whole_number


@pytest.fixture
def example(monkeypatch):
    """A function that makes a check, or a form, exercise 99.1 for one test."""

    def make(check):
        form = check if isinstance(check, Form) else Form()
        form.hints = ["look left", "look right"]
        if form is not check:
            form.judged = check
        monkeypatch.setitem(exercises.LESSONS, 99, ("Test", 1))
        monkeypatch.setitem(exercises._asked_for, "99.1", Exercise("99.1", form))

    return make


def three(answer):
    """The check of an exercise whose answer is 3."""
    if answer is None:
        raise Unanswered("nothing yet.")
    if answer == 3.1:
        raise Nearly("A little less.")
    if isinstance(answer, BaseException):
        raise answer
    if answer != 3:
        raise Wrong(f"{answer} is not 3.")
    return "Well counted."


def test_right_wrong_and_unanswered(example, line_of):
    example(three)
    assert line_of("99.1", 3) == "✓ Exercise 99.1: correct. Well counted.\n"
    assert line_of("99.1", 4) == "✗ Exercise 99.1: 4 is not 3.\n"
    assert line_of("99.1", 3.1) == "✓ Exercise 99.1: approximately right. A little less.\n"
    assert line_of("99.1", None) == "○ Exercise 99.1: nothing yet.\n"
    assert line_of("99.1", ...).startswith("○ Exercise 99.1: not answered yet. Replace the ... above")
    assert line_of("99.1").startswith("○")
    for error in (ValueError("two\nlines"), KeyError("x"), SystemExit(3), RecursionError(), MemoryError()):
        line = line_of("99.1", error)
        assert line.startswith("✗ Exercise 99.1: this answer could not be checked") and type(error).__name__ in line


def test_prints_and_warnings_of_the_learner_do_not_show(example, line_of):
    @example
    def check(answer):
        print("a tile!")
        warnings.warn("careful")
        np.float64(1) / np.float64(0)
        return "Fine."

    assert line_of("99.1", 1) == "✓ Exercise 99.1: correct. Fine.\n"


@pytest.mark.parametrize(
    "answers, hints",
    [
        ([None] * 3, ["Hint 1 of 2", "Hint 2 of 2", "Hint 2 of 2"]),
        ([4, 5, 5, 3, 6], ["Hint 1", "Hint 1", "Hint 2", "No hint", "Hint 2"]),
    ],
)
def test_the_next_hint_comes_when_an_answer_does_not_change(example, capsys, answers, hints):
    """The lines of check and hint are in one cell, which runs again with every new answer."""
    example(three)
    for answer, line in zip(answers, hints):
        exercise("99.1").check(answer)
        capsys.readouterr()
        exercise("99.1").hint()
        printed = capsys.readouterr().out
        assert printed.startswith(line) and ("look left" in printed) == ("Hint 1" in line)
    assert ("no more hints" in printed) == (answer is None)


def test_an_exercise_is_known_by_its_number_and_by_nothing_else():
    assert exercise(1.1) is exercise("1.1")
    for number in ("1.99", "77.1", "", "1", "one", None, "1.1 ", "١.١"):
        with pytest.raises(ValueError, match="there is no exercise"):
            exercise(number)


def test_symbols_survive_a_terminal_without_them(example, monkeypatch):
    example(lambda answer: "Fine.")
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", terminal)
    exercise("99.1").check(1)
    terminal.flush()
    assert terminal.buffer.getvalue().decode("cp1252").startswith("? Exercise 99.1: correct.")


@pytest.mark.parametrize(
    "value, text",
    [
        (3, "3"),
        (np.float64(2.5), "2.5"),
        (None, "None"),
        ("x" * 99, "'" + "x" * 36 + "..."),
        ([1, 2], "[1, 2]"),
        ([0] * 99, "a list with 99 entries"),
        (np.zeros((2, 3)), "an array of shape (2, 3) and dtype float64"),
        (da.zeros((2, 3)), "a dask array of shape (2, 3) and dtype float64"),
        (object(), "an object of type object"),
    ],
)
def test_shown(value, text):
    assert running.shown(value) == text


def stub(value): ...


@pytest.mark.parametrize(
    "function, arguments, kind, says",
    [
        (stub, [3], Unanswered, "returns nothing yet. Write its body"),
        (lambda x: [].append(x), [3], Wrong, "returns None for [3]. Does every way through it end with return?"),
        (lambda value: 1 / 0, [3], Wrong, "called with [3], your function raises ZeroDivisionError"),
        (lambda value: 1 / 0, [3, 4], Wrong, "your function takes 1 argument, but is called with 2: [3, 4]."),
    ],
)
def test_what_a_function_lacks_is_said(function, arguments, kind, says):
    with pytest.raises(kind, match=re.escape(says)):
        running.call(function, *arguments, given=str(arguments))


def endless(number):
    while True:
        number += 1


def endless_and_deaf(number):
    end = time.monotonic() + 4  # so that the thread of this test ends
    while time.monotonic() < end:
        with contextlib.suppress(BaseException):
            while time.monotonic() < end:
                number += 1


def endless_in_c(number):
    time.sleep(4)


def double(cases=((3,), (4,)), **more):
    more |= {"given": "{number}", "reads": whole_number, "seconds": 0.3}
    return Function(right=lambda number: 2 * number, cases=lambda: cases, **more)


@pytest.mark.parametrize("function", [endless, endless_and_deaf, endless_in_c])
def test_what_does_not_come_back_is_stopped(example, line_of, function):
    example(double())
    line = line_of("99.1", function)
    assert line.startswith("✗") and "called with 3, took longer than 0.3 seconds and was stopped." in line
    assert ("until you restart the kernel" in line) == (function is not endless)
    assert line_of("99.1", lambda number: number * 2).startswith("✓")


@pytest.mark.parametrize("moment", ["it begins", "it goes on"])
def test_interrupting_ends_an_endless_function(example, monkeypatch, moment):
    example(double())
    exercise("99.1").form.seconds = 60
    before, start = threading.enumerate(), running.Work.start

    def start_and_interrupt(work):
        start(work)
        if moment == "it begins":
            raise KeyboardInterrupt
        timer.start()

    timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
    monkeypatch.setattr(running.Work, "start", start_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        exercise("99.1").check(endless)
    for thread in threading.enumerate():
        assert thread in (*before, timer) or thread.done.wait(1), "the function goes on in its thread"


def test_a_long_check_says_what_it_does(example, monkeypatch, capsys):
    monkeypatch.setattr(exercises._progress, "reason_not_to_count", lambda: None)
    monkeypatch.setattr(exercises._progress, "note", lambda number, symbol: None)
    monkeypatch.setattr(running, "SECONDS_OF_SILENCE", 0.1)
    example(double())
    exercise("99.1").form.seconds = 60
    exercise("99.1").check(lambda number: time.sleep(0.4) or 2 * number)
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["… 99.1: your function, called with 3, ...", "✓ Exercise 99.1: correct."]


@pytest.mark.parametrize(
    "answer, mistakes, named",
    [
        ((7, 9, 11, 13), {"one more.": (7, 9, 11, 13), "another.": (7, 9, 11, 0)}, "one more."),
        ((6, 9, 11, 12), {"one more.": (7, 9, 11, 13)}, None),  # which is wrong where the answer is right
        ((6, 9, 11, 12), {"one more.": (7, 9, 11, 13), "some more.": (6, 9, 11, 12)}, "some more."),
        ((7, 9, 11, 0), {"one more.": (7, 9, 11, 13)}, "one more."),
        ((7, 9, 0, 0), {"one more.": (7, 9, 11, 13)}, None),  # in half of the cases
        ((7, 9, 11, 0), {"one more.": (7, 9, 11, 13), "as often.": (7, 9, 11, 99)}, None),
        ((0, 9, 11, 13), {"one more.": (7, 9, 11, 13)}, None),  # not in the case that is shown
    ],
)
def test_a_mistake_is_named_if_it_alone_gives_most_of_the_same(example, line_of, answer, mistakes, named):
    numbers = (3, 4, 5, 6)
    functions = [lambda number, results=results: results[number - 3] for results in (answer, *mistakes.values())]
    example(double(cases=tuple(zip(numbers)), mistakes=dict(zip(mistakes, functions[1:]))))
    number, found = next((number, found) for number, found in zip(numbers, answer) if found != 2 * number)
    line = line_of("99.1", functions[0])
    assert line.endswith(f"for {number} you get {found}: {named or 'this is not right.'}\n")


number_of_notebook = 5


def helper_of_notebook():
    return number_of_notebook * 2


def test_data_of_the_notebook_is_noticed(example, line_of):
    """Rather than a mistake that explains most of the results, but after one that explains all."""
    mistakes = {"it is ten.": lambda number: 10 * (number < 6)}
    example(double(cases=((3,), (4,), (6,)), mistakes=mistakes))
    assert "it is ten." in line_of("99.1", lambda number: 5 * 2)
    assert "uses number_of_notebook of the notebook" in line_of("99.1", lambda number: number_of_notebook * 2)
    assert "uses number_of_notebook of the notebook" in line_of("99.1", lambda number: helper_of_notebook())
    example(double(mistakes={"it is always ten.": lambda number: 10}))
    assert "it is always ten." in line_of("99.1", lambda number: number_of_notebook * 2)


def test_parts_are_answered_one_by_one(example, line_of):
    part = Value(right=3, reads=whole_number, mistakes={"one more.": 4})
    example(Parts(parts={"a": part, "b": part}, mistakes={"both are 9.": {"a": 9, "b": 9}}))
    for answers, line in [
        ((3, 3), "✓ Exercise 99.1: correct."),
        ((..., ...), "○ Exercise 99.1: not answered yet. Replace the ... above and run both cells again."),
        ((3, ...), "○ Exercise 99.1: Right so far: a. Still open: b."),
        ((3, 4), "✗ Exercise 99.1: b = 4: one more. Right so far: a."),
        ((4, ...), "✗ Exercise 99.1: a = 4: one more. Still open: b."),
        ((9, 9), "✗ Exercise 99.1: both are 9."),
        ((4, 5), "✗ Exercise 99.1: a = 4: one more. Not right, either: b."),
        ((3, "3"), "✗ Exercise 99.1: b is '3', but one number is asked for. Leave the quotes away. Right so far: a."),
        ((np.array(3), np.array([3])), "✓ Exercise 99.1: correct."),
    ]:
        assert line_of("99.1", *answers).strip() == line
    assert line_of("99.1", a=3, b=3).startswith("✓")


def test_a_part_that_follows_from_a_wrong_one_is_no_mistake_of_its_own(example, line_of):
    part = Value(right=3, reads=whole_number)
    example(Parts(parts={"a": part, "b": part}, follows={"b": lambda a, b: a == b}))
    assert "Will change with that: b." in line_of("99.1", 4, 4)
    for answers in ((4, 5), ("4", 4)):
        assert "Not right, either: b." in line_of("99.1", *answers)
