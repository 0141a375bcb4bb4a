"""Every parameter has one explicit type."""

import ast
from pathlib import Path

from tests.conftest import ROOT

# Two forms of one thing: a place, a device, bytes, the result of a try, one bandwidth or one each,
# what is measured, a number of channels or how they go together, a flag on the host or on the device,
# a denoiser that is loaded or is to be.
ONE_THING = [
    {"str", "Path"},
    {"str", "torch.device"},
    {"bytes", "mmap.mmap"},
    {"bytes", "memoryview"},
    {"PairBytes", "BadPair"},
    {"R", "Failure"},
    {"int", "slice"},
    {"int", "str"},
    {"float", "Tensor"},
    {"bool", "Tensor"},
    {"bool", "str", "DeepFilterNet3", "Denoiser"},
    {"DeepFilterNet3", "Denoiser"},
    {"Case", "Probe"},
    {"Sequence[Case]", "Sequence[Probe]"},
]


def types_of(annotation: ast.expr) -> set[str]:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    if isinstance(annotation, ast.BinOp):
        return types_of(annotation.left) | types_of(annotation.right)
    return {ast.unparse(annotation)} - {"None"}


def loose_parameters(source: str) -> list[str]:
    """Return the parameters that have no type, or take a list as well as an array, say."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            for argument in parameters:
                if argument.arg in ("self", "cls") and argument is parameters[0]:
                    continue
                types = types_of(argument.annotation) if argument.annotation else set()
                words = {word for name in types for word in ("Union", "ArrayLike") if word in name}
                if words or (len(types) != 1 and types not in ONE_THING):
                    names.append(f"{node.name}({argument.arg})")
    return names


def sources() -> list[Path]:
    trees = ("timbre", "shard_tools")
    return sorted(path for tree in trees for path in (ROOT / tree).rglob("*.py"))


def test_every_parameter_has_one_explicit_type() -> None:
    fault = "def add_noise(noise: list[float] | np.ndarray, snr_db: float, level=0): ..."
    assert loose_parameters(fault) == ["add_noise(noise)", "add_noise(level)"]
    faults = {
        str(path): loose for path in sources() if (loose := loose_parameters(path.read_text()))
    }
    assert faults == {}
