"""The command line: parse, call one function, print, exit. The only place that prints and the only error boundary."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import typer

from borg_vault_plugin import narration
from borg_vault_plugin.cli import backups, drills, itself, proofs, recovery, tarballs, upkeep, wrapped
from borg_vault_plugin.cli.itself import config_app
from borg_vault_plugin.cli.options import app, complain, print_lines
from borg_vault_plugin.cli.panels import arrange
from borg_vault_plugin.errors import Error, PreflightError
from borg_vault_plugin.redaction import SHORTEST_SHOWN, redacted
from borg_vault_plugin.report import as_json

__all__ = [
    "app",
    "backups",
    "config_app",
    "drills",
    "itself",
    "main",
    "proofs",
    "recovery",
    "tarballs",
    "upkeep",
    "wrapped",
]

STANDARD_STREAMS = {"stdin": "r", "stdout": "w", "stderr": "w"}

logger = logging.getLogger(__name__)

arrange(app)


class Terminated(BaseException):
    """SIGTERM arrived: every `with` on the way out ends what it started."""

    exit_code = 128 + signal.SIGTERM

    def __str__(self) -> str:
        return "ended by SIGTERM"


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the program: an Error becomes one line on stderr and its exit code, as does what the system refused."""
    os.umask(0o077)
    _open_standard_streams()
    narration.unprinted.clear()
    previous = signal.signal(signal.SIGTERM, _terminate)
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = app(args=words, prog_name="borg-vault", standalone_mode=False)
    except Error as error:
        _fail(str(error), error.exit_code, as_document="--json" in words)
    except typer.TyperException as error:
        message = error.format_message() or "a command is missing"
        _fail(f"{message} (see borg-vault --help)", error.exit_code, as_document="--json" in words)
    except OSError as error:
        if "--json" not in words:
            logger.debug("where that came from", exc_info=True)
        _fail(_refused(error), PreflightError.exit_code, as_document="--json" in words)
    except Terminated:
        complain("ended by SIGTERM; nothing is left behind")
        _end(Terminated.exit_code)
    finally:
        signal.signal(signal.SIGTERM, previous)
    _end(code)


def _open_standard_streams() -> None:
    """Open nothing in the place of a closed stream: else the next file has its number, and a child writes into it."""
    for name, mode in STANDARD_STREAMS.items():
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - for the whole run
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def _fail(error: str, exit_code: int, *, as_document: bool) -> NoReturn:
    message = redacted(error, shortest=SHORTEST_SHOWN)
    if as_document:
        print_lines([as_json({"error": message, "exit_code": exit_code})])
    complain(message)
    _end(exit_code)


def _refused(error: OSError) -> str:
    """Say what the operating system refused, on what: nobody had expected it there, so what to do is general."""
    on_what = f"{error.filename}: " if error.filename else ""
    return f"{on_what}{error.strerror or error}: look who changed it, at its rights and at its disk, and run again"


def _end(exit_code: int | None) -> NoReturn:
    """Exit; where standard output did not take everything that is told, and is no success."""
    if not narration.unprinted:
        sys.exit(exit_code)
    why = narration.unprinted[0].strerror
    complain(f"standard output cannot be written: {why}: what was done is done, but not told there")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would try once more at its end
    sys.exit(exit_code or 1)


def _terminate(number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(number, _already_ending)  # not SIG_IGN, which the children would have, too
    raise Terminated


def _already_ending(_signal: int, _frame: FrameType | None) -> None:
    """Let what is left be taken away in peace."""
