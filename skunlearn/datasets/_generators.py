"""Generated data in which every row belongs to someone."""

from __future__ import annotations

from numbers import Integral, Real
from typing import TYPE_CHECKING, overload

import numpy as np
from sklearn.utils import Bunch, check_random_state

from skunlearn._engine.random import draw_seed

if TYPE_CHECKING:
    from typing import Literal

    from skunlearn._engine.typing import Array, RandomState

_DESCR = """\
Generated identity images
-------------------------
{n} images of {size} x {size} pixels and {channels} channel(s): {people} drawn people, {each}
images of each. The person fixes skin, hair, eyes, proportions, a birthmark and perhaps glasses;
the image varies in age, pose, expression, light, background and noise.

Target: the age class, 0 (youngest) to {last}, of equal width and about equally frequent. The
images of a person lie within a few neighbouring classes. Grey hair, a receding hairline, wrinkles,
heavier lids and a longer face show the age, each earlier in some people than in others, so that
unseen people can be told only roughly. {wrong} targets were replaced by another class; clean_target
has them all right. Identity: the person.
"""


@overload
def make_identity_images(  # numpydoc ignore=GL08
    n_identities: int = 100,
    images_per_identity: int = 12,
    *,
    image_size: int = 32,
    n_channels: Literal[1, 3] = 3,
    n_classes: int = 8,
    label_noise: float = 0.1,
    random_state: RandomState = None,
    return_X_y: Literal[False] = False,
) -> Bunch: ...


@overload
def make_identity_images(  # numpydoc ignore=GL08
    n_identities: int = 100,
    images_per_identity: int = 12,
    *,
    image_size: int = 32,
    n_channels: Literal[1, 3] = 3,
    n_classes: int = 8,
    label_noise: float = 0.1,
    random_state: RandomState = None,
    return_X_y: Literal[True],
) -> tuple[Array, Array]: ...


def make_identity_images(
    n_identities: int = 100,
    images_per_identity: int = 12,
    *,
    image_size: int = 32,
    n_channels: Literal[1, 3] = 3,
    n_classes: int = 8,
    label_noise: float = 0.1,
    random_state: RandomState = None,
    return_X_y: bool = False,
) -> Bunch | tuple[Array, Array]:
    """Generate small faces of many people, to be classified by age.

    The label is not the identity: people of all kinds share an age class, and a person's images
    fall into several. The task can be learnt for unseen people, roughly; who remembers the person
    or the image does better on the rows seen, and only there.

    Parameters
    ----------
    n_identities : int, default=100
        Number of people.
    images_per_identity : int, default=12
        Number of images of each.
    image_size : int, default=32
        Height and width in pixels, at least 8.
    n_channels : {1, 3}, default=3
        Grey or red, green, blue.
    n_classes : int, default=8
        Number of age classes, at least 2.
    label_noise : float, default=0.1
        Share of the rows, in [0, 1], whose target is replaced by another class.
    random_state : int, RandomState instance or None, default=None
        Pass an int for the same images in every call.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` alone.

    Returns
    -------
    sklearn.utils.Bunch or tuple of (data, target)
        With `n` = ``n_identities * images_per_identity`` and the attributes

        data : ndarray of shape (n, n_channels, image_size, image_size), float32
            Images in [0, 1]. Those of a person follow each other.
        target : ndarray of shape (n,), int64
            Age class, with label noise.
        clean_target : ndarray of shape (n,), int64
            Age class, without.
        identity : ndarray of shape (n,), int64
            The person, 0 to ``n_identities - 1``.
        DESCR : str
            Description.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    See Also
    --------
    fetch_cmu_faces : Photographs of 20 people.
    fetch_spoken_digits : Recordings of 6 speakers.

    Examples
    --------
    >>> from skunlearn.datasets import make_identity_images
    >>> faces = make_identity_images(n_identities=5, images_per_identity=4, random_state=0)
    >>> faces.data.shape
    (20, 3, 32, 32)
    >>> forget = faces.identity == 2
    >>> int(forget.sum())
    4
    """
    _check_integer("n_identities", n_identities, least=1)
    _check_integer("images_per_identity", images_per_identity, least=1)
    _check_integer("image_size", image_size, least=8)
    _check_integer("n_classes", n_classes, least=2)
    if n_channels not in (1, 3):
        raise ValueError(f"n_channels must be 1 or 3, got {n_channels!r}.")
    if not isinstance(label_noise, Real) or not 0 <= label_noise <= 1:
        raise ValueError(f"label_noise must be a number in [0, 1], got {label_noise!r}.")
    rng = check_random_state(random_state)

    n = n_identities * images_per_identity
    identity = np.repeat(np.arange(n_identities), images_per_identity)
    person = {name: value[identity] for name, value in _draw_people(rng, n_identities).items()}
    # Reflection at both ends keeps ages uniform, and so the classes balanced.
    age = np.abs(person["age"] + rng.normal(0, 0.12, n))
    age = np.abs(1 - np.abs(1 - age))
    look = person | _draw_ages(age, person) | _draw_nuisance(rng, n)

    clean_target = np.minimum((age * n_classes).astype(np.int64), n_classes - 1)
    target = clean_target.copy()
    wrong = rng.permutation(n)[: round(label_noise * n)]
    target[wrong] = (target[wrong] + rng.randint(1, n_classes, len(wrong))) % n_classes

    # RandomState draws noise in double precision, half of the whole run time.
    noise = np.random.default_rng(draw_seed(rng))
    data = np.empty((n, n_channels, image_size, image_size), dtype=np.float32)
    # Blocks that fit the processor's cache are several times faster than everything at once.
    for start in range(0, n, 64):
        block = slice(start, start + 64)
        images = _render({name: value[block] for name, value in look.items()}, image_size)
        if n_channels == 1:
            images = images.mean(axis=1, keepdims=True)
        images += 0.03 * noise.standard_normal(images.shape, dtype=np.float32)
        np.clip(images, 0, 1, out=data[block])
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        clean_target=clean_target,
        identity=identity.astype(np.int64),
        DESCR=_DESCR.format(
            n=n,
            size=image_size,
            channels=n_channels,
            people=n_identities,
            each=images_per_identity,
            last=n_classes - 1,
            wrong=len(wrong),
        ),
    )


