"""Solutions that are changed mechanically, in one place each: none that gets ✓ may differ on a valid input."""

import ast
import copy
import difflib
from pathlib import Path

import pytest
from every_exercise import code_of, every_exercise, form_of, names_in

from course_helpers.exercises.form import Function
from course_helpers.exercises.running import Wrong, finish

FUNCTIONS = [number for number in every_exercise() if isinstance(form_of(number), Function)]
OTHERS = (
    "Lt LtE Gt, LtE Lt GtE, Gt GtE Lt, GtE Gt LtE, Eq NotEq LtE GtE, NotEq Eq Lt Gt, In NotIn, NotIn In, And Or, Or And, "
    "Add Sub, Sub Add, Mult Add FloorDiv, Div FloorDiv Mult, FloorDiv Div Mult"
)
OTHERS = {
    getattr(ast, name): [getattr(ast, other) for other in rest] for name, *rest in map(str.split, OTHERS.split(","))
}

# What is right on every valid input, too: exercise | changed lines | why.
EQUIVALENT = """
0.2 | total = np.zeros(SHAPE) | 64 bits are more exact, and fit as well
1.1 | return image.max() - int(image.min()) | the smallest is not above the largest
1.1 | return int(image.max()) - image.min() | the smallest is not above the largest
2.3 | close = np.abs(whole - computed.astype(float)) <= 1e-06 | np.abs
2.4 | return np.clip(0, tile.astype(np.int16) - haze, 255).astype(np.uint8) | cuts off the same
2.4 | return np.clip(tile.astype(np.int16) - haze, 0, 256).astype(np.uint8) | no pixel gets brighter
2.4 | return tiles.map_blocks(subtract_haze, haze) | dask asks the function for its dtype
3.2 | overlap = overlap_needed(('maximum', 5), ('gaussian', 1.5)) | radii add up in any order
3.2 | return maximum_filter(smoothed, size=11) | mirrored pixels lie in the footprint anyway
3.2 | return tiles.map_overlap(smooth_and_widen, depth=overlap, boundary='none') | dask asks for the dtype
3.2 | return tiles.map_overlap(smooth_and_widen, depth=overlap, dtype=float) | the default of today
3.2 | smoothed = gaussian(tile, sigma=1.5, preserve_range=True) | the default
3.4 | counts, edges = da.histogram(flat, bins=256, range=(-1, 256)) | a bin for each grey value
3.4 | counts, edges = da.histogram(flat, bins=256, range=(0, 255)) | a bin for each grey value
3.4 | counts, edges = da.histogram(flat, bins=257, range=(0, 256)) | a bin for each grey value
3.4 | flat = tiles.map_overlap(remove_background, depth=12, boundary='none', dtype=np.uint8) | the default radius
3.4 | flat = tiles.map_overlap(remove_background, radius=6, depth=12, boundary='none') | dask asks for the dtype
3.4 | flat = tiles.map_overlap(remove_background, radius=6, depth=12, dtype=np.uint8) | the default of today
3.4 | flat = tiles.map_overlap(remove_background, radius=6, depth=13, boundary='none', dtype=np.uint8) | is enough
3.4 | return flat > threshold_otsu(hist=counts) | computes the counts
4.4 | target = zarr.create_array(zarr_path, shape=view.shape, chunks=(256, 256), dtype=view.dtype) | nothing is there yet
4.4 | view = zarr.open_array(file.aszarr()) | it is only read
4.4 | for row in range(0, view.shape[0], 255): | some rows are written twice
4.4 | for column in range(0, view.shape[1], 1023): | some columns are written twice
4.4 | target[row:row + 256, column:column + 1024] = view[row:row + 256, column:] | Zarr leaves out what is too much
4.4 | target[row:row + 256, column:column + 1024] = view[row:row + 256, column:column + 1025] | the same
4.4 | target[row:row + 256, column:column + 1024] = view[row:row + 257, column:column + 1024] | the same
5.3 | excluded = np.union1d(labels[-0], labels[:, -1]) | another right choice of borders
5.3 | excluded = np.union1d(labels[-1], labels[:, -0]) | another right choice of borders
5.3 | excluded = np.union1d(labels[-1], labels[:-1, -1]) | the corner is in the last row
5.3 | excluded = np.union1d(labels[:, -1], labels[-1]) | a union
6.4 | column = (table['centroid-1'] / side).astype(int) | no centre is negative
6.4 | row = (table['centroid-0'] / side).astype(int) | no centre is negative
6.5 | downwards = zip(a[:], b[1:]) | zip ends with the shorter one
6.5 | upwards = zip(a[1:], b[:]) | zip ends with the shorter one
6.5 | pairs = {(i, int(j)) for group in (side_by_side, downwards, upwards) for i, j in group} | a number of NumPy
6.5 | pairs = {(int(i), j) for group in (side_by_side, downwards, upwards) for i, j in group} | a number of NumPy
6.5 | pairs = {(int(i), int(j)) for group in (downwards, side_by_side, upwards) for i, j in group} | any order
6.5 | pairs = {(int(i), int(j)) for group in (side_by_side, upwards, downwards) for i, j in group} | any order
6.5 | return (pair for pair in pairs if 0 not in pair) | any order, and any kind of list
8.3 | counts = np.zeros(65536) | floats count as well
8.4 | top, left = (max(0, row * step - margin), max(column * step - margin, 0)) | the larger one of two
8.4 | top, left = (max(row * step - margin, 0), max(0, column * step - margin)) | the larger one of two
"""


def but(node, **fields):
    """A copy of a node with other fields."""
    new = copy.copy(node)
    vars(new).update(fields)
    return new


