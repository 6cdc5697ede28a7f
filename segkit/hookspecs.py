"""The hooks a plugin may implement, and the contract of every kind of component.

A plugin is a module named by an entry point of the group ``segkit``. A hook that offers components
returns data, a name and the place of a class, so that nothing heavy is imported until it is used::

    import segkit

    @segkit.hookimpl
    def segkit_losses():
        return {"poly": "segkit_poly.loss:Poly"}

Constructors take named options with type hints and defaults: a config is checked against the signature, and cannot set
what is in ``**kwargs``. Some parameters are *given*, as pytest gives fixtures; a component that names them in its
constructor receives them, and a config may not set them:

    ``num_classes``   the number of classes of the dataset
    ``ignore_index``  the label of void pixels
    ``classes``       the names of the classes
    ``in_channels``   the number of channels of the images

The keys ``name`` and, of a loss, ``scale`` have a meaning of their own in a config: no option may be called so. An
option called ``class_weights`` may be written in a config as a list of numbers or as the name of
a formula (``median_frequency``, ``sqrt_median_frequency``, ``inverse``, ``effective_number``); the component receives
numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from segkit.data.scan import Scan
    from segkit.engine.inputs import TrainerInputs
    from segkit.engine.precision import Precision
    from segkit.engine.trainer import Result, Run

PROJECT = "segkit"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def segkit_models() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Models: ``{"name": "package.module:Class"}``.

    ``Model(num_classes, in_channels=3, ...)`` is a ``torch.nn.Module``: ``[B,in_channels,H,W]`` float ->
    logits ``[B,num_classes,H,W]``, for any H and W: in evaluation down to one pixel, in training for
    batches of at least two. A model with pretrained weights may say how RGB in 0..1 is normalised for them:
    ``normalisation = {"mean": [r, g, b], "std": [r, g, b]}``; left out or None, by ImageNet's. One that pads its images
    may say to a multiple of what as ``multiple``, and to what side at least as ``least``, which an export then does.
    """


@hookspec
def segkit_losses() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Losses: ``{"name": "package.module:Class"}``.

    ``Loss(num_classes, ignore_index, ...)`` is called with logits ``[B,C,H,W]`` and target
    ``[B,H,W]`` (int64) and returns a scalar float32, a mean over the labelled pixels or the classes, not a
    sum. Void pixels contribute no value and no gradient, whatever the logits there hold, infinities and NaN too; a
    batch that is all void, or without a pixel, costs 0; sums are taken in float32 whatever the input's dtype.
    Where several processes share a batch, a loss that sends its sums through
    :func:`segkit.engine.distributed.global_sum` is that of the whole batch; of any other the mean is taken.
    Where a batch is taken in parts (``train.accumulate``), each part counts by its share of the labelled pixels: a
    mean over pixels stays that of the batch; of overlaps, as Dice, it is the mean of the parts'.
    """


@hookspec
def segkit_datasets() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Datasets: ``{"name": "package.module:Class"}``.

    ``Dataset(root, split, ...)`` has a length and ``[i] -> segkit.Sample(image uint8 [C,H,W],
    mask uint8 [H,W], name)``, the same one each time, in tensors of its own; images of more than 8 bits a
    channel are float32 with the values as they are stored. Attributes: ``classes``
    (names), ``palette`` (an RGB triple a class), ``ignore_index``, ``channels`` (names; left out: RGB), and,
    where the splits are not train, val and test, ``splits``. The class method ``write_sample(root)`` writes a
    miniature of the layout on disk and returns the options that read it beside ``root``, as
    ``{"classes": "classes.txt"}``, or nothing. The class method ``recognise(root)``, which the command ``init`` asks,
    looks at the names of files, and a few headers, and returns the options that read what lies in a folder, beside
    ``root`` or with another ``root`` inside it: one mapping where only one reading is possible, else several, the
    likeliest first; none where it holds no such data set. An option ``classes`` that the constructor requires may be
    left out: ``init`` then looks into the masks.

    What else a dataset may say about itself is declared in :class:`segkit.data.sample.Dataset`, whether it
    subclasses that or not; :class:`segkit_folder.files.PairedFiles` says it all for files of images and masks.
    With ``files(i)`` and ``reading``, samples are read in several threads, and the next scan reads only what
    changed (without them it reads all again, in one thread, unless ``data.scan = "once"``).
    """


@hookspec
def segkit_metrics() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Metrics: ``{"name": "package.module:Class"}``.

    ``update(logits [B,C,H,W], target [B,H,W])``, ``compute()`` -> a dict of numbers, or one number,
    and ``reset()``: the protocol of torchmetrics, whose metrics can be registered as they are. The best epoch
    may be chosen by one number, the larger or the smaller one as the attribute ``higher_is_better`` says.
    """


@hookspec
def segkit_optimizers() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Optimizers: ``{"name": "package.module:Class"}``; ``train.optimizer`` names one.

    ``Optimizer(model, settings)`` is a ``torch.optim.Optimizer`` over the parameters of ``model`` that require a
    gradient. It is given the model, and not its parameters alone, as what a weight is for decides how it moves;
    ``model.named_parameters()`` will do for most. ``settings`` is the table ``[train]``: ``lr``, ``weight_decay``,
    ``momentum``. segkit sets ``lr`` of every group before each step, times the group's ``factor`` where it has one, and
    itself takes the encoder's parameters apart where ``train.encoder_lr_mult`` asks for that. A step whose attribute
    ``found_inf`` is 1, a tensor on the device, changes nothing, as with torch's fused optimizers. ``default_lr``, a
    number, is the learning rate where a config gives none; left out it is 1e-3.
    """


