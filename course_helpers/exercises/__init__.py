"""Check an answer and give hints: ``exercise("1.1").check(answer)`` prints one line and never raises.

The exercises of lesson N are the table ``EXERCISES`` in ``lesson_N.py``; what such a table is made of stands in `form`,
how a learner's code is run in `running`. A lesson's table is imported when the first of its exercises is asked for.
"""

import importlib
import sys

from course_helpers.exercises import _progress
from course_helpers.exercises.running import Nearly, Unanswered, Wrong, described, finish

# The only list of what there is: the title of each lesson and the number of its exercises.
LESSONS = {
    0: ("Run out of memory, on purpose", 4),
    1: ("Compute images only when you look at them", 3),
    2: ("Cut an image into tiles", 4),
    3: ("Give tiles a margin", 4),
    4: ("Store an image in chunks", 5),
    5: ("Count nuclei tile by tile", 4),
    6: ("Follow objects across tiles", 5),
    7: ("Leave your machine", 4),
    8: ("Measure your own image", 4),
}
_asked_for = {}


def numbers(lesson):
    """The numbers of the exercises of a lesson, such as "6.1", in the order of the lesson."""
    return [f"{lesson}.{position}" for position in range(1, LESSONS[lesson][1] + 1)]


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
    number = str(number)
    if number not in [known for lesson in LESSONS for known in numbers(lesson)]:
        raise ValueError(f'there is no exercise {number!r}: use its number as a text, for example exercise("1.1")')
    if number not in _asked_for:
        lesson = importlib.import_module(f"{__name__}.lesson_{number.split('.')[0]}")
        _asked_for[number] = Exercise(number, lesson.EXERCISES[number])
    return _asked_for[number]


class Exercise:
    """One exercise, as a notebook uses it: its number, and the form that a lesson filled in."""

    def __init__(self, number, form):
        self.number, self.form, self.hints = number, form, form.hints
        self._hints_given, self._line, self._line_of_hint = 0, None, None

    def __repr__(self):
        return f'exercise("{self.number}"), with .check(answer) and .hint()'

    def check(self, *answers, **named):
        """Print one line: ✓ and what was achieved, ✗ and what is wrong with this answer, or ○ if there is none yet."""
        output = sys.stdout
        still = None if _progress.reason_not_to_count() else lambda doing: say(f"… {self.number}: {doing} ...", output)
        try:
            praise = finish(lambda: self.form.judge(*answers, **named), self.form.seconds, still)
            symbol, message = "✓", f"correct. {praise}"
        except Nearly as reason:
            symbol, message = "✓", f"approximately right. {reason}"
        except Unanswered as reason:
            symbol, message = "○", str(reason)
        except Wrong as reason:
            symbol, message = "✗", str(reason)
        except (Exception, SystemExit) as error:
            symbol = "✗"
            message = f"this answer could not be checked: {described(error)}. Is it what the task asks for?"
        self._line = f"{symbol} Exercise {self.number}: {message}"
        say(" ".join(self._line.split()))
        _progress.note(self.number, symbol)

    def hint(self):
        """Print the next hint; the same one again after the last one, and while answers change; none once it is correct."""
        if self._line and self._line.startswith(f"✓ Exercise {self.number}: correct."):
            return say(f"No hint for exercise {self.number}: it is solved.")
        if self._hints_given == 0 or self._line == self._line_of_hint:
            self._hints_given += 1
        self._line_of_hint = self._line
        position = min(self._hints_given, len(self.hints)) - 1
        last = " (There are no more hints.)" if self._hints_given > len(self.hints) else ""
        say(f"Hint {position + 1} of {len(self.hints)} for exercise {self.number}: {self.hints[position]}{last}")


def progress():
    """Print which exercises are solved (✓), tried but not solved yet (✗) and not tried yet (○).

    The record stays on the computer that runs the notebook; an exercise that was solved once stays solved.
    """
    for line in _progress.report({number: (LESSONS[number][0], numbers(number)) for number in LESSONS}):
        say(line)


def say(line, output=None):
    """Print one line, also where the terminal's encoding lacks the symbols."""
    output = output or sys.stdout
    encoding = getattr(output, "encoding", None) or "utf-8"
    print(line.encode(encoding, "replace").decode(encoding), file=output, flush=True)
