import pytest
import torch

from duca_compile import Mode, OptionError, Options


def test_the_defaults_are_the_papers() -> None:
    assert (Options().cycle, Options().cache_ratio, Options().order) == (5, 0.9, "conservative-first")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cycel": 4}, "unknown option 'cycel' \\(did you mean 'cycle'\\?\\)"),
        ({"cycle": 0}, "cycle must be a whole number of at least 1, not 0"),
        ({"cycle": 2.5}, "cycle must be a whole number"),
        ({"cycle": True}, "cycle must be a whole number"),
        ({"cache_ratio": 1.2}, "cache_ratio must lie from 0 to 1"),
        ({"cache_ratio": "0.9"}, "cache_ratio must be a number"),
        ({"order": "conservativ"}, "did you mean 'conservative'"),
        ({"selection": "steps"}, "selection cannot be 'steps' \\(did you mean 'step'\\?\\)"),
        ({"warmup_steps": 0}, "warmup_steps must be a whole number of at least 1"),
        ({"aggressive_depth": "last"}, "aggressive_depth cannot be 'last'"),
        ({"cache_dtype": "bfloat16"}, "cache_dtype cannot be 'bfloat16'; it is None or one of torch.bfloat16, "),
        ({"cache_dtype": torch.int8}, "cache_dtype cannot be torch.int8"),
        ({"inner": "inducter"}, "did you mean 'inductor'"),
        ({"inner": "duca"}, "inner cannot be 'duca'"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"strict": 1}, "strict must be True or False"),
    ],
)
def test_an_impossible_option_is_an_error_that_helps(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Options.parse(options)


def test_the_schedule() -> None:
    def modes(steps: int, **options: object) -> str:
        parsed = Options.parse(options)
        return "".join(parsed.mode_at(step).name[0] for step in range(steps))

    assert modes(11) == "FCACAFCACAF"
    assert modes(6, order="aggressive-first") == "FACACF"
    assert modes(6, order="conservative", cycle=3) == "FCCFCC"
    assert modes(6, order="aggressive", cycle=3) == "FAAFAA"
    assert modes(9, cycle=4, warmup_steps=4, order="aggressive-first") == "FFFFACAFA"
    assert modes(4, cycle=1) == "FFFF"


def test_modes_that_no_step_uses_are_not_built() -> None:
    assert Options(cycle=2).modes == {Mode.FULL, Mode.CONSERVATIVE}
    assert Options(cycle=1).modes == {Mode.FULL}
    assert Options(order="aggressive").modes == {Mode.FULL, Mode.AGGRESSIVE}
