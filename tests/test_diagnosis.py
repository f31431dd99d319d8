"""Planted failures in the curves of a run, and what is said of them."""

import pytest

from heedful.diagnosis import diagnose


def healthy(size: int = 12) -> list[dict]:
    """A run as it should be: two steps a round, the reward rises with the KL."""
    lines: list[dict] = []
    for n in range(size):
        lines += [
            {
                "round": n,
                "step": 2 * n,
                "reward": 0.1 * n,
                "reward_std": 0.4,
                "kl_to_start": 0.3 * n,
                "response_tokens": 40.0 + n % 3,
                "ended": 0.9,
                "entropy": 2.0 - 0.02 * n,
                "logp_mismatch": 1e-5,
                "explained_variance": -1.0 + 0.2 * n,
            },
            {"step": 2 * n + 1, "learning_rate": 1e-5, "approx_kl": 1e-10, "clip_fraction": 0.0},
            {"step": 2 * n + 2, "learning_rate": 1e-5, "approx_kl": 0.01, "clip_fraction": 0.05},
        ]
    return lines


def planted(name: str, value, since: int = 0) -> list[dict]:
    """A healthy run whose rounds, or steps, have another value from round `since` on."""
    lines = healthy()
    for line in lines:
        if name in line and line["step"] >= 2 * since:
            line[name] = value(line) if callable(value) else value
    return lines


def names(lines):
    return [finding.name for finding in diagnose(lines)]


def test_of_a_healthy_run_nothing_is_said():
    assert diagnose(healthy()) == []
    assert diagnose(healthy(1)) == []


def test_of_a_run_without_rounds_nothing_is_said():
    assert diagnose([{"step": 1, "loss": 2.0}]) == []


@pytest.mark.parametrize(
    ("name", "value", "expected", "saw"),
    [
        ("reward_std", 0.0, "equal rewards", "all responses of a round have the reward 0.4"),
        ("kl_to_start", -0.5, "negative KL", "-0.50 nats"),
        ("logp_mismatch", 0.7, "sampler and trainer disagree", "up to 0.70 nats"),
        ("ended", 0.0, "no response ends", "cut at 41 tokens"),
        ("clip_fraction", 0.5, "steps are too long", "50% of the tokens"),
        ("entropy", 0.3, "the entropy has collapsed", "from 2.00 to 0.30"),
        ("response_tokens", 90.0, "length drift", "from 41 to 90 tokens"),
        ("approx_kl", 0.02, "the first ratio is not 1", "2.0e-02 in the first step"),
    ],
)
def test_a_planted_failure_is_named_with_its_step(name, value, expected, saw):
    (found,) = diagnose(planted(name, value, since=4))
    assert (found.name, found.since) == (expected, 9 if name == "approx_kl" else 8)
    assert saw in found.saw
    assert found.causes and found.change


def test_a_reward_that_stays_while_the_kl_grows_is_saturated():
    (found,) = diagnose(planted("reward", 0.4, since=4))
    assert found.name == "the reward has stopped rising"
    assert "0.400 in the middle third" in found.saw


def test_a_reward_that_stays_with_the_kl_is_not():
    lines = planted("reward", 0.4, since=4)
    for line in lines:
        if "round" in line:
            line["kl_to_start"] = min(line["kl_to_start"], 1.2)
    assert diagnose(lines) == []


def test_values_that_are_worse_than_one_number_are_named():
    (found,) = diagnose(planted("explained_variance", -0.3))
    assert found.name == "the values explain nothing"


def test_one_negative_round_is_chance():
    lines = healthy()
    lines[0]["kl_to_start"] = -0.5
    assert diagnose(lines) == []


def test_a_round_of_another_method_is_read_as_far_as_it_goes():
    assert diagnose([{"round": 0, "step": 0, "accuracy": 0.4}]) == []
    assert names([{"round": 0, "step": 0, "accuracy": 0.0}]) == ["one verdict"]
