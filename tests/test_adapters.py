"""Adapters: every method trains with them, nothing else is trained, and what comes out is read with and without us."""

import json
import shutil
import subprocess
import sys
import warnings

import pytest
import torch
from models import tiny
from safetensors.torch import load_file, save_file
from tiny_methods import VARIANTS, build, build_variant, compared_feedback, feedback_for, fresh, good_and_bad, steps
from tiny_text import letters, scored
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification, AutoTokenizer

import heedful
from heedful import adapters, checkpoint
from heedful.adapters import Base, plain_weights
from heedful.batch import collate
from heedful.config import Lora, Training, override, parse
from heedful.errors import ConfigError, RunError
from heedful.learner import Learner
from heedful.models import load
from heedful.policy import Policy
from heedful.probing import probe
from heedful.reference import Reference
from heedful.reward import load_reward_model
from heedful.sampling import Sampling, generate
from heedful.scorers import Item, load_scorer, score_all
from heedful.training import Size, dry_run, prepare

peft = pytest.importorskip("peft", reason="adapters need peft: pip install 'heedful[adapters]'")
pytestmark = pytest.mark.usefixtures("one_thread")

NOWHERE = Base("base", "0" * 64)
FEEDBACK = [scored((f"ab{n}\n", 0.0), ("cd\n", -1.0), prompt=f"q{n}\n", id=f"r{n}") for n in range(10)]
SETTINGS = {
    "optim": {"lr": 1e-2, "warmup": 0.0},
    "budget": {"steps": 4},
    "batch_size": 4,
    "dtype": "float32",
    "eval_every": 4,
    "save_every": 2,
    "validation": 0.2,
    "probes": 0,
}
THRESHOLDS = {"conditional": {"threshold": 0.0}}


def adapted(built, *, model=None, **lora):
    """A random model in float64 with adapters, and its weights before."""
    policy = model or fresh(built)
    before = {name: weight.clone() for name, weight in plain_weights(policy.lm)}
    new, is_text = built.method.inference.get("suppress", ()), "reward" not in built.method.heads
    adapters.add(policy.lm, Lora(**lora), base=NOWHERE, new=new, has_lm_head=is_text)
    return policy, before


def drawn(policy):
    """Adapters that change the model, with random values."""
    torch.manual_seed(1)
    for weight in policy.lm.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.2)
    return policy


def with_lora(name="llama", *, new=(5, 7), **overrides):
    policy = Policy(tiny(name, **overrides))
    made = adapters.add(policy.lm, Lora(rank=4), base=NOWHERE, new=new)
    return drawn(policy), made


