"""Trees scored without walking them: each feature's value rules leaves out, and what is left is the answer.

The idea is QuickScorer's (Lucchese et al., SIGIR 2015), taken one step further for numpy. The thresholds of a
feature cut its figures into bins; all figures of a bin take the same branch at every node of that feature in every
tree. So each bin has one row of bit masks, a word for every 32 leaves of every tree, that rules out the leaves on the
other side. A row is scored by finding its bin in each feature and joining as many rows of masks with ``&``: one
leaf a tree remains. A looked-up column with its hundred one-hot features is a single slot, with a row for each code.

The cost is O(n_slots * n_words) a row whatever the depth; the memory O(n_bins * n_words), so that forests of many
deep trees are walked instead (`walking`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from nbmlops.scoring.compiled import unreadable
from nbmlops.scoring.program import Codes, Program
from nbmlops.scoring.trees import N_CATEGORIES, Trees

MAX_TABLE_BYTES: Final = 24 * 2**20
_WORD_BITS: Final = 32
_FULL: Final = np.uint32(0xFFFFFFFF)
# Times this, the words with a single bit (and 0) differ in their six highest bits; found by trying odd numbers.
_MULTIPLIER: Final = np.uint32(0x2265B1F5)
_SHIFT: Final = np.uint32(26)
_SLOTS: Final = 64
_ROWS_AT_ONCE: Final = 512
_FEW_ROWS: Final = 24


@dataclass(frozen=True, eq=False)
class Cuts:
    """Where the figures of one feature of a block are cut into bins; NaN has the last."""

    block: int
    row: int
    thresholds: np.ndarray
    first_bin: int  # the bin's row in the table


@dataclass(frozen=True, eq=False)
class Bitmasks:
    """An ensemble as a table of masks and the values of leaves."""

    cuts: tuple[Cuts, ...]
    lookups: tuple[tuple[int, int], ...]  # which lookup, and its first row in the table
    table: np.ndarray  # (n_bins, n_words) uint32
    outputs: tuple[tuple[int, int, np.ndarray], ...]  # its words, and the values of their leaves by hash
    slots: np.ndarray  # (n_words,): where the hashes of each word begin

    @classmethod
    def of(cls, trees: Trees, program: Program) -> "Bitmasks | None":
        """Make the masks, or nothing where the table would be too large or the trees cut no figure."""
        words = _Words.of(trees)
        thresholds = _thresholds(trees, program)
        coded = [at for at, codes in enumerate(program.lookups) if _uses(trees, codes).any()]
        n_bins = sum(len(cut) + 1 for *_, cut in thresholds) + sum(program.lookups[at].n_codes for at in coded)
        if not n_bins or n_bins * words.n_words * 4 > MAX_TABLE_BYTES:
            return None
        table = np.tile(words.existing(), (n_bins, 1))
        start, cuts, lookups = 0, [], []
        for block, row, feature, cut in thresholds:
            _fill_bins(table[start : start + len(cut) + 1], trees, words, feature, cut)
            cuts.append(Cuts(block, row, cut, start))
            start += len(cut) + 1
        for at in coded:
            codes = program.lookups[at]
            _fill_codes(table[start : start + codes.n_codes], trees, words, codes)
            lookups.append((at, start))
            start += codes.n_codes
        return cls(tuple(cuts), tuple(lookups), table, words.outputs, words.slots)

    def raw(self, blocks: Sequence[np.ndarray], codes: Sequence[np.ndarray], n_rows: int) -> np.ndarray:
        """Sum the trees' values, (n_outputs, n_rows)."""
        bins = [cut.thresholds.searchsorted(blocks[cut.block][cut.row]) + cut.first_bin for cut in self.cuts]
        bins += [codes[at] + start for at, start in self.lookups]
        if n_rows == 1:
            return self._summed(np.bitwise_and.reduce(self.table.take(np.concatenate(bins), axis=0), axis=0)[None])
        raw = np.empty((len(self.outputs), n_rows))
        for start in range(0, n_rows, _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            raw[:, rows] = self._summed(self._masks([bin_[rows] for bin_ in bins]))
        return raw

    def _masks(self, bins: Sequence[np.ndarray]) -> np.ndarray:
        """Join the masks of each row's bins, (n_rows, n_words)."""
        masks = self.table.take(bins[0], axis=0)
        other = np.empty_like(masks)
        for bin_ in bins[1:]:
            self.table.take(bin_, axis=0, out=other, mode="clip")
            np.bitwise_and(masks, other, out=masks)
        return masks

    def _summed(self, masks: np.ndarray) -> np.ndarray:
        """Add the values of the leaves that remain, in the order of the trees as scikit-learn does."""
        masks *= _MULTIPLIER
        masks >>= _SHIFT
        at = masks + self.slots
        return np.stack([_added(values.take(at[:, start:stop])) for start, stop, values in self.outputs])


def _added(values: np.ndarray) -> np.ndarray:
    """Add up each row from left to right: pairwise sums would end in other last digits."""
    if len(values) > _FEW_ROWS:
        values = np.ascontiguousarray(values.T)
        return np.asarray(np.add.reduce(values, axis=0))
    added: np.ndarray = np.add.accumulate(values, axis=1)
    return added[:, -1]


@dataclass(frozen=True, eq=False)
class _Words:
    """How the leaves of the trees lie in words of 32 bits, the words in the order of outputs, then trees."""

    n_words: int
    first_word: np.ndarray  # of each tree
    leaf_word: np.ndarray  # of each leaf
    leaf_bit: np.ndarray
    start: np.ndarray  # of each tree: its first leaf
    tree: np.ndarray  # of each internal node
    ranges: tuple[np.ndarray, np.ndarray, np.ndarray]  # of each internal node, leaves counted within its tree
    outputs: tuple[tuple[int, int, np.ndarray], ...]
    slots: np.ndarray

    @classmethod
    def of(cls, trees: Trees) -> "_Words":
        starts = trees.leaf_starts()
        n_leaves = np.diff(starts)
        ranges = trees.leaf_ranges()
        if (n_leaves <= 0).any() or any((a >= b).any() for a, b in pairwise(ranges)):
            raise unreadable("the leaves of its trees are out of order")
        n_words = -(-n_leaves // _WORD_BITS)
        in_turn = np.argsort(np.arange(len(n_leaves)) % trees.n_classes_a_round, kind="stable")
        first_word = np.empty(len(n_leaves), np.int64)
        first_word[in_turn] = np.cumsum(n_words[in_turn]) - n_words[in_turn]
        tree_of_leaf = np.repeat(np.arange(len(n_leaves)), n_leaves)
        within = np.arange(len(trees.values)) - starts[tree_of_leaf]
        tree = tree_of_leaf[ranges[0]] if len(trees.feature) else np.empty(0, np.int64)
        total = int(n_words.sum())
        leaf_word, leaf_bit = first_word[tree_of_leaf] + within // _WORD_BITS, within % _WORD_BITS
        return cls(
            total,
            first_word,
            leaf_word,
            leaf_bit,
            starts[:-1],
            tree,
            (ranges[0] - starts[tree], ranges[1] - starts[tree], ranges[2] - starts[tree]),
            _outputs(trees, first_word, n_words, leaf_word, leaf_bit),
            np.arange(total) * _SLOTS,
        )

    def existing(self) -> np.ndarray:
        """Give the bits that stand for a leaf, (n_words,)."""
        bits = np.zeros(self.n_words, np.uint32)
        np.bitwise_or.at(bits, self.leaf_word, np.left_shift(np.uint32(1), self.leaf_bit.astype(np.uint32)))
        return bits

    def without(self, nodes: np.ndarray, left: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give masks that rule out the leaves of one side of nodes: which of `nodes`, which word, the mask."""
        first, middle, end = (leaves[nodes] for leaves in self.ranges)
        low, high = (first, middle) if left else (middle, end)
        low_word, high_word = low // _WORD_BITS, (high - 1) // _WORD_BITS
        count = high_word - low_word + 1
        which = np.repeat(np.arange(len(nodes)), count)
        word = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + low_word[which]
        begin = np.clip(low[which] - word * _WORD_BITS, 0, _WORD_BITS)
        stop = np.clip(high[which] - word * _WORD_BITS, 0, _WORD_BITS)
        ruled_out = (1 << stop.astype(np.uint64)) - (np.uint64(1) << begin.astype(np.uint64))
        return which, self.first_word[self.tree[nodes[which]]] + word, ~ruled_out.astype(np.uint32)


def _outputs(
    trees: Trees, first_word: np.ndarray, n_words: np.ndarray, leaf_word: np.ndarray, leaf_bit: np.ndarray
) -> tuple[tuple[int, int, np.ndarray], ...]:
    """Give each output its words and the values of their leaves by hash."""
    hashes = (np.left_shift(np.uint32(1), leaf_bit.astype(np.uint32)) * _MULTIPLIER) >> _SHIFT
    places, total, turns = leaf_word * _SLOTS + hashes, int(n_words.sum()), trees.n_classes_a_round
    outputs = []
    for turn in range(turns):
        mine = slice(turn, None, turns)
        start = int(first_word[mine].min()) if len(first_word) else 0
        stop = start + int(n_words[mine].sum())
        for column in range(trees.values.shape[1]):
            values = np.zeros(total * _SLOTS)
            values[places] = trees.values[:, column]
            outputs.append((start, stop, values))
    return tuple(outputs)


def _thresholds(trees: Trees, program: Program) -> list[tuple[int, int, int, np.ndarray]]:
    """List block, row, feature and sorted thresholds, infinity last, of each feature that a node compares."""
    found = []
    for at, block in enumerate(program.blocks):
        for row, feature in enumerate(block.places):
            mine = trees.feature == feature
            if (trees.bits_of[mine] >= 0).any():
                raise unreadable("a node has categories of a feature that has figures")
            if mine.any():
                found.append((at, row, int(feature), _distinct(np.append(trees.threshold[mine], np.inf))))
    return found


def _distinct(values: np.ndarray) -> np.ndarray:
    """Sort values, each once; numpy's own `unique` loads its masked arrays, which takes longer than all else here."""
    ordered = np.sort(values)
    is_new = np.concatenate(([True], ordered[1:] != ordered[:-1]))
    return np.asarray(ordered[is_new])


def _fill_bins(table: np.ndarray, trees: Trees, words: _Words, feature: int, cut: np.ndarray) -> None:
    """Rule out, in each bin of a feature, what its figures never reach."""
    nodes = np.flatnonzero(trees.feature == feature)
    bins = cut.searchsorted(trees.threshold[nodes])  # a figure in bins 0..bin goes left
    left, right = np.full_like(table, _FULL), np.full_like(table, _FULL)
    which, word, mask = words.without(nodes, left=False)
    np.bitwise_and.at(right, (bins[which], word), mask)
    np.bitwise_and.accumulate(right[-2::-1], axis=0, out=right[-2::-1])
    which, word, mask = words.without(nodes, left=True)
    np.bitwise_and.at(left, (bins[which] + 1, word), mask)
    np.bitwise_and.accumulate(left[:-1], axis=0, out=left[:-1])
    table[:-1] &= left[:-1] & right[:-1]
    for to_left in (True, False):
        which, word, mask = words.without(nodes[trees.missing_left[nodes] == to_left], left=not to_left)
        np.bitwise_and.at(table[-1], word, mask)


def _uses(trees: Trees, codes: Codes) -> np.ndarray:
    """Tell which nodes look at a feature of this lookup."""
    return np.isin(trees.feature, [place for place, _ in codes.features])


def goes_left(trees: Trees, nodes: np.ndarray, figures: np.ndarray) -> np.ndarray:
    """Tell for nodes of one feature which figures go left, (n_nodes, n_figures)."""
    missing = np.isnan(figures)
    left = (figures[None, :] <= trees.threshold[nodes, None]) & ~missing
    categorical = trees.bits_of[nodes] >= 0
    if categorical.any():
        known = ~missing & (figures >= 0) & (figures < N_CATEGORIES)
        places = np.where(known, figures, 0).astype(np.intp)
        left[categorical] = trees.bits[trees.bits_of[nodes[categorical]]][:, places] & known
    return np.asarray(left | (missing & trees.missing_left[nodes, None]))


def _fill_codes(table: np.ndarray, trees: Trees, words: _Words, codes: Codes) -> None:
    """Rule out, for each code of a lookup, what none of its features lets it reach."""
    for place, feature in codes.features:
        nodes = np.flatnonzero(trees.feature == place)
        if not nodes.size:
            continue
        left = goes_left(trees, nodes, feature.figures.astype(np.float64))
        for figure in range(left.shape[1]):
            masks = np.full(table.shape[1], _FULL)
            for to_left in (True, False):
                _, word, mask = words.without(nodes[left[:, figure] == to_left], left=not to_left)
                np.bitwise_and.at(masks, word, mask)
            table[feature.selected == figure] &= masks
