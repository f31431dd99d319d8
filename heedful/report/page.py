"""The page: sections in the order a reader asks. What won, by how much, at what price; then the evidence.

Everything is made here, from the run folder alone, into one file with one style sheet and no script; the
content security policy allows that style sheet by its hash and nothing else, so that even a mistake in
escaping could neither run nor load anything. See heedful/results.py for the folder.
"""

import base64
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heedful.disk import atomic_write_text
from heedful.report import curves, tables
from heedful.report.folder import Folder, Lines, read_folder
from heedful.report.html import Child, Html, join, tag, trusted
from heedful.report.samples import Gallery, as_text, by_prompt, prompt_text, response_text, tier_class
from heedful.report.svg import Frame, Point, scatter, spread
from heedful.results import Results
from heedful.standings import Entry, Standings, Verdict, headline, standings, verdicts
from heedful.wording import CAPABILITY, between, budget, number, plural, short, signed, title

FILE = "report.html"
STYLE = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
CORNERS = {
    "bits_per_byte_clean": ("better and more capable", "worse and less capable"),
    "bits_per_byte": ("better and more capable", "worse and less capable"),
    "kl_to_base": ("better, close to the base", "worse, far from the base"),
}
Section = tuple[str, str, Html]  # anchor, heading, content


def build_report(folder: str | Path) -> Path:
    """Write report.html into a comparison's or a training run's folder, from what is there; its path.

    Raises:
        RunError: the folder is neither, its results.json cannot be used, or the page cannot be written.
    """
    read = read_folder(folder)
    page = _comparison(read, read.results) if read.results is not None else _single_run(read)
    path = Path(folder) / FILE
    atomic_write_text(path, page)
    return path


def _comparison(read: Folder, results: Results) -> str:
    found = standings(results)
    sections = [
        ("standings", "Standings", _standings(found)),
        ("capability", "Quality against capability", _capability(found)),
        ("pairs", "Who beats whom", _pairs(found)),
        ("distance", "Reward against distance", _distance(read, found)),
        ("cost", "What it cost", _cost(found)),
        ("curves", "Learning curves", _curves(read, found)),
        ("samples", "Samples", _samples(read, found)),
        ("guards", "Guards", _guards(found)),
        ("made", "How this was made", _made(read)),
        ("numbers", "All numbers", tables.numbers(found) if results.summary else None),
    ]
    facts = {"Base": results.base, "Budget per method": budget(results.budget), "Seeds": _seeds(results.seeds)}
    head = _head("heedful comparison", headline(found), facts | _origin(read.manifest), read.problems)
    kept = [(anchor, heading, content) for anchor, heading, content in sections if content is not None]
    return _page(f"heedful: {results.task}", join([head, _verdicts(found)]), kept)


def _single_run(read: Folder) -> str:
    logs = read.metrics.get("", [])
    drawn = [panel for key in curves.logged(logs) if (panel := curves.panel(key, {"run": logs}, key)) is not None]
    note = "" if read.is_done else "This run has not finished; the page shows it as it stands. "
    lead = tag(
        "p", f"{note}Lines of many steps are means of equal stretches; the band spans their extremes.", class_="lead"
    )
    shown = tag("div", drawn, class_="panels") if drawn else tag("p", "Nothing was logged.", class_="soft")
    sections: list[Section] = [("curves", "Learning curves", join([lead, shown]))]
    samples = _run_samples(read.samples.get("", []))
    sections += [("samples", "Samples", samples)] if samples is not None else []
    sections.append(("made", "How this was made", _made(read)))
    facts = {"Steps logged": f"{len(logs):,}", "State": "finished" if read.is_done else "unfinished"}
    head = _head("heedful training run", read.path.resolve().name, facts | _origin(read.manifest), read.problems)
    return _page(f"heedful: {read.path.resolve().name}", head, sections)


