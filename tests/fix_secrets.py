"""What can be seen of a run from outside: argv and environment of every child, as other processes find them."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from fix_cli import COMMAND, SECONDS, Said, checked

BETWEEN_LOOKS = 0.003


def descendants(ancestor: int) -> Iterator[int]:
    """List a process's children, their children, and so on."""
    try:
        listings = [listing.read_text("ascii") for listing in Path(f"/proc/{ancestor}/task").glob("*/children")]
    except OSError:  # it ended
        return
    for child in (int(word) for listing in listings for word in listing.split()):
        yield child
        yield from descendants(child)


class Seen:
    """What was to be seen of the children of our runs, and what these runs said."""

    def __init__(self) -> None:
        self.commands: set[bytes] = set()
        self.environments: set[bytes] = set()
        self.said: list[str] = []

    def look(self, ancestor: int) -> None:
        """Look at every child that there is right now."""
        for child in descendants(ancestor):
            try:
                command = Path(f"/proc/{child}/cmdline").read_bytes()
                environment = Path(f"/proc/{child}/environ").read_bytes()
            except OSError:
                continue
            # Between fork and exec a child still is its parent, whose environment is the operator's.
            if command.split(b"\0")[1:2] != [str(COMMAND).encode()]:
                self.commands.add(command)
                self.environments.add(environment)

    def run(self, *words: object, exit_code: int) -> Said:
        """Run the installed command, verbosely, and look at its children all the time."""
        command = [str(COMMAND), "-v", *map(str, words)]
        with (
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ) as running,
            looking(partial(self.look, running.pid)),
        ):
            stdout, stderr = (text.decode() for text in running.communicate(timeout=SECONDS))
        self.said += [stdout, stderr]
        return checked(Said(stdout, stderr), running.returncode, exit_code, warning="")

    def everything(self) -> bytes:
        """Give all of it as one text."""
        return b"\n".join((*self.commands, *self.environments, *(text.encode() for text in self.said)))


@contextmanager
def looking(look: Callable[[], None], seconds: float = BETWEEN_LOOKS) -> Iterator[None]:
    """Look again and again, so often, while something else happens."""
    done = threading.Event()

    def keep_looking() -> None:
        while not done.wait(seconds):
            look()

    thread = threading.Thread(target=keep_looking)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def files_with(directory: Path, secret: bytes) -> list[Path]:
    """List the files below a directory that hold a secret, in their content or in their name."""
    paths = (path for path in directory.rglob("*") if not path.is_symlink())
    return [path for path in paths if secret in os.fsencode(path) or (path.is_file() and secret in path.read_bytes())]
