"""Changes within a model, against what they must be by definition: every token by itself, plans by POT and scipy."""

import copy
import functools
import json
import math
from dataclasses import replace

import numpy as np
import ot
import pytest
import scipy.optimize
import torch
from einops import rearrange
from torch import nn

from l2gnet import build_model
from l2gnet.data.outputs import labels_of, probabilities_of
from l2gnet.data.regions import NO_REGIONS, Regions
from l2gnet.data.slices import SliceSet
from l2gnet.evaluation.overlap import Overlap
from l2gnet.inspection.changed_parts import ChangedRelation
from l2gnet.inspection.interventions import (
    Intervener,
    Interventions,
    intervene,
    intervene_slices,
    mean_skips,
)
from l2gnet.method.codebook import Codebook
from l2gnet.method.mapper import L2GMapper
from l2gnet.method.places import WAVELENGTHS
from l2gnet.models import MODELS
from l2gnet.models.backbone import SegmentationModel, Trace
from l2gnet.models.blocks.latent import Latent
from l2gnet.models.checkpoint import load_checkpoint
from l2gnet.prediction.inference import network_input

SIZES = {"classes": 3, "width": 4, "depth": 3}
CODES = {"codes": 24, "code_dim": 16}


@functools.cache
def trained(name="l2gnet", **options):
    """A model that says something: its norms have seen images, its codes are those of tokens, its head is balanced."""
    torch.manual_seed(0)
    if name in ("l2gnet", "vq_unet", "synergynet"):
        options = CODES | options
    if name == "l2gnet":
        options = {"references": 6, "receivers": "codes"} | options
    model = build_model(name, **SIZES | options)
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = None  # the mean of what they have seen, so that little is enough
        for _ in range(4):
            model(some_images(6))
        model.eval()
        if model.codebook is not None:
            tokens = model.bottleneck.tokens(model.encoded(some_images(6))[-1]).flatten(0, 1)
            model.codebook.vectors.copy_(tokens[:: len(tokens) // 23][:24])
        model.head.bias -= model(some_images(6)).mean((0, 2, 3))
    return model


def some_images(count=3, side=48, seed=1):
    """Noise of another contrast in each patch of 8 by 8 pixels."""
    generator = torch.Generator().manual_seed(seed)
    patches = torch.rand(count, 1, side // 8, side // 8, generator=generator)
    return torch.rand(count, 1, side, side, generator=generator) * patches.repeat_interleave(8, 2).repeat_interleave(
        8, 3
    )


def codes_of(model, images):
    return model.trace(images).latent.codes


# What a token is given, by its definition.


def plan_of(cost, epsilon, source, target):
    """By POT, at one token a row, to rounding; only where there is mass."""
    plan = np.zeros(cost.shape)
    rows, columns = np.ix_(source > 0, target > 0)
    if rows.size and columns.size:
        a, b, c = source[source > 0], target[target > 0], cost[rows, columns]
        plan[rows, columns] = ot.sinkhorn(a, b, c, epsilon, method="sinkhorn_log", stopThr=1e-13, numItermax=200_000)
    return plan


def cheapest(cost, codes, source, target):
    """By linear programming, on codes; shared alike by their tokens."""
    names, row = np.unique(codes, return_inverse=True)
    U, R = len(names), cost.shape[1]
    mass = np.bincount(row, source)
    prices = np.stack([cost[row == u][0] for u in range(U)])
    sums = np.concatenate([np.kron(np.eye(U), np.ones(R)), np.kron(np.ones(U), np.eye(R))])
    found = scipy.optimize.linprog(prices.ravel(), A_eq=sums, b_eq=np.concatenate([mass, target]), method="highs-ds")
    on_codes = found.x.reshape(U, R)
    return on_codes[row] * (source / np.maximum(mass[row], 1e-30))[:, None]


def given(mapper, tokens, codes, left, kept, *, exact=False, slots=None, shape=None):
    """What each token of one image is given, and what the references have gathered."""
    answers, gathered = [], []
    N = len(tokens)
    source, target = left / max(left.sum(), 1), kept / max(kept.sum(), 1)
    sets = mapper.references.detach().reshape(-1, mapper.heads, *mapper.references.shape[-2:]).numpy()
    for head, part in enumerate(np.split(tokens, mapper.heads, axis=1)):
        plans = []
        for references, epsilon in zip(sets[:, head], mapper.setting.epsilons, strict=True):
            lengths = np.linalg.norm(part, axis=1)[:, None] * np.linalg.norm(references, axis=1)
            cost = (1 - part @ references.T / lengths) / 2
            plans.append(cheapest(cost, codes, source, target) if exact else plan_of(cost, epsilon, source, target))
        waves = np.zeros((N, 0))
        if mapper.positions:
            y, x = np.divmod(np.arange(N), shape[1])
            waves = np.exp(
                2j * math.pi * np.concatenate([np.outer(axis, 1 / np.array(WAVELENGTHS)) for axis in (y, x)], 1)
            )
        own = plans[0].T @ np.concatenate([part, waves], axis=1) / np.maximum(target, 1e-30)[:, None]
        gathered.append(own)
        heard = plans[-1] / np.maximum(plans[-1].sum(1, keepdims=True), 1e-30)
        answer = heard @ (own if slots is None else slots[head])
        d = part.shape[1]
        seen = answer[:, d:] * waves.conj()
        answers += [answer[:, :d].real, seen.real, seen.imag]
    return np.concatenate(answers, axis=1), gathered


def relation_of(asked, *, codes=6, theirs=None, **options):
    torch.manual_seed(2)
    options = {"relation": "send-receive", "heads": 2, "epsilon": 0.1, "epsilon_receive": 0.2} | options
    mapper = L2GMapper(8, 5, **options, tolerance=1e-12, max_iterations=50_000).double()
    codebook = Codebook(codes, 8).double()
    return ChangedRelation(mapper, codebook, asked, theirs), mapper, codebook


def indices_of(seed, B=3, N=12, codes=6):
    indices = torch.randint(0, codes - 1, (B, N), generator=torch.Generator().manual_seed(seed))
    indices[0, :5] = codes - 1  # the last code is in the first image alone
    return indices


@pytest.mark.parametrize(
    "asked",
    [
        Interventions(silenced_codes=(5,)),
        Interventions(silenced_codes=(0, 2, 5)),
        Interventions(silenced_references=(1,)),
        Interventions(silenced_references=(0, 3), silenced_codes=(1,)),
        Interventions(relation="exact"),
        Interventions(relation="exact", silenced_codes=(5, 1), silenced_references=(4,)),
        Interventions(relation="mean", silenced_codes=(5,)),
        Interventions(relation="none"),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "options",
    [{}, {"relation": "symmetric"}, {"positions": True, "heads": 1}],
    ids=["send-receive", "symmetric", "positions"],
)
@torch.no_grad()
def test_what_tokens_are_given_is_what_each_by_itself_would_be(asked, options):
    relation, mapper, codebook = relation_of(asked, **options)
    indices = indices_of(3)
    tokens = codebook.vectors[indices]
    answer = relation(tokens, indices, (3, 4)).tokens
    kept = ~np.isin(np.arange(5), asked.silenced_references)
    for b, codes in enumerate(indices.numpy()):
        left = ~np.isin(codes, asked.silenced_codes)
        exact = asked.relation == "exact"
        wanted, _ = given(mapper, tokens[b].numpy(), codes, left, kept, exact=exact, shape=(3, 4))
        if asked.relation == "mean":
            wanted = left[:, None] * wanted[left].mean(0)
        if asked.relation == "none":
            wanted = np.zeros_like(wanted)
        np.testing.assert_allclose(answer[b].numpy(), wanted, atol=2e-9)


@pytest.mark.parametrize("epsilons", [{"epsilon": 0.05, "epsilon_receive": 0.4}, {"epsilon_receive": 0.05}], ids=str)
@torch.no_grad()
def test_another_epsilon_relates_as_a_mapper_that_was_built_with_it(epsilons):
    relation, _, codebook = relation_of(Interventions(**epsilons))
    _, built, _ = relation_of(Interventions(), **epsilons)
    indices = indices_of(3)
    tokens = codebook.vectors[indices]
    answer = relation(tokens, indices, (3, 4)).tokens
    np.testing.assert_allclose(answer.numpy(), built(tokens, indices, (3, 4)).tokens.numpy(), atol=2e-9)
    _, own, _ = relation_of(Interventions())
    assert (answer - own(tokens, indices, (3, 4)).tokens).abs().max() > 1e-3


@torch.no_grad()
def test_another_images_references_are_heard_through_ones_own_plan():
    asked = Interventions(relation="other", silenced_codes=(1,), silenced_references=(2,))
    sender, mapper, codebook = relation_of(Interventions(silenced_codes=(1,), silenced_references=(2,)))
    theirs, mine = indices_of(4), indices_of(5)
    sender(codebook.vectors[theirs], theirs, (3, 4))
    relation, *_ = relation_of(asked, theirs=sender.slots)
    answer = relation(codebook.vectors[mine], mine, (3, 4)).tokens
    kept = np.arange(5) != 2
    for b in range(3):
        _, slots = given(mapper, codebook.vectors[theirs[b]].numpy(), None, (theirs[b] != 1).numpy(), kept)
        left = (mine[b] != 1).numpy()
        wanted, _ = given(mapper, codebook.vectors[mine[b]].numpy(), None, left, kept, slots=slots)
        np.testing.assert_allclose(answer[b].numpy(), wanted, atol=1e-9)


@torch.no_grad()
def test_plans_have_the_masses_that_are_left():
    asked = Interventions(silenced_codes=(5, 0), silenced_references=(1, 2))
    for kind in ("own", "exact"):
        relation, _, codebook = relation_of(Interventions(**vars(asked) | {"relation": kind}))
        indices = indices_of(6)
        relation(codebook.vectors[indices], indices, (3, 4))
        for b, codes in enumerate(indices):
            names = relation.plans.codes[b].tolist()
            left = sum(int((codes == name).sum()) for name in range(1, 5))
            rows = [int((codes == name).sum()) / left if name in range(1, 5) else 0.0 for name in names]
            for plans in (relation.plans.sending, relation.plans.receiving):
                for plan in plans[b]:
                    np.testing.assert_allclose(plan.sum(1).numpy(), rows, atol=1e-12)
                    np.testing.assert_allclose(plan.sum(0).numpy(), [1 / 3, 0, 0, 1 / 3, 1 / 3], atol=1e-9)


# The whole model.


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_without_interventions_all_is_as_the_model_has_it_to_the_bit(name):
    model, images = trained(name), some_images()
    found = intervene(model, images, Interventions())
    assert torch.equal(found.probabilities, model(images).softmax(1))
    assert torch.equal(found.labels, model(images).argmax(1))
    assert not found.changed.any()
    latent = model.trace(images).latent
    assert (found.codes is None) == (latent.codes is None)
    if model.mapper is not None:
        assert torch.equal(found.sending.flatten(0, 1), latent.transport.plan)
        assert torch.equal(found.receiving.flatten(0, 1), latent.receiving.plan)


def test_a_shipped_model_passes_to_the_bit_too():
    model, _ = load_checkpoint("phantom-key")  # its tokens have no codes
    found = intervene(model, some_images(side=96), Interventions())
    assert torch.equal(found.probabilities, model(some_images(side=96)).softmax(1))
    assert found.sending.shape == (3, model.mapper.heads, 576, 16)
    assert torch.equal(found.row_codes[0], torch.arange(576))


@torch.no_grad()
def recomposed(model, images, tokens, given):
    """Logits of a model whose tokens and what they are given are these."""
    *skips, features = model.encoded(images)
    whole = torch.cat([tokens, given], dim=2)
    changed = model.bottleneck.from_tokens(rearrange(whole, "B (h w) d -> B d h w", h=features.shape[2]))
    levels = model.deepened(skips, changed)
    return model.decoded(levels, model.trace(images).latent).logits


@torch.no_grad()
def test_silenced_tokens_hear_nothing_and_say_the_mean_of_the_others():
    model, images = trained(), some_images()
    codes = codes_of(model, images).flatten(1)
    silenced = tuple(codes[0].unique().tolist()[:2])
    found = intervene(model, images, Interventions(silenced_codes=silenced))
    left = ~torch.isin(codes, torch.tensor(silenced))
    tokens = model.codebook.vectors[codes]
    wanted = []
    for b in range(3):
        one, kept = tokens[b : b + 1].clone(), left[b]
        answer = torch.zeros_like(one)
        answer[:, kept] = model.mapper(one[:, kept], codes[b : b + 1, kept]).tokens  # a smaller image, without them
        one[:, ~kept] = one[:, kept].mean(1, keepdim=True)
        wanted.append(recomposed(model, images[b : b + 1], one, answer))
    torch.testing.assert_close(found.probabilities, torch.cat(wanted).softmax(1), atol=1e-4, rtol=1e-3)
    assert found.changed.any()
    assert torch.equal(found.changed, found.labels != found.plain_labels)


@pytest.mark.parametrize("relation", ["own", "other", "exact"])
@torch.no_grad()
def test_where_tokens_receive_each_hears_by_a_row_of_its_own(relation):
    model, images = trained(receivers="tokens"), some_images()
    plain, latent = intervene(model, images, Interventions()), model.trace(images).latent
    assert torch.equal(plain.probabilities, model(images).softmax(1))
    assert torch.equal(plain.hearing.flatten(0, 1), latent.receiving.plan)
    codes = latent.codes.flatten(1)
    silenced = tuple(codes[0].unique().tolist()[:2])
    found = intervene(model, images, Interventions(silenced_codes=silenced, relation=relation), other=images.flip(0))
    left = ~torch.isin(codes, torch.tensor(silenced))
    for one in (plain, found):
        kept = torch.ones_like(left) if one is plain else left
        shares = kept / kept.sum(1, keepdim=True)
        torch.testing.assert_close(one.hearing.sum(3), shares[:, None].expand(-1, 4, -1).float())
        for b, names in enumerate(one.row_codes):
            for row, code in enumerate(names.tolist()):
                summed = one.hearing[b][:, codes[b] == code].sum(1)
                torch.testing.assert_close(one.receiving[b, :, row], summed)
    assert found.hearing.std(2).amax() > 1e-4  # tokens of one code hear as themselves
    if relation == "own":
        tokens, as_they_were = model.codebook.vectors[codes], model.bottleneck.tokens(model.encoded(images)[-1])
        wanted = []
        for b in range(3):
            one, kept = tokens[b : b + 1].clone(), left[b]
            answer = torch.zeros_like(one)
            without = (one[:, kept], codes[b : b + 1, kept], None, as_they_were[b : b + 1, kept])
            answer[:, kept] = model.mapper(*without).tokens  # a smaller image, without them
            one[:, ~kept] = one[:, kept].mean(1, keepdim=True)
            wanted.append(recomposed(model, images[b : b + 1], one, answer))
        torch.testing.assert_close(found.probabilities, torch.cat(wanted).softmax(1), atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_an_image_that_has_not_what_is_changed_stays_as_it_is():
    model, images = trained(), some_images(6)
    images[0] = 0  # which has few codes
    codes = codes_of(model, images)
    only = next(code for code in codes.unique().tolist() if any((one != code).all() for one in codes))
    found = intervene(model, images, Interventions(silenced_codes=(only,)))
    has = torch.tensor([bool((one == only).any()) for one in codes])
    same = (found.probabilities == model(images).softmax(1)).flatten(1).all(1)
    assert torch.equal(same, ~has)


@torch.no_grad()
def test_with_all_silenced_nothing_is_related():
    model, images = trained(), some_images()
    everything = Interventions(silenced_codes=tuple(range(CODES["codes"])))
    found = intervene(model, images, everything)
    assert found.sending.sum() == found.receiving.sum() == 0
    tokens = torch.zeros(3, 36, CODES["code_dim"])
    torch.testing.assert_close(found.probabilities, recomposed(model, images, tokens, tokens).softmax(1))
    for kind in ("mean", "exact", "other"):
        again = intervene(model, images, Interventions(everything.silenced_codes, relation=kind), other=images[:1])
        torch.testing.assert_close(again.probabilities, found.probabilities)
    deaf = intervene(model, images, Interventions(silenced_references=tuple(range(6))))
    none = intervene(model, images, Interventions(relation="none"))
    torch.testing.assert_close(deaf.probabilities, none.probabilities)
    assert none.sending is None
    assert deaf.sending.sum() == 0


@torch.no_grad()
def test_a_code_speaks_for_another_at_once():
    model, images = trained(), some_images()
    codes = codes_of(model, images)
    a, b, c = codes.unique().tolist()[:3]
    found = intervene(model, images, Interventions(replaced_codes={a: b, b: c}))
    wanted = codes.masked_fill(codes == a, b).masked_fill(codes == b, c)
    assert torch.equal(found.codes, wanted)
    tokens = model.codebook.vectors[wanted.flatten(1)]
    answer = model.mapper(tokens, wanted.flatten(1)).tokens
    assert torch.equal(found.probabilities, recomposed(model, images, tokens, answer).softmax(1))
    both = intervene(model, images, Interventions(silenced_codes=(b,), replaced_codes={a: b}))
    alike = intervene(model, images, Interventions(silenced_codes=(a, b)))
    torch.testing.assert_close(both.probabilities, alike.probabilities, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_to_hear_ones_own_image_as_the_other_changes_nothing():
    model, images = trained(), some_images()
    own = model(images).softmax(1)
    asked = Interventions(relation="other")
    torch.testing.assert_close(intervene(model, images, asked, other=images).probabilities, own)
    assert not torch.allclose(intervene(model, images, asked, other=images.flip(0)).probabilities, own)
    silenced = {"silenced_codes": tuple(codes_of(model, images)[0].unique().tolist()[:2]), "silenced_references": (1,)}
    alike = [intervene(model, images, Interventions(**silenced, relation=of), other=images) for of in ("other", "own")]
    torch.testing.assert_close(alike[0].probabilities, alike[1].probabilities)
    one = Intervener(model, other=some_images(1, 64, seed=9))  # of another size, for all
    found = one.run(images, asked)
    assert torch.equal(one.run(images[:1], asked).codes, found.codes[:1])


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("level", [0, 2])
@torch.no_grad()
def test_a_skip_is_its_mean_over_images(name, level):
    model, images, reference = trained(name), some_images(), some_images(5, seed=4)
    seen = []
    up = model.decoder[2 - level]
    watch = up.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    model(reference)
    watch.remove()
    change = up.register_forward_pre_hook(
        lambda module, inputs: (inputs[0], seen[0].mean(0, keepdim=True).expand_as(inputs[1]))
    )
    wanted = model(images).softmax(1)
    change.remove()
    found = intervene(model, images, Interventions(skips=(level,)), reference_images=reference)
    torch.testing.assert_close(found.probabilities, wanted)
    assert not torch.allclose(found.probabilities, model(images).softmax(1))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("l2gnet", {"relation": "symmetric"}),
        ("l2gnet", {"relation": "symmetric", "readout": "grid", "references": 36}),
        ("l2gnet", {"positions": "relative"}),
        ("l2gnet", {"positions": "absolute", "tokens_at": 4}),
        ("l2gnet", {"relation": "attention"}),
        ("l2gnet", {"relation": "mean"}),
        ("l2gnet", {"relation": "none"}),
        ("l2gnet", {"codes": 0}),
        ("vq_unet", {}),
        ("synergynet", {}),
    ],
    ids=str,
)
def test_every_model_answers_to_what_it_has(name, options):
    model, images = trained(name, **options), some_images()
    has = model.mapper is not None
    asked = []
    if model.codebook is not None:
        a, b = codes_of(model, images).unique().tolist()[:2]
        asked += [Interventions(silenced_codes=(a,)), Interventions(replaced_codes={a: b})]
    if options.get("relation") != "none" and name == "l2gnet":
        asked += [Interventions(relation="none"), Interventions(relation="mean")]
    if has:
        asked += [Interventions(relation=kind) for kind in ("exact", "other")]
        asked += [Interventions(silenced_references=(0,))]
    one = Intervener(model, other=some_images(3, seed=5))
    plain = one.run(images, Interventions()).probabilities
    for each in asked:
        found = one.run(images, each).probabilities
        assert found.isfinite().all()
        nothing_new = each.relation == options.get("relation") == "mean"
        assert torch.allclose(found, plain, atol=1e-6) == nothing_new, each


@pytest.mark.parametrize(
    ("asked", "name", "words"),
    [
        (
            Interventions(silenced_codes=(1,)),
            "unet",
            "codes to silence or replace must be none for a model without a codebook",
        ),
        (Interventions(replaced_codes={1: 99}), "vq_unet", r"numbers from 0 to 23, as the model has, got \[99\]"),
        (Interventions(silenced_references=(0,)), "vq_unet", "none for a model without references"),
        (Interventions(silenced_references=(6,)), "l2gnet", r"numbers from 0 to 5, as the model has, got \[6\]"),
        (Interventions(relation="mean"), "synergynet", "relation must be one of own for this model, got 'mean'"),
        (Interventions(epsilon=0.1), "vq_unet", "epsilon must be None for a model without such a plan, got 0.1"),
        (Interventions(skips=(3,)), "unet", r"numbers from 0 to 2, as the model has, got \[3\]"),
        (Interventions(skips=(1,)), "unet", "levels whose means are given, got 1; give reference_images"),
        (Interventions(relation="other"), "l2gnet", "one image or 3, to hear their references by relation 'other'"),
    ],
)
def test_what_a_model_has_not_is_refused_in_words(asked, name, words):
    with pytest.raises(ValueError, match=words):
        intervene(trained(name), some_images(), asked)


def test_other_relations_than_transport_can_be_taken_away_but_not_exchanged():
    with pytest.raises(ValueError, match="one of own, none, mean for this model, got 'exact'"):
        intervene(trained(relation="attention"), some_images(), Interventions(relation="exact"))


def test_means_of_images_of_another_size_are_refused():
    model = trained("unet")
    means = mean_skips(model, [some_images(side=64)])
    with pytest.raises(ValueError, match=r"skip_means must be the shape \(4, 48, 48\) .* take means of images of this"):
        Intervener(model, skip_means=means).run(some_images(), Interventions(skips=(0,)))
    with pytest.raises(ValueError, match="one or more"):
        mean_skips(model, [])


class Inverted(SegmentationModel):
    """Of another backbone: dark and bright."""

    def __init__(self):
        super().__init__(channels=1, smallest_px=2)
        self.bottleneck, self.unused = nn.Identity(), nn.Parameter(torch.zeros(()))

    def _trace(self, images):
        return Trace(torch.cat([1 - images, images], dim=1), Latent(images))


def test_another_backbone_can_be_looked_at_but_not_changed():
    found = intervene(Inverted(), some_images(), Interventions())
    assert torch.equal(found.labels, (some_images()[:, 0] > 0.5).long())
    with pytest.raises(ValueError, match="skips must be none for a model without skips of the shared backbone"):
        intervene(Inverted(), some_images(), Interventions(skips=(0,)))
    with pytest.raises(ValueError, match="model must be one of the shared backbone, to have skips, got Inverted"):
        mean_skips(Inverted(), [some_images()])


class Failing(nn.Module):
    """Fails where it is used."""

    def forward(self, features):
        raise RuntimeError("out of memory")


def test_the_model_is_left_as_it_was_also_when_something_fails():
    model = copy.deepcopy(trained()).train()
    model.encoder[0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    parts = [id(part) for part in model.modules()]
    asked = Interventions(silenced_codes=(1, 2), silenced_references=(1,), relation="exact", skips=(0,))
    intervene(model, some_images(), asked, reference_images=some_images())
    head, model.head = model.head, Failing()
    with pytest.raises(RuntimeError, match="out of memory"):
        intervene(model, some_images(), asked, reference_images=some_images())
    model.head = head
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [part.training for part in model.modules()] == modes
    assert [id(part) for part in model.modules()] == parts
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


@torch.no_grad()
def test_what_is_kept_of_a_model_is_gone_when_its_weights_move():
    model = build_model("l2gnet", classes=3, width=4, depth=2).eval()
    images, intervener = torch.rand(1, 1, 16, 16), Intervener(model)
    before = intervener.run(images, Interventions()).probabilities
    with torch.no_grad():
        model.head.bias += torch.tensor([5.0, 0, 0])
    after = intervener.run(images, Interventions()).probabilities
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, model(images).softmax(1))


def test_what_is_kept_of_the_other_images_is_gone_with_them():
    model, images, other = trained(), some_images(), some_images(1, seed=9)
    asked, one = Interventions(relation="other"), Intervener(model, other=other)
    one.run(images, asked)
    with torch.no_grad():
        for each in model.encoder.parameters():
            each.mul_(-1)
    fresh = intervene(model, images, asked, other=other)
    assert torch.equal(one.run(images, asked).probabilities, fresh.probabilities)


def test_what_is_kept_of_the_last_images_is_used_for_them_alone():
    model, images = trained(), some_images()
    one = Intervener(model)
    first = one.run(images, Interventions(silenced_references=(1,)))
    images *= 0.5  # in place: another picture in the same memory
    assert torch.equal(one.run(images, Interventions()).probabilities, model(images).softmax(1))
    passes = []
    watch = model.stem.register_forward_hook(lambda *_: passes.append(1))
    again = one.run(images * 1, Interventions(silenced_references=(1,)))
    watch.remove()
    assert passes == []
    fresh = intervene(model, images, Interventions(silenced_references=(1,)))
    assert torch.equal(again.probabilities, fresh.probabilities)
    assert not torch.equal(again.probabilities, first.probabilities)


# As JSON.


@pytest.mark.parametrize(
    "asked",
    [
        Interventions(),
        Interventions((3, 1), {5: 7, 8: 7}, (0,), "exact", (2, 0)),
        Interventions(epsilon=0.5, epsilon_receive=1e-3),
    ],
    ids=str,
)
def test_interventions_come_back_from_json(asked):
    assert Interventions.from_json(json.loads(json.dumps(asked.to_json()))) == asked
    assert Interventions.from_json({}) == Interventions()


@pytest.mark.usefixtures("as_a_user")
def test_numbers_of_an_array_are_numbers():
    rare = np.flatnonzero([0, 1, 1])
    asked = Interventions(silenced_codes=tuple(rare), replaced_codes={np.int64(0): np.int64(3)})
    assert json.loads(json.dumps(asked.to_json())) == Interventions((1, 2), {0: 3}).to_json()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"silenced": [1]}, "unknown intervention 'silenced'; did you mean 'silenced_codes'"),
        ({"silenced_codes": 3}, "silenced_codes must be a tuple of numbers from 0, got 3"),
        ({"silenced_codes": [-1]}, r"silenced_codes must be a tuple of numbers from 0, got \(-1,\)"),
        ({"skips": [True]}, "skips must be a tuple of numbers from 0"),
        ({"silenced_references": [1.0]}, "silenced_references must be a tuple of numbers from 0"),
        ({"replaced_codes": {"a": 1}}, "replaced_codes must be a number from 0 for each of some others"),
        ({"replaced_codes": [[1, 2]]}, "replaced_codes must be a number from 0 for each of some others"),
        ({"silenced_codes": [1], "replaced_codes": {"1": 2}}, r"not silenced too, got \[1\]; leave out one of the two"),
        ({"relation": "nobody"}, "relation must be one of own, none, mean, other, exact, got 'nobody'"),
        ({"relation": ["own"]}, "relation must be one of own, none, mean, other, exact"),
        ({"epsilon": 0}, "epsilon must be None, or a weight above 0, got 0"),
        ({"epsilon_receive": "0.1"}, "epsilon_receive must be None, or a weight above 0"),
        ([], "interventions must be an object of names and values"),
    ],
    ids=str,
)
def test_json_that_breaks_a_rule_is_refused(as_a_user, values, words):
    with pytest.raises(ValueError, match=words):
        Interventions.from_json(values)


