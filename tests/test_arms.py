"""What a comparison trains by name, and what it trains before."""

import pytest

import heedful
from heedful.arms import Arm, read_arms
from heedful.disk import read_lines
from heedful.errors import ConfigError
from heedful.tasks.pep8.task import PEP8
from heedful.training import learnable, read_settings

TASK = PEP8(split="selection", num_prompts=2)


def test_an_arm_is_a_method_or_one_of_its_variants():
    assert read_arms(["dpo", "sft/labelers"], TASK) == [Arm("dpo"), Arm("sft", "labelers")]
    assert Arm("dpo").name == "dpo" and Arm("sft", "labelers").name == "sft/labelers"


def test_without_names_the_arms_are_the_tasks_and_all_is_all_it_has():
    assert [arm.name for arm in read_arms(None, TASK)] == list(TASK.methods)
    assert [arm.name for arm in read_arms(["all"], TASK)] == list(TASK.every)
    assert set(TASK.methods) < set(TASK.every)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["dpoo"], "did you mean 'dpo'"),
        (["sft/labeler"], "did you mean 'sft/labelers'"),
        (["dpo/labelers"], "unknown method 'dpo/labelers'"),
        (["reward_model"], "best_of_n/reward_model answers with it"),
        (["dpo", "dpo"], "each method once"),
        ([], "found none"),
    ],
)
def test_a_name_that_is_no_arm_is_refused(names, message):
    with pytest.raises(ConfigError, match=message):
        read_arms(names, TASK)


@pytest.mark.parametrize(
    ("method", "judge", "tier"),
    [
        ("dpo", None, 1),
        ("slic_hf", None, 1),
        ("slic_hf", "reward_model", 2),
        ("slic_hf", ".", 2),
        ("slic_hf", "pep8_lines", 3),
    ],
)
def test_the_tier_is_what_judges(method, judge, tier):
    settings = {"method": {"judge": judge}} if judge else {}
    assert Arm(method).tier(settings) == tier
    assert Arm("best_of_n", "reward_model").tier({}) == 2


def test_what_an_arm_needs_is_a_setting_that_names_a_method():
    assert Arm("slic_hf").needs({"method": {"judge": "ranker"}}) == {"judge": "ranker"}
    assert Arm("slic_hf").needs({"method": {"judge": "runs/ranker"}}) == {}
    assert Arm("slic_hf", "sample_rank").needs(TASK.settings("slic_hf/sample_rank")) == {"judge": "reward_model"}
    assert Arm("dpo").needs({}) == {}


@pytest.mark.slow
def test_where_the_reward_model_fails_the_rows_that_do_not_need_it_stand(tmp_path):
    arms, budget = ["best_of_n/reward_model", "mle"], {"tokens": 2000, "labels": 1}  # every comparison has more labels
    found = heedful.compare(PEP8(split="selection", num_prompts=2), methods=arms, out=tmp_path, budget=budget)
    status = {row.name: row.status for row in found.rows}
    assert status.pop("best_of_n-reward_model-s0") == "failed"
    assert "failed" not in status.values() and "mle-s0" in status


def test_every_arm_has_feedback_it_can_learn_from():
    for arm in read_arms(["all"], TASK):
        settings = TASK.settings(arm.name)
        if not arm.needs(settings):
            assert learnable(arm.method, TASK.feedback(arm.name), read_settings(arm.method, settings)[1])


def test_a_variant_reads_the_labelers_and_its_method_other_text():
    assert TASK.feedback("sft")[0].responses[0].demonstration
    assert TASK.feedback("sft/labelers") == TASK.feedback("dpo")
    assert TASK.feedback("mle/labelers") == TASK.feedback("dpo") != TASK.feedback("mle")


@pytest.mark.slow
def test_a_reward_model_is_trained_once_and_all_rows_are_measured_by_it(tmp_path):
    arms = ["best_of_n/reward_model", "sft/labelers"]
    options = {"methods": arms, "out": tmp_path, "budget": {"tokens": 4000}}
    heedful.compare(PEP8(split="selection", num_prompts=2), **options)
    trained = tmp_path / "needs" / "reward_model-s0"
    before = (trained / "manifest.json").read_bytes()
    found = heedful.compare(PEP8(split="selection", num_prompts=2), resume=True, **options)
    assert (trained / "manifest.json").read_bytes() == before
    rows = {row.name: row for row in found.rows}
    assert all("reward" in row.metrics for row in rows.values())
    best, sft = rows["best_of_n-reward_model-s0"], rows["sft-labelers-s0"]
    assert best.tier == 2 and sft.tier == 1
    cost = best.ledger.prerequisites["reward_model"]
    assert 0 < best.ledger.train_tokens == cost.train_tokens < 4700  # the budget, and at most a row
    assert best.ledger.labels > sft.ledger.labels > 0 and not sft.ledger.prerequisites  # SFT reads good records only
    assert best.metrics["reward"].value > rows["base-s0"].metrics["reward"].value
    picked = read_lines(tmp_path / "samples" / "best_of_n-reward_model-s0.jsonl")
    assert [sample["reward"] for sample in picked] and best.ledger.scorer_calls == {"reward_model": 32}
