"""What must be equal is equal: each method beside the one it becomes at the end of its range."""

import math

import pytest
import torch
from models import tiny
from tiny_methods import (
    DRAWING,
    VARIANTS,
    build,
    build_variant,
    feedback_for,
    fresh,
    logp_gradient,
    loss,
    mixed_feedback,
    rows,
    steps,
)
from tiny_text import make_text, scored

from heedful.batch import collate
from heedful.config import Training
from heedful.errors import ConfigError, DataError
from heedful.learner import Learner, _silent
from heedful.masking import FIELDS
from heedful.method import Head, Inputs
from heedful.methods import HELPING, load_method
from heedful.objectives.likelihood import nll
from heedful.policy import Policy

pytestmark = pytest.mark.usefixtures("one_thread")

BEYOND = 1e9  # every score
FEEDBACK = mixed_feedback()
SHIFTED = 0.3


def mle(feedback=FEEDBACK):
    return build("mle", feedback)


def nll_of(built, model, keep=lambda score: True):
    """Summed NLL of the tokens whose segment's score passes (EOS has score 0), and the count of all tokens."""
    rewards = build("awr", FEEDBACK)
    batch = collate(rewards.groups, tree=False, dtype=torch.float64)
    mask = batch.read("mask")
    chosen = mask * torch.tensor([[float(keep(x)) for x in row] for row in batch.read("reward").tolist()])
    with torch.no_grad():
        return nll(model(batch).logp, chosen).item(), mask.sum().item()


# MLE at the end of the range


IDENTICAL_TO_MLE = {
    "filtering at a threshold below every score": ("filtering", {"threshold": -BEYOND}),
    "filtering at a quantile of 0": ("filtering", {"quantile": 0.0}),
    "conditional with every token dropped": ("conditional", {"drop": 1.0}),
    "unlikelihood with every segment aligned": ("unlikelihood", {"threshold": -BEYOND}),
}


@pytest.mark.parametrize("case", IDENTICAL_TO_MLE)
def test_is_mle_to_the_bit_over_three_steps(case):
    name, config = IDENTICAL_TO_MLE[case]
    expected, weights = steps(mle(), 3)
    found, ours = steps(build(name, FEEDBACK, **config), 3)
    assert [step["nll"] for step in found] == [step["nll"] for step in expected]
    assert [step["grad_norm"] for step in found] == [step["grad_norm"] for step in expected]
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), weights.parameters()))


def test_rwr_with_a_huge_beta_is_mle():
    built = build("rwr", FEEDBACK, beta=1e12)
    assert loss(built, fresh(built)) == pytest.approx(loss(mle(), fresh(mle())), rel=1e-11)


def test_filtering_at_a_threshold_of_infinity_raises():
    with pytest.raises(DataError, match="keeps none of 8 responses"):
        build("filtering", FEEDBACK, threshold=BEYOND)


@pytest.mark.parametrize("threshold", [-BEYOND, BEYOND])
def test_conditional_at_an_infinite_threshold_is_not_mle_but_mle_behind_a_constant_token(threshold):
    built = build("conditional", FEEDBACK, threshold=threshold, drop=0.0)
    token = built.text.good_id if threshold < 0 else built.text.bad_id
    other = built.text.bad_id if threshold < 0 else built.text.good_id
    tokens = [id for group in built.groups for id in group.branches[0].tokens]
    assert tokens.count(token) == sum(len(record.responses[0].segments) for record in FEEDBACK)
    assert other not in tokens
    assert loss(built, fresh(built)) != pytest.approx(loss(mle(), fresh(mle())), rel=1e-3)
    without = [[id for id in group.branches[0].tokens if id != token] for group in built.groups]
    assert without == [list(group.branches[0].tokens) for group in mle().groups]


# Unlikelihood


