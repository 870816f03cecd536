import gc
import io
import json
import weakref

import nibabel as nib
import numpy as np
import pytest
import torch
from l2gnet.widgets import SliceViewer, TransportExplorer

from l2gnet.data.volume import Volume
from l2gnet.inspection.image_transport import ImageTransport
from l2gnet.inspection.redundancy import relations
from l2gnet.models import build_model

ROWS = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]])
LABELS = np.repeat(np.repeat(np.array([[0, 0], [0, 2]], np.uint8), 4, 0), 4, 1)


def transport(seed=0):
    random = np.random.default_rng(seed)
    return ImageTransport(random.random((4, 3)), ROWS, names=np.array([7, 5, 3, 9]), tokens=random.normal(size=(4, 6)))


@pytest.fixture
def explorer(front_end):
    image = np.random.default_rng(0).normal(size=(8, 8))
    explorer = TransportExplorer(transport(), image, labels=LABELS, classes=("background", "a", "b"))
    yield explorer
    explorer.close()


def floats(data, *shape):
    return np.frombuffer(data, np.float32).reshape(shape)


def test_the_browser_gets_the_plan_of_the_library(explorer):
    solved = transport().solve(0.1)
    np.testing.assert_allclose(floats(explorer.solved["plan"], 4, 3), solved.plan[0], rtol=1e-6)
    assert explorer.solved["marginal_error"] == pytest.approx(float(solved.marginal_error[0]))
    assert explorer.solved["iterations"] == int(solved.iterations[0])
    assert explorer.solved["converged"]
    assert explorer.solved["curve"][-1] == [int(solved.iterations[0]), float(solved.marginal_error[0])]
    assert explorer.problem["labels"] == [0, 0, 0, 2]
    assert explorer.problem["names"] == [7, 5, 3, 9]


def test_epsilon_is_live_and_an_unsolved_plan_says_so(front_end, explorer):
    front_end.change(explorer, epsilon=0.5)
    np.testing.assert_allclose(explorer.plan, transport().solve(0.5).plan[0])
    front_end.change(explorer, epsilon=1e-6)
    assert not explorer.solved["converged"]
    assert explorer.solved["marginal_error"] > 1e-4
    assert explorer.solved["iterations"] == 1000
    front_end.change(explorer, epsilon=-1.0)
    assert explorer.error.startswith("ValueError: epsilon must be above 0 and finite, got -1.0")


def test_pixels_keep_their_shape_in_mm(front_end):
    volume = Volume(np.zeros((1, 8, 8), np.float32), np.diag([5.0, 1.0, 2.5, 1.0]))
    for options, aspect in (({}, 0.4), ({"spacing_mm": (3.0, 1.0)}, 3.0)):
        explorer = TransportExplorer(transport(), volume, **options)
        assert explorer.problem["aspect"] == pytest.approx(aspect)
        explorer.close()


@pytest.mark.parametrize(
    "change",
    [{"epsilon": np.nan}, {"epsilon": 0.0}, {"selection": {"voxel": [0, 99, 2]}}, {"selection": {"reference": 3}}],
)
def test_what_is_refused_leaves_what_was_before(front_end, explorer, change):
    (name, value), kept = next(iter(change.items())), explorer.get_state(["epsilon", "selection", "solved", "lit"])
    with pytest.raises(ValueError, match=r"must (be above 0|lie in)"):
        setattr(explorer, name, value)
    assert explorer.get_state(kept) == kept
    front_end.change(explorer, **change)
    assert explorer.error.startswith("ValueError: ")
    assert explorer.get_state(kept) == kept
    told = [data["state"] for _, _, data, _ in front_end.sent if data and name in data.get("state", {})]
    assert told[-1][name] == kept[name]  # else the browser would go on showing what it asked for


def test_tensors_and_files_are_images_too(front_end, explorer, tmp_path):
    image = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    for name, array in (("image", image), ("labels", LABELS)):
        nib.Nifti1Image(array.T[..., None], np.diag([-1.0, -1.0, 1.0, 1.0])).to_filename(tmp_path / f"{name}.nii.gz")
    tensors = TransportExplorer(transport(), torch.from_numpy(image), labels=torch.from_numpy(LABELS))
    files = TransportExplorer(transport(), tmp_path / "image.nii.gz", labels=tmp_path / "labels.nii.gz")
    for other in (tensors, files):
        assert other.problem["labels"] == explorer.problem["labels"]
        assert other.arrays == explorer.arrays
        np.testing.assert_array_equal(other._images, image[None])
        other.close()


