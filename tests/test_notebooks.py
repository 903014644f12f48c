"""Sources, learner notebooks and solved notebooks belong together. That they run is tested by nbval."""

import builtins
import re
import symtable

import jupytext
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import tifffile
from processes import ROOT

from course_helpers.exercises import numbers
from course_helpers.nuclei import segment_nuclei
from course_helpers.slide import render_nuclei
from tools import build as builder

NOTEBOOKS = ROOT / "notebooks"
SOURCES = sorted((NOTEBOOKS.parent / "sources").glob("*.md"))
LESSONS = builder.lessons()
REMEDY = "Run: python course.py build"

every_source = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
every_lesson = pytest.mark.parametrize("source", LESSONS, ids=lambda path: path.stem)


def solved(source):
    return nbformat.read(NOTEBOOKS / "solutions" / f"{source.stem}.ipynb", as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(cell, name="stdout"):
    return "".join(output.text for output in cell.outputs if output.get("name") == name)


def test_there_are_lessons_and_no_other_notebooks():
    names = {f"{source.stem}.ipynb" for source in SOURCES}
    assert len(names) >= 2
    for folder in (NOTEBOOKS, NOTEBOOKS / "solutions"):
        assert {path.name for path in folder.glob("*.ipynb")} == names, REMEDY


@every_source
def test_learner_notebook_is_what_the_source_makes(source):
    expected = builder.text(builder.learner_notebook(source))
    assert (NOTEBOOKS / f"{source.stem}.ipynb").read_text(encoding="utf-8") == expected, REMEDY


@every_source
def test_solved_notebook_is_what_the_source_makes(source):
    """All but the outputs, which nbval compares with a new run."""
    notebook = solved(source)
    for cell in code_cells(notebook):
        assert cell.execution_count, REMEDY
        cell.outputs, cell.execution_count = [], None
    assert builder.text(notebook) == builder.text(builder.derive(source, without="stub")), REMEDY


@every_lesson
def test_every_stored_check_is_passed(source):
    checks = [cell for cell in code_cells(solved(source)) if ").check(" in cell.source]
    assert len(checks) >= 3
    for cell in checks:
        assert printed(cell).startswith("✓ Exercise "), printed(cell)


@every_source
def test_nothing_on_stderr_and_no_error(source):
    for cell in code_cells(solved(source)):
        assert not printed(cell, "stderr"), cell.source
        assert all(output.output_type != "error" for output in cell.outputs), cell.source


@every_lesson
def test_exercises_are_numbered_in_their_order(source):
    found = re.findall(r"^##+ Exercise (\d\.\d+): ", source.read_text(encoding="utf-8"), re.M)
    assert found == numbers(int(source.stem[:2]))


@every_lesson
def test_every_exercise_has_a_stub_a_solution_and_a_check(source):
    cells = builder.derive(source, without="").cells
    for index, cell in enumerate(cells):
        if ").check(" in cell.source:
            answer = re.search(r"\.check\((\w+)", cell.source)[1]
            before = cells[:index]
            stub = [c for c in before if "stub" in builder.tags(c) and re.search(rf"\b{answer}\b", c.source)]
            solution = [c for c in before if "solution" in builder.tags(c) and re.search(rf"\b{answer}\b", c.source)]
            assert stub and "..." in stub[-1].source and solution, cell.source
            assert "\n#exercise(" in cell.source and ").hint()" in cell.source


def names(cell):
    """The names that a cell gives a value, and those that it uses; inside functions, too."""
    top = symtable.symtable(cell.source, "cell", "exec")
    scopes = [top]
    for scope in scopes:
        scopes += scope.get_children()
    defined = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    used = [symbol for scope in scopes for symbol in scope.get_symbols() if scope is top or symbol.is_global()]
    return defined, {symbol.get_name() for symbol in used if symbol.is_referenced()}


@every_lesson
def test_the_unsolved_lesson_runs_like_the_solved_one(source):
    """Only checks use what stubs and solutions define. The browser runs the unsolved lessons as they are."""
    of_answers = set()
    for cell in code_cells(builder.derive(source, without="")):
        defined, used = names(cell)
        if {"stub", "solution"} & set(builder.tags(cell)):
            of_answers |= defined
        elif ").check(" not in cell.source:
            of_answers -= defined
            assert not used & of_answers, (used & of_answers, cell.source)
    assert of_answers


@every_source
def test_frame_of_the_lesson(source):
    """Title, minutes, goals, key points; headings do not skip levels; cells stay short."""
    text = source.read_text(encoding="utf-8")
    body = text.split("---", 2)[2]
    prose = re.sub(r"```.*?```", "", body, flags=re.S)
    assert re.search(r"^\*\*Time:\*\* {minutes} minutes", prose, re.M)
    assert "You will" in prose and "You need" in prose and "## Key points" in prose
    levels = [len(mark) for mark in re.findall(r"^(#+) ", prose, re.M)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:]))
    for cell in re.findall(r"```{code-cell}.*?\n(.*?)```", body, re.S):
        assert len([line for line in cell.splitlines() if line.strip() and not line.startswith(":")]) <= 22, cell


