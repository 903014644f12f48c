"""What teachers rely on: the guide says what is so, lessons open as slides, first contact is quick and explained."""

import json
import re
import shutil

import jupytext
import nbformat
import pytest
from browser_tools import TOKEN, running_jupyterlab
from processes import ROOT, printed_by

from tools import build as builder
from tools import environment
from tools.slides import lesson_notebook

NOTEBOOKS = ROOT / "notebooks"
SOURCES = {int(path.stem[:2]): path for path in builder.lessons()}
GUIDE = (NOTEBOOKS.parent / "teachers_guide.md").read_text(encoding="utf-8")
PROSE = re.sub(r"````.*?````", "", GUIDE, flags=re.S)


def section(title):
    """The part of the guide below a heading, up to the next one of the same or a higher level."""
    match = re.search(rf"^(#+) {re.escape(title)}.*?\n(.*?)(?=^#{{1,3}} |\Z)", PROSE, re.M | re.S)
    return match[2]


@pytest.mark.parametrize(
    "plan, total", [("90 minutes", 90), ("Half a day: 240 minutes", 240), ("A day: 480 minutes", 480)]
)
def test_time_plans_add_up(plan, total):
    rows = re.findall(r"^\| (\d+) \| (.+?) \|", section(plan), re.M)
    assert sum(int(minutes) for minutes, _ in rows) == total
    lessons = [(int(minutes), what) for minutes, what in rows if "lesson" in what]
    assert len(lessons) >= 2
    for minutes, what in lessons:
        part, number, target = re.fullmatch(r"(All|The core|A part) of \[lesson (\d)\]\((.+)\)", what).groups()
        assert target == f"notebooks/{SOURCES[int(number)].stem}.ipynb"
        core, all_of_it = builder.minutes_of_core_and_all(jupytext.read(SOURCES[int(number)]).cells)
        full = core if part == "The core" else all_of_it
        fits = minutes < full if part == "A part" else minutes == full
        assert fits, f"{part} of lesson {number} takes {full} minutes"