def test_two_plans_are_shown_in_turn_each_at_its_epsilon(front_end):
    random = np.random.default_rng(0)
    t = ImageTransport(random.random((4, 3)), ROWS, receiving=ImageTransport(random.random((4, 3)), ROWS))
    explorer = TransportExplorer(t, epsilon=0.1, epsilon_receive=0.3)
    assert explorer.problem["two"]
    sent, taken = t.solve(0.1).plan[0].numpy(), t.receiving.solve(0.3).plan[0].numpy()
    np.testing.assert_allclose(explorer.plan, sent)
    front_end.change(explorer, selection={"voxel": [0, 0, 3]})
    relation = 16 * t.relation(sent, 1, taken)
    np.testing.assert_allclose(floats(explorer.lit["heat"], 4, 4), relation, rtol=1e-6)
    front_end.change(explorer, side="receives")
    assert explorer.epsilon == 0.3
    np.testing.assert_allclose(explorer.plan, taken)
    np.testing.assert_allclose(floats(explorer.lit["heat"], 4, 4), relation, rtol=1e-6)  # it takes both
    front_end.change(explorer, epsilon=0.5)
    front_end.change(explorer, selection={"reference": 1})
    assert explorer.lit["title"] == "reference 1 is heard by"
    coverage = 16 * t.receiving.coverage(t.receiving.solve(0.5).plan[0].numpy(), 1)
    np.testing.assert_allclose(floats(explorer.lit["heat"], 4, 4), coverage, rtol=1e-6)
    front_end.change(explorer, side="sends")
    assert explorer.epsilon == 0.1
    np.testing.assert_allclose(explorer.plan, sent)
    front_end.change(explorer, side="receives")
    assert explorer.epsilon == 0.5  # as it was left
    assert [axes.get_title() for axes in explorer.draw().axes][1] == "plan that receives, ε = 0.5"
    for side in ("receives", "sends"):  # whichever is shown
        front_end.change(explorer, side=side)
        npz, words = (io.BytesIO(explorer._contents()[0]), json.loads(explorer._contents()[1]))
        for name, told, problem, epsilon in (("", words, t, 0.1), ("receiving_", words["receiving"], t.receiving, 0.5)):
            plan = np.load(npz)[f"{name}plan"]
            np.testing.assert_array_equal(plan, problem.solve(epsilon, tolerance=1e-4, max_iterations=1000).plan[0])
            assert (told["epsilon"], told["converged"]) == (epsilon, True)
            assert told["cost"] == pytest.approx((plan * problem.cost).sum())
            assert told["marginal_error"] == problem.marginal_error(plan)
    explorer.close()


@pytest.fixture
def tokens(front_end):
    """An explorer of a model whose tokens receive, on its side of receiving, with what the model itself says."""
    torch.manual_seed(0)
    sizes = {"width": 4, "depth": 2, "codes": 6, "code_dim": 8, "references": 3, "heads": 1}
    model = build_model("l2gnet", **sizes, receivers="tokens", epsilon=0.1, epsilon_receive=0.2)
    image = np.random.default_rng(0).integers(0, 256, (1, 1, 16, 16)).astype(np.uint8)
    inputs = torch.from_numpy(image).float() / 255
    with torch.no_grad():
        for _ in range(50):  # codebook and batch norms learn what the image is like: else there is one code
            model(inputs)
        latent = model.eval().trace(inputs).latent
    explorer = TransportExplorer.of_model(model, image)
    front_end.change(explorer, side="receives")
    yield explorer, latent, relations(model, inputs)["plan"][0]
    explorer.close()


