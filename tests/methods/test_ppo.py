"""PPO, RLOO and GRPO: rounds of the policy's own samples, where they lead, and that a kill changes nothing."""

import math
from pathlib import Path

import pytest
import torch
from models import tiny
from tiny_judge import early
from tiny_text import letters

import heedful
from heedful.batch import Branch, Group
from heedful.config import Training
from heedful.errors import ConfigError, DataError
from heedful.frozen import read_logp
from heedful.learner import Learner
from heedful.method import Share, term
from heedful.models import load, load_text
from heedful.objectives.likelihood import nll
from heedful.policy import Policy
from heedful.records import Feedback, Response, from_json
from heedful.rollout import rollouts_of
from heedful.scorers import Item, load_scorer
from heedful.sources.rollouts import KL, Rollouts
from heedful.training import prepare

pytestmark = pytest.mark.usefixtures("one_thread")

JUDGE = "tiny_judge:early"
PROMPTS = [Feedback(f"say {n}:", (), id=f"r{n}") for n in range(20)]
DOCUMENTS = [Feedback("", (Response(f"abcd{n}efgh\n"),), id=f"d{n}") for n in range(6)]
SMALL = {
    "ppo": {"judge": JUDGE, "num_prompts": 8, "max_tokens": 6, "ema": 0.9},
    "rloo": {"judge": JUDGE, "num_prompts": 4, "num_samples": 4, "max_tokens": 6},
    "grpo": {"judge": JUDGE, "num_prompts": 4, "num_samples": 4, "max_tokens": 6},
}
SETTINGS = {
    "budget": {"steps": 6},
    "batch_size": 4,
    "optim": {"lr": 3e-3},
    "dtype": "float32",
    "validation": 0.2,
    "eval_every": 2,
    "save_every": 1,
    "probes": 0,
}


def base(folder):
    if not (folder / "base").exists():
        tokenizer = letters()
        tiny("llama", vocab_size=len(tokenizer)).save_pretrained(folder / "base")
        tokenizer.save_pretrained(folder / "base")
    return folder / "base"


def train(folder, name="ppo", feedback=PROMPTS, *, out="run", resume=False, progress=None, method=None, **settings):
    return heedful.train(
        name,
        model=base(folder),
        feedback=feedback,
        out=folder / out,
        settings=SETTINGS | settings | {"method": SMALL[name] | (method or {})},
        command=[],
        resume=resume,
        progress=progress,
    )


def lines(run):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in run.metrics()]


def rounds(run):
    return [line for line in run.metrics() if "round" in line]


# A round


@pytest.fixture(scope="module", params=SMALL)
def run(request, tmp_path_factory):
    torch.set_num_threads(1)
    return train(tmp_path_factory.mktemp(request.param), request.param)


def test_p16_the_kl_is_0_in_the_first_round_and_the_ratio_1_in_its_first_step(run):
    assert rounds(run)[0]["kl_to_start"] == pytest.approx(0.0, abs=1e-4)
    first = next(line for line in run.metrics() if "loss" in line)
    assert first["approx_kl"] < 1e-9 and first.get("clip_fraction", 0.0) == 0.0


def test_rounds_follow_each_other_until_the_budget_is_used(run):
    logged = [line["step"] for line in run.metrics() if "loss" in line]
    assert logged == [1, 2, 3, 4, 5, 6]
    size = run.config["method"]["num_prompts"] // SETTINGS["batch_size"]
    assert [line["step"] for line in rounds(run)] == list(range(0, 6, size))


def test_p15_log_probabilities_of_the_sampler_are_those_of_scoring(run):
    model = run.manifest["subject"]["model"]
    text, policy = load_text(model, max_length=256), load(model)
    for row in run.read_round(0):
        record = from_json(row, "round")
        drawn = rollouts_of(record)
        branches = tuple(Branch(tuple(one.tokens), {}) for one in drawn)
        group = Group(record.id, tuple(text.encode_prompt(record.prompt)), branches)
        for one, scored in zip(drawn, read_logp(policy, [group])[0]):
            assert list(one.logp) == pytest.approx(scored.tolist(), abs=1e-4)
            assert list(one.ref_logp) == pytest.approx(scored.tolist(), abs=1e-4)