def _page(name: str, top: Html, sections: Sequence[Section]) -> str:
    """The whole document. The style sheet is the only thing the policy lets in, by its hash."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="generator", content="heedful"),
        tag("title", name),
        tag("link", rel="icon", href="data:,"),
        tag("style", trusted(STYLE)),
    )
    links = [tag("li", tag("a", heading, href=f"#{anchor}")) for anchor, heading, _ in sections]
    parts = [
        tag(
            "section",
            tag("h2", heading, id=f"{anchor}-title"),
            content,
            id=anchor,
            class_="part",
            aria_labelledby=f"{anchor}-title",
        )
        for anchor, heading, content in sections
    ]
    body = tag(
        "body",
        tag("a", "Skip to the results", href="#results", class_="skip"),
        tag("div", top, class_="top", role="banner"),
        tag("nav", tag("ul", links), aria_label="Sections"),
        tag("main", parts, id="results"),
        tag("footer", "Made by heedful from the files beside it. No network, no script; model text is shown as text."),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _head(kind: str, name: str, facts: Mapping[str, str], problems: Sequence[str]) -> Html:
    shown = [tag("div", tag("dt", key), tag("dd", value)) for key, value in facts.items() if value]
    unique = list(dict.fromkeys(problems))
    trouble = None
    if unique:
        summary = tag("summary", f"{plural(len(unique), 'thing')} missing or damaged")
        trouble = tag("details", summary, tag("ul", [tag("li", one) for one in unique]), class_="problems")
    return join([tag("p", kind, class_="eyebrow"), tag("h1", name), tag("dl", shown, class_="facts"), trouble])


def _verdicts(found: Standings) -> Html | None:
    """A card per tier: the leader, its difference to the base, and the sentence."""
    tiers = [block.tier for block in found.blocks if block.tier is not None]
    cards = [_verdict(found, verdict, tier) for verdict, tier in zip(verdicts(found), tiers)]
    return tag("div", cards, class_="verdicts") if cards else None


def _verdict(found: Standings, verdict: Verdict, tier: int) -> Html:
    parts: list[Child] = [tag("p", f"Tier {tier} · {verdict.title}", class_="eyebrow")]
    best = next((entry for entry in found.entries if entry.name == verdict.winner), None)
    if best is not None and found.primary is not None:
        parts.append(tag("p", best.method, tag("small", f" {best.variant}") if best.variant else None, class_="winner"))
        gain, unit = best.difference(found.primary), found.unit(found.primary)
        if gain is not None:
            interval = tag("small", between(gain.low, gain.high, unit, sign=True))
            class_ = tables.gain_class(found, gain) if verdict.is_sure else "unsure"
            words = f"{signed(gain.mean, unit)} {short(found.primary).lower()} "
            parts.append(tag("p", words, interval, class_=f"gain {class_}"))
            parts.append(tables.gain_bar(found, gain, tables.difference_scale(found), best.name))
    sentence = verdict.text[:1].upper() + verdict.text[1:]
    return tag("section", parts, tag("p", sentence), class_=f"verdict {tier_class(tier)}")


def _standings(found: Standings) -> Html:
    primary = found.primary
    if primary is None:
        return join([tag("p", "No method was measured.", class_="lead"), tables.standings_table(found)])
    words = (
        f"Ranked by {title(primary).lower()} ({tables.BETTER[found.sign(primary)]}) within each tier, never across: "
        f"a tier is what a method was allowed to see. n = {found.sample}. Bars are 95% bootstrap intervals of the "
        "difference to the base, paired by prompt and seed; hollow means that the interval holds 0."
    )
    if len({row.seed for row in found.results.rows}) == 1:
        words += " With one seed they say what other prompts would change, not what another training would."
    return join([tag("p", words, class_="lead"), tables.standings_table(found)])


def _capability(found: Standings) -> Html | None:
    """Gain in quality over what it cost in capability, both as differences to the base."""
    if found.primary is None:
        return None
    chosen = [metric for metric in CAPABILITY if metric in found.results.metrics and metric != found.primary]
    figures = [figure for metric in chosen[:2] if (figure := _tradeoff(found, metric)) is not None]
    if not figures:
        return None
    words = (
        "Learning from feedback may cost what the model could do before. Each point is a method minus the base, which "
        "sits where the grey lines cross. Whiskers are 95% intervals of these differences, "
        f"n = {found.sample}. Hollow points are degenerate."
    )
    return join([tag("p", words, class_="lead"), tag("div", figures, class_="figures")])


def _tradeoff(found: Standings, metric: str) -> Html | None:
    primary = found.primary
    assert primary is not None
    points = [point for entry in found.entries if (point := _point(entry, metric, primary)) is not None]
    if not points:
        return None
    points += [Point("base", 0.0, 0.0, class_="t0")] if found.base else []
    frame = Frame(540, 390, _range(points, "x"), _range(points, "y"))
    x_title = f"{title(metric)}: difference to the base{_unit(found, metric)}, {tables.BETTER[found.sign(metric)]}"
    y_title = f"{title(primary)}: difference to the base"
    upper = found.sign(primary) >= 0
    corners = CORNERS.get(metric, ()) if upper and found.sign(metric) < 0 else ()
    drawn = scatter(frame, points, x_title=x_title, y_title=y_title, name=f"{y_title} over {x_title}", corners=corners)
    return tag("figure", tag("figcaption", tag("strong", title(metric))), drawn)


def _point(entry: Entry, x_metric: str, y_metric: str) -> Point | None:
    x, y = entry.difference(x_metric), entry.difference(y_metric)
    if entry.is_base or x is None or y is None:
        return None
    return Point(
        entry.name, x.mean, y.mean, x.low, x.high, y.low, y.high, tier_class(entry.tier), entry.status == "degenerate"
    )


def _range(points: Sequence[Point], axis: str) -> tuple[float, float]:
    ends = [getattr(point, axis + part) for point in points for part in ("", "_low", "_high")]
    return spread([end for end in ends if end is not None], include=[0.0], margin=0.12)


def _pairs(found: Standings) -> Html | None:
    table = tables.pair_table(found)
    if table is None:
        return None
    judge = found.results.pairs[0].judge
    words = (
        f"Share of prompts on which the row beats the column, ties as half, judged by {title(judge).lower()}. "
        "Bold: the 95% interval leaves out 50%. All tiers and the references stand here side by side."
    )
    return join([tag("p", words, class_="lead"), table])


def _distance(read: Folder, found: Standings) -> Html | None:
    """What was optimised, and what it stands for, against the square root of the KL from where each began."""
    primary = found.primary
    having = {entry.name: _of_seeds(read, entry, read.courses) for entry in found.entries if not entry.is_base}
    logs = {name: gains for name, own in having.items() if (gains := _gains(own, primary))}
    if not primary or not logs:
        return None
    parts: list[Child] = []
    for key, heading in (("proxy", "What was optimised"), (primary, f"{title(primary)}, what it stands for")):
        y_range = curves.shared_range(list(logs.values()), key) if key == primary else None
        panels = [curves.panel(name, own, key, y_range=y_range, x_key="root_kl") for name, own in logs.items()]
        parts += [tag("h3", heading), tag("div", [one for one in panels if one is not None], class_="panels")]
    words = (
        "Gains over the first point of each, where its KL is 0. Methods that learn round by round have a point a "
        "round, of samples at temperature 1; best-of-n one for each n, at its largest possible KL; the others where "
        "they ended. Where the upper curve rises and the lower one falls, the reward is being exploited."
    )
    return join([tag("p", words, class_="lead"), parts])


def _gains(courses: Mapping[str, Lines], primary: str | None) -> dict[str, list[dict[str, Any]]]:
    """Courses with the root of the KL, and each value less that of the first point."""
    found = {}
    for name, lines in courses.items():
        if primary and len(lines) > 1 and all(key in line for line in lines for key in ("kl", "proxy", primary)):
            found[name] = [
                {"root_kl": max(0.0, line["kl"]) ** 0.5}
                | {key: line[key] - lines[0][key] for key in ("proxy", primary)}
                for line in lines
            ]
    return found


def _cost(found: Standings) -> Html:
    words = (
        "Per seed, prerequisites included. A token of a shared prompt counts once; a frozen token costs a forward only."
    )
    names = [("train", "trained"), ("frozen", "frozen"), ("sampled", "sampled")]
    key = tag("p", [tag("span", words, class_=class_) for class_, words in names], class_="key")
    return join([tag("p", words, class_="lead"), key, tables.cost_table(found)])


def _curves(read: Folder, found: Standings) -> Html | None:
    """The evaluation metric on one scale for all, then each method's own loss on its own."""
    logs = {entry.name: _logs(read, entry) for entry in found.entries}
    logs = {name: own for name, own in logs.items() if any(own.values())}
    if not logs:
        return None
    parts: list[Child] = []
    for key in (f"eval_{found.primary}", "eval_loss"):
        if evaluations := _panels(logs, key, is_shared=key != "eval_loss"):
            heading = f"{title(key.removeprefix('eval_'))} on the validation split"
            parts += [tag("h3", heading), tag("div", evaluations, class_="panels")]
            break
    losses = _panels(logs, "loss")
    if losses:
        words = "Objectives differ, so their losses have scales of their own and are not comparable between methods."
        parts += [tag("h3", "Training loss"), tag("p", words, class_="soft"), tag("div", losses, class_="panels")]
    lead = "A line per seed. Lines of many steps are means of equal stretches; the band spans their extremes."
    return join([tag("p", lead, class_="lead"), parts]) if parts else None


