import math

import pytest
import torch
from einops import rearrange

from l2gnet.method.cost import unit_cost
from l2gnet.method.mapper import L2GMapper
from l2gnet.method.rows import rows_of_codes

EXACT = {"tolerance": 1e-13, "max_iterations": 20_000}


def token_level(tokens, references, epsilon, cost, readout, iterations=4000):
    """The layer with no knowledge of codes: textbook Sinkhorn on every token, all of it unrolled by autograd.

    It ends where its potentials stand still.
    """
    B, N, _ = tokens.shape
    h, R, _ = references.shape
    e = rearrange(tokens, "B N (h d) -> h B N d", h=h)
    price = unit_cost(e, references, cost)
    f, g = tokens.new_zeros(h, B, N), tokens.new_zeros(h, B, R)
    log_a, log_c = -math.log(N), -math.log(R)
    for _ in range(iterations):
        before = f
        f = epsilon * (log_a - ((g[..., None, :] - price) / epsilon).logsumexp(-1))
        g = epsilon * (log_c - ((f[..., None] - price) / epsilon).logsumexp(-2))
        if (f - before).abs().max() < 1e-15:
            break
    plan = ((f[..., None] + g[..., None, :] - price) / epsilon).exp()
    aligned = R * plan.transpose(-1, -2) @ e
    related = aligned if readout == "grid" else N * plan @ aligned
    return rearrange(related, "h B N d -> B N (h d)"), rearrange(plan, "h B N R -> (B h) N R")


