"""The mapper that sends and receives, against the layer that it stands for: every token by itself, all unrolled."""

import math

import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st

from l2gnet.method.cost import unit_cost
from l2gnet.method.mapper import L2GMapper
from l2gnet.method.places import WAVELENGTHS, in_own_frame, waves

EXACT = {"tolerance": 1e-13, "max_iterations": 20_000}


def unrolled(tokens, references, epsilon, cost, iterations=1000):
    """The plan of every token, by textbook Sinkhorn that autograd follows."""
    N, R = tokens.shape[2], references.shape[1]
    price = unit_cost(tokens, references, cost)
    g = tokens.new_zeros(*tokens.shape[:2], R)
    for _ in range(iterations):
        f = epsilon * (-math.log(N) - ((g[..., None, :] - price) / epsilon).logsumexp(-1))
        g = epsilon * (-math.log(R) - ((f[..., None] - price) / epsilon).logsumexp(-2))
    return ((f[..., None] + g[..., None, :] - price) / epsilon).exp()


def relation(mapper, tokens, receivers=None):
    """A (h, B, N, N): what each token takes of every other."""
    split, other = (
        rearrange(x, "B N (h d) -> h B N d", h=mapper.heads)
        for x in (tokens, tokens if receivers is None else receivers)
    )
    sets = mapper.references if mapper.relation == "send-receive" else mapper.references[None]
    plans = [
        unrolled(one, references, epsilon, mapper.setting.cost)
        for one, references, epsilon in zip((split, other), sets, mapper.setting.epsilons, strict=False)
    ]
    return tokens.shape[1] * sets.shape[2] * plans[-1] @ plans[0].transpose(-1, -2), plans


def heard(mapper, tokens, shape=None, receivers=None):
    """What the mapper must give, from its definition; positions as complex numbers e^(i f (p_j - p_i))."""
    A, plans = relation(mapper, tokens, receivers)
    split = rearrange(tokens, "B N (h d) -> h B N d", h=mapper.heads)
    given = A @ split
    if mapper.positions:
        y, x = (axis.flatten().double() for axis in torch.meshgrid(*map(torch.arange, shape), indexing="ij"))
        seen = []
        for axis in (y, x):
            for length in WAVELENGTHS:
                wave = torch.exp(2j * math.pi * (axis[None] - axis[:, None]) / length)  # of j as i sees it
                seen.append((A * wave).sum(-1))
        seen = torch.stack(seen, dim=-1)
        given = torch.cat([given, seen.real, seen.imag], dim=-1)
    return rearrange(given, "h B N d -> B N (h d)"), plans


def quantised(B=3, N=12, d=8, K=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randn(K, d, generator=generator, dtype=torch.float64)
    indices = torch.randint(0, K, (B, N), generator=generator)
    indices[0, :] = 2  # an image with a single code
    return codes[indices].requires_grad_(), indices


def mapper_of(seed=1, **options):
    torch.manual_seed(seed)
    return L2GMapper(8, 5, **{"relation": "send-receive"} | EXACT | options).double()


def gradients(outputs, inputs):
    generator = torch.Generator().manual_seed(3)
    weights = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in outputs]
    loss = sum((weight * x.sin()).sum() for weight, x in zip(weights, outputs, strict=True))
    return torch.autograd.grad(loss, inputs)


def close(mine, reference, relative):
    assert (mine - reference).norm() <= relative * reference.norm().clamp_min(1e-12)


@pytest.mark.parametrize("K", [4, 40, None], ids=["few codes", "many codes", "no codes"])
@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize(
    ("relation_", "heads", "cost"),
    [
        ("send-receive", 1, "cosine"),
        ("send-receive", 2, "cosine"),
        ("send-receive", 4, "euclidean"),
        ("send-receive", 2, "dot"),
        ("symmetric", 2, "cosine"),
    ],
)
def test_values_and_gradients_are_those_of_every_token_by_itself(relation_, heads, cost, positions, K):
    tokens, indices = quantised(K=K or 6)
    mapper = mapper_of(
        heads=heads, cost=cost, relation=relation_, positions=positions, epsilon=0.1, epsilon_receive=0.3
    )
    mapped = mapper(tokens, indices if K else None, (3, 4))
    expected, _ = heard(mapper, tokens, (3, 4))
    assert mapped.tokens.shape[2] == mapper.given
    close(mapped.tokens, expected, 1e-10)
    ours = gradients([mapped.tokens], [tokens, mapper.references])
    theirs = gradients([expected], [tokens, mapper.references])
    for mine, reference in zip(ours, theirs, strict=True):
        close(mine, reference, 1e-7)


