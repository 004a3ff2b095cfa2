// Package effective says which sections of policies are in force for a target:
// it finds the policies that are attached to an object, orders them, and merges
// them section by section (GEP-713, "effective policy"). It reads the catalog
// and knows nothing of routes' rules, backings and listeners.
package effective
