"""What the folder promises about itself: imports run one way, a light `import osprey_nb`, no network, no machine's paths."""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "osprey_nb"
# A module may import at load time what stands in an earlier row, or its neighbours of the same folder.
ORDER = (
    ("config", "prompt", "files"),
    ("masks", "images", "encoder", "mask_extractor", "projector", "llm", "prefix", "tiny_sam"),
    ("data", "viz", "diagrams", "segment"),
    ("processor", "generate"),
    ("model",),
    ("checkpoint", "doctor", "everything", "familiar"),
    ("evaluate",),
    ("train", "exercises"),
    ("widgets",),
    ("cli",),
)
ROW = {name: row for row, names in enumerate(ORDER) for name in names}
KNOW_NO_MODEL = ("data", "viz", "diagrams", "segment", "tiny_sam", "masks", "images", "prompt", "files")
TEXT = {".py", ".md", ".js", ".mjs", ".css", ".json", ".toml", ".yml", ".ipynb", ".lock", ""}
MACHINE_PATH = re.compile(r"(?<![\w.:/~])/(?:home|root|Users|work|tmp|opt|mnt|private)/\w+")


def modules() -> dict[str, ast.Module]:
    return {
        path.relative_to(PACKAGE).with_suffix("").as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def imported(module: str, nodes) -> set[str]:
    """First names under osprey_nb of what `nodes` import: `.data.record` and `osprey_nb.data` are both `data`."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("osprey_nb.")}
        if isinstance(node, ast.ImportFrom):
            above = ["osprey_nb", *module.split("/")[:-1]]
            base = above[: len(above) - node.level + 1] if node.level else []
            path = base + (node.module or "").split(".") if node.module else base
            if path[0] == "osprey_nb":
                found |= {path[1]} if len(path) > 1 else {alias.name for alias in node.names}
    return found


def test_imports_run_one_way():
    wrong = []
    for module, tree in modules().items():
        top = module.split("/")[0]
        if top == "__init__":
            continue
        assert top in ROW, f"osprey_nb/{module}.py has no place in ORDER; give it one"
        for other in imported(module, tree.body):
            if other != top and ROW[other] >= ROW[top]:
                wrong.append(f"{module} imports {other}")
    assert not wrong, f"these go against the order of imports: {', '.join(wrong)}"


def test_data_and_pictures_know_no_model():
    for module, tree in modules().items():
        if module.split("/")[0] in KNOW_NO_MODEL:
            others = imported(module, ast.walk(tree)) - set(KNOW_NO_MODEL)
            assert not others, f"{module} must know no model, but imports {others}"


def test_import_is_light():
    code = (
        "import sys, osprey_nb; osprey_nb.__version__; "
        "print(*{'torch', 'transformers', 'matplotlib', 'numpy', 'PIL', 'ipywidgets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "", f"`import osprey_nb` loads {done.stdout.strip()}; load them on first use"


def test_only_the_hub_is_asked_for_anything():
    """Weights come from the hub through huggingface_hub, where a person asks for them. A teacher behind a URL is asked where
    somebody gives that URL, released SAM weights where somebody names them. The studio looks for a free port of this
    machine. Nothing else leaves it."""
    network = {"urllib", "http", "socket", "requests", "httpx", "aiohttp", "ftplib"}
    for module, tree in modules().items():
        names = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module.split(".")[0])
        allowed = {"data/teachers": {"urllib"}, "files": {"urllib", "http"}, "cli/studio": {"socket"}}.get(module, set())
        assert not names & network - allowed, f"{module} imports {names & network}"
        assert "huggingface_hub" not in names or module in ("checkpoint", "encoder", "doctor"), f"{module} asks the hub"


def test_scripts_and_styles_name_no_address():
    for path in [*PACKAGE.rglob("*.js"), *PACKAGE.rglob("*.mjs"), *PACKAGE.rglob("*.css")]:
        addresses = set(re.findall(r"(?:https?:)?//[\w-]+\.[\w.-]+[^\s\"']*", path.read_text(encoding="utf-8")))
        assert addresses <= {"http://www.w3.org/2000/svg"}, f"{path.name} names {addresses}"


def test_no_file_names_a_place_on_one_machine():
    folders = ("osprey_nb", "notebooks", "docs", "benchmarks", "data_samples", ".ci")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    files += [path for path in ROOT.iterdir() if path.name not in (".git", ".venv")]
    wrong = []
    for path in files:
        if path.is_file() and path.suffix in TEXT and "__pycache__" not in path.parts:
            wrong += [f"{path.name}: {hit}" for hit in MACHINE_PATH.findall(path.read_text(encoding="utf-8"))]
    assert not wrong, f"paths of one machine: {', '.join(wrong[:5])}"
