from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import psutil
import pytest
from tests.review.callers import Sender
from tests.review.house import enrolled, write_identity
from tests.review.sendings import digest_field, sending, signature_field, wrapped_field
from tests.waiting import until

from earmark_edge.event import Receipt
from earmark_review import audit
from earmark_review.errors import SettingsError
from earmark_review.service import open_service
from earmark_review.settings import ReviewSettings
from earmark_review.web.serving import listen, running


@pytest.fixture
def service(tmp_path):
    write_identity(tmp_path / "data")
    opened = open_service(ReviewSettings(data=tmp_path / "data", port=0))
    yield opened
    opened.close()


def start(data, *more):
    """`earmark review serve` as a process of its own; returns it and its address."""
    command = [sys.executable, "-c", "from earmark_review.cli import app; app()", "serve", "--port", "0", "--data", str(data), *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    assert line.startswith("Earmark review at http://127.0.0.1:"), line + process.stderr.read()
    return process, line.split()[3]


def stop(process, with_signal):
    process.send_signal(with_signal)
    _, errors = process.communicate(timeout=30)
    return errors


def post(url, token, payload):
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json", **signature_field(payload)}
    return httpx.post(f"{url}/api/v1/events", content=payload, headers=headers)


def test_a_server_in_a_thread_answers_while_its_block_runs(service):
    with running(service) as server:
        assert httpx.get(f"{server.url}/healthz").json() == {"status": "ok"}
        assert server.service is service
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/healthz")
    service.offer_enrolment("still open")


def test_a_round_of_upkeep_is_over_before_a_server_is(service, monkeypatch, caplog):
    begun, over = threading.Event(), threading.Event()

    def slow(kept):
        begun.set()
        time.sleep(0.3)
        kept.keys.erased()
        over.set()

    monkeypatch.setattr(type(service), "keep_house", slow)
    with running(service):
        assert begun.wait(10)
    assert over.is_set()
    service.close()
    assert "the house could not be kept" not in caplog.text


def test_an_address_that_cannot_be_had_is_one_clear_error():
    with listen("127.0.0.1", 0) as taken, pytest.raises(SettingsError, match="--port"):
        listen(*taken.getsockname())


def test_the_access_log_holds_paths_and_no_secrets(service, make_sending, caplog):
    token = enrolled(service)
    caplog.set_level(logging.DEBUG)
    with running(service) as server:
        assert post(server.url, token, make_sending().payload).status_code == 201
        post(server.url, "guessed-token", make_sending().payload)
        cookies = {"earmark_session": "session-secret", "earmark_lease": "lease-secret"}
        httpx.get(f"{server.url}/queue", params={"token": "query-secret"}, cookies=cookies)
        httpx.get(f"{server.url}/a%0Ab%1B")
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]
    access = [line for line in ours if "answered" in line]
    assert [line.split(" in ")[0] for line in access] == [
        "POST /api/v1/events answered 201",
        "POST /api/v1/events answered 401",
        "GET /queue answered 401",
        "GET /a\\nb\\x1b answered 404",
    ]
    for secret in (token, "guessed-token", "session-secret", "lease-secret", "query-secret"):
        assert secret not in "\n".join(ours)


def test_a_killed_server_keeps_every_event_that_it_acknowledged(tmp_path, make_sending):
    data = tmp_path / "data"
    write_identity(data)
    service = open_service(ReviewSettings(data=data))
    token = enrolled(service)
    service.close()
    process, url = start(data)
    sent = [make_sending(f"event-{number}").payload for number in range(12)]
    receipts = [post(url, token, payload).content for payload in sent]
    stop(process, signal.SIGKILL)

    process, url = start(data)
    again = [post(url, token, payload) for payload in sent]
    errors = stop(process, signal.SIGTERM)
    assert [answer.status_code for answer in again] == [200] * 12
    assert [answer.content for answer in again] == receipts
    assert Receipt.from_bytes(receipts[0]).tiers_missing == (0, 3)
    assert "Traceback" not in errors
    assert errors.count("POST /api/v1/events answered 200") == 12
    assert token not in errors
    assert process.returncode == 0
    assert sorted(path.name for path in data.iterdir()) == ["blobs", "keys", "review.db"]
    assert "nobody can sign in yet" in errors

    service = open_service(ReviewSettings(data=data))
    with service.database.reading() as conn:
        entries = audit.read(conn)
    service.close()
    assert audit.first_break(entries) is None
    assert [entry.action for entry in entries].count("event.received") == 12


def workers_of(process):
    found = []
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.Error):  # it has just ended
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child.pid)
    return found


