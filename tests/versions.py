"""What the oldest supported versions name differently from the newest."""

from __future__ import annotations

import jax

if hasattr(jax, "enable_x64"):
    enable_x64 = jax.enable_x64
else:
    from jax.experimental import enable_x64

__all__ = ["enable_x64"]
