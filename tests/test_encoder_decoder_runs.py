"""An encoder-decoder from folder to folder: what is loaded and what refused, a run, its model without heedful."""

import json
import subprocess
import sys

import pytest
import torch
from models import ENCODER_DECODERS, PAD, VOCAB, tiny
from tiny_methods import compared_feedback, good_and_bad
from tiny_text import letters, like_t5
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification, AutoTokenizer

import heedful
from heedful.errors import RunError
from heedful.export import export, load_info
from heedful.models import load, load_text
from heedful.policy import fit_vocabulary
from heedful.sampling import Sampling
from heedful.scorers import Item, load_scorer
from heedful.training import T5_LENGTH, require_context

pytestmark = pytest.mark.usefixtures("one_thread")
START, GOOD = PAD, 4


def folder(path, name="t5", **overrides):
    """A tiny model and its tokenizer, which has no BOS, as T5's."""
    tiny(name, **overrides).save_pretrained(path)
    letters(bos_token=None).save_pretrained(path)
    return path


def logits(lm):
    return lm(input_ids=torch.tensor([[5, 6, 7, 2]]), decoder_input_ids=torch.tensor([[START, 8, 9]])).logits


# ---- loading


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_the_whole_family_loads(tmp_path, name):
    policy = load(folder(tmp_path, name))
    assert policy.reads_trees and torch.equal(logits(policy.lm), logits(tiny(name)))


def test_the_text_of_a_model_knows_whether_it_has_an_encoder(tmp_path):
    assert load_text(folder(tmp_path / "t5")).start_id == START
    tiny("llama").save_pretrained(tmp_path / "llama")
    letters().save_pretrained(tmp_path / "llama")
    assert load_text(tmp_path / "llama").start_id is None


def test_another_kind_of_encoder_decoder_is_refused_with_what_is_read(tmp_path):
    shape = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": VOCAB}
    config = AutoConfig.for_model("bart", encoder_attention_heads=2, decoder_attention_heads=2, **shape)
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(
        RunError, match=r"an encoder-decoder of the type bart: expected t5, mt5, umt5, longt5, .* only a"
    ):
        load(tmp_path)


@pytest.mark.parametrize("token", [None, 2])  # EOS stands in prompts
def test_a_decoder_that_does_not_say_where_it_starts_is_refused(tmp_path, token):
    folder(tmp_path, decoder_start_token_id=token)
    with pytest.raises(RunError, match=f"its decoder_start_token_id is {token}: expected a token that no text has"):
        load(tmp_path)


def test_a_classifier_of_the_family_is_no_model_that_writes(tmp_path):
    config = tiny("t5").config
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(RunError, match="a reward model, which writes no text: expected an encoder-decoder"):
        load(tmp_path)


def test_its_positions_are_relative_and_a_length_is_a_choice(tmp_path):
    policy = load(folder(tmp_path))
    assert require_context(policy) == T5_LENGTH == 1024 and require_context(policy, 5000) == 5000


def test_an_lm_head_of_its_own_is_not_tied_when_the_vocabulary_grows():
    lm = tiny("t5_v1_1")
    before = lm.lm_head.weight.detach().clone()
    fit_vocabulary(lm, VOCAB + 2)
    assert torch.equal(lm.lm_head.weight[:VOCAB], before) and not torch.equal(lm.shared.weight[:VOCAB], before)
    assert lm.config.tie_word_embeddings and len(lm.lm_head.weight) == VOCAB + 2 == lm.config.vocab_size


# ---- a run


SETTINGS = {"budget": {"steps": 6}, "batch_size": 4, "dtype": "float32", "eval_every": 3, "save_every": 2, "probes": 2}


def train(method, path, name="t5", *, settings=SETTINGS):
    base = folder(path / "base", name, dropout_rate=0.1)
    options = {"model": base, "feedback": compared_feedback(12), "settings": settings}
    return heedful.train(method, out=path / method, **options)


@pytest.mark.parametrize("method", ["sft", "slic_hf"])
def test_a_run_ends_in_a_model_that_another_run_goes_on_from(tmp_path, method):
    run = train(method, tmp_path)
    assert {"eval_loss", "probe_length"} <= run.manifest["metrics"].keys()
    (answer,) = heedful.sample(run.model_path, ["q1\n"], k=2, sampling=Sampling(max_tokens=4))
    assert len(answer.responses) == 2
    settings = {**SETTINGS, "budget": {"steps": 1}}
    more = heedful.train(
        "dpo", model=run.model_path, feedback=compared_feedback(8), out=tmp_path / "b", settings=settings
    )
    assert AutoTokenizer.from_pretrained(more.model_path)("ab").input_ids[-1] == 2  # one EOS, not two
    assert AutoTokenizer.from_pretrained(more.model_path)("ab").input_ids[-2] != 2


