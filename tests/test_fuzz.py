"""Files of strangers: whatever is in them, a reader ends in one of our errors, soon, and with little memory.

The inputs are the same in every run. `make fuzz` tries many more, from a seed of its own; a failure says which input
it was, and `mutant(target, seed, number)` makes that one again.
"""

import gzip
import io
import json
import os
import pickle
import resource
import signal
import zipfile
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import folders
import h5py
import nbformat
import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from highdicom.frame import encode_frame
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutation import mutated
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, HTJ2KLossless, JPEG2000Lossless, JPEGLSLossless, RLELossless
from safetensors.torch import save

from l2gnet.data.folders import acdc, decathlon
from l2gnet.data.formats.arrays import read_h5, read_npz
from l2gnet.data.grid import Grid
from l2gnet.data.inputs import find_inputs
from l2gnet.data.slices import _read
from l2gnet.data.volume import read_frames, read_labels, read_volume
from l2gnet.errors import CheckpointError, ConfigError, VolumeError
from l2gnet.jobs.plan import plan_job
from l2gnet.jobs.sweep_file import read_sweep
from l2gnet.models import build_model
from l2gnet.models.card import ModelCard
from l2gnet.models.checkpoint import load_checkpoint
from l2gnet.training.resume import require_resumable

TIMES = int(os.environ.get("L2GNET_FUZZ", "1"))
SEED = int(os.environ.get("L2GNET_FUZZ_SEED", "0"))
MEMORY = 512 * 2**20  # bytes that a reader may ask for, above what the process has
CPU_S = 10.0  # of one input; most take a thousandth

SETTINGS = {"classes": 3, "width": 1, "depth": 1, "codes": 4, "code_dim": 4, "references": 2}
CARD = ModelCard("l2gnet", SETTINGS, ("background", "a", "b"), Grid(1.5, 32, (-125.0, 275.0)))
MODEL = build_model("l2gnet", **SETTINGS)
WEIGHTS = {name: tensor.contiguous() for name, tensor in MODEL.state_dict().items()}
SCAN = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
PIXELS = SCAN.astype(np.uint8)
SLICE = np.arange(32 * 40, dtype=np.uint16).reshape(32, 40)
AFFINE = np.diag([-0.8, -0.9, 5.0, 1.0])
PARAMETERS = 'count: int = 3  # a\nshare: float = 0.5  # b\nname: str = "a"  # c\nsizes: list = [1]  # d'
WORDS = (b"..", b"../../../../etc/passwd", b"/", b"\0", b"null", b"-1", b"1e999", b".nan", b"9" * 5000, b"[" * 5000)
YAML = (b"&a", b"*a", b"<<: *a", b"!!python/object/apply:os.mkdir [owned]", b"!!binary x", b"2001-01-01", b"? ", b"{")
CODECS = {  # few of JPEG-LS, whose decoder takes seconds over a stream that was cut
    "rle": (RLELossless, 100),
    "jpeg-2000": (JPEG2000Lossless, 100),
    "jpeg-ls": (JPEGLSLossless, 20),
}
SEQUENCE = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"  # and an item, of undefined length
DICOM = (b"\xff\xff\xff\xff", b"\xff\xff", SEQUENCE * 2000, b"nan ", b"-inf", b"1e99", b"\\")
NAMES = (b'"labels"', b'"training"', b'"dataset"', b'"channel_names"', b'"file_ending"', b"{}", b"[]", b'"\\ud800"')


@dataclass(frozen=True)
class Target:
    """A reader, a valid file for it, and the errors that it may end in."""

    file: str
    seed: bytes
    read: Callable[[Path], object]
    error: type[Exception] | tuple[type[Exception], ...]
    inputs: int
    words: tuple[bytes, ...] = ()
    wrap: Callable[[bytes], bytes] = bytes  # from what is mutated to the file


def nifti(array, kind=nib.Nifti1Image):
    return kind(array, np.diag([-0.8, -0.9, 5.0, 1.0])).to_bytes()


def saved(write) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def dicom(image) -> bytes:
    return saved(lambda stream: image.save_as(stream, enforce_file_format=True))


def dicom_slice(**changes):
    """The second of the three images of a series."""
    return folders.dicom_slices([SCAN.T], AFFINE, **changes)[1]


