"""Columns are what lists and dictionaries are, in less memory."""

import tracemalloc

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.runtime.columns import TextIndex, Texts, repeated

TEXTS = st.lists(st.text(st.characters(exclude_characters="\0"), max_size=6), max_size=40)


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_texts_are_a_list_of_strings_in_any_order(texts):
    found = Texts(texts)
    assert list(found) == texts == [found[i] for i in range(len(texts))] == found[:]
    assert [texts[i] for i in found.order()] == sorted(texts)


def test_long_texts_and_halves_of_characters_are_sorted_too():
    texts = ["b" * 1000, "a", "b" * 999, "\udc80x", "é", "가", "\U0001f600"]
    found = Texts(texts)
    assert [texts[i] for i in found.order()] == sorted(texts)
    assert list(found) == texts


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_an_index_finds_the_first_of_equal_texts(texts):
    index = TextIndex(Texts(texts))
    assert all(index.find(text) == texts.index(text) for text in texts)
    assert index.find("not there") is None
    later = [i for i, text in enumerate(texts) if text in texts[:i]]
    assert index.doubled() == (later[0] if later else None)


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_repeated_are_the_rows_of_keys_that_come_twice(texts):
    assert repeated(texts) == [i for i, text in enumerate(texts) if text and texts.count(text) > 1]


def test_a_text_takes_its_bytes_and_a_few_more():
    tracemalloc.start()
    texts = Texts(f"P{i:06d}.png" for i in range(20_000))
    index = TextIndex(texts)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used / len(texts) < 11 + 8 + 12 + 8
    assert index.find("P012345.png") == 12_345
    assert np.array_equal(texts.order(), np.arange(20_000))
