"""`osprey-nb train sam`: tiny SAM on drawn scenes (notebook 09; docs/osprey.md, section 4, and the SAM paper's recipe).

    scenes ─► pieces: which connected piece, part and object each pixel belongs to, and the part's name
    names: the image encoder alone says of each place what it is, "wheel of a train"; a third of the time
    a click or a box ─► three masks, or one ─► where it is wrong ─► a click there, with the mask so far ─► one mask ─► …
    loss: 20 × focal + dice of the masks, the square of the error of the predicted IoU, and the names

SAM takes the lowest loss of its three masks, as it does not know what was meant. Our scenes know: the first mask learns the
connected piece under the click (one wheel), the second the part (the wheels), the third the object.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from scipy import ndimage
from segment_anything.modeling import Sam
from torch import Tensor, nn

from ..data.kinds import KINDS
from ..data.scenes import make_scene
from ..files import read_tensors
from ..segment import LEVELS, TINY_NAME, SamSegmenter, sam_of
from ..tiny_sam import FINE, TINY_SIDE, build_tiny, folded
from .machines import fast_bf16
from .runs import RECORD, facts
from .trainer import Budget, Objective, fit, freeze
from .watch import watchers
from .world import render_scenes

ROUNDS = 3  # the first answer, and two clicks where it is wrong
NAMING = 0.3  # share of the time in which the image encoder alone learns, by naming each place
RENAMING = 0.02  # the same, of a run that goes on
FOLLOWED = 2  # one prompt in so many goes on after the first answer
UNSEEN = 0.25  # share of these that go on from clicks alone; they are where any of the three masks is wrong: "not this"
HAND = 1.5  # pixels: further clicks lie as far from their place, so one on an edge is no new part
BOXES = 0.4  # share of prompts that begin with a box
SCENES_PER_MINUTE, MOST_SCENES = 500, 12_000  # of a core
LEAST_PIECE = 24  # pixels: smaller pieces are not clicked at
NAMES = [(kind, part) for kind, parts in KINDS.items() for part in parts]


class Pieces(nn.Module):
    """Scenes as lookups: `pictures` N×3×S×S uint8; `piece` N×S×S, 0 the background; `owner` N×K×3 of each piece: its part, its
    object, its name."""

    def __init__(self, scenes: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]):
        super().__init__()
        pictures, pieces, owners = (list(each) for each in zip(*scenes, strict=True))
        table = np.zeros((len(scenes), max(map(len, owners)), 3), np.uint8)
        for row, owner in zip(table, owners, strict=True):
            row[: len(owner)] = owner
        pictures = np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2))
        for name, array in (("pictures", pictures), ("piece", np.stack(pieces)), ("owner", table)):
            self.register_buffer(name, torch.from_numpy(array), persistent=False)

    def forward(self, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures, pieces and owners of the scenes of these numbers."""
        return self.pictures[numbers], self.piece[numbers], self.owner[numbers]


