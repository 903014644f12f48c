"""The data folder: where it lies, and what is said when it cannot be used."""

import os
from pathlib import Path

import pytest

from course_helpers import data
from course_helpers.data import DataError


@pytest.mark.parametrize("chosen", [None, "", "{home}/a/b", "~/slides"])
def test_the_folder_does_not_depend_on_the_working_directory(monkeypatch, tmp_path, chosen):
    """It is the one that is asked for, which is created, or that of the project."""
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("COURSE_DATA", (chosen or "").format(home=tmp_path))
    if chosen is None:
        monkeypatch.delenv("COURSE_DATA")
    monkeypatch.chdir(tmp_path)
    expected = Path(chosen.format(home=tmp_path)).expanduser() if chosen else Path(data.__file__).parents[1] / "data"
    assert data.data_folder() == expected.resolve() and expected.is_dir()


@pytest.mark.parametrize(
    "chosen, words",
    [
        ("slides", "absolute path"),
        (os.path.join("..", "slides"), "absolute path"),
        ("{home}/notes.txt", r"notes\.txt cannot be the data folder: it is a file"),
        ("{home}/notes.txt/inside", "inside cannot be the data folder: .+ Set COURSE_DATA"),
    ],
)
def test_what_cannot_be_the_folder_is_refused_and_left_alone(monkeypatch, tmp_path, chosen, words):
    (tmp_path / "notes.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COURSE_DATA", chosen.format(home=tmp_path))
    with pytest.raises(DataError, match=words):
        data.data_folder()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
