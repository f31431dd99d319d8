"""HIR and FARL: rounds of judged answers, what they become at the ends of their settings, where they lead, and that a
kill changes nothing."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from models import PAD, tiny
from tiny_methods import build, judged_feedback, loss, steps
from tiny_text import letters, make_text

import heedful
from heedful import rounds as rounds_of_a_run
from heedful.batch import collate
from heedful.config import Training, parse
from heedful.errors import ConfigError, DataError, RunError
from heedful.export import load_info
from heedful.learner import Learner
from heedful.method import Share
from heedful.methods import hir, load_method
from heedful.models import load, load_text
from heedful.policy import Policy
from heedful.records import Feedback, Response, from_json, to_json
from heedful.runs import Run
from heedful.sampling import Sampling
from heedful.sources.hindsight import Attempts
from heedful.targets.hindsight import instructions
from heedful.training import prepare

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPTS = [Feedback(f"say {n}:", (), id=f"r{n}", answer=str(n)) for n in range(20)]
METHOD = {
    "judge": "tiny_judge:early",
    "threshold": -0.85,
    "num_prompts": 8,
    "num_samples": 3,
    "max_tokens": 6,
    "inner_epochs": 1,
}
SETTINGS = {
    "budget": {"steps": 12},
    "batch_size": 8,
    "optim": {"lr": 3e-3},
    "dtype": "float32",
    "validation": 0.2,
    "eval_every": 4,
    "save_every": 1,
    "probes": 0,
}
NAMES = ("hir", "farl")
WEIGHTS = Path("model") / "model.safetensors"
PLAIN = {"smoothing": 0.0, "entropy_coef": 0.0, "windows": 0}


def base(folder, name="llama"):
    if not (folder / name).exists():
        tokenizer = letters(**({"bos_token": None} if name == "t5" else {}))
        tiny(name, vocab_size=len(tokenizer)).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder / name


def train(folder, name="hir", feedback=PROMPTS, *, out="run", model="llama", method=None, **settings):
    options = {key: settings.pop(key) for key in ("resume", "progress") if key in settings}
    return heedful.train(
        name,
        model=base(folder, model),
        feedback=feedback,
        out=folder / out,
        settings=SETTINGS | settings | {"method": METHOD | (method or {})},
        command=[],
        **options,
    )


def lines(run):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in run.metrics()]


def rounds(run):
    return [line for line in run.metrics() if "round" in line]


def drawn(run, index):
    return [from_json(row, "round") for row in run.read_round(index)]


# A round


@pytest.fixture(scope="module", params=NAMES)
def run(request, tmp_path_factory):
    torch.set_num_threads(1)
    return train(tmp_path_factory.mktemp(request.param), request.param)


def test_a_round_says_how_good_and_how_different_its_answers_were(run):
    first = rounds(run)[0]
    records = drawn(run, 0)
    assert {"accuracy", "unique", "empty", "response_tokens", "entropy"} <= first.keys()
    assert len(records) == 8 and 0 < first["accuracy"] < 1 and 0 < first["unique"] <= 1
    assert first["unique"] == sum(len(record.responses) for record in records) / 24
    for record in records:
        for response in record.responses:
            assert (response.label == "good") == (response.scores[0].value >= -0.85)


def test_the_model_answers_behind_the_instruction_that_it_was_asked_with(run):
    text = load_text(run.model_path)
    positive, _ = instructions("question", text)
    assert tuple(load_info(run.model_path)["prefix"]) == positive
    (answer,) = heedful.sample(run.model_path, ["say 1:"], k=2, sampling=Sampling(max_tokens=4))
    assert len(answer.responses) == 2
    assert any("judge_score" in line for line in run.metrics())


def test_what_it_cost_is_in_the_ledger(run):
    ledger = run.manifest["ledger"]
    judged = [len(record.responses) for n in range(len(rounds(run))) for record in drawn(run, n)]
    evaluations = sum("judge_score" in line for line in run.metrics())
    assert ledger["scorer_calls"] == {"tiny_judge:early": sum(judged) + 4 * evaluations}
    assert ledger["sampled_tokens"] > sum(judged) and ledger["frozen_tokens"] == 0


class Killed(BaseException):
    """A process that is gone."""


@pytest.mark.parametrize(("name", "step"), [("hir", 2), ("hir", 7), ("farl", 4)])
def test_a_kill_in_the_middle_of_a_round_changes_nothing(tmp_path, name, step):
    def die(event):
        if event["step"] == step:
            raise Killed

    method = {"inner_epochs": 2, "replay": 1.5}
    whole = train(tmp_path, name, out="whole", method=method)
    with pytest.raises(Killed):
        train(tmp_path, name, out="cut", method=method, progress=die)
    assert Run(tmp_path / "cut").read_round(0) is not None
    cut = train(tmp_path, name, out="cut", method=method, resume=True)
    assert len(rounds(whole)) > 1 and lines(cut) == lines(whole)
    assert (cut.path / WEIGHTS).read_bytes() == (whole.path / WEIGHTS).read_bytes()


def test_shares_of_two_processes_are_the_round_of_one(tmp_path):
    prepared = prepare("hir", model=base(tmp_path), feedback=PROMPTS, settings=SETTINGS | {"method": METHOD})
    source, policy = prepared.method.source, prepared.policy
    whole = source.collect(1, policy)
    parts = [source.collect(1, policy, Share(n, 2)) for n in range(2)]
    assert [whole[::2], whole[1::2]] == parts


def test_a_pass_is_over_the_prompts_that_leave_room_for_a_response(tmp_path):
    long = [Feedback(f"say {n}:" + "x" * 100, (), id=f"long{n}") for n in range(20)]
    options = {"max_length": 64, "validation": 0.0, "budget": {"epochs": 1}}
    done = train(tmp_path, feedback=[*PROMPTS, *long], method={"num_prompts": 5}, **options)
    assert len(rounds(done)) == 4  # five of twenty a round


# Replay


def test_a_round_learns_from_earlier_ones_too_and_at_most_so_many(tmp_path):
    steps_of = {}
    for replay in (None, 1.0, 1000.0):
        method = {"replay": replay, "contrast": "none", "windows": 0}
        run = train(tmp_path, "hir", out=str(replay), method=method, batch_size=4)
        starts = [line["step"] for line in rounds(run)] + [12]
        steps_of[replay] = [after - before for before, after in pairwise(starts)]
    assert steps_of[None][:2] == steps_of[1.0][:2] == [2, 2] and steps_of[1000.0][:2] == [2, 4]  # of eight prompts each


class Kept:
    """A run folder that holds earlier rounds of four prompts."""

    path = Path("run")

    def read_round(self, index):
        return [to_json(Feedback("q", (), id=f"{index}.{n}")) for n in range(4)]


def test_what_is_replayed_follows_from_seed_and_round():
    new = [Feedback("q", (), id=f"2.{n}") for n in range(4)]

    def picked(most, seed=0):
        return [record.id for record in rounds_of_a_run.replayed(new, Kept(), 2, most=most, seed=seed)]

    every = [f"{index}.{n}" for index in range(3) for n in range(4)]
    assert picked(None) == every[8:] and picked(12) == picked(99) == every
    assert len(picked(5)) == 5 and picked(5) == picked(5) == sorted(picked(5)) != picked(5, seed=1)


def test_a_round_that_is_gone_is_an_error(tmp_path):
    def die(event):
        if event["step"] == 7:
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path, progress=die)
    (tmp_path / "run" / "rounds" / "round_000000.jsonl").unlink()
    with pytest.raises(RunError, match="the samples of round 0 are gone"):
        train(tmp_path, resume=True)


# What it becomes


def test_without_contrast_entropy_smoothing_and_windows_it_is_sft_on_what_was_relabelled():
    """All kept: relabelled SFT; only what is right: FARL, which is rejection-sampled SFT."""
    records = judged_feedback()
    good = [Feedback(r.prompt, [x for x in r.responses if x.label == "good"], id=r.id) for r in records]
    farl = build("farl", records, smoothing=0.0)
    with pytest.warns(UserWarning, match="all responses of a round are good"):
        same = build("hir", good, contrast="none", **PLAIN)
    assert [(g.prompt, g.branches) for g in same.groups] == [(g.prompt, g.branches) for g in farl.groups]
    words = instructions("question", farl.text).positive
    behind = [Feedback(f"{r.prompt}{farl.text.decode(words)}", r.responses, id=r.id) for r in good]
    sft = build("sft", behind)
    assert [step["nll"] for step in steps(farl, 3)[0]] == pytest.approx([step["nll"] for step in steps(sft, 3)[0]])
    assert [step["nll"] for step in steps(same, 3)[0]] == [step["nll"] for step in steps(farl, 3)[0]]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_one_instruction_twice_has_a_contrast_of_log_two_and_no_gradient(smoothing):
    same = build("hir", judged_feedback(), own_instructions=("Answer:", "Answer:"), smoothing=smoothing)
    without = build(
        "hir", judged_feedback(), own_instructions=("Answer:", "Answer:"), smoothing=smoothing, contrast_coef=0
    )
    (logged,), _ = steps(same, 1)
    (expected,), _ = steps(without, 1)
    assert logged["two_way_contrast"] == pytest.approx(math.log(2)) and abs(logged["instruction_gap"]) < 1e-12
    assert logged["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-9)


def test_a_larger_entropy_coefficient_leaves_more_entropy():
    small, large = (steps(build("hir", judged_feedback(), entropy_coef=c), 15)[0][-1] for c in (0.001, 1.0))
    assert large["token_entropy"] > small["token_entropy"]


@pytest.mark.parametrize("contrast", ["two_way", "n_way", "none"])
def test_micro_batches_change_no_number(contrast):
    built = build("hir", judged_feedback(), contrast=contrast)
    (whole,), _ = steps(built, 1)
    (cut,), _ = steps(built, 1, micro_tokens=32)
    assert cut == pytest.approx(whole, rel=1e-9)


MORE = (Response("xcd", label="bad"), Response("yz", label="good"))
UNEVEN = [  # one to four answers to a prompt
    replace(r, responses=(*r.responses, *MORE)[: 1 + n % 4]) for n, r in enumerate(judged_feedback())
]
APART = [replace(record, responses=(one,)) for record in UNEVEN for one in record.responses]


def gradient(built, groups, policy, *, tree):
    """The loss of some rows, and its gradient at all weights in one."""
    policy.zero_grad()
    batch = collate(groups, tree=tree, dtype=torch.float64)
    terms = [spec(policy(batch), batch) for spec in built.method.objective]
    value = sum(term.coef * term.total / batch.read(term.per).sum() for term in terms)
    value.backward()
    return value.item(), torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])


@pytest.mark.parametrize("model", ["gpt2", "t5"])
@pytest.mark.parametrize(
    ("name", "method"),
    [("hir", {}), ("hir", {"balance": True}), ("hir", {"contrast": "none", "smoothing": 0.0}), ("farl", {})],
)
def test_answers_that_share_their_question_have_the_loss_and_gradient_of_each_by_itself(name, method, model):
    options = {"bos_token": None, "start_id": PAD} if model == "t5" else {}
    own = method | ({"windows": 0} if name == "hir" else {})
    together, apart = (build(name, records, text=make_text(**options), **own) for records in (UNEVEN, APART))
    assert len(together.groups) < len(apart.groups)
    assert sum(group.num_tokens for group in together.groups) < sum(group.num_tokens for group in apart.groups)
    policy = Policy(tiny(model)).double().eval()
    wanted, expected = gradient(apart, apart.groups, policy, tree=False)
    for tree in (False, True) if policy.reads_trees else (False,):
        value, found = gradient(together, together.groups, policy, tree=tree)
        assert value == pytest.approx(wanted, rel=1e-12)
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_the_defaults_are_those_of_table_7():
    config = parse(hir.Config, {"judge": "exact_match"})
    assert (config.num_samples, config.temperature, config.inner_epochs) == (4, 1.0, 10)
    assert (config.smoothing, config.entropy_coef, config.contrast_coef) == (0.2, 0.001, 1.0)
    assert hir.TRAINING["optim"]["lr"] == 5e-4
    assert hir.TRAINING["batch_size"] * config.num_samples == load_method("farl").TRAINING["batch_size"] == 64


# Where it leads


def test_relabelled_sft_learns_each_arm_behind_its_instruction_whatever_their_rates():
    """A with 0.1 and right, B with 0.9: the optimum is p(A|good) = p(B|bad) = 1, the conditional likelihood's."""
    arms = [
        Feedback("q", (Response("A" if n == 0 else "B", label="bad" if n else "good"),), id=f"{n}") for n in range(10)
    ]
    built = build("hir", arms, contrast="none", **PLAIN)
    policy = Policy(tiny("llama"))
    learner = Learner(policy, Training(dtype="float32", optim={"lr": 1e-2, "warmup": 0.1, "weight_decay": 0.0}))
    for step in range(120):
        learner.update([(built.method.objective, built.groups)], step / 120)
    for words, letter in zip(instructions("question", built.text), "AB"):
        assert next_token(policy, [*built.text.encode_prompt("q"), *words])[built.text.encode(letter)[0]] > 0.99


