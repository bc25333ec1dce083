"""HashShield keeps photos out of image-hash search.

The Python interface is `protect`, `protect_files`, `verify`, `evaluate`, `restore` and `load_model`, defined in
`hashshield.api`. They are loaded on first use, so that `import hashshield` is fast.
"""

from __future__ import annotations

# Not imported from `typing`: `python -m hashshield` would look for that module in the current folder first.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hashshield.api import Network, Protected, evaluate, load_model, protect, protect_files, restore, verify

__all__ = ["Network", "Protected", "evaluate", "load_model", "protect", "protect_files", "restore", "verify"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'hashshield' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module("hashshield.api"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