# Over slices.


def slices_of(model, regions=NO_REGIONS):
    """Three cases, of which two are one patient's, that the model labels rightly."""
    images = (255 * some_images(7)).byte()
    with torch.no_grad():
        labels = labels_of(probabilities_of(model(network_input(images)), regions), regions).byte()
    return SliceSet(images.numpy(), labels.numpy(), np.array([0, 0, 1, 1, 1, 2, 2]), ("a1", "a2", "b"))


@pytest.mark.parametrize("batch_size", [2, 7])
def test_scores_are_those_of_all_slices_of_a_case(batch_size):
    model = trained()
    slices = slices_of(model)
    asked = Interventions(silenced_references=(0, 1), skips=(1,))
    told = []
    found = intervene_slices(model, slices, asked, batch_size=batch_size, progress=lambda *done: told.append(done))
    images = network_input(slices.images)
    whole = intervene(model, images, asked, reference_images=images)
    overlap = Overlap(3, 3)
    overlap.add(whole.labels, torch.from_numpy(slices.labels), torch.from_numpy(slices.case))
    np.testing.assert_allclose(found.changed_dice, overlap.dice(), atol=1e-3)
    assert found.names == ("a1", "a2", "b")
    assert np.isin(found.plain_dice, [1.0, np.nan]).all() or np.nanmin(found.plain_dice) == 1
    shares = [whole.changed[slices.case == case].float().mean().item() for case in range(3)]
    np.testing.assert_allclose(found.changed_share, shares, atol=1e-3)
    assert max(shares) > 0.01
    assert told == [(done, 14) for done in ((2, 4, 6, 7, 9, 11, 13, 14) if batch_size == 2 else (7, 14))]


