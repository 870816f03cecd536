from dataclasses import replace
from typing import NamedTuple

import monai.networks.nets
import numpy as np
import pytest
import torch
from runs import write_run
from torch import nn

from l2gnet import L2GMapper, build_model
from l2gnet.data.slices import SliceSet
from l2gnet.evaluation.comparison import read_runs
from l2gnet.inspection.audit import audit
from l2gnet.inspection.blocks import Block, blocks_of, changed, kept
from l2gnet.inspection.verdict import Loss, Worth, verdict_of, worth_of
from l2gnet.models import MODELS
from l2gnet.models.attn_unet import AttentionGate
from l2gnet.prediction.inference import network_input

CLASSES = ("background", "a", "b")
SIZES = {"classes": 3, "width": 4, "depth": 3}


class Doubled(nn.Module):
    """Features to features: what it adds is the features themselves."""

    def forward(self, features):
        return 2 * features


class Raised(nn.Module):
    """What it adds is the same for everyone: one grey value."""

    def forward(self, features):
        return features + 1 / 255


class Model(nn.Module):
    """Labels are the grey values 0, 1, 2 of what is read of features and of what the block has made of them."""

    def __init__(self, block, read):
        super().__init__()
        self.block, self.read, self.unused = block, read, nn.Parameter(torch.zeros(()))

    def forward(self, images):
        seen = 255 * self.read(images, self.block(images.clone()))
        return -(seen - torch.arange(3).view(1, 3, 1, 1)).abs()


