"""Every shape of feedback file, in small: our own rows, of the same columns as the published sets."""

import json

import pytest

from heedful.data import kinds_of, load_feedback
from heedful.data.formats import FORMATS
from heedful.data.formats.base import Unusable
from heedful.data.formats.finegrained import cut
from heedful.data.formats.transcripts import split_dialogues
from heedful.data.load import _Account, _read_row
from heedful.errors import DataError
from heedful.records import Message, strict_pairs


@pytest.fixture
def load(tmp_path):
    """Load rows as a file; options go to the reader."""

    def load(*rows, **options):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return load_feedback(path, **options)

    return load


@pytest.fixture
def one(load):
    """The only record of a file of one row."""

    def one(row):
        (record,) = load(row)
        return record

    return one


def turn(role, content):
    return {"role": role, "content": content}


ASK, REPLY = turn("user", "hi"), turn("assistant", "hello")
DIALOGUE = "\n\nHuman: Why is the sky blue?\n\nAssistant:"
FINEGRAINED = {
    "question": "Who?",
    "passages": [["Ann", "Ann\n\nAnn did.", "She did."]],
    "gold": "Ann did it.",
    "prediction 1": "Ann. Bob? Cid!",
    "prediction 2": "Bob.",
    "prediction 3": "Cid.",
    "prediction 4": "Dan.",
    "feedback": {
        "errors": [{"error type": "Irrelevant", "explanation": "", "start": 5, "end": 9}],
        "missing-info": [{"error type": "Missing-Answer"}],
        "corrected-prediction": "Ann.",
    },
    "preference": [1, 2, 0, 1, 1, 2],
}
DEFACTO = {
    "article": "Ann came.",
    "abstract": "Ann arrives.",
    "candidate": "Bob came.",
    "doc_id": 7,
    "has_error": True,
    "intrinsic_error": True,
    "extrinsic_error": False,
    "feedback": {
        "summary": "Ann came.",
        "evidence": "Ann came.",
        "explanation": "It was Ann.",
        "instruction": "Replace Bob.",
        "instruction_list": ["Replace Bob."],
    },
}
HALUEVAL = {"ID": "4", "user_query": "Q?", "chatgpt_response": "One. Two. Three.", "hallucination": "yes"}
PANDALM = {
    "idx": 4,
    "instruction": "Add.",
    "input": "1, 2",
    "response1": "3",
    "response2": "12",
    "annotator1": 1,
    "annotator2": 0,
    "annotator3": 2,
}
TLDR = {
    "query": "POST: x\n\nTL;DR:",
    "postprocessed_response": "  mine",
    "reference_responses": "  yours",
    "explanation": "B is short.",
    "preferred": "reference",
    "shuffled_index": "0",
}
SOLUTIONS = {
    "question": "1+1?",
    "ground_truth": "It is 2.\nA: 2",
    "6b": {"is_correct": False, "solution": "3"},
    "175b": {"is_correct": True, "solution": "2"},
}

