package main

import (
	"cmp"
	"slices"
	"strings"
)

// floorsOf counts each circle as one file and returns how many files the longest chain of arrows has. It also returns the circles, the
// largest first.
func floorsOf(files []string, arrows []arrow) (int, [][]string) {
	g := &graph{next: map[string][]string{}, number: map[string]int{}, low: map[string]int{}, height: map[string]int{}}
	for _, a := range arrows {
		g.next[a.from] = append(g.next[a.from], a.to)
	}
	floors := 0
	for _, f := range files {
		if g.number[f] == 0 {
			g.visit(f)
		}
		floors = max(floors, g.height[f])
	}
	slices.SortFunc(g.circles, func(a, b []string) int {
		return cmp.Or(len(b)-len(a), strings.Compare(a[0], b[0]))
	})
	return floors, g.circles
}

// graph finds circles by Tarjan's algorithm: the files of a circle leave the stack together, after everything that they lead to.
type graph struct {
	next    map[string][]string
	number  map[string]int // in the order of the visits; 0: not visited
	low     map[string]int // the lowest number on the stack that a file reaches
	stack   []string
	height  map[string]int // of files that have left the stack: floors from there down
	circles [][]string
}

func (g *graph) visit(f string) {
	g.number[f] = len(g.number) + 1
	g.low[f] = g.number[f]
	g.stack = append(g.stack, f)
	for _, to := range g.next[f] {
		switch {
		case g.number[to] == 0:
			g.visit(to)
			g.low[f] = min(g.low[f], g.low[to])
		case g.height[to] == 0: // on the stack
			g.low[f] = min(g.low[f], g.number[to])
		}
	}
	if g.low[f] == g.number[f] {
		g.leave(slices.Index(g.stack, f))
	}
}

// leave takes a circle, or a single file, off the stack.
func (g *graph) leave(first int) {
	members := slices.Clone(g.stack[first:])
	g.stack = g.stack[:first]
	below := 0
	for _, f := range members {
		for _, to := range g.next[f] {
			below = max(below, g.height[to]) // 0 for a member
		}
	}
	for _, f := range members {
		g.height[f] = below + 1
	}
	if len(members) > 1 {
		slices.Sort(members)
		g.circles = append(g.circles, members)
	}
}
