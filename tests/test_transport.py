import subprocess
import sys

import numpy as np
import ot
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import cosine_distances

from skunlearn.transport import transport_distance

METHODS = ["sinkhorn", "exact", "sliced"]
SIZES = [(8, 8), (7, 12), (1, 5), (40, 40)]


def batch(n, d=6, seed=0, dtype=torch.float64):
    return torch.as_tensor(np.random.RandomState(seed).normal(size=(n, d)), dtype=dtype)


def distance(u, v, method, **options):
    """Take the same projections every time and iterate Sinkhorn to the end."""
    generator = torch.Generator().manual_seed(0)
    options = {"tol": 1e-9, "max_iter": 20_000, "generator": generator} | options
    return transport_distance(u, v, method=method, **options)


def gradient(u, function):
    u = u.clone().requires_grad_()
    function(u).backward()
    return u.grad


def finite_differences(u, function, step=1e-6):
    grad = torch.zeros_like(u)
    for at in np.ndindex(*u.shape):
        there, back = u.clone(), u.clone()
        there[at] += step
        back[at] -= step
        grad[at] = (float(function(there)) - float(function(back))) / (2 * step)
    return grad


@pytest.mark.parametrize(("n", "m"), SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_agrees_with_emd2(n, m, dtype):
    u, v = batch(n, seed=1, dtype=dtype), batch(m, seed=2, dtype=dtype)
    expected = ot.emd2([], [], cosine_distances(u.numpy(), v.numpy()).astype(float))
    got = distance(u, v, "exact")
    assert got.dtype == dtype
    assert got.item() == pytest.approx(expected, abs=1e-12 if dtype == torch.float64 else 1e-6)


@pytest.mark.parametrize(("n", "m"), SIZES)
def test_sinkhorn_falls_to_exact_as_regularisation_falls(n, m):
    u, v = batch(n, seed=1), batch(m, seed=2)
    exact = distance(u, v, "exact").item()
    excess = [distance(u, v, "sinkhorn", reg=r).item() - exact for r in (1, 0.3, 0.1, 0.03, 0.01)]
    assert np.all(np.diff(excess) <= 1e-8)
    assert -1e-8 <= excess[-1] < 0.01


def test_sinkhorn_value_leaves_the_entropy_out():
    u, v = batch(8, seed=1), batch(12, seed=2)
    result = ot.solve(cosine_distances(u, v), reg=0.1, tol=1e-12)
    got = distance(u, v, "sinkhorn", reg=0.1).item()
    assert got == pytest.approx(result.value_linear, abs=1e-8)
    assert abs(got - result.value) > 0.01


@pytest.mark.parametrize("reg", [1e-4, 1e-3, 1e-2])
def test_sinkhorn_stays_finite_at_tiny_regularisation(reg):
    u, v = batch(8, seed=1, dtype=torch.float32), -batch(8, seed=1, dtype=torch.float32)
    u.requires_grad_()
    exact = transport_distance(u, v, method="exact").item()
    got = transport_distance(u, v, reg=reg, max_iter=50_000)
    got.backward()
    assert got.item() == pytest.approx(exact, abs=0.02)
    assert torch.isfinite(u.grad).all()


@pytest.mark.parametrize("method", ["exact", "sliced"])
def test_equal_batches_are_at_distance_zero_with_a_zero_gradient(method):
    u = batch(10).requires_grad_()
    got = distance(u, u.detach().flip(0), method)
    got.backward()
    assert got.item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(u.grad, torch.zeros_like(u))


def test_sinkhorn_of_equal_batches_falls_to_zero_with_regularisation():
    u = batch(10)
    values = [distance(u, u, "sinkhorn", reg=reg).item() for reg in (0.5, 0.1, 0.02)]
    assert values[0] > values[1] > values[2] >= 0
    assert values[2] < 1e-4


# Rows of u against rows of v, by hand: the cheapest pairing of (e1, e2) with (e2, -e2) sends
# e2 to e2 (cost 0) and e1 to -e2 (cost 1).
@pytest.mark.parametrize(
    ("u", "v", "expected"),
    [
        ([[1, 0], [0, 1]], [[0, 1], [0, -1]], 0.5),
        ([[1, 0], [0, 1]], [[-1, 0], [0, -1]], 1.0),
        ([[1, 0]], [[-1, 0]], 2.0),
        ([[1, 0]], [[0, 1], [1, 1], [-1, 0]], (1 + (1 - 0.5**0.5) + 2) / 3),
    ],
)
def test_small_cases_worked_by_hand(u, v, expected):
    u, v = torch.tensor(u).double(), torch.tensor(v).double()
    assert distance(u, v, "exact").item() == pytest.approx(expected)
    assert distance(u, v, "sinkhorn", reg=0.01).item() == pytest.approx(expected, abs=1e-6)


def test_sliced_is_one_minus_cosine_for_single_rows():
    u, v = batch(1, d=5, seed=1), batch(1, d=5, seed=2)
    got = distance(u, v, "sliced", n_projections=100_000).item()
    assert got == pytest.approx(cosine_distances(u, v).item(), rel=0.02)


@pytest.mark.parametrize(("n", "m"), [(6, 6), (4, 7)])
def test_exact_gradient_agrees_with_finite_differences_of_emd2(n, m):
    u, v = batch(n, seed=1), batch(m, seed=2)
    expected = finite_differences(u, lambda x: ot.emd2([], [], cosine_distances(x, v)))
    got = gradient(u, lambda x: distance(x, v, "exact"))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("n", "m"), [(6, 6), (4, 7)])
