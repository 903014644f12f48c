"""Make the course's web page from the solved notebooks: python course.py book [folder]

Nothing is executed and nothing is downloaded. `lay_out` copies pages and notebooks into one folder, with links that lead
from page to page, hints and solutions folded away, and the contents; Sphinx (conf.py beside this file) does the rest.
"""

import html
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import yaml

from course_helpers.exercises import exercise

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parents[1]
NOTEBOOKS = ROOT / "notebooks"
# "owner/name", as in the badge of README.md; None as long as it is not filled in: no page links to Binder then.
REPOSITORY = re.search(r"mybinder\.org/v2/gh/(\S+?/\S+?)/HEAD", (ROOT / "README.md").read_text("utf-8"))[1]
REPOSITORY = None if REPOSITORY == "OWNER/REPOSITORY" else REPOSITORY
LICENCES = {"LICENSE": "Code", "LICENSE-TEXT": "Text and figures", "CITATION.cff": "How to cite"}

LESSON_NOTE = """This page shows the lesson with its results. Try the exercises before you unfold a solution.
To work on it yourself, {binder}see [Start](index.md#start)."""
WIDGET_NOTE = """In the notebook, sliders appear here, and each move computes a new picture. A web page cannot do that:
the pictures next to this cell show what you would see."""


def pages():
    """Every file that becomes a page, and the name of its page; found by looking, so that new ones need no entry."""
    found = {ROOT / "README.md": "index", ROOT / "data" / "README.md": "data"}
    for folder in (ROOT, NOTEBOOKS):
        for path in sorted(folder.glob("*.md")):
            found.setdefault(path, path.stem.lower())
    for path in lessons():
        found[path] = found[NOTEBOOKS / path.name] = path.stem
    return found | {ROOT / name: "licence" for name in LICENCES}


def lessons():
    """The solved notebooks in the order of the contents; the page to begin with has no number."""
    solutions = NOTEBOOKS / "solutions"
    return [*solutions.glob("_*.ipynb"), *sorted(solutions.glob("[0-9]*.ipynb"))]


def binder(name):
    """The address that opens a learners' notebook in Binder."""
    return f"https://mybinder.org/v2/gh/{REPOSITORY}/HEAD?urlpath=lab/tree/notebooks/{name}"


def rewrite(text, folder, target, to_page):
    """Markdown whose relative links lead to pages, or to the repository for what is no page; pictures are copied."""

    def new_link(match):
        link, _, anchor = (match[2] or "").partition("#")
        path = Path(os.path.normpath(folder / link))
        if not link or ":" in link or not path.exists():
            return match[0]  # Sphinx complains of what leads nowhere
        if path.suffix in (".png", ".gif", ".svg"):
            shutil.copy(path, target)
            return f"[{match[1]}]({path.name})"
        if path in to_page:
            return f"[{match[1]}]({to_page[path]}.{'ipynb' if path.suffix == '.ipynb' else 'md'}{'#' + anchor if anchor else ''})"
        address = f"(https://github.com/{REPOSITORY}/blob/HEAD/{path.relative_to(ROOT).as_posix()})"
        return f"[{match[1]}]{address}" if REPOSITORY else match[1]

    return re.sub(r"^```.*?^```|\[([^\[\]]*)\]\(([^)\s]+)\)", new_link, text, flags=re.MULTILINE | re.DOTALL)


def terms():
    """The words of the glossary, each with the name of its place on the page."""
    found = re.findall(r"^\*\*(.+?)\*\*", (NOTEBOOKS / "glossary.md").read_text("utf-8"), flags=re.MULTILINE)
    return {term.lower(): "term-" + re.sub(r"\W+", "-", term.lower()) for term in found}


def mark_terms(text):
    """The glossary with a place to link to before each entry."""
    places = terms()
    return re.sub(r"^(?=\*\*(.+?)\*\*)", lambda m: f"({places[m[1].lower()]})=\n", text, flags=re.MULTILINE)


def link_terms(text, places):
    """Markdown of a lesson in which terms in bold lead to the glossary."""

    def new_term(match):
        word = " ".join(match[1].lower().split())
        place = places.get(word) or places.get(word.removesuffix("s"))
        return f"[{match[0]}](#{place})" if place else match[0]

    return re.sub(r"(?<!\*)\*\*(\w[^*]*?)\*\*(?!\*)", new_term, text)


def note(title, text):
    return nbformat.v4.new_markdown_cell(f":::{{admonition}} {title}\n:class: note\n{text}\n:::")


def hints_of(number):
    """All hints for an exercise, each in an element that unfolds."""
    hints = exercise(number).hints
    folded = []
    for position, hint in enumerate(hints, start=1):
        text = re.sub("`(.+?)`", r"<code>\1</code>", html.escape(hint, quote=False))
        heading = f"Hint {position} of {len(hints)}"
        folded.append(f'<details class="hint"><summary>{heading}</summary><p>{text}</p></details>')
    return nbformat.v4.new_markdown_cell("\n\n".join(folded))


