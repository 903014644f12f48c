"""Lesson 5: what only it can say. Its exercises are tested in test_exercises.py, by their tables."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import dask.array as da
import jupytext
import numpy as np
import pytest
from skimage.measure import regionprops
from skimage.segmentation import clear_border

from course_helpers.exercises import lesson_5
from course_helpers.exercises.form import seen
from course_helpers.nuclei import count_nuclei
from course_helpers.objects import OverlapError, count_in_tiles
from course_helpers.slide import nuclei_slide

SOURCE = Path(__file__).parents[1] / "sources" / "05_tiled_nuclei_counting.md"
EXERCISES = lesson_5.EXERCISES
PICTURE = nuclei_slide(seed=4)[900:1500, 2000:2900].rechunk(120)


def test_checks_use_what_the_lesson_uses():
    """The numbers, the picture, and the two functions that exercises 5.3 and 5.4 show."""
    text = SOURCE.read_text(encoding="utf-8")
    assert f"\nTHRESHOLD = {lesson_5.THRESHOLD}\n" in text and f"\nSIGMA = {lesson_5.SIGMA}\n" in text
    assert "\npicture = nuclei_slide(seed=4)[900:1500, 2000:2900].rechunk(120)\n" in text
    shown = vars(lesson_5).copy()
    for cell in jupytext.read(SOURCE).cells:
        if found := re.search(r"^def (label_bright|count_by_centroid)\(.*?(?=^\S|\Z)", cell.source, re.M | re.S):
            exec(found[0], shown)
    for blob in np.random.default_rng(0).random((20, 16, 16)) > 0.7:
        assert shown["count_by_centroid"](blob) == lesson_5.count_by_centroid(blob)
        assert np.array_equal(shown["label_bright"](200 * blob), lesson_5.label_bright(200 * blob))
    assert shown["label_bright"] is not lesson_5.label_bright


def lazy_map(**options):
    return nuclei_slide(chunks=500).map_blocks(count_nuclei, 32, 2, meta=np.empty((0, 0)), **options)


def test_5_1_tells_each_part(line_of):
    places, factor, reason = np.ndindex(lesson_5.MAP_SHAPE), lesson_5.CUTS, "C"
    counts = np.reshape([lesson_5.count_at(lesson_5.counted, place) for place in places], lesson_5.MAP_SHAPE)
    assert line_of("5.1", counts.tolist(), 5.85, " c ").startswith("✓")
    assert line_of("5.1", counts).startswith("○ Exercise 5.1: Right so far: map_500. Still open: cuts_shorter, reason")
    assert "Right so far: map_500, reason." in line_of("5.1", counts, 5, "C")
    masked = np.ma.array(counts, mask=True)
    assert "its mask hides entries. An array" in line_of("5.1", masked, factor, reason)
    one_wrong = counts + np.eye(4, 10)[::-1]
    assert "its tile (0, 3) counts 27, but" in line_of("5.1", one_wrong, factor, reason)


def test_5_1_tells_what_a_lazy_map_declares(line_of):
    line = line_of("5.1", lazy_map(chunks=(1, 1)), lesson_5.CUTS, "C")
    assert "Call .compute() on it. Right so far: cuts_shorter, reason.\n" in line
    for line in (line_of("5.1", lazy_map()), line_of("5.1", map_500=lazy_map())):
        assert "Call .compute() on it." in line and "shape of the slide: chunks=(1, 1) is missing" in line


def test_5_1_does_not_give_the_factor_away(line_of):
    for says, wrong in lesson_5.CUTS_SHORTER.mistakes.items():
        line = line_of("5.1", ..., wrong.example if isinstance(wrong, seen) else wrong, ...)
        assert "5.8" not in line.replace("= 5.8:", ""), says


def by_regions(labels):
    regions = regionprops(labels)
    return np.array([[sum(region.bbox[0] > 0 and region.bbox[3] < labels.shape[1] for region in regions)]])


def by_clearing(labels):
    padded = np.pad(labels, ((0, 1), (1, 0)))
    return np.array([[np.count_nonzero(np.unique(clear_border(padded)))]])


@pytest.mark.parametrize("rule", [by_regions, by_clearing])
def test_5_2_right(line_of, rule):
    assert "✓ Exercise 5.2: correct. Your rule excludes the upper and the right border" in line_of("5.2", rule)


@pytest.mark.parametrize("turn", list(lesson_5.TURNS)[1:], ids=str)
def test_5_2_knows_the_mistakes_with_every_rule(turn):
    form = EXERCISES["5.2"]
    for says, wrong in form.mistakes.items():
        if isinstance(wrong, dict):
            with pytest.raises(lesson_5.Wrong, match=re.escape(says)):
                form.judge(replace(form, right=partial(form.right, turn=turn)).made_by(wrong))


def test_5_2_takes_no_plan(line_of):
    """And says so with the tile and its labels."""
    line = line_of("5.2", lambda labels: da.from_array(np.array([[1]])))
    assert "for labels = [[0, 0, 0], [0, 5, 0], [0, 0, 0]] your function returns a dask array of shape (1, 1)" in line


def test_5_3_the_rule_is_right_and_the_picture_needs_it():
    whole = lesson_5.label_bright(PICTURE.compute()).max()
    for overlap in (EXERCISES["5.3"].right, (lesson_5.HEIGHT + 12, lesson_5.WIDTH + 12)):
        assert count_in_tiles(lesson_5.label_bright, PICTURE, overlap, reach=12).sum().compute() == whole
    with pytest.raises(OverlapError):
        count_in_tiles(lesson_5.label_bright, PICTURE, 12).sum().compute()


def test_5_3_names_the_overlap_of_the_slide():
    solved = (SOURCE.parents[1] / "solutions" / f"{SOURCE.stem}.ipynb").read_text(encoding="utf-8")
    overlap = int(re.search(r"reach: 8 \+ 15 = 23  overlap: (\d+)", solved)[1])
    assert overlap in EXERCISES["5.3"].nearly.values()


def test_a_margin_as_wide_as_the_object_mends_the_centroid_rule():
    lines = [lesson_5.drawn(np.s_[4, start : start + 8]) for start in range(9)]
    assert {lesson_5.count_by_centroid(line, margin=8) for line in lines} == {1}
    assert {lesson_5.count_by_centroid(line) for line in lines} == {1, 2}
