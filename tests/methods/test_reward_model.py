"""The reward model: InstructGPT's identities (V1-V8), what is exported, and what scores with it."""

import json
import math
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from models import CONFIGS, tiny
from tiny_methods import build, compared_feedback, good_and_bad, steps
from tiny_text import EOS, letters, make_text
from torch import tensor
from typer.testing import CliRunner

import heedful
from heedful.batch import collate
from heedful.cli import app
from heedful.disk import read_lines
from heedful.errors import ConfigError, DataError, RunError
from heedful.method import Outputs
from heedful.models import load, load_tokenizer
from heedful.policy import Policy
from heedful.records import Comparison, Feedback, Message, Response, Segment
from heedful.reward import Centre, Reply, load_reward_model, token_rewards
from heedful.reward_export import export_reward_model
from heedful.scorers import Item, load_scorer, score_all
from heedful.scoring import score_segments
from heedful.training import prepare

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSIFIERS = [name for name in CONFIGS if name != "mamba"]
SETTINGS = {"budget": {"steps": 12}, "batch_size": 8, "optim": {"lr": 1e-3}, "dtype": "float32"}
SCORES = (1.0, 0.5, -0.2, -1.0)  # of the specification's golden numbers, in ranked order


def ranked(*ranks, id="a"):
    """A record whose responses have these ranks."""
    return Feedback(f"q{id}", tuple(Response("xyzwuv"[n] * (n + 1), rank=r) for n, r in enumerate(ranks)), id=id)


def losses(feedback, reward, **config):
    """The divided terms of the objective, by name, and the gradient of the loss at each reward."""
    built = build("reward_model", feedback, **config)
    batch = collate(built.groups, tree=True, dtype=torch.float64)
    reward = tensor(reward, dtype=torch.float64, requires_grad=True)
    assert len(reward) == len(batch.group)
    outputs = Outputs(logp=torch.zeros(batch.tokens.shape, dtype=torch.float64), reward=reward)
    terms = [spec(outputs, batch) for spec in built.method.objective]
    means = {term.name: term.total / batch.read(term.per).sum() for term in terms}
    loss = sum(term.coef * means[term.name] for term in terms)
    loss.backward()
    return {name: mean.item() for name, mean in means.items()} | {"loss": loss.item()}, reward.grad


def loss_of(feedback, reward, **config):
    return losses(feedback, reward, **config)[0]["loss"]


# The loss


def test_v1_two_responses_are_minus_log_sigmoid_of_the_gap():
    assert loss_of([ranked(1, 2)], [0.4, 0.8]) == pytest.approx(0.913015, abs=1e-6)
    assert loss_of([ranked(2, 1)], [0.4, 0.8]) == pytest.approx(0.513015, abs=1e-6)


def test_v2_of_prompts_with_as_many_responses_the_loss_is_the_mean_over_all_pairs():
    found = loss_of([ranked(1, 2, 3, id="a"), ranked(2, 1, 3, id="b")], [0.1, 0.7, -0.3, 0.2, 0.9, 0.4])
    gaps = [0.1 - 0.7, 0.1 + 0.3, 0.7 + 0.3, 0.9 - 0.2, 0.9 - 0.4, 0.2 - 0.4]
    assert found == pytest.approx(sum(math.log1p(math.exp(-gap)) for gap in gaps) / 6)


def test_v2_a_prompt_with_more_pairs_weighs_no_more():
    found = loss_of([ranked(1, 2, 3, 4, id="a"), ranked(1, 2, id="b")], [*SCORES, 0.4, 0.8])
    assert found == pytest.approx((0.306665 + 0.913015) / 2, abs=1e-6)
    assert found != pytest.approx((1.839987 + 0.913015) / 7, abs=1e-2)  # the mean over pairs


def test_v3_a_constant_on_all_rewards_changes_neither_loss_nor_gradient():
    feedback = [ranked(1, 2, 3, 4)]
    (before, slope), (after, same) = losses(feedback, SCORES), losses(feedback, [r + 7 for r in SCORES])
    assert before["loss"] == pytest.approx(after["loss"], rel=1e-12) and torch.allclose(slope, same, atol=1e-12)


