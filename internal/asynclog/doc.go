// Package asynclog keeps a log that nobody reads from holding up who writes to
// it: a pipe that is full, a terminal that is stopped, a disk that is slow.
//
// A Handler is a slog.Handler that leaves each line to a goroutine, which is
// there while there are lines. A thousand of them wait at most. Further ones
// are dropped and counted, and when the others are written a line says how
// many. Values that are logged must not change afterwards.
package asynclog
