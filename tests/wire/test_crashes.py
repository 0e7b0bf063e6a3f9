"""kill -9 at every durable step of a device: nothing is lost, nothing arrives twice, whatever was acknowledged or not."""

from collections import Counter

from earmark_edge.spool import SPOOL_FILE, Spool
from earmark_review import audit

EVENTS = 2


def ledger_of(server):
    """What the service's own log says that it took, by event and by object, and how many cases there are."""
    with server.service.database.reading() as conn:
        entries = audit.read(conn)
        cases = conn.exec_driver_sql("SELECT count(*) FROM cases").scalar_one()
    received = Counter(entry.subject for entry in entries if entry.action == "event.received")
    held = Counter((entry.subject, entry.detail["tier"]) for entry in entries if entry.action == "object.held")
    alerts = [entry.action for entry in entries if entry.is_alert]
    return received, held, cases, alerts


def assert_all_arrived_once(server, numbers_of):
    received, held, cases, alerts = ledger_of(server)
    expected = {f"event:{name}/event-{number}" for name, numbers in numbers_of.items() for number in numbers}
    assert received == Counter(expected), "lost, or taken twice"
    assert held == Counter({(subject, tier): 1 for subject in expected for tier in (0, 2)})
    assert cases == len(expected)
    assert alerts == []


def assert_nothing_waits(state):
    spool = Spool(state / SPOOL_FILE, 1 << 20)
    counts = spool.counts()
    spool.close()
    assert (counts.events, counts.objects, counts.dropped, counts.set_aside, counts.damaged) == (0, 0, 0, 0, 0)


def test_a_device_killed_at_any_durable_step_loses_nothing_and_sends_nothing_twice(server, enrolled, crashing_device):
    numbers_of, step = {}, 0
    outcome = "killed"
    while outcome == "killed":
        step += 1
        name, numbers = f"device-{step}", list(range(EVENTS))
        state = enrolled(name)
        outcome = crashing_device.live(state, numbers, kill_at=step)
        numbers_of[name] = numbers
        if outcome == "killed":
            assert crashing_device.live(state, numbers) == "0"
        assert_nothing_waits(state)
    assert outcome == "0"
    assert step > 35, "two events with two objects each take at least so many steps"
    assert_all_arrived_once(server, numbers_of)
    print(f"crash matrix: killed at {step - 1} steps, {EVENTS * step} events, 0 lost, 0 twice")  # noqa: T201 - shown by pytest -s


def test_a_device_that_is_killed_again_and_again_gets_everything_out_in_the_end(server, enrolled, crashing_device):
    state, numbers = enrolled(), list(range(3))
    lives = 1
    while crashing_device.live(state, numbers, kill_at=7 + lives // 8) == "killed":
        lives += 1
        assert lives < 200
    assert lives > 3
    assert_nothing_waits(state)
    assert_all_arrived_once(server, {"kitchen": numbers})
