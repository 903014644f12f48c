"""The record of what a learner solved, and the table of what a class solved."""

import errno
import os
import re
from pathlib import Path

import nbformat
import pytest
from every_exercise import answers_of
from processes import ROOT, python

from course_helpers.exercises import LESSONS, _progress, exercise, progress
from tools.build import lessons
from tools.progress import collect, main

NOTEBOOKS = ROOT / "notebooks"
RIGHT, WRONG = answers_of("6.1", "solution"), (1, 1, 1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder of its own, in which checks count; the folder of the record."""
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    monkeypatch.delenv("COURSE_PROGRESS")
    monkeypatch.setattr(_progress, "_this_session", set())
    return tmp_path / "progress"


def shown(capsys):
    """What progress() prints about lesson 6, and below the lessons."""
    capsys.readouterr()
    progress()
    printed = capsys.readouterr()
    assert printed.err == ""
    return "\n".join(printed.out.splitlines()[6:7] + printed.out.splitlines()[len(LESSONS) :])


def test_titles_of_lessons_are_those_of_the_notebooks():
    found = {int(source.stem[:2]): re.search(r"^# (.+)$", source.read_text("utf-8"), re.M)[1] for source in lessons()}
    assert {number: title for number, (title, _) in LESSONS.items()} == found


def test_progress_shows_solved_tried_and_open(folder, capsys, line_of):
    exercise("6.2").check(...)
    assert "○ 6.1  ○ 6.2" in shown(capsys) and "✓ solved: 0 of" in shown(capsys) and not folder.exists()
    exercise("6.1").check(*WRONG)
    assert "✗ 6.1  ○ 6.2" in shown(capsys) and "✗ tried, not solved yet: 1 " in shown(capsys)
    assert line_of("6.1", *RIGHT).startswith("✓")  # line_of wants exactly one line, and nothing on stderr
    exercise("6.1").check(*WRONG)  # solved stays solved
    _progress._this_session.clear()  # the record outlives the session
    (folder / "notes.txt").write_bytes(b"\xff\x00")
    line, counts = shown(capsys).splitlines()
    assert re.match("6. Follow objects across tiles +✓ 6.1  ○ 6.2", line) and counts.startswith("✓ solved: 1 of")


def test_a_record_that_cannot_be_kept_disturbs_nobody_and_is_written_later(folder, capsys, line_of, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    def refused(reason):
        assert line_of("6.1", *RIGHT)[0] == "✓"
        return re.search(rf"✓ 6.1.*\n.*\n.* cannot be kept on this computer.*{reason}", shown(capsys))

    monkeypatch.setenv("COURSE_DATA", "relative")
    assert refused("COURSE_DATA is 'relative'")
    monkeypatch.setenv("COURSE_DATA", str(folder.parent))
    with monkeypatch.context() as disk:
        disk.setattr(Path, "touch", refuse)
        assert refused("No space left on device")
    assert "✓ 6.1" in shown(capsys) and "cannot be kept" not in shown(capsys) and (folder / "6.1.solved").exists()


def test_where_checks_do_not_count(folder, capsys, tmp_path, monkeypatch):
    (tmp_path / "solutions").mkdir()
    for place, counts, reason in [("solutions", "on", "a solved notebook"), ("", "off", "COURSE_PROGRESS is off")]:
        monkeypatch.chdir(tmp_path / place)
        monkeypatch.setenv("COURSE_PROGRESS", counts)
        exercise("6.1").check(*RIGHT)
        assert "○ 6.1" in shown(capsys) and reason in shown(capsys)
    assert not folder.exists()


def notebook(lines):
    """A notebook with a cell for each line, such as "✓5.1", that a check printed."""
    texts = [f"{line[0]} Exercise {line[1:]}: words.\n" for line in lines.split()]
    outputs = [nbformat.v4.new_output("stream", name="stdout", text=text) for text in texts]
    cells = [nbformat.v4.new_code_cell(outputs=[output]) for output in outputs]
    return nbformat.writes(nbformat.v4.new_notebook(cells=cells)).encode()


def handed_in(folder, files):
    """Write files, given by name and content, into a folder, and return it."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(notebook(content) if isinstance(content, str) else content)
    return folder


CELLS = b'{"cells": %s, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
DAMAGED = [b"", notebook("✓5.1")[:200], bytes(range(256)), b"[]", b"[" * 100_000, CELLS % b"3", CELLS % b"[3]"]
FILES = {
    "05_tiled_nuclei_counting.ipynb": "",
    "Anna/05.ipynb": "✗5.1 ✓5.1 ○5.1 ✗5.2 ○5.3",
    "Anna/06.ipynb": "✗5.1 ○5.2",
    "Anna/notes.txt": b"no notebook",
    "Anna/.ipynb_checkpoints/05.ipynb": "✓5.4",
    "Anna/.05.ipynb": "✓5.4",
    "anna b/deeper/06.ipynb": "✓6.1 ✓99.1",
    "Bob_05_tiled_nuclei_counting.ipynb": "✓5.1",
    "Eve/06.ipynb": (NOTEBOOKS / "solutions" / "06_objects_across_tiles.ipynb").read_bytes(),
    **{f"bad/{number}.ipynb": content for number, content in enumerate(DAMAGED)},
}
TABLE = """05_tiled_nuclei_counting ---------
Anna ✓✗○------
anna b ----✓----
Bob ✓--------
Eve ---------"""
NOTES = [
    "05_tiled_nuclei_counting.ipynb holds no line of a check. Was it run and saved?",
    "Eve/06.ipynb is a solved notebook of the course. It is not counted.",
    *(f"bad/{number}.ipynb could not be read: is it damaged, or no notebook?" for number in range(len(DAMAGED))),
]


def test_table_of_a_class(tmp_path):
    """The best line counts; what cannot be counted is named."""
    table, notes = collect(handed_in(tmp_path, FILES))
    assert [f"{learner} {''.join(table.loc[learner])}" for learner in table.index] == TABLE.splitlines()
    assert sorted(note.partition(" (")[0] for note in notes) == sorted(NOTES)


def test_the_command_prints_totals_the_hardest_and_what_could_not_be_read(tmp_path):
    files = {"a.ipynb": "✓5.1 ✗5.2", "b.ipynb": "✓5.1 ✗5.2", "c.ipynb": "✗5.1 ✓5.2 ○5.3", "bad.ipynb": b"{"}
    run = python("-m", "tools.progress", handed_in(tmp_path, files))
    assert (run.returncode, run.stderr) == (0, "")
    _, first, *_, totals, hardest, note = run.stdout.splitlines()
    assert first.split() == ["a", "✓", "✗", "-", "-", "1", "of", "4"]
    assert totals.split() == ["solved", "by", "2", "1", "0", "0"]
    assert hardest == "Most often not solved: 5.2 (2 of 3 who answered), 5.1 (1 of 3 who answered)"
    assert note.startswith("Note: bad.ipynb could not be read")


def test_table_for_a_spreadsheet(tmp_path, monkeypatch, capsys):
    """Signed as UTF-8; no name commands it, or a terminal."""
    files = {"=1+1.ipynb": "✗5.1", "\x9b31mred.ipynb": "✓5.1", "Müller.ipynb": "○5.1"}
    folder = handed_in(tmp_path / "class", files)
    monkeypatch.chdir(tmp_path)
    main([str(folder), "--csv", "class.csv"])
    lines = ["learner,5.1,5.2,5.3,5.4", "'=1+1,wrong,,,", "?31mred,solved,,,", "Müller,unanswered,,,", ""]
    assert (tmp_path / "class.csv").read_bytes() == b"\xef\xbb\xbf" + os.linesep.join(lines).encode()
    printed = capsys.readouterr().out
    assert str(tmp_path / "class.csv") in printed and "?31mred" in printed and "\x9b" not in printed
    with pytest.raises(SystemExit, match="cannot be written"):
        main([str(folder), "--csv", str(folder)])


def test_commands_without_notebooks(tmp_path, monkeypatch, capsys):
    empty = handed_in(tmp_path / "class", {"notes.txt": b""})
    for folder, words in [(empty, "There are no notebooks in"), (empty / "nowhere", "There is no folder")]:
        with pytest.raises(SystemExit, match=words):
            main([str(folder)])
    with pytest.raises(SystemExit):
        main(["--csv", "class.csv"])
    assert "FOLDER" in capsys.readouterr().err
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    main([])
    assert "✓ solved:" in capsys.readouterr().out
