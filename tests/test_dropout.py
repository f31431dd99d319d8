"""Dropout of the base: off where numbers are held against frozen ones, on where text is imitated."""

import pytest
import torch
from models import tiny
from tiny_methods import compared_feedback
from tiny_text import letters

import heedful
from heedful.policy import switch_off_dropout

SETTINGS = {"budget": {"steps": 1}, "validation": 0.0, "dtype": "float32", "probes": 0}


def saved(folder, rate):
    tokenizer = letters()
    tiny("gpt2", vocab_size=len(tokenizer), resid_pdrop=rate, embd_pdrop=rate, attn_pdrop=rate).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("base"), 0.3)


def first_step(base, folder, name, **method):
    settings = SETTINGS | {"method": method}
    run = heedful.train(name, model=base, feedback=compared_feedback(), out=folder, settings=settings, command=[])
    return run.metrics()[0]


@pytest.mark.parametrize(("name", "at_the_start"), [("dpo", 0.6931472), ("kto", 0.5)])
def test_a_model_begins_where_it_started(base, tmp_path, name, at_the_start):
    assert first_step(base, tmp_path / "run", name)["loss"] == pytest.approx(at_the_start, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "is_dropped"),
    [("sft", True), ("slic_hf", False), ("reward_model", False), ("chain_of_hindsight", False)],
)
def test_only_imitation_keeps_the_dropout_of_its_base(base, tmp_path, name, is_dropped):
    method = {"past_token_masking": 0.05} if name == "chain_of_hindsight" else {}
    without = saved(tmp_path / "without", 0.0)
    losses = [
        first_step(model, tmp_path / f"run{n}", name, **method)["loss"] for n, model in enumerate((base, without))
    ]
    assert (losses[0] != losses[1]) is is_dropped


@pytest.mark.parametrize("name", ["gpt2", "llama", "opt", "t5"])
def test_training_then_computes_what_evaluation_does(name):
    rates = {
        "gpt2": {"resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5},
        "llama": {"attention_dropout": 0.5},
        "opt": {"dropout": 0.5, "attention_dropout": 0.5},
        "t5": {"dropout_rate": 0.5},
    }
    lm = tiny(name, **rates[name])
    ids = torch.arange(20)[None] + 5
    asked = {"decoder_input_ids": ids} if name == "t5" else {}
    read = lambda: lm(ids, use_cache=False, **asked).logits  # noqa: E731
    expected = lm.eval() and read()
    lm.train()
    torch.manual_seed(0)
    assert not torch.allclose(read(), expected, atol=1e-4)
    switch_off_dropout(lm)
    assert torch.allclose(read(), expected, atol=1e-6)


def test_the_exported_model_keeps_its_configuration(base, tmp_path):
    settings = SETTINGS | {"method": {}}
    run = heedful.train("dpo", model=base, feedback=compared_feedback(), out=tmp_path, settings=settings, command=[])
    assert heedful.disk.from_json((run.model_path / "config.json").read_bytes())["resid_pdrop"] == 0.3
