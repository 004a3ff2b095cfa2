package page

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// The page is written by this one file, and not by html/template: with any template the linker drops no method of
// any type, and the binary doubles (docs/ARCHITECTURE.md). What a template engine finds out by parsing is said here by
// types. There are three places where data may stand: text, the value of an attribute in quotes, and a path of this
// server. There is none for scripts and styles, which are files, and the policy of the page (CSP) admits no others.

// node is a part of a page.
type node func(*bytes.Buffer)

// attribute of an element. attr, to and flag make it.
type attribute struct{ name, value string }

// path is an address of this server. here makes it.
type path string

// here returns the address of a page: each segment is one, whatever stands in it. The first one is never empty, so
// that the address cannot lead to another server.
func here(segments ...string) path {
	escaped := make([]string, len(segments))
	for i, s := range segments {
		escaped[i] = url.PathEscape(clean(s))
	}
	out := "/" + strings.Join(escaped, "/")
	if strings.HasPrefix(out, "//") { // it would be another server's
		panic("page: the first segment of an address is empty")
	}
	return path(out)
}

// with adds a query.
func (p path) with(q url.Values) path {
	if len(q) == 0 {
		return p
	}
	return p + "?" + path(q.Encode())
}

// plain are the attributes that take any text.
var plain = []string{
	"class", "id", "lang", "name", "content", "charset", "value", "type", "title", "scope", "role", "for", "datetime", "method", "rel", "autocomplete",
	"maxlength", "placeholder", "aria-label", "aria-labelledby", "aria-describedby", "aria-live", "aria-current", "aria-hidden", "data-part", "data-live",
	"data-keep", "data-head", "viewBox", "x", "y", "dx", "dy", "x1", "y1", "x2", "y2", "width", "height", "d", "cx", "cy", "r", "points", "text-anchor", "preserveAspectRatio",
	"colspan", "max", "min", "tabindex", "enctype", "inputmode",
}

// attr returns an attribute. Those that take an address, a script or a style are none that it takes.
func attr(name, value string) attribute {
	if !slices.Contains(plain, name) {
		panic("page: no attribute for data: " + name)
	}
	return attribute{name, value}
}

// class is the attribute of that name.
func class(names string) attribute { return attribute{"class", names} }

// flag returns an attribute without a value.
func flag(name string) attribute {
	if !slices.Contains([]string{"required", "autofocus", "defer", "selected", "hidden", "open", "checked"}, name) {
		panic("page: no attribute without a value: " + name)
	}
	return attribute{name, ""}
}

// to returns an attribute that takes an address: href, src or action.
func to(name string, p path) attribute {
	if name != "href" && name != "src" && name != "action" {
		panic("page: no attribute for an address: " + name)
	}
	return attribute{name, string(p)}
}

// void are the elements that have no end.
var void = []string{"meta", "link", "input", "br", "hr"}

// known are the elements that there are.
var known = []string{
	"html", "head", "title", "body", "header", "nav", "main", "footer", "section", "div", "span", "p", "a", "h1", "h2", "h3", "ul", "ol", "li", "table",
	"caption", "thead", "tbody", "tr", "th", "td", "dl", "dt", "dd", "form", "button", "label", "select", "option", "textarea", "details", "summary",
	"pre", "code", "time", "strong", "em", "svg", "g", "line", "polygon", "polyline", "text", "desc", "circle", "rect", "script", "fieldset", "legend",
}

// el returns an element. Its parts are attributes, nodes, lists of nodes, and strings, which are text; a nil part is
// nothing.
func el(name string, parts ...any) node {
	if !slices.Contains(known, name) && !slices.Contains(void, name) {
		panic("page: no such element: " + name)
	}
	return func(b *bytes.Buffer) {
		b.WriteByte('<')
		b.WriteString(name)
		for _, p := range parts {
			if a, ok := p.(attribute); ok && a.name != "" {
				b.WriteByte(' ')
				b.WriteString(a.name)
				b.WriteString(`="`)
				escape(b, a.value)
				b.WriteByte('"')
			}
		}
		b.WriteByte('>')
		if slices.Contains(void, name) {
			return
		}
		if name == "script" { // it has a source, and no text
			b.WriteString("</script>")
			return
		}
		for _, p := range parts {
			write(b, p)
		}
		b.WriteString("</")
		b.WriteString(name)
		b.WriteByte('>')
	}
}

func write(b *bytes.Buffer, part any) {
	switch p := part.(type) {
	case nil, attribute:
	case string:
		escape(b, p)
	case node:
		if p != nil {
			p(b)
		}
	case []node:
		for _, n := range p {
			write(b, n)
		}
	default:
		panic(fmt.Sprintf("page: %T is no part of a page", part))
	}
}

// text returns a formatted text.
func text(format string, args ...any) node {
	return func(b *bytes.Buffer) { escape(b, fmt.Sprintf(format, args...)) }
}

// render returns a node's HTML.
func render(n node) []byte {
	var b bytes.Buffer
	write(&b, n)
	return b.Bytes()
}

// escape writes a text so that it is one, between elements and between quotes.
func escape(b *bytes.Buffer, s string) {
	last := 0
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		var with string
		switch {
		case r == '&':
			with = "&amp;"
		case r == '<':
			with = "&lt;"
		case r == '>':
			with = "&gt;"
		case r == '"':
			with = "&#34;"
		case r == '\'':
			with = "&#39;"
		case misleads(r, size):
			with = "\uFFFD"
		}
		if with != "" {
			b.WriteString(s[last:i])
			b.WriteString(with)
			last = i + size
		}
		i += size
	}
	b.WriteString(s[last:])
}

// misleads reports whether a character is none, cannot be in HTML, or turns the direction in which the rest of the
// line is read, so that a name looks like another one.
func misleads(r rune, size int) bool {
	switch {
	case r == utf8.RuneError && size == 1:
		return true
	case r < ' ' && r != '\t' && r != '\n', r >= 0x7f && r < 0xa0:
		return true
	case r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x200e, r == 0x200f, r == 0x061c:
		return true
	}
	return false
}

// clean returns a text without what misleads.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if misleads(r, utf8.RuneLen(r)) {
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}
