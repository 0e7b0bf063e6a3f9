"""Which names accounts and devices may bear."""

from __future__ import annotations

import re
import unicodedata

from earmark_review.errors import SettingsError

MAX_NAME_CHARS = 64
_NAME = re.compile(r"\w[\w .@+-]*")


def checked_name(kind: str, given: str) -> str:
    """`given` in Unicode's composed form, if it can name a `kind` ("user" or "device").

    Raises:
        SettingsError: empty, too long, or with other characters than letters, digits, blanks and . _ @ + -
    """
    name = unicodedata.normalize("NFC", given).strip()
    if len(name) > MAX_NAME_CHARS or not _NAME.fullmatch(name):
        msg = (
            f"{kind} name {given!r}: expected 1 to {MAX_NAME_CHARS} letters, digits, blanks or . _ @ + -, beginning with a letter or digit"
        )
        raise SettingsError(msg)
    return name


def name_key(name: str) -> str:
    """The form under which two spellings of a name are the same account."""
    return unicodedata.normalize("NFKC", name.strip()).casefold()[: 2 * MAX_NAME_CHARS]
