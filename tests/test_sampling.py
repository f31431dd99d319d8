"""Sampling: the tokens Hugging Face would give, log-probabilities that score the same, noise that is each row's own."""

import math
import warnings
from dataclasses import replace

import pytest
import torch
from models import ATTENTION, BOS, CONFIGS, ENCODER_DECODERS, EOS, PAD, VOCAB, tiny
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from heedful import decoding
from heedful.batch import Branch, Group
from heedful.errors import ConfigError, DataError, RunError
from heedful.frozen import read_values
from heedful.method import Head
from heedful.policy import Policy
from heedful.probing import probe
from heedful.sampling import Sample, Sampling, _draw, best_of_n, generate

NEWLINE, PREFIX = 10, 5
PROMPTS = [[BOS, 7, 8, 9], [BOS], [BOS, *range(20, 41)], [BOS, 99, 98], [BOS, *range(50, 62)]]


class Letters:
    """A text whose token i is the letter i of a fixed row; 10 is a newline, EOS is nothing, as special tokens are."""

    eos_id = EOS

    def decode(self, ids):
        return "".join("\n" if i == NEWLINE else chr(0x100 + i) for i in ids if i != EOS)


TEXT = Letters()


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def llama():
    return tiny("llama")


def draw(lm, prompts=PROMPTS, k=1, seed=0, keys=None, batch_size=128, head=None, progress=None, **settings):
    settings = Sampling(**{"max_tokens": 16, **settings})
    return generate(
        lm, TEXT, prompts, settings, k=k, seed=seed, keys=keys, batch_size=batch_size, head=head, progress=progress
    )


def scored(lm, prompt, tokens, temperature=1.0):
    """Log-probabilities of `tokens` after `prompt` by one plain forward."""
    logits = lm(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1].detach()
    return (logits / temperature).log_softmax(-1).gather(1, torch.tensor(tokens)[:, None])[:, 0]


def flat(samples):
    return [sample for several in samples for sample in several]


def tokens_of(samples):
    return [[sample.tokens for sample in several] for several in samples]


@pytest.fixture
def reads(llama):
    """What the model is given, call by call, as (rows, tokens per row); the trial of the cache is not among them."""
    draw(llama, [[BOS]], max_tokens=1)
    shapes = []
    hook = llama.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    yield shapes
    hook.remove()


# ---- the same as the model alone


@pytest.mark.filterwarnings("ignore:.*cannot use the sampling cache")
@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_is_hugging_face_generate_token_for_token(name):
    lm = tiny(name)
    for prompt, (sample,) in zip(PROMPTS, draw(lm, temperature=0, max_tokens=20)):
        ids = torch.tensor([prompt])
        theirs = lm.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False)
        assert list(sample.tokens) == theirs[0, len(prompt) :].tolist()


