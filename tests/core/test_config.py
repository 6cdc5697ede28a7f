"""Configs: every problem at once, in the words of the config, and overrides that reach everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segkit.config import read_config, settings_from
from segkit.errors import ConfigError
from segkit.options import BACKSLASH
from segkit.settings import TrainSettings

TOML = """
[dataset]
name = "voc"
root = "data"
year = "2012"

[model]
name = "unet"
width = 16

[[loss]]
name = "cross_entropy"

[[loss]]
name = "dice"
scale = 0.5
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "voc.toml"
    file.write_text(TOML)
    return file


def problems(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_config(path, overrides)
    assert str(path) in str(caught.value)
    return caught.value.problems


def test_a_config_is_read_with_its_defaults(path: Path) -> None:
    config = read_config(path)
    assert config.name == "voc"
    assert config.folder == Path("runs/voc")
    assert config.dataset.options == {"root": "data", "year": "2012"}
    assert [(choice.name, choice.scale) for choice in config.loss] == [("cross_entropy", 1.0), ("dice", 0.5)]
    assert config.train.batch_size == 8
    assert config.record()["train"]["batch_size"] == 8


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("train.epochs=3", lambda c: c.train.epochs == 3),
        ("train.lr = 1e-4", lambda c: c.train.lr == 1e-4),
        ("train.lr=1", lambda c: c.train.lr == 1.0),
        ("train.precision=bf16", lambda c: c.train.precision == "bf16"),
        ("dataset.year=2007", lambda c: c.dataset.options["year"] == "2007"),
        ("dataset.root=a=b", lambda c: c.dataset.options["root"] == "a=b"),
        ("dataset.download=false", lambda c: c.dataset.options["download"] is False),
        ("loss.1.scale=2", lambda c: c.loss[1].scale == 2.0),
        ("loss.dice.smooth=1", lambda c: c.loss[1].options == {"smooth": 1}),
        ("loss.0.class_weights=median_frequency", lambda c: c.loss[0].options["class_weights"] == "median_frequency"),
        ("augment.crop=[300,400]", lambda c: c.augment.crop == [300, 400]),
        ("output.dir=runs/other", lambda c: c.folder == Path("runs/other")),
    ],
)
def test_an_override_is_applied(path: Path, override: str, read: Any) -> None:
    assert read(read_config(path, [override]))


def test_another_component_starts_without_the_options_of_the_first(path: Path) -> None:
    config = read_config(path, ["model.encoder=resnet18", "model.name=smp", "loss.dice.name=focal"])
    assert (config.model.name, config.model.options) == ("smp", {"encoder": "resnet18"})
    assert (config.loss[1].name, config.loss[1].scale) == ("focal", 0.5)
    assert read_config(path, ["model.name=unet"]).model.options == {"width": 16}


def test_the_plugins_that_a_config_needs_may_be_an_override(path: Path) -> None:
    assert read_config(path, ['plugins=["segkit>=0.0.1"]']).plugins == ("segkit>=0.0.1",)
    assert "segkit-absent is not installed" in problems(path, 'plugins=["segkit-absent"]')[0]
    assert "an override is written table.key=value" in problems(path, "epochs=3")[0]


def test_an_empty_place_of_weights_is_not_training_from_scratch(path: Path) -> None:
    assert "train.init_from = ''" in problems(path, "train.init_from=")[0]  # as from an unset variable of a shell


def test_overrides_may_be_a_mapping_and_a_config_may_be_tables(path: Path) -> None:
    import tomllib

    tables = tomllib.loads(TOML)
    config = read_config(tables, {"train.epochs": 3, "loss.dice.scale": 2})
    assert (config.train.epochs, config.loss[1].scale) == (3, 2.0)
    assert tables == tomllib.loads(TOML)  # the caller's tables are left alone
    assert read_config(tables, "train.epochs=3").train.epochs == 3
    assert [each.name for each in read_config(tables, {"loss": [{"name": "focal"}]}).loss] == ["focal"]
    with pytest.raises(ConfigError, match=r"train: an override is written table\.key=value"):  # what else it held
        read_config(tables, {"train": {"epochs": 3}})


