package explain

import (
	"slices"
	"strings"
)

// head2 is head for a request of HTTP/2. Such a request is about no connection, so nothing has to be
// taken out of it; what cannot be read gets no answer: its stream is reset.
func (e *evaluation) head2() (a *Answer, read bool) {
	if why := malformed(&e.req); why != "" {
		return closed("over HTTP/2 the proxy resets the request's stream (PROTOCOL_ERROR): %s", why), false
	}
	expect, te := e.req.values("expect"), 0
	headers := slices.DeleteFunc(slices.Clone(e.req.Headers), func(h Header) bool {
		switch h.Name {
		case "expect": // the proxy has sent the client 100
			return len(expect) == 1 && strings.EqualFold(h.Value, "100-continue")
		case "te": // that trailers are understood is passed on once
			te++
			return te > 1
		}
		return false
	})
	e.req.Headers = oneCookie(received(headers))
	return e.refused(), true
}

// malformed says why a request of HTTP/2 cannot be read (RFC 9113, section 8), "" if it can.
func malformed(r *Request) string {
	if r.NoHost {
		return "it names no host, or more than one by the header host and none by :authority"
	}
	for _, host := range slices.Concat([]string{r.Host}, r.Hosts) {
		switch {
		case host == "":
			return "it names a host that is empty"
		case strings.ContainsFunc(host, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '@' || strings.ContainsRune(hostless, c) }):
			return "a host has only letters, digits and -._~!$&'()*+,;=:%[]"
		}
	}
	switch {
	case r.Protocol != "":
		return "it asks for " + r.Protocol + " by CONNECT, which the proxy does not offer: clients open a connection of HTTP/1.1 for a websocket"
	case r.Method == methodConnect: // it has no path
	case !strings.HasPrefix(r.Path, "/") && (r.Path != "*" || r.Method != methodOptions):
		return badTarget
	case strings.ContainsFunc(r.Path, func(c rune) bool { return c <= ' ' || c == 0x7f }):
		return "a path has no space and no control character: clients send these percent-encoded"
	}
	for _, h := range r.Headers {
		switch name := h.Name; {
		case !isToken(name) || name != strings.ToLower(name):
			return "the header " + name + " is not in lower case, which names of HTTP/2 are"
		case slices.Contains([]string{"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}, name):
			return "the header " + name + " is about a connection of HTTP/1.1, and HTTP/2 has no place for it"
		case name == "te" && h.Value != "trailers":
			return "the header te says something else than trailers"
		}
	}
	return ""
}

// oneCookie joins the lines of cookies, into which HTTP/2 lets clients cut them
// (RFC 9113, section 8.2.3).
func oneCookie(headers []Header) []Header {
	var out []Header
	all := ""
	for _, h := range headers {
		switch {
		case h.Name != "cookie":
			out = append(out, h)
		case all == "":
			all = h.Value
		default:
			all += "; " + h.Value
		}
	}
	if all != "" {
		out = append(out, Header{"cookie", all})
	}
	return out
}
