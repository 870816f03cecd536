"""What a training step and a validation do: loss, augmentation, overlaps, and what is logged of an epoch.

The loss of the recipe (`recipes.py`) plus the bottleneck's own. Every random draw of a step is decided by the seed
and the step, and what an epoch has added up so far lies in the state of the task, so that a run does not depend on
how it was interrupted.
"""

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torchmetrics import MaxMetric, MeanMetric, Metric, MetricCollection, SumMetric

from l2gnet.data.outputs import labels_of, probabilities_of
from l2gnet.data.regions import NO_REGIONS, Regions
from l2gnet.errors import ConfigError
from l2gnet.evaluation.overlap import Overlap
from l2gnet.method.codebook import CodebookUsage, codebook_usage
from l2gnet.models import build_model
from l2gnet.models.backbone import Trace
from l2gnet.models.checkpoint import require_finite
from l2gnet.prediction.inference import network_input
from l2gnet.shapes import Float, Int64, Num
from l2gnet.training.accumulation import remember_as_long
from l2gnet.training.batches import mixed_seed
from l2gnet.training.recipes import build_augmentation, build_loss, build_optimiser
from l2gnet.training.settings import TrainSettings
from l2gnet.whole_batch import gathered, normalise_whole_batches, part


class SegmentationTask(pl.LightningModule):
    """A model with its loss, its optimiser, and what is logged of it; a batch passes in so many parts."""

    def __init__(
        self,
        settings: TrainSettings,
        classes: tuple[str, ...],
        validation_cases: int,
        parts: int = 1,
        channels: int = 1,
        regions: Regions = NO_REGIONS,
    ):
        super().__init__()
        self.parts = parts
        self.settings, self.classes, self.validation_cases = settings, classes, validation_cases
        self.regions = regions
        self.model = build_model(settings.model, **settings.model_settings(regions.outputs(classes), channels))
        self.augmentation = build_augmentation(settings, classes)
        self.segmentation_loss = build_loss(settings, regions)
        self.epoch = MetricCollection(_epoch_totals(), compute_groups=False)
        if self.model.codebook:
            self.code_use = CodeUse(len(self.model.codebook.vectors))
        self._overlap: Overlap

    def setup(self, stage: str) -> None:
        """Where several processes share each batch, let what is taken of a batch be of the whole."""
        if self.trainer.world_size > 1:
            normalise_whole_batches(self.model, self.trainer.strategy.root_device)
            if self.model.codebook:
                self.model.codebook.learn_from_whole_batches()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save in how many parts the batches have passed, and nothing once a weight is not finite."""
        try:
            require_finite(self.model.state_dict())
        except ValueError as error:
            raise self._diverged(str(error)) from error
        checkpoint["parts"] = self.parts

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with no fewer."""
        if self.settings.accumulate:
            self.parts = max(self.parts, checkpoint.get("parts", 1))

    def on_train_start(self) -> None:
        """Slow down what moves with every part: how many there are is known only now, after a checkpoint was read."""
        if self.parts > 1:
            remember_as_long(self.model, self.parts)

    def on_train_epoch_start(self) -> None:
        """Start adding up afresh; an epoch that was stopped within goes on with what it had."""
        for metric in self.modules():
            if isinstance(metric, Metric):
                metric.reset()

    def training_step(self, batch: Sequence[Tensor], batch_index: int) -> dict[str, Tensor]:
        """Augment, predict, and add up the losses; of several parts, those before the last pass back here as well.

        Returns the `loss` that is still to pass back, that of the last part, and that of the `whole` batch.

        Raises:
            ConfigError: the loss is not finite.
        """
        slices, labels, _ = batch
        torch.manual_seed(mixed_seed(self.settings.seed, self.global_step))
        images, labels = self.augmentation(network_input(slices), labels.long())
        images, labels = part(images), part(labels)  # every process has augmented all, to draw what one would
        self.zero_grad()
        *others, last = zip(images.tensor_split(self.parts), labels.tensor_split(self.parts), strict=True)
        total = torch.zeros((), device=images.device)
        for one in others:
            loss = self._part_loss(*one, len(images))
            total += loss.detach()
            with torch.autocast(images.device.type, enabled=False):  # as Lightning passes back
                self.trainer.strategy.backward(loss, None)
        loss = self._part_loss(*last, len(images))
        whole = gathered(total + loss.detach()).mean()
        if not bool(whole.isfinite()):
            raise self._diverged(f"the loss must be finite, got {whole.item()}")
        self.epoch["loss"].update(whole)
        return {"loss": loss, "whole": whole}

    def _diverged(self, what: str) -> ConfigError:
        rate, precision = self.settings.learning_rate, self.settings.precision
        mixed = "" if precision == "32-true" else f", or precision 32-true (now {precision})"
        return ConfigError(
            f"{what} in epoch {self.current_epoch + 1}, step {self.global_step + 1}; train again in another folder, "
            f"with a lower learning_rate (now {rate:g}){mixed}; the checkpoints of before are kept"
        )

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Not now, when those of the parts have been added up: each step begins with it."""

    def loss(self, trace: Trace, labels: Int64[Tensor, "B H W"]) -> Float[Tensor, ""]:
        """Segmentation loss, at each depth if supervised deeply (weights 1, 1/2, 1/4 ...), plus the bottleneck's."""
        target = labels[:, None]
        total = self._segmentation_loss(trace.logits.float(), target)
        for level, side in enumerate(reversed(trace.side_logits), start=1):
            coarse = F.interpolate(target.float(), side.shape[2:], mode="nearest")
            total = total + 0.5**level * self._segmentation_loss(side.float(), coarse)
        return total if trace.latent.loss is None else total + trace.latent.loss

    def _segmentation_loss(self, logits: Float[Tensor, "B L H W"], target: Num[Tensor, "B 1 H W"]) -> Float[Tensor, ""]:
        if self.segmentation_loss.dice.batch:  # then it is no mean over slices
            logits, target = gathered(logits), gathered(target)
        return self.segmentation_loss(logits, target)

    def on_validation_epoch_start(self) -> None:
        """Start counting overlaps afresh."""
        self._overlap = Overlap(self.validation_cases, len(self.classes), self.device, self.regions)

    def validation_step(self, batch: Sequence[Tensor], batch_index: int) -> Int64[Tensor, "B H W"]:
        """Count what predictions and truth share; returns the predicted labels."""
        slices, labels, case = batch
        parts = part(slices).chunk(self.parts)
        logits = torch.cat([self.model(network_input(one)).float() for one in parts])
        own_labels = labels_of(probabilities_of(logits, self.regions), self.regions)
        predicted_labels = gathered(own_labels)[: len(slices)]
        self._overlap.add(predicted_labels, labels, case)
        return predicted_labels

    def on_validation_epoch_end(self) -> None:
        """Log Dice a structure, averaged over cases (on the model's grid, for watching only), and codebook use."""
        dice = self._overlap.dice().nanmean(0)
        self.log_dict({f"val_dice_{name.replace(' ', '_')}": d for name, d in zip(self.classes[1:], dice, strict=True)})
        self.log("val_dice", dice.nanmean())
        # And of the training epoch that ends with this validation:
        self.log_dict({name: total.compute() for name, total in self.epoch.items() if total.update_called})
        if self.model.codebook and self.code_use.update_called:
            self.log_dict(self.code_use.compute())

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The recipe's optimiser, and its schedule over all steps."""
        return build_optimiser(
            self.settings, self.model.parameters(), steps=int(self.trainer.estimated_stepping_batches)
        )

    def _part_loss(
        self, images: Float[Tensor, "B C H W"], labels: Int64[Tensor, "B H W"], whole: int
    ) -> Float[Tensor, ""]:
        trace = self.model.trace(images)
        self._add_up(trace)
        return self.loss(trace, labels) * (len(images) / whole)

    def _add_up(self, trace: Trace) -> None:
        # Every process adds up the whole batch, so that a checkpoint of one serves any number of them.
        latent = trace.latent
        if latent.codes is not None:
            self.code_use.update(gathered(latent.codes.detach()))
        if latent.revived is not None:
            self.epoch["codes_revived"].update(latent.revived.float())
        if latent.loss is not None:
            self.epoch["quantiser_loss"].update(gathered(latent.loss.detach()).mean())
        one = latent.receiving is latent.transport  # as in a symmetric relation, or where there is none
        for plan in (latent.transport,) if one else (latent.transport, latent.receiving):
            if plan is not None:
                self.epoch["transport_error"].update(gathered(plan.marginal_error.detach()).max())
                self.epoch["transport_iterations"].update(gathered(plan.iterations).float().mean())


