"""Write the learners' and the solved notebooks from the lessons in notebooks/source: python course.py build [name ...]

NN_topic.md -> notebooks/NN_topic.ipynb            without cells tagged "solution", without outputs, with the learner's progress
            -> notebooks/solutions/NN_topic.ipynb  without cells tagged "stub", executed

Both are marked as slides, see `mark_slides`. The alternative text of a picture stands in its cell, as
`:alt: What it shows.`; a further line begins with `:  `. It goes to the stored picture, and from there to the web page.

A heading "## Further: ..." begins a section that no other needs; what stands before the first is the core. {minutes} in
the text of a part becomes its minutes, see `minutes`; those of core and lesson go into the README's contents, too.

_begin_here.md is the first page in the file browser. Its table of the ways through the course goes into the README, too;
there {cores} becomes the minutes of the cores of lessons 1 to 5, {all} those of all lessons.

Building twice gives the same bytes. Outputs that differ from run to run (times, widgets) belong to cells tagged
"nbval-ignore-output"; they are kept from the last build for as long as the cell stays the same.
"""

import html
import itertools
import os
import re
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

LEARNERS = Path(__file__).parents[1] / "notebooks"
SOURCE = LEARNERS.parent / "sources"
START = SOURCE / "_begin_here.md"
SOLUTIONS = LEARNERS / "solutions"
README = LEARNERS.parent / "README.md"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {
        "name": "python",
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "pygments_lexer": "ipython3",
    },
    # For slides: a theme that asks no server for fonts; what is longer than the screen scrolls.
    "rise": {
        "center": False,
        "scroll": True,
        "start_slideshow_at": "beginning",
        "theme": "white",
        "transition": "none",
    },
}
WIDGET = "application/vnd.jupyter.widget-view+json"
# Seen in the error message of whoever opens a lesson with another Jupyter, in which packages are missing.
OTHER_JUPYTER = "# If this raises ModuleNotFoundError: close the notebook, and open it with  python course.py lab\n"
# What shows a learner the state of all exercises, at the end of every lesson.
PROGRESS_TEXT = """## Your progress

The next cell shows which exercises of the course you have solved. The record stays on the computer that runs this
notebook, in the folder `data/progress`; on Binder it ends with the session."""
PROGRESS_CODE = "from course_helpers.exercises import progress\n\nprogress()"


def tags(cell):
    return cell.metadata.get("tags", [])


def mark_slides(cells):
    """Tell how to present the notebook: a heading begins a slide, text that leads to code a further page of it."""
    for cell, following in zip(cells, [*cells[1:], None]):
        if cell.cell_type == "markdown":
            if re.match("##? ", cell.source):
                cell.metadata["slideshow"] = {"slide_type": "slide"}
            elif following is not None and following.cell_type == "code":
                cell.metadata["slideshow"] = {"slide_type": "subslide"}


def parts(cells):
    """The cells of a lesson's core, and those of each further section."""
    found = [[]]
    for cell in cells:
        if cell.source.startswith("## Further: "):
            found.append([])
        found[-1].append(cell)
    return found


def minutes(cells):
    """How long a learner takes for cells, rounded to five: one minute for 100 words or a code cell, ten for an exercise.

    With eight lessons and a reader for each, this gave 1,015 minutes where they took 1,050.
    """
    cells = [cell for cell in cells if "solution" not in tags(cell)]
    words = sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown")
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    exercises = sum(").check(" in source for source in code)
    return 5 * round((words / 100 + len(code) + 10 * exercises) / 5)


def minutes_of_core_and_all(cells):
    took = [*map(minutes, parts(cells))]
    return took[0], sum(took)


def lessons():
    """The sources of the numbered lessons, in their order."""
    return sorted(SOURCE.glob("[0-9]*.md"))


def fill_in_minutes(notebook):
    """Replace {minutes} of a part, {cores} and {all} in the text of a notebook."""
    for part in parts(notebook.cells):
        known = {"{minutes}": minutes(part)}
        if "{all}" in part[0].source:
            took = [minutes_of_core_and_all(jupytext.read(lesson).cells) for lesson in lessons()]
            known |= {"{cores}": sum(core for core, _ in took[1:6]), "{all}": sum(both for _, both in took)}
        for cell, (name, number) in itertools.product(part, known.items()):
            if cell.cell_type == "markdown":
                cell.source = cell.source.replace(name, str(number))


