"""The documentation's site: built strictly, read without a network, searched as files."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from adaln.cli.commands import VERBS
from helpers.browser import CHROMIUM, chromium

ROOT = Path(__file__).parents[1]
LOADED = re.compile(r"""<(?:script|img|iframe|source|audio|video)\b[^>]*\bsrc=["']?(https?:[^"'\s>]+)""")
LINKED = re.compile(
    r"""<link\b(?=[^>]*\brel=["']?(?:stylesheet|preconnect|icon|preload|manifest))[^>]*(https?:[^"'\s>]+)"""
)
IN_STYLES = re.compile(r"""(?:url\(|@import)\s*["']?(https?:[^"')]+)""")

HAS_FOUND = """new Promise((resolve) => {
  const meta = document.querySelector(".md-search-result__meta");
  const look = () => /matching/.test(meta.textContent) && resolve(meta.textContent);
  new MutationObserver(look).observe(meta, {childList: true, characterData: true, subtree: true});
  look();
})"""
"""What the search says once it has found something."""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("material", reason="needs MkDocs Material, of the extra docs")
    pytest.importorskip("mkdocstrings", reason="needs mkdocstrings, of the extra docs")
    out = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", out]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
def test_no_page_of_the_site_asks_the_network_for_anything(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        html = page.read_text(encoding="utf-8")
        assert not LOADED.findall(html) + LINKED.findall(html), page
    for style in site.rglob("*.css"):
        assert not IN_STYLES.findall(style.read_text(encoding="utf-8")), style


@pytest.mark.slow
def test_every_command_and_every_name_of_the_package_has_its_place(site):
    import adaln

    commands, names = ((site / f"{page}.html").read_text(encoding="utf-8") for page in ("commands", "reference"))
    for verb in VERBS:
        assert f'id="adaln-{verb}"' in commands
    for name in adaln.__all__:
        assert f'id="adaln.{name}"' in names or name == "__version__"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser")
def test_the_site_is_searched_when_it_is_opened_as_files_and_asks_nobody(site):
    with chromium() as tab:
        tab.events.clear()
        tab.call("Page.navigate", url=f"{(site / 'index.html').as_uri()}?q=initialise")
        tab.settle(lambda: tab.of("Page.loadEventFired"))
        result = tab.call("Runtime.evaluate", expression=HAS_FOUND, awaitPromise=True, returnByValue=True)
        assert "matching documents" in result["result"]["value"]
        asked = [event["request"]["url"] for event in tab.of("Network.requestWillBeSent")]
        assert asked and not [url for url in asked if url.startswith("http")]
