"""A review service that kills itself at the durable step of intake it is told.

It imports once, and for each line on its stdin forks a service, which prints its address, and tells on stdout how that one ended.
"""

import json
import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

from earmark_review.blob_bucket import IncomingUpload
from earmark_review.keystore import SqliteKeys
from earmark_review.service import Service, open_service
from earmark_review.settings import ReviewSettings
from earmark_review.store.database import Database
from earmark_review.web.serving import listen, serve, url_of


class Steps:
    """Counts steps once it is armed, and dies of SIGKILL, which nothing can catch, at number `kill_at`."""

    def __init__(self, kill_at: int) -> None:
        self.kill_at, self.count, self.is_armed = kill_at, 0, False

    def __call__(self) -> None:
        self.count += self.is_armed
        if self.is_armed and self.count == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function):
        def run(*words, **more):
            self()
            answer = function(*words, **more)
            self()
            return answer

        return run


def patch(steps: Steps) -> None:
    """A step before and after everything that lasts: a sync, a rename, an upload's end, keys, a commit."""
    os.fsync = steps.around(os.fsync)
    Path.rename = steps.around(Path.rename)
    IncomingUpload._finish = steps.around(IncomingUpload._finish)
    SqliteKeys._keep_all = steps.around(SqliteKeys._keep_all)
    writing = Database.writing

    @contextmanager
    def stepping(self):
        with writing(self) as conn:
            yield conn
            steps()
        steps()

    Database.writing = stepping
    Service.keep_house = lambda _self: None  # its own steps would come at times of their own


def live(data: str, database: str | None, blobs: str | None, kill_at: int) -> None:
    steps = Steps(kill_at)
    patch(steps)
    service = open_service(ReviewSettings(data=Path(data), database=database, blobs=blobs, port=0))
    listener = listen("127.0.0.1", 0)
    steps.is_armed = True
    sys.stdout.write(json.dumps({"url": url_of(listener), "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    serve(service, listener)


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                live(**json.loads(line))
            except BaseException as error:  # noqa: BLE001 - a fork must not go on as its parent
                sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os.waitpid(child, 0)
        sys.stdout.write("ended\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
