"""SLiC-HF: samples that a judge ranks, the parent's losses, and the checkpoint that wins most."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from models import tiny
from tiny_judge import early
from tiny_methods import build, compared_feedback, good_and_bad, steps
from tiny_text import letters, make_text
from torch import tensor

import heedful
from heedful import adapters
from heedful.batch import Branch, Group, collate
from heedful.config import Lora
from heedful.errors import ConfigError, DataError, RunError
from heedful.evals.likelihood import read_tokens
from heedful.evals.stats import spearman
from heedful.measures import WinRate
from heedful.method import WHOLE, Outputs, Share
from heedful.models import load, load_text
from heedful.policy import Policy
from heedful.records import Feedback, Response, strict_pairs
from heedful.runs import Run
from heedful.scorers import load_scorer
from heedful.training import dry_run, prepare

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = {
    "budget": {"steps": 6},
    "batch_size": 4,
    "optim": {"lr": 1e-3},
    "dtype": "float32",
    "validation": 0.2,
    "eval_every": 2,
    "save_every": 2,
    "probes": 0,
}
JUDGE = "tiny_judge:early"
DRAWING = {"judge": JUDGE, "num_samples": 4, "max_tokens": 6}
PROMPTS = [Feedback(f"say {n}:", (), id=f"r{n}") for n in range(15)]


def base(folder, name="llama"):
    if not (folder / "base").exists():
        tokenizer = letters()
        tiny(name, vocab_size=len(tokenizer)).save_pretrained(folder / "base")
        tokenizer.save_pretrained(folder / "base")
    return folder / "base"


def train(folder, feedback=PROMPTS, *, out="run", method=DRAWING, resume=False, progress=None, **settings):
    return heedful.train(
        "slic_hf",
        model=base(folder),
        feedback=feedback,
        out=folder / out,
        settings=SETTINGS | settings | {"method": method},
        command=[],
        resume=resume,
        progress=progress,
    )


@pytest.fixture(scope="module")
def ranker(tmp_path_factory):
    """A barely trained pairwise ranker."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("ranker")
    settings = {"budget": {"steps": 3}, "optim": {"lr": 3e-3}, "dtype": "float32"}
    return heedful.train(
        "ranker", model=base(folder), feedback=compared_feedback(8), out=folder / "run", settings=settings
    )