@pytest.mark.parametrize("ranks", [(1, 2), (1, 2, 3), (1, 1, 2, 5, 4)])
def test_v3_equal_rewards_cost_ln_2_whatever_the_number_of_responses(ranks):
    assert loss_of([ranked(*ranks)], [0.3] * len(ranks)) == pytest.approx(math.log(2))


@pytest.mark.parametrize("loss", ["bradley_terry", "plackett_luce"])
def test_v4_the_gradient_sums_to_0_over_the_responses(loss):
    _, slope = losses([ranked(1, 2, 3, 4)], SCORES, loss=loss)
    assert slope.sum().item() == pytest.approx(0, abs=1e-12)
    if loss == "bradley_terry":
        assert slope.tolist() == pytest.approx([-0.121370, -0.022783, 0.042210, 0.101942], abs=1e-6)


def test_v5_the_gradient_of_a_ranking_is_the_mean_of_those_of_its_pairs():
    record = ranked(1, 2, 3, 4)
    _, slope = losses([record], SCORES)
    pairs = [(a, b) for a in range(4) for b in range(a + 1, 4)]
    mean = torch.zeros(4, dtype=torch.float64)
    for a, b in pairs:
        _, own = losses([replace(record, responses=(record.responses[a], record.responses[b]))], [SCORES[a], SCORES[b]])
        mean[[a, b]] += own / len(pairs)
    assert torch.allclose(slope, mean, atol=1e-12, rtol=0)


def test_v6_the_order_in_which_responses_are_listed_changes_nothing():
    record, order = ranked(1, 2, 2, 4), [2, 0, 3, 1]
    moved = replace(record, responses=tuple(record.responses[n] for n in order))
    for loss in ("bradley_terry", "plackett_luce"):
        before, slope = losses([record], SCORES, loss=loss)
        after, other = losses([moved], [SCORES[n] for n in order], loss=loss)
        assert before == pytest.approx(after, rel=1e-12)
        assert torch.allclose(slope[order], other, atol=1e-12)


def test_v7_a_tie_gives_no_pair_and_the_mean_is_over_the_pairs_left():
    assert loss_of([ranked(1, 2, 2, 4)], SCORES) == pytest.approx(0.287360, abs=1e-6)


@pytest.mark.parametrize("loss", ["bradley_terry", "plackett_luce"])
def test_v7_a_prompt_whose_responses_all_tie_adds_nothing(loss):
    some, tied = ranked(1, 2, 3, 4), ranked(1, 1, 1, id="b")
    assert loss_of([some, tied], SCORES, loss=loss) == loss_of([some], SCORES, loss=loss)


def test_plackett_luce_is_the_likelihood_of_the_whole_ranking_a_mean_over_prompts():
    assert loss_of([ranked(1, 2, 3, 4)], SCORES, loss="plackett_luce") == pytest.approx(1.627708, abs=1e-6)
    two = loss_of([ranked(1, 2, 3, 4, id="a"), ranked(1, 2, id="b")], [*SCORES, 0.4, 0.8], loss="plackett_luce")
    assert two == pytest.approx((1.627708 + 0.913015) / 2, abs=1e-6)


def test_accuracy_is_the_share_of_pairs_in_order_a_draw_half_a_mean_over_prompts():
    found, _ = losses([ranked(1, 2, 3, id="a"), ranked(1, 2, id="b")], [0.5, 0.9, 0.5, 1.0, 0.0])
    assert found["accuracy"] == pytest.approx(((0 + 0.5 + 1) / 3 + 1) / 2)
    assert found["loss"] == found["bradley_terry"]


# The rows


def compare(*pairs, num=3):
    comparisons = tuple(Comparison(better, worse) for better, worse in pairs)
    return Feedback("q", tuple(Response("xyzw"[n]) for n in range(num)), id="a", comparisons=comparisons)


def ranks_of(record):
    (group,) = build("reward_model", [record], loss="plackett_luce").groups
    return [branch.fields["rank"] for branch in group.branches]


def test_ranks_follow_from_comparisons_that_order_all():
    assert ranks_of(compare((2, 0), (0, 1), (2, 1))) == [2, 3, 1]
    assert ranks_of(compare((2, 0), (0, 1))) == [2, 3, 1]  # what is between them is implied
    assert ranks_of(compare((2, 0), (2, 1))) == [2, 2, 1]
    assert ranks_of(ranked(1, 1, 5)) == [1, 1, 3]


