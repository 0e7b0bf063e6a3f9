"""Where announcements go."""

from __future__ import annotations

from typing import Protocol

from earmark_edge.announce.announcement import Announcement, Pulse


class DestinationDownError(RuntimeError):
    """It cannot be reached or is failing: worth another try later."""


class DestinationRefusedError(RuntimeError):
    """It does not take this one, and never will."""


class Destination(Protocol):
    """One of the household's systems. Every call may take seconds, and none is made by the thread that listens."""

    name: str
    address: str

    def open(self) -> None:
        """Get ready; called once, before anything else.

        Raises:
            DestinationDownError: a library is missing, or a setting cannot be used.
        """

    def send(self, announcement: Announcement) -> None:
        """Tell it.

        Raises:
            DestinationDownError, DestinationRefusedError: it was not told.
        """

    def pulse(self, pulse: Pulse) -> None:
        """Say how the device is; what does not get through is not said again.

        Raises:
            DestinationDownError: it was not told.
        """

    def close(self) -> None:
        """The device stops."""
