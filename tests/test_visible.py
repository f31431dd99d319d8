"""Model text can be read and cannot act."""

import pytest

from heedful.visible import clip, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ascii", "plain ascii"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("שלום مرحبا 日本語 👨‍👩‍👧 é ằ", "שלום مرحبا 日本語 👨‍👩‍👧 é ằ"),
        ("\x1b[31mred", "⟨ESC⟩[31mred"),
        ("a\x00b\x07", "a⟨NUL⟩b⟨BEL⟩"),
        ("old\rnew", "old⟨CR⟩new"),
        ("user\u202egpj.exe", "user⟨U+202E⟩gpj.exe"),
        ("\u2066isolated\u2069", "⟨U+2066⟩isolated⟨U+2069⟩"),
        ("zero\u200bwidth", "zero⟨U+200B⟩width"),
        ("\ufeffbom", "⟨BOM⟩bom"),
        ("line\u2028separator", "line⟨U+2028⟩separator"),
        ("half \ud800 pair", "half ⟨U+D800⟩ pair"),
        ("blank \u3164 letter", "blank ⟨U+3164⟩ letter"),
    ],
)
def test_what_cannot_be_seen_is_named(text, shown):
    assert visible(text) == shown


def test_a_tower_of_combining_marks_is_counted():
    assert visible("e" + "\u0301" * 10_000 + " after") == "e" + "\u0301" * 4 + "⟨+9996 marks⟩ after"


def test_a_tower_at_the_end_is_counted_too():
    assert visible("e" + "\u0301" * 6) == "e" + "\u0301" * 4 + "⟨+2 marks⟩"


def test_clipping_says_how_much_is_gone():
    assert clip("abcdef", 4) == ("abcd", 2)
    assert clip("abc", 4) == ("abc", 0)