def contents_row(source):
    """The line of a lesson in the README's table of contents."""
    cells = jupytext.read(source).cells
    title = next(cell.source for cell in cells if cell.source.startswith("# ")).splitlines()[0].removeprefix("# ")
    link = f"[{int(source.stem[:2])}. {title}](notebooks/{source.stem}.ipynb)"
    core, all_of_it = minutes_of_core_and_all(cells)
    return f"| {link} | [solution](notebooks/solutions/{source.stem}.ipynb) | {core} | {all_of_it} |"


def with_contents(readme):
    """The README's text with a row for each lesson, and with the ways through the course."""
    rows = "".join(f"{contents_row(source)}\n" for source in lessons())
    readme = re.sub(r"^(\| \[\d.*\n)+", lambda _: rows, readme, flags=re.M)
    table = r"^\| You have .*\n(\|.*\n)+"
    first = derive(START, without="stub").cells[0].source
    ways = re.search(table, first, re.M)[0].replace("](", "](notebooks/")
    return re.sub(table, lambda _: ways, readme, flags=re.M)


def derive(source, without):
    """The notebook of one lesson file, without the cells that carry a tag; ids and metadata are fixed."""
    notebook = jupytext.read(source)
    fill_in_minutes(notebook)
    notebook.cells = [cell for cell in notebook.cells if without not in tags(cell)]
    number_cells(notebook)
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def describe(cell):
    """Give the pictures among a cell's outputs the alternative text of the cell."""
    alt = cell.metadata.get("alt", "")
    for output in cell.outputs:
        if "image/png" in output.get("data", {}):
            output.metadata["image/png"] = {**output.metadata.get("image/png", {}), "alt": alt}
        elif "<img" in output.get("data", {}).get("text/html", ""):
            described = f'<img alt="{html.escape(alt)}"'
            output.data["text/html"] = re.sub(r'<img( alt="[^"]*")?', lambda _: described, output.data["text/html"])


def number_cells(notebook):
    mark_slides(notebook.cells)
    for index, cell in enumerate(notebook.cells):
        cell.id = f"cell-{index:03d}"


def learner_notebook(source):
    """What a learner opens: nothing executed, help with a wrong start, and the state of the exercises at the end."""
    notebook = derive(source, without="solution")
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source = OTHER_JUPYTER + first.source
    if any(").check(" in cell.source for cell in notebook.cells):
        notebook.cells += [nbformat.v4.new_markdown_cell(PROGRESS_TEXT), nbformat.v4.new_code_cell(PROGRESS_CODE)]
    number_cells(notebook)
    return notebook


def solved_notebook(source, previous=None):
    """The executed notebook; where a cell is the same, volatile outputs are those of `previous`."""
    notebook = derive(source, without="stub")
    NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=False,
        resources={"metadata": {"path": str(SOLUTIONS)}},
    ).execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    kept = {cell.source: cell for cell in previous.cells if cell.cell_type == "code"} if previous else {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            if cell.source in kept and "nbval-ignore-output" in tags(cell):
                cell.outputs = kept[cell.source].outputs
            # A stored widget without its kernel shows an error, not a picture.
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
            describe(cell)
    return notebook


def text(notebook):
    return nbformat.writes(notebook) + "\n"


def build(source):
    """Write both notebooks of one lesson file."""
    solved = SOLUTIONS / f"{source.stem}.ipynb"
    previous = nbformat.read(solved, as_version=4) if solved.exists() else None
    notebooks = {
        LEARNERS / f"{source.stem}.ipynb": learner_notebook(source),
        solved: solved_notebook(source, previous),
    }
    for path, notebook in notebooks.items():
        path.parent.mkdir(exist_ok=True)
        write(path, text(notebook))


def write(path, text):
    temporary = path.with_suffix(".new")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    os.replace(temporary, path)
    print("wrote", path.relative_to(LEARNERS.parent))


def main(names):
    sources = sorted(SOURCE.glob("*.md"))
    unknown = [name for name in names if not any(name in source.stem for source in sources)]
    if unknown:
        sys.exit(f"No lesson is named {', '.join(unknown)}. There are: {', '.join(source.stem for source in sources)}.")
    chosen = [source for source in sources if not names or any(name in source.stem for name in names)]
    for source in chosen:
        build(source)
    readme = README.read_text(encoding="utf-8")
    if (changed := with_contents(readme)) != readme:
        write(README, changed)
        if START not in chosen:
            build(START)  # its text tells the minutes, too


if __name__ == "__main__":
    main(sys.argv[1:])
