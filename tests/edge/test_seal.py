import hashlib
from dataclasses import fields, replace

import pytest
from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from tests.edge.review_double import public_x25519
from tests.edge.test_event import event

from earmark_edge.event import ClipObject, Event
from earmark_edge.seal import TAG_BYTES, WRAPPED_BYTES, SealedObject, SealError, open_object, seal_context, seal_object, seal_parcel
from earmark_edge.seal import _suite as suite
from earmark_edge.signature import Purpose, SignatureError, check, from_header, header_of, key_id, public_of, sign
from earmark_model.contract import Reason

SERVICE, OTHER, DEVICE = (hashlib.sha256(name).digest() for name in (b"service", b"other", b"device"))
PLAIN = {0: b'{"scores":{}}', 3: b"RIFF" + bytes(5_000)}


def parcel():
    clips = tuple(ClipObject.of(tier, "application/json" if tier == 0 else "audio/wav", plain) for tier, plain in PLAIN.items())
    return seal_parcel(replace(event(), clips=clips), PLAIN, DEVICE, public_x25519(SERVICE))


def test_hpke_is_that_of_rfc_9180():
    """Appendix A.2.1: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305, base mode, sequence number 0."""
    private = bytes.fromhex("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb")
    enc = bytes.fromhex("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a")
    sealed = bytes.fromhex("1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28")
    info = bytes.fromhex("4f6465206f6e2061204772656369616e2055726e")
    opened = openssl.hpke._decrypt_with_aad(suite(), enc + sealed, X25519PrivateKey.from_private_bytes(private), info, b"Count-0")
    assert opened == b"Beauty is truth, truth beauty"


def test_the_service_opens_what_was_sealed_and_nothing_else_does():
    made = parcel()
    for clip in made.event.clips:
        context = seal_context(made.event, clip.tier, clip.media_type, key_id(public_of(DEVICE)))
        sealed = made.objects[clip.tier]
        assert open_object(sealed, SERVICE, context) == PLAIN[clip.tier]
        for private in (OTHER, DEVICE):  # the device's own key least of all
            with pytest.raises(SealError):
                open_object(sealed, private, context)


def test_the_event_declares_the_ciphertexts_and_the_wrapped_keys():
    made = parcel()
    assert made.event.key_id == key_id(public_x25519(SERVICE))
    assert Event.from_bytes(made.payload) == made.event
    for clip in made.event.clips:
        sealed = made.objects[clip.tier]
        assert (clip.length, clip.sha256) == (len(PLAIN[clip.tier]) + TAG_BYTES, hashlib.sha256(sealed.ciphertext).hexdigest())
        assert clip.wrapped_sha256 == hashlib.sha256(sealed.wrapped).hexdigest()
        assert len(sealed.wrapped) == WRAPPED_BYTES
    check(public_of(DEVICE), Purpose.EVENT, made.payload, made.signature)


def test_every_object_has_a_key_of_its_own_each_time():
    one, two = parcel(), parcel()
    wrapped = {made.objects[tier].wrapped for made in (one, two) for tier in PLAIN}
    assert len(wrapped) == 4
    assert one.objects[3].ciphertext != two.objects[3].ciphertext
    swapped = SealedObject(one.objects[3].ciphertext, two.objects[3].wrapped)
    with pytest.raises(SealError):
        open_object(swapped, SERVICE, seal_context(one.event, 3, "audio/wav", key_id(public_of(DEVICE))))


OTHERWISE = {
    "event_id": "another",
    "boot_id": "another",
    "seq": 99,
    "onset_s": 0.125,
    "offset_s": 99.5,
    "wall_time": "2026-01-31T12:00:01+00:00",
    "wall_uncertainty_s": 2.5,
    "label": "baby_cry",
    "peak_score": 0.875,
    "threshold": 0.125,
    "reason": "held_by_hysteresis",
    "model_sha256": "d" * 64,
    "config_sha256": "d" * 64,
    "calibration_sha256": "d" * 64,
    "consent_id": "another",
    "incident": 3,
    "audio_withheld": "rate_cap",
    "key_id": "d" * 64,
    "policy_version": 7,
    "schema": 1,
}
assert set(OTHERWISE) == {field.name for field in fields(Event)} - {"clips", "scores", "slice_probability"}, "one has its own test"


@pytest.mark.parametrize("name", [field.name for field in fields(Event) if field.name in OTHERWISE])
def test_an_object_opens_with_no_other_event(name):
    made = parcel()
    changed = replace(made.event, **{name: OTHERWISE[name]})
    assert changed != made.event
    with pytest.raises(SealError):
        open_object(made.objects[3], SERVICE, seal_context(changed, 3, "audio/wav", key_id(public_of(DEVICE))))


def test_an_object_opens_with_no_other_probability_of_having_been_drawn():
    event = replace(parcel().event, reason=Reason.BELOW_THRESHOLD, clips=(), slice_probability=0.25)
    contexts = {seal_context(replace(event, slice_probability=p), 2, "audio/wav", "d" * 64) for p in (0.25, 0.5, None)}
    assert len(contexts) == 3


@pytest.mark.parametrize(("tier", "kind", "device"), [(2, "audio/wav", DEVICE), (3, "audio/flac", DEVICE), (3, "audio/wav", OTHER)])
def test_an_object_opens_at_no_other_tier_as_no_other_kind_and_from_no_other_device(tier, kind, device):
    made = parcel()
    with pytest.raises(SealError):
        open_object(made.objects[3], SERVICE, seal_context(made.event, tier, kind, key_id(public_of(device))))


@given(at=st.integers(min_value=0), where=st.sampled_from(["ciphertext", "wrapped"]), bit=st.integers(0, 7), cut=st.booleans())
def test_damage_anywhere_is_found(at, where, bit, cut):
    sealed = seal_object(b"the sound of a scream", public_x25519(SERVICE), b"context")
    value = bytearray(getattr(sealed, where))
    at %= len(value)
    if cut:
        del value[at]
    else:
        value[at] ^= 1 << bit
        if where == "wrapped" and (at, bit) == (31, 7):
            return  # RFC 7748 has this bit of an X25519 public key ignored
    with pytest.raises(SealError):
        open_object(replace(sealed, **{where: bytes(value)}), SERVICE, b"context")


@pytest.mark.parametrize("purpose", [purpose for purpose in Purpose if purpose is not Purpose.EVENT])
def test_a_signature_holds_for_its_purpose_alone(purpose):
    signature = sign(DEVICE, Purpose.EVENT, b"message")
    check(public_of(DEVICE), Purpose.EVENT, b"message", signature)
    with pytest.raises(SignatureError):
        check(public_of(DEVICE), purpose, b"message", signature)


@given(field=st.text() | st.none())
def test_whatever_stands_in_a_signature_field_is_a_signature_or_a_clear_error(field):
    with pytest.raises(SignatureError):
        check(public_of(DEVICE), Purpose.EVENT, b"message", from_header(field))


def test_a_signature_survives_its_header():
    signature = sign(DEVICE, Purpose.EVENT, b"message")
    assert from_header(header_of(signature)) == signature