def next_token(policy, ids):
    with torch.no_grad():
        return policy.eval().lm(torch.tensor([ids])).logits[0, -1].softmax(-1)


def share_of_digits(model, words):
    text, policy = load_text(model, max_length=64), load(model)
    digits = [text.encode(letter)[0] for letter in "0123456789"]
    return [next_token(policy, [*text.encode_prompt("say:"), *ids])[digits].sum().item() for ids in words]


@pytest.mark.parametrize(
    ("name", "method", "count"), [("hir", {}, 100), ("hir", {"contrast": "n_way"}, 100), ("farl", {}, 60)]
)
def test_p_right_goes_to_one_behind_the_positive_instruction(tmp_path, name, method, count):
    """An answer of one token of about a hundred: ten are right, and every outcome can be counted."""
    own = PLAIN if name == "hir" else {"smoothing": 0.0}
    own = own | method | {"judge": "tiny_judge:digit", "num_samples": 128, "max_tokens": 1, "inner_epochs": 5}
    run = heedful.train(
        name,
        model=base(tmp_path),
        feedback=[Feedback("say:", (), id="r")],
        out=tmp_path / "run",
        settings={
            "budget": {"steps": count},
            "batch_size": 64,  # answers, with n_way
            "optim": {"lr": 3e-3},
            "dtype": "float32",
            "validation": 0.0,
            "save_every": 1000,
            "probes": 0,
            "method": own,
        },
        command=[],
    )
    words = instructions("question", load_text(run.model_path))
    before, after = (share_of_digits(model, words) for model in (base(tmp_path), run.model_path))
    assert max(before) < 0.5 and after[0] > 0.95, (before, after)
    if name == "hir":
        assert after[0] - after[1] > 0.9, (before, after)


