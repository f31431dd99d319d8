"""Chains: records in, exact text and mask out."""

import math
from dataclasses import replace

import pytest
from tiny_text import check_rows, like_llama2, make_text

from heedful.errors import DataError
from heedful.records import Comparison, Feedback, Response
from heedful.targets.chain import Layout, chains
from heedful.targets.markers import FAMILIES, Family, marker
from heedful.targets.pretraining import Documents, is_document
from heedful.text import Text

SHORT = Family((("g:", "b:"),), "a test")
CHAIN = Layout(SHORT, forms=("chain",))


def ranked(*texts: str, id: str = "a", prompt: str = "q", **options) -> Feedback:
    """Responses from best to worst."""
    responses = tuple(Response(text, rank=n, **options) for n, text in enumerate(texts, 1))
    return Feedback(prompt, responses, id=id)


def rising(record: Feedback, *, last_is_best: bool = True) -> Feedback:
    """The record under an id that draws the order asked for."""
    text = make_text(max_length=512)
    for n in range(64):
        named = replace(record, id=str(n))
        (group,) = chains([named], text=text, layout=replace(CHAIN, critiques=False), seed=0)
        shown = text.decode(group.branches[0].tokens)
        if (shown.rindex("g:") > shown.rindex("b:")) is last_is_best:
            return named
    raise AssertionError("no id draws that order")


def rows(*records: Feedback, layout: Layout = CHAIN, text: Text | None = None, seed: int = 0):
    return chains(records, text=text or make_text(), layout=layout, seed=seed)


def shown(group, text=None) -> list[str]:
    return [(text or make_text()).decode(branch.tokens) for branch in group.branches]


# The rows


def test_a_pair_is_a_chain_and_the_output_that_does_not_open_it():
    record = rising(ranked("xx", "y"))
    check_rows(
        rows(record, layout=Layout(SHORT)),
        make_text(),
        r"""
        token BOS q \n b : \n y EOS \n g : \n x x EOS
        mask  .   . 0  0 0 0  1 1   0  0 0 0  1 1 1

        token BOS q \n g : \n x x EOS
        mask  .   . 0  0 0 0  1 1 1
        """,
    )


def test_the_other_order_has_the_best_first():
    record = rising(ranked("xx", "y"), last_is_best=False)
    check_rows(
        rows(record, layout=Layout(SHORT)),
        make_text(),
        r"""
        token BOS q \n g : \n x x EOS \n b : \n y EOS
        mask  .   . 0  0 0 0  1 1 1   0  0 0 0  1 1

        token BOS q \n b : \n y EOS
        mask  .   . 0  0 0 0  1 1
        """,
    )


def test_last_only_trains_the_last_output_and_each_that_stands_alone():
    record = rising(ranked("xx", "y"))
    check_rows(
        rows(record, layout=Layout(SHORT, last_only=True)),
        make_text(),
        r"""
        token BOS q \n b : \n y EOS \n g : \n x x EOS
        mask  .   . 0  0 0 0  0 0   0  0 0 0  1 1 1

        token BOS q \n b : \n y EOS
        mask  .   . 0  0 0 0  1 1

        token BOS q \n g : \n x x EOS
        mask  .   . 0  0 0 0  1 1 1
        """,
    )


def test_a_truncated_output_has_no_end_and_the_chain_goes_on():
    record = rising(ranked("x", "y", truncated=True))
    check_rows(
        rows(record),
        make_text(),
        r"""
        token BOS q \n b : \n y \n g : \n x
        mask  .   . 0  0 0 0  1 0  0 0 0  1
        """,
    )


def test_a_critique_stands_in_place_of_the_marker_in_a_chain_and_not_alone():
    criticised = Feedback("q", (Response("x", rank=1), Response("y", rank=2, critique="no\nno\n")))
    commented = replace(SHORT, comment="#")
    record = rising(criticised)
    check_rows(
        rows(record, layout=Layout(commented, forms=("chain", "bad"))),
        make_text(),
        r"""
        token BOS q \n # n o \n # n o \n y EOS \n g : \n x EOS
        mask  .   . 0  0 0 0 0  0 0 0 0  1 1   0  0 0 0  1 1

        token BOS q \n b : \n y EOS
        mask  .   . 0  0 0 0  1 1
        """,
    )
    assert "no" not in shown(rows(record, layout=replace(CHAIN, critiques=False))[0])[0]


