"""An exported model loads in transformers alone, gives the same numbers, and generates as its method needs."""

import json
import math
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import count

import pytest
import torch
import yaml
from faults import NO_SPACE, Killed, every_fault
from models import tiny
from safetensors import safe_open
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GPTNeoXTokenizer, PreTrainedTokenizerFast

from heedful import disk, export
from heedful.card import card as make_card
from heedful.checkpoint import export as export_model
from heedful.errors import ConfigError, RunError
from heedful.export import load_info

PAD, BOS, EOS, GOOD, BAD = range(5)
SPECIAL = ["<|pad|>", "<|bos|>", "<|eos|>", "<|good|>", "<|bad|>"]
VOCAB = len(SPECIAL) + 256
numbers = count()


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny models on a busy machine wait for their threads
    yield
    torch.set_num_threads(before)


def make_tokenizer(*, split_special_tokens=True, chat_template=None):
    """A token per byte, special ones first."""
    names = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE(vocab={name: id for id, name in enumerate(names)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<|pad|>",
        bos_token="<|bos|>",
        eos_token="<|eos|>",
        additional_special_tokens=["<|good|>", "<|bad|>"],
        split_special_tokens=split_special_tokens,
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def make_lm(name="llama", **overrides):
    return tiny(name, vocab_size=VOCAB, **overrides)


def read_back(path):
    return AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)


def stored_dtypes(path):
    with safe_open(path / "model.safetensors", framework="pt") as file:
        return {file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118


# The folder


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "opt", "gemma2", "mamba"])
def test_the_folder_gives_the_same_logits(tmp_path, name):
    lm = make_lm(name)
    export_model(lm, make_tokenizer(), tmp_path / "model", {})
    loaded, _ = read_back(tmp_path / "model")
    ids = torch.arange(8)[None]
    assert torch.allclose(lm(ids).logits, loaded.eval()(ids).logits, atol=1e-5)


@pytest.mark.parametrize("tie", [True, False])
def test_tied_weights_stay_tied_and_untied_ones_apart(tmp_path, tie):
    lm = make_lm(tie_word_embeddings=tie)
    export_model(lm, make_tokenizer(), tmp_path / "model", {"dtype": "bfloat16"})
    loaded, _ = read_back(tmp_path / "model")
    is_tied = loaded.get_input_embeddings().weight.data_ptr() == loaded.get_output_embeddings().weight.data_ptr()
    assert is_tied == tie


def test_weights_are_stored_in_the_dtype_asked_for(tmp_path):
    lm = make_lm()
    path = export_model(lm, make_tokenizer(), tmp_path / "model", {"dtype": "bfloat16"})
    assert stored_dtypes(path) == {torch.bfloat16}
    assert json.loads((path / "config.json").read_text())["dtype"] == "bfloat16"
    loaded, _ = read_back(path)
    for name, weight in lm.named_parameters():
        assert torch.equal(weight.to(torch.bfloat16), loaded.get_parameter(name).to(torch.bfloat16))
    assert lm.dtype is torch.float32


def test_the_models_own_dtype_is_the_default(tmp_path):
    assert stored_dtypes(export_model(make_lm(), make_tokenizer(), tmp_path / "model", {})) == {torch.float32}
    assert load_info(tmp_path / "model")["dtype"] == "float32"


def test_neither_the_model_nor_the_tokenizer_is_changed(tmp_path):
    lm, tokenizer = make_lm(), make_tokenizer()
    lm.train()
    lm.config.use_cache = False  # as gradient checkpointing has it
    before = {name: value.clone() for name, value in lm.state_dict().items()}
    ids, generation = tokenizer("x").input_ids, lm.generation_config.to_dict()
    info = {"prefix": [GOOD], "suppress": [GOOD, BAD], "line_prefix": GOOD, "dtype": "bfloat16"}
    path = export_model(lm, tokenizer, tmp_path / "model", info)
    assert all(torch.equal(value, before[name]) for name, value in lm.state_dict().items())
    assert lm.training and lm.config.use_cache is False and lm.generation_config.to_dict() == generation
    assert tokenizer("x").input_ids == ids and tokenizer.chat_template is None and tokenizer.split_special_tokens
    assert json.loads((path / "config.json").read_text())["use_cache"] is True


