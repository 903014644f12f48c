"""Which exercises were solved: kept in the data folder of this computer, as one empty file per exercise.

``progress/5.2.solved`` says that an answer to exercise 5.2 was right once, ``progress/5.2.tried`` that one was wrong.
Such files are only ever added. So notebooks that run at the same time cannot overwrite each other's results, no file can
be damaged half-way, and what is solved stays solved. To start again, delete the folder.

Checks do not count in the folder of the solved notebooks, nor where the environment variable COURSE_PROGRESS is "off".
"""

import contextlib
import os
from pathlib import Path

from course_helpers.data import data_folder

SYMBOLS = {"solved": "✓", "tried": "✗", "open": "○"}
NOT_COUNTED = "Checks are not counted here: {}. The record shows what was solved elsewhere on this computer."
NOT_KEPT = "The record cannot be kept on this computer, and shows what was solved since this notebook was started: {}"
_this_session = set()


def note(number, symbol):
    """Remember what a check said. This must not disturb the learner, so a failure shows in `report` only."""
    name = f"{number}.{'solved' if symbol == '✓' else 'tried'}"
    if symbol != "○" and name not in _this_session and not reason_not_to_count():
        _this_session.add(name)
        with contextlib.suppress(Exception):
            kept()


def reason_not_to_count():
    """Why checks do not count here, in words; None where they count."""
    if os.environ.get("COURSE_PROGRESS", "").lower() == "off":
        return "COURSE_PROGRESS is off"
    with contextlib.suppress(OSError):
        if Path.cwd().name == "solutions":
            return "this is a solved notebook"
    return None


def folder():
    """Where the record is kept; DataError where there can be no data folder."""
    return data_folder() / "progress"


def kept():
    """Write down what this session knows; return the names of all files of the record. OSError where that fails."""
    if _this_session:
        folder().mkdir(exist_ok=True)
        for name in _this_session:
            (folder() / name).touch()
    return {path.name for path in folder().iterdir()} if folder().exists() else set()


def report(lessons):
    """The lines that `progress` prints; `lessons` is {number of a lesson: (title, numbers of its exercises)}."""
    reason, names, problem = reason_not_to_count(), set(_this_session), None
    try:
        names |= kept()
    except (OSError, RuntimeError) as error:  # the errors of data_folder are RuntimeErrors
        problem = " ".join(str(error).split())
    states = {
        exercise: next((state for state in ("solved", "tried") if f"{exercise}.{state}" in names), "open")
        for _, exercises in lessons.values()
        for exercise in exercises
    }
    width = max(len(title) for title, _ in lessons.values())
    for number, (title, exercises) in lessons.items():
        symbols = "  ".join(f"{SYMBOLS[states[exercise]]} {exercise}" for exercise in exercises)
        yield f"{number}. {title:{width}}  {symbols}"
    counts = {state: list(states.values()).count(state) for state in SYMBOLS}
    yield (
        f"✓ solved: {counts['solved']} of {len(states)}   ✗ tried, not solved yet: {counts['tried']}   "
        f"○ not tried yet: {counts['open']}"
    )
    if reason:
        yield NOT_COUNTED.format(reason)
    if problem:
        yield NOT_KEPT.format(problem)
