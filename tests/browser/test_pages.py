"""The pages of `flash run` in a real browser, offline: `make test-browser`. Pictures are in build/screenshots."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.galleries import write
from tests.apps.test_run import FLASH, Running, running
from tests.browser.chromium import DESKTOP, PHONE, Browser

SHOTS = Path(__file__).parents[2] / "build/screenshots"
HERE = ("http://localhost:", "data:", "about:")
SIZES = {"desktop": DESKTOP, "phone": PHONE}
EXAMPLES = (
    "01_getting_started/01_hello_world",
    "01_getting_started/02_cpu_worker",
    "01_getting_started/03_mixed_workers",
    "02_ml_inference/01_text_embeddings",
    "03_advanced_workers/05_load_balancer",
)
pytestmark = pytest.mark.skipif(not os.environ.get("TEST_BROWSER"), reason="a browser: make test-browser")


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gallery as people make one, with an example that is broken and one with a router of another name."""
    root = tmp_path_factory.mktemp("g") / "flash-examples"
    for name in EXAMPLES:
        subprocess.run([FLASH, "init", str(root / name)], check=True, capture_output=True)
    write(root, {
        "02_ml_inference/02_document_ocr/gpu_worker.py": "import no_such_module\n",
        "03_advanced_workers/06_odd/cpu_worker.py": "from fastapi import APIRouter\n\nrouter = APIRouter()\n",
        "03_advanced_workers/07_many/cpu_worker.py": "from fastapi import APIRouter\n\ncpu_router = APIRouter()\n"
        + "".join(f"\n\n@cpu_router.get('/n{n}/with_a_rather_long_path/{{and}}/parameters')\ndef n{n}(): ...\n"
                  for n in range(9)),
    })  # fmt: skip
    with running(root, "--no-reload") as run:
        run.ready()
        yield run


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture(autouse=True)
def quiet(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test looks at: nothing is asked of other machines, and the browser has nothing to complain of."""
    browser: Browser = request.getfixturevalue("browser")
    browser.requests.clear()
    browser.complaints.clear()
    yield
    assert [url for url in browser.requests if not url.removeprefix("blob:").startswith(HERE)] == []
    assert browser.complaints == []


def all_loaded(browser: Browser, run: Running, size: tuple[int, int, bool] = DESKTOP) -> None:
    """The index, once it shows what became of every example."""
    browser.open(run.url, size)
    browser.until("!document.body.dataset.loading && document.querySelector('article.broken') !== null")


@pytest.mark.parametrize("size", SIZES)
def test_the_index_fits_the_screen_and_shows_every_example(gallery: Running, browser: Browser, size: str) -> None:
    all_loaded(browser, gallery, SIZES[size])
    browser.photograph(SHOTS / f"index-{size}.png")
    assert browser.ask("document.documentElement.scrollWidth") <= SIZES[size][0]
    assert browser.ask("document.querySelectorAll('article').length") == len(EXAMPLES) + 3
    assert browser.ask("document.querySelectorAll('article.broken .reason').length") == 1
    assert browser.ask(
        "[...document.querySelectorAll('article h3 a')].every((a) => a.getBoundingClientRect().height > 0)"
    )


def test_the_index_is_dark_where_people_want_it_dark(gallery: Running, browser: Browser) -> None:
    browser.tell("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    try:
        all_loaded(browser, gallery)
        browser.photograph(SHOTS / "index-dark.png")
        assert browser.ask("getComputedStyle(document.body).backgroundColor") == "rgb(16, 18, 22)"
        browser.open(f"{gallery.url}/docs")
        browser.until("document.querySelectorAll('.opblock').length > 0")
        browser.photograph(SHOTS / "docs-dark.png")
        colours = (
            browser.ask("getComputedStyle(document.querySelector('.info .title')).color"),
            browser.ask("getComputedStyle(document.documentElement).backgroundColor"),
        )
        ink, ground = (sum(int(one) for one in re.findall(r"\d+", colour)[:3]) for colour in colours)
        assert ink > 500 > 200 > ground, "light on dark"
    finally:
        browser.tell("Emulation.setEmulatedMedia", features=[])


def test_a_category_is_found_from_the_top_and_says_what_is_broken_in_it(gallery: Running, browser: Browser) -> None:
    all_loaded(browser, gallery)
    ways = browser.ask("[...document.querySelectorAll('.ways a')].map((one) => one.innerText)")
    assert ways == ["01 Getting Started", "02 ML Inference · 1 broken", "03 Advanced Workers"]
    assert browser.ask(
        "[...document.querySelectorAll('.ways a')].every((a) => document.getElementById(a.hash.slice(1)))"
    )


def test_words_leave_only_the_examples_that_have_them(gallery: Running, browser: Browser) -> None:
    all_loaded(browser, gallery)
    browser.ask(
        "{const box = document.querySelector('input'); box.value = 'ml text'; box.dispatchEvent(new Event('input'))}"
    )
    shown = "[...document.querySelectorAll('article')].filter((one) => one.offsetParent).map((one) => one.innerText)"
    (card,) = browser.ask(shown)
    assert card.startswith("01 Text Embeddings")
    assert browser.ask("[...document.querySelectorAll('section')].filter((one) => one.offsetParent).length") == 1


def test_a_route_of_the_index_leads_to_itself_in_the_documentation(gallery: Running, browser: Browser) -> None:
    all_loaded(browser, gallery)
    browser.ask("[...document.querySelectorAll('li a')].find((one) => one.innerText.includes('/cpu/hello')).click()")
    browser.until("document.querySelector('.opblock.is-open') !== null")
    assert "/01_hello_world/cpu/hello" in browser.ask("document.querySelector('.opblock.is-open').innerText").replace(
        "\u200b", ""
    )


def test_an_example_of_the_index_leads_to_its_part_of_the_documentation(gallery: Running, browser: Browser) -> None:
    all_loaded(browser, gallery)
    link = browser.ask("[...document.querySelectorAll('h3 a')].find((one) => one.innerText.includes('Load')).href")
    browser.open(link)
    browser.until("document.querySelector('.opblock-tag') !== null")
    name = "03 Advanced Workers > 05 Load Balancer"
    heading = f"[...document.querySelectorAll('.opblock-tag')].find((one) => one.innerText.includes('{name}'))"
    browser.until(f"Math.abs({heading}.getBoundingClientRect().top) < innerHeight")


@pytest.mark.parametrize("size", SIZES)
def test_the_documentation_shows_every_route_without_a_network(gallery: Running, browser: Browser, size: str) -> None:
    browser.open(f"{gallery.url}/docs", SIZES[size])
    browser.until("document.querySelectorAll('.opblock').length > 0")
    browser.photograph(SHOTS / f"docs-{size}.png")
    assert browser.ask("document.documentElement.scrollWidth") <= SIZES[size][0]
    assert (
        browser.ask("Math.max(...[...document.querySelectorAll('.opblock-tag')].map((one) => one.offsetHeight))") < 200
    )
    assert browser.ask("document.querySelectorAll('.opblock-tag').length") == len(EXAMPLES) + 2
    assert browser.ask("document.querySelectorAll('.opblock').length") == 4 * len(EXAMPLES) + 9


def test_a_route_can_be_tried_out_on_the_page(gallery: Running, browser: Browser) -> None:
    browser.open(f"{gallery.url}/docs")
    opened = "document.querySelector('.opblock.is-open')"
    browser.until("document.querySelectorAll('.opblock').length > 0")
    browser.ask(
        "[...document.querySelectorAll('.opblock-summary-control')]"
        ".find((one) => one.innerText.replaceAll('\\u200b', '').includes('/01_hello_world/ping')).click()"
    )
    for button in (".try-out__btn", ".execute"):
        browser.until(f"{opened} && {opened}.querySelector('{button}') !== null")
        browser.ask(f"{opened}.querySelector('{button}').click()")
    browser.until(f"{opened}.innerText.includes('\"healthy\"')")


def test_the_documentation_of_one_app_needs_no_network_either(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("one") / "my app"
    subprocess.run([FLASH, "init", str(folder)], check=True, capture_output=True)
    with running(folder, "--no-reload") as run:
        browser.open(f"{run.ready()}/docs")
        browser.until("document.querySelectorAll('.opblock').length === 4")
        browser.photograph(SHOTS / "docs-of-one-app.png")
        browser.open(f"{run.url}/redoc")
        browser.until("document.body.innerText.includes('Response samples')")
        browser.photograph(SHOTS / "redoc-of-one-app.png")
