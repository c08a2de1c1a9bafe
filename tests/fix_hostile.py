"""What an attacker puts where others look: values in documents, members in archives."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from fix_repository import PlainRepository

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\r\n\x7f\0"
"""What steers a terminal: a title, a cleared screen, a colour in one byte, an order turned round, a forged line."""


def is_harmless(text: str) -> bool:
    """Whether a terminal would only show a text, line by line."""
    return all(line.isprintable() for line in text.split("\n"))


def member(
    name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", content: bytes = b"", mode: int = 0o644, owner: int = 0
) -> tuple[tarfile.TarInfo, bytes]:
    """Make a member of a tar."""
    header = tarfile.TarInfo(name)
    header.type, header.linkname, header.mode = kind, link, mode
    header.size, header.uid, header.gid, header.devmajor, header.devminor = len(content), owner, owner, 1, 3
    return header, content


def tar_of(directory: Path, *before: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """Pack what is in a directory, with other members before it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for header, content in before:
            tar.addfile(header, io.BytesIO(content))
        for path in sorted(directory.iterdir()) if directory.is_dir() else ():
            tar.add(path, path.name)
    return packed.getvalue()


def import_tar(repository: PlainRepository, name: str, tar: bytes, place: Path, *, comment: str = "") -> str:
    """Store a tar as an archive, as anybody can who has the passphrase and may append."""
    path = place / "hostile.tar"
    path.write_bytes(tar)
    repository.borg("import-tar", f"--comment={comment}", f"::{name}", path)
    return name
