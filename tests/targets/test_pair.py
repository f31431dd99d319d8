"""Groups of compared and of labelled responses: which tokens, which pairs, what is left out and counted."""

from dataclasses import replace

import pytest
from tiny_text import check_rows, make_text

from heedful.batch import Pair
from heedful.errors import DataError
from heedful.records import Comparison, Feedback, Response
from heedful.targets.pair import compared_responses, labelled_responses, pairs_with_reference, without_streams
from heedful.targets.relabel import best_judged, imitated_response


def ranked(*responses, id="a", **fields):
    """A record of (text, rank)."""
    return Feedback("q", tuple(Response(text, rank=rank) for text, rank in responses), id=id, **fields)


def pairs_of(record, text=None, **options):
    (group,) = compared_responses([record], text=text or make_text(), **options)
    return [tuple(pair) for pair in group.pairs]


def test_all_responses_to_a_prompt_are_one_group():
    text = make_text()
    groups = compared_responses([ranked(("x", 1), ("yz", 2))], text=text)
    check_rows(
        groups,
        text,
        """
        token  BOS  q  x  EOS
        mask   .    .  1  1

        token  BOS  q  y  z  EOS
        mask   .    .  1  1  1
        """,
    )
    assert groups[0].pairs == (Pair(0, 1),)


def test_every_strict_pair_of_a_ranking_is_a_pair_and_a_tie_is_none():
    assert pairs_of(ranked(("x", 1), ("y", 2), ("z", 3))) == [(0, 1, 1.0), (0, 2, 1.0), (1, 2, 1.0)]
    assert pairs_of(ranked(("x", 2), ("y", 1), ("z", 2))) == [(1, 0, 1.0), (1, 2, 1.0)]


def test_the_pairs_of_a_prompt_weigh_one_together_where_prompts_are_weighed():
    found = pairs_of(ranked(("x", 2), ("y", 1), ("z", 2)), weigh_prompts=True)
    assert found == [(1, 0, 0.5), (1, 2, 0.5)]


def test_a_prompt_whose_responses_all_tie_is_left_out_and_counted():
    text = make_text()
    compared_responses([ranked(("x", 1), ("y", 1)), ranked(("x", 1), ("y", 2), id="b")], text=text)
    assert text.drops.counts == {"prompt without a preferred response": 1}
    with pytest.raises(DataError, match="no training row is left"):
        compared_responses([ranked(("x", 1), ("y", 1))], text=text)


def test_responses_that_were_not_compared_are_not_read():
    record = Feedback("q", (Response("x"), Response("y"), Response("z")), id="a", comparisons=(Comparison(2, 0),))
    (group,) = compared_responses([record], text=make_text())
    assert len(group.branches) == 2 and group.pairs == (Pair(1, 0),)


def test_a_pair_of_equal_responses_says_nothing_and_is_counted():
    text = make_text()
    assert pairs_of(ranked(("x", 1), ("x", 2), ("y", 3)), text) == [(0, 1, 1.0)]
    repeated = "pair that repeats another through equal responses"
    assert text.drops.counts == {"pair of equal responses": 1, repeated: 1}


def test_contradictions_through_equal_responses_are_seen():
    text = make_text()
    assert pairs_of(ranked(("x", 1), ("y", 2), ("x", 3)), text) == [(0, 1, 1.0), (1, 0, 1.0)]
    assert text.drops.counts == {"pair of equal responses": 1, "pair that contradicts another (kept)": 1}


def test_responses_that_are_equal_once_they_are_cut_are_dropped_too():
    text = make_text(max_length=4)
    with pytest.raises(DataError, match="pair of equal responses: 1"):
        compared_responses([ranked(("xxy", 1), ("xxz", 2))], text=text)


def test_pairs_that_contradict_each_other_stay_and_are_counted():
    record = Feedback("q", (Response("x"), Response("y")), comparisons=(Comparison(0, 1), Comparison(1, 0)), id="a")
    text = make_text()
    assert pairs_of(record, text) == [(0, 1, 1.0), (1, 0, 1.0)]
    assert text.drops.counts == {"pair that contradicts another (kept)": 1}


def test_a_pair_that_was_stated_twice_counts_once():
    record = Feedback("q", (Response("x"), Response("y")), comparisons=(Comparison(0, 1), Comparison(0, 1)), id="a")
    assert pairs_of(record) == [(0, 1, 1.0)]


def test_two_labelers_of_one_prompt_are_two_groups():
    both = [ranked(("x", 1), ("y", 2), labeler="a"), ranked(("x", 2), ("y", 1), id="b", labeler="b")]
    assert [group.pairs for group in compared_responses(both, text=make_text())] == [(Pair(0, 1),), (Pair(1, 0),)]


