"""The two ceremonies of passkeys (WebAuthn level 2), by py_webauthn: registering one, and signing in with it.

A passkey is bound to the service's own address, so a page elsewhere gets nothing from it; its device asks for a finger, a face or a PIN.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from webauthn import (
    base64url_to_bytes,
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import bytes_to_base64url
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from earmark_review.accounts import SignedIn
from earmark_review.errors import FormError, SignInError
from earmark_review.store.passkeys import Passkey

_MALFORMED = (WebAuthnException, ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError)


@dataclass(frozen=True, slots=True)
class Offer:
    """What the browser is asked to do, as JSON, and the challenge in it, which is kept until it answers."""

    options: str
    challenge: str


@dataclass(frozen=True, slots=True)
class Ceremonies:
    """Passkeys for the service at `origin`, such as https://review.example."""

    origin: str

    @property
    def rp_id(self) -> str:
        """The host that passkeys are bound to."""
        return urlsplit(self.origin).hostname or ""

    def offer_new(self, who: SignedIn, known: Sequence[Passkey]) -> Offer:
        """Ask for a new passkey for an account, on a device that has none of it yet."""
        wanted = AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
        )
        made = generate_registration_options(
            rp_id=self.rp_id,
            rp_name="Earmark",
            user_id=_handle(who.user_id),
            user_name=who.name,
            authenticator_selection=wanted,
            exclude_credentials=[PublicKeyCredentialDescriptor(id=one.credential_id) for one in known],
        )
        return Offer(options_to_json(made), bytes_to_base64url(made.challenge))

    def accept_new(self, credential: str, challenge: str) -> tuple[bytes, bytes, int]:
        """The credential's id, public key and count.

        Raises:
            FormError: it does not answer the challenge, or for another address.
        """
        try:
            made = verify_registration_response(
                credential=credential,
                expected_challenge=base64url_to_bytes(challenge),
                expected_rp_id=self.rp_id,
                expected_origin=self.origin,
                require_user_verification=True,
            )
        except _MALFORMED as error:
            msg = f"the passkey was not made for {self.origin}, or not as asked ({type(error).__name__}); try again"
            raise FormError(msg) from error
        return made.credential_id, made.credential_public_key, made.sign_count

    def offer_sign_in(self) -> Offer:
        """Ask for any passkey of this service: no name is given, so none is given away."""
        made = generate_authentication_options(rp_id=self.rp_id, user_verification=UserVerificationRequirement.REQUIRED)
        return Offer(options_to_json(made), bytes_to_base64url(made.challenge))

    def accept_sign_in(self, credential: str, challenge: str, known: Passkey) -> int:
        """The count that the authenticator tells.

        Raises:
            SignInError: it is not this passkey's answer to this challenge, or a copy's, whose count did not rise.
        """
        try:
            handle = json.loads(credential)["response"].get("userHandle")
            used = verify_authentication_response(
                credential=credential,
                expected_challenge=base64url_to_bytes(challenge),
                expected_rp_id=self.rp_id,
                expected_origin=self.origin,
                credential_public_key=known.public_key,
                credential_current_sign_count=known.sign_count,
                require_user_verification=True,
            )
        except _MALFORMED as error:
            msg = f"the passkey does not answer as it should ({type(error).__name__})"
            raise SignInError(msg) from error
        if handle and base64url_to_bytes(handle) != _handle(known.user_id):
            msg = "the passkey is another account's"
            raise SignInError(msg)
        return used.new_sign_count


def credential_id_of(credential: str) -> bytes:
    """The id that an answer names; empty for what is no answer."""
    try:
        return base64url_to_bytes(json.loads(credential)["rawId"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return b""


def _handle(user_id: int) -> bytes:
    return f"account {user_id}".encode()
