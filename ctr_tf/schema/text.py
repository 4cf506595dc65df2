"""How text becomes words: one rule for the preparation job and for the tokeniser in the graph."""

from __future__ import annotations

import re
import unicodedata

DELIMITERS = r"[\s!-/:-@\[-`{-~]+"
"""White space and ASCII punctuation, in a syntax that Python's `re` and RE2 read alike."""

_SPLIT = re.compile(DELIMITERS, re.ASCII)


def fold(text: str) -> str:
    """Unicode's NFKC case folding, what tensorflow-text calls `case_fold_utf8`.

    Example:
        >>> fold("ﬁne ÉTÉ")
        'fine été'
    """
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return "".join(c for c in folded if unicodedata.category(c) != "Cf" and not _selector(c))


def words(text: str) -> list[str]:
    """The words of a text, folded and without punctuation.

    Args:
        text: any text.

    Example:
        >>> words("One Flew Over the Cuckoo's Nest (1975)")
        ['one', 'flew', 'over', 'the', 'cuckoo', 's', 'nest', '1975']
    """
    return [word for word in _SPLIT.split(fold(text)) if word]


def _selector(character: str) -> bool:
    return "\ufe00" <= character <= "\ufe0f"
