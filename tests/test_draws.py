import torch

from l2gnet.draws import normal


def test_numbers_are_those_of_torch():
    torch.manual_seed(0)
    found = normal(3, 5, 7)
    torch.manual_seed(0)
    assert torch.equal(found, torch.randn(3, 5, 7))


def test_a_shape_alone_has_no_numbers():
    with torch.device("meta"):
        assert normal(2, 3).is_meta
