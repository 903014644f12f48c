"""The record of what a learner solved, and the table of what a class solved."""

import errno
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import pytest

from course_helpers.exercises import LESSONS, _progress, exercise, numbers, progress
from tools import progress as collect

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "notebooks" / "source").glob("[0-9]*.md"))
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
    from course_helpers.exercises.lesson_6 import counts_of_mask

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
        exercises = re.findall(r'^exercise\("([\d.]+)"\)\.check', text, re.M)
        found[int(source.stem[:2])] = re.search(r"^# (.+)$", text, re.M)[1], exercises
    listed = {lesson: (title, numbers(lesson)) for lesson, (title, _) in LESSONS.items()}
    assert listed == found, "list title and number of exercises in LESSONS, in course_helpers/exercises/__init__.py"


def test_progress_shows_solved_tried_and_open(folder, shown, right):
    assert "○ 6.1  ○ 6.2" in shown() and "✓ solved: 0 of" in shown()
    assert not folder.exists()
    exercise("6.1").check(*WRONG)
    assert "✗ 6.1  ○ 6.2" in shown()
    exercise("6.1").check(*right)
    exercise("6.2").check(...)
    line, counts = shown(6).splitlines()
    assert line.startswith("6. Follow objects across tiles  ✓ 6.1  ○ 6.2") and counts.startswith("✓ solved: 1 of 5")
    assert len(shown().splitlines()) == len(SOURCES) + 1
    assert shown("6") == shown(6)


def test_solved_stays_solved(folder, shown, right):
    exercise("6.1").check(*right)
    exercise("6.1").check(*WRONG)
    assert "✓ 6.1" in shown(6)


def test_the_record_outlives_the_session(folder, shown, right, monkeypatch):
    exercise("6.1").check(*right)
    monkeypatch.setattr(_progress, "_this_session", set())
    assert "✓ 6.1" in shown(6)


def test_check_prints_nothing_more(folder, line_of, right):
    assert line_of("6.1", *right).startswith("✓")  # line_of wants exactly one line, and nothing on stderr


@pytest.mark.parametrize("lesson", [99, "six", -1, 1.5, ""])
def test_unknown_lesson(lesson):
    with pytest.raises(ValueError, match="there is no lesson .* use one of .*6"):
        progress(lesson)


def test_a_record_that_cannot_be_kept_disturbs_nobody(folder, shown, line_of, right):
    folder.write_text("a file where the folder should be")
    assert line_of("6.1", *right).startswith("✓")
    assert "✓ 6.1" in shown(6) and "cannot be kept on this computer" in shown(6) and "progress" in shown(6)
    folder.unlink()
    assert "✓ 6.1" in shown(6) and "cannot be kept" not in shown(6)
    assert (folder / "6.1.solved").exists(), "what could not be written at first is written later"


