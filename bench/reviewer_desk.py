"""Someone at a browser who uses the keyboard alone, and what the bench notes of each screen: a picture, barriers, complaints."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

MOST_TABS = 80
_FOCUSED = "(document.activeElement.labels?.[0]?.innerText || document.activeElement.innerText || '').trim()"


@dataclass(slots=True)
class Clock:
    """The service's clock: real time, and whatever was skipped because nobody would do anything but wait."""

    skipped: timedelta = timedelta()

    def __call__(self) -> datetime:
        """Now."""
        return datetime.now(UTC) + self.skipped

    def advance(self, seconds: float) -> None:
        """Skip."""
        self.skipped += timedelta(seconds=seconds)


@dataclass(slots=True)
class Notes:
    """What was seen at all desks. Screens are kept only where there is a folder for them."""

    shots: Path | None
    screens: int = 0
    barriers: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    too_wide: list[str] = field(default_factory=list)
    keys: int = 0
    waits_s: dict[str, list[float]] = field(default_factory=dict)

    def screen(self, page: Page, name: str) -> None:
        """Look at a page: axe, its width, and its picture."""
        page.wait_for_load_state("load")
        self.screens += 1
        report = Axe().run(page, options={"resultTypes": ["violations"]})
        self.barriers += [f"{name}: {found['id']}, {found['help']}" for found in report.response["violations"]]
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            self.too_wide.append(name)
        if self.shots is not None:
            page.screenshot(path=self.shots / f"{self.screens:02}-{name}.png", full_page=True)

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Time how long someone waits for `what`."""
        began = time.perf_counter()
        yield
        self.waits_s.setdefault(what, []).append(time.perf_counter() - began)


class Desk:
    """One person's browser; every action is a key."""

    def __init__(self, browser: Browser, url: str, notes: Notes, width: int, scheme: str) -> None:
        context = browser.new_context(
            base_url=url, viewport={"width": width, "height": 900}, color_scheme="dark" if scheme == "dark" else "light"
        )
        self.page, self.notes = context.new_page(), notes
        self.page.set_default_timeout(30_000)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: notes.complaints.append(str(error)))

    def _on_console(self, message: object) -> None:
        kind, text = getattr(message, "type", ""), getattr(message, "text", "")
        # A refusal that the bench provokes is an answer, which the browser also notes as an error of loading.
        if kind in {"error", "warning"} and "Failed to load resource" not in text:
            self.notes.complaints.append(text)

    def press(self, *keys: str) -> None:
        """Press keys one after the other."""
        for key in keys:
            self.notes.keys += 1
            self.page.keyboard.press(key)

    def type(self, text: str) -> None:
        """Write."""
        self.notes.keys += len(text)
        self.page.keyboard.type(text)

    def tab_to(self, name: str) -> None:
        """Go on with Tab until the control of that name has the focus, which has to be visible there."""
        for _ in range(MOST_TABS):
            self.press("Tab")
            told = self.page.evaluate(_FOCUSED)
            if told.startswith(name):
                assert self.page.evaluate("document.activeElement.matches(':focus-visible')"), f"no focus to be seen on {name!r}"
                return
        msg = f"{MOST_TABS} presses of Tab did not reach {name!r}"
        raise SystemExit(msg)

    def tab_to_row(self, text: str) -> None:
        """Open the first row of a list that says `text`, going down by `j`."""
        rows = self.page.locator("tbody tr").all_inner_texts()
        at = next(number for number, row in enumerate(rows) if text in row)
        self.press(*["j"] * (at + 1), "Enter")
        self.see("Claim")

    def see(self, text: str) -> None:
        """Wait until the page says `text`."""
        self.page.get_by_text(text).first.wait_for()
        self.page.wait_for_load_state("load")

    def sign_in(self, name: str, password: str) -> None:
        """At the sign-in page, whose first field has the focus."""
        self.page.goto("/login")
        self.page.locator("#name:focus").wait_for()  # the page gives it the focus by itself, a moment after it is there
        self.type(name)
        self.press("Tab")
        self.type(password)
        self.press("Enter")
        self.page.get_by_role("heading", name="Queue").wait_for()
        self.page.wait_for_load_state("load")

    def claim(self) -> None:
        """Claim the next case."""
        with self.notes.waiting("claim until the case is drawn"):
            self.press("c")
            self.page.get_by_role("heading", name="Your verdict").wait_for()
            self.page.wait_for_load_state("load")

    def decide(self, key: str, note: str = "") -> None:
        """Choose by its key, and record."""
        if note:
            self.press("n")
            self.type(note)
            self.press("Escape")
        self.press(key)
        with self.notes.waiting("verdict until the queue is back"):
            self.press("d")
            self.see("is recorded")
