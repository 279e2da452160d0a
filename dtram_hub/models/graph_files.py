"""Graphs of a model as files, checked to answer like the model before they appear.

A file holds facts that its users need beside the graph, see `facts_of`: ONNX as its metadata, torch.export as
the extra file FACTS.
"""

import json
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from .dtram import DTRAM
from .export import FirstLook, NextLook, example_images, export_looks

FACTS = "facts.json"
TRIED = 3  # images, more than the graphs were recorded with
Tensors = tuple[Tensor, ...]


@dataclass(frozen=True)
class Graph:
    """A graph of a model, and the module that it must answer like.

    name: "first" or "following" for single looks; "" for a whole model.
    program: the graph.
    module: takes the same inputs and gives the same outputs.
    inputs, outputs: the names of the tensors.
    trials: images (B, C, H, W) -> inputs of every step.
    """

    name: str
    program: torch.export.ExportedProgram
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    trials: Callable[[Tensor], Iterator[Tensors]]


def whole_graph(model: DTRAM) -> Graph:
    """The graph of all looks of a model, images -> logits, for images of `usual_side` and any batch size."""
    model = deepcopy(model).eval()
    model.dynamic = False  # a graph cannot stop early
    some = torch.export.Dim("batch", max=2**20)
    program = torch.export.export(model, (example_images(model, 2),), dynamic_shapes=({0: some},))
    return Graph("", program, model, ("images",), ("logits",), lambda images: iter([(images,)]))


def look_graphs(model: DTRAM) -> tuple[Graph, Graph]:
    """The graphs of `export_looks`, with the names of their tensors.

    Raises:
        ValueError: no look follows the first.
    """
    if model.num_steps < 2:
        raise ValueError(
            "num_steps=1 leaves no look after the first; accepted is the graph of the whole model."
        )
    programs, first, following = export_looks(model), FirstLook(model), NextLook(model)

    def trials(images: Tensor) -> Iterator[Tensors]:
        packed, location, *_ = first(images)
        for taken in range(1, model.num_steps):
            inputs = (images, packed, location, torch.tensor(taken, device=images.device))
            yield inputs
            packed, location, *_ = following(*inputs)

    inputs = ("images", "packed", "location", "step")
    outputs = ("next_packed", "next_location", "stop_prob", "logits")
    return (
        Graph("first", programs[0], first, inputs[:1], outputs, lambda images: iter([(images,)])),
        Graph("following", programs[1], following, inputs, outputs, trials),
    )


class GraphFormat(ABC):
    """A format of files.

    needs: the packages that it is written and checked with.
    """

    needs: tuple[str, ...] = ()

    @abstractmethod
    def write(self, graph: Graph, path: Path, facts: dict) -> None:
        """Write a graph with its facts; other files beside it, if it is large."""

    @abstractmethod
    def read(self, graph: Graph, path: Path) -> Callable[[Tensors], Tensors]:
        """A function that runs the file: inputs -> outputs."""


class Onnx(GraphFormat):
    """ONNX, run by onnxruntime."""

    needs = ("onnx", "onnxruntime", "onnxscript")

    def write(self, graph: Graph, path: Path, facts: dict) -> None:
        made = torch.onnx.export(
            graph.program, input_names=graph.inputs, output_names=graph.outputs, dynamo=True, verbose=False
        )
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}
        made.model.metadata_props.update(texts)
        made.save(path)

    def read(self, graph: Graph, path: Path) -> Callable[[Tensors], Tensors]:
        from onnxruntime import InferenceSession

        session = InferenceSession(path, providers=["CPUExecutionProvider"])

        def run(inputs: Tensors) -> Tensors:
            arrays = {name: tensor.numpy() for name, tensor in zip(graph.inputs, inputs, strict=True)}
            return tuple(map(torch.from_numpy, session.run([*graph.outputs], arrays)))

        return run


class Pt2(GraphFormat):
    """The format of torch.export."""

    def write(self, graph: Graph, path: Path, facts: dict) -> None:
        torch.export.save(graph.program, path, extra_files={FACTS: json.dumps(facts)})

    def read(self, graph: Graph, path: Path) -> Callable[[Tensors], Tensors]:
        module = torch.export.load(path).module()
        return lambda inputs: _together(module(*inputs))


FORMATS: dict[str, GraphFormat] = {".onnx": Onnx(), ".pt2": Pt2()}


def check_path(path: Path) -> None:
    """ValueError unless a graph can be written at `path`, by its ending, the packages and the folder."""
    if path.suffix not in FORMATS:
        raise ValueError(f"{str(path)!r} ends in none of {', '.join(FORMATS)}.")
    if path.exists():
        raise ValueError(f"{str(path)!r} exists already; accepted is a new file.")
    if not path.parent.is_dir():
        raise ValueError(f"{str(path)!r}: folder {str(path.parent)!r} does not exist.")
    missing = [name for name in FORMATS[path.suffix].needs if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"a file {path.suffix} needs {', '.join(missing)}; pip install 'dtram-hub[onnx]' installs them."
        )


def facts_of(model: DTRAM) -> dict:
    """What a user of a graph must know: how images are prepared, when to stop, what the logits mean."""
    cfg = model.pretrained_cfg
    return {
        "architecture": cfg["architecture"],
        "input_size": [model.in_chans, model.usual_side, model.usual_side],
        "mean": list(cfg["mean"]),
        "std": list(cfg["std"]),
        "num_steps": model.num_steps,
        "stop_threshold": model.stop_threshold if model.dynamic else None,
        "num_classes": model.num_classes,
        "label_names": list(cfg.get("label_names") or []),
    }


def write_graph(graph: Graph, path: Path, model: DTRAM) -> float:
    """Write a graph of a model, which appears if it answers like the model.

    Returns:
        The largest difference between an output of the file and of the model, on images of noise.

    Raises:
        ValueError: as in `check_path`, or the file answers otherwise.
    """
    check_path(path)
    kind = FORMATS[path.suffix]
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        made = Path(folder) / path.name
        kind.write(graph, made, facts_of(model))
        noise = torch.randn(example_images(model, TRIED).shape, generator=torch.Generator().manual_seed(0))
        found = _difference(graph, kind.read(graph, made), noise.to(model.input_to_hidden.weight))
        for file in made.parent.iterdir():
            file.replace(path.parent / file.name)
    return found


@torch.no_grad()
def _difference(graph: Graph, run: Callable[[Tensors], Tensors], images: Tensor) -> float:
    """The largest difference of an output; ValueError if rounding does not explain it."""
    largest = 0.0
    for inputs in graph.trials(images):
        for name, own, other in zip(
            graph.outputs, _together(graph.module(*inputs)), run(inputs), strict=True
        ):
            difference = (own.double() - other.double()).abs().max().item()
            # Half of the digits of the largest number.
            accepted = torch.finfo(own.dtype).eps ** 0.5 * max(1.0, own.abs().max().item())
            if not difference <= accepted:
                raise ValueError(
                    f"the graph's {name} differ by up to {difference:.1e} from the model's, more than the "
                    f"{accepted:.1e} of rounding; no file was written."
                )
            largest = max(largest, difference)
    return largest


def _together(found: Tensor | Tensors) -> Tensors:
    return (found,) if isinstance(found, Tensor) else tuple(found)
