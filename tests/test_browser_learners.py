"""The lessons in a real JupyterLab in a headless browser: run all cells, answer exercises, use the widgets.

Skipped where Chromium or Chrome is missing, unless COURSE_BROWSER_TESTS=required. A failing test leaves a picture in
tests/screenshots.
"""

import base64
import io
import re

import nbformat
import numpy as np
import PIL.Image
import pytest
from browser_tools import ROOT, printed

LESSONS = sorted(path.name for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))


@pytest.fixture(scope="module", params=LESSONS)
def lesson(open_notebook, request):
    """Each lesson in turn, all cells run."""
    notebook = open_notebook(request.param)
    try:
        notebook.run_all()
    except Exception:
        notebook.keep_picture(request.param)
        raise
    yield notebook
    notebook.close()


def only(number):
    names = [name for name in LESSONS if name.startswith(f"{number:02}_")]
    return pytest.mark.parametrize("lesson", names, indirect=True)


def test_lesson_runs_unsolved(lesson):
    cells = lesson.cells()
    assert not [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
    assert all(cell["count"] for cell in cells if cell["type"] == "code")
    checks = [printed(cell) for cell in cells if ").check(" in cell["source"]]
    assert len(checks) >= 3 and all(line.startswith("○ Exercise ") for line in checks), checks
    assert lesson.page.locator(".Toastify__toast").all_inner_texts() == [], "JupyterLab asks for nothing of its own"


CUT_OUTPUTS = """async () => {
    const {content} = window.jupyterapp.shell.currentWidget, found = [];
    const scrolls = element => ['auto', 'scroll'].includes(getComputedStyle(element).overflowX);
    for (const [index, {model, node}] of content.widgets.entries()) {
        if (model.type !== 'code' || !model.outputs.length) continue;
        await content.scrollToItem(index);
        for (let frame = 0; frame < 1000 && !node.isConnected; frame++) await new Promise(requestAnimationFrame);
        if (!node.isConnected) found.push([index, 'is not drawn']);
        for (const output of node.querySelectorAll('.jp-OutputArea-output')) {
            if (output.scrollWidth > output.clientWidth + 1 && !scrolls(output)) found.push([index, 'is cut']);
            for (const part of output.querySelectorAll('img, canvas, table, .widget-slider')) {
                let {left, right} = part.getBoundingClientRect();
                for (let box = part; box !== output.parentElement; box = box.parentElement) {
                    const edges = box.getBoundingClientRect();
                    [left, right] = [Math.max(left, edges.left), Math.min(right, edges.right)];
                }
                if (right - left < 100) found.push([index, part.className || part.tagName, right - left]);
            }
        }
    }
    return found; }"""


def test_outputs_fit_a_narrow_window(lesson):
    """An output is as narrow as its cell or scrolls in it, and no picture, table or slider vanishes."""
    wide = lesson.page.viewport_size
    lesson.page.set_viewport_size({"width": 700, "height": 1000})
    assert lesson.page.evaluate(CUT_OUTPUTS) == []
    lesson.page.set_viewport_size(wide)


# ------------------------------------------------------------------------------------------------------- widgets


def sliders_of(cell):
    cell.locator(".widget-slider").first.wait_for(state="visible")
    return cell.locator(".widget-slider").all()


PIXELS = """element => {
    if (element.tagName === 'IMG' && !(element.complete && element.naturalWidth)) return null;
    const canvas = document.createElement('canvas');
    canvas.width = element.naturalWidth || element.width;
    canvas.height = element.naturalHeight || element.height;
    canvas.getContext('2d').drawImage(element, 0, 0);
    return canvas.toDataURL(); }"""


def picture_of(notebook, cell):
    """The pixels that a widget shows, once they are loaded: a widget takes the old ones away before."""
    shown = cell.locator("canvas, img.widget-image").first
    address = notebook.wait_until(lambda: shown.evaluate(PIXELS), "a picture is loaded")
    return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB"))


def is_something_to_see(picture):
    return len(np.unique(picture.reshape(-1, 3), axis=0)) > 20


def move(notebook, slider, number):
    """Click on the number beside a slider, type another one, and press Enter."""
    field = slider.locator(".widget-readout")
    field.click()
    notebook.page.keyboard.press("ControlOrMeta+a")
    notebook.page.keyboard.type(f"{number}\n")
    notebook.wait_until(lambda: float(field.inner_text()) == number, "the number is taken")


def moved(notebook, cell, slider, number, condition=is_something_to_see):
    """Move a slider, and wait for another picture, for which a condition holds; what this returns."""
    before = picture_of(notebook, cell)
    move(notebook, slider, number)

    def found():
        picture = picture_of(notebook, cell)
        return not np.array_equal(picture, before) and condition(picture)

    return notebook.wait_until(found, f"the picture fits {number}")


@only(1)
@pytest.mark.parametrize("viewer", [0, 1])
def test_slice_viewer_shows_the_image_that_its_slider_is_set_to(lesson, viewer):
    index = [i for i, cell in enumerate(lesson.cells()) if "\nstackview.slice(" in "\n" + cell["source"]][viewer]
    cell = lesson.show(index)
    (slider,) = sliders_of(cell)
    lesson.wait_until(lambda: is_something_to_see(picture_of(lesson, cell)), "there is something to see")
    for number in (1500, 700):
        moved(lesson, cell, slider, number)
    if viewer == 0:
        listed = lesson.index('print("rendered while scrolling:"')
        lesson.wait_until(
            lambda: lesson.run(listed).rstrip(" ]\n").endswith(", 700"), "the one shown is the last listed"
        )


@only(3)
def test_overlap_slider_changes_the_difference(lesson):
    cell = lesson.show(lesson.index("overlap_slider = IntSlider("))
    sigma, overlap = sliders_of(cell)

    def differences(picture):
        """The share of the picture, without its title, that is neither black nor white."""
        picture = picture[60:].astype(int)
        return float(np.mean((picture.max(axis=2) > 40) & (np.ptp(picture, axis=2) > 20)))

    lesson.wait_until(lambda: differences(picture_of(lesson, cell)) > 0.05, "the one of tiles without overlap is drawn")
    moved(lesson, cell, overlap, 40, lambda picture: differences(picture) == 0)
    narrow = moved(lesson, cell, overlap, 2, differences)
    moved(lesson, cell, sigma, 10, lambda picture: differences(picture) > 1.2 * narrow)


@only(4)
def test_zoom_and_pan_change_the_picture_and_what_is_read(lesson):
    cell = lesson.show(lesson.index("VBox([*sliders, screen, caption])"))
    zoom, row, column = sliders_of(cell)
    line = cell.locator(".jupyter-widgets.widget-label").last
    assert line.inner_text().startswith("level 8, ") and is_something_to_see(picture_of(lesson, cell))
    move(lesson, row, 37_900)
    move(lesson, column, 46_100)
    moved(lesson, cell, zoom, 0.18)
    lesson.wait_until(lambda: line.inner_text().startswith("level 2, "), "it comes from another level")
    assert not line.inner_text().endswith("read: 0 KiB")
    moved(lesson, cell, row, 38_000)
    assert line.inner_text().startswith("level 2, ")


@only(7)
def test_dashboard_draws_workers(lesson):
    """Start the cluster again, and connect as the lesson says; then by the way that a hub's address takes."""
    page = lesson.page
    lesson.run(lesson.index("cluster = LocalCluster("))
    address = lesson.run(lesson.index('print("dashboard:"')).split()[-1].removesuffix("/status")
    page.locator("[data-id='dask-dashboard-launcher']").click()
    for way in (address, page.url.partition("/lab")[0] + "/proxy/" + address.rpartition(":")[2]):
        page.get_by_placeholder("DASK DASHBOARD URL").fill(f"{way}/status")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Workers Memory", exact=True).click()
        page.frame_locator(f"iframe[src^='{way}']").locator("canvas").first.wait_for(state="visible")
        lesson.wait_until(lambda: coloured_pixels(page) > 10_000, "bars of workers are drawn")
        tab = page.locator("#jp-main-dock-panel .lm-TabBar-tab").filter(has_text="Workers Memory")
        tab.locator(".lm-TabBar-tabCloseIcon").click()
    page.locator("[data-id='dask-dashboard-launcher']").click()


def coloured_pixels(page):
    """How many pixels of the graph are seen that are not grey: bars, not axes."""
    picture = PIL.Image.open(io.BytesIO(page.locator("iframe").screenshot())).convert("RGB")
    return int((np.ptp(np.asarray(picture).astype(int), axis=2) > 40).sum())


# ----------------------------------------------------------------------------------------------------- exercises


@only(2)
def test_exercise_reacts_to_answers_and_gives_hints(lesson):
    """Write a wrong answer to the first exercise of a lesson, ask for hints, and write the right answer."""
    cells = lesson.cells()
    check = next(i for i, cell in enumerate(cells) if ").check(" in cell["source"])
    stub = max(i for i in range(check) if cells[i]["type"] == "code")
    assert "..." in cells[stub]["source"]
    answers = re.findall(r"^(?:def )?(\w+)(?: = (?:\.\.\.|\{)|\()", cells[stub]["source"], re.MULTILINE)
    assert answers
    lesson.edit(stub, "\n".join(f"{answer} = 'I do not know'" for answer in answers))
    assert lesson.run(check).startswith("✗ Exercise ")
    with_hint = cells[check]["source"].replace("\n#exercise(", "\nexercise(")
    assert with_hint != cells[check]["source"]
    for number in [1, 2]:
        line, hint = lesson.edit(check, with_hint).splitlines()
        assert line.startswith("✗ Exercise ") and hint.startswith(f"Hint {number} of ")
    solved = nbformat.read(ROOT / "notebooks" / "solutions" / lesson.path, as_version=4).cells
    sources = [cell.source for cell in solved if cell.cell_type == "code"]
    lesson.edit(stub, sources[sources.index(cells[check]["source"]) - 1])
    line, hint = lesson.run(check).splitlines()
    assert line.startswith("✓ Exercise ") and hint.startswith("No hint for exercise ")


@only(0)
def test_glossary_opens_as_text_to_read(lesson):
    """Not as its source: see LAB_SETTINGS in tools/finish.py."""
    lesson.page.evaluate("() => { window.jupyterapp.commands.execute('docmanager:open', {path: 'glossary.md'}) }")
    lesson.page.locator(".jp-MarkdownViewer h1:has-text('Glossary')").wait_for()
    lesson.page.evaluate("() => { window.jupyterapp.shell.currentWidget.close() }")
