"""One case: its page, the claim on it, its evidence under that claim, and the verdict."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy import Connection
from starlette.responses import JSONResponse, RedirectResponse

from earmark_review import audit
from earmark_review.accounts import Permission, SignedIn
from earmark_review.cases import CaseState, Lease, Verdict
from earmark_review.errors import BlobMissingError, FormError, KeyGoneError, StaleLeaseError, UnknownCaseError, UnsealError
from earmark_review.evidence import Evidence, gather, playable
from earmark_review.media import served_as
from earmark_review.service import Service
from earmark_review.sound import read_sound
from earmark_review.spectrogram import Palette, spectrogram_png
from earmark_review.store import leases
from earmark_review.store.caseload import CaseFile, case_file
from earmark_review.store.decisions import decide, verdicts_on
from earmark_review.store.intake import DeclaredObject
from earmark_review.web.bodies import Form
from earmark_review.web.guards import Reader, Reviewer, ServiceOf, SessionForm
from earmark_review.web.ranges import ranged
from earmark_review.web.rendering import render

router = APIRouter(prefix="/cases/{case_id}", include_in_schema=False)
LEASE_COOKIE = "earmark_lease"
_CASE_ID = re.compile(r"[0-9a-f]{32}")
_NOT_IN_NOTES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def case_id_in_path(case_id: str) -> str:
    """A well-formed case id.

    Raises:
        UnknownCaseError: no case has such an id.
    """
    if not _CASE_ID.fullmatch(case_id):
        msg = "there is no such case; the queue lists those that there are"
        raise UnknownCaseError(msg)
    return case_id


CaseIdInPath = Annotated[str, Depends(case_id_in_path)]


@router.get("")
def case_page(request: Request, service: ServiceOf, who: Reader, case_id: CaseIdInPath) -> Response:
    """A case: its metadata for whoever may see the queue, its evidence for its holder. The log knows before the page is made."""
    now, token = service.now(), request.cookies.get(LEASE_COOKIE, "")
    with service.database.writing() as conn:
        file = case_file(conn, case_id, now)
        lease = _lease_or_none(conn, case_id, token, who, service)
        detail = {"shown": "evidence" if lease else "metadata"}
        audit.append(conn, now, who.actor, audit.Action.CASE_VIEWED, f"case:{case_id}", detail)
        if lease:
            leases.record_evidence(conn, lease, who, "waveform and scores", now)
        recorded = verdicts_on(conn, case_id)
    evidence = _evidence(service, file, lease) if lease else None
    has_lost_it = bool(token) and lease is None and file.line.state in {CaseState.READY, CaseState.LEASED}
    return render(
        request,
        "case.html",
        file=file,
        lease=lease,
        token=token if lease else "",
        evidence=evidence,
        clip=playable(file) if lease else None,
        recorded=recorded,
        has_lost_it=has_lost_it,
        settings=service.settings,
    )


def _evidence(service: Service, file: CaseFile, lease: Lease) -> Evidence:
    return gather(file, partial(service.decryptor.open, file, lease=lease), service.settings.clip_seconds_cap)


def _lease_or_none(conn: Connection, case_id: str, token: str, who: SignedIn, service: Service) -> Lease | None:
    if not token or not who.may(Permission.REVIEW):
        return None
    try:
        return leases.live_lease(conn, case_id, token, who, service.now())
    except StaleLeaseError:
        return None


@router.post("/claim")
def claim(request: Request, service: ServiceOf, who: Reviewer, case_id: CaseIdInPath, form: SessionForm) -> Response:
    """Claim the case; with `takeover`, one's own claim in another window ends first."""
    if form.get("takeover") == "yes":
        with service.database.writing() as conn:
            leases.release(conn, who, service.now(), case_id)
    settings = service.settings
    with service.database.writing() as conn:
        claimed = leases.claim(conn, case_id, who, settings.lease_terms, settings.leases_per_reviewer, service.now())
    return show_claimed(request, claimed)


def show_claimed(request: Request, claimed: leases.Claim) -> Response:
    """Lead the browser to a case that was just claimed, with the lease's token in a cookie for that case alone."""
    path, secure = f"/cases/{claimed.case_id}", request.url.scheme == "https"
    answer = RedirectResponse(path, HTTPStatus.SEE_OTHER)
    answer.set_cookie(LEASE_COOKIE, claimed.token, path=path, httponly=True, samesite="strict", secure=secure)
    return answer


