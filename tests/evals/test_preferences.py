"""A scorer against what people preferred: every number on records small enough to count by hand."""

import math

import pytest

from heedful.errors import DataError
from heedful.evals.preferences import EQUAL, NO_ROOM, evaluate_scorer
from heedful.evals.stats import spearman
from heedful.records import Comparison, Feedback, Response, Score
from heedful.scorers import Item


class Marks:
    """Scores a response by the number it begins with."""

    name, version, needs = "marks", "1", frozenset()

    def score(self, item: Item) -> Score:
        return Score("marks", float(item.response.split()[0]))


def pair(prompt, better, worse, *, strength=1.0, labeler=None, **more):
    return Feedback(
        prompt,
        (Response(better), Response(worse)),
        id=prompt,
        comparisons=(Comparison(0, 1, strength),),
        labeler=labeler,
        **more,
    )


def values(*records):
    return {name: metric.value for name, metric in evaluate_scorer(Marks(), list(records)).metrics.items()}


PAIRS = (
    pair("a", "3 longer", "1"),  # right, and the longer is preferred
    pair("b", "1 longer", "2"),  # wrong
    pair("c", "0", "0 longer"),  # a draw, and the shorter is preferred
    pair("d", "5", "2"),  # right, of equal length
)


def test_accuracy_is_the_share_of_pairs_in_order_and_a_draw_is_half():
    assert values(*PAIRS)["accuracy"] == pytest.approx((1 + 0 + 0.5 + 1) / 4)


def test_length_alone_is_measured_beside_it_and_the_difference_is_paired():
    found = values(*PAIRS)
    assert found["always_longer"] == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert found["above_longer"] == pytest.approx(0.0)
    assert found["accuracy_if_longer"] == pytest.approx((1 + 0) / 2)
    assert found["accuracy_if_shorter"] == pytest.approx(0.5)
    assert found["chooses_longer"] == pytest.approx((1 + 0 + 0.5) / 3)  # a, b, c: the pairs of unequal length


def test_log_loss_is_that_of_bradley_terry():
    losses = [math.log1p(math.exp(-gap)) for gap in (2, -1, 0, 3)]
    assert values(*PAIRS)["log_loss"] == pytest.approx(sum(losses) / 4)
    assert values(pair("a", "-2000", "0"))["log_loss"] == pytest.approx(2000)


def test_pairs_count_alike_and_those_of_a_prompt_are_drawn_together():
    ranked = Feedback("k", tuple(Response(f"{n} x", rank=4 - n) for n in (3, 2, 1)), id="k")
    found = evaluate_scorer(Marks(), [ranked, pair("b", "1", "2")])
    assert found.counts == {"records": 2, "prompts": 2, "pairs": 4, "ties": 0}
    assert found.metrics["accuracy"].value == pytest.approx(3 / 4) and found.metrics["accuracy"].n == 2
    assert found.metrics["accuracy"].low == 0.0 and found.metrics["accuracy"].high == 1.0  # one prompt or the other


def test_turns_of_one_conversation_are_drawn_together():
    turns = [pair(f"{n}", "2", "1", metadata={"conversation": "c"}) for n in range(5)]
    apart = evaluate_scorer(Marks(), [*turns, pair("b", "1", "2")]).metrics["accuracy"]
    assert apart.value == pytest.approx(5 / 6) and (apart.low, apart.high) == (0.0, 1.0)


def test_a_tie_is_no_pair_and_margins_say_whether_the_scorer_knows_ties():
    ties = pair("t", "4", "2", strength=0.0), pair("u", "1", "3.5", strength=0.0)
    found = evaluate_scorer(Marks(), [*PAIRS, *ties])
    assert found.counts["ties"] == 2 and found.metrics["tie_share"].value == pytest.approx(2 / 6)
    assert found.metrics["accuracy"].value == values(*PAIRS)["accuracy"]
    # strict margins 2, 1, 0, 3 against tied 2 and 2.5: 3 beats both, 2 draws with 2
    assert found.metrics["knows_ties"].value == pytest.approx((2 + 0.5) / (4 * 2))


def test_the_ceiling_is_one_labeler_against_the_majority_of_the_others():
    texts = "1 better", "0 worse"
    said = [pair("p", *texts, labeler=name) for name in ("ann", "bob")]
    said += [pair("p", *texts[::-1], labeler="cid"), pair("p", *texts, labeler="dan", strength=0.0)]
    # ann: the others say +, -, 0, which is split: half; bob the same; cid against two: wrong; dan is not strict
    assert values(*said)["ceiling"] == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert values(*said[:2])["ceiling"] == 1.0


def test_without_labelers_or_with_one_there_is_no_ceiling():
    assert "ceiling" not in values(*PAIRS)
    assert "ceiling" not in values(pair("p", "1", "2", labeler="ann"), pair("p", "1", "2", labeler="ann"))


def test_length_correlation_is_over_the_distinct_responses_that_were_compared():
    one = Feedback(
        "p", (Response("3 ab"), Response("1"), Response("9 never compared")), comparisons=(Comparison(0, 1),)
    )
    assert values(one, one, pair("q", "2 a", "0 abcd"))["length_correlation"] == pytest.approx(
        spearman([4, 1, 3, 6], [3, 1, 2, 0])
    )


def test_what_cannot_be_judged_is_counted():
    found = evaluate_scorer(Marks(), [*PAIRS, pair("e", "1 x", "1 x"), Feedback("f", (Response("1"),))])
    assert found.left_out == {"record without a comparison": 1, EQUAL: 1}
    assert found.counts["pairs"] == 4


def test_without_a_strict_pair_there_is_nothing_to_measure():
    with pytest.raises(DataError, match="in none of 1 records was one of two responses preferred"):
        evaluate_scorer(Marks(), [pair("a", "1", "2", strength=0.0)])


@pytest.mark.parametrize("judge", ["reward_model", "ranker"])
def test_a_prompt_too_long_for_a_trained_judge_is_left_out_and_counted(tmp_path, judge):
    from models import tiny
    from tiny_text import letters

    import heedful

    tiny("llama", max_position_embeddings=128).save_pretrained(tmp_path / "base")
    letters().save_pretrained(tmp_path / "base")
    records = [pair(f"{n}: ", "good", "bad") for n in range(4)]
    run = heedful.train(
        judge,
        model=tmp_path / "base",
        feedback=records,
        out=tmp_path / "judge",
        settings={"budget": {"steps": 1}, "validation": 0.0},
    )
    found = evaluate_scorer(str(run.path), [*records, pair("x" * 128, "good", "bad")])
    assert found.left_out == {NO_ROOM: 1} and found.counts["pairs"] == 4


# Spearman


def test_spearman_of_the_same_order_is_1_and_of_its_reverse_minus_1():
    assert spearman([1, 2, 30], [5, 6, 7]) == pytest.approx(1.0)
    assert spearman([1, 2, 30], [7, 6, 5]) == pytest.approx(-1.0)


def test_equal_values_share_their_mean_rank():
    # ranks 1.5 1.5 3 against 1 2 3: covariance 1.5, variances 1.5 and 2
    assert spearman([4, 4, 9], [1, 2, 3]) == pytest.approx(1.5 / math.sqrt(1.5 * 2))


def test_what_never_differs_has_no_rank_correlation():
    assert spearman([1, 1, 1], [1, 2, 3]) is None
