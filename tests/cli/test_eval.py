"""`heedful eval`: a scorer on people's comparisons."""

import pytest

SCORER = """
def length(prompt, response):
    return len(response)
"""


@pytest.fixture
def compared(heedful):
    (heedful.folder / "length_scorer.py").write_text(SCORER, encoding="utf-8")
    rows = [
        {"prompt": "p", "responses": [{"text": "longer", "rank": 1}, {"text": "short", "rank": 2}]},
        {"prompt": "q", "responses": [{"text": "longer", "rank": 2}, {"text": "short", "rank": 1}]},
        {"prompt": "r", "responses": [{"text": "a", "rank": 1}, {"text": "b", "rank": 1}]},
        {"prompt": "s", "responses": [{"text": "alone"}]},
    ]
    return heedful.write("compared.jsonl", *rows)


def test_a_scorer_is_measured_on_comparisons(heedful, compared):
    found = heedful("eval", "--with", "length_scorer:length", "--feedback", compared, "--json", "-q").json
    assert found["counts"] == {"records": 3, "prompts": 3, "pairs": 2, "ties": 1}
    assert found["left_out"] == {"record without a comparison": 1}
    assert found["metrics"]["accuracy"]["value"] == 0.5 and found["metrics"]["accuracy"]["n"] == 2
    assert found["metrics"]["above_longer"]["value"] == 0.0
    assert "ceiling" not in found["metrics"]


def test_people_read_lines(heedful, compared):
    out = heedful("eval", "--with", "length_scorer:length", "-f", compared, "-q").out
    assert "2 pairs and 1 tie of 3 prompts" in out and "prefers what people prefer" in out and "50.0%" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--with", "pep8_lines"], "--with and --feedback go together"),
        (["--feedback", "compared.jsonl"], "--with and --feedback go together"),
        (
            ["--with", "pep8_lines", "--feedback", "compared.jsonl", "--task", "pep8"],
            "--with measures a scorer, --task is for a model",
        ),
        (
            ["model", "--with", "pep8_lines", "--feedback", "compared.jsonl"],
            "--with measures a scorer, MODEL is for a model",
        ),
    ],
)
def test_options_of_a_model_and_of_a_scorer_do_not_mix(heedful, compared, arguments, message):
    assert message in " ".join(heedful("eval", *arguments, code=2).err.replace("│", " ").split())


def test_a_file_without_comparisons_is_an_error_that_says_what_is_missing(heedful):
    file = heedful.write("f.jsonl", {"prompt": "p", "responses": [{"text": "alone"}]})
    found = heedful("eval", "--with", "pep8_lines", "--feedback", file, "-q", code=2).err
    assert "in none of 1 records was one of two responses preferred" in found and "data inspect" in found