def compressed(syntax) -> bytes:
    if syntax == JPEG2000Lossless:  # which highdicom would not write by Pillow
        return saved(lambda stream: Image.fromarray(SLICE).save(stream, "JPEG2000", no_jp2=True))
    return bytes(encode_frame(SLICE, syntax, 16, 16, "MONOCHROME2"))


def encapsulated(syntax) -> Callable[[bytes], bytes]:
    def wrap(data):
        image = dicom_slice(PixelRepresentation=0, PixelData=encapsulate([data]))
        image.Rows, image.Columns = SLICE.shape
        image.file_meta.TransferSyntaxUID = syntax
        image["PixelData"].VR = "OB"
        return dicom(image)

    return wrap


def h5(**options) -> bytes:
    def write(stream):
        with h5py.File(stream, "w") as file:
            file.create_dataset("image", data=SCAN.astype(np.float32), **options)

    return saved(write)


def archive(name: str) -> Callable[[bytes], bytes]:
    def wrap(data):
        def write(stream):
            with zipfile.ZipFile(stream, "w") as file:
                file.writestr(name, data)

        return saved(write)

    return wrap


def with_card(data: bytes) -> bytes:
    card = data.decode("utf-8", "replace")
    return save(WEIGHTS, {"format": "l2gnet-2", "card": card})


def resumable() -> bytes:
    weights = {f"model.{name}": tensor for name, tensor in WEIGHTS.items()}
    return saved(lambda stream: torch.save({"state_dict": weights, "epoch": 1}, stream))


def with_pickle(data: bytes) -> bytes:
    """The checkpoint to resume from, with another pickle in it."""

    def write(stream):
        with zipfile.ZipFile(io.BytesIO(resumable())) as old, zipfile.ZipFile(stream, "w") as new:
            for entry in old.infolist():
                new.writestr(entry, data if entry.filename.endswith("data.pkl") else old.read(entry))

    return saved(write)


def pickle_of_checkpoint() -> bytes:
    with zipfile.ZipFile(io.BytesIO(resumable())) as file:
        return file.read(next(name for name in file.namelist() if name.endswith("data.pkl")))


def read_both(path: Path) -> None:
    for read in (read_labels, read_volume, read_frames):
        read(path)


def read_dicom(path: Path) -> None:
    for scan in find_inputs([path.parent]):
        for frame in scan.read():
            assert np.isfinite(frame.array).all()
            assert np.isfinite(frame.affine).all()
            assert min(frame.spacing_mm) > 0


def read_acdc(path: Path) -> None:
    folder = acdc.find_scans(path.parent.parent)
    for problem in folder.problems:
        raise problem
    assert [scan.image.name for scan in folder.scans] == ["patient001_frame01.nii.gz", "patient001_frame12.nii.gz"]


def read_decathlon(path: Path) -> None:
    folder = decathlon.find_scans(path.parent)
    for scan in folder.scans:
        assert all(file.resolve().is_relative_to(path.parent.resolve()) for file in scan.files)


def read_task(path: Path) -> None:
    plan_job(path.parent / "work.ipynb", profile=path, parameters={})


def read_grid(path: Path) -> None:
    read_sweep(path, parameters={})


def read_cache(path: Path) -> None:
    slices = _read(path)
    assert slices is None or slices.images.ndim == 4


