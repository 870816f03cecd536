"""Stand-ins for the codebook and the relation of a model, in which codes, references or plans are changed.

A model is never touched: its bottleneck is given again with the same weights and these parts in it, so that nothing has
to be put back and several changes of one model may be asked for at once.

Letters: h heads, B images, N tokens, U rows (distinct codes of an image), R references, x numbers that say where a
token lies.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor, nn

from l2gnet.inspection.changes import Interventions
from l2gnet.method.codebook import Codebook, Quantised
from l2gnet.method.cost import unit_cost
from l2gnet.method.mapper import L2GMapper, Mapped, sum_of_rows
from l2gnet.method.places import in_own_frame, waves
from l2gnet.method.plans import Setting
from l2gnet.method.rows import gather_up, rows_of_codes, rows_of_tokens, spread
from l2gnet.method.transport import solve_transport
from l2gnet.models.backbone import SegmentationModel, Trace
from l2gnet.models.blocks.relations import MeanRelation, Related, SelfAttention
from l2gnet.shapes import Bool, Float, Int64

_TINY = 1e-30


@dataclass(frozen=True)
class Plans:
    """The plans by which tokens were related, with a row for each code of the image (-1 in padding).

    Where tokens receive, a row of `receiving` is the sum over the tokens of its code, and `hearing` has a row for each
    of them. Rows of silenced codes and columns of silenced references are empty.
    """

    codes: Int64[Tensor, "B U"]
    sending: Float[Tensor, "B h U R"]
    receiving: Float[Tensor, "B h U R"]
    hearing: Float[Tensor, "B h N R"] | None = None


def with_parts(module: nn.Module, **parts: nn.Module) -> nn.Module:
    """A module with the weights of this one, in which some parts are others; the module itself stays as it is."""
    twin = copy.copy(module)
    twin._modules = {**module._modules, **parts}
    return twin


def changed_bottleneck(
    model: SegmentationModel, asked: Interventions, theirs: Float[Tensor, "h _ R dx"] | None = None
) -> tuple[nn.Module, "ChangedRelation | None"]:
    """The bottleneck of a model with these changes, and what relates the tokens in it."""
    parts: dict[str, nn.Module] = {}
    if model.codebook is not None and (asked.silenced_codes or asked.replaced_codes):
        parts["codebook"] = ChangedCodebook(model.codebook, asked.silenced_codes, asked.replaced_codes)
    relation = None
    mapper = getattr(model.bottleneck, "mapper", None)
    if isinstance(mapper, L2GMapper | SelfAttention | MeanRelation):
        parts["mapper"] = relation = ChangedRelation(mapper, model.codebook, asked, theirs)
    return with_parts(model.bottleneck, **parts), relation


def plans_of(model: SegmentationModel, trace: Trace) -> Plans | None:
    """The plans of a model that is left alone."""
    latent, mapper = trace.latent, model.mapper
    if mapper is None or latent.transport is None or latent.receiving is None:
        return None
    plans = [latent.transport.plan, latent.receiving.plan]
    if latent.codes is None:
        N = plans[0].shape[1]
        codes = torch.arange(N, device=plans[0].device).expand(len(trace.logits), N)
    else:
        rows = rows_of_codes(latent.codes.flatten(1))
        codes = rows.codes
        if model.tokens_receive:
            plans = [plans[0], sum_of_rows(plans[1], rows), plans[1]]
    return Plans(codes, *(rearrange(plan, "(B h) rows R -> B h rows R", h=mapper.heads) for plan in plans))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """For a while, hold a model in evaluation mode."""
    training = [part for part in model.modules() if part.training]
    model.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


class ChangedCodebook(nn.Module):
    """A codebook in which some codes stand in for others, and some say nothing.

    Tokens of a silenced code are given, for a vector, the mean of the others of their image, zero where none is left.
    Where tokens receive, one whose code is replaced says something else, and still hears as itself.
    """

    def __init__(self, codebook: Codebook, silenced: tuple[int, ...], replaced: Mapping[int, int]):
        super().__init__()
        self.codebook, self.silenced = codebook, silenced
        self.stands_in = torch.arange(len(codebook.vectors), device=codebook.vectors.device)
        self.stands_in[list(replaced)] = self.stands_in.new_tensor(list(replaced.values()))

    def forward(self, tokens: Float[Tensor, "B N d"]) -> Quantised:
        """Quantise; then exchange and silence."""
        quantised = self.codebook(tokens)
        indices = self.stands_in[quantised.indices]
        vectors = self.codebook.vectors[indices]
        if self.silenced:
            gone = torch.isin(indices, indices.new_tensor(self.silenced)).unsqueeze(2)
            vectors = torch.where(gone, _mean_of(vectors, ~gone), vectors)
        return replace(quantised, tokens=vectors, indices=indices)


class ChangedRelation(nn.Module):
    """What relates the tokens, in which codes or references are silenced, or plans and answers are others.

    After a call `plans` and `slots` (what each reference has gathered) are those that were used, where there are any.

    Args:
        relation: the module that relates the tokens of the model.
        codebook: where tokens have codes.
        asked: what is changed.
        theirs: for relation `other`, what the references of other images have gathered.
    """

    def __init__(
        self,
        relation: L2GMapper | SelfAttention | MeanRelation,
        codebook: Codebook | None,
        asked: Interventions,
        theirs: Float[Tensor, "h _ R dx"] | None = None,
    ):
        super().__init__()
        self.relation, self.codebook, self.asked, self.theirs = relation, codebook, asked, theirs
        self.plans: Plans | None = None
        self.slots: Tensor | None = None

    def forward(
        self,
        tokens: Float[Tensor, "B N d"],
        indices: Int64[Tensor, "B N"] | None,
        shape: tuple[int, int],
        *receivers: Float[Tensor, "B N d"],
    ) -> Related:
        """What each token is given."""
        if self.asked.relation == "none":
            return Related(tokens.new_zeros(*tokens.shape[:2], self.relation.given))
        left = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        if indices is not None and self.asked.silenced_codes:
            left = ~torch.isin(indices, indices.new_tensor(self.asked.silenced_codes))
        if isinstance(self.relation, L2GMapper):
            answer = self._transported(self.relation, tokens, indices, shape, left, *receivers)
        else:
            answer = self.relation(tokens, indices, shape).tokens
        if self.asked.relation == "mean":
            answer = _mean_of(answer, left.unsqueeze(2)).expand_as(answer)
        return Related(torch.where(left.unsqueeze(2), answer, 0))

    def _transported(
        self,
        mapper: L2GMapper,
        tokens: Float[Tensor, "B N d"],
        indices: Int64[Tensor, "B N"] | None,
        shape: tuple[int, int],
        left: Bool[Tensor, "B N"],
        *receivers: Float[Tensor, "B N d"],
    ) -> Float[Tensor, "B N _"]:
        if indices is not None and self.codebook is not None:  # silenced ones as they were: no price depends on them
            tokens = self.codebook.vectors[indices]
        own = mapper(tokens, indices, shape, *receivers)
        both = (tokens, receivers[0] if receivers else tokens)
        split, heard_as = (rearrange(x, "B N (h d) -> h B N d", h=mapper.heads) for x in both)
        rows = rows_of_tokens(split) if indices is None else rows_of_codes(indices)
        of_receivers = rows_of_tokens(heard_as) if receivers else rows
        target = _shared(mapper.references.shape[-2], self.asked.silenced_references, split)
        plans = _of_heads(mapper, own.transport.plan), _of_heads(mapper, own.receiving.plan)
        touched = ~left.all(1, keepdim=True)  # images that the change does not concern stay what they are, to the bit
        asked = self.asked
        if asked.silenced_references or asked.relation == "exact" or {asked.epsilon, asked.epsilon_receive} != {None}:
            touched = torch.ones_like(touched)
        if bool(touched.any()):
            sides = [
                (spread(e, of.first), of.counts * left.gather(1, of.first))
                for e, of in ((split, rows), (heard_as, of_receivers))
            ]
            sending, receiving = self._solved(mapper, sides, target, own)
            those = touched.unsqueeze(2)
            plans = torch.where(those, sending, plans[0]), torch.where(those, receiving, plans[1])
        shown: tuple[Tensor, ...] = plans
        if receivers:
            shown = (plans[0], gather_up(plans[1], rows.row, rows.counts.shape[1]), plans[1])
        self.plans = Plans(rows.codes, *(plan.movedim(0, 1) for plan in shown))
        sent, heard = (
            spread(plan / of.counts.clamp_min(1).unsqueeze(2), of.row)
            for plan, of in zip(plans, (rows, of_receivers), strict=True)
        )
        places = waves(*shape, like=split) if mapper.positions else split.new_empty((split.shape[2], 0))
        values = torch.cat([split, places.expand(*split.shape[:2], *places.shape)], dim=-1)
        gathered = sent.transpose(-1, -2) @ values / target.clamp_min(_TINY).unsqueeze(1)
        self.slots = torch.where(touched.unsqueeze(2), gathered, own.slots)
        given = self.slots if self.theirs is None else self.theirs.expand_as(self.slots)
        if mapper.setting.readout == "barycentric":
            given = heard / heard.sum(-1, keepdim=True).clamp_min(_TINY) @ given
        if mapper.positions:
            given = in_own_frame(given, places)
        given = rearrange(given, "h B N d -> B N (h d)")
        return given if self.theirs is not None else torch.where(touched.unsqueeze(2), given, own.tokens)

    def _solved(
        self,
        mapper: L2GMapper,
        sides: Sequence[tuple[Float[Tensor, "h B _ d"], Int64[Tensor, "B _"]]],
        target: Float[Tensor, " R"],
        own: Mapped,
    ) -> tuple[Float[Tensor, "h B _ R"], Float[Tensor, "h B _ R"]]:
        """The plan that sends and the one that receives, of the mass that is left; rows without any are empty."""
        solved = []
        sets = mapper.references.to(target.dtype).reshape(-1, *mapper.references.shape[-3:])
        both = ((own.transport, self.asked.epsilon), (own.receiving, self.asked.epsilon_receive))
        for references, (e, mass), (plan, epsilon) in zip(sets, sides, both, strict=False):
            cost = unit_cost(e, references, mapper.setting.cost)
            if not bool(target.any()):
                solved.append(torch.zeros_like(cost))
            elif self.asked.relation == "exact":
                solved.append(_cheapest(cost, mass, target))
            else:
                start = _of_heads(mapper, plan.target_potential)
                weight = plan.epsilon if epsilon is None else epsilon
                solved.append(_entropic(cost, mass, target, weight, start, mapper.setting))
        return solved[0], solved[-1]


def _of_heads(mapper: L2GMapper, stacked: Float[Tensor, "Bh ..."]) -> Float[Tensor, "h B ..."]:
    """Heads first, where a mapper's plans have images first."""
    return stacked.unflatten(0, (-1, mapper.heads)).movedim(1, 0)


