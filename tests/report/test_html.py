"""Markup that text cannot break out of."""

import pytest

from heedful.report.html import Html, join, tag, text


def test_text_is_escaped_and_markup_is_not():
    assert tag("p", "a < b & c", tag("b", "d")) == "<p>a &lt; b &amp; c<b>d</b></p>"


def test_an_attribute_cannot_be_left():
    assert tag("p", title='"><script>') == '<p title="&quot;&gt;&lt;script&gt;"></p>'


def test_attributes_are_spelled_as_in_html():
    assert (
        tag("svg", aria_label="x", class_="y", viewBox="0 0 1 1")
        == '<svg aria-label="x" class="y" viewBox="0 0 1 1"></svg>'
    )
    assert tag("details", open=True, title=None, tabindex=0) == '<details open tabindex="0"></details>'


def test_an_element_without_content_is_not_closed():
    assert tag("meta", charset="utf-8") == '<meta charset="utf-8">'


def test_children_may_be_nested_numbers_or_nothing():
    assert tag("p", [1, None, ["a", [tag("b")]]]) == "<p>1a<b></b></p>"


def test_what_cannot_be_seen_is_marked():
    assert text("a\x1bb") == 'a<span class="unseen">ESC</span>b'
    assert tag("p", title="a\u202eb") == '<p title="a⟨U+202E⟩b"></p>'


@pytest.mark.parametrize("made", [tag("p"), text("a"), join(["a"])])
def test_only_this_module_makes_markup(made):
    assert isinstance(made, Html)
    assert not isinstance(made + "<script>", Html)  # joining strings loses the mark, so the result is escaped again
