"""Eager networks for the export workers: loaded with pretrained weights, or seeded so that numbers stay sound.

Imports torch; only export workers import this module.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torchvision
import transformers
from torch import nn

from runner import scratch
from runner.catalogue import HUGGING_FACE
from runner.errors import AicsweepError, BadInput, PointFailed, Problem
from runner.keys import ExportRequest

SEED = 0
# Raised when the recipe below changes, so that rows of two recipes can be told apart.
SCHEME = 1
CALIBRATION_IMAGES = 4

# Architectures of the catalogue's hub models, built without a look at the hub.
_HUB_CONFIGS: dict[str, Any] = {
    "microsoft/resnet-50": lambda: _labelled(transformers.ResNetConfig()),
    "microsoft/resnet-152": lambda: _labelled(transformers.ResNetConfig(depths=[3, 8, 36, 3])),
    "google/vit-base-patch16-224": lambda: _labelled(transformers.ViTConfig()),
}


def _labelled(config: Any) -> Any:
    config.num_labels = 1000
    return config


class Logits(nn.Module):
    """A hub model seen as a function from pixels to logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(pixel_values=pixels).logits
        return logits


def load(request: ExportRequest) -> tuple[nn.Module, str, str]:
    """The network in evaluation mode, its weights' name and their revision.

    Raises BadInput where pretrained weights can't be had: never a silent change to random ones.
    """
    kind, _, name = request.source.partition(":")
    network, weights, revision = (
        _from_hub(name, request) if kind == HUGGING_FACE else _from_torchvision(name, request)
    )
    network = network.float().eval()
    if request.weights == "random":
        randomise(network, request.image_size)
    return network, weights, revision


def _from_torchvision(name: str, request: ExportRequest) -> tuple[nn.Module, str, str]:
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise BadInput([Problem("spec.models", f"torchvision has no classification model {name!r}")])
    options: dict[str, Any] = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
    if request.weights == "random":
        return (
            torchvision.models.get_model(name, weights=None, **options),
            "random",
            f"seed {SEED}, scheme {SCHEME}",
        )
    weights = torchvision.models.get_model_weights(name).DEFAULT
    try:
        return (
            torchvision.models.get_model(name, weights=weights),
            weights.name,
            weights.url.rpartition("/")[2],
        )
    except (OSError, RuntimeError) as error:
        raise _no_weights(name, error, "TORCH_HOME") from error


def _from_hub(name: str, request: ExportRequest) -> tuple[nn.Module, str, str]:
    hub_id, _, revision = name.partition("@")
    try:
        if request.weights == "random":
            make = _HUB_CONFIGS.get(hub_id)
            config = make() if make else transformers.AutoConfig.from_pretrained(hub_id, revision=revision)
            from_config: Any = transformers.AutoModelForImageClassification.from_config
            model = from_config(config)
            return Logits(model), "random", f"seed {SEED}, scheme {SCHEME}"
        model = transformers.AutoModelForImageClassification.from_pretrained(hub_id, revision=revision)
        return Logits(model), hub_id, getattr(model.config, "_commit_hash", None) or revision
    except (OSError, ValueError) as error:
        raise _no_weights(hub_id, error, "HF_HOME") from error


def _no_weights(name: str, error: BaseException, cache: str) -> AicsweepError:
    """`cache` names the folder of the library's own cache."""
    within: BaseException | None = error
    while within is not None:
        # The libraries wrap what the file system said.
        if isinstance(within, OSError) and within.errno in scratch.NO_ROOM:
            return scratch.disk_error(f"the weights of {name}", within.strerror or str(within), cache)
        within = within.__cause__ or within.__context__
    reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    remedy = f"spec.weights: random needs no download; or fill the cache that {cache} names on a machine with network"
    return BadInput([Problem("spec.weights", f"pretrained weights of {name} can't be had: {reason}", remedy)])


def randomise(network: nn.Module, image_size: int) -> None:
    """Seeded weights that keep activations of order one through the network (LSUV in one pass).

    Weights are normal, scaled by fan-in; then a calibration batch goes through once, and each
    convolution and linear layer is rescaled so that its output has unit deviation, before the next
    layer sees it; batch normalisation takes the batch's statistics. Plain initialisation lets
    EfficientNet's outputs fall to 1e-12, and torchvision's ViT head is zero.
    """
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, parameter in sorted(network.named_parameters()):
            if parameter.dim() > 1:
                fan_in = math.prod(parameter.shape[1:])
                parameter.normal_(0.0, 1 / math.sqrt(fan_in), generator=generator)
            elif name.endswith("bias"):
                parameter.normal_(0.0, 0.05, generator=generator)
            elif "layer_scale" in name:
                parameter.fill_(1.0)
            else:
                parameter.fill_(1.0)
        for norm in _modules(network, nn.modules.batchnorm._BatchNorm):
            norm.reset_running_stats()
            norm.momentum = 1.0
            norm.train()
        hooks = [m.register_forward_hook(_unit_deviation) for m in _modules(network, (nn.Conv2d, nn.Linear))]
        network(torch.randn(CALIBRATION_IMAGES, 3, image_size, image_size, generator=generator))
        for hook in hooks:
            hook.remove()
    network.eval()


def _unit_deviation(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    deviation = float(output.std())
    if not math.isfinite(deviation) or deviation < 1e-6:
        return output
    module.weight.div_(deviation)  # type: ignore[operator]
    if module.bias is not None:
        module.bias.div_(deviation)  # type: ignore[operator]
    return output / deviation


def _modules(network: nn.Module, kind: Any) -> list[Any]:
    return [module for module in network.modules() if isinstance(module, kind)]


def output_of(network: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        result = network(pixels)
    if not isinstance(result, torch.Tensor):
        raise PointFailed(
            "export", "export-error", f"the network returns {type(result).__name__}, not one tensor"
        )
    return result
