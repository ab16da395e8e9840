"""Rows as bytes, for digests that are the same however the rows are stored."""

from collections.abc import Mapping

import numpy as np
import torch
from scipy.sparse import issparse

from skunlearn._engine.inputs import as_pair


def each_row(data):
    """The rows one by one, without their labels, of whatever a classifier or a network reads."""
    from skorch.helper import SliceDataset  # which imports much that is not needed before

    if issparse(data):
        data = data.sorted_indices()
        for low, high in zip(data.indptr, data.indptr[1:]):
            yield data.indices[low:high], data.data[low:high]
    elif isinstance(data, Mapping):
        for i in range(len(next(iter(data.values())))):
            yield {key: values[i] for key, values in data.items()}
    elif isinstance(data, SliceDataset | torch.Tensor):
        yield from data
    elif isinstance(data, torch.utils.data.Dataset):
        for i in range(len(data)):
            yield as_pair(data[i])[0]
    else:
        yield from np.asarray(data)


def canonical_bytes(value):
    """Bytes of a row or label: equal for float32 and float64, for arrays, tensors and lists."""
    if isinstance(value, Mapping):
        value = [part for key in sorted(value, key=str) for part in (str(key), value[key])]
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    if isinstance(value, tuple | list):
        return f"{len(value)}\n".encode() + b"".join(map(canonical_bytes, value))
    array = np.asarray(value)
    is_number = array.dtype.kind in "biuf"
    if array.ndim and not is_number:
        return canonical_bytes(array.tolist())
    # + 0.0: there is a negative zero.
    content = (array.astype(np.float64) + 0.0).tobytes() if is_number else str(value).encode()
    return f"{array.shape} {is_number} {len(content)}\n".encode() + content
