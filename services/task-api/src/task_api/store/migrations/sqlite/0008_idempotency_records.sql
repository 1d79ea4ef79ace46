-- The table `answers` is renamed to what it holds. The previous release, after a rollback, finds the same rows in a view with
-- the former name, which the next release drops.
ALTER TABLE answers RENAME TO idempotency_records;
DROP INDEX answers_by_time;
CREATE INDEX idempotency_records_by_time ON idempotency_records (at);

CREATE VIEW answers AS SELECT subject, key, fingerprint, status, body, at FROM idempotency_records;
CREATE TRIGGER answers_insert INSTEAD OF INSERT ON answers
BEGIN
    INSERT OR REPLACE INTO idempotency_records (subject, key, fingerprint, status, body, at)
    VALUES (NEW.subject, NEW.key, NEW.fingerprint, NEW.status, NEW.body, NEW.at);
END;
CREATE TRIGGER answers_delete INSTEAD OF DELETE ON answers
BEGIN
    DELETE FROM idempotency_records WHERE subject = OLD.subject AND key = OLD.key;
END;
