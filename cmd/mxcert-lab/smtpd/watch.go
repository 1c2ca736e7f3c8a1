package smtpd

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// watch reloads after changes in the directories of the files, until the context ends.
func (s *Server) watch(ctx context.Context) error {
	if s.opts.Watch <= 0 {
		return nil
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch the certificate files: %v", err)
	}
	for _, pair := range s.opts.Pairs {
		for _, file := range []string{pair.Certificate, pair.PrivateKey} {
			if file == "" {
				continue
			}
			if err := watcher.Add(filepath.Dir(file)); err != nil {
				_ = watcher.Close()
				return fmt.Errorf("watch the directory of %s: %v", file, err)
			}
		}
	}
	s.tasks.Go(func() {
		defer func() { _ = watcher.Close() }()
		s.reloadAfter(ctx, watcher)
	})
	return nil
}

// reloadAfter counts the delay from the first change, not from the last, as Exim does. chmod is not a change.
func (s *Server) reloadAfter(ctx context.Context, watcher *fsnotify.Watcher) {
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-watcher.Events:
			if due == nil && event.Op != fsnotify.Chmod {
				due = time.After(s.opts.Watch)
			}
		case <-watcher.Errors: // a lost event is followed by others, or by Reload
		case <-due:
			due = nil
			_ = s.Reload()
		}
	}
}
