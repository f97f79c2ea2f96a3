"""Regions drawn and described by hand over public-domain photographs that scikit-image ships in its wheel.

    photographs() ──▶ ("astronaut", "chelsea", "coffee", "rocket", "camera")
    load_photograph("chelsea") ──▶ Photograph: image, masks, short and detailed texts

The pictures are not copied here: they are loaded from scikit-image at run time, and need no download. They are
for trying the tools on a real picture. The tiny model has seen only drawn scenes, so its words for them are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw


@dataclass(frozen=True)
class PhotoRegion:
    """A region; `behind` names the regions that hide pixels of it.

    `outline` holds its corners in pixels, `x,y x,y x,y …`; a semicolon begins another polygon of the same region.
    """

    name: str
    short: str
    detailed: str
    outline: str
    behind: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Photograph:
    """A photograph and its regions. `image` is H×W×3 uint8, `masks` R×H×W bool in the order of `regions`."""

    name: str
    licence: str
    image: np.ndarray
    masks: np.ndarray
    regions: tuple[PhotoRegion, ...]


def _oval(cx: float, cy: float, rx: float, ry: float, turn: float = 0) -> str:
    """A 36-cornered polygon; `turn` in degrees, clockwise on the screen."""
    a, t = np.linspace(0, 2 * np.pi, 36, endpoint=False), np.radians(turn)
    x, y = rx * np.cos(a), ry * np.sin(a)
    points = np.stack([cx + x * np.cos(t) - y * np.sin(t), cy + x * np.sin(t) + y * np.cos(t)], axis=1)
    return " ".join(f"{px:.1f},{py:.1f}" for px, py in points)


_ASTRONAUT = (
    PhotoRegion(
        "face",
        "a smiling face",
        "The face of a woman with short hair. She smiles and looks straight into the camera.",
        "186,76 183,100 180,122 186,152 197,169 214,178 235,179 252,168 262,150 268,126 271,96 266,89 240,85 222,80 205,79",
    ),
    PhotoRegion(
        "hair",
        "short brown hair",
        "Short brown hair, combed to the side, above a woman's face. It covers her forehead and her ears.",
        "165,117 155,96 154,70 158,55 172,45 188,36 197,25 218,17 245,16 272,25 292,48 301,75 299,104 286,124 273,130 "
        "271,96 266,89 240,85 222,80 205,79 186,76 183,95 181,119 172,118",
    ),
    PhotoRegion(
        "suit",
        "an orange space suit",
        "An orange space suit with a round patch and a name badge on the chest. An astronaut wears it.",
        "47,277 65,249 95,220 113,205 125,220 145,250 175,275 215,292 250,296 280,287 300,265 305,235 330,250 345,272 "
        "354,300 361,346 340,355 320,370 300,400 285,430 277,465 276,511 190,511 194,487 185,468 155,462 150,482 115,500 "
        "107,511 48,511 30,480 20,410 35,320",
        behind=("helmet",),
    ),
    PhotoRegion(
        "patch",
        "a round blue mission patch",
        "A round blue patch with names on its rim and a white space shuttle. It is sewn on an orange suit.",
        _oval(171, 385.5, 38, 38),
    ),
    PhotoRegion(
        "helmet",
        "a space helmet with a black visor",
        "A white space helmet with a large black visor that reflects a light. It stands in front of the astronaut.",
        "279,511 276,475 282,445 295,405 320,370 350,350 390,343 428,347 463,366 487,403 496,440 504,458 508,480 507,502 "
        "502,511",
    ),
    PhotoRegion(
        "flag",
        "a flag with stars and stripes",
        "A flag with white stars on blue and red and white stripes. It hangs behind the astronaut on the left.",
        "0,0 46,0 59,45 64,88 78,150 88,190 95,222 65,247 47,277 35,320 22,390 20,412 27,460 45,500 50,511 0,511",
        behind=("suit",),
    ),
    PhotoRegion(
        "shuttle",
        "a model of a space shuttle",
        "A model of a white space shuttle with its brown fuel tank and two white boosters. It stands upright on a dark table.",
        "397,25 405,8 415,0 425,0 435,20 437,50 445,40 454,65 455,215 456,232 452,245 458,262 452,266 435,266 433,250 "
        "425,248 425,273 402,273 390,270 380,260 370,272 367,258 378,235 355,225 356,202 377,182 379,110 381,75 381,55 "
        "387,42 395,55",
    ),
)
_CHELSEA = (
    PhotoRegion(
        "cat",
        "a tabby cat",
        "The head of a brown tabby cat with dark stripes, green eyes and long white whiskers. It fills the picture.",
        "40,0 33,40 30,100 0,127 0,299 390,299 385,270 360,240 320,245 318,220 328,205 345,180 362,145 364,100 357,72 "
        "385,22 400,0",
    ),
    PhotoRegion(
        "left eye",
        "a green eye of a cat",
        "The eye of a cat, wide open and green, with a narrow black pupil. It is the left one in the picture.",
        _oval(170.5, 115.5, 35, 29, 12),
    ),
    PhotoRegion(
        "right eye",
        "the right eye of a cat",
        "A green eye of a cat with a black pupil. It is the right one in the picture and partly in shade.",
        _oval(320, 137, 21, 28, 20),
    ),
    PhotoRegion(
        "nose",
        "the pink nose of a cat",
        "The pink nose of a cat, between its whiskers. One nostril shows as a dark spot.",
        "240,232 260,229 291,231 286,244 273,254 264,263 256,265 252,250",
    ),
    PhotoRegion(
        "ear",
        "the ear of a cat",
        "The pink inside of a cat's ear, at the top right of the picture. A few white hairs stand in front of it.",
        "327,0 400,0 385,22 357,72 345,55 335,25",
    ),
)
_COFFEE = (
    PhotoRegion(
        "cup",
        "a red cup of coffee",
        "A red cup with a thick white rim, half full of coffee. It stands on a red saucer.",
        "173,108 177,80 195,52 220,32 255,20 290,18 330,23 360,38 388,62 405,85 408,112 402,145 392,180 378,213 365,236 "
        "350,246 327,262 315,278 300,285 260,284 250,270 215,240 192,210 177,165",
        behind=("spoon", "handle"),
    ),
    PhotoRegion(
        "handle",
        "the handle of a red cup",
        "The handle of a red cup, which points to the front left. A lamp is reflected in it.",
        "196,285 200,265 210,245 227,227 250,235 260,245 250,260 240,280 227,300 215,307 200,300",
    ),
    PhotoRegion(
        "coffee",
        "brown coffee with foam",
        "Brown coffee with a light foam in a white cup. An arc of light is reflected in it.",
        "203,145 215,117 240,103 280,96 320,102 350,120 367,145 368,165 350,180 320,191 295,193 270,189 240,178 215,163",
    ),
    PhotoRegion(
        "saucer",
        "a red saucer",
        "A round red saucer under a cup. A small spoon lies on it, and it stands on a wooden table.",
        "77,215 80,185 88,160 100,132 115,112 140,90 180,70 300,60 410,103 430,120 450,143 466,172 475,200 479,228 "
        "474,260 462,290 445,315 420,340 385,362 350,377 310,386 270,388 235,385 200,376 165,360 130,337 105,310 88,280 "
        "80,250",
        behind=("cup", "handle", "spoon"),
    ),
    PhotoRegion(
        "spoon",
        "a small metal spoon",
        "A small shiny spoon that lies on a red saucer, to the right of the cup. Its bowl points to the front.",
        "397,70 410,66 424,75 422,88 412,120 405,165 392,200 384,220 387,237 404,260 406,280 397,310 377,324 357,325 "
        "342,320 331,308 326,288 330,265 345,247 367,237 372,220 387,195 400,150 409,110 407,90",
    ),
)
_ROCKET = (
    PhotoRegion(
        "rocket",
        "a white rocket",
        "A tall white rocket that stands upright before its launch. It is lit from below, and the sky is dark blue.",
        "322,127 330,137 333,150 333,177 334,182 332,187 332,406 312,406 312,187 310,178 311,150 315,135",
    ),
    PhotoRegion(
        "nose",
        "the top of a rocket",
        "The rounded top of a white rocket, with a dark round badge and two small marks on it.",
        "322,127 330,137 333,150 333,177 311,177 311,150 315,135",
    ),
    PhotoRegion(
        "tower",
        "a tall metal tower",
        "A tall tower of metal bars at the left edge of the picture. It stands dark against the evening sky.",
        "52,0 88,0 80,340 74,426 0,426 0,350 25,180",
    ),
    PhotoRegion(
        "mast",
        "a lightning mast",
        "A thin mast on a tower of metal bars, to the right of the rocket. It protects the rocket from lightning.",
        "443,123 450,123 452,192 457,193 458,225 478,426 439,426 441,225 441,192 446,192",
    ),
    PhotoRegion(
        "platform",
        "a launch platform",
        "A light brown platform under the rocket, at the bottom of the picture. A lamp lights it from behind.",
        "268,407 371,407 377,426 267,426",
    ),
)
_CAMERA = (
    PhotoRegion(
        "man",
        "a man in a dark coat",
        "A man with dark hair, in a dark coat and gloves. He bends forward and looks through a camera on a tripod.",
        "200,64 220,65 245,82 265,102 271,120 267,131 255,135 250,145 254,170 245,175 245,187 230,196 240,205 245,220 "
        "250,247 265,240 262,215 272,207 290,202 300,185 320,182 322,170 330,172 331,195 320,215 305,228 297,240 304,272 "
        "280,290 250,312 235,310 206,295 180,340 141,382 148,430 150,511 142,511 125,475 100,446 95,475 91,511 0,511 "
        "0,260 25,225 50,185 65,150 95,130 132,122 155,106 162,105 165,95 180,72",
        behind=("video camera", "tripod"),
    ),
    PhotoRegion(
        "hair",
        "short dark hair",
        "The short dark hair of a man who looks through a camera. His ear shows below it.",
        "200,64 220,65 245,82 265,102 271,120 267,131 250,130 235,128 215,130 200,138 195,128 185,128 180,140 175,150 "
        "165,140 162,105 165,95 180,72",
    ),
    PhotoRegion(
        "video camera",
        "a small video camera",
        "A small grey video camera on a tripod. A man holds it with a gloved hand and looks into it.",
        "253,140 280,141 322,139 325,152 320,155 320,180 300,185 268,181 260,175 260,150 253,149",
    ),
    PhotoRegion(
        "tripod",
        "a tripod",
        "A metal tripod with three thin legs that stands on grass. It carries a small video camera.",
        "289,215 296,215 296,314 310,320 309,330 405,505 406,511 399,511 303,335 299,343 298,485 289,485 289,345 246,511 "
        "236,511 231,498 232,484 282,332 278,328 280,314 289,314; 309,316 325,302 337,300 338,306 327,308 312,321",
    ),
    PhotoRegion(
        "building",
        "a tall white building",
        "A tall white building far behind the camera, with a white ball on its roof.",
        "412,131 420,131 421,118 431,118 431,193 412,193",
    ),
)
_PHOTOGRAPHS = {
    "astronaut": ("Eileen Collins, by NASA; public domain", _ASTRONAUT),
    "chelsea": ("Chelsea the cat, by Stefan van der Walt; CC0", _CHELSEA),
    "coffee": ("A cup of coffee, by Rachel Michetti; CC0", _COFFEE),
    "rocket": ("A rocket before its launch, by SpaceX; public domain", _ROCKET),
    "camera": ("A man with a camera, by Lav Varshney; CC0", _CAMERA),
}


def photographs() -> tuple[str, ...]:
    """The names that `load_photograph` takes."""
    return tuple(_PHOTOGRAPHS)


def _fill(region: PhotoRegion, size: tuple[int, int]) -> np.ndarray:
    canvas = Image.new("1", size)
    for polygon in region.outline.split(";"):
        ImageDraw.Draw(canvas).polygon([float(v) for v in polygon.replace(",", " ").split()], fill=1)
    return np.array(canvas)


def load_photograph(name: str) -> Photograph:
    """The photograph `name` with its regions; ValueError for a name that is not among `photographs()`."""
    if name not in _PHOTOGRAPHS:
        raise ValueError(f"name is {name!r}; expected one of {', '.join(_PHOTOGRAPHS)}.")
    import skimage.data

    image = getattr(skimage.data, name)()
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    licence, regions = _PHOTOGRAPHS[name]
    filled = {region.name: _fill(region, (image.shape[1], image.shape[0])) for region in regions}
    masks = [np.logical_and.reduce([filled[r.name], *(~filled[other] for other in r.behind)]) for r in regions]
    return Photograph(name, licence, image, np.stack(masks), regions)
