"""The command line, in this process: what each command prints, as text and as JSON, and its exit code."""

import importlib.util
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import duca_compile
from duca_compile import torch_private
from duca_compile.cli import doctor, tune
from duca_compile.cli.checks import CHECKS, Check
from duca_compile.cli.diffusers_config import build
from duca_compile.cli.families import FAMILIES
from duca_compile.cli.main import COMMANDS, main, parser
from duca_compile.cli.subject import load
from duca_compile.plan.options import Options
from duca_compile.report import text

EAGER = ("-o", "inner=eager")


class Command:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """What it prints, after its exit code was compared."""
        assert main(arguments) == code
        return self._capsys.readouterr().out

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code))

    def refused(self, *arguments: str, code: int = 2) -> str:
        """What it prints as an error."""
        assert main(arguments) == code
        return self._capsys.readouterr().err


@pytest.fixture
def duca(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def fits(text: str) -> bool:
    return all(len(line) <= 80 and line == line.rstrip() for line in text.splitlines())


def test_explain(duca: Command, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    text = duca("explain", "cli_models:dit", "-o", "preset=fast", "--steps", "30", "--html", str(page))
    assert text.startswith("Accelerated wholly:")
    assert "over 30 steps" in text
    assert fits(text)
    assert "<svg" in page.read_text()
    assert duca.json("explain", "cli_models:dit")["outcome"] == "wholly"
    assert duca("explain", "cli_models:plain", code=1).startswith("Not accelerated")


@pytest.mark.parametrize("name", ["tiny", "tiny_in_three"])
def test_a_factory_may_return_inputs_in_several_ways(name: str, duca: Command) -> None:
    assert duca.json("explain", f"cli_models:{name}", "--dtype", "bfloat16")["model"] == "Tiny"


def test_a_module_is_found_in_the_current_folder(
    duca: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models_of_mine.py").write_text("from cli_models import tiny\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert duca.json("explain", "models_of_mine:tiny")["model"] == "Tiny"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explain", "cli_models"], "'cli_models' names no model: give module:factory, a config.json or its folder"),
        (["explain", "cli_models:none"], "cli_models has no 'none'"),
        (["explain", "no_such_module:none"], "No module named 'no_such_module'; modules are looked for in"),
        (["explain", "cli_models:module"], "cli_models:module must be a function; it must return (model, args"),
        (["explain", "cli_models:alone"], "cli_models:alone returned Tiny; it must return"),
        (["explain", "none.json"], "none.json is no configuration of a model of diffusers"),
        (["explain", "cli_models:tiny", "--dtype", "int8"], "dtype 'int8' is none that layers compute in: float32,"),
        (["explain", "cli_models:tiny", "--dtype", "float8_e4m3fn"], "dtype 'float8_e4m3fn' is none that layers"),
        (["explain", "cli_models:tiny", "--device", "gpu"], "device 'gpu': "),
        (["explain", "cli_models:tiny", "-o", "cycle"], "-o cycle: give NAME=VALUE"),
        (["explain", "cli_models:tiny", "-o", "cycel=4"], "unknown option 'cycel' (did you mean 'cycle'?)"),
        (["explain", "cli_models:tiny", "--steps", "0"], "steps must be a whole number of at least 1"),
        (["explain", "cli_models:tiny", "--html", "/no/folder/x.html"], "cannot be written: there is no folder"),
        (["explain", "cli_models:tiny", "--html", "."], ". cannot be written: it is a folder"),
        (
            ["explain", "FluxTransformer2DModel", "--layers", "0"],
            "--layers must be a whole number of at least 1, not 0",
        ),
        (["bench", "cli_models:tiny", "--steps", "0"], "steps must be a whole number of at least 1"),
        (["zoo", "cli_models:tiny", "--steps", "0"], "steps must be a whole number of at least 1"),
        (["tune", "cli_models:number", "cli_models:generate"], "cli_models:number must be a function"),
        (["tune", "cli_models:module", "cli_models"], "'cli_models' names nothing: give module:name"),
        (["tune", "cli_models:module", "cli_models:generate", "--quality", "30"], "choose what is saved: give --save"),
        (["tune", "config.json", "cli_models:generate"], "config.json names no trained weights"),
        (["tune", "DiTTransformer2DModel", "cli_models:generate"], "names no trained weights, which a schedule"),
        (["tune", "cli_models:module", "cli_models:generate", "--speedups", "1"], "must be numbers above 1"),
        (["zoo", "UNet2DConditionModel"], "inputs are known for: AuraFlowTransformer2DModel, Chroma"),
    ],
)
def test_what_cannot_be_used_is_said(arguments: list[str], message: str, duca: Command) -> None:
    assert message in duca.refused(*arguments)


@pytest.mark.parametrize("file", ["--save", "--draw"])
def test_tune_looks_at_its_files_before_it_generates(file: str, duca: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "tune", None)
    given = ("tune", "cli_models:module", "cli_models:generate", file, "/no/folder/x")
    assert "/no/folder/x cannot be written: there is no folder /no/folder" in duca.refused(*given)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install matplotlib" in duca.refused(*given[:3], "--draw", "curve.png")


@pytest.mark.parametrize("command", ["explain", "bench", "zoo"])
@pytest.mark.parametrize(
    ("name", "message"), [("raises", "LookupError: no weights"), ("raises_when_called", "RuntimeError: ")]
)
def test_what_a_model_raises_is_one_line(command: str, name: str, message: str, duca: Command) -> None:
    (line,) = duca.refused(command, f"cli_models:{name}").splitlines()
    assert line.startswith(f"duca: {message}")
    assert line.endswith(" (DUCA_TRACEBACK=1 shows where)")


def test_what_ends_the_process_is_told_from_an_answer(duca: Command) -> None:
    assert duca.refused("explain", "cli_models:exits").startswith("duca: SystemExit: no weights (")
    assert duca.refused("explain", "cli_models:is_interrupted", code=130) == "duca: interrupted\n"


@pytest.mark.parametrize(
    "given",
    [
        ("explain", "cli_models:prints"),
        ("bench", "cli_models:prints", "--steps", "9", *EAGER),
        ("zoo", "cli_models:prints"),
        ("tune", "cli_models:module", "cli_models:generate_and_print", "--speedups", "3", *EAGER),
    ],
)
def test_json_stands_alone_whatever_the_users_code_prints(
    given: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*given, "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)
    assert "ing\n" in told.err, "what was printed is not lost"


def test_text_goes_to_any_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file on Windows is of one that knows neither lines of boxes nor all names."""
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", file)
    assert main(["explain", "cli_models:named_in_another_language"]) == 0
    file.seek(0)
    assert re.search(r"^latents +\\u6f5c\\u5728$", file.read(), re.MULTILINE)


@pytest.mark.parametrize("name", ["tiny", "plain"])
def test_text_is_ascii(name: str, duca: Command) -> None:
    assert duca("zoo", f"cli_models:{name}", code=int(name == "plain")).isascii()
    assert duca("explain", f"cli_models:{name}", code=int(name == "plain")).isascii()


def test_bench_wants_numbers(duca: Command) -> None:
    told = "bench needs numbers, and some weights or inputs are on the meta device, which holds none"
    assert told in duca.refused("bench", "cli_models:without_numbers")
    assert told in duca.refused("bench", "cli_models:tiny", "--device", "meta")


def test_the_frames_of_an_error_can_be_asked_for(duca: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUCA_TRACEBACK", "1")
    told = duca.refused("explain", "cli_models:raises")
    assert 'cli_models.py", line' in told
    assert told.endswith("\nduca: LookupError: no weights (see above)\n")


def test_options_are_read_as_python_or_as_texts(duca: Command) -> None:
    given = ("-o", "method=taylorseer", "-o", "schedule=[0, 4]", "-o", "cache_dtype=bf16", "-o", "cache_budget=1GB")
    found = duca.json("explain", "cli_models:dit", "--steps", "12", *given)
    assert found["sequence"] == [*["full", *["forecast"] * 3] * 3]


def test_bench(duca: Command) -> None:
    text = duca("bench", "cli_models:tiny", "--steps", "9", *EAGER)
    assert "x as fast over 9 steps that a session counts, with " in text
    assert re.search(r"\ncaches of up to [\d.]+ B; compiled in ", text)
    assert fits(text)
    found = duca.json("bench", "cli_models:dit", "--steps", "12", *EAGER)
    taken = {name: recipe["steps"] for name, recipe in found["recipes"].items()}
    assert taken == {name: Options().sequence(12).count(name) for name in ("full", "forecast")}
    shares = sum(recipe["steps"] * recipe["share_of_plain"] for recipe in found["recipes"].values())
    assert found["speedup"] == pytest.approx(12 / shares)
    assert found["flops_speedup"] > 2
    assert found["cache_bytes"] > 0


@pytest.mark.parametrize(
    ("steps", "options", "said"),
    [
        (8, (), "Not accelerated: every step is the model's own. Generations of so few steps are computed wholly."),
        (20, ("-o", "preset=fast"), "Steps that are more than 22% of the way from the last full one are computed, too"),
        (50, (), ""),
    ],
)
def test_bench_says_where_explain_says_something_else(
    steps: int, options: tuple[str, ...], said: str, duca: Command
) -> None:
    """A session counts what is timed, and the steps of few more are cached so."""
    given = ("cli_models:tiny", "--steps", str(steps), *EAGER, *options)
    found, without = duca.json("bench", *given), duca.json("explain", *given, code=int(steps == 8))
    assert found["without_session"].startswith(said)
    assert (found["without_session"] == "") == (not said)
    assert all(each in found["without_session"] for each in without["advice"])
    assert ("Without a session: " in duca("bench", *given)) == bool(said)


@pytest.mark.filterwarnings("ignore::duca_compile.DucaWarning")
def test_bench_of_what_is_not_accelerated(duca: Command) -> None:
    found = duca.json("bench", "cli_models:plain", "--steps", "3", *EAGER, code=1)
    assert list(found["recipes"]) == ["full"]
    assert found["flops_speedup"] is None


def test_tune(duca: Command, tmp_path: Path) -> None:
    saved, curve = tmp_path / "tuned.json", tmp_path / "curve.png"
    files = ("--save", str(saved), "--draw", str(curve))
    given = ("tune", "cli_models:module", "cli_models:generate", "--speedups", "3", *EAGER)
    found = duca.json(*given, *files)
    assert found["steps"] == 25
    (best,) = [trial for trial in found["trials"] if trial["best"]]
    assert list(vars(Options.parse({"tuned": saved}).method)["schedule"]) == best["schedule"]
    assert curve.stat().st_size > 10_000


def test_tune_says_where_nothing_is_as_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["tune", "cli_models:module", "cli_models:generate", "--speedups", "3", *EAGER]
    assert main([*given, "--save", str(tmp_path / "tuned.json"), "--quality", "999"]) == 0
    told = capsys.readouterr()
    assert "no trial is as good as 999: the best one is saved, of " in told.err
    assert "100%" in told.err, "of the bar"
    assert told.out.lstrip().startswith("25 steps; "), "the table alone"


@pytest.mark.filterwarnings("ignore::duca_compile.DucaWarning")
def test_tune_of_nothing(duca: Command) -> None:
    told = duca.refused("tune", "cli_models:plain", "cli_models:generate_nothing", *EAGER, code=1)
    assert "nothing to tune" in told


def test_a_configuration_of_diffusers(duca: Command, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "DiTTransformer2DModel", "sample_size": 16}))
    (found,) = duca.json("zoo", str(tmp_path / "config.json"), "--layers", "1")
    assert (found["outcome"], found["model"]) == ("wholly", "DiTTransformer2DModel")
    given = ("explain", str(tmp_path), "--layers", "2", "--side", "16", "--batch", "3")
    (graph,) = duca.json(*given)["graphs"]
    assert [stream["shape"] for stream in graph["streams"]] == [[3, 64, 1152]]
    assert [block["last"] for block in graph["blocks"]] == [1]
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    assert "no inputs are known for AutoencoderKL, but for AuraFlow" in duca.refused(*given)


@pytest.mark.parametrize("given", [".", "model_index.json", "transformer"])
def test_a_pipeline_of_diffusers_has_a_transformer(given: str, duca: Command, tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    config = {"_class_name": "DiTTransformer2DModel", "num_layers": 1}
    (tmp_path / "transformer" / "config.json").write_text(json.dumps(config))
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "DiTPipeline"}))
    assert duca.json("explain", str(tmp_path / given), "--side", "8")["model"] == "DiTTransformer2DModel"


def test_a_type_is_cast_to_as_the_loader_of_diffusers_does(
    duca: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of Wan, norms and the embedding of the timestep stay in float32."""
    small = {"num_attention_heads": 2, "attention_head_dim": 12, "ffn_dim": 2048, "num_layers": 1, "text_dim": 8}
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "WanTransformer3DModel", **small}))
    sizes = (str(tmp_path), "--side", "4", "--frames", "1", "--text", "8", "--dtype", "bf16")
    found = load(parser().parse_args(["explain", *sizes]), without_weights=True)
    types = {name.split(".")[-2]: held.dtype for name, held in found.model.named_parameters() if "." in name}
    assert (types["to_q"], types["norm2"]) == (torch.bfloat16, torch.float32)
    assert found.kwargs["hidden_states"].dtype is torch.bfloat16
    assert not caplog.records, "diffusers warns of a cast"
    assert duca.json("bench", *sizes, "--steps", "1", *EAGER, code=1)["dtype"] == "bfloat16"


