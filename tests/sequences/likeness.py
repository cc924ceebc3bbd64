"""Which generations nothing in their calls can tell apart: these need a session, and the machine gives them one.

Two generations are alike where they come from the same noise and, in some call of each, conditioning tensors hold the
same content in the same objects, or in objects made anew for every call, over the same weights, under the same owner.
The calls of one may then be the calls of the other, if both are under way at once, or if the later one begins at a
timestep that the earlier one could have gone on to: in each thread of a pool, which takes up the loop at a later step,
at any.
"""

from sequences.generations import ANEW, BUFFER, CONDITIONING, GUIDANCE, HELD, OWN, SILENT, Generation

COUNTED = ("counted call", "counted loop")


def content(generation: Generation, name: str) -> tuple[str, int]:
    """What the conditioning of a call holds. The empty prompt is what guidance leads away from."""
    prompt = generation.plan.prompt
    return ("cond", 3) if name == "uncond" else (name, prompt)


def handling(generation: Generation, name: str) -> tuple[str, str]:
    return CONDITIONING[generation.plan.conditioning][name == "uncond"]


def confusable(earlier: Generation, later: Generation) -> bool:
    """Whether calls of `later` could be the next ones of `earlier`, whatever their timesteps."""
    mine, theirs = earlier.plan, later.plan
    same = ("model", "seed", "batch", "context")
    if any(getattr(mine, each) != getattr(theirs, each) for each in same):
        return False
    if "loop without key" in (mine.session, theirs.session) or theirs.session in COUNTED:
        return False
    pairs = ((one, other) for one in _names(earlier) for other in _names(later))
    return any(_alike(earlier, one, later, other) for one, other in pairs)


def _names(generation: Generation) -> set[str]:
    """Of its calls so far and of the next ones."""
    return {*GUIDANCE[generation.guidance], *generation.calls}


def _alike(earlier: Generation, one: str, later: Generation, other: str) -> bool:
    if content(earlier, one) != content(later, other) or not earlier.owners(one) & later.owners(other):
        return False
    pairs = zip(handling(earlier, one), handling(later, other), strict=True)
    few = earlier.calls[one] < 2
    return all(_same(mine, theirs, few) for mine, theirs in pairs)


def _same(earlier: str, later: str, few: bool) -> bool:
    """Whether a tensor of `later` could be what the next call of `earlier`, `few` so far, has in this place."""
    if earlier in (HELD, BUFFER, SILENT):
        return earlier == later
    return (earlier == ANEW or few) and later in (OWN, ANEW)
