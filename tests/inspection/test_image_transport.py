import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from l2gnet.inspection.image_transport import ImageTransport
from l2gnet.inspection.redundancy import relations
from l2gnet.method.mapper import L2GMapper
from l2gnet.models import build_model


def problem(seed=0, K=9, R=5, side=4, d=6):
    random = np.random.default_rng(seed)
    rows = np.concatenate([np.arange(K), random.integers(0, K, side * side - K)])
    return ImageTransport(
        random.random((K, R)), random.permutation(rows).reshape(side, side), tokens=random.normal(size=(K, d))
    )


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("cost", ["cosine", "euclidean", "dot"])
def test_it_is_the_plan_of_the_model(cost, heads):
    torch.manual_seed(0)
    model = build_model("l2gnet", width=4, depth=2, codes=12, code_dim=8, references=5, heads=heads, cost=cost).eval()
    image = torch.rand(1, 1, 24, 24)
    latent = model.trace(image).latent
    for head in range(heads):
        transport = ImageTransport.of_model(model, image, head=head)
        assert np.array_equal(transport.names[transport.rows], latent.codes[0].numpy())
        solved = transport.solve(0.1)
        np.testing.assert_allclose(solved.plan[0], latent.transport.plan[head].detach(), atol=2e-5)
        assert solved.converged.all()


def model_and_image(**options):
    """A model that sends and receives, and an image that it knows."""
    torch.manual_seed(0)
    sizes = {"width": 4, "depth": 2, "code_dim": 8, "references": 5, "heads": 2}
    model = build_model("l2gnet", **sizes, relation="send-receive", epsilon=0.1, epsilon_receive=0.2, **options)
    image = torch.rand(1, 1, 24, 24)
    with torch.no_grad():
        for _ in range(50):  # codebook and batch norms learn what the image is like: else there is one code
            model(image)
    return model, image


@pytest.mark.parametrize("head", [0, 1])
def test_two_plans_are_those_of_a_model_that_sends_and_receives(head):
    model, image = model_and_image(codes=12, receivers="codes")
    latent = model.eval().trace(image).latent
    transport = ImageTransport.of_model(model, image, head=head)
    sent, taken = (
        problem.solve(epsilon).plan[0].numpy() for problem, epsilon in ((transport, 0.1), (transport.receiving, 0.2))
    )
    np.testing.assert_allclose(sent, latent.transport.plan[head].detach(), atol=2e-5)
    np.testing.assert_allclose(taken, latent.receiving.plan[head].detach(), atol=2e-5)
    by_hand = relations(model, image)["plan"][head]
    rows = transport.rows.ravel().tolist()
    found = np.stack([transport.relation(sent, row, taken).ravel() for row in rows])
    np.testing.assert_allclose(found, by_hand, atol=1e-3)
    assert np.abs(found - found.T).max() > 0.01  # whom a pixel listens to need not listen to it


@pytest.mark.parametrize("head", [0, 1])
def test_tokens_receive_by_rows_of_their_own_as_in_the_model(head):
    model, image = model_and_image(codes=6)
    with torch.no_grad():
        latent = model.eval().trace(image).latent
    transport = ImageTransport.of_model(model.train(), image, head=head)
    assert model.training
    codes = latent.codes[0].numpy()
    receiving = transport.receiving
    assert transport.tokens_receive
    assert np.array_equal(transport.names[transport.rows], codes)
    assert np.array_equal(receiving.names[receiving.rows], codes)
    assert np.array_equal(receiving.rows.ravel(), np.arange(36))
    sent, taken = transport.solve(0.1).plan[0].numpy(), receiving.solve(0.2).plan[0].numpy()
    np.testing.assert_allclose(sent, latent.transport.plan[head], atol=2e-5)
    np.testing.assert_allclose(taken, latent.receiving.plan[head], atol=2e-5)
    rows = transport.rows.ravel()
    of_tokens = latent.transport.plan[head].double().numpy()[rows] / np.bincount(rows)[rows][:, None]
    matrix = 36 * 5 * latent.receiving.plan[head].double().numpy() @ of_tokens.T
    found = np.stack([transport.relation(sent, token, taken).ravel() for token in range(36)])
    np.testing.assert_allclose(found, matrix, atol=1e-3)
    np.testing.assert_allclose(found, relations(model, image)["plan"][head], atol=1e-3)
    one = np.flatnonzero(rows == np.bincount(rows).argmax())
    assert np.ptp(found[one], axis=0).max() > 0.01  # tokens of one code hear each in its own way
    summed = transport.by_code(taken)
    np.testing.assert_allclose(summed, np.stack([taken[rows == row].sum(0) for row in range(len(sent))]))
    np.testing.assert_allclose(summed.sum(1), transport.source)
    np.testing.assert_allclose(receiving.coverage(taken, 2).ravel(), 5 * taken[:, 2])


