"""Draw regions on an image, in the notebook (built and used in notebook 00).

    browser                                          Python
    strokes ──► label map, H×W uint8 ── runs ──► checked ──► canvas.masks, list of H×W bool
                0 nothing, 1 … 9 a region    once a stroke

    clicks, a box ───► worker: segmenter ──► candidates, shown ──► the one that is taken is a stroke

The browser paints without asking the kernel. When a stroke ends, the whole label map arrives as run-length encoded
uint32 pairs (label, length), at the image's own resolution. A pixel belongs to one region at most: the last
stroke over it wins. A segmenter works on the worker's thread; a reply that is older than the last question is dropped.
"""

from __future__ import annotations

import base64
import io
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anywidget
import numpy as np
import traitlets

from ..images import load_image
from ..masks import to_masks
from ..viz import REGION_COLOURS, answers_figure
from .label_files import MAX_REGIONS, coco_of, png_of, read_labels
from .worker import Worker

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
CANVAS_FILES = ("dom.js", "geometry.mjs", "store.js", "screen.js", "clicks.js", "extras.js", "canvas.js")
LONGEST_NAME = 60  # characters
MOST_CLICKS = 40
PROXY_EDGE = 2048  # a larger picture is shown reduced; its masks are not


def bundle(*names: str) -> str:
    """One ES module out of several files: a widget's `_esm` cannot import its neighbours."""
    parts = []
    for name in names:
        text = (HERE / name).read_text(encoding="utf-8")
        text = re.sub(r'^import \{[^}]*\} from "\./[^"]*";\n', "", text, flags=re.M)
        if name != names[-1]:
            text, _, _ = text.partition("\n/** anywidget calls this")  # only the last file is the widget
            text = re.sub(r"^export (?=function|class|const)", "", text, flags=re.M)
        parts.append(text)
    return "\n".join(parts)


def encode_runs(labels: np.ndarray) -> bytes:
    """The label map (H×W uint8) as uint32 pairs (label, length), row by row; the lengths add up to H·W."""
    flat = labels.ravel()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    lengths = np.diff(starts, append=flat.size)
    return np.stack([flat[starts], lengths], axis=1).astype("<u4").tobytes()


def decode_runs(runs: bytes, size: tuple[int, int]) -> np.ndarray:
    """The label map (H×W uint8) of `encode_runs`. ValueError says what does not fit the image's `size` (H, W)."""
    pixels = size[0] * size[1]
    if len(runs) == 0 or len(runs) % 8 or len(runs) > 8 * pixels:
        raise ValueError(f"{len(runs)} bytes are no runs of an image of {pixels} pixels: two uint32 a run, 1 run at least")
    labels, lengths = np.frombuffer(runs, dtype="<u4").reshape(-1, 2).astype(np.int64).T
    if lengths.sum() != pixels:
        raise ValueError(f"the runs describe {lengths.sum()} pixels, the image has {pixels}")
    if labels.max() > MAX_REGIONS:
        raise ValueError(f"there is no region {labels.max()}, only 1 to {MAX_REGIONS}")
    return np.repeat(labels.astype(np.uint8), lengths).reshape(size)


