"""Every public helper, and every parameter of it, is used in a lesson, in an exercise or by count_on_cluster.py."""

import ast
import re

import jupytext
import pytest
from processes import ROOT

CHECKS = sorted((ROOT / "course_helpers" / "exercises").glob("*.py"))
HELPERS = sorted(set((ROOT / "course_helpers").rglob("*.py")) - set(CHECKS))


def users():
    """The code of all users: each lesson, the calls that its text shows, each module of checks, the script."""
    for lesson in sorted((ROOT / "sources").glob("*.md")):
        cells = jupytext.read(lesson).cells
        code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
        yield re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", code)  # magics are no Python
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        for call, name in re.findall(r"`((\w+)\([^`]+=[^`]+\))`", text):
            yield f"from course_helpers import {name}\n{call}"  # some lesson has imported it
    for path in [*CHECKS, ROOT / "notebooks" / "count_on_cluster.py"]:
        yield path.read_text(encoding="utf-8")


def name_of(node):
    """The name of a function in a call: `measure`, and also that of `memory.measure`."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


def uses(tree):
    """Names in code, except where they are imported; of calls also (name, keyword) and (name, position).

    Arguments count for the function that is called, and for one that is handed over: in `partial(f, 3)` for its first
    parameter, in `image.map_blocks(f, radius=3)` for its radius, and in an exercise, for what it calls right, in its table.
    """
    found = {name_of(node) for node in ast.walk(tree)} - {None}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            found |= {(name_of(node.func), position) for position in range(len(node.args))}
            if name_of(node.func) == "partial":
                found |= {(name_of(node.args[0]), position) for position in range(len(node.args) - 1)}
            found |= {(name_of(called), word.arg) for called in [node.func, *node.args] for word in node.keywords}
            right = [name_of(word.value) for word in node.keywords if word.arg == "right"]
            keys = [key for part in ast.walk(node) if right and isinstance(part, ast.Dict) for key in part.keys]
            found |= {(name, key.value) for name in right for key in keys if isinstance(key, ast.Constant)}
    return found


def of_helpers(tree):
    """The names that code imports from the helpers, and the attributes of modules among them."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if node.level or node.module.startswith("course_helpers")]
    names = {name.name for node in ours for name in node.names}
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    return names | {node.attr for node in attributes if name_of(node.value) in names}


def used(code_of_users, helpers):
    """The uses of helpers by users, and by those helpers that are used."""
    found = set()
    for tree in map(ast.parse, code_of_users):
        names = of_helpers(tree)
        found |= {use for use in uses(tree) if (use[0] if isinstance(use, tuple) else use) in names}
    definitions = [node for helper in helpers for node in helper.body if hasattr(node, "name")]
    before = None
    while found != before:
        before = set(found)
        found = found.union(*[uses(node) for node in definitions if node.name in before])
    return found


def unused(helper, found):
    """The public functions, classes and optional parameters of a helper module that are not among the uses."""
    for node in helper.body:
        if not hasattr(node, "name") or node.name.startswith("_"):
            continue
        if node.name not in found:
            yield node.name
        elif isinstance(node, ast.FunctionDef):
            names = [argument.arg for argument in node.args.args]
            optional = names[len(names) - len(node.args.defaults) :]
            optional += [argument.arg for argument in node.args.kwonlyargs]
            for name in optional:
                if not {(node.name, name), (node.name, (names + optional).index(name))} & found:
                    yield f"{node.name}({name}=)"


@pytest.fixture(scope="module")
def trees():
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in HELPERS}


@pytest.fixture(scope="module")
def found(trees):
    return used(users(), trees.values())


@pytest.mark.parametrize("path", HELPERS, ids=lambda path: path.stem)
def test_nothing_is_left_that_nobody_uses(path, trees, found):
    left = list(unused(trees[path], found))
    assert not left, f"delete from {path.name} what no lesson, exercise or script uses: {', '.join(left)}"


def test_what_nobody_uses_is_found():
    helper = ast.parse(
        "class Error(Exception): ...\n"
        "def shrink(image, factor=2, *, mode='mean'): return _inner(image, level=factor)\n"
        "def grow(image, factor=2): ...\n"
        "def _inner(image, level=1):\n    if level < 1: raise Error\n    return loop(image)\n"
        "def loop(image, steps=3): ...\n"
        "class Left: ...\n"
    )

    def left(code):
        return list(unused(helper, used([code], [helper])))

    start = "from course_helpers.scales import shrink\n"
    assert left(start) == ["Error", "shrink", "grow", "loop", "Left"]  # importing is no use
    assert left(start + "shrink(image)") == ["shrink(factor=)", "shrink(mode=)", "grow", "loop(steps=)", "Left"]
    assert left(start + "shrink(image, 3, mode='max')") == ["grow", "loop(steps=)", "Left"]
    assert left(start + "image.map_blocks(shrink, factor=3, mode='max')") == ["grow", "loop(steps=)", "Left"]
    assert left(start + "partial(shrink, image, 3)()") == ["shrink(mode=)", "grow", "loop(steps=)", "Left"]
    table = "Function(right=shrink, mistakes={'too small.': {'factor': 3, 'mode': 'max'}})"
    assert left(start + table) == ["grow", "loop(steps=)", "Left"]
    module = "from course_helpers import scales\nscales.grow(image)"
    assert left(module) == ["Error", "shrink", "grow(factor=)", "loop", "Left"]
    assert "grow" in left(start + "def grow(): ...\ngrow()"), "a function of the lesson itself is none of the helpers"
