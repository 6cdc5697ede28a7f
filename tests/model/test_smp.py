from __future__ import annotations

import copy
import pickle
import re
import socket
import subprocess
import sys
import time
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from segkit.errors import CheckpointError, ModelError
from segkit.model.smp import Smp, _decode, _normalisation, _unwrapped

ARCHITECTURES = ["unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet"]
ARCHITECTURES += ["deeplabv3", "deeplabv3plus", "pan", "upernet", "segformer"]


@pytest.fixture(scope="module")
def donor() -> Smp:
    torch.manual_seed(1)
    return Smp(2, encoder="resnet18")


def encoder_state(model: Smp) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.network.encoder.state_dict().items()}


def assert_same_encoder(model: Smp, donor: Smp) -> None:
    expected = encoder_state(donor)
    for key, value in encoder_state(model).items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_have_the_size_of_any_image(architecture):
    model = Smp(5, architecture=architecture, encoder="resnet18").eval()
    for size in [(33, 50), (1, 1)]:
        with torch.inference_mode():
            logits = model(torch.rand(1, 3, *size))
        assert logits.shape == (1, 5, *size)
        assert logits.isfinite().all()


@pytest.mark.parametrize("encoder", ["tu-resnet10t", "tu-convnext_atto", "mobilenet_v2"])
def test_encoders_of_both_libraries(encoder):
    model = Smp(2, in_channels=4, encoder=encoder).eval()
    with torch.inference_mode():
        assert model(torch.rand(1, 4, 40, 33)).shape == (1, 2, 40, 33)


@pytest.mark.parametrize(
    ("encoder", "mean"),
    [
        ("tu-tf_efficientnet_lite0", 0.5),
        ("tu-resnet10t", 0.485),
        ("resnet18", 0.485),
        ("dpn68", 124 / 255),
    ],
)
def test_weights_bring_the_normalisation_they_were_trained_with(encoder, mean, tmp_path):
    scratch = Smp(2, encoder=encoder)
    assert scratch.normalisation is None  # nothing was trained with another one than ImageNet's
    save_file(_unwrapped(scratch.network.encoder).state_dict(), tmp_path / "encoder.safetensors")
    pretrained = Smp(2, encoder=encoder, weights=str(tmp_path / "encoder.safetensors"))
    assert pretrained.normalisation["mean"][0] == pytest.approx(mean)
    assert (pretrained.normalisation["std"] == [0.5] * 3) is (mean == 0.5)


def test_the_normalisation_of_weights_from_the_hub_is_theirs(monkeypatch):
    import segmentation_models_pytorch as smp

    assert _normalisation("timm-tf_efficientnet_lite0", None)["mean"] == [0.5] * 3  # a file's are the usual ones
    said = {"input_space": "RGB", "input_range": [0, 255], "mean": [51.0] * 3, "std": [102.0] * 3}
    monkeypatch.setattr(smp.encoders, "get_preprocessing_params", lambda name, pretrained: said)
    assert _normalisation("efficientnet-b0", "advprop") == {"mean": [0.2] * 3, "std": [0.4] * 3}
    said["input_space"] = "BGR"
    with pytest.raises(ModelError, match="the weights 'advprop' of 'efficientnet-b0' expect BGR images, but"):
        _normalisation("efficientnet-b0", "advprop")


def test_an_encoder_of_one_input_size_sees_the_image_resized():
    model = Smp(2, encoder="tu-efficientformerv2_s0").eval()
    assert model.fixed_size == (224, 224)
    with torch.inference_mode():
        assert model(torch.rand(1, 3, 40, 33)).shape == (1, 2, 40, 33)


def test_a_vision_transformer_takes_any_size():
    model = Smp(2, architecture="dpt", encoder="tu-vit_tiny_patch16_224").eval()
    assert model.fixed_size is None
    with torch.inference_mode():
        assert model(torch.rand(1, 3, 40, 33)).shape == (1, 2, 40, 33)


def test_logits_lie_where_their_pixels_are():
    model = Smp(3, encoder="resnet18")
    model.network = nn.Identity()
    image = torch.rand(1, 3, 33, 50)
    assert torch.equal(model(image), image)


def test_it_exports(donor):
    image = torch.rand(1, 3, 33, 40)
    model = donor.eval()
    program = torch.export.export(model, (image,))
    torch.testing.assert_close(program.module()(image), model(image))