def _epoch_totals() -> dict[str, Metric | MetricCollection]:
    settings: dict[str, Any] = {"nan_strategy": "disable", "sync_on_compute": False}
    totals: dict[str, Metric | MetricCollection] = {
        "loss": MeanMetric(**settings),
        "quantiser_loss": MeanMetric(**settings),
        "transport_iterations": MeanMetric(**settings),
        "transport_error": MaxMetric(**settings),
        "codes_revived": SumMetric(**settings),
    }
    for total in totals.values():
        total.persistent(True)
    return totals


class CodeUse(Metric):
    """The use of a codebook's codes over the images of an epoch."""

    counts: Tensor
    images: Tensor
    distinct: Tensor

    def __init__(self, codes: int):
        super().__init__(sync_on_compute=False)
        self.codes = codes
        for name, zero in {
            "counts": torch.zeros(codes).long(),
            "images": torch.tensor(0),
            "distinct": torch.tensor(0),
        }.items():
            self.add_state(name, zero, dist_reduce_fx="sum", persistent=True)

    def update(self, indices: Int64[Tensor, "B ..."]) -> None:
        """Count the codes of a batch."""
        usage = codebook_usage([indices], self.codes)
        self.counts += usage.counts.to(self.counts.device)
        self.images += len(indices)
        self.distinct += round(usage.codes_per_image * len(indices))

    def compute(self) -> dict[str, Tensor]:
        """How many codes are in use, how evenly, and how many in an image."""
        usage = CodebookUsage(self.counts, int(self.distinct) / max(int(self.images), 1))
        numbers = {"used": usage.used, "perplexity": usage.perplexity, "per_image": usage.codes_per_image}
        return {f"codes_{name}": torch.tensor(float(number)) for name, number in numbers.items()}
