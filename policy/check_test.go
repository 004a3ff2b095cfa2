package policy

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// These few checks keep this package's tests quick to build: testify, which all others use, brings net/http/httptest and YAML.

func equal[T any](t *testing.T, want, got T, about ...any) {
	t.Helper()
	if !reflect.DeepEqual(want, got) {
		t.Fatalf("want %v, got %v %s", want, got, fmt.Sprint(about...))
	}
}

func empty[T any](t *testing.T, got T, about ...any) {
	t.Helper()
	if v := reflect.ValueOf(got); v.Len() != 0 {
		t.Fatalf("want nothing, got %v %s", got, fmt.Sprint(about...))
	}
}

func contains(t *testing.T, text, part string, about ...any) {
	t.Helper()
	if !strings.Contains(text, part) {
		t.Fatalf("want %q in %q %s", part, text, fmt.Sprint(about...))
	}
}