def patients(count=8, frames=2):
    """Two volumes of one slice for each patient, with two structures in a place of each patient's own."""
    labels = np.zeros((count * frames, 10, 10), np.uint8)
    for number, slice_ in enumerate(labels):
        slice_[number // frames, :5], slice_[number // frames, 5:] = 1, 2
    names = tuple(f"patient{n // frames}_{n % frames}" for n in range(count * frames))
    return SliceSet(labels[:, None], labels, np.arange(count * frames), names), [n.split("_")[0] for n in names]


def audited(block, read, **options):
    slices, owners = patients()
    return audit(Model(block, read), slices, CLASSES, patients=owners, blocks=["block"], **options)


@pytest.mark.parametrize(
    ("block", "read", "verdict"),
    [
        (Doubled(), lambda features, made: features, "idle"),
        (Raised(), lambda features, made: made - 1 / 255, "constant"),
        (Doubled(), lambda features, made: made - features, "leans"),
    ],
)
def test_a_verdict_is_that_of_a_model_built_to_deserve_it(block, read, verdict):
    found = audited(block, read)
    assert (found.dice, found.patients) == (1.0, 8)
    assert found.blocks[0].verdict == verdict
    assert str(found.blocks[0]).startswith(f"block: {verdict}: ")
    assert verdict in found._repr_html_()


def test_what_is_lost_is_what_was_taken():
    """Where the answer is the picture itself, every change of it can be foretold."""
    changes = audited(Doubled(), lambda features, made: made - features).blocks[0].changes
    for name in ("removed", "another patient's"):
        assert changes[name].dice == Loss(1.0, 1.0, 1.0)  # nothing is where another patient has it
        assert changes[name].missed.mean == 1.0
        assert changes[name].structures == {"a": 1.0, "b": 1.0}
    assert 0 < changes["tokens exchanged"].dice.mean <= 1
    assert list(changes) == ["removed", "mean of the image", "another patient's", "tokens exchanged"]


@pytest.mark.parametrize("name", ["unet", "l2gnet"])
def test_whether_a_decoder_hears_its_deepest_features_is_asked_of_the_last_encoder(name):
    """Features of another shape than their input are replaced as a whole: what is left is what the skips carry."""
    torch.manual_seed(0)
    model = build_model(name, **SIZES)
    images = torch.rand(6, 1, 32, 32)
    with torch.no_grad():
        for _ in range(50):  # batch norms learn the scale of what lies deep: else it is not heard
            model(images)
        model.head.bias -= model.eval()(images).mean((0, 2, 3))  # so that all classes are found
    slices = random_slices(model)
    found = audit(model, slices, CLASSES, blocks=["encoder.2"]).blocks[0]
    assert found.changes["removed"].dice.mean > 0
    model.encoder[2].register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    deaf = audit(model, slices, CLASSES, blocks=["encoder.2"])
    assert 1 - deaf.dice == pytest.approx(found.changes["removed"].dice.mean, abs=1e-6)


def test_an_interval_is_over_patients_not_over_volumes():
    """The two volumes of a patient are one draw."""
    slices, owners = patients(count=6)
    lost = np.zeros(len(slices), bool)
    lost[:2] = True  # both volumes of the first patient: it alone leans on the block

    found = audit(Model(Doubled(), first_patient_leans), slices, CLASSES, patients=owners, blocks=["block"]).blocks[0]
    removed = found.changes["removed"].dice
    assert removed.mean == pytest.approx(1 / 6)
    # One of six patients is drawn five times or more in 0.07 % of draws, four times in 0.8 %: 0.24 % lie beyond.
    assert (removed.low, removed.high) == (0.0, pytest.approx(4 / 6))
    assert found.verdict == "constant"


def first_patient_leans(features, made):
    first = features.flatten(1)[:, :5].amax(1) > 0  # whose structures lie in the first row
    return torch.where(first.view(-1, 1, 1, 1), made - features, features)


def test_a_model_that_finds_nothing_has_nothing_to_lose():
    slices, owners = patients()
    model = Model(Doubled(), lambda features, made: 0 * features)
    with pytest.raises(ValueError, match=r"Dice of at least 0\.01, .*, got 0\.0000; train the model longer"):
        audit(model, slices, CLASSES, patients=owners, blocks=["block"])


def test_a_patient_with_more_volumes_counts_no_more_than_another_in_any_number():
    slices, _ = patients(count=6)
    rows = np.array([0, 0, 0, 0, 0, 2, 4, 6, 8, 10])
    owners = [f"p{row}" for row in rows]
    some = replace(slices, images=slices.images[rows], labels=slices.labels[rows], case=np.arange(10))
    some = replace(some, names=tuple(map(str, range(10))))
    lost = audit(Model(Doubled(), first_patient_leans), some, CLASSES, patients=owners, blocks=["block"]).blocks[0]
    removed = lost.changes["removed"]
    assert [removed.dice.mean, *removed.structures.values()] == pytest.approx([1 / 6] * 3)
    blind = Model(Doubled(), lambda features, made: features - first_patient_leans(features, features))
    assert audit(blind, some, CLASSES, patients=owners, blocks=["block"]).dice == pytest.approx(1 / 6)


@pytest.mark.parametrize(
    ("removal", "other", "worth", "verdict"),
    [
        (0.004, 0.0, None, "idle"),
        (0.006, 0.001, None, "constant"),
        (0.006, 0.02, None, "leans"),
        (0.006, 0.02, (0.01, 0.002), "matters"),
        (0.006, 0.02, (0.01, -0.002), "leans"),
        (0.006, 0.02, (0.004, 0.001), "leans"),
        (0.0, 0.02, None, "idle"),  # what misleads a model that does not need it
    ],
)
def test_verdicts_are_drawn_at_half_a_point(removal, other, worth, verdict):
    def loss(mean, low=None):
        return Loss(mean, mean / 2 if low is None else low, 2 * mean)

    assert verdict_of(loss(removal), loss(other), worth and Worth(*worth, 2 * worth[0])) == verdict


def test_one_half_of_the_interval_below_zero_is_no_loss():
    assert verdict_of(Loss(0.1, 0.05, 0.2), Loss(0.02, -0.01, 0.05), None) == "constant"


def random_slices(model, count=6, side=32):
    """Slices that the model labels rightly, until something is changed."""
    images = (255 * torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(1))).byte()
    with torch.no_grad():
        labels = model.eval()(network_input(images)).argmax(1).byte()
    return SliceSet(images.numpy(), labels.numpy(), np.arange(count), tuple(f"p{n}" for n in range(count)))


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("unet", "vq_unet")])
def test_every_model_with_a_block_knows_its_own(name):
    torch.manual_seed(0)
    model = build_model(name, **SIZES)
    found = audit(model, random_slices(model), CLASSES)
    assert found.dice == 1.0
    for block in found.blocks:
        wanted = {"removed", "mean of the image"}
        if block.kind == "global":
            wanted |= {"another patient's", "tokens exchanged"}
            assert 0 <= block.entropy <= 1 + 1e-5
            assert -1 <= block.similarity <= 1
        if name == "l2gnet":
            wanted |= {"another patient's, heard by its own plan"}
            assert len(block.marginal_errors) == 2
        assert set(block.changes) == wanted
    kinds = {"attn_unet": ["local"] * 3, "transunet": None}.get(name, ["global"] * len(found.blocks))
    assert kinds is None or [block.kind for block in found.blocks] == kinds


