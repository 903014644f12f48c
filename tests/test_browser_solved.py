"""The solved notebooks in a real JupyterLab in a headless browser: all run, and all answers are found right.

Run where COURSE_BROWSER_TESTS=required, because they take minutes: nbval runs the same notebooks without a browser. With
COURSE_SCREENSHOTS=folder every lesson leaves pictures there; a failing test always leaves one in tests/screenshots.
"""

import os

import pytest
from browser_tools import ROOT, errors, printed

LESSONS = sorted(path.name for path in (ROOT / "notebooks" / "solutions").glob("[0-9]*.ipynb"))


@pytest.mark.skipif(
    os.environ.get("COURSE_BROWSER_TESTS") != "required",
    reason="nbval runs the solved notebooks; in a browser they run where COURSE_BROWSER_TESTS=required",
)
@pytest.mark.parametrize("lesson", LESSONS)
def test_solved_lesson_runs(open_notebook, picture_if_failed, lesson):
    notebook = open_notebook(f"solutions/{lesson}")
    picture_if_failed.append(notebook)
    cells = notebook.run_all()
    assert not errors(cells)
    assert all(cell["count"] for cell in cells if cell["type"] == "code")
    assert [printed(cell, "stderr") for cell in cells if printed(cell, "stderr")] == []
    checks = [printed(cell) for cell in cells if ").check(" in cell["source"]]
    assert len(checks) >= 3
    assert [line for line in checks if not line.startswith("✓ Exercise ")] == []
    notebook.take_pictures(f"solved-{lesson}")
    notebook.close()
