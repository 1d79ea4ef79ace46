CREATE TABLE tasks (
    id           uuid        PRIMARY KEY, -- UUIDv7: its order is the order of creation
    title        text        NOT NULL,
    description  text,
    status       text        NOT NULL,
    priority     smallint    NOT NULL, -- 0 none ... 4 urgent
    due_at       timestamptz,
    due_on       date,
    due          timestamptz, -- either of the two as one moment, for order and filters
    start_at     timestamptz,
    labels       text[]      NOT NULL,
    project      text,
    parent       uuid,
    assignee     text,
    percent_done smallint    NOT NULL,
    recurrence   text,
    position     float8      NOT NULL,
    metadata     jsonb       NOT NULL,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    completed_at timestamptz,
    deleted_at   timestamptz,
    version      integer     NOT NULL CHECK (version > 0),
    words        tsvector    NOT NULL -- what search finds it by; cut into words by the service, the same for every storage
);

CREATE INDEX tasks_by_words ON tasks USING gin (words);
CREATE INDEX tasks_by_label ON tasks USING gin (labels);
CREATE INDEX tasks_by_update ON tasks (updated_at, id);
CREATE INDEX tasks_by_due ON tasks (due, id);
CREATE INDEX tasks_by_project ON tasks (project, id) WHERE project IS NOT NULL;
CREATE INDEX tasks_by_assignee ON tasks (assignee, id) WHERE assignee IS NOT NULL;
CREATE INDEX tasks_by_parent ON tasks (parent, id) WHERE parent IS NOT NULL;
CREATE INDEX tasks_deleted ON tasks (deleted_at) WHERE deleted_at IS NOT NULL;

-- The change feed. Numbers of a sequence become visible in another order than they were given: a transaction
-- that began earlier may commit later. So an entry is read only when no transaction as old as its own is
-- running any more, in the order of (xid, number).
CREATE TABLE changes (
    xid    xid8        NOT NULL DEFAULT pg_current_xact_id(),
    number bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    at     timestamptz NOT NULL,
    type   text        NOT NULL,
    task   text        NOT NULL, -- JSON, as the change left it
    PRIMARY KEY (xid, number)
);
CREATE INDEX changes_by_time ON changes (at);

-- Up to where the feed is gone: one row.
CREATE TABLE changes_purged (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    xid    xid8    NOT NULL,
    number bigint  NOT NULL
);
INSERT INTO changes_purged (xid, number) VALUES ('0', 0);

-- What requests with an Idempotency-Key were answered.
CREATE TABLE answers (
    subject     text        NOT NULL,
    key         text        NOT NULL,
    fingerprint text        NOT NULL,
    status      smallint    NOT NULL,
    body        text        NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (subject, key)
);
CREATE INDEX answers_by_time ON answers (at);
