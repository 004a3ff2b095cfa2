package inject

import (
	"bytes"
	stdjson "encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	goyaml "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"
)

// write returns the text of a document whose pod at a path was injected, which makes it mean want. Lines are
// put in between those that are there, so that nothing of the pod's own changes, comments too. Where that cannot be
// done, because the document is not in lines or has aliases, it is written anew.
func (i *Injection) write(text []byte, path []any, want map[string]any) ([]byte, error) {
	if out, ok := i.insert(text, path); ok {
		d := document{text: out}
		if d.parse() == nil && same(d.value, want) {
			return out, nil
		}
	}
	out, err := yaml.Marshal(want)
	if err != nil {
		return nil, fmt.Errorf("injection: %w", err)
	}
	return out, nil
}

// same reports whether two values are one in JSON.
func same(a, b map[string]any) bool {
	x, err := stdjson.Marshal(a)
	y, err2 := stdjson.Marshal(b)
	return err == nil && err2 == nil && bytes.Equal(x, y)
}

// insertion is lines that come before a line of a text.
type insertion struct {
	line int
	text string
}

// insert puts lines in. It reports whether each of them has a place.
func (i *Injection) insert(text []byte, path []any) ([]byte, bool) {
	var root goyaml.Node
	if goyaml.Unmarshal(text, &root) != nil || len(root.Content) != 1 {
		return nil, false
	}
	pod := root.Content[0]
	for _, step := range path {
		if pod = member(pod, step); pod == nil {
			return nil, false
		}
	}
	lists, err := i.decoded()
	if err != nil {
		return nil, false
	}
	lines := strings.SplitAfter(string(text), "\n")
	var places []insertion
	for _, add := range []struct {
		path  []string
		value any
	}{
		{[]string{"metadata", "annotations"}, i.Annotations},
		{[]string{"spec", "initContainers"}, lists["initContainers"]},
		{[]string{"spec", "volumes"}, lists["volumes"]},
	} {
		place, ok := placeOf(pod, add.path, add.value, lines)
		if !ok {
			return nil, false
		}
		places = append(places, place)
	}
	slices.SortStableFunc(places, func(a, b insertion) int { return a.line - b.line })
	var out strings.Builder
	for n, line := range lines {
		for len(places) > 0 && places[0].line == n+1 {
			ending := "\n"
			if strings.HasSuffix(line, "\r\n") {
				ending = "\r\n"
			}
			out.WriteString(strings.ReplaceAll(places[0].text, "\n", ending))
			places = places[1:]
		}
		out.WriteString(line)
	}
	return []byte(out.String()), true
}

// placeOf returns the lines for a value at a path below a node, which is added to what stands there.
func placeOf(node *goyaml.Node, path []string, value any, lines []string) (insertion, bool) {
	for len(path) > 0 {
		below := member(node, path[0])
		if below == nil {
			break
		}
		node, path = below, path[1:]
	}
	for _, name := range slices.Backward(path) {
		value = map[string]any{name: value}
	}
	text, err := yaml.Marshal(value)
	kind := reflect.TypeOf(value).Kind()
	if err != nil || node.Style&goyaml.FlowStyle != 0 || len(node.Content) == 0 ||
		kind == reflect.Map && node.Kind != goyaml.MappingNode || kind == reflect.Slice && node.Kind != goyaml.SequenceNode {
		return insertion{}, false
	}
	// A sequence's column is that of its first dash, and a mapping's that of its first key.
	line, column := node.Line, node.Column
	if node.Kind == goyaml.MappingNode {
		line, column = node.Content[0].Line, node.Content[0].Column
	}
	if line > len(lines) || column > len(lines[line-1]) || strings.Trim(lines[line-1][:column-1], " ") != "" {
		return insertion{}, false // something stands before it in its line, such as a dash or an anchor
	}
	indent := strings.Repeat(" ", column-1)
	var out strings.Builder
	for l := range strings.Lines(string(text)) {
		out.WriteString(indent + l)
	}
	return insertion{line, out.String()}, true
}

// member returns what a mapping has by a name or a sequence at an index, nil if there is none.
func member(of *goyaml.Node, step any) *goyaml.Node {
	switch key := step.(type) {
	case string:
		for i := 0; of.Kind == goyaml.MappingNode && i+1 < len(of.Content); i += 2 {
			if of.Content[i].Value == key {
				return of.Content[i+1]
			}
		}
	case int:
		if of.Kind == goyaml.SequenceNode && key < len(of.Content) {
			return of.Content[key]
		}
	}
	return nil
}
