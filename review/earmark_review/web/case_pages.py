"""One case: its page, the claim on it, its evidence under that claim, and the verdict."""

from __future__ import annotations

import io
import logging
import math
import re
from functools import partial
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import JSONResponse, RedirectResponse

from earmark_review import audit
from earmark_review.accounts import Permission, SignedIn
from earmark_review.cases import CaseState, Lease, Queue, Verdict
from earmark_review.errors import BlobMissingError, FormError, KeyGoneError, ReviewError, StaleLeaseError, UnknownCaseError, UnsealError
from earmark_review.evidence import Evidence, audible, gather, held_at
from earmark_review.media import MASKED_TIER, ORIGINAL_TIER
from earmark_review.service import Service
from earmark_review.sound import Sound, quiet_wav, read_sound
from earmark_review.spectrogram import Palette, spectrogram_png
from earmark_review.store import leases, originals
from earmark_review.store.caseload import CaseFile, case_file
from earmark_review.store.decisions import Answer, Span, decide, verdicts_on
from earmark_review.store.exposures import exposure_of, require_rested
from earmark_review.web.bodies import Form
from earmark_review.web.guards import ServiceOf, SessionForm, Who
from earmark_review.web.ranges import ranged
from earmark_review.web.rendering import render

logger = logging.getLogger(__name__)
router = APIRouter(prefix="/cases/{case_id}", include_in_schema=False)
LEASE_COOKIE = "earmark_lease"
_CASE_ID = re.compile(r"[0-9a-f]{32}")
_LONGEST_SPAN_S = 3600.0
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
def case_page(request: Request, service: ServiceOf, who: Who, case_id: CaseIdInPath) -> Response:
    """A case: its metadata for whoever may see the queue, its evidence for its holder. The log knows before the page is made."""
    now, token = service.now(), request.cookies.get(LEASE_COOKIE, "")
    with service.database.writing() as conn:
        file = case_file(conn, case_id, now)
        lease = _lease_or_none(conn, case_id, token, who, service)
        detail = {"shown": "evidence" if lease else "metadata"}
        audit.append(conn, now, who.actor, audit.Action.CASE_VIEWED, f"case:{case_id}", detail)
        if lease:
            leases.record_evidence(conn, lease, who, "pictures and scores", now)
        recorded = verdicts_on(conn, case_id) if _may_see_verdicts(file, lease) else ()
        request_made = originals.request_under(conn, lease) if lease else None
        has_judged = leases.has_judged(conn, case_id, who.user_id)
    is_open = request_made is not None and request_made.is_open(now)
    evidence = _evidence(service, file, lease, is_original_open=is_open) if lease else None
    has_lost_it = bool(token) and lease is None and file.line.state in {CaseState.READY, CaseState.LEASED}
    return render(
        request,
        "case.html",
        file=file,
        lease=lease,
        token=token if lease else "",
        evidence=evidence,
        clip=audible(file, is_original_open=is_open) if lease else None,
        has_original=held_at(file, ORIGINAL_TIER) is not None,
        original=request_made,
        is_original_open=is_open,
        recorded=recorded,
        has_lost_it=has_lost_it,
        has_judged=has_judged,
        left_s=max(0.0, (file.line.opened_at - now).total_seconds() + service.settings.undecided_s),
        settings=service.settings,
    )


def _evidence(service: Service, file: CaseFile, lease: Lease, *, is_original_open: bool) -> Evidence:
    open_sealed, cap_s = partial(service.decryptor.open, file, lease=lease), service.settings.clip_seconds_cap
    return gather(file, open_sealed, cap_s, is_original_open=is_original_open)


def _may_see_verdicts(file: CaseFile, lease: Lease | None) -> bool:
    """Once a case is closed anyone may; before, only whoever settles a dispute about it: two reviewers stay blind to one another."""
    return file.line.closed_at is not None or (lease is not None and file.line.queue is Queue.ADJUDICATION)


def _lease_or_none(conn: Connection, case_id: str, token: str, who: SignedIn, service: Service) -> Lease | None:
    if not token or not who.may(Permission.REVIEW):
        return None
    try:
        return leases.live_lease(conn, case_id, token, who, service.now())
    except StaleLeaseError:
        return None