# Training


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_method_learns_with_adapters_and_leaves_the_model_as_it_was(variant):
    built = build_variant(variant, feedback_for(variant))
    policy, before = adapted(built, rank=4)
    trained = {name: p.detach().clone() for name, p in policy.named_parameters() if p.requires_grad}
    frozen = {name: p.detach().clone() for name, p in policy.named_parameters() if not p.requires_grad}
    logged, _ = steps(built, 6, model=policy, optim={"lr": 1e-2, "warmup": 0.0, "decay": "constant"})
    assert logged[-1]["loss"] < logged[0]["loss"]
    now = dict(policy.named_parameters())
    assert all(torch.equal(now[name], weight) for name, weight in frozen.items())
    assert all(name.startswith("heads.") or adapters.OWN.search(name) for name in trained)
    assert [name for name, weight in trained.items() if torch.equal(now[name], weight)] == []
    assert before.keys() == {name for name, _ in plain_weights(policy.lm)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_of_full_rank_and_of_any_the_first_step_has_the_loss_of_full_finetuning(variant):
    built = build_variant(variant, feedback_for(variant))
    (full,), _ = steps(built, 1, model=fresh(built))
    for rank in (32, 1):
        (found,), _ = steps(built, 1, model=adapted(built, rank=rank, alpha=rank)[0])
        assert found["loss"] == full["loss"]


def test_the_same_seed_draws_the_same_adapters_and_another_others():
    def matrices(seed):
        policy = Policy(tiny("llama"))
        adapters.add(policy.lm, Lora(), base=NOWHERE, seed=seed)
        return torch.cat([w.flatten() for n, w in policy.named_parameters() if "lora_A" in n])

    state = torch.get_rng_state()
    assert torch.equal(matrices(3), matrices(3)) and not torch.equal(matrices(3), matrices(4))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("tie", [True, False])
def test_rows_of_control_tokens_move_and_no_others_do(tie):
    built = build("conditional", FEEDBACK, threshold=0.0)
    model = Policy(tiny("llama", tie_word_embeddings=tie)).double()
    policy, before = adapted(built, model=model)
    steps(built, 3, model=policy)
    control = [built.text.good_id, built.text.bad_id]
    after = dict(plain_weights(policy.lm))
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        moved = (after[name] != before[name]).any(-1).nonzero().flatten().tolist()
        assert moved == control
    assert torch.equal(after["lm_head.weight"], after["model.embed_tokens.weight"]) == tie


def test_gradient_checkpointing_changes_no_number():
    built = build("conditional", FEEDBACK, threshold=0.0)
    plain, less = (steps(built, 3, model=adapted(built)[0], gradient_checkpointing=on)[0] for on in (False, True))
    assert plain == [pytest.approx(line, rel=1e-12) for line in less]


def test_dropout_is_of_training_alone():
    policy, _ = with_lora()
    for module in policy.modules():
        if isinstance(module, torch.nn.ModuleDict) and "default" in module and "Dropout" in str(module):
            module["default"].p = 0.5
    ids = torch.arange(3, 12)[None]
    with torch.no_grad():
        assert torch.equal(policy.eval().lm(ids).logits, policy.lm(ids).logits)


# One base in memory


def groups():
    return build("dpo", compared_feedback()).groups


def streams(reference):
    reference.read(groups())
    return [list(branch.streams["ref_logp"]) for group in groups() for branch in reference(group).branches]


def test_the_reference_of_a_model_with_adapters_is_its_base(tmp_path):
    plain = Learner(Policy(tiny("llama")), Training(dtype="float32"))
    policy = Policy(tiny("llama"))
    weights = {weight.data_ptr() for weight in policy.lm.parameters()}
    adapters.add(policy.lm, Lora(), base=NOWHERE)
    assert weights <= {weight.data_ptr() for weight in policy.lm.parameters()}  # no copy of the model
    both = [streams(Reference(one)) for one in (plain, Learner(policy, Training(dtype="float32")))]
    assert both[0] == both[1]
    Reference(plain, tmp_path).read(groups())
    assert Reference(Learner(policy, Training(dtype="float32")), tmp_path).known  # what full finetuning kept is found
    assert Reference(Learner(drawn(policy), Training(dtype="float32")), tmp_path).known == {}


def test_a_training_against_a_reference_loads_one_model(base, tmp_path, monkeypatch):
    loads = []
    whole = AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *a, **k: loads.append(a) or whole(*a, **k))
    run = train("dpo", base, tmp_path / "run", compared_feedback(), export="adapter")
    assert len(loads) == 1
    assert run.metrics()[0]["dpo_sigmoid"] == pytest.approx(0.693147, abs=1e-6)


