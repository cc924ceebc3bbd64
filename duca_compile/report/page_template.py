"""The frame of the page: its style, and the places that `page.py` fills."""

from string import Template

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>duca-compile: $model</title>
<style>
body { margin: 0; background: #eef1f5; color: #1f2937; }
body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 28px 20px 60px; }
section { background: #fff; border: 1px solid #dde2e9; border-radius: 12px; padding: 20px 24px; margin: 16px 0; }
h1 { font-size: 17px; font-weight: 500; color: #5b6675; margin: 0; }
h2 { font-size: 17px; margin: 0 0 12px; }
h3 { font-size: 15px; margin: 22px 0 8px; }
.verdict { border-left: 8px solid #2e8b67; }
.verdict.partly { border-left-color: #d99a1c; }
.verdict.not { border-left-color: #c2453d; }
.headline { font-size: 25px; font-weight: 650; margin: 4px 0 14px; line-height: 1.25; }
.figures { display: flex; flex-wrap: wrap; gap: 12px 40px; margin: 0 0 14px; }
.figures div { min-width: 110px; }
.figures b { display: block; font-size: 22px; font-weight: 600; }
.figures span, .legend { color: #5b6675; font-size: 13px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; margin: 0; }
dt { color: #5b6675; }
dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; color: #5b6675; font-weight: 600; border-bottom: 2px solid #dde2e9; padding: 5px 12px 5px 0; }
td { border-bottom: 1px solid #eceff3; padding: 5px 12px 5px 0; vertical-align: top; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
code { font: 13px ui-monospace, "DejaVu Sans Mono", monospace; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 12px 0 0; padding: 0; list-style: none; }
.legend i { display: inline-block; width: 13px; height: 13px; border-radius: 3px; margin-right: 7px;
  border: 1px solid #9aa3af; vertical-align: -2px; }
svg { display: block; }
svg text { font: 12px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2937; }
svg text.small { font-size: 11px; fill: #5b6675; }
svg text.heading { font-weight: 600; fill: #5b6675; }
svg text.recipe { font-size: 13px; font-weight: 650; }
svg text.in { font-size: 11px; text-anchor: middle; }
.block { fill: #f7f9fb; stroke: #dde2e9; }
.stream { stroke: #4b5563; stroke-width: 2.5; }
.cut { stroke: #b3bac4; stroke-width: 2; stroke-dasharray: 5 5; }
.arrow { fill: #4b5563; }
.cache { fill: #fff; stroke: #2e8b67; stroke-width: 3; }
</style>
</head>
<body>
<main>
<section class="verdict $outcome">
<h1>duca-compile on <code>$model</code></h1>
<p class="headline">$headline</p>
$figures
$told
</section>
$schedule
$graphs
</main>
</body>
</html>
""")
SECTION = Template("<section>\n<h2>$title</h2>\n$body\n</section>")
PICTURE = Template('<div class="wide">$svg</div>\n<ul class="legend">$legend</ul>')
SUBTITLE = Template("<h3>$title</h3>")
