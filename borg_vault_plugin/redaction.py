"""Redaction: what is sent elsewhere holds none of the secrets that this process has looked at."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

REDACTED = "***"
IN_URL = re.compile(r"(?<=://)(?!USER:PASSWORD@)[^/@\s]*:[^/@\s]*(?=@)")
SHORTEST_PIECE = 6
SHORTEST_SHOWN = 8
"""What is said to the operator keeps shorter secrets: they are words that stand there for themselves."""

_known: set[str] = set()


def remember_secret(secret: str) -> None:
    """Have a secret redacted from now on; of a URL its password, too."""
    _known.update(line.strip() for line in secret.splitlines() if line.strip())
    password = _password(secret)
    if password:
        _known.update((password, unquote(password)))


def remember_secret_url(url: str) -> None:
    """Have a URL redacted in which everything may be a secret: also its longer pieces by themselves."""
    remember_secret(url)
    pieces = re.split(r"[/:@?&=#,]+", url.partition("://")[2])
    _known.update(form for piece in pieces if len(piece) >= SHORTEST_PIECE for form in (piece, unquote(piece)))


def redacted(text: str, *, shortest: int = 1) -> str:
    """Give a text without the secrets of so many letters that were looked at, and without any password in a URL."""
    for secret in sorted((one for one in _known if len(one) >= shortest), key=len, reverse=True):
        text = text.replace(secret, REDACTED)
    return IN_URL.sub(REDACTED, text)


def _password(url: str) -> str | None:
    try:
        return urlsplit(url).password if "://" in url else None
    except ValueError:
        return None
