package file

import (
	"bytes"
	"encoding/json"
	"regexp"

	"github.com/causeway-mesh/causeway/discovery"
)

// The last content of files is stored for the next start, without Secrets: a
// private key stays only where somebody has put it. withoutSecrets returns the
// text of a file with blank lines in place of its Secrets, so that every other
// object stays on its line. It returns nil if the file has nothing else. docs are
// the documents of the file, and secrets the indexes of those with Secrets.
func withoutSecrets(docs []document, secrets map[int]bool) []byte {
	var out []byte
	empty := true
	for i, doc := range docs {
		text := doc.text
		if secrets[i] {
			text = doc.withoutSecrets()
		}
		empty = empty && document{text: text}.blank()
		if i > 0 { // its first bytes stand for the separator
			out = append(out, "---"...)
			text = text[len(separator):]
		}
		out = append(out, text...)
	}
	if empty {
		return nil
	}
	return out
}

// withoutSecrets returns as many lines as the document has: what is left of a
// List in the first of them.
func (d document) withoutSecrets() []byte {
	var out []byte
	if d.continues {
		out = append(out, separator+" "...)
	}
	if _, data, err := d.parse(new(int)); err == nil {
		if rest, left := remaining(data); left {
			out = append(out, rest...)
		}
	}
	return append(out, bytes.Repeat([]byte("\n"), bytes.Count(d.text, []byte("\n")))...)
}

// remaining returns an object without the Secrets in it, and whether anything is left.
func remaining(data []byte) (rest []byte, left bool) {
	var m meta
	if json.Unmarshal(data, &m) != nil || isSecret(m) {
		return nil, false
	}
	if !isList(m) {
		return data, true
	}
	items := []json.RawMessage{}
	for _, item := range m.Items {
		if rest, left := remaining(item); left {
			items = append(items, rest)
		}
	}
	rest, err := json.Marshal(map[string]any{"apiVersion": m.APIVersion, "kind": m.Kind, "items": items})
	return rest, err == nil && len(items) > 0
}

// quoted is a text in quotes of a YAML library's message, of more than a sign or two.
var quoted = regexp.MustCompile("'[^']{3,}'|\"[^\"]{3,}\"|`[^`]{3,}`")

// discreet returns a YAML library's message about a document. If the document
// may be a Secret, it leaves out the quoted text.
func (d document) discreet(message string) string {
	if bytes.Contains(d.text, []byte(discovery.KindSecret)) {
		return quoted.ReplaceAllString(message, "…")
	}
	return message
}

func isSecret(m meta) bool { return m.APIVersion == "v1" && m.Kind == discovery.KindSecret }

func isList(m meta) bool { return m.APIVersion == "v1" && m.Kind == "List" }