@pytest.mark.parametrize("K", [4, 40])
def test_losses_on_both_plans_reach_tokens_and_references(K):
    tokens, indices = quantised(K=K)
    mapper = mapper_of(heads=2, epsilon=0.1, epsilon_receive=0.3)
    mapped = mapper(tokens, indices)
    expected, plans = heard(mapper, tokens)
    code_rows = [rearrange(plan, "h B N R -> (B h) N R") for plan in plans]
    row = torch.stack([torch.unique(image, return_inverse=True)[1] for image in indices]).repeat_interleave(2, 0)
    summed = [
        torch.zeros_like(mapped.transport.plan).scatter_add(1, row[..., None].expand_as(plan), plan)
        for plan in code_rows
    ]
    ours = gradients([mapped.tokens, mapped.transport.plan, mapped.receiving.plan], [tokens, mapper.references])
    theirs = gradients([expected, *summed], [tokens, mapper.references])
    for mine, reference in zip(ours, theirs, strict=True):
        close(mine, reference, 1e-7)


@pytest.mark.parametrize("K", [4, 40, None], ids=["few codes", "many codes", "no codes"])
@pytest.mark.parametrize(("positions", "cost"), [(False, "cosine"), (True, "cosine"), (False, "euclidean")])
def test_codes_send_and_others_receive_in_their_place(positions, cost, K):
    tokens, indices = quantised(K=K or 6)
    receivers = (tokens + 0.3 * torch.randn(tokens.shape, dtype=torch.float64)).detach().requires_grad_()
    mapper = mapper_of(heads=2, cost=cost, positions=positions, epsilon=0.1, epsilon_receive=0.3)
    mapped = mapper(tokens, indices if K else None, (3, 4), receivers)
    expected, plans = heard(mapper, tokens, (3, 4), receivers)
    sent, received = (rearrange(plan, "h B N R -> (B h) N R") for plan in plans)
    close(mapped.tokens, expected, 1e-10)
    close(mapped.receiving.plan, received, 1e-10)
    assert mapped.receiving.marginal_error.max() < 1e-12
    alone = mapper(tokens, indices if K else None, (3, 4)).transport
    close(mapped.transport.plan, alone.plan, 1e-10)
    assert torch.allclose(mapped.transport.source_potential, alone.source_potential, atol=1e-10)
    of = [tokens, receivers, mapper.references]
    row = torch.stack([torch.unique(image, return_inverse=True)[1] for image in indices]).repeat_interleave(2, 0)
    if K:
        sent = torch.zeros_like(mapped.transport.plan).scatter_add(1, row[..., None].expand_as(sent), sent)
    ours = gradients([mapped.tokens, mapped.transport.plan, mapped.receiving.plan], of)
    theirs = gradients([expected, sent, received], of)
    for mine, reference in zip(ours, theirs, strict=True):
        close(mine, reference, 1e-7)


@pytest.mark.parametrize("looked_at", ["transport", "receiving"])
def test_a_loss_on_one_plan_leaves_alone_what_the_other_is_made_of(looked_at):
    tokens, indices = quantised()
    receivers = torch.randn_like(tokens).requires_grad_()
    mapper = mapper_of(heads=2)
    for again in (False, True):  # by the functions' own backward pass, and by one that has derivatives itself
        plan = getattr(mapper(tokens, indices, None, receivers), looked_at).plan
        of_tokens, of_receivers, of_references = torch.autograd.grad(
            plan.square().sum(),
            (tokens, receivers, mapper.references),
            create_graph=again,
            allow_unused=True,
            materialize_grads=True,
        )
        sends = looked_at == "transport"
        assert of_tokens.any() == sends
        assert of_receivers.any() != sends
        assert [bool(part.any()) for part in of_references] == [sends, not sends]


