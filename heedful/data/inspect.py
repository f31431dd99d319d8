"""What is in a feedback file: how much of which kind, how even, how sure, and which methods can learn from it.

The report is plain data (`--json` prints it); `render` makes lines of text of it. Lengths are in characters.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from heedful.data.formats.transcripts import ASSISTANT, HUMAN
from heedful.data.kinds import Need, count_kinds, missing
from heedful.data.load import FeedbackFile
from heedful.errors import HeedfulError
from heedful.records import Feedback, Response, is_all_tied, judged_pairs, prompt_text, score_of, strict_pairs

QUANTILES = {"min": 0.0, "p10": 0.1, "median": 0.5, "p90": 0.9, "max": 1.0}
MOST = 10  # entries of a list of flags, authors, examples
SHOWN_TOKENS = 64  # of an example, at each end

Report = dict[str, Any]


def describe_feedback(
    file: Sequence[Feedback],
    text: Any = None,
    methods: Mapping[str, Iterable[Need]] | None = None,
    judged: Mapping[str, Iterable[Need]] | None = None,
) -> Report:
    """Everything that can be said of a feedback file before training on it.

    Args:
        file: what `load_feedback` returns, or any records.
        text: a `heedful.text.Text`, for the tokens and the mask of one example.
        methods: each method's `FEEDBACK`, for which of them can learn from the file.
        judged: the same of those that may be given another judge, with one.
    """
    responses = [response for record in file for response in record.responses]
    once = list({_content(record): record for record in file}.values())
    report: Report = {
        "file": _file(file),
        "records": len(file),
        "kinds": (kinds := count_kinds(file)),
        "lengths": _lengths(file, responses),
        "preferences": _preferences(file),
        "labels": dict(Counter(response.label for response in responses if response.label)),
        "scores": _scores(responses),
        "segments": _segments(responses),
        "responses": _responses(responses),
        "duplicates": _duplicates(file, num_distinct=len(once)),
        "labelers": _labelers(file),
        "agreement": _agreement(once),
    }
    if text is not None:
        report["example"] = _example(file, text)
    if methods is not None:
        report["methods"] = found = {name: missing(needs, kinds) for name, needs in methods.items()}
        able = [name for name, needs in (judged or {}).items() if found[name] and not missing(needs, kinds)]
        report["with_another_judge"] = able
    return report


def quantiles(values: Collection[float]) -> dict[str, float]:
    """Number, mean and quantiles (nearest rank) of some values; empty for none."""
    if not values:
        return {}
    ordered = sorted(values)
    last = len(ordered) - 1
    spread = {name: ordered[round(share * last)] for name, share in QUANTILES.items()}
    return {"num": len(ordered), "mean": sum(ordered) / len(ordered)} | spread


def _file(file: Sequence[Feedback]) -> Report:
    if not isinstance(file, FeedbackFile):
        return {}
    return {
        "path": file.path,
        "format": file.format,
        "sha256": file.sha256,
        "rows": file.num_rows,
        "dropped": dict(file.dropped),
        "skipped": dict(file.skipped),
        "faults": list(file.faults),
        "remarks": dict(file.remarks),
        "metadata_columns": list(file.metadata_columns),
    }


def _content(record: Feedback) -> tuple:
    """All that a judgement says, without its name and circumstances: equal ones are the same row twice."""
    return record.prompt, record.responses, record.comparisons, record.answer, record.labeler, record.user


def _lengths(file: Sequence[Feedback], responses: Sequence[Response]) -> Report:
    return {
        "prompt": quantiles([len(prompt_text(record.prompt)) for record in file]),
        "response": quantiles([len(response.text) for response in responses]),
        "responses_per_record": quantiles([len(record.responses) for record in file]),
    }


def _preferences(file: Sequence[Feedback]) -> Report:
    """Pairs someone compared; `longer_preferred` is the share of strict pairs whose preferred text is longer."""
    pairs = [(record, pair) for record in file for pair in judged_pairs(record)]
    strict = [
        (record.responses[pair.better].text, record.responses[pair.worse].text)
        for record, pair in pairs
        if pair.strength
    ]
    unequal = [len(better) > len(worse) for better, worse in strict if len(better) != len(worse)]
    return {
        "strict_pairs": len(strict),
        "ties": len(pairs) - len(strict),
        "tie_share": 1 - len(strict) / len(pairs) if pairs else None,
        "all_tied_records": sum(map(is_all_tied, file)),
        "cyclic_records": sum(_is_cyclic(strict_pairs(record)) for record in file),
        "identical_pairs": sum(better == worse for better, worse in strict),
        "longer_preferred": sum(unequal) / len(unequal) if unequal else None,
        "strengths": {f"{n:g}": num for n, num in sorted(Counter(p.strength for _, p in pairs).most_common(MOST))},
    }


def _is_cyclic(pairs: Iterable[tuple[int, int]]) -> bool:
    """Whether "better than" leads back to where it began; whoever is beaten by nobody is taken away until none is."""
    left = set(pairs)
    while left:
        beaten = {worse for _, worse in left}
        kept = {pair for pair in left if pair[0] in beaten}
        if len(kept) == len(left):
            return True
        left = kept
    return False


def _scores(responses: Sequence[Response]) -> Report:
    scorers: dict[str, list[float]] = defaultdict(list)
    for response in responses:
        for score in response.scores:
            scorers[score.scorer].append(score.value)
    own = quantiles([number for response in responses if (number := score_of(response)) is not None])
    return {"score": own, "scorers": {name: quantiles(values) for name, values in scorers.items()}}


def _segments(responses: Sequence[Response]) -> Report:
    cut = [response.segments for response in responses if response.segments]
    scores = quantiles([segment.score for segments in cut for segment in segments])
    return {"per_response": quantiles([len(segments) for segments in cut]), "score": scores}


def _responses(responses: Sequence[Response]) -> Report:
    return {
        "num": len(responses),
        "demonstrations": sum(response.demonstration for response in responses),
        "truncated": sum(response.truncated for response in responses),
        "blank": sum(response.text.isspace() for response in responses),
        "with_another_turn": sum(map(_goes_on, responses)),
        "flags": dict(Counter(flag for response in responses for flag in response.flags).most_common(MOST)),
        "authors": dict(Counter(r.author for r in responses if r.author is not None).most_common(MOST)),
    }


def _goes_on(response: Response) -> bool:
    """The text holds another turn's marker: a transcript cut too late, or a model that talks to itself."""
    return bool(HUMAN.search(response.text, 1) or ASSISTANT.search(response.text, 1))