@router.post("/claim")
def claim(request: Request, service: ServiceOf, who: Who, case_id: CaseIdInPath, form: SessionForm) -> Response:
    """Claim the case; with `takeover`, one's own claim in another window ends first."""
    if form.get("takeover") == "yes":
        with service.database.writing() as conn:
            leases.release(conn, who, service.now(), case_id)
    settings = service.settings
    now = service.now()
    with service.database.writing() as conn:
        terms = settings.lease_terms.within(require_rested(conn, who.user_id, settings.limits, now))
        claimed = leases.claim(conn, case_id, who, terms, settings.leases_per_reviewer, now)
    return show_claimed(request, claimed)


def show_claimed(request: Request, claimed: leases.Claim) -> Response:
    """Lead the browser to a case that was just claimed, with the lease's token in a cookie for that case alone."""
    path, secure = f"/cases/{claimed.case_id}", request.url.scheme == "https"
    answer = RedirectResponse(path, HTTPStatus.SEE_OTHER)
    answer.set_cookie(LEASE_COOKIE, claimed.token, path=path, httponly=True, samesite="strict", secure=secure)
    return answer


@router.post("/heartbeat")
def heartbeat(service: ServiceOf, who: Who, case_id: CaseIdInPath, form: SessionForm) -> Response:
    """Renew the lease."""
    now = service.now()
    with service.database.writing() as conn:
        lease = leases.live_lease(conn, case_id, form.get("lease", ""), who, now)
        left_s = exposure_of(conn, who.user_id, service.settings.limits, now).left_s
        expires_at = leases.renew(conn, lease, service.settings.lease_terms.within(left_s), now)
        asked = originals.request_under(conn, lease)
    original = "none" if asked is None else "open" if asked.is_open(now) else "asked" if asked.answered_at is None else "closed"
    seconds_left = (expires_at - now).total_seconds()
    return JSONResponse({"expires_at": expires_at.isoformat(), "seconds_left": seconds_left, "original": original})


@router.post("/skip")
def skip(service: ServiceOf, who: Who, case_id: CaseIdInPath, form: SessionForm) -> Response:
    """Hand the case back."""
    now = service.now()
    with service.database.writing() as conn:
        leases.skip(conn, leases.live_lease(conn, case_id, form.get("lease", ""), who, now), who, now)
    return _back_to_queue(case_id, "skipped")


@router.post("/verdict")
def give_verdict(service: ServiceOf, who: Who, case_id: CaseIdInPath, form: SessionForm) -> Response:
    """Decide the case, once."""
    answer = Answer(_verdict(form), free_text(form, "note", service.settings.note_chars_cap), _span(form))
    now = service.now()
    with service.database.writing() as conn:
        lease = leases.live_lease(conn, case_id, form.get("lease", ""), who, now)
        decide(conn, lease, who, answer, now, second_is_drawn=service.chance() < service.settings.second_review_share)
    try:
        service.shred_due()
    except (ReviewError, SQLAlchemyError):  # the verdict stands, so nobody is told that nothing was done; upkeep lets go of what is due
        logger.exception("what is due after the verdict on case %s has to wait", case_id)
    return _back_to_queue(case_id, "decided")


def _verdict(form: Form) -> Verdict:
    try:
        return Verdict(form.get("verdict", ""))
    except ValueError:
        msg = f"expected a verdict, one of {', '.join(Verdict)}; got {form.get('verdict', '')[:40]!r}"
        raise FormError(msg) from None


def free_text(form: Form, name: str, cap_chars: int) -> str:
    """What was written into a field for words.

    Raises:
        FormError: it is longer than may be.
    """
    text = form.get(name, "").replace("\r\n", "\n").strip()
    if len(text) > cap_chars:
        msg = f"the {name} has {len(text)} characters; {cap_chars} fit, shorten it"
        raise FormError(msg)
    return _NOT_IN_NOTES.sub("\N{REPLACEMENT CHARACTER}", text)


