"""The ranker: what it learns, what is exported, and how it scores and judges."""

import json
import math
import shutil
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from models import tiny
from tiny_methods import build, compared_feedback, good_and_bad, steps
from tiny_text import letters
from torch import tensor
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

import heedful
from heedful.batch import collate
from heedful.cli import app
from heedful.disk import read_lines
from heedful.errors import ConfigError, DataError
from heedful.method import Outputs
from heedful.models import load_tokenizer
from heedful.ranker import Question, load_ranker
from heedful.records import Feedback, Message, Response
from heedful.scorers import Comparer, Item, load_scorer, score_all
from heedful.scorers.protocol import BatchScorer
from heedful.text import Text
from heedful.verdict import FORMS

pytestmark = pytest.mark.usefixtures("one_thread")

FORM_NAMES = list(FORMS)
SETTINGS = {"batch_size": 8, "optim": {"lr": 3e-3}, "dtype": "float32", "validation": 0.2, "eval_every": 4}
PAIR = ("ab", "cd")


def base(folder, name="llama"):
    tokenizer = letters()
    tiny(name, vocab_size=max(99, len(tokenizer))).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    return folder / "base"


def train(folder, feedback, *, steps=12, name="llama", **method):
    settings = SETTINGS | {"budget": {"steps": steps}, "method": method}
    return heedful.train(
        "ranker", model=base(folder, name), feedback=feedback, out=folder / "run", settings=settings, command=[]
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of each form, barely trained, so that probabilities are neither 0 nor 1."""
    torch.set_num_threads(1)
    return {form: train(tmp_path_factory.mktemp(form), compared_feedback(16), form=form) for form in FORM_NAMES}


# The objective


def terms(feedback, odds, **config):
    """The divided terms, by name, where each question's first verdict has these log-odds and both have mass 1."""
    built = build("ranker", feedback, **config)
    batch = collate(built.groups, tree=True, dtype=torch.float64)
    logp = torch.zeros(batch.tokens.shape, dtype=torch.float64)
    for n, value in enumerate(odds):
        first, second = batch.last[2 * n], batch.last[2 * n + 1]
        logp.view(-1)[first], logp.view(-1)[second] = (
            torch.nn.functional.logsigmoid(tensor(x)) for x in (value, -value)
        )
    assert len(built.groups) == len(odds)
    return {
        t.name: (t.total / batch.read(t.per).sum()).item()
        for t in (s(Outputs(logp), batch) for s in built.method.objective)
    }


def test_the_loss_is_the_mean_nll_of_the_right_verdict_and_accuracy_the_share_of_right_ones():
    feedback = [Feedback("q", (Response("u", rank=1), Response("v", rank=2)), id="a")]
    found = terms(feedback, [0.4, 0.8], orders="both")  # right: A, then B
    expected = (math.log1p(math.exp(-0.4)) + math.log1p(math.exp(0.8))) / 2
    assert found == {"nll": pytest.approx(expected), "accuracy": 0.5}


def test_the_pointwise_loss_is_that_of_two_examples_a_pair():
    feedback = [Feedback("q", tuple(Response("uvw"[n], rank=n + 1) for n in range(3)), id="a")]
    good = [math.log1p(math.exp(-x)) for x in (1.0, 0.3, -2.0)]
    bad = [math.log1p(math.exp(x)) for x in (1.0, 0.3, -2.0)]
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = sum(good[better] + bad[worse] for better, worse in pairs) / 6
    assert terms(feedback, [1.0, 0.3, -2.0], form="pointwise") == {
        "nll": pytest.approx(expected),
        "accuracy": pytest.approx(5 / 6),
    }


@pytest.mark.parametrize("form", FORM_NAMES)
def test_it_learns_twenty_comparisons_by_heart(form):
    logged, _ = steps(build("ranker", good_and_bad(), form=form), 60, optim={"lr": 1e-2, "warmup": 0.1})
    assert logged[-1]["nll"] < 0.02 and logged[-1]["accuracy"] == pytest.approx(1.0)


def test_both_orders_belong_to_two_responses():
    with pytest.raises(ConfigError, match="only pairwise shows two responses"):
        build("ranker", compared_feedback(4), form="pointwise", orders="both")


# The run


def test_the_checkpoint_is_chosen_by_accuracy_on_held_out_comparisons(runs):
    for run in runs.values():
        found = [line["eval_accuracy"] for line in run.metrics() if "eval_accuracy" in line]
        assert len(found) == 3 and run.manifest["metrics"]["eval_accuracy"] == max(found)


def test_a_ranker_writes_no_samples_while_it_learns(runs):
    for run in runs.values():
        assert not (run.path / "samples.jsonl").exists() or read_lines(run.path / "samples.jsonl") == []


def test_the_folder_is_a_plain_causal_model_that_says_how_to_ask_it(runs):
    for name, run in runs.items():
        info = json.loads((run.model_path / "heedful.json").read_text())
        asked = info["ranker"]
        assert (asked["form"], info["max_length"]) == (name, 256)
        lm, tokenizer = AutoModelForCausalLM.from_pretrained(run.model_path), load_tokenizer(run.model_path)
        pieces = ["q1\n", *PAIR[: len(asked["parts"]) - 2], ""]
        text = Text(tokenizer, max_length=256)
        ids = [text.bos_id, *(id for part, piece in zip(asked["parts"], pieces) for id in text.encode(part + piece))]
        with torch.no_grad():
            alone = lm(tensor([ids])).logits[0, -1, list(asked["verdict_ids"])].softmax(-1)[0].item()
        ranker = load_ranker(run.model_path)
        (ours,) = ranker.probabilities([Question("q1\n", tuple(pieces[1:-1]), "a")])
        assert ours == pytest.approx(alone, abs=1e-5) and 0.001 < ours < 0.999
        assert str(asked["verdict_ids"][0]) in (run.model_path / "README.md").read_text()


# Scorers and judges


def items(*texts, prompt="q1\n"):
    return [Item(prompt, text, id=text) for text in texts]


def test_load_scorer_tells_the_folders_apart(runs, tmp_path):
    pairwise, pointwise = (load_scorer(str(runs[form].path)) for form in ("pairwise", "pointwise"))
    assert isinstance(pairwise, Comparer) and not isinstance(pairwise, BatchScorer)
    assert isinstance(pointwise, BatchScorer) and not isinstance(pointwise, Comparer)
    assert {pairwise.name, pointwise.name} == {"ranker"} and pairwise.version != pointwise.version
    with pytest.raises(ConfigError, match="LlamaForCausalLM, which is no reward model and no ranker"):
        load_scorer(str(base(tmp_path)))


def test_the_version_follows_the_weights_and_the_question(runs, tmp_path):
    before = load_scorer(str(runs["pairwise"].path)).version
    other = shutil.copytree(runs["pairwise"].model_path, tmp_path / "other")
    assert load_scorer(str(other)).version == before
    text = (other / "heedful.json").read_text()
    (other / "heedful.json").write_text(text.replace("[BETTER]", "[WHICH]"))
    assert load_scorer(str(other)).version != before


def test_s10_two_orders_averaged_sum_to_1(runs):
    scorer = load_scorer(str(runs["pairwise"].path))
    a, b, c = items("ab", "cd", "xyz")
    ab, ba, aa, bc = scorer.preferences([(a, b), (b, a), (a, a), (b, c)])
    assert ab + ba == pytest.approx(1, abs=1e-9) and aa == 0.5 and ab != 0.5
    model = scorer.model
    one, other = model.probabilities([Question("q1\n", ("ab", "cd"), ""), Question("q1\n", ("cd", "ab"), "")])
    assert one + other != pytest.approx(1, abs=1e-4)  # asked once, a place counts
    assert ab == pytest.approx((one + 1 - other) / 2) and scorer.preferences([(b, c)])[0] == pytest.approx(bc, abs=1e-6)


def test_a_response_scores_its_mean_probability_of_beating_the_others(runs):
    scorer = load_scorer(str(runs["pairwise"].path))
    several = items("ab", "cd", "xyz", "ab cd")
    chance = dict(zip(combinations(range(4), 2), scorer.preferences(list(combinations(several, 2)))))
    other = items("u", "v", prompt="q2\n")
    found = [score.value for score in score_all(scorer, [several[0], other[0], *several[1:], other[1]])]
    means = [
        sum(chance[i, j] if (i, j) in chance else 1 - chance[j, i] for j in range(4) if j != i) / 3 for i in range(4)
    ]
    assert [found[n] for n in (0, 2, 3, 4)] == pytest.approx(means, abs=1e-6)
    assert sum(means) / 4 == pytest.approx(0.5) and found[1] + found[5] == pytest.approx(1)


def test_a_response_alone_has_no_score_from_a_model_that_compares(runs, tmp_path):
    scorer = load_scorer(str(runs["pairwise"].path))
    with pytest.raises(DataError, match=r"r#1.*stands alone.*pointwise"):
        score_all(scorer, [*items("ab", "cd"), Item("q2\n", "ab", id="r#1")])
    with pytest.raises(ConfigError, match="depends on what it is compared with"):
        score_all(scorer, items("ab", "cd"), cache=tmp_path / "cache.jsonl")


def test_a_pointwise_score_is_the_probability_of_good_and_is_cached(runs, tmp_path):
    scorer = load_scorer(str(runs["pointwise"].path))
    found = score_all(scorer, items("ab", "cd"), cache=tmp_path / "cache.jsonl")
    (alone,) = load_ranker(runs["pointwise"].model_path).probabilities([Question("q1\n", ("cd",), "")])
    assert found[1].value == pytest.approx(alone, abs=1e-6) and 0 < found[0].value < 1
    assert score_all(scorer, items("ab", "cd"), cache=tmp_path / "cache.jsonl") == found


def test_a_response_beyond_the_context_is_cut_with_a_word_and_a_prompt_beyond_it_is_an_error(runs):
    scorer = load_scorer(str(runs["pairwise"].path))
    with pytest.warns(UserWarning, match="2 responses cut to 256 tokens"):
        scorer.preferences([tuple(items("ab" * 200, "cd"))])
    with pytest.raises(DataError, match=r"r7.*no room"):
        scorer.preferences([(Item("q" * 300, "ab", id="r7"), Item("q" * 300, "cd"))])


def test_a_conversation_is_judged_as_it_was_trained(tmp_path):
    spoken = [replace(r, prompt=(Message("user", str(r.prompt)),)) for r in compared_feedback(8)]
    run = train(tmp_path, spoken, steps=2)
    (record, *_) = heedful.score(spoken[:1], str(run.path))
    (asked,) = load_ranker(run.model_path).probabilities([Question("user: q0\n", ("ab0x", "ab0cdy"), "")])
    assert sum(response.scores[0].value for response in record.responses) == pytest.approx(1)
    assert 0 < asked < 1


def test_a_trained_ranker_orders_what_it_was_shown(tmp_path):
    feedback = good_and_bad()
    run = train(tmp_path, feedback, steps=80, orders="both")
    scored = heedful.score(feedback, str(run.path))
    for record in scored:
        best = max(record.responses, key=lambda response: response.scores[-1].value)
        assert best.score == 0.0


def test_the_command_line_scores_with_both(runs, tmp_path):
    rows = [{"id": "a", "prompt": "q\n", "responses": [{"text": "ab"}, {"text": "cd"}]}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for run in runs.values():
        found = CliRunner().invoke(
            app, ["score", str(tmp_path / "rows.jsonl"), "--with", str(run.path), "--json", "-q"]
        )
        assert json.loads(found.stdout)["score"]["num"] == 2 and json.loads(found.stdout)["scorer"] == "ranker"
    rows[0]["responses"].pop()
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = CliRunner().invoke(app, ["score", str(tmp_path / "rows.jsonl"), "--with", str(runs["pairwise"].path), "-q"])
    assert found.exit_code != 0
