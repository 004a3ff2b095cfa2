// Command values writes the default values of a Helm chart from its schema, which has each
// value's description and default: `values CHART` reads CHART/values.schema.json and writes
// CHART/values.yaml.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	goyaml "go.yaml.in/yaml/v3"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: values CHART")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "values:", err)
		os.Exit(1)
	}
}

func run(chart string) error {
	name := filepath.Join(chart, "values.schema.json")
	text, err := os.ReadFile(name) //nolint:gosec // the repository's own
	if err != nil {
		return err
	}
	var schema goyaml.Node // JSON is YAML, and a node keeps the order of keys
	if err := goyaml.Unmarshal(text, &schema); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	root := &goyaml.Node{Kind: goyaml.MappingNode}
	if err := fill(root, schema.Content[0], 0); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var out bytes.Buffer
	out.WriteString("# The chart's values and their defaults. `make generate` writes this file from\n# values.schema.json.\n\n")
	encoder := goyaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(root); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return os.WriteFile(filepath.Join(chart, "values.yaml"), out.Bytes(), 0o644) //nolint:gosec // everyone may read it
}

// fill adds the properties of a schema to a mapping.
func fill(to, schema *goyaml.Node, depth int) error {
	properties := member(schema, "properties")
	if properties == nil {
		return nil
	}
	for i := 0; i < len(properties.Content); i += 2 {
		name, property := properties.Content[i].Value, properties.Content[i+1]
		description := member(property, "description")
		if description == nil {
			return fmt.Errorf("%s has no description", name)
		}
		if name == "global" {
			continue // Helm's own
		}
		value := member(property, "default")
		if value == nil {
			value = &goyaml.Node{Kind: goyaml.MappingNode}
			if err := fill(value, property, depth+1); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		plain(value)
		key := &goyaml.Node{Kind: goyaml.ScalarNode, Value: name, HeadComment: wrap(description.Value, 100-2*depth)}
		to.Content = append(to.Content, key, value)
	}
	return nil
}

// member returns a value of a mapping, nil if there is none.
func member(of *goyaml.Node, key string) *goyaml.Node {
	for i := 0; i+1 < len(of.Content); i += 2 {
		if of.Content[i].Value == key {
			return of.Content[i+1]
		}
	}
	return nil
}

// plain takes JSON's quotes and braces away, but from what is empty.
func plain(n *goyaml.Node) {
	if len(n.Content) > 0 {
		n.Style = 0
	}
	if n.Kind == goyaml.ScalarNode && n.Value != "" {
		n.Style = 0
	}
	for _, c := range n.Content {
		plain(c)
	}
}

func wrap(text string, width int) string {
	var lines []string
	line := "#"
	for word := range slices.Values(strings.Fields(text)) {
		if len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = "#"
		}
		line += " " + word
	}
	return strings.Join(append(lines, line), "\n")
}