def test_unlikelihood_with_alpha_zero_is_nll_of_aligned_tokens_over_all_tokens():
    built = build("unlikelihood", FEEDBACK, threshold=0.0, alpha=0.0)
    model = fresh(built)
    total, count = nll_of(built, model, keep=lambda score: score >= 0)
    assert loss(built, model) == pytest.approx(total / count, rel=1e-12)


def test_unlikelihood_with_every_segment_bad_still_imitates_the_end_of_a_finished_text():
    built = build("unlikelihood", [scored(("ab", -1.0))], threshold=0.0)
    gradient = logp_gradient(built)[0]
    assert [x.item() < 0 for x in gradient] == [False, False, True]  # BOS, "ab", EOS
    assert gradient[1] > 0


# RWR


def test_rwr_with_a_tiny_beta_is_nll_of_faultless_tokens_over_all_tokens():
    built = build("rwr", FEEDBACK, beta=1e-6)
    model = fresh(built)
    total, count = nll_of(built, model, keep=lambda score: score == 0)
    assert loss(built, model) == pytest.approx(total / count, rel=1e-12)


def test_a_constant_on_all_rewards_multiplies_the_loss_of_rwr():
    def cut(shift):
        return build("rwr", [scored(("ab", -0.5 + shift), ("cd", shift), truncated=True)], beta=0.5)

    model = fresh(cut(0.0))
    assert loss(cut(SHIFTED), model) == pytest.approx(math.exp(SHIFTED / 0.5) * loss(cut(0.0), model), rel=1e-12)


# AWR


def awr(feedback=FEEDBACK, **config):
    return build("awr", feedback, **config)


def with_value(built, value):
    """The same random model whose value head says `value` of every token."""
    model = Policy(tiny("gpt2"), {"value": Head(bias=True)}).double()
    torch.nn.init.constant_(model.heads["value"].linear.bias, value)
    return model


def test_awr_with_a_huge_beta_is_alpha_mle_and_the_rest_value_regression():
    built = awr(beta=1e12, alpha=0.25)
    model = with_value(built, -0.2)
    rewards = collate(built.groups, tree=False, dtype=torch.float64)
    mask = rewards.read("mask")
    error = ((rewards.read("reward") + 0.2).square() * mask).sum() / mask.sum()
    expected = 0.25 * loss(mle(), fresh(mle())) + 0.75 * error.item()
    assert loss(built, model) == pytest.approx(expected, rel=1e-10)


def test_awr_with_alpha_one_and_a_value_of_zero_is_rwr():
    rwr = build("rwr", FEEDBACK, beta=0.5)
    expected, weights = steps(rwr, 3)
    found, ours = steps(awr(alpha=1.0, beta=0.5), 3)  # the linear head starts at 0 and alpha 1 leaves it there
    assert [step["loss"] for step in found] == pytest.approx([step["loss"] for step in expected], rel=1e-12)
    for ours_, theirs in zip(ours.lm.parameters(), weights.lm.parameters()):
        torch.testing.assert_close(ours_, theirs, rtol=1e-9, atol=1e-12)
    assert not ours.heads["value"].linear.weight.any()


@pytest.mark.parametrize("beta", [0.1, 1.0, 10.0])
def test_the_released_rwr_is_awr_with_the_papers_head_and_a_constant_too_many(beta):
    built = awr(alpha=1.0, beta=beta, value_head="paper")
    rwr = build("rwr", FEEDBACK, beta=beta)
    # EOS has reward 0 in both, so the factor is the same on all tokens
    assert loss(built, fresh(built)) == pytest.approx(math.exp(0.5 / beta) * loss(rwr, fresh(rwr)), rel=1e-9)


def test_awr_with_a_perfect_value_is_alpha_mle():
    flat = [scored(("abab", -0.4), ("cd", -0.4), id=str(n), truncated=True) for n in range(3)]
    built = awr(flat, alpha=0.7, beta=0.1)
    model = with_value(built, -0.4)
    assert loss(built, model) == pytest.approx(0.7 * loss(mle(flat), fresh(mle(flat))), rel=1e-12)


