"""Fails clearly when torch changes a private API that we lean on."""

import contextlib
import inspect
import random
from pathlib import Path
from typing import Any

import pytest
import sympy
import torch
from torch import Tensor, nn
from torch._dynamo.exc import TensorifyScalarRestartAnalysis
from torch._dynamo.utils import counters
from torch._guards import TracingContext
from torch._inductor import compile_fx, cudagraph_trees
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from duca_compile import torch_private
from duca_compile.graph import ir
from duca_compile.releases import RELEASE
from helpers import Wrapped, seen_by_backend


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("shift", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x) + self.shift
        y += 1
        return torch.nn.functional.scaled_dot_product_attention(y, y, y)


def test_a_backend_may_end_its_own_compilation() -> None:
    """Of the attempt Dynamo keeps nothing that would count as a compilation; any other failure passes."""

    def fail(gm: Any, inputs: Any) -> Any:
        raise LookupError

    fails = torch.compile(Small().eval(), backend=fail)
    with torch_private.backend_may_raise(LookupError):
        fails(torch.randn(2, 3, 4))
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed), torch_private.backend_may_raise(OSError):
        fails(torch.randn(2, 3, 4))
    with torch._dynamo.config.patch(recompile_limit=1, fail_on_recompile_limit_hit=True):
        seen_by_backend(Small().eval(), torch.randn(2, 3, 4))


