//go:build allproviders

package dnsprovider

import (
	"io"

	"github.com/sirupsen/logrus"
)

// muteOthers silences logrus, in which iij's library logs.
func muteOthers() { logrus.SetOutput(io.Discard) }
