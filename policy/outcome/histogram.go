package outcome

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
)

// subBits is how many bits of a value below its highest one tell buckets apart:
// a bucket is at most 1/32 of its values wide, so a quantile is wrong by at
// most 3 %.
const subBits = 5

// Histogram counts values by their size, in buckets that grow with them. The
// zero value is empty. It is small where few sizes occur, and it can be merged
// and subtracted exactly, unlike a list of quantiles.
type Histogram struct {
	// Buckets sorted by Index, each with a Count above 0.
	Buckets []Bucket
}

// Bucket counts the values of one range.
type Bucket struct {
	Index uint16
	Count uint64
}

// HistogramOf returns a histogram of buckets that somebody else has counted, in
// any order. Those that no value belongs to are left out.
func HistogramOf(buckets []Bucket) Histogram {
	out := slices.DeleteFunc(slices.Clone(buckets), func(b Bucket) bool {
		return b.Count == 0 || b.Index > bucketOf(math.MaxUint64)
	})
	slices.SortStableFunc(out, func(a, b Bucket) int { return cmp.Compare(a.Index, b.Index) })
	n := 0
	for _, b := range out {
		if n > 0 && out[n-1].Index == b.Index {
			out[n-1].Count = plus(out[n-1].Count, b.Count)
			continue
		}
		out[n] = b
		n++
	}
	return Histogram{out[:n]}
}

// bucketOf returns the index of a value's bucket.
func bucketOf(v uint64) uint16 {
	if v < 1<<subBits {
		return uint16(v)
	}
	exponent := bits.Len64(v) - 1 - subBits
	return uint16((exponent+1)<<subBits + int(v>>exponent) - 1<<subBits)
}

// bounds returns the least value of a bucket and how many values it is wide.
func bounds(index uint16) (low, width float64) {
	if index < 1<<subBits {
		return float64(index), 1
	}
	exponent := int(index>>subBits) - 1
	return math.Ldexp(float64(1<<subBits+int(index)&(1<<subBits-1)), exponent), math.Ldexp(1, exponent)
}

// Add counts a value n times.
func (h *Histogram) Add(v, n uint64) {
	if n == 0 {
		return
	}
	index := bucketOf(v)
	i, found := slices.BinarySearchFunc(h.Buckets, index, func(b Bucket, index uint16) int { return cmp.Compare(b.Index, index) })
	if found {
		h.Buckets[i].Count += n
		return
	}
	h.Buckets = slices.Insert(h.Buckets, i, Bucket{index, n})
}

// coarseBits is how many bits of a bucket's index a coarse histogram does without: its buckets are at most an
// eighth of their values wide.
const coarseBits = 2

// AddCoarse counts a value once in a histogram with fewer buckets. A histogram has either coarse buckets or fine ones.
func (h *Histogram) AddCoarse(v uint64) {
	low, _ := bounds(bucketOf(v) &^ (1<<coarseBits - 1))
	h.Add(uint64(low), 1)
}

// Without returns a histogram without the values that a coarse one has counted of the same ones. Which of its
// fine buckets they were in is not known: each has its part.
func (h *Histogram) Without(coarse Histogram) Histogram {
	out := h.Clone()
	for _, c := range coarse.Buckets {
		first, _ := slices.BinarySearchFunc(out.Buckets, c.Index&^(1<<coarseBits-1), func(b Bucket, index uint16) int { return cmp.Compare(b.Index, index) })
		last, all := first, uint64(0)
		for last < len(out.Buckets) && out.Buckets[last].Index>>coarseBits == c.Index>>coarseBits {
			all = plus(all, out.Buckets[last].Count)
			last++
		}
		gone := min(c.Count, all)
		for i := first; i < last; i++ {
			n := uint64(math.Round(rate(out.Buckets[i].Count, all) * float64(gone)))
			n = min(n, gone, out.Buckets[i].Count)
			all -= out.Buckets[i].Count
			out.Buckets[i].Count -= n
			gone -= n
		}
	}
	out.Buckets = slices.DeleteFunc(out.Buckets, func(b Bucket) bool { return b.Count == 0 })
	return out
}

func rate(part, all uint64) float64 {
	if all == 0 {
		return 0
	}
	return float64(part) / float64(all)
}

// Merge adds all that another histogram has counted.
func (h *Histogram) Merge(other Histogram) {
	h.combine(other, plus)
}

// Sub takes away what an older state of the same histogram had counted. A
// bucket that would fall below 0 is left at 0: counts never go backwards.
func (h *Histogram) Sub(older Histogram) {
	h.combine(older, func(a, b uint64) uint64 { return a - min(a, b) })
}

func (h *Histogram) combine(other Histogram, f func(a, b uint64) uint64) {
	out := make([]Bucket, 0, len(h.Buckets)+len(other.Buckets))
	add := func(index uint16, a, b uint64) {
		if n := f(a, b); n > 0 {
			out = append(out, Bucket{index, n})
		}
	}
	a, b := h.Buckets, other.Buckets
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Index < b[0].Index:
			add(a[0].Index, a[0].Count, 0)
			a = a[1:]
		case len(a) == 0 || b[0].Index < a[0].Index:
			add(b[0].Index, 0, b[0].Count)
			b = b[1:]
		default:
			add(a[0].Index, a[0].Count, b[0].Count)
			a, b = a[1:], b[1:]
		}
	}
	h.Buckets = out
}

// Clone returns a copy that shares nothing.
func (h *Histogram) Clone() Histogram { return Histogram{slices.Clone(h.Buckets)} }

// Total returns how many values were counted.
func (h *Histogram) Total() uint64 {
	n := uint64(0)
	for _, b := range h.Buckets {
		n = plus(n, b.Count)
	}
	return n
}

// Above returns how many values are greater than v, as far as the buckets tell:
// of v's own bucket the part that lies above.
func (h *Histogram) Above(v uint64) float64 {
	n := 0.
	for _, b := range h.Buckets {
		low, width := bounds(b.Index)
		n += float64(b.Count) * (1 - min(max((float64(v)-low)/width, 0), 1))
	}
	return n
}

// Quantile returns the value below which the part q (0 to 1) of the values
// lies, 0 of an empty histogram.
func (h *Histogram) Quantile(q float64) float64 {
	rank := q * float64(h.Total())
	for _, b := range h.Buckets {
		if n := float64(b.Count); rank > n {
			rank -= n
			continue
		}
		low, width := bounds(b.Index)
		return low + width*rank/float64(b.Count)
	}
	if n := len(h.Buckets); n > 0 {
		low, width := bounds(h.Buckets[n-1].Index)
		return low + width
	}
	return 0
}
