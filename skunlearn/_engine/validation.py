"""The checks of arguments that several rooms of the package share."""

import numbers

import numpy as np


def check_forget(forget, n_samples, X=None):
    """Return a forget mask as a boolean array of shape (n_samples,).

    Parameters
    ----------
    forget : array-like of bool of shape (n_samples,)
        A NumPy array, a list of bools, a pandas Series or a torch tensor. True
        marks a row to forget. A mask that is True everywhere, or nowhere, is
        accepted: whether that makes sense is for the caller to say.
    n_samples : int
        The number of rows the mask has to cover.
    X : array-like, default=None
        The rows. A pandas mask has to have the index of a pandas `X`: rows are taken by position.

    Returns
    -------
    mask : ndarray of bool of shape (n_samples,)
        The mask; it may share memory with `forget`.

    Raises
    ------
    ValueError
        If `forget` is not boolean or not of shape (n_samples,), or its index is not
        that of `X`. Row indices are refused rather than converted, because
        scikit-learn slices a mask with the rows of each fold but hands an index
        array through whole.

    Examples
    --------
    >>> from skunlearn._engine.validation import check_forget
    >>> check_forget([True, False, False], 3)
    array([ True, False, False])
    """
    if hasattr(forget, "detach"):  # a torch tensor, perhaps on a device NumPy cannot read
        forget = forget.detach().cpu()
    wanted = f"forget must be a boolean mask of shape ({n_samples},), True for the rows to forget"
    try:
        mask = np.asarray(forget)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{wanted}; got {type(forget).__name__}: {error}") from error
    # pandas' nullable booleans arrive as objects, and are a mask if none is missing.
    if mask.dtype == object and getattr(forget, "dtype", None) == "boolean":
        missing = np.flatnonzero([not isinstance(value, bool | np.bool_) for value in mask])
        if missing.size:
            raise ValueError(
                f"{wanted}; got a nullable boolean array with missing values at rows "
                f"{missing[:5].tolist()}; fill them first, as with forget.fillna(False)."
            )
        mask = mask.astype(bool)
    if mask.ndim == 0:
        raise ValueError(f"{wanted}; got {forget!r}.")
    if mask.dtype != bool:
        if mask.shape == (n_samples,) and np.isin(mask, (0, 1)).all():
            hint = "; 0 and 1 become a mask with mask.astype(bool)"
        elif np.issubdtype(mask.dtype, np.integer):
            hint = (
                "; turn row indices into a mask with "
                f"mask = np.zeros({n_samples}, dtype=bool); mask[indices] = True"
            )
        elif mask.dtype.kind in "US":
            hint = "; forget_mask(groups, names) makes a mask of people's names"
        else:
            hint = "; compare or convert it to booleans first"
        raise ValueError(f"{wanted}; got an array of {mask.dtype}, shape {mask.shape}{hint}.")
    if mask.shape != (n_samples,):
        raise ValueError(
            f"{wanted}, one entry for each row of X; got a boolean array of shape {mask.shape}."
        )
    if hasattr(X, "iloc") and hasattr(forget, "iloc") and not X.index.equals(forget.index):
        raise ValueError(
            f"{wanted}, in the order of X; got one whose pandas index is not that of X, and rows "
            "are taken by position. Align it with forget.loc[X.index], or pass forget.to_numpy()."
        )
    return mask


def check_number(name, value, low, high=np.inf, *, integer=False, low_open=False):
    """Raise a ValueError unless a hyperparameter is a number in its range.

    Parameters
    ----------
    name : str
        The hyperparameter.
    value : object
        What it was set to.
    low, high : float
        The range, both ends included.
    integer : bool, default=False
        Whether it must be an integer.
    low_open : bool, default=False
        Whether `low` itself is excluded.
    """
    kind = numbers.Integral if integer else numbers.Real
    is_number = isinstance(value, kind) and not isinstance(value, bool | np.bool_)
    if is_number and (low < value if low_open else low <= value) and value <= high:
        return
    what = "an integer" if integer else "a number"
    bound = f"greater than {low}" if low_open else f"at least {low}"
    if high < np.inf:
        bound += f" and at most {high}"
    raise ValueError(f"{name} must be {what} {bound}; got {value!r}.")


def check_groups(groups):
    groups = np.asarray(groups)
    if groups.ndim != 1 or len(groups) == 0:
        raise ValueError(
            f"groups must have shape (n_samples,), with at least one row; got {groups.shape}."
        )
    if (groups != groups).any():
        raise ValueError("groups must name the group of every row; got missing values (NaN).")
    return groups


def check_values(name, value, ndim, what):
    """Return a non-empty array of a wanted number of axes, without NaN or infinity."""
    array = np.asarray(value)
    if array.ndim not in ndim or array.size == 0:
        raise ValueError(f"{name} must be {what}; got an array of shape {array.shape}.")
    if array.dtype.kind in "fc" and not np.isfinite(array).all():
        raise ValueError(
            f"{name} must be finite; got NaN or infinity in "
            f"{np.count_nonzero(~np.isfinite(array))} of {array.size} values."
        )
    return array
