// Procfs prints what github.com/prometheus/procfs reads from DIR/slabinfo, each
// cache as NAME ACTIVE TOTAL SIZE PERSLAB PAGES, with each line that it is given
// on standard input, and a dot at the end.
package main

import (
	"bufio"
	"fmt"
	"log"
	"os"

	"github.com/prometheus/procfs"
)

func main() {
	fs, err := procfs.NewFS(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); fmt.Println(".") {
		info, err := fs.SlabInfo()
		if err != nil {
			log.Fatal(err)
		}
		for _, s := range info.Slabs {
			fmt.Println(s.Name, s.ObjActive, s.ObjNum, s.ObjSize, s.ObjPerSlab, s.PagesPerSlab)
		}
	}
}
