"""Each method learns twenty examples by heart, and answers as it should."""

from dataclasses import replace

import pytest
import torch
from models import PAD, tiny
from tiny_methods import build, good_and_bad, rows
from tiny_text import make_text, scored

from heedful import adapters
from heedful.adapters import Base
from heedful.batch import collate
from heedful.config import Lora, Training
from heedful.learner import Learner
from heedful.policy import Policy
from heedful.records import Feedback
from heedful.sampling import Sampling, generate
from heedful.targets.hindsight import instructions

pytestmark = pytest.mark.usefixtures("one_thread")

FEEDBACK = good_and_bad()
LABELS = {0.0: "good", -1.0: "bad"}
STEPS = 120
LORA = Lora(rank=16, alpha=32)


def learn(name, feedback=FEEDBACK, *, count=STEPS, model="llama", text=None, lora=None, **config):
    """A method trained on the feedback until little is left to learn: what it logged last, and how to ask it."""
    built = build(name, feedback, text=text, **config)
    optim = {"lr": 1e-2, "warmup": 0.1, "weight_decay": 0.0}
    policy = Policy(tiny(model), built.method.heads)
    if lora:
        adapters.add(policy.lm, lora, base=Base("", ""), new=built.method.inference.get("suppress", ()))
    learner = Learner(policy, Training(dtype="float32", optim=optim))
    work = [(built.method.objective, rows(built, learner))]
    for step in range(count):
        logged = learner.update(work, step / count, statistics=built.method.statistics)
    return logged, Asked(built, policy)


class Asked:
    """A trained policy, asked greedily."""

    def __init__(self, built, policy):
        self.built, self.policy, self.text = built, policy, built.text

    def answers(self, *, prefix=None, feedback=FEEDBACK):
        """One greedy response to each prompt, as the method generates, or behind another prefix."""
        needs = self.built.method.inference
        prefix, line_prefix = needs.get("prefix", ()) if prefix is None else prefix, needs.get("line_prefix")
        prompts = [[*self.text.encode_prompt(r.prompt, line_prefix=line_prefix), *prefix] for r in feedback]
        banned = tuple(needs.get("suppress", ()))
        settings = Sampling(max_tokens=8, temperature=0, banned=banned, line_prefix=line_prefix)
        return [drawn[0].text for drawn in generate(self.policy.lm, self.text, prompts, settings)]

    def probability(self, pick):
        """Mean probability of the first token of the picked response to each prompt."""
        groups = build("mle", FEEDBACK, text=self.text).groups
        batch = collate(groups, tree=True)
        with torch.no_grad():
            p = self.policy.eval()(batch).logp.exp()
        found = []
        for n, record in enumerate(FEEDBACK):
            response = 2 * n + [r.text for r in record.responses].index(pick(record))
            row, column = (batch.response == response).nonzero()[0].tolist()
            found.append(p[row, column].item())
        return sum(found) / len(found)


def good(record: Feedback) -> str:
    return max(record.responses, key=lambda response: response.score).text


def bad(record: Feedback) -> str:
    return min(record.responses, key=lambda response: response.score).text


GOOD, BAD = [good(record) for record in FEEDBACK], [bad(record) for record in FEEDBACK]


def test_mle_learns_every_text_by_heart():
    one = [Feedback(record.prompt, (record.responses[0],), id=record.id) for record in FEEDBACK]
    logged, model = learn("mle", one)
    assert logged["nll"] < 0.02
    assert model.answers() == [record.responses[0].text for record in FEEDBACK]


def test_mle_cannot_tell_good_from_bad():
    _, model = learn("mle")
    assert model.probability(good) == pytest.approx(0.5, abs=0.1)
    assert model.probability(bad) == pytest.approx(0.5, abs=0.1)


def test_sft_learns_the_best_response_by_heart():
    logged, model = learn("sft")
    assert logged["nll"] < 0.02
    assert model.answers() == GOOD


def test_sft_learns_the_best_response_by_heart_with_adapters():
    _, model = learn("sft", lora=LORA)  # the LM head of a random model, which stays, bounds how sure it can be
    assert model.answers() == GOOD


def test_conditional_learns_its_control_tokens_with_adapters():
    _, model = learn("conditional", lora=LORA, threshold=0.0, drop=0.0, count=200)
    assert model.answers(prefix=[model.text.good_id]) == GOOD
    assert model.answers(prefix=[model.text.bad_id]) == BAD


def test_filtering_learns_what_it_keeps_by_heart():
    logged, model = learn("filtering", threshold=0.0)
    assert logged["nll"] < 0.02
    assert model.answers() == GOOD


def test_conditional_gives_the_good_text_behind_the_good_token_and_the_bad_one_behind_the_bad():
    logged, model = learn("conditional", threshold=0.0, drop=0.0)
    entropy_of_the_label = 40 * 0.6931 / sum(len(b.tokens) for g in model.built.groups for b in g.branches)
    assert logged["nll"] < entropy_of_the_label + 0.02
    assert model.answers() == GOOD
    assert model.answers(prefix=[model.text.good_id]) == GOOD
    assert model.answers(prefix=[model.text.bad_id]) == BAD


def test_conditional_with_a_token_per_line_ends_where_its_text_ends():
    lines = [scored((f"{x}\n", 0.0), (f"{x}{x}\n", 0.0), prompt=f"{x}?\n", id=x) for x in "bcdfgh"]
    _, model = learn("conditional", lines, threshold=0.0, drop=0.0, lines=True)
    assert model.answers(feedback=lines) == [record.responses[0].text for record in lines]