# Models, judges, instructions


@pytest.mark.parametrize("name", NAMES)
def test_an_encoder_decoder_learns_by_it_too(tmp_path, name):
    run = train(tmp_path, name, model="t5", budget={"steps": 4})
    assert all(math.isfinite(value) for line in run.metrics() for value in line.values())
    assert len(heedful.sample(run.model_path, ["say 1:"], sampling=Sampling(max_tokens=3))) == 1


def test_an_encoder_reads_one_question_and_n_way_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"method\.contrast: an output stands behind several questions"):
        train(tmp_path, model="t5", method={"contrast": "n_way"})


def test_a_checker_holds_each_answer_against_its_own(tmp_path):
    method = {"judge": "exact_match", "threshold": 1.0, "num_samples": 64, "max_tokens": 1, "num_prompts": None}
    run = train(tmp_path, method=method, budget={"steps": 2})
    records = drawn(run, 0)
    assert len(records) == 16
    for record in records:
        assert all((r.label == "good") == (r.text == record.answer) for r in record.responses)
    assert any(r.label == "good" for record in records for r in record.responses)


def test_a_learned_judge_and_its_threshold(tmp_path):
    pairs = [Feedback(f"say {n}:", (Response("12", rank=1), Response("xyz", rank=2)), id=f"p{n}") for n in range(8)]
    options = {"model": base(tmp_path), "feedback": pairs, "out": tmp_path / "reward"}
    reward = heedful.train("reward_model", settings={"budget": {"steps": 2}}, command=[], **options)
    run = train(tmp_path, method={"judge": str(reward.path), "threshold": 0.0}, budget={"steps": 2})
    for record in drawn(run, 0):
        for response in record.responses:
            assert (response.label == "good") == (response.scores[0].value >= 0.0)


