"""Pings of a check when a run begins, succeeds or fails, as Healthchecks takes them, with the end of the log.

https://healthchecks.io/docs/http_api/: POST to the ping URL for success, below it to `start` or `fail`. A URL without
`{set}` in it is the check of the database: another set must not make up for a missing night, and only tells failures.
"""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit

from borg_vault_plugin import Begun, Ended, Failed, Monitoring, SetName, SourceError, hookimpl, secret_url

SECONDS, ATTEMPTS, PAUSE_SECONDS = 5.0, 2, 1.0
LARGEST_BODY = 10_000
PLACE = "{set}"
SERVER_ERROR = 500


@hookimpl
def backup_started(begun: Begun, monitoring: Monitoring) -> None:
    """Say that a run begins, so that its time is measured and a missing end is noticed."""
    url = _url(monitoring)
    if PLACE in url or begun.set == "database":
        _ping(url, begun.set, "start", b"")


@hookimpl
def backup_finished(report: Ended, begun: Begun, log: Sequence[str], monitoring: Monitoring) -> None:
    """Say how the run ended: anything but exit code 0 is a failure."""
    url = _url(monitoring)
    if PLACE in url or begun.set == "database" or report.exit_code:
        last = [f"{report.error} (exit code {report.exit_code})"] if isinstance(report, Failed) else []
        _ping(url, begun.set, "fail" if report.exit_code else "", _body([*log, *last]))


def _body(lines: Sequence[str]) -> bytes:
    """Give the end of the lines; a letter that the cut has gone through is left out."""
    end = "\n".join(lines).encode("utf-8", "replace")[-LARGEST_BODY:]
    return end.decode("utf-8", "ignore").encode()


def _url(monitoring: Monitoring) -> str:
    if monitoring.healthchecks is None:
        raise SourceError("there is no section [monitoring.healthchecks]")
    return secret_url(monitoring.healthchecks.url, "the ping URL")


def _ping(url: str, set_name: SetName, signal: str, body: bytes) -> None:
    parts = urlsplit(url.replace(PLACE, set_name))
    if parts.scheme not in ("http", "https"):
        raise SourceError("the ping URL is none of http or https: mend monitoring.healthchecks.url")
    path = f"{parts.path.rstrip('/')}/{signal}" if signal else parts.path
    request = urllib.request.Request(  # noqa: S310 - the scheme was looked at
        urlunsplit(parts._replace(path=path)), data=body, headers={"User-Agent": "borg-vault"}, method="POST"
    )
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
                answer.read(LARGEST_BODY)
                return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < SERVER_ERROR or attempt == ATTEMPTS:
                raise SourceError(f"{error}: look at monitoring.healthchecks.url") from error
        except (OSError, http.client.HTTPException) as error:
            if attempt == ATTEMPTS:
                reason = error.reason if isinstance(error, urllib.error.URLError) else error
                raise SourceError(f"no answer to the ping: {reason}") from error
        time.sleep(PAUSE_SECONDS)
