package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/xds/admin/terminal"
)

// wide is a table that is not fitted to the terminal, with more columns where a command has them.
const wide = "wide"

// outputFlag is the flag -o of the commands that print something.
type outputFlag struct{ format string }

func (o *outputFlag) add(c *cobra.Command) {
	o.format = "table"
	c.Flags().VarP(o, "output", "o", "how to print: table, wide, json or yaml")
}

// Set parses the flag's value, so that a wrong format is reported before anything
// is done.
func (o *outputFlag) Set(format string) error {
	switch format {
	case "table", wide, "json", "yaml":
		o.format = format
		return nil
	}
	return fmt.Errorf("%q is not table, wide, json or yaml", format)
}

func (o *outputFlag) String() string { return o.format }

// size is the terminal's, 0 and 0 also for what is not to be fitted to it.
func (o *outputFlag) size(c *cobra.Command) (columns, rows int) {
	if o.format == wide {
		return 0, 0
	}
	return terminal.Size(c.OutOrStdout())
}

// Type is how help names the value.
func (o *outputFlag) Type() string { return "format" }

// print prints a value as JSON or YAML, or as the table that rows makes of it. What proxies and people have written is in tables:
// on a terminal it is plain.
func (o *outputFlag) print(c *cobra.Command, v any, rows func(*phrase.Table)) error {
	switch o.format {
	case "table", wide:
		var text strings.Builder
		t := phrase.NewTable(&text)
		rows(t)
		if err := t.Flush(); err != nil {
			return err
		}
		_, err := io.WriteString(c.OutOrStdout(), terminal.Paint(c.OutOrStdout(), text.String()))
		return err
	case "json":
		out, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return fmt.Errorf("print: %w", err)
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), string(out))
		return err
	case "yaml":
		out, err := yaml.Marshal(v)
		if err != nil {
			return fmt.Errorf("print: %w", err)
		}
		_, err = c.OutOrStdout().Write(out)
		return err
	}
	return fmt.Errorf("--output: %q is not table, wide, json or yaml", o.format)
}
