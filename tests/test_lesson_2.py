"""The exercises of lesson 2: stub, solution, typical mistakes, hostile answers."""
import dask
import dask.array as da
import numpy as np
import pytest

from course_helpers.exercises import lesson_2

TILES = [(200, 300), (200, 212), (200, 300), (200, 212), (112, 300), (112, 212)]


@pytest.mark.parametrize("number", ["2.1", "2.2", "2.3", "2.4"])
def test_unanswered(line_of, number):
    assert line_of(number, ...) == f"○ Exercise {number}: not answered yet. Replace the ... above and run both cells again.\n"


def not_written(*arguments):
    ...


@pytest.mark.parametrize("number", ["2.3", "2.4"])
def test_function_not_written(line_of, number):
    assert line_of(number, not_written).startswith("○") and "returns nothing yet" in line_of(number, not_written)


@pytest.mark.parametrize("number", ["2.1", "2.2", "2.3", "2.4"])
def test_hostile(line_of, hostile, number):
    assert line_of(number, hostile)[0] in "✗○"


@pytest.mark.parametrize("answer", [[(0, 0), *TILES], (*TILES[::-1], [0, 0]), np.array([(0, 0), *TILES])])
def test_2_1_right(line_of, answer):
    assert line_of("2.1", answer) == "✓ Exercise 2.1: correct. 7 calls, 6 of them with a tile.\n"


@pytest.mark.parametrize("answer, feedback", [
    (TILES, "Is the function called before that?"),
    ([(0, 0), (1, 1), *TILES], "Is there anything left to ask"),
    ([(0, 0), *[shape[::-1] for shape in TILES]], "the other way round"),
    ([(0, 0), *set(TILES)], "not as often as you say"),
    ([(0, 0), *TILES, *TILES], "not as often as you say"),
    ([(0, 0)] + [(200, 300)] * 6, "Does 512 divide evenly?"),
    ([(0, 0), (200, 300), (200, 300)], "Does 512 divide evenly?"),
    ([(0, 0), *TILES[:4]], "have 204800 pixels together"),
    ([(0, 0)], "have 0 pixels together"),
    ([(0, 0), (256, 512), (256, 512)], "the chunks are other ones"),
    ([(0, 0), (0, 0), *TILES], "count the trial calls again"),
    ({(0, 0), *TILES}, "a set keeps equal entries only once"),
    ([], "the list is empty"),
    (TILES[0], "a tuple with 2 entries, but a list of shapes"),
    ([(0, 0, 0)], "but a list of shapes"),
    ([(200.0, 300.0)], "but a list of shapes"),
    ("(0, 0)", "but a list of shapes"),
    (7, "the answer is 7, but a list of shapes"),
])
def test_2_1_mistakes(line_of, answer, feedback):
    line = line_of("2.1", answer)
    assert line.startswith("✗") and feedback in line


def bands(rows=(200, 400), columns=(300,), before=10, behind=10):
    mask = np.zeros((512, 512), dtype=bool)
    for row in rows:
        mask[max(row - before, 0):row + behind] = True
    for column in columns:
        mask[:, max(column - before, 0):column + behind] = True
    return mask


@pytest.mark.parametrize("answer", [bands(), bands().astype(np.uint8), bands().astype(float), bands().tolist()])
def test_2_2_right(line_of, answer):
    assert line_of("2.2", answer).startswith("✓ Exercise 2.2: correct. 29920 pixels, 11.4% of the image")


def test_2_2_truth_is_measured(monkeypatch, line_of):
    """The check knows no radius: with another sigma, other bands are right."""
    monkeypatch.setattr(lesson_2, "SIGMA", 1.3)
    assert line_of("2.2", bands(before=5, behind=5)).startswith("✓")
    assert line_of("2.2", bands()).startswith("✗")


def crossings():
    return bands(columns=()) & bands(rows=())


def from_one_image():
    mask = bands()
    mask[250:260, 295] = mask[195, 100] = False
    return mask


