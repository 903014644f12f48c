"""The glossary explains what the lessons call a term, and leads to the lesson that explains it."""

import re

import pytest
from processes import ROOT

from tools import build as builder

SOURCES = builder.lessons()
GLOSSARY = (ROOT / "notebooks" / "glossary.md").read_text(encoding="utf-8")
RULE = """
A lesson sets a term in **bold** where it explains it, and no other words: use *italics* to stress something (what has to be
bold all the same goes into STRESSED in tests/test_glossary.py). Every bold term has an entry in notebooks/glossary.md, in the singular, at its place in the alphabet:

    **Term** ([lesson 7](07_scaling_out.ipynb)): One sentence that says what it is. One that says what it means for you.

The lesson is the first one with the term in bold, or, if it is nowhere bold, the first one with the term in its prose. A word
with a second meaning gets a second entry, like "Level of a pyramid" beside "Level"."""

# Bold for their weight, not as terms. (More than three words, and those with numbers, are never taken for terms.)
STRESSED = {"all", "before", "holds the GIL", "mean area", "one", "shared disk", "time limit"}
# Words of the field that readers from another one do not know. Where a lesson uses one, the glossary has it.
FIELD_TERMS = """aligned, artifact, background, bandwidth, block, boundary, bounding box, cache, centroid, checksum, chunk,
client, cluster, codec, compression, core, dashboard, delayed, depth, dtype, fill value, float64, footprint, foreground,
Gaussian filter, GiB, graph, grey value, histogram, job, label, latency, layer, lazy, margin, mask, maximum filter, memory map,
metadata, object store, OME-Zarr, out of core, overlap, pickle, pipeline, pixel size, process, pyramid, raster order,
scheduler, seed, segmentation, serialise, shard, spill, subsample, swapping, task, thread, threshold, TIFF, tile, top-hat, uint8,
virtual memory, watershed, worker, Zarr""".replace("\n", " ").split(", ")


def prose_of(source):
    """A lesson without code; of code in a line, names remain."""
    text = re.sub(r"^```.*?^```", "", source.read_text(encoding="utf-8").split("---", 2)[2], flags=re.M | re.S)
    return re.sub(r"`(\w*)[^`]*`", r"\1", text)


def pattern(term, endings="s|es|"):
    words = re.escape(term.lower()).replace("\\ ", r"\s+").replace(r"\-", "[- ]")
    return rf"\b{words.removesuffix('y')}(?:{'y|ies' if words.endswith('y') else endings})\b"


def is_called(entry, word):
    """Whether a word is that of an entry, like "shards" and "spilling"."""
    return re.fullmatch(pattern(entry, "s|es|ing|"), " ".join(word.lower().split()))


PROSE = {int(source.stem[:2]): prose_of(source) for source in SOURCES}
BOLD = {
    number: set(re.findall(r"\*\*([^\W\d][\w'-]+(?:\s[^\W\d][\w'-]*){0,2})\*\*", prose)) - STRESSED
    for number, prose in PROSE.items()
}
ENTRIES = re.findall(r"^\*\*(.+?)\*\* \(\[lesson (\d+)\]\((.+?)\)\): (.+?)(?=\n\n|\Z)", GLOSSARY, re.M | re.S)
TERMS = [term.lower() for term, *_ in ENTRIES]


def lessons_of(term):
    """The lessons that an entry may link to; see RULE. Of "level of a pyramid", the whole counts, or the first word."""
    word = re.split(r", | of ", term)[0]
    bold = [number for number, terms in BOLD.items() if any(is_called(word, found) for found in terms)]
    used, word_used = (
        [number for number, prose in PROSE.items() if re.search(pattern(text), prose.lower())] for text in (term, word)
    )
    if word in TERMS and word != term:
        return used[:1] or bold[1:]
    return (bold or used or word_used)[:1]


def test_entries_have_one_form_and_are_sorted():
    assert len(ENTRIES) == len(re.findall(r"^\*\*", GLOSSARY, re.M)), "an entry has another form." + RULE
    assert TERMS == sorted(set(TERMS)), "sort the terms, each once"
    notebooks = {source.stem[:2].lstrip("0") or "0": f"{source.stem}.ipynb" for source in SOURCES}
    for term, number, notebook, text in ENTRIES:
        assert len(re.findall(r"[.!?](?=\s|$)", text)) == 2, f"explain {term} in two sentences"
        assert notebook == notebooks[number], f"{term} names another lesson than it leads to"


@pytest.mark.parametrize("term, number", [entry[:2] for entry in ENTRIES], ids=TERMS)
def test_entry_leads_to_the_lesson_that_explains_it(term, number):
    lessons = lessons_of(term.lower())
    assert lessons, f"no lesson uses the term {term!r}: remove it from the glossary." + RULE
    assert int(number) in lessons, f"{term!r} is explained in lesson {lessons}." + RULE


@pytest.mark.parametrize("number", PROSE)
def test_every_term_of_a_lesson_is_explained(number):
    words = {word for entry in TERMS for word in [entry, *re.split(", | of ", entry)]}
    terms = BOLD[number] | {term for term in FIELD_TERMS if re.search(pattern(term), PROSE[number].lower())}
    missing = [
        term for term in terms if not any(is_called(word, re.sub(r"^u?int\d+$", "uint8", term)) for word in words)
    ]
    assert not missing, f"not in the glossary: {', '.join(sorted(missing))}." + RULE