def test_where_tokens_receive_their_plan_is_shown_by_codes(front_end, tokens):
    explorer, latent, _ = tokens
    t, codes, heard = explorer.transport, latent.codes.flatten().numpy(), latent.receiving.plan[0].numpy()
    assert explorer.epsilon == 0.2
    assert explorer.problem["names"] == np.unique(codes).tolist()
    by_code = np.stack([heard[codes == code].sum(0) for code in t.names])
    np.testing.assert_allclose(explorer.plan, by_code, atol=2e-5)
    np.testing.assert_array_equal(floats(explorer.solved["plan"], *explorer.plan.shape), explorer.plan.astype("f4"))
    assert sorted(explorer.solved["rows"]) == list(range(len(t.names)))
    solved = t.receiving.solve(0.2)
    assert explorer.solved["cost"] == pytest.approx(float(solved.cost[0]))
    assert explorer.solved["marginal_error"] == pytest.approx(float(solved.marginal_error[0]))
    assert explorer.solved["iterations"] == int(solved.iterations[0])
    assert explorer.solved["curve"][-1] == [int(solved.iterations[0]), float(solved.marginal_error[0])]
    front_end.change(explorer, exact=True)
    assert explorer.solved["cost"] == pytest.approx((t.receiving.exact * t.receiving.cost).sum())
    np.testing.assert_allclose(explorer.plan, t.by_code(t.receiving.exact))


def test_where_tokens_receive_a_pixel_hears_by_its_own_row(front_end, tokens):
    explorer, latent, relation = tokens
    codes, heard = latent.codes.flatten().numpy(), latent.receiving.plan[0].numpy()
    sent = latent.transport.plan[0].numpy()[explorer.transport.rows.ravel()]
    for side, plan in (("receives", heard), ("sends", sent)):
        front_end.change(explorer, side=side)
        for token in range(16):
            row, column = divmod(token, 4)
            front_end.change(explorer, selection={"voxel": [0, 4 * row, 4 * column]})
            np.testing.assert_allclose(floats(explorer.lit["heat"], 16), 16 * relation[token], atol=0.01)
            share, most = plan[token] / plan[token].sum(), plan[token].argmax()
            said = f"pixel ({row + 1}, {column + 1}) has code {codes[token]}; references {most} ({share[most]:.0%})"
            assert explorer.lit["text"].startswith(said)
            assert explorer.transport.names[explorer.lit["row"]] == codes[token]


def test_where_tokens_receive_a_reference_is_heard_token_by_token(front_end, tokens):
    explorer, latent, _ = tokens
    front_end.change(explorer, selection={"reference": 2})
    assert explorer.lit["title"] == "reference 2 is heard by"
    heard = latent.receiving.plan[0, :, 2].numpy()
    np.testing.assert_allclose(floats(explorer.lit["heat"], 16), 16 * 3 * heard, atol=0.01)
    name = explorer.transport.names[explorer.plan[:, 2].argmax()]
    assert explorer.lit["text"].startswith(f"reference 2: codes {name} (")


def test_where_tokens_receive_their_plan_is_exported_and_saved_too(tokens, tmp_path):
    explorer, latent, _ = tokens
    npz, words = explorer.export(tmp_path / "plan")
    with np.load(npz) as arrays:
        np.testing.assert_allclose(arrays["plan"], latent.transport.plan[0], atol=2e-5)
        np.testing.assert_allclose(arrays["receiving_plan"], latent.receiving.plan[0], atol=2e-5)
        assert np.array_equal(arrays["receiving_cost"], explorer.transport.receiving.cost)
        assert np.array_equal(arrays["codes"][arrays["row_of_pixel"]], latent.codes[0])
        own = arrays["receiving_plan"].astype(np.float32)
    assert "receiving_plan and receiving_cost have a row for each pixel" in json.loads(words.read_text())["what"]
    (page,) = explorer.page_data()["slices"]
    assert np.array_equal(floats(page["hearing"], 16, 3), own)
    assert page["sides"]["receives"]["solved"]["plan"] == explorer.solved["plan"]


def test_the_exact_plan(front_end, explorer):
    front_end.change(explorer, exact=True)
    np.testing.assert_allclose(explorer.plan, transport().exact)
    assert (explorer.solved["converged"], explorer.solved["iterations"]) == (True, 0)
    assert explorer.solved["cost"] < float(transport().solve(0.1).cost[0])


