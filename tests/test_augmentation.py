import torch

from l2gnet.augmentation import Augmentation


def batch():
    image = torch.zeros(8, 1, 64, 64)
    image[:, :, 20:40, 24:48] = 1
    return image, (image[:, 0] > 0).long() * 3


def test_labels_stay_whole_and_follow_the_image():
    torch.manual_seed(0)
    augmentation = Augmentation(flips=True)
    overlap = []
    for _ in range(5):
        images, labels = augmentation(*batch())
        assert set(labels.unique().tolist()) <= {0, 3}
        bright = images[:, 0] > images.amax((1, 2, 3), keepdim=True)[:, 0] / 2
        both = (bright & (labels == 3)).sum((1, 2))
        overlap.append(2 * both / (bright.sum((1, 2)) + (labels == 3).sum((1, 2))))
    assert torch.cat(overlap).min() > 0.9


def test_the_seed_decides():
    augmentation = Augmentation(flips=False)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(augmentation(*batch())[0])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
