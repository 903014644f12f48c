"""The record of what a learner solved, and the table of what a class solved."""

import errno
import os
import re
from pathlib import Path

import nbformat
import pytest
from processes import ROOT, python

from course_helpers.exercises import LESSONS, _progress, exercise, numbers, progress
from course_helpers.exercises.lesson_6 import counts_of_mask
from tools import build as builder
from tools import progress as collect

NOTEBOOKS = ROOT / "notebooks"
WRONG = (1, 1, 1)  # answers to exercise 6.1


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder of its own, in which checks count; the folder of the record."""
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    monkeypatch.delenv("COURSE_PROGRESS")
    monkeypatch.setattr(_progress, "_this_session", set())
    return tmp_path / "progress"


@pytest.fixture
def right():
    """Right answers to exercise 6.1, from its check."""
    pieces, objects = counts_of_mask()
    return sum(pieces), max(pieces), objects


@pytest.fixture
def shown(capsys):
    """A function that returns what progress() prints about lesson 6, and below the lessons."""

    def shown():
        capsys.readouterr()
        progress()
        printed = capsys.readouterr()
        assert printed.err == ""
        return "\n".join(printed.out.splitlines()[6:7] + printed.out.splitlines()[len(LESSONS) :])

    return shown


# ------------------------------------------------------------------------------------------------ a learner's record


def test_lessons_and_exercises_are_those_of_the_notebooks():
    found = {}
    for source in builder.lessons():
        text = source.read_text(encoding="utf-8")
        exercises = sorted(re.findall(r'^exercise\("([\d.]+)"\)\.check', text, re.M))
        found[int(source.stem[:2])] = re.search(r"^# (.+)$", text, re.M)[1], exercises
    listed = {lesson: (title, numbers(lesson)) for lesson, (title, _) in LESSONS.items()}
    assert listed == found, "list title and number of exercises in LESSONS, in course_helpers/exercises/__init__.py"


def test_progress_shows_solved_tried_and_open(folder, shown, line_of, right):
    exercise("6.2").check(...)
    assert "○ 6.1  ○ 6.2" in shown() and "✓ solved: 0 of" in shown() and not folder.exists()
    exercise("6.1").check(*WRONG)
    assert "✗ 6.1  ○ 6.2" in shown() and "✗ tried, not solved yet: 1 " in shown()
    assert line_of("6.1", *right).startswith("✓")  # line_of wants exactly one line, and nothing on stderr
    exercise("6.1").check(*WRONG)  # solved stays solved
    _progress._this_session.clear()  # the record outlives the session
    (folder / "notes.txt").write_bytes(b"\xff\x00")
    line, counts = shown().splitlines()
    assert re.match("6. Follow objects across tiles +✓ 6.1  ○ 6.2", line) and counts.startswith("✓ solved: 1 of")


def test_a_record_that_cannot_be_kept_disturbs_nobody_and_is_written_later(folder, shown, line_of, right, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    def refused(reason):
        assert line_of("6.1", *right)[0] == "✓"
        return "✓ 6.1" in shown() and "cannot be kept on this computer" in shown() and reason in shown()

    monkeypatch.setenv("COURSE_DATA", "relative")
    assert refused("COURSE_DATA is 'relative'")
    monkeypatch.setenv("COURSE_DATA", str(folder.parent))
    with monkeypatch.context() as disk:
        disk.setattr(Path, "touch", refuse)
        assert refused("No space left on device")
    assert "✓ 6.1" in shown() and "cannot be kept" not in shown() and (folder / "6.1.solved").exists()


def test_checks_that_run_at_the_same_time_lose_nothing(folder, monkeypatch):
    """While one writes down what this session knows, another one adds to it."""
    known = {f"{lesson}.1.tried" for lesson in range(6)}
    _progress._this_session.update(known)

    def touch(path, touch=Path.touch):
        touch(path)
        _progress._this_session.add("7.1.tried")

    monkeypatch.setattr(Path, "touch", touch)
    _progress.note("6.1", "✓")
    assert {path.name for path in folder.iterdir()} == known | {"6.1.solved"}
    assert _progress.kept() == known | {"6.1.solved", "7.1.tried"}


def test_where_checks_do_not_count(folder, shown, right, tmp_path, monkeypatch):
    (tmp_path / "solutions").mkdir()
    for place, counts, reason in [("solutions", "on", "a solved notebook"), ("", "off", "COURSE_PROGRESS is off")]:
        monkeypatch.chdir(tmp_path / place)
        monkeypatch.setenv("COURSE_PROGRESS", counts)
        exercise("6.1").check(*right)
        assert "○ 6.1" in shown() and reason in shown()
    assert not folder.exists()


# ---------------------------------------------------------------------------------------------- the table of a class


def notebook(lines):
    """A notebook with a cell for each line, such as "✓5.1", that a check printed."""
    texts = [f"{line[0]} Exercise {line[1:]}: words.\n" for line in lines.split()]
    outputs = [nbformat.v4.new_output("stream", name="stdout", text=text) for text in texts]
    cells = [nbformat.v4.new_code_cell(outputs=[output]) for output in outputs]
    return nbformat.writes(nbformat.v4.new_notebook(cells=cells)).encode()


@pytest.fixture
def handed_in(tmp_path):
    """A function that writes files, given by name and content, into the folder of the class, and returns the folder."""

    def handed_in(files):
        for name, content in files.items():
            path = tmp_path / "class" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(notebook(content) if isinstance(content, str) else content)
        return tmp_path / "class"

    return handed_in


SOLVED = (NOTEBOOKS / "solutions" / "06_objects_across_tiles.ipynb").read_bytes()
CELLS = b'{"cells": %s, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
DAMAGED = [b"", notebook("✓5.1")[:200], bytes(range(256)), b"[]", b"[" * 100_000, CELLS % b"3", CELLS % b"[3]"]
CLASSES = {
    "learners": (
        {
            "Bob_05_tiled_nuclei_counting.ipynb": "✓5.1",
            "anna b/deeper/06.ipynb": "✓6.1 ✓99.1",
            "Anna/05.ipynb": "✓5.1 ✗5.2 ○5.3",
            "Anna/notes.txt": b"no notebook",
            "Anna/.ipynb_checkpoints/05.ipynb": "✓5.4",
            "Anna/.05.ipynb": "✓5.4",
            "05_tiled_nuclei_counting.ipynb": "",
            "Eve/06.ipynb": SOLVED,
        },
        {
            "05_tiled_nuclei_counting": "-" * 9,
            "Anna": "✓✗○------",
            "anna b": "----✓----",
            "Bob": "✓--------",
            "Eve": "-" * 9,
        },
        [
            "05_tiled_nuclei_counting.ipynb holds no line of a check. Was it run and saved?",
            "Eve/06.ipynb is a solved notebook of the course. It is not counted.",
        ],
    ),
    "the best of several": (
        {"Anna/a.ipynb": "✗5.1 ✓5.1 ○5.1", "Anna/b.ipynb": "✗5.1 ✗5.2", "Anna/c.ipynb": "✓5.3"},
        {"Anna": "✓✗✓-"},
        ["Anna has 5.1 in Anna/a.ipynb and in Anna/b.ipynb. The best answer counts."],
    ),
    **{
        f"damaged {number}": (
            {"bad.ipynb": content, "whole/05.ipynb": "✓5.1"},
            {"whole": "✓---"},
            ["bad.ipynb could not be read: is it damaged, or no notebook?"],
        )
        for number, content in enumerate(DAMAGED)
    },
}


@pytest.mark.parametrize(("files", "expected", "said"), CLASSES.values(), ids=CLASSES)
def test_table_of_a_class(handed_in, files, expected, said):
    table, notes = collect.collect(handed_in(files))
    assert [(learner, "".join(table.loc[learner])) for learner in table.index] == list(expected.items())
    assert [note.partition(" (")[0] for note in notes] == said


def test_the_command_prints_totals_the_hardest_and_what_could_not_be_read(handed_in):
    folder = handed_in({"a.ipynb": "✓5.1 ✗5.2", "b.ipynb": "✓5.1 ✗5.2", "c.ipynb": "✗5.1 ✓5.2 ○5.3", "bad.ipynb": b"{"})
    run = python("-m", "tools.progress", folder)
    assert (run.returncode, run.stderr) == (0, "")
    _, first, *_, totals, hardest, note = run.stdout.splitlines()
    assert first.split() == ["a", "✓", "✗", "-", "-", "1", "of", "4"]
    assert totals.split() == ["solved", "by", "2", "1", "0", "0"]
    assert hardest == "Most often not solved: 5.2 (2 of 3 who answered), 5.1 (1 of 3 who answered)"
    assert note.startswith("Note: bad.ipynb could not be read")


def test_table_for_a_spreadsheet(handed_in, tmp_path, monkeypatch, capsys):
    """Signed as UTF-8; no name commands it, or a terminal."""
    folder = handed_in({"=1+1.ipynb": "✗5.1", "\x9b31mred.ipynb": "✓5.1", "Müller.ipynb": "○5.1"})
    monkeypatch.chdir(tmp_path)
    collect.main([str(folder), "--csv", "class.csv"])
    lines = ["learner,5.1,5.2,5.3,5.4", "'=1+1,wrong,,,", "?31mred,solved,,,", "Müller,unanswered,,,", ""]
    assert (tmp_path / "class.csv").read_bytes() == b"\xef\xbb\xbf" + os.linesep.join(lines).encode()
    printed = capsys.readouterr().out
    assert str(tmp_path / "class.csv") in printed and "?31mred" in printed and "\x9b" not in printed
    with pytest.raises(SystemExit, match="cannot be written"):
        collect.main([str(folder), "--csv", str(folder)])


def test_commands_without_notebooks(handed_in, tmp_path, monkeypatch, capsys):
    empty = handed_in({"notes.txt": b""})
    for folder, words in [(empty, "There are no notebooks in"), (empty / "nowhere", "There is no folder")]:
        with pytest.raises(SystemExit, match=words):
            collect.main([str(folder)])
    with pytest.raises(SystemExit):
        collect.main(["--csv", "class.csv"])
    assert "FOLDER" in capsys.readouterr().err
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    collect.main([])
    assert "✓ solved:" in capsys.readouterr().out
