"""`heedful score`: a number for every response."""

import json

from small_feedback import record

SCORER = """
def brevity(prompt, response):
    return -len(response)
"""


def test_an_own_function_scores_every_response(heedful):
    (heedful.folder / "own_scorer.py").write_text(SCORER, encoding="utf-8")
    file = heedful.write("f.jsonl", {"prompt": "p", "responses": [{"text": "four"}, {"text": "seven77"}]})
    found = heedful("score", file, "--with", "own_scorer:brevity", "-o", "scored.jsonl", "--json", "-q").json
    assert found["score"]["num"] == 2
    assert found["score"]["mean"] == -5.5
    row = json.loads((heedful.folder / "scored.jsonl").read_text())
    assert [response["scores"][0]["value"] for response in row["responses"]] == [-4, -7]


def test_scoring_again_replaces_the_number(heedful):
    file = heedful.write("f.jsonl", record(0))
    heedful("score", file, "--with", "pep8_chars", "-o", "once.jsonl", "-q")
    heedful("score", "once.jsonl", "--with", "pep8_chars", "-o", "twice.jsonl", "-q")
    assert (heedful.folder / "once.jsonl").read_text() == (heedful.folder / "twice.jsonl").read_text()


def test_an_unknown_scorer_gets_a_suggestion(heedful):
    file = heedful.write("f.jsonl", record(0))
    assert "did you mean 'pep8_lines'?" in heedful("score", file, "--with", "pep8_line", code=2).err


def test_a_scorer_that_needs_an_answer_names_the_record(heedful):
    file = heedful.write("f.jsonl", record(0))
    found = heedful("score", file, "--with", "exact_match", "-q", code=2).err
    assert "f.jsonl:1 (record r0): responses[0]: exact_match needs `answer`: expected a record with" in found


def test_prompts_without_responses_cannot_be_scored(heedful):
    file = heedful.write("f.jsonl", {"prompt": "p"})
    assert "no response to score" in heedful("score", file, "--with", "pep8_lines", "-q", code=2).err


def test_people_read_a_summary(heedful):
    file = heedful.write("f.jsonl", record(0))
    assert "2 responses" in heedful("score", file, "--with", "pep8_lines", "-q").out
