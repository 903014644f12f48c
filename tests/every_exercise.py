"""All exercises, with the answers that the lessons give to them."""

import ast
import builtins
import functools
import re
from functools import partial

import jupytext

from course_helpers.exercises import LESSONS, exercise, numbers
from course_helpers.exercises.form import Function, Parts, seen
from tools import build as builder

KEPT = []  # what lazy answers need as long as there are tests, such as the folder of their files


def every_exercise():
    """The numbers of all exercises."""
    return [number for lesson in LESSONS for number in numbers(lesson)]


def form_of(number):
    return exercise(number).form


@functools.cache
def answers_of(number, tag):
    """What the lesson's cells hand over to a check, with the cells tagged "stub" or those tagged "solution"."""
    statements, handed = code_of(number, tag)
    values = {}
    exec(compile(ast.Module(statements, []), number, "exec"), values)
    KEPT.append(values)
    return eval(f"[{handed}]", values)


def code_of(number, tag):
    """The statements on which the answers to a check depend, so that no lesson is run as a whole, and these answers."""
    [path] = builder.SOURCE.glob(f"0{number.split('.')[0]}_*.md")
    other = {"stub": "solution", "solution": "stub"}[tag]
    statements = []
    for cell in jupytext.read(path).cells:
        if cell.cell_type == "code" and other not in cell.metadata.get("tags", []):
            if check := re.search(rf'^exercise\("{re.escape(number)}"\)\.check\((.*)\)$', cell.source, re.M):
                return needed(statements, names_in(ast.parse(check[1]), ast.Load)), check[1]
            statements += ast.parse(cell.source).body
    raise ValueError(f"{path.name} has no check for exercise {number}")


def names_in(tree, context):
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, context)}


def imported(statement):
    names = statement.names if isinstance(statement, (ast.Import, ast.ImportFrom)) else []
    return {(name.asname or name.name).split(".")[0] for name in names}


def replaced_by(statement):
    """The names whose value before a statement does not count any more."""
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    plain = [node for target in targets for node in getattr(target, "elts", [target]) if isinstance(node, ast.Name)]
    return imported(statement) | {node.id for node in plain}


def changed_by(statement, modules):
    """The names that a statement gives a value, or whose value it may change."""
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return {statement.name}
    targets = [node for node in ast.walk(statement) if isinstance(getattr(node, "ctx", None), ast.Store)]
    call = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
        # Stands alone, as table.sort_values(inplace=True). A module stays the same, but it may write to a path put together.
        paths = [argument for argument in call.args if isinstance(argument, (ast.BinOp, ast.JoinedStr))]
        targets += paths if names_in(call.func, ast.Load) <= modules else [call.func.value]
    return imported(statement) | {name for node in targets for name in names_in(node, (ast.Load, ast.Store))}


def needed(statements, names):
    """The statements on which the values of these names depend, in order."""
    modules = set().union(*map(imported, statements))
    names, found = names - set(dir(builtins)), []
    for statement in reversed(statements):
        if changed_by(statement, modules) & names:
            found.append(statement)
            own = set()
            if isinstance(statement, ast.FunctionDef):
                own = {node.arg for node in ast.walk(statement) if isinstance(node, ast.arg)}
                own |= names_in(statement, ast.Store)
            names -= replaced_by(statement)
            names |= names_in(statement, ast.Load) - own - set(dir(builtins))
    return found[::-1]


def mistakes_of(number):
    """(sentence, function that gives the answers with this mistake, the rest being right) for each row of its tables."""
    form = form_of(number)
    for says, wrong in form.mistakes.items():
        wrong = wrong.example if isinstance(wrong, seen) else wrong
        if isinstance(form, Function):
            wrong = [form.made_by(wrong)]
        else:
            wrong = list(wrong.values()) if isinstance(form, Parts) and not form.in_dict else [wrong]
        yield says, partial(list, wrong)
    for name, part in getattr(form, "parts", {}).items():
        for says, wrong in part.mistakes.items():
            yield says, partial(with_part, number, name, wrong.example if isinstance(wrong, seen) else wrong)


def with_part(number, name, answer):
    """The answers of the solution, but for one part."""
    form, answers = form_of(number), answers_of(number, "solution")
    if form.in_dict:
        return [{**answers[0], name: answer}]
    return [answer if known == name else right for known, right in zip(form.parts, answers)]
