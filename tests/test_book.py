"""The course as a web page: complete, offline, without dead links, readable on a phone, in the dark and without eyes."""

import re
from urllib.parse import unquote

import nbformat
import pytest
from bs4 import BeautifulSoup
from processes import printed_by

from tools import build as builder
from tools.book import __main__ as book

SOLVED = book.lessons()
PAGES = sorted(set(book.pages().values())) + ["search"]
WIDE, PHONE = {"width": 1300, "height": 900}, {"width": 390, "height": 844}

every_lesson = pytest.mark.parametrize("path", SOLVED, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the finished pages, made without network as `python course.py book` makes them."""
    folder = tmp_path_factory.mktemp("book")
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    printed = printed_by("-m", "tools.book", folder, **nowhere)
    assert (folder / "html" / "index.html").as_uri() in printed
    return folder / "html"


@pytest.fixture(scope="module")
def parsed(site):
    """Every page of the site, by its name."""
    return {path.stem: BeautifulSoup(path.read_text("utf-8"), "html.parser") for path in site.glob("*.html")}


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def one_line(text):
    return " ".join(text.split())


def pictures(cell):
    """The alternative texts of the pictures that a stored cell shows."""
    for output in cell.outputs:
        if "image/png" in output.get("data", {}):
            yield output.metadata["image/png"].get("alt")
        for image in BeautifulSoup(output.get("data", {}).get("text/html", ""), "html.parser").find_all("img"):
            yield image.get("alt")


@every_lesson
def test_every_picture_says_what_it_shows(path):
    """In its cell of the source: `:alt: What it shows, in a sentence or three.` (a further line begins with `:  `)."""
    found = []
    for cell in code_cells(path):
        for alt in pictures(cell):
            assert alt and alt == cell.metadata.get("alt"), f"write :alt: into the source of this cell:\n{cell.source}"
        assert "alt" not in cell.metadata or list(pictures(cell)), f":alt: without a picture:\n{cell.source}"
        found += [cell.metadata["alt"]] if "alt" in cell.metadata else []
    assert len(set(found)) == len(found) > 0, "two cells have the same text"
    for alt in found:
        assert 40 <= len(alt) <= 350 and alt.endswith("."), alt
        assert not re.match(r"(an? )?(image|picture|figure) of", alt, re.I), f"say what it shows: {alt}"


def test_builder_describes_pictures():
    html = {"text/html": '<img src="data:x"></img> <img alt="old" src="data:y">'}
    outputs = [nbformat.v4.new_output("display_data", data=data) for data in ({"image/png": "AAAA"}, html)]
    cell = nbformat.v4.new_code_cell(metadata={"alt": 'A "bright" island.'}, outputs=outputs)
    for _ in range(2):
        builder.describe(cell)
        assert list(pictures(cell)) == ['A "bright" island.'] * 3


def test_contents_list_every_page(parsed):
    assert {path.stem for path in SOLVED} | {"index", "glossary", "data", "licence"} <= set(PAGES) <= set(parsed)
    links = parsed["search"].select(".bd-sidebar-primary nav a.reference")
    assert sorted(link["href"] for link in links) == sorted(f"{name}.html" for name in PAGES if name != "search")
    numbers = {path.stem: f"{int(path.stem[:2])}. " for path in SOLVED[1:]}
    titles = [numbers.get(path.stem, "") + one_line(parsed[path.stem].h1.text).rstrip("#") for path in SOLVED]
    assert [one_line(link.text) for link in links if link["href"][0] in "0_"] == titles


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(parsed, site, name):
    for element in parsed[name].select("[href], [src]"):
        target = element.get("href") or element.get("src")
        if re.match(r"(https?|mailto):", target):
            assert element.name == "a", f"{target} would be loaded from elsewhere"
        elif not target.startswith("data:"):
            file, _, anchor = target.partition("#")
            path = site / (unquote(file.partition("?")[0]) or f"{name}.html")
            assert path.is_file(), f"{name} links to {target}"
            if anchor and path.suffix == ".html":
                assert parsed[path.stem].find(id=unquote(anchor)), f"{name} links to {target}"


def test_pages_lead_to_binder_as_soon_as_the_repository_is_filled_in(site, tmp_path, monkeypatch):
    known = book.lay_out.__globals__["REPOSITORY"]
    for page in site.glob("0*.html"):
        assert ("mybinder.org" in page.read_text("utf-8")) == (known is not None)
    monkeypatch.setitem(book.lay_out.__globals__, "REPOSITORY", "someone/course")
    book.lay_out(tmp_path)
    index = (tmp_path / "index.md").read_text("utf-8")
    assert "OWNER" not in index
    for name in [path.name for path in SOLVED[1:]]:
        address = f"https://mybinder.org/v2/gh/someone/course/HEAD?urlpath=lab/tree/notebooks/{name}"
        assert address in (tmp_path / name).read_text("utf-8") and address in index


@every_lesson
def test_solutions_and_hints_are_folded_and_checks_are_not(parsed, path):
    article, cells = parsed[path.stem].article, code_cells(path)
    folded = [code for code in article.select(".cell_input pre") if code.find_parent("details")]
    solutions = [cell for cell in cells if "solution" in builder.tags(cell)]
    assert [one_line(code.text) for code in folded] == [one_line(cell.source) for cell in solutions]
    checks = [cell for cell in cells if ").check(" in cell.source]
    for cell in checks:
        output = next(pre for pre in article.find_all("pre") if pre.text.startswith(cell.outputs[0].text.rstrip()))
        assert not output.find_parent("details")
    order = "".join("c" if "tag_check" in part["class"] else "h" for part in article.select("details.hint, .tag_check"))
    assert re.fullmatch("(h+c)*", order) and order.count("c") == len(checks), "each check has its own hints before it"
    assert not article.select("details[open]")


@every_lesson
def test_what_a_cell_shows_is_there_or_replaced_by_a_note(parsed, path):
    """Pictures have their texts. What plays for longer than five seconds can be hidden (WCAG 2.2.2). Of sliders, words say
    what is missing; a picture is near them."""
    article, cells = parsed[path.stem].article, code_cells(path)
    stored = [alt for cell in cells for alt in pictures(cell)]
    assert sorted(image["alt"] for image in article.select(".cell_output img")) == sorted(stored)
    moving = article.select("img[src^='data:image/gif']")
    assert len(moving) == sum("stackview.animate(" in cell.source for cell in cells)
    for image in moving:
        said = [summary.text.strip() for summary in image.find_parent("details").select("summary p")]
        assert said == ["Show the animation", "Hide the animation"]
    widgets = [i for i, cell in enumerate(cells) if re.search(r"^(stackview\.slice|[HV]Box)\(", cell.source, re.M)]
    assert sum("sliders appear here" in note.text for note in article.select(".admonition")) == len(widgets)
    for index in widgets:
        assert any(list(pictures(cell)) for cell in cells[max(index - 4, 0) : index + 5]), cells[index].source


def test_terms_lead_to_the_glossary(parsed):
    places = {link["href"] for path in SOLVED for link in parsed[path.stem].article.select("a[href^='glossary.html#']")}
    assert len(places) > 20 and "glossary.html#term-lazy" in places


@pytest.fixture(scope="module")
def window(browser):
    """One window for all pages, which is quicker; it notes requests and complaints."""
    window = browser.new_page(viewport=WIDE, color_scheme="light")
    window.requests, window.complaints = [], []
    window.on("request", lambda request: window.requests.append(request.url))
    window.on("pageerror", lambda error: window.complaints.append(str(error)))
    window.on("console", lambda said: window.complaints.extend([said.text] * (said.type in ("error", "warning"))))
    yield window
    window.close()


def go(window, address):
    window.requests.clear(), window.complaints.clear()
    window.set_viewport_size(WIDE)
    window.goto(address)
    return window


@pytest.fixture(scope="module", params=PAGES)
def visit(window, site, request):
    """Each page in turn, opened from its file."""
    return go(window, (site / f"{request.param}.html").as_uri())


def test_page_asks_nobody_and_complains_of_nothing(visit):
    outside = [url for url in visit.requests if not url.startswith(("file:", "data:"))]
    assert visit.requests and not outside and not visit.complaints, (outside, visit.complaints)


# axe reports these as well, and they may stay.
ACCEPTED = {
    "region": "the theme puts the site's name beside the landmarks",
    "empty-table-header": "pandas leaves the header of the index empty",
}
# What is folded is looked at, too. Of many equal words of code, one is enough, which takes a tenth of the time.
UNFOLD = """() => {
    for (const details of document.querySelectorAll('details')) details.open = true;
    const seen = new Set();
    for (const word of document.querySelectorAll('.highlight span')) {
        const kind = word.closest('.highlight').parentElement.className + ' ' + word.className;
        if (word.className && !seen.has(kind)) seen.add(kind); else word.replaceWith(...word.childNodes);
    }
    document.body.normalize();
}"""
# For colours, one of all elements with the same names at the same place is enough.
KEEP_ONE_OF_EACH_KIND = """() => {
    const seen = new Set();
    const kind = element => element ? kind(element.parentElement) + ' ' + element.tagName + '.' + element.className : '';
    for (const element of [...document.querySelectorAll('body *')].reverse()) {
        if (element.children.length || element.closest('svg')) continue;
        if (seen.has(kind(element))) element.remove(); else seen.add(kind(element));
    }
}"""


def barriers(page, **options):
    """What axe finds, with the first place of each."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page, options={"resultTypes": ["violations"], "preload": False, **options}).response
    assert found["passes"], "axe has looked at nothing"
    return [(kind["id"], kind["nodes"][0]) for kind in found["violations"] if kind["id"] not in ACCEPTED]


def test_page_is_accessible(visit):
    """Wide and on a phone, light and dark; colours apart, because they take axe longest, and on a phone for one page.
    What is wide, such as code and tables, scrolls in itself."""
    visit.add_style_tag(content="* { transition: none !important }")
    visit.evaluate(UNFOLD)
    for size in (WIDE, PHONE):
        visit.set_viewport_size(size)
        # The theme makes what scrolls reachable by keyboard, a moment after the window changes.
        visit.wait_for_function("""() => [...document.querySelectorAll('pre, .text_html, .pst-scrollable-table-container')].every(
            box => !box.offsetParent || box.scrollWidth <= box.clientWidth || box.tabIndex === 0)""")
        assert visit.evaluate("() => document.documentElement.scrollWidth") <= size["width"], (
            "the page scrolls sideways"
        )
        assert not barriers(visit, rules={"color-contrast": {"enabled": False}})
    visit.evaluate(KEEP_ONE_OF_EACH_KIND)
    for size in (WIDE, PHONE) if visit.url.endswith("index.html") else (WIDE,):
        visit.set_viewport_size(size)
        for theme in ("light", "dark"):
            visit.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
            assert not barriers(visit, runOnly=["color-contrast"])


def test_search_finds_lessons(window, site):
    """Also in a file, where a browser may not read the pages found."""
    page = go(window, f"{site.as_uri()}/search.html?q=watershed")
    for name in ("05_tiled_nuclei_counting", "glossary"):
        page.locator(f"#search-results li a[href*='{name}']").first.wait_for()
    assert not page.complaints
