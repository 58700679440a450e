#!/usr/bin/env python3
"""Opens reports in headless Chromium: light, dark, on a narrow screen and as print, and checks what is drawn.

usage: report_browser_check.py FOLDER [--keep]: every FOLDER/*/report.html, or FOLDER/report.html

Of each: no console message, no request, no plot without marks, no label over another or outside its plot, nothing wider
than the page, no table cut off on a wide screen, colours that follow the scheme, and a screenshot that is not blank.
Screenshots go beside the page.
"""

import json
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib

# What the page is asked, once it is laid out.
PROBE = """
<script>
addEventListener("load", () => setTimeout(() => {
  const problems = [];
  const rect = e => e.getBoundingClientRect();
  const over = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
                         Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
  let plots = 0, marks = 0;
  for (const svg of document.querySelectorAll("svg.plot")) {
    plots++;
    const name = svg.getAttribute("aria-label"), frame = rect(svg);
    const drawn = svg.querySelectorAll(".mark");
    marks += drawn.length;
    if (drawn.length === 0) problems.push(name + ": no marks");
    for (const mark of drawn) {
      const r = rect(mark);
      if (r.left < frame.left - 2 || r.right > frame.right + 2 || r.top < frame.top - 2 || r.bottom > frame.bottom + 2)
        problems.push(name + ": a mark lies outside");
      if (/NaN|inf/i.test(mark.outerHTML.replace(/<title>.*<.title>/, "")))
        problems.push(name + ": a mark without a place");
    }
    const texts = [...svg.querySelectorAll("text")];
    for (let i = 0; i < texts.length; i++) {
      const r = rect(texts[i]);
      if (r.left < frame.left - 1 || r.right > frame.right + 1 || r.bottom > frame.bottom + 1)
        problems.push(name + ": label '" + texts[i].textContent + "' lies outside");
      for (let j = 0; j < i; j++)
        if (over(r, rect(texts[j])))
          problems.push(name + ": '" + texts[i].textContent + "' over '" + texts[j].textContent + "'");
    }
  }
  const blocks = [...document.querySelectorAll("h1, h2, h3, p, figure, .legend, .scroll, pre")];
  for (let i = 0; i < blocks.length; i++)
    for (let j = 0; j < i; j++)
      if (over(rect(blocks[i]), rect(blocks[j])))
        problems.push(blocks[i].tagName + " '" + blocks[i].textContent.slice(0, 40) + "' over " + blocks[j].tagName);
  const width = document.documentElement.scrollWidth;
  if (width > innerWidth + 1) problems.push("the page is " + width + " px wide in a window of " + innerWidth);
  for (const table of document.querySelectorAll(".scroll"))  // a screen that is narrower may scroll
    if (innerWidth >= 1000 && table.scrollWidth > table.clientWidth + 1)
      problems.push("a table is " + table.scrollWidth + " px wide, of which " + table.clientWidth + " px are seen");
  const style = getComputedStyle(document.body);
  const out = document.createElement("pre");
  out.id = "probe";
  out.textContent = JSON.stringify({plots, marks, problems, width: innerWidth, paper: style.backgroundColor,
    ink: style.color, requests: [...document.querySelectorAll("img, link, script[src], iframe, object, image, use")]
      .map(e => e.src || e.href || e.data || "").concat(performance.getEntriesByType("resource").map(e => e.name))});
  document.body.append(out);
}, 0));
</script>
"""

VIEWS = {  # name: (width, height, dark, print)
    "light": (1200, 900, False, False),
    "dark": (1200, 900, True, False),
    "narrow": (500, 900, False, False),  # the narrowest window that Chromium makes
    "print": (760, 1000, False, True),
}


def chromium():
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if path := shutil.which(name):
            return path
    return None


def browse(program, page, width, height, dark, profile, *flags):
    """Output and messages of one run."""
    scheme = "--blink-settings=preferredColorScheme=" + ("0" if dark else "1")
    command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
               "--disable-extensions", "--disable-background-networking", "--disable-component-update",
               "--hide-scrollbars", "--enable-logging=stderr", "--log-level=0", "--virtual-time-budget=3000",
               f"--user-data-dir={profile}", f"--window-size={width},{height}", scheme, *flags, page.as_uri()]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if run.returncode != 0:
        sys.exit(f"{page}: Chromium ended with {run.returncode}:\n{run.stderr[-2000:]}")
    return run.stdout, [line for line in run.stderr.splitlines() if ":CONSOLE" in line]


