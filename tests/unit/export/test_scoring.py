"""The scorer: the same score in any chunk, and clear words for wrong arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zeroskew.errors import ExportError
from zeroskew.export.onnx_graph import awkward_rows
from zeroskew.export.scoring import CHUNK, Scorer
from zeroskew.features.row import FeatureRow


def test_chunks_do_not_change_scores(fp32: Path, row: FeatureRow) -> None:
    numeric, categorical = awkward_rows(row, CHUNK + 100)
    scorer = Scorer(fp32)
    scores = scorer.score(numeric, categorical)
    assert scores.shape == (CHUNK + 100,)
    assert scores.dtype == np.float32
    tail = scorer.score(numeric[CHUNK:], categorical[CHUNK:])
    np.testing.assert_allclose(scores[CHUNK:], tail, atol=1e-6)
    assert np.isfinite(scores).all()


def test_no_rows_no_scores(fp32: Path, row: FeatureRow) -> None:
    numeric, categorical = awkward_rows(row, 2)
    assert Scorer(fp32).score(numeric[:0], categorical[:0]).shape == (0,)


def test_strided_arrays_are_taken(fp32: Path, row: FeatureRow) -> None:
    numeric, categorical = awkward_rows(row, 64)
    scorer = Scorer(fp32)
    got = scorer.score(np.asfortranarray(numeric)[::2], categorical[::2])
    np.testing.assert_array_equal(got, scorer.score(numeric[::2].copy(), categorical[::2].copy()))


def test_the_graph_knows_its_columns(fp32: Path, row: FeatureRow) -> None:
    scorer = Scorer(fp32)
    assert scorer.widths == (len(row.numeric), len(row.categorical))
    assert '"numeric":' in scorer.metadata["zeroskew.row"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n, c: (n.astype(np.float64), c), "`numeric` must be a float32 array, not float64"),
        (lambda n, c: (n, c.astype(np.int64)), "`categorical` must be a int32 array, not int64"),
        (lambda n, c: (n.tolist(), c), "`numeric` must be a float32 array, not list"),
        (lambda n, c: (n[:, :-1], c), r"`numeric` must have the shape \[rows, "),
        (lambda n, c: (n[0], c), r"`numeric` must have the shape \[rows, "),
        (lambda n, c: (n, c[:-1]), "numeric has 4 rows, categorical has 3"),
    ],
)
def test_wrong_arrays(fp32: Path, row: FeatureRow, change: object, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        Scorer(fp32).score(*change(*awkward_rows(row, 4)))


def test_absent_and_broken_files(fp32: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="there is no ONNX file"):
        Scorer(tmp_path / "none.onnx")
    content = fp32.read_bytes()
    for cut in (0, 1, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.onnx").write_bytes(content[:cut])
        with pytest.raises(ExportError, match=r"cut\.onnx"):
            Scorer(tmp_path / "cut.onnx")