@pytest.mark.parametrize("name", ["unet", "vq_unet"])
def test_a_model_without_a_block_is_refused(name):
    slices, owners = patients()
    with pytest.raises(ValueError, match="no block that relates or gates"):
        audit(build_model(name, **SIZES), slices, CLASSES, patients=owners)


@pytest.mark.parametrize(("codes", "receivers"), [(0, "codes"), (16, "codes"), (16, "tokens")])
@pytest.mark.parametrize("positions", ["none", "relative"])
def test_to_hear_ones_own_slots_is_to_hear_what_one_heard(positions, codes, receivers):
    torch.manual_seed(0)
    relation = "send-receive" if positions == "relative" or receivers == "tokens" else "symmetric"
    model = build_model("l2gnet", **SIZES, relation=relation, positions=positions, codes=codes, receivers=receivers)
    images = torch.rand(3, 1, 64, 64)
    model(images)  # from which the codebook starts; untrained, in evaluation, all tokens would have one code
    block = blocks_of(model)[0]
    with kept([block], len(images)) as seen, torch.no_grad():
        indices = model.trace(images).latent.codes
    answer, mapped = seen[block.name]
    told = (None if indices is None or receivers == "tokens" else indices.flatten(1), (8, 8))
    torch.testing.assert_close(model.mapper.heard(mapped.receiving, mapped.slots, *told), answer)
    others = model.mapper.heard(mapped.receiving, mapped.slots.roll(1, 1), *told)
    assert not torch.allclose(others, answer)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (
            lambda: monai.networks.nets.UNETR(1, 3, 32, 4, 32, 64, 4, spatial_dims=2),
            "vit.blocks.5",
        ),
        (
            lambda: monai.networks.nets.SwinUNETR(1, 3, feature_size=12, spatial_dims=2, window_size=2),
            "swinViT.layers1.0.blocks.0",
        ),
    ],
    ids=["UNETR", "SwinUNETR"],
)
def test_networks_of_others_can_be_audited_as_they_are(build, name):
    torch.manual_seed(0)
    model = build()
    slices = random_slices(model, count=5, side=64 if "swin" in name else 32)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = audit(model, slices, CLASSES, blocks=[name])
    assert found.dice == 1.0
    assert set(found.blocks[0].changes) == {"removed", "mean of the image", "another patient's", "tokens exchanged"}
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_tokens_lie_along_all_axes_but_images_and_channels():
    swin = monai.networks.nets.SwinUNETR(1, 3, feature_size=12, spatial_dims=2, window_size=2)
    block = blocks_of(swin, ["swinViT.layers1.0.blocks.0"])[0]
    assert block.token_axes(torch.zeros(2, 16, 16, 12)) == (1, 2)
    assert Block("conv", nn.Conv2d(4, 4, 1)).token_axes(torch.zeros(2, 4, 16, 16)) == (2, 3)
    assert Block("vit", nn.Identity()).token_axes(torch.zeros(2, 9, 16)) == (1,)


def test_where_channels_may_be_first_or_last_nothing_is_guessed():
    block, square = Block("mixed", nn.Sequential(nn.LayerNorm(16))), torch.zeros(2, 16, 16, 16)
    assert block.token_axes(torch.zeros(2, 16, 8, 32)) == (2, 3)
    assert block.token_axes(torch.zeros(2, 8, 16, 16)) == (1, 2)
    with pytest.raises(ValueError, match=r"layer norm of 16, got \(2, 16, 16, 16\), where both fit; give slices"):
        block.require_replaceable((square,), square, 2)


def test_a_block_that_is_named_twice_is_audited_once():
    model = Model(Doubled(), lambda features, made: features)
    assert [block.name for block in blocks_of(model, ["block", "block"])] == ["block"]


