"""The one-way arrows of docs/architecture.md: what each package may import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "saeray"
# package (or module) -> top-level things it must not import, directly
FORBIDDEN = {
    "readers": {"ray", "saeray.store", "saeray.pipeline", "saeray.analysis"},
    "saes": {"ray", "saeray.store", "saeray.pipeline", "saeray.analysis"},
    "encoder.py": {"ray", "pyarrow", "saeray.store", "saeray.pipeline"},
    "store": {"torch", "ray", "transformers", "saeray.readers", "saeray.saes", "saeray.pipeline", "saeray.analysis"},
    "stats": {"ray", "saeray.store", "saeray.analysis", "saeray.readers"},
    "analysis": {"torch", "ray", "saeray.pipeline", "saeray.readers"},
    "labels": {"ray", "saeray.pipeline", "saeray.readers", "saeray.encoder"},
    "llm": {"ray", "saeray.pipeline", "saeray.analysis", "saeray.encoder"},
    "report": {"torch", "ray", "saeray.store", "saeray.pipeline"},
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("name", sorted(FORBIDDEN))
def test_arrows_point_one_way(name: str) -> None:
    """A package that knew Ray or a file system could not be tested in milliseconds or run without them."""
    place = PACKAGE / name
    for path in [place] if place.is_file() else place.rglob("*.py"):
        for module in imports(path):
            for forbidden in FORBIDDEN[name]:
                assert module != forbidden, f"{path.name} imports {module}"
                assert not module.startswith(forbidden + "."), f"{path.name} imports {module}"


def test_only_the_pipeline_imports_ray() -> None:
    """Ray appears in one package."""
    for path in PACKAGE.rglob("*.py"):
        if "pipeline" not in path.parts:
            assert not any(m == "ray" or m.startswith("ray.") for m in imports(path)), path


def test_in_stats_only_co_occurrence_imports_torch() -> None:
    """The formulas load in milliseconds and run where there is no torch; matrix products of bytes need it."""
    with_torch = {path.parent.name for path in (PACKAGE / "stats").rglob("*.py") if "torch" in imports(path)}
    assert with_torch == {"cooccurrence"}


def test_the_encoder_runs_without_ray_and_arrow() -> None:
    """A GPU box without Ray can encode: importing the encoder loads neither Ray nor pyarrow."""
    blocked = "import sys; sys.modules['ray'] = None; sys.modules['pyarrow'] = None; import saeray.encoder"
    assert subprocess.run([sys.executable, "-c", blocked], check=False).returncode == 0


def test_an_encode_run_loads_torch_where_it_encodes_alone() -> None:
    """The driver and the workers that write would each spend seconds of a core on it."""
    code = (
        "import sys, saeray.pipeline.encode, saeray.pipeline.stages; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
