"""How often sentences keep their nearest neighbour, for `minilm.toml`."""

from __future__ import annotations

from typing import Any, Dict, Sequence

import numpy as np

EMBEDDING = "461"


def kept_neighbours(outputs: Sequence[Dict[str, np.ndarray]], samples: Sequence[Any]) -> float:
    """The share of sentences whose nearest other one, by the cosine of their embeddings, is the one in their label.

    A label is the number of the sentence and that of its neighbour. Samples may be any of all sentences, also more than
    once: what counts are those whose neighbour is there; 1 if none is.
    """
    numbers, neighbours = np.concatenate([sample.label for sample in samples]).T
    vectors = np.concatenate([output[EMBEDDING] for output in outputs]).astype(np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    present, first, which = np.unique(numbers, return_index=True, return_inverse=True)
    cosines = vectors[first] @ vectors[first].T
    np.fill_diagonal(cosines, -np.inf)
    kept = present[cosines.argmax(axis=1)][which] == neighbours
    counted = np.isin(neighbours, present)
    return float(kept[counted].mean()) if counted.any() else 1.0