@pytest.fixture(scope="module")
def sampled(tmp_path_factory, ranker):
    """A run on prompts alone, with the ranker as its judge."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("sampled")
    return train(folder, method={**DRAWING, "judge": str(ranker.path)})


def lines(run):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in run.metrics()]


def ledger(run):
    return {k: v for k, v in run.manifest["ledger"].items() if k not in ("seconds", "peak_memory")}


# Sample-rank


def test_a_round_is_in_the_run_folder_and_every_match_is_a_pair(sampled):
    records = heedful.load_feedback(sampled.path / "rounds" / "round_000000.jsonl")
    assert len(records) == 12  # of 15, 3 are held out
    for record in records:
        assert len(record.comparisons) == max(0, len(record.responses) - 1)
        assert record.labeler.startswith("ranker ")
    assert sum(len(strict_pairs(record)) for record in records) > 20
    report = heedful.inspect_feedback(records)
    assert report["methods"]["slic_hf"] is None


def test_the_samples_are_those_of_the_start(sampled):
    records = heedful.load_feedback(sampled.path / "rounds" / "round_000000.jsonl")
    start = Path(sampled.manifest["subject"]["model"])
    prepared = prepare("slic_hf", model=start, feedback=PROMPTS, settings=SETTINGS | {"method": {**DRAWING}})
    drawn = prepared.method.source.collect(0, prepared.policy)
    assert [[r.text for r in one.responses] for one in records] == [[r.text for r in one.responses] for one in drawn]


def test_the_ledger_has_what_was_drawn_and_judged(sampled):
    records = heedful.load_feedback(sampled.path / "rounds" / "round_000000.jsonl")
    cost = sampled.manifest["ledger"]
    rounds = sum(record.metadata["sampled_tokens"] for record in records)
    matches = sum(len(record.comparisons) for record in records)
    assert cost["scorer_calls"] == {"ranker": matches + 3 * 3}  # 3 answers at each of 3 evaluations
    assert rounds < cost["sampled_tokens"] <= rounds + 4 * 3 * 6


def test_the_checkpoint_is_the_one_that_wins_most_against_the_start(sampled):
    rates = {line["step"]: line["win_rate"] for line in sampled.metrics() if "win_rate" in line}
    assert set(rates) == {2, 4, 6} and all(0 <= rate <= 1 for rate in rates.values())
    assert sampled.manifest["metrics"]["win_rate"] == max(rates.values()) == rates[sampled.manifest["selected_step"]]


def test_a_run_on_its_own_samples_repeats(sampled, tmp_path, ranker):
    again = train(tmp_path, method={**DRAWING, "judge": str(ranker.path)})
    assert lines(again) == lines(sampled) and ledger(again) == ledger(sampled)


class Killed(BaseException):
    """A process that is gone."""


@pytest.mark.parametrize("step", [1, 3, 6])
@pytest.mark.parametrize("judge", ["function", "ranker"])
def test_a_kill_then_a_resume_ends_as_uninterrupted_and_draws_nothing_twice(tmp_path, ranker, step, judge):
    method = {**DRAWING, "judge": JUDGE if judge == "function" else str(ranker.path)}

    def die(event):
        if event["step"] == step:
            raise Killed

    whole = train(tmp_path, out="whole", method=method)
    with pytest.raises(Killed):
        train(tmp_path, out="cut", method=method, progress=die)
    path = tmp_path / "cut" / "rounds" / "round_000000.jsonl"
    before = path.stat().st_mtime_ns
    cut = train(tmp_path, out="cut", method=method, resume=True)
    assert path.stat().st_mtime_ns == before
    assert path.read_bytes() == (whole.path / "rounds" / path.name).read_bytes()
    assert lines(cut) == lines(whole) and ledger(cut) == ledger(whole)
    model = Path("model") / "model.safetensors"
    assert (cut.path / model).read_bytes() == (whole.path / model).read_bytes()


def test_another_judge_in_the_same_folder_is_another_experiment(tmp_path, monkeypatch):
    def die(event):
        raise Killed

    own = tmp_path / "own_judge.py"
    own.write_text("def score(prompt, response):\n    return float(len(response))\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    method = {**DRAWING, "judge": "own_judge:score"}
    with pytest.raises(Killed):
        train(tmp_path, method=method, progress=die)
    own.write_text("def score(prompt, response):\n    return -float(len(response))\n")
    with pytest.raises(RunError, match="the judge has changed since the run began") as caught:
        train(tmp_path, method=method, resume=True)
    assert "own_judge:score" in str(caught.value)


def test_prompts_too_long_for_the_judge_are_left_out_before_anything_is_drawn(tmp_path, ranker):
    narrow = tmp_path / "narrow"
    shutil.copytree(ranker.model_path, narrow)
    info = json.loads((narrow / "heedful.json").read_text())
    (narrow / "heedful.json").write_text(json.dumps(info | {"max_length": 100}))
    prompts = [*PROMPTS, Feedback("x" * 100, (), id="long")]
    with pytest.warns(UserWarning, match="1 of 16 prompts left out: too long for the judge, ranker"):
        run = train(tmp_path, prompts, method={**DRAWING, "judge": str(narrow)}, validation=0.0)
    assert [row["id"] for row in run.read_round(0)] == [record.id for record in PROMPTS]
    with pytest.raises(DataError, match="no prompt leaves room for a response in the context of the judge, ranker"):
        train(tmp_path, prompts[-1:], out="none", method={**DRAWING, "judge": str(narrow)}, validation=0.0)


def test_a_round_that_is_gone_is_not_drawn_from_another_policy(tmp_path):
    def die(event):
        if event["step"] == 3:
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path, progress=die)
    (tmp_path / "run" / "rounds" / "round_000000.jsonl").unlink()
    with pytest.raises(RunError, match="the samples of round 0 are gone"):
        train(tmp_path, resume=True)


@pytest.fixture(scope="module")
def bettered(tmp_path_factory):
    """A run on its own samples, long enough to follow its judge; the base; and prompts that neither has read."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("bettered")
    method = {**DRAWING, "num_samples": 8, "margin": 5.0, "nll_coef": 0.0}
    run = train(folder, method=method, budget={"epochs": 12}, optim={"lr": 3e-3}, eval_every=12)
    settings = SETTINGS | {"method": DRAWING}
    return run, base(folder), prepare("slic_hf", model=base(folder), feedback=PROMPTS, settings=settings).held_out


def test_samples_make_the_model_better_by_its_judge(bettered):
    run, start, held_out = bettered
    assert run.manifest["metrics"]["win_rate"] > 0.8
    settings = heedful.Sampling(max_tokens=6, temperature=0)
    prompts = [record.prompt for record in held_out]
    before, after = (
        [early("", record.responses[0].text) for record in heedful.sample(model, prompts, sampling=settings)]
        for model in (start, run.model_path)
    )
    assert sum(after) > sum(before)


