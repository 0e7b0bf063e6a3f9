-- Entries are never changed, and never removed.
CREATE FUNCTION audit_log_refuses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_log is append-only' USING ERRCODE = 'integrity_constraint_violation';
END $$;;

CREATE TRIGGER audit_log_is_never_changed BEFORE UPDATE ON audit_log
FOR EACH ROW EXECUTE FUNCTION audit_log_refuses();;

CREATE TRIGGER audit_log_is_never_shortened BEFORE DELETE ON audit_log
FOR EACH ROW EXECUTE FUNCTION audit_log_refuses();;

CREATE TRIGGER audit_log_is_never_emptied BEFORE TRUNCATE ON audit_log
FOR EACH STATEMENT EXECUTE FUNCTION audit_log_refuses();;

-- Entries join at the end alone.
CREATE FUNCTION audit_log_joins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.seq IS DISTINCT FROM (SELECT COALESCE(MAX(seq), 0) + 1 FROM audit_log) THEN
        RAISE EXCEPTION 'audit_log grows at its end alone' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;;

CREATE TRIGGER audit_log_grows_at_the_end BEFORE INSERT ON audit_log
FOR EACH ROW EXECUTE FUNCTION audit_log_joins();;