@pytest.mark.parametrize("pairs", [((0, 1), (1, 2), (2, 0)), ((0, 1), (1, 0)), ((0, 1), (2, 3))])
def test_comparisons_that_are_no_ranking_are_dropped_and_counted_by_plackett_luce_alone(pairs):
    text, other = make_text(), ranked(1, 2, id="b")
    assert len(build("reward_model", [compare(*pairs, num=4), other], text=text, loss="plackett_luce").groups) == 1
    assert text.drops.counts["prompt whose comparisons are no ranking"] == 1
    assert len(build("reward_model", [compare(*pairs, num=4), other]).groups) == 2


def test_contradicting_pairs_stay_and_are_counted():
    text = make_text()
    (group,) = build("reward_model", [compare((0, 1), (1, 0))], text=text).groups
    assert len(group.pairs) == 2 and text.drops.counts == {"pair that contradicts another (kept)": 1}


def test_equal_responses_are_dropped_and_counted():
    same = Feedback("q", (Response("x", rank=1), Response("x", rank=2), Response("y", rank=3)), id="a")
    text = make_text()
    (group,) = build("reward_model", [same], text=text).groups
    assert [pair[:2] for pair in group.pairs] == [(0, 1)] and len(group.branches) == 2
    repeated = "pair that repeats another through equal responses"
    assert text.drops.counts == {"pair of equal responses": 1, repeated: 1}


def test_no_token_goes_through_the_lm_head():
    assert not any(
        branch.streams for group in build("reward_model", [ranked(1, 2)]).groups for branch in group.branches
    )


def test_one_response_a_prompt_is_refused_with_what_is_missing(tmp_path):
    one = [Feedback(f"q{n}", (Response("x", rank=1),), id=str(n)) for n in range(4)]
    with pytest.raises(DataError, match="no record prefers one of its responses to another"):
        train(tmp_path, one)


def test_only_ties_are_refused(tmp_path):
    with pytest.raises(DataError, match="no record prefers one of its responses to another"):
        train(tmp_path, [ranked(1, 1, id=str(n)) for n in range(4)])


# Training


@pytest.mark.parametrize("loss", ["bradley_terry", "plackett_luce"])
def test_it_learns_twenty_comparisons_by_heart(loss):
    logged, _ = steps(build("reward_model", good_and_bad(), loss=loss), 60, optim={"lr": 1e-2, "warmup": 0.1})
    assert logged[-1]["loss"] < 0.02 and logged[-1]["accuracy"] == pytest.approx(1.0)


def base(folder, name="gpt2", tokenizer=None, **options):
    tokenizer = tokenizer or letters()
    tiny(name, vocab_size=max(99, len(tokenizer)), **options).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    return folder / "base"


