// Package settings reads the files of an agent's commands: names of flags, each with a value or a list of them.
package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/causeway-mesh/causeway/discovery"
)

// maxFile bounds what is read of a file.
const maxFile = 1 << 20

// Setting is one line of a file.
type Setting struct {
	Name   string
	Values []string
	// Line is where it stands, from 1.
	Line int
}

// Read reads a file that may have the settings of these names. Its error names the file and the line.
func Read(file string, known []string) ([]Setting, error) {
	f, err := os.Open(file) //nolint:gosec // it is what the flag is for
	if err != nil {
		return nil, fmt.Errorf("--config: %w: name a YAML file with settings that can be read (docs/hosts.md has one), or leave --config out", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("--config: %w", err)
	case len(text) > maxFile:
		return nil, fmt.Errorf("--config: %s has more than %d bytes: it is no file of settings", file, maxFile)
	}
	out, err := Parse(text, known)
	if err != nil {
		return nil, fmt.Errorf("--config: %s: %w", file, err)
	}
	return out, nil
}

// at is an error in a line.
func at(n *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("line %d: %w", n.Line, fmt.Errorf(format, args...))
}

// Parse reads the text of a file. Nothing in it is guessed: a value is what is written there.
func Parse(text []byte, known []string) ([]Setting, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, broken(err)
	}
	var more yaml.Node
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("it has more than one document: leave out what is after the first ---")
	}
	top := document.Content[0]
	switch {
	case top.Kind == yaml.ScalarNode && top.Tag == "!!null":
		return nil, nil // comments alone
	case top.Kind != yaml.MappingNode:
		return nil, at(top, "write settings, each in a line of its own: NAME: VALUE")
	}
	var out []Setting
	lines := make(map[string]int)
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		name := key.Value
		if err := check(key, known, lines[name]); err != nil {
			return nil, err
		}
		lines[name] = key.Line
		values, err := valuesOf(name, value)
		if err != nil {
			return nil, err
		}
		out = append(out, Setting{Name: name, Values: values, Line: key.Line})
	}
	return out, nil
}

// where finds the line in an error of the decoder's.
var where = regexp.MustCompile(`line \d+: .*`)

// broken returns the error of a text that is not YAML.
func broken(err error) error {
	why := strings.TrimPrefix(err.Error(), "yaml: ")
	if found := where.FindString(why); found != "" {
		why = found
	}
	return fmt.Errorf("%s: it is not YAML: write NAME: VALUE in each line", why)
}

// check refuses a name that is none, and one that stands in an earlier line too.
func check(key *yaml.Node, known []string, earlier int) error {
	if key.Kind != yaml.ScalarNode {
		return at(key, "write settings, each in a line of its own: NAME: VALUE")
	}
	for _, name := range known {
		switch {
		case name != key.Value:
		case earlier > 0:
			return at(key, "%s: it stands in line %d too: leave out one of the two", name, earlier)
		default:
			return nil
		}
	}
	if near := discovery.Closest(key.Value, known); near != "" {
		return at(key, "%s: there is no such setting: did you mean %s?", key.Value, near)
	}
	return at(key, "%s: there is no such setting: the names are those of the flags, without --", key.Value)
}

// valuesOf returns a value or those of a list, as they are written.
func valuesOf(name string, value *yaml.Node) ([]string, error) {
	items := []*yaml.Node{value}
	if value.Kind == yaml.SequenceNode {
		items = value.Content
	}
	out := make([]string, 0, len(items))
	for _, item := range items {
		switch {
		case item.Kind == yaml.AliasNode:
			return nil, at(item, "%s: *%s: write the value itself", name, item.Value)
		case item.Kind != yaml.ScalarNode:
			return nil, at(item, "%s: write text, a number, or a list of these", name)
		case item.Tag == "!!null":
			return nil, at(item, "%s: it has no value: write one, or leave the line out", name)
		}
		out = append(out, item.Value)
	}
	return out, nil
}

// Apply reads files into those flags of a command that its command line does not set. Of two files the later one wins.
func Apply(files []string, f *pflag.FlagSet) error {
	for _, file := range slices.Backward(files) {
		if err := apply(file, f); err != nil {
			return err
		}
	}
	return nil
}

// apply reads a file into those flags that are not set.
func apply(file string, f *pflag.FlagSet) error {
	var known []string
	f.VisitAll(func(flag *pflag.Flag) {
		if !flag.Hidden && flag.Name != "config" && flag.Name != "help" {
			known = append(known, flag.Name)
		}
	})
	settings, err := Read(file, known)
	if err != nil {
		return err
	}
	for _, s := range settings {
		if f.Changed(s.Name) {
			continue
		}
		flag := f.Lookup(s.Name)
		wrong := func(err error) error {
			return fmt.Errorf("--config: %s: line %d: %s: %w", file, s.Line, s.Name, err)
		}
		if list, ok := flag.Value.(pflag.SliceValue); ok && len(s.Values) != 1 {
			if err := list.Replace(s.Values); err != nil {
				return wrong(err)
			}
			flag.Changed = true
			continue
		}
		if len(s.Values) != 1 {
			return wrong(errors.New("it takes one value: write NAME: VALUE"))
		}
		if err := flag.Value.Set(s.Values[0]); err != nil {
			return wrong(fmt.Errorf("%q is not of the type %s (%w)%s", s.Values[0], flag.Value.Type(), err, example(flag.Value.Type())))
		}
		flag.Changed = true
	}
	return nil
}

// example returns a remedy for a value of the wrong type.
func example(kind string) string {
	switch kind {
	case "duration":
		return ": write, for example, 60s"
	case "bool":
		return ": write true or false"
	}
	return ""
}
