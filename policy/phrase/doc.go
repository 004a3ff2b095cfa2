// Package phrase writes what messages are made of: lists, durations and shares, and fits
// them to the width of a terminal, in one way wherever they are told.
package phrase