def pixels(png: bytes):
    """Width, height and the set of colours of an 8-bit RGB(A) PNG."""
    at, data = 8, b""
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at : at + 8])
        body = png[at + 8 : at + 8 + size]
        if kind == b"IHDR":
            width, height, depth, color = struct.unpack(">IIBB", body[:10])
        elif kind == b"IDAT":
            data += body
        at += size + 12
    assert depth == 8 and color in (2, 6), (depth, color)
    step = 3 if color == 2 else 4
    raw, stride, before, colors = zlib.decompress(data), width * step, bytes(width * step), {}
    for y in range(height):
        row = bytearray(raw[y * (stride + 1) + 1 : (y + 1) * (stride + 1)])
        unfilter(raw[y * (stride + 1)], row, before, step)
        before = bytes(row)
        if y % 4:
            continue
        for x in range(0, stride, 4 * step):
            color = bytes(row[x : x + 3])
            colors[color] = colors.get(color, 0) + 1
    return width, height, colors


def unfilter(kind, row, before, step):
    for i in range(len(row)):
        left = row[i - step] if i >= step else 0
        up, corner = before[i], before[i - step] if i >= step else 0
        if kind == 1:
            row[i] = (row[i] + left) & 255
        elif kind == 2:
            row[i] = (row[i] + up) & 255
        elif kind == 3:
            row[i] = (row[i] + (left + up) // 2) & 255
        elif kind == 4:
            p = left + up - corner
            a, b, c = abs(p - left), abs(p - up), abs(p - corner)
            row[i] = (row[i] + (left if a <= b and a <= c else up if b <= c else corner)) & 255


def brightness(color: str) -> float:
    return sum(int(n) for n in re.findall(r"\d+", color)[:3]) / 3


def check(program, report, profile):
    problems = []
    html = report.read_text()
    with_plots = "<svg" in html
    for view, (width, height, dark, printed) in VIEWS.items():
        text = html.replace("@media print", "@media all") if printed else html
        with tempfile.TemporaryDirectory() as folder:
            page = pathlib.Path(folder) / "report.html"
            page.write_text(text.replace("</body>", PROBE + "</body>"))
            dom, console = browse(program, page, width, height, dark, profile, "--dump-dom")
            page.write_text(text)
            shot = report.parent / f"screenshot-{view}.png"
            browse(program, page, width, height * 3, dark, profile, f"--screenshot={shot}")
        found = re.search(r'<pre id="probe">(.*?)</pre>', dom, re.S)
        if not found:
            problems.append(f"{view}: the page did not answer")
            continue
        probe = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
        problems += [f"{view}: {problem}" for problem in probe["problems"]]
        problems += [f"{view}: console: {line}" for line in console]
        problems += [f"{view}: asks for {url}" for url in probe["requests"] if not url.startswith("data:")]
        if with_plots and probe["plots"] == 0:
            problems.append(f"{view}: no plot is drawn")
        if (brightness(probe["paper"]) < 128) != dark or (brightness(probe["ink"]) < 128) == dark:
            problems.append(f"{view}: {probe['ink']} on {probe['paper']}")
        _, _, colors = pixels(shot.read_bytes())
        if len(colors) < 8:
            problems.append(f"{view}: the screenshot has {len(colors)} colours")
        print(f"{report.parent.name} {view}: {probe['plots']} plots, {probe['marks']} marks, {probe['width']} px")
    pdf = report.parent / "report.pdf"
    browse(program, report, 1200, 900, False, profile, f"--print-to-pdf={pdf}", "--no-pdf-header-footer")
    if not pdf.read_bytes().startswith(b"%PDF"):
        problems.append("print: no PDF")
    return [f"{report.parent.name}: {problem}" for problem in problems]


def main():
    program = chromium()
    if program is None:
        print("NOT TESTED: there is no Chromium here; tools/setup installs it (apt-get install chromium)")
        return 1
    root = pathlib.Path(sys.argv[1])
    reports = sorted(root.glob("*/report.html")) or list(root.glob("report.html"))
    if not reports:
        sys.exit(f"no report below {root}")
    problems = []
    with tempfile.TemporaryDirectory() as profile:
        for report in reports:
            problems += check(program, report.resolve(), profile)
    for problem in problems:
        print("FAILED:", problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
