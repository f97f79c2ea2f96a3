"""`osprey-nb train sam`: tiny SAM on drawn scenes (notebook 09; paper section 4, and the SAM paper's recipe).

    scenes ─► pieces: which connected piece, part and object each pixel belongs to
    a click or a box ─► three masks, or one ─► where it is wrong ─► a click there, with the mask so far ─► one mask ─► …
    loss: 20 × focal + dice of the masks, and the square of the error of the predicted IoU

SAM takes the lowest loss of its three masks, as it does not know what was meant. Our scenes know: the first mask learns the
connected piece under the click (one wheel), the second the part (the wheels), the third the object.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from scipy import ndimage
from segment_anything.modeling import Sam
from torch import Tensor, nn

from ..data.scenes import make_scene
from ..files import read_tensors
from ..segment import LEVELS, TINY_NAME, TINY_SIDE, SamSegmenter, build_tiny
from .machines import fast_bf16
from .runs import RECORD, facts
from .trainer import Budget, Objective, fit
from .watch import watchers
from .world import render_scenes

ROUNDS = 3  # the first answer, and two clicks where it is wrong
BOXES = 0.4  # share of prompts that begin with a box
SCENES_PER_MINUTE, MOST_SCENES = 500, 12_000  # of a core
LEAST_PIECE = 24  # pixels: smaller pieces are not clicked at


class Pieces(nn.Module):
    """Scenes as lookups: `pictures` N×3×S×S uint8; `piece` N×S×S, 0 the background; `part` and `object` N×K of each piece."""

    def __init__(self, scenes: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]):
        super().__init__()
        pictures, pieces, owners = (list(each) for each in zip(*scenes, strict=True))
        table = np.zeros((len(scenes), max(map(len, owners)), 2), np.uint8)
        for row, owner in zip(table, owners, strict=True):
            row[: len(owner)] = owner
        pictures = np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2))
        for name, array in (("pictures", pictures), ("piece", np.stack(pieces)), ("owner", table)):
            self.register_buffer(name, torch.from_numpy(array), persistent=False)


def in_pieces(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A training scene: picture S×S×3; S×S uint8, the number of the connected piece at each pixel, 0 for the background; and
    K×2, part and object of each piece."""
    scene = make_scene(seed, TINY_SIDE)
    piece, owner = np.zeros(scene.labels.shape, np.uint8), [(0, 0)]
    for label in np.unique(scene.labels[scene.labels > 0]):
        found, count = ndimage.label(scene.labels == label)
        for i in range(1, count + 1):
            if len(owner) < 256:
                piece[found == i] = len(owner)
                owner.append((label, scene.segments[label][0] + 1))
    return scene.image, piece, np.array(owner, np.uint8)


class Interactive(nn.Module):
    """A SAM and its scenes: `interactive(numbers)` is the loss of prompts on the scenes of these numbers."""

    def __init__(self, sam: Sam, scenes: Pieces, prompts: int):
        super().__init__()
        self.sam, self.scenes, self.prompts = sam, scenes, prompts
        self.encode, self.decode = sam.image_encoder.forward, decode
        self.requires_grad_(True)

    def forward(self, numbers: Tensor) -> Tensor:
        sam, scenes, device = self.sam, self.scenes, numbers.device
        pictures, piece, owner = scenes.pictures[numbers], scenes.piece[numbers], scenes.owner[numbers]
        mirrored = torch.rand(len(numbers), device=device) < 0.5
        pictures = torch.where(mirrored[:, None, None, None], pictures.flip(-1), pictures)
        piece = torch.where(mirrored[:, None, None], piece.flip(-1), piece)

        points, targets, known = clicks(piece, owner, self.prompts)
        embeddings = self.encode((pictures.float() - sam.pixel_mean) / sam.pixel_std)
        embeddings = embeddings.repeat_interleave(self.prompts, 0)

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

        logits, iou = self.decode(sam, embeddings, first, blank)
        click = known & ~boxed
        whole = torch.where(boxed, level, len(LEVELS) - 1)  # what the one mask is to be, of a box and of a click
        loss = masked(mask_loss(logits[:, 1:], targets).mean(1), click)
        loss = loss + masked(mask_loss(logits[:, 0], targets[rows, whole]), known)
        quality = torch.where(known[:, None], iou_of(logits[:, 1:], targets), 0)  # nothing to find on the background
        loss = loss + masked(F.mse_loss(iou[:, 1:], quality, reduction="none").mean(1), ~boxed)
        loss = loss + masked((iou[:, 0] - iou_of(logits[:, 0], targets[rows, whole])) ** 2, known)

        so_far = torch.where(boxed[:, None, None], logits[:, 0], logits[rows, 1 + level]).detach()
        tokens = first
        for _ in range(ROUNDS - 1):
            at, inside = wrong_places(so_far, target)
            tokens = torch.cat([tokens, as_tokens(sam, at, inside)], 1)
            logits, iou = self.decode(sam, embeddings, tokens, sam.prompt_encoder._embed_masks(so_far[:, None]))
            loss = loss + masked(mask_loss(logits[:, 0], target), known)
            loss = loss + masked((iou[:, 0] - iou_of(logits[:, 0], target)) ** 2, known)
            so_far = logits[:, 0].detach()
        return loss / ROUNDS


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
    """A random place of each mask where it is wrong: points BP×2 in pixels, and whether the target is there."""
    wrong = ((logits > 0) != (target > 0.5)).flatten(1).float()
    place = drawn(wrong + 1e-6, 1)[:, 0]
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


