"""What a network that was trained on continuous tokens loses when codes take their place afterwards, and where.

Run `OMP_NUM_THREADS=1 python benchmarks/codes_after.py runs/NAME path/to/data`, for an l2gnet of two plans trained with
`--codes 0`. Codes are k-means of the tokens of its training slices; nothing is trained again. They stand for tokens
everywhere; or only within the relation, the decoder hearing the tokens themselves; or only in what is sent, tokens
receiving as they are. Dice is that of the held-out cases, on the grid of the model.
"""

import argparse
from typing import Literal, get_args

import torch
from einops import rearrange
from torch import Tensor, nn

from l2gnet.data.slices import SliceSet, prepare_slices
from l2gnet.evaluation.overlap import Overlap
from l2gnet.method.codebook import Codebook
from l2gnet.models.backbone import SegmentationModel
from l2gnet.models.blocks.latent import Latent
from l2gnet.models.l2gnet import L2GBottleneck
from l2gnet.prediction.inference import network_input
from l2gnet.training.run_folder import open_run

Where = Literal["everywhere", "in the relation", "in what is sent"]
TOKENS = 60_000


class WithCodes(nn.Module):
    """A trained bottleneck, with codes in the place of its tokens where it is said."""

    def __init__(self, bottleneck: L2GBottleneck, codebook: Codebook, where: Where):
        super().__init__()
        self.trained, self.codes, self.where = bottleneck, codebook, where

    def forward(self, features: Tensor) -> Latent:
        tokens = self.trained.tokens(features)
        codes = self.codes(tokens).tokens
        mapped = self.trained.mapper(codes)
        given = mapped.tokens
        if self.where == "in what is sent":
            given = self.trained.mapper.heard(self.trained.mapper(tokens).receiving, mapped.slots)
        whole = torch.cat([codes if self.where == "everywhere" else tokens, given], dim=2)
        return Latent(self.trained.from_tokens(rearrange(whole, "B (h w) d -> B d h w", h=features.shape[2])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("data_dir")
    arguments = parser.parse_args()
    run = open_run(arguments.run, data_dir=arguments.data_dir)
    learnt, held_out = (
        prepare_slices(cases, run.grid, len(run.dataset.classes))
        for cases in (run.dataset.training, run.dataset.validation)
    )
    bottleneck = run.model.bottleneck
    tokens = tokens_of(run.model, bottleneck, learnt)
    variance = tokens.var(0).sum()
    print(f"tokens as they are: Dice {dice(run.model, held_out, run.dataset.classes):.3f}")
    for count in (64, 256, 1024):
        codebook = Codebook(count, tokens.shape[1])
        codebook.train()(tokens[None])  # k-means
        off = (codebook.eval()(tokens[None]).tokens[0] - tokens).square().sum(1).mean() / variance
        print(f"{count} codes, off their tokens by {100 * off:.0f} % of the variance:")
        for where in get_args(Where):
            run.model.bottleneck = WithCodes(bottleneck, codebook, where)
            print(f"  {where}: Dice {dice(run.model, held_out, run.dataset.classes):.3f}", flush=True)


@torch.no_grad()
def tokens_of(model: SegmentationModel, bottleneck: L2GBottleneck, slices: SliceSet) -> Tensor:
    """Tokens of slices, drawn at random."""
    torch.manual_seed(0)
    found: list[Tensor] = []
    hook = bottleneck.to_tokens.register_forward_hook(
        lambda module, inputs, output: found.append(rearrange(output, "B d h w -> (B h w) d"))
    )
    for rows in torch.randperm(len(slices))[:640].split(16):
        model(network_input(slices.images[rows]))
    hook.remove()
    tokens = torch.cat(found)
    return tokens[torch.randperm(len(tokens))[:TOKENS]]


@torch.no_grad()
def dice(model: SegmentationModel, slices: SliceSet, classes: tuple[str, ...]) -> float:
    """Mean Dice over cases and structures."""
    counts = Overlap(len(slices.names), len(classes))
    for rows in torch.arange(len(slices)).split(16):
        predicted = model(network_input(slices.images[rows])).argmax(1)
        counts.add(predicted, torch.from_numpy(slices.labels[rows]), torch.from_numpy(slices.case[rows]))
    return float(counts.dice().nanmean())


if __name__ == "__main__":
    main()
