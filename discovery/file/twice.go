package file

import (
	"fmt"
	"strings"

	goyaml "go.yaml.in/yaml/v3"
)

// maxKey is how much of a key is shown, in bytes.
const maxKey = 100

// twice returns the keys of a document that stand twice in their mapping, each
// at its own line. The YAML library that reads the values tells the line of the
// value, which for a block is the one after, and tells all of them.
func (d document) twice(node *goyaml.Node) []yamlError {
	w := twiceKeys{document: d}
	w.walk(node)
	return w.found
}

type twiceKeys struct {
	document document
	found    []yamlError
}

func (w *twiceKeys) walk(n *goyaml.Node) {
	if n.Kind == goyaml.MappingNode {
		w.mapping(n, make(map[string]int), 0)
		return
	}
	for _, c := range n.Content { // an alias has none: what it names is walked where it stands
		w.walk(c)
	}
}

// mapping takes note of the keys of a mapping that are in lines already, and
// adds the others with their lines. Those that an alias merges into a mapping
// stand at the line of the merge, which is not 0 then.
func (w *twiceKeys) mapping(n *goyaml.Node, lines map[string]int, merge int) {
	for i := 0; i+1 < len(n.Content) && len(w.found) <= maxProblems; i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		line := key.Line
		if merge > 0 {
			line = merge
		}
		if key.Tag == "!!merge" {
			w.merge(value, lines, line, merge)
			continue
		}
		if name := (tree{node: key}).resolved(); name.Kind == goyaml.ScalarNode {
			if first := lines[name.Value]; first > 0 {
				w.found = append(w.found, w.document.mistake(line, fmt.Sprintf("key %q stands at line %d already: remove one", shownKey(name.Value), w.document.line+first)))
			} else {
				lines[name.Value] = line
			}
		}
		if merge == 0 {
			w.walk(key)
			w.walk(value)
		}
	}
}

// merge adds the keys of a mapping that is merged at a line, or of each one of
// a list. Anything else cannot be merged, which the YAML library says.
func (w *twiceKeys) merge(n *goyaml.Node, lines map[string]int, line, merge int) {
	if n.Kind == goyaml.AliasNode {
		n, merge = n.Alias, line
	}
	switch n.Kind { //nolint:exhaustive // see above
	case goyaml.MappingNode:
		w.mapping(n, lines, merge)
	case goyaml.SequenceNode:
		for _, c := range n.Content {
			w.merge(c, lines, line, merge)
		}
	}
}

func shownKey(key string) string {
	if len(key) > maxKey {
		return strings.ToValidUTF8(key[:maxKey], "") + "…"
	}
	return key
}
