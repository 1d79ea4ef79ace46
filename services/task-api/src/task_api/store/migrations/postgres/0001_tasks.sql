CREATE TABLE tasks (
    id           uuid        PRIMARY KEY, -- UUIDv7: its order is the order of creation
    title        text        NOT NULL,
    description  text,
    status       text        NOT NULL CHECK (status IN ('todo', 'in_progress', 'done', 'cancelled')),
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    completed_at timestamptz,
    version      integer     NOT NULL CHECK (version > 0)
);
