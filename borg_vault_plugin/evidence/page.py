"""The frame of a page: what every one begins with, the policy that lets nothing run, and how it gets into a file."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from borg_vault_plugin.errors import ConfigError
from borg_vault_plugin.evidence.markup import Markup, element, joined
from borg_vault_plugin.evidence.style import STYLE
from borg_vault_plugin.whole_file import write_whole

# Whatever slipped through the escaping could neither run nor load nor send anything.
POLICY = "default-src 'none'; style-src 'sha256-{digest}'; img-src 'none'; base-uri 'none'; form-action 'none'"


def page(title: str, *sections: Markup) -> str:
    """Put a page together; its only style sheet is named by hash in its Content-Security-Policy."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY.format(digest=digest)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(STYLE)),
    )
    body = element("body", element("main", joined(*sections)))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def write_page(path: Path, html: str) -> None:
    """Write a page so that it is there whole or not at all, and only its owner can read it. Raises ConfigError."""
    try:
        write_whole(path, html.encode())
    except OSError as error:
        advice = "name a file in a directory that exists and has room, and that you may write to"
        raise ConfigError(f"the page {path} cannot be written: {error.strerror or error}: {advice}") from error