LESSONS_WITH_CORE = [source for source in LESSONS if "\n## Further: " in source.read_text(encoding="utf-8")]


@pytest.mark.parametrize("source", LESSONS_WITH_CORE, ids=lambda path: path.stem)
def test_the_core_is_short_and_the_rest_needs_nothing_but_the_core(source):
    cells = [cell for cell in jupytext.read(source).cells if "stub" not in builder.tags(cell)]
    core, *further = builder.parts(cells)
    code = [cell for cell in core if cell.cell_type == "code"]
    assert sum(len(cell.source.split()) for cell in core if cell.cell_type == "markdown") <= 1500
    assert len(code) <= 25 and sum(").check(" in cell.source for cell in code) in (2, 3)
    long = [cell.source for cell in code if "solution" not in builder.tags(cell) and cell.source.count("\n") >= 12]
    assert not [source for source in long if "import " not in source]
    assert sum(cell.source.startswith("## Key points") for cell in core) == 1
    known = set().union(*(names(cell)[0] for cell in code)) | set(dir(builtins))
    for part in further:
        assert "{minutes} minutes" in part[0].source
        own = set(known)
        for cell in part:
            if cell.cell_type == "code":
                defined, used = names(cell)
                assert used - defined <= own, (part[0].source, used - defined - own)
                own |= defined


@pytest.mark.parametrize("source", [*SOURCES, NOTEBOOKS.parent / "teachers_guide.md"], ids=lambda path: path.stem)
def test_prose_does_not_talk_down(source):
    prose = re.sub(r"(````?)[^`].*?\1", "", source.read_text(encoding="utf-8"), flags=re.S)
    found = re.findall(r"\b(simply|obviously|just|of course|trivial\w*|easy|easily)\b", prose, re.I)
    assert not found, found


def test_the_first_page_counts_in_ones_own_file(tmp_path, monkeypatch):
    """Three lines are replaced, the channel is chosen, and the comparison with the truth is left out."""
    image = np.stack([np.zeros((300, 450)), render_nuclei((2000, 5000), window=np.s_[1500:1800, 4000:4450]) / 255])
    image = image.astype(np.float32)
    tifffile.imwrite(tmp_path / "own.tif", image, metadata={"axes": "CYX"}, compression="lzw")
    code = [cell.source for cell in code_cells(jupytext.read(builder.START)) if "true_nuclei((" not in cell.source]
    code = ["" if "imwrite" in cell else cell.replace("image.array", "image.array[1]") for cell in code]
    monkeypatch.setattr(plt, "show", plt.close)
    names = {"PATH": "own.tif", "STORE": "own.zarr", "TABLE": "own.csv"}
    values = {"__name__": "__main__"} | {name: str(tmp_path / file) for name, file in names.items()}
    exec("\n".join(code), values)
    found = segment_nuclei(image[1], values["THRESHOLD"], values["SIGMA"]).max()
    assert len((tmp_path / "own.csv").read_text().splitlines()) == 1 + found > 100


def test_build_keeps_volatile_outputs_and_drops_widgets(tmp_path):
    """A second build gives the same bytes, also where times are printed."""
    source = tmp_path / "99_example.md"
    head = LESSONS[0].read_text(encoding="utf-8").split("---", 2)[1]
    source.write_text(
        f"---{head}---\n\n# Title\n\n```{{code-cell}} ipython3\n:tags: [nbval-ignore-output]\n\n"
        "import time\nprint(time.perf_counter_ns())\n```\n\n```{code-cell} ipython3\nimport ipywidgets\n"
        "ipywidgets.IntSlider()\n```\n\n```{code-cell} ipython3\n:tags: [stub]\n\nanswer = ...\n```\n",
        encoding="utf-8",
    )
    first = builder.solved_notebook(source)
    second = builder.solved_notebook(source, previous=first)
    assert builder.text(first) == builder.text(second)
    assert first.cells[2].outputs == [] and len(first.cells) == 3
    assert builder.learner_notebook(source).cells[3].source == "answer = ..."