def test_sinkhorn_gradient_is_that_of_the_entropic_objective(n, m):
    # With the plan held constant: the gradient of what Sinkhorn minimises, entropy included.
    u, v = batch(n, seed=1), batch(m, seed=2)

    def objective(x):
        return ot.solve(cosine_distances(x, v), reg=0.1, tol=1e-13, max_iter=5000).value

    got = gradient(u, lambda x: distance(x, v, "sinkhorn", reg=0.1))
    torch.testing.assert_close(got, finite_differences(u, objective), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("n", "m"), [(6, 6), (4, 7)])
def test_sliced_gradient_agrees_with_finite_differences(n, m):
    u, v = batch(n, seed=1), batch(m, seed=2)
    expected = finite_differences(u, lambda x: distance(x, v, "sliced"))
    got = gradient(u, lambda x: distance(x, v, "sliced"))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_gradient_reaches_the_second_batch_too(method):
    u, v = batch(6, seed=1), batch(6, seed=2)
    got = gradient(v, lambda x: distance(u, x, method))
    torch.testing.assert_close(got, gradient(v, lambda x: distance(x, u, method)))
    assert got.abs().max() > 0


def test_default_tolerance_keeps_the_signs_of_the_converged_gradient():
    rng = np.random.RandomState(0)
    centres = rng.normal(size=(10, 64))
    u, v = (
        torch.as_tensor(centres[rng.randint(10, size=64)] + rng.normal(size=(64, 64))).relu()
        for _ in range(2)
    )
    for reg in (0.05, 0.1):
        quick = gradient(u, lambda x, reg=reg: transport_distance(x, v, reg=reg))
        converged = gradient(u, lambda x, reg=reg: distance(x, v, "sinkhorn", reg=reg))
        assert (quick.sign() == converged.sign()).double().mean() > 0.99


@pytest.mark.parametrize("method", METHODS)
def test_a_step_down_the_gradient_brings_the_batches_closer(method):
    u, v = batch(20, seed=1, dtype=torch.float32), batch(20, seed=2, dtype=torch.float32)
    step = 0.01 * gradient(u, lambda x: distance(x, v, method)).sign()
    assert distance(u - step, v, method) < distance(u, v, method) < distance(u + step, v, method)


