"""Widgets for the notebooks. Everything loads on first use: `import osprey_nb.widgets` is cheap."""

from importlib import import_module

_HOMES = {"LiveTraining": "live", "MaskCanvas": "canvas", "Studio": "studio"}
__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(_HOMES)}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
