import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from vector_quantize_pytorch import VectorQuantize

from l2gnet import build_model
from l2gnet.method.codebook import Codebook, codebook_usage, nearest_codes


def clusters(seed=0, centres=8, points=64, d=4):
    generator = torch.Generator().manual_seed(seed)
    middle = 10 * torch.randn(centres, d, generator=generator)
    return middle[torch.arange(points) % centres][None] + 0.01 * torch.randn(1, points, d, generator=generator)


def test_tokens_become_their_nearest_codes():
    codebook, tokens = Codebook(16, 4).eval(), torch.randn(2, 9, 4)
    quantised = codebook(tokens)
    nearest = torch.cdist(tokens, codebook.vectors).argmin(2)
    assert torch.equal(quantised.indices, nearest)
    torch.testing.assert_close(quantised.tokens, codebook.vectors[nearest])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["vq_unet", "synergynet", "l2gnet"])
def test_a_model_with_codes_can_be_cast(name, dtype):
    model = build_model(name, width=4, depth=2).eval()
    images = torch.rand(2, 1, 16, 16)
    assert model.to(dtype)(images.to(dtype)).dtype == dtype


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"codes": -3}, "got -3 and 4"),
        ({"commitment": -1.0}, "got -1"),
        ({"commitment": float("nan")}, "got nan"),
        ({"decay": 3.0}, "decay must be from 0 to 1, got 3"),
        ({"revive_below": -5.0}, "revive_below must be at least 0 and finite, got -5"),
    ],
)
def test_codebooks_that_cannot_be_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        Codebook(**{"codes": 8, "dim": 4} | wrong)


def test_a_codebook_learns_in_double_precision_but_not_in_half():
    codebook = Codebook(8, 4).train().double()
    for seed in range(3):  # by its start, by averages and by revival
        codebook(clusters(seed).double())
    assert codebook.vectors.isfinite().all()
    for dtype in (torch.float16, torch.bfloat16):
        with pytest.raises(ValueError, match=r"must learn in float32 or float64, got torch\.b?float16; train under"):
            codebook.to(dtype)(clusters().to(dtype))


def test_a_batch_may_be_empty():
    codebook = Codebook(8, 4, commitment=0.25).train()
    assert codebook(clusters()[:0]).loss == 0
    assert not codebook.started
    codebook(clusters())
    assert codebook(clusters()[:0]).loss == 0
    assert codebook.vectors.isfinite().all()


def test_evaluation_changes_nothing():
    codebook = Codebook(16, 4).eval()
    before = {name: value.clone() for name, value in codebook.state_dict().items()}
    codebook(torch.randn(2, 9, 4))
    for name, value in codebook.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_gradient_passes_straight_through():
    for codebook in (Codebook(16, 4).eval(), Codebook(16, 4).train()):
        tokens = torch.randn(2, 9, 4, requires_grad=True)
        weights = torch.randn(2, 9, 4)
        (codebook(tokens).tokens * weights).sum().backward()
        torch.testing.assert_close(tokens.grad, weights)


def test_commitment_loss_is_a_share_of_the_squared_error():
    codebook, tokens = Codebook(8, 4, commitment=0.25).train(), clusters()
    quantised = codebook(tokens)
    expected = 0.25 * (quantised.tokens - tokens).square().mean()
    torch.testing.assert_close(quantised.loss, expected)


def test_codes_settle_on_clusters():
    torch.manual_seed(0)
    codebook = Codebook(32, 4).train()
    for step in range(20):
        codebook(clusters(seed=0) + 0.01 * step)
    quantised = codebook.eval()(clusters(seed=0) + 0.2)
    assert (quantised.tokens - clusters(seed=0) - 0.2).abs().max() < 1


def test_dead_codes_are_revived():
    torch.manual_seed(0)
    codebook = Codebook(8, 4).train()
    codebook(clusters(seed=0))
    revived = 0
    for _ in range(60):  # the tokens move far away: codes left behind die and come back at the new place
        revived += int(codebook(clusters(seed=1) + 100).revived)
    assert revived > 0
    assert torch.cdist(codebook.vectors, clusters(seed=1)[0] + 100).amin(1).max() < 30  # from some 200 away


def test_codes_without_tokens_stay_among_the_tokens():
    """At the origin they would be the nearest to new tokens of one length, and a cosine with them means nothing."""
    codebook = Codebook(64, 16).train()
    for step in range(8):  # seven tokens a batch: most codes wait long for one
        tokens = torch.nn.functional.normalize(
            torch.randn(1, 7, 16, generator=torch.Generator().manual_seed(step)), dim=2
        )
        result = codebook(tokens)
        assert 0.3 < codebook.vectors.norm(dim=1).min() <= codebook.vectors.norm(dim=1).max() < 1.1, step
    assert result.distances.max() < 1.5


