import torch
from scipy import ndimage

from l2gnet.training.augmentation import Augmentation, TurnOrMirror


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


def test_channels_move_together_and_change_in_grey_by_themselves():
    torch.manual_seed(0)
    images, labels = batch()
    augmentation = Augmentation(flips=True)
    moved, _ = augmentation.geometry(images.expand(-1, 2, -1, -1), labels[:, None].float())
    assert torch.equal(moved[:, 0], moved[:, 1])
    assert not torch.equal(moved, images.expand(-1, 2, -1, -1))
    changed, _ = augmentation(images.expand(-1, 2, -1, -1), labels)
    bright = changed > changed.amax((2, 3), keepdim=True) / 2
    both = (bright[:, 0] & bright[:, 1]).sum((1, 2))
    assert (2 * both / bright.sum((1, 2, 3))).min() > 0.95
    inside = bright.all(1, keepdim=True)
    greys = (changed * inside).sum((2, 3)) / inside.sum((2, 3))
    assert (greys[:, 0] - greys[:, 1]).abs().max() > 0.05  # much more than noise would


def test_the_seed_decides():
    augmentation = Augmentation(flips=False)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(augmentation(*batch())[0])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def noise(B=400, size=65):
    images = torch.rand(B, 1, size, size, generator=torch.Generator().manual_seed(0)) + 0.1
    return images, (images[:, 0] * 10).long()


def turned(picture):
    """The picture in each of the eight ways that quarter turns and mirrors can put it."""
    return [side.rot90(quarters, (0, 1)) for side in (picture, picture.flip(0)) for quarters in range(4)]


def test_turns_and_mirrors_are_those_of_transunet_in_their_proportions():
    torch.manual_seed(0)
    images, labels = noise()
    changed, changed_labels = TurnOrMirror()(images, labels)
    assert changed_labels.dtype == torch.long
    counts = [0] * 8
    others = 0
    for before, after, label in zip(images[:, 0], changed[:, 0], changed_labels, strict=True):
        ways = [way for way, put in enumerate(turned(before)) if torch.equal(put, after)]
        if ways:
            counts[ways[0]] += 1
            assert torch.equal(label, (after * 10).long())
        else:
            others += 1
            inside = after > 0  # what a rotation brings in is black background
            assert torch.equal(label, (after * 10).long())
            assert inside.float().mean() > 0.7
    # A quarter of the slices is left alone, or rotated by 0 degrees. A turn and one mirror make one of four mirrors.
    assert abs(counts[0] / 400 - 0.25 - 1 / 160) < 0.07
    assert counts[1:4] == [0, 0, 0]
    assert all(abs(count / 400 - 0.125) < 0.06 for count in counts[4:])
    assert abs(others / 400 - 0.25) < 0.07  # 65 pixels show a rotation by one degree


def test_a_rotation_is_scipys_with_the_nearest_pixel():
    torch.manual_seed(1)
    picture = torch.zeros(1, 1, 64, 64)
    picture[:, :, 10:40, 20:60] = 1
    rotations = []
    for _ in range(60):
        after = TurnOrMirror()(picture, picture[:, 0].long())[0][0, 0]
        if all(not torch.equal(after, put) for put in turned(picture[0, 0])):
            agree = {
                d: (ndimage.rotate(picture[0, 0].numpy(), d, order=0, reshape=False) == after.numpy()).mean()
                for d in range(-20, 20)
            }
            rotations.append(max(agree.values()))
    assert len(rotations) > 5
    assert min(rotations) > 0.995
