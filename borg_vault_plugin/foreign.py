"""JSON that somebody else may have written: what reading it can raise, and instants that can be compared."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for text that is no JSON, of another shape, no UTF-8, or nested too deep."""
Instant = Annotated[datetime, msgspec.Meta(tz=True)]
"""An instant with its zone: one without could not be compared with any other."""
