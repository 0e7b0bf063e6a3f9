"""Every parser of what comes from elsewhere, given what nobody would send: it reads it, or says in its own error what is wrong."""

import contextlib
import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.edge.conftest import GUARANTEE
from tests.edge.device import consent, consented, enrolled
from tests.edge.test_event import event

from earmark_edge.announce.announcement import Announcement
from earmark_edge.bundle_offer import BundleOffer, OfferedFile
from earmark_edge.bundle_store import SHELF_FILE, BundleStore
from earmark_edge.consent import Consent, ConsentError
from earmark_edge.consent_records import CONSENT_FILE, read_consent
from earmark_edge.courier import POLICY_FILE, read_policy
from earmark_edge.event import ClipObject, Event, Receipt, ScoreTrack
from earmark_edge.keys import ENROLMENT_FILE, KeyFileError, read_credentials
from earmark_edge.listen.status import STATUS_FILE, StatusError, read_status
from earmark_edge.messages import Dropped, Enrolled, EnrolRequest, Heartbeat, read_statuses, status_of
from earmark_edge.policy import Policy, PolicyError, check_adoptable
from earmark_edge.scorer import Scorer, ScoringError
from earmark_edge.signature import SignatureError, from_header
from earmark_edge.uplink import told
from earmark_edge.wire import WireError
from earmark_model.contract import LABELS, BundleError, BundleSpec, Threshold

AT, SHA = "2026-01-31T12:00:00+00:00", "a" * 64
KEY = "A" * 43 + "="
EVENT = event(clips=(ClipObject(0, "application/json", 9, SHA), ClipObject(2, "audio/wav", 99, SHA, SHA)))
SPEC = BundleSpec(
    labels=LABELS,
    sensitive=LABELS[:3],
    sample_rate_hz=16_000,
    window_samples=32_000,
    hop_samples=8_000,
    frame_hop_samples=2_560,
    thresholds={label: Threshold(0.5, GUARANTEE) for label in LABELS},
    graph_sha256=SHA,
    provenance={"commit": "abc"},
    triage=Threshold(0.5, GUARANTEE),
)
TRACK = ScoreTrack(1.0, 0.1, dict.fromkeys(LABELS, (0.5, 0.25)), dict.fromkeys(LABELS, 0.5))
STATUS = {"event_id": "e", "state": "ready", "looks": [{"role": "reviewer", "evidence": "clip", "at": AT}], "verdicts": {"distress": AT}}

PARSERS = {
    "event": (Event.from_bytes, WireError, EVENT.to_bytes()),
    "receipt": (Receipt.from_bytes, WireError, Receipt("e", SHA, AT, (0,), (2,), (), SHA).to_bytes()),
    "policy": (Policy.from_bytes, WireError, Policy(3, AT, (0, 1), ("scream",)).to_bytes()),
    "consent": (Consent.from_bytes, WireError, consent().to_bytes()),
    "enrolment": (EnrolRequest.from_bytes, WireError, EnrolRequest("CODE", KEY).to_bytes()),
    "enrolment answer": (Enrolled.from_bytes, WireError, Enrolled("kitchen", "token", KEY, KEY).to_bytes()),
    "bundle offer": (
        BundleOffer.from_bytes,
        WireError,
        BundleOffer(2, AT, (OfferedFile("model.onnx", 5, SHA), OfferedFile("bundle.json", 5, SHA))).to_bytes(),
    ),
    "bundle": (lambda payload: BundleSpec.from_json(payload.decode("utf-8", "replace")), BundleError, SPEC.to_json().encode()),
    "score track": (ScoreTrack.from_bytes, WireError, TRACK.to_bytes()),
    "heartbeat": (
        Heartbeat.from_bytes,
        WireError,
        Heartbeat(AT, "boot", 1, 2, 3, 4, 5, False, "passed", SHA, SHA, "consent", 2).to_bytes(),  # noqa: FBT003 - in the wire's order
    ),
    "dropped": (Dropped.from_bytes, WireError, Dropped("e", SHA, (2,)).to_bytes()),
    "statuses": (
        lambda payload: read_statuses(payload, "device"),
        WireError,
        json.dumps({"device_id": "device", "statuses": [STATUS]}).encode(),
    ),
    "status": (status_of, WireError, json.dumps(STATUS).encode()),
    "announcement": (Announcement.from_bytes, WireError, Announcement("a", "hall", "scream", AT, "i", 1).to_bytes()),
}