def test_a_critique_without_a_comparison_is_a_row_of_its_own():
    record = Feedback("q", (Response("x", critique="ok"), Response("y")))
    check_rows(
        rows(record),
        make_text(),
        r"""
        token BOS q \n o k \n x EOS
        mask  .   . 0  0 0 0  1 1
        """,
    )


def test_a_refinement_is_better_than_what_it_refines():
    record = rising(Feedback("q", (Response("y", critique="no", refinement="x"),)))
    check_rows(
        rows(record, layout=Layout(SHORT, forms=("chain", "good"))),
        make_text(),
        r"""
        token BOS q \n n o \n y EOS \n g : \n x EOS
        mask  .   . 0  0 0 0  1 1   0  0 0 0  1 1

        token BOS q \n g : \n x EOS
        mask  .   . 0  0 0 0  1 1
        """,
    )


def test_what_a_dialogue_pair_shares_is_not_trained():
    record = rising(ranked("u\n\nx", "u\n\nwy"))
    check_rows(
        rows(record),
        make_text(),
        r"""
        token BOS q \n b : \n u \n \n w y EOS \n g : \n u \n \n x EOS
        mask  .   . 0  0 0 0  0 0  0  1 1 1   0  0 0 0  0 0  0  1 1
        """,
    )


def test_a_shared_beginning_that_is_no_turn_is_trained():
    (group,) = rows(rising(ranked("the x", "the y")))
    assert sum(group.branches[0].streams["mask"]) == 12  # both texts and their EOS


# More than two


def test_a_ranking_rises_or_falls_and_says_how_each_stands():
    up, down = (rising(ranked("w", "x", "y", "z"), last_is_best=best) for best in (True, False))
    assert shown(rows(up)[0]) == ["\nb:\nz\nb:\ny\ng:\nx\ng:\nw"]
    assert shown(rows(down)[0]) == ["\ng:\nw\ng:\nx\nb:\ny\nb:\nz"]


def test_one_between_is_better_or_worse_than_what_opens_the_chain_and_never_alone():
    up, down = (rising(ranked("x", "y", "z"), last_is_best=best) for best in (True, False))
    assert shown(rows(up, layout=Layout(SHORT))[0]) == ["\nb:\nz\ng:\ny\ng:\nx", "\ng:\nx"]
    assert shown(rows(down, layout=Layout(SHORT))[0]) == ["\ng:\nx\nb:\ny\nb:\nz", "\nb:\nz"]


def test_tied_outputs_have_the_same_marker():
    record = rising(Feedback("q", (Response("x", rank=1), Response("y", rank=1), Response("z", rank=3))))
    assert shown(rows(record)[0])[0] in ("\nb:\nz\ng:\nx\ng:\ny", "\nb:\nz\ng:\ny\ng:\nx")


def test_the_last_output_is_the_best_in_half_of_the_chains_and_orders_follow_the_id():
    records = [ranked("w", "x", "y", id=str(n)) for n in range(400)]
    groups = rows(*records)
    best_last = sum(shown(group)[0].endswith("w") for group in groups)
    assert abs(best_last - 200) < 3 * math.sqrt(400 / 4)
    assert rows(*records[::-1]) == groups[::-1]
    assert rows(*records, seed=1) != groups


def test_each_pair_of_phrases_is_drawn_equally_often():
    layout = Layout(FAMILIES["varied"], forms=("good",))
    text = make_text(max_length=256)
    groups = rows(*(ranked("x", "y", id=str(n)) for n in range(600)), layout=layout, text=text)
    drawn = [shown(group, text)[0].splitlines()[1] for group in groups]
    counts = [drawn.count(good) for good, _ in FAMILIES["varied"].pairs]
    assert sum(counts) == 600
    assert all(abs(count - 100) < 3 * math.sqrt(600 * 5 / 36) for count in counts)


def test_a_long_ranking_keeps_its_ends():
    record = rising(ranked(*"uvwxyz"))
    assert shown(rows(record, layout=replace(CHAIN, max_outputs=3))[0]) == ["\nb:\nz\nb:\ny\ng:\nu"]