def test_a_class_of_diffusers(duca: Command) -> None:
    found = duca.json("explain", "DiTTransformer2DModel", "--layers", "2", "--side", "16")
    assert (found["outcome"], found["model"]) == ("wholly", "DiTTransformer2DModel")


def test_blocks_of_several_sorts_keep_their_proportion() -> None:
    model, _ = build("FluxTransformer2DModel", {}, {"layers": 2}, torch.device("meta"))
    config: Any = model.config
    assert (config["num_layers"], config["num_single_layers"], config["guidance_embeds"]) == (2, 4, True)


def test_the_zoo(duca: Command) -> None:
    text = duca("zoo", "SD3Transformer2DModel", "cli_models:tiny", "--layers", "1")
    assert [line.split()[:2] for line in text.splitlines()[2:]] == [
        ["SD3Transformer2DModel", "wholly"],
        ["cli_models:tiny", "wholly"],
    ]
    assert fits(text)
    text = duca("zoo", "cli_models:plain", code=1)
    assert "\ncli_models:plain: no residual branch" in text
    (found,) = duca.json("zoo", "cli_models:training")
    assert found["outcome"] == "wholly", "dropout is off"
    (found,) = duca.json("zoo", "cli_models:tiny")
    assert (found["name"], found["outcome"]) == ("cli_models:tiny", "wholly")


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_class_that_is_known_gets_its_inputs(name: str, duca: Command) -> None:
    (found,) = duca.json("zoo", name, "--layers", "2")
    assert (found["outcome"], len(found["graphs"])) == ("wholly", 1)


