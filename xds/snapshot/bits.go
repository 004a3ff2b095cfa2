package snapshot

import (
	"iter"
	"math/bits"
	"slices"
)

// bitset is a set of small numbers. They are resource ids: a mesh has
// thousands, and a stream's sets hold most of them. With one bit each, a
// stream's state takes a few hundred bytes; a map would take a few hundred
// kilobytes.
type bitset []uint64

func (b bitset) has(i uint32) bool {
	w := int(i >> 6)
	return w < len(b) && b[w]&(1<<(i&63)) != 0
}

func (b *bitset) set(i uint32) {
	w := int(i >> 6)
	if w >= len(*b) {
		grown := make(bitset, w+1+w/4)
		copy(grown, *b)
		*b = grown
	}
	(*b)[w] |= 1 << (i & 63)
}

// grow makes room for members below n, so that not each of them does.
func (b *bitset) grow(n int) {
	if words := (n + 63) / 64; words > len(*b) {
		grown := make(bitset, words)
		copy(grown, *b)
		*b = grown
	}
}

func (b bitset) clear(i uint32) {
	if w := int(i >> 6); w < len(b) {
		b[w] &^= 1 << (i & 63)
	}
}

func (b bitset) empty() bool {
	for _, w := range b {
		if w != 0 {
			return false
		}
	}
	return true
}

func (b bitset) count() int {
	n := 0
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

func (b *bitset) or(other bitset) {
	b.grow(len(other) * 64)
	for i, w := range other {
		(*b)[i] |= w
	}
}

// and returns the members of both.
func (b bitset) and(other bitset) bitset {
	out := slices.Clone(b[:min(len(b), len(other))])
	for i := range out {
		out[i] &= other[i]
	}
	return out
}

// all yields the members in ascending order. Members may be cleared meanwhile.
func (b bitset) all() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for w := range b {
			for word := b[w]; word != 0; word &= word - 1 {
				if !yield(uint32(w<<6 + bits.TrailingZeros64(word))) { //nolint:gosec // ids fit
					return
				}
			}
		}
	}
}
