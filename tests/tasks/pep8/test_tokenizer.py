import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from heedful.tasks.pep8.assets import ASSETS
from heedful.tasks.pep8.tokenizer import SPECIALS, VOCABULARY, train

BITS = ["    ", "  ", " ", "\n", "x", " = ", "(", " )", "self.f", ";", "1234", "\t", "\r\n", "é🙂", "<|good|>"]
CODE = st.lists(st.sampled_from(BITS)).map("".join)
TEXT = st.one_of(st.text(st.characters(exclude_categories=["Cs"])), CODE)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(ASSETS / "tokenizer")


def encode(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def decode(tokenizer, ids):
    return tokenizer.decode(ids)


def test_the_reserved_ids_are_where_the_design_says(tokenizer):
    assert len(tokenizer) == VOCABULARY == 4096
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert tokenizer.convert_tokens_to_ids(["<|good|>", "<|bad|>"]) == [3, 4]
    assert tokenizer.convert_ids_to_tokens(range(13)) == SPECIALS
    assert sorted(tokenizer.all_special_ids) == list(range(13))


def test_a_text_begins_with_one_bos_unless_told_otherwise(tokenizer):
    assert tokenizer("x\n")["input_ids"] == [1, *encode(tokenizer, "x\n")]


@given(TEXT)
@example("a\r\nb\rc\n\tx\0\u2028\x0c")
@example(" a . b , c ! don 't \n")  # what clean_up_tokenization_spaces would eat
@settings(max_examples=300, deadline=None)
def test_decoding_gives_the_text_back(tokenizer, text):
    assert decode(tokenizer, encode(tokenizer, text)) == text


@given(TEXT)
@settings(max_examples=200, deadline=None)
def test_a_token_is_a_newline_or_has_none(tokenizer, text):
    pieces = [decode(tokenizer, [token]) for token in encode(tokenizer, text)]
    assert all(piece == "\n" or "\n" not in piece for piece in pieces)
    assert pieces.count("\n") == text.count("\n")


def test_no_entry_of_the_vocabulary_crosses_a_line(tokenizer):
    assert [entry for entry in tokenizer.get_vocab() if "Ċ" in entry] == ["Ċ"]  # Ċ writes the newline byte


@given(TEXT, TEXT)
@settings(max_examples=200, deadline=None)
def test_text_cut_after_a_newline_has_the_tokens_of_the_whole(tokenizer, prompt, response):
    prompt += "\n"
    assert encode(tokenizer, prompt) + encode(tokenizer, response) == encode(tokenizer, prompt + response)


@given(st.lists(st.sampled_from([*SPECIALS, " ", "\n", "x"])).map("".join))
@settings(max_examples=100, deadline=None)
def test_text_never_becomes_a_special_token(tokenizer, text):
    assert all(token >= len(SPECIALS) for token in encode(tokenizer, text))


def test_an_indent_is_one_token(tokenizer):
    for depth in range(1, 6):
        assert len(encode(tokenizer, "    " * depth + "x")) == 2


def test_training_is_deterministic_and_keeps_the_reserved_ids():
    texts = ["def f(self):\n    return self.value\n" * 20, "x = [1, 2]\n\n\n" * 20]
    one, other = (json.loads(train(texts, vocabulary=300).backend_tokenizer.to_str()) for _ in range(2))
    assert one == other
    assert [one["model"]["vocab"][name] for name in SPECIALS] == list(range(13))