def test_what_cannot_be_audited_is_refused():
    slices, owners = patients()
    model = Model(Doubled(), lambda features, made: features)
    with pytest.raises(ValueError, match="no module 'blck'"):
        audit(model, slices, CLASSES, patients=owners, blocks=["blck"])
    with pytest.raises(ValueError, match=r"must be a sequence of names, got 'block'; give \['block'\]"):
        audit(model, slices, CLASSES, patients=owners, blocks="block")
    with pytest.raises(ValueError, match="needs a structure beside the background"):
        audit(model, slices, CLASSES[:1], patients=owners, blocks=["block"])
    with pytest.raises(ValueError, match=r"must be among the classes .*, got liver$"):
        audit(model, slices, CLASSES, patients=owners, blocks=["block"], structures=["a", "liver"])
    with pytest.raises(ValueError, match="that of each of 16 cases, got 3 names"):
        audit(model, slices, CLASSES, patients=owners[:3], blocks=["block"])
    with pytest.raises(ValueError, match="an output for each class or region, background, a, got 3"):
        audit(model, slices, CLASSES[:2], patients=owners, blocks=["block"])
    with pytest.raises(ValueError, match=r"logits \(B, L, 10, 10\), got \(16, 1, 10, 10\)|for each class"):
        audit(nn.Sequential(nn.Conv2d(1, 1, 1)), slices, CLASSES, patients=owners, blocks=["0"])
    with pytest.raises(ValueError, match="at least 5 patients for an interval, got 4"):
        audit(model, *(lambda few: (few[0], CLASSES))(patients(4)), patients=patients(4)[1], blocks=["block"])


def test_patients_without_the_structures_that_are_asked_for_do_not_count():
    slices, owners = patients(9)
    few = slices.labels.copy()
    few[8:][few[8:] == 2] = 1  # four patients keep b
    model = Model(Doubled(), lambda features, made: features)
    some = replace(slices, labels=few)
    with pytest.raises(ValueError, match="got 4 with one of its structures in their masks"):
        audit(model, some, CLASSES, patients=owners, blocks=["block"], structures=["b"])
    assert audit(model, some, CLASSES, patients=owners, blocks=["block"], structures=["a"]).patients == 9


class Gives(nn.Module):
    """Gives what a function makes of the features."""

    def __init__(self, made):
        super().__init__()
        self.made = made

    def forward(self, features):
        return self.made(features)


def write_into(features):
    features += features
    return features


class Named(NamedTuple):
    features: torch.Tensor
    weights: torch.Tensor | None = None


class ByName(nn.Module):
    """Gives features to a module by their name."""

    def __init__(self):
        super().__init__()
        self.inner = Doubled()

    def forward(self, images):
        return self.inner(features=images)


@pytest.mark.parametrize(
    ("block", "of_it"),
    [
        (Gives(write_into), lambda made: made),
        (Gives(lambda features: (2 * features, None)), lambda made: made[0]),
        (Gives(lambda features: Named(2 * features)), lambda made: made.features),
    ],
)
def test_it_is_all_one_how_a_block_gives_its_answer(block, of_it):
    plain = audited(Doubled(), lambda features, made: made - features)
    assert audited(block, lambda features, made: of_it(made) - features).rows() == plain.rows()


def test_it_is_all_one_how_a_block_is_given_its_features():
    slices, owners = patients()
    read = lambda features, made: made - features  # noqa: E731
    named = audit(Model(ByName(), read), slices, CLASSES, patients=owners, blocks=["block.inner"])
    assert named.blocks[0].changes == audited(Doubled(), read).blocks[0].changes


def test_what_a_block_is_given_by_name_is_heard_where_its_signature_has_it():
    mapper, tokens, given = L2GMapper(8, 4, relation="send-receive"), torch.rand(2, 9, 8), []
    with changed(Block("mapper", mapper), lambda inputs, output, own: given.append(inputs) or own):
        mapper(tokens, receivers=2 * tokens)
    (inputs,) = given
    assert inputs[1:3] == (None, None)
    assert torch.equal(inputs[3], 2 * tokens)


def test_what_follows_a_block_may_write_into_its_answer():
    """All of what it gives, of whose mean many places lie in one."""
    plain, written = (
        audited(Doubled(), read, residual=False)
        for read in (lambda features, made: made - features, lambda features, made: made.sub_(features))
    )
    assert written.rows() == plain.rows()


