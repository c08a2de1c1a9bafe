"""Signed statements by which keys admit and close each other, and the trust that flows from pinned keys through them.

A key is known by the whole SHA-256 of its SPKI, never by its short id.

A succession lets trust flow from endorser to subject, and back if nothing else admits the subject. A first walk from
the pins finds whose closures count. The first closure of a key voids what flows out of it by later statements, a
forced one everything that flows out of it. What a second walk reaches is anchored. What it would only reach with
statements that cannot be verified here is undecided. No key is trusted because a dump says so.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from borg_vault_plugin.chain.codes import Code
from borg_vault_plugin.chain.context import Standing, Window
from borg_vault_plugin.chain.keys import RegistryKey, registry_key
from borg_vault_plugin.chain.rows import RegistryRow, StatementRow
from borg_vault_plugin.chain.statement import Statement, genuine_statements, invalid
from borg_vault_plugin.report import Finding

ANCHOR = re.compile(r"sha256:([0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class KeyTrust:
    """What follows from the pins and the statements about the keys of a registry."""

    windows: Mapping[str, Window]
    """The anchored keys, by key id."""
    undecided: frozenset[str] = frozenset()
    """Ids of keys that hang on statements which cannot be verified here."""
    findings: tuple[Finding, ...] = ()

    def standing(self, key_id: str) -> Standing:
        """Tell whether a key is anchored; a key that is not in the registry is not."""
        if key_id in self.windows:
            return "anchored"
        return "undecided" if key_id in self.undecided else "unanchored"

    def window(self, key_id: str) -> Window | None:
        """Give the signed window of an anchored key; None when no statement gives one."""
        window = self.windows.get(key_id)
        return None if window == Window(None, None) else window

    @property
    def signing_since(self) -> int | None:
        """The earliest signed activation of an anchored key, in milliseconds since 1970."""
        return min((one.activated for one in self.windows.values() if one.activated is not None), default=None)


@dataclass(frozen=True, slots=True)
class Edge:
    """Trust may flow from one key to another, by the statement of this order."""

    source: str
    target: str
    order: int


def walk(statements: Iterable[StatementRow], registry: Iterable[RegistryRow], anchors: Iterable[str]) -> KeyTrust:
    """Tell which registered keys follow from the pinned ones, and what is wrong with the statements.

    Rows are taken in the order of their files. An anchor is `sha256:` and the SHA-256 of an SPKI in hex.
    Raises ValueError, with one line, if there is no anchor or one is not so.
    """
    pins, rows = pinned(anchors), list(registry)
    keys = [key for key in map(registry_key, rows) if key is not None]
    genuine, findings = genuine_statements(statements, keys)
    graph = Graph(pins, genuine)
    windows = {key: graph.window(key) for key in graph.anchored}
    named = _named(keys)
    return KeyTrust(
        {key_id: windows[key] for key_id, key in named.items() if key in windows},
        frozenset(key_id for key_id, key in named.items() if key in graph.undecided),
        (*findings, *_misplaced(graph), *_drifts(rows, windows)),
    )


def pinned(anchors: Iterable[str]) -> frozenset[str]:
    """Give the fingerprints of anchors. Raises ValueError, with one line, if there is none or one cannot be read."""
    matches = {anchor: ANCHOR.fullmatch(anchor) for anchor in anchors}
    if not matches:
        raise ValueError("no anchor was given, and without one no key can be anchored")
    for anchor, match in matches.items():
        if match is None:
            raise ValueError(f"an anchor is sha256: and 64 hex digits, not {anchor!r}")
    return frozenset(match[1].lower() for match in matches.values() if match is not None)


class Graph:
    """The two walks over genuine statements, which come in the order of their storing."""

    def __init__(self, pins: frozenset[str], statements: Sequence[Statement]) -> None:
        self.statements = statements
        verified = [one for one in statements if one.verified]
        # Of the admissions that cannot be verified, each walk believes what makes it reach less, or more.
        edges = list(_edges(verified, Counter(one.subject for one in statements if one.admits)))
        possible = list(_edges(statements, Counter(one.subject for one in verified if one.admits)))
        reached, self.reachable = _reached(pins, edges), _reached(pins, possible)
        closures = [one for one in verified if not one.admits and one.endorser in reached]
        suspected = [one for one in statements if not one.admits and one.endorser in self.reachable]
        unsure = {one.subject for one in suspected if not one.verified or one.endorser not in reached}
        self.anchored = _reached(pins, _open(edges, suspected)) - unsure
        self.undecided = _reached(pins, _open(possible, closures)) - self.anchored
        # In each of these the last one counts.
        admissions = sorted((one for one in verified if one.admits), key=lambda one: one.activated)
        self.starts = {one.subject: one.activated for one in admissions}
        self.ends = {one.subject: one.retired for one in sorted(closures, key=lambda one: -one.retired)}
        self.closed = {one.subject: one.order for one in reversed(closures)}
        self.admitted = {one.subject: one.order for one in reversed(statements) if one.admits}

    def window(self, key: str) -> Window:
        """Give the signed window of a key: from its latest admission to its earliest closure."""
        start, end = self.starts.get(key), self.ends.get(key)
        return Window(None if start is None else start // 1000, None if end is None else end // 1000)


def _edges(statements: Iterable[Statement], admissions: Counter[str]) -> Iterator[Edge]:
    for one in statements:
        if one.kind == "succession" and one.endorser is not None:
            yield Edge(one.endorser, one.subject, one.order)
            if admissions[one.subject] <= 1:
                yield Edge(one.subject, one.endorser, one.order)


def _open(edges: Iterable[Edge], closures: Sequence[Statement]) -> list[Edge]:
    """Leave the edges that no closure voids."""
    closed = {one.subject: one.order for one in reversed(closures)}
    forced = {one.subject for one in closures if one.forced}
    return [edge for edge in edges if edge.source not in forced and edge.order <= closed.get(edge.source, edge.order)]


def _reached(pins: Iterable[str], edges: Iterable[Edge]) -> frozenset[str]:
    targets: defaultdict[str, set[str]] = defaultdict(set)
    for edge in edges:
        targets[edge.source].add(edge.target)
    reached, waiting = set(pins), list(pins)
    while waiting:
        fresh = targets[waiting.pop()] - reached
        reached |= fresh
        waiting += fresh
    return frozenset(reached)


def _misplaced(graph: Graph) -> Iterator[Finding]:
    """Report the statements that are genuine and yet must not be there."""
    known = graph.anchored | graph.undecided
    for one in graph.statements:
        fault = None if one.admits else _closure_fault(graph, one)
        keys = {one.subject, one.endorser} - {None}
        if fault is not None:
            yield Finding(Code.KEY_CLOSURE_INVALID, one.where, fault)
        elif not known & keys:
            yield invalid(one.where, "concerns no key that follows from the pinned ones")
        elif one.admits and graph.admitted[one.subject] < one.order:
            yield invalid(one.where, f"admits key {one.subject[:16]} a second time")
        elif one.admits and any(graph.closed.get(key or "", one.order) < one.order for key in keys):
            yield invalid(one.where, "admits a key after one of its keys was closed")


def _closure_fault(graph: Graph, closure: Statement) -> str | None:
    subject, signer = closure.subject, closure.endorser or ""
    if signer not in graph.reachable:
        return f"signed by key {signer[:16]}, which does not follow from the pinned ones"
    if signer in graph.ends and closure.stored > graph.ends[signer] // 1000:
        return f"signed by key {signer[:16]} after its own retirement"
    if closure.retired < max(closure.activated, graph.starts.get(subject, closure.activated)):
        return f"retires key {subject[:16]} before its activation"
    return "retires a key later than it was stored itself" if closure.retired // 1000 > closure.stored else None


def _drifts(rows: Iterable[RegistryRow], windows: Mapping[str, Window]) -> Iterator[Finding]:
    """Compare the registry's columns with what was signed about the anchored keys."""
    for row in rows:
        key = registry_key(row)
        if key is None or key.fingerprint not in windows or not key.names_itself:
            continue
        where, signed = f"vault_signing_keys, key {key.key_id}", windows[key.fingerprint]
        if row.status == "retired" and signed.retired is None:
            yield Finding(Code.KEY_CLOSURE_INVALID, where, "listed as retired, but no closure of it counts")
        differing = ", ".join(_differing(row, key, signed))
        if differing:
            yield Finding(Code.CHAIN_KEY_WINDOW_DRIFT, where, f"not as signed: {differing}")


def _differing(row: RegistryRow, key: RegistryKey, signed: Window) -> Iterator[str]:
    if signed.activated is not None and key.activated != signed.activated:
        yield "activated_at"
    if row.status == "retired" and signed.retired is None:
        return  # what is missing is the closure
    if key.retired != signed.retired or (key.retired is None) != (row.retired_at is None):
        yield "retired_at"
    if row.status != ("active" if signed.retired is None else "retired"):
        yield "status"


def _named(keys: Iterable[RegistryKey]) -> dict[str, str]:
    """Give the fingerprints of the keys that are called what they are; a name that two keys share is neither's."""
    named: defaultdict[str, set[str]] = defaultdict(set)
    for key in keys:
        named[key.key_id].add(key.fingerprint)
    return {key.key_id: key.fingerprint for key in keys if key.names_itself and len(named[key.key_id]) == 1}