def test_prompts_come_in_passes_over_all_of_them(run):
    asked = [row["id"] for index in range(len(rounds(run))) for row in run.read_round(index)]
    first_pass = asked[:16]  # four of twenty are held out
    assert len(set(first_pass)) == min(16, len(asked))


def test_what_it_cost_is_in_the_ledger(run):
    ledger, config = run.manifest["ledger"], run.config["method"]
    drawn = sum(len(one["tokens"]) for n in range(len(rounds(run))) for row in run.read_round(n)
                for one in row["metadata"]["rollouts"])  # fmt: skip
    samples = len(rounds(run)) * config["num_prompts"] * config["num_samples"]
    measured = 3 * 4  # evaluations of four held-out prompts
    assert ledger["scorer_calls"] == {JUDGE: samples + measured}
    assert drawn <= ledger["sampled_tokens"] <= drawn + measured * config["max_tokens"]
    assert ledger["frozen_tokens"] > drawn


class Killed(BaseException):
    """A process that is gone."""


@pytest.mark.parametrize("step", [1, 3, 5])
@pytest.mark.parametrize("name", SMALL)
def test_a_kill_in_the_middle_of_a_round_changes_nothing(tmp_path, name, step):
    def die(event):
        if event["step"] == step:
            raise Killed

    method = {"num_prompts": 8}
    whole = train(tmp_path, name, out="whole", method=method)
    with pytest.raises(Killed):
        train(tmp_path, name, out="cut", method=method, progress=die)
    cut = train(tmp_path, name, out="cut", method=method, resume=True)
    assert lines(cut) == lines(whole)
    model = Path("model") / "model.safetensors"
    assert (cut.path / model).read_bytes() == (whole.path / model).read_bytes()


def test_rounds_behind_the_checkpoint_are_not_drawn_again(tmp_path, monkeypatch):
    def die(event):
        if event["step"] == 5:
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path, "rloo", save_every=2, progress=die)  # a step a round; the checkpoint is of step 4
    asked, collect = [], Rollouts.collect

    def watch(self, round_index, *how, **options):
        asked.append(round_index)
        return collect(self, round_index, *how, **options)

    monkeypatch.setattr(Rollouts, "collect", watch)
    train(tmp_path, "rloo", save_every=2, resume=True)
    assert asked == [5]


def test_what_is_kept_is_the_average_of_the_weights(tmp_path):
    plain, averaged = (train(tmp_path, out=str(ema), method={"ema": ema}) for ema in (None, 0.9))
    model = Path("model") / "model.safetensors"
    assert [m["loss"] for m in plain.metrics() if "loss" in m] == [m["loss"] for m in averaged.metrics() if "loss" in m]
    assert (plain.path / model).read_bytes() != (averaged.path / model).read_bytes()


def test_v11_the_average_of_constant_weights_is_them_and_of_a_step_one_less_a_power():
    policy = Policy(tiny("gpt2"))
    learner = Learner(policy, Training(), ema=0.992)
    before = {name: value.clone() for name, value in learner.ema.items()}
    for _ in range(3):
        learner._average()
    assert all(torch.allclose(learner.ema[name], value, atol=1e-7) for name, value in before.items())
    with torch.no_grad():
        for weight in policy.parameters():
            weight.add_(1.0)
    for _ in range(10):
        learner._average()
    expected = 1 - 0.992**10
    moved = [(learner.ema[name] - value).mean().item() for name, value in before.items()]
    assert moved == pytest.approx([expected] * len(moved), abs=1e-4)


def test_shares_of_two_processes_are_the_round_of_one(tmp_path):
    prepared = prepare("ppo", model=base(tmp_path), feedback=PROMPTS, settings=SETTINGS | {"method": SMALL["ppo"]})
    source, policy = prepared.method.source, prepared.policy
    whole = source.collect(1, policy)
    parts = [source.collect(1, policy, Share(n, 2)) for n in range(2)]
    ids = [[record.id for record in part] for part in (whole, *parts)]
    assert ids[1:] == [ids[0][::2], ids[0][1::2]]
    assert rollouts_of(whole[1])[0].tokens == rollouts_of(parts[1][0])[0].tokens