def test_how_many_slices_pass_at_once_changes_nothing():
    """Of the other patients' answers each goes to its own slice; only the order of exchanged tokens is drawn anew."""
    slices, owners = patients()
    alike = np.arange(16) % 4  # the pictures of two patients, again and again: some others' answers serve as well
    slices = replace(slices, images=slices.images[alike], labels=slices.labels[alike])
    model = Model(Doubled(), lambda features, made: made - features)
    all_at_once, few = (
        audit(model, slices, CLASSES, patients=owners, blocks=["block"], batch_size=size) for size in (16, 3)
    )
    names = ("removed", "mean of the image", "another patient's")
    assert [few.blocks[0].changes[name] for name in names] == [all_at_once.blocks[0].changes[name] for name in names]
    assert 0 < few.blocks[0].changes["another patient's"].dice.mean < 1


def test_where_the_residual_lies_around_a_block_its_answer_is_all_that_it_gives():
    silent = Gives(torch.zeros_like)
    read = lambda features, made: features + made  # noqa: E731
    assert audited(silent, read, residual=False).blocks[0].verdict == "idle"
    attention = nn.MultiheadAttention(4, 1, batch_first=True)
    block = Block("attention", attention)
    tokens = torch.rand(2, 3, 4)
    given = attention(tokens, tokens, tokens)
    assert torch.equal(block.answer((tokens, tokens, tokens), given), given[0])


class Gate(AttentionGate):
    """Opens as a function says."""

    def __init__(self, opened):
        nn.Module.__init__(self)
        self.opened = opened

    def forward(self, features):
        return self.opened(features)


@pytest.mark.parametrize(
    ("opened", "verdict", "words"),
    [
        (lambda features: torch.ones_like(features), "idle", "does as well"),
        (lambda features: torch.full_like(features, 0.5), "constant", "its mean over the image serves as well"),
        (lambda features: (features > 0) / 5 + 0.2, "leans", "needs that it opens where it does"),
    ],
)
def test_a_gate_is_told_by_its_mean(opened, verdict, words):
    """Whether it is found by the model or named by hand."""
    model = Model(Gate(opened), lambda features, made: (features > 0) * made * features / opened(features))
    slices, owners = patients()
    found = audit(model, slices, CLASSES, patients=owners, blocks=["block"]).blocks[0]
    assert (found.kind, found.verdict) == ("local", verdict)
    assert list(found.changes) == ["removed", "mean of the image"]
    assert words in str(found)


def test_structures_that_no_mask_tells_of_do_not_dilute_what_is_lost():
    slices, owners = patients()
    labels = np.where(slices.labels == 1, 1, 0).astype(np.uint8)
    asked = replace(slices, labels=labels)
    model = Model(Doubled(), lambda features, made: made - features)
    found = audit(model, asked, CLASSES, patients=owners, blocks=["block"], structures=["a"])
    assert (found.dice, found.structures) == (1.0, ("a",))
    assert found.blocks[0].changes["removed"].dice.mean == 1.0
    assert list(found.blocks[0].changes["removed"].structures) == ["a"]


def test_a_false_alarm_costs_a_healthy_patient_all():
    slices, owners = patients(count=10)
    healthy = np.repeat(np.arange(10) >= 6, 2)
    slices.images[healthy], slices.labels[healthy] = 0, 0

    def read(features, made):  # without the block, structures are found everywhere in empty pictures
        alarm = (features == 0).all(3, keepdim=True).all(2, keepdim=True) & (made == features)
        return features + alarm / 255

    found = audit(Model(Raised(), read), slices, CLASSES, patients=owners, blocks=["block"])
    assert found.patients == 6
    assert found.dice == 1.0
    removed = found.blocks[0].changes["removed"]
    assert removed.dice.mean == pytest.approx(0.4)  # of six who lose nothing, and four who lose all
    assert removed.missed.mean == 0.0
    few = np.flatnonzero(~healthy)[2:]
    slices.labels[few[:4]] = 0
    with pytest.raises(ValueError, match="at least 5 patients for an interval, got 4 with one of its structures"):
        audit(Model(Raised(), read), slices, CLASSES, patients=owners, blocks=["block"])


