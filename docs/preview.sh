#!/usr/bin/env bash
# Renders the pictures of the report in README.md: docs/report-light.png and docs/report-dark.png.
# Usage: docs/preview.sh report/report.html
# Needs Chromium (the variable CHROMIUM names its binary) and, for small files, pngquant.
set -euo pipefail
report=$(realpath "$1")
out=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Three columns of one report. Each scrolls to a figure of a section, or to the section's heading.
cat > "$work/preview.html" <<HTML
<!doctype html>
<meta name="color-scheme" content="light dark">
<style>
  body { margin: 0; display: flex; gap: 16px; padding: 16px; background: light-dark(#dcdce0, #000); }
  div { width: 464px; height: 736px; overflow: hidden; border-radius: 8px; }
  iframe { border: 0; width: 640px; height: 1016px; transform: scale(.725); transform-origin: 0 0; }
</style>
<div><iframe scrolling="no" data-section="augmentation" data-figure="0"></iframe></div>
<div><iframe scrolling="no" data-section="the-convolutional-network"></iframe></div>
<div><iframe scrolling="no" data-section="the-convolutional-network" data-figure="2"></iframe></div>
<script>
  for (const frame of document.querySelectorAll("iframe")) {
    frame.onload = () => {
      const heading = frame.contentDocument.getElementById("section-" + frame.dataset.section);
      const figures = heading.closest("section").querySelectorAll("figure:not(:has(table))");
      const target = "figure" in frame.dataset ? figures[frame.dataset.figure] : heading;
      frame.contentWindow.scrollTo(0, target.getBoundingClientRect().top - 16);
    };
    frame.src = "file://$report";
  }
</script>
HTML

for scheme in light dark; do
    # Blink's PreferredColorScheme: 0 is dark, 1 is light.
    preferred=$([ $scheme = dark ] && echo 0 || echo 1)
    "${CHROMIUM:-chromium}" --headless=new --no-sandbox --disable-gpu --hide-scrollbars --allow-file-access-from-files \
        --blink-settings=preferredColorScheme="$preferred" --virtual-time-budget=5000 --window-size=1456,768 \
        --screenshot="$out/report-$scheme.png" "file://$work/preview.html" 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
    if command -v pngquant > /dev/null; then
        pngquant --force --skip-if-larger --strip --output "$out/report-$scheme.png" 128 "$out/report-$scheme.png"
    fi
done