@pytest.mark.filterwarnings("ignore:.*cannot use the sampling cache")
@pytest.mark.parametrize("name", CONFIGS)
def test_kept_logp_is_a_scoring_forward_at_that_temperature_before_truncation(name):
    lm = tiny(name)
    for prompt, samples in zip(PROMPTS, draw(lm, k=2, temperature=0.7, top_p=0.9, top_k=50, batch_size=6)):
        for sample in samples:
            expected = scored(lm, prompt, sample.tokens, temperature=0.7)
            assert torch.tensor(sample.logp) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_models_use_the_cache(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(tiny(name), max_tokens=2)


def test_a_state_space_model_reads_plainly_and_says_so_once():
    lm = tiny("mamba")
    with pytest.warns(UserWarning, match="MambaForCausalLM cannot use the sampling cache"):
        draw(lm, max_tokens=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(lm, max_tokens=1)


def test_half_precision_models_sample():
    samples = draw(tiny("llama").to(torch.bfloat16), k=2)
    assert all(math.isfinite(logp) for sample in flat(samples) for logp in sample.logp)


@pytest.mark.filterwarnings("ignore:.*cannot use the sampling cache")
@pytest.mark.parametrize("name", [*CONFIGS, *ENCODER_DECODERS])
def test_a_head_gives_the_values_of_a_forward_and_changes_no_sample(name):
    """Prompts of many lengths, three responses to each, and rows that end early."""
    policy = Policy(tiny(name), {"value": Head(is_drawn=True)}).eval()
    probe(policy)
    prompts = [[*prompt, PAD] for prompt in PROMPTS] if name in ENCODER_DECODERS else PROMPTS
    many = {"k": 3, "temperature": 3.0, "max_tokens": 32, "batch_size": 9, "banned": tuple(range(20, VOCAB))}
    valued = draw(policy.lm, prompts, head=policy.heads["value"], **many)
    assert len({len(sample.tokens) for sample in flat(valued)}) > 1
    groups = [
        Group(str(n), prompt, [Branch(sample.tokens, {}) for sample in several])
        for n, (prompt, several) in enumerate(zip(prompts, valued))
    ]
    for sample, value in zip(flat(valued), flat(read_values(policy, groups)), strict=True):
        assert torch.tensor(sample.value) == pytest.approx(value, abs=1e-4)
    assert [replace(sample, value=()) for sample in flat(valued)] == flat(draw(policy.lm, prompts, **many))


def test_a_forced_token_has_no_value(llama):
    sample = draw(llama, [PROMPTS[0]], head=lambda states: states.sum(-1), line_prefix=PREFIX)[0][0]
    assert len(sample.value) == len(sample.tokens)


def test_small_prefills_change_no_token(llama, monkeypatch):
    whole = draw(llama, k=2)
    monkeypatch.setattr(decoding, "PREFILL_TOKENS", 5)
    assert tokens_of(draw(llama, k=2)) == tokens_of(whole)


# ---- what is read, and when


def test_each_distinct_prompt_is_encoded_once_for_all_its_responses(llama, reads):
    prompts = [[BOS, 7, 8, 9], [BOS, 9, 8, 7], [BOS, 7, 8, 9]]
    draw(llama, prompts, k=8, max_tokens=3, stop_at_eos=False)
    assert reads == [(2, 4), (24, 1), (24, 1)]  # 2 prompts of 4 tokens; 24 rows for the second and third token


def test_finished_rows_leave_the_batch(llama, reads):
    samples = draw(llama, k=8, temperature=3.0, max_tokens=64, banned=tuple(range(40, VOCAB)))
    lengths = [len(sample.tokens) for sample in flat(samples)]
    assert min(lengths) < 20 < max(lengths)
    assert [rows for rows, _ in reads[1:]] == [sum(n > step for n in lengths) for step in range(1, max(lengths))]


def test_the_model_comes_back_as_it_was():
    lm = tiny("llama", attention_dropout=0.5)
    lm.train()
    lm.model.layers[0].eval()
    modes = [module.training for module in lm.modules()]
    first, second = draw(lm), draw(lm)
    assert tokens_of(first) == tokens_of(second)  # no dropout
    assert modes == [module.training for module in lm.modules()]
    assert lm.config._attn_implementation == "sdpa"
    assert not any("forward" in vars(module) for module in lm.modules())
    lm(torch.tensor([PROMPTS[0]])).logits.sum().backward()


def test_progress_counts_responses_and_tokens(llama):
    seen = []
    samples = draw(llama, k=3, batch_size=4, line_prefix=PREFIX, progress=lambda *counts: seen.append(counts))
    assert seen == sorted(seen)
    assert seen[-1] == (15, sum(len(sample.tokens) for sample in flat(samples)))


# ---- randomness


@pytest.mark.parametrize("settings", [{}, {"top_p": 0.8}, {"top_k": 7}, {"line_prefix": PREFIX}])
def test_batch_size_order_and_neighbours_change_no_sample(llama, settings):
    whole = tokens_of(draw(llama, k=3, **settings))
    assert tokens_of(draw(llama, k=3, batch_size=2, **settings)) == whole
    backwards = draw(llama, PROMPTS[::-1], k=3, keys=range(len(PROMPTS))[::-1], batch_size=7, **settings)
    assert tokens_of(backwards) == whole[::-1]
    assert tokens_of(draw(llama, PROMPTS[2:3], k=3, keys=[2], **settings)) == whole[2:3]


def test_more_responses_extend_fewer(llama):
    assert [several[:2] for several in tokens_of(draw(llama, k=5))] == tokens_of(draw(llama, k=2))


def test_seed_key_and_draw_each_make_other_noise(llama):
    prompt = [PROMPTS[0]]
    (first, second), (other_seed, _), (other_key, _) = (
        tokens_of(draw(llama, prompt, k=2, seed=seed, keys=[key]))[0] for seed, key in ((0, 0), (1, 0), (0, 1))
    )
    assert len({first, second, other_seed, other_key}) == 4
    assert tokens_of(draw(llama, prompt, k=2)) == [[first, second]]


def counts(logits, settings, num=3000):
    """How often each token is drawn over an even grid of uniform numbers."""
    uniform = (torch.arange(num, dtype=torch.float64) + 0.5) / num
    logits = logits.expand(num, -1)
    return torch.bincount(_draw(logits, logits, uniform, settings)[0], minlength=logits.shape[1])


@pytest.mark.parametrize(
    "temperature, top_k, top_p", [(1, 0, 1), (0.5, 0, 1), (1, 5, 1), (1, 0, 0.7), (2, 9, 0.6), (1, 0, 1e-9)]
)
def test_draws_have_the_frequencies_of_hugging_face_warpers(temperature, top_k, top_p):
    logits = torch.randn(1, 1500, generator=torch.Generator().manual_seed(3)) * 3
    warpers = LogitsProcessorList([TemperatureLogitsWarper(float(temperature)), TopKLogitsWarper(top_k or 1500)])
    warpers += [TopPLogitsWarper(float(top_p))]
    expected = warpers(torch.zeros(1, 1, dtype=torch.long), logits).softmax(-1)[0].double() * 3000
    drawn = counts(logits, Sampling(temperature=temperature, top_k=top_k, top_p=top_p))
    assert (drawn - expected).abs().max() <= 1.01  # an even grid hits an interval of n * p numbers n * p times, +-1
    assert set(drawn.nonzero()[:, 0].tolist()) <= set(expected.nonzero()[:, 0].tolist())


def test_flat_distributions_keep_top_p_of_the_whole_vocabulary():
    drawn = counts(torch.arange(1500)[None] * 1e-6, Sampling(top_p=0.5))
    assert 745 <= (drawn > 0).sum() <= 755
    assert drawn[:745].sum() == 0


# ---- how a response ends


def test_a_finished_response_ends_in_its_only_eos_and_a_cut_one_has_none(llama):
    samples = flat(draw(llama, k=20, temperature=1.5, max_tokens=40))
    assert {sample.truncated for sample in samples} == {True, False}
    for sample in samples:
        assert sample.tokens.count(EOS) == (0 if sample.truncated else 1)
        assert (sample.tokens[-1] == EOS) == (not sample.truncated)
        assert len(sample.tokens) == len(sample.logp) <= 40
        assert sample.text == TEXT.decode(sample.tokens)


def test_without_stop_at_eos_every_response_is_full_and_has_none(llama):
    for sample in flat(draw(llama, k=20, temperature=1.5, max_tokens=40, stop_at_eos=False)):
        assert len(sample.tokens) == 40 and sample.truncated and EOS not in sample.tokens


def test_no_eos_comes_before_min_tokens(llama):
    lengths = {len(sample.tokens) for sample in flat(draw(llama, k=40, temperature=2.0, min_tokens=12))}
    assert min(lengths) == 13  # twelve tokens, then EOS


def test_banned_tokens_are_never_drawn_and_leave_logp_alone(llama):
    banned = tuple(range(3, 60))
    for prompt, several in zip(PROMPTS, draw(llama, k=4, banned=banned)):
        for sample in several:
            assert not set(banned) & set(sample.tokens)
            assert torch.tensor(sample.logp) == pytest.approx(scored(llama, prompt, sample.tokens), abs=1e-4)


def test_a_ban_holds_where_the_banned_token_has_all_the_mass():
    logits = torch.zeros(1, 4)
    logits[0, 2] = 500.0
    allowed = logits.masked_fill(torch.arange(4) == 2, -math.inf)
    for setting in (Sampling(), Sampling(top_p=0.5), Sampling(top_k=1), Sampling(temperature=0)):
        token, logp = _draw(logits, allowed, torch.tensor([0.4], dtype=torch.float64), setting)
        assert token.item() != 2 and logp.item() == pytest.approx(-500.0)


def test_text_ends_before_a_stop_string_that_spans_tokens(llama):
    whole = draw(llama, [PROMPTS[0]], stop_at_eos=False)[0][0]
    stop = whole.text[5:8]
    assert whole.text.index(stop) == 5
    sample = draw(llama, [PROMPTS[0]], stop_at_eos=False, stop=("never", stop))[0][0]
    assert sample.text == whole.text[:5]
    assert sample.tokens == whole.tokens[:8]  # up to the token that completed it
    assert not sample.truncated


def test_a_stop_string_inside_one_token_ends_the_text_inside_it(llama, monkeypatch):
    monkeypatch.setattr(TEXT, "decode", lambda ids: "".join(f"<.{i}>" for i in ids if i != EOS))
    whole = draw(llama, [PROMPTS[0]], stop_at_eos=False)[0][0]
    third = whole.tokens[2]
    sample = draw(llama, [PROMPTS[0]], stop_at_eos=False, stop=(f".{third}>",))[0][0]
    assert sample.text == f"<.{whole.tokens[0]}><.{whole.tokens[1]}><" and sample.tokens == whole.tokens[:3]


def test_a_stop_string_completed_before_min_tokens_does_not_end_the_text(llama):
    whole = draw(llama, [PROMPTS[0]], stop_at_eos=False)[0][0]
    early, late = whole.text[1:3], whole.text[9:11]
    sample = draw(llama, [PROMPTS[0]], stop_at_eos=False, stop=(early, late), min_tokens=6)[0][0]
    assert sample.text == whole.text[:9]
    at_limit = draw(llama, [PROMPTS[0]], stop_at_eos=False, stop=(early,), min_tokens=3)[0][0]
    assert at_limit.text == whole.text[:1] and len(at_limit.tokens) == 3


def test_the_line_prefix_is_read_before_every_line_and_is_no_part_of_the_response(llama):
    never = tuple(range(30, VOCAB))  # so that newlines are frequent
    for prompt, several in zip(PROMPTS, draw(llama, k=4, line_prefix=PREFIX, banned=never, max_tokens=40)):
        for sample in several:
            assert PREFIX not in sample.tokens
            assert sample.text == TEXT.decode(sample.tokens)
            read, where = [*prompt, PREFIX], []
            for token in sample.tokens:
                where.append(len(read) - 1)
                read += [token, PREFIX] if token == NEWLINE else [token]
            logp = lm_logp(llama, read)
            expected = torch.stack([logp[at, token] for at, token in zip(where, sample.tokens)])
            assert torch.tensor(sample.logp) == pytest.approx(expected, abs=1e-4)
            assert len(sample.tokens) == 40 or not sample.truncated


def lm_logp(lm, tokens):
    return lm(torch.tensor([tokens])).logits[0].detach().log_softmax(-1)


def test_a_response_of_short_lines_is_cut_where_its_prefixes_fill_the_context():
    lm = tiny("llama", max_position_embeddings=20)
    only_newlines = tuple(i for i in range(VOCAB) if i != NEWLINE)
    sample = draw(lm, [[BOS, 7, 8]], line_prefix=PREFIX, banned=only_newlines, max_tokens=16)[0][0]
    assert sample.truncated
    assert 3 + 2 * len(sample.tokens) == 19  # prompt, then prefix and newline in turn; a ninth pair would be too much


# ---- errors


def test_a_prompt_that_leaves_too_little_context_is_named_with_its_lengths(llama):
    with pytest.raises(DataError, match=r"prompt 41: 250 prompt tokens and 16 to generate.*256"):
        draw(llama, [[BOS], [BOS] * 250], keys=[40, 41])


def test_an_empty_prompt_is_an_error(llama):
    with pytest.raises(DataError, match="prompt 1: 0 prompt tokens"):
        draw(llama, [[BOS], []])


@pytest.mark.parametrize("settings", [{}, {"temperature": 0}, {"top_p": 0.5}, {"top_k": 3}])
def test_non_finite_logits_stop_and_name_the_prompt(settings):
    lm = tiny("llama")
    lm.lm_head.weight.data[3] = math.nan
    with pytest.raises(RunError, match="prompt 8: non-finite logits after 0 tokens"):
        draw(lm, [[BOS]], keys=[8], **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_tokens": 0},
        {"min_tokens": 129},
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"stop": ("",)},
        {"stop": "end"},
    ],
)
def test_settings_out_of_range_are_named(settings):
    with pytest.raises(ConfigError, match=f"sampling: {next(iter(settings))} is"):
        Sampling(**settings)


def test_banned_ids_outside_the_vocabulary_are_an_error(llama):
    with pytest.raises(ConfigError, match="expected token ids from 0 to 111"):
        draw(llama, banned=(VOCAB,))


# ---- best of n


def sample_of(text):
    return Sample((EOS,), (0.0,), text, False)


def test_best_of_n_takes_the_best_and_the_first_of_equals():
    samples = [[sample_of(letter) for letter in "abc"], [sample_of("d")]]
    assert [best.text for best in best_of_n(samples, [[-1.0, 2.0, 2.0], [-9.0]])] == ["b", "d"]


@pytest.mark.parametrize("scores", [[[1.0]], [[1.0, math.nan]]])
def test_best_of_n_wants_one_number_per_sample(scores):
    with pytest.raises(DataError, match="best_of_n, prompt 0: 2 samples"):
        best_of_n([[sample_of("a"), sample_of("b")]], scores)