class MaskCanvas(anywidget.AnyWidget):
    """A picture to draw on: brush, eraser, box, polygon and lasso, clicks for SAM, nine named regions, undo, zoom.

    `image` is a PIL image, an H×W×3 uint8 array, or a path. `segmenter` (`segment.load_segmenter`) brings the clicks.
    `height` bounds the height on the page, in CSS pixels. Set `encoding="base64"` in a front end that loses binary messages.

        canvas = MaskCanvas(image)
        canvas                        # in a cell of its own: draw
        canvas.masks                  # list of H×W bool, one a region that is not empty
        canvas.save("mine.json")      # COCO; or mine.png, the label map. `load` reads them
    """

    _esm = bundle(*CANVAS_FILES)
    _css = (HERE / "canvas.css").read_text(encoding="utf-8")

    title = traitlets.Unicode("Mark the regions").tag(sync=True)
    height = traitlets.Int(480).tag(sync=True)
    opacity = traitlets.Float(0.45, min=0, max=1).tag(sync=True)
    _image = traitlets.Any().tag(sync=True)
    _image_type = traitlets.Unicode().tag(sync=True)
    _size = traitlets.List(traitlets.Int()).tag(sync=True)
    _colours = traitlets.List(traitlets.Unicode()).tag(sync=True)
    _base64 = traitlets.Bool(False).tag(sync=True)
    # {"seq", "runs"} in one trait, so that neither comes without the other. Any, because a trait that refuses a
    # value hides its error from everyone; `_received` checks and shows it. No echo: the browser knows what it sent.
    _drawing = traitlets.Any().tag(sync=True, echo_update=False)
    _names = traitlets.List(traitlets.Unicode(), [""] * MAX_REGIONS).tag(sync=True)
    _clicks = traitlets.Bool(False).tag(sync=True)  # is there a segmenter?
    # What a click may mean: {"id" of the question, "items": [{"runs", "text"}], "busy", "error"}
    _candidates = traitlets.Dict({"id": 0, "items": []}).tag(sync=True)
    _generation = traitlets.Int(0).tag(sync=True)  # counts pictures
    _saved = traitlets.Int(0).tag(sync=True)
    _notice = traitlets.Unicode().tag(sync=True)

    def __init__(
        self, image, height: int = 480, *, segmenter=None, opacity: float = 0.45, encoding: str = "binary", **kwargs
    ):
        if encoding not in ("binary", "base64"):
            raise ValueError(f'encoding is {encoding!r}; use "binary", or "base64" where binary messages get lost')
        self.image = load_image(image)
        self._lock = threading.RLock()  # messages may arrive beside the main thread
        self._pushed: dict = {}  # what Python sent last, not to be read back
        self._callbacks: list[Callable[[int], None]] = []
        self._worker = Worker(f"osprey-{type(self).__name__.lower()}")
        self._newest = 0  # the last question to the segmenter
        self._segmenter, self._segmented = segmenter, None  # the picture that the segmenter has read
        self._labels = np.zeros((self.image.height, self.image.width), dtype=np.uint8)
        self._base64 = encoding == "base64"
        picture, kind = _proxy(self.image)
        super().__init__(
            height=height,
            opacity=opacity,
            _image=self._wire(picture),
            _image_type=kind,
            _size=[self.image.height, self.image.width],
            _clicks=segmenter is not None,
            _colours=list(REGION_COLOURS[:MAX_REGIONS]),
            _drawing={"seq": 0, "runs": self._wire(encode_runs(self._labels))},
            **kwargs,
        )
        self.observe(self._received, names="_drawing")
        self.on_msg(self._message)

    def set_image(self, image) -> None:
        """Show another picture, with nothing drawn on it. What was drawn on the one before is for `masks` to read first.

        Raises what `load_image` raises, and then changes nothing.
        """
        image = load_image(image)
        picture, kind = _proxy(image)
        with self._lock:
            self.image = image
            self._labels = np.zeros((image.height, image.width), dtype=np.uint8)
            self._newest += 1
            self._saved += 1  # a stroke that is on its way does not follow, and is refused
            self._pushed = {"seq": self._saved, "runs": self._wire(encode_runs(self._labels))}
            with self.hold_sync():
                self._image, self._image_type, self._size = self._wire(picture), kind, [image.height, image.width]
                self._names = [""] * MAX_REGIONS
                self._candidates = {"id": 0, "items": []}
                self._drawing = self._pushed
                self._notice = ""
                self._generation += 1

    @property
    def segmenter(self):
        """What turns clicks into masks (`segment.load_segmenter`), or None: then there are no clicks."""
        return self._segmenter

    @segmenter.setter
    def segmenter(self, segmenter) -> None:
        with self._lock:
            self._segmenter, self._segmented = segmenter, None
            self._clicks = segmenter is not None

    @property
    def regions(self) -> dict[int, np.ndarray]:
        """Number → H×W bool mask, for every region that is not empty, in order."""
        with self._lock:
            labels = self._labels
        return {number: labels == number for number in np.unique(labels).tolist() if number}

    @property
    def masks(self) -> list[np.ndarray]:
        """The H×W bool masks of the regions that are not empty, in the order of their numbers."""
        return list(self.regions.values())

    @property
    def names(self) -> dict[int, str]:
        """Number → name, for every region that has one."""
        return {number: name for number, name in enumerate(self._names, start=1) if name}

    def rename(self, region: int, name: str) -> None:
        """Name a region; an empty name takes it away. ValueError for no such region or more than 60 characters."""
        if type(region) is not int or not 1 <= region <= MAX_REGIONS:
            raise ValueError(f"there is no region {region!r}, only 1 to {MAX_REGIONS}")
        name = " ".join(str(name).split())
        if len(name) > LONGEST_NAME:
            raise ValueError(f"a name has at most {LONGEST_NAME} characters; this one has {len(name)}")
        self._names = [*self._names[: region - 1], name, *self._names[region:]]

    def to_coco(self) -> dict:
        """What is drawn as COCO annotations, ready for `json.dumps`: `id` is the region's number."""
        return coco_of(self._labels, self.names)

    def save(self, path: str | Path) -> None:
        """Write what is drawn to a .json (COCO) or a .png (the label map). ValueError for another ending."""
        path = Path(path)
        if path.suffix not in (".json", ".png"):
            raise ValueError(f"{path.name} ends in neither .json (COCO) nor .png (label map)")
        path.write_bytes(png_of(self._labels) if path.suffix == ".png" else json.dumps(self.to_coco()).encode())

    def load(self, source: str | Path | bytes) -> None:
        """Show what a COCO JSON or a PNG holds, in place of what is drawn (which Undo brings back).

        Raises ValueError for a file that does not fit the picture, and then changes nothing.
        """
        labels, names = read_labels(source, self._labels.shape)
        self._replace(labels)
        for number in range(1, MAX_REGIONS + 1):
            self.rename(number, names.get(number, "")[:LONGEST_NAME])

    def set_masks(self, masks) -> None:
        """Show these masks as regions 1, 2, …, in place of what is drawn. An empty list clears the canvas.

        `masks` is whatever `osprey_nb.masks.to_masks` takes. Where two overlap the later one is kept, for a pixel has
        one label. ValueError for more than nine, or for a mask that does not fit the image.
        """
        size = self._labels.shape
        empty = isinstance(masks, (list, tuple)) and not masks
        stack = np.zeros((0, *size), dtype=bool) if empty else to_masks(masks, size=size)
        if len(stack) > MAX_REGIONS:
            raise ValueError(f"got {len(stack)} masks; the canvas shows {MAX_REGIONS} regions, so give some of them")
        labels = np.zeros(size, dtype=np.uint8)
        for number, mask in enumerate(stack, start=1):
            labels[mask] = number
        self._replace(labels)

    def on_stroke(self, callback: Callable[[int], None]) -> None:
        """Call `callback(region)` after every stroke that arrived and was valid, also an undone or an erased one.

        It may run beside the main thread, so let it store or queue something and return. If it fails, the
        canvas says so and goes on.
        """
        self._callbacks.append(callback)

    def wait(self, timeout: float | None = None) -> None:
        """Return when the worker has nothing more to do. TimeoutError after `timeout` seconds."""
        if not self._worker.wait(timeout):
            raise TimeoutError(f"there is still work to do after {timeout} s")

    def static(self) -> Figure:
        """The picture with its regions, as a figure for readers without a kernel."""
        return answers_figure(self.image, self.regions, {})

    def _repr_mimebundle_(self, **kwargs):
        """The widget, and for readers without a kernel its static twin."""
        data, metadata = super()._repr_mimebundle_(**kwargs)
        buffer = io.BytesIO()
        self.static().savefig(buffer, format="png", dpi=90, bbox_inches="tight")
        data["image/png"] = base64.b64encode(buffer.getvalue()).decode("ascii")
        data["text/plain"] = f"{type(self).__name__} over {self.image.width}×{self.image.height} pixels"
        return data, metadata

    # --- messages from the browser

    def _received(self, change) -> None:
        """A stroke came in: check it, keep it, tell the callbacks. Whatever is wrong is shown in the widget."""
        if change["new"] is self._pushed:
            return
        with self._lock:
            try:
                seq, labels = self._read(change["new"])
            except (ValueError, TypeError) as error:
                self._push(self._saved + 1)  # back to what Python holds, so that both show the same
                self._notice = f"The last stroke was refused: {error}."
                return
            before, self._labels = self._labels, labels
            self._saved = seq
            self._notice = ""
        self._drawn(before, labels)

    def _read(self, drawing) -> tuple[int, np.ndarray]:
        if not isinstance(drawing, dict) or set(drawing) != {"seq", "runs"}:
            raise TypeError("a message must hold `seq` and `runs`")
        seq, runs = drawing["seq"], drawing["runs"]
        if type(seq) is not int or seq <= self._saved:
            raise ValueError(f"stroke number {seq!r} does not follow {self._saved}; the masks were changed meanwhile")
        if isinstance(runs, str):
            runs = base64.b64decode(runs, validate=True)
        if not isinstance(runs, (bytes, memoryview)):
            raise TypeError(f"the runs came as {type(runs).__name__}, not as bytes")
        return seq, decode_runs(bytes(runs), self._labels.shape)

    def _replace(self, labels: np.ndarray) -> None:
        with self._lock:
            before, self._labels = self._labels, labels
            self._push(self._saved + 1)
        self._drawn(before, labels)

    def _message(self, _, content, buffers) -> None:
        """A name, a click, a file. Whatever is wrong is shown in the widget."""
        try:
            if not isinstance(content, dict):
                raise ValueError("a message must be a dictionary")
            self._handle(content, buffers)
            self._notice = ""
        except (ValueError, TypeError, KeyError, OSError) as error:
            self._notice = sentence_of(error)

    def _handle(self, content: dict, buffers) -> None:
        """What one message asks for. ValueError, TypeError or KeyError when it cannot be done."""
        kind = content.get("kind")
        if kind == "name":
            self.rename(content["region"], content["text"])
        elif kind == "open" and buffers:
            self.load(bytes(buffers[0]))
        elif kind == "segment":
            self._ask_segmenter(content["id"], content["points"], content["labels"], content["box"])
        elif kind != "forget-candidates":
            raise ValueError(f"nothing here is called {kind!r}")
        else:
            self._newest += 1

    def _ask_segmenter(self, number: int, points: list, labels: list, box: list | None) -> None:
        if self._segmenter is None:
            raise ValueError("clicks need a segmenter: MaskCanvas(image, segmenter=load_segmenter())")
        if len(points) > MOST_CLICKS:
            raise ValueError(f"{len(points)} clicks are too many; {MOST_CLICKS} at most")
        with self._lock:
            self._newest += 1
            mine, segmenter, image = self._newest, self._segmenter, self.image
            self._candidates = {"id": number, "items": [], "busy": True}

        def find() -> None:
            if mine != self._newest:
                return  # something newer was asked meanwhile
            try:
                self._read_for_clicks(segmenter, image)
                found = segmenter.predict(points or None, labels or None, box)
                items = [
                    {"runs": self._wire(encode_runs(mask.astype(np.uint8))), "text": f"{score:.0%}", "score": float(score)}
                    for mask, score in zip(found.masks, found.scores, strict=True) if mask.any()
                ]  # fmt: skip
                said = {"items": items, "error": "" if items else "Nothing stands out there."}
            except Exception as error:  # of any segmenter; the canvas goes on
                said = {"items": [], "error": sentence_of(error)}
            with self._lock:
                if mine == self._newest:
                    self._candidates = {"id": number, **said}

        self._worker.do(find)

    def _read_for_clicks(self, segmenter, image) -> None:
        """Let the segmenter read the picture, if it has not yet. On the worker's thread."""
        if self._segmented is not image:
            self._segmented = None
            segmenter.set_image(image)
            self._segmented = image

    def _push(self, seq: int) -> None:
        """Make the browser show the label map that Python holds."""
        self._pushed = {"seq": seq, "runs": self._wire(encode_runs(self._labels))}
        self._drawing = self._pushed
        self._saved = seq

    def _drawn(self, before: np.ndarray, after: np.ndarray) -> None:
        changed = before != after
        if not changed.any():
            return
        old, new = before[changed], after[changed]
        region = int(np.bincount(np.where(new > 0, new, old)).argmax())  # painted over, or else erased
        for callback in self._callbacks:
            try:
                callback(region)
            except Exception as error:  # no observer's error is ever seen, so show it
                self._notice = f"A callback of on_stroke stopped with {type(error).__name__}: {error}"

    def _wire(self, data: bytes) -> bytes | str:
        return base64.b64encode(data).decode("ascii") if self._base64 else data


def sentence_of(error: Exception) -> str:
    """An error as people read it. Some are written for them; others carry their name."""
    text = str(error) or "no message"
    written = isinstance(error, (ValueError, FileNotFoundError))
    return text[0].upper() + text[1:] if written else f"{type(error).__name__}: {text}"


def _proxy(image) -> tuple[bytes, str]:
    """The picture for the browser, at most 2048 pixels on its longer edge, and its media type."""
    if max(image.size) > PROXY_EDGE:
        image = image.copy()
        image.thumbnail((PROXY_EDGE, PROXY_EDGE))
    buffer = io.BytesIO()
    if image.width * image.height <= 512 * 512:
        image.save(buffer, format="PNG")
        return buffer.getvalue(), "image/png"
    image.save(buffer, format="JPEG", quality=92, subsampling=0)
    return buffer.getvalue(), "image/jpeg"
