package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	goyaml "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"
)

// document is one document of a file: its text and the line before it.
type document struct {
	text []byte
	line int
	// continues is true for all but the first: the text then begins with the
	// rest of the separator's own line, after separator.
	continues bool
}

// separator replaces the "---" before a document in its text, so that columns
// stay as they are.
const separator = "   "

// documents cuts a file at its "---" lines. In the first column these three
// characters are always a separator, in whatever they stand (YAML 1.2, 9.1.2).
func documents(data []byte) []document {
	var out []document
	current := document{}
	number := 0
	for line := range bytes.Lines(data) {
		number++
		text := bytes.TrimRight(line, "\r\n")
		if bytes.HasPrefix(text, []byte("---")) && (len(text) == 3 || text[3] == ' ' || text[3] == '\t') {
			out = append(out, current)
			// What follows on the separator's own line belongs to the document.
			current = document{text: append([]byte(separator), line[3:]...), line: number - 1, continues: true}
			continue
		}
		current.text = append(current.text, line...)
	}
	return append(out, current)
}

// blank reports whether a document has nothing but comments and directives.
func (d document) blank() bool {
	for line := range bytes.Lines(d.text) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && line[0] != '%' && !bytes.Equal(line, []byte("...")) {
			return false
		}
	}
	return true
}

// yamlError is what a YAML library says, with the line in the file.
type yamlError struct {
	line int
	text string
}

var (
	yamlLine = regexp.MustCompile(`line (\d+): `)
	// parserError is what the YAML library's parser says, which counts lines
	// from 0; its scanner and decoder count from 1.
	parserError = regexp.MustCompile(`^did not find expected (node content|',' or|'-' indicator|key|<)`)
)

// located takes the lines out of a YAML library's message, which may tell several mistakes.
func (d document) located(err error) []yamlError {
	text := strings.TrimPrefix(err.Error(), "error converting YAML to JSON: ")
	text = strings.TrimPrefix(text, "yaml: ")
	list, several := strings.CutPrefix(text, "unmarshal errors:\n")
	if !several {
		text, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
		return []yamlError{d.locatedLine(text)}
	}
	var out []yamlError
	for text := range strings.Lines(list) {
		if len(out) > maxProblems {
			break
		}
		out = append(out, d.locatedLine(strings.TrimSpace(text)))
	}
	return out
}

func (d document) locatedLine(text string) yamlError {
	line := 1
	if m := yamlLine.FindStringSubmatchIndex(text); m != nil {
		line, _ = strconv.Atoi(text[m[2]:m[3]]) // digits
		text = text[:m[0]] + text[m[1]:]
		if parserError.MatchString(text) {
			line++
		}
	}
	return d.mistake(min(max(line, 1), 1+bytes.Count(d.text, []byte("\n"))), text)
}

// mistake says what is wrong on a line of the document.
func (d document) mistake(line int, text string) yamlError {
	// An expression of a template is a mapping with a mapping as its key, or is broken off.
	if at := bytes.Index(d.text, []byte("{{")); at >= 0 && (strings.Contains(text, "invalid map key: map[") || bytes.Contains(nth(d.text, line), []byte("{{"))) {
		return yamlError{d.line + 1 + bytes.Count(d.text[:at], []byte("\n")), "a template, which is no YAML before it is rendered: check what comes out: helm template CHART | causeway validate -"}
	}
	return yamlError{d.line + line, "not YAML: " + d.discreet(text)}
}

// nth returns a line of a text.
func nth(text []byte, n int) []byte {
	for line := range bytes.Lines(text) {
		if n--; n == 0 {
			return line
		}
	}
	return nil
}

// parse reads a document twice: for its values, as kubectl reads them, and for
// the lines that they are on. aliases counts what the aliases of a file stand for.
func (d document) parse(aliases *int) (tree, []byte, []yamlError) {
	var node goyaml.Node
	dec := goyaml.NewDecoder(bytes.NewReader(d.text))
	if err := dec.Decode(&node); err != nil {
		return tree{}, nil, d.located(err)
	}
	if err := dec.Decode(new(goyaml.Node)); !errors.Is(err, io.EOF) {
		return tree{}, nil, []yamlError{{d.line + 1, `something follows the end of the document: separate documents with "---"`}}
	}
	if *aliases += expanded(&node); *aliases > maxExpanded {
		return tree{}, nil, []yamlError{{d.line + 1, fmt.Sprintf("the aliases of the file stand for more than %d values up to here: write out what they repeat, or split the file", maxExpanded)}}
	}
	if errs := d.twice(&node); len(errs) > 0 {
		return tree{}, nil, errs
	}
	data, err := yaml.YAMLToJSONStrict(d.text)
	if err != nil {
		return tree{}, nil, d.located(err)
	}
	return tree{node: node.Content[0], key: node.Content[0].Line, before: d.line}, data, nil
}