def test_an_error_of_the_model_is_told_without_dynamo(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(torch._dynamo.exc.TorchDynamoException) as caught, torch_private.frames_unprinted():
        seen_by_backend(Small().eval(), torch.randn(2, 3, 5))
    found = torch_private.without_dynamo(caught.value)
    assert type(found) is RuntimeError
    assert "5" in str(found).splitlines()[0]
    assert "Traceback" not in capfd.readouterr().err
    own = ValueError("mine")
    own.__cause__ = KeyError("deeper")
    assert torch_private.without_dynamo(own) is own


def test_a_function_may_be_captured_any_number_of_times() -> None:
    with torch._dynamo.config.patch(recompile_limit=1), torch_private.capturing():
        for size in (2, 3, 4):
            seen_by_backend(Small().eval(), torch.randn(size, 3, 4))


def test_export_is_functional_pre_dispatch_aten() -> None:
    gm, inputs = seen_by_backend(Small().eval(), torch.randn(2, 3, 4))
    exported, lifted, mutates = torch_private.export_functional(gm, inputs)
    packets = [str(ir.packet(node)) for node in exported.graph.nodes if node.op == "call_function"]
    assert "aten.linear" in packets
    assert "aten.scaled_dot_product_attention" in packets
    assert not any(packet.endswith("_") for packet in packets)
    assert (lifted, mutates) == ([], False)


def test_parameters_and_buffers_are_told_from_arguments() -> None:
    state: list[bool] = []

    def collect(gm: Any, inputs: Any) -> Any:
        state.extend(torch_private.is_module_state(node) for node in ir.placeholders(gm.graph))
        return gm.forward

    torch.compile(Small().eval(), backend=collect)(torch.randn(2, 3, 4))
    assert sorted(state) == [False, True, True, True]


def test_numbers_that_python_draws_are_told_from_arguments() -> None:
    drawn: list[bool] = []

    def collect(gm: Any, inputs: Any) -> Any:
        drawn.extend(torch_private.is_random(node) for node in ir.placeholders(gm.graph))
        return gm.forward

    torch.compile(lambda x: x + random.uniform(1, 2), backend=collect)(torch.randn(3))
    assert sorted(drawn) == [False, True]


def test_the_module_around_a_compiled_one_is_known() -> None:
    found: list[Any] = []

    def collect(gm: Any, inputs: Any) -> Any:
        found.append(torch_private.enclosing_module())
        return gm.forward

    outer = nn.Sequential(nn.Identity(), Small().eval())
    outer[1].compile(backend=collect)
    outer(torch.randn(2, 3, 4))
    assert found == [outer]
    torch._dynamo.reset()
    torch.compile(Small().eval(), backend=collect)(torch.randn(2, 3, 4))
    assert found == [outer, None]
    assert torch_private.enclosing_module() is None


def test_classes_of_tensors_with_functions_of_their_own_are_known() -> None:
    class Own(Tensor):
        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return super().__torch_function__(func, types, args, kwargs or {})

    kinds = (Own, Tensor, nn.Parameter, nn.Buffer, torch._subclasses.FakeTensor, int, None)
    assert [torch_private.overrides_functions(kind) for kind in kinds] == [True] + [False] * 6


def test_questions_that_only_the_data_answers_are_told_from_faults() -> None:
    with pytest.raises(Exception, match="data-dependent") as caught:
        bool(ShapeEnv().create_unbacked_symint() == 5)
    outer = RuntimeError()
    outer.__cause__ = caught.value
    assert torch_private.is_data_dependent_error(outer)
    assert not torch_private.is_data_dependent_error(RuntimeError())


def test_a_size_without_symbols_is_a_number() -> None:
    tokens = sympy.Symbol("tokens", integer=True)
    assert type(torch_private.whole(tokens * 8 / (2 * tokens))) is int
    assert type(torch_private.floor_divide(sympy.Integer(7), 2)) is int
    assert torch_private.whole(tokens) is tokens


def test_aten_calls_know_their_tags_and_schema() -> None:
    add = torch.ops.aten.add.Tensor
    assert isinstance(add, torch_private.OpOverload)
    assert torch.Tag.pointwise in add.tags
    assert torch.Tag.nondeterministic_seeded in torch.ops.aten.bernoulli.default.tags
    assert torch.ops.aten.relu_.default._schema.is_mutable
    assert torch.ops.aten.view.default._schema.returns[0].alias_info is not None


def test_inner_compilers_are_found() -> None:
    assert callable(torch_private.inner_compiler("inductor", {}))
    assert callable(torch_private.inner_compiler("aot_eager", {}))
    assert torch_private.inner_compiler(len, {}) is len


def test_inductors_modes_and_options_are_known() -> None:
    modes, options = torch_private.inductor_modes(), torch_private.inductor_options()
    assert {"default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"} <= modes.keys()
    assert all(changes.keys() <= options.keys() for changes in modes.values())
    assert (options["max_autotune"], options["fx_graph_remote_cache"]) == (bool, None)
    assert modes["reduce-overhead"] == {torch_private.CUDA_GRAPHS: True}


def test_cuda_graphs_are_recorded_over_cuda_tensors_alone() -> None:
    with FakeTensorMode():
        host, device = torch.empty(2), torch.empty(2, device="cuda")
    wanted = torch_private.inductor_modes()["reduce-overhead"]
    assert torch_private.records_cuda_graphs(wanted, [host, device])
    assert not torch_private.records_cuda_graphs(wanted, [host, 3])
    assert not torch_private.records_cuda_graphs({}, [device])
    with torch._inductor.config.patch({torch_private.CUDA_GRAPHS: True}):
        assert torch_private.records_cuda_graphs({}, [device])
        assert not torch_private.records_cuda_graphs({torch_private.CUDA_GRAPHS: False}, [device])


def test_functions_that_run_as_cuda_graphs_are_counted() -> None:
    """None do without a device; the manager's dictionary of them is read from its source."""
    assert torch_private.cuda_graphed_functions() == 0 or torch.cuda.is_available()
    assert "self.ids_to_funcs" in inspect.getsource(cudagraph_trees.CUDAGraphTreeManager.__init__)
    assert "self.ids_to_funcs[" in inspect.getsource(cudagraph_trees.CUDAGraphTreeManager.add_function)
    assert "create_if_none_exists" in inspect.signature(cudagraph_trees.get_manager).parameters
    with torch._inductor.config.patch({"triton.cudagraph_trees": False}):
        assert torch_private.cuda_graphed_functions() is None


def test_a_graph_compiled_after_capture_is_cached_at_its_own_sizes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Inductor's function and AOTAutograd's, as both count them; without a tracing context they would keep none."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    x = torch.randn(4, 6)
    sizes: list[Any] = []
    found: list[dict[str, int]] = []
    for _ in range(2):
        counters.clear()
        gm, _ = seen_by_backend(lambda x: x.sin() + x.shape[0], x)
        gm.recompile()
        run = torch_private.inner_compiler("inductor", {})(gm, [x])
        assert torch.allclose(run(x)[0], x.sin() + 4)
        found.append({**counters["inductor"], **counters["aot_autograd"]})
        torch._dynamo.reset()
    assert (found[0]["fxgraph_cache_miss"], found[0]["autograd_cache_miss"]) == (1, 1)
    assert (found[1]["fxgraph_cache_hit"], found[1]["autograd_cache_hit"]) == (1, 1)
    assert not any("bypass" in name for name in {**found[0], **found[1]})

    def look(gm: Any, inputs: Any, config_patches: Any) -> Any:
        fakes = TracingContext.get().fake_mode
        assert fakes is not None
        sizes.extend(fakes.from_tensor(given, static_shapes=False).shape for given in inputs)
        assert fakes.shape_env is not None
        return gm.forward

    monkeypatch.setattr(torch._dynamo, "lookup_backend", lambda name: look)
    torch_private.inner_compiler("inductor", {})(gm, [x, torch.nn.Parameter(x)])
    assert [[type(size) for size in each] for each in sizes] == [[int, int]] * 2
    assert TracingContext.try_get() is None


def test_inputs_that_stay_are_declared_to_inductor(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it neither looks at their addresses at every call nor copies them for a CUDA graph."""
    x, weight = torch.randn(4, 6), torch.randn(6, 6)
    gm, _ = seen_by_backend(lambda x, y, z: (x @ y + z.sum()).sin(), x, weight, weight.clone())
    names = [node.name for node in ir.placeholders(gm.graph)]
    torch_private.declare_static(gm.graph, names[1:2])
    declared: list[Any] = []
    known = compile_fx.get_static_input_idxs

    def look(fixed: int) -> list[int]:
        declared.append(known(fixed))
        return known(fixed)

    monkeypatch.setattr(compile_fx, "get_static_input_idxs", look)
    with torch._functorch.config.patch(enable_autograd_cache=False):
        run = torch_private.inner_compiler("inductor", {})(gm, [x, weight, weight.clone()])
    assert declared == [[1]]
    assert torch.allclose(run(x, weight, weight)[0], (x @ weight + weight.sum()).sin(), atol=1e-5)


def test_a_compiler_may_make_dynamo_capture_anew() -> None:
    seen: list[Any] = []

    def collect(gm: Any, inputs: Any) -> Any:
        seen.append(gm)
        if len(seen) == 1:
            raise TensorifyScalarRestartAnalysis
        return gm.forward

    assert issubclass(TensorifyScalarRestartAnalysis, torch_private.RestartAnalysis)
    torch.compile(torch.sin, backend=collect)(torch.ones(2))
    assert len(seen) == 2


def test_symbolic_sizes_become_expressions_and_nodes_again() -> None:
    def collect(gm: Any, inputs: Any) -> Any:
        exported, _, _ = torch_private.export_functional(gm, inputs)
        tensor = next(node for node in ir.placeholders(exported.graph) if ir.shape(node) is not None)
        tokens: Any = (ir.shape(tensor) or ())[0]
        assert (tokens * 6 // 6, torch_private.size_now(ir.value(tensor).shape[0])) == (tokens, 5)
        share = torch_private.floor_divide(tokens * 3, 4)
        assert torch_private.size(torch_private.symbolic_int(share, ir.value(tensor))) == share
        assert torch_private.guard_positive(share, ir.value(tensor))
        symbols = {ir.number(node): node for node in ir.placeholders(exported.graph) if ir.shape(node) is None}
        with exported.graph.inserting_before(ir.output_node(exported.graph)):
            node = torch_private.size_node(share, symbols)
        assert ir.number(node) == share
        seen.append(node)
        return gm.forward

    seen: list[Any] = []
    compiled = torch.compile(lambda x: x * 2, backend=collect, dynamic=True)
    compiled(torch.randn(5, 4))
    compiled(torch.randn(9, 4))
    assert len(seen) == 1, "asking about sizes must not make Dynamo compile anew"


def test_a_split_forward_is_told_from_a_whole_one() -> None:
    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            torch._dynamo.graph_break()
            return x.sin()

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x * 2).cos()

    found: list[tuple[bool, bool, str]] = []

    def collect(gm: Any, inputs: Any) -> Any:
        found.append((torch_private.is_whole(gm), torch_private.opens_call(), torch_private.break_reason(gm)))
        return gm.forward

    torch.compile(Outer(), backend=collect)(torch.randn(3))
    assert [(whole, opens) for whole, opens, _ in found] == [(False, True), (False, False), (False, False)]
    assert "graph_break" in found[0][2]
    found.clear()
    torch.compile(Small().eval(), backend=collect)(torch.randn(2, 3, 4))
    assert found == [(True, True, "return_value")]


def test_a_compiled_model_knows_its_options() -> None:
    options: dict[str, Any] = {"cycle": 3}
    model = Small().eval()
    assert torch_private.options_of(torch.compile(model, backend="duca", options=options), "duca") == options
    assert torch_private.options_of(torch.compile(torch.sin, backend="duca", options=options), "duca") == options
    assert torch_private.options_of(torch.compile(model, backend="duca"), "duca") == {}
    assert torch_private.options_of(torch.compile(model, backend="eager", options=options), "duca") is None
    assert torch_private.options_of(model, "duca") is None
    assert torch_private.uncompiled(torch.compile(model, backend="duca")) is model
    model.compile(backend="duca", options=options)
    assert torch_private.options_of(model, "duca") == options
    seen_by_backend(torch_private.uncompiled(model), torch.ones(2, 3, 4))  # compiled anew, not by its own backend


def test_a_graph_finds_the_call_that_it_runs_in() -> None:
    model, x = Small().eval(), torch.randn(2, 3, 4)
    calls: list[torch_private.RootCall | None] = []

    def collect(gm: Any, inputs: Any) -> Any:
        def run(*args: Any) -> Any:
            calls.append(torch_private.root_call())
            return gm.forward(*args)

        return run

    fast = torch.compile(model, backend=collect)
    fast(x)
    fast(x=x)
    first, second = calls
    assert first is not None
    assert second is not None
    assert first.owner is second.owner
    assert first.kwargs is not second.kwargs
    assert first.arguments()["x"] is second.arguments()["x"] is x
    assert torch_private.root_call() is None


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_to_be_done_at_the_end_of_a_call_is_done(fails: bool) -> None:
    done: list[bool] = []

    def collect(gm: Any, inputs: Any) -> Any:
        def run(*args: Any) -> Any:
            call = torch_private.root_call()
            assert call is not None
            call.cleanups.append(lambda: done.append(torch_private.root_call() is not None))
            if fails:
                raise LookupError
            return gm.forward(*args)

        return run

    with contextlib.suppress(LookupError):
        torch.compile(Small().eval(), backend=collect)(torch.randn(2, 3, 4))
    assert done == [True]


def test_a_dispatch_mode_that_leaves_compilation_alone() -> None:
    class Seeing(torch_private.TorchDispatchMode):
        seen = 0

        @classmethod
        def ignore_compile_internals(cls) -> bool:
            return True

        def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.seen += 1
            return op(*args, **(kwargs or {}))

    x = torch.randn(2, 3, 4)
    mode = Seeing()
    with mode:
        assert torch_private.current_dispatch_mode() is mode
        with torch_private.fake_tensors():
            assert not torch_private.is_wrapper(torch.ones(2) + 1)
        assert mode.seen == 0
        seen_by_backend(Small().eval(), x)
        assert mode.seen > 0
    assert torch_private.current_dispatch_mode() is None


def test_what_is_made_of_other_operations_is_known() -> None:
    assert torch_private.is_composite(torch.ops.aten.linear.default)
    assert not torch_private.is_composite(torch.ops.aten.mm.default)


def test_items_of_a_list_know_their_list() -> None:
    lists: list[str | None] = []

    def collect(gm: Any, inputs: Any) -> Any:
        lists.extend(torch_private.list_of(node) for node in ir.placeholders(gm.graph))
        return gm.forward

    torch.compile(lambda x, y: x[0] + x[1] + y, backend=collect)([torch.ones(2), torch.ones(2)], torch.ones(2))
    assert sorted(lists, key=str) == ["L['x']", "L['x']", None]


def test_autocast_and_vmap_are_seen_in_the_graph() -> None:
    def forward(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            y = x @ x
        return torch.vmap(torch.sin)(y.float())

    gm, _ = seen_by_backend(forward, torch.randn(4, 4))
    targets = {node.target for node in gm.graph.nodes}
    assert {torch_private.enter_autocast, torch_private.exit_autocast} <= targets
    (region,) = torch_private.vmaps(gm.graph)
    assert any(node.target is torch.sin for node in region)
    assert [node for node in region if not set(node.users) <= set(region)] == [gm.graph.output_node().args[0][0]]
    (product,) = [node for node in gm.graph.nodes if "matmul" in str(node.target)]
    assert torch_private.dynamo_value(product).dtype is torch.bfloat16


def test_tensors_as_weak_keys_are_told_by_identity() -> None:
    known: Any = torch_private.WeakIdKeyDictionary()
    first, second = torch.ones(3), torch.ones(3)
    known[first] = None
    assert first in known
    assert second not in known
    del first
    assert not len(known)


def test_a_failed_capture_leaves_no_transform_active() -> None:
    def fails(x: Tensor) -> Tensor:
        raise RuntimeError("inside")

    def forward(x: Tensor) -> Tensor:
        return torch.vmap(fails)(x)

    wrapped: Any = Wrapped(forward)
    depth = torch._C._functorch.get_dynamic_layer_stack_depth()
    with pytest.raises(RuntimeError, match="inside"):
        torch_private.export_functional(wrapped, [torch.randn(2, 3)])
    assert torch._C._functorch.get_dynamic_layer_stack_depth() == depth
    assert not torch_private.inside_transform()


def test_leaves_of_nested_values() -> None:
    assert torch_private.tree_leaves([1, (2, {"a": 3}), None]) == [1, 2, 3, None]


def test_trees_are_told_as_text() -> None:
    leaves, tree = torch_private.tree_flatten(((1, [2, None]), {"a": 3}))
    again = torch_private.treespec_loads(torch_private.treespec_dumps(tree))
    assert again == tree
    assert torch_private.tree_unflatten(leaves, again) == ((1, [2, None]), {"a": 3})
    kind = type("Own", (tuple,), {})
    torch.utils._pytree.register_pytree_node(kind, lambda own: (list(own), None), lambda own, _: kind(own))
    with pytest.raises(NotImplementedError, match="serializ"):
        torch_private.treespec_dumps(torch_private.tree_flatten(kind((1, 2)))[1])


@pytest.mark.skipif(RELEASE < (2, 13), reason="torch cannot tell")
def test_torch_tells_which_float8_numbers_triton_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    known = torch._inductor.utils.is_triton_fp8_dtype_supported
    assert known(torch.float8_e4m3fn, torch.device("cpu"))
    monkeypatch.setattr(torch._inductor.utils, "is_triton_fp8_dtype_supported", lambda dtype, device: False)
    assert not torch_private.triton_knows(torch.float8_e4m3fn, torch.device("cpu"))


@pytest.mark.slow
def test_a_package_writes_to_its_inputs(tmp_path: Path) -> None:
    graph = torch.fx.Graph()
    cache, index, rows = (graph.placeholder(name) for name in ("cache", "index", "rows"))
    fresh = graph.call_function(torch.ops.aten.index_copy_.default, (cache, 0, index, rows))
    graph.output((graph.call_function(torch.ops.aten.mul.Tensor, (fresh, 2)),))
    given = (torch.zeros(4, 2), torch.tensor([1, 3]), torch.ones(2, 2))
    gm = torch.fx.GraphModule(nn.Module(), graph)
    torch_private.package_ahead_of_time(gm, given, tmp_path / "one.pt2", {})
    (doubled,) = torch_private.load_package(tmp_path / "one.pt2")(*given)
    assert given[0].sum() == 4
    assert torch.equal(doubled, 2 * given[0])


def test_collectives_are_known_and_their_groups_told() -> None:
    from processes import alone_of_two, shared_dit
    from zoo.case import noise

    with alone_of_two():
        model = shared_dit()[1].eval()
        gm, inputs = seen_by_backend(model, noise(2, 1, 8, 8), torch.full((2,), 900.0), torch.tensor([1, 2]))
        exported, _, _ = torch_private.export_functional(gm, inputs)
        found = [node for node in exported.graph.nodes if torch_private.is_collective(node.target)]
        ends = [node for node in exported.graph.nodes if torch_private.is_wait(node.target)]
        assert [end.args[0] for end in ends] == found
        groups = [torch_private.group_of(node.target, node.args[2]) for node in found]
        assert [torch_private.ranks_of(group) for group in groups] == [[0, 1], [0, 1]]
        numbers = torch.tensor([1, -2])
        torch_private.reduce_largest(numbers, groups[0])
        assert numbers.tolist() == [1, -2]
        assert torch_private.group_of(found[0].target, None) is None


def test_a_tensor_spread_over_a_mesh_is_made_of_a_plain_one_and_the_mesh() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard

    from processes import alone_of_two

    with alone_of_two():
        mesh, part = init_device_mesh("cpu", (2,)), torch.ones(3, 4)
        spread: Any = DTensor.from_local(part, mesh, [Shard(0)])
        assert torch_private.is_mesh(mesh)
        assert torch_private.is_wrapper(spread)
        assert not torch_private.belongs_to_others(spread)
        (inner,) = torch_private.inner_tensors(spread)
        assert torch.equal(inner, part)
        wrapping = torch_private.Wrapping.of(spread)
        assert wrapping is not None
        again: Any = wrapping.around(iter([part + 1]))
        assert again.shape == (6, 4)
        assert torch.equal(again.to_local(), part + 1)
