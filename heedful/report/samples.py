"""Responses side by side: the same prompt answered by the base and by each method, the worst ones too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heedful.report.html import Html, tag
from heedful.standings import Entry
from heedful.visible import clip
from heedful.wording import count, number

MOST_PROMPT = 4000  # characters; the end of a prompt is what is answered, so its start is left out
MOST_RESPONSE = 2400
CODE_WIDTH = 110  # characters; a text with a longer line is prose

Samples = Mapping[str, Mapping[str, Mapping[str, Any]]]  # entry name -> prompt id -> sample
Pick = tuple[str, str]  # ("worst", prompt id)


@dataclass(frozen=True)
class Gallery:
    """All samples of a comparison, with the score they are ordered by (None: the order of the file)."""

    samples: Samples
    score: str | None
    unit: str = ""
    higher_is_better: bool = True

    def picks(self, entry: str) -> list[Pick]:
        """The worst, the median and the best response of one method by its score."""
        own = self.samples.get(entry, {})
        ids = list(own)
        scores = {i: value for i in ids if (value := self._value(own[i])) is not None}
        if len(scores) < len(ids):
            return [(f"prompt {i + 1}", one) for i, one in enumerate(ids[:3])]
        ids.sort(key=scores.__getitem__, reverse=not self.higher_is_better)
        chosen = {"worst": ids[:1], "median": ids[len(ids) // 2 :][:1], "best": ids[-1:]}
        seen: dict[str, str] = {}
        for name, found in chosen.items():
            if found:
                seen.setdefault(found[0], name)
        return [(name, one) for one, name in seen.items()]

    def shelf(self, heading: object, prompt_id: str, entries: Sequence[Entry], *, is_open: bool = False) -> Html:
        """One prompt and what each of the entries made of it."""
        found = [(entry, self.samples.get(entry.name, {}).get(prompt_id)) for entry in entries]
        first = next(sample for _, sample in found if sample is not None)
        cards = [self._card(entry, sample) for entry, sample in found if sample is not None]
        return tag(
            "article",
            tag("h4", heading, tag("span", f"prompt {prompt_id}", class_="soft")),
            tag("details", tag("summary", "Prompt"), prompt_text(first.get("prompt", "")), open=is_open),
            tag("div", cards, class_="shelf", tabindex=0, role="group", aria_label=f"Responses to prompt {prompt_id}"),
            class_="prompt",
        )

    def _value(self, sample: Mapping[str, Any]) -> float | None:
        value = sample.get(self.score) if self.score else None
        return float(value) if isinstance(value, int | float) else None

    def _card(self, entry: Entry, sample: Mapping[str, Any]) -> Html:
        value = self._value(sample)
        score = tag("span", number(value, self.unit), class_="score") if value is not None else None
        cut = (
            tag("span", "cut", class_="soft", title="stopped by the length limit") if sample.get("truncated") else None
        )
        head = tag("header", tag("strong", entry.name), " ", cut, " ", score)
        return tag("section", head, response_text(sample.get("response", "")), class_=f"card {tier_class(entry.tier)}")


def tier_class(tier: int | None) -> str:
    """The class that colours everything of a tier."""
    return f"t{tier or 0}"


def response_text(response: object) -> Html:
    """A response as text, its end left out where it is very long."""
    shown, left_out = clip(as_text(response), MOST_RESPONSE)
    rest = tag("span", f"… {count(left_out)} more characters", class_="more") if left_out else None
    empty = tag("span", "empty", class_="more") if not shown else None
    return tag("pre", shown, rest, empty, class_=_wrap(shown), tabindex=0)


def prompt_text(prompt: object) -> Html:
    """A prompt as text, its beginning left out where it is very long."""
    whole = as_text(prompt)
    left_out = max(0, len(whole) - MOST_PROMPT)
    before = tag("span", f"{count(left_out)} characters before this …\n", class_="more") if left_out else None
    shown = whole[left_out:]
    return tag("pre", tag("span", before, shown), class_=_wrap(shown), tabindex=0)


def _wrap(shown: str) -> str | None:
    """Prose has long lines, which wrap; code keeps its own."""
    return "wrap" if any(len(line) > CODE_WIDTH for line in shown.splitlines()) else None


def as_text(content: object) -> str:
    """A prompt or response as text; a conversation turn by turn."""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(turn, dict) for turn in content):
        return "\n\n".join(f"[{turn.get('role', '?')}]\n{turn.get('content', '')}" for turn in content)
    return str(content)


def by_prompt(lines: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The samples of one method by prompt id; without ids, by their text."""
    return {str(line.get("prompt_id", line.get("prompt", ""))): line for line in lines if "response" in line}
