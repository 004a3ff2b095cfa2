package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// row is one measured figure, an object of bench.json. docs/performance.md
// documents the fields.
type row struct {
	// Name says what was measured; a name and its params occur once.
	Name   string         `json:"name"`
	Params map[string]any `json:"params"`
	Value  float64        `json:"value"`
	Unit   string         `json:"unit"`
	// Goal is the most that the design allows, nil where the figure is for information.
	Goal *float64 `json:"goal"`
	// Met is whether Value <= Goal.
	Met *bool `json:"met"`
	// Floor is the same figure of a sender of the same frames with nothing
	// behind it, in the same run; Ratio is Value / Floor, which RatioGoal limits.
	Floor     *float64 `json:"floor"`
	Ratio     *float64 `json:"ratio"`
	RatioGoal *float64 `json:"ratioGoal"`
	RatioMet  *bool    `json:"ratioMet"`
}

// report is bench.json.
type report struct {
	Time    time.Time `json:"time"`
	Go      string    `json:"go"`
	Cores   int       `json:"cores"`
	Source  string    `json:"source"` // kubernetes or files
	XDS     string    `json:"xds"`    // delta or sotw
	Version string    `json:"version,omitempty"`
	Rows    []*row    `json:"rows"`

	out io.Writer
}

func newReport(out io.Writer, source, xds string) *report {
	return &report{Time: time.Now().UTC(), Go: runtime.Version(), Cores: runtime.NumCPU(), Source: source, XDS: xds, out: out}
}

type params = map[string]any

// add records a figure.
func (r *report) add(name string, p params, value float64, unit string) *row {
	w := &row{Name: name, Params: p, Value: round(value), Unit: unit}
	r.Rows = append(r.Rows, w)
	_, _ = fmt.Fprintf(r.out, "  %s %s: %s %s\n", w.Name, w.params(), number(w.Value), w.Unit)
	return w
}

// withGoal sets the most that the design allows.
func (w *row) withGoal(goal float64) *row {
	w.Goal, w.Met = &goal, new(w.Value <= goal)
	return w
}

// withFloor compares with the floor of the same run; limit 0 is none.
func (w *row) withFloor(floor, limit float64) *row {
	if floor <= 0 {
		return w
	}
	w.Floor, w.Ratio = new(round(floor)), new(round(w.Value/floor))
	if limit > 0 {
		w.RatioGoal, w.RatioMet = &limit, new(*w.Ratio <= limit)
	}
	return w
}

// round keeps three significant digits, and all of large numbers.
func round(v float64) float64 {
	if v == 0 || math.Abs(v) >= 1000 {
		return math.Round(v)
	}
	scale := math.Pow(10, 2-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}

func number(v float64) string { return strings.TrimSuffix(fmt.Sprintf("%.6g", v), ".0") }

func (w *row) params() string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(w.Params)) {
		out = append(out, fmt.Sprintf("%s=%v", k, w.Params[k]))
	}
	return strings.Join(out, " ")
}

// missed returns the rows whose ratio to the floor is above its limit: those
// hold on any machine, while absolute goals need one that is not busy.
func (r *report) missed() (out []*row) {
	for _, w := range r.Rows {
		if w.RatioMet != nil && !*w.RatioMet {
			out = append(out, w)
		}
	}
	return out
}

func (r *report) write(path string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644) //nolint:gosec // for everyone to read
}

// print prints the rows as a table.
func (r *report) print() error {
	t := tabwriter.NewWriter(r.out, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "WHAT\tPARAMETERS\tVALUE\tUNIT\tGOAL\tMET\tFLOOR\tRATIO\tMOST\tMET")
	for _, w := range r.Rows {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", w.Name, w.params(), number(w.Value), w.Unit,
			optional(w.Goal), metText(w.Met), optional(w.Floor), optional(w.Ratio), optional(w.RatioGoal), metText(w.RatioMet))
	}
	return t.Flush()
}

// markdown prints the rows that have a goal or a floor as a Markdown table, which
// is how the figures get into the documentation.
func (r *report) markdown() error {
	var b strings.Builder
	b.WriteString("| what | of | measured | goal | floor | ratio |\n|---|---|---|---|---|---|\n")
	for _, w := range r.Rows {
		if w.Goal == nil && w.Floor == nil {
			continue
		}
		goal, ratio := optional(w.Goal), optional(w.Ratio)
		if w.Met != nil && !*w.Met {
			goal += " **missed**"
		}
		if w.RatioGoal != nil {
			ratio += " (at most " + optional(w.RatioGoal) + ")"
		}
		if w.RatioMet != nil && !*w.RatioMet {
			ratio += " **missed**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s %s | %s | %s | %s |\n", w.Name, w.params(), number(w.Value), w.Unit, goal, optional(w.Floor), ratio)
	}
	_, err := io.WriteString(r.out, b.String())
	return err
}

// readReport reads what write has written.
func readReport(path string, out io.Writer) (*report, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &report{out: out}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

func optional(v *float64) string {
	if v == nil {
		return "-"
	}
	return number(*v)
}

func metText(v *bool) string {
	switch {
	case v == nil:
		return "-"
	case *v:
		return "yes"
	}
	return "NO"
}