def _panels(logs: Mapping[str, Mapping[str, Lines]], key: str, *, is_shared: bool = False) -> list[Html]:
    """A panel of one metric per method that logged it; with one y axis for all where that can be compared."""
    having = {name: own for name, own in logs.items() if any(key in row for rows in own.values() for row in rows)}
    y_range = curves.shared_range(list(having.values()), key) if is_shared and having else None
    panels = [curves.panel(name, own, key, y_range=y_range) for name, own in having.items()]
    return [panel for panel in panels if panel is not None]


def _logs(read: Folder, entry: Entry) -> dict[str, Lines]:
    return _of_seeds(read, entry, read.metrics)


def _of_seeds(read: Folder, entry: Entry, lines: Mapping[str, Lines]) -> dict[str, Lines]:
    """The lines of a method's rows, by seed."""
    rows = (
        [row for row in read.results.rows if (row.method, row.variant) == (entry.method, entry.variant)]
        if read.results
        else []
    )
    return {f"seed {row.seed}": lines[row.name] for row in rows if row.name in lines}


def _samples(read: Folder, found: Standings) -> Html | None:
    """The leader's worst, median and best prompt answered by all; then each method's own, beside the base."""
    gallery = _gallery(read, found)
    shown = [entry for entry in found.entries if gallery.samples.get(entry.name)]
    if not shown:
        return None
    leader = next((entry for entry in shown if entry.rank == 1), shown[0])
    base = [entry for entry in shown if entry.is_base]
    first = [*base, *([] if leader.is_base else [leader])]
    order = [*first, *[entry for entry in shown if entry not in first]]
    picks = gallery.picks(leader.name)
    parts = [gallery.shelf(f"{name.capitalize()} of {leader.name}", one, order, is_open=True) for name, one in picks]
    for entry in shown:
        if entry is leader or entry.is_base:
            continue
        own = [gallery.shelf(name.capitalize(), one, [*base, entry]) for name, one in gallery.picks(entry.name)]
        parts.append(
            tag("details", tag("summary", f"{entry.name}: its own worst, median and best"), own, class_="deep")
        )
    by = f" by {title(gallery.score).lower()}" if gallery.score else ""
    words = (
        f"Chosen{by}, not by hand: the leader's worst, median and best response, and what everyone else wrote for "
        "the same prompt."
    )
    return join([tag("p", words, class_="lead"), parts])