def test_a_prompt_that_two_passes_bring_into_one_round_is_answered_anew(tmp_path):
    settings = SETTINGS | {"method": SMALL["ppo"] | {"num_prompts": 12}}
    prepared = prepare("ppo", model=base(tmp_path), feedback=PROMPTS, settings=settings)
    drawn = prepared.method.source.collect(1, prepared.policy)
    answers = {}
    for record in drawn:
        answers.setdefault(record.id, []).append(tuple(rollouts_of(record)[0].tokens))
    twice = [own for own in answers.values() if len(own) > 1]
    assert twice and all(len(set(own)) == len(own) for own in twice)


def test_a_pass_is_over_the_prompts_that_leave_room_for_a_response(tmp_path):
    long = [Feedback(f"say {n}:" + "x" * 100, (), id=f"long{n}") for n in range(20)]
    options = {"max_length": 64, "validation": 0.0, "budget": {"epochs": 1}}
    done = train(tmp_path, feedback=[*PROMPTS, *long], **options)
    assert len(rounds(done)) == 3  # eight of twenty a round


# PPO-ptx


def test_v9_the_gradient_of_ptx_is_added_to_that_of_ppo(tmp_path, monkeypatch):
    """Gradients and not updates: Adam does not see a scale."""
    method = SMALL["ppo"] | {"ptx_coef": 2.5, "ptx_rows": 3}
    settings = SETTINGS | {"method": method, "dtype": "float64", "optim": {"clip": 1e9}}
    prepared = prepare("ppo", model=base(tmp_path), feedback=[*PROMPTS, *DOCUMENTS], settings=settings)
    groups = prepared.method.targets(prepared.method.source.collect(0, prepared.policy))
    (mix,) = prepared.method.mixes
    learner, rows = Learner(prepared.policy, prepared.settings), list(mix.groups)[: mix.batch_size]
    monkeypatch.setattr(learner.optimizer, "step", lambda: None)
    monkeypatch.setattr(learner.optimizer, "zero_grad", lambda **how: None)

    logged = []

    def norm(parts):
        return math.sqrt(sum(part.square().sum().item() for part in parts))

    def gradient(*work):
        prepared.policy.zero_grad(set_to_none=True)
        logged.append(learner.update(work, 0.5))
        return {name: p.grad.clone() for name, p in prepared.policy.named_parameters() if p.grad is not None}

    alone = gradient((prepared.method.objective, groups))
    both = gradient((prepared.method.objective, groups), (mix.objective, rows))
    policy_norm, ratio = (norm(g for name, g in alone.items() if "heads" not in name), logged[-1]["grad_norm_ratio"])
    plain = gradient(([term(nll, per="mask")], rows))
    assert max(value.abs().max() for value in plain.values()) > 0
    for name, value in plain.items():
        assert torch.allclose(both[name], alone[name] + 2.5 * value, atol=1e-6), name
    assert ratio == pytest.approx(2.5 * norm(plain.values()) / policy_norm, rel=1e-4)


def test_ppo_with_a_ptx_coef_of_0_is_ppo_to_the_bit(tmp_path):
    plain, zero = (
        train(tmp_path, out=out, feedback=[*PROMPTS, *DOCUMENTS], method=method)
        for out, method in (("plain", {}), ("zero", {"ptx_coef": 0.0, "ptx_rows": 3}))
    )
    model = Path("model") / "model.safetensors"
    assert (plain.path / model).read_bytes() == (zero.path / model).read_bytes()


def test_ptx_is_logged_and_needs_documents(tmp_path):
    run = train(tmp_path, feedback=[*PROMPTS, *DOCUMENTS], method={"ptx_coef": 1.0, "ptx_rows": 3})
    assert all("ptx_nll" in line for line in run.metrics() if "loss" in line)
    with pytest.raises(DataError, match="the feedback holds no document"):
        train(tmp_path, out="none", method={"ptx_coef": 1.0})


