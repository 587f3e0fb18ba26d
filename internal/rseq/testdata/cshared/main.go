// Command cshared is a library for programs in C.
package main

import (
	"fmt"

	"slabfs/internal/rseq/testdata/work"
)

import "C"

//export Run
func Run() C.int {
	answer, err := work.Run(nil)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(answer)
	return 0
}

func main() {}
