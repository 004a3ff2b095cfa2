// Package routing reads routes: what an HTTPRoute, GRPCRoute, TCPRoute or
// TLSRoute says, with its matches in order of precedence, its filters checked and
// its backends resolved, and every mistake reported (Read). To which ports and
// listeners a route attaches, and which route holds there, is said in policy/resolve.
package routing
