"""Log-probabilities of the start: those of the model, made once, found again, and of no other model."""

import json
import math

import pytest
import torch
from models import tiny
from tiny_methods import build, compared_feedback, good_and_bad
from tiny_text import letters

import heedful
from heedful.batch import Branch, Group, collate
from heedful.config import Training
from heedful.learner import Learner
from heedful.policy import Policy
from heedful.reference import Reference, reads_reference, with_reference
from heedful.runs import Run

pytestmark = pytest.mark.usefixtures("one_thread")

GROUPS = [
    Group("a", (1, 5), (Branch((6, 7, 8), {"mask": (1.0, 0.0, 1.0)}), Branch((9,), {"mask": (1.0,)}))),
    Group("b", (1, 5, 7, 3), (Branch((6, 7), {"mask": (1.0, 1.0)}),)),
]


def learner(**options):
    return Learner(Policy(tiny("llama")), Training(**{"dtype": "float64"} | options))


def streams(reference):
    """What a reference gives each branch of GROUPS."""
    groups = [reference(group) for group in GROUPS]
    return [[list(branch.streams["ref_logp"]) for branch in group.branches] for group in groups]


def test_each_token_has_the_log_probability_that_the_model_gives_it():
    one = learner()
    reference = Reference(one)
    reference.read(GROUPS)
    found = streams(reference)
    for group, branches in zip(GROUPS, found):
        for branch, values in zip(group.branches, branches):
            ids = torch.tensor([[*group.prompt, *branch.tokens]])
            with torch.no_grad():
                logp = one.policy.lm(ids).logits.double().log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])
            assert values == pytest.approx(logp[len(group.prompt) - 1 :, 0].tolist(), rel=1e-4)


def test_tokens_that_are_not_trained_are_read_too():
    one = learner()
    reference = Reference(one)
    reference.read(GROUPS)
    assert all(value < 0 for branch in streams(reference)[0] for value in branch)


def test_the_cut_into_micro_batches_changes_nothing():
    several, single = Reference(learner(micro_tokens=8)), Reference(learner())
    several.read(GROUPS)
    single.read(GROUPS)
    for a, b in zip(streams(several), streams(single)):
        assert all(x == pytest.approx(y, rel=1e-5) for x, y in zip(a, b))


def test_what_was_read_is_kept_and_not_read_again(tmp_path, monkeypatch):
    first = Reference(learner(), tmp_path)
    first.read(GROUPS)
    monkeypatch.setattr(Learner, "read", lambda self, groups: [] if not groups else pytest.fail("read again"))
    second = Reference(learner(), tmp_path)
    second.read(GROUPS)
    assert streams(second) == streams(first)


def test_a_damaged_file_is_read_again(tmp_path, caplog):
    first = Reference(learner(), tmp_path)
    first.read(GROUPS)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    second = Reference(learner(), tmp_path)
    assert "reading the start again" in caplog.text and second.known == {}
    second.read(GROUPS)
    assert streams(second) == streams(first)


def test_another_model_finds_nothing_of_the_first(tmp_path):
    Reference(learner(), tmp_path).read(GROUPS)
    other = learner()
    with torch.no_grad():
        next(other.policy.lm.parameters()).add_(0.01)
    assert Reference(other, tmp_path).known == {}
    assert Reference(learner(dtype="bfloat16"), tmp_path).known == {}  # nor does another precision
    assert Reference(learner(), tmp_path).known


def test_a_loss_on_the_ratio_to_the_start_begins_where_it_must():
    built = build("dpo", good_and_bad())
    one = learner(dtype="float32")
    method, _, _ = with_reference(built.method, built.method.source.collect(0), (), one, None, list)
    logged = one.update([(method.objective, list(method.targets(())))], 0.0)
    assert logged["dpo_sigmoid"] == pytest.approx(math.log(2), rel=1e-6)


def test_only_rows_that_will_be_trained_are_read():
    built = build("dpo", good_and_bad())
    method, (held,), num_tokens = with_reference(
        built.method, built.method.source.collect(0), built.groups[2:3], learner(), None, lambda groups: groups[:1]
    )
    first, *others = method.targets(())
    assert "ref_logp" in first.branches[0].streams and "ref_logp" in held.branches[0].streams
    assert all("ref_logp" not in branch.streams for group in others for branch in group.branches)
    assert num_tokens == built.groups[0].num_tokens + built.groups[2].num_tokens


def test_reads_reference_is_true_of_the_methods_with_a_reference():
    assert reads_reference(build("dpo", good_and_bad()).method)
    assert reads_reference(build("kto", good_and_bad()).method)
    assert not reads_reference(build("slic_hf", good_and_bad()).method)


def test_a_row_carries_the_stream_beside_its_own():
    reference = Reference(learner())
    reference.read(GROUPS)
    batch = collate([reference(group) for group in GROUPS], tree=True)
    assert set(batch.streams) == {"mask", "ref_logp"}


def test_a_resumed_run_is_measured_from_its_start_and_ends_as_if_it_had_not_stopped(tmp_path):
    tokenizer = letters(merges=[("a", "b"), ("c", "d")])
    tiny("gpt2", vocab_size=len(tokenizer)).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    settings = {"dtype": "float32", "batch_size": 4, "save_every": 3, "validation": 0.2, "optim": {"lr": 1e-3}}
    options = {"model": tmp_path / "base", "feedback": compared_feedback(12), "command": []}

    def train(name, steps, **more):
        return heedful.train(
            "dpo", out=tmp_path / name, settings=settings | {"budget": {"steps": steps}}, **options, **more
        )

    whole = train("whole", 9)

    class Enough(Exception):
        pass

    def stop(event):
        if event["step"] == 4:
            raise Enough

    with pytest.raises(Enough):
        train("cut", 9, progress=stop)
    (tmp_path / "cut" / "reference").rename(tmp_path / "lost")  # it is made again, from the start
    again = train("cut", 9, resume=True)
    read = [[{k: v for k, v in line.items() if k != "seconds"} for line in run.metrics()] for run in (whole, again)]
    assert read[0] == read[1]
    weights = [(run.model_path / "model.safetensors").read_bytes() for run in (whole, again)]
    assert weights[0] == weights[1]
    assert Run(tmp_path / "cut").manifest["ledger"]["frozen_tokens"] > 0
    assert json.loads(json.dumps(again.manifest))["ledger"]["flops"] > 0
