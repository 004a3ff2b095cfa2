package phrase

import (
	"io"
	"strings"
	"text/tabwriter"
)

// Table prints rows in columns. What writing fails with is the error of Flush.
type Table struct{ w *tabwriter.Writer }

// NewTable returns a table that is printed to a writer.
func NewTable(w io.Writer) *Table { return &Table{tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)} }

// Row prints a row. An empty cell is a dash, unless it is the only one.
func (t *Table) Row(cells ...string) {
	for i, c := range cells {
		if c == "" && len(cells) > 1 { // a row of nothing parts what stands around it
			cells[i] = "-"
		}
	}
	t.Cells(cells...)
}

// Cells prints a row in which an empty cell stays empty.
func (t *Table) Cells(cells ...string) { t.Text(strings.Join(cells, "\t")) }

// Text prints a line that belongs to no column.
func (t *Table) Text(line string) { _, _ = io.WriteString(t.w, line+"\n") }

// Section begins a section after an empty line.
func (t *Table) Section(title string) {
	t.Text("")
	t.Text(title)
}

// Flush prints what is left.
func (t *Table) Flush() error { return t.w.Flush() } //nolint:wrapcheck // the writer's own