def test_slices_hear_those_of_other_patients():
    model = trained()
    slices = slices_of(model)
    asked = Interventions(relation="other")
    first, again = (intervene_slices(model, slices, asked, patients=("a", "a", "b")) for _ in range(2))
    assert np.array_equal(first.changed_dice, again.changed_dice, equal_nan=True)
    assert (first.changed_share > 0).any()
    with pytest.raises(ValueError, match="two or more for relation 'other', got 1"):
        intervene_slices(model, slices, asked, patients=("a", "a", "a"))
    own = intervene_slices(model, slices.select(["b"]), asked, other=some_images(1, seed=7))
    assert own.changed_share.shape == (1,)


def test_a_case_without_slices_has_no_share_and_no_slices_are_refused():
    model = trained("unet")
    slices = slices_of(model)
    found = intervene_slices(model, replace(slices, names=(*slices.names, "c")), Interventions())
    np.testing.assert_array_equal(found.changed_share, [0, 0, 0, np.nan])
    with pytest.raises(ValueError, match="slices must be one or more, got 0"):
        intervene_slices(model, slices.select([]), Interventions())


def test_who_watches_can_stop_it():
    class StoppedError(Exception):
        """By the user."""

    def stop(done, total):
        raise StoppedError

    with pytest.raises(StoppedError):
        intervene_slices(trained("unet"), slices_of(trained("unet")), Interventions(), progress=stop)


def test_regions_are_scored_as_they_are_painted():
    model = trained(classes=2)
    regions = Regions(labels=((1, 2), (2,)), painted=(1, 2))
    slices = slices_of(model, regions)
    found = intervene_slices(model, slices, Interventions(relation="none"), regions=regions)
    assert found.plain_dice.shape == (3, 2)
    assert np.nanmin(found.plain_dice) == 1
    assert intervene(model, network_input(slices.images), Interventions(), regions=regions).probabilities.max() < 1
