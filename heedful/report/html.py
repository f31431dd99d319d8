"""HTML that cannot be injected into: text is escaped where it enters, and only this module makes markup."""

from collections.abc import Iterable
from html import escape

from heedful.visible import pieces, visible

VOID = {"br", "col", "hr", "link", "meta"}

Child = object  # Html, text, number, None, or an iterable of these


class Html(str):
    """Text that is markup already; nothing but `tag`, `text` and `trusted` makes it."""


def tag(name: str, /, *children: Child, **attributes: object) -> Html:
    """An element. Children that are no Html are escaped; None is left out.

    Args:
        attributes: `class_`, `for_` lose the underscore and `aria_label` becomes `aria-label`; True is an
            attribute without value, None and False are left out.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Html:
    """Children one after the other, escaped where they are text."""
    return Html("".join(_child(child) for child in children))


def text(content: str) -> Html:
    """Any text, a model's included, as text: escaped, and what cannot be seen shown as a marked code."""
    parts = [
        f'<span class="unseen">{escape(part)}</span>' if is_code else escape(part) for part, is_code in pieces(content)
    ]
    return Html("".join(parts))


def trusted(markup: str) -> Html:
    """Markup written in this package, such as the style sheet. Never for anything read from a file."""
    return Html(markup)


def _child(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    if isinstance(child, str):
        return text(child)
    if isinstance(child, Iterable):
        return join(child)
    return text(str(child))


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(visible(str(value)), quote=True)}"'
