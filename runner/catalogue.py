"""The models: 53 names, the groups they form, and how a reference in a Sweep becomes a source.

A name says where its model comes from: a hyphen is the Hugging Face spelling, everything
else is torchvision's. Image sizes are a property of the model (vendor's look-up table).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

DEFAULT_IMAGE_SIZE = 224
TORCHVISION, HUGGING_FACE, ONNX = "torchvision", "hf", "onnx"


@dataclass(frozen=True)
class Model:
    """A model as the rest of the program sees it.

    `name` is what rows show, `source` the canonical origin (`torchvision:N`, `hf:O/N@REV`, `onnx:PATH`).
    `fixed_size` models accept `image_size` only, others at least `min_image_size` pixels.
    """

    name: str
    source: str
    family: str
    image_size: int = DEFAULT_IMAGE_SIZE
    min_image_size: int = 32
    fixed_size: bool = False
    # Where an `onnx:` file lies; its source becomes `onnx:SHA256` once it is read.
    location: str = ""

    @property
    def kind(self) -> str:
        return self.source.split(":", 1)[0]


_TORCHVISION_FAMILIES: Mapping[str, Sequence[str]] = {
    "alexnet": ["alexnet"],
    "densenet": ["densenet121", "densenet161", "densenet169", "densenet201"],
    "efficientnet": [f"efficientnet_b{i}" for i in range(8)] + [f"efficientnet_v2_{s}" for s in "sml"],
    "inception": ["inception_v3"],
    "mnasnet": ["mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"],
    "mobilenet": ["mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"],
    "resnet": ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"],
    "resnext": ["resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"],
    "shufflenet": [f"shufflenet_v2_x{w}" for w in ("0_5", "1_0", "1_5", "2_0")],
    "squeezenet": ["squeezenet1_0", "squeezenet1_1"],
    "vgg": [f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")],
    "vit": ["vit_b_16", "vit_b_32"],
    "wide-resnet": ["wide_resnet50_2", "wide_resnet101_2"],
}
_HUB_MODELS = {
    "resnet-50": ("microsoft/resnet-50", "resnet"),
    "resnet-152": ("microsoft/resnet-152", "resnet"),
    "vit-base-patch16-224": ("google/vit-base-patch16-224", "vit"),
}
_IMAGE_SIZES = {
    **dict(
        zip([f"efficientnet_b{i}" for i in range(1, 8)], [240, 260, 300, 380, 456, 528, 600], strict=True)
    ),
    "efficientnet_v2_s": 384,
    "efficientnet_v2_m": 480,
    "efficientnet_v2_l": 480,
    "inception_v3": 299,
}
# The stem of inception_v3 halves five times without padding; below 75 pixels nothing is left.
# Alexnet's and the others' bounds are where pooling would have no input left.
_MIN_IMAGE_SIZES = {"inception_v3": 75, "alexnet": 63}


def _catalogue() -> dict[str, Model]:
    models = {
        name: Model(
            name=name,
            source=f"{TORCHVISION}:{name}",
            family=family,
            image_size=_IMAGE_SIZES.get(name, DEFAULT_IMAGE_SIZE),
            min_image_size=_MIN_IMAGE_SIZES.get(name, 32),
            fixed_size=family == "vit",
        )
        for family, names in _TORCHVISION_FAMILIES.items()
        for name in names
    }
    for name, (hub_id, family) in _HUB_MODELS.items():
        models[name] = Model(
            name=name, source=f"{HUGGING_FACE}:{hub_id}@main", family=family, fixed_size=family == "vit"
        )
    return dict(sorted(models.items()))


MODELS: Mapping[str, Model] = _catalogue()
_BY_SOURCE = {model.source: model for model in MODELS.values()}


def _groups() -> dict[str, tuple[str, ...]]:
    groups = {
        "all": tuple(MODELS),
        "torchvision": tuple(n for n, m in MODELS.items() if m.kind == TORCHVISION),
        "huggingface": tuple(n for n, m in MODELS.items() if m.kind == HUGGING_FACE),
    }
    for family in sorted({m.family for m in MODELS.values()}):
        members = tuple(n for n, m in MODELS.items() if m.family == family)
        if len(members) > 1:
            groups[f"{family}s"] = members
    return groups


GROUPS: Mapping[str, tuple[str, ...]] = _groups()

_TORCHVISION_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_HUB_ID = re.compile(r"(?P<id>[\w.-]{1,96}/[\w.-]{1,96})(@(?P<revision>[\w./-]{1,64}))?")


def resolve(reference: str) -> list[Model]:
    """Models that one entry of `spec.models` names: a catalogue name, a group, or `kind:...`.

    A `kind:` reference to a catalogue model is that model, so that one network has one name.
    Raises LookupError with a sentence and, where there is one, the nearest names.
    """
    if reference in MODELS:
        return [MODELS[reference]]
    if reference in GROUPS:
        return [MODELS[name] for name in GROUPS[reference]]
    kind, colon, rest = reference.partition(":")
    if not colon:
        raise LookupError(f"unknown model {reference!r}{_nearest(reference)}")
    if kind == TORCHVISION and _TORCHVISION_NAME.fullmatch(rest):
        return [_known(Model(name=reference, source=reference, family="torchvision"))]
    if kind == HUGGING_FACE and (match := _HUB_ID.fullmatch(rest)):
        source = f"{HUGGING_FACE}:{match['id']}@{match['revision'] or 'main'}"
        return [_known(Model(name=reference, source=source, family="huggingface"))]
    if kind == ONNX and rest:
        return [Model(name=reference, source=reference, family="onnx")]
    raise LookupError(
        f"{reference!r} is not a model reference; use a catalogue name, a group, torchvision:NAME, "
        "hf:OWNER/NAME[@REVISION] or onnx:PATH"
    )


def size_problem(model: Model, image_size: int) -> str:
    """Why `model` can't take images of `image_size` pixels, or an empty string."""
    if model.fixed_size and image_size != model.image_size:
        return f"{model.name} accepts {model.image_size} pixels only (fixed position embedding)"
    if image_size < model.min_image_size:
        return f"{model.name} needs images of at least {model.min_image_size} pixels"
    return ""


def _known(model: Model) -> Model:
    return _BY_SOURCE.get(model.source, model)


def _nearest(reference: str) -> str:
    names = difflib.get_close_matches(reference.lower(), [*MODELS, *GROUPS], n=3, cutoff=0.6)
    return f"; did you mean {', '.join(names)}?" if names else ""
