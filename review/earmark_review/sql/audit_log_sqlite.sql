-- Entries are never changed.
CREATE TRIGGER audit_log_is_never_changed BEFORE UPDATE ON audit_log
BEGIN
    SELECT RAISE(ABORT, 'audit_log is append-only');
END;;

-- Entries are never removed.
CREATE TRIGGER audit_log_is_never_shortened BEFORE DELETE ON audit_log
BEGIN
    SELECT RAISE(ABORT, 'audit_log is append-only');
END;;

-- Entries join at the end alone; this also stops INSERT OR REPLACE, which removes a row without firing its DELETE trigger.
CREATE TRIGGER audit_log_grows_at_the_end BEFORE INSERT ON audit_log
WHEN NEW.seq IS NOT (SELECT COALESCE(MAX(seq), 0) + 1 FROM audit_log)
BEGIN
    SELECT RAISE(ABORT, 'audit_log grows at its end alone');
END;;
