"""Model text made safe to look at: what would act on a terminal or a page instead of being read is named.

Control characters and ANSI escapes, bidirectional overrides (they make text read otherwise than it is),
invisible characters, half surrogates and towers of combining marks each become a short code in brackets.
Nothing is removed silently, and ordinary text in any script is left as it is.
"""

import unicodedata
from collections.abc import Iterator

MAX_MARKS = 4  # combining marks on one letter that are still writing: Vietnamese needs 2, Biblical Hebrew 4

_SHOWN = {"\n", "\t"}
_JOINERS = {"\u200c", "\u200d"}  # they shape Persian, Indic and emoji
_NAMES = {"\x1b": "ESC", "\x00": "NUL", "\r": "CR", "\x07": "BEL", "\x08": "BS", "\x7f": "DEL", "\ufeff": "BOM"}
_BLANKS = {"\u00ad", "\u034f", "\u115f", "\u1160", "\u2800", "\u3164", "\uffa0"}  # printable by category, not by eye


def visible(text: str) -> str:
    """The text with what cannot be seen in brackets: `⟨ESC⟩[31m`, `⟨U+202E⟩`, `⟨+9996 marks⟩`."""
    return "".join(f"⟨{part}⟩" if is_code else part for part, is_code in pieces(text))


def pieces(text: str) -> Iterator[tuple[str, bool]]:
    """The text in order as (plain text, False) and (name of something invisible, True)."""
    if text.isascii() and text.isprintable():
        yield text, False
        return
    plain: list[str] = []
    marks = hidden = 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        if marks > MAX_MARKS:
            hidden += 1
            continue
        code = f"+{hidden} marks" if hidden else ""
        hidden = 0
        name = _code(character)
        if (code or name) and plain:
            yield "".join(plain), False
            plain = []
        if code:
            yield code, True
        if name:
            yield name, True
        else:
            plain.append(character)
    if plain:
        yield "".join(plain), False
    if hidden:
        yield f"+{hidden} marks", True


def clip(text: str, limit: int) -> tuple[str, int]:
    """The first `limit` characters, and how many were left out."""
    return text[:limit], max(0, len(text) - limit)


def _code(character: str) -> str:
    """The name of a character that cannot be seen, or nothing."""
    if character in _SHOWN or character in _JOINERS:
        return ""
    if character in _NAMES:
        return _NAMES[character]
    category = unicodedata.category(character)
    invisible = category in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") or character in _BLANKS
    return f"U+{ord(character):04X}" if invisible else ""