def one_less(nodes):
    return [nodes[:at] + nodes[at + 1 :] for at in range(len(nodes))]


def swapped(nodes):
    return [[*nodes[:at], *nodes[at : at + 2][::-1], *nodes[at + 2 :]] for at in range(len(nodes) - 1)]


def alternatives(node):
    """Nodes that may stand in the place of this one."""
    match node:
        case ast.Constant(int(value)) if not isinstance(value, bool):
            yield from (ast.Constant(value + 1), ast.Constant(value - 1))
        case ast.Constant(float(value)):
            yield from (ast.Constant(value * 2), ast.Constant(value / 2))
        case ast.Slice(lower, upper):
            yield but(node, lower=None if lower else ast.Constant(1))
            yield but(node, upper=None if upper else ast.Constant(-1))
        case ast.Tuple(elts) | ast.List(elts):
            yield from (but(node, elts=new) for new in (one_less(elts) if len(elts) > 1 else []) + swapped(elts))
        case ast.SetComp(elt, generators):
            yield ast.ListComp(elt, generators)
        case ast.comprehension(ifs=[_]):
            yield but(node, ifs=[])
        case ast.If(test):
            yield but(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.For(body=body):
            yield but(node, body=[*body, ast.Break()])
        case _:
            yield from other_calculations(node)
    if isinstance(node, ast.stmt) and not isinstance(node, (ast.FunctionDef, ast.ImportFrom)):
        yield ast.Pass()


def other_calculations(node):
    """Comparisons, operators and calls that may stand in the place of this one."""
    match node:
        case ast.Compare(ops=[op]):
            yield from (but(node, ops=[other()]) for other in OTHERS.get(type(op), ()))
        case ast.BoolOp(op, values):
            yield from (but(node, op=OTHERS[type(op)][0]()), *values)
        case ast.BinOp(left, op, right):
            yield from (but(node, op=other()) for other in OTHERS.get(type(op), ()))
            yield from (left, right)
            if not isinstance(op, (ast.Add, ast.Mult)):
                yield but(node, left=right, right=left)
        case ast.UnaryOp(operand=operand):
            yield operand
        case ast.Attribute(attr="min" | "max" as name):
            yield but(node, attr="min" if name == "max" else "max")
        case ast.Name("min" | "max" as name):
            yield but(node, id="min" if name == "max" else "max")
        case ast.Call(func, args, keywords):
            yield from (but(node, args=new) for new in one_less(args) + swapped(args))
            yield from (but(node, keywords=new) for new in one_less(keywords))
            yield from (args[:1] or [func.value]) if isinstance(func, ast.Attribute) else args[:1]


def kept(node, variables):
    """The node that gives what this one gave when it was first computed, as if it were written down."""
    is_read = isinstance(getattr(node, "ctx", ast.Load()), ast.Load)
    if isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)) and is_read and names_in(node, ast.Load) & variables:
        yield ast.parse(f"first(lambda: {ast.unparse(node)})", mode="eval").body


def slots(tree):
    """(what holds a node, under which key, the node) for all nodes."""
    for parent in ast.walk(tree):
        for name, value in list(ast.iter_fields(parent)):
            holder = value if isinstance(value, list) else vars(parent)
            for key in range(len(value)) if isinstance(value, list) else [name]:
                if isinstance(holder[key], ast.AST) and name != "decorator_list":
                    yield holder, key, holder[key]


def keeper():
    """A function that gives what its first call made."""
    made = []
    return lambda make: made[0] if made else made.append(make()) or made[0]


def mutants(number):
    """(the lines that are changed, the function) for each change of the solution that Python can compile."""
    statements, handed = code_of(number, "solution")
    values = {}
    exec(compile(ast.Module(statements, []), number, "exec"), values)
    functions = ast.Module([statement for statement in statements if isinstance(statement, ast.FunctionDef)], [])
    variables = names_in(functions, ast.Store) | {node.arg for node in ast.walk(functions) if isinstance(node, ast.arg)}
    lines = ast.unparse(functions).splitlines()
    for holder, key, node in list(slots(functions)):
        for new in (*alternatives(node), *kept(node, variables)):
            holder[key] = new
            new_lines = ast.unparse(functions).splitlines()
            changed = [line[2:].strip() for line in difflib.ndiff(lines, new_lines) if line[:2] == "+ "]
            own = {**values, "first": keeper()}
            try:
                if not changed:
                    continue
                exec(compile(ast.fix_missing_locations(copy.deepcopy(functions)), number, "exec"), own)
                yield "; ".join(changed), eval(handed, own)
            except SyntaxError:
                pass
            finally:
                holder[key] = node


def is_accepted(number, function, folder):
    """Whether a check says ✓, without what it says to a wrong function, which takes longer."""
    form = form_of(number)
    try:
        form = form.nearest(function) if hasattr(form, "nearest") else form
        return all(
            form.alike(case.found, case.expected) and not case.changed for case in form.answered(function, folder)
        )
    except (Exception, SystemExit):
        return False


@pytest.mark.parametrize("number", FUNCTIONS)
def test_no_changed_solution_is_accepted_that_differs(number, tmp_path, monkeypatch):
    """A line that fails here as too many is right on all cases: make the cases meaner, or say why it always is."""
    monkeypatch.setattr(Function, "explain", lambda *arguments: None)
    accepted = set()
    for changed, function in mutants(number):
        try:
            if finish(lambda: is_accepted(number, function, Path(tmp_path)), seconds=30):
                accepted.add(changed)
        except Wrong:
            pass
    rows = (row.split(" | ") for row in EQUIVALENT.split("\n")[1:-1])
    assert accepted == {changed for known, changed, _ in rows if known == number}
