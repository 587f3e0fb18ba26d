// Package asynclog keeps a slow log from blocking the goroutines that write to
// it. The log may be a full pipe, a stopped terminal or a slow disk.
//
// A Handler is a slog.Handler that leaves each line to a goroutine. The
// goroutine runs only while there are lines. At most a thousand lines wait.
// Further lines are dropped and counted. When the waiting lines have been
// written, one more line says how many were dropped. Values that are logged
// must not change afterwards.
package asynclog
