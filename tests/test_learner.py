"""One optimizer step: the same however it is cut, and none at all where a number is not finite."""

import math
from dataclasses import replace

import pytest
import torch
from models import tiny

from heedful.batch import Branch, Group
from heedful.config import Optim, Training
from heedful.errors import RunError
from heedful.learner import Learner
from heedful.method import Head, term
from heedful.objectives.likelihood import advantage_weighted_nll, nll, unlikelihood, value_regression
from heedful.policy import Policy

pytestmark = pytest.mark.usefixtures("one_thread")

NLL = [term(nll, per="mask")]
UNLIKELY = [
    term(nll, per="token", streams={"mask": "aligned"}),
    term(unlikelihood, per="token", coef=0.5, streams={"mask": "misaligned"}),
]
AWR = [
    term(advantage_weighted_nll, per="mask", coef=0.5, beta=0.3, max_weight=9.0),
    term(value_regression, per="mask", coef=0.5),
]
VALUE = {"value": Head(bias=True, detach=False)}


def branch(tokens, **streams):
    return Branch(tuple(tokens), {name: tuple(values) for name, values in streams.items()})


def masked(*tokens):
    return branch(tokens, mask=[1.0] * len(tokens))


def some_groups(stream_of):
    """Seven groups of one to three responses of different lengths, some of the tokens not trained."""
    drawn = torch.Generator().manual_seed(3)
    groups = []
    for g in range(7):
        branches = []
        for _ in range(g % 3 + 1):
            tokens = torch.randint(3, 112, (3 + 4 * (g % 4),), generator=drawn).tolist()
            weights = torch.rand(len(tokens), generator=drawn).tolist()
            branches.append(branch(tokens, **stream_of(weights)))
        groups.append(Group(f"g{g}", tuple(range(3, 5 + g)), tuple(branches)))
    return groups


def as_mask(weights):
    return {"mask": [float(w > 0.3) for w in weights]}


def as_marks(weights):
    good = [float(w > 0.5) for w in weights]
    return {"aligned": good, "misaligned": [1 - x for x in good], "token": [1.0] * len(good)}


def as_rewards(weights):
    return {"mask": [1.0] * len(weights), "reward": [-w for w in weights]}


CASES = {
    "nll": (NLL, as_mask, {}),
    "unlikelihood": (UNLIKELY, as_marks, {}),
    "awr": (AWR, as_rewards, VALUE),
}


def learner(name="gpt2", *, heads=None, optim=None, **training):
    policy = Policy(tiny(name), heads)
    for head in policy.heads.values():
        torch.nn.init.ones_(head.linear.weight)
    if training.get("dtype") == "float64":
        policy.double()
    return Learner(policy, Training(**{"dtype": "float32", "optim": optim or {}} | training))


def gradient(learner, work):
    """The gradient of one step, and what the step logs; the weights stay."""
    gradients = []
    learner.optimizer.step = lambda: gradients.extend(p.grad.clone() for p in learner.policy.parameters())
    metrics = learner.update(work, 0.5)
    return torch.cat([g.flatten() for g in gradients]), metrics


def difference(a, b):
    return ((a - b).norm() / b.norm()).item()


# Cut, order and layout change nothing


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("name", "dtype", "tolerance"), [("gpt2", "float64", 1e-9), ("llama", "float32", 1e-5)])
def test_micro_batches_row_order_and_layout_change_no_gradient(case, name, dtype, tolerance):
    objective, stream_of, heads = CASES[case]
    groups = some_groups(stream_of)

    def step(groups=groups, trees=True, **training):
        one = learner(name, heads=heads, dtype=dtype, optim={"clip": 1e9}, **training)
        one.policy.reads_trees = trees
        return gradient(one, [(objective, groups)])

    whole, logged = step(micro_tokens=10**6)
    for other in (
        step(micro_tokens=1),  # one group at a time
        step(micro_tokens=90),
        step(groups=groups[::-1]),
        step(trees=False),
        step(trees=False, micro_tokens=60),
    ):
        assert difference(other[0], whole) < tolerance
        assert other[1] == pytest.approx(logged, rel=tolerance)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_gradient_checkpointing_changes_no_gradient(name):
    work = [(NLL, some_groups(as_mask))]
    plain, _ = gradient(learner(name), work)
    one = learner(name, gradient_checkpointing=True)
    again, _ = gradient(one, work)
    assert one.policy.lm.is_gradient_checkpointing
    assert difference(again, plain) < 1e-6


