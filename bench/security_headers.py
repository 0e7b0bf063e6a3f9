"""Asks every page of a review service that is signed in to for its headers, and writes them down: `docs/security-headers.md`.

Each page is asked over https by whoever may see it, as is one script, one refusal and one answer to a device.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
from tests.review.callers import LOOP, client_of
from tests.review.house import Clock, House
from tests.review.sendings import sending

from earmark_review.access import RULES, Audience
from earmark_review.accounts import Role
from earmark_review.store.database import Database

PAGE = Path(__file__).parents[1] / "docs" / "security-headers.md"
SAID = (
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "Referrer-Policy",
    "Permissions-Policy",
    "Cross-Origin-Opener-Policy",
    "Cross-Origin-Resource-Policy",
    "Cache-Control",
)
_OTHERS = ("/static/earmark.css", "/nothing", "/api/v1/policy")
_INTRODUCTION = """# Security headers

What each page answers with over https, asked of a running service by `python -m bench.security_headers`, which writes this page; a test
holds it to what the service sends. `Server` is never sent. Over plain http, as on this machine's loopback, transport is not pinned.
"""


def answers() -> Iterator[tuple[str, httpx.Response]]:
    """Each address that a browser can ask for, and what it got."""
    if not LOOP.is_running():
        threading.Thread(target=LOOP.run_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/review.db")
        database.migrate()
        database.close()
        house = House(Path(folder), Clock())
        try:
            house.device().send(sending(masked=True))
            client = house.user("ada", Role.SUPERVISOR).client
            client.base_url = "https://review.test"
            case_id = house.browser("ada").case_ids()[0]
            for endpoint, rule in RULES.items():
                method, path = endpoint.split(" ")
                if method == "GET" and rule.audience is not Audience.DEVICES:
                    who = client_of(house.app, accept="text/html") if rule.audience is Audience.ANYONE else client
                    yield path, who.get(f"https://review.test{path.replace('{case_id}', case_id)}")
            for path in _OTHERS:
                yield path, client.get(path)
        finally:
            house.service.close()


def report(found: Mapping[str, httpx.Response]) -> str:
    """A table of addresses by status, and below it each set of values once."""
    groups: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for path, answer in found.items():
        groups[tuple(answer.headers.get(name, "not sent") for name in SAID)].append(f"| `{path}` | {answer.status_code} |")
    parts = [_INTRODUCTION]
    for number, (values, lines) in enumerate(groups.items(), 1):
        rows = [f"| `{name}` | {f'`{value}`' if value != 'not sent' else value} |" for name, value in zip(SAID, values, strict=True)]
        parts.append(
            "\n".join([f"## Set {number}", "", "| header | value |", "|---|---|", *rows, "", "| address | answer |", "|---|---|", *lines])
        )
    return "\n".join(f"{part.rstrip()}\n" for part in parts)


def main() -> None:
    """Print the report; with `--write`, into the docs, too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write it to docs/security-headers.md as well")
    words = report(dict(answers()))
    if parser.parse_args().write:
        PAGE.write_text(words, encoding="utf-8")
    print(words, end="")


if __name__ == "__main__":
    main()