def test_tokens_that_receive_for_themselves_are_the_mapper_without_receivers():
    tokens, indices = quantised()
    mapper = mapper_of(heads=2)
    torch.testing.assert_close(mapper(tokens, indices, None, tokens).tokens, mapper(tokens, indices).tokens)


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("relation_", "receivers", "message"),
    [
        ("symmetric", (3, 12, 8), "and relation 'send-receive', got .* and 'symmetric'"),
        ("send-receive", (3, 11, 8), r"receivers must have the shape of the tokens \(3, 12, 8\)"),
        ("send-receive", (3, 12, 4), r"tokens must have shape \(B, N, 8\)"),
    ],
)
def test_receivers_that_do_not_fit_are_refused(relation_, receivers, message):
    tokens, _ = quantised()
    with pytest.raises(ValueError, match=message):
        mapper_of(relation=relation_)(tokens, None, None, torch.ones(receivers, dtype=torch.float64))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 6)),
    K=st.integers(1, 30),
    heads=st.sampled_from([1, 2, 4]),
    epsilons=st.tuples(st.floats(0.02, 1.0), st.floats(0.02, 1.0)),
)
def test_nobody_is_starved_and_nobody_flooded(seed, shape, K, heads, epsilons):
    """The relation that the plans make between tokens: its rows and columns add up to one, within the stated error."""
    N = shape[0] * shape[1]
    tokens, indices = quantised(B=2, N=N, K=max(K, 3), seed=seed)
    tolerance = {"tolerance": 1e-6, "max_iterations": 20_000}
    mapper = mapper_of(seed, heads=heads, epsilon=epsilons[0], epsilon_receive=epsilons[1], **tolerance)
    mapped = mapper(tokens, indices)
    row = torch.stack([torch.unique(image, return_inverse=True)[1] for image in indices]).repeat_interleave(heads, 0)
    share = [
        plan.plan.gather(1, row[..., None].expand(-1, -1, 5))
        / row.new_ones(row.shape).new_tensor([[(r == k).sum() for k in r] for r in row])[..., None]
        for plan in (mapped.transport, mapped.receiving)
    ]
    A = N * 5 * share[1] @ share[0].transpose(1, 2)
    # The sender's marginal error shows in the rows, the receiver's in the columns, 5 times each at most.
    assert ((A.sum(2) - 1).abs().amax(1) <= 5 * mapped.transport.marginal_error + 1e-9).all()
    assert ((A.sum(1) - 1).abs().amax(1) <= 5 * mapped.receiving.marginal_error + 1e-9).all()


def test_a_token_can_hear_tokens_unlike_itself():
    """What no symmetric relation can: two kinds of tokens that each hear the other kind alone."""
    tokens = torch.eye(2, dtype=torch.float64)[torch.tensor([[0, 0, 1, 1]])]
    mapper = L2GMapper(2, 2, relation="send-receive", epsilon=0.02, epsilon_receive=0.02, **EXACT).double()
    mapper.references.data = torch.stack([torch.eye(2), torch.eye(2).flip(0)])[:, None].double()
    torch.testing.assert_close(mapper(tokens).tokens, tokens.flip(1), atol=1e-6, rtol=0)
    swapped = mapper(tokens, torch.tensor([[0, 0, 1, 1]])).tokens
    torch.testing.assert_close(swapped, tokens.flip(1), atol=1e-6, rtol=0)


def test_positions_are_the_same_wherever_the_patient_lies():
    """Tokens that move through the grid together hear the same of each other."""
    tokens, _ = quantised(B=1, N=12)
    mapper = mapper_of(heads=2, positions=True)
    grid = tokens.detach().view(1, 3, 4, 8)
    far = waves(20, 30, like=tokens).view(20, 30, -1)[11:14, 17:21].reshape(12, -1)
    near = waves(3, 4, like=tokens)
    content = torch.randn(2, 1, 12, 4, dtype=torch.float64)
    weights = torch.rand(2, 1, 12, 12, dtype=torch.float64)
    there = [in_own_frame(torch.cat([content, weights @ places], dim=-1), places) for places in (far, near)]
    torch.testing.assert_close(there[0], there[1])
    assert mapper(grid.view(1, 12, 8), None, (3, 4)).tokens.shape == (1, 12, mapper.given)


