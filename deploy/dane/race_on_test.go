//go:build race

package dane

// raced says that the race detector makes everything several times slower.
const raced = true
