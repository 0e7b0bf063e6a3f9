"""What devices load new bundles from: the signed offer, and its files."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Response
from starlette.responses import FileResponse

from earmark_edge.signature import Purpose
from earmark_edge.wire import MAX_JSON_INTEGER
from earmark_review.errors import UnknownBundleError
from earmark_review.store.bundles import offer_for
from earmark_review.web.guards import SendingDevice, ServiceOf
from earmark_review.web.signing import signed_answer

router = APIRouter(prefix="/api/v1", tags=["devices"])


@router.get("/bundle", summary="The bundle that this device is offered")
def get_bundle(service: ServiceOf, device: SendingDevice) -> Response:
    """The newest `BundleOffer` to this device, signed; 204 where there is none."""
    with service.database.reading() as conn:
        offer = offer_for(conn, device)
    if offer is None:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    return signed_answer(service, Purpose.BUNDLE, offer.to_bytes())


@router.get("/bundles/{version}/{name}", summary="A file of an offered bundle")
def get_bundle_file(
    service: ServiceOf, device: SendingDevice, version: Annotated[int, Path(ge=0, le=MAX_JSON_INTEGER)], name: str
) -> Response:
    """Its raw bytes, whose hash stands in the signed offer; 404 where this device was not offered it."""
    with service.database.reading() as conn:
        offer = offer_for(conn, device, version)
    file = next((file for file in offer.files if file.name == name), None) if offer else None
    if file is None:
        msg = f"this device was offered no file {name!r} of a bundle {version}"
        raise UnknownBundleError(msg)
    return FileResponse(service.bundle_files.path(file), media_type="application/octet-stream")
