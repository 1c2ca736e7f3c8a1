// Package engine makes the store that the hosts of a fleet share. It is a room of its own, because its client is as large as the rest of the
// program: with the build tag nofleet it is left out.
package engine
