"""Golden trajectories: twenty steps of each method on a tiny GPT-2 in float64, one thread, as they were.

A number that moves needs a reason in the commit. To write them anew: python tests/methods/test_golden.py --update
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny_methods import VARIANTS, build_variant, feedback_for, fresh, steps

GOLDEN = Path(__file__).parents[1] / "golden"
STEPS = 20
RELATIVE = 1e-9


def drawn(model: torch.nn.Module) -> torch.nn.Module:
    """Weights from numpy, whose normals are the same on every processor; torch's are not."""
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            offset = 1.0 if "ln_" in name and name.endswith("weight") else 0.0
            p.copy_(torch.from_numpy(offset + 0.2 * rng.standard_normal(tuple(p.shape))))
    return model


def trajectory(variant: str) -> dict:
    """What each step logs, the rows' tokens in brief, and two numbers for each weight that is left at the end."""
    built = build_variant(variant, feedback_for(variant))
    optim = {"lr": 1e-3, "warmup": 0.1, "decay": "linear"}
    logged, model = steps(built, STEPS, model=drawn(fresh(built)), optim=optim, micro_tokens=64)
    tokens = [token for group in built.groups for branch in group.branches for token in (*group.prompt, *branch.tokens)]
    weights = {name: [p.sum().item(), p.square().sum().item()] for name, p in model.named_parameters()}
    checksum = sum((n + 1) * token for n, token in enumerate(tokens))
    return {"rows": [len(built.groups), len(tokens), checksum], "steps": logged, "weights": weights}


def near(value, path=""):
    """The same structure with numbers that compare within `RELATIVE`."""
    if isinstance(value, dict):
        return {key: near(item) for key, item in value.items()}
    if isinstance(value, list):
        return [near(item) for item in value]
    return pytest.approx(value, rel=RELATIVE, abs=1e-12)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("variant", VARIANTS)
def test_twenty_steps_are_what_they_were(variant):
    expected = json.loads((GOLDEN / f"{variant}.json").read_text())
    found = trajectory(variant)
    assert found["rows"] == expected["rows"], "the targets give other rows than before"
    for number, (now, before) in enumerate(zip(found["steps"], expected["steps"], strict=True), 1):
        assert now == near(before), f"step {number}"
    assert found["weights"] == near(expected["weights"])


def test_every_golden_file_belongs_to_a_method():
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(VARIANTS)


if __name__ == "__main__":
    if sys.argv[1:] != ["--update"]:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    for name in VARIANTS:
        (GOLDEN / f"{name}.json").write_text(json.dumps(trajectory(name), indent=1) + "\n")
        print("wrote", GOLDEN.name, name)