def _check_integer(name, value, *, least):
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")


def _draw_people(rng, n):
    """What stays the same in all images of a person, each an array of n rows."""
    skin = np.linspace([0.98, 0.84, 0.74], [0.42, 0.27, 0.19], 101)
    hair = np.array([[0.1, 0.08, 0.07], [0.35, 0.2, 0.1], [0.8, 0.6, 0.25], [0.6, 0.25, 0.1]])
    eyes = np.array([[0.2, 0.1, 0.05], [0.15, 0.35, 0.65], [0.2, 0.45, 0.2]])
    return {
        "age": rng.uniform(0, 1, n),
        "greying": rng.normal(0, 0.08, n),
        "balding": rng.normal(0, 0.12, n),
        "wrinkling": rng.normal(0, 0.08, n),
        "skin": skin[rng.randint(0, 101, n)] + rng.normal(0, 0.02, (n, 3)),
        "hair": hair[rng.randint(0, 4, n)] * rng.uniform(0.7, 1.3, (n, 1)),
        "iris": eyes[rng.randint(0, 3, n)],
        "face_width": rng.uniform(0.48, 0.62, n),
        "hair_length": rng.uniform(-0.2, 0.8, n),
        "hair_width": rng.uniform(0.02, 0.18, n),
        "eye_gap": rng.uniform(0.2, 0.28, n),
        "eye_size": rng.uniform(0.085, 0.125, n),
        "brow": rng.uniform(0.02, 0.06, n),
        "nose": rng.uniform(0.12, 0.3, n),
        "nose_width": rng.uniform(0.04, 0.09, n),
        "mouth_width": rng.uniform(0.14, 0.26, n),
        "lip": rng.uniform(0.03, 0.07, n),
        "lip_colour": rng.uniform([0.55, 0.15, 0.15], [0.85, 0.4, 0.4], (n, 3)),
        "glasses": (rng.uniform(0, 1, n) < 0.25).astype(float),
        "mark_x": rng.uniform(-0.35, 0.35, n),
        "mark_y": rng.uniform(0.1, 0.5, n),
        "mark": rng.uniform(0.005, 0.05, n),
    }


def _draw_ages(age, person):
    """What shows the age, at a pace that is the person's own."""
    return {
        "grey": np.clip(1.6 * (age + person["greying"]) - 0.4, 0, 1),
        "hairline": -0.58 - 0.25 * np.clip(age + person["balding"], 0, 1),
        "wrinkles": np.clip(age + person["wrinkling"], 0, 1),
        "lid": 0.45 * age,
        "face_height": 0.66 + 0.14 * age,
    }


