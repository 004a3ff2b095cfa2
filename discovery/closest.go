package discovery

import (
	"slices"
	"strings"
)

// Closest returns the word that somebody probably meant who wrote another one,
// "" if none is near: a misspelt one, or one that is part of the other. Upper
// and lower case count as the same; of equally near words the first wins.
func Closest(written string, among []string) string {
	return nearest(written, among, func(word string) int {
		if partOf(written, word) || partOf(word, written) {
			return 1 // a plural, "timeouts"; a part, "prefix" for "pathPrefix"
		}
		return distance(strings.ToLower(written), strings.ToLower(word))
	})
}

// Misspelt returns which of some words another one is with a letter or a few
// wrong, "" if none.
func Misspelt(written string, among []string) string {
	return nearest(written, among, func(word string) int { return distance(strings.ToLower(written), strings.ToLower(word)) })
}

// Meant returns the object that somebody probably meant who named another one:
// a similar name in the same namespace, else the same name in another one, else
// a name that is similar as a whole. It is zero if none is near.
func Meant(missing Key, among []Key) Key {
	var own, all []string
	var elsewhere []Key
	for _, k := range among {
		all = append(all, k.String())
		switch {
		case k.Namespace == missing.Namespace:
			own = append(own, k.Name)
		case k.Name == missing.Name:
			elsewhere = append(elsewhere, k)
		}
	}
	slices.Sort(own)
	slices.Sort(all)
	if name := Closest(missing.Name, own); name != "" {
		return Key{missing.Namespace, name}
	}
	if len(elsewhere) > 0 {
		return slices.MinFunc(elsewhere, func(a, b Key) int { return strings.Compare(a.String(), b.String()) })
	}
	namespace, name, _ := strings.Cut(Misspelt(missing.String(), all), "/")
	return Key{namespace, name}
}

func nearest(written string, among []string, far func(string) int) string {
	best, least := "", len(written)
	for _, word := range among {
		if word == written {
			continue
		}
		// One of two letters may lack the third.
		if d := far(word); d < least && d <= max(len(written), min(len(word), 3))/3 {
			best, least = word, d
		}
	}
	return best
}

// partOf reports whether a word begins or ends another and is half of it or more.
func partOf(part, whole string) bool {
	part, whole = strings.ToLower(part), strings.ToLower(whole)
	return 2*len(part) >= len(whole) && len(part) > 3 && (strings.HasPrefix(whole, part) || strings.HasSuffix(whole, part))
}

// distance is how many letters must be put in, left out, replaced, or swapped
// with their neighbour to make b of a.
func distance(a, b string) int {
	before, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}
