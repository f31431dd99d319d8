"""`heedful methods`: what can be trained, and what each needs."""

from collections.abc import Iterator, Mapping
from typing import Any

from heedful.cli.options import AsJson
from heedful.cli.output import show


def methods(as_json: AsJson = False) -> None:
    """List the methods, and what each learns from."""
    from heedful import METHODS
    from heedful.methods import feedback_of, feedback_with_judge

    listed = {
        name: {
            "about": about,
            "feedback": sorted(map(_words, feedback_of(name))),
            "with_another_judge": sorted(map(_words, feedback_with_judge(name) - feedback_of(name))),
        }
        for name, about in METHODS.items()
    }
    show(listed, _lines, as_json=as_json)


def _lines(listed: Mapping[str, Any]) -> Iterator[str]:
    width = max(map(len, listed))
    for name, entry in listed.items():
        yield f"{name:<{width}}  {entry['about']}"
        judged = " or ".join(entry["with_another_judge"])
        also = f"; with another method.judge, such as module:function, {judged} are enough" if judged else ""
        yield f"{'':<{width}}  learns from {' or '.join(entry['feedback'])}{also}"


def _words(need: str | tuple[str, ...]) -> str:
    return need if isinstance(need, str) else " with ".join(need)