# What reads a model reads its adapters


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_trees_give_the_numbers_of_plain_rows(name):
    policy, _ = with_lora(name)
    probe(policy)  # also that our LM head is the model's
    assert policy.reads_trees
    batches = [collate(groups(), tree=tree) for tree in (True, False)]
    with torch.no_grad():
        trees, plain = (policy.eval()(batch).logp.sum() for batch in batches)
    assert trees.item() == pytest.approx(plain.item(), rel=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_sampling_draws_what_the_merged_model_draws(name):
    text = build("sft", good_and_bad()).text
    policy, made = with_lora(name)
    draw = lambda: generate(policy.lm, text, [[1, 5, 9], [1, 7]], Sampling(max_tokens=12), k=3, seed=2)  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that it cannot use its cache
        apart = draw()
    made.merge()
    assert [[s.tokens for s in row] for row in apart] == [[s.tokens for s in row] for row in draw()]


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "opt", "gemma2"])
@pytest.mark.parametrize("tie", [True, False])
def test_plain_weights_are_those_of_the_merged_model(name, tie):
    policy, made = with_lora(name, tie_word_embeddings=tie)
    ids = torch.arange(3, 12)[None]
    with torch.no_grad():
        found, expected = dict(plain_weights(policy.lm)), policy.eval().lm(ids).logits
        made.merge()
        assert torch.allclose(policy.lm(ids).logits, expected, atol=1e-4)
    merged = policy.lm.state_dict()
    assert found.keys() == merged.keys() == tiny(name, tie_word_embeddings=tie).state_dict().keys()
    assert all(torch.allclose(found[key], merged[key], atol=1e-6) for key in merged)


# Runs


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model without control tokens in its vocabulary, its head tied."""
    return save_base(tmp_path_factory.mktemp("base"))


def save_base(folder, *, pad="<pad>", **overrides):
    tokenizer = letters(merges=[("a", "b"), ("c", "d")], pad_token=pad)
    tiny("llama", vocab_size=len(tokenizer), **overrides).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def train(name, model, out, feedback=FEEDBACK, *, progress=None, resume=False, export="merged", **settings):
    method = {"method": THRESHOLDS.get(name, {})}
    lora = {"rank": 4, "alpha": 8, "export": export}
    return heedful.train(
        name,
        model=model,
        feedback=feedback,
        out=out,
        settings=SETTINGS | method | {"lora": lora} | settings,
        progress=progress,
        resume=resume,
        command=[],
    )


@pytest.mark.parametrize("name", ["conditional", "awr", "reward_model"])
def test_a_resumed_run_ends_as_if_it_had_not_stopped_from_checkpoints_of_what_is_trained(base, tmp_path, name):
    feedback = compared_feedback(12) if name == "reward_model" else FEEDBACK

    class Enough(Exception):
        pass

    def stop(event):
        if event["step"] == 3:
            raise Enough

    whole = train(name, base, tmp_path / "whole", feedback, lora={"dropout": 0.1})
    with pytest.raises(Enough):
        train(name, base, tmp_path / "cut", feedback, lora={"dropout": 0.1}, progress=stop)
    again = train(name, base, tmp_path / "cut", feedback, lora={"dropout": 0.1}, resume=True)
    read = [[{k: v for k, v in line.items() if k != "seconds"} for line in run.metrics()] for run in (whole, again)]
    assert read[0] == read[1]
    both = [(run.model_path / "model.safetensors").read_bytes() for run in (whole, again)]
    assert both[0] == both[1]
    names = {key for key in checkpoint.load_newest(whole.path).tensors if key.startswith("policy.")}
    assert names and all(adapters.OWN.search(key) or key.startswith("policy.heads.") for key in names)


@pytest.mark.parametrize("lora", [True, False])
def test_a_run_goes_on_with_the_base_it_began_with_or_not_at_all(tmp_path, lora):
    settings = {} if lora else {"lora": None}
    folder = save_base(tmp_path / "base")

    def stop(event):
        if event["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("mle", folder, tmp_path / "run", progress=stop, **settings)
    save_base(folder, seed=1)
    with pytest.raises(RunError, match=r"the base has changed since the run began: sha256 \w+ -> \w+"):
        train("mle", folder, tmp_path / "run", resume=True, **settings)


def test_flops_leave_out_the_gradients_of_frozen_weights():
    policy, _ = with_lora(new=())
    size = Size.of(policy)
    own = sum(p.numel() for n, p in policy.named_parameters() if "lora" in n)
    assert size == (sum(p.numel() for p in tiny("llama").parameters()) + own, own)
    assert size.flops(10, 3) == 10 * (2 * size.parameters + 2 * size.parameters + 2 * own) + 3 * 2 * size.parameters
    whole = Size.of(Policy(tiny("llama")))
    assert whole.flops(10, 0) == 6 * 10 * whole.parameters


def test_a_dry_run_says_how_much_is_trained(base):
    options = {"model": base, "feedback": FEEDBACK, "settings": SETTINGS | {"lora": {"rank": 1}}}
    found = dry_run(prepare("mle", **options))
    assert 0 < found["trained_parameters"] < found["parameters"] / 10


# Exports


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """`exported(name, export, tie)`: a trained model's folder, each made once."""
    folder, made = tmp_path_factory.mktemp("runs"), {}

    def make(name, export, tie=True):
        out = folder / f"{name}_{export}_{tie}"
        if out not in made:
            model = folder / f"base_{tie}"
            model = model if model.exists() else save_base(model, tie_word_embeddings=tie)
            feedback = compared_feedback(12) if name in ("reward_model", "dpo") else FEEDBACK
            made[out] = train(name, model, out, feedback, export=export).model_path
        return made[out]

    return make


