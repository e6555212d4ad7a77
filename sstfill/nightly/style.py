# SPDX-License-Identifier: Apache-2.0
"""How the page of a report looks."""

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1d1d1f; background: #fff; max-width: 1000px; margin: 0 auto;
  padding: 16px; }
h1 { font-size: 1.5em; margin: .2em 0; }
h2 { font-size: 1.15em; margin: 1.4em 0 .5em; }
.status { display: inline-block; padding: .35em .8em; border-radius: 6px; margin: .3em 0; }
.status.fine { background: #e3f3e6; color: #14532d; }
.status.attention { background: #fdf0d5; color: #6b4200; }
.status.failed { background: #fbe4e2; color: #8c1d18; }
section.attention, section.failed { border-left: 4px solid #d98e04; padding: .1em 1em; background: #fffaf0; }
section.failed { border-color: #b3261e; background: #fff5f4; }
.tiles { display: flex; flex-wrap: wrap; gap: 10px; }
.tiles div { background: #f4f4f6; border-radius: 6px; padding: .5em .9em; }
.tiles b { font-size: 1.3em; margin-right: .2em; }
figure { margin: .8em 0; }
img, svg { max-width: 100%; height: auto; display: block; }
figcaption, .small { color: #606066; font-size: .87em; }
svg text { font: 12px system-ui, sans-serif; fill: #606066; paint-order: stroke; stroke: #fff; stroke-width: 3px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25em .7em; text-align: right; border-bottom: 1px solid #e6e6ea; white-space: nowrap;
  font-weight: normal; }
th { color: #606066; }
table.left th, table.left td { text-align: left; white-space: normal; vertical-align: top; }
tr.attention td { background: #fffaf0; }
tr.failed td { background: #fff5f4; }
pre { background: #f4f4f6; padding: .8em; border-radius: 6px; overflow-x: auto; font-size: .87em;
  white-space: pre-wrap; }
"""
