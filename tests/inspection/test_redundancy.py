import math

import pytest
import torch

from l2gnet import build_model
from l2gnet.inspection.redundancy import redundancy, relations

SIZES = {"classes": 3, "width": 4, "depth": 3}


def test_a_token_that_looks_at_itself_alone_is_not_redundant():
    found = redundancy(torch.eye(5).expand(2, 5, 5))
    assert (found.entropy, found.similarity, found.starved, found.flooded) == (0, 0, 1, 1)


def test_tokens_that_look_at_all_alike_are_wholly_redundant():
    found = redundancy(torch.full((2, 5, 5), 0.2))
    assert found.entropy == pytest.approx(1)
    assert found.similarity == pytest.approx(1)


def test_attention_to_one_token_floods_it_and_starves_the_others():
    found = redundancy(torch.eye(4)[[1, 1, 1, 1]][None])
    assert (found.entropy, found.similarity, found.starved, found.flooded) == (0, pytest.approx(1), 0, 4)


def test_a_relation_worked_out_by_hand():
    found = redundancy(torch.tensor([[[0.5, 0.5], [0.0, 1.0]]]))
    assert found.entropy == pytest.approx(0.5)
    assert found.similarity == pytest.approx(1 / math.sqrt(2))
    assert (found.starved, found.flooded) == (0.5, 1.5)


def test_one_token_has_no_relation():
    with pytest.raises(ValueError, match="two tokens or more, got 1"):
        redundancy(torch.ones(1, 1, 1))


@pytest.mark.parametrize("heads", [1, 2])
def test_the_plans_relation_is_doubly_stochastic_and_the_mappers_own(heads):
    torch.manual_seed(0)
    model = build_model("l2gnet", **SIZES, codes=8, code_dim=16, references=6, heads=heads, receivers="codes").eval()
    images = torch.rand(2, 1, 40, 48)
    relation = relations(model, images)["plan"]
    assert relation.shape == (2 * heads, 30, 30)
    for axis in (1, 2):
        torch.testing.assert_close(relation.sum(axis), torch.ones(2 * heads, 30), atol=2e-3, rtol=0)
    # On the codes it gives what the mapper gives.
    codes = model.trace(images).latent.codes.flatten(1)
    vectors = model.bottleneck.codebook.vectors[codes]
    by_head = vectors.unflatten(2, (heads, -1)).transpose(1, 2).flatten(0, 1)
    related = (relation @ by_head).unflatten(0, (2, heads)).transpose(1, 2).flatten(2)
    torch.testing.assert_close(related, model.bottleneck.mapper(vectors, codes).tokens, atol=1e-4, rtol=1e-4)


def test_the_relation_of_tokens_that_receive_is_the_mappers_own():
    torch.manual_seed(0)
    model = build_model("l2gnet", **SIZES, codes=8, code_dim=16, references=6, heads=2, receivers="tokens").eval()
    images = torch.rand(2, 1, 40, 48)
    relation = relations(model, images)["plan"]
    tokens = model.bottleneck.tokens(model.encoded(images)[-1])
    codes = model.trace(images).latent.codes.flatten(1)
    vectors = model.codebook.vectors[codes]
    related = (relation @ vectors.unflatten(2, (2, -1)).transpose(1, 2).flatten(0, 1)).unflatten(0, (2, 2))
    related = related.transpose(1, 2).flatten(2)
    torch.testing.assert_close(related, model.mapper(vectors, codes, None, tokens).tokens, atol=1e-4, rtol=1e-4)


def test_attention_has_a_relation_for_each_layer_and_rows_that_add_up_to_one():
    model = build_model("transunet", **SIZES, size_px=32, layers=2)
    found = relations(model, torch.rand(2, 1, 32, 32))
    assert list(found) == ["layer 1", "layer 2"]
    for relation in found.values():
        torch.testing.assert_close(relation.sum(2), torch.ones(relation.shape[:2]))


def test_a_model_that_relates_nothing_has_no_relation():
    assert relations(build_model("unet", **SIZES), torch.rand(1, 1, 32, 32)) == {}


def test_a_model_is_left_in_training_where_it_was():
    model = build_model("l2gnet", width=4, depth=2).train()
    relations(model, torch.rand(2, 1, 16, 16))
    assert all(part.training for part in model.modules())