def ids_of(folder):
    return torch.arange(1, len(AutoTokenizer.from_pretrained(folder)))[None]  # control tokens among them


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("name", ["conditional", "dpo"])
def test_adapter_and_merged_model_give_the_same_logits_in_peft_transformers_and_heedful(exported, name, tie):
    merged, adapter = (exported(name, export, tie) for export in ("merged", "adapter"))
    ids = ids_of(merged)
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(merged)(ids).logits
        theirs = peft.AutoPeftModelForCausalLM.from_pretrained(adapter)(ids).logits
        ours = load(adapter).lm(ids).logits
        start = AutoModelForCausalLM.from_pretrained(adapters.base_of(adapter))(ids[:, :50]).logits
    assert torch.allclose(plain, theirs, atol=1e-5) and torch.allclose(plain, ours, atol=1e-5)
    assert (plain[:, :50, : start.shape[-1]] - start).abs().max() > 1e-2  # it has learned something
    assert not {"model.safetensors", "config.json"} & {item.name for item in adapter.iterdir()}
    assert (adapter / "adapter_model.safetensors").stat().st_size < (merged / "model.safetensors").stat().st_size / 2
    assert (
        AutoTokenizer.from_pretrained(adapter)("ab").input_ids == AutoTokenizer.from_pretrained(merged)("ab").input_ids
    )


def test_an_encoder_decoder_learns_with_adapters_and_both_exports_answer_alike(tmp_path):
    tokenizer = letters()
    tiny("t5", vocab_size=len(tokenizer)).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    settings = SETTINGS | {"max_length": 64, "method": THRESHOLDS["conditional"]}
    merged, adapter = (
        heedful.train(
            "conditional",
            model=tmp_path / "base",
            feedback=FEEDBACK,
            out=tmp_path / export,
            settings=settings | {"lora": {"rank": 4, "export": export}},
        ).model_path
        for export in ("merged", "adapter")
    )
    ids, answer = torch.tensor([[5, 6, 7, 2]]), torch.tensor([[0, 9, 8]])
    with torch.no_grad():
        plain = AutoModelForSeq2SeqLM.from_pretrained(merged)(ids, decoder_input_ids=answer).logits
        theirs = peft.AutoPeftModelForSeq2SeqLM.from_pretrained(adapter)(ids, decoder_input_ids=answer).logits
    assert torch.allclose(plain, theirs, atol=1e-5)
    first, second = (
        heedful.sample(model, ["q1\n"], sampling=Sampling(max_tokens=6, temperature=0))[0].responses[0].text
        for model in (merged, adapter)
    )
    assert first == second


def test_the_merged_folder_is_an_ordinary_one(exported):
    names = load_file(exported("conditional", "merged") / "model.safetensors").keys()
    assert names == {name for name in tiny("llama").state_dict() if name != "lm_head.weight"}  # tied


