CREATE TABLE IF NOT EXISTS events (
    place INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    payload BLOB NOT NULL,
    signature BLOB NOT NULL,
    is_urgent INTEGER NOT NULL,
    spooled_at TEXT NOT NULL,
    -- waiting: not sent yet; announced: the service has the event; delivered: it has all; gone: it deleted it; withdrawn: consent ended;
    -- damaged: the disk lost some of it
    state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'announced', 'delivered', 'gone', 'withdrawn', 'damaged')),
    receipt BLOB,
    receipt_signature BLOB,
    received_at TEXT,
    failures INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0,
    trouble TEXT NOT NULL DEFAULT '',
    status BLOB
);
CREATE TABLE IF NOT EXISTS objects (
    event_id TEXT NOT NULL REFERENCES events (event_id),
    tier INTEGER NOT NULL,
    length INTEGER NOT NULL,
    wrapped BLOB,
    ciphertext BLOB,
    -- waiting: here alone; held: by the service, wiped here; dropped: given up for want of space, wiped here
    state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'held', 'dropped', 'wiped')),
    PRIMARY KEY (event_id, tier)
);
CREATE INDEX IF NOT EXISTS events_open ON events (is_urgent DESC, place) WHERE state IN ('waiting', 'announced');
CREATE INDEX IF NOT EXISTS objects_waiting ON objects (event_id, tier, length) WHERE state = 'waiting';
