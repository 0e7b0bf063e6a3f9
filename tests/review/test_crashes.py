"""kill -9 of the service at every durable step of intake: whatever it acknowledged is there, once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select
from tests.review.callers import Sender
from tests.review.house import House
from tests.review.sendings import digest_field, sending, signature_field, wrapped_field

from earmark_edge.event import Receipt
from earmark_review import audit
from earmark_review.store.schema import cases, objects

ROOT = Path(__file__).parents[2]
TIER = 3


@pytest.fixture
def forge(s3):
    """Lets services live and die; `s3` so that they find it."""
    command = [sys.executable, "-m", "tests.review.crashing_service"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        @contextmanager
        def living(house, kill_at=0):
            words = {"data": str(house.data), **{name: house.knobs.get(name) for name in ("database", "blobs")}, "kill_at": kill_at}
            process.stdin.write(json.dumps(words) + "\n")
            process.stdin.flush()
            told = json.loads(process.stdout.readline())
            try:
                yield told["url"]
            finally:
                with suppress(ProcessLookupError):  # it did so itself
                    os.kill(told["pid"], signal.SIGKILL)
                assert process.stdout.readline() == "ended\n"

        yield living
        process.stdin.close()


def send(url, token, one, device="kitchen"):
    """What was acknowledged, as status and receipt of the event and of its object, until the service is gone."""
    answers = []
    with httpx.Client(base_url=url, headers={"authorization": f"Bearer {token}"}) as client:
        payload, clip, name = one.payload, one.objects[TIER], one.event.event_id
        requests = (
            client.build_request(
                "POST",
                "/api/v1/events",
                content=payload,
                headers={"content-type": "application/json", **signature_field(payload, device=device)},
            ),
            client.build_request(
                "PUT",
                f"/api/v1/events/{name}/clips/{TIER}",
                content=clip,
                headers={"content-digest": digest_field(clip), **wrapped_field(clip)},
            ),
        )
        for request in requests:
            try:
                answer = client.send(request)
            except httpx.TransportError:
                break
            assert answer.status_code in {200, 201}, answer.text
            answers.append((answer.status_code, Receipt.from_bytes(answer.content)))
    return answers


def assert_held_once(house, one):
    service = house.service
    with service.database.reading() as conn:
        entries = audit.read(conn)
        assert conn.scalars(select(cases.c.state)).all() == ["ready"]
        [blob_key] = conn.scalars(select(objects.c.blob_key)).all()
    assert audit.first_break(entries) is None
    actions = [entry.action for entry in entries]
    assert [actions.count(action) for action in ("event.received", "object.held", "case.ready")] == [1, 1, 1]
    assert service.blobs.read(blob_key) == one.objects[TIER]
    assert len(service.keys.everything()) == 1


@pytest.mark.timeout(900)  # some fifteen lives of a service
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"], indirect=True)
def test_a_service_killed_at_any_durable_step_keeps_what_it_acknowledged_once(open_house, forge, engine):
    step, was_killed, acknowledged = 0, True, 0
    one = sending(plain={TIER: ("audio/flac", b"sound" * 8000)})  # 40 kB
    while was_killed:
        step += 1
        house: House = open_house()
        token = house.device().client.headers["authorization"].removeprefix("Bearer ")
        house.service.close()
        with forge(house, kill_at=step) as url:
            before = send(url, token, one)
        was_killed = len(before) < 2
        acknowledged += len(before)
        house.open()
        again = Sender(house.app, token)
        answers = again.post(one.payload), again.put(one.event.event_id, TIER, one.objects[TIER])
        after = [(answer.status_code, Receipt.from_bytes(answer.content)) for answer in answers]
        for (_, promised), (status, receipt) in zip(before, after, strict=False):
            assert status == 200, "it was acknowledged, and then taken as new"
            assert receipt.received_at == promised.received_at
            assert set(promised.tiers_held) <= set(receipt.tiers_held)
        assert_held_once(house, one)
    assert step > {"sqlite": 12, "postgresql": 8}[engine], "an event and its object take at least so many steps"
    print(f"crash matrix on {engine}: killed at {step - 1} steps, {acknowledged} answers acknowledged, 0 lost, 0 twice")  # noqa: T201


CROWD = 5


@pytest.mark.timeout(900)  # some ten lives of a service
def test_a_service_killed_while_many_share_its_transactions_keeps_what_it_acknowledged_to_each(open_house, forge):
    step, was_killed, acknowledged = 2, True, 0
    names = [f"device-{number}" for number in range(CROWD)]
    parcels = [sending(f"of {name}", device=name, plain={TIER: ("audio/flac", name.encode() * 5000)}) for name in names]
    while was_killed:
        house: House = open_house()
        tokens = [house.device(name).token for name in names]
        house.service.close()
        with forge(house, kill_at=step) as url, ThreadPoolExecutor(CROWD) as pool:
            before = list(pool.map(send, [url] * CROWD, tokens, parcels, names))
        was_killed = any(len(answers) < 2 for answers in before)
        house.open()
        for name, token, one, promises in zip(names, tokens, parcels, before, strict=True):
            acknowledged += len(promises)
            again = Sender(house.app, token, name)
            answers = again.post(one.payload), again.put(one.event.event_id, TIER, one.objects[TIER])
            for (_, promised), answer in zip(promises, answers, strict=False):
                assert answer.status_code == 200, "it was acknowledged, and then taken as new"
                receipt = Receipt.from_bytes(answer.content)
                assert (receipt.event_id, receipt.received_at) == (promised.event_id, promised.received_at)
                assert set(promised.tiers_held) <= set(receipt.tiers_held)
        actions = house.actions()
        assert [actions.count(action) for action in ("event.received", "object.held", "case.ready")] == [CROWD] * 3
        assert audit.first_break(house.log()) is None
        assert len(house.service.keys.everything()) == CROWD
        step += 6
    assert step > 24, "the events and objects of so many take at least so many steps"
    print(f"crash matrix of {CROWD} at once: {acknowledged} answers acknowledged, 0 lost, 0 twice")  # noqa: T201