def test_the_gradient_is_that_of_the_mean_over_trained_tokens():
    one = learner(dtype="float64", optim={"clip": 1e9})
    groups = some_groups(as_mask)
    found, logged = gradient(one, [(NLL, groups)])
    total = count = 0
    for group in groups:
        for b in group.branches:
            ids = torch.tensor([[*group.prompt, *b.tokens]])
            logp = one.policy.lm(ids).logits.log_softmax(-1)[0, len(group.prompt) - 1 : -1]
            picked = logp[range(len(b.tokens)), list(b.tokens)]
            total, count = total - (picked * torch.tensor(b.streams["mask"])).sum(), count + sum(b.streams["mask"])
    one.policy.zero_grad()
    (total / count).backward()
    expected = torch.cat([p.grad.flatten() for p in one.policy.parameters()])
    assert difference(found, expected) < 1e-9
    assert logged["loss"] == logged["nll"] == pytest.approx((total / count).item(), rel=1e-12)


def test_a_group_of_zeros_that_pads_a_process_changes_nothing():
    groups = some_groups(as_mask)
    silent = Group("padding", groups[0].prompt, (branch([5, 6, 7], mask=[0.0, 0.0, 0.0]),))
    alone, logged = gradient(learner(dtype="float64"), [(NLL, groups)])
    padded, same = gradient(learner(dtype="float64", micro_tokens=1), [(NLL, [*groups, silent])])
    assert difference(padded, alone) < 1e-9
    assert same["loss"] == pytest.approx(logged["loss"], rel=1e-12)


def test_an_objective_where_nothing_counts_gives_zero_not_nan():
    silent = Group("a", (1,), (branch([5, 6], mask=[0.0, 0.0]),))
    found, logged = gradient(learner(), [(NLL, [silent])])
    assert logged["loss"] == 0
    assert not found.any()


def test_every_process_gets_as_many_parts_and_each_group_once():
    one = learner(micro_tokens=30)
    groups = some_groups(as_mask)
    seen, counts = [], []
    for rank in range(3):
        one.accelerator = type("Fake", (), {"num_processes": 3, "process_index": rank, "device": "cpu"})()
        batches = one.batches(groups)
        counts.append(len(batches))
        seen += [id for batch in batches for id in batch.ids if id != "padding"]
    assert len(set(counts)) == 1
    assert sorted(seen) == [group.id for group in groups]


# Mixes


def test_each_objective_is_divided_by_its_own_count():
    mix = [term(nll, per="mask", coef=0.25, name="mix_nll")]
    few, many = some_groups(as_mask)[:2], some_groups(as_mask)[2:]
    first, a = gradient(learner(dtype="float64", optim={"clip": 1e9}), [(NLL, few)])
    second, b = gradient(learner(dtype="float64", optim={"clip": 1e9}), [(mix, many)])
    both, logged = gradient(learner(dtype="float64", optim={"clip": 1e9}), [(NLL, few), (mix, many)])
    assert difference(both, first + second) < 1e-9
    assert logged["nll"] == pytest.approx(a["nll"], rel=1e-12)
    assert logged["mix_nll"] == pytest.approx(b["mix_nll"], rel=1e-12)
    assert logged["loss"] == pytest.approx(a["nll"] + 0.25 * b["mix_nll"], rel=1e-12)


# The optimizer


def test_weight_decay_reaches_matrices_only():
    one = learner("llama", heads=VALUE)
    decayed = {id(p) for group in one.optimizer.param_groups if group["weight_decay"] > 0 for p in group["params"]}
    for name, parameter in one.policy.named_parameters():
        assert (id(parameter) in decayed) == (parameter.ndim > 1), name
    assert len({id(p) for g in one.optimizer.param_groups for p in g["params"]}) == len(list(one.policy.parameters()))


def test_decay_shrinks_a_matrix_and_leaves_a_norm():
    one = learner("gpt2", optim={"lr": 0.1, "weight_decay": 0.5, "warmup": 0.0, "decay": "constant"})
    silent = Group("a", (1,), (branch([5, 6], mask=[0.0, 0.0]),))
    before = {name: p.detach().clone() for name, p in one.policy.named_parameters()}
    one.update([(NLL, [silent])], 0.0)
    for name, p in one.policy.named_parameters():
        torch.testing.assert_close(p.detach(), before[name] * (0.95 if p.ndim > 1 else 1.0))


def test_each_parameter_group_is_clipped_by_its_own_norm():
    one = learner(heads=VALUE, dtype="float64", optim={"clip": 0.01})
    gradients = {}
    one.optimizer.step = lambda: gradients.update({n: p.grad.clone() for n, p in one.policy.named_parameters()})
    logged = one.update([(AWR, some_groups(as_rewards))], 0.5)
    norms = {
        owner: math.sqrt(sum(g.square().sum().item() for n, g in gradients.items() if n.startswith(prefix)))
        for owner, prefix in (("policy", "lm."), ("value", "heads.value."))
    }
    assert norms == pytest.approx({"policy": 0.01, "value": 0.01}, rel=1e-3)
    assert logged["grad_norm"] > 0.01 and logged["grad_norm_value"] > 0.01  # as they were before
    assert logged["grad_norm"] != logged["grad_norm_value"]


