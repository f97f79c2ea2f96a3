"""Write docs/cli.md, the help texts of all commands: python docs/make_cli.py"""

import contextlib
import io
import os
from pathlib import Path

from osprey_nb import cli

COMMANDS = (
    "lab", "studio", "demo", "describe", "finetune", "train tiny", "train sam", "train stage1", "train stage2", "train stage3",
    "runs", "eval", "eval-sam", "check", "curate", "fetch", "doctor",
)  # fmt: skip
EXAMPLES = {
    "studio": "osprey-nb studio photo.jpg",
    "describe": """osprey-nb describe photo.jpg --box 10,20,200,180 --mask cat.png     # regions, in the order given
osprey-nb describe photo.jpg --point 90,90                           # a click: the part under it, and the whole
osprey-nb describe photo.jpg --everything --png regions.png          # all that the segmenter finds, as a tree
osprey-nb describe pictures/ --everything --out regions.jsonl        # a folder; goes on where it stopped""",
    "finetune": "osprey-nb finetune mine/texts.csv --minutes 5 --out runs/mine",
    "train tiny": "osprey-nb train tiny --minutes 25",
    "train stage2": "osprey-nb train stage2 mine.yaml --from runs/stage1 --images /data --out runs/stage2",
    "eval": "osprey-nb eval tiny --seed 0",
    "check": """osprey-nb check mine/texts.csv                                # what is wrong, row by row; status 1 for errors
osprey-nb check mine/texts.csv --sheet sheet.png              # twelve records drawn with their masks
osprey-nb check train.json --images pictures --fix good.json  # a copy without what has errors; the input stays
osprey-nb check stage3 --images /data --fraction 0.01         # a hundredth of a mixture, of every source its share""",
    "curate": "osprey-nb curate instances.json --captions captions.json --out curated",
}


def page() -> str:
    parts = ["# On the command line\n\nMade by `python docs/make_cli.py` from what each command says with `--help`.\n"]
    parts.append(f"```text\n{help_of()}```\n")
    for command in COMMANDS:
        parts.append(f"## osprey-nb {command}\n")
        if command in EXAMPLES:
            parts.append(f"```sh\n{EXAMPLES[command]}\n```\n")
        parts.append(f"```text\n{help_of(*command.split())}```\n")
    return "\n".join(parts)


def help_of(*command: str) -> str:
    said = io.StringIO()
    os.environ["COLUMNS"] = "110"
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        cli.main([*command, "--help"])
    return said.getvalue()


if __name__ == "__main__":
    Path(__file__).with_name("cli.md").write_text(page(), encoding="utf-8")
