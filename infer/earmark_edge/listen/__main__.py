"""The listening process; `earmark edge listen` starts it."""

from __future__ import annotations

import logging
import signal
import sys

from earmark_edge.listen.run import Request, run

if __name__ == "__main__":
    request = Request.from_argument(sys.argv[1])
    logging.basicConfig(level=request.log_level, format="%(levelname)s %(message)s")
    status = run(request)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # it has ended in order already, and its status should say so
    sys.exit(status)
