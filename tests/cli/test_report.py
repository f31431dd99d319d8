"""`heedful report` makes the page of a folder, and shows a comparison's table."""

from comparison import write_comparison


def test_a_comparison_has_a_table_and_a_page(heedful):
    write_comparison(heedful.folder / "pep8", num_prompts=12)
    found = heedful("report", "pep8").out
    assert "Tier 1" in found
    assert found.rstrip().splitlines()[-1] == "pep8/report.html"
    assert (heedful.folder / "pep8/report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_training_has_a_page(heedful, model, feedback):
    heedful("train", "sft", "-f", feedback, "-m", model, "-o", "run", "--set", "budget.steps=2")
    assert heedful("report", "run").out == "run/report.html\n"


def test_as_json_it_says_where_the_page_is(heedful, model, feedback):
    heedful("train", "sft", "-f", feedback, "-m", model, "-o", "run", "--set", "budget.steps=1", "-q")
    assert heedful("report", "run", "--json").json == {"report": "run/report.html"}


def test_quiet_says_the_path_alone(heedful):
    write_comparison(heedful.folder / "pep8", num_prompts=12)
    assert heedful("report", "pep8", "-q").out == "pep8/report.html\n"


def test_damaged_results_name_their_field(heedful):
    folder = heedful.folder / "pep8"
    write_comparison(folder, num_prompts=12)
    path = folder / "results.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"seed": 0', '"seed": "no"', 1), encoding="utf-8")
    found = heedful("report", "pep8", code=2).err
    assert "results.json" in found and "seed" in found