# The value network and the coefficient of the KL


@pytest.fixture(scope="module")
def judged_base(tmp_path_factory):
    """A folder with a base and a reward model trained from it."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("judged")
    records = [Feedback(f"q{n}", (Response("ab", rank=1), Response("cd", rank=2)), id=f"p{n}") for n in range(8)]
    settings = {"budget": {"steps": 3}, "optim": {"lr": 1e-2}}
    heedful.train("reward_model", model=base(folder), feedback=records, out=folder / "reward", settings=settings)
    return folder


def test_the_critic_begins_as_the_reward_model_and_learns_at_its_own_rate(judged_base):
    judge = str(judged_base / "reward")
    method = {"judge": judge, "value_lr": 1e-5}
    prepared = prepare(
        "ppo", model=base(judged_base), feedback=PROMPTS, settings=SETTINGS | {"method": SMALL["ppo"] | method}
    )
    policy, source, text = prepared.policy, prepared.method.source, prepared.text
    record = source.collect(0, policy)[0]
    (drawn,) = rollouts_of(record)
    prefix, response = drawn.tokens[:-1], text.decode(drawn.tokens[:-1])
    items = [Item(record.prompt, response, id="whole", truncated=True)]
    before_last = load_scorer(judge).score_batch(items)[0].value  # of all but the last token
    assert text.encode_response(response, finished=False) == list(prefix)
    assert drawn.value[-1] == pytest.approx(before_last, abs=1e-5)
    run = train(judged_base, out="critic", method=method)
    names = {line.removeprefix("grad_norm") for line in run.metrics()[-3] if line.startswith("grad_norm")}
    assert {"", "_value"} <= names
    assert not (run.model_path / "score.safetensors").exists()


def test_the_critic_reads_no_document(judged_base, monkeypatch):
    """No term of theirs reads a value."""
    method = SMALL["ppo"] | {"judge": str(judged_base / "reward"), "ptx_coef": 1.0, "ptx_rows": 3}
    settings = SETTINGS | {"method": method}
    prepared = prepare("ppo", model=base(judged_base), feedback=[*PROMPTS, *DOCUMENTS], settings=settings)
    groups = prepared.method.targets(prepared.method.source.collect(0, prepared.policy))
    (mix,) = prepared.method.mixes
    read, values = [], Policy.values
    monkeypatch.setattr(Policy, "values", lambda self, batch: read.append(len(batch.group)) or values(self, batch))
    work = [(prepared.method.objective, groups), (mix.objective, list(mix.groups)[:3])]
    Learner(prepared.policy, prepared.settings).update(work, 0.5)
    assert sum(read) == len(groups)


def flops(weights, trained, frozen):
    """2 a parameter and token forward, 2 backward, 2 for the gradient of one that is trained."""
    every, learned = (sum(w.numel() for w in weights if w.requires_grad or not only) for only in (False, True))
    return every * (4 * trained + 2 * frozen) + learned * 2 * trained


def test_flops_charge_the_critic_what_it_reads(judged_base):
    """Sampling, and the start's log-probabilities, are the policy's; the values of a round are the critic's, which
    learns from no document."""
    method = SMALL["ppo"] | {"judge": str(judged_base / "reward"), "ptx_coef": 1.0, "ptx_rows": 3}
    feedback = [*PROMPTS, *DOCUMENTS]
    prepared = prepare("ppo", model=base(judged_base), feedback=feedback, settings=SETTINGS | {"method": method})
    critic = list(prepared.policy.critic.parameters())
    policy = list(prepared.policy.parameters())[: -len(critic)]
    run = train(judged_base, out="flops", feedback=feedback, method=method)
    ledger = run.manifest["ledger"]
    drawn = [from_json(row) for index in range(3) for row in run.read_round(index)]
    rollouts = sum(len(prepared.text.encode_prompt(r.prompt)) + len(rollouts_of(r)[0].tokens) for r in drawn)
    assert ledger["frozen_tokens"] == 2 * rollouts and ledger["train_tokens"] > rollouts
    by_policy = flops(policy, ledger["train_tokens"], rollouts + ledger["sampled_tokens"])
    assert ledger["flops"] == by_policy + flops(critic, rollouts, rollouts)


def test_with_a_critic_a_kill_in_the_middle_of_a_round_changes_nothing(judged_base):
    def die(event):
        if event["step"] == 3:
            raise Killed

    method = {"judge": str(judged_base / "reward"), "kl_target": 0.01, "kl_horizon": 20}
    whole = train(judged_base, out="whole", method=method)
    with pytest.raises(Killed):
        train(judged_base, out="cut", method=method, progress=die)
    assert lines(train(judged_base, out="cut", method=method, resume=True)) == lines(whole)
    assert len({line["kl_coef"] for line in rounds(whole)}) == len(rounds(whole))  # it adapts


def test_a_critic_of_other_tokens_is_refused(judged_base, tmp_path):
    tokenizer = letters()
    tokenizer.add_tokens(["<other>"])
    tiny("llama", vocab_size=len(tokenizer)).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    with pytest.raises(ConfigError, match="has another tokenizer than the policy"):
        train(tmp_path, method={"judge": str(judged_base / "reward")})
    train(tmp_path, method={"judge": str(judged_base / "reward"), "critic": "shared"})


def test_p12_the_coefficient_adapts_as_ziegler_et_al_have_it():
    kl = KL(0.15, target=6.0, horizon=10_000)
    assert [kl.adapted(0.15, nats, 512) for nats in (3.0, 6.0, 12.0, 60.0)] == pytest.approx(
        [0.148464, 0.15, 0.151536, 0.151536]
    )
    assert KL(0.15).coefficient(list) == 0.15


def test_sampler_and_trainer_agree_and_say_so(run):
    assert all(0 <= line["logp_mismatch"] < 1e-4 for line in rounds(run))


def test_in_half_precision_the_old_log_probabilities_are_the_trainers(tmp_path):
    """Or the ratio of a round's first step would not be 1."""
    run = train(tmp_path, dtype="bfloat16", budget={"steps": 2})
    first = next(line for line in run.metrics() if "loss" in line)
    assert first["approx_kl"] < 1e-8
    assert rounds(run)[0]["logp_mismatch"] > 1e-4  # what it would have been
    assert rounds(run)[0]["kl_to_start"] == 0.0