class Stop(BaseException):
    """A process that is gone."""


@pytest.mark.parametrize("name", ["t5", "t5_v1_1"])
def test_a_run_that_was_killed_ends_bit_identical(tmp_path, name):
    def die(event):
        if event["step"] == 3:
            raise Stop

    whole = train("slic_hf", tmp_path / "whole", name)
    base, feedback = folder(tmp_path / "cut" / "base", name, dropout_rate=0.1), compared_feedback(12)
    options = {"model": base, "feedback": feedback, "settings": SETTINGS, "out": tmp_path / "cut" / "slic_hf"}
    with pytest.raises(Stop):
        heedful.train("slic_hf", progress=die, **options)
    cut = heedful.train("slic_hf", resume=True, **options)
    ours, theirs = load(cut.model_path).lm.state_dict(), load(whole.model_path).lm.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("form", ["pairwise", "pointwise"])
def test_a_ranker_asks_the_encoder_and_its_decoder_answers(tmp_path, form):
    run = train("ranker", tmp_path, settings=SETTINGS | {"method": {"form": form}, "max_length": 128})
    scorer = load_scorer(str(run.path))
    if form == "pairwise":
        (ours,) = scorer.preferences([(Item("q1\n", "ab"), Item("q1\n", "cd"))])
    else:
        ours = scorer.score(Item("q1\n", "ab")).value
    asked, lm = load_info(run.model_path)["ranker"], AutoModelForSeq2SeqLM.from_pretrained(run.model_path)
    tokenizer = AutoTokenizer.from_pretrained(run.model_path)

    def theirs(*pieces):
        joined = "".join(part + piece for part, piece in zip(asked["parts"], ["q1\n", *pieces, ""]))
        ids = tokenizer(joined, return_tensors="pt").input_ids
        found = lm(input_ids=ids, decoder_input_ids=torch.tensor([[START]])).logits[0, -1, list(asked["verdict_ids"])]
        return found.softmax(-1)[0].item()

    expected = (theirs("ab", "cd") + 1 - theirs("cd", "ab")) / 2 if form == "pairwise" else theirs("ab")
    assert ours == pytest.approx(expected, abs=1e-5)
    card = (run.model_path / "README.md").read_text()
    assert "AutoModelForSeq2SeqLM" in card and "decoder_input_ids=torch.tensor([[0]])" in card


def test_its_samples_are_ranked_by_a_ranker_of_its_kind(tmp_path):
    ranker = train("ranker", tmp_path, settings=SETTINGS | {"max_length": 128, "probes": 0})
    judged = {"method": {"judge": str(ranker.path), "num_samples": 4, "max_tokens": 6}, "probes": 0}
    run = train("slic_hf", tmp_path, settings=SETTINGS | judged)
    assert run.manifest["ledger"]["sampled_tokens"] > 0
    assert run.manifest["ledger"]["scorer_calls"]["ranker"] > 0


def test_a_reward_model_of_the_family_is_refused_before_it_is_trained(tmp_path):
    with pytest.raises(RunError, match="the sequence classifier of T5ForConditionalGeneration is more than"):
        train("reward_model", tmp_path)
    assert not (tmp_path / "reward_model").exists()


# ---- the folder


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_the_folder_gives_the_same_logits(tmp_path, name):
    lm = tiny(name)
    path = export(lm, letters(bos_token=None), tmp_path / "model", {})
    loaded = AutoModelForSeq2SeqLM.from_pretrained(path)
    torch.testing.assert_close(logits(loaded), logits(lm), atol=1e-6, rtol=1e-5)
    assert loaded.generation_config.decoder_start_token_id == START and loaded.generation_config.eos_token_id == 2


def test_the_tokenizer_ends_a_prompt_and_generation_begins_with_the_token_of_the_method(tmp_path):
    info = {"prefix": [GOOD], "suppress": [GOOD, 5]}
    lm = tiny("t5")
    with torch.no_grad():
        lm.shared.weight[GOOD] *= 3  # it would like to write it
    path = export(lm, letters(), tmp_path / "model", info)
    loaded, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    encoded = tokenizer("ab", return_tensors="pt")
    assert tokenizer.convert_ids_to_tokens(encoded.input_ids[0]) == ["a", "b", "</s>"]  # no BOS, though it has one
    found = loaded.generate(**encoded, max_new_tokens=12, do_sample=False)[0].tolist()
    assert found[:2] == [START, GOOD] and not {GOOD, 5} & {*found[2:]}
    drawn = heedful.sample(path, ["ab"], sampling=Sampling(max_tokens=11, temperature=0))[0]
    assert drawn.responses[0].text == tokenizer.decode([id for id in found if id != GOOD], skip_special_tokens=True)
    assert "AutoModelForSeq2SeqLM" in (path / "README.md").read_text()