HUGE = [10**400, -(10**400), 10**18, 2**63, -1, 0, 1e308, float("inf"), float("-inf"), float("nan"), 5e-324]
ODD = [
    "",
    "\x00",
    "\ud800",
    "a" * 5_000,
    "1",
    "NaN",
    "true",
    "\u202e",
    "9999-12-31T23:59:59+00:00",
    "0001-01-01T00:00:00+23:59",
    "../..",
    *LABELS,
]
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.sampled_from(HUGE), st.sampled_from(ODD))
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4), max_leaves=8
)
FUZZ = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def places(value, path=()):
    """Every place in a JSON value."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield from places(each, (*path, name))


@st.composite
def mutated(draw, payload):
    """A valid message in which one to three places hold something else, are gone, or have company."""
    raw = json.loads(payload)
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from([path for path in places(raw) if path] or [("x",)]))
        owner = raw
        for name in path:
            owner = owner[name]
        what = draw(st.sampled_from(["replace", "remove", "add", "double"]))
        if what == "replace" or (last not in range(len(owner)) and isinstance(owner, list)):
            owner[last] = draw(VALUES)
        elif what == "remove":
            del owner[last]
        elif isinstance(owner, dict):
            owner[draw(st.text(max_size=8))] = draw(VALUES)
        else:
            owner.append(copy.deepcopy(owner[last]) if what == "double" else draw(VALUES))
        if not isinstance(raw, dict) or not raw:
            break
    return json.dumps(raw).encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw, payload):
    """Its bytes, cut off or with a few of them changed."""
    made = bytearray(payload[: draw(st.integers(0, len(payload)))]) if draw(st.booleans()) else bytearray(payload)
    for _ in range(draw(st.integers(0, 4)) if made else 0):
        made[draw(st.integers(0, len(made) - 1))] = draw(st.integers(0, 255))
    return bytes(made)


def survives(parser, error, payload):
    """What is read must also be able to be written again; whatever is wrong is told in the documented error."""
    try:
        parsed = parser(payload)
    except error:
        return
    again = getattr(parsed, "to_bytes", None)
    if again is not None:
        assert parser(again()) == parsed or b"NaN" in again()


@pytest.mark.parametrize("name", PARSERS)
def test_the_valid_message_is_read(name):
    parser, _, payload = PARSERS[name]
    assert parser(payload) is not None


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
@FUZZ
def test_a_valid_message_with_something_else_in_it_is_read_or_refused(name, data):
    parser, error, payload = PARSERS[name]
    survives(parser, error, data.draw(mutated(payload)))


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
@FUZZ
def test_damaged_bytes_are_read_or_refused(name, data):
    parser, error, payload = PARSERS[name]
    survives(parser, error, data.draw(damaged(payload) | st.binary(max_size=200)))


@pytest.mark.parametrize("name", PARSERS)
@given(value=VALUES)
@FUZZ
def test_any_json_is_read_or_refused(name, value):
    parser, error, _ = PARSERS[name]
    survives(parser, error, json.dumps(value).encode("utf-8", "surrogatepass"))


DEEP = [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 900 + b"]" * 900, b'{"schema":' + b"[" * 3_000 + b"]" * 3_000 + b"}"]


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize("payload", DEEP, ids=["lists", "objects", "closed", "inside"])
def test_deep_nesting_is_refused(name, payload):
    parser, error, valid = PARSERS[name]
    with pytest.raises(error):
        parser(payload)
    field = next(iter(json.loads(valid)))
    raw = json.loads(valid)
    raw[field] = "@"
    with pytest.raises(error):
        parser(json.dumps(raw).encode().replace(b'"@"', b"[" * 1_500 + b"]" * 1_500))


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "1" + "0" * 400, "1" + "0" * 5_000, "-0", "1e-999"])
def test_every_field_with_a_number_that_is_none_is_read_or_refused(name, number):
    parser, error, payload = PARSERS[name]
    tried = 0
    for path in places(json.loads(payload)):
        if path:
            raw = json.loads(payload)
            owner = raw
            for each in path[:-1]:
                owner = owner[each]
            owner[path[-1]] = "@"
            survives(parser, error, json.dumps(raw).encode().replace(b'"@"', number.encode()))
            tried += 1
    assert tried > 1


def test_a_guarantee_of_more_units_than_anyone_could_label_is_refused_at_once():
    raw = json.loads(SPEC.to_json())
    raw["triage"]["guarantee"] |= {"positives": 10**12, "misses": 10**10}
    with pytest.raises(BundleError, match="1000000"):
        BundleSpec.from_json(json.dumps(raw))


@given(text=st.text(max_size=200) | st.binary(max_size=100).map(lambda raw: f"ed25519=:{raw.hex()}:"))
@FUZZ
def test_a_signature_header_is_read_or_refused(text):
    try:
        assert len(from_header(text)) == 64
    except SignatureError:
        return


@given(
    status=st.integers(100, 599),
    body=st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")),
)
@FUZZ
def test_whatever_a_refusal_says_is_one_printable_line(status, body):
    assert told(status, body).isprintable()


@pytest.mark.parametrize("payload", DEEP)
def test_a_refusal_that_is_nested_deeply_is_one_line(payload):
    assert told(400, payload) == "answered 400"


POLICIES = st.builds(
    Policy,
    version=st.integers(1, 5),
    issued_at=st.just(AT),
    tiers=st.sets(st.integers(0, 3)).map(lambda tiers: tuple(sorted(tiers))),
    labels=st.sets(st.sampled_from(LABELS)).map(tuple),
)


@given(
    new=POLICIES,
    current=st.none() | POLICIES,
    tiers=st.sets(st.integers(0, 3), min_size=1),
    labels=st.sets(st.sampled_from(LABELS), min_size=1),
)
@FUZZ
def test_no_policy_that_is_adopted_widens_what_the_household_consented_to_or_falls_back(new, current, tiers, labels):
    agreed = consent(tiers=tuple(sorted(tiers)), labels=tuple(sorted(labels)))
    try:
        check_adoptable(new, current, agreed)
    except PolicyError:
        return
    assert set(new.tiers) <= tiers
    assert set(new.labels) <= labels
    assert current is None or new.version > current.version or new == current


FILES = {
    ENROLMENT_FILE: (lambda state: read_credentials(state), KeyFileError),  # noqa: PLW0108 - all of one form
    CONSENT_FILE: (lambda state: read_consent(state, read_credentials(state).device_key), ConsentError),
    POLICY_FILE: (lambda state: read_policy(state, read_credentials(state).enrolment.signing_key), PolicyError),
    STATUS_FILE: (read_status, StatusError),
    f"bundles/{SHELF_FILE}": (lambda state: BundleStore(state, bytes(32)).shelf(), AssertionError),
}


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    folder = tmp_path_factory.mktemp("state")
    enrolled(folder, "http://127.0.0.1:9")
    consented(folder)
    return folder


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
@settings(FUZZ, max_examples=30)
def test_a_file_of_the_state_folder_that_is_damaged_is_told_of(state, name, data):
    read, error = FILES[name]
    path = state / name
    path.parent.mkdir(exist_ok=True)
    before = path.read_bytes() if path.exists() else None
    samples = st.binary(max_size=100) | st.sampled_from(DEEP) | VALUES.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
    if before:
        samples |= damaged(before) | mutated(before)
    try:
        path.write_bytes(data.draw(samples))
        path.chmod(0o600)
        with contextlib.suppress(error):
            read(state)
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)


def test_a_graph_that_is_cut_off_or_changed_is_refused_or_gives_scores(write_bundle, tmp_path):
    import random  # noqa: PLC0415 - beside what it is for

    import numpy as np  # noqa: PLC0415

    from earmark_model.contract import GRAPH_FILE, SPEC_FILE, sha256_file  # noqa: PLC0415

    folder = write_bundle(tmp_path / "b")
    whole, words = (folder / GRAPH_FILE).read_bytes(), json.loads((folder / SPEC_FILE).read_text())
    rng, refused = random.Random(7), 0
    for number in range(120):
        made = bytearray(whole if number % 3 else whole[: rng.randrange(len(whole))])
        for _ in range(rng.randrange(4) if number % 3 else 0):
            made[rng.randrange(len(made)) if rng.random() < 0.5 else rng.randrange(-1_500, 0)] = rng.randrange(256)
        (folder / GRAPH_FILE).write_bytes(made)
        (folder / SPEC_FILE).write_text(json.dumps(words | {"graph_sha256": sha256_file(folder / GRAPH_FILE)}))
        try:
            scores = Scorer(folder).run(np.zeros((1, 32_000), np.float32))
        except (BundleError, ScoringError):
            refused += 1
        else:
            assert np.isfinite(scores.clip).all()
    assert 40 <= refused < 120, "those that were cut off are among them"