@pytest.mark.parametrize(
    ("block", "rule"),
    [
        (Gives(lambda features: (features, features)), "must give one tensor.*got 2"),
        (Gives(lambda features: [features]), "must give features.*got list"),
        (Gives(lambda features: features.sum((2, 3))), r"must give features.*got \(16, 1\)"),
        (nn.MultiheadAttention(1, 1), "must give features"),
    ],
)
def test_answers_that_cannot_be_replaced_are_refused(block, rule):
    def read(features, made):
        return features

    model = Model(block, read)
    if isinstance(block, nn.MultiheadAttention):
        model.forward = lambda images: (
            block(*[images.flatten(2).mT] * 3),
            Model.forward(Model(Doubled(), read), images),
        )[1]
    slices, owners = patients()
    with pytest.raises(ValueError, match=rule):
        audit(model, slices, CLASSES, patients=owners, blocks=["block"])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_what_a_block_adds_is_asked_of_features_alone():
    class ByList(ByName):
        def forward(self, images):
            return self.inner([images])

    block, (slices, owners) = ByList(), patients()
    block.inner = Gives(lambda levels: 2 * levels[0])
    model, blocks = Model(block, lambda features, made: made - features), ["block.inner"]
    with pytest.raises(ValueError, match=r"block.inner must be given its features first, .* got list; say residual=Fa"):
        audit(model, slices, CLASSES, patients=owners, blocks=blocks)
    assert audit(model, slices, CLASSES, patients=owners, blocks=blocks, residual=False).dice == 1.0


@pytest.mark.parametrize(("times", "found"), [(0, "none"), (2, "several")])
def test_a_block_must_be_called_once(times, found):
    slices, owners = patients()
    model = Model(Doubled(), lambda features, made: features)
    model.forward = lambda images: (
        [model.block(images) for _ in range(times)],
        -(255 * images - torch.arange(3).view(1, 3, 1, 1)).abs(),
    )[1]
    with pytest.raises(ValueError, match=f"call block block once for a batch, got {found}"):
        audit(model, slices, CLASSES, patients=owners, blocks=["block"])


def test_what_a_relation_looks_at_is_told_of_its_own_block():
    torch.manual_seed(0)
    model = build_model("transunet", **SIZES)
    slices = random_slices(model)
    names = [block.name for block in blocks_of(model)]
    own = {block.name: block.entropy for block in audit(model, slices, CLASSES).blocks}
    turned = audit(model, slices, CLASSES, blocks=[*names[::-1], "encoder.1"]).blocks
    assert {block.name: block.entropy for block in turned} == own | {"encoder.1": None}
    assert len(set(own.values())) == len(names)
    assert all(f"alike whoever asks, and {block.entropy:.2f} as wide" in str(block) for block in turned[:-1])


@pytest.mark.parametrize(("name", "blocks"), [("attn_unet", []), ("l2gnet", ["encoder.1"])])
def test_no_relation_is_looked_at_that_is_not_told(name, blocks, monkeypatch):
    monkeypatch.setattr("l2gnet.inspection.audit.relations", None)
    torch.manual_seed(0)
    model = build_model(name, **SIZES)
    assert all(block.entropy is None for block in audit(model, random_slices(model), CLASSES, blocks=blocks).blocks)


def test_the_errors_of_plans_are_told_in_words():
    torch.manual_seed(0)
    model = build_model("l2gnet", **SIZES)
    (block,) = audit(model, random_slices(model), CLASSES).blocks
    assert max(block.marginal_errors) <= 1e-4
    assert str(block).endswith(f"; plans within {max(block.marginal_errors):.0e} of their sums")


def test_a_model_is_left_in_the_mode_in_which_it_was():
    slices, owners = patients()
    model = Model(Doubled(), lambda features, made: features).train()
    model.block.eval()
    audit(model, slices, CLASSES, patients=owners, blocks=["block"])
    assert (model.training, model.block.training) == (True, False)


def test_words_say_no_more_than_was_found():
    found = audited(Doubled(), lambda features, made: made - features).blocks[0]
    other = replace(found.changes["another patient's"], dice=Loss(0.1, -0.1, 0.3))
    assert "cannot tell" in str(replace(found, changes=found.changes | {"another patient's": other}))
    idle = replace(found.changes["removed"], dice=Loss(0.0, 0.0, 0.0))
    assert "though another patient's answer misleads it" in str(
        replace(found, changes=found.changes | {"removed": idle})
    )
    assert "worse, in one seed, may be luck" in str(replace(found, worth=Worth(0.02, -0.01, 0.05)))
    assert str(replace(found, worth=Worth(0.02, 0.01, 0.05, 3, 0.009))).endswith(
        "training without it is worse, in 3 seeds"
    )
    assert "worse, in 3 seeds, may be luck" in str(replace(found, worth=Worth(0.02, 0.01, 0.05, 3, 0.011)))
    unsure = replace(idle, dice=Loss(0.001, -0.01, 0.012), missed=Loss(0.024, 0.013, 0.037))
    said = str(replace(found, changes=found.changes | {"removed": unsure}))
    assert "on average (these patients allow for a loss of 1.2 points), though it misses 2.4 points more" in said