@pytest.mark.parametrize("answer, feedback", [
    (np.zeros((512, 512), bool), "marks no pixel"),
    (np.ones((512, 512), bool), "marks every pixel"),
    (~bands(), "inside out"),
    (bands(rows=(300,), columns=(200, 400)), "rows and columns are swapped"),
    (crossings(), "only where bands cross"),
    (from_one_image(), "you miss 11 of the wrong pixels, and mark 0 that are always right. Do not look at one image"),
    (bands(rows=()), "no row is marked"),
    (bands(columns=()), "no column is marked"),
    (bands(rows=(0, 200, 400, 512)), "you mark rows at the outer edge"),
    (bands(columns=(300, 512)), "you mark columns at the outer edge"),
    (bands(rows=(200,)), "at 2 place(s) between rows, and at one of them you mark nothing"),
    (bands(before=0), "on one side of a cut only"),
    (bands(behind=0), "on one side of a cut only"),
    (bands(behind=11), "you mark 10 row(s) before a cut and 11 behind it"),
    (bands(before=2, behind=2), "you mark 2 row(s) on each side of a cut, but the filter looks further"),
    (bands(before=9, behind=9), "looks further"),
    (bands(before=11, behind=11), "does not look that far"),
    (bands(rows=(100, 200, 300, 400)), "you mark others too, away from any cut"),
    (bands()[:, :500], "has shape (512, 500), but (512, 512) is asked for"),
    (bands() * 255, "nothing but True and False"),
    (np.where(bands(), 1, np.nan), "nothing but True and False"),
    (da.from_array(bands()), "Call .compute() on it"),
    (29920, "has shape ()"),
])
def test_2_2_mistakes(line_of, answer, feedback):
    line = line_of("2.2", answer)
    assert line.startswith("✗") and feedback in line


def declared_wrongly(tiled, computed):
    return computed.shape != tiled.shape or computed.dtype != tiled.dtype


def detector(differs):
    """A right answer to 2.3 but for how the pixels are compared."""
    def is_wrong(tiled, whole):
        computed = tiled.compute()
        return declared_wrongly(tiled, computed) or computed.shape != whole.shape or differs(computed.astype(float), whole)
    return is_wrong


def large(a, b):
    return not (np.abs(a - b) <= 1e-6).all()


@pytest.mark.parametrize("answer", [detector(large), detector(lambda a, b: not np.allclose(a, b, rtol=0, atol=1e-6)),
                                    detector(lambda a, b: int(large(a, b)))])
def test_2_3_right(line_of, answer):
    assert line_of("2.3", answer) == "✓ Exercise 2.3: correct. Your function tells 9 wrong results from 2 right ones.\n"


def without_declared_dtype(tiled, whole):
    computed = tiled.compute()
    return computed.shape != tiled.shape or computed.shape != whole.shape or large(computed, whole)


def without_declared_shape(tiled, whole):
    computed = tiled.compute()
    return computed.dtype != tiled.dtype or computed.shape != whole.shape or large(computed, whole)


def without_shape_of_whole(tiled, whole):
    computed = tiled.compute()
    return declared_wrongly(tiled, computed) or large(computed, whole)


def trusting(tiled, whole):
    """Compares what is declared with the whole, and not with what is computed."""
    return tiled.shape != whole.shape or tiled.dtype != whole.dtype or large(tiled.compute(), whole)


def trusting_the_dtype(tiled, whole):
    return tiled.dtype != whole.dtype or tiled.compute().shape != tiled.shape or trusting(tiled, whole)


@pytest.mark.parametrize("answer, feedback", [
    (lambda tiled, whole: True, "returns True for a result that is equal in every pixel"),
    (lambda tiled, whole: False, "5 too dark everywhere"),
    (detector(lambda a, b: (a != b).any()), "differs by rounding only"),
    (detector(lambda a, b: (a - b).max() > 1e-6), "A negative difference is a difference"),
    (detector(lambda a, b: abs((a - b).sum()) > 1e-6), "the other 5 too dark"),
    (detector(lambda a, b: abs(a.mean() - b.mean()) > 1e-6), "the other 5 too dark"),
    (detector(lambda a, b: np.abs(a - b).mean() > 0.01), "a single pixel is wrong by 1"),
    (detector(lambda a, b: np.abs(a - b).max() > 1e-6), "one pixel is not a number"),
    (without_shape_of_whole, "with 1 row instead of 60"),
    (trusting, "but has 1 row once it is computed"),
    (trusting_the_dtype, "declares float64, but gives uint8"),
    (without_declared_shape, "declares shape (60, 80)"),
    (without_declared_dtype, "declares uint8, but gives float64"),
    (lambda tiled, whole: np.abs(tiled.compute() - whole) > 1e-6, "returns an array of shape (60, 80) and dtype bool"),
    (lambda tiled, whole: (tiled != whole).any(), "Let your function call .compute()"),
    (lambda tiled, whole: "yes", "returns 'yes', but one True or False"),
    (lambda tiled, whole: 0.5, "returns 0.5, but one True or False"),
    (lambda tiled, whole: 2, "returns 2, but one True or False"),
    (lambda tiled, whole: tiled.computed() - whole, "AttributeError"),
    (lambda tiled: True, "TypeError"),
    (True, "the answer is True, but a function is asked for"),
])
def test_2_3_mistakes(line_of, answer, feedback):
    line = line_of("2.3", answer)
    assert line.startswith("✗") and feedback in line