def train(folder, feedback, *, name="gpt2", tokenizer=None, settings=None, **options):
    folder.mkdir(exist_ok=True)
    return heedful.train(
        "reward_model",
        model=base(folder, name, tokenizer),
        feedback=feedback,
        out=folder / "run",
        settings=SETTINGS | (settings or {}),
        command=[],
        **options,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on ranked responses, half of the records with a demonstration."""
    torch.set_num_threads(1)
    shown = Response("shown", demonstration=True)
    feedback = [
        replace(r, responses=(*r.responses, shown)) if n % 2 else r for n, r in enumerate(compared_feedback(16))
    ]
    return train(tmp_path_factory.mktemp("reward"), feedback, settings={"validation": 0.2, "eval_every": 4}), feedback


def test_accuracy_on_held_out_comparisons_is_logged_and_the_checkpoint_has_the_lowest_loss(run):
    run, _ = run
    evaluations = [line for line in run.metrics() if "eval_loss" in line]
    assert all(0 <= line["eval_accuracy"] <= 1 for line in evaluations)
    assert run.manifest["metrics"]["eval_loss"] == min(line["eval_loss"] for line in evaluations)


def test_a_reward_model_writes_no_samples_while_it_learns(run):
    assert not (run[0].path / "samples.jsonl").exists() or read_lines(run[0].path / "samples.jsonl") == []


def test_the_head_is_drawn_from_the_seed(tmp_path):
    rewards = []
    for seed in (0, 0, 1):
        policy = load(base(tmp_path), heads=build("reward_model", [ranked(1, 2)]).method.heads, seed=seed)
        rewards.append(policy.heads["reward"].linear.weight.detach())
    assert torch.equal(rewards[0], rewards[1]) and not torch.equal(rewards[0], rewards[2])
    assert rewards[0].std().item() == pytest.approx(33**-0.5, rel=0.4)


@pytest.mark.parametrize("name", ["gpt2", "llama"])  # with tied and with untied embeddings
def test_every_trained_weight_has_a_gradient_as_several_processes_need(tmp_path, name):
    folder, feedback = base(tmp_path, name), compared_feedback(8)
    prepared = prepare("reward_model", model=folder, feedback=feedback, settings=SETTINGS)
    batch = collate(prepared.method.targets(feedback), tree=True)
    outputs = prepared.policy(batch)
    sum(spec.coef * spec(outputs, batch).total for spec in prepared.method.objective).backward()
    assert [n for n, p in prepared.policy.named_parameters() if (p.grad is None) == p.requires_grad] == []


# The offset


def all_rewards(path, feedback):
    scored = heedful.score(feedback, str(path))
    return [[response.scores[-1].value for response in record.responses] for record in scored]


def test_v8_demonstrations_have_0_on_average(run):
    run, feedback = run
    rewards = all_rewards(run.path, feedback)
    demos = [x for r, xs in zip(feedback, rewards) for response, x in zip(r.responses, xs) if response.demonstration]
    assert len(demos) == 8 and abs(sum(demos) / len(demos)) < 1e-4


def test_v8_the_offset_changes_no_difference(run, tmp_path):
    run, feedback = run
    centred = all_rewards(run.path, feedback)
    offset = json.loads((run.model_path / "config.json").read_text())["heedful_reward_offset"]
    model = load_reward_model(run.model_path)
    plain = replace(model, offset=0.0)
    replies = [Reply("q1\n", (text,), True, "") for text in ("ab", "cd", "x")]
    for (one,), (other,) in zip(model.rewards(replies), plain.rewards(replies)):
        assert other - one == pytest.approx(offset)
    assert offset != 0 and len(centred) == 16


def test_without_demonstrations_the_offset_is_the_mean_over_the_training_responses(tmp_path):
    feedback = compared_feedback(8)
    run = train(tmp_path, feedback, settings={"validation": 0.0})
    every = [value for values in all_rewards(run.path, feedback) for value in values]
    assert abs(sum(every) / len(every)) < 1e-4
    info = json.loads((run.model_path / "heedful.json").read_text())
    assert info["reward_offset_is_mean_over"] == f"{len(every)} training responses"
    assert "23 training responses" in (run.model_path / "README.md").read_text()


# The export

ALONE = """
import json, sys, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
texts, every = json.loads(sys.argv[1]), {}
for folder in sys.argv[2:]:
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    every[folder] = {"offset": model.config.heedful_reward_offset, "num_labels": model.config.num_labels}
    for size, side in ((5, "right"), (1, "right"), (2, "right"), (5, "left"), (2, "left")):
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side=side)
        rewards = []
        for start in range(0, len(texts), size):
            part = texts[start : start + size]
            rows = tokenizer([p for p, _ in part], [r for _, r in part], padding=True, return_tensors="pt")
            if side == "left" and model.config.model_type == "gpt2":
                rows["position_ids"] = (rows["attention_mask"].cumsum(-1) - 1).clamp(min=0)
            with torch.no_grad():
                rewards += model(**rows).logits[:, 0].tolist()
        every[folder][f"{size} {side}"] = rewards