def test_only_models_with_a_plan_have_one():
    with pytest.raises(ValueError, match="a model must have transport plans, got one without"):
        ImageTransport.of_model(build_model("unet", width=4, depth=2), torch.rand(1, 1, 24, 24))
    with pytest.raises(ValueError, match=r"must have a codebook, got one whose tokens stay as they are \(codes 0\)"):
        ImageTransport.of_model(build_model("l2gnet", width=4, depth=2, codes=0), torch.rand(1, 1, 24, 24))
    with pytest.raises(ValueError, match=r"head must lie in 0\.\.3, the heads of the mapper, got 4"):
        ImageTransport.of_model(build_model("l2gnet", width=4, depth=2), torch.rand(1, 1, 24, 24), head=4)


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize("shape", [(2, 1, 24, 24), (1, 24, 24)])
def test_it_is_of_one_image(shape):
    model = build_model("l2gnet", width=4, depth=2)
    with pytest.raises(ValueError, match=rf"image must be a batch of one, \(1, C, H, W\), got \({shape[0]}, "):
        ImageTransport.of_model(model, torch.rand(shape))


def test_the_relation_of_a_pixel_is_a_row_of_a_doubly_stochastic_matrix():
    p = problem()
    plan = p.solve(0.1, tolerance=1e-12, max_iterations=10_000).plan[0].numpy()
    by_token = plan[p.rows.ravel()] / np.bincount(p.rows.ravel())[p.rows.ravel()][:, None]
    expected = 16 * 5 * by_token @ by_token.T
    matrix = np.stack([p.relation(plan, row).ravel() for row in p.rows.ravel().tolist()])
    np.testing.assert_allclose(matrix, expected, rtol=1e-9)
    np.testing.assert_allclose(matrix.sum(0), 1, rtol=1e-9)
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-9)


def test_the_relation_is_what_the_mapper_applies():
    torch.manual_seed(0)
    book, rows = torch.randn(9, 8), torch.randint(0, 9, (1, 16))
    mapper = L2GMapper(8, 5, epsilon=0.1, tolerance=1e-6)
    mapped = mapper(book[rows], rows)
    present = rows.unique()
    place = torch.searchsorted(present, rows[0])
    cost = (1 - torch.cosine_similarity(book[present][:, None], mapper.references[0][None], dim=2)) / 2
    p = ImageTransport(cost.detach().numpy(), place.view(4, 4).numpy())
    plan = p.solve(0.1, tolerance=1e-8).plan[0].numpy()
    relation = np.stack([p.relation(plan, row).ravel() for row in place.tolist()])
    np.testing.assert_allclose(relation @ book[rows[0]].numpy(), mapped.tokens[0].detach(), atol=1e-4)


def test_masses_other_than_counts_keep_rows_and_weighted_columns():
    random = np.random.default_rng(1)
    source, target = random.dirichlet(np.ones(4)), random.dirichlet(np.ones(3))
    rows = np.array([[0, 1], [2, 3]])
    p = ImageTransport(random.random((4, 3)), rows, source=source, target=target)
    plan = p.solve(0.2, tolerance=1e-12, max_iterations=10_000).plan[0].numpy()
    matrix = np.stack([p.relation(plan, row).ravel() for row in range(4)])
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-9)
    np.testing.assert_allclose(source @ matrix, source, rtol=1e-9)  # it moves mass about, and changes none


