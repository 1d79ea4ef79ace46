-- The table `answers` is renamed to what it holds. Pods of the previous release, during the rollout and after a rollback,
-- find the same rows in a view with the former name: PostgreSQL passes all their statements on to the table, ON CONFLICT
-- included. The next release removes it: DROP VIEW answers;

-- Who reads the table for long (a dump does) holds this up, and it would hold up everybody: better to try again.
SET LOCAL lock_timeout = '3s';

-- Where it exists, a dump of an older release was restored over the tables of a later one: its records are of a time that
-- the restore has undone.
DROP TABLE IF EXISTS idempotency_records;

ALTER TABLE answers RENAME TO idempotency_records;
ALTER INDEX answers_pkey RENAME TO idempotency_records_pkey;
ALTER INDEX answers_by_time RENAME TO idempotency_records_by_time;

CREATE VIEW answers AS SELECT subject, key, fingerprint, status, body, at FROM idempotency_records;

-- With the table's owner, by whose privileges the view reads and writes it, and the privileges of the roles that serve.
DO $$
DECLARE
    granted record;
BEGIN
    EXECUTE format('ALTER VIEW answers OWNER TO %s',
                   (SELECT relowner::regrole FROM pg_class WHERE oid = 'idempotency_records'::regclass));
    FOR granted IN
        SELECT privilege_type AS privilege,
               CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS role,
               CASE WHEN is_grantable THEN 'WITH GRANT OPTION' ELSE '' END AS option
          FROM pg_class, aclexplode(relacl) WHERE oid = 'idempotency_records'::regclass
    LOOP
        EXECUTE format('GRANT %s ON answers TO %s %s', granted.privilege, granted.role, granted.option);
    END LOOP;
END
$$;
