package bench

import (
	"bufio"
	"fmt"
	"html"
	"io"
	"math"
)

// Plots in SVG: a panel for each figure, with a bar for each allocator.

// style follows the reader's choice of light or dark. It uses no CSS variables,
// because some image viewers do not support them.
const style = `
  svg text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  svg text.title { font-weight: 600; font-size: 14px }
  svg text.dim { fill: #59636e }
  svg .back { fill: #ffffff }
  svg .grid { stroke: #d1d9e0 }
  svg .first { fill: #0969da }
  svg .other { fill: #8c959f }
  svg .error { stroke: #1f2328; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    svg text { fill: #f0f6fc }
    svg text.dim { fill: #9198a1 }
    svg .back { fill: #0d1117 }
    svg .grid { stroke: #3d444d }
    svg .first { fill: #4493f8 }
    svg .other { fill: #656c76 }
    svg .error { stroke: #f0f6fc }
  }
`

// Places in a plot, in pixels.
const (
	plotWidth  = 860
	plotLeft   = 110 // left end of bars
	plotRight  = 620 // right end of the longest bar
	plotText   = 640 // left end of figures
	barHeight  = 14
	barStep    = 20
	panelTop   = 30 // above the first bar
	panelFloor = 46 // below the last bar
	plotTop    = 64
)

// SVG writes the report as one picture.
func (r *Report) SVG(out io.Writer) error {
	w := bufio.NewWriter(out)
	r.svg(w, r.figures())
	return w.Flush()
}

func (r *Report) svg(w io.Writer, figures []figure) {
	height := plotTop
	for _, f := range figures {
		height += f.height()
	}
	fmt.Fprintf(w, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %[1]d %[2]d\" role=\"img\">\n", plotWidth, height)
	fmt.Fprintf(w, "<title>slabfs bench</title>\n<style>%s</style>\n<rect class=\"back\" width=\"%d\" height=\"%d\"/>\n", style, plotWidth, height)
	text(w, 10, 20, "", r.machine())
	text(w, 10, 38, "dim", r.method())
	text(w, 10, 56, "dim", fmt.Sprintf("bars: medians; lines across their ends: quartiles; x: ratio to %s", r.Allocators[0]))
	y := plotTop
	for _, f := range figures {
		f.panel(w, y, r.Allocators)
		y += f.height()
	}
	fmt.Fprintln(w, "</svg>")
}

// bars returns the indices of the allocators that have figures.
func (f figure) bars() (list []int) {
	for j, s := range f.sums {
		if s.n > 0 {
			list = append(list, j)
		}
	}
	return list
}

func (f figure) height() int { return panelTop + barStep*len(f.bars()) + panelFloor }

