"""What `l2gnet codes` writes, read as a stranger would: by nibabel, SimpleITK, NumPy and csv."""

import csv
import functools

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch

from l2gnet.data.grid import Grid
from l2gnet.data.phantoms import make_heart
from l2gnet.data.resampling import image_on_grid
from l2gnet.data.volume import read_frames
from l2gnet.inspection.image_transport import ImageTransport
from l2gnet.inspection.scan_codes import codes_of_scan, write_codes
from l2gnet.models import build_model
from l2gnet.models.card import ModelCard
from l2gnet.prediction.inference import codes_of_slices, network_input

CLASSES = ("background", "right ventricle", "myocardium", "left ventricle")
SMALL = {"classes": 4, "width": 4, "depth": 2, "codes": 12, "code_dim": 8}
PLANS = {"references": 5, "heads": 2}
MODELS = {
    "symmetric": ("l2gnet", {**PLANS, "relation": "symmetric"}),
    "send-receive": ("l2gnet", {**PLANS, "receivers": "codes", "positions": "relative"}),
    "tokens receive": ("l2gnet", PLANS),
    "attention": ("l2gnet", {"relation": "attention"}),
    "vq_unet": ("vq_unet", {}),
    "synergynet": ("synergynet", {}),
}


@functools.cache
def model(kind):
    torch.manual_seed(0)
    name, options = MODELS[kind]
    built = build_model(name, **SMALL, **options).train()
    images = torch.from_numpy(make_heart(1, shape=(4, 48, 48), spacing_mm=(16.0, 3.0, 3.0)).image)[:, None] / 1000
    tokens = []
    with torch.no_grad():
        for _ in range(5):
            built(images)
        hook = built.codebook.register_forward_pre_hook(lambda _, inputs: tokens.append(inputs[0].flatten(0, 1)))
        built.eval()(images)
        hook.remove()
        built.codebook.vectors.copy_(tokens[0][torch.randperm(len(tokens[0]))[:12]])  # or one code would do for all
    return built


def card(kind, *, plane="acquired", grid=Grid(3.0, 48)):  # noqa: B008
    return ModelCard(MODELS[kind][0], SMALL, CLASSES, grid, plane=plane)


@pytest.fixture
def scan(tmp_path):
    """Sagittal slices of a heart, stored in an order of its own, tilted in the scanner."""
    array = make_heart(1, shape=(5, 60, 70), spacing_mm=(16.0, 3.0, 3.0)).image.astype(np.int16)
    affine = np.eye(4)
    affine[:3, :3] = nib.eulerangles.euler2mat(x=0.3, y=-0.2, z=0.25) @ np.diag([-8.0, 1.6, -1.4])
    affine[:3, 3] = 10, -20, 30
    nib.Nifti1Image(array, affine).to_filename(tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def written(path, kind, out, **options):
    (frame,) = read_frames(path)
    seen = codes_of_scan(model(kind), card(kind, **options), frame, batch_size=2)
    write_codes(out, "scan", [seen])
    return np.load(out / "scan_codes.npz")


@pytest.mark.parametrize("plane", ["acquired", "coronal"])
@pytest.mark.parametrize("grid", [Grid(3.0, 48), Grid(1.0, 30), Grid(0.0, 50)], ids=["wide", "narrow", "fitted"])
def test_codes_lie_in_the_world_where_both_files_say(scan, tmp_path, plane, grid):
    numbers = written(scan, "vq_unet", tmp_path / "out", plane=plane, grid=grid)
    image = nib.load(tmp_path / "out/scan_codes.nii.gz")
    assert image.affine.tobytes() == nib.load(scan).affine.tobytes()
    voxels = np.asarray(image.dataobj)
    world = nib.affines.apply_affine(image.affine, np.argwhere(np.ones(voxels.shape)))
    cells = nib.affines.apply_affine(np.linalg.inv(numbers["affine"]), world)
    nearest, values, shape = np.rint(cells).astype(int), voxels.ravel(), np.array(numbers["codes"].shape)
    sure = (np.abs(cells - nearest) < 0.3).all(1)  # a cell ends between two pixels of the model, not between voxels
    inside = ((nearest >= 0) & (nearest < shape)).all(1)
    assert np.array_equal(values[sure & inside], numbers["codes"][tuple(nearest[sure & inside].T)])
    assert (values[sure & ~inside] == -1).all()
    assert (~inside).any() == (grid.size_px == 30)
    assert len(np.unique(values)) > 3  # or the codes would prove nothing
    by_itk = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "out/scan_codes.nii.gz")))
    assert np.array_equal(by_itk.T, voxels)


