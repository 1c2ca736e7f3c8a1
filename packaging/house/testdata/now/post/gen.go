//go:build ignore

package main

// The generator has an open of its own.
func open() {}

func main() { open() }