@pytest.mark.fault("F40")
def test_every_problem_is_told_at_once(path: Path) -> None:
    found = problems(
        path,
        "train.epoch=3",
        "model.widht=3",
        "loss.dice.smoth=1",
        "losses.x=1",
        "train.lr=high",
        "model.num_classes=21",
        "nonsense",
    )
    assert len(found) == 7
    text = "\n".join(found)
    for words in (
        "train.epoch: [train] has no such key; did you mean 'epochs'?",
        "model.widht: unet has no such key; did you mean 'width'?",
        "loss[1].smoth: dice has no such key; did you mean 'smooth'?",
        "[losses]: there is no such table; did you mean 'loss'?",
        "train.lr = 'high': should be a valid number",
        "model.num_classes is given by segkit",
        "nonsense: an override is written table.key=value",
    ):
        assert words in text


@pytest.mark.fault("F40")
@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("dataset.name=vok", "there is no dataset 'vok'; did you mean 'voc'?"),
        ("loss.3.scale=1", "loss.3.scale: say which one; there are loss.0 (cross_entropy), loss.1 (dice)"),
        ("loss.scale=1", "loss.scale: say which one; there are loss.0 (cross_entropy), loss.1 (dice)"),
        ("train.learning_rate=1", "train.learning_rate: [train] has no such key; there are epochs, max_steps"),
        ("train.encoder_lr=1e-4", "train.encoder_lr: [train] has no such key; did you mean 'encoder_lr_mult'?"),
        ("train.image=1", "train.image: [train] has no such key; there are epochs, max_steps"),
        ("train.epochs=0", "train.epochs = 0: should be greater than 0"),
        ("train.batch_size=true", "train.batch_size = True: should be a valid integer"),
        ("augment.scale=[2.0,0.5]", "the smaller factor must come first"),
        ("augment.crop=[100]", "augment.crop = [100]: "),
        ("augment.crop=0", "augment.crop = 0: should be greater than 0"),
        ("train.batch_size=-1", "train.batch_size = -1: should be greater than 0"),
        (
            "augment.crop=big",
            "augment.crop = 'big': should be a valid integer, or should be 'auto', or should be a valid list",
        ),
        ("loss.0.scale=big", "loss[0].scale = 'big': should be a valid number"),
        (
            "loss.0.class_weights=median",
            "should be 'median_frequency', 'sqrt_median_frequency', 'inverse' or 'effective_number', or",
        ),
        ("dataset.year=2010", "dataset.year = 2010: should be '2007' or '2012'"),
        ("model.width.x=3", "model.width is 16 and holds no keys"),
        ("train.lr=inf", "train.lr = inf: should be a finite number"),
        ("loss.0.scale=-1", "loss[0].scale = -1: should be greater than or equal to 0"),
        ("train.device=a\x01", "train.device = 'a\\x01': holds the control character"),
        ("train.precision=half", "train.precision = 'half': should be 'auto', 'fp32', 'bf16' or 'fp16'"),
    ],
)
def test_a_problem_is_told_in_the_configs_words(path: Path, override: str, words: str) -> None:
    (problem,) = problems(path, override)
    assert words in problem
    assert "pydantic" not in problem


def test_batches_must_divide(path: Path) -> None:
    (problem,) = problems(path, "train.batch_size=8", "train.accumulate=3")
    assert problem == "train: accumulate = 3 must divide batch_size = 8"


def test_missing_tables_are_named(tmp_path: Path) -> None:
    file = tmp_path / "empty.toml"
    file.write_text("")
    assert [problem.partition(" is missing")[0] for problem in problems(file)] == ["[dataset]", "[model]", "[[loss]]"]
    file.write_text('loss = "dice"\ndataset = 3\n[model]\nwidth = 3\n[train]\n')
    text = "\n".join(problems(file))
    assert "several are allowed, so it is written [[loss]]" in text
    assert "dataset = 3: a table is needed, [dataset]" in text
    assert "model.name: which model? there are " in text


@pytest.mark.fault("F40")
def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_text("[dataset]\nname = \n")
    with pytest.raises(ConfigError, match=r"broken\.toml: not valid TOML: .*line 2"):
        read_config(file)