TARGETS = {
    "nifti": Target("a.nii", nifti(SCAN), read_both, VolumeError, 2000),
    "nifti-2": Target("a.nii", nifti(SCAN, nib.Nifti2Image), read_both, VolumeError, 500),
    "nifti-4d": Target("a.nii", nifti(SCAN[..., None].repeat(2, 3)), read_both, VolumeError, 500),
    "gz": Target("a.nii.gz", nifti(SCAN), read_both, VolumeError, 800, wrap=lambda data: gzip.compress(data, 1)),
    "gz-bytes": Target("a.nii.gz", gzip.compress(nifti(SCAN), mtime=0), read_both, VolumeError, 800),
    "npz": Target(
        "a.npz", saved(lambda s: np.savez(s, image=SCAN[0])), lambda path: read_npz(path, "image", 2), VolumeError, 800
    ),
    "npy": Target(
        "a.npz",
        saved(lambda s: np.save(s, SCAN[0])),
        lambda path: read_npz(path, "image", 2),
        VolumeError,
        800,
        (b"'|O'", b"'<f4'", b"(3, 99999)", b"(" * 300, b"True"),
        archive("image.npy"),
    ),
    "h5": Target("a.h5", h5(), lambda path: read_h5(path, "image", 3), VolumeError, 800),
    "h5-chunks": Target(
        "a.h5", h5(chunks=(1, 2, 5), compression="gzip"), lambda path: read_h5(path, "image", 3), VolumeError, 400
    ),
    "dicom": Target("series/IM0002", dicom(dicom_slice()), read_dicom, VolumeError, 400, DICOM),
    "dicom-enhanced": Target(
        "enhanced/a.dcm", dicom(folders.enhanced([SCAN.T, SCAN.T + 1], AFFINE)), read_dicom, VolumeError, 400, DICOM
    ),
    **{
        f"dicom-{name}": Target(
            "slice/a", compressed(syntax), read_dicom, VolumeError, inputs, wrap=encapsulated(syntax)
        )
        for name, (syntax, inputs) in CODECS.items()
    },
    "Info.cfg": Target(
        "acdc/patient001/Info.cfg", b"ED: 1\nES: 12\nGroup: DCM\nHeight: 184.0\n", read_acdc, VolumeError, 500, WORDS
    ),
    "dataset.json": Target(
        "task/dataset.json",
        json.dumps(
            {
                "labels": {"0": "background", "1": "liver"},
                "modality": {"0": "CT"},
                "training": [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}],
                "name": "Liver",
            }
        ).encode(),
        read_decathlon,
        (VolumeError, ConfigError),
        1000,
        WORDS + NAMES,
    ),
    "profile": Target(
        "profile.yaml", b"count: 7\nshare: 0.25\nname: b\nsizes: [1, 2]\n", read_task, ConfigError, 400, WORDS + YAML
    ),
    "sweep": Target(
        "sweep.yaml",
        b"notebook: work.ipynb\nparameters: {share: 0.1}\ngrid: {count: [1, 2], name: {x: {name: b}}}\n"
        b"retries: 1\nworkers: {kind: local, count: 2}\n",
        read_grid,
        ConfigError,
        300,
        WORDS + YAML,
    ),
    "safetensors": Target(
        "model.safetensors", with_card(json.dumps(asdict(CARD)).encode()), load_checkpoint, CheckpointError, 400
    ),
    "card": Target(
        "model.safetensors", json.dumps(asdict(CARD)).encode(), load_checkpoint, CheckpointError, 300, WORDS, with_card
    ),
    "last.ckpt": Target(
        "last.ckpt",
        resumable(),
        lambda path: require_resumable(path, torch.nn.ModuleDict({"model": MODEL})),
        CheckpointError,
        300,
    ),
    "last.ckpt-pickle": Target(
        "last.ckpt",
        pickle_of_checkpoint(),
        lambda path: require_resumable(path, torch.nn.ModuleDict({"model": MODEL})),
        CheckpointError,
        300,
        (b"cos\nsystem\n", b"c__builtin__\nbytearray\n", b"R.", pickle.dumps(2**60)),
        with_pickle,
    ),
    "cache": Target(
        "slices.npz",
        saved(lambda s: np.savez(s, differences=PIXELS[:, None], labels=PIXELS, case=np.arange(3), names=list("abc"))),
        read_cache,
        (),
        300,
    ),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A place with the files that the mutated ones refer to; a hostile one would make the folder `owned` in it."""
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / "task" / name).mkdir(parents=True)
        (tmp_path / "task" / name / "a.nii.gz").touch()
    (tmp_path / "acdc" / "patient001").mkdir(parents=True)
    for frame in (1, 12):
        (tmp_path / "acdc" / "patient001" / f"patient001_frame{frame:02d}.nii.gz").touch()
    folders.write_dicom(tmp_path / "series", [SCAN.T], AFFINE)
    for name in ("enhanced", "slice"):
        (tmp_path / name).mkdir()
    cells = [nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "work.ipynb")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def bounded():
    """Refuse memory above MEMORY, and end what takes more than CPU_S."""

    def too_long(*_):
        raise TimeoutError(f"more than {CPU_S} s of CPU")

    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    handler = signal.signal(signal.SIGPROF, too_long)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)


def mutant(target: str, seed: int, number: int) -> bytes:
    """The file number `number` of a target."""
    chosen = TARGETS[target]
    return chosen.wrap(mutated(Random(f"{target} {seed} {number}"), chosen.seed, chosen.words))


def test_there_are_ten_thousand():
    assert sum(target.inputs for target in TARGETS.values()) >= 10_000


@pytest.mark.parametrize("name", TARGETS)
def test_the_file_that_is_changed_is_a_good_one(name, folder):
    target = TARGETS[name]
    (folder / target.file).write_bytes(target.wrap(target.seed))
    if name == "nifti-4d":
        read_frames(folder / target.file)
    else:
        target.read(folder / target.file)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize("name", TARGETS)
def test_whatever_is_in_a_file_ends_in_one_of_our_errors(name, folder):
    target = TARGETS[name]
    path = folder / target.file
    refused = longest = 0
    with bounded():
        for number in range(TIMES * target.inputs):
            path.write_bytes(mutant(name, SEED, number))
            signal.setitimer(signal.ITIMER_PROF, CPU_S)
            try:
                target.read(path)
            except target.error as error:
                refused += 1
                longest = max(longest, len(str(error)))
            except BaseException as error:
                error.add_note(f"this was mutant({name!r}, {SEED}, {number})")
                raise
    assert refused > 0.1 * TIMES * target.inputs or not target.error
    assert longest < 2000  # a message is read by a person
    assert not (folder / "owned").exists()


NUMBER = st.sampled_from([-32768, -1, 0, 1, 2, 3, 4, 7, 128, 255, 256, 1000, 32767]) | st.integers(-32768, 32767)
REAL = st.floats(width=32)
FIELDS = {
    "dim": st.lists(NUMBER, min_size=8, max_size=8),
    "datatype": st.sampled_from([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 2304]) | NUMBER,
    "pixdim": st.lists(REAL, min_size=8, max_size=8),
    "xyzt_units": st.integers(0, 255),
    "qform_code": NUMBER,
    "sform_code": NUMBER,
    **dict.fromkeys(("vox_offset", "scl_slope", "scl_inter", "quatern_b", "quatern_c", "quatern_d", "qoffset_x"), REAL),
    **dict.fromkeys(("srow_x", "srow_y", "srow_z"), st.lists(REAL, min_size=4, max_size=4)),
}


@pytest.mark.usefixtures("as_a_user")
@given(st.fixed_dictionaries({}, optional=FIELDS))
@settings(max_examples=TIMES * 400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_values_of_the_header_end_in_a_volume_or_an_error(tmp_path, fields):
    header = nib.Nifti1Image(SCAN, np.diag([-0.8, -0.9, 5.0, 1.0])).header
    header["magic"], header["vox_offset"] = b"n+1", 352
    for name, value in fields.items():
        header[name] = value
    (tmp_path / "a.nii").write_bytes(header.binaryblock + bytes(4) + SCAN.tobytes(order="F"))
    with bounded():
        try:
            volume = read_volume(tmp_path / "a.nii")
        except VolumeError:
            return
    assert np.isfinite(volume.array).all()
    assert np.isfinite(volume.affine).all()
    assert min(volume.spacing_mm) > 0


PLAIN = st.none() | st.booleans() | st.integers(-3, 9) | st.text(max_size=5) | st.sampled_from(["0", "CT", "a", "../a"])
DOCUMENT = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))


@pytest.mark.usefixtures("as_a_user")
@given(
    st.fixed_dictionaries(
        {"labels": st.just({"background": 0, "liver": 1}) | DOCUMENT, "channel_names": st.just({"0": "CT"}) | DOCUMENT},
        optional=dict.fromkeys(("training", "dataset", "file_ending", "name", "reference"), DOCUMENT),
    )
    | DOCUMENT
)
@settings(max_examples=TIMES * 300, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_dataset_json_ends_in_scans_or_an_error(folder, document):
    path = folder / "task" / "dataset.json"
    path.write_text(json.dumps(document))
    with bounded(), suppress(VolumeError, ConfigError):
        read_decathlon(path)


AXIS = st.sampled_from([[1, 2], ["a"], {"x": {"count": 1}}]) | DOCUMENT
SWEEP = {"notebook": st.just("work.ipynb") | PLAIN, "grid": st.dictionaries(st.sampled_from(["count", "name"]), AXIS)}


@pytest.mark.usefixtures("as_a_user")
@given(st.fixed_dictionaries(SWEEP, optional=dict.fromkeys(("profile", "parameters", "retries", "workers"), DOCUMENT)))
@settings(max_examples=TIMES * 100, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_sweep_ends_in_runs_or_an_error(folder, document):
    (folder / "sweep.yaml").write_text(yaml.safe_dump(document))
    with bounded(), suppress(ConfigError):
        read_sweep(folder / "sweep.yaml", parameters={})


def enhanced(old=b"", new=b"", **values) -> bytes:
    """An enhanced file that says something monstrous of itself."""
    image = folders.enhanced([SCAN.T], AFFINE)
    for name, value in values.items():
        setattr(image, name, value)
    data = dicom(image)
    assert old in data
    return data.replace(old, new)


def rescaled(slope: str) -> bytes:
    image = folders.enhanced([SCAN.T], AFFINE)
    image.PerFrameFunctionalGroupsSequence[1].PixelValueTransformationSequence[0].RescaleSlope = slope
    return dicom(image)


def large(jpeg_ls: bytes) -> bytes:
    """The codestream, said to have the most rows and columns."""
    return jpeg_ls.replace(b"\xff\xf7\0\x0b\x10\0\x20\0\x28", b"\xff\xf7\0\x0b\x10\xff\xff\xff\xff")


def deflated(size: int) -> bytes:
    """An image of zeros in a file a thousandth as large."""
    image = dicom_slice(Rows=size, Columns=size, PixelData=bytes(2 * size * size))
    image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return dicom(image)


JPEG_LS = compressed(JPEGLSLossless)
FIRST = b"\x08\x00\x08\x00CS"  # the element that the data set begins with
ROOM = "bytes, and at most 2147483648 can be read"
HOSTILE = {
    "two billion frames": (lambda: enhanced(NumberOfFrames=2**31 - 1), ROOM),
    "large frames": (lambda: enhanced(Rows=65535, Columns=65535), ROOM),
    "a large slice": (lambda: dicom(dicom_slice(Rows=65535, Columns=65535)), ROOM),
    "a large codestream": (lambda: encapsulated(JPEGLSLossless)(large(JPEG_LS)), r"JPEG-LS of \(65535, 65535, 1\)"),
    "no codec": (lambda: encapsulated(HTJ2KLossless)(JPEG_LS), "plugins are missing"),
    "a codec of nobody": (lambda: encapsulated(HTJ2KLossless)(JPEG_LS).replace(b".4.201", b".4.999"), "found .*Error"),
    "endless sequences": (lambda: enhanced(FIRST, SEQUENCE * 5000 + FIRST), "recursion"),
    "a deflated data set": (lambda: deflated(5000), "found a deflated transfer syntax; convert it"),
    "a position nowhere": (
        lambda: enhanced(b"5.0000000000", b"nan         "),
        "ImagePositionPatient, 3 finite numbers",
    ),
    "an infinite position": (lambda: enhanced(b"5.0000000000", b"1e999       "), "3 finite numbers; found .* inf"),
    "a slope of nan": (lambda: rescaled("nan"), "every voxel must be finite"),
    "an infinite slope": (lambda: rescaled("-inf"), "every voxel must be finite"),
    "a slope to infinity": (lambda: rescaled("1e300"), "every voxel must be finite"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_dicom_file_is_refused_for_what_it_is(name, folder):
    make, message = HOSTILE[name]
    (folder / "enhanced" / "a.dcm").write_bytes(make())
    with bounded():
        signal.setitimer(signal.ITIMER_PROF, CPU_S)
        with pytest.raises(VolumeError, match=rf"enhanced.*{message}"):
            read_dicom(folder / "enhanced" / "a.dcm")
