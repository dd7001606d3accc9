"""The page in a real browser. Skipped where there is none: every other test reads the page as text."""

import pytest

from adaln.report import Page, Section, write_page
from helpers.browser import CHROMIUM, chromium
from helpers.report_samples import PAGE

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    page = write_page(PAGE, tmp_path_factory.mktemp("page") / "page.html")
    with chromium() as tab:
        tab.page = page
        yield tab


def show(tab, scheme="light", width=1200):
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    tab.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    tab.open(tab.page)


def test_the_page_loads_without_errors_and_without_requests(tab):
    show(tab)
    assert tab.value("document.querySelectorAll('svg').length") == 5 + 3  # three are drawn again for narrow screens
    assert tab.of("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded") == []
    urls = [event["request"]["url"] for event in tab.of("Network.requestWillBeSent")]
    assert [url for url in urls if not url.startswith("data:")] == [tab.page.as_uri()]


def test_the_browser_would_report_an_error_and_refuse_a_request(tab):
    show(tab)
    tab.value("fetch('https://example.invalid/'); undefined")
    tab.value("setTimeout(() => { throw Error('seen') })")
    tab.value("new Promise(done => setTimeout(done, 50))")
    tab.settle(lambda: tab.of("Runtime.exceptionThrown") and tab.of("Log.entryAdded"))
    assert "seen" in str(tab.of("Runtime.exceptionThrown"))
    assert "Content Security Policy" in str(tab.of("Log.entryAdded"))


def test_page_and_pictures_follow_light_and_dark(tab):
    colours = {}
    for scheme in ("light", "dark"):
        show(tab, scheme)
        ground = "getComputedStyle(document.body).backgroundColor"
        ink = "getComputedStyle(document.querySelector('svg text')).fill"
        colours[scheme] = [tab.value(ground), tab.value(ink)]
    assert colours == {
        "light": ["rgb(255, 255, 255)", "rgb(27, 31, 36)"],
        "dark": ["rgb(20, 23, 27)", "rgb(232, 234, 237)"],
    }


@pytest.mark.slow
def test_a_narrow_screen_scrolls_tables_not_the_page(tab):
    show(tab, width=360)
    assert tab.value("document.documentElement.scrollWidth <= innerWidth")
    assert tab.value("[...document.querySelectorAll('.scroll')].some(box => box.scrollWidth > box.clientWidth)")
    charts = "[...document.querySelectorAll('.narrow, .wide')].filter(box => box.checkVisibility())"
    assert set(tab.value(f"{charts}.map(box => box.className)")) == {"narrow"}
    assert tab.value(f"{charts}.every(box => box.scrollWidth <= box.clientWidth)"), "what is drawn narrow is seen whole"
    show(tab)
    assert set(tab.value(f"{charts}.map(box => box.className)")) == {"wide"}


@pytest.mark.slow
def test_what_is_folded_opens_where_a_link_leads(tab):
    page = Page("T", "It is so.", [Section("a", ["one"]), Section("b", ["two"], folded=True)])
    tab.open(write_page(page, tab.page.with_name("folded.html")))
    assert not tab.value("document.querySelector('#s2 > details').open")
    tab.value("location.hash = '#s2'")
    tab.settle(lambda: tab.value("document.querySelector('#s2 > details').open"))


def test_a_heading_sorts_its_table_and_what_is_missing_stays_last(tab):
    show(tab)
    heads = "document.querySelector('table').querySelectorAll('th button')"
    firsts = "[...document.querySelector('table').tBodies[0].rows].map(row => row.cells[0].textContent)"
    tab.value(f"{heads}[1].click()")
    assert tab.value(firsts) == ["adaLN-Gaussian", "adaLN-Zero", "broken"]
    tab.value(f"{heads}[1].click()")
    assert tab.value(firsts) == ["adaLN-Zero", "adaLN-Gaussian", "broken"]
    tab.value(f"{heads}[3].click()")
    assert tab.value(firsts) == ["adaLN-Gaussian", "broken", "adaLN-Zero"]


def test_the_page_is_whole_without_scripts(tab):
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    show(tab)
    tab.call("Emulation.setScriptExecutionDisabled", value=False)
    assert tab.value("document.querySelectorAll('th button').length") == 0
    assert tab.value("document.querySelector('table').tBodies[0].rows.length") == 3
    assert tab.value("document.querySelector('svg').getBoundingClientRect().height") > 200