def test_critiques_of_the_file_are_learned_beside_what_is_drawn(tmp_path):
    told = [Feedback(r.prompt, (Response("xyz", critique="three letters"),), id=r.id) for r in PROMPTS]
    run = train(tmp_path, feedback=told, method={"relabel": "critique"}, budget={"steps": 2})
    assert all(record.responses[-1].critique == "three letters" for record in drawn(run, 0))
    with pytest.raises(DataError, match=r"method\.relabel: no response has a `critique`"):
        train(tmp_path, out="none", method={"relabel": "critique"})


def test_instructions_of_your_own_are_those_of_the_model(tmp_path):
    run = train(tmp_path, method={"own_instructions": ("Right:", "Wrong:")}, budget={"steps": 1})
    assert load_text(run.model_path).decode(load_info(run.model_path)["prefix"]) == "\nRight:\n"


# Bad input


@pytest.mark.parametrize("name", NAMES)
def test_a_checker_without_an_answer_is_an_error_before_anything_is_drawn(tmp_path, name, monkeypatch):
    monkeypatch.setattr("heedful.sources.hindsight.generate", lambda *a, **k: pytest.fail("something was drawn"))
    records = [*PROMPTS, Feedback("what?", (), id="lacking")]
    with pytest.raises(DataError, match=r"record lacking: no `answer`, which the judge, exact_match, needs \(give"):
        train(tmp_path, name, feedback=records, method={"judge": "exact_match"})
    assert not (tmp_path / "run").exists()