@pytest.mark.parametrize("dtype, num_passes", [("float32", 1), ("bfloat16", 2)])
def test_values_of_the_trunk_cost_no_forward_of_their_own(tmp_path, monkeypatch, dtype, num_passes):
    """Through the start, and in half precision once more through the policy; the sampler has what else there is."""
    settings = SETTINGS | {"dtype": dtype, "method": SMALL["ppo"]}
    prepared = prepare("ppo", model=base(tmp_path), feedback=PROMPTS, settings=settings)
    Learner(prepared.policy, prepared.settings)
    torch.nn.init.normal_(prepared.policy.heads["value"].linear.weight)
    monkeypatch.setattr("heedful.sources.rollouts.COMPARED", 0)
    seen, hidden = [], Policy.hidden
    monkeypatch.setattr(Policy, "hidden", lambda self, batch: seen.append(len(batch.group)) or hidden(self, batch))
    records = prepared.method.source.collect(0, prepared.policy)
    assert sum(seen) == num_passes * len(records)
    assert all(len(one.value) == len(one.tokens) and any(one.value) for r in records for one in rollouts_of(r))
    num_tokens = [len(prepared.text.encode_prompt(r.prompt)) + len(rollouts_of(r)[0].tokens) for r in records]
    assert [r.metadata["frozen_tokens"] for r in records] == [num_passes * num for num in num_tokens]


# Bad input


