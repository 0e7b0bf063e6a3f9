"""Signatures on the wire: those of devices are checked, those of the service are made."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import Request, Response

from earmark_edge.signature import SIGNATURE_HEADER, Purpose, SignatureError, check, from_header, header_of
from earmark_review import audit
from earmark_review.errors import SignatureRefusedError
from earmark_review.service import Service
from earmark_review.store.devices import Device


def signed_by(service: Service, device: Device, purpose: Purpose, payload: bytes, request: Request) -> bytes:
    """The signature that came with `payload`, once it is known to be the device's.

    Raises:
        SignatureRefusedError: it is not; the log has an alert.
    """
    try:
        signature = from_header(request.headers.get(SIGNATURE_HEADER))
        check(device.key, purpose, payload, signature)
    except SignatureError as error:
        with service.database.writing() as conn:
            detail = {"purpose": str(purpose)}
            actor = f"device:{device.name}"
            audit.append(conn, service.now(), actor, audit.Action.SIGNATURE_REFUSED, actor, detail)
        msg = f"{error}; a token without the key that it was given to is worth nothing"
        raise SignatureRefusedError(msg) from error
    return signature


def signed_answer(service: Service, purpose: Purpose, payload: bytes, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """`payload` with the service's signature."""
    headers = {SIGNATURE_HEADER: header_of(service.identity.sign(purpose, payload))}
    return Response(payload, status, headers=headers, media_type="application/json")