// aliasToken is what looks like an alias.
var aliasToken = regexp.MustCompile(`(^|[\s,\[{:-])\*[A-Za-z0-9_-]`)

// tooManyAliases reports whether a file has more aliases than they may stand for values.
func tooManyAliases(data []byte) bool {
	return len(aliasToken.FindAllIndex(data, maxExpanded+1)) > maxExpanded
}

// maxExpanded is how many values the aliases of a file may stand for. A few
// kilobytes of aliases of aliases could stand for more than fits into memory.
const maxExpanded = 20_000

// expanded returns how many values the aliases below a node stand for, or some
// number above maxExpanded.
func expanded(node *goyaml.Node) int {
	sizes := make(map[*goyaml.Node]int) // of what anchors name
	sum := 0
	var size func(n *goyaml.Node) int
	size = func(n *goyaml.Node) int {
		if n.Kind == goyaml.AliasNode {
			whole, known := sizes[n.Alias]
			if !known {
				sizes[n.Alias] = maxExpanded + 1 // an alias within what it names has no end
				whole = size(n.Alias)
				sizes[n.Alias] = whole
			}
			sum = min(sum+whole, maxExpanded+1)
			return whole
		}
		total := 1
		for _, c := range n.Content {
			total = min(total+size(c), maxExpanded+1)
		}
		return total
	}
	size(node)
	return sum
}

// tree is a value in a document and the line that it begins on.
type tree struct {
	node *goyaml.Node
	// key is the line of the value's key, in the document.
	key int
	// before is the line before the document.
	before int
}

func (t tree) line() int { return t.before + t.key }

func (t tree) isMapping() bool {
	n := t.resolved()
	return n != nil && n.Kind == goyaml.MappingNode
}

func (t tree) isNull() bool {
	n := t.resolved()
	return n != nil && n.Kind == goyaml.ScalarNode && n.Tag == "!!null"
}

func (t tree) resolved() *goyaml.Node {
	if t.node != nil && t.node.Kind == goyaml.AliasNode {
		return t.node.Alias
	}
	return t.node
}

// at returns the value of a key or at an index. Where there is none, it is the
// value itself, so that its line is the closest that is known.
func (t tree) at(step string) tree {
	n := t.resolved()
	if n == nil {
		return t
	}
	switch n.Kind {
	case goyaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == step {
				return tree{n.Content[i+1], n.Content[i].Line, t.before}
			}
		}
	case goyaml.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.Content) {
			return tree{n.Content[i], n.Content[i].Line, t.before}
		}
	case goyaml.DocumentNode, goyaml.ScalarNode, goyaml.AliasNode:
	}
	return tree{nil, t.key, t.before}
}

// keys returns the keys of a mapping.
func (t tree) keys() []string {
	var out []string
	if n := t.resolved(); n != nil && n.Kind == goyaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			out = append(out, n.Content[i].Value)
		}
	}
	return out
}

// find returns the line of a path like spec.ports[0].name, or of as much of
// it as there is. A key may contain dots itself, as annotations' do.
func (t tree) find(path string) int {
	for path != "" {
		path = strings.TrimLeft(path, `.[]"`)
		n := t.resolved()
		if n == nil {
			break
		}
		step, rest := cut(path)
		if n.Kind == goyaml.MappingNode {
			for i := 0; i+1 < len(n.Content); i += 2 {
				k := n.Content[i].Value
				if len(k) > len(step) && (path == k || strings.HasPrefix(path, k) && strings.ContainsRune(`.["`, rune(path[len(k)]))) {
					step, rest = k, path[len(k):]
				}
			}
		}
		t, path = t.at(step), rest
	}
	return t.line()
}

// cut splits a path after its first step.
func cut(path string) (step, rest string) {
	if i := strings.IndexAny(path, `.[]"`); i >= 0 {
		return path[:i], path[i:]
	}
	return path, ""
}
