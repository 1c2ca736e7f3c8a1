package e2e

import "testing"

// TestWall has one row for each attack of the review. All share a host, and each leaves it as it was. SEC-13 comes first: renew orders a
// lost certificate at most once a week, and other rows lose some, too.
func TestWall(t *testing.T) {
	w := newWall(t, wallConfig)
	for _, row := range []struct {
		id   string
		test func(*walled)
	}{
		{"SEC-13", generationIsLost}, {"SEC-14", metaIsEmpty},
		{"SEC-01", displacedIsALink}, {"SEC-01b", stateIsALink}, {"SEC-02", hookOrdersLie}, {"SEC-02b", journalLies}, {"SEC-03", directoryIsExchanged},
		{"SEC-04", foreignNamesInAMap}, {"SEC-05", noUnitIsStarted}, {"SEC-06", stateWritesToTheTerminal}, {"SEC-06b", allConnectionsAreTaken},
		{"SEC-07", stateIsNoFile}, {"SEC-07b", stateIsHuge}, {"SEC-08", longLivedCertificate}, {"SEC-10", setgidDirectory}, {"SEC-11", keysOfTheOperator},
		{"SEC-15", locksAreNoFiles}, {"SEC-16", busyDirectory}, {"D-Bus", callsOverTheBus},
		{"processes", processesOfRoot},
	} {
		t.Run(row.id, func(t *testing.T) { row.test(w.in(t)) })
	}
}
