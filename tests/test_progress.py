"""The record of what a learner solved, and the table of what a class solved."""

import errno
import json
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

SOURCES, NOTEBOOKS = builder.lessons(), ROOT / "notebooks"
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
    """A function that returns what progress() prints."""

    def shown(lesson=None):
        capsys.readouterr()
        progress(lesson)
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out

    return shown


# ------------------------------------------------------------------------------------------------ a learner's record


def test_lessons_and_exercises_are_those_of_the_notebooks():
    found = {}
    for source in SOURCES:
        text = source.read_text(encoding="utf-8")
        exercises = sorted(re.findall(r'^exercise\("([\d.]+)"\)\.check', text, re.M))
        found[int(source.stem[:2])] = re.search(r"^# (.+)$", text, re.M)[1], exercises
        learners, solved = (
            nbformat.read(path / f"{source.stem}.ipynb", 4).cells for path in (NOTEBOOKS, NOTEBOOKS / "solutions")
        )
        assert learners[-1].source.endswith("\nprogress()") and not any("progress()" in cell.source for cell in solved)
    listed = {lesson: (title, numbers(lesson)) for lesson, (title, _) in LESSONS.items()}
    assert listed == found, "list title and number of exercises in LESSONS, in course_helpers/exercises/__init__.py"


def test_progress_shows_solved_tried_and_open(folder, shown, line_of, right):
    assert "○ 6.1  ○ 6.2" in shown() and "✓ solved: 0 of" in shown()
    exercise("6.2").check(...)
    assert not folder.exists()
    exercise("6.1").check(*WRONG)
    assert "✗ 6.1  ○ 6.2" in shown()
    assert line_of("6.1", *right).startswith("✓")  # line_of wants exactly one line, and nothing on stderr
    exercise("6.1").check(*WRONG)  # solved stays solved
    line, counts = shown(6).splitlines()
    assert line.startswith("6. Follow objects across tiles  ✓ 6.1  ○ 6.2") and counts.startswith("✓ solved: 1 of 5")
    _progress._this_session.clear()  # the record outlives the session
    assert len(shown().splitlines()) == len(SOURCES) + 1
    assert shown("6") == shown(6) == f"{line}\n{counts}\n"
    for lesson in (99, "six", -1, 1.5, ""):
        with pytest.raises(ValueError, match="there is no lesson .* use one of .*6"):
            progress(lesson)


