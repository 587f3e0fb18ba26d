// Command picture draws docs/deadlock.svg, the picture of docs/learn.md: three
// parties side by side, time from top to bottom, what each holds and for whom
// it waits.
package main
