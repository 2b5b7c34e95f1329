"""What an MLOps engineer sees: a real browser on the Prefect page starts a retrain and reads what came out of it."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from ..pipeline.toy import git, served, write_toy  # noqa: TID252 - tests are no package

pytestmark = pytest.mark.slow
SECONDS = 1000.0  # of patience with a busy machine, in Playwright's milliseconds
ENDED = re.compile("Completed|Failed|Crashed|Cancelled|Denied|Refused|BadInput")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("no command `chromium`; install Debian's package: apt-get install --no-install-recommends chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        yield browser
        browser.close()


@pytest.fixture
def toy(tmp_path: Path, root: Path) -> Path:
    return write_toy(tmp_path / "toy", root)


@pytest.fixture
def page(browser: Browser, toy: Path) -> Iterator[Page]:
    """The page of a server of its own; whatever it asks another host for, and every error it raises, is a failure."""
    with served(toy) as url, browser.new_context(viewport={"width": 1280, "height": 1000}, base_url=url) as context:
        context.set_default_timeout(120 * SECONDS)
        context.set_default_navigation_timeout(240 * SECONDS)
        wrong: list[str] = []
        page = context.new_page()
        page.on("request", lambda asked: wrong.append(asked.url) if not at_home(asked.url) else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        yield page
        assert wrong == []


def at_home(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in {"data", "blob"} or parts.hostname == "127.0.0.1"


def start_by_clicks(page: Page, reason: str) -> None:
    """From the front page to the page of a new run."""
    page.goto("/")
    page.get_by_role("button", name="Deployments", exact=True).click()
    page.locator("a[href^='/deployments/deployment/']", has_text="retrain").click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("button", name="Quick run").click()
    form = page.get_by_role("dialog")
    expect(form.get_by_text("Why this run is made; it goes on the record.")).to_be_visible()
    form.locator(".schema-form-property", has_text="Reason (Optional)").last.get_by_role("textbox").fill(reason)
    form.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("listitem").filter(has_text="Runs").click()
    page.locator("a[href^='/runs/flow-run/']").first.click()


def test_a_retrain_is_started_by_clicks_and_its_summary_is_read(page: Page, toy: Path, tmp_path: Path) -> None:
    start_by_clicks(page, "started in the browser")
    state = page.locator("header .state-badge")
    expect(state).to_have_text(ENDED, timeout=400 * SECONDS)
    page.screenshot(path=tmp_path / "run.png")
    assert state.inner_text() == "Completed"
    page.reload()  # the page counts tasks no more once a run has ended
    expect(page.get_by_text("4 Task runs")).to_be_visible()

    page.get_by_role("listitem").filter(has_text="Artifacts").click()
    (run,) = (toy / ".runs").iterdir()
    page.get_by_role("link", name="summary").click()
    expect(page.get_by_role("heading", name=f"Run {run.name}")).to_be_visible()
    page.screenshot(path=tmp_path / "summary.png")
    told = page.get_by_role("article").filter(has=page.get_by_role("heading", name="Metrics"))
    expect(told.get_by_role("row", name="id_target 0.500 0.500 +0.500 [+0.400, +0.600]")).to_be_visible()
    expect(told.get_by_role("row", name="sources passed 1 0")).to_be_visible()
    for stage in ("sources", "check_sources", "stage1", "benchmark"):
        expect(told.get_by_role("row", name=re.compile(rf"^{stage} done \d"))).to_be_visible()
    expect(told.get_by_text("v0.0.1 now holds dev")).to_be_visible()
    assert str(run / "record.json") in told.inner_text()
    assert "---" not in told.inner_text(), "markdown stands there as text"

    record = json.loads(git(toy, "show", f"run/{run.name}:record.json"))
    assert record["run"]["reason"] == "started in the browser"
    assert git(toy, "tag").split() == ["tavr#dev#1", "tavr@v0.0.1"]
