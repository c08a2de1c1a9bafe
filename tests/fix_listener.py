"""Somebody who listens to what is told of runs, and a place where nobody does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fix_http import Listener, listening


@pytest.fixture
def listener() -> Iterator[Listener]:
    """A server that listens as long as the test runs."""
    with listening() as heard:
        yield heard


@pytest.fixture
def closed_port() -> str:
    """The URL of a server that is not there any more."""
    with listening() as gone:
        return gone.url