@pytest.mark.fault("F40")
def test_a_missing_file_proposes_its_neighbour(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no config .*vocc\.toml; did you mean '.*voc\.toml'"):
        read_config(path.with_name("vocc.toml"))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(path)


@pytest.mark.fault("F40")
@pytest.mark.parametrize("text", ["a = " + "[" * 300 + "]" * 300, "a = " + "[" * 9999])
def test_tables_in_tables_without_end_are_refused(path: Path, text: str) -> None:
    path.write_text(f"{text}\n{TOML}")
    with pytest.raises(ConfigError, match=r"cannot be read: maximum recursion depth|there is no such table"):
        read_config(path)


@pytest.mark.fault("F40")
def test_a_zero_byte_is_refused_wherever_it_stands(path: Path) -> None:
    # what takes it for a file's name raises a bare ValueError, some of it after the data was read
    path.write_text(TOML.replace('"data"', r'"da\u0000ta"') + '[output]\ndir = "\\u0000"\n')
    assert sorted(problems(path)) == [
        rf"dataset.root = 'da\x00ta': holds the control character '\x00'; {BACKSLASH}",
        rf"output.dir = '\x00': holds the control character '\x00'; {BACKSLASH}",
    ]


@pytest.mark.parametrize("name", ["...toml", "..toml", "....toml"])
def test_a_name_of_dots_leads_out_of_no_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(TOML)
    folder = read_config(tmp_path / name).folder
    assert folder.parent == Path("runs")
    assert folder.name.strip(".")


@pytest.mark.parametrize("in_channels", [1, 3, 4])
def test_the_channels_of_the_image_are_the_datasets(path: Path, in_channels: int) -> None:
    for name in ("unet", "smp"):
        (problem,) = problems(path, f"model.name={name}", f"model.in_channels={in_channels}")
        assert problem == "model.in_channels is given by segkit and cannot be set; remove it"


def test_of_several_losses_of_one_name_it_is_asked_which(path: Path) -> None:
    path.write_text(
        TOML + '\n[[loss]]\nname = "losses/dice"\n\n[[metric]]\nname = "recall"\n[[metric]]\nname = "recall"\n'
    )
    (problem,) = problems(path, "loss.dice.scale=2")
    there_are = "loss.0 (cross_entropy), loss.1 (dice), loss.2 (losses/dice)"
    assert problem == f"loss.dice.scale: say which one; there are {there_are}"
    assert "there are metric.0 (recall), metric.1 (recall)" in problems(path, "metric.recall.x=2")[0]
    scales = [loss.scale for loss in read_config(path, ["loss.2.scale=2", "loss.losses/dice.smooth=1"]).loss]
    assert scales == [1.0, 0.5, 2.0]


@pytest.mark.fault("F40")
@pytest.mark.parametrize("root", [r"C:\Users\me", r"C:\data", r"data\me"])
def test_a_backslash_in_double_quotes_is_told_with_what_to_write(path: Path, root: str) -> None:
    path.write_text(TOML.replace('"data"', f'"{root}"'))
    with pytest.raises(ConfigError, match=r"not valid TOML: .*; in double quotes a backslash .* single quotes, .*/$"):
        read_config(path)


@pytest.mark.parametrize(("root", "made"), [(r"C:\new", r"'\n'"), (r"data\test", r"'\t'"), (r"C:\bin", r"'\x08'")])
def test_a_backslash_that_made_a_control_character_is_refused(path: Path, root: str, made: str) -> None:
    path.write_text(TOML.replace('"data"', f'"{root}"'))
    (problem,) = problems(path)
    assert problem.startswith(
        f"dataset.root = {root.encode().decode('unicode_escape')!r}: holds the control character {made}; in"
    )


@pytest.mark.parametrize("root", [r"C:\Users\me", r"C:\new", r'"C:\Users\me"', r"'C:\new'"])
def test_a_path_of_windows_works_on_the_command_line(path: Path, root: str) -> None:
    assert read_config(path, [f"dataset.root={root}"]).dataset.options["root"] == root.strip("'\"")


@pytest.mark.parametrize(
    ("written", "option", "value"),
    [
        ("dataset.year=2007", "year", "2007"),
        ("dataset.root=2007", "root", "2007"),
        ("dataset.root=2024-05-01", "root", "2024-05-01"),
        ("dataset.root=2024-05-01 10:00:00", "root", "2024-05-01 10:00:00"),
        ('dataset.root="2007"', "root", "2007"),
        ("dataset.split_seed=3", "split_seed", 3),
        ("dataset.fractions=[0.8, 0.2]", "fractions", [0.8, 0.2]),
        ("dataset.download=true", "download", True),
    ],
)
def test_a_text_that_looks_like_a_number_is_the_text_where_the_option_wants_one(
    tmp_path: Path, written: str, option: str, value: object
) -> None:
    for number, text in enumerate((TOML, TOML.replace('year = "2012"\n', "").replace('root = "data"\n', ""))):
        path = tmp_path / f"{number}.toml"
        path.write_text(text)
        config = read_config(path, [written, *["dataset.root=data"] * (number and option != "root")])
        assert config.dataset.options[option] == value
        assert type(config.dataset.options[option]) is type(value)


def test_a_list_of_texts_may_look_like_numbers_and_a_setting_too() -> None:
    tables = {"dataset": {"name": "folder", "root": "data"}, "model": {"name": "unet"}, "loss": [{"name": "dice"}]}
    overrides = ["dataset.classes=[0, 1]", "output.dir=2024", "train.best=3", "train.workers=2", "train.lr=1e-3"]
    config = read_config(tables, overrides)
    assert config.dataset.options["classes"] == ["0", "1"]
    assert (config.output.dir, config.train.best, config.train.workers, config.train.lr) == ("2024", "3", 2, 1e-3)
    assert read_config(tables, ["dataset.classes=1"]).dataset.options["classes"] == "1"


def test_a_number_of_a_file_is_a_word_where_just_one_word_is_meant(tmp_path: Path) -> None:
    path = tmp_path / "voc.toml"
    path.write_text(TOML.replace('"2012"', "2007"))
    assert read_config(path).dataset.options["year"] == "2007"
    path.write_text(TOML.replace('"2012"', "2010"))
    assert problems(path)[0].endswith("dataset.year = 2010: should be '2007' or '2012'; did you mean '2012'?")
    path.write_text(TOML.replace('"data"', "2007"))
    assert read_config(path).dataset.options["root"] == "2007"
    path.write_text(TOML.replace('"data"', "2024-05-01"))
    assert read_config(path).dataset.options["root"] == "2024-05-01"
    for other in ("1e3", "true"):  # which of its spellings was meant is not known
        assert problems(path, f"dataset.root={other}")[0].endswith("should be a valid string")
        assert read_config(path, [f'dataset.root="{other}"']).dataset.options["root"] == other


def test_of_two_overrides_of_one_key_the_last_one_counts(path: Path) -> None:
    assert read_config(path, ["train.lr=0.02", "train.lr=0.01"]).train.lr == 0.01


def test_an_optimizer_of_a_plugin_is_found_by_name_and_brings_its_learning_rate(site: Any) -> None:
    site.offer("segkit-lion", "lion", "optimizers", {"lion": "lion_module:Lion"})
    site.module("lion_module", "class Lion:\n    default_lr = 3e-4\n")
    assert settings_from(TrainSettings, "train", {"optimizer": "lion"}).lr == 3e-4
    assert settings_from(TrainSettings, "train", {"optimizer": "lion", "lr": 0.1}).lr == 0.1
    assert settings_from(TrainSettings, "train", {"optimizer": "sgd"}).lr == 1e-2
    with pytest.raises(ConfigError, match="there is no optimizer 'lio'; did you mean 'lion'"):
        settings_from(TrainSettings, "train", {"optimizer": "lio"})


def test_the_text_none_is_none_where_the_type_allows_it(path: Path) -> None:
    path.write_text(TOML + '\n[augment]\ncrop = "none"\n[data]\ncache = "none"\n')
    assert read_config(path).augment.crop is None
    assert read_config(path).data.cache == "none"  # a word of its own
    path.write_text(TOML + "\n[augment]\ncrop = 64\n")
    assert read_config(path, ["augment.crop=none"]).augment.crop is None
    config = read_config(path, ["loss.0.class_weights=none"])
    assert config.loss[0].options == {"class_weights": None}
    assert read_config(config.record()).loss == config.loss
    assert problems(path, "train.repeat=none") == ["train.repeat = 'none': should be a valid integer"]


def test_a_run_has_an_end(path: Path) -> None:
    assert problems(path, "train.epochs=none") == [
        "train: epochs = none: set minutes or max_steps, so that the run ends"
    ]
    assert read_config(path, ["train.epochs=none", "train.minutes=20"]).train.minutes == 20
    config = settings_from(TrainSettings, "train", {"minutes": 1.5})
    assert config.epochs is None  # as many as fit
    assert settings_from(TrainSettings, "train", config.model_dump()) == config
    assert settings_from(TrainSettings, "train", {}).epochs == 50
