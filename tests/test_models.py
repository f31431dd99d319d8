"""One forward for every architecture: tree equals plain, and both equal the model itself."""

import logging

import pytest
import torch
from models import ATTENTION, tiny
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from heedful import models
from heedful.batch import Branch, Group, collate
from heedful.errors import RunError
from heedful.method import Head
from heedful.models import best_device, load, load_tokenizer
from heedful.policy import Policy, fit_vocabulary
from heedful.probing import probe


def branch(tokens):
    return Branch(tokens, {"mask": [1.0] * len(tokens)})


GROUPS = [
    Group("a", list(range(3, 23)), [branch(list(range(20, 30))), branch(list(range(20, 45))), branch([9])]),
    Group("b", [1], [branch([20, 22]), branch([20, 21, 22])]),
    Group("c", [1, 7, 7], [branch([2])]),
]


def sums(policy, *, tree):
    batch = collate(GROUPS, tree=tree)
    logp, owner = policy(batch).logp.flatten(), batch.response.flatten()
    return torch.stack([logp[owner == n].sum() for n in range(len(batch.group))])


def reference(lm):
    rows = [(list(group.prompt), list(b.tokens)) for group in GROUPS for b in group.branches]
    result = []
    for prompt, response in rows:
        logp = lm(torch.tensor([prompt + response])).logits[0].log_softmax(-1)
        result.append(sum(logp[len(prompt) + i - 1, token] for i, token in enumerate(response)))
    return torch.stack(result)


@pytest.mark.parametrize("name", ATTENTION)
@torch.no_grad()
def test_tree_and_plain_equal_the_model_itself(name):
    policy = Policy(tiny(name))
    probe(policy)
    assert policy.reads_trees
    expected = reference(policy.lm)
    torch.testing.assert_close(sums(policy, tree=False), expected, atol=2e-4, rtol=0)
    torch.testing.assert_close(sums(policy, tree=True), expected, atol=2e-4, rtol=0)


@torch.no_grad()
def test_eager_attention_gets_an_additive_mask():
    policy = Policy(tiny("llama"))
    policy.lm.set_attn_implementation("eager")
    torch.testing.assert_close(sums(policy, tree=True), reference(policy.lm), atol=2e-4, rtol=0)


@torch.no_grad()
def test_a_state_space_model_falls_back_to_plain_rows_and_says_so(caplog):
    policy = Policy(tiny("mamba"))
    with caplog.at_level(logging.WARNING):
        probe(policy)
    assert not policy.reads_trees
    assert "one response per row" in caplog.text
    torch.testing.assert_close(sums(policy, tree=False), reference(policy.lm), atol=2e-4, rtol=0)


def test_gradients_of_tree_and_plain_agree():
    policy = Policy(tiny("gpt2").double())  # Llama's norm computes in fp32 whatever the weights are
    gradients = []
    for tree in (True, False):
        policy.zero_grad()
        sums(policy, tree=tree).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in policy.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-9)


def test_chunks_of_the_head_change_no_number(monkeypatch):
    policy = Policy(tiny("gpt2").double())
    results = []
    for elements in (2**25, 112 * 5):  # everything at once; five positions at a time
        monkeypatch.setattr("heedful.policy.CHUNK_ELEMENTS", {"cpu": elements})
        policy.zero_grad()
        logp = sums(policy, tree=True)
        logp.sum().backward()
        results.append((logp.detach(), torch.cat([p.grad.flatten() for p in policy.parameters()])))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-9, atol=1e-10)


def test_gradients_are_the_same_to_the_bit_on_two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        policy = Policy(tiny("llama"))
        same_start = [Group("a", list(range(3, 60)), [branch([5] * 40) for _ in range(6)]) for _ in range(4)]
        gradients = []
        for _ in range(5):
            policy.zero_grad()
            policy(collate(same_start, tree=True)).logp.sum().backward()
            gradients.append(torch.cat([p.grad.flatten() for p in policy.parameters()]))
        assert all(torch.equal(gradients[0], other) for other in gradients[1:])
    finally:
        torch.set_num_threads(before)


def test_the_value_of_a_token_is_read_at_its_predecessor():
    policy = Policy(tiny("llama"), {"value": Head(bias=True, detach=True)})
    torch.nn.init.ones_(policy.heads["value"].linear.weight)
    batch = collate([GROUPS[0]], tree=True)
    value = policy(batch).value
    first = [row[0] for row in (batch.response[0] == n for n in range(3)) for row in [row.nonzero().flatten()]]
    values = [value[0, column].item() for column in first]
    assert values == pytest.approx([values[0]] * 3)  # all three responses start at the prompt's last position


def test_a_detached_head_does_not_pull_on_the_trunk():
    policy = Policy(tiny("llama"), {"value": Head(detach=True)})
    torch.nn.init.ones_(policy.heads["value"].linear.weight)
    policy(collate(GROUPS, tree=True)).value.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in policy.lm.parameters())


def test_the_released_value_head_starts_at_minus_a_half():
    policy = Policy(tiny("llama"), {"value": Head(bias=False, detach=False, squash="negative_sigmoid")})
    batch = collate(GROUPS, tree=True)
    assert policy(batch).value[batch.predicted].tolist() == pytest.approx([-0.5] * int(batch.predicted.sum()))


def test_a_value_is_not_rounded_by_autocast():
    policy = Policy(tiny("llama"), {"value": Head(detach=True)})
    torch.nn.init.constant_(policy.heads["value"].linear.bias, -0.4503)
    batch = collate(GROUPS, tree=True)
    with torch.autocast("cpu", torch.bfloat16):
        value = policy(batch).value[batch.predicted]
    assert value.tolist() == pytest.approx([-0.4503] * len(value), abs=1e-6)


