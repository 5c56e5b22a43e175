"""One fold on several processes, the ranks: they share every batch and pool gradients, statistics and scores."""

from __future__ import annotations

import atexit
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:
    from microseg.models.network import Network, NetworkOutput

T = TypeVar("T")

# A rank waits while another one writes, validates a large field or cuts parity tiles.
_TIMEOUT = timedelta(hours=2)


@dataclass(frozen=True)
class Ranks:
    """One process of those that train a fold together. A process that is alone gets its own values back."""

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this rank writes the files."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """The items of this rank."""
        return items[self.rank :: self.size]

    def wrapped(self, network: Network) -> Callable[[Tensor], NetworkOutput]:
        """`forward_any_size` with gradients averaged over the ranks and with the batch statistics of all ranks."""
        if self.size == 1:
            return network.forward_any_size
        pool_statistics(network)
        own_buffers: dict[str, Any] = {_buffers_argument(): False}
        return DistributedDataParallel(_AnySize(network), **own_buffers)

    def total(self, value: Tensor) -> Tensor:
        """The sum over the ranks, with gradients."""
        return value if self.size == 1 else _summed(value)

    def mean(self, *values: float) -> list[float]:
        """The means over the ranks."""
        if self.size == 1:
            return list(values)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        summed = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(summed)
        return (summed / self.size).tolist()

    def gathered(self, mine: Sequence[T], count: int) -> list[T]:
        """The items that `share` split, on every rank: `count` of them, in their order."""
        if self.size == 1:
            return list(mine)
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, list(mine))
        return [parts[i % self.size][i // self.size] for i in range(count)]

    def wait(self) -> None:
        """Wait until all ranks are here."""
        if self.size > 1:
            dist.barrier()


ALONE = Ranks()


@cache
def ranks_of_torchrun() -> Ranks:
    """The ranks that `torchrun` started this process with; `ALONE` without it. They meet once in a process."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    return join_ranks()


def join_ranks(meeting: str | None = None, rank: int = -1, size: int = -1) -> Ranks:
    """Meet the other ranks and take the GPU of this rank.

    Args:
        meeting: URI of a file where the ranks meet; None for the environment of `torchrun`.
        rank: Number of this process, 0 to size - 1.
        size: Number of processes.
    """
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)) % torch.cuda.device_count())
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, meeting, _TIMEOUT, world_size=size, rank=rank)
    atexit.register(dist.destroy_process_group)
    return Ranks(dist.get_rank(), dist.get_world_size())


def pool_statistics(network: nn.Module) -> None:
    """Make every batch normalisation inside `network` use the batch of all ranks, in place.

    GPUs use PyTorch's SyncBatchNorm, which does not run on CPUs.
    """
    if torch.cuda.is_available():
        # Processes that only start others need not import it: it takes longer than PyTorch.
        from timm.layers.norm_act import convert_sync_batchnorm

        convert_sync_batchnorm(network)
        return
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(network, name, _PooledBatchNorm(child))
        else:
            pool_statistics(child)


@cache
def _buffers_argument() -> str:
    """The argument that keeps each rank's statistics its own. Later versions of PyTorch warn of the earlier name."""
    known = inspect.signature(DistributedDataParallel).parameters
    return "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"


class _Sum(torch.autograd.Function):
    """The sum over the ranks. Own code, because PyTorch has renamed its function and warns of the earlier name."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        total = value.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return _summed(gradient)


def _summed(value: Tensor) -> Tensor:
    """The sum over the ranks. Its gradient is summed as well."""
    total: Tensor = _Sum.apply(value)
    return total


class _AnySize(nn.Module):
    """`forward_any_size` as the `forward` that DistributedDataParallel calls."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, tiles: Tensor) -> NetworkOutput:
        return self.network.forward_any_size(tiles)


class _PooledBatchNorm(nn.BatchNorm2d):
    """Batch normalisation by the mean and variance over all ranks, also where they hold different numbers of tiles."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.after = nn.Sequential(*(getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)))
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            out: Tensor = self.after(super().forward(x))
            return out
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        count = _summed(torch.tensor(float(x.numel() // x.shape[1]), device=x.device))
        mean = _summed(x.sum((0, 2, 3))) / count
        centred = x - mean.view(1, -1, 1, 1)
        variance = _summed(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            keep = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, keep)
            self.running_var.lerp_(variance * count / (count - 1), keep)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        found: Tensor = self.after(centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1))
        return found