def test_a_demonstration_stands_beside_the_pair_with_its_own_mask():
    responses = (Response("x", rank=1), Response("y", rank=2), Response("z", demonstration=True))
    text = make_text()
    groups = pairs_with_reference([Feedback("q", responses, id="a")], text=text, reference=imitated_response)
    check_rows(
        groups,
        text,
        """
        token      BOS  q  x  EOS
        mask       .    .  1  1
        reference  .    .  0  0

        token      BOS  q  y  EOS
        mask       .    .  1  1
        reference  .    .  0  0

        token      BOS  q  z  EOS
        mask       .    .  0  0
        reference  .    .  1  1
        """,
    )


def test_the_best_compared_response_may_be_the_one_that_is_imitated():
    (group,) = pairs_with_reference([ranked(("x", 2), ("y", 1))], text=make_text(), reference=best_judged)
    assert [sum(branch.streams["reference"]) for branch in group.branches] == [0, 2]
    assert [sum(branch.streams["mask"]) for branch in group.branches] == [2, 2]


def test_without_streams_nothing_goes_through_the_head():
    (group,) = without_streams(compared_responses([ranked(("x", 1), ("y", 2))], text=make_text()))
    assert [branch.streams for branch in group.branches] == [{}, {}] and group.pairs == (Pair(0, 1),)


# Labels


def labelled(*responses, id):
    return Feedback(f"q{id}", tuple(Response(text, label=label) for text, label in responses), id=id)


def test_labels_become_examples_and_one_response_of_another_prompt_stands_beside():
    text = make_text()
    records = [labelled(("x", "good"), ("y", "bad"), id="a"), labelled(("z", "bad"), id="b")]
    first, second = labelled_responses(records, text=text, seed=0)
    read = [[text.decode(b.tokens) for b in group.branches] for group in (first, second)]
    assert read[0] == ["x", "y", "z"] and read[1][0] == "z" and read[1][1] in ("x", "y")
    assert [branch.fields["desirable"] for branch in first.branches] == [1.0, -1.0, 0.0]
    assert [branch.fields["example"] for branch in first.branches] == [1.0, 1.0, 0.0]
    assert [branch.fields["mismatched"] for branch in first.branches] == [0.0, 0.0, 1.0]


def test_pairs_are_labels_where_there_are_none():
    text = make_text()
    records = [ranked(("x", 1), ("y", 2), ("z", 3)), replace(ranked(("u", 2), ("v", 1), id="b"), prompt="p")]
    first, second = labelled_responses(records, text=text, seed=0)
    assert [b.fields["desirable"] for b in first.branches] == [1.0, -1.0, 0.0]
    assert [text.decode(b.tokens) for b in first.branches][:2] == ["x", "z"]
    assert [b.fields["desirable"] for b in second.branches] == [-1.0, 1.0, 0.0]
    assert text.drops.counts == {"response that both won and lost": 1}


def test_the_mismatched_response_does_not_depend_on_the_order_of_the_file():
    text = make_text()
    records = [labelled((letter, "good"), id=letter) for letter in "abcdefgh"]

    def rivals(order):
        groups = labelled_responses(order, text=text, seed=3)
        return {group.id: text.decode(group.branches[-1].tokens) for group in groups}

    assert rivals(records) == rivals(records[::-1])
    assert all(own != other for own, other in rivals(records).items())
    assert sorted(rivals(records).values()) == list("abcdefgh")


def test_mismatched_responses_are_good_ones_and_bad_ones():
    records = [labelled((f"x{n}", "good"), (f"y{n}", "bad"), id=f"{n}") for n in range(40)]
    text = make_text()
    first = [text.decode(group.branches[-1].tokens)[0] for group in labelled_responses(records, text=text, seed=0)]
    assert 10 <= first.count("x") <= 30 and first.count("x") + first.count("y") == 40


def test_a_mismatched_response_never_answers_the_same_prompt():
    same = [Feedback("q", (Response(text, label="good"),), id=text) for text in "xyz"]
    text = make_text()
    groups = labelled_responses([*same, labelled(("w", "bad"), id="b")], text=text, seed=0)
    assert [text.decode(group.branches[-1].tokens) for group in groups[:3]] == ["w"] * 3
    alone = labelled_responses(same, text=text, seed=0)
    assert [[b.fields["mismatched"] for b in group.branches] for group in alone] == [[0.0]] * 3
    assert text.drops.counts == {"prompt without another one whose responses it could be shown (kept)": 3}


def test_a_response_that_is_called_good_and_bad_is_no_example_and_counted():
    text = make_text()
    records = [labelled(("x", "good"), ("x", "bad"), ("y", "good"), id="a"), labelled(("z", "bad"), id="b")]
    first, _ = labelled_responses(records, text=text, seed=0)
    assert [text.decode(branch.tokens) for branch in first.branches] == ["y", "z"]
    assert text.drops.counts == {"response that is called both good and bad": 2}
    with pytest.raises(DataError, match="response that is called both good and bad: 2"):
        labelled_responses([labelled(("x", "good"), ("x", "bad"), id="a")], text=make_text(), seed=0)