def test_new_embeddings_start_near_the_mean_of_the_old():
    lm = tiny("llama", tie_word_embeddings=False)
    mean = lm.get_input_embeddings().weight.mean(0)
    fit_vocabulary(lm, 114)
    new = lm.get_input_embeddings().weight[112:]
    assert new.shape[0] == lm.get_output_embeddings().weight.shape[0] - 112 == 2
    assert (new - mean).abs().max() < 0.06
    assert (new - mean).std().item() == pytest.approx(0.01, rel=0.5)  # two new tokens can be told apart


@pytest.mark.parametrize("name", ["llama", "gptj"])  # GPT-J's head has a bias
def test_rows_beyond_the_tokenizer_are_new_to_a_control_token(name):
    lm = tiny(name, tie_word_embeddings=False)
    head = lm.get_output_embeddings()
    if head.bias is not None:
        torch.nn.init.normal_(head.bias)
    before = head.weight.detach().clone()
    fit_vocabulary(lm, 102, known=100)
    assert lm.get_input_embeddings().num_embeddings == 112
    assert torch.equal(head.weight[:100], before[:100]) and torch.equal(head.weight[102:], before[102:])
    assert (head.weight[100:102] - before[:100].mean(0)).abs().max() < 0.06
    assert head.bias is None or torch.equal(head.bias[100:102], head.bias[:100].mean().expand(2))


def test_a_tokenizer_without_new_tokens_changes_no_embedding():
    lm = tiny("llama")
    before = lm.get_input_embeddings().weight.detach().clone()
    fit_vocabulary(lm, 100, known=100)
    assert torch.equal(lm.get_input_embeddings().weight, before)


def test_a_policy_in_double_precision_has_heads_and_values_in_it_too(tmp_path):
    tiny("gpt2").save_pretrained(tmp_path)
    policy = load(tmp_path, heads={"value": Head()}, dtype=torch.float64)
    out = policy(collate([GROUPS[1]], tree=True, dtype=torch.float64))
    assert out.logp.dtype is out.value.dtype is torch.float64


@pytest.mark.parametrize(("is_there", "expected"), [(True, "cuda"), (False, "cpu")])
def test_the_best_device_is_cuda_where_there_is_any(monkeypatch, is_there, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_there)
    assert best_device().type == expected


def test_a_policy_is_loaded_on_the_device_asked_for(tmp_path, monkeypatch):
    tiny("llama").save_pretrained(tmp_path)
    monkeypatch.setattr(models, "probe", lambda policy: None)  # nothing can be computed there
    assert load(tmp_path, device="meta").lm.device.type == "meta"


def test_pickled_weights_are_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"anything")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(RunError, match="pickle"):
        load(tmp_path)


def test_weights_that_are_cut_are_named_with_what_to_do(tmp_path):
    tiny("llama").save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-200])
    with pytest.raises(RunError, match=f"{tmp_path.name}: cannot load its weights: .*download it again"):
        load(tmp_path)


def test_weights_of_another_shape_are_named(tmp_path):
    tiny("llama").save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"intermediate_size": 64', '"intermediate_size": 32'))
    with pytest.raises(RunError, match=f"{tmp_path.name}: cannot load its weights"):
        load(tmp_path)


def test_a_head_with_a_transform_is_refused(tmp_path):
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = AutoConfig.for_model("bert", vocab_size=112, is_decoder=True, **shape)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(RunError, match=f"{tmp_path.name}: the LM head of BertLMHeadModel is not one matrix"):
        load(tmp_path)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    lm = tiny("llama")
    torch.nn.init.constant_(lm.model.norm.weight, torch.nan)
    lm.save_pretrained(tmp_path)
    with pytest.raises(RunError, match=f"{tmp_path.name}: its logits are not finite"):
        load(tmp_path)


@pytest.mark.parametrize("read", [load, load_tokenizer])
def test_a_folder_without_a_model_is_named_and_the_model_in_a_run_proposed(tmp_path, read):
    with pytest.raises(RunError, match=rf"{tmp_path.name}: the folder does not hold a .*: expected .*save_pretrained"):
        read(tmp_path)
    tiny("llama").save_pretrained(tmp_path / "model")
    with pytest.raises(RunError, match=r"did you mean .*/model"):
        read(tmp_path)


@pytest.mark.parametrize("read", [load, load_tokenizer])
@pytest.mark.parametrize("path", ["/nope", "./nope", "../nope"])
def test_a_path_that_is_not_there_is_no_name_on_the_hub(path, read):
    with pytest.raises(RunError, match=rf"^{path}: no such folder .*owner/name"):
        read(path)


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="file: a file, not a folder"):
        load(tmp_path / "file")


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory"), OSError(12, "Cannot allocate memory")]
)
def test_too_little_memory_is_not_taken_for_a_damaged_file(tmp_path, monkeypatch, error):
    tiny("llama").save_pretrained(tmp_path)

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(models.AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(RunError, match=r"out of memory while its weights were loaded .*smaller model"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["llama", "gpt2"])  # gpt2 has tied embeddings, which are stored once
def test_weights_missing_from_a_file_are_named_and_tied_ones_are_not_missing(tmp_path, name):
    tiny(name).save_pretrained(tmp_path)
    assert load(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    lost = sorted(weights)[1:6]
    save_file({key: weight for key, weight in weights.items() if key not in lost}, path, metadata={"format": "pt"})
    with pytest.raises(RunError, match=rf"its files lack weights of the model: {', '.join(lost[:3])} and 2 more"):
        load(tmp_path)
