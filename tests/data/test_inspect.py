"""inspect: the numbers a user decides by, each from a file small enough to count on one's fingers."""

import json

import pytest

from heedful.data import describe_feedback, load_feedback, render
from heedful.data.inspect import quantiles
from heedful.errors import ConfigError
from heedful.records import from_json


def record(*responses, prompt="p", **fields):
    return from_json({"prompt": prompt, "responses": list(responses)} | fields)


def preferred(better, worse, prompt="p", **fields):
    pair = {"better": 0, "worse": 1} | fields.pop("pair", {})
    return record({"text": better}, {"text": worse}, prompt=prompt, comparisons=[pair], **fields)


class Letters:
    """A tokenizer of letters, as far as an example needs one."""

    max_length = 6
    tokenizer = None

    def encode_prompt(self, prompt):
        return [ord(letter) for letter in "^" + prompt]

    def encode_response(self, text, *, finished):
        return [ord(letter) for letter in text + "$" * finished]

    def decode(self, ids):
        return "".join(map(chr, ids))


def test_preferences_are_counted_with_ties_and_length_bias():
    tie = preferred("a", "b", pair={"strength": 0})
    found = describe_feedback([preferred("long", "x"), preferred("y", "short"), tie])["preferences"]
    assert (found["strict_pairs"], found["ties"], found["all_tied_records"]) == (2, 1, 1)
    assert found["tie_share"] == pytest.approx(1 / 3) and found["longer_preferred"] == 0.5
    assert found["strengths"] == {"0": 1, "1": 2}


def test_a_cycle_of_preferences_is_counted():
    texts = [{"text": letter} for letter in "abcd"]
    ring = [{"better": a, "worse": b} for a, b in ((0, 1), (1, 2), (2, 0), (3, 0))]
    assert describe_feedback([record(*texts, comparisons=ring)])["preferences"]["cyclic_records"] == 1
    assert describe_feedback([record(*texts, comparisons=ring[:2])])["preferences"]["cyclic_records"] == 0


def test_equal_texts_in_a_pair_are_counted():
    report = describe_feedback([preferred("a", "a")])
    assert report["preferences"]["identical_pairs"] == report["duplicates"]["records_with_equal_responses"] == 1


def test_duplicates_are_exact_or_of_a_prompt():
    found = describe_feedback([preferred("a", "b"), preferred("a", "b", id="x"), preferred("a", "c")])["duplicates"]
    assert (found["exact"], found["distinct_prompts"], found["records_of_repeated_prompts"]) == (1, 1, 3)


def test_labelers_who_prefer_opposite_sides_contradict_and_disagree():
    records = [preferred("a", "b", labeler="ann", id="1"), preferred("b", "a", labeler="bob", id="2")]
    found = describe_feedback(records)["agreement"]
    assert (found["contradictions"], found["agree"], found["examples"]) == (1, 0.0, [["1", "2"]])


def test_agreement_is_the_share_of_equal_pairs_of_verdicts():
    verdicts = [
        preferred("a", "b", labeler="ann"),
        preferred("a", "b", labeler="bob"),
        preferred("b", "a", labeler="cy"),
    ]
    found = describe_feedback(verdicts)["agreement"]
    assert found["agree"] == pytest.approx(1 / 3)
    assert found["by_labeler"] == {
        "ann": {"met": 2, "agree": 0.5},
        "bob": {"met": 2, "agree": 0.5},
        "cy": {"met": 2, "agree": 0.0},
    }


def test_a_tie_and_a_preference_disagree_but_do_not_contradict():
    found = describe_feedback([preferred("a", "b"), preferred("a", "b", pair={"strength": 0})])["agreement"]
    assert (found["agree"], found["contradictions"]) == (0.0, 0)


def test_good_and_bad_labels_on_one_response_contradict():
    labels = [record({"text": "a", "label": label}) for label in ("good", "bad")]
    assert describe_feedback(labels)["agreement"]["contradictions"] == 1


def test_the_same_row_twice_is_no_agreement():
    assert describe_feedback([preferred("a", "b")] * 2)["agreement"]["judged_more_than_once"] == 0


def test_equal_responses_in_one_record_are_no_second_opinion():
    twin = {"text": "a", "label": "good"}
    assert describe_feedback([record(twin, twin)])["agreement"]["judged_more_than_once"] == 0


