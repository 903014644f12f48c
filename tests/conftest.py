import os
import shutil

import pytest
from browser_tools import Notebook, running_jupyterlab
from processes import ROOT, loaded
from slurm import missing_programs, running_slurm

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")


def lack(variable, reason):
    """Skip what cannot be tested here; fail where this variable of the environment says that it is required."""
    (pytest.fail if os.environ.get(variable) == "required" else pytest.skip)(reason)


def pytest_exception_interact(node):
    """Leave a picture in tests/screenshots of the lesson that a failing test has open in a browser."""
    if lesson := getattr(node, "funcargs", {}).get("lesson"):
        lesson.keep_picture(node.name)


@pytest.fixture(scope="module")
def browser():
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    if not found:
        lack("COURSE_BROWSER_TESTS", f"no browser: none of {', '.join(BROWSERS)} is installed")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as engine:
        off = ("gpu", "quic", "background-networking", "component-update", "sync")
        arguments = ["--no-sandbox", *(f"--disable-{name}" for name in off)]
        browser = engine.chromium.launch(executable_path=found[0], args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def open_notebook(browser, tmp_path_factory):
    """A function that opens a notebook in a JupyterLab, by its path in the folder of the notebooks."""
    options = ("--expose-app-in-browser", "--ServerApp.root_dir=notebooks", "--LabApp.extension_manager=readonly")
    with running_jupyterlab(tmp_path_factory.mktemp("jupyterlab"), "jupyterlab", *options) as address:
        yield lambda path: Notebook(browser, address, path)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    if missing := missing_programs():
        lack("COURSE_SLURM_TESTS", f"no SLURM: {', '.join(missing)} are not installed")
    with running_slurm(tmp_path_factory.mktemp("slurm")):
        yield


@pytest.fixture(scope="module")
def script():
    """The script for clusters, imported."""
    return loaded(ROOT / "notebooks" / "count_on_cluster.py")


@pytest.fixture
def line_of(capsys):
    """A function that checks answers to an exercise and returns the one line that is printed."""
    from course_helpers.exercises import exercise

    def line_of(number, *answers, **named):
        capsys.readouterr()
        exercise(number).check(*answers, **named)
        printed = capsys.readouterr()
        assert printed.err == ""
        assert printed.out.count("\n") == 1 and printed.out.endswith("\n"), printed.out
        symbol, name, found = printed.out.split(maxsplit=2)
        assert symbol in "✓✗○" and name == "Exercise" and found.startswith(f"{number}: ")
        return printed.out

    return line_of