def _span(form: Form) -> Span | None:
    """The corrected span on the stream's clock, where the form carries one that differs from the event's."""
    onset, offset, start = (form.get(name, "") for name in ("onset", "offset", "start"))
    if not onset and not offset:
        return None
    try:
        begin, end, clip_start = float(onset), float(offset), float(start or 0)
    except ValueError:
        begin = end = clip_start = math.nan
    if not (0 <= begin < end <= _LONGEST_SPAN_S and math.isfinite(clip_start)):
        msg = f"the span begins at {onset[:20]!r} and ends at {offset[:20]!r}; expected seconds, the end after the beginning"
        raise FormError(msg)
    return clip_start + begin, clip_start + end


def _back_to_queue(case_id: str, how: str) -> Response:
    answer = RedirectResponse(f"/queue?{how}={case_id}", HTTPStatus.SEE_OTHER)
    answer.delete_cookie(LEASE_COOKIE, path=f"/cases/{case_id}")
    return answer


@router.get("/spectrogram.png")
def spectrogram(request: Request, service: ServiceOf, who: Who, case_id: CaseIdInPath, palette: Palette = Palette.GREY) -> Response:
    """The picture of what may be heard, to the case's holder."""
    sound = _sound_under_lease(request, service, who, case_id, "spectrogram")
    return Response(spectrogram_png(sound.samples, sound.rate_hz, palette), media_type="image/png")


@router.get("/clip")
def clip(request: Request, service: ServiceOf, who: Who, case_id: CaseIdInPath) -> Response:
    """The masked clip, quietened, to the case's holder, in whatever ranges the player asks for."""
    return _play(request, service, _sound_under_lease(request, service, who, case_id, "audio", tier=MASKED_TIER))


@router.get("/original")
def original(request: Request, service: ServiceOf, who: Who, case_id: CaseIdInPath) -> Response:
    """The original, quietened too, while two people hold the glass broken."""
    return _play(request, service, _sound_under_lease(request, service, who, case_id, "audio", tier=ORIGINAL_TIER))


@router.post("/original")
def ask_for_original(service: ServiceOf, who: Who, case_id: CaseIdInPath, form: SessionForm) -> Response:
    """Ask a second person to let one hear the original."""
    now = service.now()
    with service.database.writing() as conn:
        lease = leases.live_lease(conn, case_id, form.get("lease", ""), who, now)
        originals.ask(conn, lease, who, free_text(form, "reason", service.settings.note_chars_cap), now)
    return RedirectResponse(f"/cases/{case_id}", HTTPStatus.SEE_OTHER)


def _play(request: Request, service: Service, sound: Sound) -> Response:
    return ranged(request, quiet_wav(sound, service.settings.loudness_dbfs), "audio/wav")


def _sound_under_lease(request: Request, service: Service, who: SignedIn, case_id: str, kind: str, tier: int | None = None) -> Sound:
    """What to serve, opened once the log has it in writing: the entry is committed before a byte is read or a key unwrapped.

    Without a `tier` it is whichever audio is open.
    """
    now, token = service.now(), request.cookies.get(LEASE_COOKIE, "")
    with service.database.writing() as conn:
        lease = leases.live_lease(conn, case_id, token, who, now)
        asked = originals.request_under(conn, lease)
        if tier is None:
            tier = ORIGINAL_TIER if asked and asked.is_open(now) else MASKED_TIER
        if tier == ORIGINAL_TIER:
            originals.require_open(conn, lease, now)
        file = case_file(conn, case_id, now)
        declared = held_at(file, tier)
        if declared is None:
            msg = "the device sent no such sound with this event"
            raise UnknownCaseError(msg)
        leases.record_evidence(conn, lease, who, f"{kind} of tier {declared.tier}", now)
    try:
        content = service.decryptor.open(file, declared, lease)
    except (BlobMissingError, KeyGoneError, UnsealError):
        with service.database.writing() as conn:
            subject, detail = f"case:{case_id}", {"tier": declared.tier, "sha256": declared.sha256}
            audit.append(conn, service.now(), audit.SERVICE, audit.Action.EVIDENCE_MISSING, subject, detail)
        raise
    return read_sound(io.BytesIO(content), service.settings.clip_seconds_cap)
