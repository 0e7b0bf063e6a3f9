"""Runs a listening, sending device in a network namespace of its own, and counts what it puts on any wire there.

`unshare -n python -m tests.edge.listen.namespace HOME`, as root. The namespace has a loopback interface, on which the double of the
review service answers, and a wire with a default route and a neighbour, so that whatever is sent to anyone else does leave and is seen.
Prints JSON: packets seen on the wire in a control and then while the device heard, those on the loopback interface and how many of them
were not the service's, and how often the planted samples were found in any packet.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from bench.wire import captured
from tests.edge.conftest import RATE_HZ, play, write_bundle
from tests.edge.device import consented, enrolled
from tests.edge.listen.test_process import Process
from tests.edge.review_double import serving

from earmark_edge.signature import public_of

PATIENCE_S = 120.0


def main(home: Path) -> None:
    """See the module."""
    capture, control = captured()
    bundle = write_bundle(home / "bundle")
    marker = np.random.default_rng(7).integers(-900, 900, 4 * RATE_HZ).astype("<i2")
    with serving() as service:
        port = int(service.url.rpartition(":")[2])
        service.device = public_of(enrolled(home / "state", service.url).device_key)
        consented(home / "state")
        talk, rest = play(("speech", 5), ("scream", 2), ("", 30)), play(("speech", 20), ("", 10))
        pcm = [marker, (talk * 32_767).astype("<i2"), marker, (rest * 32_767).astype("<i2"), marker]
        running = Process("-", "--rate", "16000", "--send", home=home, stdin=subprocess.PIPE, EARMARK_BUNDLE=str(bundle))
        assert running.process.stdin is not None
        running.process.stdin.write(np.concatenate(pcm).tobytes())
        running.process.stdin.flush()
        until = time.monotonic() + PATIENCE_S
        while not any(max(held, default=0) > 1 for held in service.clips.values()) and time.monotonic() < until:
            time.sleep(0.05)
        running.process.stdin.close()
        status = running.end(seconds=PATIENCE_S)
        time.sleep(0.5)
        payload = b"".join(data for _, data in capture.packets)
    planted = [marker[at : at + 32].tobytes() for at in range(0, marker.size - 32, 16)]
    planted += [(marker[at : at + 32] / np.float32(32_768)).astype(np.float32).tobytes() for at in range(0, marker.size - 32, 16)]
    found = {
        "status": status,
        "control": control,
        "wire": capture.on_the_wire(),
        "loopback": len(capture.packets),
        "strangers": capture.strangers(port),
        "overlooked": capture.overlooked(),
        "events": len(service.events),
        "clips": sum(len(held) for held in service.clips.values()),
        "planted": sum(each in payload for each in planted),
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