def test_a_constant_on_all_rewards_and_the_value_that_follows_it_change_nothing_in_awr():
    def cut(shift):
        return awr([scored(("ab", -0.5 + shift), ("cd", shift), truncated=True)], beta=0.5)

    plain, moved = cut(0.0), cut(SHIFTED)
    assert loss(moved, with_value(moved, SHIFTED)) == pytest.approx(loss(plain, with_value(plain, 0.0)), rel=1e-12)


def test_a_trained_value_follows_a_constant_on_all_rewards():
    optim = {"lr": 0.2, "warmup": 0.0, "decay": "linear", "weight_decay": 0.0}
    errors = []
    for shift in (0.0, 2.0):
        built = awr([scored(("ab", -0.5 + shift), ("cd", shift), truncated=True)], alpha=0.0)
        errors.append(steps(built, 100, optim=optim)[0][-1]["value_regression"])
    assert max(errors) < 1e-3


def test_the_papers_head_cannot_hold_a_score_of_zero_or_below_minus_one():
    optim = {"lr": 0.2, "warmup": 0.0, "decay": "linear", "weight_decay": 0.0}
    built = awr([scored(("ab", -2.0), truncated=True)], alpha=0.0, value_head="paper")
    assert steps(built, 30, optim=optim)[0][-1]["value_regression"] >= 1.0


def test_no_gradient_of_the_weight_reaches_the_value():
    built = awr(alpha=1.0)
    model = with_value(built, -0.2)
    before = model.heads["value"].linear.bias.detach().clone()
    steps(built, 2, model=model)
    assert torch.equal(model.heads["value"].linear.bias, before)


@pytest.mark.parametrize(("value_head", "pulls"), [("linear", False), ("paper", True)])
def test_only_the_papers_value_head_pulls_on_the_model(value_head, pulls):
    built = awr(alpha=0.0, value_head=value_head)
    model = fresh(built)
    torch.nn.init.ones_(model.heads["value"].linear.weight)
    batch = collate(built.groups, tree=False, dtype=torch.float64)
    outputs = model(batch)
    sum(spec(outputs, batch).total * spec.coef for spec in built.method.objective).backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in model.lm.parameters()) is pulls


# Settings that reach the rows or the objective


ABOVE = [scored((letter, float(n)), id=letter) for n, letter in enumerate("abcd", start=-4)]  # -4 to -1, none reaches 0


def test_filtering_without_a_threshold_drops_the_share_it_is_asked_to():
    assert [group.id for group in build("filtering", ABOVE).groups] == ["c", "d"]
    assert [group.id for group in build("filtering", ABOVE, quantile=0.75).groups] == ["d"]
    with pytest.raises(DataError, match="no mean score reaches 0"):
        build("filtering", ABOVE, threshold=0.0)


def test_conditional_without_a_threshold_takes_the_median_and_zero_is_a_threshold():
    def num_good(**config):
        built = build("conditional", ABOVE, drop=0.0, **config)
        return sum(built.text.good_id in group.branches[0].tokens for group in built.groups)

    assert (num_good(), num_good(threshold=0.0)) == (2, 0)


def test_conditional_drops_other_tokens_with_another_seed():
    def rows(seed):
        module, text = load_method("conditional"), make_text(control=True)
        method = module.build(module.Config(drop=0.5), Inputs(feedback=FEEDBACK, text=text, seed=seed))
        return list(method.targets(FEEDBACK))

    assert rows(0) == rows(0) != rows(1)


def test_awr_caps_a_weight_at_its_setting():
    faultless = [scored(("ab", 0.0), truncated=True)]
    pushes = [logp_gradient(awr(faultless, alpha=1.0, beta=0.1, max_weight=w), value=-1.0) for w in (1.0, 2.0)]
    assert torch.equal(2 * pushes[0], pushes[1])


# Whose score it is


