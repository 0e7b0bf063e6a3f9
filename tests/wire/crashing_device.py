"""A device that kills itself at the durable step it is told. It imports once, and forks a process for each line on its stdin."""

import json
import os
import signal
import sys
from pathlib import Path

from tests.edge.parcels import parcel

from earmark_edge.courier import Courier
from earmark_edge.keys import read_credentials
from earmark_edge.spool import SPOOL_FILE, open_spool
from earmark_edge.uplink import Backoff, Uplink


class Steps:
    """Counts steps, and dies of SIGKILL, which nothing can catch, at number `kill_at`."""

    def __init__(self, kill_at: int) -> None:
        self.kill_at, self.count = kill_at, 0

    def __call__(self, _name: str) -> None:
        self.count += 1
        if self.count == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


class SteppingUplink(Uplink):
    """A step before each request leaves, and one after its answer came and before anything is made of it."""

    steps: Steps

    def _request(self, *words, **more):
        self.steps("before request")
        answer = super()._request(*words, **more)
        self.steps("after answer")
        return answer


def live(state: Path, numbers: list[int], kill_at: int, cap_bytes: int = 1 << 20) -> None:
    steps = Steps(kill_at)
    spool = open_spool(state / SPOOL_FILE, cap_bytes, sys.stderr.write, step=steps)
    credentials = read_credentials(state)
    courier = Courier(state, credentials, spool, tell=sys.stderr.write)
    for number in numbers:
        courier.accept(parcel(number, "scream" if number % 2 else "cry"))
    with SteppingUplink(credentials, backoff=Backoff(attempts=1)) as uplink:
        uplink.steps = steps
        done = courier.deliver(uplink)
    if done.trouble or spool.counts().events:
        sys.exit(f"not delivered: {done.trouble}")
    spool.close()


def main() -> None:
    for line in sys.stdin:
        words = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                live(Path(words["state"]), words["numbers"], words["kill_at"])
            except BaseException as error:  # noqa: BLE001 - a fork must not go on as its parent
                sys.stderr.write(f"{error!r}\n")
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{'killed' if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
