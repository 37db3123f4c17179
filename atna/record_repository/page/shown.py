"""Values of a record as text for people: nothing invisible, nothing that reorders what stands beside it. Pure."""

import re
from typing import Final
from urllib.parse import parse_qsl

from atna.participants import SEARCH_DETAIL

__all__ = ["bounded", "decoded", "detail_text", "visible"]

# Controls but line feed and tab; and what changes the direction of text: shown, since it would move what is beside it.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
# Default_Ignorable_Code_Point of Unicode 16 (variation selectors, fillers, tags), what else has no glyph, and line ends
# that are none of ours. The Arabic and Syriac signs of category Cf are seen.
_INVISIBLE: Final = re.compile(
    "[\x80-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
_PICTURES: Final = 0x2400
_DELETE: Final = "\u2421"
MAX_FIELDS: Final = 100


def visible(text: str) -> str:
    """``text`` with a symbol for each character that cannot be seen; lines may end in CR, LF or both."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    seen = _CONTROL.sub(lambda found: _DELETE if found[0] == "\x7f" else chr(_PICTURES + ord(found[0])), lines)
    return _INVISIBLE.sub(lambda found: f"[U+{ord(found[0]):04X}]", seen)


def bounded(text: str, longest: int) -> str:
    """At most that many characters; what was cut ends in an ellipsis."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def decoded(data: bytes) -> str:
    """Bytes as text; those that are no UTF-8 become U+FFFD."""
    return visible(data.decode("utf-8", errors="replace"))


def detail_text(kind: str, value: bytes) -> str:
    """A ParticipantObjectDetail: text as text, a search of the log field by field, anything else as hexadecimal."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return value.hex(" ")
    if kind == SEARCH_DETAIL:
        try:
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)
        except ValueError:
            pairs = []
        text = "\n".join(f"{name}: {field}" for name, field in pairs) or text
    return visible(text)
