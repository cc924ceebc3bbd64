"""Sorts steps that ran on caches of others into kinds of situations, for reports."""

from sequences.generations import Generation
from sequences.oracle import Wrong


def kind(wrong: Wrong, known: list[Generation]) -> str:
    """In which situation it came to this."""
    if wrong.fill is None:
        return "a cache that no stream filled"
    reader, owner = (known[stream.generation] for stream in (wrong.reader, wrong.fill.stream))
    plans = reader.plan, owner.plan
    if any("counted" in plan.session for plan in plans):
        return "counted sessions"
    if any(plan.session != "none" for plan in plans):
        return "sessions"
    if reader is owner:
        return (
            "another owner, weights or epoch of its own" if wrong.reader != wrong.fill.stream else "older than a cycle"
        )
    if reader.plan.seed == owner.plan.seed:
        return "the same noise, begun again"
    if reader.plan.skip and owner.plan.skip and reader.plan.image == owner.plan.image:
        return "variations of one image"
    return "other noise"
