"""The hooks a plugin may implement, and the contract of every kind of component.

A plugin is a module named by an entry point of the group ``segkit``. A hook that offers components returns names and
import paths, so that no component is imported before it is used::

    import segkit

    @segkit.hookimpl
    def segkit_losses():
        return {"poly": "segkit_poly.loss:Poly"}

Constructors take named options with type hints and defaults. A config is checked against the signature, so options
hidden in ``**kwargs`` cannot be set. segkit *gives* some parameters to every constructor that names them, as pytest
gives fixtures; a config may not set these:

    ``num_classes``   the number of classes of the dataset
    ``ignore_index``  the label of void pixels
    ``classes``       the names of the classes
    ``in_channels``   the number of channels of the images

The config keys ``name`` and, for a loss, ``scale`` are reserved: no option may have these names. In a config, an
option named ``class_weights`` is a list of numbers or the name of a formula (``median_frequency``,
``sqrt_median_frequency``, ``inverse``, ``effective_number``); the component always receives numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from segkit.engine.inputs import TrainerInputs
    from segkit.engine.run_folder import Result
    from segkit.engine.trainer import Run

PROJECT = "segkit"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def segkit_models() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Models: ``{"name": "package.module:Class"}``.

    ``Model(num_classes, in_channels=3, ...)`` is a ``torch.nn.Module`` that maps float images ``[B,in_channels,H,W]``
    to logits ``[B,num_classes,H,W]`` for any H and W: down to one pixel in evaluation, and for batches of at least two
    in training. Optional attributes: ``normalisation = {"mean": [r, g, b], "std": [r, g, b]}``, the normalisation of
    RGB in 0..1 that pretrained weights expect (default, or None: ImageNet's); ``multiple`` and ``least``, where the
    model pads its images: each side is padded to a multiple of ``multiple`` and to at least ``least``; an export then
    pads in the same way.
    """


@hookspec
def segkit_losses() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Losses: ``{"name": "package.module:Class"}``.

    ``Loss(num_classes, ignore_index, ...)`` is called with logits ``[B,C,H,W]`` and target ``[B,H,W]`` (int64) and
    returns a scalar float32: a mean over the labelled pixels or the classes, not a sum. Void pixels contribute no value
    and no gradient, even where the logits are infinite or NaN; a batch without a labelled pixel costs 0; sums are
    computed in float32 whatever the input's dtype. Where several processes share a batch, a loss that passes its sums
    through :func:`segkit.engine.distributed.global_sum` is the loss of the whole batch; any other loss is averaged over
    the processes. Where a batch is split into parts (``train.accumulate``), each part is weighted by its share of the
    labelled pixels: a mean over pixels equals that of the whole batch; an overlap loss such as Dice becomes the mean of
    the parts.
    """


@hookspec
def segkit_datasets() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Datasets: ``{"name": "package.module:Class"}``.

    ``Dataset(root, split, ...)`` has a length and ``[i] -> segkit.Sample(image uint8 [C,H,W], mask uint8 [H,W],
    name)``. An index always gives the same sample, in newly allocated tensors; images of more than 8 bits per channel
    are float32 and hold the stored values. Attributes: ``classes`` (names), ``palette`` (an RGB triple per class),
    ``ignore_index``, ``channels`` (names; default: RGB) and, where the splits are not train, val and test, ``splits``.
    The class method ``write_sample(root)`` writes a miniature of the layout to disk and returns the options that read
    it, apart from ``root``, such as ``{"classes": "classes.txt"}``, or None. The class method ``recognise(root)`` is
    called by the command ``init``. It looks at file names and a few headers and returns the options that read the
    folder, apart from ``root``, or with a ``root`` inside it: one mapping where only one reading is possible; several
    where it is ambiguous, the likeliest first; none where the folder holds no such data set. It may omit a required
    option ``classes``: ``init`` then reads the masks.

    A dataset that has optional members subclasses :class:`segkit.data.sample.Dataset`, which declares them;
    :class:`segkit_folder.files.PairedFiles` implements all of them for image and mask files. With ``files(i)`` and
    ``reading``, samples are read in several threads and the next scan reads only changed files; without them it reads
    everything again, in one thread.
    """


@hookspec
def segkit_metrics() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Metrics: ``{"name": "package.module:Class"}``.

    ``update(logits [B,C,H,W], target [B,H,W])``, ``compute()`` -> a dict of numbers, or one number,
    and ``reset()``: the protocol of torchmetrics, whose metrics can be registered unchanged. ``train.best`` may name
    one of the numbers; the attribute ``higher_is_better`` says whether a larger one is better.
    """


@hookspec
def segkit_optimizers() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Optimizers: ``{"name": "package.module:Class"}``; ``train.optimizer`` names one.

    ``Optimizer(model, settings)`` is a ``torch.optim.Optimizer`` over the parameters of ``model`` that require a
    gradient. It receives the model rather than its parameters because the update of a weight may depend on its layer;
    ``model.named_parameters()`` is enough for most. ``settings`` is the table ``[train]``: ``lr``, ``weight_decay``,
    ``momentum``. Before each step segkit sets the ``lr`` of every group, multiplied by the group's ``factor`` if it has
    one, and puts the encoder's parameters into separate groups where ``train.encoder_lr_mult`` requires it. While the
    attribute ``found_inf``, a tensor on the device, is 1, a step must change nothing, as in torch's fused optimizers.
    ``default_lr`` is the learning rate used where a config gives none; default: 1e-3.
    """


