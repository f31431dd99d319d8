"""ILF: a refiner is asked what it was taught, the best is chosen, and nothing leaks into what is learned."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from models import tiny
from tiny_judge import early
from tiny_methods import tiny_writer
from tiny_text import check_rows, letters, make_text
from transformers import LlamaConfig, LlamaForCausalLM

import heedful
from heedful.arms import Arm, read_arms
from heedful.batch import Group
from heedful.editing import CHOSEN, FORMS, INFO, WORDINGS, Form
from heedful.errors import ConfigError, DataError
from heedful.export import load_info
from heedful.method import Share
from heedful.models import load, load_text
from heedful.records import Feedback, Response, Score, from_json, score_of
from heedful.refiner import Instructed, load_writer
from heedful.sampling import Sample, Sampling
from heedful.sources.refined import ByInstructed, Refined, _with_choice, _with_refinements, criticised
from heedful.targets.refine import chosen_refinements, written
from heedful.tasks.pep8.task import PEP8
from heedful.training import prepare

pytestmark = pytest.mark.usefixtures("one_thread")

RECORDS = [
    Feedback(
        f"say {n}:",
        (Response(f"bad{n}", critique=f"FAULT{n}", refinement=f"good{n}"), Response(f"fine{n}")),
        id=f"r{n}",
    )
    for n in range(10)
]
SETTINGS = {
    "budget": {"steps": 4},
    "batch_size": 4,
    "optim": {"lr": 3e-3},
    "dtype": "float32",
    "validation": 0.2,
    "eval_every": 2,
    "save_every": 1,
    "probes": 0,
}
SMALL = {"num_refinements": 3, "max_tokens": 5}
EARLY = {"judge": "tiny_judge:early"}


def base(folder):
    if not (folder / "base").exists():
        tokenizer = letters()
        tiny("llama", vocab_size=len(tokenizer)).save_pretrained(folder / "base")
        tokenizer.save_pretrained(folder / "base")
    return folder / "base"


def settings(folder, method=None, **more):
    refiner = {"refiner": str(tiny_writer(folder / "refiner"))}
    return SETTINGS | more | {"method": SMALL | refiner | (method or {})}


def train(folder, feedback=RECORDS, *, out="run", resume=False, progress=None, method=None, **more):
    return heedful.train(
        "ilf",
        model=base(folder),
        feedback=feedback,
        out=folder / out,
        settings=settings(folder, method, **more),
        command=[],
        resume=resume,
        progress=progress,
    )


def prepared(folder, method=None, feedback=RECORDS):
    return prepare("ilf", model=base(folder), feedback=feedback, settings=settings(folder, method))


def lines(run):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in run.metrics()]


# What a refiner is asked


def test_a_refiner_is_taught_the_refinement_behind_the_critique():
    text, form = make_text(max_length=200), FORMS["refinement"]
    record = Feedback("q", (Response("ab", critique="c!", refinement="d"), Response("x")), id="a")
    (group,) = written([record], text=text, form=form)
    assert text.decode(group.prompt) == "[CONTEXT]\nq\n[RESPONSE]\nab\n[CRITIQUE]\nc!\n[REFINEMENT]\n"
    check_rows([replace(group, prompt=())], text, """
        token  d  EOS
        mask   1  1
    """)  # fmt: skip


def test_a_critic_is_taught_the_critique_and_sees_none():
    text = make_text(max_length=200)
    (group,) = written([Feedback("q", (Response("ab", critique="c!"),))], text=text, form=FORMS["critique"])
    assert text.decode(group.prompt) == "[CONTEXT]\nq\n[RESPONSE]\nab\n[CRITIQUE]\n"
    assert text.decode(group.branches[0].tokens) == "c!"


def test_the_answer_ends_where_the_response_was_cut():
    text = make_text(max_length=200)
    record = Feedback("q", (Response("ab", refinement="d", truncated=True),))
    (group,) = written([record], text=text, form=FORMS["refinement"])
    assert group.branches[0].tokens[-1] == text.eos_id


@pytest.mark.parametrize("writes", ["refinement", "critique"])
def test_what_is_asked_when_sampling_is_what_was_trained(tmp_path, monkeypatch, writes):
    """Token for token, with a model's own folder between the two."""
    run = heedful.train(
        "refiner",
        model=base(tmp_path),
        feedback=RECORDS,
        out=tmp_path / "refiner-run",
        settings=SETTINGS | {"budget": {"steps": 1}, "method": {"writes": writes}},
    )
    assert Form.from_json(load_info(run.model_path)[INFO]) == FORMS[writes]
    writer, asked = load_writer(run.model_path, writes), []
    monkeypatch.setattr("heedful.refiner.generate", lambda lm, text, prompts, *a, **how: asked.extend(prompts) or [])
    with pytest.raises(ValueError, match="zip"):  # no samples come back
        fields = [writer.form.fields(record, record.responses[0]) for record in RECORDS]
        writer.draw(fields, Sampling(max_tokens=5), k=1, seed=0, keys=range(10))
    trained = written(RECORDS, text=load_text(base(tmp_path), max_length=256), form=FORMS[writes])
    assert asked == [list(group.prompt) for group in trained]


