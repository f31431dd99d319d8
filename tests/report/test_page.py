"""The page: whole where data is missing, harmless where data is hostile, true to the numbers."""

import ast
import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from comparison import write_comparison, write_user_comparison

import heedful.report
from heedful.errors import RunError
from heedful.report import build_report
from heedful.report.samples import MOST_RESPONSE
from heedful.results import Results, Row, write

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "image": "<img src=x onerror=alert(1)>",
    "closing tags": "</textarea></pre></section></details><h1>broken out",
    "cdata": "]]> <![CDATA[ -->",
    "ansi": "a\x1b[31mred\x1b[0m",
    "right to left": "user\u202egnp.exe\u202c",
    "no spaces": "x" * 1_000_000,
    "combining marks": "e" + "\u0301" * 10_000,
    "template": "javascript:alert(1) {{7*7}} ${7*7}",
    "half a pair": "\ud800 \x00 \ufeff",
    "entities": "&lt;b&gt; &amp;amp; &#60;",
    "style": "<style>*{display:none}</style> style=x",
    "empty": "",
}
TAGS = {
    "html",
    "head",
    "meta",
    "title",
    "link",
    "style",
    "body",
    "nav",
    "main",
    "footer",
    "header",
    "section",
    "article",
}
TAGS |= {
    "a",
    "div",
    "p",
    "h1",
    "h2",
    "h3",
    "h4",
    "dl",
    "dt",
    "dd",
    "ul",
    "li",
    "pre",
    "span",
    "strong",
    "small",
    "code",
}
TAGS |= {"table", "thead", "tbody", "tr", "th", "td", "details", "summary", "figure", "figcaption"}
TAGS |= {"svg", "g", "line", "text", "circle", "polygon", "polyline", "rect"}
SMALL = [("base", "", None, 0.0, 0.0, 0.0, 0, 0, 0), ("sft", "", 1, 0.1, 0.0, 0.1, 600_000, 0, 70)]


class Page(HTMLParser):
    """A page's elements, attributes and text."""

    def __init__(self, source: str):
        super().__init__()
        self.tags, self.attributes, self.open, self.text = [], [], [], ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *one) for one in attrs]
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def page_of(folder) -> Page:
    page = Page(build_report(folder).read_text(encoding="utf-8"))
    assert page.open == []
    return page


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pep8")
    write_comparison(folder, num_prompts=40)
    return folder


def test_the_page_shows_what_won_by_how_much_and_at_what_price(comparison):
    text = page_of(comparison).text
    found = json.loads((comparison / "results.json").read_text())
    best = next(s for s in found["summary"] if s["method"] == "sft" and s["metric"] == "gold")
    assert f"+{best['difference_to_base']['mean']:.3f}" in text
    assert "methods beat the base on pep8" in text
    assert "610.0k trained tokens" in text


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_every_part_is_there_for_one_seed_and_for_many(tmp_path, seeds):
    write_comparison(tmp_path, num_prompts=20, seeds=seeds, methods=SMALL)
    text = page_of(tmp_path).text
    for part in ("Standings", "Quality against capability", "Who beats whom", "What it cost", "Learning curves"):
        assert part in text
    for part in ("Samples", "Guards", "All numbers", "How this was made", f"20 prompts, {len(seeds)} seed"):
        assert part in text


def test_the_baseline_is_the_first_row(comparison):
    source = build_report(comparison).read_text()
    rows = re.findall(r'<th scope="row"[^>]*>.*?</span>([a-z_]+) ?<', source)
    assert rows[0] == "base"


def test_degenerate_and_failed_methods_are_shown_with_their_reason(comparison):
    text = page_of(comparison).text
    assert "ast_distance 0.412 is beyond the base" in text
    assert "stopped at step 12: kl is not finite" in text


def test_a_broken_loss_is_a_gap_that_is_counted(comparison):
    assert "1 value not finite: gaps" in page_of(comparison).text