def test_a_judge_that_compares_is_refused(tmp_path):
    records = [Feedback(f"q{n}", (Response("a", rank=1), Response("b", rank=2)), id=f"p{n}") for n in range(8)]
    settings = {"budget": {"steps": 1}}
    ranker = heedful.train("ranker", model=base(tmp_path), feedback=records, out=tmp_path / "r", settings=settings)
    with pytest.raises(ConfigError, match="which scores no response by itself"):
        train(tmp_path, method={"judge": str(ranker.path)})


@pytest.mark.parametrize("name", SMALL)
def test_equal_rewards_teach_nothing_and_break_nothing(tmp_path, name):
    method = {"judge": "tiny_judge:constant", "kl_coef": 0.0, "max_tokens": 3}
    with pytest.warns(UserWarning, match=r"all responses of a round have the reward 0\.5: they teach nothing"):
        run = train(tmp_path, name, method=method, budget={"steps": 2})
    assert all(math.isfinite(value) for line in run.metrics() for value in line.values())


def test_prompts_without_room_are_an_error(tmp_path):
    with pytest.raises(DataError, match="no prompt leaves room for 500 tokens"):
        train(tmp_path, method={"max_tokens": 500})


# Where it leads: p_start * exp(r / beta) / Z


def law(model, text):
    """The log-probability of each token after the prompt."""
    with torch.no_grad():
        logits = load(model).lm(torch.tensor([text.encode_prompt("say:")])).logits[0, -1].double()
    logits[list(text.control_ids)] = -torch.inf
    return logits.log_softmax(-1)


def tilted(start, rewards, beta):
    """p_start * exp(r / beta) / Z: where the expected reward less beta KL(p || p_start) is largest."""
    return (start + rewards / beta).log_softmax(-1)


def held_from_behind(start, rewards, beta):
    """beta * p_start / (c - r), c such that it sums to 1: where the expected reward less beta KL(p_start || p) is
    largest. k3 in the loss, at drawn tokens, has the gradient of that direction: E_p[-p_start / p grad log p]."""
    low, high = rewards.max(), rewards.max() + beta + 10
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (beta * start.exp() / (middle - rewards)).sum() > 1 else (low, middle)
    return (beta * start.exp() / (high - rewards)).log()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method", "optimum"),
    [
        ("ppo", {"whiten": False, "ema": None}, tilted),
        ("rloo", {}, tilted),
        ("grpo", {"form": "unbiased", "kl": "reward"}, tilted),
        ("grpo", {"form": "unbiased", "kl": "loss"}, held_from_behind),
    ],
)
def test_p14_the_exact_optimum(tmp_path, name, method, optimum):
    """A response of one token: every outcome can be written down."""
    beta = 0.3
    method = {"judge": JUDGE, "num_prompts": 1, "num_samples": 256, "max_tokens": 1, "kl_coef": beta} | method
    run = heedful.train(
        name,
        model=base(tmp_path),
        feedback=[Feedback("say:", (), id="r")],
        out=tmp_path / "run",
        settings={
            "budget": {"steps": 150},
            "batch_size": 1,
            "optim": {"lr": 3e-3, "decay": "linear", "warmup": 0.0, "clip": 100.0},
            "dtype": "float32",
            "validation": 0.0,
            "save_every": 1000,
            "probes": 0,
            "method": method,
        },
        command=[],
    )
    text = load_text(run.model_path, max_length=64)
    start, found = (law(model, text) for model in (base(tmp_path), run.model_path))
    rewards = [early("", "" if id == text.eos_id else text.decode([id])) for id in range(len(start))]
    goals = {one: one(start, torch.tensor(rewards).double(), beta) for one in (tilted, held_from_behind)}
    distance = [_kl(p, goals[optimum]) for p in (start, found)]
    most = {tilted: 1e-3, held_from_behind: 1e-2}[optimum]  # p_start / p of a rare token has a large variance
    assert distance[0] > 0.1 and distance[1] < most, distance
    assert all(_kl(found, goal) > 0.05 for one, goal in goals.items() if one is not optimum)


def _kl(p, q):
    return (p.exp() * (p - q).nan_to_num(nan=0.0)).sum().item()