@router.post("/heartbeat")
def heartbeat(service: ServiceOf, who: Reviewer, case_id: CaseIdInPath, form: SessionForm) -> Response:
    """Renew the lease."""
    now = service.now()
    with service.database.writing() as conn:
        lease = leases.live_lease(conn, case_id, form.get("lease", ""), who, now)
        expires_at = leases.renew(conn, lease, service.settings.lease_terms, now)
    return JSONResponse({"expires_at": expires_at.isoformat(), "seconds_left": (expires_at - now).total_seconds()})


@router.post("/skip")
def skip(service: ServiceOf, who: Reviewer, case_id: CaseIdInPath, form: SessionForm) -> Response:
    """Hand the case back."""
    now = service.now()
    with service.database.writing() as conn:
        leases.skip(conn, leases.live_lease(conn, case_id, form.get("lease", ""), who, now), who, now)
    return _back_to_queue(case_id, "skipped")


@router.post("/verdict")
def give_verdict(service: ServiceOf, who: Reviewer, case_id: CaseIdInPath, form: SessionForm) -> Response:
    """Decide the case, once."""
    verdict, note = _verdict(form), _note(form, service.settings.note_chars_cap)
    now = service.now()
    with service.database.writing() as conn:
        lease = leases.live_lease(conn, case_id, form.get("lease", ""), who, now)
        decide(conn, lease, who, verdict, note, now)
    return _back_to_queue(case_id, "decided")


def _verdict(form: Form) -> Verdict:
    try:
        return Verdict(form.get("verdict", ""))
    except ValueError:
        msg = f"expected a verdict, one of {', '.join(Verdict)}; got {form.get('verdict', '')[:40]!r}"
        raise FormError(msg) from None


def _note(form: Form, cap_chars: int) -> str:
    note = form.get("note", "").replace("\r\n", "\n").strip()
    if len(note) > cap_chars:
        msg = f"the note has {len(note)} characters; {cap_chars} fit, shorten it"
        raise FormError(msg)
    return _NOT_IN_NOTES.sub("\N{REPLACEMENT CHARACTER}", note)


def _back_to_queue(case_id: str, how: str) -> Response:
    answer = RedirectResponse(f"/queue?{how}={case_id}", HTTPStatus.SEE_OTHER)
    answer.delete_cookie(LEASE_COOKIE, path=f"/cases/{case_id}")
    return answer


@router.get("/spectrogram.png")
def spectrogram(request: Request, service: ServiceOf, who: Reviewer, case_id: CaseIdInPath, palette: Palette = Palette.GREY) -> Response:
    """The clip's picture, to its holder."""
    opened = _served_under_lease(request, service, who, case_id, "spectrogram")
    sound = read_sound(io.BytesIO(opened.content), service.settings.clip_seconds_cap)
    return Response(spectrogram_png(sound.samples, sound.rate_hz, palette), media_type="image/png")


@router.get("/clip")
def clip(request: Request, service: ServiceOf, who: Reviewer, case_id: CaseIdInPath) -> Response:
    """The clip's bytes, to its holder, in whatever ranges the player asks for."""
    opened = _served_under_lease(request, service, who, case_id, "audio")
    return ranged(request, opened.content, opened.media_type)


@dataclass(frozen=True, slots=True)
class _Opened:
    content: bytes
    media_type: str | None


def _served_under_lease(request: Request, service: Service, who: SignedIn, case_id: str, kind: str) -> _Opened:
    """What to serve, opened once the log has it in writing: the entry is committed before a byte is read or a key unwrapped."""
    now, token = service.now(), request.cookies.get(LEASE_COOKIE, "")
    with service.database.writing() as conn:
        lease = leases.live_lease(conn, case_id, token, who, now)
        file = case_file(conn, case_id, now)
        declared = _playable(file)
        leases.record_evidence(conn, lease, who, f"{kind} of tier {declared.tier}", now)
    try:
        content = service.decryptor.open(file, declared, lease)
    except (BlobMissingError, KeyGoneError, UnsealError):
        with service.database.writing() as conn:
            subject, detail = f"case:{case_id}", {"tier": declared.tier, "sha256": declared.sha256}
            audit.append(conn, service.now(), audit.SERVICE, audit.Action.EVIDENCE_MISSING, subject, detail)
        raise
    return _Opened(content, served_as(declared.tier, declared.media_type))


def _playable(file: CaseFile) -> DeclaredObject:
    declared = playable(file)
    if declared is None:
        msg = "the device sent no audio with this event"
        raise UnknownCaseError(msg)
    return declared