def test_a_line_prefix_stands_before_every_line_of_prompt_and_response(tmp_path):
    lm, newline = tiny("t5"), letters().convert_tokens_to_ids("\n")
    path = export(lm, letters(), tmp_path / "model", {"line_prefix": GOOD, "suppress": [GOOD, 5, 2]})
    loaded, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    with torch.no_grad():  # so that there are lines
        loaded.shared.weight[newline] *= 4
    loaded.save_pretrained(path)
    talk = [{"role": "user", "content": "a\nb"}]
    given = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    assert tokenizer.convert_ids_to_tokens(given["input_ids"][0]) == ["1", "a", "\n", "1", "b", "</s>"]
    found = loaded.generate(**given, max_new_tokens=24, do_sample=False)[0].tolist()
    marks = [n for n, id in enumerate(found) if id == GOOD]
    assert marks == [1, *(n + 1 for n, id in enumerate(found[:-1]) if id == newline)] and len(marks) > 1
    (drawn,) = heedful.sample(path, ["a\nb"], sampling=Sampling(max_tokens=24, temperature=0))[0].responses
    text = tokenizer.decode([id for id in found if id != GOOD], skip_special_tokens=True)
    assert text and drawn.text.startswith(text)


def test_the_tokenizer_of_t5_itself_stays_as_it_is(tmp_path):
    path = export(tiny("t5", eos_token_id=1), like_t5(), tmp_path / "model", {})
    loaded = AutoTokenizer.from_pretrained(path)
    assert type(loaded).__name__ == "T5Tokenizer" and loaded("the").tokens() == ["▁the", "</s>"]


def test_the_card_says_how_to_begin_with_several_tokens(tmp_path):
    path = export(tiny("t5"), letters(), tmp_path / "model", {"prefix": [7, 8], "suppress": []})
    card, settings = (path / "README.md").read_text(), json.loads((path / "generation_config.json").read_text())
    assert not load_info(path)["prefix_is_automatic"]
    assert "`decoder_input_ids` [[0, 7, 8]]" in card and "forced_bos_token_id" not in settings
    assert "pipeline_tag: text2text-generation" in card


def test_a_method_that_trains_on_does_not_inherit_the_needs_of_the_one_before(tmp_path):
    first = export(tiny("t5"), letters(), tmp_path / "one", {"prefix": [GOOD], "suppress": [GOOD]})
    lm, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(first), AutoTokenizer.from_pretrained(first)
    path = export(lm, tokenizer, tmp_path / "two", {})
    settings = json.loads((path / "generation_config.json").read_text())
    assert not {"suppress_tokens", "sequence_bias", "forced_bos_token_id"} & settings.keys()
    assert load_info(path)["prefix"] == [] and AutoTokenizer.from_pretrained(path)("a").input_ids[-1] == 2


ALONE = """
import sys
class Blocked:
    def find_spec(self, name, *rest):
        assert not name.startswith("heedful"), "heedful was imported"
sys.meta_path.insert(0, Blocked())
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
tokenizer, model = (auto.from_pretrained(sys.argv[1]) for auto in (AutoTokenizer, AutoModelForSeq2SeqLM))
rows = [tokenizer(prompt, return_tensors="pt") for prompt in sys.argv[2:]]
found = [model.generate(**row, max_new_tokens=8, do_sample=False)[0] for row in rows]
print(*(tokenizer.decode(ids, skip_special_tokens=True) for ids in found), sep="|")
"""


@pytest.mark.slow
def test_a_trained_model_answers_where_heedful_cannot_be_imported(tmp_path):
    feedback = good_and_bad()
    settings = {"budget": {"steps": 60}, "batch_size": 20, "dtype": "float32", "validation": 0.0, "probes": 0}
    settings["optim"] = {"lr": 1e-2, "warmup": 0.1}
    run = heedful.train("sft", model=folder(tmp_path / "b"), feedback=feedback, out=tmp_path / "r", settings=settings)
    prompts = [record.prompt for record in feedback]
    command = [sys.executable, "-c", ALONE, str(run.model_path), *prompts]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ours = heedful.sample(run.model_path, prompts, sampling=Sampling(max_tokens=8, temperature=0))
    assert done.stdout.strip().split("|") == [record.responses[0].text for record in ours]
    best = [max(record.responses, key=lambda response: response.score).text for record in feedback]
    assert sum(r.responses[0].text == text for r, text in zip(ours, best)) >= 18
