"""A GPU imitated on the processor, for what matters to the program: devices do not mix, and reading from one waits.

Tensors are computed by the processor. Which of them lie on the imitated card is known by their storage, so it holds for
views, gradients and the weights of modules too. An operator that gets tensors from both sides raises what CUDA raises.
Nothing here knows of streams, kernels or other precisions. Modes of torch belong to a thread: threads that the program
starts see the processor only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CARD = torch.device("cuda", 0)

_on_card: dict[int, StorageWeakRef] = {}
"""Storages on the card by address. The weak reference keeps the address from being given to another one."""

_READS = {
    "tolist": Tensor.tolist,
    "item": Tensor.item,
    "bool": Tensor.__bool__,
    "float": Tensor.__float__,
    "int": Tensor.__int__,
    "index": Tensor.__index__,
    "nonzero": Tensor.nonzero,
    "array": Tensor.__array__,
}
"""What makes a program wait until the card has computed a value."""
_READ_NAMES = {function: name for name, function in _READS.items()}
_MAY_MIX = {
    torch.ops.aten.copy_.default,
    torch.ops.aten._to_copy.default,
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put_.default,
}
_MADE_BACKWARD = {torch.ops.aten.scatter.src}
"""Whose target the backward pass of sorting makes itself, on the gradient's device, unseen here before torch 2.14."""


def on_card(tensor: Tensor) -> bool:
    """Whether a tensor lies on the imitated card."""
    found = _on_card.get(tensor.untyped_storage()._cdata)
    return found is not None and not found.expired()


def _put(found: Any) -> Any:
    for tensor in _tensors(found):
        if not on_card(tensor):
            storage = tensor.untyped_storage()
            _on_card[storage._cdata] = StorageWeakRef(storage)
    return found


def _tensors(found: Any) -> Iterator[Tensor]:
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, (list, tuple)):
        for item in found:
            yield from _tensors(item)
    elif isinstance(found, dict):
        yield from _tensors(list(found.values()))


def _is_cuda(device: object) -> bool:
    return isinstance(device, (str, torch.device)) and torch.device(device).type == "cuda"


class _Operators(TorchDispatchMode):
    """Sees every operator, those of the backward pass among them."""

    def __init__(self, gpu: ImitatedGpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = list(_tensors((args, kwargs)))
        here = [tensor for tensor in given if on_card(tensor)]
        if self.gpu.is_processor and given and not here:
            self.gpu.meet(func, given)
        if not here or self.gpu.copying:
            return func(*args, **kwargs)
        may_mix = func in _MAY_MIX or (self.gpu.backward and func in _MADE_BACKWARD)
        if not may_mix and any(tensor.dim() and not on_card(tensor) for tensor in given):
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu: {func}"
            )
        self.gpu.meet(func, here)
        found = func(*args, **kwargs)
        if func is not torch.ops.aten.copy_.default:
            _put(found)
        return found


