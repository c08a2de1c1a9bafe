"""The one style sheet of the pages: light and dark, for screens from 360 pixels on, and for paper.

Green stands for "passed" and for nothing else. Colours of text have a contrast of at least 4.5 to their background.
"""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #ffffff; --panel: #f5f7f9; --line: #dce1e7; --text: #1c2530; --muted: #566270;
  --ink: #33608f; --wash: #b9cde2; --gap: #e8ecf1;
  --passed: #176b34; --passed-wash: #e8f5ec; --failed: #b3261e; --failed-wash: #fdeceb;
  --open: #7d5300; --open-wash: #fcf3df;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #13171c; --panel: #1b2128; --line: #313a44; --text: #e4e9ee; --muted: #a0acb8;
    --ink: #86b3e3; --wash: #35506d; --gap: #252e37;
    --passed: #6bd08b; --passed-wash: #14291c; --failed: #ff958c; --failed-wash: #391b19;
    --open: #e9bd62; --open-wash: #302610;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--text); overflow-wrap: anywhere;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
}
main { max-width: 58rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1, h2, h3, p, ul, dl, figure, table { margin: 0; }
h1 { font-size: 1.6rem; line-height: 1.25; font-weight: 650; }
h2 { font-size: 1.15rem; line-height: 1.3; font-weight: 650; margin-bottom: .75rem; }
h3 { font-size: 1rem; font-weight: 650; margin: 1.25rem 0 .4rem; }
p + p, p + ul, ul + p, dl + p, p + dl, p + .table, .table + p, p + figure, figure + p, p + details {
  margin-top: .75rem; }
figure + .table, .table + .table { margin-top: 1.75rem; }
section, .banner, .tiles { margin-top: 2.5rem; }
section > p, section > ul { max-width: 44rem; }
.kicker { color: var(--muted); font-size: .875rem; margin-bottom: .25rem; }
.note, figcaption p, caption { color: var(--muted); font-size: .875rem; }
code { font: .875em/1.4 ui-monospace, "SFMono-Regular", Menlo, Consolas, "Liberation Mono", monospace; }
ul { padding-left: 1.2rem; }
li + li { margin-top: .35rem; }

.banner { display: flex; gap: 1.25rem; align-items: flex-start; padding: 1.25rem 1.5rem; border-radius: .5rem;
  border: 1px solid var(--line); border-left-width: .4rem; background: var(--panel); }
.banner > svg { flex: none; width: 2.75rem; height: 2.75rem; }
.banner .word { font-size: 1.5rem; font-weight: 700; line-height: 1.2; margin-bottom: .25rem; }
.banner.passed { background: var(--passed-wash); border-color: var(--passed); }
.banner.failed { background: var(--failed-wash); border-color: var(--failed); }
.banner.not_checked { background: var(--open-wash); border-color: var(--open); }
.passed .word, .mark.passed { color: var(--passed); }
.failed .word, .mark.failed { color: var(--failed); }
.not_checked .word, .mark.not_checked { color: var(--open); }
.mark.not_applicable { color: var(--muted); }
.icon { fill: none; stroke: currentColor; stroke-width: 2.2; stroke-linecap: round; stroke-linejoin: round; }
.mark { display: inline-flex; gap: .4rem; align-items: center; font-weight: 600; white-space: nowrap;
  vertical-align: bottom; }
.mark svg { flex: none; width: 1.1rem; height: 1.1rem; }

.facts { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .4rem 1.5rem; }
.facts dt { color: var(--muted); }
.facts dd { margin: 0; }
.banner + .facts, header + .facts { margin-top: 1.75rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr)); gap: 1rem; }
.tiles div { border: 1px solid var(--line); border-radius: .5rem; padding: .9rem 1.1rem; background: var(--panel); }
.tiles dt { color: var(--muted); font-size: .875rem; }
.tiles dd { margin: 0; }
.tiles .figure { font-size: 1.35rem; font-weight: 650; line-height: 1.35; font-variant-numeric: tabular-nums; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 1.25rem 2.5rem; }
.columns h3 { margin-top: 0; }

