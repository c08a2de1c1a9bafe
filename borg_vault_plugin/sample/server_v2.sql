-- What the second era added to server.sql.

ALTER TABLE vault_checkpoints ADD COLUMN chain_key text;
CREATE TABLE vault_key_statements (
    id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('genesis', 'succession', 'closure')),
    subject_key_id text NOT NULL,
    endorser_key_id text,
    statement bytea[] NOT NULL,
    created_at timestamptz NOT NULL
);
SELECT audit_protect('vault_key_statements');
GRANT SELECT, INSERT ON vault_key_statements TO agledger_app;