def test_an_adapter_is_asked_as_a_merged_model_is(exported):
    both = [exported("conditional", export) for export in ("merged", "adapter")]
    drawn = [heedful.sample(folder, ["q1\n", "q2\n"], k=2, sampling=Sampling(max_tokens=8)) for folder in both]
    texts = [[[response.text for response in record.responses] for record in records] for records in drawn]
    assert texts[0] == texts[1]


def test_the_card_of_a_rankers_adapter_says_how_to_ask_it(base, tmp_path):
    run = train("ranker", base, tmp_path / "run", compared_feedback(), export="adapter")
    card = (run.model_path / "README.md").read_text()
    assert "## How to ask" in card and "library_name: peft" in card and "generate" not in card


def test_training_goes_on_from_an_adapter(exported, tmp_path):
    adapter = exported("conditional", "adapter")
    ended = load(adapter)
    run = train("mle", adapter, tmp_path / "run", optim={"lr": 1e-9, "warmup": 0.0})
    ids = ids_of(adapter)
    with torch.no_grad():
        assert torch.allclose(load(run.model_path).lm(ids).logits, ended.lm(ids).logits, atol=1e-3)
    whole = train("mle", adapter, tmp_path / "whole", lora=None)
    assert (whole.model_path / "config.json").is_file()


def test_an_adapter_on_an_adapter_is_refused_before_anything_is_loaded(exported, tmp_path):
    with pytest.raises(ConfigError, match=r"lora\.export: .* is an adapter, .*set lora\.export=merged"):
        train("mle", exported("conditional", "adapter"), tmp_path / "run", export="adapter")
    assert not (tmp_path / "run").exists()


def test_a_reward_model_gives_the_same_rewards_merged_and_as_an_adapter_with_its_head(exported):
    merged, adapter = (exported("reward_model", export) for export in ("merged", "adapter"))
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["task_type"] == "SEQ_CLS" and config["modules_to_save"] == ["score"]
    ids = ids_of(merged)[:, :40]
    with torch.no_grad():
        plain = AutoModelForSequenceClassification.from_pretrained(merged)(ids).logits
        theirs = peft.AutoPeftModelForSequenceClassification.from_pretrained(adapter, num_labels=1)(ids).logits
    assert torch.allclose(plain, theirs, atol=1e-5) and plain.shape == (1, 1)
    items = [Item("q1\n", "ab1cd", "a"), Item("q1\n", "cd", "b"), Item("q2\n", "x", "c")]
    scorers = [load_scorer(str(path)) for path in (merged, adapter, adapter.parent)]  # by its run's folder too
    values = [[score.value for score in score_all(scorer, items)] for scorer in scorers]
    assert values[0] == pytest.approx(values[1], abs=1e-5) and values[1] == values[2]
    assert scorers[1].version == scorers[2].version != scorers[0].version


