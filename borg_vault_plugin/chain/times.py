"""Instants as a dump writes them: `YYYY-MM-DDTHH:MM:SS.mmmZ`, a profile of RFC 3339."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def milliseconds(value: object) -> int | None:
    """Give an instant as whole milliseconds since 1970; None for anything that is not written exactly so."""
    if value.__class__ is not str or INSTANT.fullmatch(value) is None:
        return None
    try:
        return (datetime.fromisoformat(value) - EPOCH) // MILLISECOND
    except ValueError:
        return None