def test_a_click_on_a_pixel_lights_its_relation_beside_attention(front_end, explorer):
    front_end.change(explorer, selection={"voxel": [0, 1, 6]})  # bottleneck pixel (0, 3), code 5, row 1
    t = transport()
    assert (explorer.lit["row"], explorer.lit["cell"]) == (1, [0, 3])
    np.testing.assert_allclose(floats(explorer.lit["heat"], 4, 4), 16 * t.relation(explorer.plan, 1), rtol=1e-6)
    np.testing.assert_allclose(floats(explorer.lit["attention"], 4, 4), 16 * t.attention(1), rtol=1e-6)
    assert explorer.lit["text"].startswith("pixel (1, 4) has code 5; references ")
    assert explorer.lit["top"] == pytest.approx(16 * max(t.relation(explorer.plan, 1).max(), t.attention(1).max()))


def test_a_click_on_a_code_lights_its_pixels_and_names_its_references(front_end, explorer):
    front_end.change(explorer, selection={"code": 3})
    assert np.array_equal(floats(explorer.lit["heat"], 4, 4), ROWS == 2)
    shares = explorer.plan[2] / explorer.plan[2].sum()
    assert f"references {shares.argmax()} ({shares.max():.0%})" in explorer.lit["text"]
    assert explorer.lit["attention"] is None
    front_end.change(explorer, selection={"code": 8})
    assert explorer.lit["text"] == "code 8 does not fire in this slice"
    assert explorer.error == ""


def test_a_click_on_a_reference_lights_every_pixel_that_it_covers(front_end, explorer):
    front_end.change(explorer, selection={"reference": 2})
    coverage = floats(explorer.lit["heat"], 4, 4)
    assert coverage.mean() == pytest.approx(1, rel=1e-3)  # in units of an even share
    np.testing.assert_allclose(coverage, 16 * transport().coverage(explorer.plan, 2), rtol=1e-6)
    names = np.array([7, 5, 3, 9])
    assert f"codes {names[explorer.plan[:, 2].argmax()]} (" in explorer.lit["text"]
    front_end.change(explorer, selection={"reference": 3})
    assert explorer.error.startswith("ValueError: reference must lie in 0..2, got 3")


def test_orders_reach_the_browser(front_end, explorer):
    for order in ("usage", "label", "clustering"):
        front_end.change(explorer, order=order)
        assert sorted(explorer.solved["rows"]) == [0, 1, 2, 3]
        assert sorted(explorer.solved["columns"]) == [0, 1, 2]
    front_end.change(explorer, order="label")
    assert explorer.solved["rows"][-1] == 3  # the only row of label 2


def test_what_changes_together_is_sent_together(front_end, explorer):
    explorer.selection = {"voxel": [0, 1, 6]}
    front_end.sent.clear()
    front_end.change(explorer, epsilon=0.3)
    states = [set(data["state"]) for _, kind, data, _ in front_end.sent if data and "state" in data]
    assert [state for state in states if state & {"solved", "lit", "problem"}] == [{"solved", "lit"}]


def test_export(front_end, explorer, tmp_path):
    explorer.selection = {"voxel": [0, 1, 6]}
    npz, words = explorer.export(tmp_path / "plan_eps0.1")
    assert (npz.name, words.name) == ("plan_eps0.1.npz", "plan_eps0.1.json")
    assert explorer.export(tmp_path / "plan_eps0.1.npz") == (npz, words)
    with np.load(npz) as arrays:
        assert np.array_equal(arrays["plan"], explorer.plan)
        assert np.array_equal(arrays["codes"], [7, 5, 3, 9])
        assert np.array_equal(arrays["row_of_pixel"], ROWS)
    told = json.loads(words.read_text())
    assert told["what"].endswith("is a share of the image's mass")  # and of no tokens
    assert "hearing" not in explorer.page_data()["slices"][0]
    assert (told["epsilon"], told["side"]) == (0.1, "sends and receives")
    assert told["marginal_error"] == explorer.solved["marginal_error"]
    assert told["arrays"]["plan"] == [4, 3]
    front_end.event(explorer, "export")
    data, buffers = front_end.sent[-1][2], front_end.sent[-1][3]
    assert data["content"] == {"files": ["transport.npz", "transport.json"]}
    assert np.array_equal(np.load(io.BytesIO(bytes(buffers[0])))["plan"], explorer.plan)


