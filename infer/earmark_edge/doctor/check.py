"""What a check comes to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """`warn`: it works, and something about it may surprise. `fail`: it does not do what it is there for."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One line: what was looked at, how it is, and what to do about it (empty where nothing is)."""

    name: str
    verdict: Verdict
    said: str
    advice: str = ""


def ok(name: str, said: str) -> Check:
    """All is well."""
    return Check(name, Verdict.OK, said)


def warn(name: str, said: str, advice: str) -> Check:
    """It works, but."""
    return Check(name, Verdict.WARN, said, advice)


def fail(name: str, said: str, advice: str) -> Check:
    """It does not work."""
    return Check(name, Verdict.FAIL, said, advice)
