"""What devices speak to beside their events: enrolment, heartbeats, consent, policy, and what became of what they sent."""

from __future__ import annotations

import base64
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from earmark_edge.consent import Consent
from earmark_edge.messages import Enrolled, EnrolRequest, Heartbeat, key_of, statuses_bytes
from earmark_edge.signature import SIGNATURE_HEADER, Purpose, SignatureError, check, from_header
from earmark_edge.wire import MAX_MESSAGE_BYTES, WireError, parse_object
from earmark_review.errors import EnrolmentError, EventRefusedError, TooManyAttemptsError
from earmark_review.keystore import SignedRecord
from earmark_review.service import Service
from earmark_review.store.consents import take_consent
from earmark_review.store.devices import Device, enrol
from earmark_review.store.liveness import take_heartbeat
from earmark_review.store.policies import policy_in_force
from earmark_review.store.retention import end_withdrawn
from earmark_review.store.statuses import statuses_of
from earmark_review.web.bodies import read_capped
from earmark_review.web.description import MOST_STATUSES
from earmark_review.web.guards import SendingDevice, ServiceOf
from earmark_review.web.sign_in_pages import address_of
from earmark_review.web.signing import signed_answer, signed_by

router = APIRouter(prefix="/api/v1", tags=["devices"])
_STATUSES_BYTES_CAP = 64 * 1024


@router.post("/enrolments", status_code=HTTPStatus.CREATED, summary="Enrol a device with a one-time code")
async def post_enrolment(request: Request, service: ServiceOf) -> Response:
    """Exchange a code and a public key, signed by its own private half, for a token and the service's public keys.

    429 for a while after too many codes from one address that were none.
    """
    payload = await read_capped(request, MAX_MESSAGE_BYTES)
    enrolled = await run_in_threadpool(_enrol, service, payload, request.headers.get(SIGNATURE_HEADER), address_of(request))
    return signed_answer(service, Purpose.ENROLLED, enrolled.to_bytes(), HTTPStatus.CREATED)


def _enrol(service: Service, payload: bytes, signature: str | None, address: str) -> Enrolled:
    try:
        asked = EnrolRequest.from_bytes(payload)
        public_key = key_of("public_key", asked.public_key)
        check(public_key, Purpose.ENROLMENT, payload, from_header(signature))
    except (WireError, SignatureError) as error:
        raise EnrolmentError(str(error)) from error
    try:
        failure_id = service.sign_in.book_failure(f"enrolment from {address}", address, service.now())
    except TooManyAttemptsError as error:
        msg = f"too many codes from this address that were none of ours; try again in {-(-error.retry_after_s // 60)} min"
        raise TooManyAttemptsError(msg, error.retry_after_s) from error
    with service.database.writing() as conn:
        name, token = enrol(conn, asked.code, public_key, service.now())
    service.sign_in.strike_out(failure_id)
    keys = (service.identity.sealing_public, service.identity.signing_public)
    return Enrolled(name, token, *(base64.b64encode(key).decode() for key in keys))


@router.post("/heartbeat", status_code=HTTPStatus.NO_CONTENT, summary="Say that a device lives")
async def post_heartbeat(request: Request, service: ServiceOf, device: SendingDevice) -> Response:
    """Take a signed `Heartbeat`."""
    payload = await read_capped(request, MAX_MESSAGE_BYTES)
    await run_in_threadpool(signed_by, service, device, Purpose.HEARTBEAT, payload, request)
    await run_in_threadpool(_take_heartbeat, service, device, payload)
    return Response(status_code=HTTPStatus.NO_CONTENT)


def _take_heartbeat(service: Service, device: Device, payload: bytes) -> None:
    try:
        heartbeat = Heartbeat.from_bytes(payload)
    except WireError as error:
        raise EventRefusedError(str(error)) from error
    with service.database.writing() as conn:
        take_heartbeat(conn, device, heartbeat, payload, service.now())


@router.put("/consent", status_code=HTTPStatus.NO_CONTENT, summary="Send the household's record of consent")
async def put_consent(request: Request, service: ServiceOf, device: SendingDevice) -> Response:
    """Take a signed `Consent`, or a later version of one, such as its withdrawal."""
    payload = await read_capped(request, MAX_MESSAGE_BYTES)
    signature = await run_in_threadpool(signed_by, service, device, Purpose.CONSENT, payload, request)
    await run_in_threadpool(_take_consent, service, device, SignedRecord(payload, signature))
    return Response(status_code=HTTPStatus.NO_CONTENT)


def _take_consent(service: Service, device: Device, record: SignedRecord) -> None:
    try:
        consent = Consent.from_bytes(record.payload)
    except WireError as error:
        raise EventRefusedError(str(error)) from error
    with service.database.writing() as conn:
        if take_consent(conn, device, consent, record, service.now()):
            end_withdrawn(conn, service.now())
            service.keys.note_consent(device.device_id, consent.consent_id, record)  # inside: noted in the order in which they are taken


@router.get("/policy", summary="The policy in force")
def get_policy(service: ServiceOf, _device: SendingDevice) -> Response:
    """The newest `Policy`, signed; 204 where none was issued."""
    with service.database.reading() as conn:
        payload = policy_in_force(conn)
    if payload is None:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    return signed_answer(service, Purpose.POLICY, payload)


@router.post("/statuses", summary="What became of events")
async def post_statuses(request: Request, service: ServiceOf, device: SendingDevice) -> Response:
    """Given `{"event_ids": [...]}`, at most 200, the status of each that is known, signed."""
    payload = await read_capped(request, _STATUSES_BYTES_CAP)
    return await run_in_threadpool(_statuses, service, device, payload)


def _statuses(service: Service, device: Device, payload: bytes) -> Response:
    try:
        asked = parse_object(payload, "statuses").get("event_ids")
    except WireError as error:
        raise EventRefusedError(str(error)) from error
    event_ids = [event_id for event_id in asked if isinstance(event_id, str)] if isinstance(asked, list) else None
    if event_ids is None or event_ids != asked or len(event_ids) > MOST_STATUSES:
        msg = f"event_ids: expected a list of at most {MOST_STATUSES} event ids"
        raise EventRefusedError(msg)
    with service.database.reading() as conn:
        told = statuses_of(conn, device, event_ids)
    return signed_answer(service, Purpose.STATUSES, statuses_bytes(told, device.key_id))