def test_nothing_is_pickled_and_every_file_is_fingerprinted(tmp_path):
    path = export_model(make_lm(), make_tokenizer(), tmp_path / "model", {"method": "sft"})
    names = {item.name for item in path.iterdir()}
    assert {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "README.md"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl", ".py"))]
    info = load_info(path)
    assert info["files"].keys() == names - {"heedful.json", "README.md"}
    assert info["files"]["model.safetensors"] == disk.sha256(path / "model.safetensors")
    assert info["method"] == "sft" and info["versions"]["torch"]


def test_other_models_have_no_info_and_damaged_info_is_an_error(tmp_path):
    assert load_info(tmp_path) == {}
    (tmp_path / "heedful.json").write_text("{")
    with pytest.raises(RunError, match="the file is damaged"):
        load_info(tmp_path)
    (tmp_path / "heedful.json").write_text('{"schema": 9}')
    with pytest.raises(RunError, match="schema 9: expected schema 1"):
        load_info(tmp_path)


# Generating as the method needs


def greedy(lm, ids, num_tokens, *, never=(), line_prefix=None):
    """What the method means, written out: greedy, the mark after each newline, banned tokens left out."""
    ids, newline, made = list(ids), make_tokenizer()("\n", add_special_tokens=False).input_ids[0], []
    for _ in range(num_tokens):
        logits = lm(torch.tensor([ids])).logits[0, -1]
        logits[[*never, *([line_prefix] if line_prefix is not None else [])]] = -math.inf
        forced = line_prefix is not None and ids[-1] in (newline, BOS)
        made.append(line_prefix if forced else logits.argmax().item())
        ids.append(made[-1])
        if made[-1] == EOS:
            break
    return made


def generated(path, encoded, num_tokens):
    loaded, tokenizer = read_back(path)
    with torch.no_grad():
        found = loaded.generate(**encoded(tokenizer), max_new_tokens=num_tokens, do_sample=False)
    return found[0].tolist()


def bytes_of(text):
    return make_tokenizer()(text, add_special_tokens=False).input_ids


@pytest.mark.parametrize("prefix", [[GOOD], "<|good|>", "be good: ", [GOOD, "\n"]])
def test_plain_generation_starts_behind_the_prefix(tmp_path, prefix):
    lm = make_lm()
    parts = [prefix] if isinstance(prefix, str) else prefix
    ids = [id for p in parts for id in ([p] if isinstance(p, int) else [GOOD] if p == "<|good|>" else bytes_of(p))]
    path = export_model(lm, make_tokenizer(), tmp_path / "model", {"prefix": prefix, "suppress": ["<|good|>", BAD]})
    assert load_info(path)["prefix_text"] == "".join("<|good|>" if p == GOOD else p for p in parts)
    assert load_info(path)["prefix"] == ids and load_info(path)["suppress"] == [GOOD, BAD]
    prompt = [BOS, *bytes_of("def f():\n"), *ids]  # as in training: where the response begins
    expected = prompt + greedy(lm, prompt, 12, never=[GOOD, BAD])
    assert generated(path, lambda t: t("def f():\n", return_tensors="pt"), 12) == expected
    assert not (path / "chat_template.jinja").exists()
    loaded = AutoTokenizer.from_pretrained(path)
    assert loaded("<|good|>").input_ids == [BOS, *bytes_of("<|good|>"), *ids]  # text stays text


@pytest.mark.parametrize("info", [{}, {"prefix": [GOOD]}])
def test_a_text_begins_with_the_root_that_training_put_there(tmp_path, info):
    path = export_model(make_lm(), make_tokenizer(), tmp_path / "model", info)  # the tokenizer itself adds none
    assert AutoTokenizer.from_pretrained(path)("a").input_ids == [BOS, *bytes_of("a"), *info.get("prefix", [])]


def test_a_chat_model_without_bos_keeps_its_texts_as_they_are(tmp_path):
    tokenizer = make_tokenizer(chat_template=BARE_TEMPLATE, split_special_tokens=False)
    tokenizer.bos_token = None
    path = export_model(make_lm(), tokenizer, tmp_path / "model", {})
    assert AutoTokenizer.from_pretrained(path)("a").input_ids == bytes_of("a")


def test_a_tokenizer_class_that_forgets_the_prefix_is_saved_as_the_general_one(tmp_path):
    vocabulary = {name: id for id, name in enumerate([*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    names = {"bos_token": "<|bos|>", "eos_token": "<|eos|>", "unk_token": "<|pad|>", "pad_token": "<|pad|>"}
    tokenizer = GPTNeoXTokenizer(vocab=vocabulary, merges=[], **names)
    path = export_model(make_lm(), tokenizer, tmp_path / "model", {"prefix": [GOOD]})
    assert AutoTokenizer.from_pretrained(path)("a").input_ids == [BOS, *bytes_of("a"), GOOD]
    assert load_info(path)["prefix_is_automatic"]


def test_the_card_says_so_where_the_prefix_is_not_automatic(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_same_ids", lambda *args: False)
    with pytest.warns(UserWarning, match="will not put the prefix after texts"):
        path = export_model(make_lm(), make_tokenizer(), tmp_path / "model", {"prefix": [GOOD]})
    assert not load_info(path)["prefix_is_automatic"]
    assert "the token ids `prefix`" in (path / "README.md").read_text()


def test_suppressed_tokens_are_never_generated(tmp_path):
    lm = make_lm()
    favourite = greedy(lm, [BOS], 1)[0]
    path = export_model(lm, make_tokenizer(), tmp_path / "model", {"suppress": [favourite]})
    assert favourite not in generated(path, lambda t: {"input_ids": torch.tensor([[BOS]])}, 12)
    config = json.loads((path / "generation_config.json").read_text())
    assert config["suppress_tokens"] == [favourite]
    assert config["eos_token_id"] == EOS and config["pad_token_id"] == PAD and config["bos_token_id"] == BOS


@pytest.mark.parametrize("prompt", ["", "a = 1\nb = 2\n", "a\x0cb\n\n"])
def test_a_line_prefix_stands_before_every_line(tmp_path, prompt):
    lm = make_lm()
    newline = bytes_of("\n")[0]
    favourite = Counter(greedy(lm, [BOS, GOOD], 20)).most_common(1)[0][0]
    with torch.no_grad():  # so that there are lines
        head = lm.get_output_embeddings().weight
        head[[newline, favourite]] = head[[favourite, newline]]
    info = {"line_prefix": GOOD, "prefix": [], "suppress": [GOOD, BAD]}
    path = export_model(lm, make_tokenizer(), tmp_path / "model", info)
    lines = [id for line in re.findall(r"[^\n]*\n|[^\n]+", prompt) for id in (GOOD, *bytes_of(line))]
    expected = [BOS, *lines, GOOD]
    expected += greedy(lm, expected, 20, never=[BAD], line_prefix=GOOD)
    assert expected.count(newline) > prompt.count("\n")  # the test sees what it is about
    talk = [{"role": "user", "content": prompt}]
    chat = lambda t: t.apply_chat_template(talk, add_generation_prompt=True, return_tensors="pt", return_dict=True)  # noqa: E731
    assert generated(path, chat, 20) == expected


def test_generation_settings_are_written_and_unknown_ones_refused(tmp_path):
    info = {"generation": {"max_new_tokens": 7, "do_sample": True, "temperature": 0.5}}
    path = export_model(make_lm(), make_tokenizer(), tmp_path / "model", info)
    assert json.loads((path / "generation_config.json").read_text())["max_new_tokens"] == 7
    with pytest.raises(ConfigError, match="unknown generation setting 'max_token'"):
        export_model(make_lm(), make_tokenizer(), tmp_path / "other", {"generation": {"max_token": 7}})


BOS_TEMPLATE = "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}"
LITERAL_TEMPLATE = "{{ '<|bos|>' }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}"
BARE_TEMPLATE = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}"


@pytest.mark.parametrize("template", [BOS_TEMPLATE, LITERAL_TEMPLATE, BARE_TEMPLATE, BARE_TEMPLATE + "\n"])
@pytest.mark.parametrize("is_given", [True, False])
def test_the_prefix_ends_any_chat_template(tmp_path, template, is_given):
    tokenizer = make_tokenizer(chat_template=None if is_given else template, split_special_tokens=False)
    info = {"prefix": [GOOD]} | ({"chat_template": template} if is_given else {})
    path = export_model(make_lm(), tokenizer, tmp_path / "model", info)
    assert (path / "chat_template.jinja").is_file()
    loaded = AutoTokenizer.from_pretrained(path)
    talk = [{"role": "user", "content": "hi"}]
    plain = make_tokenizer(chat_template=template).apply_chat_template(talk, tokenize=False)
    assert loaded.apply_chat_template(talk, tokenize=False) == plain
    assert loaded.apply_chat_template(talk, tokenize=False, add_generation_prompt=True) == plain + "<|good|>"


def test_a_chat_template_is_kept_and_none_is_made_up(tmp_path):
    path = export_model(make_lm(), make_tokenizer(chat_template=BOS_TEMPLATE), tmp_path / "chat", {})
    assert (path / "chat_template.jinja").read_text() == BOS_TEMPLATE
    path = export_model(make_lm(), make_tokenizer(), tmp_path / "plain", {})
    assert not (path / "chat_template.jinja").exists()


@pytest.mark.parametrize("template", [None, BOS_TEMPLATE])
@pytest.mark.parametrize("needs", [{"prefix": [GOOD]}, {"line_prefix": GOOD}])
def test_a_method_that_trains_on_does_not_inherit_the_needs_of_the_one_before(tmp_path, template, needs):
    needs = needs | {"suppress": [GOOD, BAD]}
    lm, inherited = read_back(export_model(make_lm(), make_tokenizer(chat_template=template), tmp_path / "one", needs))
    path = export_model(lm, inherited, tmp_path / "two", {})
    assert not {"suppress_tokens", "sequence_bias"} & json.loads((path / "generation_config.json").read_text()).keys()
    loaded = AutoTokenizer.from_pretrained(path)
    assert GOOD not in loaded("a").input_ids and loaded.chat_template == template
    path = export_model(make_lm(), inherited, tmp_path / "three", {"prefix": [BAD]})
    assert AutoTokenizer.from_pretrained(path)("a").input_ids == [BOS, *bytes_of("a"), BAD]


# Refusals


@pytest.mark.parametrize("info", [{"prefix": [VOCAB]}, {"suppress": [-1]}, {"line_prefix": "two"}, {"dtype": "int8"}])
def test_settings_that_cannot_be_are_refused_before_writing(tmp_path, info):
    with pytest.raises(ConfigError):
        export_model(make_lm(), make_tokenizer(), tmp_path / "model", info)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_things_is_never_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match="no model that heedful exported"):
        export_model(make_lm(), make_tokenizer(), tmp_path, {})
    with pytest.raises(RunError, match="no model that heedful exported"):
        export_model(make_lm(), make_tokenizer(), tmp_path / "thesis.tex", {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_earlier_export_is_replaced_whole(tmp_path):
    path = tmp_path / "model"
    export_model(make_lm(seed=0), make_tokenizer(chat_template=BOS_TEMPLATE), path, {})
    lm = make_lm(seed=1)
    export_model(lm, make_tokenizer(), path, {})
    assert not (path / "chat_template.jinja").exists()
    loaded, _ = read_back(path)
    assert torch.equal(loaded.get_input_embeddings().weight, lm.get_input_embeddings().weight)
    assert [item.name for item in tmp_path.iterdir()] == ["model"]


def test_a_broken_model_is_not_exported(tmp_path):
    lm = make_lm()
    with torch.no_grad():
        lm.get_input_embeddings().weight[3, 0] = math.nan
    with pytest.raises(RunError, match=r"embed_tokens\.weight is not finite"):
        export_model(lm, make_tokenizer(), tmp_path / "model", {})


def test_a_tokenizer_that_outgrew_the_model_is_not_exported(tmp_path):
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["new"])
    with pytest.raises(RunError, match=f"the tokenizer has {VOCAB + 1} tokens, the model embeds {VOCAB}"):
        export_model(make_lm(), tokenizer, tmp_path / "model", {})


def test_a_folder_that_does_not_give_the_same_logits_is_not_kept(tmp_path, monkeypatch):
    lm, real = make_lm(), export._write_model

    def write(lm, tokenizer, temp, *rest):
        real(make_lm(seed=9), tokenizer, temp, *rest)

    monkeypatch.setattr(export, "_write_model", write)
    with pytest.raises(RunError, match="the written model differs from the trained one"):
        export_model(lm, make_tokenizer(), tmp_path / "model", {})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_noticed_before_writing(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "free_space", lambda path: 1000)
    with pytest.raises(RunError, match=r"no space: need .* have 1\.0 kB"):
        export_model(make_lm(), make_tokenizer(), tmp_path / "model", {})


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX limits")
def test_a_disk_that_fills_while_weights_are_written_is_told_as_no_space(tmp_path):
    import resource

    lm = make_lm(hidden_size=256, intermediate_size=1024)  # 9 MB
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, limits[1]))
    try:
        with pytest.raises(RunError, match=r"no space: need .* have a limit of 2\.0 MB per file"):
            export_model(lm, make_tokenizer(), tmp_path / "model", {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("refuse", [None, NO_SPACE])
def test_a_fault_at_any_call_leaves_the_old_folder_or_the_new(tmp_path, monkeypatch, refuse):
    lm, tokenizer = make_lm(), make_tokenizer()

    def write(lm, tokenizer, temp, *rest):  # the calls round it are what is tested here
        temp.mkdir()
        (temp / "model.safetensors").write_bytes(b"weights")

    monkeypatch.setattr(export, "_write_model", write)
    monkeypatch.setattr(export, "_load_back", lambda *args: None)
    monkeypatch.setattr(export, "_same_ids", lambda *args: True)

    def prepare():
        path = tmp_path / str(next(numbers)) / "model"
        return export_model(lm, tokenizer, path, {"method": "old"})

    def check(path, fault):
        assert isinstance(fault, Killed if refuse is None else RunError) or load_info(path)["method"] == "new"
        disk.sweep(path.parent)
        assert [item.name for item in path.parent.iterdir()] == ["model"]
        assert load_info(path)["method"] in ("old", "new")
        assert (path / "model.safetensors").read_bytes() == b"weights" and (path / "README.md").is_file()

    act = lambda path: export_model(lm, tokenizer, path, {"method": "new"})  # noqa: E731
    patch = lambda faults, monkeypatch: faults.also(monkeypatch, disk, "_exchange")  # noqa: E731
    every_fault(prepare, act, check, refuse=refuse, patch=patch)


# The card

EVIL = "<script>alert(1)</script> ![x](http://x) `tick` | cell\n# head\n```\nout of the block"


def test_text_of_models_and_users_is_escaped_in_the_card():
    card = make_card("run", {"method": EVIL, "samples": [{"prompt": EVIL, "response": EVIL}], "metrics": {EVIL: 0.5}})
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head)["tags"] == ["heedful", EVIL]
    outside = _without_blocks(body)
    assert "<script" not in outside and "![x]" not in outside and "\n# head" not in outside
    assert outside.count("&lt;script&gt;") == 2


def _without_blocks(markdown):
    """What a Markdown reader does not take for code: fences close at a run of backticks at least as long."""
    kept, fence = [], ""
    for line in markdown.splitlines():
        ticks = line if line and set(line) == {"`"} and len(line) >= 3 else ""
        if fence:
            fence = "" if ticks and len(ticks) >= len(fence) else fence
        elif ticks:
            fence = ticks
        else:
            kept.append(line)
    return "\n".join(kept)


def test_the_card_says_what_was_done(tmp_path):
    info = {"method": "sft", "base": "pep8 base", "metrics": {"gold": -0.15}, "prefix": [GOOD]}
    text = (export_model(make_lm(), make_tokenizer(), tmp_path / "model", info) / "README.md").read_text()
    for part in ("\n# sft\n", "| method | sft |", "| base | pep8 base |", "| gold | \\-0.15 |", "AutoModelForCausalLM"):
        assert part in text, text


# Without heedful

ALONE = """
import sys
class Blocked:
    def find_spec(self, name, *rest):
        assert not name.startswith("heedful"), "heedful was imported"
sys.meta_path.insert(0, Blocked())
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline
path = sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(path)
model = AutoModelForCausalLM.from_pretrained(path)
out = model.generate(**tokenizer("def f():\\n", return_tensors="pt"), max_new_tokens=12, do_sample=False)
print(out[0].tolist())
made = pipeline("text-generation", path)("def f():\\n", max_new_tokens=12, do_sample=False)[0]["generated_text"]
assert made == tokenizer.decode(out[0], skip_special_tokens=True), made
print("heedful" in sys.modules)
"""


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_folder_works_where_heedful_cannot_be_imported(tmp_path, dtype):
    lm = make_lm()
    path = export_model(
        lm, make_tokenizer(), tmp_path / "model", {"prefix": [GOOD], "suppress": [GOOD, BAD], "dtype": dtype}
    )
    command = [sys.executable, "-c", ALONE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found, imported = done.stdout.splitlines()[-2:]
    prompt = [BOS, *bytes_of("def f():\n"), GOOD]
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter.copy_(parameter.to(getattr(torch, dtype)))
    expected = prompt + greedy(lm if dtype == "float32" else lm.to(torch.bfloat16), prompt, 12, never=[GOOD, BAD])
    assert json.loads(found) == expected and imported == "False"
