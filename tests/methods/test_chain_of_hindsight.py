"""Chain of Hindsight beside what it becomes at the end of its range, and what it learns."""

import pytest
import torch
from models import tiny
from tiny_methods import build, fresh, good_and_bad, loss, steps
from tiny_text import make_text

from heedful.batch import Branch, Group, collate
from heedful.config import Training
from heedful.errors import DataError
from heedful.learner import Learner
from heedful.method import Method, term
from heedful.methods import load_method
from heedful.objectives.likelihood import nll
from heedful.policy import Policy
from heedful.records import Feedback, Response
from heedful.sampling import Sampling, generate
from heedful.schedule import step_rows
from heedful.targets.chain import Layout, chains
from heedful.targets.markers import FAMILIES, Family, marker

pytestmark = pytest.mark.usefixtures("one_thread")

FEEDBACK = good_and_bad(12)
DOCUMENTS = [Feedback("", (Response(f"text {n} of many"),), id=f"d{n}") for n in range(4)]
UNMASKED = {"past_token_masking": 0.0}


def coh(feedback=FEEDBACK, **config):
    return build("chain_of_hindsight", feedback, text=make_text(max_length=128), **config)


def rows(feedback=FEEDBACK, *, phrases=("g:", "b:"), **layout):
    return chains(feedback, text=make_text(), layout=Layout(Family((phrases,), "a test"), **layout), seed=0)


# The mask


def test_with_a_mask_of_ones_it_is_the_plain_loss_of_the_rows():
    built = coh(**UNMASKED)
    ones = [
        Group(g.id, g.prompt, [Branch(b.tokens, {"mask": [1.0] * len(b.tokens)}) for b in g.branches])
        for g in built.groups
    ]
    model = fresh(built)
    found = Learner(model, Training(dtype="float64")).losses([term(nll, per="mask")], ones)["eval_loss"]
    total = count = 0.0
    for group in ones:
        for branch in group.branches:
            row = torch.tensor([[*group.prompt, *branch.tokens]])
            logp = model.lm(row).logits.log_softmax(-1)[0, :-1].gather(-1, row[0, 1:, None])
            total -= logp[len(group.prompt) - 1 :].sum().item()
            count += len(branch.tokens)
    assert found == pytest.approx(total / count, rel=1e-9)


def test_the_label_of_a_marker_or_prompt_changes_no_loss_and_that_of_an_output_does():
    built = coh(**UNMASKED)
    batch = collate(built.groups, tree=False, dtype=torch.float64)
    logp = torch.randn(batch.tokens.shape, dtype=torch.float64, requires_grad=True)
    nll(logp, batch.read("mask")).backward()
    assert torch.equal(logp.grad != 0, batch.read("mask") == 1)
    branches = [branch for group in built.groups for branch in group.branches]
    silent = {token for b in branches for token, m in zip(b.tokens, b.streams["mask"], strict=True) if not m}
    assert silent == {*marker(built.text, "A helpful answer:"), *marker(built.text, "An unhelpful answer:")}


# The ends of its range


def test_good_outputs_alone_are_sft_behind_a_constant_marker():
    behind = rows(forms=("good",))
    sft = build("sft", FEEDBACK, text=make_text())
    ids = tuple(marker(sft.text, "g:"))
    for ours, theirs in zip(behind, sft.groups, strict=True):
        (mine,), (branch,) = ours.branches, theirs.branches
        assert (*ids, *branch.tokens) == tuple(mine.tokens)
        assert mine.streams["mask"] == [0.0] * len(ids) + branch.streams["mask"]


def test_without_the_marker_that_is_sft_to_the_bit():
    sft = build("sft", FEEDBACK, text=make_text())
    bare = type(sft)(coh(forms=["good"], **UNMASKED).method, sft.text, rows(phrases=("", ""), forms=("good",)))
    expected, weights = steps(sft, 3)
    found, ours = steps(bare, 3)
    assert found == expected
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), weights.parameters()))


def test_good_and_bad_alone_are_conditional_sft():
    groups = rows(forms=("good", "bad"))
    ids = {name: marker(make_text(), f"{name}:") for name in "gb"}
    for group, record in zip(groups, FEEDBACK, strict=True):
        texts = {r.text: "g" if r.score == 0 else "b" for r in record.responses}
        expected = {(*ids[name], *make_text().encode_response(text)) for text, name in texts.items()}
        assert {tuple(branch.tokens) for branch in group.branches} == expected


def test_a_masked_share_of_zero_is_no_masking_to_the_bit():
    plain = coh(**UNMASKED)
    zero = [
        Group(
            g.id,
            g.prompt,
            [Branch(b.tokens, b.streams, {"masked_share": 0.0, "masking_key": 5.0}) for b in g.branches],
        )
        for g in plain.groups
    ]
    expected, weights = steps(plain, 3)
    found, ours = steps(type(plain)(plain.method, plain.text, zero), 3)
    assert found == expected
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), weights.parameters()))


def test_masking_changes_training_and_no_evaluation():
    masked, plain = coh(past_token_masking=0.5), coh(**UNMASKED)
    model = fresh(plain)
    assert loss(masked, model) == loss(plain, model)
    assert steps(masked, 1)[0][0]["nll"] != steps(plain, 1)[0][0]["nll"]


# The pretraining term


def test_documents_are_a_second_stream_with_its_own_term():
    built = coh([*FEEDBACK, *DOCUMENTS], pretrain_rows=3)
    (mix,) = built.method.mixes
    (spec,) = mix.objective
    assert (spec.name, spec.coef, mix.batch_size, len(mix.groups)) == ("pretrain_nll", 1.5, 3, 4)
    assert {group.id for group in built.groups} == {record.id for record in FEEDBACK}
    assert not coh().method.mixes
    assert not coh([*FEEDBACK, *DOCUMENTS], pretrain_coef=0.0).method.mixes