def test_a_file_of_a_student_and_its_teacher_is_refused_and_of_one_of_them_taken(tmp_path, donor):
    path, state = tmp_path / "dino.pth", encoder_state(donor)
    student, teacher = (
        {f"{name}.backbone.{key}": each + moved for key, each in state.items()}
        for name, moved in (("student", 0), ("teacher", 1))
    )
    torch.save({"state_dict": {**teacher, **student}}, path)
    with pytest.raises(ModelError, match=r"several times, under student.backbone. and teacher.backbone.; save only"):
        Smp(3, encoder="resnet18", weights=str(path))
    torch.save({**student, "teacher.backbone.conv1.weight": torch.zeros(1)}, path)
    assert_same_encoder(Smp(3, encoder="resnet18", weights=str(path)), donor)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_encoder_weights_from_a_file(tmp_path, donor, suffix):
    path = tmp_path / f"resnet18.{suffix}"
    state = encoder_state(donor)
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    model = Smp(3, encoder="resnet18", weights=str(path))
    assert_same_encoder(model, donor)
    assert model.network.segmentation_head[0].out_channels == 3


def test_encoder_weights_from_files_of_other_programs(tmp_path, donor):
    state = encoder_state(donor)
    classifier = {**state, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    whole = donor.state_dict()  # network.encoder.conv1.weight, ..., network.decoder...
    parallel = {f"module.{key}": value for key, value in whole.items()}
    files = {
        "torchvision": classifier,
        "old": old,
        "whole": whole,
        "checkpoint": {"epoch": 3, "model": parallel, "ema": None},
        "averaged": {"model": {key: value + 1 for key, value in whole.items()}, "ema": whole},
        "lightning": {"state_dict": {f"model.{key}": value for key, value in whole.items()}},
    }
    for name, content in files.items():
        path = tmp_path / f"{name}.pth"
        torch.save(content, path)
        assert_same_encoder(Smp(2, encoder="resnet18", weights=str(path)), donor)


# names with dots that the feature extractor has with "_"; last layers it lacks; what timm wraps in one, two levels
@pytest.mark.parametrize(
    "name",
    ["convnext_atto", "tf_mobilenetv3_small_minimal_100", "test_efficientnet", "efficientformer_l1", "repghostnet_050"],
)
def test_weights_of_a_timm_classifier(tmp_path, name):
    import timm

    donor = timm.create_model(name, num_classes=7)
    path = tmp_path / f"{name}.safetensors"
    save_file({key: value.contiguous() for key, value in donor.state_dict().items()}, path)
    model = Smp(2, encoder=f"tu-{name}", weights=str(path))
    given = {key.replace("_", "."): value for key, value in donor.state_dict().items()}
    loaded = _unwrapped(model.network.encoder).state_dict()
    assert len(loaded) > 50
    for key, value in loaded.items():
        assert torch.equal(value, given[key.replace("_", ".")]), key


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "name"), [("upernet", "test_convnext"), ("dpt", "test_vit")])
def test_modern_backbones_take_timms_files_and_their_normalisation(tmp_path, architecture, name):
    """Of ConvNeXt and of a vision transformer; what timm says of these two is not ImageNet's mean."""
    import timm

    donor = timm.create_model(name).state_dict()
    path = tmp_path / "model.safetensors"
    save_file({key: value.contiguous() for key, value in donor.items()}, path)
    model = Smp(3, architecture=architecture, encoder=f"tu-{name}", weights=str(path))
    assert model.normalisation == {"mean": [0.5] * 3, "std": [0.5] * 3}
    given = {key.replace("_", "."): value for key, value in donor.items()}
    loaded = _unwrapped(model.network.encoder).state_dict()
    assert all(torch.equal(value, given[key.replace("_", ".")]) for key, value in loaded.items())
    model(torch.rand(2, 3, 48, 70)).mean().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_what_an_encoder_does_not_take_from_a_file_is_named(tmp_path, capsys):
    import timm

    path = tmp_path / "deeper.safetensors"
    save_file(timm.create_model("resnet34").state_dict(), path)  # has all of resnet18's names, and more
    Smp(2, encoder="tu-resnet18", weights=str(path))
    assert re.search(
        r"deeper\.safetensors: \d+ tensors have no place in the encoder: .*layer1\.2\.", capsys.readouterr().err
    )


