"""The rules of a loss about how it computes: types, layouts, precision, gradients, devices, processes, compilers."""

from __future__ import annotations

import math
import pickle
import warnings

import torch
from torch import Tensor, nn

from segkit.testing.batches import LAYOUTS, certain, wrong
from segkit.testing.check import CheckFailed, NotAsked, Subject, require
from segkit.testing.cost import Loss, ask, at_each_count, build, case, class_counts, cost, require_same
from segkit.testing.forward import OneDevice, ValuesAsked, first_line


def layouts(subject: Subject) -> None:
    """Logits may lie in memory as they like: channels_last, transposed, cut out of larger ones; so may labels."""
    loss, _, target, logits = case(subject)
    expected, gradient = ask(loss, logits, target)
    for name, layout in LAYOUTS.items():
        try:
            found, other = ask(loss, logits, target.mT.contiguous().mT, layout)
        except RuntimeError as error:
            raise CheckFailed(f"it fails on logits that are {name}: {error}") from error
        require_same(found, expected, f"for the same logits, {name}")
        difference = (other - gradient).abs().max().item()
        require(difference < 1e-5, f"for the same logits, {name}, the gradient differs by {difference:.3g}")


@at_each_count
def extreme_logits(subject: Subject, classes: int) -> None:
    """Logits of 10,000, right or wrong, cost a finite number, with a finite gradient."""
    loss, _, target, logits = case(subject, classes)
    cases = {
        "right everywhere": certain(target, classes, 1e4),
        "wrong everywhere": certain(wrong(target, classes), classes, 1e4),
        "of random signs": 1e4 * logits.sign(),
    }
    for name, extreme in cases.items():
        found, gradient = ask(loss, extreme, target)
        require(math.isfinite(found), f"logits of 10,000, {name}, cost {found}")
        require(gradient.isfinite().all(), f"logits of 10,000, {name}, have a gradient that is not finite")


@at_each_count
def half_precision(subject: Subject, classes: int) -> None:
    """bfloat16 and float16 logits cost float32, and within 0.1 % what the same numbers cost as float32."""
    for dtype in (torch.bfloat16, torch.float16):
        for seed in range(4):
            loss, _, target, logits = case(subject, classes, seed=seed)
            value = torch.as_tensor(loss(logits.to(dtype), target.clone()))
            require(value.dtype == torch.float32, f"{dtype} logits cost {value.dtype}; sum in float32, and return it")
            expected = cost(loss, logits.to(dtype).float(), target)
            require_same(value.sum().item(), expected, f"for {dtype} logits", 1e-3)


def large_float16(subject: Subject) -> None:
    """A 512 x 512 image of float16 logits costs what it does as float32, though its sums do not fit float16."""
    classes = class_counts(subject)[-1]
    pixels = torch.arange(512 * 512)
    target = torch.where(pixels % 4 > 0, 0, pixels // 4 % classes).reshape(1, 512, 512)
    logits = certain(target, classes, 2.0).half()
    loss = build(subject, classes)
    found, gradient = ask(loss, logits, target)
    with torch.no_grad():
        expected = torch.as_tensor(loss(logits.float(), target)).sum().item()
    require_same(found, expected, "for 512 x 512 float16 logits, of which 65,504 is the largest number", 1e-3)
    require(gradient.isfinite().all(), "512 x 512 float16 logits have a gradient that is not finite")


@at_each_count
def gradcheck(subject: Subject, classes: int) -> None:
    """The gradient is that of the cost: torch.autograd.gradcheck, in float64.

    A loss that computes in float32 even then is asked with larger steps, and has 2 % instead of 0.1 %.
    """
    loss, _, target, logits = case(subject, classes)
    target, logits = target[:1, :3, 1:5], logits[:1, :, :3, 1:5].double().requires_grad_()  # 12 pixels, 3 of them void
    exact = torch.as_tensor(loss(logits.detach().clone(), target.clone())).dtype == torch.float64
    eps, atol, rtol = (1e-6, 1e-5, 1e-3) if exact else (2e-3, 2e-3, 2e-2)
    require(
        torch.autograd.gradcheck(
            lambda each: torch.as_tensor(loss(each.clone(), target.clone())).sum(),
            logits,
            eps=eps,
            atol=atol,
            rtol=rtol,
            raise_exception=False,
        ),
        f"for logits {list(logits.shape)} backward() and finite differences give different gradients "
        "(torch.autograd.gradcheck): is something detached or rounded that the cost depends on?",
    )


def picklable(subject: Subject) -> None:
    """It can be pickled, to reach other processes, and then costs the same."""
    loss, _, target, logits = case(subject)
    try:
        copy = pickle.loads(pickle.dumps(loss))
    except Exception as error:
        raise CheckFailed(f"it cannot be pickled: {type(error).__name__}: {error}") from error
    require_same(cost(copy, logits, target), cost(loss, logits, target), "for its pickled copy")


def compiles(subject: Subject) -> None:
    """Under torch.compile it costs the same, with the same gradient.

    The backend is ``aot_eager``: forward and backward are traced as for the default one, and neither a C++ compiler
    nor its minute is needed. Graph breaks are allowed.
    """
    loss, _, target, logits = case(subject)
    expected, gradient = ask(loss, logits, target)
    torch.compiler.reset()
    # a function around it, as not all that can be called can be compiled as it is
    compiled = torch.compile(lambda *given: loss(*given), backend="aot_eager")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own parts
            found, other = ask(compiled, logits, target)
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise CheckFailed(f"it fails under torch.compile: {type(error).__name__}: {first}") from error
    require_same(found, expected, "under torch.compile")
    difference = (other - gradient).abs().max().item()
    require(difference < 1e-5, f"under torch.compile the gradient differs by {difference:.3g}")


def no_fixed_device(subject: Subject) -> None:
    """Moved to another device, it computes there: on torch's meta device, and on CUDA where there is one."""
    loss, classes, target, logits = case(subject)
    if torch.cuda.is_available():
        found = cost(_moved(loss, "cuda"), logits.cuda(), target.cuda())
        require_same(found, cost(build(subject, classes), logits, target), "on CUDA instead of the CPU", 1e-4)
    _require_on_meta(build(subject, classes), target, logits, "on another device (torch's meta)")
    if subject.has_option("class_weights") and "class_weights" not in subject.options:
        weighted = build(subject, classes, class_weights=[2.0] * classes)
        _require_on_meta(weighted, target, logits, "on another device (torch's meta), with class weights")


def _require_on_meta(loss: Loss, target: Tensor, logits: Tensor, what: str) -> None:
    """The meta device knows shapes and no values, and every machine has it."""
    moved = _moved(loss, "meta")
    try:
        with OneDevice():
            value = moved(logits.to("meta").requires_grad_().clone(), target.to("meta"))
    except ValuesAsked as error:
        if torch.cuda.is_available():
            return  # where it was asked
        raise NotAsked("it reads values, which torch's meta device has none of, and there is no CUDA here") from error
    except CheckFailed as error:
        raise CheckFailed(f"{what}: {error}") from error
    except Exception as error:
        raise CheckFailed(f"{what}: {type(error).__name__}: {first_line(error)}") from error
    on_it = isinstance(value, Tensor) and value.is_meta
    require(on_it, f"{what} its cost is elsewhere: compute on the device of the logits")


def _moved(loss: Loss, device: str) -> Loss:
    """What is no module has nothing that could be moved."""
    return loss.to(device) if isinstance(loss, nn.Module) else loss