class ImitatedGpu(TorchFunctionMode):
    """Within, `cuda` is a device that computes as the processor does.

    `full` is asked before every operator on the card, with its name, how often it was called so far and the number of
    rows of its first tensor; where it says True the card is out of memory.
    """

    def __init__(
        self,
        full: Callable[[str, int, int], bool] = lambda operator, times, rows: False,
        capability: tuple[int, int] = (7, 5),
    ) -> None:
        super().__init__()
        self.full, self.capability = full, capability
        self.calls: Counter[str] = Counter()
        """Operators on the card, by name."""
        self.reads: list[str] = []
        """What was read from the card, in order."""
        self.copies: list[str] = []
        """Copies to the card that wait until all before them is done, which torch's do unless told not to block."""
        self.emptied = 0
        """How often the allocator's cache was given back."""
        self.memory = 2**34, 2**34
        """Free and total, in bytes."""
        self.is_processor = False
        """Whether the memory that ends is the processor's: its operators are asked about."""
        self.refuses_copies = False
        """Whether nothing can be copied to the card."""
        self.copying = False
        self.backward = False
        self._stack = ExitStack()

    def __enter__(self) -> ImitatedGpu:
        patch = self._stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "mem_get_info", lambda device=None: self.memory)
        patch.setattr(torch.cuda, "empty_cache", self._empty)
        patch.setattr(torch.cuda, "get_device_capability", lambda device=None: self.capability)
        autocast = torch.autocast
        # The processor's own stands in for the card's.
        patch.setattr(torch, "autocast", lambda device, *args, **kwargs: autocast("cpu", *args, **kwargs))
        self._stack.enter_context(_Operators(self))
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self._stack.close()

    def _empty(self) -> None:
        self.emptied += 1

    def meet(self, func: Any, tensors: list[Tensor]) -> None:
        """Count an operator, and raise where the card is full."""
        name = func.overloadpacket.__name__
        self.calls[name] += 1
        if self.full(name, self.calls[name], len(tensors[0]) if tensors[0].dim() else 0):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 is full (imitated).")

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        first = args[0] if args and isinstance(args[0], Tensor) else None
        here = first is not None and on_card(first)
        if func == Tensor.device.__get__:  # type: ignore[attr-defined]
            return CARD if here else func(*args)
        if func == Tensor.is_cuda.__get__:  # type: ignore[attr-defined]
            return here
        if func is Tensor.pin_memory:
            return first
        if func in (Tensor.to, Tensor.cpu, Tensor.cuda):
            assert first is not None
            return self._moved(func, first, args[1:], kwargs)
        if func is torch.autograd.grad:
            return self._gradients(*args)
        if func is Tensor.numpy and here:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
        if here and func in _READ_NAMES:
            self.reads.append(_READ_NAMES[func])
        if _is_cuda(kwargs.get("device")):
            if func is torch.tensor:
                self.copies.append("tensor")
            return _put(func(*args, **{**kwargs, "device": "cpu"}))
        found = func(*args, **kwargs)
        if here and func is Tensor.new_tensor:
            self.copies.append("new_tensor")
            return _put(found)
        return found

    def _gradients(self, outputs: Any, inputs: Any) -> Any:
        """`torch.autograd.grad`, with this mode on in the backward pass of our own functions."""
        outputs, inputs = tuple(_tensors(outputs)), tuple(_tensors(inputs))
        with self._again():
            engine: Any = torch.autograd.Variable._execution_engine
            first = tuple(torch.ones_like(output) for output in outputs)
            self.backward = True
            try:
                return engine.run_backward(outputs, first, False, False, inputs, False, accumulate_grad=False)
            finally:
                self.backward = False

    def _again(self) -> Any:
        """The mode alone, without what entering it for the first time sets up."""
        stack = ExitStack()
        TorchFunctionMode.__enter__(self)
        stack.push(lambda *exception: TorchFunctionMode.__exit__(self, *exception))
        return stack

    def _moved(self, func: Any, tensor: Tensor, args: Any, kwargs: Any) -> Tensor:
        here = on_card(tensor)
        there = here
        if func in (Tensor.cpu, Tensor.cuda):
            there, args, kwargs = func is Tensor.cuda, (), {}
        else:
            asked = [value for value in (*args, *kwargs.values()) if isinstance(value, (str, torch.device, Tensor))]
            for value in asked:
                there = on_card(value) if isinstance(value, Tensor) else _is_cuda(value)
            args = tuple("cpu" if isinstance(value, (str, torch.device)) else value for value in args)
            kwargs = {key: "cpu" if key == "device" else value for key, value in kwargs.items()}
        if here and not there:
            self.reads.append("cpu")
        if there and not here and self.refuses_copies:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB (imitated).")
        if there and not here and not (kwargs.get("non_blocking") or True in args):
            self.copies.append("to")
        if here == there:
            return tensor.to(*args, **kwargs)
        self.copying = True
        try:
            copied = tensor.to(*args, **kwargs)
            # A copy of its own, in every case.
            copied = copied.clone() if copied.untyped_storage()._cdata == tensor.untyped_storage()._cdata else copied
        finally:
            self.copying = False
        found: Tensor = _put(copied) if there else copied
        return found