@pytest.mark.parametrize("method", METHODS)
def test_order_and_length_of_rows_do_not_matter(method):
    u, v = batch(9, seed=1), batch(7, seed=2)
    length = torch.linspace(1e-6, 1e6, 9, dtype=u.dtype)[:, None]
    got = distance((u * length).flip(0), v.roll(3, 0), method)
    torch.testing.assert_close(got, distance(u, v, method))


@pytest.mark.parametrize("method", METHODS)
def test_trailing_dimensions_are_flattened(method):
    u, v = batch(5, d=12, seed=1), batch(5, d=12, seed=2)
    got = distance(u.reshape(5, 3, 2, 2), v.reshape(5, 4, 3), method)
    torch.testing.assert_close(got, distance(u, v, method))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rows_of_zeros_have_a_finite_value_and_no_gradient(method, dtype):
    u, v = batch(6, seed=1, dtype=dtype).relu(), batch(6, seed=2, dtype=dtype).relu()
    u[2] = v[3] = v[4] = 0
    u.requires_grad_()
    got = distance(u, v, method)
    got.backward()
    assert torch.isfinite(got)
    assert torch.isfinite(u.grad).all()
    assert not u.grad[2].any()
    assert u.grad[0].any()


def test_a_row_of_zeros_costs_one_to_send_anywhere():
    assert distance(torch.zeros(3, 4), batch(3, d=4, dtype=torch.float32), "exact").item() == 1


def test_sliced_repeats_under_a_seed_and_leaves_the_global_generator_alone_when_given_one():
    u, v = batch(6, seed=1), batch(6, seed=2)
    before = torch.get_rng_state()
    first, second = distance(u, v, "sliced"), distance(u, v, "sliced")
    assert first == second
    assert torch.equal(before, torch.get_rng_state())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert transport_distance(u, v, method="sliced") == first
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("method", ["sinkhorn", "exact"])
def test_solvers_draw_no_random_numbers(method):
    before = torch.get_rng_state()
    transport_distance(batch(6, seed=1), batch(6, seed=2), method=method)
    assert torch.equal(before, torch.get_rng_state())


def test_misplaced_mass_is_warned_about():
    u = torch.cat([batch(8, seed=1), batch(8, seed=1)[:1].expand(8, -1)])
    v = batch(16, seed=2)
    with pytest.warns(ConvergenceWarning, match="rows off by .*% in total after 1 iter"):
        transport_distance(u, v, reg=0.01, max_iter=1)
    transport_distance(u, v, reg=0.05)


def test_a_callable_is_given_the_flattened_batches_and_its_value_returned():
    u = batch(5, d=4).reshape(5, 2, 2).requires_grad_()

    def method(a, b):
        assert a.shape == (5, 4)
        assert b.shape == (3, 4)
        return (a.mean(0) - b.mean(0)).square().sum()

    transport_distance(u, batch(3, d=4, seed=1), method=method).backward()
    assert u.grad.abs().min() > 0


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda u, v: u.mean(dim=1), r"scalar torch tensor; got shape \(5,\)"),
        (lambda u, v: 1.0, "scalar torch tensor; got float"),
        (lambda u, v: None, "scalar torch tensor; got NoneType"),
        (lambda u, v: u.detach().mean(), "cut off from u and v"),
    ],
)
def test_a_callable_that_returns_the_wrong_thing_is_refused(returned, message):
    with pytest.raises(ValueError, match=message):
        transport_distance(batch(5).requires_grad_(), batch(5), method=returned)


def test_a_callable_needs_no_gradient_when_nothing_asks_for_one():
    u = batch(5).requires_grad_()
    with torch.no_grad():
        assert transport_distance(u, u, method=lambda u, v: u.sum() - v.sum()) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["u", "v"])
def test_features_that_are_not_finite_are_refused_by_name(bad, method, name):
    batches = {"u": batch(5), "v": batch(5)}
    batches[name][1, 2] = bad
    with pytest.raises(ValueError, match=f"{name} must be finite"):
        transport_distance(**batches, method=method)