def test_weights_that_do_not_fit_are_listed(tmp_path, donor):
    state = encoder_state(donor)
    del state["layer1.0.conv1.weight"]
    state["layer9.weight"] = torch.zeros(1)
    state["bn1.bias"] = torch.zeros(7)
    path = tmp_path / "other.pth"
    torch.save(state, path)
    with pytest.raises(ModelError) as caught:
        Smp(2, encoder="resnet18", weights=str(path))
    message = str(caught.value)
    assert "1 missing: layer1.0.conv1.weight" in message
    assert "1 unexpected: layer9.weight" in message
    assert "1 of another shape: bn1.bias (7,) for (64,)" in message
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match=r"does not fit the encoder: 100 missing: .* and 95 more; 1 unexpected: a"):
        Smp(2, encoder="resnet18", weights=str(path))


@pytest.mark.fault("F06")
def test_a_file_cannot_run_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "trapped"), "w"))

    path = tmp_path / "trap.pth"
    torch.save({"conv1.weight": Trap()}, path)
    with pytest.raises(CheckpointError, match=r"trap\.pth holds more than tensors"):
        Smp(2, encoder="resnet18", weights=str(path))
    path.write_bytes(pickle.dumps(Trap(), protocol=2))
    with pytest.raises(CheckpointError, match=r"trap\.pth"):
        Smp(2, encoder="resnet18", weights=str(path))
    assert not (tmp_path / "trapped").exists()


