"""`dtram export`: a stage of a run as a model of its own, and graphs of a model as files."""

from pathlib import Path

from ..learning.run_folder import RunFolder
from ..models.dtram import DTRAM
from ..models.graph_files import check_path, look_graphs, whole_graph, write_graph
from ..prompt import say
from ..sharing.export_stage import export_stage, stage_model
from ..sharing.named_models import find_model


def export(
    model: str,
    stage: str | None,
    out: Path | None,
    half: bool,
    graphs: dict[str, Path],
    looks: bool,
) -> None:
    """Write what is asked for, and print the path of every file and folder.

    Args:
        model: the name of a model; for a stage the folder of a run.
        stage: the stage, in place of the model itself.
        out: the folder for the stage; beside the run by default, unless there are graphs.
        half: whether weights have 16 bits.
        graphs: files by their endings, with the dot.
        looks: whether there is one graph for the first look, and one for each look that follows.

    Raises:
        ValueError: an argument cannot be used, before anything is written; or as in `write_graph`.
    """
    paths = [*graphs.values()]
    if not (stage or paths):
        raise ValueError("nothing is to be exported; accepted is --stage, --onnx or --pt2.")
    if looks and not paths:
        raise ValueError("--looks is of no use without --onnx or --pt2.")
    if out and not stage:
        raise ValueError(f"--out={str(out)!r} is of no use without --stage.")
    for ending, path in graphs.items():
        if path.suffix != ending:
            raise ValueError(f"--{ending[1:]}={str(path)!r} does not end in {ending}.")
    names = ("first", "following") if looks else ("",)
    for file in (_file(path, name) for path in paths for name in names):
        check_path(file)
    if stage and not Path(model).is_dir():
        raise ValueError(f"model {model!r} is no folder; --stage={stage!r} needs that of a finished run.")
    if stage and (out or not paths):
        run = RunFolder(model)
        out = out or run.path.with_name(f"{run.path.absolute().name}_{stage}")
        export_stage(run, stage, out, half)
        say(out)
    if paths:
        built = stage_model(RunFolder(model), stage) if stage else find_model(model).build()
        _write(built.half() if half else built, paths, looks)


def _write(model: DTRAM, paths: list[Path], looks: bool) -> None:
    """Write the graphs of a model, each in every format, and say how far they are from the model."""
    for graph in look_graphs(model) if looks else [whole_graph(model)]:
        for file in (_file(path, graph.name) for path in paths):
            difference = write_graph(graph, file, model)
            say(f"{file}: differs from the model by at most {difference:.1e}, on images of noise")
    if model.dynamic and not looks:
        say(f"The graph takes {model.num_steps} looks at every image; --looks makes graphs that can stop.")


def _file(path: Path, graph: str) -> Path:
    """The file of a graph: its name stands before the ending."""
    return path.with_stem(f"{path.stem}.{graph}") if graph else path
