"""Checks of the machine: clock, disk, swap, core dumps, telemetry, settings."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Mapping
from pathlib import Path

from earmark_edge.doctor.check import Check, fail, ok, warn
from earmark_edge.listen.clock import ClockState
from earmark_edge.listen.misspelt import misspelt

_LEAST_FREE_BYTES = 64 * 2**20
_WORST_CLOCK_S = 2.0
_MB = 1e6


def check_clock(state: ClockState) -> Check:
    """Whether the clock is disciplined."""
    if not state.is_synchronised:
        return warn("clock", "not synchronised: events state an uncertainty of a day", "turn on NTP: sudo timedatectl set-ntp true")
    if state.uncertainty_s > _WORST_CLOCK_S:
        return warn(
            "clock", f"synchronised, but up to {state.uncertainty_s:.0f} s off", "check the network and `timedatectl timesync-status`"
        )
    return ok("clock", f"synchronised to {state.uncertainty_s * 1000:.0f} ms")


def check_disk(state: Path, outbox_bytes: int) -> Check:
    """Room for the outbox, in a folder that is the owner's alone."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        usage = shutil.disk_usage(state)
        is_open = bool(state.stat().st_mode & 0o077)
    except OSError as error:
        return fail("disk", f"{state}: {error.strerror}", "name a folder that this user may write: EARMARK_STATE")
    said = f"{usage.free / _MB:,.0f} MB free at {state}"
    if not os.access(state, os.W_OK):
        return fail("disk", f"{state} cannot be written", "name a folder that this user may write: EARMARK_STATE")
    if usage.free < _LEAST_FREE_BYTES:
        return fail("disk", said, "make room; events may soon find none")
    if usage.free < outbox_bytes:
        return warn("disk", f"{said}, less than the outbox may take", "make room, or lower EARMARK_OUTBOX_BYTES")
    if is_open:
        return warn("disk", f"{said}; others may look into it", f"chmod 700 {state}")
    return ok("disk", said)


def check_telemetry(environ: dict[str, str] | os._Environ[str]) -> Check:
    """Whether onnxruntime's own reports are off; Earmark has none."""
    if environ.get("ORT_DISABLE_TELEMETRY") == "1":
        return ok("telemetry", "none: onnxruntime's is switched off, Earmark has none")
    return fail("telemetry", "onnxruntime's is not switched off", "do not unset ORT_DISABLE_TELEMETRY; this is a defect, report it")


def check_swap(swaps: str, cgroup_limit: str | None) -> Check:
    """`swaps`: the text of /proc/swaps. `cgroup_limit`: what memory.swap.max says of the listener, None where it is not known."""
    devices = [line.split()[0] for line in swaps.splitlines()[1:] if line.split()]
    on_disk = [device for device in devices if "zram" not in device]
    if not on_disk:
        return ok("swap", "none on a disk" if not devices else "in compressed memory only (zram)")
    if cgroup_limit == "0":
        return ok("swap", "the listener's memory is never swapped out (MemorySwapMax=0)")
    advice = "run under the systemd unit, which sets MemorySwapMax=0, or turn swap off: sudo swapoff -a"
    return warn("swap", f"memory may be written to {', '.join(on_disk)}", advice)


def swap_limit(pid: int | None) -> str | None:
    """The memory.swap.max of a process's control group (version 2)."""
    try:
        group = Path(f"/proc/{pid or 'self'}/cgroup").read_text(encoding="utf-8").strip().rpartition(":")[2]
        return (Path("/sys/fs/cgroup") / group.lstrip("/") / "memory.swap.max").read_text(encoding="utf-8").strip()
    except OSError:
        return None


def check_core_dumps(pid: int | None) -> Check:
    """The limit of the running listener, or of this process where none runs: it sets its own to nothing when it starts."""
    if pid is None:
        soft, _ = resource.getrlimit(resource.RLIMIT_CORE)
        return ok("core dumps", "off here" if soft == 0 else "`earmark edge listen` switches them off for itself when it starts")
    try:
        limits = Path(f"/proc/{pid}/limits").read_text(encoding="utf-8")
    except OSError:
        return warn("core dumps", "the listener's limits cannot be read", "run `earmark edge doctor` as the listener's user or as root")
    line = next((line for line in limits.splitlines() if line.startswith("Max core file size")), "")
    if line.split()[4:5] == ["0"]:
        return ok("core dumps", "off for the listener")
    return fail("core dumps", "the listener may leave a core with what it heard", "start it by the systemd unit, which sets LimitCORE=0")


def check_spelling(environ: Mapping[str, str]) -> Check:
    """Settings that nothing reads; a service's own environment is checked by the listener when it starts."""
    wrong = misspelt(environ)
    return warn("settings", "; ".join(wrong), "all of them: docs/device.md") if wrong else ok("settings", "none is misspelt")
