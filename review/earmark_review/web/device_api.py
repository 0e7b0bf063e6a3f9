"""What devices send their flagged spans to: signed events and sealed clips, over HTTP, with a bearer token."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from earmark_edge.event import MAX_EVENT_BYTES, Event, Receipt, WireError
from earmark_edge.messages import Dropped, tombstone_bytes
from earmark_edge.seal import WRAPPED_KEY_HEADER
from earmark_edge.signature import Purpose
from earmark_edge.wire import MAX_MESSAGE_BYTES
from earmark_review.blobs import IncomingBlob
from earmark_review.errors import (
    ConsentRequiredError,
    EventConflictError,
    EventDeletedError,
    EventRefusedError,
    MediaTypeError,
    ObjectConflictError,
    ObjectMismatchError,
    TooLargeError,
)
from earmark_review.media import accepted_at, bare, served_as
from earmark_review.service import Service
from earmark_review.store.devices import Device, device_of
from earmark_review.store.intake import (
    DeclaredObject,
    Intake,
    declared_object,
    drop_objects,
    first_receipt,
    hold_object,
    receipt_for,
    take_event,
)
from earmark_review.web.bodies import announced_length, read_capped
from earmark_review.web.digests import content_sha256, wrapped_key
from earmark_review.web.guards import BearerToken, SendingDevice, ServiceOf, current_device
from earmark_review.web.signing import signed_answer, signed_by

router = APIRouter(prefix="/api/v1", tags=["devices"])
_ANY_BYTES = "application/octet-stream"
_READ_AHEAD = 64 * 1024
"""Bytes of a body that the server reads before anybody asks for them: to wait for an object of no more costs no memory."""
_WRITTEN_AT_ONCE = 256 * 1024
"""Bytes of an upload that are held in memory before they are written."""


@router.post("/events", status_code=HTTPStatus.CREATED, summary="Send an event")
async def post_event(request: Request, service: ServiceOf, token: BearerToken) -> Response:
    """Take an event: 201 the first time, 200 for the same bytes again, 409 for other bytes under the same id, 410 once deleted.

    403 where no record of consent that the device sent before covers it.
    """
    payload = await read_capped(request, MAX_EVENT_BYTES)
    return await run_in_threadpool(_take_event, service, token, payload, request)


def _take_event(service: Service, token: str, payload: bytes, request: Request) -> Response:
    device = current_device(service, token)
    if bare(given := request.headers.get("content-type", "")) != "application/json":
        msg = f"an event is application/json, got {given or 'no content type'!r}"
        raise MediaTypeError(msg)
    signature = signed_by(service, device, Purpose.EVENT, payload, request)
    try:
        event = Event.from_bytes(payload)
        _check_objects(event, service.settings.clip_bytes_cap, service.identity.sealing_key_id)
    except WireError as error:
        raise EventRefusedError(str(error)) from error

    def write(conn: Connection) -> tuple[Intake, Receipt | None, str]:
        now = service.now()
        intake, gap = take_event(conn, device, event, payload, signature, now)
        if intake is Intake.NEW:
            return intake, first_receipt(device, event, payload, now), gap
        return intake, receipt_for(conn, device, event.event_id) if intake is Intake.SAME else None, gap

    intake, receipt, gap = service.database.write_together(write)
    # Committed by now: a refusal leaves its alert in the log.
    if gap:
        raise ConsentRequiredError(gap)
    if intake is Intake.DELETED:
        msg = f"event {event.event_id!r} was deleted here and is not taken again; wipe it on the device"
        raise _tombstone(service, device, EventDeletedError(msg, event.event_id))
    if receipt is None:
        msg = f"event {event.event_id!r} is held with other content; an event never changes, so give a changed one an id of its own"
        raise EventConflictError(msg)
    return _answer(service, receipt, HTTPStatus.CREATED if intake is Intake.NEW else HTTPStatus.OK)


def _tombstone(service: Service, device: Device, error: EventDeletedError) -> EventDeletedError:
    """The refusal with the service's signature on the tombstone: the only thing but a receipt on which a device wipes."""
    words = tombstone_bytes(device.key_id, error.event_id)
    return EventDeletedError(str(error), error.event_id, service.identity.sign(Purpose.TOMBSTONE, words))