def test_a_question_without_room_is_not_asked(tmp_path):
    writer = load_writer(tiny_writer(tmp_path / "refiner"), "refinement")
    long, short = ["q" * 300, "a", "c"], ["q", "a", "c"]
    found = writer.draw([long, short], Sampling(max_tokens=5), k=2, seed=0, keys=[0, 1])
    assert [len(several) for several in found] == [0, 2]
    assert writer.text.drops.counts == {"question leaves no room for an answer": 1}


def test_neither_other_questions_nor_their_order_change_what_is_drawn(tmp_path):
    writer = load_writer(tiny_writer(tmp_path / "refiner"), "refinement")
    fields = [["q", f"a{n}", "c"] for n in range(4)]
    whole = writer.draw(fields, Sampling(max_tokens=5), k=2, seed=3, keys=range(4))
    part = writer.draw(fields[2:][::-1], Sampling(max_tokens=5), k=2, seed=3, keys=[3, 2])
    assert part == [whole[3], whole[2]]


def test_a_model_that_writes_something_else_is_refused_before_anything_is_drawn(tmp_path):
    critic = tiny_writer(tmp_path / "critic", "critique")
    with pytest.raises(ConfigError, match="asked for a refinement, and is a model that writes a critique"):
        train(tmp_path, method={"refiner": str(critic)})
    with pytest.raises(ConfigError, match="asked for a refinement, and is a model that nobody taught to"):
        train(tmp_path, method={"refiner": str(base(tmp_path))})
    assert not (tmp_path / "run").exists()


# What is chosen


def one(*scores, copies=()):
    texts = ["before", *(f"after{n}" for n in range(1, len(scores)))]
    responses = tuple(Response(t, scores=(Score("s", v),)) for t, v in zip(texts, scores))
    return Feedback("q", responses, id="a")


def choice(record, only_better=False):
    return _with_choice(record, only_better).metadata.get(CHOSEN)


def test_the_first_of_the_best_refinements_is_chosen_never_the_response_itself():
    assert choice(one(5.0, 1.0, 3.0, 3.0)) == 2
    assert choice(one(5.0, 1.0, 3.0), only_better=True) is None
    assert choice(one(3.0, 1.0, 3.0), only_better=True) is None  # as good is not better
    assert choice(one(2.0, 1.0, 3.0), only_better=True) == 2


def test_with_nobody_to_choose_it_is_the_first_that_was_drawn():
    plain = Feedback("q", (Response("a"), Response("b"), Response("c")))
    assert choice(plain) == 1
    assert choice(Feedback("q", (Response("a"),))) is None


def test_what_another_round_chose_is_forgotten():
    assert choice(Feedback("q", (Response("a"),), metadata={CHOSEN: 3})) is None


def test_a_planted_refinement_that_does_what_the_critique_asks_wins():
    """The judge counts what was asked for; 200 times among random others."""
    generator, wins = torch.Generator().manual_seed(0), 0
    for _ in range(200):
        noise = torch.rand(5, generator=generator).tolist()
        place = int(torch.randint(5, (1,), generator=generator))
        wins += choice(one(0.0, *(1.0 if n == place else value for n, value in enumerate(noise)))) == place + 1
    assert wins > 190


def test_equal_refinements_are_one_and_empty_ones_none():
    samples = [Sample((3,), (0.0,), text, False) for text in ("b", "", "b", "c")]
    record = Feedback("q", (Response("a", truncated=True),), metadata={"sampled_tokens": 7})
    found = _with_refinements(record, samples)
    assert [r.text for r in found.responses] == ["a", "b", "c"] and found.metadata["sampled_tokens"] == 11
    assert all(response.truncated for response in found.responses)  # they end no better than what they refine


