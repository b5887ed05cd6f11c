"""The page's style: the colours of the report's page, light and dark; a layout for any width."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbfbf9; --panel: #ffffff; --ink: #1a1f26; --soft: #59636f; --line: #e3e6ea;
  --grid: #1a1f2614;
  --ours: #0072b2; --other: #4d5763; --peer: #7a4fa0; --noise: #6d7781; --alarm: #c24a00;
  --best: #0072b214;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", Arial,
    sans-serif;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --panel: #1b1f24; --ink: #e7e9ec; --soft: #9ba5b0; --line: #2c323a;
    --grid: #ffffff1a;
    --ours: #56b4e9; --other: #b9c1ca; --peer: #bd9fe0; --noise: #8a94a0; --alarm: #ff9152;
    --best: #56b4e922;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 0 32px 48px; max-width: 1480px; background: var(--paper);
  color: var(--ink);
  font: 14px/1.5 var(--sans); font-variant-numeric: tabular-nums; -webkit-text-size-adjust: 100%;
}
h1, h2, h3, h4, p, dl, dd, ul, figure { margin: 0; padding: 0; }
h1, h2, h3, figcaption, caption, li, p { overflow-wrap: anywhere; }
h1 { font-size: 24px; line-height: 1.25; font-weight: 650; letter-spacing: -.01em; }
h2 { font-size: 19px; font-weight: 650; }
h3 { font-size: 16px; font-weight: 650; }
ul { list-style: none; }
a { color: inherit; text-underline-offset: 2px; }
:focus-visible { outline: 2px solid var(--ours); outline-offset: 2px; }
.quiet, .notes, .lead { color: var(--soft); }
.lead { max-width: 90ch; }
header { padding: 28px 0 16px; display: grid; gap: 14px; }
.figures { display: flex; flex-wrap: wrap; gap: 12px 44px; }
.figures div { display: flex; flex-direction: column-reverse; }
.figures dd { font-size: 22px; line-height: 1.3; font-weight: 600; letter-spacing: -.01em; }
.figures dt { color: var(--soft); }
nav ul { display: flex; flex-wrap: wrap; gap: 4px 20px; }
main > section { border-top: 1px solid var(--line); padding: 24px 0 8px; margin-top: 20px; }
section section { padding-top: 24px; }
.scroll {
  overflow-x: auto; margin-top: 10px; background: var(--panel); border: 1px solid var(--line);
  border-radius: 8px;
}
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; padding: 10px 14px 4px; color: var(--soft); font-size: 13px; }
th, td { padding: 5px 11px; text-align: right; white-space: nowrap; font-weight: 400; }
th:first-child, td:first-child { text-align: left; padding-left: 14px; }
thead th {
  color: var(--soft); font-size: 12px; vertical-align: bottom; white-space: normal; min-width: 7ch;
}
tbody tr { border-top: 1px solid var(--line); }
tbody th { font-weight: 600; white-space: normal; min-width: 12ch; max-width: 34ch; }
tr.best { background: var(--best); }
tr.partial td, tr.partial th { color: var(--soft); }
table.text th, table.text td { text-align: left; vertical-align: top; }
table.text td.wide { white-space: normal; min-width: 280px; overflow-wrap: anywhere; }
.notes { margin-top: 8px; font-size: 13px; display: grid; gap: 2px; max-width: 120ch; }
.plots {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr));
  gap: 16px; margin-top: 14px; align-items: start;
}
figure {
  background: var(--panel); border: 1px solid var(--line); border-radius: 8px;
  padding: 12px 14px; min-width: 0;
}
figcaption { font-weight: 600; }
figcaption span { display: block; font-weight: 400; font-size: 13px; color: var(--soft); }
figure svg { display: block; width: 100%; max-width: 520px; height: auto; margin-top: 6px; }
.legend {
  display: flex; flex-wrap: wrap; gap: 2px 18px; font-size: 13px; color: var(--soft);
  margin-top: 10px;
}
.legend i {
  display: inline-block; width: 10px; height: 10px; border-radius: 5px; margin-right: 6px;
}
.notice {
  padding: 10px 16px; border-left: 3px solid var(--alarm); background: var(--panel);
  margin-top: 12px;
}
footer {
  margin-top: 36px; padding-top: 16px; border-top: 1px solid var(--line); color: var(--soft);
  font-size: 13px;
}

svg text { fill: var(--ink); font: 12px var(--sans); font-variant-numeric: tabular-nums; }
svg text.soft { fill: var(--soft); font-size: 11px; }
svg .grid { stroke: var(--grid); }
svg .axis { stroke: var(--soft); }
svg .lead { stroke: var(--soft); stroke-width: .75; }
svg .bar { stroke-linecap: butt; stroke-width: 10; opacity: .22; }
svg .spread { stroke-width: 1.5; }
svg .seed { opacity: .45; }
svg .group { stroke: var(--ink); stroke-width: 3; stroke-linecap: round; }
.ours { fill: var(--ours); stroke: var(--ours); background: var(--ours); }
.other { fill: var(--other); stroke: var(--other); background: var(--other); }
.peer { fill: var(--peer); stroke: var(--peer); background: var(--peer); }
.noise { fill: var(--noise); stroke: var(--noise); background: var(--noise); }
svg .hollow { fill: var(--panel); stroke-width: 1.5; }

@media (max-width: 700px) {
  body { padding: 0 14px 32px; }
  h1 { font-size: 20px; }
  .figures { gap: 8px 26px; }
  .figures dd { font-size: 18px; }
  th, td { padding: 5px 9px; }
  figure { padding: 10px; }
  tbody th, table:not(.text) thead th:first-child {
    position: sticky; left: 0; max-width: 46vw; overflow-wrap: break-word; background: var(--panel);
  }
}
@media print {
  body { padding: 0; max-width: none; font-size: 11px; }
  figure, .scroll { break-inside: avoid; }
}
"""