def test_the_pretraining_term_adds_lambda_times_its_gradient():
    built = coh([*FEEDBACK, *DOCUMENTS], **UNMASKED)
    (mix,) = built.method.mixes

    def gradient(*work):
        model = fresh(built)
        learner = Learner(model, Training(dtype="float64", optim={"clip": 1e9}))
        norms = learner.update(list(work), 0.5)
        return norms["grad_norm"], norms

    both, logged = gradient((built.method.objective, built.groups), (mix.objective, list(mix.groups)))
    _, alone = gradient((built.method.objective, built.groups))
    _, mle = gradient((mix.objective, list(mix.groups)))
    assert logged["loss"] == pytest.approx(alone["nll"] + 1.5 * mle["pretrain_nll"], rel=1e-12)
    assert both > 0


def test_without_weight_on_the_feedback_it_is_plain_continuation():
    built = coh([*FEEDBACK, *DOCUMENTS], pretrain_coef=1.0, **UNMASKED)
    (mix,) = built.method.mixes
    mle = build("mle", DOCUMENTS, text=make_text(max_length=128))
    ours = Method(built.method.source, built.method.targets, [term(nll, per="mask", coef=0.0, name="idle")])
    models = []
    for work in (
        [(ours.objective, built.groups), (mix.objective, list(mix.groups))],
        [(mle.method.objective, mle.groups)],
    ):
        model = fresh(built)
        learner = Learner(model, Training(dtype="float64"))
        for n in range(3):
            learner.update(work, n / 3)
        models.append(model)
    for a, b in zip(*(model.parameters() for model in models)):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_sets_of_feedback_are_mixed_by_their_size():
    sets = {
        name: [Feedback(f"{name}{n}", r.responses, id=f"{name}{n}") for n, r in enumerate(FEEDBACK[:size])]
        for name, size in (("a", 12), ("b", 4))
    }
    built = coh([*sets["a"], *sets["b"]])
    names = [group.id[0] for group in built.groups]
    assert (names.count("a"), names.count("b")) == (12, 4)
    batches = [step_rows(built.groups, 4, seed=0, round_index=0, index=index) for index in range(4)]
    emitted = [group.id[0] for batch in batches for group in batch]
    assert (emitted.count("a"), emitted.count("b")) == (12, 4) and "b" in emitted[:12]


# What generation needs


@pytest.mark.parametrize("markers", FAMILIES)
def test_what_generation_is_given_occurs_token_for_token_in_training(markers):
    many = [Feedback(f"q{n}", (Response("x", score=0.0), Response("y", score=1.0)), id=str(n)) for n in range(40)]
    built = coh(many, markers=markers)
    prefix = built.method.inference["prefix"]
    starts = [tuple(b.tokens[: len(prefix)]) == tuple(prefix) for g in built.groups for b in g.branches]
    assert any(starts)
    if markers != "varied":  # where there is one pair of phrases each prompt is followed by it
        assert all(any(tuple(b.tokens[: len(prefix)]) == tuple(prefix) for b in g.branches) for g in built.groups)


def test_feedback_in_which_nothing_is_better_is_refused():
    with pytest.raises(DataError, match="no response is better than another"):
        coh([Feedback("q", (Response("x", critique="bad"),))])


def test_defaults_are_those_of_the_paper():
    config = load_method("chain_of_hindsight").Config()
    assert (config.past_token_masking, config.pretrain_coef, config.loss) == (0.05, 1.5, "all")


# What it learns


def thirty_two() -> list[Feedback]:
    """Comparisons that have nothing in common but how a good and a bad answer end."""
    letters = "bcdfghjklmnpqrstvwxz"
    records = []
    for n in range(32):
        word = letters[n % 20] + letters[(3 * n + 7 + n // 20) % 20]
        pair = Response(word + "oo", rank=1), Response(word[::-1] + "ee", rank=2)
        records.append(Feedback(letters[n % 20] + "?!"[n // 20], pair if n % 2 else pair[::-1], id=str(n)))
    return records


def test_it_gives_the_good_text_behind_the_good_marker_and_the_bad_behind_the_bad(monkeypatch):
    monkeypatch.setitem(FAMILIES, "answer", Family((("+", "-"),), "a test"))
    records, text = thirty_two(), make_text()
    built = build("chain_of_hindsight", records, text=text)
    policy = Policy(tiny("llama"))
    learner = Learner(policy, Training(dtype="float32", optim={"lr": 1e-2, "warmup": 0.1, "weight_decay": 0.0}))
    for step in range(200):
        torch.manual_seed(step)  # as the loop does: each step misses other tokens
        logged = learner.update([(built.method.objective, built.groups)], step / 200)
    assert logged["nll"] < 0.1  # with 5% of the past masked

    def answers(*starts):
        prompts = [[*text.encode_prompt(record.prompt), *ids] for record, ids in zip(records, starts, strict=True)]
        return [s[0].text for s in generate(policy.lm, text, prompts, Sampling(max_tokens=8, temperature=0))]

    good, bad = ([r.text for x in records for r in x.responses if r.rank == rank] for rank in (1, 2))
    better, worse = built.method.inference["prefix"], built.method.inference["worse_prefix"]
    assert answers(*[better] * 32) == good
    assert answers(*[worse] * 32) == bad
    corrected = answers(*([*worse, *text.encode_response(answer), *better] for answer in bad))
    assert sum(a == b for a, b in zip(corrected, good, strict=True)) >= 16  # about half were seen in this order
