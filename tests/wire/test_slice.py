"""A sound below the threshold, drawn by a listening device, over a socket, to the estimate of what is missed."""

import queue
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
from tests.edge.conftest import play, write_bundle

from earmark_edge.courier import Courier
from earmark_edge.decide import DecideConfig, Rules
from earmark_edge.keys import read_credentials
from earmark_edge.listen.listener import Listener, Outlets
from earmark_edge.listen.mute import Mute
from earmark_edge.listen.report import JsonReport
from earmark_edge.listen.settings import ListenSettings
from earmark_edge.listen.sink import CourierSink
from earmark_edge.listen.supervisor import Block
from earmark_edge.scorer import Scorer
from earmark_edge.spool import SPOOL_FILE, open_spool
from earmark_edge.uplink import Uplink
from earmark_review.store.missed import missed
from earmark_review.store.policies import issue_policy

RATE_HZ = 16_000


def hear(state, scorer, courier):
    """An evening with two faint cries and a loud one, as `earmark edge listen --send` would hear it, each drawn with certainty."""
    sink = CourierSink(courier, courier, lambda _: None, Rules(scorer.spec, DecideConfig()), is_muted=lambda: False)
    settings = replace(ListenSettings(), canary_s=0.0)
    outlets = Outlets(sink, JsonReport())
    listener = Listener(["room"], scorer, DecideConfig(), settings, inbox=queue.Queue(), mute=Mute(state / "mute"), outlets=outlets)
    listener._slice_where_agreed()
    parts = [play(("", 4), ("cry", 2), ("", 4), amplitude=level) for level in (0.018, 0.3, 0.018)]
    samples = np.concatenate(parts)
    for end in range(1_600, len(samples) + 1, 1_600):
        listener._block(
            listener.channels[0], Block(0, samples[end - 1_600 : end], listener.channels[0].origin_s + end / RATE_HZ, is_first=False)
        )
    listener._cut(listener.channels[0])


def test_a_home_that_agreed_is_drawn_from_and_another_is_not(server, enrolled, tmp_path):
    scorer = Scorer(write_bundle(tmp_path / "bundle"))
    with server.service.database.writing() as conn:
        issue_policy(conn, (0, 1, 2), ("cry", "scream"), (), datetime.now(UTC), 1.0)
    for name, agrees in (("kitchen", True), ("porch", False)):
        state = enrolled(name, may_slice=agrees)
        credentials = read_credentials(state)
        spool = open_spool(state / SPOOL_FILE, 10**7, print)
        courier = Courier(state, credentials, spool)
        with Uplink(credentials) as uplink:
            courier.adopt_policy(uplink)
            hear(state, scorer, courier)
            assert courier.deliver(uplink).trouble == ""
        spool.close()
    with server.service.database.reading() as conn:
        found = missed(conn, datetime.now(UTC) - timedelta(days=1))
        reasons = conn.exec_driver_sql("SELECT reason, count(*) FROM events GROUP BY reason").all()
    assert (found.homes, found.flagged, found.drawn, found.rate) == (1, 1, 2, None)
    assert sorted(map(tuple, reasons)) == [("above_threshold", 2), ("below_threshold", 2)]