def test_raw_arrays_do_without_image_and_tokens(front_end):
    cost = np.random.default_rng(0).random((5, 4))
    plan_only = TransportExplorer(ImageTransport(cost, source=np.full(5, 0.2)))
    front_end.change(plan_only, selection={"code": 1})
    front_end.change(plan_only, selection={"reference": 1, "voxel": [0, 0, 0]})
    assert (plan_only.lit["heat"], plan_only.error) == (None, "")
    assert plan_only.snapshot().startswith(b"\x89PNG")
    without_tokens = TransportExplorer(ImageTransport(cost, np.arange(4).reshape(2, 2)))
    front_end.change(without_tokens, selection={"voxel": [0, 1, 1]})
    assert without_tokens.lit["attention"] is None


def test_a_model_and_a_volume(front_end):
    torch.manual_seed(0)
    model = build_model("l2gnet", channels=2, width=4, depth=2, codes=12, code_dim=8, references=5, epsilon=0.2).eval()
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 16, 16)).astype(np.uint8)
    explorer, other = TransportExplorer.of_model(model, images), TransportExplorer.of_model(model, images)
    assert (explorer.index, explorer.epsilon) == (1, 0.2)
    explorer.link(other)
    front_end.change(explorer, selection={"voxel": [2, 3, 3]})
    for each in (explorer, other):  # both go to the slice of the voxel
        assert each.index == 2
        assert each.lit["cell"] == [0, 0]
    trace = model.trace(torch.from_numpy(images[2:]).float() / 255)
    codes = trace.latent.codes[0].numpy()
    assert np.array_equal(other.transport.names[other.transport.rows], codes)
    front_end.change(explorer, selection={"voxel": [2, 99, 3]})
    assert explorer.error.startswith("ValueError: voxel must lie in the volume (3, 16, 16), got [2, 99, 3]")
    assert explorer.selection == other.selection == {"voxel": [2, 3, 3]}
    references = [weakref.ref(each) for each in (model, explorer.transport, explorer.plan)]
    explorer.close()
    other.close()
    del model
    gc.collect()
    assert [reference() for reference in references] == [None] * 3  # although `explorer` is still here


def test_it_shares_the_selection_of_a_slice_viewer(front_end, explorer):
    slices = SliceViewer(np.zeros((1, 8, 8)), codes=np.array([7, 5, 3, 9])[ROWS][None])
    slices.link(explorer)
    front_end.change(slices, selection={"voxel": [0, 6, 1], "code": 3, "by": "voxel"})  # its click
    assert (explorer.lit["cell"], explorer.lit["row"]) == ([3, 0], 2)
    front_end.change(explorer, selection=explorer.selection | {"code": 9, "by": "code"})
    assert np.array_equal(floats(explorer.lit["heat"], 4, 4), ROWS == 3)
    assert slices.selection == {"voxel": [0, 6, 1], "code": 9, "by": "code"}
    front_end.change(slices, selection=slices.selection | {"reference": 1, "by": "reference"})
    assert explorer.lit["column"] == 1
    front_end.change(explorer, selection=explorer.selection | {"code": 7, "by": "code"})  # the reference is left behind
    assert (explorer.lit["row"], explorer.lit["column"]) == (0, -1)
    slices.close()


def test_arrays_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match=r"must have the scan's shape \(1, 8, 8\); got \(1, 4, 4\)"):
        TransportExplorer(transport(), np.zeros((8, 8)), labels=LABELS[:4, :4])
    with pytest.raises(ValueError, match=r"with the axes \(D, H, W\); got shape \(1, 1, 8, 8\)"):
        TransportExplorer(transport(), np.zeros((1, 1, 8, 8)))
    with pytest.raises(ValueError, match="a model must have transport plans"):
        TransportExplorer.of_model(build_model("unet", width=4, depth=2), np.zeros((1, 1, 16, 16), np.uint8))


def test_the_static_picture_shows_image_attention_plan_and_convergence(explorer):
    explorer.selection = {"voxel": [0, 1, 6]}
    titles = [axes.get_title() for axes in explorer.draw().axes]
    assert titles[:2] == ["pixel (1, 4) takes from", "softmax attention"]
    assert titles[2:4] == ["plan, ε = 0.1", f"converged: error {explorer.solved['marginal_error']:.1e}"]