@hookspec
def segkit_checks() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Checks of a data set: ``{"name": "package.module:Class"}``; every scan runs all of them.

    A constructor parameter ``settings`` receives the table ``[data]``.
    ``measure(sample, dataset, index)`` is called once for each version of a sample's files, in several threads, and
    returns a JSON value that is cached with the scan; the sample is ``dataset[index]``, and a
    :class:`segkit.errors.DataError` says that it cannot be used. ``judge(splits, datasets, left_out)`` receives, for
    each split, one pair per sample, its :class:`segkit.data.statistics.SampleStatistics` and its measurement; the
    datasets, without the samples that cannot be used; and the issues of those. It returns issues
    (:class:`segkit.errors.Issue`); an issue of severity ``error`` stops a run. Changing the attribute ``version``, a
    number, makes the next scan measure all samples again. A check that cannot be loaded, or fails, stops the scan.
    """


@hookspec
def segkit_readers() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Readers of image files: ``{"suffix": "package.module:function"}``, the suffix in lower case without its dot.

    ``read(path)`` is called, in several threads and processes, for every image and mask with this suffix. The suffix
    ``tiff`` stands for all files that begin as a TIFF, whatever their names; ``any`` for all files, after the other
    readers, and for images that Pillow has opened in memory. It returns None to leave the file to the next reader; or
    the upright image: a NumPy array ``[H,W]`` or ``[H,W,C]``, or an object that has its ``shape`` and ``dtype`` and
    gives an array when sliced, so that headers need no decoding. 8-bit values stay as they are, others become float32;
    the values of a mask are its labels. The suffix ``joined`` stands for paths of several files that hold the channels
    of one image, ``red.tif | nir.tif``. The object may have the attributes of :class:`segkit.data.read.Header`, such as
    ``no_data`` (bool ``[H,W]`` is allowed once the image is sliced), with ``alpha`` as the last of its ``channels`` for
    transparency; ``is_lossy`` (true, or a text such as "a JPEG": a mask is then refused); ``labels()``, where the
    labels of a mask differ from its values as an image; ``verify()``, which raises an error for a wrong checksum that
    decoding ignores; and ``close()``. A file of several images has ``parts``, a mapping from names to images, and a
    ``shape`` only where it can also be one image; ``file#name`` is the path of a part. Errors are reported with the
    file's name.
    """


@hookspec
def segkit_transforms() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Random transforms of training samples: ``{"name": "package.module:Class"}``; ``[[transform]]`` names them.

    ``Transform(...)`` is called as ``transform(image, mask, random) -> (image, mask)`` after ``[augment]``, in the
    order of the config. The image is uint8 or float32 ``[C,H,W]`` with the stored values (NaN where there is no data),
    the mask uint8 ``[H,W]``; both may be changed in place. ``random`` is a ``numpy.random.Generator`` that depends on
    seed, epoch and sample alone, not on the number of workers; a run can repeat no other random numbers. The result has
    the same dtypes and any size; its labels are the classes and ``ignore_index``. Spawned workers pickle the transform.
    """


@hookspec
def segkit_commands() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Subcommands of ``python -m segkit``: ``{"name": "package.module:Class"}``.

    The class's docstring is the help; ``add_arguments(parser)`` and ``run(arguments) -> int`` (the
    exit status) are static methods. Its module must not import torch; import it in ``run``. Optional attributes:
    ``first``, a number, lists the command above the others in ``--help``, the smallest number on top; ``synonyms`` are
    names that a user may try: the error message then suggests this command.
    """


@hookspec
def segkit_run_prepared(inputs: TrainerInputs, processes: int) -> Mapping[str, Any] | None:
    """The data is scanned and the device is known, and nothing is written yet; called in the main process only.

    The returned mapping, such as ``{"train.batch_size": 4}``, holds numbers for ``augment.crop`` and
    ``train.batch_size``, only where they are "auto", as ``inputs.auto`` lists them. In a resumed run they have the
    numbers that it began with. A :class:`segkit.errors.SegkitError` refuses the run; any other error ends it too, and
    names the plugin.
    """


@hookspec
def segkit_run_started(run: Run) -> None:
    """A run begins, or is resumed at ``run.first_epoch``: its folder, config and classes are known.

    This event and those below are called in the main process only. An observer names the arguments it needs, and cannot
    change them.
    ``run.predict(split, index)`` returns the labels of a sample as the most recently evaluated weights predict them;
    ``run.warn(text)`` prints a warning. Observers marked ``@segkit.hookimpl(tryfirst=True)`` are called before the
    others, for example because they draw pictures that others show. An exception in an observer is reported in one
    line and stops neither the run nor other observers; Ctrl-C does.
    """


@hookspec
def segkit_epoch_ended(run: Run, epoch: int, metrics: Mapping[str, Any]) -> str | None:
    """An epoch was trained and evaluated, and its checkpoint is on disk.

    ``metrics`` is its line of ``metrics.jsonl``: ``step``, ``best``, ``train`` (``loss``, ``losses`` by name, ``lr``,
    ``images_per_second``) and ``val`` (the scores, ``class_iou`` by class, ``floor``).

    A returned text is a reason to stop; the run then ends as it would after its last epoch. The decision must depend on
    the history alone (``metrics.jsonl``), so that a resumed run decides the same; the checkpoint keeps the reason until
    the run is resumed with another ``train.epochs``.
    """


@hookspec
def segkit_run_ended(run: Run, result: Result) -> str | None:
    """The run is complete and ``result.json`` is written. A run that fails or is interrupted does not call this hook.

    A returned text is printed below the final table.
    """
