"""ReST-EM and RAFT: what a round keeps, where it leads, that a restart is one, and that a kill changes nothing."""

import hashlib
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from models import tiny
from tiny_judge import constant, digit, early, kind
from tiny_methods import build, converge
from tiny_text import letters

import heedful
from heedful.config import Training
from heedful.errors import ConfigError, DataError
from heedful.learner import Learner
from heedful.loop import train as run_loop
from heedful.measures import MeanScore
from heedful.method import Cost, Share
from heedful.models import load, load_text
from heedful.records import Feedback, Response, from_json, score_of
from heedful.rollout import DRAWS
from heedful.runs import Run
from heedful.sources.policy import PolicySamples
from heedful.targets.keep import above
from heedful.training import prepare

pytestmark = pytest.mark.usefixtures("one_thread")

NUM_KEPT = 1000  # rows that a law is held against
PROMPTS = [Feedback(f"say {n}:", (), id=f"r{n}") for n in range(10)]
SMALL = {
    "rest_em": {"judge": "tiny_judge:early", "num_samples": 6, "max_tokens": 4, "threshold": -0.8},
    "raft": {"judge": "tiny_judge:early", "num_prompts": 4, "num_samples": 4, "max_tokens": 4},
}
SETTINGS = {
    "budget": {"steps": 8},
    "batch_size": 4,
    "optim": {"lr": 3e-3},
    "dtype": "float32",
    "validation": 0.2,
    "eval_every": 3,
    "save_every": 1,
    "probes": 0,
}
WEIGHTS = Path("model") / "model.safetensors"


def base(folder):
    if not (folder / "base").exists():
        tokenizer = letters()
        tiny("llama", vocab_size=len(tokenizer)).save_pretrained(folder / "base")
        tokenizer.save_pretrained(folder / "base")
    return folder / "base"


def train(folder, name="rest_em", feedback=PROMPTS, *, out="run", resume=False, progress=None, method=None, **settings):
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


