"""Every exercise: its stub, its solution, the mistakes in its table, and what is handed over by accident."""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from every_exercise import answers_of, every_exercise, form_of, mistakes_of, with_part
from hostile import hostile_answers

from course_helpers.exercises import exercise
from course_helpers.exercises.form import Function, Parts, seen

EXERCISES = every_exercise()
FUNCTIONS = [number for number in EXERCISES if isinstance(form_of(number), Function)]
MISTAKES = [(number, says, answers) for number in EXERCISES for says, answers in mistakes_of(number)]


@pytest.mark.parametrize("number", EXERCISES)
def test_the_stub_is_unanswered(line_of, number):
    assert line_of(number, *answers_of(number, "stub")).startswith("○")
    assert line_of(number).startswith("○")


@pytest.mark.parametrize("number", EXERCISES)
def test_the_solution_and_its_variants_are_right(line_of, number):
    answers = answers_of(number, "solution")
    assert line_of(number, *answers).startswith(f"✓ Exercise {number}: correct. ")
    for variant in form_of(number).also_right:
        answers = list(variant) if isinstance(variant, tuple) and isinstance(form_of(number), Parts) else [variant]
        assert line_of(number, *answers).startswith("✓"), variant


@pytest.mark.parametrize(
    "number, says, answers", MISTAKES, ids=[f"{number} {says[:50]}" for number, says, _ in MISTAKES]
)
def test_each_mistake_gets_its_own_sentence(line_of, number, says, answers):
    """A row that fails here gives the right answer on all cases, or the same answer as a row above it."""
    line = line_of(number, *answers())
    words = ".*".join(re.escape(part) for part in re.split(r"\{.*?\}", says))
    assert line.startswith("✗") and re.search(words, line), (
        f"change its row or the cases in lesson_{number[0]}.py: {line}"
    )


@pytest.mark.parametrize("number", EXERCISES)
def test_eight_mistakes_are_known(number):
    assert len(list(mistakes_of(number))) >= 8


@pytest.mark.parametrize("number", FUNCTIONS)
def test_no_two_mistakes_give_the_same_answers(tmp_path, number):
    form, given = form_of(number), {}
    for index, case in enumerate(form.all_cases(tmp_path)):
        for says, wrong in form.mistakes.items():
            if not isinstance(wrong, seen):
                given.setdefault(says, []).append(form.known(says, index, case))
    for one, other in combinations(given, 2):
        alike = all(map(form.alike, given[one], given[other]))
        assert not alike, (
            f"in exercise {number}, two mistakes give the same answers on all cases: {one!r} and {other!r}"
        )


def spoil(argument):
    """Change something in an array, a table, a list, a file or a store."""
    if isinstance(argument, (Path, str)):
        argument = Path(argument)
        some_file = next(path for path in [argument, *sorted(argument.rglob("*"))] if path.is_file())
        some_file.unlink()
    elif isinstance(argument, np.ndarray):
        argument.flat[0] = not argument.flat[0]
    elif hasattr(argument, "iloc"):
        argument["more"] = 1
    else:
        argument.clear()


def hostile_functions():
    """Functions that return what nobody asked for, or never return as they should."""

    async def later(*arguments):
        return 1

    def endless(*arguments):
        while True:
            yield 1

    return [later, endless, *(lambda *arguments, answer=answer: answer for answer in hostile_answers())]


@pytest.mark.parametrize("number", EXERCISES)
def test_what_is_handed_over_by_accident_is_one_calm_line(line_of, number):
    form = form_of(number)
    for hostile in hostile_answers():
        answers = [[hostile]]
        if isinstance(form, Parts):
            answers += [with_part(number, name, hostile) for name in form.parts]
        for answer in answers:
            line = line_of(number, *answer)
            assert line[0] in "✗○" and len(line) < 600, line
    if isinstance(form, Function):
        for function in hostile_functions():
            line = line_of(number, function)
            assert line[0] in "✗○" and len(line) < 600, line


@pytest.mark.parametrize("number", FUNCTIONS)
def test_a_function_that_changes_what_it_is_given_is_told_so(line_of, tmp_path, number):
    """Also if its result is right. Each argument that can be changed is changed in turn."""
    form = form_of(number)
    [solution] = answers_of(number, "solution")
    for position, (name, argument) in enumerate(next(form.all_cases(tmp_path)).items()):
        if isinstance(argument, (Path, np.ndarray, list, dict, set)) or hasattr(argument, "iloc"):

            def changes(*arguments, position=position):
                result = solution(*arguments)
                spoil(arguments[position])
                return result

            line = line_of(number, changes)
            assert line.startswith("✗") and re.search(f"your function changes (the files of )?{name}:", line), line


@pytest.mark.parametrize("number", EXERCISES)
def test_answers_are_counted_before_they_are_read(line_of, number):
    answers = answers_of(number, "solution")
    for line in (line_of(number, *answers, 1), line_of(number, *answers, nonsense=1), line_of(number, nonsense=1)):
        assert line[0] in "✗○" and "asked for" in line or "not answered" in line


@pytest.mark.parametrize("number", EXERCISES)
def test_hints_are_public_and_help(number):
    hints = exercise(number).hints
    assert len(hints) >= 2 and all(len(hint) > 20 for hint in hints)