@pytest.mark.parametrize(
    ("name", "config"), [("unlikelihood", {"threshold": 0.0}), ("rwr", {"beta": 0.5}), ("awr", {"beta": 0.5})]
)
def test_one_changed_score_changes_the_push_on_its_own_token_only(name, config):
    text = make_text(control=True)

    def pushes(score):
        return logp_gradient(build(name, [scored(("x", 0), ("y", score), ("z", 0))], text=text, **config))[0]

    changed = (pushes(0.0) != pushes(-1.0)).tolist()
    assert changed == [False, False, True, False, False]  # BOS x y z EOS: y, predicted at x


def test_one_changed_score_changes_one_control_token():
    def tokens(score):
        built = build("conditional", [scored(("x", 0), ("y", score), ("z", 0))], threshold=0.0, drop=0.0)
        return built.groups[0].branches[0].tokens

    assert [a != b for a, b in zip(tokens(0.0), tokens(-1.0))] == [False, False, True, False, False, False, False]


# What all of them share


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_gradient_step_on_a_fresh_model_is_finite_and_lowers_the_loss(variant):
    logged, _ = steps(build_variant(variant, feedback_for(variant)), 8)
    assert all(math.isfinite(value) for step in logged for value in step.values())
    assert logged[-1]["loss"] < logged[0]["loss"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_targets_make_no_stream_that_the_objective_does_not_read(variant):
    built = build_variant(variant, feedback_for(variant))
    read = FIELDS.union(*(spec.reads for spec in (*built.method.objective, *built.method.statistics)))
    assert {name for group in built.groups for b in group.branches for name in (*b.streams, *b.fields)} <= read


@pytest.mark.parametrize("variant", VARIANTS)
def test_targets_are_pure(variant):
    feedback = feedback_for(variant)
    built = build_variant(variant, feedback)
    samples = feedback if VARIANTS[variant][0] in DRAWING else built.method.source.collect(1)
    assert list(built.method.targets(samples)) == built.groups


@pytest.mark.parametrize("variant", [name for name in VARIANTS if VARIANTS[name][0] not in HELPING])
def test_what_generation_is_given_occurs_token_for_token_in_training(variant):
    fields = load_method(VARIANTS[variant][0]).Config.model_fields
    all_good = {name: value for name, value in {"threshold": -BEYOND, "drop": 0.0}.items() if name in fields}
    feedback = feedback_for(variant)
    built = build_variant(variant, feedback, **all_good)
    needs = built.method.inference
    line_prefix = needs.get("line_prefix")
    rows = [[*group.prompt, *branch.tokens] for group in built.groups for branch in group.branches]
    for prompt in {record.prompt for record in feedback}:
        start = [*built.text.encode_prompt(prompt, line_prefix=line_prefix), *needs.get("prefix", ())]
        start += [] if line_prefix is None else [line_prefix]  # generation forces it
        assert any(row[: len(start)] == start for row in rows), prompt


@pytest.mark.parametrize("variant", ["conditional", "conditional_lines"])
def test_generation_bans_both_control_tokens_and_begins_with_the_good_one(variant):
    built = build_variant(variant, FEEDBACK)
    needs, good = built.method.inference, built.text.good_id
    assert needs["suppress"] == [good, built.text.bad_id]
    assert (needs["prefix"], needs["line_prefix"]) == (([], good) if variant.endswith("lines") else ([good], None))


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_that_evens_out_processes_changes_no_number(variant):
    built = build_variant(variant, feedback_for(variant))
    one = Learner(fresh(built), Training(dtype="float64"))
    groups = rows(built, one)
    objective, statistics = built.method.objective, built.method.statistics
    padded = one.losses(objective, [*groups, _silent(groups[0])], statistics)
    assert padded == pytest.approx(one.losses(objective, groups, statistics), rel=1e-9)


def test_label_smoothing_is_refused_where_no_loss_reads_it():
    assert build("dpo", feedback_for("dpo"), label_smoothing=0.1).groups
    with pytest.raises(ConfigError, match="only sigmoid has it"):
        build("dpo", feedback_for("dpo"), loss="hinge", label_smoothing=0.1)
