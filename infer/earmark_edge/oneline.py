"""Any text, file names and a server's words included, as one printable line."""

from __future__ import annotations


def one_line(text: object, limit: int = 400) -> str:
    r"""`text` with everything that is not printable escaped, so that it can neither break a line nor drive a terminal.

    >>> one_line("a\nb")
    'a\\nb'
    """
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in str(text))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
