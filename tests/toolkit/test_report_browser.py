"""report.html in a real browser: no error in the console, every section laid out, sorting works."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess

import pytest

from tests.toolkit.evaluation_fixtures import made_run
from tests.toolkit.test_report import SECTIONS
from toolkit.report.write_report import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--v=0",
]
PROBE = """
<script>
addEventListener("error", (e) => console.error("PROBE-ERROR " + e.message));
addEventListener("load", () => {
  for (const section of document.querySelectorAll("section")) {
    const box = section.getBoundingClientRect();
    console.log(`PROBE-SECTION ${section.id} ${Math.round(box.width)} ${Math.round(box.height)}`);
  }
  for (const image of document.querySelectorAll("figure:not([hidden]) image")) {
    if (image.checkVisibility() && image.getBoundingClientRect().height < 20) console.error("PROBE-ERROR flat picture");
  }
  const head = [...document.querySelectorAll("#classes th[data-sort]")].find((h) => h.textContent === "AP");
  head.querySelector("button").click();
  console.log("PROBE-SORT " + head.getAttribute("aria-sort"));
  const rows = document.querySelector("#classes table").querySelectorAll("tbody tr:not(.total)");
  const shown = [...rows].map((r) => r.children[2].textContent);
  console.log("PROBE-SORTED " + shown.join(" "));
  const scroll = document.querySelector("#classes .scroll");
  console.log("PROBE-TABLE " + scroll.scrollWidth + " " + scroll.clientWidth);
  console.log("PROBE-WIDTH " + document.documentElement.scrollWidth + " " + innerWidth);
});
</script>
"""


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
@pytest.mark.parametrize("width", [1300, 1100, 700])
def test_in_a_browser(tmp_path, width):
    run = made_run(tmp_path, images=8)
    html = write_report(run).read_text()
    page = tmp_path / "page.html"
    script = PROBE.strip().removeprefix("<script>").removesuffix("</script>")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = html.replace("script-src '", f"script-src 'sha256-{digest}' '", 1)  # else the page's policy stops it
    page.write_text(allowed.replace("<body>", "<body>" + PROBE))
    command = [
        BROWSER,
        *FLAGS,
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size={width},1000",
        "--dump-dom",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    # whatever the page itself says in the console is an error of ours
    assert not [line for line in said if not re.search('"PROBE-(SECTION|SORT|SORTED|TABLE|WIDTH) ', line)], said
    sections = dict(re.findall(r"PROBE-SECTION (\w+) (\d+ \d+)", done.stderr))
    assert list(sections) == SECTIONS
    for name, size in sections.items():
        wide, high = map(int, size.split())
        assert wide > 300, name
        assert high > 60, name
    values = re.search(r"PROBE-SORTED ([\d. ]+)", done.stderr).group(1).split()
    assert len(values) == 3
    assert values == sorted(values, reverse=True)
    content, window = map(int, re.search(r"PROBE-WIDTH (\d+) (\d+)", done.stderr).groups())
    assert content <= window  # nothing hangs over the side
    table, room = map(int, re.search(r"PROBE-TABLE (\d+) (\d+)", done.stderr).groups())
    assert (table > room) == (width < 1000)  # all columns are in sight; on a small screen they scroll