def answers_of(url, token, parcels):
    """What each was answered; a worker that dies in the middle answers nothing, and is asked again, as a device would."""

    def send(one):
        for _ in range(100):
            try:
                return post(url, token, one)
            except httpx.TransportError:
                time.sleep(0.1)
        return pytest.fail("nobody answers any more")

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(send, parcels))


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"], indirect=True)
def test_several_workers_serve_as_one_and_a_killed_one_is_replaced_and_loses_nothing(house, engine, monkeypatch):
    token = house.device().token
    house.service.close()
    if engine == "postgresql":
        monkeypatch.setenv("EARMARK_REVIEW_DATABASE", house.knobs["database"])
    process, url = start(house.data, "--workers", "2")
    assert httpx.get(f"{url}/healthz", timeout=60).status_code == 200  # once a worker has begun
    parcels = [sending(f"event-{number}", seq=number, plain={}).payload for number in range(40)]
    first = answers_of(url, token, parcels[:20])
    victims = workers_of(process)
    assert len(victims) == 2
    os.kill(victims[0], signal.SIGKILL)
    second = answers_of(url, token, parcels[20:])
    again = answers_of(url, token, parcels)
    until(lambda: len(workers_of(process)) == 2 and victims[0] not in workers_of(process))
    errors = stop(process, signal.SIGTERM)
    assert process.returncode == 0, errors
    assert [answer.status_code for answer in first] == [201] * 20
    assert {answer.status_code for answer in second} <= {200, 201}  # 200 where it was taken, and its worker died before it said so
    assert [answer.content for answer in again] == [answer.content for answer in (*first, *second)]
    house.open()
    assert house.actions().count("event.received") == 40
    assert audit.first_break(house.log()) is None


def test_a_worker_that_cannot_begin_ends_the_service_with_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("EARMARK_REVIEW_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("PYTHONPATH", str(without_telemetry(tmp_path)))
    process, _ = start(tmp_path / "data", "--workers", "2")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    assert "needs the extra" in errors
    assert errors.rstrip().endswith("a worker did not start; its log says why")
    assert "Traceback" not in errors


def without_telemetry(tmp_path):
    """A folder on Python's path that hides the extra, as though it were not installed."""
    hiding = tmp_path / "hiding"
    hiding.mkdir()
    lines = ("import sys", "sys.modules['opentelemetry.exporter.otlp.proto.http.trace_exporter'] = None")
    (hiding / "sitecustomize.py").write_text("\n".join(lines))
    return hiding


def test_an_upload_cut_off_by_a_kill_leaves_no_half_object_and_can_be_sent_again(house, sender, make_sending, clock):
    one = make_sending()
    sender.post(one.payload)
    half = house.service.blobs.incoming / ("f" * 32)
    half.write_bytes(one.objects[3][:100])
    long_ago = clock().timestamp() - 7200
    os.utime(half, (long_ago, long_ago))
    house.service.sweep()
    assert not half.exists()
    assert Sender(house.app, sender.token).put("event-1", 3, one.objects[3]).status_code == 201


def test_a_body_that_breaks_off_leaves_nothing_and_can_be_sent_again(service, make_sending):
    one, token = make_sending(), enrolled(service)
    given = {"authorization": f"Bearer {token}"}
    with running(service) as server:
        for method, path, payload, headers in (
            ("POST", "/api/v1/events", one.payload, {"content-type": "application/json", **signature_field(one.payload)}),
            (
                "PUT",
                "/api/v1/events/event-1/clips/3",
                one.objects[3],
                {"content-digest": digest_field(one.objects[3]), **wrapped_field(one.objects[3])},
            ),
        ):
            lines = {"host": "x", "content-length": str(len(payload)), **given, **headers}
            head = "".join([f"{method} {path} HTTP/1.1\r\n", *(f"{name}: {value}\r\n" for name, value in lines.items()), "\r\n"])
            with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as line:
                line.sendall(head.encode() + payload[: len(payload) // 2])
            httpx.get(f"{server.url}/healthz")
            again = httpx.request(method, server.url + path, content=payload, headers={**given, **headers})
            assert again.status_code == 201  # 200 if the half had counted
    assert list(service.blobs.incoming.iterdir()) == []
    assert len(service.blobs.list_keys()) == 1


def test_everything_is_there_after_a_restart(house, sender, ada, one_case, make_sending):
    sender.send(make_sending("event-2", "cry"))
    ada.claim(one_case)
    token, before = ada.lease_of(one_case), house.log()
    session = ada.client.cookies
    house.reopen()
    again = type(ada)(house.app)
    again.client.cookies = session
    assert "Held by you" in again.client.get("/queue").text
    assert again.act(one_case, "verdict", token, verdict="distress", note="still mine").status_code == 303
    assert house.log()[: len(before)] == before
    house.reopen()
    last = type(ada)(house.app)
    last.client.cookies = session
    assert "still mine" in last.client.get(f"/cases/{one_case}").text


def test_starting_writes_nothing_outside_the_data_folder(tmp_path, monkeypatch):
    home, work = tmp_path / "home", tmp_path / "work"
    for folder in (home, work):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.chdir(work)
    process, url = start(tmp_path / "data")
    assert httpx.get(f"{url}/login").status_code == 200
    stop(process, signal.SIGTERM)
    assert list(home.rglob("*")) == list(work.rglob("*")) == []
