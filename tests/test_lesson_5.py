"""Lesson 5: what only it can say. Its exercises are tested in test_exercises.py, by their tables."""

import re
from dataclasses import replace
from functools import partial

import dask.array as da
import jupytext
import numpy as np
import pytest
from processes import ROOT
from skimage.measure import regionprops
from skimage.segmentation import clear_border

from course_helpers.exercises import lesson_5
from course_helpers.nuclei import count_nuclei, segment_nuclei
from course_helpers.objects import OverlapError, count_in_tiles
from course_helpers.slide import nuclei_slide

SOURCE = ROOT / "sources" / "05_tiled_nuclei_counting.md"
EXERCISES = lesson_5.EXERCISES
SOLVED = (SOURCE.parents[1] / "notebooks" / "solutions" / f"{SOURCE.stem}.ipynb").read_text(encoding="utf-8")
PICTURE = da.from_array(lesson_5.PICTURE, chunks=lesson_5.TILE)


def test_checks_use_what_the_lesson_uses():
    """The numbers, the picture, and the two functions that exercises 5.2 and 5.4 show."""
    text = SOURCE.read_text(encoding="utf-8")
    assert f"\nTHRESHOLD = {lesson_5.THRESHOLD}\n" in text and f"\nSIGMA = {lesson_5.SIGMA}\n" in text
    assert "\npicture = nuclei_slide(seed=7)[638:1238, 2400:3300].rechunk(120)" in text
    assert np.array_equal(PICTURE, nuclei_slide(seed=7)[638:1238, 2400:3300]) and PICTURE.chunksize == (120, 120)
    assert f"largest nucleus: 30  reach: 8 + 15 = {lesson_5.SLIDE_REACH}  overlap: {lesson_5.OVERLAP}\\n" in SOLVED
    for name, total in {"sum over the tiles:": lesson_5.SUM_100, "whole image:       ": lesson_5.WHOLE}.items():
        assert re.search(rf"{name} {total}(\.0)?\\n", SOLVED)
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
    counts = lazy_map(chunks=(1, 1))
    assert counts.sum().compute() == lesson_5.SUM_500
    assert line_of("5.1", counts, " c ").startswith("✓")
    assert line_of("5.1", counts).startswith("○ Exercise 5.1: Right so far: map_500. Still open: reason")
    assert "Right so far: map_500." in line_of("5.1", map_500=counts, reason="A")
    assert "its tile (0, 2) counts 18, but" in line_of("5.1", counts + 1, "C")
    assert "it declares shape (2, 10)." in line_of("5.1", counts[:2], "C")
    assert "It is computed already" in line_of("5.1", counts.compute(), "C")
    labels = nuclei_slide(chunks=500).map_blocks(segment_nuclei, 32, 2, chunks=(1, 1), meta=np.empty((0, 0), np.int32))
    assert "computing it gives an array of shape (500, 500)" in line_of("5.1", labels, "C")
    raises = nuclei_slide(chunks=500).map_blocks(count_nuclei, chunks=(1, 1), meta=np.empty((0, 0)))
    assert "computing it raises TypeError: count_nuclei() missing" in line_of("5.1", raises, "C")


@pytest.mark.parametrize("options", [{}, {"chunks": (500, 500)}], ids=str)
def test_5_1_tells_what_a_map_declares(line_of, options):
    line = line_of("5.1", lazy_map(**options), "C")
    assert "Map count_nuclei, which gives one number: chunks=(1, 1). Right so far: reason." in line


def by_regions(labels):
    regions = regionprops(labels)
    return np.array([[sum(region.bbox[0] > 0 and region.bbox[3] < labels.shape[1] for region in regions)]])


def by_clearing(labels):
    padded = np.pad(labels, ((0, 1), (1, 0)))
    return np.array([[np.count_nonzero(np.unique(clear_border(padded)))]])


@pytest.mark.parametrize("rule", [by_regions, by_clearing])
def test_5_3_right(line_of, rule):
    assert "✓ Exercise 5.3: correct. Your rule excludes the upper and the right border" in line_of("5.3", rule)


@pytest.mark.parametrize("rule", lesson_5.RULES[1:], ids=str)
def test_5_3_knows_the_mistakes_with_every_rule(rule):
    form = EXERCISES["5.3"]
    for says, wrong in form.mistakes.items():
        if isinstance(wrong, dict) and "count" in wrong:
            with pytest.raises(lesson_5.Wrong, match=re.escape(says)):
                form.judge(replace(form, right=partial(form.right, excluded=rule)).made_by(wrong))


@pytest.mark.parametrize("rule", lesson_5.RULES, ids=str)
def test_5_3_tells_what_is_right_by_a_rule_with_a_flaw(line_of, rule):
    """Which forgets both ends of its borders."""

    def forgets(labels):
        inner = [labels[lesson_5.LINES[line]][1:-1] for line in rule]
        return np.array([[len(np.setdiff1d(labels, np.concatenate([[0], *inner])))]])

    line = line_of("5.3", forgets)
    right = rf"(\d+)(,| without the {' and the '.join(rule)} )"
    found, expected = re.search(rf"you get .*?(\d+).* should be .*?{right}", line).groups()[:2]
    assert int(found) > int(expected)


def test_5_3_takes_no_plan(line_of):
    """And says so with the tile and its labels."""
    line = line_of("5.3", lambda labels: da.from_array(np.array([[1]])))
    assert "for labels = [[0, 0, 0], [0, 5, 0], [0, 0, 0]] your function returns a dask array of shape (1, 1)" in line


def test_5_2_less_than_the_rule_is_refused():
    whole, right = lesson_5.label_bright(lesson_5.PICTURE).max(), lesson_5.RULE
    for overlap in (right, (lesson_5.HEIGHT + 20, lesson_5.WIDTH + 20)):
        assert count_in_tiles(lesson_5.label_bright, PICTURE, overlap, reach=20).sum().compute() == whole
    for overlap in (right - 1, lesson_5.OVERLAP):
        with pytest.raises(OverlapError):
            count_in_tiles(lesson_5.label_bright, PICTURE, overlap, reach=20).sum().compute()


def test_5_2_blames_no_overlap_for_a_wrong_reach(line_of):
    assert "reach = 23: it is that of segment_nuclei" in (line := line_of("5.2", 23, lesson_5.SIDE + 23))
    assert line.strip().endswith("Will change with that: overlap.")


@pytest.mark.parametrize("part", EXERCISES["5.2"].parts.values(), ids=EXERCISES["5.2"].parts)
def test_5_2_tells_numbers_apart(part):
    """What plausible mistakes give is not what another one gives, nor near the rule."""
    numbers = [wrong for wrong in part.mistakes.values() if isinstance(wrong, int)]
    assert len({*numbers}) == len(numbers) and not {part.right} & {*numbers}
    assert part is not EXERCISES["5.2"].parts["overlap"] or part.right - 1 in numbers
    assert sorted(abs(number - part.right) for number in numbers)[1] > 2


def test_a_margin_as_wide_as_the_object_mends_the_centroid_rule():
    lines = [lesson_5.drawn(np.s_[4, start : start + 8]) for start in range(9)]
    assert {lesson_5.count_by_centroid(line, margin=8) for line in lines} == {1}
    assert {lesson_5.count_by_centroid(line) for line in lines} == {1, 2}
