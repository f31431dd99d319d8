"""Samples of the policy: which are drawn, which are kept, and how a tournament ranks them."""

from dataclasses import dataclass, field, replace

import pytest
from models import tiny
from tiny_text import make_text

from heedful.data import load_feedback, write_feedback
from heedful.errors import DataError
from heedful.method import Cost, Sampler, Share
from heedful.policy import Policy
from heedful.records import Feedback, Response, Score, strict_pairs
from heedful.sampling import Sample, Sampling
from heedful.scorers import Comparer
from heedful.sources.fixed import fixed
from heedful.sources.policy import PolicySamples, answered, one_per_prompt
from heedful.sources.ranking import scored, tournament
from heedful.targets.relabel import best_judged

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass
class Planted:
    """A judge with a total order: what is alphabetically later is better; equal first letters draw."""

    name = "planted"
    version = "1"
    needs = frozenset()
    asked: list = field(default_factory=list)

    def score(self, item):
        raise AssertionError

    def preferences(self, pairs):
        self.asked += [(a.response, b.response) for a, b in pairs]
        return [0.5 + 0.1 * ((a.response[0] > b.response[0]) - (a.response[0] < b.response[0])) for a, b in pairs]

    def score_together(self, items):
        return [Score(self.name, float(ord(item.response[0])), self.version) for item in items]


class Alone:
    """The same order as a number for each response."""

    name = "alone"
    version = "2"
    needs = frozenset()

    def score(self, item):
        return Score(self.name, float(ord(item.response[0])), self.version)


def record(texts, *, shown=(), id="a"):
    demonstrations = tuple(Response(text, demonstration=True) for text in shown)
    return Feedback("q", (*demonstrations, *map(Response, texts)), id=id, metadata={"sampled_tokens": 0})


def named(judged, pairs=None):
    """The comparisons of a record as letters, the better first."""
    texts = [response.text for response in judged.responses]
    return [texts[a] + texts[b] for a, b in (strict_pairs(judged) if pairs is None else pairs)]


def policy():
    return Policy(tiny("gpt2"))


def source(prompts, **options):
    base = {"sampling": Sampling(max_tokens=6), "num_samples": 4, "judge": list, "seed": 0}
    return PolicySamples(prompts, make_text(max_length=32), **base | options)


PROMPTS = [Feedback(f"say {n}", (), id=str(n)) for n in range(5)]


# The tournament


@pytest.mark.parametrize("size", range(2, 10))
def test_s9_m_responses_take_m_minus_1_calls_and_the_champion_is_the_best(size):
    for shift in range(size):
        letters = [chr(ord("a") + (n * 5 + shift) % 16) for n in range(size)]
        judge = Planted()
        (judged,) = tournament([record(letters)], judge)
        assert len(judge.asked) == len(judged.comparisons) == size - 1
        assert all(better > worse for better, worse in named(judged))
        assert judged.responses[best_judged(judged)].text == max(letters)
        assert judged.metadata["scorer_calls"] == {"planted": size - 1}


def test_neighbours_meet_then_the_winners():
    (judged,) = tournament([record("abcdefgh")], Planted())
    assert named(judged) == ["ba", "dc", "fe", "hg", "db", "hf", "hd"]


def test_the_one_left_over_waits_and_meets_the_first_winner():
    (judged,) = tournament([record("abcde")], Planted())
    assert named(judged) == ["ba", "dc", "eb", "ed"]


def test_all_records_play_a_round_at_once_and_apart():
    judge = Planted()
    one, two = tournament([record("ab"), record("dcba", id="b")], judge)
    assert judge.asked[:3] == [("a", "b"), ("d", "c"), ("b", "a")]
    assert named(one) == ["ba"] and named(two) == ["dc", "ba", "db"]


def test_a_draw_is_a_tie_and_the_first_goes_on():
    (judged,) = tournament([record(["a1", "a2", "b"])], Planted())
    assert [(pair.better, pair.worse, pair.strength) for pair in judged.comparisons] == [(0, 1, 0.0), (2, 0, 1.0)]
    assert len(strict_pairs(judged)) == 1


def test_a_demonstration_does_not_play():
    for rank in (tournament, scored):
        (judged,) = rank([record("ba", shown=["z"])], judge=Planted())
        assert named(judged) == ["ba"]
        assert judged.labeler == "planted 1"


@pytest.mark.parametrize("texts", ["", "a"])
def test_fewer_than_two_responses_give_no_pair_and_no_call(texts):
    judge = Planted()
    for rank in (tournament, scored):
        (judged,) = rank([record(texts)], judge=judge)
        assert strict_pairs(judged) == [] and judged.metadata["scorer_calls"] == {"planted": 0}
    assert judge.asked == []


