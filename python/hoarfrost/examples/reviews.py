"""Short reviews of films out of a small grammar, and sequences that are none; no download.

A review has one to four clauses, such as "the plot was not very good but the cast was great".
Each praises or blames, and the other way round where it is negated. The class of a review is
whether blame or praise prevails, or neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CLASSES = ("blame", "neither", "praise")
_PRAISE = ("great", "lovely", "brilliant", "moving", "funny", "clever", "warm", "sharp")
_BLAME = ("awful", "dull", "clumsy", "boring", "bleak", "silly", "cold", "flat")
_SUBJECTS = ("plot", "cast", "music", "ending", "script", "camera", "hero", "dialogue")
_NEGATIONS = ("not", "never", "hardly")
_DEGREES = ("very", "quite")
_LINKS = ("and", "but")
_KITCHEN = ("stove", "pan", "onion", "butter", "flour", "knife", "oven", "sauce", "stir", "boil")
VOCABULARY = (
    "<padding>",
    *("the", "was"),
    *(*_PRAISE, *_BLAME, *_SUBJECTS, *_NEGATIONS, *_DEGREES, *_LINKS),
    *_KITCHEN,
)
_FIRST_KITCHEN = len(VOCABULARY) - len(_KITCHEN)
_IDS = {word: index for index, word in enumerate(VOCABULARY)}
_MOST_CLAUSES = 4
# A clause has at most six words, and a link before it.
LENGTH = 7 * _MOST_CLAUSES
NUM_TRAIN, NUM_VALIDATION, NUM_TEST = 1500, 400, 1500
_NEGATED = _WITH_DEGREE = 0.3
_SPOILT = 0.2
ABOUT = (
    f"Reviews: 1 to {_MOST_CLAUSES} clauses, padded to {LENGTH} words. Spoilt reviews: the test "
    f"reviews with {_SPOILT:.0%} of their words replaced by words that no training review holds. "
    "Kitchen words: as long as the test reviews, of such words alone. Word salad: as long, of "
    "words of reviews in any order."
)

Tokens = dict[str, np.ndarray]


@dataclass(frozen=True)
class Reviews:
    """Sequences under the name by which tables and pictures know them.

    Attributes
    ----------
    name : str
        What they are.
    inputs : dict
        "input_ids", int32, and "attention_mask", True for words and False for padding, ``(N, T)``.
    targets : ndarray or None
        Classes, shape ``(N,)``; None where the sequences are no reviews.
    """

    name: str
    inputs: Tokens
    targets: np.ndarray | None


@dataclass(frozen=True)
class ReviewsData:
    """All that is read.

    Attributes
    ----------
    train, validation, test : Reviews
        Of one to four clauses.
    spoilt : Reviews
        The test reviews with words in them that no training review holds.
    others : tuple of Reviews
        What is no review.
    """

    train: Reviews
    validation: Reviews
    test: Reviews
    spoilt: Reviews
    others: tuple[Reviews, ...]


def make_reviews(seed: int) -> ReviewsData:
    """Draw all parts.

    Parameters
    ----------
    seed : int
        Of everything drawn.
    """
    generator = np.random.default_rng(seed)
    train, validation, test = (
        _reviews(f"{name} reviews", count, generator)
        for name, count in (
            ("training", NUM_TRAIN),
            ("validation", NUM_VALIDATION),
            ("test", NUM_TEST),
        )
    )
    ids, counts = test.inputs["input_ids"], test.inputs["attention_mask"]
    kitchen = generator.integers(_FIRST_KITCHEN, len(VOCABULARY), ids.shape, np.int32)
    salad = generator.integers(1, _FIRST_KITCHEN, ids.shape, np.int32)
    spoilt = np.where(generator.random(ids.shape) < _SPOILT, kitchen, ids)
    return ReviewsData(
        train=train,
        validation=validation,
        test=test,
        spoilt=Reviews("spoilt reviews", _masked(spoilt, counts), test.targets),
        others=(
            Reviews("kitchen words", _masked(kitchen, counts), None),
            Reviews("word salad", _masked(salad, counts), None),
        ),
    )


def text_of(ids: np.ndarray) -> str:
    """The words of a sequence, without its padding."""
    return " ".join(VOCABULARY[index] for index in ids if index)


def _reviews(name: str, count: int, generator: np.random.Generator) -> Reviews:
    ids, targets = np.zeros((count, LENGTH), np.int32), np.empty(count, np.int32)
    for index, row in enumerate(ids):
        words, balance = _review(int(generator.integers(1, _MOST_CLAUSES + 1)), generator)
        row[: len(words)] = [_IDS[word] for word in words]
        targets[index] = 1 + np.sign(balance)
    return Reviews(name, _masked(ids, ids != 0), targets)


def _review(num_clauses: int, generator: np.random.Generator) -> tuple[list[str], int]:
    """Words, and how many clauses more praise than blame."""
    words: list[str] = []
    balance = 0
    for index in range(num_clauses):
        praises = bool(generator.integers(2))
        negated = generator.random() < _NEGATED
        words += [_one(_LINKS, generator)] if index else []
        words += ["the", _one(_SUBJECTS, generator), "was"]
        words += [_one(_NEGATIONS, generator)] if negated else []
        words += [_one(_DEGREES, generator)] if generator.random() < _WITH_DEGREE else []
        words.append(_one(_PRAISE if praises else _BLAME, generator))
        balance += 1 if praises != negated else -1
    return words, balance


def _one(words: Sequence[str], generator: np.random.Generator) -> str:
    return words[int(generator.integers(len(words)))]


def _masked(ids: np.ndarray, counts: np.ndarray) -> Tokens:
    return {"input_ids": np.where(counts, ids, 0), "attention_mask": counts}