def decode(sam: Sam, embeddings: Tensor, tokens: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
    """`MaskDecoder.predict_masks` for prompts on different pictures: embeddings N×C×h×w, tokens N×T×C, dense N×C×h×w."""
    decoder = sam.mask_decoder
    own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight]).expand(len(tokens), -1, -1)
    places = sam.prompt_encoder.get_dense_pe().expand(len(tokens), -1, -1, -1)
    said, seen = decoder.transformer(embeddings + dense, places, torch.cat([own, tokens], 1))
    fine = decoder.output_upscaling(seen.transpose(1, 2).unflatten(2, embeddings.shape[-2:]))
    filters = torch.stack([head(said[:, 1 + i]) for i, head in enumerate(decoder.output_hypernetworks_mlps)], 1)
    return torch.einsum("nmc,nchw->nmhw", filters, fine).float(), decoder.iou_prediction_head(said[:, 0]).float()


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """20 × focal + dice of each mask …×h×w; targets may be shares of area."""
    chance = logits.sigmoid()
    cross = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    focal = (0.25 + 0.5 * (1 - target)) * (chance - target).abs() ** 2 * cross
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
    interactive.decode = torch.compile(decode, dynamic=False)
    device = interactive.scenes.piece.device
    narrow = torch.bfloat16 if fast_bf16(device) else torch.float16
    with torch.device(device), torch.autocast("cuda", narrow, cache_enabled=False):
        torch.cuda.make_graphed_callables(interactive, (torch.arange(size),))


def train_sam(
    minutes: float = 60, out: str | Path = "runs/sam", seed: int = 0, device: str | None = None, steps: int | None = None,
    start: str | Path | None = None, progress: bool = True,
) -> SamSegmenter:
    """Train tiny SAM from nothing, or from the weights of an earlier run (`start`), and save it to `out`, in `minutes`.

    `steps` replaces the clock. Raises ValueError for a budget that is too short, FileExistsError when `out` holds a model.
    """
    began, out = time.perf_counter(), Path(out)
    if minutes < 1 and steps is None:
        raise ValueError(f"minutes is {minutes}; drawing the scenes alone takes part of one. Give at least 1.")
    if (out / "model.safetensors").exists():
        raise FileExistsError(f"{out} already holds a model. Give another folder with --out, or remove it.")
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    wide = device.type == "cuda"
    torch.manual_seed(seed)
    sam = build_tiny()
    for name, weight in sam.named_parameters():
        if name.endswith("pos_embed"):
            nn.init.trunc_normal_(weight, std=0.02)
    if start is not None:
        sam.load_state_dict({key: value.float() for key, value in read_tensors(Path(start) / "model.safetensors").items()})
    count = 64 if steps else int(min(SCENES_PER_MINUTE * minutes * (4 if wide else 1), MOST_SCENES))
    scenes = render_scenes(range(seed * MOST_SCENES, seed * MOST_SCENES + count), progress, in_pieces)
    interactive = Interactive(sam, Pieces(scenes), prompts=8 if wide else 4).to(device).train()
    del scenes
    size = 24 if wide else 6
    if wide:
        record_work(interactive, size)
    objective = Objective(interactive, lambda model, numbers: model(numbers))  # accelerate wraps this, not what is recorded

    def batches(start: int = 0) -> Iterator[Tensor]:
        step = start
        while True:
            yield torch.from_numpy(np.random.default_rng([seed, step]).choice(count, size, replace=False)).to(device)
            step += 1

    left = 60 * minutes - (time.perf_counter() - began) - 5
    budget = Budget(steps=steps) if steps else Budget(seconds=left)
    out.mkdir(parents=True, exist_ok=True)
    done = fit(objective, batches, 1e-3, budget, "tiny SAM", watchers(out, progress), weight_decay=0.05)
    command = f"osprey-nb train sam --minutes {minutes:g} --seed {seed}" + (f" --start {start}" if start else "")
    record = facts(dict(sam.named_children()), seed, command) | {
        "scenes": count, "steps": len(done.losses), "minutes": round((time.perf_counter() - began) / 60, 2),
        "first_loss": round(done.losses[0], 4), "last_loss": round(float(np.mean(done.losses[-20:])), 4),
    }  # fmt: skip
    sam = sam.eval().cpu()
    weights = {key: value.half() if value.is_floating_point() else value for key, value in sam.state_dict().items()}
    save_file({key: value.contiguous() for key, value in weights.items()}, out / "model.safetensors")
    (out / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    return SamSegmenter(sam, TINY_NAME)
