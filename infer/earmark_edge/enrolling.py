"""Enrols the device: a one-time code and its public key, for a token and the service's keys."""

from __future__ import annotations

import base64
from http import HTTPStatus
from pathlib import Path

from earmark_edge.keys import Enrolment, device_key, write_enrolment
from earmark_edge.messages import Enrolled, EnrolRequest, key_of
from earmark_edge.oneline import one_line
from earmark_edge.signature import SIGNATURE_HEADER, Purpose, SignatureError, check, from_header, header_of, public_of, sign
from earmark_edge.uplink import UplinkDownError, UplinkError, checked_address, told, unreached
from earmark_edge.wire import WireError


def enrol(url: str, code: str, state: Path, *, timeout_s: float = 30.0) -> Enrolment:
    """Make the device's key where there is none, exchange the code, and keep the answer in `state`. The same code may be tried again.

    Raises:
        AddressError: `url` is no address that sealed audio may go to.
        KeyFileError: the state folder cannot be written, or holds a damaged key.
        UplinkError: the service refused, or its answer is not of the documented form.
        UplinkDownError: it cannot be reached.
    """
    url = checked_address(url)
    try:
        import httpx  # noqa: PLC0415 - a device that only scans does without
    except ImportError as error:
        msg = f"enrolling needs httpx, which is not installed ({error}); get it with: pip install 'earmark[edge]'"
        raise UplinkError(msg) from error
    key = device_key(state)
    try:
        payload = EnrolRequest(code.strip(), base64.b64encode(public_of(key)).decode()).to_bytes()
    except WireError as error:
        msg = f"--code: {error}; the review service's operator gets one with `earmark review device enrol NAME`"
        raise UplinkError(msg) from error
    headers = {"Content-Type": "application/json", SIGNATURE_HEADER: header_of(sign(key, Purpose.ENROLMENT, payload))}
    try:
        with httpx.Client(timeout=timeout_s, trust_env=not url.startswith("http:")) as client:
            answer = client.post(f"{url}/api/v1/enrolments", content=payload, headers=headers)
    except (httpx.RequestError, httpx.InvalidURL) as error:
        msg = f"{url}: cannot be reached ({unreached(error)}); the same code can be tried again until it runs out"
        raise UplinkDownError(msg) from error
    if answer.status_code != HTTPStatus.CREATED:
        msg = f"{url}: {told(answer.status_code, answer.content)}{_advice(answer.status_code)}"
        raise UplinkError(msg)
    enrolment = _read(url, answer.content, answer.headers.get(SIGNATURE_HEADER))
    write_enrolment(state, enrolment)
    return enrolment


def _advice(status: int) -> str:
    """What to do about an answer that is none of an enrolment; a refusal (403 and the like) tells that itself."""
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "; the service is failing: try the same code again later, or tell whoever operates it"
    if status < HTTPStatus.BAD_REQUEST or status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}:
        return "; expected a review service there: give its address as `earmark review serve` prints it, without a page of it"
    return ""


def _read(url: str, body: bytes, signature: str | None) -> Enrolment:
    try:
        enrolled = Enrolled.from_bytes(body)
        signing_key = key_of("signing_key", enrolled.signing_key)
        check(signing_key, Purpose.ENROLLED, body, from_header(signature))
    except (WireError, SignatureError) as error:
        msg = f"{url}: the answer is no enrolment ({one_line(error)}); is it a review service of this version?"
        raise UplinkError(msg) from error
    return Enrolment(url, enrolled.device, enrolled.token, key_of("sealing_key", enrolled.sealing_key), signing_key)
