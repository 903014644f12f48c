"""The mechanism behind exercise("1.1").check(answer) and .hint()."""

import io
import re
import sys
import warnings
from pathlib import Path

import dask.array as da
import numpy as np
import pytest

from course_helpers import exercises
from course_helpers.exercises import Nearly, Unanswered, Wrong, check_for, exercise

SOURCE = Path(__file__).parents[1] / "notebooks" / "source"


@pytest.fixture
def example(monkeypatch):
    """Register a check as exercise 99.1 for one test."""
    monkeypatch.setattr(exercises, "_checks", {})
    return check_for("99.1", hints=["look left", "look right"])


def test_right_wrong_and_unanswered(example, line_of):
    @example
    def check(answer):
        if answer is None:
            raise Unanswered("nothing yet.")
        if answer == 3.1:
            raise Nearly("A little less.")
        if answer != 3:
            raise Wrong(f"{answer} is not 3.")
        return "Well counted."

    assert line_of("99.1", 3) == "✓ Exercise 99.1: correct. Well counted.\n"
    assert line_of("99.1", 4) == "✗ Exercise 99.1: 4 is not 3.\n"
    assert line_of("99.1", 3.1) == "✓ Exercise 99.1: approximately right. A little less.\n"
    assert line_of("99.1", None) == "○ Exercise 99.1: nothing yet.\n"
    assert (
        line_of("99.1", ...) == "○ Exercise 99.1: not answered yet. Replace the ... above and run both cells again.\n"
    )
    assert line_of("99.1", 3, ...).startswith("○")
    assert line_of("99.1").startswith("○")


@pytest.mark.parametrize(
    "error", [ValueError("two\nlines"), KeyError("x"), SystemExit(3), RecursionError(), MemoryError()]
)
def test_a_failing_check_is_one_calm_line(example, line_of, error):
    @example
    def check(answer):
        raise error

    line = line_of("99.1", 1)
    assert line.startswith("✗ Exercise 99.1: this answer could not be checked") and type(error).__name__ in line


def test_keyboard_interrupt_still_interrupts(example):
    @example
    def check(answer):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exercise("99.1").check(1)


def test_prints_and_warnings_of_the_learner_do_not_show(example, line_of):
    @example
    def check(answer):
        print("a tile!")
        warnings.warn("careful")
        np.float64(1) / np.float64(0)
        return "Fine."

    assert line_of("99.1", 1) == "✓ Exercise 99.1: correct. Fine.\n"


def test_hints_go_from_first_to_last(example, capsys):
    example(lambda answer: "")
    for text in [
        "1 of 2 for exercise 99.1: look left",
        "2 of 2 for exercise 99.1: look right",
        "2 of 2 for exercise 99.1: look right (There are no more hints.)",
    ]:
        exercise("99.1").hint()
        assert capsys.readouterr().out == f"Hint {text}\n"


def test_a_hint_is_said_again_while_answers_change_and_none_after_the_right_one(example, capsys):
    """The lines of check and hint are in one cell, which runs again with every new answer."""

    @example
    def check(answer):
        if answer != 3:
            raise Wrong(f"{answer} is not 3.")
        return ""

    for answer, line in [
        (4, "Hint 1 of 2 for exercise 99.1: look left"),
        (5, "Hint 1 of 2 for exercise 99.1: look left"),
        (5, "Hint 2 of 2 for exercise 99.1: look right"),
        (3, "No hint for exercise 99.1: it is solved."),
        (6, "Hint 2 of 2 for exercise 99.1: look right"),
    ]:
        exercise("99.1").check(answer)
        capsys.readouterr()
        exercise("99.1").hint()
        assert capsys.readouterr().out == f"{line}\n"


@pytest.mark.parametrize("number", ["1.99", "77.1", "", "1", "one", None, 1.1, "1.1 ", "١.١"])
def test_unknown_exercise(number):
    if number == 1.1:
        assert exercise(number) is exercise("1.1")
        return
    with pytest.raises(ValueError, match="there is no exercise"):
        exercise(number)


def test_symbols_survive_a_terminal_without_them(example, monkeypatch):
    example(lambda answer: "Fine.")
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", terminal)
    exercise("99.1").check(1)
    terminal.flush()
    assert terminal.buffer.getvalue().decode("cp1252").startswith("? Exercise 99.1: correct.")


def test_no_hint_is_empty_and_every_exercise_has_some():
    numbers = re.findall(
        r'^exercise\("([\d.]+)"\)\.check', "".join(path.read_text("utf-8") for path in SOURCE.glob("*.md")), re.M
    )
    assert len(numbers) == len(set(numbers)) >= 3
    for number in numbers:
        hints = exercise(number)._hints
        assert len(hints) >= 2 and all(len(hint) > 20 for hint in hints)


@pytest.mark.parametrize(
    "value, text",
    [
        (3, "3"),
        (np.float64(2.5), "2.5"),
        (None, "None"),
        ("x" * 99, "'" + "x" * 36 + "..."),
        ([1, 2], "a list with 2 entries"),
        (np.zeros((2, 3)), "an array of shape (2, 3) and dtype float64"),
        (da.zeros((2, 3)), "a dask array of shape (2, 3) and dtype float64"),
        (object(), "an object of type object"),
    ],
)
def test_shown(value, text):
    assert exercises.shown(value) == text


def test_a_stub_is_not_a_missing_return():
    def stub(value): ...

    def forgets_return(value):
        abs(value)

    def fails(value):
        return undefined  # noqa: F821

    with pytest.raises(Unanswered, match="returns nothing yet. Write its body"):
        exercises.call(stub, 3)
    with pytest.raises(Wrong, match="your function returns None for 3. Does every way through it end with return?"):
        exercises.call(forgets_return, 3)
    with pytest.raises(Wrong, match="your function returns None for a tile."):
        exercises.call(forgets_return, 3, given="a tile")
    with pytest.raises(Wrong, match="called with 3, your function raises NameError"):
        exercises.call(fails, 3)
    assert exercises.call(abs, -3) == 3


def test_answer_kinds(hostile):
    if type(hostile).__name__ == "Hostile":
        return  # it fails at everything; only the check as a whole can catch that
    """The readers of answers either return what they promise or raise Wrong or Unanswered, never anything else."""
    for reader, kind in [(exercises.number, float), (exercises.whole_number, int), (exercises.array, np.ndarray)]:
        try:
            assert isinstance(reader(hostile), kind)
        except Wrong as reason:
            assert len(str(reason)) < 300