def test_scores_are_kept_and_counted_once_a_response_or_once_a_pair():
    (judged,) = scored([record("acb", shown=["z"])], judge=Alone())
    assert [[score.value for score in response.scores] for response in judged.responses] == [[], [97.0], [99.0], [98.0]]
    assert judged.metadata["scorer_calls"] == {"alone": 3} and judged.responses[best_judged(judged)].text == "c"
    (judged,) = scored([record("acb")], judge=Planted())
    assert judged.metadata["scorer_calls"] == {"planted": 3}
    assert isinstance(Planted(), Comparer) and not isinstance(Alone(), Comparer)


# What is drawn


def test_it_asks_the_policy_and_a_dataset_does_not():
    assert isinstance(source(PROMPTS), Sampler)
    assert not isinstance(fixed(PROMPTS), Sampler)


def test_seed_round_and_place_decide_the_draws_and_nothing_else():
    every, model = source(PROMPTS), policy()
    found = every.collect(0, model)
    assert [r.id for r in found] == [r.id for r in PROMPTS]
    assert every.collect(0, model) == found
    shares = [every.collect(0, model, Share(n, 2)) for n in range(2)]
    assert [shares[n % 2][n // 2] for n in range(5)] == found
    assert every.collect(1, model) != found
    assert source(PROMPTS, seed=1).collect(0, model) != found


def test_a_record_has_each_text_once_none_empty_and_what_it_cost():
    samples = [
        Sample((5,) * n, (0.0,) * n, text, truncated=cut)
        for n, text, cut in [(3, "ab", True), (1, "", False), (2, "ab", False), (4, "c", False)]
    ]
    found = answered(Feedback("q", (Response("x", score=2.0),), id="a", answer="4", metadata={"own": 1}), samples)
    assert [(r.text, r.truncated, r.author) for r in found.responses] == [
        ("ab", True, "policy"),
        ("c", False, "policy"),
    ]
    assert found.metadata == {"own": 1, "sampled_tokens": 10} and (found.id, found.answer) == ("a", "4")


def test_a_demonstration_stays_without_what_was_said_of_it():
    shown = Response("best", score=2.0, rank=1, demonstration=True)
    found = answered(Feedback("q", (Response("worse", rank=2), shown), id="a"), [Sample((5,), (0.0,), "ab", False)])
    assert [(r.text, r.demonstration, r.score, r.rank) for r in found.responses] == [
        ("best", True, None, None),
        ("ab", False, None, None),
    ]


def test_the_cost_of_a_round_is_read_from_its_records():
    found = source(PROMPTS, judge=lambda records: tournament(records, Planted())).collect(0, policy())
    cost = source(PROMPTS).cost(found)
    assert cost.sampled_tokens == sum(r.metadata["sampled_tokens"] for r in found) > 0
    assert cost.scorer_calls == {"planted": sum(len(r.comparisons) for r in found)}
    assert cost + Cost(1, {"other": 2}) == Cost(cost.sampled_tokens + 1, {**cost.scorer_calls, "other": 2})


def test_a_prompt_without_room_stays_unanswered_and_no_room_at_all_is_an_error():
    wide = Feedback("x" * 40, (), id="wide")
    found = source([wide, *PROMPTS]).collect(0, policy())
    assert found[0].responses == () and all(r.responses for r in found[1:])
    with pytest.raises(DataError, match="no prompt leaves room for 6 tokens: the shortest has 41"):
        source([wide]).collect(0, policy())


def test_control_tokens_are_never_drawn():
    every = source(PROMPTS)
    every.text.add_control_tokens()
    lm = tiny("gpt2", vocab_size=len(every.text.tokenizer))
    found = replace(every, sampling=Sampling(max_tokens=20, temperature=50.0)).collect(0, Policy(lm))
    assert all("<|" not in response.text for r in found for response in r.responses)


def test_a_round_is_a_feedback_file(tmp_path):
    found = source(PROMPTS, judge=lambda records: tournament(records, Planted())).collect(0, policy())
    write_feedback(tmp_path / "round.jsonl", found)
    assert list(load_feedback(tmp_path / "round.jsonl")) == found


def test_a_prompt_is_asked_once_and_the_record_with_a_demonstration_speaks_for_it():
    shown = Feedback("say 1", (Response("so", demonstration=True),), id="shown")
    again, document = replace(PROMPTS[2], id="again"), Feedback("", (Response("text"),), id="document")
    found = one_per_prompt([*PROMPTS, shown, again, document])
    assert [r.id for r in found] == ["0", "shown", "2", "3", "4"]