def test_unlikelihood_learns_the_good_text_and_unlearns_the_bad():
    logged, model = learn("unlikelihood", threshold=0.0, alpha=1.0)
    assert logged["unlikelihood"] < 0.02
    assert model.answers() == GOOD
    assert model.probability(bad) < 0.02


def test_rwr_with_a_small_beta_learns_the_good_text():
    logged, model = learn("rwr", beta=0.1)  # a bad token weighs exp(-10)
    assert logged["weighted_nll"] < 0.05  # the end of a bad text is trained too
    assert model.answers() == GOOD


def test_awr_with_a_small_beta_learns_the_good_text_and_its_value():
    logged, model = learn("awr", beta=0.2, alpha=0.5)
    assert model.answers() == GOOD
    assert model.probability(bad) < 0.1
    assert logged["value_regression"] < 0.15  # its variance is 0.25; after the first letter it can be known


def test_slic_hf_orders_every_pair_and_learns_the_good_text_by_heart():
    logged, model = learn("slic_hf", nll_coef=1.0)
    assert logged["rank_hinge"] == 0
    assert logged["nll"] < 0.02
    assert model.answers() == GOOD


@pytest.mark.parametrize("loss", ["sigmoid", "hinge", "ipo", "ipo_per_token"])
def test_dpo_orders_every_pair(loss):
    logged, model = learn("dpo", loss=loss, count=40)
    assert logged["loss"] < {"sigmoid": 0.02, "hinge": 0.01}.get(loss, 0.5)
    assert model.probability(good) > model.probability(bad)


def test_dpo_orders_every_pair_with_adapters():
    logged, model = learn("dpo", lora=LORA, count=40)
    assert logged["loss"] < 0.1
    assert model.probability(good) > model.probability(bad)


def test_kto_parts_good_from_bad():
    logged, model = learn("kto", count=60)
    assert logged["kto"] < 0.05
    assert model.probability(good) > model.probability(bad)


LABELLED = [
    replace(r, responses=[replace(x, score=None, label=LABELS[x.score]) for x in r.responses]) for r in FEEDBACK
]
RELABELLED = {"feedback": LABELLED, "smoothing": 0.0, "entropy_coef": 0.0, "windows": 0}


@pytest.mark.parametrize("contrast", ["two_way", "n_way", "none"])
def test_hir_gives_the_good_text_behind_the_positive_instruction_and_the_bad_one_behind_the_negative(contrast):
    logged, model = learn("hir", contrast=contrast, **RELABELLED)
    assert logged["nll"] < 0.05
    assert model.answers() == GOOD
    assert model.answers(prefix=instructions("question", model.text).negative) == BAD


def test_farl_learns_the_good_text_by_heart():
    logged, model = learn("farl", LABELLED, smoothing=0.0)
    assert logged["nll"] < 0.02
    assert model.answers() == GOOD


# ---- a T5 from random weights, whose encoder reads the prompt


def learn_with_an_encoder(name, **config):
    text = make_text(merges=[("a", "b"), ("c", "d")], control=True, bos_token=None, start_id=PAD)
    return learn(name, model="t5", text=text, **config)


def test_sft_of_an_encoder_decoder_learns_the_best_response_by_heart():
    logged, model = learn_with_an_encoder("sft")
    assert logged["nll"] < 0.02
    assert model.answers() == GOOD


def test_slic_hf_of_an_encoder_decoder_orders_every_pair_and_learns_the_good_text_by_heart():
    logged, model = learn_with_an_encoder("slic_hf", nll_coef=1.0)
    assert logged["rank_hinge"] == 0
    assert logged["nll"] < 0.02
    assert model.answers() == GOOD


@pytest.mark.slow
def test_dpo_of_an_encoder_decoder_orders_every_pair():
    logged, model = learn_with_an_encoder("dpo", count=40)
    assert logged["loss"] < 0.02
    assert model.probability(good) > model.probability(bad)


@pytest.mark.slow
def test_kto_of_an_encoder_decoder_parts_good_from_bad():
    logged, model = learn_with_an_encoder("kto", count=60)
    assert logged["kto"] < 0.05
    assert model.probability(good) > model.probability(bad)


@pytest.mark.slow
def test_a_control_token_of_an_encoder_decoder_stands_where_the_decoder_begins():
    _, model = learn_with_an_encoder("conditional", threshold=0.0, drop=0.0)
    assert model.answers() == GOOD
    assert model.answers(prefix=[model.text.bad_id]) == BAD


@pytest.mark.slow
def test_hir_of_an_encoder_decoder_answers_behind_either_instruction():
    _, model = learn_with_an_encoder("hir", count=200, **RELABELLED)
    assert model.answers() == GOOD
    assert model.answers(prefix=instructions("question", model.text).negative) == BAD


@pytest.mark.slow
def test_chain_of_hindsight_of_an_encoder_decoder_answers_behind_the_good_marker():
    _, model = learn_with_an_encoder("chain_of_hindsight", count=300, past_token_masking=0.0)
    assert sum(found == wanted for found, wanted in zip(model.answers(), GOOD)) >= 18


@pytest.mark.slow
def test_unlikelihood_of_an_encoder_decoder_learns_the_good_text_and_unlearns_the_bad():
    _, model = learn_with_an_encoder("unlikelihood", threshold=0.0, alpha=1.0)
    assert model.answers() == GOOD
    assert model.probability(bad) < 0.02


@pytest.mark.slow
def test_awr_of_an_encoder_decoder_learns_the_good_text_and_its_value():
    logged, model = learn_with_an_encoder("awr", beta=0.2, alpha=0.5, count=240)
    assert model.answers() == GOOD
    assert logged["value_regression"] < 0.18  # its variance is 0.25
