"""The listening process; `earmark edge listen` starts it."""

from __future__ import annotations

import logging
import sys

from earmark_edge.listen.run import Request, run

if __name__ == "__main__":
    request = Request.from_argument(sys.argv[1])
    logging.basicConfig(level=request.log_level, format="%(levelname)s %(message)s")
    sys.exit(run(request))