// panel draws a figure at y.
func (f figure) panel(w io.Writer, y int, allocators []string) {
	text(w, 10, y+18, "title", f.label())
	top := 0.0
	for _, j := range f.bars() {
		top = max(top, f.sums[j].high, f.sums[j].median)
	}
	step, ticks := scale(top)
	at := func(v float64) float64 { return plotLeft + (plotRight-plotLeft)*v/(step*float64(ticks)) }
	bottom := y + panelTop + barStep*len(f.bars())
	for i := range ticks + 1 {
		v := step * float64(i)
		fmt.Fprintf(w, "<line class=\"grid\" x1=\"%.1f\" x2=\"%[1]f\" y1=\"%d\" y2=\"%d\"/>\n", at(v), y+panelTop-4, bottom)
		fmt.Fprintf(w, "<text class=\"dim\" text-anchor=\"middle\" x=\"%.1f\" y=\"%d\">%s</text>\n", at(v), bottom+14, html.EscapeString(f.unit.format(v)))
	}
	better := "less is better"
	if f.unit.more {
		better = "more is better"
	}
	text(w, plotLeft, bottom+30, "dim", f.unit.title()+", "+better)
	for i, j := range f.bars() {
		s, mid := f.sums[j], y+panelTop+barStep*i+barHeight/2
		class := "other"
		if j == 0 {
			class = "first"
		}
		fmt.Fprintf(w, "<text text-anchor=\"end\" x=\"%d\" y=\"%d\">%s</text>\n", plotLeft-8, mid+4, html.EscapeString(allocators[j]))
		fmt.Fprintf(w, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>\n", class, plotLeft, mid-barHeight/2, at(s.median)-plotLeft, barHeight)
		fmt.Fprintf(w, "<path class=\"error\" fill=\"none\" d=\"M%.1f %d h%.1f m0 -4 v8 M%.1[1]f %[4]d v8\"/>\n", at(s.low), mid, at(s.high)-at(s.low), mid-4)
		text(w, plotText, mid+4, "", s.figure(f.unit, j > 0))
	}
}

// title returns the title of the axis.
func (u unit) title() string {
	switch {
	case u == nsPerOp:
		return "time for one"
	case u.time():
		return "time"
	}
	return u.name
}

func text(w io.Writer, x, y int, class, s string) {
	fmt.Fprintf(w, "<text class=\"%s\" x=\"%d\" y=\"%d\">%s</text>\n", class, x, y, html.EscapeString(s))
}

// scale returns the step between round numbers on an axis that reaches top, and
// the number of steps.
func scale(top float64) (step float64, ticks int) {
	if !(top > 0) {
		return 1, 1
	}
	step = math.Pow(10, math.Floor(math.Log10(top)))
	for _, part := range []float64{0.2, 0.5, 1, 2} {
		if ticks = int(math.Ceil(top/(step*part) - 1e-9)); ticks <= 6 {
			return step * part, ticks
		}
	}
	return step * 2, ticks
}

// HTML writes the report as one page that needs no other files.
func (r *Report) HTML(out io.Writer) error {
	w := bufio.NewWriter(out)
	figures := r.figures()
	fmt.Fprintf(w, `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width"/>
<title>slabfs bench</title>
<style>%s
  html { color-scheme: light dark; background: #ffffff; color: #1f2328 }
  @media (prefers-color-scheme: dark) { html { background: #0d1117; color: #f0f6fc } }
  body { font: 14px system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em }
  svg { max-width: 100%%; height: auto }
  .wide { overflow-x: auto }
  table { border-collapse: collapse }
  th, td { padding: 0.2em 0.8em; text-align: right; white-space: nowrap; border-bottom: 1px solid #8c959f80 }
  th:first-child { text-align: left }
  dt { font-weight: 600 }
</style>
</head>
<body>
<h1>slabfs bench</h1>
`, style)
	r.svg(w, figures)
	fmt.Fprint(w, "<h2>Figures</h2>\n<div class=\"wide\"><table>\n<tr><th></th>")
	for _, name := range r.Allocators {
		fmt.Fprintf(w, "<th>%s</th>", html.EscapeString(name))
	}
	fmt.Fprintln(w, "</tr>")
	for _, f := range figures {
		fmt.Fprintf(w, "<tr><th>%s</th>", html.EscapeString(f.label()))
		for j, s := range f.sums {
			fmt.Fprintf(w, "<td>%s</td>", html.EscapeString(s.figure(f.unit, j > 0)))
		}
		fmt.Fprintln(w, "</tr>")
	}
	fmt.Fprint(w, "</table></div>\n<h2>Workloads</h2>\n<dl>\n")
	var last *workload
	for _, row := range r.rows() {
		if row.workload != last {
			fmt.Fprintf(w, "<dt>%s</dt><dd>%s</dd>\n", html.EscapeString(row.workload.name), html.EscapeString(row.what))
		}
		last = row.workload
	}
	fmt.Fprintln(w, "</dl>\n<h2>Allocators</h2>\n<dl>")
	for _, name := range r.Allocators {
		fmt.Fprintf(w, "<dt>%s</dt><dd>%s</dd>\n", html.EscapeString(name), html.EscapeString(columnOf(name).what))
	}
	fmt.Fprintln(w, "</dl>")
	for _, line := range r.remarks() {
		fmt.Fprintf(w, "<p>%s</p>\n", html.EscapeString(line))
	}
	fmt.Fprintln(w, "</body>\n</html>")
	return w.Flush()
}
