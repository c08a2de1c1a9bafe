"""Children with much to say, and threads side by side: large output comes in large pieces, and nobody waits long."""

from __future__ import annotations

import fcntl
import hashlib
import sys
from datetime import timedelta
from typing import IO, cast

import pytest

from borg_vault_plugin.process import WIDE_BYTES, child, plain_environment, widened
from borg_vault_plugin.side_by_side import TURN_SECONDS, TaskFailedError, side_by_side

MINUTE = timedelta(minutes=1)
SIZE = 5 * WIDE_BYTES + 12_345


def test_a_large_output_comes_whole_through_a_pipe_of_one_mebibyte() -> None:
    """All of it, in pieces that are larger than a usual pipe is."""
    write = f"import sys; sys.stdout.buffer.write(bytes(range(256)) * 256 * {SIZE // 65536 + 1})"
    with child([sys.executable, "-c", write], env=plain_environment()) as process:
        stream = widened(cast(IO[bytes], process.stdout))
        assert fcntl.fcntl(stream, fcntl.F_GETPIPE_SZ) == WIDE_BYTES
        pieces = list(iter(lambda: stream.read(WIDE_BYTES), b""))
        assert process.wait(30) == 0
    expected = bytes(range(256)) * 256 * (SIZE // 65536 + 1)
    assert hashlib.sha256(b"".join(pieces)).digest() == hashlib.sha256(expected).digest()


def test_a_file_in_place_of_a_pipe_is_read_all_the_same() -> None:
    """Where a pipe cannot be made larger, it is read as it is."""
    with open(__file__, "rb") as stream:  # noqa: PTH123 - a buffered reader is what a child's output is
        assert widened(stream).read(10) == b'"""Childre'


def test_tasks_take_short_turns_and_the_program_its_own_again() -> None:
    """While tasks run side by side a thread waits half a millisecond for its turn, and nothing of that stays."""
    before = sys.getswitchinterval()
    found = side_by_side({"turns": sys.getswitchinterval}, timeout=MINUTE, abandon=lambda: None)
    assert found == {"turns": pytest.approx(TURN_SECONDS)}
    assert sys.getswitchinterval() == before


def test_turns_are_as_before_when_a_task_fails() -> None:
    """A failure does not leave short turns behind."""
    before = sys.getswitchinterval()

    def fail() -> None:
        raise ValueError("on purpose")

    with pytest.raises(TaskFailedError, match="on purpose"):
        side_by_side({"failing": fail}, timeout=MINUTE, abandon=lambda: None)
    assert sys.getswitchinterval() == before
