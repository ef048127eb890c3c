#include "report/html.h"

namespace crible::report {

// Series colours c0 to c7 keep apart under the common kinds of colour blindness (after Okabe and
// Ito, 2008), tuned for contrast on each ground; shapes differ as well.
std::string_view page_style() {
  return R"css(
:root {
  --ground: #fcfcfb; --panel: #ffffff; --ink: #1c2429; --soft: #5d6971; --rule: #e2e6e5;
  --accent: #0a6b6b; --tint: #eef5f4; --code: #f1f3f3;
  --good: #0b6b45; --good-tint: #e3f4ea; --warning: #8a5300; --warning-tint: #fdf1d8;
  --bad: #a32323; --bad-tint: #fbe6e4; --info: #1b5a94; --info-tint: #e4eff9; --muted-tint: #f0f2f2;
  --c0: #0072b2; --c1: #d55e00; --c2: #00875f; --c3: #b34f8a; --c4: #b07a00; --c5: #2f93c9; --c6: #6a4fb3; --c7: #59646b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #12171a; --panel: #181f23; --ink: #e6eaec; --soft: #9aa7ae; --rule: #2b353a;
    --accent: #63c9c3; --tint: #1b2a2c; --code: #202a2f;
    --good: #7bd8a6; --good-tint: #16332a; --warning: #f0bf6a; --warning-tint: #352a16;
    --bad: #f29c94; --bad-tint: #3a1f1f; --info: #8fc3f2; --info-tint: #182c3f; --muted-tint: #20282c;
    --c0: #4aa8e0; --c1: #f08a45; --c2: #3cc795; --c3: #e089bd; --c4: #e3b341; --c5: #86cdf5; --c6: #ab95ec; --c7: #a3afb6;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 1.5rem; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 15.5px/1.6 system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif;
  font-variant-numeric: tabular-nums; }
.page { display: grid; grid-template-columns: 14rem minmax(0, 1fr); gap: 2.6rem; max-width: 92rem; margin: 0 auto; padding: 0 2rem; }
.contents { position: sticky; top: 0; align-self: start; max-height: 100vh; overflow-y: auto; padding: 2.6rem 0 2rem; font-size: .84rem; line-height: 1.4; }
.contents p { margin: 0 0 .8rem; font-size: .72rem; letter-spacing: .09em; text-transform: uppercase; color: var(--soft); }
.contents ol { list-style: none; margin: 0; padding: 0; }
.contents > ol > li { margin-bottom: .55rem; font-weight: 600; }
.contents ol ol { margin: .25rem 0 .6rem; padding-left: .8rem; border-left: 1px solid var(--rule); font-weight: 400; }
.contents a { display: block; padding: .12rem 0; color: var(--soft); text-decoration: none; overflow-wrap: anywhere; }
.contents > ol > li > a { color: var(--ink); }
.contents a:hover, .contents a:focus-visible { color: var(--accent); }
main { padding: 2.4rem 0 4rem; min-width: 0; }
header { border-bottom: 1px solid var(--rule); margin-bottom: 1.6rem; padding-bottom: 1.2rem; }
.brand { margin: 0; font-size: .78rem; font-weight: 700; letter-spacing: .14em; text-transform: uppercase; color: var(--accent); }
h1 { margin: .3rem 0 .35rem; font-size: 2.05rem; line-height: 1.2; letter-spacing: -.015em; overflow-wrap: anywhere; }
.subtitle { margin: 0; color: var(--soft); }
h2 { margin: 3.4rem 0 1rem; padding-top: 1.3rem; border-top: 2px solid var(--ink); font-size: 1.5rem; line-height: 1.25; letter-spacing: -.01em; }
h3 { margin: 2.4rem 0 .7rem; font-size: 1.16rem; line-height: 1.3; overflow-wrap: anywhere; }
h4 { margin: 1.7rem 0 .5rem; font-size: .92rem; color: var(--soft); font-weight: 650; }
.number { color: var(--soft); font-weight: 400; margin-right: .6em; }
p { margin: 0 0 .9rem; max-width: 46rem; }
a { color: var(--accent); text-decoration-thickness: 1px; text-underline-offset: .18em; }
a code { color: inherit; }
a:has(code) { text-decoration: none; }
a:has(code):hover { text-decoration: underline; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 3px; }
code, pre { font-family: ui-monospace, "SFMono-Regular", "Cascadia Mono", "DejaVu Sans Mono", Menlo, monospace; font-size: .87em; }
code { background: var(--code); border-radius: 4px; padding: .08em .34em; overflow-wrap: anywhere; }
pre { background: var(--code); border-radius: 8px; padding: .9rem 1.1rem; overflow-x: auto; line-height: 1.5; margin: 0 0 1.1rem; }
pre code { background: none; padding: 0; overflow-wrap: normal; }
.table { overflow-x: auto; margin: .4rem 0 1.2rem; border: 1px solid var(--rule); border-radius: 10px; background: var(--panel); }
table { border-collapse: collapse; width: 100%; font-size: .875rem; line-height: 1.4; }
caption { caption-side: top; text-align: left; padding: .7rem .7rem .2rem; color: var(--soft); font-size: .82rem; }
th, td { padding: .5rem .7rem; text-align: left; vertical-align: top; border-top: 1px solid var(--rule); }
thead th { border-top: 0; color: var(--soft); font-weight: 600; font-size: .78rem; vertical-align: bottom; }
tbody th { font-weight: 500; }
tbody tr:hover > * { background: var(--tint); }
th.right, td.right { text-align: right; white-space: nowrap; }
th.center, td.center { text-align: center; }
thead th.right { white-space: normal; }
td.right .detail { display: block; }
td code, tbody th code { white-space: nowrap; }
.detail { color: var(--soft); font-size: .87em; }
li .detail, p .detail, td.right .detail { white-space: nowrap; }
.sourced[title] { cursor: help; }
td:last-child { min-width: 8.5rem; }
.wide table { font-size: .79rem; }
.wide th, .wide td { padding: .45rem .42rem; }
.wide thead th { font-size: .72rem; }
.wide td:last-child { min-width: 6.5rem; }
.wide .pill { border-radius: .6rem; padding: .1rem .45rem; }
.pill { display: inline-block; padding: .1rem .6rem; border-radius: 1rem; font-weight: 550; font-size: .93em; }
.good { --tone: var(--good); --tone-tint: var(--good-tint); }
.warning { --tone: var(--warning); --tone-tint: var(--warning-tint); }
.bad { --tone: var(--bad); --tone-tint: var(--bad-tint); }
.info { --tone: var(--info); --tone-tint: var(--info-tint); }
.muted, .plain { --tone: var(--soft); --tone-tint: var(--muted-tint); }
.pill { color: var(--tone); background: var(--tone-tint); }
.callout { border-left: 4px solid var(--tone); background: var(--tone-tint); border-radius: 0 8px 8px 0; padding: .8rem 1.1rem; margin: 0 0 1.1rem; max-width: 54rem; }
.callout p { margin: .25rem 0 0; max-width: none; }
.callout .callout-title { margin: 0; font-weight: 650; color: var(--tone); }
.callout code { background: color-mix(in srgb, var(--panel) 65%, transparent); }
.points { list-style: none; margin: 0 0 1.1rem; padding: 0; max-width: 54rem; }
.points li { display: flex; gap: .65rem; padding: .16rem 0; }
.points li.none { padding-left: .1rem; color: var(--soft); font-size: .9rem; }
.points .sign { flex: none; width: 1.25rem; height: 1.25rem; margin-top: .16rem; border-radius: 50%; text-align: center; line-height: 1.2rem; font-size: .85rem; font-weight: 700; }
.points .strength .sign { color: var(--good); background: var(--good-tint); }
.points .weakness .sign { color: var(--warning); background: var(--warning-tint); }
.points .remark .sign { color: var(--soft); background: var(--muted-tint); }
.points .done .sign, .points .open .sign { border-radius: 5px; }
.points .done .sign { color: var(--good); background: var(--good-tint); }
.points .open .sign { border: 1.5px solid var(--soft); }
figure { margin: 1.4rem 0 1.6rem; padding: 1rem 1.2rem 1.1rem; border: 1px solid var(--rule); border-radius: 10px; background: var(--panel); max-width: 60rem; }
figcaption { margin-bottom: .9rem; color: var(--soft); font-size: .84rem; line-height: 1.45; }
figcaption strong { display: block; color: var(--ink); font-size: .95rem; }
.chart { display: block; width: 100%; height: auto; font: 12.5px system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; }
.chart text { fill: var(--ink); }
.chart .tick { fill: var(--soft); font-size: 11.5px; }
.chart .value { font-weight: 600; }
.chart .middle { text-anchor: middle; }
.chart .end { text-anchor: end; }
.chart .grid { stroke: var(--rule); stroke-width: 1; }
.chart .rule { stroke: var(--rule); stroke-width: 1; }
.chart .axis { stroke: var(--soft); stroke-width: 1; }
.chart .c0 { --series: var(--c0); } .chart .c1 { --series: var(--c1); } .chart .c2 { --series: var(--c2); } .chart .c3 { --series: var(--c3); }
.chart .c4 { --series: var(--c4); } .chart .c5 { --series: var(--c5); } .chart .c6 { --series: var(--c6); } .chart .c7 { --series: var(--c7); }
.chart .mark { fill: var(--series); stroke: var(--panel); stroke-width: 1.3; }
.chart .whisker { fill: var(--series); opacity: .32; }
.chart .sample { stroke: var(--series); stroke-width: 1.2; opacity: .6; }
.chart .bar { fill: var(--series); opacity: .82; }
.chart .limit { stroke: var(--ink); stroke-width: 2.5; }
.chart .line { fill: none; stroke: var(--series); stroke-width: 2; stroke-linejoin: round; }
.chart .dashed { stroke-dasharray: 6 4; }
footer { margin-top: 3.5rem; border-top: 1px solid var(--rule); padding-top: 1rem; color: var(--soft); font-size: .84rem; }
@media (max-width: 86rem) {
  .page { grid-template-columns: 11.5rem minmax(0, 1fr); gap: 1.7rem; padding: 0 1.2rem; }
  .wide table { font-size: .755rem; }
  .wide th, .wide td { padding: .45rem .32rem; }
}
@media (max-width: 62rem) {
  .page { display: block; padding: 0 1.1rem; }
  .contents { position: static; max-height: none; padding: 1.4rem 0 0; }
  .contents ol ol { display: none; }
  h1 { font-size: 1.6rem; }
}
@media print {
  body { font-size: 10pt; background: #fff; }
  .page { display: block; max-width: none; padding: 0; }
  .contents { display: none; }
  .table, figure, .callout, pre { break-inside: avoid; }
  .table { overflow: visible; }
  table { font-size: 8pt; }
  th, td { padding: .25rem .4rem; }
  h2, h3, h4 { break-after: avoid; }
}
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
)css";
}

}  // namespace crible::report