def _duplicates(file: Sequence[Feedback], num_distinct: int) -> Report:
    prompts = Counter(record.prompt for record in file if record.prompt)
    repeated = [count for count in prompts.values() if count > 1]
    return {
        "exact": len(file) - num_distinct,
        "distinct_prompts": len(prompts),
        "repeated_prompts": len(repeated),
        "records_of_repeated_prompts": sum(repeated),
        "records_with_equal_responses": sum(
            len({response.text for response in record.responses}) < len(record.responses) for record in file
        ),
    }


def _labelers(file: Sequence[Feedback]) -> Report:
    labelers = Counter(record.labeler for record in file if record.labeler is not None)
    users = Counter(record.user for record in file if record.user is not None)
    seconds = [record.seconds for record in file if record.seconds is not None]
    return {
        "num": len(labelers),
        "records": dict(labelers.most_common(MOST)),
        "num_users": len(users),
        "most_of_a_user": max(users.values(), default=0),
        "seconds": quantiles(seconds),
    }


# Agreement -----------------------------------------------------------------------------------------


def _agreement(records: Sequence[Feedback]) -> Report:
    """How often two verdicts on the same thing are the same, ties being a verdict; exact duplicates count once.

    A contradiction is a pair of which either side was preferred, or a response that was called good and bad.
    """
    verdicts = _verdicts(records)
    shared = [group for group in verdicts.values() if len(group) > 1]
    same = sum(n * (n - 1) // 2 for group in shared for n in Counter(v for v, _ in group).values())
    total = sum(len(group) * (len(group) - 1) // 2 for group in shared)
    against = [group for group in shared if {-1, 1} <= {verdict for verdict, _ in group}]
    return {
        "labelers": _num_labelers(records),
        "judged_more_than_once": len(shared),
        "pairs_of_verdicts": total,
        "agree": same / total if total else None,
        "contradictions": len(against),
        "examples": [sorted({record.id for _, record in group})[:MOST] for group in against[:MOST]],
        "by_labeler": _by_labeler(shared),
    }


def _num_labelers(records: Iterable[Feedback]) -> str:
    """How many can agree at all, in words."""
    num = len({record.labeler for record in records if record.labeler is not None})
    return {0: "no labeler ids", 1: "one labeler"}.get(num, str(num))


Group = list[tuple[int, Feedback]]


def _verdicts(records: Sequence[Feedback]) -> dict[tuple, Group]:
    """Verdicts (1, -1, 0 for a tie) by what they are on: a prompt and two texts in order, or a prompt and one text.

    A record that says the same twice, of responses that are equal, says it once.
    """
    groups: dict[tuple, dict[tuple[int, int], Feedback]] = defaultdict(dict)
    for record in records:
        texts = [hash(response.text) for response in record.responses]
        prompt = hash(record.prompt)
        for pair in judged_pairs(record):
            better, worse = texts[pair.better], texts[pair.worse]
            verdict = (1 if better < worse else -1) if pair.strength else 0
            if better != worse:
                groups[prompt, min(better, worse), max(better, worse)][verdict, id(record)] = record
        for response, key in zip(record.responses, texts):
            if response.label:
                groups[prompt, key][1 if response.label == "good" else -1, id(record)] = record
    return {key: [(verdict, record) for (verdict, _), record in group.items()] for key, group in groups.items()}


def _by_labeler(shared: Iterable[Group]) -> dict[str, dict[str, float]]:
    """For each labeler, how many other verdicts theirs met, and the share that was the same."""
    met: Counter[str] = Counter()
    agreed: Counter[str] = Counter()
    for group in shared:
        counts = Counter(verdict for verdict, _ in group)
        for verdict, record in group:
            if record.labeler is not None:
                met[record.labeler] += len(group) - 1
                agreed[record.labeler] += counts[verdict] - 1
    return {name: {"met": met[name], "agree": agreed[name] / met[name]} for name in sorted(met)}


# One example ---------------------------------------------------------------------------------------


def _example(file: Sequence[Feedback], text: Any) -> Report:
    """Tokens and mask of the first response there is: what a model sees, and what it is trained on."""
    record = next((record for record in file if record.responses), None)
    if record is None:
        return {}
    response = record.responses[0]
    try:
        before = text.encode_prompt(record.prompt)
        after = text.encode_response(*response.pieces, finished=not response.truncated)
    except HeedfulError as error:
        return {"id": record.id, "error": str(error)}
    return {
        "id": record.id,
        "tokens": [_piece(text, token) for token in [*before, *after]],
        "mask": [0] * len(before) + [1] * len(after),
        "over_the_context": max(0, len(before) + len(after) - text.max_length),
    }


def _piece(text: Any, token: int) -> str:
    return text.decode([token]) or str(text.tokenizer.convert_ids_to_tokens(token))


# As lines of text ----------------------------------------------------------------------------------


def render(report: Report) -> str:
    """The report as plain text. What comes from the file is escaped: it cannot move the cursor or look like markup."""
    parts = [
        _heading(report),
        _table("kinds of feedback (records)", {k: v for k, v in report["kinds"].items() if v}),
        _table("preferences", report["preferences"]),
        _table("labels", report["labels"]),
        _quantile_table(report),
        _table("responses", report["responses"]),
        _table("duplicates", report["duplicates"]),
        _table("labelers", {k: v for k, v in report["labelers"].items() if k != "seconds"}),
        _render_agreement(report["agreement"]),
        _render_example(report.get("example", {})),
        _render_methods(report.get("methods", {}), report.get("with_another_judge", [])),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _heading(report: Report) -> str:
    file = report["file"]
    records = _plural(report["records"], "record")
    if not file:
        return records
    lines = [f"{_safe(file['path'])}: {records} from {_plural(file['rows'], 'row')}, read as {file['format']}"]
    for name in ("dropped", "skipped", "remarks"):
        lines += [f"  {name}: {_safe(reason)}: {count}" for reason, count in file[name].items()]
    lines += [f"  {_safe(fault)}" for fault in file["faults"]]
    if file["metadata_columns"]:
        lines.append("  kept as metadata: " + ", ".join(_safe(name) for name in file["metadata_columns"][:MOST]))
    return "\n".join(lines)


def _plural(n: int, thing: str) -> str:
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def _table(title: str, values: Mapping[str, Any]) -> str:
    shown = {name.replace("_", " "): _value(value) for name, value in values.items() if value not in (None, 0, {}, [])}
    if not shown:
        return ""
    width = max(map(len, shown))
    return "\n".join([title, *(f"  {name:<{width}}  {value}" for name, value in shown.items())])


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{_safe(str(name))} {_value(item)}" for name, item in value.items())
    if isinstance(value, list):
        return "; ".join(_value(item) for item in value)
    return f"{value:.3g}" if isinstance(value, float) else _safe(str(value))


def _quantile_table(report: Report) -> str:
    rows = {f"{name} (characters)": report["lengths"][name] for name in ("prompt", "response")}
    rows |= {"responses per record": report["lengths"]["responses_per_record"], "score": report["scores"]["score"]}
    rows |= {_safe(name): spread for name, spread in report["scores"]["scorers"].items()}
    rows |= {"segments per response": report["segments"]["per_response"], "segment score": report["segments"]["score"]}
    rows |= {"seconds": report["labelers"]["seconds"]}
    rows = {name: spread for name, spread in rows.items() if spread}
    if not rows:
        return ""
    width = max(map(len, rows))
    columns = ("num", "mean", *QUANTILES)
    head = " " * (width + 2) + "".join(f"{column:>10}" for column in columns)
    body = [f"  {n:<{width}}" + "".join(f"{spread[c]:>10.4g}" for c in columns) for n, spread in rows.items()]
    return "\n".join([head, *body])


def _render_agreement(found: Report) -> str:
    """A share or a number of contradictions of 0 is shown as well: it says that somebody looked."""
    agree = "nothing was judged more than once" if found["agree"] is None else _value(found["agree"])
    return _table("agreement", found | {"agree": agree, "contradictions": str(found["contradictions"])})


def _render_example(example: Report) -> str:
    """Trained tokens in [brackets]; a long prompt or response is cut in the middle."""
    if "tokens" not in example:
        return f"example {_safe(example['id'])}: {_safe(example['error'])}" if example else ""
    pairs = list(zip(example["tokens"], example["mask"]))
    parts = ["".join(_marked(*pair) for pair in side) for side in _ends(pairs)]
    return f"example {_safe(example['id'])}, trained tokens in [ ]\n  " + " ... ".join(parts)


def _ends(pairs: list[tuple[str, int]]) -> list[list[tuple[str, int]]]:
    start = sum(1 for _, mask in pairs if not mask)
    if len(pairs) <= 2 * SHOWN_TOKENS:
        return [pairs]
    return [pairs[max(0, start - SHOWN_TOKENS) : start], pairs[start : start + SHOWN_TOKENS]]


def _marked(token: str, mask: int) -> str:
    return f"[{_safe(token)}]" if mask else _safe(token)


def _render_methods(methods: Mapping[str, str | None], with_another_judge: Sequence[str]) -> str:
    if not methods:
        return ""
    by_lack: dict[str | None, list[str]] = {None: []}
    for name, lack in methods.items():
        if name not in with_another_judge:
            by_lack.setdefault(lack, []).append(name)
    can = by_lack.pop(None)
    lines = ["methods that can learn from this: " + (", ".join(can) or "none")]
    if with_another_judge:
        lines.append(f"  with another judge, --set method.judge=SCORER, also: {', '.join(with_another_judge)}")
    return "\n".join(lines + [f"  not {', '.join(names)}: {lack}" for lack, names in by_lack.items()])


def _safe(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
