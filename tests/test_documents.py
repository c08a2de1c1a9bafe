"""What `--json` prints: one document of a fixed shape, that other people's scripts read."""

from __future__ import annotations

from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from fix_cli import RunCli
from fix_repository import PlainRepository
from fix_vault import Vault

pytest_plugins = ("fix_server",)

Schema = dict[str, Any]
TEXT: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 0}
SECONDS: Schema = {"type": "number", "minimum": 0}
DIGEST: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
INSTANT: Schema = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"}
VERDICT: Schema = {"enum": ["passed", "failed", "not_checked", "not_applicable"]}
NAME: Schema = {"type": "string", "pattern": r"^[A-Za-z0-9_.-]+-\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"}


def exactly(**properties: Schema) -> Schema:
    """Give the schema of an object with these properties, all of them and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def perhaps(schema: Schema, **optional: Schema) -> Schema:
    """Give the schema of an object that may have these properties as well, after the others."""
    return schema | {"properties": schema["properties"] | optional}


def listing(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


FINDING_ID: Schema = {"type": "string", "pattern": "^[0-9a-f]{16}$"}
FINDING = perhaps(exactly(code=TEXT, where=TEXT, detail=TEXT, id=FINDING_ID), hash=TEXT, accepted=TEXT)
STORED = exactly(
    repository=TEXT,
    status={"enum": ["stored", "failed", "would_store"]},
    archive_id=nullable(DIGEST),
    original_size=nullable(COUNT),
    compressed_size=nullable(COUNT),
    deduplicated_size=nullable(COUNT),
    seconds=SECONDS,
    error=nullable(TEXT),
)
REWIND = exactly(archive=TEXT, time=INSTANT, reason=TEXT)
PRUNED = exactly(repository=TEXT, removed=listing(NAME), spared=listing(NAME))
FAILED_TO_PRUNE = exactly(repository=TEXT, removed=listing(NAME), spared=listing(NAME), error=nullable(TEXT))
CREATE = exactly(
    archive=NAME,
    verdict={"enum": ["good", "suspect", "unverified"]},
    repositories=listing(STORED),
    artifacts=listing(exactly(path=TEXT, size=COUNT, sha256=DIGEST, producer=TEXT, rows=nullable(COUNT))),
    counts={"type": "object", "additionalProperties": COUNT},
    chain=perhaps(
        exactly(
            era={"enum": ["v1", "v2"]},
            chains=COUNT,
            entries=COUNT,
            verdict=VERDICT,
            signatures_checked=COUNT,
            signatures_carried=COUNT,
            accepted=COUNT,
            findings=listing(FINDING),
        ),
        failure_count=COUNT,
        reason=TEXT,
    ),
    continuity=perhaps(
        exactly(previous=nullable(NAME), verdict=VERDICT, findings=listing(FINDING)), reason=TEXT, rewind=REWIND
    ),
    snapshot=exactly(
        id=TEXT,
        time=INSTANT,
        server_version={"type": "string", "pattern": r"^\d+\.\d+$"},
        system_identifier=nullable({"type": "string", "pattern": r"^\d+$"}),
        database=TEXT,
        wal_lsn=nullable({"type": "string", "pattern": "^[0-9A-F]+/[0-9A-F]+$"}),
    ),
    pruned=listing({"anyOf": [PRUNED, FAILED_TO_PRUNE]}),
    seconds=exactly(stage=SECONDS, verify=SECONDS, store=SECONDS, prune=SECONDS, total=SECONDS),
)
LIST = exactly(
    archives=listing(
        exactly(
            name=TEXT,
            id=DIGEST,
            repository=TEXT,
            time=INSTANT,
            verdict=nullable({"enum": ["good", "suspect", "unverified"]}),
            drilled=nullable(INSTANT),
            original_size=COUNT,
        )
    )
)
PRUNE = exactly(
    pruned=listing({"anyOf": [PRUNED, FAILED_TO_PRUNE]}),
    plan=listing(exactly(repository=TEXT, archive=NAME, action={"enum": ["keep", "spare", "remove"]}, reason=TEXT)),
)
DUMP_CHAIN = exactly(outDir=TEXT, counts={"type": "object", "additionalProperties": COUNT})
ERROR = exactly(error=TEXT, exit_code={"type": "integer", "minimum": 2})


def conforms(document: Any, schema: Schema) -> None:
    jsonschema.validate(document, schema, cls=jsonschema.Draft202012Validator)


def order(document: Any, schema: Schema) -> bool:
    """Say whether a document's keys stand in the order in which its schema lists them."""
    return list(document) == list(schema["properties"])


