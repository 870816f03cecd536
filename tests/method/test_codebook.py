import torch

from l2gnet.method.codebook import Codebook, codebook_usage


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
