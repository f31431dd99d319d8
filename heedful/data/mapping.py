"""--map: say which column of a file is which field of the record, for shapes that nobody has a reader for.

    prompt=question                          a column
    responses[0].text=answers[0].body        a path into lists and objects
    responses[].text=completions[].output    each item of a list, in order
    responses[].score=ratings                a list of plain values
    responses[0].demonstration:=true         a constant, in JSON

Columns that no rule reads become metadata. Truth values given for a label mean good and bad. A single response about
which nothing is said is a demonstration.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from heedful.data.formats.base import Row, label, others
from heedful.data.tables import literal
from heedful.errors import ConfigError, DataError
from heedful.records import RECORD, RESPONSE, unknown_field

EACH = "[]"
STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d*)\]")
NUMBERS = frozenset({"rank", "score", "value", "strength", "seconds", "better", "worse", "count", "length", "label"})
UNJUDGED = frozenset({"text", "author", "truncated"})
MAX_ITEMS = 10_000  # of a list that a rule writes by index

Step = str | int
Path = tuple[Step, ...]  # EACH stands for every item


@dataclass(frozen=True)
class Rule:
    """One `target=source`: where a value goes in the record, and where it comes from in the row."""

    target: Path
    source: Path
    constant: Any = None

    @property
    def column(self) -> Step | None:
        """The column of the row that is used."""
        return self.source[0] if self.source else None


def parse_map(rules: Mapping[str, str] | Iterable[str]) -> tuple[Rule, ...]:
    """Rules from "target=source" texts, or from a mapping of targets to sources.

    Raises:
        ConfigError: a rule that cannot be read, or whose target is no field of a record.
    """
    texts = [f"{target}={source}" for target, source in rules.items()] if isinstance(rules, Mapping) else list(rules)
    return tuple(_parse(text) for text in texts)


def _parse(text: str) -> Rule:
    target, equals, source = text.partition("=")
    target, source = target.strip(), source.strip()
    if not equals or not source:
        raise ConfigError(f"cannot read {text!r}", where="--map", allowed="field=column, as in prompt=question")
    is_constant = target.endswith(":")
    path = _path(target.removesuffix(":"), text)
    _check_target(path, text)
    if not is_constant:
        return Rule(path, _path(source, text))
    try:
        return Rule(path, (), json.loads(source))
    except ValueError:
        raise ConfigError(f"{source!r} is no JSON", where=f"--map {text}", allowed='true, 3, "text", ...') from None


def _path(text: str, rule: str) -> Path:
    steps: list[Step] = []
    place = 0
    for match in STEP.finditer(text):
        if match.start() != place:
            break
        place = match.end()
        steps.append(match[1] if match[1] is not None else EACH if match[2] == "" else int(match[2]))
    if place != len(text) or not steps or not isinstance(steps[0], str) or steps[0] == EACH:
        raise ConfigError(f"cannot read the path {text!r}", where=f"--map {rule}", allowed="name, name[0].name, name[]")
    return tuple(steps)


def _check_target(path: Path, rule: str) -> None:
    known, name = RECORD, path[0]
    if path[0] == "responses" and len(path) > 2:
        known, name = RESPONSE, path[2]
    if name not in known:
        raise ConfigError(*unknown_field(str(name), known, where="").args, where=f"--map {rule}")
    if path.count(EACH) > 1 or any(isinstance(step, int) and step >= MAX_ITEMS for step in path):
        raise ConfigError("cannot write there", where=f"--map {rule}", allowed=f"one [], indices below {MAX_ITEMS}")


def apply_map(rules: tuple[Rule, ...], row: Row, *, textual: bool = False) -> Row:
    """The native row that the rules make of a row.

    Args:
        textual: the row's values are all text, as in CSV: where a number belongs it is read from its spelling.

    Raises:
        DataError: the row has not what a rule reads.
    """
    native: Row = {}
    for rule in rules:
        value = rule.constant if not rule.source else _look_up(row, rule.source)
        if value is not None:
            _put(native, rule.target, _converted(value, str(rule.target[-1]), textual))
    _mark_demonstration(native)
    rest = others(row, frozenset(str(rule.column) for rule in rules))
    return native | {"metadata": rest | native.get("metadata", {})}


def _converted(value: Any, field: str, textual: bool) -> Any:
    if isinstance(value, list):
        return [_converted(item, field, textual) for item in value]
    if textual and field in NUMBERS and isinstance(value, str):
        value = literal(value)
    return label(value) if field == "label" and isinstance(value, bool) else value


def _mark_demonstration(native: Row) -> None:
    responses = native.get("responses")
    if native.get("prompt") and isinstance(responses, list) and len(responses) == 1:
        response = responses[0]
        if isinstance(response, dict) and set(response) <= UNJUDGED:
            response["demonstration"] = True


def _look_up(value: Any, path: Path, done: str = "") -> Any:
    for place, step in enumerate(path):
        if value is None:
            return None
        if step == EACH:
            if not isinstance(value, list):
                raise DataError("is no list", where=f"`{done}`", allowed=f"a list, as --map {done}[] says")
            return [_look_up(item, path[place + 1 :], f"{done}[]") for item in value]
        done += f"[{step}]" if isinstance(step, int) else f".{step}" if done else step
        value = _step(value, step, done)
    return value


def _step(value: Any, step: Step, done: str) -> Any:
    if isinstance(step, int):
        if isinstance(value, list) and step < len(value):
            return value[step]
        raise DataError("missing", where=f"`{done}`", allowed=f"a list of {step + 1} or more")
    if isinstance(value, dict) and step in value:
        return value[step]
    allowed = "one of " + ", ".join(list(value)[:20]) if isinstance(value, dict) else "an object"
    raise DataError("missing", where=f"`{done}`", allowed=allowed)


def _put(node: Any, path: Path, value: Any) -> None:
    step, rest = path[0], path[1:]
    if step == EACH:
        for index, item in enumerate(value if isinstance(value, list) else [value]):
            if item is not None:
                _put(node, (index, *rest), item)
        return
    if isinstance(step, int):
        node.extend({} if rest else None for _ in range(step + 1 - len(node)))
    if not rest:
        node[step] = value
        return
    if (isinstance(node, dict) and step not in node) or not isinstance(node[step], (dict, list)):
        node[step] = {} if isinstance(rest[0], str) and rest[0] != EACH else []
    _put(node[step], rest, value)
