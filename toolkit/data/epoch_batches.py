"""Choose the images of each batch, for an epoch and for evaluation; repeat the images of rare classes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from toolkit.data.coco_index import Index

Key = tuple[int, int]  # (row of the index, seed of its augmentation)


class EpochBatches(torch.utils.data.Sampler):
    """The batches of one epoch as lists of (row, seed), the same for any number of workers.

    Order and augmentation seeds follow from (seed, epoch, position) alone, so that a run can stop after any step and
    go on exactly there: `start` batches are left out. With several processes every global batch of
    batch_size * world_size images is dealt out, so that an epoch sees the same samples as in one process; `weight`
    evens out a short last batch.
    """

    def __init__(
        self,
        index: Index,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        group_aspect: bool = True,
        repeats: np.ndarray | None = None,
    ) -> None:
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        self.wide = index.sizes[:, 1] >= index.sizes[:, 0] if group_aspect else np.zeros(len(index), dtype=bool)
        self.repeats = np.ones(len(index)) if repeats is None else repeats
        self.epoch, self.start = 0, 0
        self._length = len(self._plan(0))
        self._sizes: tuple[int, list[int]] = (-1, [])  # images in the batches of an epoch, over all processes

    def __len__(self) -> int:
        """Batches of a whole epoch; the same in every epoch."""
        return self._length

    def _plan(self, epoch: int) -> list[list[Key]]:
        rng = np.random.default_rng([self.seed, epoch])
        # fractional repeats are rounded by a coin whose sum is fixed, so that epochs are equally long
        whole = np.floor(self.repeats).astype(np.int64)
        extra = round(float((self.repeats - whole).sum()))
        if extra:
            share = (self.repeats - whole) / (self.repeats - whole).sum()
            whole[rng.choice(len(whole), extra, replace=False, p=share)] += 1
        rows = np.repeat(np.arange(len(whole)), whole)
        rows = rows[rng.permutation(len(rows))]
        # a stable sort by aspect makes batches alike; the few at the border are mixed
        rows = rows[np.argsort(self.wide[rows], kind="stable")]
        seeds = rng.integers(0, 2**31 - 1, len(rows))
        step = self.batch_size * self.world_size
        keys = list(zip(rows.tolist(), seeds.tolist(), strict=True))
        batches = [keys[i : i + step] for i in range(0, len(keys), step)]
        return [batches[i] for i in rng.permutation(len(batches))]

    def __iter__(self) -> Iterator[list[Key]]:
        for batch in self._plan(self.epoch)[self.start :]:
            # a process for which nothing is left takes an image that counts nothing: all must step together
            yield batch[self.rank :: self.world_size] or batch[:1]

    def weight(self, number: int) -> float:
        """Factor for the mean loss of batch `number` of this epoch that makes the mean over all processes the mean
        over all its images: 1 unless the batch is short and dealt unevenly."""
        if self.world_size == 1:
            return 1.0
        if self._sizes[0] != self.epoch:
            self._sizes = (self.epoch, [len(batch) for batch in self._plan(self.epoch)])
        size = self._sizes[1][number]
        return len(range(self.rank, size, self.world_size)) * self.world_size / size


def in_order(index: Index, batch_size: int, rank: int = 0, world_size: int = 1) -> list[list[Key]]:
    """Every row once, in order, dealt to the processes without padding: batches for evaluation.

    Only neighbours of one size share a batch. An image is padded to the largest of its batch, and a network answers
    differently to a padded image: what it finds must depend on the image alone, not on its neighbours or batch_size.
    """
    batches: list[list[Key]] = []
    for row in range(rank, len(index), world_size):
        last = batches[-1] if batches else []
        if last and len(last) < batch_size and (index.sizes[row] == index.sizes[last[-1][0]]).all():
            last.append((row, 0))
        else:
            batches.append([(row, 0)])
    return batches


def repeat_factors(index: Index, threshold: float) -> np.ndarray:
    """[N] how often each image stands in an epoch: max over its classes of sqrt(threshold / share of images that
    hold the class), at least 1 (LVIS, Gupta 2019, 3.2; Appendix B)."""
    factors = np.ones(len(index))
    if threshold <= 0:
        return factors
    owner = np.repeat(np.arange(len(index)), np.diff(index.first))
    real = ~index.crowd  # a crowd is not a target: its image, seen more often, would train nothing of the class
    holds = np.zeros((len(index), len(index.classes)), dtype=bool)
    holds[owner[real], index.labels[real] - 1] = True
    share = holds.mean(axis=0)
    with np.errstate(divide="ignore"):
        wanted = np.maximum(1.0, np.sqrt(threshold / share))
    for k in range(len(index.classes)):
        factors[holds[:, k]] = np.maximum(factors[holds[:, k]], wanted[k])
    return factors