@pytest.mark.parametrize("kind", MODELS)
def test_codes_and_histogram_are_those_of_the_model(scan, tmp_path, kind):
    numbers = written(scan, kind, tmp_path / "out")
    (frame,) = read_frames(scan)
    expected = codes_of_slices(model(kind), image_on_grid(frame, Grid(3.0, 48))).numpy()
    assert np.array_equal(numbers["codes"], expected)
    assert numbers["histogram"].shape == (5, 12)
    with (tmp_path / "out/scan_histogram.csv").open() as file:
        rows = list(csv.DictReader(file))
    table = np.zeros((5, 12), int)
    for row in rows:
        table[int(row["slice"]), int(row["code"])] = int(row["cells"])
        assert float(row["share"]) == pytest.approx(int(row["cells"]) / expected[0].size)
    assert {(row["scan"], row["frame"]) for row in rows} == {("scan", "1")}
    for index, codes in enumerate(expected):
        for code in range(12):
            assert table[index, code] == numbers["histogram"][index, code] == (codes == code).sum()


@pytest.mark.parametrize("kind", MODELS)
def test_plans_are_there_where_a_model_has_them(scan, tmp_path, kind):
    numbers = written(scan, kind, tmp_path / "out")
    both = ["sending", "receiving"]
    plans = {"symmetric": ["sending"], "send-receive": both, "tokens receive": both}.get(kind, [])
    assert {"sending", "receiving"} & set(numbers.files) == set(plans)
    ends = {"sending": "sent_to", "receiving": "received_from"}
    files = {f"scan_{end}" for end in ("codes.nii.gz", "codes.npz", "histogram.csv", *["plan.csv"] * bool(plans))}
    assert {file.name for file in (tmp_path / "out").iterdir()} == files | {f"scan_{ends[p]}.nii.gz" for p in plans}
    for plan in plans:
        mass, codes = numbers[plan], numbers["row_codes"]
        assert mass.shape == (5, 2, codes.shape[1], 5)
        shares = numbers["histogram"] / numbers["codes"][0].size
        by_code = np.zeros((5, 2, 13))
        for index, row in np.ndindex(codes.shape):
            by_code[index, :, codes[index, row]] += mass[index, :, row].sum(-1)  # -1 ends up beyond the last code
        np.testing.assert_allclose(by_code[..., :12], np.repeat(shares[:, None], 2, axis=1), atol=1e-5)
        np.testing.assert_allclose(mass.sum(2), 1 / 5, atol=1e-4)
        likeliest = nib.load(tmp_path / f"out/scan_{ends[plan]}.nii.gz")
        assert likeliest.shape == (*nib.load(scan).shape, 2)
        assert set(np.unique(likeliest.dataobj)) <= {-1, *range(5)}
        of_code = np.asarray(nib.load(tmp_path / "out/scan_codes.nii.gz").dataobj)
        assert np.array_equal(np.asarray(likeliest.dataobj)[..., 0] == -1, of_code == -1)
        with (tmp_path / "out/scan_plan.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["plan"] == plan]
        assert len(rows) == 2 * (numbers["histogram"].sum(0) > 0).sum()
        for row in rows:
            found = sum(mass[s, int(row["head"]), u, 3] for s, u in np.argwhere(codes == int(row["code"])))
            assert float(row["reference_3"]) == pytest.approx(found / 5, abs=1e-6)


def test_tokens_that_receive_are_summed_over_their_code_and_placed_by_themselves(scan, tmp_path):
    numbers = written(scan, "tokens receive", tmp_path / "out")
    (frame,) = read_frames(scan)
    image = network_input(image_on_grid(frame.in_plane("acquired"), Grid(3.0, 48))[2:3])
    latent = model("tokens receive").trace(image).latent
    by_token, codes = latent.receiving.plan.detach().numpy(), latent.codes.flatten().numpy()
    for row, code in enumerate(numbers["row_codes"][2].tolist()):
        summed = by_token[:, codes == code].sum(1)
        np.testing.assert_allclose(numbers["receiving"][2, :, row], summed, atol=1e-5)
    likeliest = codes_of_scan(model("tokens receive"), card("tokens receive"), frame).receiving.likeliest[2]
    assert np.array_equal(likeliest.reshape(len(likeliest), -1), by_token.argmax(-1))


@pytest.mark.parametrize("kind", ["symmetric", "send-receive"])
def test_the_plans_of_a_slice_are_those_that_the_solver_finds_alone(scan, tmp_path, kind):
    numbers = written(scan, kind, tmp_path / "out")
    (frame,) = read_frames(scan)
    image = network_input(image_on_grid(frame.in_plane(card(kind).plane), Grid(3.0, 48))[2:3])
    trace = model(kind).trace(image).latent
    assert np.array_equal(trace.codes[0].numpy(), numbers["codes"][2])
    for name, plan in {"sending": trace.transport, "receiving": trace.receiving}.items():
        if name in numbers.files:
            there = numbers["row_codes"][2] >= 0
            np.testing.assert_allclose(numbers[name][2][:, there], plan.plan.detach().numpy(), atol=1e-5)
    if kind == "symmetric":
        one = ImageTransport.of_model(model(kind), image)
        assert one.names.tolist() == numbers["row_codes"][2][numbers["row_codes"][2] >= 0].tolist()
        np.testing.assert_allclose(
            numbers["sending"][2, 0][: len(one.names)], one.solve(0.02, tolerance=1e-6).plan[0], atol=1e-4
        )


def test_each_voxel_is_sent_where_its_code_is_sent_most(scan, tmp_path):
    numbers = written(scan, "send-receive", tmp_path / "out", plane="sagittal")
    code = np.asarray(nib.load(tmp_path / "out/scan_codes.nii.gz").dataobj)
    for plan, end in {"sending": "sent_to", "receiving": "received_from"}.items():
        likeliest = np.asarray(nib.load(tmp_path / f"out/scan_{end}.nii.gz").dataobj)
        for index in range(5):  # stored along the first axis, in the order of world or against it
            flipped = np.sign(numbers["affine"][:3, 0] @ nib.load(scan).affine[:3, 0]) < 0
            of_slice = code[4 - index if flipped else index]
            row_of = {c: r for r, c in enumerate(numbers["row_codes"][index]) if c >= 0}
            for head in (0, 1):
                found = likeliest[4 - index if flipped else index, ..., head]
                for c in np.unique(of_slice[of_slice >= 0]):
                    assert (found[of_slice == c] == numbers[plan][index, head, row_of[c]].argmax()).all()


def test_frames_of_a_cine_have_files_of_their_own(scan, tmp_path):
    (frame,) = read_frames(scan)
    seen = codes_of_scan(model("vq_unet"), card("vq_unet"), frame)
    write_codes(tmp_path / "out", "cine", [seen, seen])
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        f"cine_{what}_frame{number:02d}.{suffix}"
        for what, suffix, number in [
            ("codes", "nii.gz", 1),
            ("codes", "npz", 1),
            ("codes", "nii.gz", 2),
            ("codes", "npz", 2),
            ("histogram", "csv", 1),
            ("histogram", "csv", 2),
        ]
    ]
    with (tmp_path / "out/cine_histogram_frame02.csv").open() as file:
        assert {row["frame"] for row in csv.DictReader(file)} == {"2"}


def test_a_model_without_codes_is_refused(scan):
    (frame,) = read_frames(scan)
    with pytest.raises(ValueError, match="must have a codebook for codes, got unet without"):
        codes_of_scan(
            build_model("unet", classes=4, width=4, depth=2), ModelCard("unet", {}, CLASSES, Grid(3, 48)), frame
        )