def _mean_of(values: Float[Tensor, "B N d"], left: Bool[Tensor, "B N 1"]) -> Float[Tensor, "B 1 d"]:
    """The mean of the tokens that are left; zero where none is."""
    return (values * left).sum(1, keepdim=True) / left.sum(1, keepdim=True).clamp_min(1)


def _shared(R: int, silenced: tuple[int, ...], like: Tensor) -> Float[Tensor, " R"]:
    """The mass of each reference: alike for those that are left, zero for all where none is."""
    target = like.new_ones(R)
    target[list(silenced)] = 0
    return target / target.sum().clamp_min(1)


def _entropic(
    cost: Float[Tensor, "h B U R"],
    mass: Int64[Tensor, "B U"],
    target: Float[Tensor, " R"],
    epsilon: float,
    start: Float[Tensor, "h B R"],
    setting: Setting,
) -> Float[Tensor, "h B U R"]:
    """The plan that the mapper would find, had it these masses."""
    h, B, U, R = cost.shape
    source = torch.where(mass.any(1, keepdim=True), mass, 1).to(cost.dtype)  # an image without any is solved in vain
    source /= source.sum(1, keepdim=True)
    solved = solve_transport(
        cost.reshape(h * B, U, R),
        source.repeat(h, 1),
        target,
        epsilon=epsilon,
        tolerance=setting.tolerance,
        max_iterations=setting.max_iterations,
        start=start.flatten(0, 1),
    )
    return solved.plan.view(h, B, U, R) * (mass > 0).unsqueeze(2)


def _cheapest(
    cost: Float[Tensor, "h B U R"], mass: Int64[Tensor, "B U"], target: Float[Tensor, " R"]
) -> Float[Tensor, "h B U R"]:
    """The plan without entropy, by POT's network simplex."""
    import ot  # on demand: it takes seconds to import

    plan, columns = torch.zeros_like(cost), target.nonzero().flatten()
    for b, each in enumerate(mass):
        rows = each.nonzero().flatten()
        if len(rows) == 0:
            continue
        source = (each[rows].double() / each.sum()).cpu().numpy()
        wanted = target[columns].double().cpu().numpy()
        for head in range(len(cost)):
            prices = cost[head, b, rows][:, columns].double().cpu().numpy()
            found = torch.from_numpy(ot.emd(source, wanted / wanted.sum(), prices))
            plan[head, b, rows.unsqueeze(1), columns] = found.to(plan)
    return plan
