"""The OpenAPI description of the wire: what each request takes and every answer that it can give, drawn from the messages themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from pydantic import TypeAdapter

from earmark_edge.bundle_offer import TRIAL_WORDS, BundleOffer
from earmark_edge.consent import Consent
from earmark_edge.event import MAX_EVENT_BYTES, WITHHELD, ClipObject, Event, Receipt
from earmark_edge.messages import Dropped, Enrolled, EnrolRequest, Heartbeat, Status
from earmark_edge.policy import Policy
from earmark_edge.seal import WRAPPED_BYTES, WRAPPED_KEY_HEADER
from earmark_edge.signature import SIGNATURE_HEADER
from earmark_edge.wire import MAX_ID_CHARS, MAX_JSON_INTEGER
from earmark_model.contract import LABELS

_REFS = "#/components/schemas/"
_JSON = "application/json"
_OCTETS = "application/octet-stream"
PROBLEM = "application/problem+json"
MOST_STATUSES = 200
_COUNT = {"minimum": 0, "maximum": MAX_JSON_INTEGER}
_SHA256 = {"pattern": "^[0-9a-f]{64}$"}
_ID = {"minLength": 1, "maxLength": MAX_ID_CHARS}
_TIME = {"format": "date-time"}
_POSITIVE = {"minimum": 0}
_SCORE = {"minimum": 0, "maximum": 1}
_NARROWED: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(("event_id", "boot_id", "consent_id", "code"), _ID),
    **dict.fromkeys(("sha256", "event_sha256", "model_sha256", "config_sha256"), _SHA256),
    **dict.fromkeys(("seq", "incident", "length", "policy_version", "next_seq", "waiting_events", "waiting_bytes"), _COUNT),
    **dict.fromkeys(("dropped_objects", "set_aside", "version", "bundle_version", "offered_version"), _COUNT),
    **dict.fromkeys(("peak_score", "threshold"), _SCORE),
    **dict.fromkeys(("wall_time", "sent_at", "issued_at", "given_at", "expires_at", "received_at"), _TIME),
    **dict.fromkeys(("onset_s", "offset_s", "wall_uncertainty_s"), _POSITIVE),
    "tier": {"minimum": 0, "maximum": 3},
    "tiers": {"items": {"type": "integer", "minimum": 0, "maximum": 3}, "uniqueItems": True},
    "label": {"enum": list(LABELS)},
    "canary": {"enum": ["", "passed", "missed"]},
    "trial": {"enum": list(TRIAL_WORDS)},
    "audio_withheld": {"enum": list(WITHHELD)},
    "offered_at": _TIME,
}
"""What the checks of the messages hold beyond the types of their fields."""
_PARTS = frozenset({"Look", "OfferedFile"})
_MESSAGES: Sequence[type] = (Event, ClipObject, Receipt, EnrolRequest, Enrolled, Dropped, Heartbeat, Consent, Policy, BundleOffer, Status)


@dataclass(frozen=True, slots=True)
class _Exchange:
    """A request's body and answers: `gives` maps a status to the name of what comes, None for nothing."""

    gives: Mapping[int, str | None]
    refusals: Sequence[int]
    takes: str | None = None
    is_signed: bool = True
    is_open: bool = False


_DEVICES_ONLY = (401, 503)
_EXCHANGES: Mapping[str, _Exchange] = {
    "POST /events": _Exchange({200: "Receipt", 201: "Receipt"}, (400, 403, 409, 410, 413, 415, 422), "Event"),
    "PUT /events/{event_id}/clips/{tier}": _Exchange(
        {200: "Receipt", 201: "Receipt"}, (400, 403, 404, 409, 410, 413, 415, 422), _OCTETS, is_signed=False
    ),
    "POST /events/{event_id}/dropped": _Exchange({200: "Receipt"}, (400, 403, 404, 409, 410, 413, 422), "Dropped"),
    "POST /enrolments": _Exchange({201: "Enrolled"}, (400, 403, 413, 429, 503), "EnrolRequest", is_open=True),
    "POST /heartbeat": _Exchange({204: None}, (400, 403, 413, 422), "Heartbeat"),
    "PUT /consent": _Exchange({204: None}, (400, 403, 413, 422), "Consent"),
    "GET /policy": _Exchange({200: "Policy", 204: None}, (), is_signed=False),
    "GET /bundle": _Exchange({200: "BundleOffer", 204: None}, (), is_signed=False),
    "GET /bundles/{version}/{name}": _Exchange({200: _OCTETS}, (404, 422), is_signed=False),
    "POST /statuses": _Exchange({200: "Statuses"}, (400, 413, 422), "StatusesRequest", is_signed=False),
}
_WORDS = {
    200: "Held already; or what was asked for",
    201: "Taken for good",
    204: "Taken, or nothing there",
    400: "A header is missing or malformed, or the body was cut off",
    401: "No token of an enrolled device",
    403: "A signature or a code that does not hold, or an event that no record of consent covers",
    404: "No such event of this device, no such object of its event, or nothing that it was offered",
    409: "Other content under a known id, or another object than declared",
    410: "Deleted here; with the service's signature on the tombstone the device wipes",
    413: "Larger than is taken",
    415: "Of a kind that is not taken",
    422: "Not what the wire format says",
    429: "Too many codes from this address that were none; `Retry-After` says how long to wait",
    503: "Nothing was done; try again later",
}


