"""Whatever a stranger, a device or anyone with an account sends: the answer is one that the description has, and never a crash."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from datetime import timedelta
from functools import partial

import pytest
import requests
import schemathesis
from fastapi.openapi.utils import get_openapi
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.routing import Route
from tests.review.callers import Sender, client_of
from tests.review.sendings import device_key, digest_field, wrapped_field

from earmark_edge.signature import SIGNATURE_HEADER, Purpose, header_of, sign
from earmark_review.access import RULES
from earmark_review.accounts import Role
from earmark_review.tokens import csrf_token
from earmark_review.web import app as application
from earmark_review.web.description import PROBLEM

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
UNAVAILABLE = 503
PEOPLE = [role for role in Role if role is not Role.DEVICE]
CALLERS = [None, *Role]
PURPOSES = {
    "/api/v1/events": Purpose.EVENT,
    "/api/v1/events/{event_id}/dropped": Purpose.DROPPED,
    "/api/v1/enrolments": Purpose.ENROLMENT,
    "/api/v1/heartbeat": Purpose.HEARTBEAT,
    "/api/v1/consent": Purpose.CONSENT,
}
FIELDS = ("csrf", "name", "password", "next", "lease", "verdict", "note", "onset", "offset", "start", "reason", "answer", "takeover")
SOUND = {
    **dict.fromkeys(("event_id", "boot_id", "consent_id"), "an id"),
    "onset_s": 1.5,
    "offset_s": 2.5,
    "wall_time": "2026-03-01T19:58:00+00:00",
    "clips": [],
    "schema": 2,
}
"""What a schema cannot say of an event: an order, printable signs, a time in UTC."""
KINDS = ("text/html", PROBLEM, "application/json", "image/png", "audio/wav")
SEEN_BY_PEOPLE = (200, 206, 303, 400, 401, 403, 404, 409, 410, 413, 415, 416, 422, 429)
SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]


def caller(house, role):
    """A client as `role` would have it; None is a stranger."""
    if role is None:
        return client_of(house.app)
    return house.device("porch").client if role is Role.DEVICE else house.user(f"the {role}", role).client


def described_pages(app):
    """The pages in the same form as the wire, from the routes that the application serves; what forms hold is read by hand there."""
    routes = [route for module in application._MODULES for route in module.router.routes if isinstance(route, Route)]
    paths = [copy.copy(route) for route in routes if not route.path.startswith("/api/")]
    for route in paths:
        route.include_in_schema = True
    found = get_openapi(title="pages", version="1", routes=paths)
    form = {"type": "object", "properties": {name: {"type": "string"} for name in (*FIELDS, "day_min", "run_min")}}
    for item in found["paths"].values():
        for method, operation in item.items():
            operation["responses"] = {
                str(status): {"description": "", "content": {} if status == 303 else {kind: {} for kind in KINDS}}
                for status in SEEN_BY_PEOPLE
            }
            if method == "post":
                operation["requestBody"] = {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": form}}}
    return found


def each_operation(schema):
    return [result.ok() for result in schemathesis.openapi.from_dict(schema).get_all_operations()]


def ask(operation, client, correct, mode, examples):
    """Send what the description makes, right or wrong on purpose, and hold the answer against it; return the answers' statuses.

    `correct` makes of a request one that its sender had the keys for; it is asked of every other example.
    """
    statuses = set()

    @settings(max_examples=examples, deadline=None, database=None, derandomize=True, phases=[Phase.generate], suppress_health_check=SLOW)
    @given(case=operation.as_strategy(generation_mode=mode), is_correct=st.booleans())
    def run(case, is_correct):
        given_by_case = requests.Request(**case.as_transport_kwargs(base_url=str(client.base_url))).prepare()
        body = given_by_case.body or b""
        body = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
        headers = {name: value for name, value in given_by_case.headers.items() if name.lower() not in {"authorization", "cookie"}}
        request = client.build_request(case.method, given_by_case.url, content=body, headers=headers)
        if is_correct:
            request = correct(request, operation)
        answer = client.send(request)
        answer.elapsed = timedelta()  # which only a real connection sets
        statuses.add(answer.status_code)
        assert answer.status_code < 500 or answer.status_code == UNAVAILABLE, (str(request.url), answer.text)
        case.validate_response(answer, checks=CHECKS)

    run()
    return statuses


def modes_for(operation):
    """A request without parameters and body cannot be wrong."""
    has_parts = any(True for _ in operation.iter_parameters()) or bool(operation.body)
    return (GenerationMode.POSITIVE, GenerationMode.NEGATIVE) if has_parts else (GenerationMode.POSITIVE,)


def signed(client, request, operation):
    """As the device would have sent it, about an event that it sent before."""
    body = request.content
    if operation.path == "/api/v1/events":
        with suppress(ValueError, TypeError, KeyError):
            event = json.loads(body)
            body = json.dumps({**event, **SOUND}).encode()
    fields = {"content-type": request.headers.get("content-type", ""), "content-digest": digest_field(body), **wrapped_field(body)}
    if purpose := PURPOSES.get(operation.path):
        fields[SIGNATURE_HEADER] = header_of(sign(device_key("porch"), purpose, body))
    path = request.url.path if "{" not in operation.path else operation.path.replace("{event_id}", "event-1").replace("{tier}", "3")
    return client.build_request(request.method, request.url.copy_with(path=path), content=body, headers=fields)


@pytest.mark.parametrize("role", CALLERS, ids=str)
def test_the_wire_answers_as_described_whoever_sends_whatever(house, make_sending, role):
    client, statuses = caller(house, role), set()
    if role is Role.DEVICE:
        porch = Sender(house.app, "", "porch")
        porch.client = client
        porch.send(make_sending(device="porch"))
    operations = each_operation(house.app.openapi())
    assert len(operations) == sum(" /api/v1/" in endpoint for endpoint in RULES) - 1  # the description itself is not in it
    for operation in operations:
        for mode in modes_for(operation):
            found = ask(operation, client, partial(signed, client), mode, 8 if role is Role.DEVICE else 1)
            statuses |= found
            if role is not Role.DEVICE and "enrolments" not in operation.path:
                assert found == {401}
    # Whether a new event is among what is drawn is chance; that it is answered with 201 was asserted above, as it was sent.
    assert role is not Role.DEVICE or statuses >= {200, 204, 400, 403, 422}


@pytest.mark.parametrize("role", [None, *PEOPLE], ids=str)
def test_the_pages_answer_as_described_whoever_sends_whatever(open_house, make_sending, role):
    house = open_house(sign_in_failures=1000)
    sender = house.device()
    for number in range(2):
        sender.send(make_sending(f"event-{number}", masked=True))
    client, statuses = caller(house, role), set()
    with house.service.database.reading() as conn:
        ids = conn.exec_driver_sql("SELECT case_id FROM cases").scalars().all()
    operations = each_operation(described_pages(house.app))
    assert {f"{one.method.upper()} {one.path}" for one in operations} == {end for end in RULES if "/api/" not in end}
    for operation in operations:
        if operation.path == "/logout":
            continue
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE) if list(operation.query) else (GenerationMode.POSITIVE,):
            statuses |= ask(operation, client, partial(in_front_of, client, ids), mode, 4 if role is Role.REVIEWER else 2)
    assert statuses >= ({200, 303, 403, 404, 409, 422} if role is Role.REVIEWER else {200})


def in_front_of(client, ids, request, operation):
    """The same request for a case that there is, with a form that this session was given."""
    path = operation.path.replace("{case_id}", ids[0]).replace("{request_id}", "1")
    url = request.url.copy_with(path=path)
    body = request.content
    if operation.method.upper() == "POST":
        session = client.cookies.get("earmark_session", "")
        body = f"csrf={csrf_token(session)}&".encode() + body
    headers = {name: value for name, value in request.headers.items() if name.lower() != "content-length"}
    return client.build_request(request.method, url, content=body, headers=headers)
