"""The learner: network, optimizer and arithmetic. One step, and answers about a batch."""

import contextlib
import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from mri_hpc.base.errors import UserError
from mri_hpc.loading.augment import augmented, standardised
from mri_hpc.loading.batches import Batch
from mri_hpc.loading.mixing import Mixing, mixing_of
from mri_hpc.loading.order import seed_of
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training.arithmetic import by_matrix_unit, dtype_of
from mri_hpc.training.average import Average
from mri_hpc.training.data_parallel import data_parallel
from mri_hpc.training.fixed_sums import FixedSums
from mri_hpc.training.model import GreyClassifier
from mri_hpc.training.optimizer import as_parameters_lie, learnt_parameters, optimizer_of, set_rates
from mri_hpc.training.ranks import Ranks
from mri_hpc.training.state import TrainingState
from mri_hpc.training.step_loss import StepLoss, known_to_all, mean_over_ranks
from mri_hpc.training.step_way import StepWay
from mri_hpc.training.weights import load_weights

GivesUp = Callable[[Callable[[], float]], bool]
"""Tells whether all ranks leave a step between two micro-batches, by what tells the seconds left of it."""
STEP_STREAM = 2
"""Sets the seeds of steps apart from that of the weights."""


class Learner:
    """Trains one network on one device, together with the other ranks."""

    def __init__(
        self,
        model: GreyClassifier,
        settings: TrainingSettings,
        ranks: Ranks,
        *,
        weights_of_classes: np.ndarray,
        steps_per_epoch: int,
        way: StepWay = StepWay.PLAIN,
    ) -> None:
        """way: in which steps are computed; on a GPU channels lie last in any."""
        self._settings, self._ranks = settings, ranks
        on_gpu = ranks.device.type == "cuda"
        by_unit = by_matrix_unit(settings, ranks)
        lies_last = on_gpu or by_unit or way is StepWay.CHANNELS_LAST
        layout = torch.channels_last if lies_last else torch.contiguous_format
        self.model = model.to(ranks.device).to(memory_format=layout)
        self.turn_to(weights_of_classes, steps_per_epoch=steps_per_epoch)
        self._dtype = dtype_of(settings.precision, ranks.device, matrix_unit=by_unit)
        self.optimizer = optimizer_of(self.model, settings, is_fused=way is not StepWay.PLAIN)
        self._average = Average(self.model, settings.ema_decay) if settings.ema_decay else None
        self._scaler = torch.amp.GradScaler(ranks.device.type, enabled=self._dtype is torch.float16)
        self._parallel: DistributedDataParallel | None = None
        is_fixed = settings.sums != "ddp"
        self._sums = FixedSums(self.model, ranks, settings.micro_batches) if is_fixed else None

    def turn_to(self, weights_of_classes: np.ndarray, *, steps_per_epoch: int) -> None:
        """Learn from other images from now on, of the same classes; as of the learner's making."""
        self._class_weights = torch.from_numpy(weights_of_classes).to(self._ranks.device)
        self._steps_per_epoch = steps_per_epoch

    def train_step(
        self, batch: Batch, progress: Progress, *, gives_up: GivesUp = lambda _rest: False
    ) -> StepLoss | None:
        """Do one optimizer step over the micro-batches of all ranks. progress: before the step.

        gives_up: asked between micro-batches, on every rank; where it agrees, all is as before the step, and
        None is returned.
        """
        steps_per_epoch = self._steps_per_epoch
        lr = set_rates(self.optimizer, self._settings, progress, steps_per_epoch=steps_per_epoch)
        self.model.train()
        losses = self._gradient(batch, progress, gives_up)
        if losses is None:
            return None
        norm = self._clip_gradient()
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self._average:
            self._average.follow(self.model)
        if self._sums:
            return known_to_all(losses[0], norm, lr)
        return mean_over_ranks(torch.stack(losses).sum(), norm, lr, self._ranks)

    def share_of_loss(self, logits: torch.Tensor, batch: Batch, mixing: Mixing | None = None) -> torch.Tensor:
        """Compute what a micro-batch adds to the mean loss of the step over all images.

        Times the number of ranks where DDP averages gradients over them, as shares may differ by an image.
        The label is smoothed here only, so that validation losses compare whatever the smoothing.
        """
        smoothing = self._settings.label_smoothing
        total = self._losses(logits, batch.labels, smoothing=smoothing).sum()
        if mixing:
            others = self._losses(logits, mixing.of_others(batch.labels), smoothing=smoothing).sum()
            total = mixing.share * total + (1 - mixing.share) * others
        return total * ((1 if self._sums else self._ranks.world_size) / len(batch.step_keys))

    @torch.no_grad()
    def logits(self, batch: Batch, *, is_exact: bool = False) -> torch.Tensor:
        """Ask the network: float32, (b, classes). is_exact: in float32 also where training is not."""
        model, shown = self._published.eval(), self._shown(batch)
        if not shown:
            return torch.empty(0, len(self._class_weights), device=self._ranks.device)
        with contextlib.nullcontext() if is_exact else self._arithmetic():
            return torch.cat([model.answer(images).float() for images in shown])

    @torch.no_grad()
    def logits_and_features(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Ask the network, in float32: (b, classes), and what its last layer sees: (b, num_features)."""
        model, shown = self._published.eval(), self._shown(batch)
        if not shown:
            return self.logits(batch), torch.empty(0, model.num_features, device=self._ranks.device)
        logits, features = zip(*map(model.answer_with_features, shown), strict=True)
        return torch.cat(logits), torch.cat(features)

    @property
    def arithmetic(self) -> str:
        """Type of the forward pass, for people."""
        return str(self._dtype).removeprefix("torch.")

    @property
    def num_classes(self) -> int:
        """Classes that are told apart."""
        return len(self._class_weights)

    @property
    def num_features(self) -> int:
        """Features of which the last layer makes logits."""
        return self.model.num_features

    def losses(self, logits: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return weighted loss and weight of each image: float32, (b,), twice."""
        return self._losses(logits, batch.labels), self._class_weights[batch.labels]

    def copy_statistics_from_first(self) -> None:
        """Give every rank the running statistics of rank 0: each rank's own have seen its own images only."""
        for model in dict.fromkeys([self.model, self._published]):
            self._ranks.copy_from_first(list(model.buffers()))

    @property
    def num_parameters(self) -> int:
        """Numbers that are learnt."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def is_finite(self) -> bool:
        """Tell whether all numbers that a checkpoint would hold are finite; waits for the device once."""
        tensors = [value for state in self.optimizer.state.values() for value in state.values()]
        for model in dict.fromkeys([self.model, self._published]):
            tensors += model.state_dict().values()
        extremes = [
            extreme.to(self._ranks.device, torch.float32)
            for tensor in tensors
            if torch.is_tensor(tensor) and tensor.numel()
            # One reduction, in no memory of its own; where one number is none, neither is what it gives.
            for extreme in tensor.aminmax()
        ]
        return bool(torch.stack(extremes).isfinite().all())

    def weights(self) -> dict[str, torch.Tensor]:
        """Give the weights and statistics to validate and publish, averaged or the last; on the processor."""
        return on_processor(self._published.network)

    def load_weights(self, weights: Mapping[str, torch.Tensor], *, of: Path) -> None:
        """Go back to weights that a learner of this run gave. of: the file that they were read from."""
        load_weights(self._published.network, weights, of=of)

    def state(self, progress: Progress, conditions: Mapping[str, Any]) -> TrainingState:
        """Give the state after the last step, which led to this progress under these conditions."""
        rest = {"optimizer": self.optimizer.state_dict(), "scaler": self._scaler.state_dict()}
        if self._average:
            rest["average"] = {"steps": self._average.num_steps, "last": views_of(self.model.network)}
        weights = views_of(self._published.network)
        return TrainingState(weights=weights, rest=rest, progress=progress, conditions=conditions)

    def restore(self, state: TrainingState, *, of: Path) -> None:
        """Go back to a state that a learner of this run gave. of: the file that it was read from."""
        self.load_weights(state.weights, of=of)
        self.optimizer.load_state_dict(state.rest["optimizer"])
        as_parameters_lie(self.optimizer)
        self._scaler.load_state_dict(state.rest["scaler"])
        if self._average:
            self._average.num_steps = state.rest["average"]["steps"]
            load_weights(self.model.network, state.rest["average"]["last"], of=of)

    @property
    def _published(self) -> GreyClassifier:
        """The model that is validated, chosen as the best, and published."""
        return self._average.model if self._average else self.model

    def _gradient(self, batch: Batch, progress: Progress, gives_up: GivesUp) -> list[torch.Tensor] | None:
        """Collect the gradient of a step; losses that add up to its own, or None where it was given up."""
        parts, began = batch.parts(), time.monotonic()
        # As many on every rank, since all are asked between them.
        rounds = self._sums.rounds if self._sums else len(parts)
        # All that a forward pass changes, before the optimizer has moved.
        statistics = [buffer.clone() for buffer in self.model.buffers()] if rounds > 1 else []

        def rest_s(done: int) -> float:
            if self._ranks.device.type == "cuda":
                torch.cuda.synchronize()
            return (time.monotonic() - began) / done * (rounds - done)

        if self._sums:
            self._sums.begin(self._scaler.get_scale())
        losses: list[torch.Tensor] = []
        for number in range(rounds):
            if number and gives_up(functools.partial(rest_s, number)):
                self.optimizer.zero_grad(set_to_none=True)
                for buffer, before in zip(self.model.buffers(), statistics, strict=True):
                    buffer.copy_(before)
                return None
            if number < len(parts):
                losses.append(self._add_gradient(parts[number], progress, is_last=number == rounds - 1))
        return [self._sums.finish()] if self._sums else losses

    def _add_gradient(self, part: Batch, progress: Progress, *, is_last: bool) -> torch.Tensor:
        """Add a micro-batch to the gradient; returns what it adds to the loss. The last one ends the step."""
        (micro_batch,) = part.micro_batches
        torch.manual_seed(seed_of(self._settings.seed, STEP_STREAM, progress.step, *micro_batch.stream))
        images = self._training_images(part, progress.epoch)
        numbers = (self._settings.seed, progress.step, *micro_batch.stream)
        mixing = mixing_of(self._settings.mixup, part.keys, *numbers)
        images = mixing.of_images(images) if mixing else images
        model = self._over_ranks()
        # Ranks exchange the gradient once a step, with the last micro-batch.
        with self._parallel.no_sync() if self._parallel and not is_last else contextlib.nullcontext():
            with self._arithmetic():
                logits = model(images)
            loss = self.share_of_loss(logits, part, mixing)
            self._backward(loss)
        if self._sums:
            self._sums.add(micro_batch.stream[0], loss.detach())
        return loss.detach()

    def _clip_gradient(self) -> torch.Tensor | None:
        """Shorten a gradient that is too long; returns the norm that it had, None where none is too long."""
        if not self._settings.clip_norm:
            return None
        self._scaler.unscale_(self.optimizer)
        return clip_grad_norm_(learnt_parameters(self.optimizer), self._settings.clip_norm)

    def _training_images(self, batch: Batch, epoch: int) -> torch.Tensor:
        how = self.model.normalisation
        if self._settings.augment:
            flips = self._settings.flip != "off"
            return augmented(
                batch.images, batch.keys, self._settings.seed, epoch, how,
                flips=flips, distorts=self._settings.distort,
            )  # fmt: skip
        return standardised(batch.images, how)

    def _shown(self, batch: Batch) -> list[torch.Tensor]:
        """Standardise the images of each micro-batch: bits depend on how many pass the network together."""
        parts = [part.images for part in batch.parts() if len(part.images)]
        return [standardised(images, self._published.normalisation) for images in parts]

    def _over_ranks(self) -> nn.Module:
        """Return the model that all ranks train; made at the first step, from the weights to go on from."""
        if self._ranks.is_alone or self._sums:
            return self.model
        if self._parallel is None:
            self._parallel = data_parallel(
                self.model, self._ranks.device, deterministic=self._settings.deterministic
            )
        return self._parallel

    def _backward(self, loss: torch.Tensor) -> None:
        try:
            self._scaler.scale(loss).backward()
        except RuntimeError as error:
            if "deterministic" not in str(error):
                raise
            reason = str(error).split(".")[0]
            raise UserError(
                f"--deterministic does not go with --model {self._settings.model} on this device: {reason}"
            ) from None

    def _losses(self, logits: torch.Tensor, labels: torch.Tensor, *, smoothing: float = 0.0) -> torch.Tensor:
        losses = cross_entropy(logits.float(), labels, reduction="none", label_smoothing=smoothing)
        return losses * self._class_weights[labels]

    def _arithmetic(self) -> contextlib.AbstractContextManager[Any]:
        if self._dtype is torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self._ranks.device.type, dtype=self._dtype)


def views_of(network: nn.Module) -> dict[str, torch.Tensor]:
    """Name weights and statistics where they are: they change with the next step."""
    return {name: tensor.detach() for name, tensor in network.state_dict().items()}


def on_processor(network: nn.Module) -> dict[str, torch.Tensor]:
    """Copy weights and statistics, by the names that a module gives them."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
