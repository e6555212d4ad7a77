# SPDX-License-Identifier: Apache-2.0
"""Names and texts of strangers, as a terminal may show them."""

from __future__ import annotations

# Characters that reverse the direction of what follows: a name with one looks like another name.
_REVERSING = frozenset(
    map(chr, (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)))
)
_BREAKS = frozenset("\u2028\u2029")


def printable(text: str, encoding: str = "utf-8", *, lines: bool = False) -> str:
    """Spell out what would move the cursor, colour the screen, or cannot be written in `encoding`.

    Parameters
    ----------
    text
        Any text. Bytes of a file's name that are no UTF-8 are in it as Python keeps them (PEP 383).
    encoding
        That of the stream that it is for.
    lines
        Keep line breaks, where a text has several lines of its own.

    >>> print(printable("a\\x1b[31m name\\nof two lines \\udcff"))
    a\\x1b[31m name\\nof two lines \\xff
    >>> print(printable("26 °C", "ascii"))
    26 \\xb0C
    """
    if text.isascii() and text.isprintable():
        return text
    kept = "\t\n" if lines else "\t"
    shown = "".join(char if char in kept else _spelled(char) for char in text)
    return shown.encode(encoding, "backslashreplace").decode(encoding, "replace")


def _spelled(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    is_control = code < 0x20 or 0x7F <= code < 0xA0
    if is_control or char in _REVERSING or char in _BREAKS:
        return char.encode("unicode_escape").decode("ascii")
    return char