def test_without_diffusers_it_is_asked_for(duca: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install diffusers" in duca.refused("zoo")


def test_the_doctor(duca: Command) -> None:
    text = duca("doctor")
    assert text.endswith("The backend works here.\n")
    assert torch.__version__ in text
    assert fits(text)


def test_the_doctor_finds_what_is_broken(duca: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(function: Any) -> Any:
        raise RuntimeError("no such compiler\nand more")

    monkeypatch.setattr(torch, "compile", fails)
    monkeypatch.setattr(torch_private, "cpp_compiler", lambda: None)
    monkeypatch.setattr(torch.compiler, "list_backends", lambda exclude_tags: ["inductor"])
    found = duca.json("doctor", code=1)
    broken = {check["name"]: check for check in found["checks"] if check["state"] == "broken"}
    assert list(broken) == ["backend", "C++", "Inductor"]
    assert broken["Inductor"]["found"] == "RuntimeError: no such compiler"
    assert all(check["advice"] for check in broken.values())
    assert not found["works"]


def test_the_doctor_asks_for_triton_on_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (triton,) = [check for check in CHECKS if "triton" in check.__name__]
    assert triton().state == "absent"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert triton().state == "broken"


def test_the_doctor_advises_where_something_is_of_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(torch_private, "has_onednn", lambda: False)
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: False)
    found = {check.__name__: check for check in CHECKS}
    assert "built with it" in found["_onednn"]().advice
    assert not found["_flash"]().advice
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert "pip install flash-attn" in found["_flash"]().advice


def test_tables_are_as_wide_as_the_terminal(duca: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    given: Any = {"force_terminal": True, "width": 200}
    monkeypatch.setattr(text, "Console", lambda **own: Console(**(own or given)))
    monkeypatch.setattr(doctor, "CHECKS", (lambda: Check("X", "broken", "not there" * 15, "pip install x"),))
    assert max(map(len, duca("doctor", code=1).splitlines())) > 130


def test_what_the_doctor_advises_is_shown(duca: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", (lambda: Check("X", "broken", "not there", "pip install x"),))
    assert "!! X  not there\n      -> pip install x\n" in duca("doctor", code=1)


PAGE = Path(__file__).parents[1] / "docs" / "command_line.md"


def test_the_model_that_the_page_shows(duca: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "models_of_the_page.py").write_text(block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert duca.json("explain", "models_of_the_page:dit")["graphs"][0]["blocks"][0]["last"] == 3


def test_the_commands_that_the_page_shows() -> None:
    (block,) = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    shown = [parser().parse_args(line.split()[1:]).command for line in block.splitlines()]
    assert set(shown) == set(COMMANDS)


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS), ["--version"]])
def test_help_fits(arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert fits(text)
    assert arguments != ["--version"] or duca_compile.__version__ in text