def hash_of(policy):
    digest = hashlib.sha256()
    for name, value in sorted(policy.learned().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


# Rounds


@pytest.fixture(scope="module", params=SMALL)
def run(request, tmp_path_factory):
    torch.set_num_threads(1)
    return train(tmp_path_factory.mktemp(request.param), request.param)


def test_rounds_share_the_budget_or_follow_each_other_until_it_is_used(run):
    assert [line["step"] for line in run.metrics() if "loss" in line] == [1, 2, 3, 4, 5, 6, 7, 8]
    expected = [0, 4] if run.config["method"].get("rounds") else list(range(8))
    assert [line["step"] for line in rounds(run)] == expected


def test_what_it_cost_is_in_the_ledger(run):
    ledger, config = run.manifest["ledger"], run.config["method"]
    records = [from_json(row) for n in range(len(rounds(run))) for row in run.read_round(n)]
    drawn = sum(record.metadata["sampled_tokens"] for record in records)
    judged = sum(record.metadata["scorer_calls"]["tiny_judge:early"] for record in records)
    measured = 2 * len([line for line in run.metrics() if "judge_score" in line])  # held-out prompts
    assert ledger["scorer_calls"] == {"tiny_judge:early": judged + measured}
    assert drawn < ledger["sampled_tokens"] <= drawn + measured * config["max_tokens"]


def test_shares_of_two_processes_are_the_round_of_one(tmp_path):
    prepared = prepare(
        "rest_em", model=base(tmp_path), feedback=PROMPTS, settings=SETTINGS | {"method": SMALL["rest_em"]}
    )
    source, policy = prepared.method.source, prepared.policy
    whole, parts = source.collect(1, policy), [source.collect(1, policy, Share(n, 2)) for n in range(2)]
    assert parts == [whole[::2], whole[1::2]]


def test_what_is_watched_is_what_was_drawn_and_kept(tmp_path):
    done = train(tmp_path, method={"cap": 2})
    records = [from_json(row) for row in done.read_round(0)]
    every = [response for record in records for response in record.responses]
    passed = [[r for r in record.responses if score_of(r) >= -0.8] for record in records]
    logged = rounds(done)[0]
    assert logged["pass_rate"] == pytest.approx(sum(map(len, passed)) / (8 * 6))
    assert logged["solved"] == pytest.approx(sum(map(bool, passed)) / 8)
    assert logged["kept"] == sum(min(2, len({r.text for r in own})) for own in passed)
    assert logged["score"] == pytest.approx(sum(map(score_of, every)) / len(every))
    tokens = sum(record.metadata["sampled_tokens"] for record in records)
    assert logged["entropy"] == pytest.approx(-sum(record.metadata["sampled_logp"] for record in records) / tokens)


def test_the_kept_share_of_a_prompt_is_its_pass_rate(tmp_path):
    """Of 2,000 draws of one token, against the policy's own probability of a digit."""
    method = {"judge": "tiny_judge:digit", "num_samples": 2000, "max_tokens": 1, "temperature": 1.0, "top_k": 0}
    settings = SETTINGS | {"validation": 0.0, "method": method}
    prepared = prepare("rest_em", model=base(tmp_path), feedback=[Feedback("q", (), id="r")], settings=settings)
    (record,) = prepared.method.source.collect(0, prepared.policy)
    share = len(above(record, threshold=1.0, distinct=False)) / 2000
    start, texts = law(base(tmp_path))
    expected = sum(p for p, text in zip(start.exp().tolist(), texts) if digit("", text))
    assert share == pytest.approx(expected, abs=3 * math.sqrt(expected * (1 - expected) / 2000))


# The restart


def first_hashes(monkeypatch, folder, **options):
    """The weights before the first update of each round."""
    found, update = {}, Learner.update

    def watch(self, work, progress, **how):
        found.setdefault(len(rounds(Run(folder / "run"))), (hash_of(self.policy), len(self.optimizer.state)))
        return update(self, work, progress, **how)

    monkeypatch.setattr(Learner, "update", watch)
    train(folder, **options)
    monkeypatch.undo()
    return list(found.values())


def test_every_round_learns_from_the_weights_of_the_base_with_a_new_optimizer(tmp_path, monkeypatch):
    found = first_hashes(monkeypatch, tmp_path, method={"rounds": 3}, budget={"steps": 9})
    assert found == [(hash_of(load(base(tmp_path))), 0)] * 3


def test_raft_goes_on_from_where_it_is(tmp_path, monkeypatch):
    found = first_hashes(monkeypatch, tmp_path, name="raft")
    assert len(set(found)) == 8 and found[0][0] == hash_of(load(base(tmp_path)))


def test_the_samples_of_a_round_are_those_of_the_model_of_the_round_before(tmp_path):
    done = train(tmp_path)
    settings = SETTINGS | {"method": SMALL["rest_em"]}
    prepared = prepare("rest_em", model=base(tmp_path), feedback=PROMPTS, settings=settings)
    first, second = ([from_json(row) for row in done.read_round(n)] for n in range(2))
    assert first == prepared.method.source.collect(0, prepared.policy)
    assert second != prepared.method.source.collect(1, prepared.policy)


def test_a_round_draws_from_the_best_checkpoint_of_the_round_before(tmp_path, monkeypatch):
    """Of that round, not of all: here the third draws from step 6, and the model that is kept is step 2."""
    scores, measured, asked, collect = iter([3, 9, 1, 2, 1, 5, 0, 0, 0]), [], [], PolicySamples.collect

    def script(self, policy, share):
        measured.append(hash_of(policy))
        return [next(scores)], Cost()

    def watch(self, round_index, policy, *how, **options):
        asked.append(hash_of(policy))
        return collect(self, round_index, policy, *how, **options)

    monkeypatch.setattr(MeanScore, "__call__", script)
    monkeypatch.setattr(PolicySamples, "collect", watch)
    done = train(tmp_path, method={"rounds": 3}, budget={"steps": 9}, eval_every=1, save_every=100)
    assert asked == [hash_of(load(base(tmp_path))), measured[1], measured[5]]
    assert done.manifest["selected_step"] == 2


def test_each_round_has_a_learning_rate_of_its_own(tmp_path):
    optim = {"lr": 1.0, "warmup": 0.0, "decay": "linear", "clip": 1e-6}
    rates = [line["learning_rate"] for line in train(tmp_path, optim=optim).metrics() if "loss" in line]
    assert rates == pytest.approx([0.875, 0.625, 0.375, 0.125] * 2)


def test_the_end_of_each_round_is_measured_and_the_best_of_all_rounds_is_kept(tmp_path):
    done = train(tmp_path, eval_every=100)
    measured = {line["step"]: line["judge_score"] for line in done.metrics() if "judge_score" in line}
    assert list(measured) == [4, 8]
    assert done.manifest["selected_step"] == max(measured, key=measured.__getitem__)


def test_answers_that_choose_the_checkpoint_are_greedy(tmp_path):
    settings = SETTINGS | {"method": SMALL["rest_em"]}
    prepared = prepare("rest_em", model=base(tmp_path), feedback=PROMPTS, settings=settings)
    (measure,) = prepared.method.measures
    values = [replace(measure, seed=seed)(prepared.policy, Share())[0] for seed in (0, 1)]
    assert values[0] == values[1] and len(values[0]) == 2


class Killed(BaseException):
    """A process that is gone."""


@pytest.mark.parametrize("save_every", [1, 3])
@pytest.mark.parametrize("step", [2, 4, 5, 7])
def test_a_kill_within_a_round_or_between_two_changes_nothing(tmp_path, step, save_every):
    def die(event):
        if event["step"] == step:
            raise Killed

    options = {"save_every": save_every}
    whole = train(tmp_path, out="whole", **options)
    with pytest.raises(Killed):
        train(tmp_path, out="cut", progress=die, **options)
    cut = train(tmp_path, out="cut", resume=True, **options)
    assert lines(cut) == lines(whole)
    assert (cut.path / WEIGHTS).read_bytes() == (whole.path / WEIGHTS).read_bytes()


@pytest.mark.parametrize("step", [3, 4])
def test_a_kill_of_raft_changes_nothing(tmp_path, step):
    def die(event):
        if event["step"] == step:
            raise Killed

    method = {"num_prompts": 8, "kl_coef": 0.1}
    whole = train(tmp_path, "raft", out="whole", method=method)
    with pytest.raises(Killed):
        train(tmp_path, "raft", out="cut", method=method, progress=die)
    cut = train(tmp_path, "raft", out="cut", method=method, resume=True)
    assert lines(cut) == lines(whole)
    assert (cut.path / WEIGHTS).read_bytes() == (whole.path / WEIGHTS).read_bytes()


def test_a_kill_while_the_second_round_is_drawn_changes_nothing(tmp_path, monkeypatch):
    whole, write = train(tmp_path, out="whole"), Run.write_round

    def die(self, index, rows):
        write(self, index, rows)
        if index == 1:
            raise Killed

    monkeypatch.setattr(Run, "write_round", die)
    with pytest.raises(Killed):
        train(tmp_path, out="cut")
    monkeypatch.undo()
    cut = train(tmp_path, out="cut", resume=True)
    assert lines(cut) == lines(whole)
    assert (cut.path / WEIGHTS).read_bytes() == (whole.path / WEIGHTS).read_bytes()


# Bad input


def test_a_round_without_a_good_response_stops_and_leaves_nothing(tmp_path):
    with pytest.raises(DataError, match=r"none of the 48 scored responses to 8 prompts reaches method\.threshold 5"):
        train(tmp_path, method={"threshold": 5.0})
    assert not (tmp_path / "run").exists()


def test_a_later_round_without_a_good_response_keeps_what_was_learned(tmp_path, monkeypatch):
    collect = PolicySamples.collect

    def once(self, round_index, *how, **options):
        records = collect(self, round_index, *how, **options)
        return [replace(record, responses=()) for record in records] if round_index else records

    monkeypatch.setattr(PolicySamples, "collect", once)
    with pytest.warns(UserWarning, match="round 1 teaches nothing: none of the 0 scored responses to 8 prompts"):
        done = train(tmp_path)
    assert done.is_done and done.manifest["selected_step"] in (3, 4) and (done.path / WEIGHTS).exists()
    assert [line["empty_rounds"] for line in done.metrics() if "empty_rounds" in line] == [1]
    assert rounds(done)[1]["kept"] == 0


@pytest.mark.parametrize("name", SMALL)
def test_equal_rewards_are_a_warning_and_break_nothing(tmp_path, name):
    method = {"judge": "tiny_judge:constant"} | ({"threshold": 0.5} if name == "rest_em" else {})
    with pytest.warns(UserWarning, match="of the round score 0.5"):
        run = train(tmp_path, name, method=method)
    assert all(math.isfinite(value) for line in run.metrics() for value in line.values())


@pytest.mark.parametrize("name", SMALL)
def test_a_judge_that_compares_is_refused(tmp_path, name):
    records = [Feedback(f"q{n}", (Response("a", rank=1), Response("b", rank=2)), id=f"p{n}") for n in range(8)]
    settings = {"budget": {"steps": 1}}
    ranker = heedful.train("ranker", model=base(tmp_path), feedback=records, out=tmp_path / "r", settings=settings)
    with pytest.raises(ConfigError, match="which scores no response by itself"):
        train(tmp_path, name, method={"judge": str(ranker.path)})


# Where a round leads


def law(model):
    """The log-probability of each token after the prompt, and its text."""
    text = load_text(model, max_length=64)
    with torch.no_grad():
        logits = load(model).lm(torch.tensor([text.encode_prompt("q")])).logits[0, -1].double()
    logits[list(text.control_ids)] = -torch.inf
    texts = ["" if id == text.eos_id else text.decode([id]) for id in range(len(logits))]
    return logits.log_softmax(-1), texts


def kl(p, q):
    return sum(a.exp().item() * (a - b).item() for a, b in zip(p, q, strict=True) if a > -torch.inf)


def test_the_m_step_on_a_table_is_p_r_by_its_mean():
    """Responses drawn 4, 2, 1 and 5 times with rewards 1, 1, 1 and 0: p r / E[r] is 4/7, 2/7, 1/7 and 0."""
    drawn = [Response(t, score=r, truncated=True) for t, r, n in (("a", 1, 4), ("b", 1, 2), ("c", 1, 1), ("d", 0, 5))
             for _ in range(n)]  # fmt: skip
    built = build(
        "rest_em", [Feedback("q", tuple(drawn), id="r", metadata={DRAWS: 12})], threshold=1.0, cap=None, distinct=False
    )
    table, id_of = converge(built, unigram=True), built.text.tokenizer.convert_tokens_to_ids
    assert [table.p(id_of(token)) for token in "abcd"] == pytest.approx([4 / 7, 2 / 7, 1 / 7, 0], abs=1e-3)


def test_a_round_of_rest_em_reaches_p_r_by_its_mean(tmp_path):
    method = {"judge": "tiny_judge:digit", "rounds": 1, "num_samples": 2000, "max_tokens": 1, "temperature": 1.0}
    run = train(
        tmp_path,
        feedback=[Feedback("q", (), id="r")],
        method=method | {"top_k": 0, "cap": None, "distinct": False, "threshold": 1.0},
        budget={"steps": 80},
        optim={"lr": 1e-2, "warmup": 0.0, "clip": 100.0, "weight_decay": 0.0},
        validation=0.0,
        save_every=1000,
    )
    (start, texts), (found, _) = law(base(tmp_path)), law(run.model_path)
    reward = torch.tensor([digit("", text) for text in texts]).double()
    exact = (start + reward.log()).log_softmax(-1)
    before, after = kl(exact, start), kl(exact, found)
    num_kept = sum(reward * start.exp()).item() * 2000
    assert sum(reward * found.exp()) > 0.995
    assert before > 0.5 and after < 3 * 10 / (2 * num_kept), (before, after)  # ten digits: 9 / 2n of sampling noise


def best_law(start, texts, judge, n):
    """P_n of every token: F(y)^n - F(y-)^n over the texts of one score, and among these as the policy has them."""
    scores = torch.tensor([judge("", text) for text in texts]).double()
    p, found = start.exp(), torch.zeros_like(start)
    for score in scores.unique():
        own = scores == score
        highest, lower = p[scores <= score].sum(), p[scores < score].sum()
        found[own] = (highest**n - lower**n) * p[own] / p[own].sum().clamp_min(1e-300)
    return found.log()


def many_rollouts(folder, judge, k, number):
    """RAFT with one prompt asked so many times in a round."""
    method = {"judge": f"tiny_judge:{judge}", "num_prompts": number, "num_samples": k, "max_tokens": 1}
    settings = SETTINGS | {"validation": 0.0, "budget": {"steps": 80}, "batch_size": 256, "method": method}
    settings |= {"optim": {"lr": 1e-2, "warmup": 0.0, "clip": 100.0, "decay": "linear"}, "save_every": 1000}
    prepared = prepare("raft", model=base(folder), feedback=[Feedback("q", (), id="r")], settings=settings)
    source = replace(prepared.method.source, prompts=[Feedback("q", (), id=f"r{n}") for n in range(number)])
    schedule = replace(prepared.method.schedule, epochs=1000)
    return prepared, replace(prepared.method, source=source, schedule=schedule, measures=())


@pytest.mark.filterwarnings("ignore:all ")
@pytest.mark.parametrize(("judge", "k"), [("early", 1), ("early", 4), ("kind", 4), ("constant", 4)])
def test_what_raft_keeps_has_the_law_of_the_best_of_k(tmp_path, judge, k):
    functions = {"early": early, "kind": kind, "constant": constant}
    prepared, method = many_rollouts(tmp_path, judge, k, NUM_KEPT)
    groups = method.targets(method.source.collect(0, prepared.policy))
    counts = Counter(group.branches[0].tokens[0] for group in groups)
    start, texts = law(base(tmp_path))
    exact = best_law(start, texts, functions[judge], k).exp()
    statistic = sum(
        (counts[n] - NUM_KEPT * p) ** 2 / (NUM_KEPT * p) for n, p in enumerate(exact.tolist()) if NUM_KEPT * p > 5
    )
    num_cells = sum(NUM_KEPT * p > 5 for p in exact.tolist())
    assert exact.sum() == pytest.approx(1.0)
    assert statistic < num_cells + 4 * math.sqrt(2 * num_cells), (statistic, num_cells)  # four deviations of chi^2


@pytest.mark.slow
def test_a_round_of_raft_reaches_the_law_of_the_best_of_k(tmp_path):
    prepared, method = many_rollouts(tmp_path, "early", 4, 2000)
    run = Run.create(tmp_path / "run", command=[], config={})
    run_loop(method, prepared.policy, prepared.settings, run)
    with torch.no_grad():
        ids = torch.tensor([prepared.text.encode_prompt("q")])
        found = prepared.policy.lm(ids).logits[0, -1].double().log_softmax(-1)
    start, texts = law(base(tmp_path))
    exact = best_law(start, texts, early, 4)
    assert kl(exact, start) > 0.3 and kl(exact, found) < 0.03, (kl(exact, start), kl(exact, found))


# Gradients


def gradient(prepared, groups, monkeypatch):
    learner = Learner(prepared.policy, Training(dtype="float64", optim={"clip": 1e9}))
    with monkeypatch.context() as patch:
        patch.setattr(learner.optimizer, "step", lambda: None)
        patch.setattr(learner.optimizer, "zero_grad", lambda **how: None)
        prepared.policy.zero_grad(set_to_none=True)
        learner.update([(prepared.method.objective, groups)], 0.5)
    return torch.cat([p.grad.flatten() for p in prepared.policy.parameters()]).clone()


def test_a_step_is_that_of_reinforce_with_a_reward_of_0_or_1(tmp_path, monkeypatch):
    """The mean over the kept tokens, times their number, is the gradient of -sum_i r_i log p(y_i)."""
    method = {"judge": "tiny_judge:digit", "num_samples": 64, "max_tokens": 1, "threshold": 1.0, "temperature": 1.0}
    settings = SETTINGS | {"dtype": "float64", "method": method | {"cap": None, "distinct": False, "top_k": 0}}
    prepared = prepare("rest_em", model=base(tmp_path), feedback=PROMPTS, settings=settings)
    records = prepared.method.source.collect(0, prepared.policy)
    groups = prepared.method.targets(records)
    num_kept = sum(len(group.branches) for group in groups)
    found = gradient(prepared, groups, monkeypatch) * num_kept
    prepared.policy.zero_grad(set_to_none=True)
    loss = torch.zeros((), dtype=torch.float64)
    for record in records:
        logits = prepared.policy.lm(torch.tensor([prepared.text.encode_prompt(record.prompt)])).logits[0, -1]
        for response in record.responses:
            (token,) = prepared.text.encode(response.text, continues=True)
            loss = loss - score_of(response) * logits.log_softmax(-1)[token]
    loss.backward()
    expected = torch.cat([p.grad.flatten() for p in prepared.policy.parameters()])
    assert num_kept > 20
    assert (found - expected).abs().max() < 1e-6 * expected.abs().max()


def test_learning_from_all_of_its_own_samples_at_temperature_1_leads_nowhere_on_average(tmp_path, monkeypatch):
    """RAFT with one sample: the expected gradient is 0, so that its norm falls as the root of the number of samples."""
    norms = {}
    for number in (40, 1000):
        prepared, method = many_rollouts(tmp_path, "early", 1, number)
        prepared.policy.double()
        groups = method.targets(method.source.collect(0, prepared.policy))
        norms[number] = gradient(prepared, groups, monkeypatch).norm().item()
    assert norms[40] / norms[1000] == pytest.approx(5, rel=0.5)


@pytest.mark.filterwarnings("ignore:all ")
def test_sampling_that_sharpens_is_not_the_same_as_learning_from_all(tmp_path, monkeypatch):
    """At the paper's temperature 0.7 with the 40 likeliest tokens the same gradient stays."""
    norms = []
    for number in (250, 4000):
        method = {"judge": "tiny_judge:constant", "threshold": 0.0, "num_samples": number, "max_tokens": 1}
        settings = SETTINGS | {"dtype": "float64", "validation": 0.0}
        settings |= {"method": method | {"cap": None, "distinct": False}}
        prepared = prepare("rest_em", model=base(tmp_path), feedback=[Feedback("q", (), id="r")], settings=settings)
        (record,) = prepared.method.source.collect(0, prepared.policy)
        counts = Counter(response.text for response in record.responses)
        (group,) = build_rows(prepared, record, counts)
        norms.append(gradient(prepared, [group], monkeypatch).norm().item())
    assert norms[1] > 0.7 * norms[0]


def build_rows(prepared, record, counts):
    """The rows of a record, each different response once and weighing as often as it was drawn."""
    once = replace(record, responses=[Response(text, score=1.0, truncated=True) for text in counts])
    (group,) = prepared.method.targets([once])
    weighed = [
        replace(b, streams={"mask": [float(n)] * len(b.tokens)}) for b, n in zip(group.branches, counts.values())
    ]
    return [replace(group, branches=tuple(weighed))]
