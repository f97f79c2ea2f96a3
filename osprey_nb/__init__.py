"""osprey_nb: learn, build, train and probe Osprey, a pixel-level multimodal LLM (arXiv 2312.10032).

Heavy libraries load on first use, so that `import osprey_nb` is quick.
"""

from importlib import import_module

__version__ = "0.1.0"
_HOMES = {
    "Osprey": "model",
    "OspreyConfig": "config",
    "OspreyProcessor": "processor",
    "describe_everything": "everything",
    "load_published": "checkpoint",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