def test_nothing_good_to_imitate_is_a_clear_stop(tmp_path):
    with pytest.raises(DataError, match="responses is good: nothing is left to imitate"):
        train(tmp_path, "farl", method={"threshold": 10.0})
    assert not (tmp_path / "run").exists()


def test_nothing_good_in_later_rounds_ends_with_what_was_learned_after_a_pass_without(tmp_path, monkeypatch):
    collect = Attempts.collect

    def once(self, round_index, *how, **options):
        return collect(replace(self, threshold=10.0 if round_index else self.threshold), round_index, *how, **options)

    monkeypatch.setattr(Attempts, "collect", once)
    with pytest.warns(UserWarning, match="is good: nothing is left to imitate"):
        run = train(tmp_path, "farl", method={"replay": None})
    assert run.is_done and (run.path / WEIGHTS).exists()
    assert [line["empty_rounds"] for line in run.metrics() if "empty_rounds" in line] == [1, 2]  # eight of sixteen each


@pytest.mark.parametrize("threshold", [-10.0, 10.0])
@pytest.mark.parametrize("contrast", ["two_way", "n_way"])
def test_verdicts_that_are_all_equal_break_nothing(tmp_path, threshold, contrast):
    which = "good" if threshold < 0 else "bad"
    method = {"threshold": threshold, "contrast": contrast, "balance": True}
    with pytest.warns(UserWarning, match=f"all responses of a round are {which}"):
        run = train(tmp_path, method=method, budget={"steps": 3})
    assert all(math.isfinite(value) for line in run.metrics() for value in line.values())


def test_settings_that_nothing_would_read_are_refused():
    with pytest.raises(ConfigError, match="found num_contexts 9 with contrast two_way: only n_way has it"):
        parse(hir.Config, {"judge": "exact_match", "num_contexts": 9})


def test_prompts_without_room_are_an_error(tmp_path):
    with pytest.raises(DataError, match="no prompt leaves room for 500 tokens"):
        train(tmp_path, method={"max_tokens": 500})


def test_a_judge_that_compares_is_refused(tmp_path):
    records = [Feedback(f"q{n}", (Response("a", rank=1), Response("b", rank=2)), id=f"p{n}") for n in range(8)]
    settings = {"budget": {"steps": 1}}
    ranker = heedful.train("ranker", model=base(tmp_path), feedback=records, out=tmp_path / "r", settings=settings)
    with pytest.raises(ConfigError, match="which scores no response by itself"):
        train(tmp_path, method={"judge": str(ranker.path)})


def test_held_out_labels_are_a_validation_loss():
    assert loss(build("hir", judged_feedback()), Policy(tiny("gpt2")).double()) > 0
