"""The page in a real browser: what its script draws and how it answers; a screenshot is kept in the test's folder.

Needs selenium and a Chromium with its driver (Debian: chromium, chromium-driver).
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flowcodec.report.page import write_page

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium with its driver is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1120,1400"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(browser: Any, results: dict[str, Path], kept: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("browser") / "report.html"
    write_page(list(results.values()), out, [kept])
    browser.get(out.as_uri())
    browser.save_screenshot(str(out.with_suffix(".png")))
    with Image.open(out.with_suffix(".png")) as screenshot:
        assert len(screenshot.convert("RGB").resize((200, 200)).getcolors(40_000) or ()) > 20, "the page is not empty"
    return browser


def run(page: Any, script: str) -> Any:
    return page.execute_script(script)


def test_nothing_goes_wrong_and_nothing_is_loaded(page: Any) -> None:
    assert page.get_log("browser") == []
    assert run(page, "return performance.getEntriesByType('resource').filter((e) => !e.name.startsWith('data:')).length") == 0


def test_codecs_can_be_ticked_off_and_on(page: Any) -> None:
    series = "document.querySelectorAll('#dataset-0 [data-chart=curves] [data-series]')"
    shown = f"return [...{series}].map((group) => group.dataset.series).sort()"
    before = run(page, shown)
    assert {"FlowCodec", "AVIF", "WebP", "AV1"} <= set(before)
    click = "document.querySelector('#dataset-0 [data-chart=curves] [data-codec=AVIF]').click()"
    run(page, click)
    assert run(page, shown) == [name for name in before if name != "AVIF"]
    run(page, click)
    assert run(page, shown) == before


def test_published_curves_are_dashed_and_measured_ones_have_bands(page: Any) -> None:
    series = "document.querySelector('[data-chart=curves] [data-series=\"%s\"]')"
    dashed = f"return {series}.querySelector('polyline').getAttribute('stroke-dasharray')"
    assert run(page, dashed % "AV1") and not run(page, dashed % "AVIF")
    bands = f"return {series}.querySelectorAll('.band').length"
    assert run(page, bands % "AVIF") == 1 and run(page, bands % "AV1") == 0


def test_axis_and_measure_can_be_changed(page: Any) -> None:
    label = "return document.querySelector('[data-chart=curves] svg.plot').getAttribute('aria-label')"
    place = "return document.querySelector('[data-chart=curves] [data-series=FlowCodec] circle').getAttribute('cx')"
    box = "document.querySelectorAll('[data-chart=curves] .controls input')[0].click()"
    logarithmic = run(page, place)
    run(page, box)
    linear = run(page, place)
    run(page, box)
    assert float(linear) < float(logarithmic) == float(run(page, place))
    choose = (
        "const s = document.querySelector('[data-chart=curves] select'); s.value = '%s'; s.dispatchEvent(new Event('change'))"
    )
    run(page, choose % "ssimulacra2")
    assert "SSIMULACRA 2" in run(page, label)
    assert run(page, "return document.querySelectorAll('[data-chart=curves] [data-series=FlowCodec] circle').length") == 4
    run(page, choose % "psnr_db")
    assert "PSNR" in run(page, label)


def test_a_dot_says_where_it_comes_from(page: Any) -> None:
    title = run(page, "return document.querySelector('[data-chart=curves] [data-series=AVIF] circle title').textContent")
    assert title.startswith("AVIF, setting 0: ") and "kodak.json#/curves/1/psnr_db/0" in title


def test_other_charts_are_drawn(page: Any) -> None:
    count = "return document.querySelectorAll('%s circle').length"
    assert run(page, count % "[data-chart=speed]") == 3
    assert run(page, count % "[data-chart=image]") == 36
    assert run(page, count % "[data-chart=generations]") == 6
    failed = run(page, "return document.querySelector('[data-chart=image] p.failed').textContent")
    assert failed == "failed: WebP at 99: ValueError: <b>no</b> such colour"


def test_the_slider_compares_two_codecs_near_a_rate(page: Any) -> None:
    text = "return document.querySelector('#slider .sides').textContent"
    assert "FlowCodec, setting 1: 0.200 bpp" in run(page, text) and "AVIF, setting 1" in run(page, text)
    run(page, "const s = document.querySelectorAll('#slider select')[1]; s.value = '0.8'; s.dispatchEvent(new Event('change'))")
    assert "FlowCodec, setting 2: 0.900 bpp" in run(page, text)
    run(page, "const r = document.querySelector('#slider input'); r.value = 20; r.dispatchEvent(new Event('input'))")
    clip = run(page, "return document.querySelector('#slider img[alt=left]').style.clipPath")
    assert "80%" in clip
    loaded = "return [...document.querySelectorAll('#slider img')].map((i) => i.naturalWidth)"
    assert run(page, loaded) == [272, 272]