def test_the_learning_rate_follows_the_schedule_and_is_logged():
    one = learner(optim={"lr": 1e-3, "warmup": 0.5})
    assert one.update([(NLL, some_groups(as_mask))], 0.25)["learning_rate"] == pytest.approx(5e-4)
    assert {group["lr"] for group in one.optimizer.param_groups} == {5e-4}


def test_a_step_logs_losses_norms_and_the_rate():
    logged = learner(heads=VALUE).update([(AWR, some_groups(as_rewards))], 0.5)
    assert set(logged) == {
        "loss",
        "advantage_weighted_nll",
        "value_regression",
        "grad_norm",
        "grad_norm_value",
        "learning_rate",
    }


def test_training_lowers_the_loss():
    one = learner(optim={"lr": 1e-2, "warmup": 0.0, "decay": "constant"})
    losses = [one.update([(NLL, some_groups(as_mask))], 0.0)["loss"] for _ in range(10)]
    assert losses[-1] < 0.5 * losses[0]


def test_a_second_training_in_one_process_may_have_another_precision():
    assert learner(dtype="bfloat16").accelerator.mixed_precision == "bf16"
    assert learner(dtype="float32").accelerator.mixed_precision == "no"


@pytest.mark.parametrize("case", CASES)
def test_bfloat16_is_near_and_keeps_weights_and_losses_in_full(case):
    objective, stream_of, heads = CASES[case]
    groups = some_groups(stream_of)
    expected = learner("llama", heads=heads).losses(objective, groups)
    one = learner("llama", heads=heads, dtype="bfloat16")
    assert one.losses(objective, groups) == pytest.approx(expected, rel=0.05)
    logged = one.update([(objective, groups)], 0.5)
    assert all(math.isfinite(value) for value in logged.values())
    assert {p.dtype for p in one.policy.parameters()} == {torch.float32}
    out = one.module(one.collate(groups))
    assert out.logp.dtype is torch.float32 and (out.value is None or out.value.dtype is torch.float32)


# Statistics of a step


def shifted(logp, mask, mean):
    """Reads a statistic: its gradient does not pass through the mean."""
    return ((logp - mean) * mask).sum()


def total_logp(logp, mask):
    return (logp * mask).sum()


MEAN = [term(total_logp, per="mask", name="mean")]


def test_a_statistic_is_the_mean_over_the_whole_step_however_it_is_cut():
    groups = some_groups(as_mask)
    objective = [term(shifted, per="mask")]
    whole = learner(dtype="float64").update([(objective, groups)], 0.5, statistics=MEAN)
    cut = learner(dtype="float64", micro_tokens=1).update([(objective, groups)], 0.5, statistics=MEAN)
    assert whole["mean"] < -1 and whole["shifted"] == pytest.approx(0, abs=1e-12)
    assert cut == pytest.approx(whole, rel=1e-9, abs=1e-12)


def test_no_gradient_passes_through_a_statistic():
    groups = some_groups(as_mask)
    with_it = learner(dtype="float64").update([([term(shifted, per="mask")], groups)], 0.5, statistics=MEAN)
    without = learner(dtype="float64").update([([term(total_logp, per="mask")], groups)], 0.5)
    assert with_it["grad_norm"] == pytest.approx(without["grad_norm"], rel=1e-9)


def test_responses_that_no_statistic_counts_are_not_read_for_it():
    def counted(group):
        return [replace(b, fields={"counted": float(n == 0)}) for n, b in enumerate(group.branches)]

    groups = [replace(group, branches=counted(group)) for group in some_groups(as_mask)]
    one = learner(dtype="float64")
    seen = []
    one.module.register_forward_pre_hook(lambda module, args: seen.append(len(args[0].group)))

    def first_logp(response_logp, counted):
        return (response_logp * counted).sum()

    one._statistics([term(first_logp, per="counted", name="mean")], groups)
    assert sum(seen) == len(groups) < sum(len(group.branches) for group in groups)


def test_held_out_losses_have_statistics_of_their_own():
    found = learner(dtype="float64").losses([term(shifted, per="mask")], some_groups(as_mask), MEAN)
    assert found["eval_shifted"] == pytest.approx(0, abs=1e-12)


# Evaluation


def test_held_out_losses_do_not_depend_on_the_cut_and_leave_no_gradient():
    groups = some_groups(as_marks)
    one = learner(dtype="float64")
    whole = one.losses(UNLIKELY, groups)
    assert set(whole) == {"eval_loss", "eval_nll", "eval_unlikelihood"}
    assert whole["eval_loss"] == pytest.approx(whole["eval_nll"] + 0.5 * whole["eval_unlikelihood"])
    assert learner(dtype="float64", micro_tokens=1).losses(UNLIKELY, groups) == pytest.approx(whole, rel=1e-9)
    assert all(p.grad is None for p in one.policy.parameters())