def is_widget(cell):
    """Whether a cell makes sliders; they are left out of stored outputs, see tools/build.py."""
    makes_one = re.search(r"^(stackview\.\w+|[HV]Box|interact\w*)\(", cell.source, flags=re.MULTILINE)
    return cell.cell_type == "code" and not cell.outputs and bool(makes_one)


def lesson_page(notebook, name):
    """The cells of a solved notebook as the page shows them."""
    cells, first_solution = [], None
    for cell in notebook.cells:
        tags = cell.metadata.setdefault("tags", [])
        if cell.cell_type == "code" and "solution" in tags:
            tags.append("hide-cell")
            first_solution = len(cells) if first_solution is None else first_solution
        elif checked := re.match(r'exercise\("([\d.]+)"\)\.check\(', cell.source):
            cells.insert(len(cells) if first_solution is None else first_solution, hints_of(checked[1]))
            cell.source = "\n".join(line for line in cell.source.splitlines() if ".hint()" not in line)
            first_solution = None
            tags.append("check")
        if "alt" in cell.metadata:
            cell.metadata["mystnb"] = {"image": {"alt": cell.metadata["alt"]}}
        if "hide-output" in tags:
            cell.metadata["mystnb"] |= {
                f"code_prompt_{verb.lower()}": f"{verb} the animation" for verb in ("Show", "Hide")
            }
        cells.append(cell)
        if is_widget(cell):
            cells.append(note("Not on this page", WIDGET_NOTE))
    open_in_binder = f"[open this lesson in Binder]({binder(name)}), or " if REPOSITORY else ""
    cells.insert(1, note("Your turn", LESSON_NOTE.format(binder=open_in_binder)))
    return cells


def lay_out_lesson(path, target, to_page):
    notebook, places = nbformat.read(path, as_version=4), terms()
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = link_terms(rewrite(cell.source, path.parent, target, to_page), places)
    title, _, rest = notebook.cells[0].source.partition("\n")
    if rest:
        notebook.cells[0].source = title
        notebook.cells.insert(1, nbformat.v4.new_markdown_cell(rest.strip()))
    notebook.cells = lesson_page(notebook, path.name)
    nbformat.write(notebook, target / path.name)
    number = "" if path.stem.startswith("_") else f"{int(path.stem[:2])}. "
    return f"{number}{title.strip('# ')} <{path.stem}>"


def licence_page():
    """The licences as they are, and a sentence to cite."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    authors = ", ".join(author.get("name", author.get("family-names")) for author in citation["authors"])
    parts = [
        f"# Licence and citation\n\n{citation['message']}\n\n"
        f"> {authors}. *{citation['title']}.* Version {citation['version']}.{f' <https://github.com/{REPOSITORY}>' if REPOSITORY else ''}"
    ]
    for name, heading in LICENCES.items():
        parts.append(f"## {heading}\n\n```text\n{(ROOT / name).read_text('utf-8').strip()}\n```")
    return "\n\n".join(parts) + "\n"


def toctree(caption, entries):
    return f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(entries) + "\n```\n"


def lay_out(target):
    """Write everything that Sphinx reads into a folder, which is made anew."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    to_page = pages()
    entries = [lay_out_lesson(path, target, to_page) for path in lessons()]
    texts = {
        name: rewrite(path.read_text("utf-8"), path.parent, target, to_page)
        for path, name in to_page.items()
        if path.suffix == ".md"
    }
    # On the web, task and solution are one page; pictures from elsewhere, such as badges, become their text.
    index = re.sub("<!--.*?-->", "", texts["index"], flags=re.DOTALL)
    if REPOSITORY:
        index = re.sub(r"\[solution\]\((\w+\.ipynb)\)", lambda m: f"[Binder]({binder(m[1])})", index)
        index = index.replace("| Solution |", "| Try it |")
    else:
        index = re.sub(r"\| (\[solution\]\(\w+\.ipynb\)|Solution) ", "", index).replace("|---|---|---|", "|---|---|")
    index = re.sub(r"!\[([^\]]*)\]\(https?:[^)]*\)", r"\1", index)
    others = sorted(set(texts) - {"index"})
    texts["index"] = index + toctree("Lessons", entries) + toctree("More", [*others, "licence"])
    texts["licence"], texts["glossary"] = licence_page(), mark_terms(texts["glossary"])
    for name, text in texts.items():
        (target / f"{name}.md").write_text(text, encoding="utf-8")


def build(folder):
    """Lay out the pages and let Sphinx make the site in a folder; its exit code."""
    lay_out(folder / "pages")
    shutil.rmtree(folder / "html", ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "--builder", "html", "--fail-on-warning", "--quiet", "--fresh-env"]
    command += ["--conf-dir", BOOK, "--doctree-dir", folder / "doctrees", folder / "pages", folder / "html"]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    where = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "book").absolute()
    if failed := build(where):
        sys.exit(failed)
    print("Open in a browser:", (where / "html" / "index.html").as_uri())