def test_a_record_that_cannot_be_kept_disturbs_nobody(folder, shown, line_of, right, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    def assert_not_kept(reason):
        assert line_of("6.1", *right).startswith("✓")
        assert "✓ 6.1" in shown(6) and "cannot be kept on this computer" in shown(6) and reason in shown(6)

    folder.write_text("a file where the folder should be")
    assert_not_kept(str(folder))
    folder.unlink()
    with monkeypatch.context() as disk:
        disk.setattr(Path, "touch", full)
        assert_not_kept("No space left on device")
    assert "✓ 6.1" in shown(6) and "cannot be kept" not in shown(6)
    assert (folder / "6.1.solved").exists(), "what could not be written at first is written later"
    monkeypatch.setenv("COURSE_DATA", "relative")
    assert_not_kept("COURSE_DATA is 'relative'")


def test_foreign_files_do_not_matter(folder, shown):
    folder.mkdir()
    for name in ("6.1", "notes.txt", "99.9.solved", "6.2.lost"):
        (folder / name).write_bytes(b"\xff\x00")
    (folder / "6.3.solved").mkdir()
    assert "○ 6.1  ○ 6.2  ✓ 6.3" in shown(6)


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
        assert "○ 6.1" in shown(6) and reason in shown(6)
    assert not folder.exists()


# ---------------------------------------------------------------------------------------------- the table of a class


def cell(line, source=None, stream="stdout"):
    """A cell that checks an exercise, and has printed a line such as that of "✓5.1"; with "-5.1", none."""
    symbol, number = line[0], line[1:]
    output = nbformat.v4.new_output("stream", name=stream, text=f"{symbol} Exercise {number}: words.\n")
    source = source or f'exercise("{number}").check(answer)'
    return nbformat.v4.new_code_cell(source, outputs=[output] * (symbol != "-"), execution_count=1)


def notebook(lines, *cells):
    return nbformat.v4.new_notebook(cells=[*map(cell, lines.split()), *cells])


@pytest.fixture
def hand_in(tmp_path):
    """A function that writes a notebook into the folder of the class; the folder is hand_in.folder."""

    def hand_in(name, content):
        path = hand_in.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = notebook(content) if isinstance(content, str) else content
        path.write_bytes(content if isinstance(content, bytes) else nbformat.writes(content).encode())

    hand_in.folder = tmp_path / "class"
    hand_in.folder.mkdir()
    return hand_in


OLD = {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [{"cells": [{
    "cell_type": "code", "language": "python", "input": ['exercise("5.1")', ".check(answer)"], "metadata": {},
    "prompt_number": 1, "collapsed": False,
    "outputs": [{"output_type": "stream", "stream": "stdout", "text": ["✓ Exercise 5.1: ", "words.\n"]}]}]}]}  # fmt: skip
CLASSES = {
    "learners": (
        {
            "Bob_05_tiled_nuclei_counting.ipynb": "✓5.1",
            "anna b/deeper/06.ipynb": "✓6.1",
            "Anna/05.ipynb": "✓5.1 ✗5.2 ○5.3",
            "Anna/notes.txt": b"no notebook",
            "Anna/.ipynb_checkpoints/05.ipynb": "✓5.4",
            "Anna/.05.ipynb": "✓5.4",
            "05_tiled_nuclei_counting.ipynb": "-5.1",
        },
        {"05_tiled_nuclei_counting": "-" * 9, "Anna": "✓✗○------", "anna b": "----✓----", "Bob": "✓--------"},
        ["05_tiled_nuclei_counting.ipynb holds no line of a check. Was it run and saved?"],
    ),
    "the best of several": (
        {"Anna/a.ipynb": "✗5.1 ✓5.1 ○5.1", "Anna/b.ipynb": "✗5.1 ✗5.2 -5.3", "Anna/c.ipynb": "✓5.3 -5.4"},
        {"Anna": "✓✗✓-"},
        ["Anna has 5.1 in Anna/a.ipynb and in Anna/b.ipynb. The best answer counts."],
    ),
    "lines that no check printed": (
        {
            "Eve.ipynb": notebook(
                "✓99.1",
                cell("✓5.1", "print('✓ Exercise 5.1: words.')"),
                cell("✓5.1", "print('✓ Exercise 5.1: words.')"),
                cell("✓5.3", 'exercise("5.2").check(answer)'),
                cell("✓5.2", stream="stderr"),
                nbformat.v4.new_markdown_cell("✓ Exercise 5.4: words."),
            )
        },
        {"Eve": "----"},
        [
            "Eve.ipynb: there is no exercise 99.1 in this course. The line is not counted.",
            "Eve.ipynb: ✓ of exercise 5.1 stands below a cell that does not check it. Not counted.",
            "Eve.ipynb: ✓ of exercise 5.3 stands below a cell that does not check it. Not counted.",
        ],
    ),
    "solved and unsolved notebooks of the course": (
        {
            "Anna/06.ipynb": (NOTEBOOKS / "06_objects_across_tiles.ipynb").read_bytes(),
            "Eve/06.ipynb": (NOTEBOOKS / "solutions" / "06_objects_across_tiles.ipynb").read_bytes(),
        },
        {"Anna": "-----", "Eve": "-----"},
        [
            "Anna/06.ipynb holds no line of a check. Was it run and saved?",
            "Eve/06.ipynb: this is a solved notebook of the course. It is not counted.",
        ],
    ),
    "no code runs": (
        {"Eve.ipynb": notebook("", cell("✓5.1", 'exit()\nexercise("5.1").check(a)'))},
        {"Eve": "✓---"},
        [],
    ),
    "of format 3, with lists of lines": ({"old.ipynb": json.dumps(OLD).encode()}, {"old": "✓---"}, []),
    "long names": ({f"{'x' * 121}.ipynb": "✓5.1"}, {"x" * 117 + "...": "✓---"}, []),
}


@pytest.mark.parametrize(("notebooks", "expected", "notes"), CLASSES.values(), ids=CLASSES)
def test_table_of_a_class(hand_in, notebooks, expected, notes):
    for name, content in notebooks.items():
        hand_in(name, content)
    table, said = collect.collect(hand_in.folder)
    assert [(learner, "".join(table.loc[learner])) for learner in table.index] == list(
        expected.items()
    ) and said == notes


def test_totals_and_the_hardest(hand_in):
    assert "No cell" in collect.as_text(collect.collect(hand_in.folder).table)
    for name, lines in {"a": "✓5.1 ✗5.2", "b": "✓5.1 ✗5.2", "c": "✗5.1 ✓5.2 ○5.3"}.items():
        hand_in(f"{name}.ipynb", lines)
    text = collect.as_text(collect.collect(hand_in.folder).table)
    lines = [line.split() for line in text.splitlines()]
    assert lines[1] == ["a", "✓", "✗", "-", "-", "1", "of", "4"]
    assert lines[4] == ["solved", "by", "2", "1", "0", "0"]
    assert text.endswith("Most often not solved: 5.2 (2 of 3 who answered), 5.1 (1 of 3 who answered)")


def damaged():
    whole = nbformat.writes(notebook("✓5.1")).encode()
    cells = b'{"cells": %s, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
    code = cells % b'[{"cell_type": "code", "source": %s, "metadata": {"tags": %s}, "outputs": []}]'
    contents = [b"", whole[: len(whole) // 2], bytes(range(256)), b"[]", b"1", b"[" * 100_000, cells % b"3"]
    return [*contents, cells % b"[3]", code % (b"3", b"[]"), code % (b'""', b"1"), b'{"nbformat": 99, "cells": []}']


def test_files_that_cannot_be_read_are_named_and_the_others_count(hand_in, monkeypatch):
    monkeypatch.setattr(collect, "MOST_BYTES", 10**6)
    reasons = {"huge": "it has 3 MB, more than 1"}
    hand_in("huge.ipynb", b" " * 3 * 10**6)
    if hasattr(os, "mkfifo"):
        os.mkfifo(hand_in.folder / "pipe.ipynb")
        reasons["pipe"] = "it is no ordinary file"
    for number, content in enumerate(damaged()):
        hand_in(f"{number}.ipynb", content)
        reasons[str(number)] = "it is damaged, or no notebook" if number not in (8, 9) else ""
    hand_in("whole/05.ipynb", "✓5.1")
    table, notes = collect.collect(hand_in.folder)
    assert "".join(table.loc["whole"]) == "✓---" and len(notes) == len(reasons)
    for name, reason in reasons.items():
        assert any(note.startswith(f"{name}.ipynb could not be read: {reason}") for note in notes), (name, notes)


def test_the_command_prints_the_table_and_what_could_not_be_read(hand_in):
    hand_in("Anna.ipynb", "✓5.1")
    hand_in("bad.ipynb", b"{")
    result = python("-m", "tools.progress", hand_in.folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert "1 of 4" in result.stdout and "Note: bad.ipynb could not" in result.stdout
    assert "Most often not solved" not in result.stdout


def test_table_for_a_spreadsheet(hand_in, tmp_path, monkeypatch, capsys):
    """Signed as UTF-8; no name commands it, or a terminal. What was there before stays until all is written."""
    for name, lines in {"=1+1": "✗5.1", "\x9b31mred": "✓5.1", "Müller": "○5.1"}.items():
        hand_in(f"{name}.ipynb", lines)
    monkeypatch.chdir(tmp_path)
    arguments = [str(hand_in.folder), "--csv", "class.csv"]
    collect.main(arguments)
    lines = ["learner,5.1,5.2,5.3,5.4", "'=1+1,wrong,,,", "?31mred,solved,,,", "Müller,unanswered,,,", ""]
    expected = b"\xef\xbb\xbf" + os.linesep.join(lines).encode()
    assert (tmp_path / "class.csv").read_bytes() == expected
    printed = capsys.readouterr().out
    assert str(tmp_path / "class.csv") in printed and "?31mred" in printed and "\x9b" not in printed

    def refuse(source, target):  # as Windows does while a spreadsheet has the file open
        raise PermissionError(errno.EACCES, "Access is denied")

    hand_in("Zoe.ipynb", "✓5.1")
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(SystemExit, match="class.csv cannot be written: Access is denied"):
        collect.main(arguments)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.*")} == {"class.csv": expected}


def test_command_without_notebooks(hand_in, tmp_path, monkeypatch, capsys):
    for folder, words in [(hand_in.folder, "There are no notebooks in"), (tmp_path / "nowhere", "There is no folder")]:
        with pytest.raises(SystemExit, match=words):
            collect.main([str(folder)])
    with pytest.raises(SystemExit):
        collect.main(["--csv", "class.csv"])
    assert "FOLDER" in capsys.readouterr().err
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    collect.main([])
    assert "✓ solved:" in capsys.readouterr().out