def in_pieces(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A training scene: picture S×S×3; S×S uint8, the number of the connected piece at each pixel, 0 for the background; and
    K×3, part, object and name of each piece."""
    scene = make_scene(seed, TINY_SIDE)
    piece, owner = np.zeros(scene.labels.shape, np.uint8), [(0, 0, 0)]
    for label in np.unique(scene.labels[scene.labels > 0]):
        found, count = ndimage.label(scene.labels == label)
        for i in range(1, count + 1):
            if len(owner) < 256:
                piece[found == i] = len(owner)
                index, part = scene.segments[label]
                owner.append((label, index + 1, NAMES.index((scene.graph.objects[index].kind, part)) + 1))
    return scene.image, piece, np.array(owner, np.uint8)


class Naming(nn.Module):
    """A SAM's image encoder, its scenes, and a name for each place: `naming(numbers)` is the loss of the names on these scenes.

    All it needs is one product on the finest step. Every place of a picture teaches, so this is learnt a hundred times as fast
    as clicks; SAM's own encoder has learnt from pictures without masks before, too (MAE).
    """

    def __init__(self, sam: Sam, scenes: Pieces):
        super().__init__()
        self.sam, self.scenes, self.names = sam, scenes, nn.Linear(FINE, len(NAMES) + 1)

    def forward(self, numbers: Tensor) -> Tensor:
        pictures, piece, owner = self.scenes(numbers)
        return self.loss(self.sam.image_encoder(normal(self.sam, pictures)), piece, owner)

    def loss(self, embeddings: Tensor, piece: Tensor, owner: Tensor) -> Tensor:
        """A place of 2×2 pixels may hold several names; each of them counts."""
        name = owner[..., 2].long().gather(1, piece.flatten(1).long()).view_as(piece)[:, None]
        fine = embeddings[:, -16 * FINE :].unflatten(1, (16, FINE)).movedim(2, -1)
        said = self.names(fine).float().log_softmax(-1)
        return -said.gather(-1, folded(name, 3).unflatten(1, (16, 4)).movedim(2, -1)).mean()


def normal(sam: Sam, pictures: Tensor) -> Tensor:
    """What the encoder reads."""
    return (pictures.float() - sam.pixel_mean) / sam.pixel_std


class Interactive(nn.Module):
    """A SAM and its scenes: `interactive(numbers)` is the loss of prompts, and of names, on the scenes of these numbers."""

    def __init__(self, naming: Naming, prompts: int):
        super().__init__()
        self.naming, self.sam, self.prompts = naming, naming.sam, prompts
        self.encode, self.decode = self.sam.image_encoder.forward, self.sam.mask_decoder.predict_masks

    def forward(self, numbers: Tensor) -> Tensor:
        sam, device = self.sam, numbers.device
        pictures, piece, owner = self.naming.scenes(numbers)
        points, targets, known = clicks(piece, owner, self.prompts)
        embeddings = self.encode(normal(sam, pictures))

        level = torch.randint(len(LEVELS), (len(points),), device=device)
        rows = torch.arange(len(points), device=device)
        target = targets[rows, level]
        boxed = (torch.rand(len(points), device=device) < BOXES) & known
        boxes = loose_boxes(target)
        # A box is two tokens, a click is one and one that says "no point": so both go in one batch.
        nothing = sam.prompt_encoder.not_a_point_embed.weight.expand(len(points), -1, -1)
        as_click = torch.cat([as_tokens(sam, points, torch.ones_like(known)), nothing], 1)
        first = torch.where(boxed[:, None, None], sam.prompt_encoder._embed_boxes(boxes), as_click)
        blank = sam.prompt_encoder.no_mask_embed.weight[:, :, None, None].expand(-1, -1, *embeddings.shape[-2:])

        places = sam.prompt_encoder.get_dense_pe()
        logits, iou = (each.float() for each in self.decode(embeddings, places, first, blank))
        click = known & ~boxed
        whole = torch.where(boxed, level, len(LEVELS) - 1)  # what the one mask is to be, of a box and of a click
        loss = masked(mask_loss(logits[:, 1:], targets).mean(1), click)
        loss = loss + masked(mask_loss(logits[:, 0], targets[rows, whole]), known)
        quality = torch.where(known[:, None], iou_of(logits[:, 1:], targets), 0)  # nothing to find on the background
        loss = loss + masked(F.mse_loss(iou[:, 1:], quality, reduction="none").mean(1), ~boxed)
        loss = loss + masked((iou[:, 0] - iou_of(logits[:, 0], targets[rows, whole])) ** 2, known)

        unseen = torch.rand(len(points), device=device) < UNSEEN
        answered = torch.where(unseen, torch.randint_like(level, len(LEVELS)), level)
        so_far = torch.where(boxed[:, None, None], logits[:, 0], logits[rows, 1 + answered]).detach()
        # What comes after the first answer is the same lesson again and again: a few prompts of each picture are enough for it.
        few = rows.view(-1, self.prompts)[:, : max(self.prompts // FOLLOWED, 1)].flatten()
        so_far, target, tokens, known, unseen = so_far[few], target[few], first[few], known[few], unseen[few, None, None, None]
        for _ in range(ROUNDS - 1):
            at, inside = wrong_places(so_far, target)
            at = at + HAND * torch.randn_like(at)
            tokens = torch.cat([tokens, as_tokens(sam, at, inside)], 1)
            dense = sam.prompt_encoder._embed_masks(so_far[:, None])
            dense = torch.where(unseen, F.pad(blank, (0, 0, 0, 0, 0, dense.shape[1] - blank.shape[1])), dense)
            logits, iou = (each.float() for each in self.decode(embeddings, places, tokens, dense))
            loss = loss + masked(mask_loss(logits[:, 0], target), known)
            loss = loss + masked((iou[:, 0] - iou_of(logits[:, 0], target)) ** 2, known)
            so_far = logits[:, 0].detach()
        return loss / ROUNDS + self.naming.loss(embeddings, piece, owner)


def clicks(piece: Tensor, owner: Tensor, prompts: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of B scenes, P clicks each: points BP×2 (x, y), targets BP×3×S/2×S/2 (piece, part, object; shares of area), and whether
    a click is on an object at all. All pieces are clicked at as often, the background as often as two of them."""
    B, S, _ = piece.shape
    flat = piece.flatten(1).long()
    areas = torch.zeros(B, owner.shape[1], device=piece.device).scatter_add_(1, flat, torch.ones_like(flat, dtype=torch.float))
    chance = torch.where(areas < LEAST_PIECE, 0, 1 / areas.clamp(min=1))
    chance[:, 0] *= 2
    place = drawn(chance.gather(1, flat), prompts)
    clicked = flat.gather(1, place).flatten()
    points = torch.stack([place % S, place // S], -1).flatten(0, 1).float()
    row = torch.arange(B, device=piece.device).repeat_interleave(prompts)
    maps = torch.stack([piece, *(owner[..., i].gather(1, flat).view_as(piece) for i in (0, 1))], 1)
    wanted = torch.stack([clicked.to(maps.dtype), owner[row, clicked, 0], owner[row, clicked, 1]], 1)
    targets = (maps[row] == wanted[..., None, None]).half() if piece.is_cuda else (maps[row] == wanted[..., None, None]).float()
    return points, F.avg_pool2d(targets, 2).float(), clicked > 0


def loose_boxes(target: Tensor) -> Tensor:
    """Boxes BP×4 around targets, in pixels of the picture, each side moved by noise of a tenth of its length, as SAM does."""
    inside = target > 0.5
    size = target.shape[-1]
    grid = torch.arange(size, device=target.device)
    sides = []
    for axis in (1, 2):  # columns, then rows
        along = inside.any(axis)
        low = torch.where(along, grid, size).amin(1)
        high = torch.where(along, grid, -1).amax(1) + 1
        sides.append((low, high.clamp(min=1)))
    (x0, x1), (y0, y1) = sides
    box = 2.0 * torch.stack([x0, y0, x1, y1], 1)
    extent = (box[:, 2:] - box[:, :2]).clamp(min=2).repeat(1, 2)
    noise = (torch.randn_like(box) * 0.05 * extent).clamp(-10, 10)
    return (box + noise).clamp(0, 2 * size) - 0.5


def wrong_places(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """A place of each mask where it is wrong, in the thick of it rather than on an edge, as people click: points BP×2 in
    pixels, and whether the target is there."""
    wrong = (target > 0.5).float() - (logits > 0).float()
    thick = F.avg_pool2d(wrong, 7, 1, 3) * wrong  # of missing places and of surplus ones apart
    place = drawn((thick.clamp(min=0) ** 4).flatten(1) + 1e-12, 1)[:, 0]
    inside = target.flatten(1).gather(1, place[:, None])[:, 0] > 0.5
    size = target.shape[-1]
    return 2.0 * torch.stack([place % size, place // size], 1) + 0.5, inside


def drawn(weights: Tensor, count: int) -> Tensor:
    """N×count places, each with the chance of its weight (N×K). `torch.multinomial`, but a GPU does not wait for its checks."""
    heights = weights.cumsum(1)
    thrown = torch.rand(len(weights), count, device=weights.device) * heights[:, -1:]
    return torch.searchsorted(heights, thrown, right=True).clamp(max=weights.shape[1] - 1)


def as_tokens(sam: Sam, points: Tensor, inside: Tensor) -> Tensor:
    """`PromptEncoder._embed_points` of one click each, N×2 in pixels: N×1×C. Without its lookup, for which a GPU would wait."""
    prompts = sam.prompt_encoder
    outside, within = (prompts.point_embeddings[i].weight for i in (0, 1))
    places = prompts.pe_layer.forward_with_coords(points[:, None] + 0.5, prompts.input_image_size)
    return places + torch.where(inside[:, None], within, outside)[:, None]


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """20 × focal + dice of each mask …×h×w; targets may be shares of area."""
    chance = logits.sigmoid()
    cross = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    focal = 0.5 * (chance - target).abs() ** 2 * cross  # inside and outside alike: with 0.25 and 0.75 masks come out too small
    shared, both = (chance * target).sum((-2, -1)), (chance + target).sum((-2, -1))
    return 20 * focal.mean((-2, -1)) + 1 - (2 * shared + 1) / (both + 1)


def iou_of(logits: Tensor, target: Tensor) -> Tensor:
    """What the IoU head is to say."""
    found, wanted = logits.detach() > 0, target > 0.5
    return (found & wanted).sum((-2, -1)) / (found | wanted).sum((-2, -1)).clamp(min=1)


def masked(values: Tensor, chosen: Tensor) -> Tensor:
    """The mean over those that are chosen."""
    return (values * chosen).sum() / chosen.sum().clamp(min=1)


def record_work(interactive: Interactive, size: int) -> None:
    """Compile what moves most bytes, and keep a step's work as two CUDA graphs: its thousands of kernels start at once."""
    interactive.encode = torch.compile(interactive.sam.image_encoder.forward, dynamic=False)
    interactive.decode = torch.compile(interactive.sam.mask_decoder.predict_masks, dynamic=False)
    device = interactive.naming.scenes.piece.device
    narrow = torch.bfloat16 if fast_bf16(device) else torch.float16
    with torch.device(device), torch.autocast("cuda", narrow, cache_enabled=False):
        torch.cuda.make_graphed_callables(interactive, (torch.arange(size),))


def train_sam(
    minutes: float = 90, out: str | Path = "runs/sam", seed: int = 0, device: str | None = None, steps: int | None = None,
    start: str | Path | None = None, progress: bool = True,
) -> SamSegmenter:
    """Train tiny SAM from nothing, or from the weights of an earlier run (`start`), and save it to `out`, in `minutes`.

    `steps` replaces the clock. Raises ValueError for a budget that is too short and for weights of another
    SAM, FileExistsError when `out` holds a model.
    """
    began, out = time.perf_counter(), Path(out)
    if minutes < 1 and steps is None:
        raise ValueError(f"minutes is {minutes}; drawing the scenes alone takes part of one. Give at least 1.")
    if (out / "model.safetensors").exists():
        raise FileExistsError(f"{out} already holds a model. Give another folder with --out, or remove it.")
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    wide = device.type == "cuda"
    torch.manual_seed(seed)
    if start is None:
        sam = build_tiny()
        nn.init.trunc_normal_(sam.image_encoder.pos_embed, std=0.02)
    else:
        sam = sam_of(read_tensors(Path(start) / "model.safetensors"), f"{start}/model.safetensors")
        if sam.image_encoder.img_size != TINY_SIDE:
            raise ValueError(f"{start} holds a released SAM; this trains tiny SAM. Leave out --start to begin from nothing.")
    count = 64 if steps else int(min(SCENES_PER_MINUTE * minutes * (4 if wide else 1), MOST_SCENES))
    scenes = render_scenes(range(seed * MOST_SCENES, seed * MOST_SCENES + count), progress, in_pieces)
    naming = Naming(sam, Pieces(scenes)).to(device).train()
    del scenes
    size, prompts = (24, 8) if wide else (6, 4)
    interactive = Interactive(naming, prompts)

    def batches(start: int = 0, phase: int = 0) -> Iterator[Tensor]:
        step = start
        while True:
            chosen = np.random.default_rng([seed, phase, step]).choice(count, size, replace=False)
            yield torch.from_numpy(chosen).to(device)
            step += 1

    out.mkdir(parents=True, exist_ok=True)
    watching, losses = watchers(out, progress), []
    # Names are not kept with the weights: an encoder that can tell them apart already keeps still until they are learnt again.
    first = (NAMING, naming) if start is None else (RENAMING, naming.names)
    phases = ("names", naming, *first, 2e-3), ("masks", interactive, 1, interactive, 1e-3)
    for phase, (name, module, share, trained, lr) in enumerate(phases):
        freeze(module, [trained])
        if wide and module is interactive:
            record_work(interactive, size)
        left = 60 * minutes - (time.perf_counter() - began) - 5
        budget = Budget(steps=steps) if steps else Budget(seconds=share * left)
        objective = Objective(module, lambda model, numbers: model(numbers))  # accelerate wraps this, not what is recorded
        done = fit(objective, partial(batches, phase=phase), lr, budget, name, watching, weight_decay=0.05)
        losses.append(done.losses)
    command = f"osprey-nb train sam --minutes {minutes:g} --seed {seed}" + (f" --start {start}" if start else "")
    record = facts(dict(sam.named_children()), seed, command) | {
        "scenes": count, "steps": [len(each) for each in losses], "minutes": round((time.perf_counter() - began) / 60, 2),
        "first_loss": [round(each[0], 4) for each in losses],
        "last_loss": [round(float(np.mean(each[-20:])), 4) for each in losses],
    }  # fmt: skip
    sam = sam.eval().cpu()
    weights = {key: value.half() if value.is_floating_point() else value for key, value in sam.state_dict().items()}
    save_file({key: value.contiguous() for key, value in weights.items()}, out / "model.safetensors")
    (out / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    return SamSegmenter(sam, TINY_NAME)