def test_attention_is_softmax_over_tokens():
    p = problem()
    tokens = torch.from_numpy(p.tokens[p.rows.ravel()])[None]
    normed = torch.nn.functional.layer_norm(tokens, (6,))
    expected = torch.nn.functional.scaled_dot_product_attention(normed, normed, torch.eye(16).double()[None])[0]
    matrix = np.stack([p.attention(row).ravel() for row in p.rows.ravel().tolist()])
    np.testing.assert_allclose(matrix, expected, rtol=1e-9)


def test_what_pixels_give_to_a_reference_adds_up_to_what_it_holds():
    p = problem()
    plan = p.solve(0.1, tolerance=1e-12, max_iterations=10_000).plan[0].numpy()
    for reference in range(5):
        coverage = p.coverage(plan, reference)
        assert coverage.sum() == pytest.approx(1)
        inside = p.rows == 3
        assert coverage[inside].sum() == pytest.approx(5 * plan[3, reference])


def test_the_exact_plan_solves_the_linear_programme():
    p = problem()
    K, R = p.cost.shape
    sums = np.concatenate([np.kron(np.eye(K), np.ones(R)), np.kron(np.ones(K), np.eye(R))])
    best = linprog(p.cost.ravel(), A_eq=sums, b_eq=np.concatenate([p.source, p.target])).fun
    assert (p.exact * p.cost).sum() == pytest.approx(best)
    assert p.marginal_error(p.exact) < 1e-12
    assert p.solve(0.1).cost[0] >= best


def test_the_convergence_curve_is_that_of_the_solver():
    p = problem()
    iterations, errors = p.convergence(0.05)
    solved = p.solve(0.05)
    assert iterations[0] == 0
    assert (np.diff(iterations) > 0).all()
    assert iterations[-1] == solved.iterations[0]
    assert errors[-1] == solved.marginal_error[0]
    assert errors[-1] <= 1e-4 < errors[-2]
    stopped, errors = p.convergence(0.002, max_iterations=20)
    assert stopped[-1] == 20
    assert errors[-1] > 1e-4


def test_an_unconverged_plan_says_so_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not problem().solve(0.002, max_iterations=3).converged.any()


def test_arrays_that_do_not_belong_together_are_refused(as_a_user):
    cost, rows = np.ones((3, 2)), np.array([[0, 1], [2, 2]])
    with pytest.raises(ValueError, match="neither source nor rows"):
        ImageTransport(cost)
    with pytest.raises(ValueError, match=r"rows must lie in 0\.\.2, the rows of the cost, got 0\.\.3"):
        ImageTransport(cost, rows + (rows == 2))
    with pytest.raises(ValueError, match=r"source must have length 3 to fit the cost \(3, 2\), got 2"):
        ImageTransport(cost, source=np.full(2, 0.5))
    with pytest.raises(ValueError, match="source must add up to 1, got 3; divide it by its sum"):
        ImageTransport(cost, source=np.ones(3))
    with pytest.raises(ValueError, match="a vector for each of the 3 rows of the cost, got 2"):
        ImageTransport(cost, rows, tokens=np.ones((2, 4)))
    with pytest.raises(ValueError, match="a row that pixels have must have mass"):
        ImageTransport(cost, rows, source=np.array([0.5, 0.5, 0.0]))
    receiving = ImageTransport(np.ones((4, 2)), np.arange(4).reshape(2, 2))
    assert ImageTransport(cost, rows, receiving=receiving).receiving is receiving
    with pytest.raises(ValueError, match="the rows of the plan that sends, or one for each pixel, in order"):
        ImageTransport(cost, rows, receiving=ImageTransport(np.ones((4, 2)), np.arange(4)[::-1].reshape(2, 2)))
    with pytest.raises(ValueError, match=r"have the cost \(3, 2\) and the same target, got \(3, 3\)"):
        ImageTransport(cost, rows, receiving=ImageTransport(np.ones((3, 3)), rows))
    with pytest.raises(ValueError, match=r"have the cost \(4, 2\) and the same target, got \(5, 2\)"):
        ImageTransport(cost, rows, receiving=ImageTransport(np.ones((5, 2)), receiving.rows))
    with pytest.raises(ValueError, match="got no tokens"):
        ImageTransport(cost, rows).attention(0)
    without_image = ImageTransport(cost, source=np.full(3, 1 / 3))
    with pytest.raises(ValueError, match="got no rows"):
        without_image.coverage(without_image.exact, 0)