.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .925rem; }
caption { text-align: left; padding-bottom: .6rem; }
th, td { text-align: left; vertical-align: top; padding: .55rem 1rem .55rem 0; border-bottom: 1px solid var(--line);
  font-weight: 400; }
th:last-child, td:last-child { padding-right: 0; }
thead th { color: var(--muted); font-size: .8125rem; font-weight: 600; vertical-align: bottom; white-space: nowrap; }
tbody th { font-weight: 600; min-width: 7.5rem; }
td { min-width: 4rem; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }

figure { margin-top: 1rem; }
figcaption { margin-bottom: .9rem; }
figcaption h3 { margin: 0 0 .2rem; }
.plot { padding: 0 .5rem 0 3.25rem; }
.plot.wide { padding: 0; }
.plot > svg { display: block; width: 100%; overflow: visible; }
.plot text { fill: var(--muted); font-size: .75rem; unicode-bidi: isolate;
  paint-order: stroke; stroke: var(--page); stroke-width: 4px; stroke-linejoin: round; }
.plot .name { fill: var(--text); font-size: .8125rem; }
.plot .mono { font-family: ui-monospace, "SFMono-Regular", Menlo, Consolas, "Liberation Mono", monospace; }
.grid { stroke: var(--line); stroke-width: 1; }
.axis { stroke: var(--muted); stroke-width: 1; }
.bar, .use { fill: var(--ink); }
.gap { fill: var(--gap); }
.track { fill: var(--gap); }
.window { fill: var(--wash); }
.end { stroke: var(--text); stroke-width: 2; }
.arrow { fill: var(--muted); }
.rotation { stroke: var(--muted); stroke-width: 1; stroke-dasharray: 3 3; }
.line { stroke: var(--ink); stroke-width: 2; stroke-linecap: round; }
.point { fill: var(--ink); stroke-width: 2; stroke-linecap: round; }
.point.failed { stroke: var(--failed); fill: none; }
.point.not_checked { stroke: var(--open); fill: var(--page); }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; padding: 0; margin-top: .4rem;
  color: var(--muted); font-size: .875rem; }
.legend li { display: inline-flex; align-items: center; gap: .4rem; margin: 0; }
.legend svg { width: 1.25rem; height: .75rem; flex: none; }

details { border: 1px solid var(--line); border-radius: .5rem; padding: .7rem 1rem; }
.plot + details { margin-top: 1rem; }
summary { cursor: pointer; font-weight: 600; }
details[open] > summary { margin-bottom: .75rem; }
.glossary { display: grid; gap: .75rem; }
.glossary dt { font-weight: 600; }
.glossary dd { margin: 0; }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--muted);
  font-size: .875rem; }

@media (max-width: 42rem) {
  main { padding: 1.5rem 1rem 3rem; }
  h1 { font-size: 1.35rem; }
  section, .banner, .tiles { margin-top: 2rem; }
  .banner { padding: 1rem; gap: .9rem; }
  .banner > svg { width: 2rem; height: 2rem; }
  .facts { grid-template-columns: 1fr; gap: 0; }
  .facts dd { margin-bottom: .6rem; }
  .tiles { grid-template-columns: 1fr 1fr; gap: .75rem; }
  .tiles div { padding: .75rem .85rem; }
  .tiles .figure { font-size: 1.1rem; }
  .stacked, .stacked tbody, .stacked tr, .stacked th, .stacked td, .stacked caption { display: block; }
  .stacked thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .stacked tr { border-bottom: 1px solid var(--line); padding: .6rem 0; }
  .stacked th, .stacked td { border: 0; padding: .1rem 0; text-align: left; white-space: normal; }
  .stacked td[data-label]::before { content: attr(data-label) ": "; color: var(--muted); }
  .stacked td.number { display: inline-block; margin-right: 1.25rem; }
  .stacked .mark { white-space: normal; }
  .stacked td:empty { display: none; }
}
@media print {
  :root { --page: #fff; --panel: #fff; --text: #000; --muted: #444; --line: #bbb; }
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  tr, figure, .banner, .tiles div { break-inside: avoid; }
  h2, h3, caption { break-after: avoid; }
  .banner, .plot { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  table { font-size: 9pt; }
  details:has(.glossary)::details-content { content-visibility: visible; block-size: auto; }
}
"""