def test_unused_codes_and_padding_bring_no_noise():
    """An image with one code beside images with many has padded rows: they have no mass, place or gradient."""
    tokens, indices = quantised(K=12, N=12)
    mapper = mapper_of(heads=2, positions=True)
    mapped = mapper(tokens, indices, (3, 4))
    alone = mapper(tokens[:1], indices[:1], (3, 4))
    torch.testing.assert_close(mapped.tokens[:1], alone.tokens)
    grad = torch.autograd.grad(mapped.tokens[:1].square().sum(), tokens, retain_graph=True)[0]
    assert grad.isfinite().all()
    assert grad[1:].abs().max() == 0


def test_the_only_parameters_are_two_sets_of_references():
    mapper = L2GMapper(8, 6, relation="send-receive", heads=4, positions=True)
    assert [(name, tuple(p.shape)) for name, p in mapper.named_parameters()] == [("references", (2, 4, 6, 2))]


def test_both_plans_say_whether_they_converged():
    tokens, indices = quantised()
    with pytest.warns(UserWarning, match="transport not converged"):
        mapped = mapper_of(max_iterations=1, epsilon=0.3)(tokens, indices)
    assert mapped.transport.epsilon == 0.3
    assert mapped.receiving.epsilon == 0.05
    assert not mapped.receiving.converged.all()


@pytest.mark.usefixtures("as_a_user")
def test_what_does_not_fit_is_refused():
    tokens, indices = quantised()
    with pytest.raises(ValueError, match="shape must be the rows and columns of the 12 tokens, got None"):
        mapper_of(positions=True)(tokens, indices)
    with pytest.raises(ValueError, match="of the 12 tokens, got \\(2, 5\\)"):
        mapper_of(positions=True)(tokens, indices, (2, 5))
    with pytest.raises(ValueError, match="relation must be 'symmetric'"):
        L2GMapper(8, 6, relation="send-receive", readout="grid")
    with pytest.raises(ValueError, match="epsilon_receive must be above 0 and finite, got 0"):
        L2GMapper(8, 6, relation="send-receive", epsilon_receive=0)


def test_single_precision_gradients_are_right_to_a_thousandth():
    tokens, indices = quantised(N=24, K=10)
    exact = mapper_of(heads=2, positions=True, epsilon=0.05)
    reference = gradients([exact(tokens, indices, (4, 6)).tokens], [tokens, exact.references])
    single = L2GMapper(8, 5, relation="send-receive", heads=2, positions=True, epsilon=0.05)
    single.references.data = exact.references.data.float()
    x = tokens.detach().float().requires_grad_()
    mine = gradients([single(x, indices, (4, 6)).tokens.double()], [x, single.references])
    for one, wanted in zip(mine, reference, strict=True):
        close(one.double(), wanted, 1e-3)


def test_memory_does_not_grow_with_iterations():
    kept = []
    for epsilon in (1.0, 0.02):
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):  # noqa: B023
            mapper_of(epsilon=epsilon, epsilon_receive=epsilon, heads=2)(*quantised())
        kept.append(sum(sizes))
    assert kept[0] == kept[1]


def test_no_two_places_of_a_grid_look_alike_however_large():
    like = torch.zeros((), dtype=torch.float64)
    for side in (1, 32, 33, 80, 128):
        seen = in_own_frame(waves(1, side, like=like)[None], waves(1, side, like=like)[:1].expand(side, -1))[0]
        back = in_own_frame(waves(1, side, like=like)[:1].expand(side, -1)[None], waves(1, side, like=like))[0]
        apart = torch.cdist(seen, torch.cat([seen, back[1:]]))  # what lies to the right, and all on either side
        assert (apart + torch.eye(*apart.shape)).min() > 1e-3