def _gallery(read: Folder, found: Standings) -> Gallery:
    """The samples of each method's first measured seed."""
    samples: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in found.results.rows:
        name = f"{row.method}/{row.variant}" if row.variant else row.method
        lines = by_prompt(read.samples.get(row.name, []))
        if lines and name not in samples:
            samples[name] = lines
    every = [sample for own in samples.values() for sample in own.values()]
    score = found.primary if found.primary and any(found.primary in sample for sample in every) else None
    unit = found.unit(score) if score else ""
    return Gallery(samples, score, unit, higher_is_better=not score or found.sign(score) >= 0)


def _run_samples(lines: Lines) -> Html | None:
    """What a single run wrote for its probe prompts: first, middle and last time."""
    by: dict[str, Lines] = {}
    for line in lines:
        if "response" in line:
            by.setdefault(as_text(line.get("prompt_id", line.get("prompt", ""))), []).append(line)
    articles = []
    for history in list(by.values())[:6]:
        picked = {id(history[i]): history[i] for i in (0, len(history) // 2, len(history) - 1)}
        cards = [_step_card(line) for line in picked.values()]
        prompt = tag("details", tag("summary", "Prompt"), prompt_text(history[0].get("prompt", "")), open=True)
        articles.append(tag("article", prompt, tag("div", cards, class_="shelf", tabindex=0), class_="prompt"))
    return join(articles) if articles else None


def _step_card(line: Mapping[str, Any]) -> Html:
    scores = [f"{key} {number(value)}" for key, value in line.items() if key != "step" and isinstance(value, float)]
    head = tag(
        "header", tag("strong", f"step {line.get('step', '?')}"), tag("span", ", ".join(scores), class_="score soft")
    )
    return tag("section", head, response_text(line["response"]), class_="card t1")


def _guards(found: Standings) -> Html | None:
    table = tables.guard_table(found)
    if table is None:
        return None
    words = (
        "A score can be raised without doing what it stands for: by writing little, by copying, by prose. These say "
        "whether that happened. A degenerate method is shown and not ranked."
    )
    return join([tag("p", words, class_="lead"), table])


def _made(read: Folder) -> Html:
    """The manifest: command, settings, versions, data, every reading of the test split; then where each row ran."""
    manifest = dict(read.manifest)
    config = manifest.pop("config", None)
    readings = manifest.pop("test_readings", None)
    parts: list[Child] = [tag("p", "Run it again: ", tag("code", _command(manifest)))] if _command(manifest) else []
    if isinstance(readings, list):
        words = f"Readings of a test split by this run: {len(readings)}"
        parts.append(tag("details", tag("summary", words), _tree(readings)) if readings else tag("p", words))
    manifest.pop("command", None)
    parts.append(_tree(manifest) if manifest else tag("p", "No manifest.json was found.", class_="soft"))
    if config is not None:
        parts.append(tag("details", tag("summary", "Settings"), _tree(config), class_="deep"))
    if read.results is not None:
        rows = {row.name: row.run or "no training" for row in read.results.rows}
        parts.append(tag("details", tag("summary", "Run folders"), _tree(rows), class_="deep"))
    return tag("div", parts, class_="made")


def _tree(value: object) -> Html:
    """Nested values as nested lists of terms."""
    if isinstance(value, Mapping) and value:
        return tag("dl", [(tag("dt", str(key)), tag("dd", _tree(item))) for key, item in value.items()])
    if isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        return tag("dl", [(tag("dt", str(i + 1)), tag("dd", _tree(item))) for i, item in enumerate(value)])
    if isinstance(value, list):
        return join([", ".join(str(item) for item in value) or "none"])
    return join(["none" if value in (None, {}, "") else str(value)])


def _command(manifest: Mapping[str, Any]) -> str:
    command = manifest.get("command", "")
    return shlex.join(str(word) for word in command) if isinstance(command, list) else str(command)


def _origin(manifest: Mapping[str, Any]) -> dict[str, str]:
    """When and from which commit, where the manifest says."""
    git = manifest.get("git")
    commit = str(git.get("commit") or "")[:10] if isinstance(git, Mapping) else ""
    return {"Made": str(manifest.get("created", ""))[:16].replace("T", " "), "Commit": commit}


def _seeds(seeds: Sequence[int]) -> str:
    return ", ".join(str(seed) for seed in seeds)


def _unit(found: Standings, metric: str) -> str:
    unit = found.unit(metric)
    return f" ({unit})" if unit and unit != "share" else ""
