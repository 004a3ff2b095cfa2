// Package status says where everything stands: one object and on which proxies it is in force.
package status