assert not any(name.split(".")[0] == "heedful" for name in sys.modules)
print(json.dumps(every))
"""
TEXTS = [
    ["q1\n", "ab"],
    ["q1\n", "a long response to it"],
    ["a longer question than that\n", "x"],
    ["", "cd"],
    ["q", ""],
]
PADS = {"none": {"pad_token": None}, "EOS": {"pad_token": EOS}, "BOS": {"pad_token": "<s>"}}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Folders by architecture, and of GPT-2 by what its tokenizer pads with, and what transformers alone gives."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("exported")
    heads = build("reward_model", [ranked(1, 2)]).method.heads
    for name in CLASSIFIERS:
        policy = Policy(tiny(name), heads)
        export_reward_model(policy, letters(), folder / name, {"max_length": 256}, Centre(0.25, "demonstrations", 1, 1))
    for name, special in PADS.items():
        run = train(
            folder / f"pad {name}",
            compared_feedback(8),
            tokenizer=letters(**special),
            settings={"budget": {"steps": 2}},
        )
        run.model_path.rename(folder / name)
    command = [sys.executable, "-c", ALONE, json.dumps(TEXTS), *CLASSIFIERS, *PADS]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return {name: (folder / name, alone) for name, alone in json.loads(done.stdout).items()}


@pytest.mark.parametrize("name", [*CLASSIFIERS, *PADS])
def test_the_folder_gives_the_same_rewards_in_transformers_alone(exported, name):
    path, alone = exported[name]
    ours = [s.value for s in score_all(load_scorer(str(path)), [Item(p, r, id=r) for p, r in TEXTS])]
    assert [reward - alone["offset"] for reward in alone["5 right"]] == pytest.approx(ours, abs=1e-4)
    assert len({round(value, 3) for value in ours}) == len(ours) and alone["num_labels"] == 1


@pytest.mark.parametrize("name", [*CLASSIFIERS, *PADS])
def test_neither_padding_side_nor_batch_size_changes_a_reward(exported, name):
    _, alone = exported[name]
    for way in ("1 right", "2 right", "5 left", "2 left"):
        assert alone[way] == pytest.approx(alone["5 right"], abs=1e-4), way


def test_the_folder_says_what_it_is_and_how_texts_were_joined(run):
    run, _ = run
    info = json.loads((run.model_path / "heedful.json").read_text())
    assert info["method"] == "reward_model" and info["text"].startswith("root + prompt + response + EOS")
    assert info["reward_offset_is_mean_over"] == "8 demonstrations" and info["max_length"] == 256
    config = json.loads((run.model_path / "config.json").read_text())
    assert config["architectures"] == ["GPT2ForSequenceClassification"] and config["pad_token_id"] == 0
    assert not (run.model_path / "generation_config.json").exists()


@pytest.mark.parametrize("name", PADS)
def test_a_base_without_its_own_pad_token_gets_an_unused_id(exported, name):
    path, _ = exported[name]
    tokenizer = load_tokenizer(path)
    assert tokenizer.pad_token_id not in letters(**PADS[name]).get_vocab().values()
    config = json.loads((path / "config.json").read_text())
    assert config["pad_token_id"] == tokenizer.pad_token_id == len(tokenizer) - 1
    assert config["vocab_size"] == len(tokenizer)


def test_a_base_with_its_own_pad_token_keeps_it(run):
    assert load_tokenizer(run[0].model_path).pad_token == "<pad>"


def test_a_model_that_transformers_has_no_classifier_for_is_refused_before_training(tmp_path):
    with pytest.raises(RunError, match="no sequence classifier for MambaForCausalLM"):
        train(tmp_path, compared_feedback(8), name="mamba", settings={"max_length": 64})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["gpt2", "llama"])  # with tied and with untied embeddings
def test_a_reward_model_is_not_taken_for_one_that_writes(exported, name):
    with pytest.raises(RunError, match="a reward model, which writes no text"):
        heedful.sample(exported[name][0], ["q"])


# The scorer


def test_the_scorer_gives_what_the_model_gives_less_the_offset(run):
    run, feedback = run
    model = load_reward_model(run.model_path)
    text = model.text
    rewards = all_rewards(run.path, feedback)
    for record, values in zip(feedback, rewards):
        for response, value in zip(record.responses, values):
            ids = [
                *text.encode_prompt(record.prompt),
                *text.encode_response(response.text, finished=not response.truncated),
            ]
            own = model.policy.lm(tensor([ids])).logits.item() - model.offset
            assert value == pytest.approx(own, abs=1e-4)


def test_a_scorer_reads_several_responses_to_a_prompt_as_one_by_one(run):
    scorer = load_scorer(str(run[0].path))
    items = [Item("a prompt that is longer than its answers\n", text, id=text) for text in ("a", "bb", "ccc", "dddd")]
    together = [score.value for score in scorer.score_batch(items)]
    assert together == pytest.approx([scorer.score(item).value for item in items], abs=1e-5)


def test_the_version_follows_the_weights_and_both_folders_are_the_model(run, tmp_path):
    run, _ = run
    one = load_scorer(str(run.path))
    assert (one.name, len(one.version)) == ("reward_model", 12)
    assert load_scorer(str(run.model_path)).version == one.version
    other = shutil.copytree(run.model_path, tmp_path / "other")
    assert load_scorer(str(other)).version == one.version
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    assert load_scorer(str(other)).version != one.version


@pytest.mark.parametrize("name", ["tokenizer.json", "heedful.json", "config.json"])
def test_the_version_follows_how_text_is_read(run, tmp_path, name):
    one = load_scorer(str(run[0].path))
    other = shutil.copytree(run[0].model_path, tmp_path / "other")
    (other / name).write_bytes((other / name).read_bytes() + b"\n")
    assert load_scorer(str(other)).version != one.version


def test_the_offset_is_of_records_that_fit_however_few_they_are(tmp_path, monkeypatch):
    """Every second record is too long: whoever looked at every second one only would find none."""
    monkeypatch.setattr("heedful.reward.CENTRED_BY", 4)
    fits, long = compared_feedback(8), [replace(r, prompt="x" * 300, id=f"{r.id}l") for r in compared_feedback(8)]
    mixed = [record for pair in zip(long, fits) for record in pair]
    run = train(tmp_path, mixed)
    assert math.isfinite(load_reward_model(run.model_path).offset)


def test_a_response_that_was_cut_is_read_without_eos_and_cached_apart(run, tmp_path):
    scorer = load_scorer(str(run[0].path))
    items = [Item("q\n", "ab", id="a"), Item("q\n", "ab", id="b", truncated=True)]
    first = score_all(scorer, items, cache=tmp_path / "cache.jsonl")
    assert first[0].value != first[1].value
    assert score_all(scorer, items, cache=tmp_path / "cache.jsonl") == first


def test_a_response_beyond_the_context_is_cut_with_a_word(run):
    scorer = load_scorer(str(run[0].path))
    with pytest.warns(UserWarning, match="1 of 2 responses cut to 256 tokens"):
        long, _ = scorer.score_batch([Item("q\n", "ab" * 200, id="a"), Item("q\n", "ab", id="b")])
    with pytest.warns(UserWarning):
        assert long.value == pytest.approx(scorer.score(Item("q\n", "ab" * 300)).value)


def test_a_prompt_beyond_the_context_is_an_error_that_names_it(run):
    with pytest.raises(DataError, match=r"r7#0.*no room"):
        load_scorer(str(run[0].path)).score(Item("q" * 300, "ab", id="r7#0"))


def test_a_conversation_is_read_as_the_models_template_makes_it(tmp_path):
    tokenizer = letters()
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'][0] }}:{{ m['content'] }}\n{% endfor %}a:"
    spoken = [replace(r, prompt=(Message("user", str(r.prompt)),)) for r in compared_feedback(8)]
    run = train(tmp_path, spoken, tokenizer=tokenizer, settings={"budget": {"steps": 2}})
    model = load_reward_model(run.model_path)
    (record, *_), ((value, *_), *_) = spoken, all_rewards(run.path, spoken)
    ids = tokenizer(f"u:{record.prompt[0].content}\na:", add_special_tokens=False).input_ids
    ids += model.text.encode_response(record.responses[0].text)
    assert value == pytest.approx(model.policy.lm(tensor([ids])).logits.item() - model.offset, abs=1e-4)


def test_what_is_no_reward_model_is_refused_by_name(run, tmp_path):
    with pytest.raises(ConfigError, match="GPT2LMHeadModel, which is no reward model"):
        load_scorer(str(base(tmp_path)))
    with pytest.raises(ConfigError, match="holds no model"):
        load_scorer(str(run[0].path / "checkpoints"))


def test_a_reward_model_judges_and_chooses(run, tmp_path):
    run, _ = run
    lm = base(tmp_path)
    (best,) = heedful.sample(lm, ["q1\n"], k=4, best_by=str(run.path), sampling=heedful.Sampling(max_tokens=4))
    (four,) = heedful.sample(lm, ["q1\n"], k=4, sampling=heedful.Sampling(max_tokens=4))
    values = [response.scores[0].value for response in heedful.score([four], str(run.path))[0].responses]
    assert best.responses[0].scores[0].value == pytest.approx(max(values), abs=1e-5)


# Segments


def test_segments_have_what_they_add_to_the_reward(run):
    run, _ = run
    parts = ("ab", "cd", "x")
    record = Feedback("q\n", (Response("abcdx", segments=tuple(Segment(part, 0.0) for part in parts)),), id="a")
    (scored,) = score_segments([record], str(run.path))
    steps = [segment.score for segment in scored.responses[0].segments]
    model = load_reward_model(run.model_path)
    cut = [model.rewards([Reply("q\n", parts[:n], False, "")])[0][-1] for n in (1, 2)]
    whole = model.rewards([Reply("q\n", parts, True, "")])[0][-1]
    assert steps == pytest.approx([cut[0], cut[1] - cut[0], whole - cut[1]], abs=1e-5)
    assert heedful.score([record], str(run.path))[0].responses[0].scores[0].value == pytest.approx(sum(steps), abs=1e-5)


def test_only_a_reward_model_scores_segments(run):
    with pytest.raises(ConfigError, match="pep8_lines scores no segments"):
        score_segments([], "pep8_lines")
    with pytest.raises(DataError, match="no response has segments"):
        score_segments([ranked(1, 2)], str(run[0].path))


# A known reward


def spearman(one, other):
    ranks = [{n: rank for rank, n in enumerate(sorted(range(len(x)), key=x.__getitem__))} for x in (one, other)]
    size = len(one)
    return 1 - 6 * sum((ranks[0][n] - ranks[1][n]) ** 2 for n in range(size)) / (size * (size**2 - 1))


@pytest.mark.slow
def test_two_thousand_comparisons_recover_a_known_reward(tmp_path):
    rng = random.Random(0)
    worth = {letter: rng.gauss(0, 1) for letter in "abcdefgh"}
    truth = lambda text: sum(worth[letter] for letter in text)  # noqa: E731
    draw = lambda: "".join(rng.choices("abcdefgh", k=rng.randint(3, 8)))  # noqa: E731

    def judged(n):
        one, other = draw(), draw()
        is_first = rng.random() < 1 / (1 + math.exp(truth(other) - truth(one)))
        return Feedback("?", (Response(one, rank=2 - is_first), Response(other, rank=1 + is_first)), id=str(n))

    settings = {"optim": {"lr": 3e-3}, "budget": {"epochs": 4}, "batch_size": 32, "validation": 0.1}
    run = train(tmp_path, [judged(n) for n in range(2000)], name="llama", settings=settings)
    texts = [draw() for _ in range(300)]
    found = [score.value for score in score_all(load_scorer(str(run.path)), [Item("?", text) for text in texts])]
    assert spearman(found, [truth(text) for text in texts]) >= 0.95


def test_a_reward_at_each_token_is_that_of_the_text_so_far(run):
    model = load_reward_model(run[0].model_path)
    (group,) = build("reward_model", [ranked(1, 2)], text=model.text).groups
    for branch, values in zip(group.branches, token_rewards(model.policy, [group])[0]):
        for n in range(1, len(branch.tokens) + 1):
            ids = tensor([[*group.prompt, *branch.tokens[:n]]])
            assert values[n - 1].item() == pytest.approx(model.policy.lm(ids).logits.item(), abs=1e-4)


def test_the_module_of_the_scorer_needs_no_torch():
    code = "import sys, heedful.scorers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_the_command_line_scores_responses_and_segments(run, tmp_path):
    rows = [{"id": "a", "prompt": "q\n", "responses": [{"text": "abc", "segments": [{"text": "ab", "score": 0.0}]}]}]
    rows[0]["responses"][0]["segments"].append({"text": "c", "score": 0.0})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["score", str(tmp_path / "rows.jsonl"), "--with", str(run[0].path), "--json", "--quiet"]
    whole = CliRunner().invoke(app, command)
    parts = CliRunner().invoke(app, [*command, "--segments", "--out", str(tmp_path / "scored.jsonl")])
    assert json.loads(whole.stdout)["scored"] == "responses" and json.loads(whole.stdout)["score"]["num"] == 1
    assert json.loads(parts.stdout)["scored"] == "segments" and json.loads(parts.stdout)["score"]["num"] == 2
    (record,) = heedful.load_feedback(tmp_path / "scored.jsonl")
    steps = [segment.score for segment in record.responses[0].segments]
    assert sum(steps) == pytest.approx(json.loads(whole.stdout)["score"]["median"], abs=1e-4)
