"""What every page must be, whatever it shows: readable, in its window, in either colour scheme."""

from tests.help.chromium import Browser

WIDTHS = (1300, 400)
SCHEMES = ("light", "dark")
# WCAG 2.1, AA: 4.5 to 1, and 3 to 1 for large letters; what is disabled is exempt.
CONTRASTS = """
(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const parse = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return { r, g, b, a: a / 255 };
  };
  const luminance = ({ r, g, b }) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const background = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.a > 0.99) return colour;
    }
    return { r: 255, g: 255, b: 255 };
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data.trim()).join("");
    if (!text || element.matches("script, style, noscript, :disabled, option") || !element.getClientRects().length) continue;
    const style = getComputedStyle(element), size = parseFloat(style.fontSize);
    const colour = parse(element instanceof SVGElement ? style.fill : style.color);
    const [low, high] = [luminance(colour), luminance(background(element))].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) faint.push(`${text.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return faint;
})()
"""
NAMELESS = """
[...document.querySelectorAll("button, input, select, a[href], audio, canvas, img")]
  .filter((e) => e.getClientRects().length && !(e.textContent.trim() || e.getAttribute("aria-label")
    || e.alt || e.title || (e.labels && e.labels.length)))
  .map((e) => e.outerHTML.slice(0, 80))
"""


def check_seen(browser: Browser) -> None:
    """Fail if the page as it stands is wider than its window, faint, or has controls without a name."""
    for scheme in SCHEMES:
        browser.use_scheme(scheme)
        assert browser.run(CONTRASTS) == [], scheme
    for width in WIDTHS:
        browser.resize(width)
        assert browser.run("document.documentElement.scrollWidth - innerWidth") <= 0, width
    assert browser.run(NAMELESS) == []
    assert browser.complaints == []
