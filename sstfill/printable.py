# SPDX-License-Identifier: Apache-2.0
"""Make text from files of others safe to print."""

from __future__ import annotations

# They reverse the direction of what follows, so that a name looks like another name.
_REVERSING = frozenset(
    map(chr, (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)))
)
_BREAKS = frozenset("\u2028\u2029")


def printable(text: str, encoding: str = "utf-8", *, lines: bool = False) -> str:
    """Escape what would move the cursor, colour the screen, or cannot be encoded.

    Parameters
    ----------
    text
        Any text; bytes of a file name that are not UTF-8 as Python keeps them (PEP 383).
    encoding
        Encoding of the stream to print on.
    lines
        Keep line breaks, for a text that has several lines.

    >>> print(printable("a\\x1b[31m name\\nof two lines \\udcff"))
    a\\x1b[31m name\\nof two lines \\xff
    >>> print(printable("26 °C", "ascii"))
    26 \\xb0C
    """
    # nearly all texts: nothing to escape
    if text.isascii() and text.isprintable():
        return text
    kept = "\t\n" if lines else "\t"
    shown = "".join(char if char in kept else _escaped(char) for char in text)
    return shown.encode(encoding, "backslashreplace").decode(encoding, "replace")


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    is_control = code < 0x20 or 0x7F <= code < 0xA0
    if is_control or char in _REVERSING or char in _BREAKS:
        return char.encode("unicode_escape").decode("ascii")
    return char


def quoted(value: object, most: int = 80) -> str:
    """Return the `repr` of what stands in a file for a message, cut if it is long.

    >>> quoted("x" * 100, most=10)
    "'xxxxx...'"
    """
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 4]}...{text[-1]}"