def test_s13_likelihood_and_judge_agree_more_on_held_out_candidates_than_before(bettered):
    """The claim in the method's name: sequence likelihood is calibrated."""
    run, start, held_out = bettered
    settings = heedful.Sampling(max_tokens=6, temperature=0.7, top_k=40)  # as in training
    prompts = [record.prompt for record in held_out]
    answered = heedful.sample(start, prompts, sampling=settings, k=16, seed=7)
    scores = [early("", response.text) for record in answered for response in record.responses]
    agreement = {}
    for model in (start, run.model_path):
        text = load_text(model, max_length=64)
        groups = [
            Group(record.id, text.encode_prompt(record.prompt), (Branch(ids, {"mask": (1.0,) * len(ids)}),))
            for record in answered
            for response in record.responses
            if (ids := text.encode_response(response.text, finished=not response.truncated))
        ]
        likely = [reading.logp.sum().item() for reading in read_tokens(load(model), groups)]
        agreement[model] = spearman(likely, scores)
    before, after = agreement.values()
    assert after > before + 0.3, agreement


def test_demonstrations_are_imitated_and_never_compared(tmp_path):
    shown = [Feedback(r.prompt, (Response("shown", demonstration=True),), id=r.id) for r in PROMPTS]
    run = train(tmp_path, shown, budget={"steps": 2})
    records = heedful.load_feedback(run.path / "rounds" / "round_000000.jsonl")
    for record in records:
        assert record.responses[0].text == "shown" and not record.responses[0].scores
    prepared = prepare("slic_hf", model=base(tmp_path), feedback=shown, settings=SETTINGS | {"method": DRAWING})
    for group in prepared.method.targets(records):
        (imitated,) = [b for b in group.branches if any(b.streams["reference"])]
        assert prepared.text.decode(imitated.tokens) == "shown" and not any(imitated.streams["mask"])


def test_m_pairs_are_drawn_from_a_scored_list(tmp_path):
    prepared = prepare("slic_hf", model=base(tmp_path), feedback=PROMPTS, settings=SETTINGS | {"method": DRAWING})
    records = prepared.method.source.collect(0, prepared.policy)
    groups = prepared.method.targets(records)
    every = {record.id: len(strict_pairs(record)) for record in records}
    assert all(len(group.pairs) == min(4, every[group.id]) for group in groups)
    assert max(every.values()) > 4
    assert prepared.method.targets(records) == groups
    listed = SETTINGS | {"method": {**DRAWING, "loss": "list"}}
    whole = prepare("slic_hf", model=base(tmp_path), feedback=PROMPTS, settings=listed).method.targets(records)
    assert all(len(group.pairs) == every[group.id] for group in whole)


def test_a_dry_run_says_that_its_rows_are_not_known(tmp_path):
    prepared = prepare("slic_hf", model=base(tmp_path), feedback=PROMPTS, settings=SETTINGS | {"method": DRAWING})
    assert dry_run(prepared)["records"] == 12 and "rows" not in dry_run(prepared)


def test_direct_learns_from_the_file_and_its_judge_chooses_the_checkpoint(tmp_path):
    method = {"judge": JUDGE, "source": "direct", "max_tokens": 6}
    run = train(tmp_path, compared_feedback(15), method=method)
    measured = [row for row in run.metrics() if "win_rate" in row]
    best = max(measured, key=lambda row: row["win_rate"])
    assert run.manifest["selected_step"] == best["step"] and run.read_round(0) is None
    assert {"accuracy", "gap"} <= run.metrics()[0].keys()


def test_prompts_are_enough_with_a_judge_and_not_without(tmp_path):
    with pytest.raises(DataError, match="no record prefers one of its responses"):
        train(tmp_path, method={})


def test_a_methods_name_is_no_judge_of_a_single_training(tmp_path):
    with pytest.raises(ConfigError, match=r"ranker is a method.*heedful train ranker"):
        train(tmp_path, method={"judge": "ranker"})


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"num_samples": 4}, "found num_samples without a judge"),
        ({"loss": "reward", "margin": 5.0}, "found margin 5 with loss reward"),
        ({"source": "sample_rank"}, "found source sample_rank without a judge"),
        ({"source": "direct", "judge": JUDGE, "num_samples": 4}, "found num_samples with source direct"),
    ],
)
def test_a_setting_that_nothing_reads_is_refused(method, message):
    with pytest.raises(ConfigError, match=message):
        build("slic_hf", compared_feedback(4), **method)


# The measure


