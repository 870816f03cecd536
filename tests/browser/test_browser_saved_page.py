"""Saved pages in a real browser, from the disk and offline: what a click lights there is what Python computes."""

import numpy as np
import pytest
from l2gnet.widgets import CodebookExplorer, ScanDesk, SliceViewer, TrainingMonitor, TransportExplorer, save_page

from l2gnet.data.made import heart_beat
from l2gnet.data.slices import prepare_slices
from l2gnet.evaluation.scores import evaluate_cases, write_scores
from l2gnet.jobs.report import write_report
from l2gnet.training.run import train
from l2gnet.training.run_folder import open_run
from l2gnet.training.settings import TrainSettings

STATE = """(traits) => Object.fromEntries(traits.map((trait) => {
  const plain = (value) => {
    if (value instanceof DataView) return [...new Uint8Array(value.buffer, value.byteOffset, value.byteLength)];
    if (Array.isArray(value)) return value.map(plain);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, plain(each)]));
    }
    return value;
  };
  return [trait, plain(window.l2gnet.models[NUMBER].get(trait))];
}))"""

# The contrast of an element's text to its own ground, by WCAG 2.
CONTRAST = """(element) => {
  const light = (colour) => colour.match(/\\d+/g).slice(0, 3).reduce((sum, each, i) => {
    const share = each / 255;
    return sum + [0.2126, 0.7152, 0.0722][i] * (share > 0.04045 ? ((share + 0.055) / 1.055) ** 2.4 : share / 12.92);
  }, 0.05);
  const { color, backgroundColor } = getComputedStyle(element);
  const [one, two] = [light(color), light(backgroundColor)];
  return Math.max(one, two) / Math.min(one, two);
}"""


