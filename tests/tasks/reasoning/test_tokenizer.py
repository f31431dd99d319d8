"""The tokenizer that ships with the reasoning task: a token a word, any text spelt and given back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from heedful.tasks.pep8.tokenizer import SPECIALS
from heedful.tasks.reasoning.assets import ASSETS
from heedful.tasks.reasoning.lessons import lessons, right
from heedful.tasks.reasoning.tokenizer import INSTRUCTIONS, build, texts

ALPHABET = range(len(SPECIALS), len(SPECIALS) + 256)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(ASSETS / "tokenizer")


def encode(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_the_reserved_ids_are_those_of_the_pep8_task(tokenizer):
    assert len(tokenizer) <= 1500
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert tokenizer.convert_ids_to_tokens(range(13)) == SPECIALS
    assert sorted(tokenizer.all_special_ids) == list(range(13))


@settings(deadline=None, max_examples=200)
@given(text=st.one_of(TEXT, st.sampled_from(["<|pad|> <|eos|>", "Ġ Ċ", "\n-\n- a\n\n\t", "\nAnswer:\nOptions:"])))
def test_any_text_comes_back_and_none_becomes_a_reserved_id(tokenizer, text):
    ids = encode(tokenizer, text)
    assert tokenizer.decode(ids) == text and all(id >= len(SPECIALS) for id in ids)


def test_every_question_is_whole_words(tokenizer):
    signs = {id for id in ALPHABET if not tokenizer.decode([id]).isalpha()}
    for record in lessons(40, answers=right, split="test"):
        spelt = set(encode(tokenizer, record.prompt + record.responses[0].text)) & set(ALPHABET) - signs
        assert {tokenizer.decode([id]) for id in spelt} <= {"I", "M", "L", "A"}, (
            record.prompt
        )  # words, and SVG's letters


def test_the_words_that_methods_add_are_tokens(tokenizer):
    words = INSTRUCTIONS.replace(".", "").replace(",", "").replace(":", "").split()
    assert [word for word in words if len(encode(tokenizer, f" {word}")) != 1] == []


@pytest.mark.slow
def test_the_command_gives_the_tokenizer_that_ships(tokenizer):
    assert build(texts()).get_vocab() == tokenizer.get_vocab()