SHAPES = {
    "native": {"prompt": "p", "responses": [{"text": "a"}]},
    "ultrafeedback": {
        "instruction": "Do.",
        "completions": [
            {"model": "m", "response": "a", "overall_score": 8.0, "critique": "fine", "annotations": {}},
            {"model": "n", "response": "b", "overall_score": 2.0, "critique": "", "annotations": {}},
        ],
    },
    "finegrained rlhf": FINEGRAINED,
    "webgpt comparisons": {
        "question": {"full_text": "Q?"},
        "answer_0": "a",
        "answer_1": "b",
        "score_0": 0.5,
        "score_1": -0.5,
    },
    "summary comparisons": {
        "info": {"post": "x"},
        "summaries": [{"text": "a"}, {"text": "b"}],
        "choice": 1,
        "worker": "w",
    },
    "summary ratings": {"info": {"article": "x"}, "summary": {"text": "a", "axes": {"overall": 5}}, "worker": "w"},
    "tldr judged": TLDR,
    "halueval": HALUEVAL,
    "defacto": DEFACTO,
    "gsm8k solutions": SOLUTIONS,
    "question-answer": {"question": "1+1?", "answer": "Two.\n#### 2"},
    "bbh": {"task": "word_sorting", "input": "Sort: b a", "target": "a b"},
    "scored segments": {"texts": ["a ", "b"], "scores": [0.0, 0.75], "meta": {}},
    "scored dialogues": {"text": [DIALOGUE + " Air.", DIALOGUE + " No."], "score": [1.0, 0.0]},
    "pandalm": {name: value for name, value in PANDALM.items() if name not in ("annotator2", "annotator3")},
    "alpaca": {"instruction": "Add.", "input": "1, 2", "output": "3"},
    "sharegpt preference": {
        "conversations": [{"from": "human", "value": "hi"}],
        "chosen": {"from": "gpt", "value": "hello"},
        "rejected": {"from": "gpt", "value": "no"},
    },
    "sharegpt": {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
    "trl preference": {"prompt": "p", "chosen": "a", "rejected": "b"},
    "trl unpaired preference": {"prompt": "p", "completion": "a", "label": False},
    "trl prompt-completion": {"prompt": "p", "completion": "a"},
    "messages": {"messages": [ASK, REPLY]},
    "trl text": {"text": "a document"},
    "trl prompt": {"prompt": "p", "tag": 1},
}


def test_every_shape_has_an_example_here():
    assert set(SHAPES) == {shape.name for shape in FORMATS}


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_known_by_its_columns(load, name):
    file = load(SHAPES[name])
    assert file.format == name and len(file) == 1 and file[0].id


@pytest.mark.parametrize("name", sorted(set(SHAPES) - {"native", "gsm8k solutions", "question-answer", "bbh"}))
def test_unknown_columns_of_a_foreign_shape_become_metadata(load, name):
    file = load(SHAPES[name] | {"my_column": [1]})
    assert file.format == name and file[0].metadata["my_column"] == [1]


ODD = (None, 7, -1.5, True, "", "x", [], [None], [3], ["x"], [{}], {}, {"x": 1}, [[]], float("nan"))


def broken(value):
    """Copies of a value with one part of it, however deep, made something odd."""
    yield from ODD
    if isinstance(value, dict):
        for key in value:
            yield {name: item for name, item in value.items() if name != key}
            yield from (value | {key: part} for part in broken(value[key]))
    if isinstance(value, list):
        for n in range(len(value)):
            yield from ([*value[:n], part, *value[n + 1 :]] for part in broken(value[n]))


@pytest.mark.parametrize("shape", FORMATS, ids=lambda shape: shape.name)
def test_no_value_anywhere_in_a_row_does_worse_than_a_data_error(shape):
    account = _Account()
    for row in broken(SHAPES[shape.name]):
        if isinstance(row, dict):
            try:
                _read_row(row, shape, "id", "a.jsonl:1", account)
            except DataError as error:
                assert str(error).startswith("a.jsonl:1: ")
            except Unusable:
                pass


@pytest.mark.parametrize("name", SHAPES)
def test_a_missing_column_in_a_later_row_is_an_error_with_its_line(load, name):
    optional = {"ID", "idx", "tag", "meta", *(["prompt"] if name == "trl preference" else [])}
    required = next(column for column in SHAPES[name] if column not in optional)
    later = {column: value for column, value in SHAPES[name].items() if column != required}
    with pytest.raises(DataError, match=r"rows\.jsonl:2"):
        load(SHAPES[name], later)


# TRL ----------------------------------------------------------------------------------------------


def test_text_is_a_document(one):
    record = one({"text": "Once."})
    assert record.prompt == "" and record.responses[0].text == "Once."
    assert "documents" in kinds_of(record)


def test_prompt_and_completion_are_a_demonstration(one):
    assert one({"prompt": "p", "completion": "c"}).responses[0].demonstration


def test_a_truth_value_is_a_good_or_bad_label(load):
    rows = [{"prompt": "p", "completion": "c", "label": is_good} for is_good in (True, False)]
    assert [record.responses[0].label for record in load(*rows)] == ["good", "bad"]


def test_a_label_that_is_no_truth_value_is_refused_not_ignored(load):
    with pytest.raises(DataError, match="`label`: found 1: expected true or false"):
        load({"prompt": "p", "completion": "c", "label": 1})


def test_an_empty_completion_of_ones_own_file_is_an_error(load):
    with pytest.raises(DataError, match=r"rows\.jsonl:1: responses\[0\]\.text: found an empty text"):
        load({"prompt": "p", "completion": ""})


def test_chosen_beats_rejected(one):
    record = one({"prompt": "p", "chosen": "a", "rejected": "b"})
    assert (record.prompt, [r.text for r in record.responses], strict_pairs(record)) == ("p", ["a", "b"], [(0, 1)])


def test_an_implicit_prompt_of_conversations_is_what_both_begin_with(one):
    record = one({"chosen": [ASK, REPLY], "rejected": [ASK, turn("assistant", "no")]})
    assert record.prompt == (Message("user", "hi"),)
    assert [r.text for r in record.responses] == ["hello", "no"]


def test_a_prompt_that_the_sides_repeat_is_not_repeated(one):
    sides = {"chosen": [ASK, REPLY], "rejected": [ASK, turn("assistant", "no")]}
    assert one(sides | {"prompt": [ASK]}).prompt == one(sides | {"prompt": "hi"}).prompt == (Message("user", "hi"),)


def test_a_prompt_beside_bare_answers_comes_before_them(one):
    sides = {"chosen": [REPLY], "rejected": [turn("assistant", "no")]}
    assert one(sides | {"prompt": [ASK]}).prompt == one(sides | {"prompt": "hi"}).prompt == (Message("user", "hi"),)


def test_conversations_that_part_early_are_refused(load):
    late = [ASK, turn("assistant", "no"), ASK, REPLY]
    with pytest.raises(DataError, match="3 turns after what both begin with"):
        load({"chosen": [ASK, REPLY], "rejected": late})


def test_scores_of_binarized_ultrafeedback_are_kept(one):
    record = one({"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": 8.5, "score_rejected": 7.5})
    assert [r.score for r in record.responses] == [8.5, 7.5]


def test_a_column_that_looks_like_a_verdict_is_remarked_on(load):
    file = load({"prompt": "p", "completion": "c", "score": -3})
    assert list(file.remarks) == ["`score` kept as metadata: to learn from it, --map it to a field"]


def test_every_turn_of_the_assistant_is_trained(load):
    second = turn("assistant", "fine")
    file = load({"messages": [ASK, REPLY, turn("user", "well?"), second, turn("user", "bye")]})
    assert [(len(record.prompt), record.responses[0].text) for record in file] == [(1, "hello"), (3, "fine")]
    assert [record.id for record in file] == ["rows.jsonl:1#0", "rows.jsonl:1#1"]
    assert {record.metadata["conversation"] for record in file} == {"rows.jsonl:1"}
    assert file.num_rows == 1


def test_a_completion_of_several_turns_trains_its_own_turns_alone(load):
    file = load({"prompt": [ASK, REPLY, ASK], "completion": [REPLY, ASK, REPLY]})
    assert [len(record.prompt) for record in file] == [3, 5]


def test_a_verdict_on_a_conversation_is_of_its_last_turn(load):
    talk = [ASK, REPLY, ASK, turn("assistant", "last")]
    for row in ({"messages": talk, "label": False}, {"prompt": talk[:1], "completion": talk[1:], "label": False}):
        (record,) = load(row)
        assert (record.responses[0].text, record.responses[0].label, len(record.prompt)) == ("last", "bad", 3)


def test_a_conversation_without_an_answer_is_refused(load):
    with pytest.raises(DataError, match="no turn of the assistant"):
        load({"messages": [ASK]})
    with pytest.raises(DataError, match="the assistant begins"):
        load({"messages": [REPLY]})


def test_content_that_is_no_text_is_refused(load):
    with pytest.raises(DataError, match=r"`messages`\[0\]\.content: found a list of 1"):
        load({"messages": [turn("user", [{"type": "image"}]), REPLY]})


def test_sharegpt_roles_get_their_usual_names(one):
    record = one(SHAPES["sharegpt"] | {"system": "Be kind."})
    assert record.prompt == (Message("system", "Be kind."), Message("user", "hi"))


def test_a_kto_tag_is_a_label(one):
    assert one(SHAPES["sharegpt"] | {"kto_tag": False}).responses[0].label == "bad"


# Transcripts --------------------------------------------------------------------------------------


def test_a_transcript_is_cut_at_the_last_shared_turn_marker_without_losing_a_character(one):
    chosen, rejected = DIALOGUE + " Because of air.", DIALOGUE + " Because I say so."
    record = one({"chosen": chosen, "rejected": rejected})
    assert record.prompt == DIALOGUE
    assert [record.prompt + r.text for r in record.responses] == [chosen, rejected]


def test_only_markers_of_the_assistant_end_a_prompt():
    talk = DIALOGUE + " Air.\n\nHuman: Wh"
    assert split_dialogues([talk + "at?", talk + "y?"])[0] == DIALOGUE


def test_a_heading_marker_takes_its_line_break(one):
    head = "## Human:\nWhy?\n\n## Assistant:\n"
    record = one({"text": [head + "So.", head + "No."], "score": [1.0, 1.0]})
    assert record.prompt == head and strict_pairs(record) == []


def test_without_a_marker_a_prompt_never_ends_inside_a_word():
    assert split_dialogues(["The sky is blue.", "The sky is black."]) == ("The sky is", [" blue.", " black."])
    assert split_dialogues(["yes", "yesterday"]) == ("", ["yes", "yesterday"])


def test_two_different_dialogues_are_dropped_and_counted(load):
    other = DIALOGUE.replace("Why", "How")
    file = load(SHAPES["trl preference"], {"chosen": DIALOGUE + " a", "rejected": other + " b"})
    assert file.dropped == {"dialogues that share no turn of the human": 1}


def test_scores_of_one_judge_become_comparisons_with_a_strength(one):
    texts = [DIALOGUE + " a", DIALOGUE + " b"]
    (pair,) = one({"text": texts, "score": [0.5, 1.5]}).comparisons
    assert (pair.better, pair.worse, pair.strength) == (1, 0, 1.0)


def test_three_scored_dialogues_give_three_pairs(one):
    texts = [DIALOGUE + answer for answer in (" a", " b", " c")]
    record = one({"text": texts, "score": [0, 2, 1]})
    assert sorted(strict_pairs(record)) == [(1, 0), (1, 2), (2, 0)] and "rankings" in kinds_of(record)


def test_a_transcript_with_an_empty_answer_is_dropped_and_counted(load):
    good = {"chosen": DIALOGUE + " a", "rejected": DIALOGUE + " b"}
    file = load(good, {"chosen": DIALOGUE + " ", "rejected": DIALOGUE + " b"})
    assert (len(file), file.num_rows, file.dropped) == (1, 2, {"an empty answer": 1})


# Published sets -----------------------------------------------------------------------------------


def test_alpaca_has_its_authors_prompt_and_drops_empty_outputs(load):
    file = load(SHAPES["alpaca"], {"instruction": "Sing.", "input": "", "output": ""})
    assert file[0].prompt.endswith("### Instruction:\nAdd.\n\n### Input:\n1, 2\n\n### Response:")
    assert file.dropped == {"empty `output`": 1}


EMPTIED = [
    ("tldr judged", "postprocessed_response"),
    ("tldr judged", "reference_responses"),
    ("halueval", "chatgpt_response"),
    ("finegrained rlhf", "prediction 3"),
    ("defacto", "candidate"),
    ("defacto", "abstract"),
    ("question-answer", "answer"),
    ("gsm8k solutions", "ground_truth"),
    ("webgpt comparisons", "answer_1"),
]


@pytest.mark.parametrize(("shape", "name"), EMPTIED)
def test_a_row_of_a_published_set_with_an_empty_answer_is_dropped_and_counted_by_its_column(load, shape, name):
    file = load(SHAPES[shape], SHAPES[shape] | {name: " "})
    assert (len(file), file.num_rows, file.dropped) == (1, 2, {f"empty `{name}`": 1})


@pytest.mark.parametrize(
    ("shape", "emptied", "name"),
    [
        ("gsm8k solutions", {"6b": {"is_correct": True, "solution": ""}}, "solution"),
        ("summary comparisons", {"summaries": [{"text": "a"}, {"text": ""}]}, "text"),
        ("summary ratings", {"summary": {"text": "", "axes": {}}}, "text"),
    ],
)
def test_so_is_one_whose_empty_answer_lies_deeper(load, shape, emptied, name):
    file = load(SHAPES[shape], SHAPES[shape] | emptied)
    assert (len(file), file.dropped) == (1, {f"empty `{name}`": 1})


def test_each_annotator_of_pandalm_is_a_record(load):
    records = load(PANDALM)
    assert [record.labeler for record in records] == ["annotator1", "annotator2", "annotator3"]
    assert [strict_pairs(record) for record in records] == [[(0, 1)], [], [(1, 0)]]
    assert {record.prompt for record in records} == {load(SHAPES["alpaca"])[0].prompt}
    assert records[0].metadata["idx"] == 4 and "annotator1" not in records[0].metadata


def test_an_annotator_of_pandalm_says_0_1_or_2(load):
    with pytest.raises(DataError, match=r"annotator2`: found 3: expected 0, 1 or 2"):
        load(PANDALM | {"annotator2": 3})
    assert load(PANDALM, PANDALM | {"response2": " "}).dropped == {"empty `response2`": 1}


def test_alpaca_without_input_has_no_input_section(one):
    assert "### Input" not in one({"instruction": "Sing.", "input": "", "output": "La."}).prompt


def test_braces_in_an_instruction_are_only_text(one):
    assert "{input} {0}" in one({"instruction": "{input} {0}", "output": "x"}).prompt


def test_gsm8k_answers_are_for_the_checker(one):
    record = one({"question": "1+1?", "answer": "Two.\n#### 2"})
    assert (record.prompt, record.answer, record.responses[0].text) == ("1+1?\n", "2", "Two.\n#### 2")


def test_question_and_answer_without_a_mark_have_nothing_to_check(one):
    assert one({"question": "q", "answer": "a"}).answer is None


def test_gsm8k_solutions_are_labelled_and_the_truth_is_a_demonstration(one):
    record = one(SOLUTIONS | {"note": "n"})
    assert [(r.label, r.author, r.demonstration) for r in record.responses] == [
        ("bad", "6b", False),
        ("good", "175b", False),
        (None, "ground_truth", True),
    ]
    assert record.answer == "2" and strict_pairs(record) == [(1, 0)] and record.metadata == {"note": "n"}


def test_finegrained_answers_are_cut_at_their_errors(one):
    record = one(FINEGRAINED)
    first = record.responses[0]
    assert [(s.text, s.score) for s in first.segments] == [("Ann. ", 0), ("Bob?", -1), (" Cid!", 0)]
    assert first.flags == ("Irrelevant", "Missing-Answer") and first.refinement == "Ann."
    assert record.responses[4].demonstration and record.responses[4].text == "Ann did it."


def test_finegrained_preferences_are_six_pairs_and_zero_is_a_tie(one):
    pairs = [(p.better, p.worse, p.strength) for p in one(FINEGRAINED).comparisons]
    assert pairs == [(0, 1, 1), (2, 0, 1), (0, 3, 0), (1, 2, 1), (1, 3, 1), (3, 2, 1)]


def test_finegrained_prompts_hold_question_and_passages(one):
    assert one(FINEGRAINED).prompt == "question: Who? context: wikipage: Ann text: Ann Ann did. She did.\nanswer:\n"
    assert one(FINEGRAINED | {"passages": []}).prompt == "question: Who?\nanswer:\n"


def test_overlapping_spans_are_one_bad_stretch():
    pieces = cut("abcdef", [(1, 4), (2, 3), (3, 5)])
    assert "".join(piece["text"] for piece in pieces) == "abcdef"
    assert "".join(piece["text"] for piece in pieces if piece["score"]) == "bcde"


def test_spans_outside_the_answer_are_refused(load):
    wrong = FINEGRAINED["feedback"] | {"errors": [{"error type": "x", "start": 5, "end": 99}]}
    with pytest.raises(DataError, match="`errors`: found 5 to 99: expected offsets within 14 characters"):
        load(FINEGRAINED | {"feedback": wrong})


def test_halueval_passages_are_cut_out_where_all_are_found(load):
    file = load(
        HALUEVAL | {"hallucination_spans": ["Two."]},
        HALUEVAL | {"hallucination_spans": ["Two.", "not there"], "ID": ""},
        HALUEVAL | {"hallucination": "no", "hallucination_spans": []},
    )
    assert [[s.score for s in record.responses[0].segments] for record in file] == [[0, -1, 0], [], [0]]
    assert [record.responses[0].label for record in file] == ["bad", "bad", "good"]
    assert sum(file.remarks.values()) == 1 and file[1].id == "rows.jsonl:2"


def test_defacto_has_label_critique_refinement_and_reference(one):
    record = one(DEFACTO)
    candidate, reference = record.responses
    assert (candidate.label, candidate.flags, candidate.refinement) == ("bad", ("intrinsic_error",), "Ann came.")
    assert candidate.critique == "It was Ann.\nReplace Bob."
    assert reference.demonstration and record.metadata["evidence"] == "Ann came."


def test_tldr_verdicts_are_ours_reference_or_none(load):
    file = load(TLDR, TLDR | {"preferred": "ours"}, TLDR | {"preferred": ""})
    assert [strict_pairs(record) for record in file] == [[(1, 0)], [(0, 1)], []]
    assert file[0].responses[1].demonstration and file.metadata_columns == ("explanation", "shuffled_index")


def test_webgpt_scores_are_strengths_and_equal_ones_ties(load):
    tie = SHAPES["webgpt comparisons"] | {"score_0": 0.0, "score_1": 0.0}
    assert [record.comparisons[0].strength for record in load(SHAPES["webgpt comparisons"], tie)] == [1.0, 0.0]


def test_openai_summaries_have_the_authors_layout(one):
    info = {"post": "I ran.", "title": "Run", "subreddit": "sport"}
    record = one(SHAPES["summary comparisons"] | {"info": info})
    assert record.prompt == "SUBREDDIT: r/sport\n\nTITLE: Run\n\nPOST: I ran.\n\nTL;DR:"
    assert strict_pairs(record) == [(1, 0)] and record.labeler == "w"


def test_the_summary_of_the_posts_author_is_a_demonstration(one):
    row = SHAPES["summary comparisons"]
    record = one(row | {"summaries": [{"text": "a", "policy": "ref"}, {"text": "b", "policy": "sup4"}]})
    assert [(r.author, r.demonstration) for r in record.responses] == [("ref", True), ("sup4", False)]


def test_the_overall_rating_is_the_score_and_the_axes_stand_beside_it(one):
    (response,) = one(SHAPES["summary ratings"]).responses
    assert response.score == 5 and response.scores[0].scorer == "overall"


def test_ultrafeedback_ratings_that_are_no_number_are_left_out(one):
    annotations = {"honesty": {"Rating": "4"}, "truth": {"Rating": "N/A"}}
    row = SHAPES["ultrafeedback"]
    record = one(row | {"completions": [row["completions"][0] | {"annotations": annotations}, row["completions"][1]]})
    assert [(s.scorer, s.value) for s in record.responses[0].scores] == [("honesty", 4)]
    assert strict_pairs(record) == [(0, 1)] and record.responses[0].critique == "fine"


def test_misalignment_scores_change_sign(one):
    (response,) = one(SHAPES["scored segments"]).responses
    assert response.text == "a b" and [s.score for s in response.segments] == [0, -0.75]


# Telling shapes apart -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "suggestion"),
    [
        ({"prompt": "p", "completon": "c"}, "did you mean `completion`?"),
        ({"prompt": "p", "respones": [{"text": "a"}]}, "did you mean `responses`?"),
        ({"promt": "p", "responses": [{"text": "a"}]}, "did you mean `prompt`?"),
        ({"promt": "p", "respones": [{"text": "a"}]}, "did you mean `prompt`?"),
        ({"prompt": "p", "choosen": "a", "rejected": "b"}, "did you mean `chosen`?"),
        ({"text": "t", "message": []}, "did you mean `messages`?"),
        ({"promt": "p", "completion": "c"}, "did you mean `prompt`?"),
    ],
)
def test_a_misspelt_column_is_an_error_with_a_suggestion(load, row, suggestion):
    with pytest.raises(DataError) as caught:
        load(row)
    assert suggestion in str(caught.value) and "rows.jsonl:1" in str(caught.value)


def test_columns_of_no_known_shape_are_listed_with_the_way_out(load):
    with pytest.raises(DataError, match=r"no known shape has the columns `frage`, `antwort`.*--map prompt=question"):
        load({"frage": "q", "antwort": "a"})


def test_a_file_is_read_in_one_shape(load):
    with pytest.raises(DataError, match=r"rows\.jsonl:2: `completion`: missing"):
        load({"prompt": "p", "completion": "c"}, {"prompt": "p", "completon": "c"})
