"""Who solved what: python course.py progress [FOLDER [--csv FILE]]

Without a folder it shows your own progress. FOLDER holds what a class handed in: one folder per learner with any notebooks
in it, or notebooks with the learner's name in the file name. The table has a line per learner and a column per exercise:

    ✓ solved    ✗ the last answer was wrong    ○ checked without an answer    - no check was run

No notebook is executed. What counts are the lines that the checks printed and the notebooks stored, the best one where
there are several. Whoever can type can type such a line: this shows a teacher where a class stands, and is no exam.
Solved notebooks of the course are reported and not counted.
"""

import argparse
import logging
import re
import sys
import warnings
from collections import namedtuple
from pathlib import Path

import nbformat
import pandas as pd

from course_helpers.exercises import LESSONS, numbers, progress, say

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
WORDS = {"✓": "solved", "✗": "wrong", "○": "unanswered", "-": ""}  # what a spreadsheet gets, from best to worst
CHECK_LINE = re.compile(r"^([✓✗○]) Exercise (\d+\.\d+): ", re.MULTILINE)

Class = namedtuple("Class", "table notes")


def collect(folder):
    """Read all notebooks below a folder.

    Returns
    -------
    Class
        ``table``: a data frame with a row per learner, a column per exercise, and one of the symbols ✓ ✗ ○ - in each
        place. ``notes``: sentences about files that could not be read, or are not counted.
    """
    found, notes = {}, []
    for path in notebooks_below(folder):
        name, learner = readable(path.relative_to(folder).as_posix()), learner_of(path.relative_to(folder))
        try:
            notebook = nbformat.read(path, as_version=4)
            solved = any("solution" in cell.metadata.get("tags", []) for cell in notebook.cells)  # others have stubs
            symbols = {} if solved else stored_symbols(notebook)
        except Exception as error:  # whatever a file may contain, the others are still to be read
            notes.append(f"{name} could not be read: is it damaged, or no notebook? ({type(error).__name__})")
            continue
        if solved:
            notes.append(f"{name} is a solved notebook of the course. It is not counted.")
        elif not symbols:
            notes.append(f"{name} holds no line of a check. Was it run and saved?")
        for exercise, symbol in symbols.items():
            found[learner, exercise] = better(symbol, found.get((learner, exercise), "-"))
        found.setdefault((learner, None), "-")  # a line in the table all the same
    return Class(as_table(found), notes)


def notebooks_below(folder):
    """The notebooks below a folder, in alphabetical order, without the copies that Jupyter makes of its own."""
    for path in sorted(folder.rglob("*.ipynb")):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def stored_symbols(notebook):
    """The best symbol of every exercise of which a line is stored in a notebook."""
    best = {}
    for cell in notebook.cells:
        printed = [output.text for output in cell.get("outputs", []) if output.get("name") == "stdout"]
        for symbol, exercise in CHECK_LINE.findall("".join(printed)):
            best[exercise] = better(symbol, best.get(exercise, "-"))
    return best


def better(*symbols):
    return min(symbols, key=list(WORDS).index)


def learner_of(path):
    """A learner's name: the first folder, or else the name of the file without that of the lesson."""
    if len(path.parts) > 1:
        return readable(path.parts[0])
    name = path.stem
    for notebook in NOTEBOOKS.glob("[0-9]*.ipynb"):
        name = name.replace(notebook.stem, "")
    return readable(name.strip(" _-.()") or path.stem)


def readable(text):
    """A text from elsewhere as one line, without characters that command a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def as_table(found):
    """The data frame of `collect`, with all exercises of each lesson from which anything was found."""
    lessons_found = {exercise.split(".")[0] for _, exercise in found if exercise}
    columns = [exercise for lesson in LESSONS if str(lesson) in lessons_found for exercise in numbers(lesson)]
    learners = sorted({learner for learner, _ in found}, key=str.casefold)
    rows = [[found.get((learner, exercise), "-") for exercise in columns] for learner in learners]
    return pd.DataFrame(rows, index=pd.Index(learners, name="learner"), columns=columns)


def as_text(table):
    """The table with the number of solved exercises per learner and per exercise, and the hardest exercises in words."""
    solved = table == "✓"
    if not len(table.columns):
        return "No line of a check was found."
    shown = table.assign(solved=[f"{count} of {len(table.columns)}" for count in solved.sum(axis=1)])
    shown.loc["solved by"] = [*solved.sum().astype(str), ""]
    lines = [shown.rename_axis(None).to_string()]
    answered = table.isin(["✓", "✗"]).sum()
    missed = (answered - solved.sum()).sort_values(ascending=False, kind="stable")
    hardest = [f"{name} ({missed[name]} of {answered[name]} who answered)" for name in missed[missed > 0].index[:5]]
    if hardest:
        lines.append(f"Most often not solved: {', '.join(hardest)}")
    return "\n".join(lines)


def write_csv(table, path):
    """Write the table for a spreadsheet, in words; OSError where that fails."""
    names = [f"'{name}" if name[:1] in "=+-@" else name for name in table.index]  # else a spreadsheet runs it
    words = table.map(WORDS.get).set_axis(pd.Index(names, name="learner"))
    path.write_text(words.to_csv(lineterminator="\n"), "utf-8-sig")  # Excel tells UTF-8 by its signature


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python course.py progress", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", help="where the notebooks of a class lie; without it, your own progress")
    parser.add_argument("--csv", metavar="FILE", help="where to write the table of a class for a spreadsheet")
    options = parser.parse_args(arguments)
    if options.folder is None:
        return parser.error("--csv needs a FOLDER before it") if options.csv else progress()
    folder = Path(options.folder).expanduser().resolve()
    if not folder.is_dir():
        sys.exit(
            f"There is no folder {folder}. Give the full path of the folder that holds the notebooks of the class."
        )
    # nbformat complains here and there of what is reported below.
    logging.getLogger("traitlets").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    table, notes = collect(folder)
    if table.empty and not notes:
        sys.exit(f"There are no notebooks in {folder}.")
    say(as_text(table))
    for note in notes:
        say(f"Note: {note}")
    if options.csv:
        path = Path(options.csv).expanduser().resolve()
        try:
            write_csv(table, path)
        except OSError as error:
            sys.exit(f"{path} cannot be written: {error.strerror}. Is it open in another program, or a folder?")
        say(f"For a spreadsheet: {path}")


if __name__ == "__main__":
    main()