def test_create_list_and_prune_print_their_documents(
    server: Vault, repository: PlainRepository, run_cli: RunCli
) -> None:
    repository.add_at("2026-05-01T00:00:00", f"{server.database}-2026-05-01T00:00:00Z")
    created = run_cli("create", "--json", exit_code=0).document
    conforms(created, CREATE)
    assert order(created, CREATE)
    assert created["verdict"] == "good"
    listed = run_cli("list", "--json", exit_code=0).document
    conforms(listed, LIST)
    assert [one["name"] for one in listed["archives"]] == repository.names()
    assert listed["archives"][-1]["id"] == created["repositories"][0]["archive_id"]
    assert listed["archives"][-1]["verdict"] == created["verdict"]
    assert listed["archives"][-1]["original_size"] == created["repositories"][0]["original_size"]
    pruned = run_cli("prune", "--keep", "1", "--json", exit_code=0).document
    conforms(pruned, PRUNE)
    assert pruned["pruned"][0]["removed"] == [f"{server.database}-2026-05-01T00:00:00Z"]


@pytest.mark.usefixtures("server")
def test_retention_that_went_well_tells_what_it_removed_and_spared_and_no_more(run_cli: RunCli) -> None:
    conforms(run_cli("prune", "--dry-run", "--json", exit_code=0).document["pruned"], listing(PRUNED))


@pytest.mark.usefixtures("server")
def test_a_rehearsed_backup_is_never_called_good(run_cli: RunCli) -> None:
    created = run_cli("create", "--dry-run", "--json", exit_code=0).document
    conforms(created, CREATE)
    assert created["chain"]["verdict"] == "not_checked"
    assert created["continuity"]["verdict"] == "not_checked"
    assert created["verdict"] != "good"


def test_dump_chain_prints_only_its_document(
    latest_vault: Vault, run_cli: RunCli, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", latest_vault.url)
    document = run_cli("dump-chain", tmp_path / "chain", exit_code=0).document
    conforms(document, DUMP_CHAIN)
    assert document["outDir"] == str(tmp_path / "chain")
    assert document["counts"]["audit_vault"] == latest_vault.value("SELECT count(*) FROM audit_vault")


@pytest.mark.parametrize("command", ["create", "list", "prune"])
def test_an_error_is_a_document_too(command: str, run_cli: RunCli) -> None:
    said = run_cli(command, "--json", exit_code=3)
    conforms(said.document, ERROR)
    assert said.document["exit_code"] == 3
    assert said.document["error"] in said.stderr


@pytest.mark.parametrize(
    "words",
    [["create", "--", "--comment=mine"], ["create", "--keep", "0"], ["prune", "--keep", "none"], ["list", "--unknown"]],
)
def test_a_usage_error_is_a_document_too(words: list[str], run_cli: RunCli) -> None:
    said = run_cli(words[0], "--json", *words[1:], exit_code=2)
    conforms(said.document, ERROR)
    assert said.document["exit_code"] == 2


@pytest.mark.usefixtures("server")
def test_a_run_that_stored_nothing_prints_one_document(
    run_cli: RunCli, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BORG_REPO", str(tmp_path / "nowhere"))
    said = run_cli("create", "--json", exit_code=5)
    conforms(said.document, ERROR)
    assert said.document["exit_code"] == 5
    assert "borg-vault init" in said.document["error"]