def test_usage_of_a_data_set():
    batches = [torch.tensor([[0, 0], [1, 1]]), torch.tensor([[0, 1]])]
    usage = codebook_usage(batches, codes=4)
    assert usage.counts.tolist() == [3, 3, 0, 0]
    assert usage.used == 2
    assert abs(usage.perplexity - 2) < 1e-9
    assert abs(usage.codes_per_image - 4 / 3) < 1e-9


def test_usage_of_nothing():
    usage = codebook_usage([], codes=4)
    assert (usage.used, usage.codes_per_image) == (0, 0)


def test_a_code_is_the_nearest_and_the_first_of_equals():
    tokens, codes = torch.randn(50, 3), torch.randn(20, 3)
    assert torch.equal(nearest_codes(tokens, codes), (tokens[:, None] - codes).norm(dim=2).argmin(1))
    assert nearest_codes(torch.zeros(2, 3), torch.ones(4, 3)).tolist() == [0, 0]


def oracle(codebook, commitment):
    """The same codebook by vector-quantize-pytorch, with views of its state under our names."""
    codes, dim = codebook.vectors.shape
    theirs = VectorQuantize(
        dim=dim,
        codebook_size=codes,
        decay=codebook.decay,
        commitment_weight=commitment,
        kmeans_init=True,
        threshold_ema_dead_code=codebook.revive_below,
        rotation_trick=False,
    )
    book = theirs._codebook
    state = {"vectors": book.embed[0], "uses": book.cluster_size[0], "sums": book.embed_avg[0], "started": book.initted}
    return theirs, state


def drifting(seed, step, B, N, d):
    """Tokens around six middles that move, so that codes are left behind."""
    random = torch.Generator().manual_seed(1000 * seed + step)
    middles = torch.randn(6, d, generator=torch.Generator().manual_seed(seed)) * 3 + 2.0 * (step > 2)
    return middles[torch.randint(6, (B, N), generator=random)] + torch.randn(B, N, d, generator=random)


def is_plain(tokens, codes):
    """No token lies so midway between two codes that rounding decides."""
    two = torch.cdist(tokens.double(), codes.double()).topk(min(2, len(codes)), largest=False).values
    return bool(((two[..., -1] - two[..., 0]) > 1e-5 * two[..., 0]).all()) or len(codes) == 1


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(2, 100), st.integers(2, 12)),
    codes=st.integers(1, 30),
    seed=st.integers(0, 999),
    commitment=st.sampled_from([0.0, 0.25]),
    decay=st.floats(0.3, 0.99),
    revive_below=st.sampled_from([0.0123, 0.1234, 0.8765]),  # which no average is by chance
    parts=st.integers(1, 3),
)
def test_agrees_with_the_library(shape, codes, seed, commitment, decay, revive_below, parts):
    """But for codes without tokens, which the library draws to the origin: so they are here, too, for this test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("l2gnet.method.codebook._HARDLY_ANY", -1.0)
        agree(shape, codes, seed, commitment, decay, revive_below, parts)


def agree(shape, codes, seed, commitment, decay, revive_below, parts):
    ours = Codebook(codes, shape[2], commitment=commitment, decay=decay, revive_below=revive_below).train()
    ours.learn_from_parts(parts)
    theirs, state = oracle(ours, commitment)
    for step in range(6):
        tokens, weights = drifting(seed, step, *shape), drifting(seed, 50 + step, *shape)
        assume(step == 0 or is_plain(tokens, ours.vectors))
        results = []
        for quantiser in (ours, theirs):
            torch.manual_seed(seed + step)  # for the draws of k-means and of revival
            seen = tokens.clone().requires_grad_()
            result = quantiser(seen)
            if quantiser is ours:
                quantised, indices, loss, revived = result.tokens, result.indices, result.loss, result.revived
            else:
                quantised, indices, loss = result
                revived = (state["uses"] == theirs._codebook.reset_cluster_size).sum()  # only revived codes have that
            ((quantised * weights).sum() + loss.sum()).backward()
            results.append((indices, quantised, loss.reshape(()), revived, seen.grad))
        for mine, other in zip(*results, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)
        for name, expected in state.items():
            torch.testing.assert_close(getattr(ours, name), expected, rtol=1e-6, atol=1e-6)
            getattr(ours, name).copy_(expected)  # so that roundings do not add up
