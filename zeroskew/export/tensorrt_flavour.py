"""The TensorRT at hand: the datacentre package of a GPU image, or TensorRT for RTX.

Both have the same API for building. They differ in what runs the result (Triton's TensorRT backend
loads plans of the datacentre package only) and in where a plan can be built: TensorRT for RTX
compiles for a named compute capability without a GPU, the datacentre package for the GPU it sees.
"""

from __future__ import annotations

import ctypes
import importlib
import re
from dataclasses import dataclass
from typing import Any

from zeroskew.errors import ExportError

DATACENTRE = "tensorrt"
RTX = "tensorrt_rtx"

_MODULES = {DATACENTRE: ("tensorrt",), RTX: ("tensorrt_rtx_bindings", "tensorrt_rtx")}


@dataclass(frozen=True, slots=True)
class Flavour:
    """An imported TensorRT."""

    name: str
    """`tensorrt` or `tensorrt_rtx`."""
    version: str
    trt: Any
    """The Python module itself."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Compute capabilities that can be built for by name, such as `SM89`."""
        known = getattr(self.trt, "ComputeCapability", None)
        if self.name != RTX or known is None:
            return ()
        names = [name for name in dir(known) if re.fullmatch(r"SM\d+", name)]
        return tuple(sorted(names, key=lambda name: int(name[2:])))


def load_flavour(name: str | None = None) -> Flavour:
    """Import TensorRT: `name`, or the datacentre package if it is there, else TensorRT for RTX.

    Raises `ExportError` with the way to get one.
    """
    for flavour, modules in _MODULES.items():
        if name not in (None, flavour):
            continue
        for module in modules:
            try:
                trt = importlib.import_module(module)
            except (ImportError, OSError):  # OSError: a package without its shared libraries
                continue
            if hasattr(trt, "Builder"):
                return Flavour(flavour, str(trt.__version__), trt)
    raise ExportError(
        f"{name or 'TensorRT'} is not installed",
        mend="pip install 'zeroskew[tensorrt-rtx]' builds plans anywhere; a GPU image brings "
        "`tensorrt`, whose plans Triton loads",
    )


def gpu_capability() -> str | None:
    """Compute capability of the first GPU, such as `SM90`; None without a GPU or its driver."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
        device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        calls = (
            lambda: cuda.cuInit(0),
            lambda: cuda.cuDeviceGet(ctypes.byref(device), 0),
            # 75 and 76: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
            lambda: cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device),
            lambda: cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device),
        )
        if any(call() != 0 for call in calls):
            return None
    except (OSError, AttributeError):
        return None
    return f"SM{major.value}{minor.value}"


def resolve_target(flavour: Flavour, target: str) -> str:
    """`SM89` from `SM89`, `89` or `current`. Raises `ExportError` if it cannot be built for."""
    text = target.strip().upper()
    here = gpu_capability()
    if text == "CURRENT":
        if here is None:
            raise ExportError(
                "`current` asks for the GPU at hand, and there is none (or no driver)",
                mend=f"name a target: {', '.join(flavour.targets) or 'on a machine with a GPU'}",
            )
        text = here
    text = text if text.startswith("SM") else f"SM{text}"
    if flavour.name == DATACENTRE:
        if text != here:
            raise ExportError(
                f"the datacentre TensorRT builds for the GPU at hand, {here or 'none'}, not {text}",
                mend="build the plan on the GPU class that serves it",
            )
    elif text not in flavour.targets:
        raise ExportError(
            f"TensorRT for RTX {flavour.version} cannot build for {text}",
            mend=f"it knows {', '.join(flavour.targets)}; others need the datacentre TensorRT on "
            "such a GPU",
        )
    return text