def test_no_script_nothing_from_elsewhere_and_a_policy_that_forbids_both(comparison):
    page = page_of(comparison)
    policy = next(
        value for tag, key, value in page.attributes if tag == "meta" and key == "content" and "default-src" in value
    )
    style = Path(heedful.report.__file__).with_name("style.css").read_text()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in policy
    assert "script" not in page.tags
    assert not [
        one for one in page.attributes if one[1] in ("src", "style", "srcset", "action") or one[1].startswith("on")
    ]
    assert all(value.startswith("#") or value == "data:," for _, key, value in page.attributes if key == "href")
    assert "http" not in style and "url(" not in style


@pytest.mark.parametrize("kind", HOSTILE)
def test_model_text_is_text_whatever_it_is(tmp_path, kind):
    write_comparison(tmp_path, num_prompts=12, methods=SMALL, response=lambda method, i: HOSTILE[kind])
    page = page_of(tmp_path)
    assert set(page.tags) <= TAGS
    assert not [one for one in page.attributes if one[1].startswith("on") or one[1] == "src"]
    printable = (
        HOSTILE[kind][:20]
        if kind in ("script", "image", "closing tags", "cdata", "template", "entities", "style")
        else ""
    )
    assert printable in page.text
    assert not set(page.text) & set("\x1b\u202e\x00\ufeff\ud800")


def test_names_errors_and_settings_are_text_too(tmp_path):
    bad = HOSTILE["script"] + "\x1b[2J"
    rows = [Row(method=bad, variant=bad, tier=1, status="failed", error=bad), Row(method="base")]
    write(tmp_path, Results(task=bad, base=bad, budget={bad: bad}, seeds=[0], rows=rows))
    manifest = {"command": [bad], "config": {bad: [bad, {bad: bad}]}, "git": {"commit": bad}, "created": bad}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    page = page_of(tmp_path)
    assert set(page.tags) <= TAGS
    assert "\x1b" not in page.text and HOSTILE["script"] in page.text


def test_a_long_response_is_cut_and_says_so(tmp_path):
    write_comparison(tmp_path, num_prompts=5, methods=SMALL, response=lambda method, i: "x" * 1_000_000)
    source = build_report(tmp_path).read_text()
    assert "x" * MOST_RESPONSE in source and "x" * (MOST_RESPONSE + 1) not in source
    assert "997.6k more characters" in source
    assert len(source) < 1_000_000


def test_samples_are_the_worst_the_median_and_the_best_beside_the_base(tmp_path):
    write_comparison(tmp_path, num_prompts=9, methods=SMALL)
    samples = [json.loads(line) for line in (tmp_path / "samples" / "sft-s0.jsonl").read_text().splitlines()]
    ranked = [sample["prompt_id"] for sample in sorted(samples, key=lambda sample: sample["gold"])]
    source = build_report(tmp_path).read_text()
    for name, prompt in (("Worst", ranked[0]), ("Median", ranked[4]), ("Best", ranked[-1])):
        shelf = source.split(f"{name} of sft")[1].split("</article>")[0]
        assert f"prompt {prompt}<" in shelf
        assert shelf.index("<strong>base<") < shelf.index("<strong>sft<")


def test_a_users_comparison_has_its_own_metrics_and_skipped_methods(tmp_path):
    write_user_comparison(tmp_path)
    text = page_of(tmp_path).text
    assert "Win rate" in text and "Preference accuracy" in text
    assert "needs scores; the file has comparisons only" in text
    assert "pts" in text


def test_a_comparison_with_only_preference_accuracy_is_ranked_by_it(tmp_path):
    metric = {"value": 0.6, "low": 0.5, "high": 0.7, "n": 90, "unit": "share", "direction": "higher"}
    rows = [
        Row(method="base", metrics={"pref_accuracy": metric}),
        Row(method="dpo", tier=1, metrics={"pref_accuracy": metric}),
    ]
    write(tmp_path, Results(task="mine.jsonl", base="gpt2", seeds=[0], rows=rows))
    assert "Ranked by preference accuracy" in page_of(tmp_path).text


def test_missing_files_are_named_and_the_rest_is_shown(tmp_path):
    write_comparison(tmp_path, num_prompts=12, methods=SMALL)
    for name in ("methods", "samples", "eval"):
        shutil.rmtree(tmp_path / name)
    (tmp_path / "manifest.json").unlink()
    text = page_of(tmp_path).text
    assert "manifest.json is missing" in text
    assert "no learning curve of sft-s0" in text
    assert "Standings" in text and "Learning curves" not in text