def test_features_whose_norm_overflows_are_refused():
    with pytest.raises(ValueError, match="so must be the norms"):
        transport_distance(torch.full((5, 4), 1e30), torch.ones(5, 4))


@pytest.mark.parametrize(
    ("u", "v", "message"),
    [
        (batch(5).numpy(), batch(5), "u must be a torch tensor of a floating dtype; got ndarray"),
        (batch(5), batch(5).long(), "v must be .*; got torch.int64"),
        (batch(5)[0], batch(5), r"u must be of shape .*; got \(6,\)"),
        (batch(5), batch(5)[:0], r"v must be of shape .*; got \(0, 6\)"),
        (batch(5, d=3), batch(5, d=4), "as many values per row; got 3 and 4"),
    ],
)
def test_wrong_batches_are_refused_by_name(u, v, message):
    with pytest.raises(ValueError, match=message):
        transport_distance(u, v)


def test_an_unknown_method_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"sinkhorn.*exact.*sliced.*callable; got 'emd'"):
        transport_distance(batch(5), batch(5), method="emd")


@pytest.mark.parametrize("reg", [0, -1, float("nan")])
def test_regularisation_must_be_positive(reg):
    with pytest.raises(ValueError, match="reg must be positive"):
        transport_distance(batch(5), batch(5), reg=reg)


def test_importing_the_module_does_not_import_pot():
    code = "import sys, skunlearn.transport; sys.exit('ot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("tol", [0.3, 0.03])
@pytest.mark.parametrize(("n", "m"), [(40, 40), (20, 200)])
def test_tol_is_of_the_sum_of_what_the_marginals_are_off_by(monkeypatch, tol, n, m):
    plans, solve = [], ot.bregman.sinkhorn_stabilized
    monkeypatch.setattr(
        ot.bregman, "sinkhorn_stabilized", lambda *a, **k: plans.append(solve(*a, **k)) or plans[0]
    )
    u, v = batch(n, seed=1), batch(m, seed=2) + 1
    transport_distance(u, v, reg=0.02, tol=tol, max_iter=10_000)
    (plan,) = plans
    assert np.abs(plan.sum(0) - 1 / m).sum() <= tol
    assert np.abs(plan.sum(1) - 1 / n).sum() <= tol


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("u_dtype", "v_dtype", "size"),
    [
        (torch.float16, torch.float32, 1e6),  # infinite as a half
        (torch.float16, torch.float64, 5e4),  # whose norm is
        (torch.bfloat16, torch.float64, 1e39),
        (torch.float32, torch.float64, 1e39),
        (torch.float32, torch.float64, 1e30),  # whose squares are
    ],
)
def test_features_beyond_the_dtype_of_the_others_are_refused(method, u_dtype, v_dtype, size):
    u, v = batch(5, dtype=u_dtype), torch.full((4, 6), size, dtype=v_dtype)
    with pytest.raises(ValueError, match=f"v must be finite as {u_dtype}, the dtype of u"):
        distance(u, v, method)
    with pytest.raises(ValueError, match="u must be finite"):
        distance(v.to(u_dtype), u, method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [1e-3, 1, 1e4])
def test_halves_have_the_distance_of_floats(method, dtype, size):
    u = (size * batch(6, seed=1)).to(dtype)
    v = size * batch(8, seed=2)
    expected = distance(u.double(), v, method, tol=0.01)
    u.requires_grad_()
    got = distance(u, v, method, tol=0.01)
    assert got.dtype is dtype
    if method != "sliced":  # whose projections are drawn in the dtype
        assert got.item() == pytest.approx(expected.item(), abs=0.02)
    got.backward()
    assert torch.isfinite(u.grad).all()


def test_features_too_small_for_the_dtype_of_the_others_keep_their_direction():
    u, v = batch(5, dtype=torch.float16), 1e-9 * batch(4, seed=1)
    assert distance(u, v, "exact").item() == pytest.approx(
        distance(u.double(), v, "exact").item(), abs=0.01
    )