def test_dropout_is_off_in_evaluation_and_on_in_training():
    policy = Policy(tiny("gpt2", resid_pdrop=0.5))
    one = Learner(policy, Training(dtype="float32"))
    groups = some_groups(as_mask)
    assert one.losses(NLL, groups) == one.losses(NLL, groups)
    assert not policy.training
    torch.manual_seed(0)
    assert one.update([(NLL, groups)], 0.0)["nll"] != pytest.approx(one.losses(NLL, groups)["eval_nll"])


# Not finite


def overflowing(logp, weight, mask):
    return -(logp * weight * mask).sum()


def test_a_loss_that_is_not_finite_stops_before_the_step_and_names_the_records():
    one = learner(optim={"warmup": 0.0})
    groups = [
        Group(f"r{n}", (1,), (branch([5, 6], mask=[1.0, 1.0], weight=[1.0, math.inf if n == 3 else 1.0]),))
        for n in range(6)
    ]
    before = [p.detach().clone() for p in one.policy.parameters()]
    with pytest.raises(RunError, match=r"step 7: overflowing, loss, grad_norm is not finite.*\(records r3\)"):
        one.update([([term(overflowing, per="mask")], groups)], 0.0, where="step 7")
    assert all(torch.equal(a, b) for a, b in zip(before, one.policy.parameters()))
    assert all(p.grad is None for p in one.policy.parameters())
    assert not one.optimizer.state


def test_scores_that_no_loss_can_bear_are_what_the_message_asks_to_lower():
    one = learner(optim={"warmup": 0.0})
    groups = [Group("r", (1,), (branch([5, 6], mask=[1.0, 1.0], weight=[1.0, 1e308]),))]
    with pytest.raises(RunError, match=r"\(the scores are too large, up to 1e\+308: scale them to about 1\)"):
        one.update([([term(overflowing, per="mask")], groups)], 0.0)


def test_a_gradient_that_is_not_finite_stops_too_and_names_the_step_s_records():
    one = learner(optim={"warmup": 0.0})

    def cliff(logp, mask):  # finite, with an infinite slope
        return ((logp - logp.detach()) * mask).abs().add(0).sum().sqrt() * 1.0

    before = [p.detach().clone() for p in one.policy.parameters()]
    with pytest.raises(RunError, match=r"grad_norm is not finite.*\(records a, b\)"):
        one.update([([term(cliff, per="mask")], [Group(n, (1,), (masked(5, 6),)) for n in "ab"])], 0.0)
    assert all(torch.equal(a, b) for a, b in zip(before, one.policy.parameters()))


def test_many_broken_records_are_counted_not_listed():
    one = learner()
    groups = [Group(f"r{n}", (1,), (branch([5], mask=[1.0], weight=[math.inf]),)) for n in range(11)]
    with pytest.raises(RunError, match="records r0, r1, r2, r3, r4, r5, r6, r7 and 3 more"):
        one.update([([term(overflowing, per="mask")], groups)], 0.0)


def test_after_a_refused_step_the_next_one_can_go_on():
    one = learner()
    bad = [Group("bad", (1,), (branch([5], mask=[1.0], weight=[math.inf]),))]
    good = [Group("good", (1,), (branch([5], mask=[1.0], weight=[1.0]),))]
    with pytest.raises(RunError):
        one.update([([term(overflowing, per="mask")], bad)], 0.5)
    found, _ = gradient(one, [([term(overflowing, per="mask")], good)])
    fresh, _ = gradient(learner(), [([term(overflowing, per="mask")], good)])
    assert torch.equal(found, fresh)


def test_the_default_optimizer_is_adamw_with_the_recipes_numbers():
    one = learner()
    assert isinstance(one.optimizer, torch.optim.AdamW)
    assert {(g["betas"], g["eps"]) for g in one.optimizer.param_groups} == {(Optim().betas, Optim().eps)}


@pytest.mark.parametrize("call", ["update", "losses"])
def test_a_step_that_memory_has_no_room_for_says_what_makes_it_smaller(call):
    def huge(logp, mask):
        return torch.empty(2**60) + logp

    learner = Learner(Policy(tiny("llama")), Training(dtype="float32", micro_tokens=600))
    groups = [Group("a", (1, 5), (masked(6, 7),))]
    objective = [term(huge, per="mask")]
    with pytest.raises(RunError, match=r"out of memory \(--set micro_tokens=300 or --set gradient_checkpointing=true"):
        learner.update([(objective, groups)], 0.0) if call == "update" else learner.losses(objective, groups)