# Words and spaces


@pytest.mark.parametrize("name", FAMILIES)
def test_a_marker_is_the_same_tokens_wherever_it_stands_and_no_space_alone(name):
    text = make_text(max_length=512)
    for pair in FAMILIES[name].pairs:
        for phrase in pair:
            ids = marker(text, phrase)
            assert text.decode(ids) == f"\n{phrase}\n" and phrase == phrase.strip()
    assert FAMILIES[name].source


def test_an_output_has_the_tokens_it_has_without_a_marker():
    text = Text(like_llama2(), max_length=64)
    record = rising(ranked("ab", "cd"))
    layout = Layout(Family((("g.", "b."),), "a test"), forms=("good",))
    (group,) = chains([record], text=text, layout=layout, seed=0)
    response = text.encode_response("ab", continues=True)
    assert list(group.branches[0].tokens[-len(response) :]) == response


# What is lost is counted


def lost(*records: Feedback, layout: Layout = CHAIN, **options) -> dict[str, int]:
    text = make_text(**options)
    keep = ranked("good", "bad", id="keep")
    chains([*records, keep], text=text, layout=layout, seed=0)
    return text.drops.counts


def test_ties_give_no_chain():
    tied = Feedback("q", (Response("x", score=1.0), Response("y", score=1.0)), id="a")
    assert lost(tied) == {"prompt without a preferred response": 1}


def test_equal_responses_give_no_chain():
    assert lost(ranked("x", "x")) == {"pair of equal responses": 1, "prompt without a preferred response": 1}


def test_equal_after_truncation_gives_no_chain():
    counts = lost(ranked("x" * 40, "x" * 50), max_length=32)
    assert counts["response cut to the context (kept)"] == 2
    assert counts["pair of equal responses"] == 1


def test_a_contradiction_gives_no_chain():
    both = Feedback("q", (Response("x"), Response("y")), comparisons=(Comparison(0, 1), Comparison(1, 0)), id="a")
    assert lost(both) == {
        "prompt whose comparisons contradict each other": 1,
        "prompt without a preferred response": 1,
    }


def test_a_prompt_that_fills_the_context_is_counted():
    assert lost(ranked("x", "y", prompt="q" * 30), max_length=32) == {"prompt leaves no room for a response": 1}


def test_a_chain_too_long_for_the_context_loses_outputs_from_the_middle():
    text = make_text(max_length=28)
    record = rising(ranked("uuuuu", "vvvvv", "wwwww"))
    (group,) = rows(record, text=text)
    assert shown(group) == ["\nb:\nwwwww\ng:\nuuuuu"]
    assert text.drops.counts == {"chain shortened to the context (kept)": 1}
    (group,) = rows(rising(ranked("u" * 12, "v" * 12)), text=make_text(max_length=28))
    assert shown(group) == ["\ng:\n" + "u" * 12]


def test_nothing_left_is_an_error_that_says_why():
    with pytest.raises(DataError, match="pair of equal responses: 1"):
        rows(ranked("x", "x"))


# Documents


def test_documents_are_the_pretraining_rows_and_no_chain():
    document = Feedback("", (Response("some text"),), id="d")
    assert is_document(document) and not is_document(ranked("x", "y", prompt=""))
    assert [group.id for group in rows(document, ranked("x", "y"))] == ["a"]
    text = make_text(max_length=2)
    documents = Documents([document], text)
    text.max_length = 64  # known only after the model is loaded
    assert [len(group.branches[0].tokens) for group in documents] == [10]


# Past-token masking


def test_the_masked_share_is_drawn_per_row_and_only_if_asked():
    records = [ranked("x", "y", id=str(n)) for n in range(400)]
    branches = [group.branches[0] for group in rows(*records, layout=replace(CHAIN, masked=0.05))]
    shares = [branch.fields["masked_share"] for branch in branches]
    assert max(shares) <= 0.05
    assert abs(sum(shares) / 400 - 0.025) < 3 * 0.05 / math.sqrt(12 * 400)
    assert len({branch.fields["masking_key"] for branch in branches}) == 400
    plain = [group.branches[0] for group in rows(*records)]
    assert [branch.tokens for branch in plain] == [branch.tokens for branch in branches]
    assert not any(branch.fields for branch in plain)
