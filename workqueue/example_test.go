package workqueue_test

import (
	"fmt"
	"time"

	"slabfs/workqueue"
)

// An object that gives its memory back when it was not used for a while.
func Example() {
	q := workqueue.New("trim", workqueue.Options{})
	trim := q.NewWork(func() { fmt.Println("memory given back") })

	for range 3 { // each use moves the time at which it is trimmed
		if _, err := trim.Mod(time.Hour); err != nil {
			fmt.Println(err)
		}
	}
	trim.Flush() // memory is short: do it now
	q.Destroy()

	_, err := trim.Queue()
	fmt.Println(err)
	// Output:
	// memory given back
	// queue work on "trim": the work queue is destroyed
}