def test_worth_is_that_of_runs_alike_but_for_the_block(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / f"with/{seed}", "l2gnet", seed, gain=0.1, relation="send-receive")
        write_run(tmp_path / f"without/{seed}", "l2gnet", seed, relation="none")
    write_run(tmp_path / "longer", "l2gnet", relation="none", epochs=9)
    having, lacking = (read_runs(tmp_path / name) for name in ("with", "without"))
    worth = worth_of(having, lacking)
    assert (worth.mean, worth.seeds) == (pytest.approx(0.1), 2)
    assert np.isnan(worth_of(having[:1], lacking[:1]).seed_error)
    with pytest.raises(ValueError, match="must have the same seeds"):
        worth_of(having, lacking[:1])
    with pytest.raises(ValueError, match="epochs 3 and 9"):
        worth_of(having[:1], read_runs(tmp_path / "longer"))
    with pytest.raises(ValueError, match="relation 'none' and 'send-receive'"):
        worth_of([lacking[0], having[1]], lacking)  # of two models


def test_worth_is_that_of_the_audited_model(tmp_path):
    write_run(tmp_path / "with", "l2gnet", gain=0.1, relation="send-receive", heads=4)
    write_run(tmp_path / "without", "l2gnet", relation="none", heads=4)
    having, lacking = (read_runs(tmp_path / name) for name in ("with", "without"))
    own = {"model": "l2gnet", "relation": "send-receive", "heads": 4, "epochs": 9, "codes": 16}
    assert worth_of(having, lacking, own).mean == pytest.approx(0.1)
    with pytest.raises(ValueError, match=r"audited model, which has heads 2, but .*with has 4; name runs"):
        worth_of(having, lacking, own | {"heads": 2})


@pytest.mark.parametrize(("name", "others"), [("data", "acdc"), ("structures", "liver"), ("size_px", 96)])
def test_worth_is_that_of_the_audited_task(name, others, tmp_path):
    task = {"data": "phantom", "structures": "", "size_px": 64}
    write_run(tmp_path / "with", "l2gnet", gain=0.1, relation="send-receive", **task)
    write_run(tmp_path / "without", "l2gnet", relation="none", **task)
    having, lacking = (read_runs(tmp_path / name) for name in ("with", "without"))
    assert worth_of(having, lacking, task).mean == pytest.approx(0.1)
    with pytest.raises(ValueError, match=rf"audited model, which has {name} .*{others}.*, but .*with has .*; name"):
        worth_of(having, lacking, task | {name: others})


def test_worth_is_not_told_by_runs_that_have_the_block_too(tmp_path):
    write_run(tmp_path / "with", "l2gnet", gain=0.1, relation="send-receive", width=8)
    write_run(tmp_path / "wider", "l2gnet", relation="send-receive", width=64)
    write_run(tmp_path / "other", "unet", relation="send-receive", width=8)  # which has none, whatever its settings say
    having, wider, other = (read_runs(tmp_path / name) for name in ("with", "wider", "other"))
    with pytest.raises(ValueError, match=r"must have another relation .*, but .*wider has 'send-receive', too; name"):
        worth_of(having, wider)
    assert worth_of(having, other).mean == pytest.approx(0.1)


def test_worth_is_of_one_block():
    torch.manual_seed(0)
    model = build_model("synergynet", **SIZES)
    with pytest.raises(ValueError, match="training without one block, got bottleneck"):
        audit(model, random_slices(model), CLASSES, worth=Worth(0.1, 0.05, 0.2))


def test_worth_is_told_by_training_alone():
    found = audited(Doubled(), lambda features, made: made - features).blocks[0]
    assert "only training without it can tell" in str(found)
    assert "matters" in str(replace(found, worth=Worth(0.03, 0.01, 0.05)))
    assert "but training without it is not worse" in str(replace(found, worth=Worth(0.0, -0.01, 0.01)))
