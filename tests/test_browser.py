"""The lessons in a real JupyterLab in a headless browser: run all cells, look at outputs, use the widgets.

Skipped where Chromium or Chrome is missing, unless COURSE_BROWSER_TESTS=required. With COURSE_SCREENSHOTS=folder every
lesson leaves pictures there; a failing test always leaves one in tests/screenshots.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LESSONS = sorted(path.name for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
TOKEN = "course-browser-test"

CURRENT = "const panel = window.jupyterapp.shell.currentWidget;"
IS_READY = (
    CURRENT
    + """
    return Boolean(panel && panel.context && panel.context.isReady && panel.context.path === path
        && panel.sessionContext.isReady && panel.sessionContext.session.kernel.connectionStatus === 'connected'
        && panel.sessionContext.session.kernel.status === 'idle');"""
)
CELLS = (
    CURRENT
    + """
    return panel.context.model.toJSON().cells.map(cell => ({type: cell.cell_type, source: cell.source,
        outputs: cell.outputs || [], count: cell.execution_count}));"""
)


def script(body):
    return "(path) => {" + body + "}"


@pytest.fixture(scope="module")
def jupyterlab(chromium, tmp_path_factory):
    """The address of a JupyterLab with settings of its own, which works on a copy of the notebooks."""
    folder = tmp_path_factory.mktemp("jupyterlab")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(
        json.dumps({"fetchNews": "false", "checkForUpdates": False})
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folders = {
        name: str(folder / name.lower())
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    }
    with open(folder / "server.log", "wb") as log:
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "jupyterlab",
                "--no-browser",
                f"--ServerApp.port={port}",
                "--ServerApp.port_retries=0",
                f"--IdentityProvider.token={TOKEN}",
                f"--ServerApp.root_dir={folder / 'notebooks'}",
                "--allow-root",
                "--expose-app-in-browser",
                "--LabApp.extension_manager=readonly",
            ],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **folders, "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "PYTHONUTF8": "1"},
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{address}/api?token={TOKEN}", timeout=2).close()
                break
            except OSError:
                assert server.poll() is None, (folder / "server.log").read_text()
                time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture
def open_notebook(browser, jupyterlab, request):
    """A function that opens a notebook and waits for its kernel; leaves a picture when the test fails."""
    pages = []

    def open_notebook(path, width=1300, height=1000):
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(300_000)
        pages.append(page)
        page.goto(f"{jupyterlab}/lab/tree/{path}?token={TOKEN}&reset")
        page.wait_for_function("() => window.jupyterapp && window.jupyterapp.shell")
        page.wait_for_function(script(IS_READY), arg=path)
        return page

    yield open_notebook
    for number, page in enumerate(pages):
        if getattr(request.node, "failed", False):
            folder = ROOT / "tests" / "screenshots"
            folder.mkdir(exist_ok=True)
            page.screenshot(path=folder / f"{request.node.name}-{number}.png")
        page.evaluate("() => window.jupyterapp.commands.execute('kernelmenu:shutdown')")
        page.close()


def cells_of(page):
    return page.evaluate(script(CELLS), "")


def run_all(page, path):
    """Run all cells and wait until the last one is done; the cells with their outputs."""
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
    page.wait_for_function(
        script(
            CURRENT
            + """
        const cells = panel.context.model.toJSON().cells.filter(cell => cell.cell_type === 'code' && cell.source);
        const failed = cells.some(cell => cell.outputs.some(output => output.output_type === 'error'));
        return failed || (cells.every(cell => cell.execution_count)
            && panel.sessionContext.session.kernel.status === 'idle');"""
        ),
        arg=path,
    )
    return cells_of(page)


def show_cell(page, index):
    """Scroll to a cell, so that JupyterLab draws it; its element."""
    page.evaluate("(index) => window.jupyterapp.shell.currentWidget.content.scrollToItem(index)", index)
    cell = page.locator(f".jp-WindowedPanel-viewport > [data-windowed-list-index='{index}']")
    cell.wait_for(state="attached")
    return cell


def texts(cell):
    return "".join("".join(output.get("text", "")) for output in cell["outputs"])


def take_pictures(page, name, cells):
    """Keep a picture of every cell that has an output, where pictures are asked for."""
    folder = os.environ.get("COURSE_SCREENSHOTS")
    for index, cell in enumerate(cells if folder else []):
        if cell["outputs"]:
            show_cell(page, index)
            page.wait_for_timeout(300)
            page.screenshot(path=Path(folder) / f"{name}-{index:03d}.png")


@pytest.mark.parametrize("lesson", LESSONS)
def test_lesson_runs_unsolved(open_notebook, lesson):
    page = open_notebook(lesson)
    cells = run_all(page, lesson)
    errors = [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
    assert not errors, errors
    checks = [cell for cell in cells if ").check(" in cell["source"]]
    assert checks
    for cell in checks:
        assert texts(cell).startswith("○ Exercise"), (cell["source"], texts(cell))
    take_pictures(page, lesson, cells)


def picture_of(canvas):
    return canvas.evaluate("canvas => canvas.toDataURL()")


def test_slider_shows_another_image(open_notebook):
    """stackview.slice is not blank, and moving its slider changes the picture."""
    lesson = next(name for name in LESSONS if "stackview.slice(" in (ROOT / "notebooks" / name).read_text("utf-8"))
    page = open_notebook(lesson)
    cells = run_all(page, lesson)
    index = max(i for i, cell in enumerate(cells) if "stackview.slice(" in cell["source"])
    cell = show_cell(page, index)
    canvas = cell.locator("canvas").first
    canvas.wait_for(state="visible")
    page.wait_for_timeout(1000)
    before = picture_of(canvas)
    colours = canvas.evaluate("""canvas => new Set(
        new Uint32Array(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size""")
    assert colours > 20
    handle = cell.locator("[role=slider], .noUi-handle").first
    handle.focus()
    for _ in range(3):
        page.keyboard.press("PageUp")
    deadline = time.monotonic() + 60
    while picture_of(canvas) == before and time.monotonic() < deadline:
        page.wait_for_timeout(200)
    assert picture_of(canvas) != before
