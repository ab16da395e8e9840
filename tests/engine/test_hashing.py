"""Digests of rows: the same for the same values, whatever holds them."""

import numpy as np
import pytest
import torch
from scipy import sparse

from skunlearn._engine.hashing import canonical_bytes, each_row

DENSE = np.array([[0.0, 2.0], [1.0, 0.0], [0.0, 0.0], [3.0, 4.0]])


def contents(data):
    return [canonical_bytes(row) for row in each_row(data)]


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "lil", "dok", "dia", "bsr"])
@pytest.mark.parametrize("make", [sparse.csr_matrix, sparse.csr_array])
def test_each_row_of_a_sparse_matrix_in_any_format(kind, make):
    expected = contents(make(DENSE))
    assert len(set(expected)) == len(DENSE)
    assert contents(make(DENSE).asformat(kind)) == expected


def test_zeros_and_parts_that_a_sparse_matrix_stores_do_not_count():
    stored = sparse.coo_array(
        ([1.5, 0.5, 1.0, 3.0, 4.0, 0.0], ([0, 0, 1, 3, 3, 2], [1, 1, 0, 0, 1, 1])), shape=(4, 2)
    )
    as_rows = sparse.csr_array(stored)
    n_stored = as_rows.nnz
    assert contents(stored) == contents(as_rows) == contents(sparse.csr_array(DENSE))
    assert as_rows.nnz == n_stored  # it is left as it is


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([2**53], [2**53 + 1]),
        ([-(2**53)], [-(2**53) - 1]),
        ([2**63 - 1], [2**63 - 2]),
        ([2**60, 2**53 + 1], [2**60 + 1, 2**53]),
    ],
)
def test_integers_that_float64_rounds_are_told_apart(a, b):
    for hold in (np.array, torch.tensor, list):
        assert canonical_bytes(hold(a)) != canonical_bytes(hold(b))
    unsigned = np.array([2**64 - 1, 2**64 - 2], dtype=np.uint64)
    assert canonical_bytes(unsigned[:1]) != canonical_bytes(unsigned[1:])


@pytest.mark.parametrize("value", [0, 7, 2**53, 2**53 + 2, -(2**60)])
def test_integers_that_float64_holds_are_the_same_as_floats(value):
    expected = canonical_bytes(np.array([float(value)]))
    for hold in (np.array, torch.tensor):
        assert canonical_bytes(hold([value])) == expected
    assert canonical_bytes(np.array([2**53 + 1])) == canonical_bytes(torch.tensor([2**53 + 1]))
    if value > 0:
        assert canonical_bytes(np.array([value], dtype=np.uint64)) == expected
