"""The data folder: where it lies, and what is said when it cannot be used."""

import os
from pathlib import Path

import pytest

from course_helpers import data
from course_helpers.data import DataError


def test_folder_is_the_project_s_from_every_working_directory(monkeypatch, tmp_path):
    monkeypatch.delenv("COURSE_DATA", raising=False)
    here = data.data_folder()
    monkeypatch.chdir(tmp_path)
    assert data.data_folder() == here == Path(data.__file__).resolve().parents[1] / "data"
    monkeypatch.setenv("COURSE_DATA", "")
    assert data.data_folder() == here


def test_folder_from_the_environment_is_created(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "a" / "b"))
    assert data.data_folder() == tmp_path / "a" / "b"
    assert data.data_folder().is_dir()


def test_folder_understands_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("COURSE_DATA", os.path.join("~", "slides"))
    assert data.data_folder() == tmp_path / "slides"


@pytest.mark.parametrize("chosen", ["slides", os.path.join("..", "slides")])
def test_folder_that_depends_on_the_working_directory_is_refused(monkeypatch, tmp_path, chosen):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COURSE_DATA", chosen)
    with pytest.raises(DataError, match="absolute path"):
        data.data_folder()
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_a_file_or_cannot_be_created_is_named(monkeypatch, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    monkeypatch.setenv("COURSE_DATA", str(file))
    with pytest.raises(DataError, match=r"notes\.txt cannot be the data folder: it is a file"):
        data.data_folder()
    monkeypatch.setenv("COURSE_DATA", str(file / "inside"))
    with pytest.raises(DataError, match="inside cannot be the data folder: .+ Set COURSE_DATA"):
        data.data_folder()
    assert file.read_text() == "mine"