@pytest.mark.fault("F05")
@pytest.mark.parametrize("name", ["cut.pth", "cut.safetensors"])
def test_a_damaged_or_missing_file_is_named(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(CheckpointError, match=f"there is no weights file .*{name}"):
        Smp(2, encoder="resnet18", weights=str(path))
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(CheckpointError, match=f"{name} is not a weights file, or is damaged"):
        Smp(2, encoder="resnet18", weights=str(path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "unetpluplus"}, "Wrong architecture type `unetpluplus`. Available options are: ['unet', "),
        ({"encoder": "resnet81"}, "Wrong encoder name `resnet81`, supported encoders: ["),
        ({"encoder": "tu-convnext_ato"}, "Unknown model (convnext_ato)"),
        ({"encoder": "tu-resnet18.a0_in1k", "weights": "imagenet"}, "encoder name: tu-resnet18.a1_in1k"),
        ({"encoder": "tu-resnet18", "weights": "ssl"}, "encoder name: tu-resnet18.a1_in1k"),
        (
            {"architecture": "dpt", "encoder": "tu-vit_small_patch14_dinov2"},
            "'dpt' cannot use the encoder 'tu-vit_small_patch14_dinov2': its patches of 14 do not divide 32",
        ),
        ({"architecture": "dpt"}, "'dpt' cannot be built on the encoder 'resnet34'"),
    ],
)
def test_unknown_names(options, message):
    with pytest.raises(ModelError) as caught:
        Smp(2, **options)
    assert message in str(caught.value)


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """No answer from the hub, and an empty cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the port of `discard`: refused
    monkeypatch.setattr("huggingface_hub.get_session", lambda: Refusing())
    return tmp_path / "hub"


class Refusing:
    def head(self, *_: object, **__: object) -> None:
        raise ConnectionError("no route to host")


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18.a1_in1k"])
def test_without_a_network_one_line_at_once(no_network, capfd, encoder, monkeypatch):
    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    with pytest.raises(ModelError) as caught:
        Smp(2, encoder=encoder, weights="imagenet")
    message = str(caught.value)
    assert not waits  # the library itself waits for most of a minute, between its attempts
    assert f"'imagenet' of the encoder '{encoder}' from http://127.0.0.1:9: no route to host" in message
    assert 'weights = "path/to/model.safetensors"' in message
    assert "\n" not in message
    assert capfd.readouterr().err == ""
    assert offline == constants.HF_HUB_OFFLINE


def test_without_a_network_the_cache_still_serves(no_network, donor):
    from segmentation_models_pytorch.encoders import encoders

    settings = encoders["resnet18"]["pretrained_settings"]["imagenet"]
    folder = no_network / "models--smp-hub--resnet18.imagenet" / "snapshots" / settings["revision"]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    save_file(encoder_state(donor), folder / "model.safetensors")
    assert_same_encoder(Smp(2, encoder="resnet18", weights="imagenet"), donor)


def test_importing_the_module_does_not_import_the_library():
    code = (
        "import sys, segkit.model.smp; print([m for m in ('segmentation_models_pytorch', 'timm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_learns(donor):
    model = Smp(2, encoder="resnet18")
    model(torch.rand(2, 3, 33, 33)).square().mean().backward()
    assert all(p.grad is not None for p in model.parameters() if isinstance(p, nn.Parameter))


@pytest.mark.parametrize("weights", [None, "imagenet"])
@pytest.mark.parametrize(
    "encoder",
    [
        *("hf-hub:evil/x", "tu-hf-hub:evil/x", "tu-hf_hub:evil/x", "tu-hf-hub:timm/resnet18.a1_in1k"),
        *("tu-local-dir:/tmp", "tu-resnet18.hf-hub:evil/x", "tu-http://x/resnet18", "tu-x/resnet18", "tu-../resnet18"),
        *("timm-regnet/../hf-hub:evil/x", "tu-resnet18\x1b[2J", ""),
    ],
)
def test_an_encoders_name_leads_to_no_place_of_somebody_elses(monkeypatch, encoder, weights):
    def connect(*_):
        pytest.fail("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(ModelError, match=r"smp: .* is not an encoder name") as caught:
        Smp(2, encoder=encoder, weights=weights)
    assert str(caught.value).isprintable()


def pickled(tmp_path, operations):
    """A file as torch writes them, with a pickle written by hand."""
    torch.save({}, tmp_path / "good.pth")
    with zipfile.ZipFile(tmp_path / "good.pth") as good, zipfile.ZipFile(tmp_path / "odd.pth", "w") as odd:
        for entry in good.infolist():
            content = b"\x80\x02" + operations + b"." if entry.filename.endswith("data.pkl") else good.read(entry)
            odd.writestr(entry.filename, content)
    return tmp_path / "odd.pth"


@pytest.mark.fault("F05", "F06")
@pytest.mark.parametrize(
    "operations", [b"h\x05", b"ctorch._utils\n_rebuild_tensor_v2\n)R", b"}]K\x01s", b"0", b"cos\nsystem\n(S'x'\ntR"]
)
def test_whatever_a_pickle_does_it_is_told_in_a_line(tmp_path, operations):
    with pytest.raises(CheckpointError, match=r"odd\.pth (holds|is no)") as caught:
        Smp(2, encoder="resnet18", weights=str(pickled(tmp_path, operations)))
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Validating sparse tensor:UserWarning")
@pytest.mark.parametrize("odd", [lambda tensor: tensor.to_sparse(), lambda tensor: tensor.to("meta"), lambda tensor: 5])
def test_weights_that_are_not_there_leave_no_random_ones_in_their_place(tmp_path, odd):
    state = Smp(2, encoder="resnet18").network.encoder.state_dict()
    state["conv1.weight"] = odd(state["conv1.weight"])
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(ModelError, match=r"1 missing: conv1\.weight"):
        Smp(2, encoder="resnet18", weights=str(tmp_path / "odd.pth"))


@pytest.mark.parametrize("attention", [None, "scse"])
@pytest.mark.parametrize("size", [64, 96])
def test_the_faster_upsampling_is_that_of_smp(attention: str | None, size: int) -> None:
    import segmentation_models_pytorch as library
    from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoderBlock

    torch.manual_seed(0)
    ours = Smp(4, encoder="resnet18").eval()
    plain = library.create_model("unet", encoder_name="resnet18", encoder_weights=None, in_channels=3, classes=4).eval()
    plain.load_state_dict(ours.network.state_dict())
    assert any("forward" in vars(block) for block in ours.modules() if isinstance(block, UnetDecoderBlock))
    images = torch.randn(2, 3, size, size)
    torch.testing.assert_close(ours(images), plain(images))
    another = copy.deepcopy(ours)  # as a moving average is: its blocks are its own
    assert all(block.forward.args == (block,) for block in another.modules() if isinstance(block, UnetDecoderBlock))
    block = UnetDecoderBlock(16, 16, 16, attention_type=attention).eval()
    below, skip = torch.randn(2, 16, 5, 7), torch.randn(2, 16, 10, 14)
    torch.testing.assert_close(_decode(block, below, 10, 14, skip), block(below, 10, 14, skip))
    odd = torch.randn(2, 16, 9, 13)
    torch.testing.assert_close(_decode(block, below, 9, 13, odd), block(below, 9, 13, odd))


def test_a_network_in_half_precision_upsamples_in_it() -> None:
    model = Smp(4, encoder="resnet18").train()
    seen = []
    block = model.network.decoder.blocks[0]
    block.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model(torch.randn(2, 3, 64, 64))
    assert seen == [torch.bfloat16]