def test_a_data_folder_that_cannot_be_used_is_named(folder, shown, line_of, right, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", "relative")
    assert line_of("6.1", *right).startswith("✓")
    assert "✓ 6.1" in shown(6) and "COURSE_DATA is 'relative'" in shown(6)


def test_a_full_disk_is_named(folder, shown, line_of, right, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "touch", full)
    assert line_of("6.1", *right).startswith("✓")
    assert "No space left on device" in shown(6)


def test_foreign_files_do_not_matter(folder, shown):
    folder.mkdir()
    for name in ("6.1", "notes.txt", "99.9.solved", "6.2.lost"):
        (folder / name).write_bytes(b"\xff\x00")
    (folder / "6.3.solved").mkdir()
    assert "○ 6.1  ○ 6.2  ✓ 6.3" in shown(6)


def test_checks_that_run_at_the_same_time_lose_nothing(folder, shown):
    """Two hundred notes from eight threads with nothing in common but the folder, some of them of lower rank."""
    names = [(f"{lesson}.{number}", symbol) for lesson in range(5) for number in range(20) for symbol in "✓✗"]
    threads = [
        threading.Thread(target=lambda part=part: [_progress.note(*name) for name in part])
        for part in (
            names[0::4],
            names[1::4],
            names[2::4],
            names[3::4],
            names[::-1][0::4],
            names[::-1][1::4],
            names[50:],
            names[:150],
        )
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _progress._this_session.clear()
    assert _progress.kept() == {f"{name}.{'solved' if symbol == '✓' else 'tried'}" for name, symbol in names}


def test_where_checks_do_not_count(folder, shown, right, tmp_path, monkeypatch):
    (tmp_path / "solutions").mkdir()
    monkeypatch.chdir(tmp_path / "solutions")
    exercise("6.1").check(*right)
    assert "○ 6.1" in shown(6) and "this is a solved notebook" in shown(6)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COURSE_PROGRESS", "off")
    exercise("6.1").check(*right)
    assert "○ 6.1" in shown(6) and "COURSE_PROGRESS is off" in shown(6)
    assert not folder.exists()


def test_tests_and_their_kernels_do_not_count():
    assert os.environ["COURSE_PROGRESS"] == "off"


def test_every_learner_notebook_ends_with_the_record():
    for source in SOURCES:
        notebook = nbformat.read(ROOT / "notebooks" / f"{source.stem}.ipynb", as_version=4)
        assert notebook.cells[-1].source.endswith("\nprogress()") and "Your progress" in notebook.cells[-2].source
        solved = nbformat.read(ROOT / "notebooks" / "solutions" / f"{source.stem}.ipynb", as_version=4)
        assert not any("progress()" in cell.source for cell in solved.cells)


# ---------------------------------------------------------------------------------------------- the table of a class


def check_cell(number, line, source=None, tags=()):
    outputs = [nbformat.v4.new_output("stream", name="stdout", text=line + "\n")] if line else []
    source = f'exercise("{number}").check(answer)' if source is None else source
    return nbformat.v4.new_code_cell(source, outputs=outputs, execution_count=1, metadata={"tags": list(tags)})


def notebook(*cells):
    cells = [check_cell(number, f"{symbol} Exercise {number}: words.") for number, symbol in cells]
    return nbformat.v4.new_notebook(cells=cells)


@pytest.fixture
def hand_in(tmp_path):
    """A function that writes a notebook into the folder of the class; the folder is hand_in.folder."""

    def hand_in(name, content):
        path = hand_in.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            nbformat.write(content, path)

    hand_in.folder = tmp_path / "class"
    hand_in.folder.mkdir()
    return hand_in


def test_table_of_a_class(hand_in):
    hand_in("Anna/05.ipynb", notebook(("5.1", "✓"), ("5.2", "✗"), ("5.3", "○")))
    hand_in("anna b/deeper/06.ipynb", notebook(("6.1", "✓")))
    hand_in("05_tiled_nuclei_counting_Bob.ipynb", notebook(("5.1", "✓")))
    table, notes = collect.collect(hand_in.folder)
    assert list(table.index) == ["Anna", "anna b", "Bob"]
    assert list(table.columns) == ["5.1", "5.2", "5.3", "5.4", "6.1", "6.2", "6.3", "6.4", "6.5"]
    assert "".join(table.loc["Anna"]) == "✓✗○------"
    assert "".join(table.loc["anna b"]) == "----✓----"
    assert table.loc["Bob", "5.1"] == "✓" and notes == []


def test_totals_and_the_hardest(hand_in):
    hand_in("a.ipynb", notebook(("5.1", "✓"), ("5.2", "✗")))
    hand_in("b.ipynb", notebook(("5.1", "✓"), ("5.2", "✗")))
    hand_in("c.ipynb", notebook(("5.1", "✗"), ("5.2", "✓"), ("5.3", "○")))
    text = collect.as_text(collect.collect(hand_in.folder).table)
    lines = [line.split() for line in text.splitlines()]
    assert lines[1] == ["a", "✓", "✗", "-", "-", "1", "of", "4"]
    assert lines[4] == ["solved", "by", "2", "1", "0", "0"]
    assert text.endswith("Most often not solved: 5.2 (2 of 3 who answered), 5.1 (1 of 3 who answered)")


def test_the_best_of_several_counts_and_copies_are_named(hand_in):
    hand_in("Anna/a.ipynb", notebook(("5.1", "✗"), ("5.1", "✓"), ("5.1", "○")))
    hand_in("Anna/b.ipynb", notebook(("5.1", "✗"), ("5.2", "✗")))
    table, notes = collect.collect(hand_in.folder)
    assert "".join(table.loc["Anna"]) == "✓✗--"
    assert notes == ["Anna has 5.1 in Anna/a.ipynb and in Anna/b.ipynb. The best answer counts."]


def damaged():
    whole = nbformat.writes(notebook(("5.1", "✓"))).encode()
    return {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "bytes": bytes(range(256)),
        "list": b"[]",
        "number": b"1",
        "deep": b"[" * 100_000,
        "cells": b'{"cells": 3, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
        "cell": b'{"cells": [3], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
        "source": b'{"cells": [{"cell_type": "code", "source": 3, "metadata": {}, "outputs": []}], "metadata": {},'
        b'"nbformat": 4, "nbformat_minor": 5}',
        "tags": b'{"cells": [{"cell_type": "code", "source": "", "metadata": {"tags": 1}, "outputs": []}], '
        b'"metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
        "future": b'{"nbformat": 99, "cells": []}',
    }


def test_files_that_cannot_be_read_are_named_and_the_others_count(hand_in):
    for name, content in damaged().items():
        hand_in(f"{name}.ipynb", content)
    hand_in("whole/05.ipynb", notebook(("5.1", "✓")))
    table, notes = collect.collect(hand_in.folder)
    assert "".join(table.loc["whole"]) == "✓---"
    for name in damaged():
        assert sum(note.startswith(f"{name}.ipynb could not be read: ") for note in notes) == 1, (name, notes)
    assert len(notes) == len(damaged()), notes


def test_huge_files_are_not_opened(hand_in, monkeypatch):
    monkeypatch.setattr(collect, "MOST_BYTES", 100)
    hand_in("huge.ipynb", notebook(("5.1", "✓")))
    table, notes = collect.collect(hand_in.folder)
    assert table.empty and notes[0].startswith("huge.ipynb could not be read: it has 0 MB, more than")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes on Windows")
def test_pipes_are_not_opened(hand_in):
    os.mkfifo(hand_in.folder / "pipe.ipynb")
    assert collect.collect(hand_in.folder).notes == ["pipe.ipynb could not be read: it is no ordinary file"]


def test_lines_that_no_check_printed_are_named_and_do_not_count(hand_in):
    cells = [
        check_cell("5.1", "✓ Exercise 5.1: words.", source="print('✓ Exercise 5.1: words.')"),
        check_cell("5.2", "✓ Exercise 5.3: words."),
        check_cell("99.1", "✓ Exercise 99.1: words."),
        nbformat.v4.new_markdown_cell("✓ Exercise 5.4: words."),
    ]
    hand_in("Eve.ipynb", nbformat.v4.new_notebook(cells=cells))
    table, notes = collect.collect(hand_in.folder)
    assert "✓" not in table.to_string()
    assert [re.search(r"exercise ([\d.]+)", note)[1] for note in notes] == ["5.1", "5.3", "99.1"]


def test_solved_notebooks_do_not_count(hand_in):
    source = ROOT / "notebooks" / "solutions" / "06_objects_across_tiles.ipynb"
    hand_in("Eve/06.ipynb", source.read_bytes())
    table, notes = collect.collect(hand_in.folder)
    assert "✓" not in table.to_string() and "is a solved notebook of the course" in notes[0]


def test_a_notebook_that_was_not_run_has_its_exercises_all_the_same(hand_in):
    hand_in("Anna/06.ipynb", (ROOT / "notebooks" / "06_objects_across_tiles.ipynb").read_bytes())
    table, notes = collect.collect(hand_in.folder)
    assert "".join(table.loc["Anna"]) == "-----" and "Was it run and saved?" in notes[0]


def test_no_code_runs(hand_in, tmp_path):
    trap = f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()"
    cells = [check_cell("5.1", "✓ Exercise 5.1: words.", source=f'{trap}\nexercise("5.1").check(answer)')]
    hand_in("Eve.ipynb", nbformat.v4.new_notebook(cells=cells))
    assert collect.collect(hand_in.folder).table.loc["Eve", "5.1"] == "✓"
    assert not (tmp_path / "ran").exists()


def test_names_cannot_command_a_terminal_or_a_spreadsheet(hand_in):
    hand_in("\x9b31mred.ipynb", notebook(("5.1", "✓")))  # Windows has no file names with an escape character
    hand_in("=1+1.ipynb", notebook(("5.1", "✗")))
    table = collect.collect(hand_in.folder).table
    assert "\x9b" not in collect.as_text(table)
    collect.write_csv(table, hand_in.folder / "class.csv")
    lines = (hand_in.folder / "class.csv").read_text("utf-8-sig").splitlines()
    assert lines == ["learner,5.1,5.2,5.3,5.4", "'=1+1,wrong,,,", "?31mred,solved,,,"]


def test_own_line_endings_and_old_notebooks(hand_in):
    """Notebooks of format 3 have worksheets; some programs store lists of lines."""
    old = {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [{"cells": [{
        "cell_type": "code", "language": "python", "input": ['exercise("5.1")', ".check(answer)"], "metadata": {},
        "prompt_number": 1, "collapsed": False,
        "outputs": [{"output_type": "stream", "stream": "stdout", "text": ["✓ Exercise 5.1: ", "words.\n"]}]}]}]}  # fmt: skip
    hand_in("old.ipynb", json.dumps(old).encode())
    assert collect.collect(hand_in.folder).table.loc["old", "5.1"] == "✓"


def run(*arguments):
    command = [sys.executable, "-m", "tools.progress", *map(str, arguments)]
    environment = {**os.environ, "PYTHONUTF8": "1"}
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=environment)


def test_command(hand_in):
    hand_in("Anna.ipynb", notebook(("5.1", "✓")))
    hand_in("bad.ipynb", b"{")
    result = run(hand_in.folder)
    assert result.returncode == 0 and "1 of 4" in result.stdout and "Note: bad.ipynb could not" in result.stdout
    assert result.stderr == ""


def test_table_for_a_spreadsheet(hand_in, tmp_path, monkeypatch, capsys):
    """A file with the signature by which spreadsheets know UTF-8; what was there before stays until it is written."""
    hand_in("Müller.ipynb", notebook(("5.1", "✓")))
    monkeypatch.chdir(tmp_path)
    arguments = [str(hand_in.folder), "--csv", "class.csv"]
    collect.main(arguments)
    expected = b"\xef\xbb\xbf" + "learner,5.1,5.2,5.3,5.4\nMüller,solved,,,\n".replace("\n", os.linesep).encode()
    assert (tmp_path / "class.csv").read_bytes() == expected
    assert str(tmp_path / "class.csv") in capsys.readouterr().out

    def refuse(source, target):  # as Windows does while a spreadsheet has the file open
        raise PermissionError(errno.EACCES, "Access is denied")

    hand_in("Zoe.ipynb", notebook(("5.1", "✓")))
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(SystemExit, match="class.csv cannot be written: Access is denied"):
        collect.main(arguments)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.*")} == {"class.csv": expected}
    with pytest.raises(SystemExit):
        collect.main(arguments[1:])
    assert "FOLDER" in capsys.readouterr().err


def test_command_without_notebooks(hand_in, tmp_path, monkeypatch, capsys):
    for folder, words in [(hand_in.folder, "There are no notebooks in"), (tmp_path / "nowhere", "There is no folder")]:
        with pytest.raises(SystemExit, match=words):
            collect.main([str(folder)])
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    collect.main([])
    assert "✓ solved:" in capsys.readouterr().out