def test_win_rate_is_a_half_for_the_start_itself_and_shares_add_up():
    measure = WinRate(load_scorer(JUDGE), PROMPTS, make_text(), 6)
    policy, other = Policy(tiny("gpt2")), Policy(tiny("gpt2", seed=1))
    assert measure.begin(policy, WHOLE).sampled_tokens > 0
    assert measure(policy, WHOLE)[0] == [0.5] * 15
    whole, cost = measure(other, WHOLE)
    assert cost.scorer_calls == {JUDGE: 15} and set(whole) <= {0.0, 0.5, 1.0} and len(set(whole)) > 1
    parts = []
    for n in range(2):
        own = WinRate(load_scorer(JUDGE), PROMPTS, make_text(), 6)
        own.begin(policy, Share(n, 2))
        parts.append(own(other, Share(n, 2))[0])
    assert parts == [whole[::2], whole[1::2]]


def test_held_out_prompts_without_room_for_an_answer_are_no_silent_win_rate(caplog):
    measure = WinRate(load_scorer(JUDGE), [Feedback("x" * 200, (), id="long")], make_text(max_length=100), 6)
    measure.begin(Policy(tiny("gpt2")), WHOLE)
    assert "no held-out prompt leaves room for 6 tokens: no win_rate is measured" in caplog.text


# The parent's losses


def rated(scores, *, id="a", shown=False):
    demonstration = (Response("ref", demonstration=True),) if shown else ()
    return Feedback("q", (*demonstration, *(Response("uvwx"[n] * 2, score=s) for n, s in enumerate(scores))), id=id)


def losses(feedback, response_logp, **config):
    """The divided terms, by name, where each response has this log-probability; one demonstration first if any."""
    built = build("slic_hf", feedback, **config)
    batch = collate(built.groups, tree=True, dtype=torch.float64)
    each = tensor(response_logp, dtype=torch.float64) / 3  # two letters and EOS
    logp = torch.where(batch.response >= 0, each[batch.response.clamp_min(0)], 0.0)
    terms = [spec(Outputs(logp), batch) for spec in built.method.objective]
    return {term.name: (term.total / batch.read(term.per).sum()).item() for term in terms}


def test_the_margin_loss_asks_for_more_where_the_scores_are_further_apart():
    found = losses([rated([1.0, 0.25])], [-4.0, -3.5], loss="margin", margin=2.0)
    assert found["margin_hinge"] == pytest.approx(2.0 * 0.75 + 0.5)


def test_the_list_loss_asks_for_more_where_the_places_are_further_apart():
    found = losses([rated([0.1, 0.9, 0.5])], [-4.0, -4.0, -4.0], loss="list", margin=1.0)
    assert found["list_hinge"] == pytest.approx((1 + 1 + 2) / 3)


def test_the_reward_loss_is_minus_the_expected_score_among_those_compared():
    found = losses(
        [rated([1.0, 0.0], shown=True), rated([2.0, 1.0], id="b")], [-9.0, -3.0, -3.0, -3.0, -3.0], loss="reward"
    )
    assert found["expected_score"] == pytest.approx(-(0.5 + 1.5) / 2)
    assert set(found) == {"expected_score", "nll"}


@pytest.mark.parametrize("loss", ["margin", "list", "reward"])
def test_the_parents_losses_learn_from_scores_and_need_them(loss):
    logged, _ = steps(build("slic_hf", good_and_bad(), loss=loss), 60, optim={"lr": 1e-2, "warmup": 0.1})
    name = {"margin": "margin_hinge", "list": "list_hinge", "reward": "expected_score"}[loss]
    assert logged[-1][name] < 0.01
    with pytest.raises(DataError, match="prompt without two different scores: 4"):
        build("slic_hf", compared_feedback(4), loss=loss)


# The parent's KL


def moved_policy():
    """A policy that has left its start, and the rows it reads."""
    built = build("slic_hf", compared_feedback(6), kl_coef=0.5)
    policy = Policy(tiny("gpt2")).double()
    policy.keep_start("reference")
    with torch.no_grad():
        for n, weight in enumerate(policy.lm.parameters()):
            weight.add_(0.02 * torch.sin(torch.arange(weight.numel(), dtype=torch.float64) + n).view(weight.shape))
    return built, policy