@pytest.mark.parametrize("tie", [True, False])
def test_a_reward_model_whose_padding_token_is_new_comes_back(tmp_path, tie):
    model = save_base(tmp_path / "base", pad=None, tie_word_embeddings=tie)
    path = train("reward_model", model, tmp_path / "run", compared_feedback(12), export="adapter").model_path
    known, tokenizer = load(model), AutoTokenizer.from_pretrained(path)
    assert len(tokenizer) == known.lm.config.vocab_size + 1
    theirs = peft.AutoPeftModelForSequenceClassification.from_pretrained(path, num_labels=1)
    theirs.config.pad_token_id = tokenizer.pad_token_id
    rows = tokenizer(["q1\n", "q2\n"], ["ab", "x"], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = theirs.eval()(**rows).logits[:, 0].tolist()
    ours = load_reward_model(path)
    found = score_all(load_scorer(str(path)), [Item("q1\n", "ab", "a"), Item("q2\n", "x", "b")])
    assert [score.value + ours.offset for score in found] == pytest.approx(expected, abs=1e-5)


def test_an_adapter_without_its_reward_head_is_refused(exported, tmp_path):
    folder = copied(exported("reward_model", "adapter"), tmp_path)
    rewrite(folder, lambda tensors: tensors.pop("base_model.model.score.weight"))
    with pytest.raises(RunError, match=r"lacks its head, score\.weight: a random one would score"):
        load_reward_model(folder)


def test_a_language_model_is_no_reward_model_and_the_other_way_round(exported):
    with pytest.raises(RunError, match=r"an adapter of a reward model, which writes no text"):
        load(exported("reward_model", "adapter"))
    with pytest.raises(RunError, match=r"an adapter of a language model: expected a reward model"):
        load_reward_model(exported("conditional", "adapter"))
    with pytest.raises(ConfigError, match="CAUSAL_LM, which is no reward model"):
        load_scorer(str(exported("conditional", "adapter")))


ALONE = """
import sys
class Blocked:
    def find_spec(self, name, *rest):
        assert not name.startswith("heedful"), "heedful was imported"
sys.meta_path.insert(0, Blocked())
import torch
from peft import AutoPeftModelForCausalLM, AutoPeftModelForSequenceClassification
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, GenerationConfig
merged, adapter, reward, reward_adapter = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(adapter)
rows = tokenizer("q1\\n", return_tensors="pt")
own = {"generation_config": GenerationConfig.from_pretrained(adapter), "max_new_tokens": 8, "do_sample": False}
models = [AutoModelForCausalLM.from_pretrained(merged), AutoPeftModelForCausalLM.from_pretrained(adapter)]
texts = [model.eval().generate(**rows, **own).tolist() for model in models]
assert texts[0] == texts[1], texts
scorers = [AutoModelForSequenceClassification.from_pretrained(reward)]
scorers += [AutoPeftModelForSequenceClassification.from_pretrained(reward_adapter, num_labels=1)]
pairs = AutoTokenizer.from_pretrained(reward_adapter)(["q1\\n"], ["ab"], return_tensors="pt")
scores = [model.eval()(**pairs).logits for model in scorers]
assert torch.allclose(*scores, atol=1e-5), scores
print("heedful" in sys.modules)
"""


@pytest.mark.slow
def test_adapters_and_merged_models_work_where_heedful_cannot_be_imported(exported, tmp_path):
    kinds = [(name, export) for name in ("conditional", "reward_model") for export in ("merged", "adapter")]
    command = [sys.executable, "-c", ALONE, *(str(exported(*kind)) for kind in kinds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False"


# Refusals


def copied(folder, tmp_path, **settings):
    """An adapter's folder again, with other settings of peft's."""
    copy_of = tmp_path / "adapter"
    shutil.copytree(folder, copy_of)
    config = json.loads((copy_of / "adapter_config.json").read_text())
    (copy_of / "adapter_config.json").write_text(json.dumps(config | settings))
    return copy_of


def rewrite(folder, change):
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")


def test_an_adapter_of_another_base_with_the_same_shapes_is_refused(exported, tmp_path):
    other = save_base(tmp_path / "other", seed=1)
    folder = copied(exported("dpo", "adapter"), tmp_path, base_model_name_or_path=str(other))
    with pytest.raises(RunError, match=r"made for another base than .*other: its weights have another sha256.*put the"):
        load(folder)


def test_an_adapter_finds_its_base_in_another_place(exported, tmp_path):
    adapter = exported("dpo", "adapter")
    moved = shutil.copytree(adapters.base_of(adapter), tmp_path / "moved")
    folder = copied(adapter, tmp_path, base_model_name_or_path=str(moved))
    ids = ids_of(adapter)
    assert torch.equal(load(folder).lm(ids).logits, load(adapter).lm(ids).logits)


@pytest.mark.parametrize(
    "shape", [{"hidden_size": 64, "head_dim": 16}, {"num_hidden_layers": 1}, {"num_hidden_layers": 3}]
)
def test_a_foreign_adapter_that_does_not_fit_is_refused(exported, tmp_path, shape):
    other = save_base(tmp_path / "other", **shape)
    folder = copied(exported("dpo", "adapter"), tmp_path, base_model_name_or_path=str(other))
    settings = json.loads((folder / "adapter_config.json").read_text())
    settings["target_modules"] = sorted({name.rpartition(".")[2] for name in settings["target_modules"]})
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    (folder / "heedful.json").unlink()
    with pytest.raises(RunError, match=r"made for another base than .*other: model\.layers.* has the shape"):
        load(folder)


def test_a_foreign_adapter_for_layers_that_its_base_lacks_is_refused(exported, tmp_path):
    folder = copied(exported("dpo", "adapter"), tmp_path, target_modules=["c_attn"])
    with pytest.raises(RunError, match="made for another base"):
        load(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_model_name_or_path": "/not/there"}, r"the base of the adapter is not there: /not/there"),
        ({"base_model_name_or_path": None}, r"does not say which model it belongs to"),
        ({"peft_type": "IA3"}, r"found an adapter of type IA3: expected LORA"),
    ],
)
def test_an_adapter_whose_settings_cannot_be_is_refused(exported, tmp_path, settings, message):
    with pytest.raises(RunError, match=message):
        load(copied(exported("dpo", "adapter"), tmp_path, **settings))


def test_damaged_adapters_are_refused(exported, tmp_path):
    folder = copied(exported("dpo", "adapter"), tmp_path)
    weights = folder / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=r"cannot load its weights.*cut"):
        load(folder)
    weights.rename(folder / "adapter_model.bin")
    with pytest.raises(RunError, match=r"no weights: expected adapter_model\.safetensors"):
        load(folder)
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(RunError, match="the file is damaged"):
        load(folder)


def test_without_peft_the_extra_is_named(exported, base, tmp_path, monkeypatch):
    adapter = exported("dpo", "adapter")
    monkeypatch.setitem(sys.modules, "peft", None)
    for ask in (lambda: train("mle", base, tmp_path / "run"), lambda: load(adapter)):
        with pytest.raises(ConfigError, match=r"need peft, which is not installed \(pip install 'heedful\[adapters\]'"):
            ask()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("targets", [["q_proj", "v_prog"], ["lm_head"], ["embed_tokens"]])
def test_targets_are_linear_layers_of_the_model_and_not_its_head(targets):
    with pytest.raises(ConfigError, match=rf"no linear layer '{targets[-1]}' .*all-linear, or some of .*q_proj"):
        adapters.add(tiny("llama"), Lora(targets=targets), base=NOWHERE)


def test_named_targets_are_adapted_alone():
    lm = tiny("llama")
    adapters.add(lm, Lora(targets=["q_proj", "layers.0.mlp.up_proj"]), base=NOWHERE)
    found = {name.partition(".lora_")[0] for name, p in lm.named_parameters() if p.requires_grad}
    assert found == {"model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj", "model.layers.0.mlp.up_proj"}


def test_a_head_with_a_bias_and_new_tokens_is_refused():
    with pytest.raises(ConfigError, match="has a bias beside new tokens"):
        adapters.add(tiny("gptj", tie_word_embeddings=False), Lora(), base=NOWHERE, new=[5])


def test_the_settings_are_a_group_that_may_be_null_in_a_recipe():
    assert parse(Training, {}).lora is None and parse(Training, {"lora": {}}).lora == Lora()
    assert override({"lora": None}, ["lora.rank=8"]) == {"lora": {"rank": 8}}
    assert parse(Training, {"lora": {"targets": ["q_proj"]}}).lora.targets == ("q_proj",)
    for wrong in ({"rank": 0}, {"targets": "q_proj"}, {"targets": []}, {"export": "both"}, {"r": 8}):
        with pytest.raises(ConfigError, match="lora"):
            parse(Training, {"lora": wrong})