def test_a_torn_line_and_a_damaged_one_are_problems_not_the_end(tmp_path):
    write_comparison(tmp_path, num_prompts=12, methods=SMALL)
    with (tmp_path / "methods" / "sft-s0" / "metrics.jsonl").open("a") as log:
        log.write('{"step": 241, "lo')
    (tmp_path / "samples" / "sft-s0.jsonl").write_text('{"broken\n{"prompt_id": "p000", "response": "a"}\n')
    text = page_of(tmp_path).text
    assert "the last line is incomplete" in text and "the line is damaged" in text
    assert "Training loss" in text


@pytest.mark.parametrize("rows", [[], [Row(method="base")], [Row(method="ppo", tier=2, status="failed", error="no")]])
def test_a_comparison_without_a_number_still_has_a_page(tmp_path, rows):
    write(tmp_path, Results(task="t", base="b", rows=rows))
    assert "Nothing to rank on t" in page_of(tmp_path).text


def test_a_single_run_shows_its_curves_samples_and_settings(tmp_path):
    write_comparison(tmp_path, num_prompts=5, methods=SMALL)
    run = tmp_path / "methods" / "sft-s0"
    samples = [{"step": step, "prompt": "def f():", "response": f"at {step}", "gold": -0.1} for step in (10, 20, 30)]
    (run / "samples.jsonl").write_text("".join(json.dumps(one) + "\n" for one in samples))
    text = page_of(run).text
    assert "has not finished" in text
    for part in ("eval_gold", "learning_rate", "at 10", "at 20", "at 30", "heedful train sft-s0", "0.0005"):
        assert part in text
    (run / "DONE").write_text("now")
    assert "finished" in page_of(run).text


def test_what_is_no_run_folder_is_refused(tmp_path):
    with pytest.raises(RunError, match="not a run folder"):
        build_report(tmp_path)


def test_the_same_folder_gives_the_same_page(comparison):
    assert build_report(comparison).read_bytes() == build_report(comparison).read_bytes()


def test_the_report_needs_neither_torch_nor_transformers():
    code = "import sys, heedful.report, heedful.terminal as t; print({'torch', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_nothing_outside_the_command_line_imports_the_report():
    """So that it can be deleted in one commit."""
    package = Path(heedful.report.__file__).parent.parent
    for path in package.rglob("*.py"):
        if path.is_relative_to(package / "report") or path.is_relative_to(package / "cli"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        modules = [
            node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.col_offset == 0
        ]
        modules += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
        assert not [one for one in modules if one.startswith("heedful.report")], path


@pytest.mark.slow
def test_a_browser_runs_loads_and_shows_nothing_that_the_model_wrote_as_markup(tmp_path):
    browser = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    if browser is None:
        pytest.skip("no Chromium on PATH; install one (apt-get install chromium) to run this")
    texts = list(HOSTILE.values())
    write_comparison(tmp_path, num_prompts=len(texts), methods=SMALL, response=lambda method, i: texts[i])
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}/browser",
        "--dump-dom",
    ]
    shown = subprocess.run([*command, build_report(tmp_path).as_uri()], capture_output=True, check=True, timeout=120)
    assert set(Page(shown.stdout.decode()).tags) <= TAGS
    assert b"Content Security Policy" not in shown.stderr


def test_what_was_optimised_is_drawn_beside_what_it_stands_for(tmp_path):
    results = write_comparison(tmp_path)
    row = next(row for row in results.rows if row.method != "base" and row.is_measured)
    assert "Reward against distance" not in build_report(tmp_path).read_text()
    points = [{"kl": kl, "proxy": kl, results.primary: 0.3 - 0.1 * kl} for kl in (0.0, 1.0, 4.0)]
    (tmp_path / "course").mkdir()
    (tmp_path / "course" / f"{row.name}.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points))
    page = build_report(tmp_path).read_text()
    assert "Reward against distance" in page and "square root of the KL" in page
    assert page.count("proxy over square root of the KL") == 1