@hookspec
def segkit_checks() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Checks of a data set: ``{"name": "package.module:Class"}``; each is asked in every scan.

    A constructor that asks for ``settings`` is given the table ``[data]``, one that asks for ``augment`` ``[augment]``.
    ``measure(sample)`` is called once for each version of a sample's files, in several threads, and returns what is
    kept with the scan: what JSON can hold. ``judge(splits)`` is given by split a pair of each sample, its
    :class:`segkit.data.statistics.SampleStatistics` and what was measured, and returns issues
    (:class:`segkit.errors.Issue`): an error stops a run. Another number as the attribute ``version`` makes all samples
    measured anew. A check that cannot be loaded, or fails, stops the scan.
    """


@hookspec
def segkit_readers() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Readers of picture files: ``{"suffix": "package.module:function"}``, the suffix in small letters without its dot.

    ``read(path)`` is asked for every image and mask whose name ends so (``tiff`` for all that begin as a TIFF, whatever
    they are called; ``any`` for all, after the others, and for images that Pillow has opened in memory), in several
    threads and processes. It returns None to leave the file to the next reader; or the picture, upright: a NumPy array
    ``[H,W]`` or ``[H,W,C]``, or whatever has its ``shape`` and ``dtype`` and gives an array where it is sliced, so that
    headers cost no decoding. Values of 8 bits stay as they are, others become float32; of a mask they are the labels.
    It may have the attributes of :class:`segkit.data.read.Header`, as ``no_data``, with ``alpha`` as the last of its
    ``channels`` for transparency; ``is_lossy`` (true, or a text as "a JPEG": a mask is then refused); ``labels()``,
    where the values of a mask are others than those of an image; ``verify()``, which raises an error at a checksum that
    decoding does not look at; and ``close()``. A file of several pictures has ``parts``, a mapping from their names to
    them, and a ``shape`` only where it can be one picture too; ``file#name`` is the path of a part. What it raises is
    reported with the file's name.
    """


@hookspec
def segkit_transforms() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Random transforms of training samples: ``{"name": "package.module:Class"}``; ``[[transform]]`` names them.

    ``Transform(...)`` is called as ``transform(image, mask, random) -> (image, mask)`` after ``[augment]``, in the
    order of the config: image uint8 or float32 ``[C,H,W]`` as it is stored (NaN where there is no data), mask uint8
    ``[H,W]``, tensors of its own; ``random`` is a ``numpy.random.Generator`` that is the same for the same seed, epoch
    and sample, whatever the number of workers, and the only source of chance that a run can repeat. The result has the
    same types and any size; labels are the classes and ``ignore_index``. It is pickled where workers are started anew.
    """


@hookspec
def segkit_commands() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Subcommands of ``python -m segkit``: ``{"name": "package.module:Class"}``.

    The class's docstring is the help; ``add_arguments(parser)`` and ``run(arguments) -> int`` (the
    exit status) are static methods. Its module must import without torch: import that in ``run``. The attribute
    ``first``, a number, puts it above the others in ``--help``, the smallest number on top; ``synonyms`` are names that
    are answered with the command's own.
    """


@hookspec
def segkit_run_prepared(
    inputs: TrainerInputs, scan: Scan, precision: Precision, processes: int
) -> Mapping[str, Any] | None:
    """The data is read and the device is known, and nothing is written yet; called in the main process alone.

    What is returned, as ``{"train.batch_size": 4}``, replaces settings of ``[data]``, ``[augment]`` and ``[train]``, in
    all processes, but for those used already: the device, and how the data is read and the model built. A run that is
    resumed has those that it began with, whatever is returned then, unless its config asks for others than it did. A
    :class:`segkit.errors.SegkitError` refuses the run; any other error ends it too, and names the plugin.
    """


@hookspec
def segkit_run_started(run: Run) -> None:
    """A run begins, or goes on with ``run.first_epoch``: its folder, config and classes are known.

    Of this and the events below: an observer names the arguments it needs, and can change none of them.
    ``run.predict(split, index)`` gives the labels of a sample as the weights that were evaluated last predict them,
    ``run.warn(text)`` prints a warning. Observers marked ``@segkit.hookimpl(tryfirst=True)`` are called before the
    others, as those that draw what others show. What one raises is reported in one line and stops neither the run nor
    other observers; Ctrl-C does.
    """


@hookspec
def segkit_epoch_ended(run: Run, epoch: int, metrics: Mapping[str, Any]) -> str | None:
    """An epoch was trained and evaluated, and its checkpoint is on disk.

    ``metrics`` is its line of ``metrics.jsonl``: ``step``, ``best``, ``train`` (``loss``, ``losses`` by name, ``lr``,
    ``images_per_second``) and ``val`` (the scores, ``class_iou`` by class, ``floor``).

    A text that is returned is a reason to stop here; the run then ends as after its last epoch. It has to follow from
    the history alone (``metrics.jsonl``), so that a resumed run decides the same; the checkpoint keeps it until the run
    is resumed with another ``train.epochs``. Only the main process observes.
    """


@hookspec
def segkit_run_ended(run: Run, result: Result) -> str | None:
    """The run is complete and ``result.json`` is written. A run that fails or is interrupted does not call this hook.

    A text that is returned is printed below the final table.
    """