def _check_objects(event: Event, cap_bytes: int, sealing_key_id: str) -> None:
    """Refuse objects that could never be taken or opened while the device still has the event in hand."""
    if event.clips and event.key_id != sealing_key_id:
        msg = f"key_id: the objects must be sealed to this service's key {sealing_key_id[:16]}, got {str(event.key_id)[:16]}; enrol again"
        raise WireError(msg)
    for clip in event.clips:
        if clip.wrapped_sha256 is None:
            msg = f"clips.wrapped_sha256: the object of tier {clip.tier} is not sealed, and none is taken in the clear; update the device"
            raise WireError(msg)
        if served_as(clip.tier, clip.media_type) is None:
            msg = f"clips.media_type: expected one of {', '.join(accepted_at(clip.tier))} at tier {clip.tier}, got {clip.media_type!r}"
            raise WireError(msg)
        if clip.length > cap_bytes:
            msg = f"clips.length: an object may have {cap_bytes} bytes here, tier {clip.tier} declares {clip.length}; send a shorter clip"
            raise TooLargeError(msg)


@router.put("/events/{event_id:path}/clips/{tier}", status_code=HTTPStatus.CREATED, summary="Send an object of an event")
async def put_clip(
    request: Request, service: ServiceOf, token: BearerToken, event_id: str, tier: Annotated[int, Path(ge=0, le=3)]
) -> Response:
    """Take the raw bytes of an object: 201 once they are durably held, 200 when they already were."""
    announced = announced_length(request)
    if announced is not None and announced <= _READ_AHEAD and "expect" not in request.headers:  # which asks before it sends
        content = await read_capped(request, _READ_AHEAD)
        return await run_in_threadpool(_take_whole, service, token, request, event_id, tier, content)
    upload = await run_in_threadpool(_expected, service, token, request, event_id, tier)
    with service.blobs.receive(upload.declared.length) as incoming:
        rest = await _stream_into(request, incoming, upload.declared)
        return await run_in_threadpool(_take_object, service, upload, incoming, rest)


@router.post("/events/{event_id:path}/dropped", summary="Say that objects of an event will never come")
async def post_dropped(request: Request, service: ServiceOf, device: SendingDevice, event_id: str) -> Response:
    """Take a signed `Dropped`; answers with the receipt."""
    payload = await read_capped(request, MAX_MESSAGE_BYTES)
    await run_in_threadpool(signed_by, service, device, Purpose.DROPPED, payload, request)
    receipt = await run_in_threadpool(_drop, service, device, event_id, payload)
    return _answer(service, receipt, HTTPStatus.OK)


def _drop(service: Service, device: Device, event_id: str, payload: bytes) -> Receipt:
    try:
        dropped = Dropped.from_bytes(payload)
    except WireError as error:
        raise EventRefusedError(str(error)) from error
    if dropped.event_id != event_id:
        msg = f"event_id: expected that of the address, got {dropped.event_id!r}"
        raise EventRefusedError(msg)
    try:
        with service.database.writing() as conn:
            return drop_objects(conn, device, dropped, service.now())
    except EventDeletedError as error:
        raise _tombstone(service, device, error) from error


@dataclass(frozen=True, slots=True)
class _Upload:
    """An object that may come: who sends it, what its event declares, and the wrapped key that came with it."""

    device: Device
    declared: DeclaredObject
    wrapped: bytes


def _expected(service: Service, token: str, request: Request, event_id: str, tier: int) -> _Upload:
    """What is to come, after every check that needs no byte of it."""
    with service.database.reading() as conn:
        device = device_of(conn, token)
        announced_sha256 = content_sha256(request.headers.get("content-digest"))
        wrapped = wrapped_key(request.headers.get(WRAPPED_KEY_HEADER))
        try:
            declared = declared_object(conn, device, event_id, tier)
        except EventDeletedError as error:
            raise _tombstone(service, device, error) from error
    if declared.length > service.settings.clip_bytes_cap:  # declared before the cap was lowered
        msg = f"an object may have {service.settings.clip_bytes_cap} bytes here, this one declares {declared.length}"
        raise TooLargeError(msg)
    _check_announcement(request, declared, announced_sha256)
    if declared.wrapped_sha256 != hashlib.sha256(wrapped).hexdigest():
        msg = f"{WRAPPED_KEY_HEADER}: not the key whose hash the event declares for tier {tier}; send the one it was sealed with"
        raise ObjectConflictError(msg)
    return _Upload(device, declared, wrapped)