class OpenPage:
    """A saved page in Chromium without a network."""

    def __init__(self, page, path):
        self.page, self.errors, self.asked = page, [], []
        page.on("pageerror", lambda error: self.errors.append(error.stack))
        page.on("console", lambda line: self.errors.append(line.text) if line.type in ("error", "warning") else None)
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(path.as_uri())
        self.viewers = page.locator(".l2g-viewer")
        self.viewers.first.wait_for()

    def look(self, name):
        """Keep a screenshot of what is in sight."""
        from lab import SCREENSHOTS

        SCREENSHOTS.mkdir(exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")

    def state(self, number, *traits):
        """Traits of a viewer in the page; bytes as lists of their numbers."""
        return self.page.evaluate(STATE.replace("NUMBER", str(number)), list(traits))

    def must_equal(self, number, viewer, *traits):
        """Hold traits of a viewer in the page to those of a viewer in Python."""
        for trait, shown in self.state(number, *traits).items():
            same(shown, getattr(viewer, trait), trait)


def same(shown, wanted, what):
    if isinstance(wanted, dict):
        assert set(shown) == set(wanted), what
        for name, value in wanted.items():
            same(shown[name], value, f"{what}.{name}")
    elif isinstance(wanted, bytes):
        kind = np.uint8 if what.endswith("patches") else np.int32 if what.endswith("rows") else np.float32
        numbers = np.array(shown, np.uint8).view(kind)
        np.testing.assert_allclose(numbers, np.frombuffer(wanted, kind), rtol=2e-5, atol=1e-6, err_msg=what)
    elif isinstance(wanted, float):
        assert shown == pytest.approx(wanted, rel=2e-5, abs=1e-7), what
    elif isinstance(wanted, list | tuple):
        assert len(shown) == len(wanted), what
        for number, value in enumerate(wanted):
            same(shown[number], value, f"{what}.{number}")
    else:
        assert shown == wanted, what


@pytest.fixture
def opened(browser):
    """Open saved pages; they must show no error and fetch nothing but themselves."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, offline=True)
    pages = []

    def open_(path):
        pages.append(OpenPage(context.new_page(), path))
        return pages[-1]

    yield open_
    assert [(page.errors, page.asked[1:]) for page in pages] == [([], [])] * len(pages)
    context.close()


def click(canvas, across, down):
    box = canvas.bounding_box()
    canvas.click(position={"x": across * box["width"], "y": down * box["height"]})


@pytest.fixture(scope="module")
def run():
    """The shipped model, with two phantoms that it has not seen on its grid."""
    run = open_run("phantom-heart")
    return run, prepare_slices(run.dataset.validation[:2], run.grid, len(run.dataset.labels))


@pytest.fixture
def transport(run):
    run, slices = run
    first = slices.case == 0
    options = {"labels": slices.labels[first], "classes": run.dataset.labels}
    explorer = TransportExplorer.of_model(run.model, slices.images[first], **options)
    yield explorer
    explorer.close()


@pytest.fixture
def codebook(run):
    run, slices = run
    explorer = CodebookExplorer.of_model(run.model, slices, classes=run.dataset.labels, names=())  # as pages have none
    yield explorer
    explorer.close()


@pytest.fixture
def scan(run):
    run, slices = run
    first = slices.case == 0
    truth = slices.labels[first]
    maps = {"truth": truth, "shifted": np.roll(truth, 5, axis=2)}
    viewer = SliceViewer(slices.images[first, 0], maps, spacing_mm=(8, 1.5, 1.5), classes=run.dataset.labels)
    yield viewer
    viewer.close()


def test_slices_scroll_overlays_switch_and_jumps_lead_where_python_goes(opened, scan, tmp_path):
    page = opened(scan.save(tmp_path / "page.html", title="A heart <of nobody>"))
    assert page.page.title() == page.page.locator("h1").inner_text() == "A heart <of nobody>"
    page.page.get_by_text("voxel").wait_for()
    viewer = page.viewers.first
    for to in ("worst", "largest"):
        viewer.get_by_role("button", name=to).click()
        scan.jump(to)
        page.must_equal(0, scan, "selection")
    canvas = viewer.locator("canvas").first
    before = canvas.screenshot()
    canvas.focus()
    page.page.keyboard.press("ArrowDown")
    scan.index -= 1
    page.must_equal(0, scan, "selection")
    scrolled = canvas.screenshot()
    viewer.get_by_role("button", name="fill").click()
    filled = canvas.screenshot()
    assert len({before, scrolled, filled}) == 3
    for name in ("left ventricle", "myocardium", "right ventricle"):
        viewer.get_by_role("button", name=name).click()
    viewer.get_by_role("button", name="largest").click()
    viewer.get_by_role("alert").get_by_text("needs a visible structure").wait_for()


def test_clicks_on_pixels_codes_and_references_light_what_python_lights(opened, transport, tmp_path):
    page = opened(transport.save(tmp_path / "page.html"))
    viewer = page.viewers.first
    image, plan = viewer.get_by_label("where the selection lights up"), viewer.get_by_label("transport plan:")
    viewer.get_by_text("marginal error").wait_for()
    page.must_equal(0, transport, "problem", "solved", "lit")
    shown = set()

    def follow():
        """What was clicked, in Python as well."""
        transport.selection = page.state(0, "selection")["selection"]
        page.must_equal(0, transport, "problem", "solved", "lit", "epsilon")
        shown.add(image.screenshot())

    click(image, 0.45, 0.55)
    follow()
    click(plan, 0.05, 0.5)  # a bar at the left: a code
    follow()
    click(plan, 0.6, 0.03)  # a bar above: a reference
    follow()
    viewer.get_by_role("button", name="receives").click()
    transport.side = "receives"
    follow()
    click(image, 0.5, 0.5)
    follow()
    for order in ("label", "usage"):
        viewer.get_by_role("button", name=order).click()
        transport.order = order
        follow()
    viewer.get_by_label("slice", exact=True).press("ArrowLeft")
    follow()
    assert len(shown) >= 6
    for control in ("epsilon, on a log scale", "exact", "Export"):
        control = viewer.get_by_label(control).or_(viewer.get_by_role("button", name=control, exact=True))
        assert control.is_disabled()
        assert control.get_attribute("title") == "needs a running notebook"


def test_codes_are_counted_and_lit_as_in_python(opened, codebook, tmp_path):
    page = opened(codebook.save(tmp_path / "page.html"))
    viewer = page.viewers.first
    where, bars = viewer.get_by_label("where the selected"), viewer.get_by_label("usage of each")
    viewer.get_by_text("codes a slice").wait_for()

    def follow():
        codebook.selection = page.state(0, "selection")["selection"]
        page.must_equal(0, codebook, "place", "usage", "lit")

    follow()
    click(where, 0.5, 0.5)
    follow()
    click(bars, 0.3, 0.9)
    follow()
    for scope in ("slice", "volume"):
        viewer.get_by_role("button", name=scope, exact=True).click()
        codebook.scope = scope
        follow()
    viewer.get_by_role("button", name="label").click()
    codebook.order = "label"
    follow()
    before = where.screenshot()
    viewer.get_by_label("volume").select_option("1")
    codebook.volume = 1
    follow()
    page.page.wait_for_timeout(300)
    assert where.screenshot() != before
    codebook._on_visit(1)
    click(viewer.get_by_label("patches of the selected code"), 0.19, 0.5)
    assert page.state(0, "selection", "volume") == {"selection": codebook.selection, "volume": codebook.volume}
    page.must_equal(0, codebook, "place", "usage", "lit")
    for _ in range(2):
        bars.press("ArrowRight")
        bars.press("Shift+Enter")
    codebook.group = page.state(0, "group")["group"]
    assert len(codebook.group) == 2
    follow()
    assert viewer.get_by_role("table").locator("tbody tr").count() == 2
    click(where, 0.5, 0.5)  # a pixel alone
    codebook.group = []
    follow()
    assert page.state(0, "group") == {"group": []}


def test_slices_scroll_while_a_code_alone_is_selected(opened, transport, codebook, tmp_path):
    for explorer in (transport, codebook):
        _, H, W = explorer._images.shape
        explorer.selection = {"code": 3}
        page = opened(explorer.save(tmp_path / f"{explorer.script}.html"))
        page.viewers.first.get_by_role("slider", name="slice", exact=True).press("Home")
        assert page.state(0, "selection")["selection"]["voxel"] == [0, H // 2, W // 2]


def test_linked_viewers_stay_linked_and_a_heart_stays_small(opened, scan, transport, codebook, tmp_path):
    transport.link(scan, codebook)
    path = save_page(tmp_path / "page.html", scan, transport, codebook, title="Three views of a heart")
    assert path.stat().st_size < 5e6
    page = opened(path)
    slices, plan = page.viewers.nth(0), page.viewers.nth(1)
    click(plan.get_by_label("where the selection lights up"), 0.5, 0.5)
    click(plan.get_by_label("transport plan:"), 0.05, 0.3)
    plan.get_by_label("slice", exact=True).press("ArrowRight")
    chosen = page.state(1, "selection")["selection"]
    assert page.state(0, "selection") == page.state(2, "selection") == {"selection": chosen}
    assert slices.get_by_text(f"{chosen['voxel'][0] + 1} of ").first.is_visible()
    codebook.selection = chosen
    page.must_equal(2, codebook, "lit")
    for theme in ("light", "dark"):
        page.page.emulate_media(color_scheme=theme)
        page.page.wait_for_timeout(300)
        for number in range(3):
            page.viewers.nth(number).scroll_into_view_if_needed()
            page.look(f"saved-page-{number}-{theme}")
        assert plan.locator(".l2g-verdict").evaluate(CONTRAST) >= 4.5
    page.page.set_viewport_size({"width": 1024, "height": 700})
    for caption in plan.locator(".l2g-plan figcaption, .l2g-curve figcaption").all():
        assert caption.evaluate("(words) => words.scrollWidth <= words.clientWidth")


def test_an_answer_can_be_read_and_its_slices_scroll(opened, tmp_path):
    desk = ScanDesk("phantom-heart", {"heart": lambda: heart_beat(2027)})
    desk.segment(heart_beat(2027))
    desk._task.wait()
    page = opened(desk.save(tmp_path / "page.html"))
    viewer = page.viewers.first
    viewer.get_by_text("left ventricle: ejection fraction").wait_for()
    viewer.get_by_label("slice", exact=True).press("Home")
    viewer.get_by_text("axial · 1 of 10").wait_for()
    for name in ("Choose a scan …", "Choose a folder …", "heart", "Download labels and report"):
        assert viewer.get_by_role("button", name=name, exact=True).is_disabled()
    assert viewer.get_by_label("moment of the beat").is_disabled()
    picture = viewer.locator("canvas")
    before = picture.screenshot()
    header = "(scan) => ({ ...scan, spacing_mm: scan.spacing_mm.map((size, axis) => (axis === 1 ? 2 * size : size)) })"
    page.page.evaluate(f"l2gnet.models[0].set('scan', ({header})(l2gnet.models[0].get('scan')))")
    page.page.wait_for_timeout(300)
    assert picture.screenshot() != before  # the same voxels, twice as tall
    desk.close()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A short training, scored."""
    few = {"patients": 6, "validation_patients": 2, "spacing_mm": 4.0, "size_px": 48, "width": 4, "epochs": 2}
    run = train(TrainSettings(**few), tmp_path_factory.mktemp("trained") / "run")
    scores = evaluate_cases(run.model, run.dataset.validation, run.grid, run.dataset.classes)
    write_scores(run.run_dir, scores, run.dataset.validation, {"model": "l2gnet"})
    return run.run_dir


def test_a_training_is_kept_as_it_was(opened, trained, tmp_path):
    monitor = TrainingMonitor(trained)
    page = opened(monitor.save(tmp_path / "page.html"))
    page.viewers.first.get_by_text("finished after epoch 2").wait_for()
    page.viewers.first.get_by_label("validation slice 2").wait_for()
    page.look("saved-page-monitor")
    monitor.close()


def test_the_cases_of_a_report_scroll(opened, trained):
    page = opened(write_report(trained))
    assert page.viewers.count() == 3  # the best, the worst and the codebook
    page.look("report-light")
    worst = page.viewers.nth(1)
    canvas = worst.locator("canvas").first
    before = canvas.screenshot()
    canvas.press("PageDown")
    assert canvas.screenshot() != before
    page.page.emulate_media(color_scheme="dark")
    page.look("report-case-dark")


def test_a_report_is_printed_on_white_with_all_that_is_folded(opened, trained):
    page = opened(write_report(trained)).page
    assert not page.get_by_text("parameters", exact=False).last.is_visible()
    page.emulate_media(media="print", color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor + getComputedStyle(document.body).color"
    assert page.evaluate(ground) == "rgba(0, 0, 0, 0)rgb(33, 33, 33)"
    assert page.get_by_text("parameters", exact=False).last.is_visible()  # of the model card
    assert not page.get_by_role("button", name="three planes").first.is_visible()
    assert page.locator(".page-case").first.evaluate("case_ => getComputedStyle(case_).breakInside") == "avoid"
    assert page.get_by_text("Doubts: none").count() == 2