# InstructRM


def instructed(folder):
    return Instructed(load(base(folder)), load_text(base(folder), max_length=256 * 8))


def test_yes_and_no_share_what_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr("heedful.refiner.WORDINGS", ["{context}{response}{critique}{refinement}?"])
    model, fields = instructed(tmp_path), [("q", "a", "c", "b"), ("q", "a", "c", "d")]
    yes = model.scores(fields)
    monkeypatch.setattr("heedful.refiner.YES", "No")
    monkeypatch.setattr("heedful.refiner.NO", "Yes")
    assert [a + b for a, b in zip(yes, model.scores(fields))] == pytest.approx([1.0, 1.0])
    assert yes[0] != yes[1]


def test_probabilities_are_averaged_over_the_wordings_not_their_logs(tmp_path, monkeypatch):
    model, seen = instructed(tmp_path), []

    def fake(policy, groups):
        seen.extend(groups)
        return [0.1, 0.9, 0.5, 0.5, 0.75] * 2

    monkeypatch.setattr("heedful.refiner.first_verdicts", fake)
    assert model.scores([("q", "a", "c", "b")] * 2) == pytest.approx([0.55, 0.55])
    assert len(WORDINGS) == 5 and len(seen) == 10
    asked = [model.text.decode(group.prompt) for group in seen[:5]]
    assert len(set(asked)) == 5 and all(isinstance(group, Group) and len(group.branches) == 2 for group in seen)
    for wording in WORDINGS:
        assert all(f"{{{name}}}" in wording for name in ("context", "response", "critique", "refinement"))


def test_a_question_that_is_too_long_is_refused(tmp_path):
    model = Instructed(load(base(tmp_path)), load_text(base(tmp_path), max_length=100))
    with pytest.raises(DataError, match="the question about a refinement has"):
        model.scores([("q", "a", "c", "b")])


def test_every_response_is_scored_and_the_calls_are_counted(tmp_path, monkeypatch):
    select = ByInstructed(Path("nowhere"))
    monkeypatch.setitem(select.__dict__, "_model", instructed(tmp_path))
    monkeypatch.setattr("heedful.refiner.WORDINGS", ["{context}{response}{critique}{refinement}?"] * 5)
    record = Feedback("q", (Response("a", critique="c"), Response("b"), Response("d")), metadata={"sampled_tokens": 0})
    (found,) = select([record])
    assert all(0 < score_of(response) < 1 for response in found.responses)
    assert found.metadata["scorer_calls"] == {"instruct_rm": 15}


# A round


def test_a_round_from_the_critiques_of_the_records(tmp_path):
    run = train(tmp_path, method=EARLY)
    records = [from_json(row) for row in run.read_round(0)]
    assert [record.responses[0].text for record in records] == [f"bad{r.id[1:-2]}" for r in records]
    for record in records:
        scores = [score_of(response) for response in record.responses]
        assert scores == pytest.approx([early("", response.text) for response in record.responses])
        assert record.metadata[CHOSEN] == 1 + max(range(len(scores) - 1), key=scores[1:].__getitem__)
    (line,) = [line for line in run.metrics() if "round" in line]
    assert line["criticised"] == line["chosen"] == 1.0
    assert line["score"] == pytest.approx(
        sum(score_of(r.responses[r.metadata[CHOSEN]]) for r in records) / len(records)
    )


def test_the_ledger_has_what_policy_and_refiner_drew_and_who_was_asked(tmp_path):
    run = train(tmp_path, method=EARLY | {"critic": "pep8"}, validation=0.0)
    records = [from_json(row) for row in run.read_round(0)]
    drawn = sum(record.metadata["sampled_tokens"] for record in records)
    assert run.manifest["ledger"]["sampled_tokens"] == drawn > 10 * (1 + 3)  # a token at least of each response
    assert run.manifest["ledger"]["scorer_calls"] == {"tiny_judge:early": sum(len(r.responses) for r in records)}


@pytest.mark.parametrize("critic", ["pep8", "model"])
def test_rounds_of_the_policys_own_responses(tmp_path, critic):
    critic = critic if critic == "pep8" else str(tiny_writer(tmp_path / "critic", "critique"))
    prompts = [Feedback(f"say {n}:", (), id=f"r{n}") for n in range(10)]
    run = train(tmp_path, prompts, method=EARLY | {"critic": critic, "rounds": 2})
    first, second = ([from_json(row) for row in run.read_round(n)] for n in range(2))
    told = [record.responses[0] for record in first if record.responses]
    assert sum(bool(response.critique) for response in told) >= 6
    assert {response.author for response in told} == {"policy"}
    if critic == "pep8":
        assert all("lines that say something new" in response.critique for response in told)
    assert [r.responses[0].text for r in first] != [r.responses[0].text for r in second]