def quantised(B=3, N=14, d=8, K=6, seed=0, dtype=torch.float64):
    """Tokens as a quantiser gives them: each its code, with a gradient of its own."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randn(K, d, generator=generator, dtype=dtype)
    indices = torch.randint(0, K, (B, N), generator=generator)
    indices[0, :] = 2  # an image with a single code
    return codes[indices].requires_grad_(), indices


def mapper_of(d=8, references=5, dtype=torch.float64, relation="symmetric", **settings):
    torch.manual_seed(1)
    return L2GMapper(d, references, relation=relation, **settings).to(dtype)


def gradients(outputs, inputs, seed=3):
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.dtype) for x in outputs]
    loss = sum((weight * x.sin()).sum() for weight, x in zip(weights, outputs, strict=True))
    return torch.autograd.grad(loss, inputs)


def close(mine, reference, relative):
    assert (mine - reference).norm() <= relative * reference.norm().clamp_min(1e-12), (
        (mine - reference).norm() / reference.norm()
    ).item()


@pytest.mark.parametrize("K", [6, 40, None], ids=["few codes", "many codes", "no codes"])
@pytest.mark.parametrize("epsilon", [0.05, 0.2, 1.0])
@pytest.mark.parametrize(
    ("cost", "readout", "heads"),
    [
        ("cosine", "barycentric", 1),
        ("cosine", "barycentric", 2),
        ("cosine", "grid", 1),
        ("euclidean", "barycentric", 1),
        ("euclidean", "grid", 2),
        ("dot", "barycentric", 2),
        ("dot", "grid", 1),
    ],
)
def test_values_and_gradients_are_those_of_the_token_level_layer(cost, readout, heads, epsilon, K):
    tokens, indices = quantised(K=K or 6)
    settings = {"epsilon": epsilon, "cost": cost, "readout": readout, "heads": heads}
    mapper = mapper_of(references=14 if readout == "grid" else 5, **settings, **EXACT)
    mapped = mapper(tokens, indices if K else None)
    expected, _ = token_level(tokens, mapper.references, epsilon, cost, readout)
    close(mapped.tokens, expected, 1e-10)
    ours = gradients([mapped.tokens], [tokens, mapper.references])
    reference = gradients([expected], [tokens, mapper.references])
    close(ours[0], reference[0], 1e-6)
    close(ours[1], reference[1], 1e-6)


@pytest.mark.parametrize("K", [6, 40])
@pytest.mark.parametrize("readout", ["barycentric", "grid"])
def test_a_loss_on_the_plan_reaches_tokens_and_references(readout, K):
    tokens, indices = quantised(K=K)
    mapper = mapper_of(references=14, epsilon=0.1, readout=readout, **EXACT)
    mapped = mapper(tokens, indices)
    expected, plan = token_level(tokens, mapper.references, 0.1, "cosine", readout)
    rows = rows_of_codes(indices)
    by_row = torch.zeros_like(mapped.transport.plan).scatter_add(1, rows.row[..., None].expand_as(plan), plan)
    close(mapped.transport.plan, by_row, 1e-9)
    for with_tokens in (True, False):
        ours = [mapped.transport.plan] + [mapped.tokens] * with_tokens
        theirs = [by_row] + [expected] * with_tokens
        pairs = zip(
            gradients(ours, [tokens, mapper.references]), gradients(theirs, [tokens, mapper.references]), strict=True
        )
        for mine, reference in pairs:
            close(mine, reference, 1e-6)
        mapped = mapper(tokens, indices)
        expected, plan = token_level(tokens, mapper.references, 0.1, "cosine", readout)
        by_row = torch.zeros_like(by_row).detach().scatter_add(1, rows.row[..., None].expand_as(plan), plan)


@pytest.mark.parametrize("epsilon", [0.05, 0.1, 1.0])
def test_single_precision_gradients_are_right_to_a_thousandth(epsilon):
    tokens, indices = quantised(N=40, K=12)
    exact = mapper_of(epsilon=epsilon, **EXACT)
    reference = gradients([exact(tokens, indices).tokens], [tokens, exact.references])
    single = mapper_of(dtype=torch.float32, epsilon=epsilon)
    single.references.data = exact.references.data.float()
    x = tokens.detach().float().requires_grad_()
    for mine, wanted in zip(gradients([single(x, indices).tokens], [x, single.references]), reference, strict=True):
        close(mine.double(), wanted, 1e-3)


def test_shared_and_separate_kernels_give_the_same(monkeypatch):
    tokens, indices = quantised()
    mapper = mapper_of(**EXACT)
    results = []
    for limit in (4, 0):
        monkeypatch.setattr("l2gnet.method.plans._SHARED_ROWS", limit)
        mapped = mapper(tokens, indices)
        results.append([mapped.tokens, *gradients([mapped.tokens], [tokens, mapper.references])])
    for shared, separate in zip(*results, strict=True):
        torch.testing.assert_close(shared, separate)


def test_rows_name_each_code_of_an_image_once():
    rows = rows_of_codes(torch.tensor([[7, 2, 7, 7], [5, 5, 5, 5]]))
    assert rows.codes.tolist() == [[2, 7], [5, -1]]
    assert rows.counts.tolist() == [[1, 3], [4, 0]]
    assert rows.row.tolist() == [[1, 0, 1, 1], [0, 0, 0, 0]]
    assert torch.tensor([[7, 2, 7, 7], [5, 5, 5, 5]]).gather(1, rows.first)[0].tolist() == [2, 7]
    assert rows.codes.flatten()[rows.example].tolist() == [2, 5, 7]
    assert rows.place[0].tolist() == [0, 2]


def test_memory_does_not_grow_with_iterations():
    kept = []
    for epsilon in (1.0, 0.02):
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):  # noqa: B023
            tokens, indices = quantised()
            mapped = mapper_of(epsilon=epsilon)(tokens, indices)
        kept.append((mapped.transport.iterations.max().item(), sum(sizes)))
    assert kept[0][0] < kept[1][0]
    assert kept[0][1] == kept[1][1]


def test_the_layer_is_deterministic():
    results = []
    for _ in range(2):
        tokens, indices = quantised(dtype=torch.float32, N=200, K=30)
        mapper = mapper_of(dtype=torch.float32)
        mapped = mapper(tokens, indices)
        results.append([mapped.tokens, *gradients([mapped.tokens], [tokens, mapper.references])])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_tokens_are_solved_in_single(dtype):
    tokens, indices = quantised(dtype=torch.float32)
    mapper = mapper_of(dtype=torch.float32)
    half = tokens.detach().to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        mapped = mapper(half, indices)
        mapped.tokens.sum().backward()
    assert mapped.tokens.dtype == torch.float32
    assert half.grad.dtype == dtype
    assert half.grad.isfinite().all()
    torch.testing.assert_close(mapped.tokens, mapper(half.float(), indices).tokens)


def test_a_compiled_model_leaves_the_layer_as_it_is():
    graphs = []

    def keep(graph, _):
        graphs.append([node.name for node in graph.graph.nodes if node.op == "call_function"])
        return graph.forward

    tokens, indices = quantised(dtype=torch.float32)
    tokens = tokens.detach()
    mapper = mapper_of(dtype=torch.float32).requires_grad_(False)
    compiled = torch.compile(lambda x, i: 2 * mapper(x + 0, i).tokens, backend=keep)
    torch.testing.assert_close(compiled(tokens, indices), 2 * mapper(tokens, indices).tokens)
    assert graphs == [["add"], ["mul"]]  # before it, and after it
    with pytest.raises(torch._dynamo.exc.Unsupported, match="so call that without fullgraph=True"):
        torch.compile(lambda x, i: 3 * mapper(x, i).tokens, backend=keep, fullgraph=True)(tokens, indices)
