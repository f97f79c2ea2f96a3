"""A studio's session in files: what was asked and said, as JSON, and as code that asks it again.

    picture, regions, answers, conversation ─► session_json   to keep, to compare, to hand in
                                            └► session_code   a Python script that runs by itself
"""

from __future__ import annotations

import base64
import datetime
import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..masks import to_rle
from .sheet import about_the_picture


def session_json(
    image, source: str, model: str, regions: Mapping[int, np.ndarray], names: Mapping[int, str],
    answers: Mapping[int, Mapping[str, str]], conversation: Sequence[Mapping[str, str]],
) -> dict:
    """Ready for `json.dumps`. `regions` maps numbers to H×W bool masks, kept as COCO's RLE; `answers` as `Studio.answers`."""
    said = [
        {"number": number, "name": names.get(number, "")} | dict(answers.get(number, {})) | {"segmentation": to_rle(mask)}
        for number, mask in regions.items()
    ]
    return {
        "made_by": "osprey_nb studio", "date": datetime.date.today().isoformat(), "model": model,
        "picture": {"source": source, "width": image.width, "height": image.height},
        "regions": said, "conversation": list(conversation),
    }  # fmt: skip


def session_code(
    image, source: str, model: str, regions: Mapping[int, np.ndarray], names: Mapping[int, str],
    conversation: Sequence[Mapping[str, str]],
) -> str:
    """A script that describes the same regions and asks the same questions, those about the whole picture last.

    `source` is how the picture was opened: a path, "drawing N", or anything else: then the picture is in the script.
    """
    lines = ["# A session of the Osprey studio, as code. It needs nothing but osprey_nb.", "import osprey_nb"]
    if source.startswith("drawing "):
        lines += ["from osprey_nb.data.scenes import make_scene"]
        picture = [f"image = make_scene({int(source.split()[1])}, {image.width}, \"eval\").image"]
    elif source and Path(source).is_file():
        picture = [f"image = {str(source)!r}"]
    else:
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        lines[1:1] = ["import base64", "import io", ""]
        lines += ["from PIL import Image"]
        data = base64.b64encode(buffer.getvalue()).decode("ascii")
        picture = ["picture = (", *(f'    "{part}"' for part in textwrap.wrap(data, 110)), ")",
                   "image = Image.open(io.BytesIO(base64.b64decode(picture)))"]  # fmt: skip
    lines += ["from osprey_nb.masks import from_rle", "", *picture, "regions = {  # COCO's run lengths"]
    for number, mask in regions.items():
        called = f"  # {names[number]!r}" if names.get(number) else ""
        lines += [f"    {number}: {to_rle(mask)!r},{called}"]
    lines += [
        "}",
        "masks = [from_rle(rle) for rle in regions.values()]",
        "",
        f"model = osprey_nb.Osprey.from_pretrained({model!r}).eval()",
        "session = model.read(image)  # once",
        "for number, short, detailed in zip(",
        '    regions, session.describe(masks), session.describe(masks, detail="detailed"), strict=True',
        "):",
        '    print(f"region {number}: {short}\\n    {detailed}")',
    ]
    questions = [message["content"] for message in conversation if message["role"] == "user"]
    subjects = about_the_picture(questions)
    for whole, masks, comment in ((False, "masks", "  # <region1> is the first of `masks`"), (True, "None", "")):
        asked = [question for question, subject in zip(questions, subjects, strict=True) if subject == whole]
        if asked:
            lines += [
                "",
                f"questions = {asked!r}{comment}",
                "messages = []",
                "for question in questions:",
                '    messages.append({"role": "user", "content": question})',
                f'    messages.append({{"role": "assistant", "content": session.chat({masks}, messages)}})',
                '    print(f"{question}\\n    {messages[-1][\'content\']}")',
            ]
    return "\n".join(lines) + "\n"