def test_neither_the_critique_nor_the_response_is_in_what_is_learned(tmp_path):
    """Both are made of signs that occur nowhere else."""
    ready = prepared(tmp_path, EARLY)
    records = ready.method.source.collect(0, ready.policy)
    for record, group in zip(records, ready.method.targets(records), strict=True):
        text = load_text(base(tmp_path))
        chosen = record.responses[record.metadata[CHOSEN]]
        assert text.decode(group.prompt) == record.prompt
        (branch,) = group.branches
        assert text.decode(branch.tokens) == chosen.text
        assert set(branch.streams) == {"mask"} and all(branch.streams["mask"])


def test_one_refinement_and_nobody_to_choose_is_refining_once(tmp_path):
    ready = prepared(tmp_path, {"num_refinements": 1})
    records = ready.method.source.collect(0, ready.policy)
    (drawn,) = zip(*([r.text for r in record.responses[1:]] for record in records if len(record.responses) > 1))
    kept = [record for record in records if CHOSEN in record.metadata]
    assert [record.responses[record.metadata[CHOSEN]].text for record in kept] == list(drawn)


def test_a_refiner_that_copies_makes_it_imitation_of_its_own_samples(tmp_path, monkeypatch):
    def copy(self, asked, sampling, *, k, seed, keys, progress):
        return [[Sample((3,), (0.0,), fields[1], False)] * k for fields in asked]

    monkeypatch.setattr("heedful.refiner.Writer.draw", copy)
    ready = prepared(tmp_path, EARLY | {"critic": "pep8"})
    records = ready.method.source.collect(0, ready.policy)
    assert all(record.responses[0].text == record.responses[1].text for record in records)
    assert ready.method.source.metrics(records)["copied"] == 1.0
    with pytest.raises(DataError, match="of 8 responses 8 were criticised, 8 refined, and no refinement was chosen"):
        only = replace(ready.method.source, only_better=True)
        ready.method.targets(only.collect(0, ready.policy))


def test_an_empty_critique_asks_for_a_refinement_of_its_own():
    form, text = FORMS["refinement"], make_text(max_length=200)
    plain = Response("ab")
    question = form.question(text, form.fields(Feedback("q", (plain,)), plain))
    assert text.decode(question) == "[CONTEXT]\nq\n[RESPONSE]\nab\n[CRITIQUE]\n\n[REFINEMENT]\n"


def test_shares_of_two_processes_are_the_round_of_one(tmp_path):
    ready = prepared(tmp_path, EARLY | {"critic": "pep8"})
    source, policy = ready.method.source, ready.policy
    whole, parts = source.collect(1, policy), [source.collect(1, policy, Share(n, 2)) for n in range(2)]
    assert parts == [whole[::2], whole[1::2]]


class Killed(BaseException):
    """A process that is gone."""


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_kill_changes_nothing(tmp_path, step):
    def die(event):
        if event["step"] == step and "loss" in event:
            raise Killed

    method = EARLY | {"critic": "pep8", "rounds": 2}
    whole = train(tmp_path, out="whole", method=method)
    with pytest.raises(Killed):
        train(tmp_path, out="cut", method=method, progress=die)
    cut = train(tmp_path, out="cut", method=method, resume=True)
    model = Path("model") / "model.safetensors"
    assert lines(cut) == lines(whole)
    assert (cut.path / model).read_bytes() == (whole.path / model).read_bytes()


def test_what_was_criticised_is_read_one_response_at_a_time():
    shown = Response("a", critique="c", demonstration=True, score=1.0, refinement="r")
    found = criticised([Feedback("q", (shown, Response("b"), Response("d", critique="e")), id="x")])
    assert [record.id for record in found] == ["x#0", "x#2"]
    assert found[0].responses == (Response("a", critique="c"),)
    assert criticised([Feedback("", (Response("a", critique="c"),))]) == []


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ({"judge": "pep8_lines", "instruct_rm": "x"}, "one of them chooses"),
        ({"only_better": True}, "which say what is better"),
        ({"rounds": 2}, "whose responses stay the same"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tmp_path, method, said):
    with pytest.raises(ConfigError, match=said):
        train(tmp_path, method=method)


