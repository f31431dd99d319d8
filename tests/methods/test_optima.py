"""Where each objective leads, on models so simple that the optimum can be written down."""

import math

import pytest
import torch
from models import tiny
from tiny_methods import build, converge, words
from tiny_text import letters

import heedful
from heedful.models import load, load_text
from heedful.records import Feedback, Response

pytestmark = pytest.mark.usefixtures("one_thread")

close = pytest.approx
TOLERANCE = 1e-3


def unigram(name, feedback, **config):
    """The unigram table a method leads to, and the id of a letter."""
    built = build(name, feedback, **config)
    table = converge(built, unigram=True)
    return lambda letter: table.p(built.text.encode(letter)[0])


def bigram(name, feedback, **config):
    """p(token | token before) of the bigram table a method leads to; "BOS", "+" and "-" name special tokens."""
    built = build(name, feedback, **config)
    table = converge(built)
    ids = {"BOS": built.text.bos_id, "+": built.text.good_id, "-": built.text.bad_id}

    def p(token, before):
        return table.p(*(ids[x] if x in ids else built.text.encode(x)[0] for x in (token, before)))

    return p


# A corpus in which one token in five is "x", with a fault of 0.5; all others are "y", without.
FIFTH = words({("x", -0.5): 2, ("y", 0.0): 8})


def test_mle_matches_the_rate_of_the_corpus():
    assert unigram("mle", FIFTH)("x") == close(0.2, abs=TOLERANCE)


def test_rwr_shrinks_the_rate_by_the_exponential_of_the_score():
    tilted = 0.2 * math.exp(-0.5 / 0.5)
    assert tilted / (tilted + 0.8) == close(0.084224, abs=1e-6)
    assert unigram("rwr", FIFTH, beta=0.5)("x") == close(0.084224, abs=TOLERANCE)


def test_filtering_leaves_nothing_of_what_it_drops():
    assert unigram("filtering", FIFTH, threshold=0.0)("x") == close(0.0, abs=TOLERANCE)


# "x" is good in two documents and bad in three; "y" is good in five.
TORN = words({("x", 0.0): 2, ("x", -1.0): 3, ("y", 0.0): 5})


@pytest.mark.parametrize(("alpha", "expected"), [(0.1, 0.273973), (1.0, 0.2)])
def test_unlikelihood_ends_at_aligned_over_aligned_plus_others_plus_alpha_misaligned(alpha, expected):
    assert 0.2 / (0.2 + 0.5 + alpha * 0.3) == close(expected, abs=1e-6)
    assert unigram("unlikelihood", TORN, threshold=0.0, alpha=alpha)("x") == close(expected, abs=TOLERANCE)


def test_mle_on_the_same_corpus_ends_at_a_half():
    assert unigram("mle", TORN)("x") == close(0.5, abs=TOLERANCE)


# A corpus where the letter does not settle the label.
LABELLED = words({("x", 0.0): 3, ("x", -1.0): 1, ("y", 0.0): 2, ("y", -1.0): 4})


def test_conditional_learns_how_often_a_text_begins_well():
    p = bigram("conditional", LABELLED, threshold=0.0, drop=0.0)
    assert p("+", "BOS") == close(0.5, abs=TOLERANCE)
    assert p("-", "BOS") == close(0.5, abs=TOLERANCE)


def test_conditional_learns_the_text_given_its_label():
    p = bigram("conditional", LABELLED, threshold=0.0, drop=0.0)
    assert p("x", "+") == close(3 / 5, abs=TOLERANCE)
    assert p("x", "-") == close(1 / 5, abs=TOLERANCE)


def test_conditional_summed_over_its_labels_is_mle():
    p, mle = bigram("conditional", LABELLED, threshold=0.0, drop=0.0), bigram("mle", LABELLED)
    summed = sum(p(label, "BOS") * p("x", label) for label in "+-")
    assert summed == close(mle("x", "BOS"), abs=TOLERANCE)
    assert summed == close(0.4, abs=TOLERANCE)


def test_conditional_separates_a_fault_that_the_label_settles():
    p = bigram("conditional", FIFTH, threshold=0.0, drop=0.0)
    assert (p("x", "+"), p("x", "-")) == close((0.0, 1.0), abs=TOLERANCE)


def test_conditional_that_drops_labels_learns_the_plain_text_where_it_stands():
    built = build("conditional", LABELLED, threshold=0.0, drop=0.5)
    x, y = (built.text.encode(letter)[0] for letter in "xy")
    first = [group.branches[0].tokens[0] for group in built.groups]
    assert 0 < first.count(x) < 4  # some of the four kept their label, some lost it
    table = converge(built)
    for token in (x, y, built.text.good_id, built.text.bad_id):
        assert table.p(token, built.text.bos_id) == close(first.count(token) / 10, abs=TOLERANCE)


def test_a_constant_label_costs_nothing_once_learned():
    p = bigram("conditional", FIFTH, threshold=-1e9, drop=0.0)
    assert p("+", "BOS") == close(1.0, abs=TOLERANCE)
    assert p("x", "+") == close(0.2, abs=TOLERANCE)  # MLE's rate


@pytest.mark.slow
def test_p14_dpo_reaches_the_start_tilted_by_the_reward(tmp_path):
    """Pairs with exactly the frequencies of Bradley-Terry: three responses of one token, rewards 0, ln 3 and ln 9."""
    beta, texts, rewards = 0.5, "axq", (0.0, math.log(3), math.log(9))
    wins = {(0, 1): 5, (1, 0): 15, (1, 2): 5, (2, 1): 15, (0, 2): 2, (2, 0): 18}  # of twenty of each pair
    ranked = {
        pair: tuple(Response(texts[n], truncated=True, rank=rank) for rank, n in enumerate(pair, 1)) for pair in wins
    }
    records = [Feedback("say:", ranked[pair], id=f"{pair}{k}") for pair, count in wins.items() for k in range(count)]
    tokenizer = letters()
    tiny("llama", vocab_size=len(tokenizer)).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    settings = {
        "budget": {"steps": 300},
        "batch_size": len(records),
        "optim": {"lr": 3e-3, "decay": "linear", "warmup": 0.0, "clip": 100.0, "weight_decay": 0.0},
        "dtype": "float32",
        "validation": 0.0,
        "save_every": 1000,
        "probes": 0,
        "method": {"beta": beta},
    }
    base = tmp_path / "base"
    run = heedful.train("dpo", model=base, feedback=records, out=tmp_path / "run", settings=settings, command=[])
    start, found = (_law(model, texts) for model in (base, run.model_path))
    goal = (start + torch.tensor(rewards).double() / beta).log_softmax(-1)
    distance = [(p.exp() * (p - goal)).sum().item() for p in (start, found)]
    assert distance[0] > 0.3 and distance[1] < 1e-3, distance


def _law(model, texts):
    """The log-probability of each of these responses among themselves."""
    text = load_text(model, max_length=64)
    ids = [text.encode_response(one, finished=False)[0] for one in texts]
    with torch.no_grad():
        logits = load(model).lm(torch.tensor([text.encode_prompt("say:")])).logits[0, -1].double()
    return logits[ids].log_softmax(-1)