def test_sections_that_the_guide_names_are_in_the_lessons():
    """In italics: in its plans, and where it says what to run live and what to leave out."""
    texts = re.findall(r"^\| \d+ \| (?:All|The core|A part) of \[lesson (\d)\].*? \| (.*) \|$", PROSE, re.M)
    for number in SOURCES:
        lines = re.findall(r"^- (?:Run live|Leave out).*?(?=^- |\Z)", section(f"Lesson {number}"), re.M | re.S)
        texts += [(number, line) for line in lines]
    named = [(int(number), name) for number, text in texts for name in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", text)]
    assert len(named) > 30
    for number, name in named:
        headings = re.findall(r"^##+ (.+)$", SOURCES[number].read_text(encoding="utf-8"), re.M)
        assert " ".join(name.split()) in headings, f"lesson {number} has no section {name!r}"


def test_messages_that_the_guide_quotes_are_those_of_the_checks():
    texts = {path.stem: path.read_text("utf-8") for path in (ROOT / "course_helpers" / "exercises").glob("*.py")}
    texts = {name: re.sub(r'"\s+f?"', "", text) for name, text in texts.items()}  # in one piece, as Python joins them
    of_all = "\n".join(text for name, text in texts.items() if not name.startswith("lesson_"))
    quoted = [(number, quote) for number in SOURCES for quote in re.findall(r'"([^"]+)"', section(f"Lesson {number}"))]
    assert len(quoted) >= 15
    for number, quote in quoted:
        words = " ".join(quote.split())
        assert words in of_all + texts[f"lesson_{number}"], f"no check of lesson {number} says {words!r}"
    for quote in ("Does every way through it end with return?", "nothing is computed yet: it is a plan of dask's"):
        assert quote in section("What goes wrong in any lesson") and quote in of_all


def test_the_guide_names_what_pip_is_told():
    """course.py tells uv the same."""
    named = {name.lower().replace("_", "-") for name in re.findall(r"\bPIP_([A-Z_]+)\b", PROSE)}
    assert {"no-index", "find-links"} <= named <= set(environment.SETTINGS)


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """A copy of the course with the guide's example in it, built as the guide says; its folder."""
    folder = tmp_path_factory.mktemp("example") / "course"
    ignore = shutil.ignore_patterns(".*", "*.pyc", "*.egg-info")  # loops stay compiled
    for name in ("course_helpers", "notebooks", "sources", "tests", "tools"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "teachers_guide.md"):
        shutil.copy(ROOT / name, folder)
    files = re.findall(r"`((?:sources|course_helpers)/[\w/]+\.(?:md|py))`.*?^````\w+\n(.*?)^````$", GUIDE, re.M | re.S)
    assert [name for name, _ in files] == ["sources/09_brightness.md", "course_helpers/exercises/lesson_9.py"]
    for name, content in files:
        (folder / name).write_text(content, encoding="utf-8")
    listing = folder / "course_helpers" / "exercises" / "__init__.py"
    line = re.search(r"^(    9: .+,)$", GUIDE, re.M)[1]
    text = listing.read_text(encoding="utf-8")
    listing.write_text(text.replace("}\n_asked_for", f"{line}\n}}\n_asked_for"), encoding="utf-8")
    assert "\n    python course.py build 09\n" in GUIDE
    run_in(folder, "-m", "tools.build", "09")
    return folder


def run_in(folder, *arguments):
    return printed_by(*arguments, cwd=folder, PYTHONPATH=str(folder))


def test_the_example_answers(example):
    solved = nbformat.read(example / "notebooks" / "solutions" / "09_brightness.ipynb", as_version=4)
    lines = [output.text for cell in solved.cells for output in cell.get("outputs", []) if "Exercise" in str(output)]
    assert lines == ["✓ Exercise 9.1: correct. Your mean does not depend on the tiles.\n"]
    script = """if True:
        import numpy as np
        from course_helpers.exercises import exercise, progress
        exercise("9.1").check(...)
        exercise("9.1").check(lambda tiles: np.mean([tile.mean().compute() for tile in tiles.blocks.ravel()]))
        exercise("9.1").hint()
        progress()"""
    unanswered, wrong, hint, *record = run_in(example, "-c", script).splitlines()
    assert unanswered.startswith("○ Exercise 9.1") and "you get 54.5: this is the mean of the means." in wrong
    assert hint.startswith("Hint 1 of 2") and re.match("9. Take the mean of an image in tiles +○ 9.1", record[9])


def test_the_example_keeps_the_rules_for_lessons(example):
    """All but the number of exercises, as the guide says."""
    of_pytest = ("-n0", "-q", "-p", "no:cacheprovider", "-k", "09_ and not every_stored_check_is_passed")
    printed = run_in(example, "-m", "pytest", *of_pytest, "tests/test_notebooks.py")
    assert int(re.search(r"^(\d+) passed", printed, re.M)[1]) >= 6


@pytest.mark.parametrize("source", SOURCES.values(), ids=lambda path: path.stem)
def test_slides_begin_at_headings_and_are_short(source):
    """Every section begins a slide, and no page has more than a few cells."""
    cells = builder.learner_notebook(source).cells
    kinds = [cell.metadata.get("slideshow", {}).get("slide_type", "-") for cell in cells]
    for cell, kind in zip(cells, kinds):
        begins = cell.cell_type == "markdown" and re.match("##? ", cell.source)
        assert (kind == "slide") == bool(begins)
    pages = re.findall(r"[12]0*", "".join({"slide": "1", "subslide": "2", "-": "0"}[kind] for kind in kinds))
    assert "".join(pages) and max(map(len, pages)) <= 7
    assert not any("solution" in builder.tags(cell) for cell in cells)


def test_lessons_are_found_by_their_number():
    assert lesson_notebook("3") == lesson_notebook("03") == "03_overlapping_tiles.ipynb"
    for wrong in ("", "99", "three", "-1", "3.1"):
        with pytest.raises(SystemExit, match="Which lesson"):
            lesson_notebook(wrong)


def test_slides_run_in_a_browser_without_asking_other_servers(browser, tmp_path):
    """Whoever opens the server is sent to the slides."""
    page, asked = browser.new_page(viewport={"width": 1280, "height": 800}), []
    page.set_default_timeout(300_000)
    page.on("request", lambda request: asked.append(request.url))
    with running_jupyterlab(tmp_path, "tools.slides", "2") as address:
        page.goto(f"{address}/?token={TOKEN}")
        present = ".reveal .slides section.present:not(.stack)"
        page.locator(f"{present} h1", has_text="Cut an image into tiles").wait_for()
        text = page.locator(f"{present} .jp-RenderedMarkdown").first
        assert text.evaluate("element => getComputedStyle(element).fontSize") == "22px", "rise.css is not served"
        page.keyboard.press("Space")
        cell = page.locator(f"{present} .jp-CodeCell", has_text="import dask.array")
        cell.locator(".cm-content").click()
        page.keyboard.press("Control+Enter")
        cell.locator(".jp-InputPrompt", has_text="[1]:").wait_for()
        assert not cell.locator(".jp-OutputArea-output").count(), cell.inner_text()
        page.close()
    assert not [url for url in asked if not re.match(r"http://127\.0\.0\.1:|data:|blob:", url)]


def test_what_is_imported_is_what_is_used():
    """Checks need no dask before they are asked, whoever counts needs no matplotlib and no tables."""
    script = """if True:
        import json, sys
        import course_helpers.exercises
        first = sorted(sys.modules)
        import course_helpers.nuclei, course_helpers.objects, course_helpers.slide
        print(json.dumps([first, sorted(sys.modules)]))"""
    first, second = map(set, json.loads(printed_by("-c", script)))
    assert not first & {"dask", "numba", "scipy", "skimage", "pandas", "requests", "matplotlib", "zarr"}
    assert not second & {"matplotlib", "pandas", "requests", "zarr"}


def test_the_set_up_compiles_all_that_the_lessons_use():
    """After what course.py and Binder run, no loop of the helpers is compiled any more, whatever is rendered."""
    script = f"""if True:
        import runpy
        runpy.run_path({str(ROOT / "tools" / "finish.py")!r})["warm_up"]()
        from course_helpers import mandelbrot, slide
        from course_helpers._engine import escape_time, virtual_slide
        def compiled():
            loops = [*vars(virtual_slide).values(), *vars(escape_time).values()]
            return sum(len(loop.signatures) for loop in loops if hasattr(loop, "signatures"))
        before = compiled()
        mandelbrot.render_level(20_000), mandelbrot.render_level(132_000), slide.true_nuclei((300, 300))
        slide.nuclei_slide()[1400:1500, 4300:4400].compute()
        slide.render_nuclei(seed=4, window=(slice(900, 950), slice(2000, 2050)))
        print(before, compiled())"""
    before, after = map(int, printed_by("-c", script).split())
    assert before == after > 3


def test_missing_packages_are_explained_where_they_are_missed():
    """Somebody opens a lesson with another Jupyter: the error message shows a line that says what to do."""
    for source in SOURCES.values():
        first = next(cell for cell in builder.learner_notebook(source).cells if cell.cell_type == "code").source
        assert re.match(r"# If this raises ModuleNotFoundError: .*python course.py lab\n(.*\n)*?(import|from) ", first)
