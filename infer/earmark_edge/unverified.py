"""What every screen says while a sensitive label's threshold carries no guarantee."""

from __future__ import annotations

from earmark_model.contract import BundleSpec


def unverified_warning(spec: BundleSpec) -> str:
    """A sentence for every screen while a sensitive threshold carries no guarantee; empty once all do."""
    if not spec.unverified:
        return ""
    warning = f"warning: unverified thresholds for {', '.join(spec.unverified)}: no guarantee bounds how many"
    if spec.triage is None or spec.triage.guarantee is None:
        return f"{warning} are missed"
    promise = spec.triage.guarantee
    return (
        f"{warning} of each alone are missed; of all sensitive sounds like those tested, whichever label they reach, "
        f"at most {promise.alpha:.0%} are missed, with {1 - promise.delta:.0%} confidence"
    )