def _check_announcement(request: Request, declared: DeclaredObject, announced_sha256: str) -> None:
    """Refuse by the header alone what cannot be the declared object."""
    if announced_sha256 != declared.sha256:
        msg = f"Content-Digest announces SHA-256 {announced_sha256}, the event declares {declared.sha256}; send the object it was made for"
        raise ObjectConflictError(msg)
    given = bare(request.headers.get("content-type", "")) or _ANY_BYTES
    if given not in {_ANY_BYTES, bare(declared.media_type)}:
        msg = f"expected {declared.media_type} as the event declares, or {_ANY_BYTES}; got {given}"
        raise MediaTypeError(msg)
    announced = announced_length(request)
    if announced is not None and announced != declared.length:
        msg = f"Content-Length is {announced}, the event declares {declared.length} bytes; send the whole object and nothing else"
        raise ObjectMismatchError(msg)


async def _stream_into(request: Request, incoming: IncomingBlob, declared: DeclaredObject) -> bytes:
    """Write what comes, but for the rest that the caller writes: a small object needs no trip to a thread of its own."""
    waiting = bytearray()
    async for chunk in request.stream():
        waiting += chunk
        if len(waiting) >= _WRITTEN_AT_ONCE:
            await run_in_threadpool(_write, incoming, bytes(waiting), declared)
            waiting.clear()
    return bytes(waiting)


def _write(incoming: IncomingBlob, chunk: bytes, declared: DeclaredObject) -> None:
    try:
        incoming.write(chunk)
    except TooLargeError as error:
        msg = f"more than the {declared.length} bytes came that the event declares; send the object and nothing else"
        raise ObjectMismatchError(msg) from error


def _take_whole(service: Service, token: str, request: Request, event_id: str, tier: int, content: bytes) -> Response:
    """Take an object that has come already, in one trip to a thread."""
    upload = _expected(service, token, request, event_id, tier)
    with service.blobs.receive(upload.declared.length) as incoming:
        return _take_object(service, upload, incoming, content)


def _take_object(service: Service, upload: _Upload, incoming: IncomingBlob, rest: bytes) -> Response:
    _write(incoming, rest, upload.declared)
    if upload.declared.blob_key is None:
        is_new, receipt = _hold(service, upload, incoming)
    else:
        incoming.check(upload.declared.length, upload.declared.sha256)
        with service.database.reading() as conn:
            is_new, receipt = False, receipt_for(conn, upload.device, upload.declared.event_id)
    return _answer(service, receipt, HTTPStatus.CREATED if is_new else HTTPStatus.OK)


def _hold(service: Service, upload: _Upload, incoming: IncomingBlob) -> tuple[bool, Receipt]:
    """The key first, then the bytes, then the row that names them; whichever upload is late removes its own copy."""
    device, declared = upload.device, upload.declared
    service.keys.keep(device.device_id, declared.event_id, declared.tier, upload.wrapped)
    key = incoming.promote(declared.length, declared.sha256)
    is_held = False

    def write(conn: Connection) -> Receipt:
        nonlocal is_held
        is_held = False  # what a transaction did that was undone
        is_held, receipt = hold_object(conn, device, declared, key, service.now())
        return receipt

    try:
        receipt = service.database.write_together(write)
    except EventDeletedError as error:
        service.keys.destroy(device.device_id, declared.event_id)
        raise _tombstone(service, device, error) from error
    finally:
        if not is_held:
            service.blobs.remove(key)
    return is_held, receipt


def _answer(service: Service, receipt: Receipt, status: HTTPStatus) -> Response:
    return signed_answer(service, Purpose.RECEIPT, receipt.to_bytes(), status)