def test_scores_segments_flags_and_odd_responses_are_counted():
    report = describe_feedback(
        [
            record(
                {"text": "a b", "score": 2, "segments": [{"text": "a", "score": 0}, {"text": " b", "score": -1}]},
                {"text": " \n", "score": 4, "flags": ["rude"], "truncated": True},
                {"text": "ok\n\nHuman: more", "score": 3},
            )
        ]
    )
    assert report["scores"]["score"]["mean"] == 3 and report["segments"]["score"]["min"] == -1
    assert report["responses"] | {"flags": {}} == {
        "num": 3,
        "demonstrations": 0,
        "truncated": 1,
        "blank": 1,
        "with_another_turn": 1,
        "flags": {},
        "authors": {},
    }
    assert report["responses"]["flags"] == {"rude": 1}


def test_quantiles_are_values_of_the_file():
    assert quantiles(range(11)) == {"num": 11, "mean": 5, "min": 0, "p10": 1, "median": 5, "p90": 9, "max": 10}
    assert quantiles([]) == {}


def test_an_example_trains_the_response_and_not_the_prompt():
    example = describe_feedback([record({"text": "ab"}, prompt="hi")], Letters())["example"]
    assert "".join(example["tokens"]) == "^hiab$" and example["mask"] == [0, 0, 0, 1, 1, 1]
    assert example["over_the_context"] == 0


def test_an_example_that_cannot_be_rendered_says_why():
    class Bare(Letters):
        def encode_prompt(self, prompt):
            raise ConfigError("the model has no chat template")

    assert "no chat template" in describe_feedback([record({"text": "a"})], Bare())["example"]["error"]


def test_a_file_without_responses_has_no_example():
    assert describe_feedback([record()], Letters())["example"] == {}


def test_methods_that_cannot_learn_from_it_say_what_is_missing():
    methods = {"sft": {"demonstrations", "pairs"}, "awr": {"segments"}}
    report = describe_feedback([preferred("a", "b")], methods=methods)
    assert report["methods"] == {"sft": None, "awr": "no response has scored `segments`"}
    assert "methods that can learn from this: sft\n  not awr: no response has scored `segments`" in render(report)


def test_methods_that_lack_the_same_share_a_line():
    methods = {"awr": {"segments"}, "sft": {"pairs"}, "ilf": {"critiques"}, "rwr": {"segments"}}
    lines = render(describe_feedback([preferred("a", "b")], methods=methods)).splitlines()
    assert lines[-2:] == [
        "  not awr, rwr: no response has scored `segments`",
        "  not ilf: no response has a `critique`",
    ]


@pytest.mark.parametrize(
    ("labelers", "words"), [((), "no labeler ids"), (("ann",), "one labeler"), (("ann", "bob"), "2")]
)
def test_agreement_that_cannot_be_measured_is_said(labelers, words):
    records = [preferred("a", "b", labeler=name, prompt=name) for name in labelers] or [preferred("a", "b")]
    report = describe_feedback(records)
    found = report["agreement"]
    assert (found["labelers"], found["agree"], found["contradictions"], found["by_labeler"]) == (words, None, 0, {})
    assert shown(report, "labelers") == words
    assert shown(report, "agree") == "nothing was judged more than once"
    assert shown(report, "contradictions") == "0"


def test_an_agreement_of_0_is_shown():
    report = describe_feedback([preferred("a", "b", labeler="ann"), preferred("b", "a", labeler="bob")])
    assert (shown(report, "agree"), shown(report, "contradictions")) == ("0", "1")


def shown(report, name: str) -> str:
    """What stands behind a name in the part about agreement."""
    part = render(report).partition("\nagreement\n")[2].partition("\n\n")[0]
    return next(line for line in part.splitlines() if line.startswith(f"  {name}  ")).removeprefix(f"  {name}").strip()


def test_the_report_of_a_file_accounts_for_its_rows(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"instruction": "i", "output": ""}\n{"instruction": "i", "output": "o", "x": 1}\n')
    report = describe_feedback(load_feedback(path))
    assert report["file"]["rows"] == 2 and report["file"]["dropped"] == {"empty `output`": 1}
    assert json.loads(json.dumps(report))["records"] == 1
    text = render(report)
    assert "1 record from 2 rows, read as alpaca" in text and "kept as metadata: x" in text


def test_nothing_from_the_file_can_move_the_cursor():
    wild = "\x1b[2J\x07"
    records = [
        record({"text": wild, "flags": [wild], "author": wild, "label": "good"}, prompt=wild, labeler=wild, id=wild),
        record({"text": wild, "label": "bad"}, prompt=wild, labeler="ann", id=wild + "2"),
    ]
    assert "\x1b" not in render(describe_feedback(records, Letters()))


def test_a_long_example_is_cut_in_the_middle():
    text = render(describe_feedback([record({"text": "b" * 500}, prompt="a" * 500)], Letters()))
    assert len(text) < 1500 and " ... [b]" in text