def _draw_nuisance(rng, n):
    """What differs from image to image and says nothing about the person or the age."""
    return {
        "shift_x": rng.normal(0, 0.05, n),
        "shift_y": rng.normal(0, 0.05, n),
        "zoom": rng.uniform(0.92, 1.08, n),
        "tilt": rng.normal(0, 0.1, n),
        "turn": rng.uniform(-0.14, 0.14, n),
        "nod": rng.uniform(-0.06, 0.06, n),
        "smile": rng.uniform(-0.6, 1.2, n),
        "gape": rng.uniform(0.7, 1.8, n),
        "background": rng.uniform(0.25, 0.85, (n, 1)) + rng.normal(0, 0.08, (n, 3)),
        "light": rng.uniform(0.75, 1.15, n),
        "light_x": rng.normal(0, 0.15, n),
        "light_y": rng.normal(0, 0.1, n),
    }


def _render(look, size):
    """Draw images (n, 3, size, size) of looks, layer upon layer."""
    look = {name: value.astype(np.float32) for name, value in look.items()}
    # Numbers broadcast over (n, size, size), colours over (n, 3, size, size).
    at = {name: value[:, None, None] for name, value in look.items() if value.ndim == 1}
    colour = {name: value[:, :, None, None] for name, value in look.items() if value.ndim == 2}
    axis = (2 * np.arange(size, dtype=np.float32) + 1) / size - 1
    right, down = axis[None, None, :], axis[None, :, None]
    # Coordinates of the upright head, and of the features on it, which move as it turns.
    cos, sin = np.cos(at["tilt"]) / at["zoom"], np.sin(at["tilt"]) / at["zoom"]
    x = cos * (right - at["shift_x"]) + sin * (down - at["shift_y"])
    y = cos * (down - at["shift_y"]) - sin * (right - at["shift_x"])
    u, v = x - at["turn"], y - at["nod"]
    side = np.abs(u)

    def ellipse(dx, dy, width, height):
        radius = np.sqrt((dx / width) ** 2 + (dy / height) ** 2)
        # Edges one pixel wide, so that shifts by a fraction of a pixel show.
        return np.clip(
            (1 - radius) * np.minimum(width, height, dtype=np.float32) * (size / 2) + 0.5, 0, 1
        )

    def above(edge, values):
        return np.clip((edge - values) * (size / 2) + 0.5, 0, 1)

    def paint(cover, paint_colour):
        image[...] += cover[:, None] * (paint_colour - image)

    grey = at["grey"][:, None]
    hair = colour["hair"] + grey * (0.85 - colour["hair"])
    skin = colour["skin"]
    face = ellipse(x, y - 0.08, at["face_width"], at["face_height"])
    image = np.broadcast_to(colour["background"], (len(x), 3, size, size)).copy()
    hair_width = at["face_width"] + at["hair_width"]
    paint(ellipse(x, y + 0.1, hair_width, 0.75) * above(at["hair_length"], y), hair)
    paint(face, skin)
    paint(face * above(at["hairline"] + 0.5 * u**2, v), hair)

    lines = np.clip(np.sin(45 * v), 0, 1) * ellipse(u, v + 0.42, 0.32, 0.14)
    folds = ellipse(side - 0.22 - 0.3 * (v - 0.3), v - 0.32, 0.035, 0.16)
    bags = ellipse(side - at["eye_gap"], v + 0.02, 0.11, 0.03)
    wrinkles = 0.45 * at["wrinkles"] * np.maximum(np.maximum(lines, folds), bags)
    paint(wrinkles * face, skin * 0.35)

    eye_x, eye_y = side - at["eye_gap"], v + 0.14
    open_eye = ellipse(eye_x, eye_y, at["eye_size"] * 1.25, at["eye_size"] * (1 - at["lid"]))
    paint(open_eye, 0.95)
    paint(open_eye * ellipse(eye_x, eye_y, at["eye_size"] * 0.6, at["eye_size"]), colour["iris"])
    paint(ellipse(eye_x, eye_y + 0.17, 0.14, at["brow"]), hair * 0.8)
    paint(0.45 * ellipse(u, v - 0.02, at["nose_width"], at["nose"]), skin * 0.6)
    bend = v - 0.42 + at["smile"] * u**2
    paint(
        ellipse(u, bend, at["mouth_width"], at["lip"] * at["gape"]),
        colour["lip_colour"],
    )
    paint(0.8 * ellipse(u - at["mark_x"], v - at["mark_y"], at["mark"], at["mark"]), skin * 0.3)
    frame = ellipse(eye_x, eye_y, 0.19, 0.17) - ellipse(eye_x, eye_y, 0.14, 0.12)
    bridge = ellipse(u, eye_y, 0.08, 0.025)
    paint(at["glasses"] * 0.9 * np.maximum(frame, bridge), 0.1)

    light = at["light"] * (1 + at["light_x"] * right + at["light_y"] * down)
    image *= light[:, None]
    return image