def describe(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """What `app.openapi` is to be: the framework's own description, with the bodies and answers that it cannot see."""
    by_framework = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        described = by_framework()  # which keeps it as `openapi_schema`
        described["components"] = {"schemas": _schemas(), "securitySchemes": {"device": {"type": "http", "scheme": "bearer"}}}
        for path, item in described["paths"].items():
            for method, operation in item.items():
                _complete(operation, _EXCHANGES[f"{method.upper()} {path.removeprefix('/api/v1')}"])
        return described

    return openapi


def _complete(operation: dict[str, Any], exchange: _Exchange) -> None:
    operation["responses"] = {
        **{str(status): _answer(status, gives) for status, gives in exchange.gives.items()},
        **{str(status): _refusal(status) for status in (*exchange.refusals, *(() if exchange.is_open else _DEVICES_ONLY))},
    }
    if not exchange.is_open:
        operation["security"] = [{"device": []}]
    if exchange.takes is not None:
        operation["requestBody"] = {"required": True, "content": _content(exchange.takes)}
    parameters = operation.setdefault("parameters", [])
    for parameter in parameters:
        if parameter["name"] == "event_id":
            parameter["schema"] |= _ID
    if exchange.is_signed:
        parameters.append(_header(SIGNATURE_HEADER, "^ed25519=:[A-Za-z0-9+/]{86}==:$", "Ed25519 over the purpose, a line feed, the body"))
    if exchange.takes == _OCTETS:
        parameters.append(_header("Content-Digest", "^sha-256=:[A-Za-z0-9+/]{43}=:$", "RFC 9530, of the body"))
        letters = WRAPPED_BYTES * 8 // 6
        parameters.append(_header(WRAPPED_KEY_HEADER, f"^:[A-Za-z0-9+/]{{{letters}}}=:$", "The data key, wrapped to the service"))


def _header(name: str, pattern: str, words: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": True, "description": words, "schema": {"type": "string", "pattern": pattern}}


def _answer(status: int, gives: str | None) -> dict[str, Any]:
    if gives is None:
        return {"description": _WORDS[status]}
    if gives == _OCTETS:
        return {"description": _WORDS[status], "content": _content(gives)}
    signature = {"schema": {"type": "string"}, "required": True, "description": "The service's, over the exact bytes of the body"}
    return {"description": _WORDS[status], "headers": {SIGNATURE_HEADER: signature}, "content": _content(gives)}


def _content(name: str) -> dict[str, Any]:
    """A message by name, or raw bytes."""
    if name == _OCTETS:
        return {_OCTETS: {"schema": {"type": "string", "format": "binary"}}}
    return {_JSON: {"schema": {"$ref": _REFS + name}}}


def _refusal(status: int) -> dict[str, Any]:
    return {"description": _WORDS[status], "content": {PROBLEM: {"schema": {"$ref": f"{_REFS}Problem"}}}}


def _schemas() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for message in _MESSAGES:
        schema = TypeAdapter(message).json_schema(ref_template=_REFS + "{model}")
        found |= schema.pop("$defs", {})
        found[message.__name__] = schema
    for name, schema in found.items():
        if "properties" in schema:
            schema["additionalProperties"] = False
            schema["properties"] = {field: {**words, **_NARROWED.get(field, {})} for field, words in schema["properties"].items()}
            assert name in {message.__name__ for message in _MESSAGES} or name in _PARTS, f"{name} is not described as a message"
    found["Event"]["properties"]["scores"] |= {"required": list(LABELS), "additionalProperties": False}
    found["Event"]["properties"]["scores"]["properties"] = {label: {"type": "number", **_SCORE} for label in LABELS}
    found["Event"]["description"] += f" At most {MAX_EVENT_BYTES} bytes."
    found["StatusesRequest"] = _object(event_ids={"type": "array", "maxItems": MOST_STATUSES, "items": {"type": "string"}})
    found["Statuses"] = _object(device_id={"type": "string", **_SHA256}, statuses={"type": "array", "items": {"$ref": f"{_REFS}Status"}})
    words = {name: {"type": "string"} for name in ("type", "title", "detail", "instance")}
    found["Problem"] = _object(**words, status={"type": "integer"}) | {"description": "RFC 9457"}
    return found


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