@pytest.mark.parametrize("tree", [True, False])
def test_kl_is_that_of_the_whole_next_token_distribution_along_the_imitated_response(tree):
    built, policy = moved_policy()
    for group in built.groups:
        (imitated,) = [branch for branch in group.branches if any(branch.streams["reference"])]
        ids = tensor([[*group.prompt, *imitated.tokens]])
        start, now = (lm(ids).logits[0].log_softmax(-1) for lm in (policy.start[0].lm, policy.lm))
        expected = (start.exp() * (start - now)).sum(-1)[len(group.prompt) - 1 : -1]
        batch = collate([group], tree=tree, dtype=torch.float64)
        found = policy(batch).start_kl
        assert found[batch.streams["reference"] != 0].tolist() == pytest.approx(expected.tolist(), abs=1e-9)
        assert found.count_nonzero() == len(imitated.tokens) and expected.min() > 0


def test_kl_is_the_same_in_chunks(monkeypatch):
    built, policy = moved_policy()
    batch = collate(built.groups, tree=True, dtype=torch.float64)
    whole = policy(batch).start_kl
    monkeypatch.setattr(Policy, "chunk_size", lambda self, device: 3)
    assert torch.allclose(policy(batch).start_kl, whole, atol=1e-12)


def test_the_start_is_no_part_of_the_state_and_has_no_gradient():
    built, policy = moved_policy()
    assert not any("start" in name for name in policy.state_dict())
    policy(collate(built.groups, tree=True, dtype=torch.float64)).start_kl.sum().backward()
    assert all(weight.grad is None for weight in policy.start[0].parameters())
    assert any(weight.grad.abs().sum() > 0 for weight in policy.lm.parameters() if weight.grad is not None)


def test_with_adapters_the_start_is_read_with_the_same_base():
    pytest.importorskip("peft", reason="needs `pip install peft`")
    lm = tiny("llama")
    adapters.add(lm, Lora(rank=2, alpha=4), base=adapters.identify(lm, "base"))
    policy = Policy(lm)
    policy.keep_start("reference")
    mine, kept = dict(policy.named_parameters()), dict(policy.start[0].named_parameters())
    assert {name for name in mine if mine[name] is not kept[name]} == set(policy.learned())


def test_at_the_start_the_kl_is_0_and_so_is_its_gradient():
    built = build("slic_hf", compared_feedback(6), kl_coef=0.5)
    policy = Policy(tiny("gpt2")).double()
    policy.keep_start("reference")
    kl = policy(collate(built.groups, tree=True, dtype=torch.float64)).start_kl
    kl.sum().backward()
    assert (
        kl.abs().max() < 1e-12 and max(w.grad.abs().max() for w in policy.lm.parameters() if w.grad is not None) < 1e-9
    )


def test_a_large_kl_coef_holds_the_policy_where_it_was():
    free, held = (steps(build("slic_hf", compared_feedback(6), nll_coef=0.0, kl_coef=c), 30)[0] for c in (1e-9, 100.0))
    assert held[-1]["kl_from_start"] < 0.1 * free[-1]["kl_from_start"]


def test_a_run_with_a_start_resumes_from_where_it_was_and_counts_it(tmp_path):
    def die(event):
        if event["step"] == 3:
            raise Killed

    method = {"kl_coef": 0.5}
    whole = train(tmp_path, compared_feedback(16), out="whole", method=method)
    with pytest.raises(Killed):
        train(tmp_path, compared_feedback(16), out="cut", method=method, progress=die)
    cut = train(tmp_path, compared_feedback(16), out="cut", method=method, resume=True)
    assert lines(cut) == lines(whole) and ledger(cut) == ledger(whole)
    assert ledger(whole)["frozen_tokens"] == ledger(whole)["train_tokens"]
    assert [line["kl_from_start"] > 0 for line in whole.metrics() if "kl_from_start" in line] == [False] + [True] * 5


# Processes


TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ALONE = """
import sys, torch
from pathlib import Path
import heedful
sys.path.insert(0, sys.argv[2])
from test_slic_hf import train
torch.set_num_threads(1)
train(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_two_processes_draw_and_learn_as_one(tmp_path):
    tests = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}", "OMP_NUM_THREADS": "1"}
    script = tmp_path / "job.py"
    script.write_text(ALONE)
    for name, launch in (("one", []), ("two", TWO)):
        (tmp_path / name).mkdir()
        base(tmp_path / name)
        command = [sys.executable, *launch, str(script), str(tmp_path / name), str(tests / "methods")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-4000:]
    one, two = (Run(tmp_path / name / "run") for name in ("one", "two"))
    rounds = [(run.path / "rounds" / "round_000000.jsonl").read_text() for run in (one, two)]
    assert rounds[0] == rounds[1]
    assert lines(two) == [pytest.approx(line, rel=1e-5, abs=1e-7) for line in lines(one)]
    assert ledger(one) == ledger(two)
