"""The offline verifier of audit chains: the NDJSON files of a dump in, findings out; no database, no network."""