def test_a_round_in_which_nothing_is_better_stops_and_leaves_nothing(tmp_path):
    method = {"judge": "tiny_judge:constant", "only_better": True}
    with pytest.raises(DataError, match="of 8 responses 8 were criticised, 8 refined, and no refinement was chosen"):
        train(tmp_path, method=method)
    assert not (tmp_path / "run").exists()


def test_a_later_round_in_which_nothing_is_better_keeps_what_was_learned(tmp_path, monkeypatch):
    collect = Refined.collect

    def once(self, round_index, *how, **options):
        return collect(replace(self, only_better=round_index > 0), round_index, *how, **options)

    monkeypatch.setattr(Refined, "collect", once)
    method = {"judge": "tiny_judge:constant", "critic": "pep8", "rounds": 2}
    with pytest.warns(UserWarning, match="round 1 teaches nothing: no refinement is left to learn from"):
        run = train(tmp_path, method=method)
    assert run.is_done and (run.model_path / "model.safetensors").exists()
    assert [line["empty_rounds"] for line in run.metrics() if "empty_rounds" in line] == [1]


def test_targets_say_what_became_of_the_responses():
    records = [Feedback("q", (Response("a", critique="c"),), id="1"), Feedback("q", (Response("b"),), id="2")]
    said = r"of 2 responses 1 were criticised, 0 refined.*leave room for method\.max_tokens in the refiner's context"
    with pytest.raises(DataError, match=said):
        chosen_refinements(records, text=make_text())


# In a comparison


def test_a_comparison_trains_the_refiner_first_and_does_not_rank_it():
    arm = Arm("ilf")
    assert arm.needs({}) == {"refiner": "refiner"} and arm.tier({}) == 2
    assert arm.tier({"method": {"judge": "pep8_lines"}}) == 3
    assert arm.needs({"method": {"refiner": "runs/refiner", "judge": "reward_model"}}) == {"judge": "reward_model"}
    with pytest.raises(ConfigError, match="refiner writes no text to compare"):
        read_arms(["refiner"], PEP8(num_prompts=1))


# The paper's experiment on removing words: does the refiner do what the critique asks?

WORDS = [f" {c}{v}" for c in "bdfgkl" for v in "ao"]


def words_text():
    """A tokenizer with one token for each word and each marker."""
    texts = (*FORMS["refinement"].parts[1:], FORMS["refinement"].parts[0], *WORDS, "Remove")
    return letters(merges=dict.fromkeys((text[:n], text[n]) for text in texts for n in range(1, len(text))))


def start(folder, *, seed=0):
    tokenizer = words_text()
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 2}
    shape |= {"max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(seed)
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), initializer_range=0.12, **shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def planted(number, seed):
    """Texts of four words, one of which is to go."""
    rng, records = random.Random(seed), []
    for n in range(number):
        words = rng.sample(WORDS, 4)
        gone = rng.choice(words)
        left = "".join(word for word in words if word != gone)
        response = Response("".join(words), critique=f"Remove{gone}", refinement=left)
        records.append(Feedback("say", (response,), id=str(n)))
    return records


@pytest.mark.slow
def test_a_refiner_removes_the_words_that_it_is_told_to(tmp_path):
    """On texts it has not seen; the paper finds that only models of 175 billion parameters do so untaught."""
    run = heedful.train(
        "refiner",
        model=start(tmp_path / "start"),
        feedback=planted(3000, seed=0),
        out=tmp_path / "refiner",
        settings={
            "budget": {"steps": 300},
            "batch_size": 64,
            "optim": {"lr": 3e-3, "warmup": 0.05, "decay": "cosine", "weight_decay": 0.0},
            "dtype": "float32",
            "validation": 0.0,
            "save_every": 1000,
            "probes": 0,
        },
        command=[],
    )
    unseen = planted(200, seed=1)
    right = {}
    for name, folder in (("taught", run.model_path), ("untaught", tiny_writer(tmp_path / "untaught"))):
        writer = load_writer(folder, "refinement")
        asked = [writer.form.fields(record, record.responses[0]) for record in unseen]
        drawn = writer.draw(asked, Sampling(max_tokens=6, temperature=0), k=1, seed=0, keys=range(200))
        right[name] = sum(one.text == r.responses[0].refinement for (one,), r in zip(drawn, unseen, strict=True)) / 200
    assert right["taught"] > 0.9 and right["untaught"] == 0.0, right