def test_2_3_results_are_what_their_words_say():
    for tiled, whole, wrong, words in lesson_2._results():
        computed = tiled.compute()
        assert (declared_wrongly(tiled, computed) or computed.shape != whole.shape or large(computed, whole)) == wrong, words


def on_tiles(function, dtype=np.uint8):
    return lambda tiles: tiles.map_blocks(function, dtype=dtype)


def darker(tile):
    return np.clip(tile.astype(np.int16) - 40, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("answer", [
    on_tiles(darker), lambda tiles: tiles.map_blocks(darker), lambda tiles: da.maximum(tiles, 40) - 40,
    lambda tiles: da.clip(tiles.astype(float) - 40, 0, 255).astype(np.uint8),
    on_tiles(lambda tile: np.where(tile > 40, tile - 40, 0).astype(np.uint8)),
])
def test_2_4_right(line_of, answer):
    assert line_of("2.4", answer).startswith("✓ Exercise 2.4: correct. All 1890 pixels")


@pytest.mark.parametrize("answer, feedback", [
    (lambda tiles: tiles.map_blocks(lambda tile: tile - 40, dtype=np.float64), "the result declares float64, but uint8"),
    (lambda tiles: tiles - 40, "a pixel of 30 becomes 246: it went below zero"),
    (on_tiles(lambda tile: np.clip(tile - 40, 0, 255)), "too late to mend it"),
    (on_tiles(lambda tile: (tile.astype(np.int16) - 40).astype(np.uint8)), "it went below zero"),
    (on_tiles(lambda tile: np.clip(tile.astype(np.int16) - 40, 0, 255)), "computing it gives int16"),
    (on_tiles(lambda tile: np.abs(tile.astype(np.int16) - 40).astype(np.uint8)), "but 0 is right"),
    (on_tiles(lambda tile: np.where(tile > 40, tile - 40, tile).astype(np.uint8)), "but 0 is right"),
    (on_tiles(lambda tile: np.where(tile > 41, tile - 40, 0).astype(np.uint8)), "a pixel of 41 becomes 0, but 1 is right"),
    (lambda tiles: tiles, "returns the pixels unchanged"),
    (lambda tiles: tiles.map_blocks(darker, dtype=np.uint8).compute(), "Let it return a plan"),
    (lambda tiles: da.from_array(darker(np.asarray(tiles)), chunks=tiles.chunks), "Let it return a plan"),
    (lambda tiles: tiles.map_blocks(darker, dtype=np.uint8).rechunk((35, 54)), "but the result ((35,), (54,))"),
    (lambda tiles: tiles.map_blocks(darker, dtype=np.uint8).ravel(), "the input has chunks"),
    (on_tiles(lambda tile: darker(tile)[:1]), "but computing it gives (3, 54)"),
    (on_tiles(lambda tile: darker(tile)[5, 5, 5]), "your function raises IndexError"),
    (lambda tiles: darker, "but a dask array is asked for"),
    (lambda tiles: dask.delayed(darker)(3), "but a dask array is asked for"),
    (lambda tiles: tiles.blocks[7, 7], "your function raises"),
    (lambda: 1, "TypeError"),
    (da.zeros(3, dtype=np.uint8), "but a function is asked for"),
])
def test_2_4_mistakes(line_of, answer, feedback):
    line = line_of("2.4", answer)
    assert line.startswith("✗") and feedback in line
