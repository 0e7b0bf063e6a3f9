"""Fixtures of a courier, and a clock that a test turns."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from tests.edge.device import consented, enrolled
from tests.edge.parcels import parcel

from earmark_edge.courier import Courier
from earmark_edge.signature import public_of
from earmark_edge.spool import SPOOL_FILE, Spool
from earmark_edge.uplink import Backoff, Uplink


class Clock:
    def __init__(self):
        self.at = datetime.now(UTC)

    def __call__(self):
        return self.at

    def advance(self, **words):
        self.at += timedelta(**words)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def told():
    return []


@pytest.fixture
def make_courier(tmp_path, service, clock, told):
    opened = []

    def make(cap_bytes=1 << 20, tiers=(0, 1, 2, 3)):
        state = tmp_path / "state"
        credentials = enrolled(state, service.url)
        service.device = public_of(credentials.device_key)
        consented(state, tiers=tiers, expires_at=(clock.at + timedelta(days=30)).isoformat())
        spool = Spool(state / SPOOL_FILE, cap_bytes, now=clock)
        opened.append(spool)
        return Courier(state, credentials, spool, now=clock, tell=told.append)

    yield make
    for spool in opened:
        spool.close()


@pytest.fixture
def courier(make_courier):
    return make_courier()


@pytest.fixture
def uplink(courier):
    with Uplink(courier.credentials, sleep=lambda _: None, rng=random.Random(0), timeout_s=5, backoff=Backoff(attempts=2)) as opened:
        yield opened


def whole(service, count):
    assert len(service.events) == count
    for event_id, clips in service.clips.items():
        number = int(event_id.rpartition("-")[2])
        assert {tier: service.opened(event_id, tier) for tier in clips} == parcel(number).payloads
