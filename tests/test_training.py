"""From a model and settings to a run: what is made ready before the first step."""

from contextlib import ExitStack

import pytest
import torch
from models import tiny
from tiny_text import letters, scored

from heedful.errors import DataError, RunError
from heedful.export import export
from heedful.inference import sample
from heedful.records import Feedback, Message, Response
from heedful.runs import Run
from heedful.training import fingerprint, hold_out, prepare, train

FEEDBACK = [scored(("a\n", 0.0), ("b\n", -1.0), id=f"r{n}") for n in range(4)]
SETTINGS = {"validation": 0, "method": {"lines": True, "threshold": 0.0}}


@pytest.fixture
def reserved(tmp_path):
    """A function: a model whose vocabulary has control tokens with odd embeddings, exported with these needs."""
    tokenizer = letters()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|good|>", "<|bad|>"]})
    lm = tiny("llama", vocab_size=len(tokenizer))
    with torch.no_grad():
        lm.get_input_embeddings().weight[-2:] = 9.0

    def make(**info):
        return export(lm, tokenizer, tmp_path / "model", {"method": "any", **info})

    return make


def rows(model):
    prepared = prepare("conditional", model=model, feedback=FEEDBACK, settings=SETTINGS)
    return prepared.policy.lm.get_input_embeddings().weight[list(prepared.text.control_ids)]


def test_reserved_control_tokens_that_a_model_never_learned_are_new_to_it(reserved):
    good, bad = rows(reserved())
    assert good.abs().max() < 1 and not torch.equal(good, bad)


def test_control_tokens_that_a_model_learned_stay_as_they_are(reserved):
    assert (rows(reserved(line_prefix="<|good|>", suppress=["<|good|>", "<|bad|>"])) == 9.0).all()


def test_the_turns_of_a_conversation_are_held_out_together():
    def turns(number):
        first = Message("user", f"question {number}")
        second = (first, Message("assistant", "yes"), Message("user", "why?"))
        return [Feedback(prompt, (Response("so"),), id=f"{number}-{n}") for n, prompt in enumerate([(first,), second])]

    records = [record for number in range(10) for record in turns(number)]
    trained, held = hold_out(records, 0.3, 100, seed=0)
    assert len(held) == 6
    assert not {record.id.partition("-")[0] for record in trained} & {record.id.partition("-")[0] for record in held}


def test_other_records_have_another_fingerprint_and_equal_ones_the_same():
    other = [scored(("a\n", 0.0), ("b\n", -0.5), id=f"r{n}") for n in range(4)]
    again = [scored(("a\n", 0.0), ("b\n", -1.0), id=f"r{n}") for n in range(4)]
    assert fingerprint(FEEDBACK) == fingerprint(again)
    assert len({fingerprint(FEEDBACK), fingerprint(other), fingerprint(FEEDBACK[:3]), fingerprint(FEEDBACK[::-1])}) == 4


def test_a_refused_training_leaves_no_folder(reserved, tmp_path):
    with pytest.raises(DataError, match="cannot learn"):
        train("conditional", model=reserved(), feedback=[Feedback("a", (Response("b"),), id="r")], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_another_process_trains_in_is_left_alone(reserved, tmp_path, monkeypatch):
    with ExitStack() as other:

        def start_and_lose(*arguments, _start=Run.start, **settings):
            run = _start(*arguments, **settings)
            other.enter_context(run.lock())
            return run

        monkeypatch.setattr(Run, "start", start_and_lose)
        with pytest.raises(RunError, match="in use"):
            train("conditional", model=reserved(), feedback=FEEDBACK, out=tmp_path / "run", settings=SETTINGS)
    assert (tmp_path / "run" / "manifest.json").exists()


# The tokenizer


def foreign(folder, size=150):
    """A model beside a tokenizer of more tokens than it embeds."""
    tiny("llama").save_pretrained(folder)
    tokenizer = letters()
    tokenizer.add_tokens([f"word{n}" for n in range(size - len(tokenizer))])
    tokenizer.save_pretrained(folder)
    return folder


def test_a_tokenizer_of_another_model_is_refused_before_training(tmp_path):
    model = foreign(tmp_path / "model")
    with pytest.raises(RunError, match=r"the tokenizer does not match: \d+ of its tokens have no row in the model"):
        train("mle", model=model, feedback=FEEDBACK, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_of_another_model_is_refused_before_sampling(tmp_path):
    with pytest.raises(RunError, match="the tokenizer does not match"):
        sample(foreign(tmp_path / "model"), ["ab"])


def test_a_special_token_without_a_row_is_no_other_model(tmp_path):
    tokenizer = letters()
    tiny("llama", vocab_size=len(tokenizer)).save_pretrained(tmp_path / "model")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|mine|>"]})
    tokenizer.save_pretrained(tmp_path / "model")
    assert prepare("mle", model=tmp_path / "model", feedback=FEEDBACK).policy.lm


def test_a_run_is_not_resumed_with_another_tokenizer(tmp_path):
    tokenizer = letters()
    tiny("llama", vocab_size=len(tokenizer) + 4).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")

    def stop(event):
        raise KeyboardInterrupt

    def go(**how):
        return train("mle", model=tmp_path / "model", feedback=FEEDBACK, out=tmp_path / "run", command=[], **how)

    with pytest.raises(KeyboardInterrupt):
        go(progress=stop)
    tokenizer.add_tokens(["ab"])
    tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(RunError, match="the tokenizer of the base has changed since the run began"):
        go(resume=True)
