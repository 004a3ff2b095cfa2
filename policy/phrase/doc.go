// Package phrase writes what messages are made of: lists, durations and shares,
// in one way wherever they are told.
package phrase
