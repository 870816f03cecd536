"""The mapper for `torch.export` and ONNX, alone and as it is held to the mapper of training."""

import io

import onnxruntime
import pytest
import torch

from l2gnet.errors import ConfigError
from l2gnet.method.mapper import L2GMapper

pytestmark = [
    pytest.mark.usefixtures("as_a_user"),  # shape checks would be traced into the graph, as its side effects
    pytest.mark.filterwarnings("ignore:`torch.jit.*deprecated", "ignore:.*LeafSpec.*deprecated"),  # torch's own
]
RELATIONS = [("symmetric", False), ("send-receive", False), ("send-receive", True)]


@pytest.fixture
def in_graph(monkeypatch):
    """A mapper's answer as a graph has it, without an export."""

    def call(mapper, *given):
        with monkeypatch.context() as patch, torch.no_grad():
            patch.setattr("l2gnet.method.mapper.exporting", lambda: True)
            return mapper(*given)

    return call


class Tokens(torch.nn.Module):
    """What most layers are: a tensor in, a tensor out."""

    def __init__(self, mapper, shape=None):
        super().__init__()
        self.mapper, self.shape = mapper, shape

    def forward(self, tokens):
        return self.mapper(tokens, None, self.shape).tokens


@pytest.mark.parametrize("cost", ["cosine", "euclidean", "dot"])
@pytest.mark.parametrize(("readout", "heads", "epsilon"), [("barycentric", 2, 0.01), ("grid", 1, 0.1)])
def test_a_graph_relates_as_the_mapper_does(in_graph, cost, readout, heads, epsilon):
    torch.manual_seed(0)
    codes, indices = torch.randn(12, 8), torch.randint(0, 12, (3, 10))
    references = 10 if readout == "grid" else 7
    mapper = L2GMapper(8, references, heads=heads, epsilon=epsilon, cost=cost, readout=readout, tolerance=1e-5)
    tokens = codes[indices]
    with torch.no_grad():
        expected, got = mapper(tokens, indices), in_graph(mapper, tokens, indices)
    assert torch.allclose(got.tokens, expected.tokens, atol=2e-4)
    assert torch.allclose(got.slots, expected.slots, atol=2e-4)
    assert bool(got.transport.converged.all())
    assert torch.allclose(got.transport.plan.sum(1), torch.full((3 * heads, references), 1 / references), atol=1e-5)
    assert torch.allclose(got.transport.plan.sum(2), torch.full((3 * heads, 10), 0.1), atol=1e-5)
    assert torch.allclose(got.transport.cost, expected.transport.cost, atol=1e-4)
    f, g, plan = got.transport.source_potential, got.transport.target_potential, got.transport.plan
    paid = (plan * (f[:, :, None] + g[:, None]) - epsilon * torch.xlogy(plan, plan)).sum((1, 2))
    assert torch.allclose(paid, got.transport.cost, atol=1e-5)  # the cost that plan and potentials imply


@pytest.mark.parametrize(("relation", "positions"), RELATIONS)
def test_an_image_is_related_alike_in_any_batch(in_graph, relation, positions):
    torch.manual_seed(0)
    tokens = torch.randn(4, 10, 8)
    mapper = L2GMapper(8, 7, relation=relation, positions=positions)
    together, alone = (in_graph(mapper, some, None, (2, 5)).tokens for some in (tokens, tokens[1:2]))
    assert torch.allclose(together[1:2], alone, atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(together, mapper(tokens, None, (2, 5)).tokens, atol=1e-3)


@pytest.mark.parametrize("tokens_receive", [False, True])
def test_a_mapper_alone_is_exported_with_all_that_it_gives(tokens_receive):
    torch.manual_seed(0)
    mapper, tokens = L2GMapper(8, 7, relation="send-receive"), torch.randn(2, 10, 8)
    others = (None, None, torch.randn(2, 10, 8)) if tokens_receive else ()
    given = torch.export.export(mapper, (tokens, *others)).module()(2 * tokens, *others)
    expected = mapper(2 * tokens, *others)
    assert torch.allclose(given.tokens, expected.tokens, atol=1e-3)
    assert torch.allclose(given.receiving.plan, expected.receiving.plan, atol=1e-4)
    assert (given.transport.epsilon, given.receiving.epsilon) == (0.02, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("relation", "positions"), RELATIONS[::2])
def test_a_mapper_alone_is_written_for_any_batch(tmp_path, relation, positions):
    torch.manual_seed(0)
    layer = Tokens(L2GMapper(8, 7, relation=relation, positions=positions), (2, 5)).eval().requires_grad_(False)
    tokens, any_batch = torch.randn(2, 10, 8), {"tokens": {0: torch.export.Dim("batch")}}
    file = io.BytesIO()
    torch.export.save(torch.export.export(layer, (tokens,), dynamic_shapes=any_batch), file)
    file.seek(0)
    torch.onnx.export(layer, (tokens,), tmp_path / "m.onnx", dynamo=True, dynamic_shapes=any_batch, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    more = torch.randn(5, 10, 8)
    expected = layer(more)
    assert torch.allclose(torch.export.load(file).module()(more), expected, atol=1e-3)
    (found,) = session.run(None, {"tokens": more.numpy()})
    assert torch.allclose(torch.from_numpy(found), expected, atol=1e-3)


def test_what_a_graph_cannot_hold_is_refused():
    tokens = torch.randn(2, 10, 8)
    with pytest.raises(ConfigError, match=r"epsilon of at least 0.005, got 0.001"):
        torch.export.export(L2GMapper(8, 7, epsilon=0.001), (tokens,))
    with pytest.raises(ValueError, match=r"exported by torch.export or torch.onnx.export\(dynamo=True\)"):
        torch.jit.trace(Tokens(L2GMapper(8, 7)), tokens)
    with pytest.raises(ValueError, match=r"exported by torch.export or .*, got torch.jit.script"):
        torch.jit.script(Tokens(L2GMapper(8, 7)))
